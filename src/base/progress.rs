//! The progress of a run: counters that the data path raises and a renderer samples.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counters of a run. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    counters: Arc<Mutex<Counters>>,
}

/// What a run does at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// It connects and plans.
    #[default]
    Preparing,
    /// A hook runs before or after a backup.
    Hook,
    /// A backup asks the store.
    AskingStore,
    /// A backup asks the server.
    AskingServer,
    /// A backup reads the source and uploads.
    Reading,
    /// A backup has read everything, and uploads the rest.
    Uploading,
    /// A backup checks that the server stayed the same.
    Proving,
    /// A backup completes its upload, and writes index and manifest.
    Completing,
    /// A backup records itself.
    Recording,
    /// A restore reads the backup before it changes anything.
    Checking,
    /// A restore writes documents of a backup.
    Writing,
    /// A restore writes documents of a dump.
    Loading,
    /// A restore replays the oplog slice.
    Replaying,
    /// A restore counts documents at the target.
    Counting,
    /// A restore builds indexes.
    Indexing,
    /// A restore does the rest at the target.
    Finishing,
    /// A drill reads the restored data back.
    Comparing,
    /// `verify` reads an artifact.
    Verifying,
    /// `diff` reads the documents of two backups.
    Diffing,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// The number of the attempt, from 1; 0 before the first.
    pub attempt: u32,
    pub phase: Phase,
    /// The number of phases that were begun.
    pub begun: u64,
    /// The namespace or backup that is worked on; empty if there is none.
    pub current: String,
    /// Work on complete namespaces beside the phase, the oldest first.
    pub beside: Vec<(Phase, String)>,
    /// Documents of this phase.
    pub documents: u64,
    /// Bytes of this phase: of documents, of oplog entries, or of the artifact that `verify` reads.
    pub raw_bytes: u64,
    /// The expected number of these bytes; 0 if it is unknown.
    pub expected_bytes: u64,
    /// Bytes of the artifact so far that can be sent.
    pub packed_bytes: u64,
    /// Bytes of the artifact that the store has accepted. Parts that are sent again are counted once.
    pub stored_bytes: u64,
    /// Namespaces completed.
    pub namespaces: u64,
    /// The number of all namespaces; 0 if they are not counted.
    pub expected_namespaces: u64,
    /// Replayed operations.
    pub operations: u64,
    /// The number of all operations of the replay.
    pub expected_operations: u64,
    /// The number of requests under way that write: parts to the store in a backup, inserts in a restore.
    pub under_way: usize,
    /// Grows whenever something moved, also if no other counter shows it.
    pub moves: u64,
    /// The bytes that the store has accepted now: fewer than before while a part is sent again.
    pub sent_bytes: u64,
}

impl Meter {
    /// Resets everything for another attempt at a backup.
    pub fn begin_attempt(&self) {
        let mut counters = self.counters();
        *counters = Counters {
            attempt: counters.attempt + 1,
            begun: counters.begun + 1,
            moves: counters.moves + 1,
            ..Counters::default()
        };
    }

    /// Begins a phase that keeps the counters.
    pub fn enter(&self, phase: Phase) {
        let mut counters = self.counters();
        counters.phase = phase;
        counters.begun += 1;
        counters.current.clear();
    }

    /// Begins a phase with counters of its own and these expected amounts.
    pub fn expect(&self, phase: Phase, bytes: Option<u64>, namespaces: u64) {
        let mut counters = self.counters();
        *counters = Counters {
            attempt: counters.attempt,
            phase,
            begun: counters.begun + 1,
            expected_bytes: bytes.unwrap_or(0),
            expected_namespaces: namespaces,
            moves: counters.moves + 1,
            ..Counters::default()
        };
    }

    /// Begins the replay of this many operations, in oplog entries of this many bytes.
    pub fn expect_replay(&self, operations: u64, bytes: u64) {
        self.expect(Phase::Replaying, Some(bytes), 0);
        self.counters().expected_operations = operations;
    }

    /// Notes the namespace or backup that is worked on.
    pub fn doing(&self, what: String) {
        self.counters().current = what;
    }

    /// Counts documents and bytes.
    pub fn add(&self, documents: u64, bytes: u64) {
        let mut counters = self.counters();
        counters.documents += documents;
        counters.raw_bytes += bytes;
        counters.moves += 1;
    }

    /// Sets the number of bytes of the artifact so far that can be sent.
    pub fn packed(&self, bytes: u64) {
        self.counters().packed_bytes = bytes;
    }

    /// Notes that a namespace is complete.
    pub fn end(&self) {
        let mut counters = self.counters();
        counters.namespaces += 1;
        counters.moves += 1;
    }

    /// Sets the number of bytes that the store has accepted, and of the parts under way.
    pub fn take(&self, bytes: u64, parts: usize) {
        let mut counters = self.counters();
        counters.moves += u64::from(counters.sent_bytes != bytes);
        counters.sent_bytes = bytes;
        counters.stored_bytes = counters.stored_bytes.max(bytes);
        counters.under_way = parts;
    }

    /// Sets the number of replayed operations.
    pub fn replayed(&self, operations: u64) {
        let mut counters = self.counters();
        counters.moves += u64::from(counters.operations != operations);
        counters.operations = operations;
    }

    /// Notes a request that writes, until the guard is dropped.
    pub fn request(&self) -> InFlight {
        self.counters().under_way += 1;
        InFlight { meter: self.clone(), beside: None }
    }

    /// Notes work on a namespace beside the phase, until the guard is dropped.
    pub fn beside(&self, work: Phase, name: String) -> InFlight {
        let beside = (work, name);
        self.counters().beside.push(beside.clone());
        InFlight { meter: self.clone(), beside: Some(beside) }
    }

    /// The bytes of the artifact that can be sent, and those that the store has accepted.
    pub fn flow(&self) -> (u64, u64) {
        let counters = self.counters();
        (counters.packed_bytes, counters.stored_bytes)
    }

    /// The counters now.
    pub fn read(&self) -> Counters {
        self.counters().clone()
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work under way. Dropping it notes its end.
#[derive(Debug)]
pub struct InFlight {
    meter: Meter,
    beside: Option<(Phase, String)>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut counters = self.meter.counters();
        match &self.beside {
            Some(work) => {
                if let Some(at) = counters.beside.iter().position(|one| one == work) {
                    counters.beside.remove(at);
                }
            }
            // A phase that began meanwhile has reset the number.
            None => counters.under_way = counters.under_way.saturating_sub(1),
        }
        counters.moves += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_bytes_grow_until_the_next_attempt() {
        let meter = Meter::default();
        meter.begin_attempt();
        meter.expect(Phase::Reading, Some(100), 1);
        let stored = |sent, parts| {
            let before = meter.read().moves;
            meter.take(sent, parts);
            (meter.read().stored_bytes, meter.read().moves > before)
        };
        // A part is sent again: the store has less than before, but bytes move.
        for (sent, wanted) in
            [(10, (10, true)), (30, (30, true)), (20, (30, true)), (20, (30, false)), (40, (40, true))]
        {
            assert_eq!(stored(sent, 1), wanted);
        }
        meter.enter(Phase::Uploading);
        assert_eq!((meter.read().stored_bytes, meter.read().attempt), (40, 1));
        meter.begin_attempt();
        assert_eq!((meter.read().stored_bytes, meter.read().attempt), (0, 2));
    }

    #[test]
    fn work_under_way_is_noted_until_it_ends() {
        let meter = Meter::default();
        let (counting, indexing) = ((Phase::Counting, "a".to_string()), (Phase::Indexing, "b".to_string()));
        let begin = |(phase, name): &(Phase, String)| meter.beside(*phase, name.clone());
        let (first, second, request) = (begin(&counting), begin(&indexing), meter.request());
        assert_eq!((meter.read().beside, meter.read().under_way), (vec![counting, indexing.clone()], 1));
        drop((first, request));
        assert_eq!((meter.read().beside, meter.read().under_way), (vec![indexing], 0));
        drop(second);
        assert_eq!(meter.read().beside, []);
    }
}
