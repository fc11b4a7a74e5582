//! How long to wait before the next try.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::{Rng, RngExt};

/// The longest pause that a service may ask for; the time limit of the request may end it earlier.
const LONGEST: Duration = Duration::from_secs(30);

/// A `retry-after` header: seconds, or a date of HTTP.
pub fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    let asked = match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => {
            Duration::from_secs_f64(seconds.clamp(0.0, LONGEST.as_secs_f64()))
        }
        Ok(_) => return None,
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(now.into()).unwrap_or_default()
        }
    };
    Some(asked.min(LONGEST))
}

/// The pause after so many tries: about 1, 2 and 4 seconds, so that machines whose crons start at the
/// same second do not come back together.
pub fn backoff(tries: u32, random: &mut impl Rng) -> Duration {
    let full = Duration::from_secs(1) * 2u32.pow(tries.saturating_sub(1).min(5));
    full.mul_f64(random.random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_a_limit() {
        let now = "2026-11-23T03:00:00Z".parse().unwrap();
        for (text, want) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("1e9", Some(30)),
            ("-5", Some(0)),
            ("Mon, 23 Nov 2026 03:00:09 GMT", Some(9)),
            ("Mon, 23 Nov 2026 02:00:00 GMT", Some(0)),
            ("Tue, 24 Nov 2026 03:00:00 GMT", Some(30)),
            ("NaN", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(retry_after(text, now), want.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn pauses_grow_and_differ() {
        let mut random = rand::rng();
        for (tries, most) in [(1, 1.0), (2, 2.0), (3, 4.0)] {
            let pauses: Vec<f64> = (0..50).map(|_| backoff(tries, &mut random).as_secs_f64()).collect();
            assert!(pauses.iter().all(|pause| (most / 2.0..most).contains(pause)), "{pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
    }
}
