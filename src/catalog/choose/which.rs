//! The ways in which a command line names a backup.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

use crate::model::id::BackupId;

/// The backup that a command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhichBackup {
    /// The newest backup of the job.
    Latest,
    Id(BackupId),
    /// The beginning of an id.
    Prefix(String),
    /// The newest good backup of the job that was complete at this time.
    By(DateTime<Utc>),
}

impl WhichBackup {
    /// Returns true if the backup is searched among those of a job.
    pub fn is_of_job(&self) -> bool {
        matches!(self, WhichBackup::Latest | WhichBackup::By(_))
    }
}

/// The shortest beginning of an id: the year.
const SHORTEST: usize = 4;

impl FromStr for WhichBackup {
    type Err = String;

    fn from_str(text: &str) -> Result<WhichBackup, String> {
        if text == "latest" {
            return Ok(WhichBackup::Latest);
        }
        let not_an_id = match text.parse() {
            Ok(id) => return Ok(WhichBackup::Id(id)),
            Err(why) => why,
        };
        if begins_an_id(text) {
            return Ok(WhichBackup::Prefix(text.into()));
        }
        match time(text) {
            Some(at) => Ok(WhichBackup::By(at)),
            None if text.as_bytes().get(SHORTEST) == Some(&b'-') => Err(format!(
                "'{text}' is not a date such as 2026-11-23 or a time in UTC such as 2026-11-23T14:00Z"
            )),
            None => Err(format!(
                "{not_an_id}; or write latest, the beginning of an id, a date (2026-11-23) or a time in UTC \
                 (2026-11-23T14:00Z)"
            )),
        }
    }
}

/// Returns true if an id can begin with this text.
fn begins_an_id(text: &str) -> bool {
    // One of these endings completes a beginning to a valid id. The second ending is for a beginning that stops after the
    // first digit of the month or of the day.
    let endings = ["20260101T000000Z-000000", "20261010T000000Z-000000"];
    let completed = |ending: &str| Some(format!("{text}{}", ending.get(text.len()..)?));
    let is_id = |ending: &&str| completed(ending).is_some_and(|id| id.parse::<BackupId>().is_ok());
    text.len() >= SHORTEST && endings.iter().any(is_id)
}

/// Parses a time in UTC, or a date, which stands for its last moment.
fn time(text: &str) -> Option<DateTime<Utc>> {
    let last = NaiveTime::from_hms_nano_opt(23, 59, 59, 999_999_999)?;
    // chrono also accepts signs and fewer digits.
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return (date.format("%Y-%m-%d").to_string() == text).then(|| date.and_time(last).and_utc());
    }
    ["%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%MZ", "%Y-%m-%d %H:%M:%SZ"]
        .into_iter()
        .filter_map(|form| Some((form, NaiveDateTime::parse_from_str(text, form).ok()?)))
        .find(|(form, time)| time.format(form).to_string() == text)
        .map(|(_, time)| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(time: &str) -> WhichBackup {
        WhichBackup::By(time.parse().unwrap())
    }

    #[test]
    fn a_backup_is_named_by_id_beginning_date_or_time() {
        let id = "20261123T030000Z-7k3q9d";
        assert_eq!("latest".parse(), Ok(WhichBackup::Latest));
        assert_eq!(id.parse(), Ok(WhichBackup::Id(id.parse().unwrap())));
        for end in SHORTEST..id.len() {
            assert_eq!(id[..end].parse(), Ok(WhichBackup::Prefix(id[..end].into())));
        }
        for prefix in ["20263", "2026113", "20261130", "2026102", "20260", "20261", "2026022"] {
            let valid = prefix != "20263";
            assert_eq!(prefix.parse::<WhichBackup>().is_ok(), valid, "{prefix}");
        }
        assert_eq!("2026-11-30".parse(), Ok(by("2026-11-30T23:59:59.999999999Z")));
        assert_eq!("2026-11-30T14:00Z".parse(), Ok(by("2026-11-30T14:00:00Z")));
        assert_eq!("2026-11-30T14:00:05Z".parse(), Ok(by("2026-11-30T14:00:05Z")));
        assert_eq!("2026-11-30 14:00Z".parse(), Ok(by("2026-11-30T14:00:00Z")));
    }

    #[test]
    fn other_texts_are_refused_with_an_example() {
        for bad in [
            "newest",
            "",
            "1",
            "20261323",
            "20261123T25",
            "20261123T030000Z-7K",
            "20261123T030000Z-7k3q9d ",
            "20261123T030000Z-7k3q9d0",
            " 20261123",
            "+2026112",
            "7k3q9d",
            "2026112é",
        ] {
            let why = bad.parse::<WhichBackup>().unwrap_err();
            assert!(why.contains(&format!("'{bad}' is not a backup id such as 2026")), "{why}");
            assert!(why.contains("or write latest, the beginning of an id, a date"), "{why}");
        }
        for bad in ["2026-11-31", "2026-1-1", "2026-11-30T14:00", "2026-11-30T24:00Z", "2026-11-30T14:00+01"]
        {
            let why = bad.parse::<WhichBackup>().unwrap_err();
            assert!(why.starts_with(&format!("'{bad}' is not a date such as ")), "{why}");
        }
    }
}
