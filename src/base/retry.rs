//! Retries of requests to MongoDB, the store and web services: one time limit, one backoff, one log line.
//!
//! A [`Patience`] is made from the setting `BACKUP_PATIENCE` and passed to all code that sends requests. A
//! request whose failure may pass (a refused connection, a time-out, HTTP 503) is repeated, with growing
//! pauses, until the patience is over. The time counts from the first failure, by a monotonic clock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

use crate::base::units;

/// The default of `BACKUP_PATIENCE`.
const DEFAULT: Duration = Duration::from_secs(600);
/// The limit of `health` and `init` after the first failure, because a person waits for their result. Before
/// that failure the driver searches for a server for up to the same time.
pub const FOR_A_PERSON: Duration = Duration::from_secs(15);
/// The pause before the second attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause, without the random part.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A wait is logged again after this time.
const LOGGED: Duration = Duration::from_secs(60);
/// A wait of this length is logged as a warning, a shorter wait as information.
const LONG: Duration = Duration::from_secs(10);
/// The limit for a service that has already exhausted the patience, until it answers again: the cleanup and
/// the records of a failed run must not wait for the whole time once more.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// How long to wait for one service. Clones share the state of the service.
#[derive(Debug, Clone)]
pub struct Patience {
    total: Duration,
    first_pause: Duration,
    shared: Arc<Mutex<PatienceState>>,
}

#[derive(Debug, Default)]
struct PatienceState {
    /// When the last line about a wait was logged.
    logged: Option<Instant>,
    /// How long the last requests waited in vain; `None` once the service answers.
    in_vain: Option<Duration>,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience::new(DEFAULT)
    }
}

impl Patience {
    /// `total` counts from the first failure of a request.
    pub fn new(total: Duration) -> Patience {
        Patience { total, first_pause: FIRST_PAUSE, shared: Arc::default() }
    }

    pub fn first_pause(self, first_pause: Duration) -> Patience {
        Patience { first_pause, ..self }
    }

    /// A patience for another service, limited to `most`.
    pub fn at_most(&self, most: Duration) -> Patience {
        Patience { total: self.total.min(most), first_pause: self.first_pause, shared: Arc::default() }
    }

    /// How long a request is repeated.
    pub fn total(&self) -> Duration {
        self.total
    }

    /// How long requests waited for the service in vain; `None` if it has answered since.
    pub fn in_vain(&self) -> Option<Duration> {
        self.shared().in_vain
    }

    /// The end of an error message: `, tried again for 2 min 3 s`, or nothing.
    pub fn in_vain_text(&self) -> String {
        let text = |waited| format!(", tried again for {}", units::duration(waited));
        self.in_vain().map(text).unwrap_or_default()
    }

    /// Notes that the service answered. The next failure gets the whole time.
    pub fn answered(&self) {
        self.shared().in_vain = None;
    }

    /// Begins a request to `service`, which the log names.
    pub fn start(&self, service: impl Into<String>) -> Waiting {
        let pauses = pauses(self.first_pause);
        Waiting { pauses, patience: self.clone(), service: service.into(), since: None }
    }

    /// Repeats `work` while its error may pass, and returns its last result. `passing` returns the reason for
    /// the log, or `None` if the error will not pass.
    pub async fn retry<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        service: &str,
        passing: impl Fn(&E) -> Option<String>,
        work: impl Fn() -> F,
    ) -> Result<T, E> {
        let mut waiting = self.start(service);
        loop {
            let error = match work().await {
                Ok(answer) => {
                    waiting.answered();
                    return Ok(answer);
                }
                Err(error) => error,
            };
            match passing(&error) {
                Some(why) if waiting.pause(&why).await => {}
                _ => return Err(error),
            }
        }
    }

    fn shared(&self) -> MutexGuard<'_, PatienceState> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An endless series of pauses between the attempts of a request. Each is twice as long as the one before, up to a
/// limit, and is lengthened at random by up to its own length, so that machines that fail in the same second do not
/// retry in the same second.
pub fn pauses(first: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
        .build()
}

/// A request that may be sent more than once.
#[derive(Debug)]
pub struct Waiting {
    patience: Patience,
    service: String,
    /// When the request failed first.
    since: Option<Instant>,
    pauses: ExponentialBackoff,
}

impl Waiting {
    /// Waits before a request that failed because of `why` is sent again. Returns false without a pause if the
    /// patience is over.
    pub async fn pause(&mut self, why: &str) -> bool {
        let now = Instant::now();
        let waited = now - *self.since.get_or_insert(now);
        let total = match self.patience.in_vain() {
            Some(_) => self.patience.total.min(AFTERWARDS),
            None => self.patience.total,
        };
        if waited >= total {
            let mut shared = self.patience.shared();
            shared.in_vain = shared.in_vain.max(Some(waited));
            return false;
        }
        self.log(now, waited, total, why);
        let pause = self.pauses.next().unwrap_or(LONGEST_PAUSE);
        tokio::time::sleep(pause.min(total - waited)).await;
        true
    }

    /// Notes that the service answered or the work went on: the next failure counts as the first.
    pub fn answered(&mut self) {
        self.patience.answered();
        if let Some(since) = self.since.take() {
            let waited = since.elapsed();
            if waited >= LONG {
                log::info!("{} answers again, after {}", self.service, units::duration(waited));
            }
            self.pauses = pauses(self.patience.first_pause);
        }
    }

    fn log(&self, now: Instant, waited: Duration, total: Duration, why: &str) {
        let (service, total) = (&self.service, units::duration(total));
        let mut shared = self.patience.shared();
        if shared.logged.is_some_and(|logged| now - logged < LOGGED) {
            log::debug!("sending the request to {service} again: {why}");
            return;
        }
        shared.logged = Some(now);
        drop(shared);
        if waited < LONG {
            log::info!("waiting for {service} for up to {total} (BACKUP_PATIENCE): {why}");
        } else {
            let waited = units::duration(waited);
            log::warn!("still waiting for {service} after {waited}, for up to {total}: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SHORT: Duration = Duration::from_millis(40);

    fn patience(total: Duration) -> Patience {
        Patience::new(total).first_pause(Duration::from_millis(1))
    }

    /// Returns the number of attempts, and whether the last one succeeded.
    async fn attempts(patience: &Patience, fails: u32, passing: bool) -> (u32, bool) {
        let tried = Cell::new(0);
        let answer = patience
            .retry(
                "nobody",
                |e: &String| passing.then(|| e.clone()),
                || async {
                    tried.set(tried.get() + 1);
                    if tried.get() > fails { Ok(()) } else { Err("nobody is there".to_string()) }
                },
            )
            .await;
        (tried.get(), answer.is_ok())
    }

    #[tokio::test]
    async fn failures_that_may_pass_are_retried_until_they_do() {
        let long = Duration::from_secs(60);
        for (fails, passing, want) in
            [(0, true, (1, true)), (1, true, (2, true)), (6, true, (7, true)), (1, false, (1, false))]
        {
            assert_eq!(attempts(&patience(long), fails, passing).await, want);
        }
    }

    #[tokio::test]
    async fn retries_end_with_the_patience_and_name_its_length() {
        let patience = patience(SHORT);
        let (tried, done) = attempts(&patience, u32::MAX, true).await;
        assert!(tried >= 2 && !done, "{tried}");
        let waited = patience.in_vain().expect("it waited in vain");
        assert!(waited >= SHORT, "{waited:?}");
        assert!(patience.in_vain_text().starts_with(", tried again for "), "{}", patience.in_vain_text());
        assert_eq!(attempts(&patience, 0, true).await, (1, true));
        assert_eq!((patience.in_vain(), patience.in_vain_text()), (None, String::new()));
    }

    #[tokio::test]
    async fn a_service_that_exhausted_the_patience_gets_less_time() {
        let patience = patience(Duration::from_secs(3600));
        patience.shared().in_vain = Some(Duration::from_secs(3600));
        let mut waiting = patience.start("nobody");
        waiting.since = Instant::now().checked_sub(AFTERWARDS);
        assert!(waiting.since.is_some() && !waiting.pause("it is away").await);
        waiting.answered();
        waiting.since = Instant::now().checked_sub(AFTERWARDS);
        assert!(waiting.pause("it is away").await);
    }

    #[test]
    fn pauses_grow_and_differ() {
        for (n, least) in [(0, 0.5), (1, 1.0), (2, 2.0)] {
            let nth = |_| pauses(Duration::from_millis(500)).nth(n).expect("a pause").as_secs_f64();
            let pauses: Vec<f64> = (0..50).map(nth).collect();
            assert!(pauses.iter().all(|pause| (least..=least * 2.0).contains(pause)), "{pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
    }
}
