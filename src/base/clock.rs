//! The clock of one run: it reads the machine's clock once and then follows the monotonic clock.
//!
//! A time daemon may set the machine's clock back or forward while a run is under way. The times of a run are
//! subtracted from each other to show how long it took, so all of them come from one [`Clock`].

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

/// A clock that never goes back and never jumps. Copies show the same time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: DateTime<Utc>,
    at: Instant,
}

impl Clock {
    /// Starts with the time of the machine's clock.
    pub fn start() -> Clock {
        Clock::at(Utc::now())
    }

    /// Starts now with the time `started`.
    pub fn at(started: DateTime<Utc>) -> Clock {
        Clock { started, at: Instant::now() }
    }

    /// The time with which the clock started.
    pub fn started(&self) -> DateTime<Utc> {
        self.started
    }

    /// The time at the start plus the time that has passed since. While the machine is suspended, no time passes
    /// (`CLOCK_MONOTONIC`, clock_gettime(2)).
    pub fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.at.elapsed()).unwrap_or(TimeDelta::MAX);
        self.started.checked_add_signed(passed).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_goes_on_from_its_start_whatever_the_machine_says() {
        let started = "1970-01-02T00:00:00Z".parse().unwrap();
        let clock = Clock::at(started);
        let first = clock.now();
        assert_eq!(clock.started(), started);
        assert!(started <= first && first <= clock.now() && clock.now() < started + TimeDelta::days(1));
        let end = Clock::at(DateTime::<Utc>::MAX_UTC);
        assert_eq!(end.now(), DateTime::<Utc>::MAX_UTC);
    }
}
