//! What the data path of a backup waits for: the server, the compression or the store.
//!
//! The stages of the data path run at the same time, with bounded queues between them. If a stage cannot go on, the stages
//! before it soon block as well. Each moment therefore counts once, for the blocked stage nearest to the store.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A cause of waiting. A later one hides the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitsFor {
    /// The reader has no documents: the server or mongodump has sent none yet.
    Mongodb,
    /// The reader has documents that the compression does not take yet.
    Compression,
    /// A part of the artifact is complete, and the upload does not take it yet.
    Store,
}

/// The time of a data path, by what it waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeSpent {
    pub mongodb: Duration,
    pub compression: Duration,
    pub store: Duration,
    /// Nothing was waited for: the reader itself worked.
    pub other: Duration,
}

/// Measures the waits of a data path. Clones measure the same one.
#[derive(Clone)]
pub struct Waits(Arc<Measured>);

struct Measured {
    /// The time since some moment. It never goes back.
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    state: Mutex<WaitState>,
}

struct WaitState {
    /// How many threads wait for each cause.
    waiting: [usize; 3],
    /// Until when the time is counted.
    counted: Duration,
    spent: TimeSpent,
}

impl Waits {
    /// Begins to measure. `clock` returns the time since some moment, and never goes back.
    pub fn new(clock: impl Fn() -> Duration + Send + Sync + 'static) -> Waits {
        let state = WaitState { waiting: [0; 3], counted: clock(), spent: TimeSpent::default() };
        Waits(Arc::new(Measured { clock: Box::new(clock), state: Mutex::new(state) }))
    }

    /// Counts the time until the guard is dropped as a wait, unless a wait for a later stage hides it. This takes a lock and
    /// reads the clock: call it for a batch or a block, not for a document.
    #[must_use = "the wait ends when the guard is dropped"]
    pub fn begin(&self, cause: WaitsFor) -> Wait {
        self.counted().waiting[cause as usize] += 1;
        Wait { waits: self.clone(), cause }
    }

    /// Returns the time since the beginning.
    pub fn spent(&self) -> TimeSpent {
        self.counted().spent
    }

    /// Counts the time until now.
    fn counted(&self) -> MutexGuard<'_, WaitState> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that the times of the threads are in order.
        let now = (self.0.clock)();
        let passed = now.saturating_sub(state.counted);
        state.counted = state.counted.max(now);
        let [mongodb, compression, store] = state.waiting.map(|threads| threads > 0);
        let spent = &mut state.spent;
        let cause = match (store, compression, mongodb) {
            (true, _, _) => &mut spent.store,
            (_, true, _) => &mut spent.compression,
            (_, _, true) => &mut spent.mongodb,
            (false, false, false) => &mut spent.other,
        };
        *cause += passed;
        state
    }
}

impl Default for Waits {
    /// Begins to measure with the machine's monotonic clock.
    fn default() -> Waits {
        let began = Instant::now();
        Waits::new(move || began.elapsed())
    }
}

impl fmt::Debug for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Waits").field(&self.spent()).finish()
    }
}

/// A wait that is under way.
#[derive(Debug)]
pub struct Wait {
    waits: Waits,
    cause: WaitsFor,
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.waits.counted().waiting[self.cause as usize] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use proptest::prelude::*;

    use super::*;

    /// A clock that the test sets, in seconds.
    fn clocked() -> (Waits, Arc<AtomicU64>) {
        let seconds = Arc::new(AtomicU64::new(100));
        let clock = seconds.clone();
        (Waits::new(move || Duration::from_secs(clock.load(Relaxed))), seconds)
    }

    fn seconds(spent: TimeSpent) -> [u64; 4] {
        [spent.mongodb, spent.compression, spent.store, spent.other].map(|spent| spent.as_secs())
    }

    #[test]
    fn each_moment_counts_for_the_blocked_stage_nearest_to_the_store() {
        let (waits, clock) = clocked();
        let pass = |n| clock.fetch_add(n, Relaxed);
        pass(1);
        let mongodb = waits.begin(WaitsFor::Mongodb);
        pass(10);
        let store = waits.begin(WaitsFor::Store);
        pass(100);
        drop(mongodb);
        let compression = waits.begin(WaitsFor::Compression);
        pass(1_000);
        drop(store);
        pass(10_000);
        drop(compression);
        pass(100_000);
        assert_eq!(seconds(waits.spent()), [10, 10_000, 1_100, 100_001]);
    }

    #[test]
    fn two_threads_that_wait_for_the_same_stage_count_once() {
        let (waits, clock) = clocked();
        let first = waits.begin(WaitsFor::Store);
        let second = waits.clone().begin(WaitsFor::Store);
        clock.fetch_add(5, Relaxed);
        drop(first);
        clock.fetch_add(5, Relaxed);
        drop(second);
        clock.fetch_add(1, Relaxed);
        assert_eq!(seconds(waits.spent()), [0, 0, 10, 1]);
    }

    #[test]
    fn a_clock_that_goes_back_takes_nothing_away() {
        let (waits, clock) = clocked();
        clock.store(50, Relaxed);
        assert_eq!(seconds(waits.spent()), [0; 4]);
        clock.store(103, Relaxed);
        assert_eq!(seconds(waits.spent()), [0, 0, 0, 3]);
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_whole(steps in prop::collection::vec((0_usize..6, 0_u64..1_000), 0..60)) {
            let (waits, clock) = clocked();
            let causes = [WaitsFor::Mongodb, WaitsFor::Compression, WaitsFor::Store];
            let mut open = Vec::new();
            let mut total = 0;
            for (step, passed) in steps {
                match causes.get(step) {
                    Some(cause) => open.push(waits.begin(*cause)),
                    None if !open.is_empty() => drop(open.swap_remove(passed as usize % open.len())),
                    None => {}
                }
                clock.fetch_add(passed, Relaxed);
                total += passed;
            }
            prop_assert_eq!(seconds(waits.spent()).iter().sum::<u64>(), total);
        }
    }
}
