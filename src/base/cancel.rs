//! Ending a run early: a token that everything watches, and the signal that asked for it.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};

/// What comes late must still be begun, or it would be of no use at all.
const MOMENT: Duration = Duration::from_millis(500);

/// A wish to end the run.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    token: CancellationToken,
    signal: Arc<AtomicU8>,
    came: Arc<OnceLock<Instant>>,
}

impl Cancel {
    /// Ends the run because of a signal.
    pub fn by_signal(&self, signal: u8) {
        self.signal.store(signal, SeqCst);
        self.came.get_or_init(Instant::now);
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

    /// Waits until the signal came so long ago, or for a moment where that is past already: what is still
    /// to be done shares one time, however long each part of it took.
    pub async fn ago(&self, long: Duration) {
        self.token.cancelled().await;
        let came = *self.came.get_or_init(Instant::now);
        tokio::time::sleep_until((came + long).max(Instant::now() + MOMENT)).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_time_is_counted_from_the_signal() {
        let (cancel, long) = (Cancel::default(), Duration::from_secs(2));
        let soon = Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, cancel.ago(Duration::ZERO)).await.is_err(), "none came");
        cancel.by_signal(15);
        let came = Instant::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        cancel.ago(long).await;
        let took = came.elapsed();
        assert!(took >= long && took < long + Duration::from_millis(900), "{took:?}");
        cancel.ago(long).await;
        assert!(came.elapsed() >= took + MOMENT);
    }
}
