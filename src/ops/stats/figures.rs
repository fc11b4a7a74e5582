//! The figures over time: trends, periods, and the pace at which backups are made.

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::made;
use crate::catalog::run::{BackupRun, Status};
use crate::retention::outlook::Pace;

const DAY: f64 = 86_400.0;
/// The most rows of periods.
const ROWS: usize = 12;
/// How many of the newest backups determine the pace. Older ones may have had another schedule.
const PACE_BACKUPS: usize = 30;
/// The fewest intervals between backups that determine the pace. A manual backup before the first nightly one says nothing.
const PACE_INTERVALS: usize = 3;

/// A figure over time.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema, Serialize)]
pub struct Trend {
    /// The oldest value.
    pub first: f64,
    /// The newest value.
    pub last: f64,
    /// The smallest value.
    pub least: f64,
    /// The largest value.
    pub most: f64,
    /// The median.
    pub median: f64,
    /// The slope per day of the line that fits best (least squares). `None` with fewer than three values, or if they span
    /// less than a day.
    pub per_day: Option<f64>,
}

/// The trend of values with their times, in any order. Returns `None` without values.
pub(super) fn trend(values: impl Iterator<Item = (DateTime<Utc>, f64)>) -> Option<Trend> {
    let mut values: Vec<(f64, f64)> =
        values.map(|(at, value)| (at.timestamp_millis() as f64 / 1000.0 / DAY, value)).collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, last) = (values.first()?, values.last()?);
    let only = || values.iter().map(|(_, value)| *value);
    Some(Trend {
        first: first.1,
        last: last.1,
        least: only().fold(f64::INFINITY, f64::min),
        most: only().fold(f64::NEG_INFINITY, f64::max),
        median: median(only())?,
        per_day: slope(&values),
    })
}

/// The middle value, or the mean of the two middle values.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(if values.len() % 2 == 1 { upper } else { (values[values.len() / 2 - 1] + upper) / 2.0 })
}

fn slope(values: &[(f64, f64)]) -> Option<f64> {
    let (first, last) = (values.first()?.0, values.last()?.0);
    if values.len() < 3 || last - first < 1.0 {
        return None;
    }
    let count = values.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| values.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|v| v.0), mean(|v| v.1));
    let above: f64 = values.iter().map(|v| (v.0 - x) * (v.1 - y)).sum();
    let below: f64 = values.iter().map(|v| (v.0 - x).powi(2)).sum();
    Some(above / below)
}

/// The length of a period, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PeriodUnit {
    /// A day.
    Day,
    /// A week from Monday.
    Week,
    /// A calendar month.
    Month,
}

impl PeriodUnit {
    /// The name in tables and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            PeriodUnit::Day => "day",
            PeriodUnit::Week => "week",
            PeriodUnit::Month => "month",
        }
    }

    /// The first day of the period that contains `day`.
    fn start(self, day: NaiveDate) -> NaiveDate {
        match self {
            PeriodUnit::Day => day,
            PeriodUnit::Week => day - TimeDelta::days(day.weekday().num_days_from_monday().into()),
            PeriodUnit::Month => day.with_day(1).expect("every month has a first"),
        }
    }
}

/// The runs of a day, week or month.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize)]
pub struct StatsPeriod {
    /// The length of the period.
    pub unit: PeriodUnit,
    /// The first day.
    pub start: NaiveDate,
    /// Runs that made a backup.
    pub made: usize,
    /// Runs that failed or were interrupted.
    pub failed: usize,
    /// The median size of the artifacts, in bytes.
    pub stored_bytes: Option<f64>,
    /// The median duration of the backups, in seconds.
    pub seconds: Option<f64>,
    /// The median speed, in bytes of raw data per second.
    pub raw_bytes_per_second: Option<f64>,
    /// The median time that a backup waited for MongoDB, as far as it was measured.
    pub mongodb_seconds: Option<f64>,
    /// The same for the compression.
    pub compression_seconds: Option<f64>,
    /// The same for the store.
    pub store_seconds: Option<f64>,
}

/// The runs by day, week or month, newest first: the shortest period that gives at most a dozen rows. Periods without runs
/// are left out.
pub(super) fn periods(newest_first: &[&BackupRun], now: DateTime<Utc>) -> Vec<StatsPeriod> {
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
    let waits = |n: usize| median(backups.iter().filter_map(|run| Some(run.timing?.waits()[n].1)));
    let failed = |run: &&&BackupRun| matches!(run.status, Status::Failed | Status::Interrupted);
    StatsPeriod {
        unit,
        start,
        made: backups.len(),
        failed: runs.iter().filter(failed).count(),
        stored_bytes: median(backups.iter().filter_map(|run| run.stored_bytes.map(|n| n as f64))),
        seconds: median(backups.iter().filter_map(|run| Some(run.took()?.as_secs_f64()))),
        raw_bytes_per_second: median(backups.iter().filter_map(|run| run.raw_speed())),
        mongodb_seconds: waits(0),
        compression_seconds: waits(1),
        store_seconds: waits(2),
    }
}

/// The days without a run on which one was expected, newest first. `since` is the first day for which all runs are known.
///
/// The expected days follow from the runs themselves, because the schedule is unknown: the median distance between days with
/// runs, which has to be a week at most. Today's run may still come, and a weekday that hardly ever has runs is not expected
/// to have one.
pub(super) fn missed_days(
    newest_first: &[&BackupRun],
    since: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Vec<NaiveDate> {
    let mut times: Vec<DateTime<Utc>> = newest_first.iter().map(|run| run.started_at).collect();
    times.retain(|at| (since..=now).contains(at));
    times.sort();
    let days: BTreeSet<NaiveDate> = times.iter().map(DateTime::date_naive).collect();
    let distances = days.iter().zip(days.iter().skip(1)).map(|(a, b)| (*b - *a).num_days() as f64);
    let measurable = days.len() > PACE_INTERVALS;
    let Some(every) = median(distances).filter(|days| measurable && *days <= 7.0) else { return Vec::new() };
    let every = TimeDelta::hours((every * 24.0).round() as i64);
    let (first, today) = (times[0].date_naive(), now.date_naive());
    let mut missed: Vec<NaiveDate> = Vec::new();
    for (n, at) in times.iter().enumerate() {
        let next = times.get(n + 1).copied().unwrap_or(now);
        // A quarter of the distance is leave for a late start.
        let expected = (1..).map(|n| *at + every * n).take_while(|at| *at + every / 4 < next);
        missed.extend(expected.map(|at| at.date_naive()));
    }
    // Once a weekday has come three times, more than a quarter of its days must have had runs.
    let has_runs = |day: &NaiveDate| {
        let same = first.iter_days().take_while(|other| *other < today);
        let same: Vec<NaiveDate> = same.filter(|other| other.weekday() == day.weekday()).collect();
        let with_runs = same.iter().filter(|day| days.contains(day)).count();
        every != TimeDelta::days(1) || same.len() < 3 || with_runs * 4 > same.len()
    };
    missed.retain(|day| *day < today && !days.contains(day) && has_runs(day));
    missed.dedup();
    missed.reverse();
    missed
}

/// The pace of these backups, newest first. It is one backup a day if there are too few backups to measure it, or if all of
/// them were made within a day, as when somebody tries the tool.
pub(super) fn pace(newest_first: &[&BackupRun], size: Option<&Trend>) -> Pace {
    let last = &newest_first[..newest_first.len().min(PACE_BACKUPS)];
    let apart = last.windows(2).map(|w| (w[0].started_at - w[1].started_at).num_seconds() as f64);
    let span = last.first().zip(last.last()).map(|(newest, oldest)| newest.started_at - oldest.started_at);
    let measurable = last.len() > PACE_INTERVALS && span >= Some(TimeDelta::days(1));
    let between = median(apart).filter(|_| measurable).unwrap_or(DAY);
    // Rounded to hours, because runs do not begin at the exact second. A shorter interval hardly changes a forecast.
    let hours = (between / 3600.0).round().max(1.0) as i64;
    Pace {
        every: TimeDelta::hours(hours),
        bytes: size.map_or(0.0, |size| size.last),
        per_day: size.and_then(|size| size.per_day).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn run(started: DateTime<Utc>, status: Status) -> BackupRun {
        let id = format!("{}-aaaaaa", started.format("%Y%m%dT%H%M%SZ")).parse().unwrap();
        BackupRun { status, ..BackupRun::begun(id, "j", "h", "p", started) }
    }

    #[test]
    fn a_straight_line_has_its_slope() {
        let line =
            |days: i64| (at("2026-11-01T03:00:00Z") + TimeDelta::days(days), 100.0 + 7.0 * days as f64);
        let found = trend((0..10).rev().map(line)).unwrap();
        assert!((found.per_day.unwrap() - 7.0).abs() < 1e-6, "{found:?}");
        assert_eq!((found.first, found.last, found.least, found.most), (100.0, 163.0, 100.0, 163.0));
        assert_eq!(found.median, 131.5);
        assert_eq!(trend((0..2).map(line)).unwrap().per_day, None);
        assert_eq!(trend(std::iter::empty()), None);
    }

    #[test]
    fn periods_are_at_most_a_dozen_rows_for_every_span() {
        let now = at("2026-11-24T04:00:00Z");
        for (days, unit, rows) in
            [(5, PeriodUnit::Day, 6), (40, PeriodUnit::Week, 7), (400, PeriodUnit::Month, 12)]
        {
            let runs: Vec<BackupRun> =
                (0..=days).map(|ago| run(now - TimeDelta::days(ago), Status::Completed)).collect();
            let found = periods(&runs.iter().collect::<Vec<_>>(), now);
            assert_eq!((found[0].unit, found.len()), (unit, rows), "{days} days");
            assert!(found.windows(2).all(|w| w[0].start > w[1].start));
        }
        let mixed = [run(now, Status::Failed), run(now - TimeDelta::hours(1), Status::Completed)];
        let found = periods(&mixed.iter().collect::<Vec<_>>(), now);
        assert_eq!((found.len(), found[0].made, found[0].failed), (1, 1, 1));
    }

    #[test]
    fn a_day_without_a_run_is_missed_if_one_was_expected() {
        let now = at("2026-11-24T04:00:00Z");
        let missed = |started: &[DateTime<Utc>]| {
            let mut runs: Vec<BackupRun> = started.iter().map(|at| run(*at, Status::Completed)).collect();
            runs.sort_by_key(|run| std::cmp::Reverse(run.started_at));
            let days = missed_days(&runs.iter().collect::<Vec<_>>(), now - TimeDelta::days(30), now);
            days.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let nightly = |without: &[i64]| -> Vec<DateTime<Utc>> {
            let nights = (0..40).filter(|ago| !without.contains(ago));
            nights.map(|ago| now - TimeDelta::hours(1) - TimeDelta::days(ago)).collect()
        };
        assert_eq!(missed(&nightly(&[])), [""; 0]);
        assert_eq!(missed(&nightly(&[3, 5, 6])), ["2026-11-21", "2026-11-19", "2026-11-18"]);
        // Runs that stopped are missed until yesterday: today's run may still come.
        assert_eq!(missed(&nightly(&[0, 1, 2])), ["2026-11-23", "2026-11-22"]);
        assert_eq!(missed(&nightly(&[0])), [""; 0]);
        // A manual run beside the nightly ones, and several attempts in a night, change nothing.
        let manual = [at("2026-11-20T17:00:00Z"), at("2026-11-20T17:10:00Z"), at("2026-11-20T17:20:00Z")];
        assert_eq!(missed(&[&nightly(&[3])[..], &manual].concat()), ["2026-11-21"]);
        // No runs at weekends, with one exception.
        let weekend = |at: &DateTime<Utc>| at.weekday().num_days_from_monday() >= 5;
        let mut working: Vec<DateTime<Utc>> = nightly(&[6]).into_iter().filter(|at| !weekend(at)).collect();
        assert_eq!(missed(&working), ["2026-11-18"]);
        working.push(at("2026-11-14T12:00:00Z"));
        assert_eq!(missed(&working), ["2026-11-18"]);
        // Weekly runs, and a start just before and just after midnight.
        let weekly: Vec<DateTime<Utc>> = (0..5).map(|n| now - TimeDelta::days(7 * n + 2)).collect();
        assert_eq!(missed(&weekly), [""; 0]);
        let midnight =
            ["19T23:58", "20T23:59", "22T00:01", "22T23:58"].map(|day| at(&format!("2026-11-{day}:00Z")));
        assert_eq!(missed(&midnight), [""; 0]);
        // Too few runs show no schedule.
        assert_eq!(missed(&nightly(&(2..40).collect::<Vec<_>>())), [""; 0]);
    }

    #[test]
    fn a_failed_night_and_a_manual_backup_do_not_change_the_pace() {
        let days = ["24T03:00:07", "23T15:20:00", "23T03:00:01", "22T03:00:02", "20T03:00:00", "19T03:00:03"];
        let runs: Vec<BackupRun> =
            days.iter().map(|day| run(at(&format!("2026-11-{day}Z")), Status::Completed)).collect();
        let runs: Vec<&BackupRun> = runs.iter().collect();
        assert_eq!(pace(&runs, None).every, TimeDelta::days(1));
        assert_eq!(pace(&runs[..2], None).every, TimeDelta::days(1));
        let tries: Vec<BackupRun> =
            (0..6).map(|n| run(runs[0].started_at - TimeDelta::minutes(n), Status::Completed)).collect();
        assert_eq!(pace(&tries.iter().collect::<Vec<_>>(), None).every, TimeDelta::days(1));
        assert_eq!(pace(&[], None), Pace { every: TimeDelta::days(1), bytes: 0.0, per_day: 0.0 });
    }
}
