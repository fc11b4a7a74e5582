//! Ending a run early: a token that everything watches, and the signal that asked for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

use tokio_util::sync::CancellationToken;

use crate::error::{Error, Kind, Result};

/// A wish to end the run.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    token: CancellationToken,
    signal: Arc<AtomicU8>,
}

impl Cancel {
    /// Ends the run because of a signal.
    pub fn by_signal(&self, signal: u8) {
        self.signal.store(signal, SeqCst);
        self.token.cancel();
    }

    /// The token to watch.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// `work`, or the error of the signal that ends it: for work that leaves nothing behind when it is
    /// dropped.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            outcome = work => outcome,
            () = self.token.cancelled() => Err(self.error().expect("the end was asked for")),
        }
    }

    /// The error to end with, if the end was asked for.
    pub fn error(&self) -> Option<Error> {
        self.token.is_cancelled().then(|| {
            let signal = self.signal.load(SeqCst);
            let name = match signal {
                1 => "SIGHUP",
                2 => "SIGINT",
                15 => "SIGTERM",
                _ => "a signal",
            };
            Error::new(Kind::Signal(signal), format!("ended by {name}; nothing new was stored"))
        })
    }
}
