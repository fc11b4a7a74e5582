//! Optimes: points in the oplog of a replica set.

use std::fmt;

use bson::Timestamp;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The timestamp of an oplog entry (`ts`), ordered by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
pub struct OpTime {
    /// Unix seconds.
    pub t: u32,
    /// The number of the entry within that second, from 1.
    pub i: u32,
}

impl OpTime {
    /// Returns the optime directly before this optime.
    pub fn before(self) -> OpTime {
        match self.i {
            0 => OpTime { t: self.t.saturating_sub(1), i: u32::MAX },
            i => OpTime { t: self.t, i: i - 1 },
        }
    }

    /// Returns the optime directly after this optime.
    pub fn after(self) -> OpTime {
        match self.i {
            u32::MAX => OpTime { t: self.t.saturating_add(1), i: 0 },
            i => OpTime { t: self.t, i: i + 1 },
        }
    }

    /// Returns the optime with zeros in front, `1795489212.0000000005`, so that keys sort by time.
    pub fn padded(self) -> String {
        format!("{:010}.{:010}", self.t, self.i)
    }

    /// Parses the form of [`OpTime::padded`], and no other.
    pub fn from_padded(text: &str) -> Option<OpTime> {
        let (t, i) = text.split_once('.')?;
        let time = OpTime { t: t.parse().ok()?, i: i.parse().ok()? };
        (time.padded() == text).then_some(time)
    }

    /// Returns the optime as an argument of a command line, `1795489212:5`.
    pub fn argument(self) -> String {
        format!("{}:{}", self.t, self.i)
    }

    /// Returns the second as a date.
    pub fn date(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.t.into(), 0).expect("every u32 is a date")
    }

    /// Returns the second in RFC 3339, for people.
    pub fn second(self) -> String {
        self.date().format("%Y-%m-%dT%H:%M:%SZ").to_string()
    }
}

impl From<Timestamp> for OpTime {
    fn from(timestamp: Timestamp) -> OpTime {
        OpTime { t: timestamp.time, i: timestamp.increment }
    }
}

impl From<OpTime> for Timestamp {
    fn from(time: OpTime) -> Timestamp {
        Timestamp { time: time.t, increment: time.i }
    }
}

impl fmt::Display for OpTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.second(), self.i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn optimes_are_ordered_by_second_then_entry() {
        let time = |t, i| OpTime { t, i };
        assert_eq!((time(5, 3).before(), time(5, 0).before()), (time(5, 2), time(4, u32::MAX)));
        assert!(time(1, 9) < time(2, 1) && time(2, 1) < time(2, 2));
        assert_eq!(time(1_795_489_212, 5).to_string(), "2026-11-24T03:00:12Z, 5");
        assert_eq!(time(u32::MAX, 1).to_string(), "2106-02-07T06:28:15Z, 1");
        assert_eq!((time(5, 3).after(), time(5, u32::MAX).after()), (time(5, 4), time(6, 0)));
        assert_eq!(time(1_795_489_212, 5).padded(), "1795489212.0000000005");
        assert_eq!(OpTime::from_padded("1795489212.0000000005"), Some(time(1_795_489_212, 5)));
        for wrong in [
            "",
            "1795489212",
            "1795489212.5",
            "+795489212.0000000005",
            "1795489212.0000000005.",
            "9795489212.0000000005",
        ] {
            assert_eq!(OpTime::from_padded(wrong), None, "{wrong}");
        }
        let back: OpTime = Timestamp::from(time(3, 4)).into();
        assert_eq!(back, time(3, 4));
    }
}
