//! `stats`: what the runs of a job tell together. [`report`] is pure: from runs and a clock to figures;
//! [`gather`] brings it the runs.

mod gather;
mod periods;
mod trend;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::catalog::id::BackupId;
use crate::catalog::run::{Run, STATUSES, Status};
use crate::catalog::verdict::Drill;
use crate::retention::forecast::Expiry;

pub use gather::gather;
pub use periods::{Period, Unit};
pub use trend::Trend;

/// How many of the last runs are told.
const LAST: usize = 10;

/// The figures of a job.
#[derive(Debug)]
pub struct Report {
    /// The job.
    pub job: String,
    /// The store, in words.
    pub place: String,
    /// When this was so.
    pub at: DateTime<Utc>,
    /// How many runs of each status there were.
    pub totals: Vec<(Status, usize)>,
    /// How many of the ended runs made a backup: of the last 7 and 30 days, and of all.
    pub success: Vec<Success>,
    /// The backups that exist: how many, and the sum of their artifacts in bytes.
    pub kept: (usize, u64),
    /// Their raw data, in bytes, summed up.
    pub kept_raw: u64,
    /// The newest backup.
    pub newest: Option<Run>,
    /// When the oldest backup began.
    pub oldest: Option<DateTime<Utc>>,
    /// The size of an artifact in bytes, over the time.
    pub size: Option<Trend>,
    /// The documents of a backup, over the time.
    pub documents: Option<Trend>,
    /// How long a backup took, in seconds, over the time.
    pub duration: Option<Trend>,
    /// What the last backups read in bytes of raw data per second, the median.
    pub throughput: Option<f64>,
    /// Day by day, week by week or month by month, newest first.
    pub periods: Vec<Period>,
    /// The last runs, newest first.
    pub last: Vec<Run>,
    /// What goes next.
    pub next_expiry: Option<Expiry>,
    /// The newest drill, and of which backup.
    pub drill: Option<(BackupId, Drill)>,
}

/// How many runs made a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Success {
    /// Of the last so many days; `None` is all of them.
    pub days: Option<u32>,
    /// Runs that made one.
    pub made: usize,
    /// Runs that ended.
    pub ended: usize,
}

impl Success {
    /// In percent; `None` where no run ended.
    pub fn percent(&self) -> Option<f64> {
        (self.ended > 0).then(|| self.made as f64 * 100.0 / self.ended as f64)
    }
}

/// Whether a run made a backup, be it deleted since.
fn made(run: &Run) -> bool {
    matches!(run.status, Status::Completed | Status::Deleted)
}

/// The figures of `job` from its runs, in any order.
pub fn report(
    job: &str,
    place: &str,
    runs: &[Run],
    next_expiry: Option<Expiry>,
    now: DateTime<Utc>,
) -> Report {
    let mut runs: Vec<&Run> = runs.iter().filter(|run| run.job == job).collect();
    runs.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    let completed: Vec<&Run> = runs.iter().copied().filter(|run| run.status == Status::Completed).collect();
    // A deleted backup still tells how large the data was.
    let history: Vec<&Run> = runs.iter().copied().filter(|run| made(run)).collect();
    let trend = |value: fn(&Run) -> Option<f64>| {
        trend::of(history.iter().filter_map(|run| Some((run.started_at, value(run)?))))
    };
    let sum = |value: fn(&Run) -> Option<u64>| completed.iter().filter_map(|run| value(run)).sum();
    Report {
        job: job.into(),
        place: place.into(),
        at: now,
        totals: STATUSES.map(|status| (status, runs.iter().filter(|r| r.status == status).count())).to_vec(),
        success: [Some(7), Some(30), None].map(|days| success(&runs, days, now)).to_vec(),
        kept: (completed.len(), sum(|run| run.stored_bytes)),
        kept_raw: sum(|run| run.raw_bytes),
        newest: completed.first().map(|run| (*run).clone()),
        oldest: completed.last().map(|run| run.started_at),
        size: trend(|run| run.stored_bytes.map(|n| n as f64)),
        documents: trend(|run| run.documents.map(|n| n as f64)),
        duration: trend(|run| run.took().map(|took| took.as_secs_f64())),
        throughput: trend::median(history.iter().take(LAST).filter_map(|run| speed(run))),
        periods: periods::of(&runs, now),
        last: runs.iter().take(LAST).map(|run| (*run).clone()).collect(),
        next_expiry,
        drill: None,
    }
}

fn success(runs: &[&Run], days: Option<u32>, now: DateTime<Utc>) -> Success {
    let since = days.map(|days| now - TimeDelta::days(days.into()));
    let ended = runs.iter().filter(|run| run.status != Status::Running);
    let ended: Vec<_> = ended.filter(|run| since.is_none_or(|since| run.started_at >= since)).collect();
    Success { days, made: ended.iter().filter(|run| made(run)).count(), ended: ended.len() }
}

/// Raw bytes per second; of runs that took no time nothing can be said.
fn speed(run: &Run) -> Option<f64> {
    let took = run.took().filter(|took| *took >= Duration::from_millis(1))?;
    Some(run.raw_bytes? as f64 / took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn run(day: &str, status: Status, stored: u64) -> Run {
        let started = at(&format!("{day}T03:00:00Z"));
        let id = format!("{}-aaaaaa", started.format("%Y%m%dT%H%M%SZ")).parse().unwrap();
        let mut run = Run::begun(id, "all@db1", "db1", "s3://b/p", started);
        run.status = status;
        if made(&run) {
            run.finished_at = Some(started + TimeDelta::seconds(10));
            (run.stored_bytes, run.raw_bytes, run.documents) = (Some(stored), Some(3 * stored), Some(5));
        }
        run
    }

    #[test]
    fn figures_of_a_few_nights() {
        let runs = [
            run("2026-11-01", Status::Deleted, 1000),
            run("2026-11-20", Status::Failed, 0),
            run("2026-11-21", Status::Completed, 2000),
            run("2026-11-22", Status::Interrupted, 0),
            run("2026-11-23", Status::Completed, 2200),
            run("2026-11-24", Status::Running, 0),
            Run { job: "other".into(), ..run("2026-11-23", Status::Completed, 1 << 40) },
        ];
        let report = report("all@db1", "s3://b/p", &runs, None, at("2026-11-24T03:00:01Z"));
        let count = |status| report.totals.iter().find(|(s, _)| *s == status).unwrap().1;
        assert_eq!(STATUSES.map(count), [1, 2, 1, 1, 1]);
        assert_eq!((report.kept, report.kept_raw), ((2, 4200), 12_600));
        let success: Vec<_> = report.success.iter().map(|s| (s.days, s.made, s.ended)).collect();
        assert_eq!(success, [(Some(7), 2, 4), (Some(30), 3, 5), (None, 3, 5)]);
        assert_eq!(report.newest.as_ref().unwrap().stored_bytes, Some(2200));
        assert_eq!(report.oldest, Some(at("2026-11-21T03:00:00Z")));
        assert_eq!(report.throughput, Some(600.0));
        assert_eq!(report.last.len(), 6);
        assert_eq!(report.last[0].status, Status::Running);
        let size = report.size.unwrap();
        assert_eq!((size.first, size.last, size.median), (1000.0, 2200.0, 2000.0));
        assert!(size.per_day.unwrap() > 50.0 && size.per_day.unwrap() < 60.0, "{size:?}");
    }

    #[test]
    fn a_job_without_runs_has_no_figures() {
        let report = report("all@db1", "d", &[], None, at("2026-11-24T03:00:00Z"));
        assert!(report.size.is_none() && report.newest.is_none() && report.periods.is_empty());
        assert_eq!(report.success[0].percent(), None);
    }
}
