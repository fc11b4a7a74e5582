//! The newest good backup of each day, week, month or year, in UTC.

use chrono::{DateTime, Datelike, Utc};

use super::Backup;

/// A stretch of the calendar.
#[derive(Debug, Clone, Copy)]
pub(super) enum Period {
    Day,
    Week,
    Month,
    Year,
}

impl Period {
    /// The name of the stretch that a time lies in; no two have one name.
    fn name(self, time: DateTime<Utc>) -> String {
        match self {
            Period::Day => time.format("%F").to_string(),
            Period::Week => format!("{}-W{:02}", time.iso_week().year(), time.iso_week().week()),
            Period::Month => time.format("%Y-%m").to_string(),
            Period::Year => time.format("%Y").to_string(),
        }
    }
}

/// The newest of each of the newest `count` periods that have any, and the periods' names.
pub(super) fn newest_of_each<'a>(
    newest_first: &[&'a Backup],
    period: Period,
    count: usize,
) -> Vec<(&'a Backup, String)> {
    let mut found: Vec<(&Backup, String)> = Vec::new();
    for backup in newest_first {
        if found.len() == count {
            break;
        }
        let name = period.name(backup.started);
        if found.last().is_none_or(|(_, last)| *last != name) {
            found.push((backup, name));
        }
    }
    found
}
