//! Where the time of a backup went.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::base::units;
use crate::base::waits::TimeSpent;

/// The data phase of a backup, from the first request for documents until the artifact was complete, and what it waited
/// for. The four parts add up to `seconds`. docs/format.md defines them.
#[derive(Debug, Clone, Copy, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct DataTiming {
    /// The duration of the data phase.
    #[serde(deserialize_with = "sane")]
    pub seconds: f64,
    /// Waiting for documents.
    #[serde(deserialize_with = "sane")]
    pub mongodb_seconds: f64,
    /// Waiting for the compression.
    #[serde(deserialize_with = "sane")]
    pub compression_seconds: f64,
    /// Waiting for the upload.
    #[serde(deserialize_with = "sane")]
    pub store_seconds: f64,
    /// The rest: unpacking, checking and hashing documents.
    #[serde(deserialize_with = "sane")]
    pub other_seconds: f64,
}

/// A century. A manifest can be planted, and a longer time would be no [`Duration`].
const LONGEST: f64 = 100.0 * 365.25 * 86_400.0;

/// Reads a number of seconds, and moves it into the possible range. BSON can hold a NaN.
fn sane<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Ok(if seconds.is_nan() { 0.0 } else { seconds.clamp(0.0, LONGEST) })
}

impl From<TimeSpent> for DataTiming {
    /// Rounds each part to milliseconds, so that the rounded parts add up.
    fn from(spent: TimeSpent) -> DataTiming {
        let parts = [spent.mongodb, spent.compression, spent.store, spent.other];
        let parts = parts.map(|part| u64::try_from(part.as_millis()).unwrap_or(u64::MAX));
        let seconds = |millis: u64| millis as f64 / 1000.0;
        let [mongodb_seconds, compression_seconds, store_seconds, other_seconds] = parts.map(seconds);
        DataTiming {
            seconds: seconds(parts.into_iter().fold(0, u64::saturating_add)),
            mongodb_seconds,
            compression_seconds,
            store_seconds,
            other_seconds,
        }
    }
}

impl DataTiming {
    /// The three waits with their names, in the order of the data path.
    pub fn waits(&self) -> [(&'static str, f64); 3] {
        [
            ("MongoDB", self.mongodb_seconds),
            ("compression", self.compression_seconds),
            ("the store", self.store_seconds),
        ]
    }

    /// The speed in bytes of raw data per second, if the data phase took a measurable time.
    pub fn raw_speed(&self, raw_bytes: u64) -> Option<f64> {
        units::speed(raw_bytes, shown(self.seconds))
    }

    /// `31.0 s for MongoDB, 8.0 s for compression, 2.0 s for the store`.
    pub fn words(&self) -> String {
        let parts =
            self.waits().map(|(what, seconds)| format!("{} for {what}", units::duration(shown(seconds))));
        parts.join(", ")
    }

    /// `1.2 GiB raw in 43.0 s, 28.4 MiB/s; waited 31.0 s for MongoDB, 8.0 s for compression, 2.0 s for the store`.
    pub fn sentence(&self, raw_bytes: u64) -> String {
        let speed = self.raw_speed(raw_bytes).map(|speed| format!(", {}", units::bytes_per_second(speed)));
        let (raw, took) = (units::bytes(raw_bytes), units::duration(shown(self.seconds)));
        format!("{raw} raw in {took}{}; waited {}", speed.unwrap_or_default(), self.words())
    }
}

/// The duration to show, for a number of seconds that may be wrong.
fn shown(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rounded_parts_add_up() {
        let micros = Duration::from_micros;
        let spent = TimeSpent {
            mongodb: micros(1_000_900),
            compression: micros(2_900),
            store: micros(900),
            other: micros(40_000_900),
        };
        let timing = DataTiming::from(spent);
        assert_eq!(timing.seconds, 41.002);
        let parts =
            [timing.mongodb_seconds, timing.compression_seconds, timing.store_seconds, timing.other_seconds];
        assert_eq!(parts, [1.0, 0.002, 0.0, 40.0]);
    }

    #[test]
    fn a_timing_is_a_sentence() {
        let timing = DataTiming {
            seconds: 43.0,
            mongodb_seconds: 31.0,
            compression_seconds: 8.0,
            store_seconds: 2.0,
            other_seconds: 2.0,
        };
        assert_eq!(
            timing.sentence(1_288_490_189),
            "1.2 GiB raw in 43.0 s, 28.6 MiB/s; waited 31.0 s for MongoDB, 8.0 s for compression, 2.0 s for the store"
        );
        assert_eq!(DataTiming::default().raw_speed(7), None);
    }

    #[test]
    fn planted_seconds_are_durations() {
        let text = r#"{"seconds": 1e300, "mongodb_seconds": -5, "compression_seconds": 1, "store_seconds": 0.5, "other_seconds": 0}"#;
        let timing: DataTiming = serde_json::from_str(text).unwrap();
        assert_eq!((timing.seconds, timing.mongodb_seconds, timing.store_seconds), (LONGEST, 0.0, 0.5));
        assert!(timing.sentence(u64::MAX).contains("36525 d"), "{}", timing.sentence(u64::MAX));
    }
}
