//! The clocks of the year: the true time, the store's clock, which is right unless a day says otherwise, and
//! the machine's clock, which the tool uses. They are statics, because many parts of the test read them.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use chrono::{DateTime, TimeDelta, Utc};

static TRUE: AtomicI64 = AtomicI64::new(0);
static MACHINE_OFF: AtomicI64 = AtomicI64::new(0);
static STORE_OFF: AtomicI64 = AtomicI64::new(0);

/// The true time.
pub fn truth() -> DateTime<Utc> {
    DateTime::from_timestamp(TRUE.load(Relaxed), 0).expect("a time")
}

/// The time of this machine's clock.
pub fn machine() -> DateTime<Utc> {
    truth() + TimeDelta::seconds(MACHINE_OFF.load(Relaxed))
}

/// The time of the store's clock.
pub fn store() -> DateTime<Utc> {
    truth() + TimeDelta::seconds(STORE_OFF.load(Relaxed))
}

/// Sets the true time.
pub fn set(at: DateTime<Utc>) {
    TRUE.store(at.timestamp(), Relaxed);
}

/// Makes the two clocks wrong by these differences.
pub fn disturb(machine: TimeDelta, store: TimeDelta) {
    MACHINE_OFF.store(machine.num_seconds(), Relaxed);
    STORE_OFF.store(store.num_seconds(), Relaxed);
}

/// Returns true if both clocks are right.
pub fn is_right() -> bool {
    machine() == truth() && store() == truth()
}
