//! Dates from outside: within the years that a calendar shows, and how far two clocks may differ.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer};

/// How far two clocks may differ.
pub const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(10);

/// The end of the year 9999, the last that RFC 3339 has.
const LAST: DateTime<Utc> = DateTime::from_timestamp(253_402_300_799, 0).expect("a date of chrono's");

/// The date, or the nearest one from 1970 to 9999. Adding days to a date near chrono's limit (the year 262142)
/// panics. A date that is beyond 9999 remains in the future, where nothing counts.
pub fn within(date: DateTime<Utc>) -> DateTime<Utc> {
    date.clamp(DateTime::UNIX_EPOCH, LAST)
}

/// Reads a date of a JSON object as [`within`] gives it, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// Returns an error if it is not an RFC 3339 date.
pub fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    DateTime::deserialize(deserializer).map(within)
}

/// Returns true if the date lies further in the future than two clocks may differ.
pub fn is_future(date: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    date - now > CLOCK_TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_stay_within_the_calendar() {
        #[derive(Deserialize)]
        struct Dated {
            #[serde(deserialize_with = "bounded")]
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
        assert!(is_future(LAST, now) && !is_future(now + CLOCK_TOLERANCE, now));
    }
}
