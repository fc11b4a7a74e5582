//! SIGTERM, SIGINT and SIGHUP end a run cleanly; the same one again ends it at once.

use tokio::signal::unix::{SignalKind, signal};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::exit::Exit;

/// Watches for the signals that end a run.
pub fn watch(cancel: Cancel) -> Result<()> {
    for (kind, number) in
        [(SignalKind::hangup(), 1), (SignalKind::interrupt(), 2), (SignalKind::terminate(), 15)]
    {
        let mut stream = signal(kind).map_err(|e| Error::failed("cannot watch for signals").caused_by(e))?;
        let cancel = cancel.clone();
        tokio::spawn(async move {
            stream.recv().await;
            cancel.by_signal(number);
            stream.recv().await;
            std::process::exit(Exit::Signal(number).code().into());
        });
    }
    Ok(())
}
