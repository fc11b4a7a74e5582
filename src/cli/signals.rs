//! SIGTERM, SIGINT and SIGHUP end a run cleanly; any second one of them ends it at once. A signal that is ignored
//! when the process starts stays ignored: `nohup` and `trap '' HUP` ask for a run that outlives its terminal.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::process;

/// Watches for the signals that end a run.
pub fn watch(cancel: Cancel) -> Result<()> {
    let stream = |kind: SignalKind| match process::ignores(kind.as_raw_value()) {
        true => Ok(None),
        false => signal(kind).map(Some).map_err(|e| Error::failed("cannot watch for signals").caused_by(e)),
    };
    let mut streams =
        [stream(SignalKind::hangup())?, stream(SignalKind::interrupt())?, stream(SignalKind::terminate())?];
    tokio::spawn(async move {
        cancel.by_signal(next(&mut streams).await);
        let second = next(&mut streams).await;
        std::process::exit(Exit::Signal(second).code().into());
    });
    Ok(())
}

/// The number of the next signal. `None` in place of a stream: the signal is ignored.
async fn next([hangup, interrupt, terminate]: &mut [Option<Signal>; 3]) -> u8 {
    tokio::select! {
        () = came(hangup) => 1,
        () = came(interrupt) => 2,
        () = came(terminate) => 15,
    }
}

async fn came(stream: &mut Option<Signal>) {
    match stream {
        Some(stream) => drop(stream.recv().await),
        None => std::future::pending().await,
    }
}
