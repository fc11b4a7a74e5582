//! SIGTERM, SIGINT and SIGHUP end a run cleanly; any second one of them ends it at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::exit::Exit;

/// Watches for the signals that end a run.
pub fn watch(cancel: Cancel) -> Result<()> {
    let stream = |kind| signal(kind).map_err(|e| Error::failed("cannot watch for signals").caused_by(e));
    let mut streams =
        [stream(SignalKind::hangup())?, stream(SignalKind::interrupt())?, stream(SignalKind::terminate())?];
    tokio::spawn(async move {
        cancel.by_signal(next(&mut streams).await);
        let second = next(&mut streams).await;
        std::process::exit(Exit::Signal(second).code().into());
    });
    Ok(())
}

/// The number of the next signal.
async fn next([hangup, interrupt, terminate]: &mut [Signal; 3]) -> u8 {
    tokio::select! {
        _ = hangup.recv() => 1,
        _ = interrupt.recv() => 2,
        _ = terminate.recv() => 15,
    }
}
