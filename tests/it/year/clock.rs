//! The clocks of the year: the true one, that of the store, which is right unless a day says otherwise, and
//! that of the machine, which the tool believes. Statics, because many parts of the test read them.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use chrono::{DateTime, TimeDelta, Utc};

static TRUE: AtomicI64 = AtomicI64::new(0);
static MACHINE_OFF: AtomicI64 = AtomicI64::new(0);
static STORE_OFF: AtomicI64 = AtomicI64::new(0);

/// What time it really is.
pub fn truth() -> DateTime<Utc> {
    DateTime::from_timestamp(TRUE.load(Relaxed), 0).expect("a time")
}

/// What this machine says.
pub fn machine() -> DateTime<Utc> {
    truth() + TimeDelta::seconds(MACHINE_OFF.load(Relaxed))
}

/// What the store says.
pub fn store() -> DateTime<Utc> {
    truth() + TimeDelta::seconds(STORE_OFF.load(Relaxed))
}

/// It is this time now.
pub fn set(at: DateTime<Utc>) {
    TRUE.store(at.timestamp(), Relaxed);
}

/// The two clocks are wrong by so much.
pub fn disturb(machine: TimeDelta, store: TimeDelta) {
    MACHINE_OFF.store(machine.num_seconds(), Relaxed);
    STORE_OFF.store(store.num_seconds(), Relaxed);
}

/// Both clocks are right.
pub fn is_right() -> bool {
    machine() == truth() && store() == truth()
}
