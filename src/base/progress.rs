//! The progress of a run: counters that the data path raises and a renderer samples.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The counters of a run, which threads share.
#[derive(Debug, Default)]
pub struct Meter {
    counters: Mutex<Counters>,
    /// True if the store reports the bytes that it has accepted.
    stores: AtomicBool,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Documents written.
    pub documents: u64,
    /// The length of these documents in bytes.
    pub raw_bytes: u64,
    /// Bytes of the artifact so far.
    pub packed_bytes: u64,
    /// Bytes of the artifact that the store has accepted; without a store, the same as `packed_bytes`.
    pub stored_bytes: u64,
    /// Namespaces completed.
    pub namespaces: u64,
    /// The server's estimate of all raw bytes; 0 without one.
    pub expected_bytes: u64,
    /// The number of all namespaces.
    pub expected_namespaces: u64,
    /// The current work; empty before it begins.
    pub current: String,
}

impl Meter {
    /// Resets the counters and sets the expected amounts, for an attempt of a run.
    pub fn expect(&self, raw_bytes: Option<u64>, namespaces: u64) {
        let mut counters = self.counters();
        self.stores.store(false, Relaxed);
        let current = std::mem::take(&mut counters.current);
        *counters = Counters {
            expected_bytes: raw_bytes.unwrap_or(0),
            expected_namespaces: namespaces,
            current,
            ..Counters::default()
        };
    }

    /// Sets the current work for the display.
    pub fn doing(&self, what: String) {
        self.counters().current = what;
    }

    /// Counts written documents. The artifact is now `packed` bytes long.
    pub fn add(&self, documents: u64, raw_bytes: u64, packed: u64) {
        let mut counters = self.counters();
        counters.documents += documents;
        counters.raw_bytes += raw_bytes;
        counters.packed_bytes = packed;
    }

    /// Notes that a namespace is complete.
    pub fn end(&self, packed: u64) {
        let mut counters = self.counters();
        counters.namespaces += 1;
        counters.packed_bytes = packed;
    }

    /// Sets the number of bytes that the store has accepted.
    pub fn take(&self, bytes: u64) {
        self.stores.store(true, Relaxed);
        self.counters().stored_bytes = bytes;
    }

    /// The counters now.
    pub fn read(&self) -> Counters {
        let mut counters = self.counters().clone();
        if !self.stores.load(Relaxed) {
            counters.stored_bytes = counters.packed_bytes;
        }
        counters
    }

    fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
