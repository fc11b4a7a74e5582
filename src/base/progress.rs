//! The progress of a run: counters that the data path raises and a renderer samples.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The value of `taken_bytes` without a store.
const UNKNOWN: u64 = u64::MAX;

/// The counters of a run.
#[derive(Debug)]
pub struct Meter {
    documents: AtomicU64,
    raw_bytes: AtomicU64,
    packed_bytes: AtomicU64,
    /// The bytes that the store has accepted; [`UNKNOWN`] without a store.
    taken_bytes: AtomicU64,
    namespaces: AtomicU64,
    expected_bytes: AtomicU64,
    expected_namespaces: AtomicU64,
    current: Mutex<String>,
}

/// The counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Documents written.
    pub documents: u64,
    /// The length of these documents in bytes.
    pub raw_bytes: u64,
    /// Bytes of the artifact so far.
    pub packed_bytes: u64,
    /// The part of these bytes that the store has accepted.
    pub stored_bytes: u64,
    /// Namespaces completed.
    pub namespaces: u64,
    /// The server's estimate of all raw bytes; 0 without one.
    pub expected_bytes: u64,
    /// The number of all namespaces.
    pub expected_namespaces: u64,
    /// The namespace being written; empty before the first.
    pub current: String,
}

impl Default for Meter {
    fn default() -> Meter {
        Meter {
            documents: AtomicU64::new(0),
            raw_bytes: AtomicU64::new(0),
            packed_bytes: AtomicU64::new(0),
            taken_bytes: AtomicU64::new(UNKNOWN),
            namespaces: AtomicU64::new(0),
            expected_bytes: AtomicU64::new(0),
            expected_namespaces: AtomicU64::new(0),
            current: Mutex::default(),
        }
    }
}

impl Meter {
    /// Resets the counters and sets the expected amounts, for an attempt of a run.
    pub fn expect(&self, raw_bytes: Option<u64>, namespaces: u64) {
        for counter in [&self.documents, &self.raw_bytes, &self.packed_bytes, &self.namespaces] {
            counter.store(0, Relaxed);
        }
        self.taken_bytes.store(UNKNOWN, Relaxed);
        self.expected_bytes.store(raw_bytes.unwrap_or(0), Relaxed);
        self.expected_namespaces.store(namespaces, Relaxed);
    }

    /// Notes that a namespace begins.
    pub fn begin(&self, namespace: &impl ToString) {
        self.doing(namespace.to_string());
    }

    /// Notes the present work for the display.
    pub fn doing(&self, what: String) {
        *self.current.lock().expect("no holder panics") = what;
    }

    /// Counts written documents. The artifact is now `packed` bytes long.
    pub fn add(&self, documents: u64, raw_bytes: u64, packed: u64) {
        self.documents.fetch_add(documents, Relaxed);
        self.raw_bytes.fetch_add(raw_bytes, Relaxed);
        self.packed_bytes.store(packed, Relaxed);
    }

    /// Notes that a namespace is complete.
    pub fn end(&self, packed: u64) {
        self.namespaces.fetch_add(1, Relaxed);
        self.packed_bytes.store(packed, Relaxed);
    }

    /// Sets the number of bytes that the store has accepted.
    pub fn take(&self, bytes: u64) {
        self.taken_bytes.store(bytes, Relaxed);
    }

    /// The counters now.
    pub fn read(&self) -> Counters {
        let (packed_bytes, taken) = (self.packed_bytes.load(Relaxed), self.taken_bytes.load(Relaxed));
        Counters {
            packed_bytes,
            stored_bytes: if taken == UNKNOWN { packed_bytes } else { taken },
            documents: self.documents.load(Relaxed),
            raw_bytes: self.raw_bytes.load(Relaxed),
            namespaces: self.namespaces.load(Relaxed),
            expected_bytes: self.expected_bytes.load(Relaxed),
            expected_namespaces: self.expected_namespaces.load(Relaxed),
            current: self.current.lock().expect("no holder panics").clone(),
        }
    }
}
