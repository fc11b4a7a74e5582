//! `--at`: the instant that the restored data is to be of. A backup has at most one, and no other is given out
//! for it.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::base::error::{Error, Result};
use crate::model::optime::OpTime;

/// An instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A second.
    Second(DateTime<Utc>),
    /// An oplog entry.
    Entry(OpTime),
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<At, String> {
        let number = |text: &str| text.trim().parse::<u32>().ok();
        // As the log of a backup shows it.
        if let Some((second, entry)) = text.split_once(", ")
            && let (Ok(second), Some(i)) = (DateTime::parse_from_rfc3339(second), number(entry))
            && let Ok(t) = u32::try_from(second.timestamp())
        {
            return Ok(At::Entry(OpTime { t, i }));
        }
        // As mongorestore's --oplogLimit takes it.
        if let Some((t, i)) = text.split_once(':')
            && let (Some(t), Some(i)) = (number(t), number(i))
        {
            return Ok(At::Entry(OpTime { t, i }));
        }
        let second = DateTime::parse_from_rfc3339(text).map(|second| At::Second(second.to_utc()));
        second.map_err(|e| {
            format!("'{text}' is neither a time like 2026-11-24T03:00:12Z nor seconds:ordinal ({e})")
        })
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Second(second) => write!(f, "{}", second.format("%Y-%m-%dT%H:%M:%SZ")),
            At::Entry(at) => write!(f, "{}:{}", at.t, at.i),
        }
    }
}

impl At {
    /// Whether `instant` is this one.
    fn is(self, instant: OpTime) -> bool {
        match self {
            At::Second(second) => second.timestamp() == i64::from(instant.t),
            At::Entry(at) => at == instant,
        }
    }

    /// Compares with the instant that the restored data would be of, if it is of one.
    ///
    /// # Errors
    /// If it is of another one, or of none.
    pub fn check(self, instant: Option<OpTime>) -> Result<()> {
        match instant {
            Some(instant) if self.is(instant) => Ok(()),
            Some(instant) => Err(Error::usage(format!(
                "the backup cannot be restored as of {self}: it is consistent at {} ({}) and at no other time",
                instant.second(),
                At::Entry(instant)
            ))
            .hint("Leave --at out, or name that time. Before the end of its oplog slice its collections are of different moments; of what came later it knows nothing")),
            None => Err(Error::usage(format!(
                "the backup cannot be restored as of {self}: each of its collections was read at its own time"
            ))
            .hint("Leave --at out; `uzima-backup list` shows which backups are of one instant")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_instant_is_accepted() {
        let end = OpTime { t: 1_795_489_212, i: 5 };
        for right in
            ["2026-11-24T03:00:12Z", "2026-11-24T04:00:12+01:00", "1795489212:5", "2026-11-24T03:00:12Z, 5"]
        {
            let at: At = right.parse().unwrap();
            assert!(at.check(Some(end)).is_ok(), "{right}");
            assert_eq!(at.check(None).unwrap_err().exit(), crate::base::exit::Exit::Usage);
        }
        for wrong in ["2026-11-24T03:00:11Z", "2026-11-24T03:00:13Z", "1795489212:4", "1795489212:6"] {
            let error = wrong.parse::<At>().unwrap().check(Some(end)).unwrap_err();
            assert!(
                error.to_string().contains("at 2026-11-24T03:00:12Z (1795489212:5) and"),
                "{wrong}: {error}"
            );
        }
        for nothing in ["", "yesterday", "12", "1:x", "2026-11-24", "-1:2"] {
            assert!(nothing.parse::<At>().is_err(), "{nothing}");
        }
    }
}
