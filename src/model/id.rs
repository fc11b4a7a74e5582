//! Backup ids: the UTC start time and a random suffix. They are unique and sort by time.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, Utc};
use rand::{Rng, RngExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The id of a backup, for example `20261123T030000Z-7k3q9d`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct BackupId(String);

/// Makes the id of a backup that starts at a time.
pub type NewId = Arc<dyn Fn(DateTime<Utc>) -> BackupId + Send + Sync>;

const TIME: &str = "%Y%m%dT%H%M%SZ";
const SUFFIX: usize = 6;
/// Digits and lower-case letters without characters that look alike.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl BackupId {
    /// Makes an id for a backup that starts now.
    pub fn new(now: DateTime<Utc>, random: &mut impl Rng) -> BackupId {
        let suffix: String =
            (0..SUFFIX).map(|_| ALPHABET[random.random_range(0..ALPHABET.len())] as char).collect();
        BackupId(format!("{}-{suffix}", now.format(TIME)))
    }

    /// Returns the start time, to the second.
    pub fn started(&self) -> DateTime<Utc> {
        parse_time(&self.0).expect("an id begins with a time")
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let (time, _) = text.split_once('-')?;
    Some(NaiveDateTime::parse_from_str(time, TIME).ok()?.and_utc())
}

impl FromStr for BackupId {
    type Err = String;

    fn from_str(text: &str) -> Result<BackupId, String> {
        let fits = text.split_once('-').is_some_and(|(time, suffix)| {
            time.len() == 16 && suffix.len() == SUFFIX && suffix.bytes().all(|b| ALPHABET.contains(&b))
        });
        // chrono also accepts white space, signs and fewer digits.
        let written = parse_time(text).is_some_and(|time| text.starts_with(&time.format(TIME).to_string()));
        if fits && written {
            Ok(BackupId(text.to_string()))
        } else {
            Err(format!("'{text}' is not a backup id such as 20261123T030000Z-7k3q9d"))
        }
    }
}

impl TryFrom<String> for BackupId {
    type Error = String;

    fn try_from(text: String) -> Result<BackupId, String> {
        text.parse()
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn ids_sort_by_time_and_read_back() {
        let mut random = SmallRng::seed_from_u64(1);
        let early: DateTime<Utc> = "2026-11-23T03:00:00Z".parse().unwrap();
        let a = BackupId::new(early, &mut random);
        let b = BackupId::new(early + chrono::Duration::seconds(1), &mut random);
        assert!(a < b && a.as_str().starts_with("20261123T030000Z-"));
        assert_eq!(a.as_str().parse::<BackupId>().unwrap(), a);
        assert_eq!(a.started(), early);
        assert_ne!(BackupId::new(early, &mut random), a);
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "",
            "latest",
            "20261123T030000Z",
            "20261323T030000Z-7k3q9d",
            "20261123T030000Z-7K3Q9D",
            "20261123T030000Z-7k3q9d/x",
            " 2026112T030000Z-7k3q9d",
            "2026 123T030000Z-7k3q9d",
            "2026112 T030000Z-7k3q9d",
            "2026112\nT03000Z-7k3q9d",
            "20261123T03000\tZ-7k3q9d",
            "+2026112T030000Z-7k3q9d",
            "-2026112T030000Z-7k3q9d",
            "20261123T030000Z-7k3q9d\n",
        ] {
            assert!(bad.parse::<BackupId>().is_err(), "{bad}");
        }
    }
}
