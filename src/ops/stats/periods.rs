//! The runs day by day, week by week or month by month: whichever gives a dozen rows at most.

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};

use super::{made, trend};
use crate::catalog::run::{BackupRun, Status};

/// How many rows there are at most.
const ROWS: usize = 12;

/// What a row stands for, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeriodUnit {
    /// A day.
    Day,
    /// A week, which begins on Monday.
    Week,
    /// A month.
    Month,
}

impl PeriodUnit {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            PeriodUnit::Day => "day",
            PeriodUnit::Week => "week",
            PeriodUnit::Month => "month",
        }
    }

    /// The first day of the one that `day` lies in.
    fn start(self, day: NaiveDate) -> NaiveDate {
        match self {
            PeriodUnit::Day => day,
            PeriodUnit::Week => day - TimeDelta::days(day.weekday().num_days_from_monday().into()),
            PeriodUnit::Month => day.with_day(1).expect("every month has a first"),
        }
    }
}

/// The runs of a day, week or month.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsPeriod {
    /// What it is.
    pub unit: PeriodUnit,
    /// Its first day.
    pub start: NaiveDate,
    /// Runs that made a backup.
    pub made: usize,
    /// Runs that failed or were interrupted.
    pub failed: usize,
    /// The size of its backups' artifacts in bytes, the median.
    pub stored_bytes: Option<f64>,
    /// How long they took in seconds, the median.
    pub seconds: Option<f64>,
}

/// The rows, newest first. A period without runs has none.
pub fn of(newest_first: &[&BackupRun], now: DateTime<Utc>) -> Vec<StatsPeriod> {
    let Some(oldest) = newest_first.last() else { return Vec::new() };
    let unit = match (now - oldest.started_at).num_days() {
        ..12 => PeriodUnit::Day,
        12..77 => PeriodUnit::Week,
        _ => PeriodUnit::Month,
    };
    let start = |run: &BackupRun| unit.start(run.started_at.date_naive());
    let groups = newest_first.chunk_by(|a, b| start(a) == start(b));
    groups.take(ROWS).map(|group| period(unit, start(group[0]), group)).collect()
}

fn period(unit: PeriodUnit, start: NaiveDate, runs: &[&BackupRun]) -> StatsPeriod {
    let backups: Vec<&&BackupRun> = runs.iter().filter(|run| made(run)).collect();
    let failed = |run: &&&BackupRun| matches!(run.status, Status::Failed | Status::Interrupted);
    StatsPeriod {
        unit,
        start,
        made: backups.len(),
        failed: runs.iter().filter(failed).count(),
        stored_bytes: trend::median(backups.iter().filter_map(|run| run.stored_bytes.map(|n| n as f64))),
        seconds: trend::median(backups.iter().filter_map(|run| Some(run.took()?.as_secs_f64()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(started: DateTime<Utc>, status: Status) -> BackupRun {
        let id = format!("{}-aaaaaa", started.format("%Y%m%dT%H%M%SZ")).parse().unwrap();
        BackupRun { status, ..BackupRun::begun(id, "j", "h", "p", started) }
    }

    #[test]
    fn at_most_a_dozen_rows_whatever_the_span() {
        let now: DateTime<Utc> = "2026-11-24T04:00:00Z".parse().unwrap();
        for (days, unit, rows) in
            [(5, PeriodUnit::Day, 6), (40, PeriodUnit::Week, 7), (400, PeriodUnit::Month, 12)]
        {
            let runs: Vec<BackupRun> =
                (0..=days).map(|ago| run(now - TimeDelta::days(ago), Status::Completed)).collect();
            let found = of(&runs.iter().collect::<Vec<_>>(), now);
            assert_eq!((found[0].unit, found.len()), (unit, rows), "{days} days");
            assert!(found.windows(2).all(|w| w[0].start > w[1].start));
        }
        let mixed = [run(now, Status::Failed), run(now - TimeDelta::hours(1), Status::Completed)];
        let found = of(&mixed.iter().collect::<Vec<_>>(), now);
        assert_eq!((found.len(), found[0].made, found[0].failed), (1, 1, 1));
    }
}
