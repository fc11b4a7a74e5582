//! The newest good backup of each day, week, month or year, in UTC.

use chrono::{DateTime, Datelike, Utc};

use super::RetainedBackup;

/// A stretch of the calendar.
#[derive(Debug, Clone, Copy)]
pub(super) enum CalendarPeriod {
    Day,
    Week,
    Month,
    Year,
}

impl CalendarPeriod {
    /// The name of the stretch that a time lies in; no two have one name.
    fn name(self, time: DateTime<Utc>) -> String {
        match self {
            CalendarPeriod::Day => time.format("%F").to_string(),
            CalendarPeriod::Week => format!("{}-W{:02}", time.iso_week().year(), time.iso_week().week()),
            CalendarPeriod::Month => time.format("%Y-%m").to_string(),
            CalendarPeriod::Year => time.format("%Y").to_string(),
        }
    }
}

/// The newest of each of the newest `count` periods that have any, and the periods' names.
pub(super) fn newest_of_each<'a>(
    newest_first: &[&'a RetainedBackup],
    period: CalendarPeriod,
    count: usize,
) -> Vec<(&'a RetainedBackup, String)> {
    let mut found: Vec<(&RetainedBackup, String)> = Vec::new();
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
