//! The early end of a run: a token that all work watches, the signal that cancelled the run, and the time
//! that is left after the signal.
//!
//! A run ends within 10 s of a signal, because a service manager kills a program that takes much longer. The
//! steps that follow a signal share these 10 s; [`LastStep`] says when each of them must end.

use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::base::error::{Error, Kind, Result};

/// A step that begins late still gets this much time, because it could do nothing without any time.
const MOMENT: Duration = Duration::from_millis(500);

/// A request to end the run early. Clones share it.
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

    /// Returns the result of `work`, or the error of the signal that ends it. Only for work that leaves
    /// nothing behind when it is dropped.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            // After a signal, no work begins.
            biased;
            () = self.token.cancelled() => Err(self.error().expect("the token is cancelled")),
            outcome = work => outcome,
        }
    }

    /// Returns the result of `work`, or `None` if a signal came and the time of this step is over.
    pub async fn within<T>(&self, step: LastStep, work: impl Future<Output = T>) -> Option<T> {
        let over = async {
            self.token.cancelled().await;
            tokio::time::sleep(self.left(step).unwrap_or_default()).await;
        };
        tokio::select! {
            result = work => Some(result),
            () = over => None,
        }
    }

    /// The time that is left for this step, which begins now. `None` if no signal came.
    pub fn left(&self, step: LastStep) -> Option<Duration> {
        let passed = self.came.get()?.elapsed();
        let (end, longest) = step.limits();
        Some(end.saturating_sub(passed).min(longest).max(MOMENT))
    }

    /// The error to end with, if a signal came.
    pub fn error(&self) -> Option<Error> {
        self.error_with("nothing new was stored")
    }

    /// The error to end with, if a signal came. `state` describes what the run changed.
    pub fn error_with(&self, state: &str) -> Option<Error> {
        self.token.is_cancelled().then(|| {
            let signal = self.signal.load(SeqCst);
            let name = match signal {
                1 => "SIGHUP",
                2 => "SIGINT",
                15 => "SIGTERM",
                _ => "a signal",
            };
            Error::new(Kind::Signal(signal), format!("ended by {name}; {state}"))
        })
    }
}

/// The last steps of a run after a signal, in order. A run may skip some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastStep {
    /// Stop the thread or child that reads the source.
    Reading,
    /// End the operation itself: abort uploads, and wait for the answers to pending requests.
    Work,
    /// Run the hook after the backup.
    Hook,
    /// Write the failure to the store, and record it in MongoDB.
    Records,
    /// Send the mail.
    Mail,
    /// Send all other notices, and remove temporary data from servers.
    Notices,
}

impl LastStep {
    /// How long after the signal the step must have ended, and how long it may take.
    fn limits(self) -> (Duration, Duration) {
        let (end, longest) = match self {
            LastStep::Reading => (5_000, 5_000),
            LastStep::Work => (6_000, 6_000),
            LastStep::Hook => (6_000, 4_000),
            LastStep::Records => (7_000, 2_500),
            LastStep::Mail => (8_000, 5_000),
            LastStep::Notices => (8_500, 8_500),
        };
        (Duration::from_millis(end), Duration::from_millis(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_time_of_a_step_is_counted_from_the_signal() {
        let long = Duration::from_secs(3600);
        let soon = tokio::time::sleep(Duration::from_millis(10));
        let cancel = Cancel::default();
        assert_eq!(cancel.within(LastStep::Work, soon).await, Some(()), "no signal came");
        assert_eq!(cancel.left(LastStep::Work), None);
        for (step, passed, left) in [
            (LastStep::Records, 1_000, 2_500),
            (LastStep::Records, 6_000, 1_000),
            (LastStep::Work, 1_000, 5_000),
            (LastStep::Mail, 1_000, 5_000),
            (LastStep::Notices, 7_900, 600),
            (LastStep::Notices, 20_000, 500),
        ] {
            let cancel = Cancel::default();
            let came = Instant::now().checked_sub(Duration::from_millis(passed)).expect("the machine runs");
            cancel.came.set(came).expect("no signal came");
            cancel.by_signal(15);
            let found = cancel.left(step).expect("a signal came").as_millis();
            assert!((left - 50..=left).contains(&found), "{step:?} {passed}: {found}");
            if left <= 600 {
                assert_eq!(cancel.within(step, tokio::time::sleep(long)).await, None);
                assert!(came.elapsed() < Duration::from_millis(passed + 900));
            }
        }
    }
}
