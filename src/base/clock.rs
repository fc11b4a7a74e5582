//! The clock of a run, and bounds on dates from outside.
//!
//! A time daemon may set the machine's clock back or forward during a run. The times of a run are subtracted
//! from each other to show how long it took, so all of them come from one [`Clock`], which reads the
//! machine's clock once and then follows the monotonic clock.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer};

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

    /// The time at the start plus the time that has passed since. While the machine is suspended, no time
    /// passes (`CLOCK_MONOTONIC`, clock_gettime(2)).
    pub fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.at.elapsed()).unwrap_or(TimeDelta::MAX);
        self.started.checked_add_signed(passed).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// The largest difference between the clocks of two machines that is tolerated.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(10);

/// The end of the year 9999, the last year of RFC 3339.
const LAST_DATE: DateTime<Utc> = DateTime::from_timestamp(253_402_300_799, 0).expect("chrono has this date");

/// Moves a date outside the years 1970 to 9999 to the nearest date within them. Adding days to a date near
/// chrono's limit (the year 262142) panics. Dates beyond 9999 stay in the future, and objects from the future
/// are ignored.
pub fn clamped(date: DateTime<Utc>) -> DateTime<Utc> {
    date.clamp(DateTime::UNIX_EPOCH, LAST_DATE)
}

/// Reads a date and [clamps](clamped) it, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// Returns an error if the text is not an RFC 3339 date.
pub fn deserialize_clamped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    DateTime::deserialize(deserializer).map(clamped)
}

/// Returns true if the date is more than [`CLOCK_TOLERANCE`] ahead of `now`.
pub fn is_future(date: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    date - now > CLOCK_TOLERANCE
}

/// The machine's clock and randomness, which a test can replace.
#[derive(Debug, Clone, Copy)]
pub struct ClockAndRandom {
    pub now: fn() -> DateTime<Utc>,
    pub random: fn() -> u128,
}

impl Default for ClockAndRandom {
    fn default() -> ClockAndRandom {
        ClockAndRandom { now: Utc::now, random: rand::random }
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

    #[test]
    fn dates_stay_within_the_calendar() {
        #[derive(Deserialize)]
        struct Dated {
            #[serde(deserialize_with = "deserialize_clamped")]
            at: DateTime<Utc>,
        }
        for (written, read) in [
            ("2026-11-23T03:00:00Z", "2026-11-23T03:00:00Z"),
            ("+262142-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("-262143-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ] {
            let dated: Dated = serde_json::from_str(&format!(r#"{{"at": "{written}"}}"#)).unwrap();
            assert_eq!(dated.at, read.parse::<DateTime<Utc>>().unwrap());
        }
        let now = "2026-11-23T03:00:00Z".parse().unwrap();
        assert!(is_future(LAST_DATE, now) && !is_future(now + CLOCK_TOLERANCE, now));
    }
}
