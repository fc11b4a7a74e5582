//! `stats`: what the runs of a job tell together. [`report`] is pure: from runs and a clock to figures;
//! [`gather`] brings it the runs.

mod gather;
mod pace;
mod periods;
mod standing;
mod trend;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::base::clock;
use crate::catalog::fault::{BackupFault, ShownStatus};
use crate::catalog::run::{BackupRun, STATUSES, Status};
use crate::catalog::state::RetainedBackup;
use crate::catalog::verdict::Drill;
use crate::config::choices::Policy;
use crate::model::id::BackupId;
use crate::retention::forecast::{Expiry, next_expiry};
use crate::retention::outlook::{Outlook, Pace, outlook};

pub use gather::gather;
pub use periods::{PeriodUnit, StatsPeriod};
pub use standing::JobStanding;
pub use trend::Trend;

/// How many of the last runs are told.
const LAST: usize = 10;

/// Whose figures are wanted, and what they are held against.
#[derive(Debug, Clone)]
pub struct StatsOptions {
    /// The job.
    pub job: String,
    /// How long backups are kept.
    pub policy: Policy,
    /// The newest good backup is too old when it is older.
    pub max_age: Duration,
}

/// What the figures are made from.
#[derive(Debug, Default)]
pub struct JobHistory {
    /// The store, in words.
    pub place: String,
    /// The other jobs that have backups there.
    pub others: Vec<String>,
    /// The runs, in any order.
    pub runs: Vec<BackupRun>,
    /// The backups that exist, as retention sees them.
    pub backups: Vec<RetainedBackup>,
    /// What is wrong with the backups that are not as they should be.
    pub faults: BTreeMap<BackupId, BackupFault>,
    /// What of the store could not be understood.
    pub unreadable: Vec<String>,
    /// What of the store a person should look at.
    pub problems: Vec<String>,
    /// The last drill with each backup that had one, newest first.
    pub drills: Vec<(BackupId, Drill)>,
}

/// The figures of a job.
#[derive(Debug)]
pub struct StatsReport {
    /// The job.
    pub job: String,
    /// The store, in words.
    pub place: String,
    /// The other jobs that have backups there.
    pub others: Vec<String>,
    /// When this was so.
    pub at: DateTime<Utc>,
    /// How many runs of each status there were.
    pub totals: Vec<(Status, usize)>,
    /// How many of the ended runs made a backup: of the last 7 and 30 days, and of all.
    pub success: Vec<SuccessRate>,
    /// The backups that exist: how many, and the sum of their artifacts in bytes.
    pub kept: (usize, u64),
    /// Their raw data, in bytes, summed up.
    pub kept_raw: u64,
    /// How many of them are not good.
    pub not_good: usize,
    /// How many there are beside them, by the records, whose manifest is missing or cannot be understood.
    pub lost: usize,
    /// What is wrong with the stored data of those that are not as they should be.
    pub faults: BTreeMap<BackupId, BackupFault>,
    /// The newest backup.
    pub newest: Option<BackupRun>,
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
    pub periods: Vec<StatsPeriod>,
    /// The runs, newest first.
    pub runs: Vec<BackupRun>,
    /// What goes next.
    pub next_expiry: Option<Expiry>,
    /// How the job stands.
    pub standing: JobStanding,
    /// How backups are taken to go on.
    pub pace: Pace,
    /// What will be stored, and until when each backup is kept.
    pub outlook: Outlook,
    /// The last drill with each backup that had one, newest first.
    pub drills: Vec<(BackupId, Drill)>,
}

impl StatsReport {
    /// The last runs, newest first.
    pub fn last(&self) -> &[BackupRun] {
        &self.runs[..self.runs.len().min(LAST)]
    }

    /// How a run and its backup stand.
    pub fn shown(&self, run: &BackupRun) -> ShownStatus {
        ShownStatus::new(run.status, self.faults.get(&run.id))
    }
}

/// How many runs made a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuccessRate {
    /// Of the last so many days; `None` is all of them.
    pub days: Option<u32>,
    /// Runs that made one.
    pub made: usize,
    /// Runs that ended.
    pub ended: usize,
}

impl SuccessRate {
    /// In percent; `None` where no run ended.
    pub fn percent(&self) -> Option<f64> {
        (self.ended > 0).then(|| self.made as f64 * 100.0 / self.ended as f64)
    }
}

/// Whether a run made a backup, be it deleted since.
fn made(run: &BackupRun) -> bool {
    matches!(run.status, Status::Completed | Status::Deleted)
}

/// The figures of a job from what is known of it.
pub fn report(known: &JobHistory, options: &StatsOptions, now: DateTime<Utc>) -> StatsReport {
    let StatsOptions { job, policy, .. } = options;
    let mut runs: Vec<&BackupRun> = known.runs.iter().filter(|run| run.job == *job).collect();
    runs.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    // What is known by records alone is no part of what exists, which must not depend on them.
    let (lost, completed): (Vec<&BackupRun>, Vec<&BackupRun>) = runs
        .iter()
        .copied()
        .filter(|run| run.status == Status::Completed)
        .partition(|run| known.faults.get(&run.id).is_some_and(|fault| fault.kind.takes_the_manifest()));
    // A deleted backup still tells how large the data was.
    let history: Vec<&BackupRun> = runs.iter().copied().filter(|run| made(run)).collect();
    let trend = |value: fn(&BackupRun) -> Option<f64>| {
        trend::of(history.iter().filter_map(|run| Some((run.started_at, value(run)?))))
    };
    let values = |value: fn(&BackupRun) -> Option<u64>| completed.iter().filter_map(move |run| value(run));
    // What a planted manifest says may be anything.
    let sum = |value| values(value).fold(0, u64::saturating_add);
    let size = trend(|run| run.stored_bytes.map(|n| n as f64));
    let sizes: BTreeMap<&BackupId, u64> =
        completed.iter().filter_map(|run| Some((&run.id, run.stored_bytes?))).collect();
    let pace = pace::of(&history, size.as_ref());
    let outlook = outlook(&known.backups, &sizes, policy, job, now, pace);
    StatsReport {
        job: job.clone(),
        place: known.place.clone(),
        others: known.others.clone(),
        at: now,
        totals: STATUSES.map(|status| (status, runs.iter().filter(|r| r.status == status).count())).to_vec(),
        success: [Some(7), Some(30), None].map(|days| success(&runs, days, now)).to_vec(),
        kept: (completed.len(), sum(|run| run.stored_bytes)),
        kept_raw: sum(|run| run.raw_bytes),
        newest: completed.iter().find(|run| !clock::is_future(run.started_at, now)).map(|run| (*run).clone()),
        oldest: completed.last().map(|run| run.started_at),
        size,
        documents: trend(|run| run.documents.map(|n| n as f64)),
        duration: trend(|run| run.took().map(|took| took.as_secs_f64())),
        throughput: trend::median(history.iter().take(LAST).filter_map(|run| speed(run))),
        periods: periods::of(&runs, now),
        runs: runs.iter().map(|run| (*run).clone()).collect(),
        next_expiry: next_expiry(&known.backups, policy, job, now),
        standing: standing::of(known, &runs, options, now),
        pace,
        not_good: outlook.stays.iter().filter(|stay| stay.wrong.is_some()).count(),
        lost: lost.len(),
        faults: known.faults.clone(),
        outlook,
        drills: known.drills.clone(),
    }
}

fn success(runs: &[&BackupRun], days: Option<u32>, now: DateTime<Utc>) -> SuccessRate {
    let since = days.map(|days| now - TimeDelta::days(days.into()));
    let ended = runs.iter().filter(|run| run.status != Status::Running);
    let ended: Vec<_> = ended.filter(|run| since.is_none_or(|since| run.started_at >= since)).collect();
    SuccessRate { days, made: ended.iter().filter(|run| made(run)).count(), ended: ended.len() }
}

/// What a run read in bytes of raw data per second; of runs that took no time nothing can be said.
pub fn speed(run: &BackupRun) -> Option<f64> {
    let took = run.took().filter(|took| *took >= Duration::from_millis(1))?;
    Some(run.raw_bytes? as f64 / took.as_secs_f64())
}

#[cfg(test)]
mod tests;
