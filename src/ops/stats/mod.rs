//! `stats`: the figures of a job's runs and backups. [`gather`] reads the store; [`report`] is pure.

mod figures;
pub mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::base::clock;
use crate::base::error::Result;
use crate::catalog::CatalogOptions;
use crate::catalog::fault::{BackupFault, ShownStatus};
use crate::catalog::history::{self, RunContext, StoreRuns};
use crate::catalog::ranges::Restorable;
use crate::catalog::run::{BackupRun, STATUSES, Status};
use crate::catalog::state::{RetainedBackup, RetainedOplog, StoreState};
use crate::catalog::verdict::Drill;
use crate::config::choices::Policy;
use crate::model::id::BackupId;
use crate::model::optime::OpTime;
use crate::model::timing::DataTiming;
use crate::retention::outlook::{Expiry, Outlook, Pace, next_expiry, outlook};
use crate::retention::{PlanContext, freshness, plan};
use crate::store::Store;

use places::StatsPlace;

pub use figures::{PeriodUnit, StatsPeriod, Trend};

/// How many days back the days without a run are counted.
pub const MISSED_DAYS: u32 = 30;
/// How many runs the list of the last runs has.
const LAST: usize = 10;

/// The job, and the limits that its figures are compared with.
#[derive(Debug, Clone)]
pub struct StatsOptions {
    /// The job.
    pub job: String,
    /// How long backups are kept.
    pub policy: Policy,
    /// The greatest age of the newest good backup.
    pub max_age: Duration,
    /// The number of days that the oplog slices must cover.
    pub oplog_days: u32,
}

/// The runs and backups that the figures are computed from.
#[derive(Debug, Default)]
pub struct JobHistory {
    /// The store, as shown to people.
    pub place: String,
    /// The other jobs with backups in the store.
    pub others: Vec<String>,
    /// The runs, in any order.
    pub runs: Vec<BackupRun>,
    /// The existing backups, as retention sees them.
    pub backups: Vec<RetainedBackup>,
    /// The faults of backups whose stored data is wrong.
    pub faults: BTreeMap<BackupId, BackupFault>,
    /// The objects in the store that cannot be parsed, with the reason.
    pub unreadable: Vec<String>,
    /// The problems of the store that a person should look at.
    pub problems: Vec<String>,
    /// The last drill of each backup, newest first.
    pub drills: Vec<(BackupId, Drill)>,
    /// The oplog slices, as retention sees them.
    pub oplog: RetainedOplog,
    /// The points in time that can be restored; `None` without oplog slices.
    pub restorable: Option<Restorable>,
}

/// The figures of a job. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct StatsReport {
    version: u32,
    /// The job.
    pub job: String,
    /// The store, as shown to people.
    pub place: String,
    /// The other jobs with backups in the store.
    #[serde(skip)]
    pub others: Vec<String>,
    /// The time of the report.
    pub at: DateTime<Utc>,
    /// The number of runs with each status.
    #[serde(rename = "runs", serialize_with = "counts")]
    #[schemars(with = "BTreeMap<String, usize>")]
    pub totals: Vec<(Status, usize)>,
    /// The success rates of the last 7 and 30 days, and of all runs.
    pub success: Vec<SuccessRate>,
    /// The number of existing backups.
    pub backups: usize,
    /// The number of existing backups that have only a part of the job.
    #[serde(rename = "backups_partial")]
    pub partial: usize,
    /// The number of existing backups of the whole job that are not good.
    #[serde(rename = "backups_not_good")]
    pub not_good: usize,
    /// The number of recorded backups whose manifest is missing or unreadable. They are not among `backups`.
    #[serde(rename = "backups_lost")]
    pub lost: usize,
    /// The total size of the artifacts, in bytes.
    pub stored_bytes: u64,
    /// The total raw size of the backups, in bytes.
    pub raw_bytes: u64,
    /// The newest backup.
    #[serde(serialize_with = "id")]
    #[schemars(with = "Option<BackupId>")]
    pub newest: Option<StatsRun>,
    /// The start of the oldest backup.
    #[serde(rename = "oldest_started_at")]
    pub oldest: Option<DateTime<Utc>>,
    /// The size of an artifact, in bytes.
    pub size: Option<Trend>,
    /// The documents of a backup.
    pub documents: Option<Trend>,
    /// The duration of a backup, in seconds.
    #[serde(rename = "seconds")]
    pub duration: Option<Trend>,
    /// The median speed of the last backups, in bytes of raw data per second.
    #[serde(rename = "raw_bytes_per_second")]
    pub throughput: Option<f64>,
    /// The runs by day, week or month, newest first.
    pub periods: Vec<StatsPeriod>,
    /// All runs, newest first. The JSON has the last runs only.
    #[serde(rename = "last", serialize_with = "last")]
    pub runs: Vec<StatsRun>,
    /// The days of the last 30 on which a run was expected and none began, newest first.
    #[serde(rename = "days_without_a_run")]
    pub missed: Vec<NaiveDate>,
    /// The state of the job.
    pub standing: JobStanding,
    /// The backups and sizes of the next weeks, and how long each backup is kept.
    #[serde(flatten)]
    pub outlook: Outlook,
    /// The last drill of each backup, newest first. The JSON has the first only.
    #[serde(rename = "drill", serialize_with = "newest_drill")]
    #[schemars(with = "Option<NewestDrill>")]
    pub drills: Vec<(BackupId, Drill)>,
    /// The next backup that a cleanup deletes.
    pub next_expiry: Option<Expiry>,
    /// The pace of backups that the outlook assumes.
    #[serde(skip)]
    pub pace: Pace,
    /// The points in time that can be restored; `None` without oplog slices.
    pub restorable: Option<Restorable>,
    /// The age of the newest of them: writes since then would be lost.
    #[serde(rename = "rpo_seconds", serialize_with = "whole_seconds")]
    #[schemars(with = "Option<u64>")]
    pub rpo: Option<Duration>,
    /// Every place, if there are copies. All other figures are those of the first place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<StatsPlace>,
}

impl StatsReport {
    /// The last runs, newest first.
    pub fn last(&self) -> &[StatsRun] {
        &self.runs[..self.runs.len().min(LAST)]
    }
}

fn counts<S: Serializer>(totals: &[(Status, usize)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(totals.iter().map(|(status, count)| (status.word(), count)))
}

fn id<S: Serializer>(run: &Option<StatsRun>, serializer: S) -> Result<S::Ok, S::Error> {
    run.as_ref().map(|run| &run.id).serialize(serializer)
}

fn last<S: Serializer>(runs: &[StatsRun], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(runs.iter().take(LAST))
}

/// The newest drill in the JSON of the statistics.
#[derive(JsonSchema, Serialize)]
struct NewestDrill {
    /// The drilled backup.
    id: BackupId,
    at: DateTime<Utc>,
    /// The drill found no difference from the manifest.
    sound: bool,
    /// The measured recovery time, in seconds.
    recovery_seconds: f64,
    raw_bytes: u64,
    /// `mongod` or `server`.
    target: String,
    /// The point in time that was drilled; `None` if it was the backup alone.
    point: Option<OpTime>,
}

fn newest_drill<S: Serializer>(drills: &[(BackupId, Drill)], serializer: S) -> Result<S::Ok, S::Error> {
    let shown = |(id, drill): &(BackupId, Drill)| NewestDrill {
        id: id.clone(),
        at: drill.at,
        sound: drill.is_sound(),
        recovery_seconds: drill.recovery_seconds,
        raw_bytes: drill.raw_bytes,
        target: drill.target.clone(),
        point: drill.point.as_ref().map(|point| point.at),
    };
    drills.first().map(shown).serialize(serializer)
}

fn whole_seconds<S: Serializer>(
    time: &(impl Into<Option<Duration>> + Copy),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    (*time).into().map(|time: Duration| time.as_secs()).serialize(serializer)
}

/// A run in the statistics.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct StatsRun {
    /// The id of the run and of its backup.
    pub id: BackupId,
    /// The state of the run and its backup.
    pub status: ShownStatus,
    /// The state of the run alone, without faults of its backup.
    #[serde(skip)]
    pub outcome: Status,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// When the run ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The number of documents.
    pub documents: Option<u64>,
    /// The length of the documents in bytes.
    pub raw_bytes: Option<u64>,
    /// The size of the artifact in bytes.
    pub stored_bytes: Option<u64>,
    /// The speed in bytes of raw data per second.
    pub raw_bytes_per_second: Option<f64>,
    /// The data phase and what it waited for, if it was measured.
    pub timing: Option<DataTiming>,
    /// The note that the backup was much slower than usual.
    pub slow: Option<String>,
    /// The fault of the backup, or else the error of the run.
    pub error: Option<String>,
    /// Everything else that a person should look at.
    pub warnings: Vec<String>,
}

impl StatsRun {
    fn new(run: &BackupRun, fault: Option<&BackupFault>) -> StatsRun {
        StatsRun {
            id: run.id.clone(),
            status: ShownStatus::new(run.status, fault),
            outcome: run.status,
            started_at: run.started_at,
            finished_at: run.finished_at,
            documents: run.documents,
            raw_bytes: run.raw_bytes,
            stored_bytes: run.stored_bytes,
            raw_bytes_per_second: run.raw_speed(),
            timing: run.timing,
            slow: run.slow.clone(),
            error: fault.map(|fault| fault.why.clone()).or_else(|| run.error.clone()),
            warnings: run.warnings.clone(),
        }
    }

    /// The duration of the run.
    pub fn took(&self) -> Option<Duration> {
        (self.finished_at? - self.started_at).to_std().ok()
    }
}

/// The share of runs that made a backup.
#[derive(Debug, Clone, Copy, PartialEq, JsonSchema, Serialize)]
pub struct SuccessRate {
    /// The number of past days that are counted. `None` means all runs.
    pub days: Option<u32>,
    /// Runs that made a backup.
    pub made: usize,
    /// Runs that ended.
    pub ended: usize,
    /// `made` in percent of `ended`; `None` if no run ended.
    pub percent: Option<f64>,
}

/// The state of a job as far as the store shows it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct JobStanding {
    /// The newest good backup.
    pub newest_good: Option<BackupId>,
    /// The age of the newest good backup.
    #[serde(rename = "age_seconds", serialize_with = "whole_seconds")]
    #[schemars(with = "Option<u64>")]
    pub age: Option<Duration>,
    /// The greatest allowed age of the newest good backup.
    #[serde(rename = "max_age_seconds", serialize_with = "whole_seconds")]
    #[schemars(with = "u64")]
    pub max_age: Duration,
    /// The newest good backup is not older than allowed.
    pub fresh: bool,
    /// The backups that do not count, with the reason.
    #[serde(skip)]
    pub bad: Vec<(BackupId, String)>,
    /// The last run that ended made no backup.
    #[serde(skip)]
    pub failing: bool,
    /// Why a cleanup would delete nothing; empty if it is not frozen.
    pub frozen: Vec<String>,
    /// The other problems of the store that a person should look at.
    pub problems: Vec<String>,
}

/// Reads the store, joins its runs with the recorded ones, and computes the figures.
///
/// # Errors
/// Returns an error if the store cannot be read. Objects that cannot be parsed are logged and left out.
pub async fn gather(
    store: &dyn Store,
    records: &[BackupRun],
    options: &StatsOptions,
    reading: &CatalogOptions,
) -> Result<StatsReport> {
    let now = reading.now;
    let state = StoreState::read(store, &options.job, reading).await?;
    let place = store.place();
    let mut runs: Vec<BackupRun> =
        state.manifests().map(|manifest| BackupRun::completed(manifest, &place)).collect();
    let mut manifests: BTreeSet<BackupId> = state.manifests().map(|manifest| manifest.id.clone()).collect();
    // An unreadable or archived manifest also means that there is a backup.
    manifests.extend(state.broken.keys().cloned());
    manifests.extend(state.archived.iter().cloned());
    let mut failures = BTreeSet::new();
    // A run whose last answer was lost may have both a manifest and a `failed.json`. The manifest counts.
    for (id, failure) in state.failed.iter().filter(|(id, _)| !manifests.contains(id)) {
        match failure {
            Ok(failure) => runs.push(BackupRun::failed(failure, &place)),
            Err(why) => log::warn!("{why}"),
        }
        failures.insert(id.clone());
    }
    state.unreadable.iter().for_each(|why| log::warn!("{why}"));
    let said = StoreRuns { place: place.clone(), runs, manifests, failures };
    let mine: Vec<BackupRun> = records.iter().filter(|run| run.job == options.job).cloned().collect();
    let mut runs = history::join(&said, &mine, &RunContext { now, held: None });
    let mut problems = state.problems();
    let faults = state.faults().chain(&state.broken);
    let mut faults: BTreeMap<BackupId, BackupFault> =
        faults.map(|(id, fault)| (id.clone(), fault.clone())).collect();
    for run in &mut runs {
        if let Some(fault) =
            state.incomplete.get(&run.id).and_then(|folder| BackupFault::lost_manifest(run, folder, now))
        {
            // The artifact is still stored, and there is no tombstone.
            run.status = Status::Completed;
            problems.push(fault.with_id(&run.id));
            faults.insert(run.id.clone(), fault);
        }
    }
    // No record names the job of these backups.
    let known = |id: &BackupId| faults.contains_key(id) || records.iter().any(|run| run.id == *id);
    let unknown = state.lost(now).into_iter().filter(|(id, _)| !known(id));
    problems.extend(unknown.map(|(id, fault)| fault.with_id(id)));
    let known = JobHistory {
        oplog: state.oplog(store).await?,
        restorable: Restorable::read(store, &state).await?,
        faults,
        runs,
        place,
        backups: state.backups(),
        others: state.others.iter().cloned().collect(),
        problems,
        drills: state.drills().into_iter().map(|(id, drill)| (id.clone(), drill.clone())).collect(),
        unreadable: state.unreadable,
    };
    Ok(report(&known, options, now))
}

/// The age of the newest point in time that can be restored.
fn rpo(restorable: &Restorable, now: DateTime<Utc>) -> Option<Duration> {
    let newest = restorable.ranges.last()?.to.date();
    Some((now - newest).to_std().unwrap_or_default())
}

/// Returns true if the run made a backup, even if the backup was deleted since.
fn made(run: &BackupRun) -> bool {
    matches!(run.status, Status::Completed | Status::Deleted)
}

/// Computes the figures of a job.
pub fn report(known: &JobHistory, options: &StatsOptions, now: DateTime<Utc>) -> StatsReport {
    let StatsOptions { job, policy, .. } = options;
    let mut runs: Vec<&BackupRun> = known.runs.iter().filter(|run| run.job == *job).collect();
    runs.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    // Backups that only records know are counted apart: the figures of existing backups must not depend on records.
    let (lost, completed): (Vec<&BackupRun>, Vec<&BackupRun>) = runs
        .iter()
        .copied()
        .filter(|run| run.status == Status::Completed)
        .partition(|run| known.faults.get(&run.id).is_some_and(|fault| fault.kind.takes_the_manifest()));
    // Runs for a part of the job say nothing about the schedule and the success of the job.
    let whole: Vec<&BackupRun> = runs.iter().copied().filter(|run| run.partial.is_none()).collect();
    // Deleted backups still show how the size of the data changed.
    let distrusted =
        |run: &BackupRun| known.faults.get(&run.id).is_some_and(|fault| fault.kind.is_distrust());
    let history: Vec<&BackupRun> =
        whole.iter().copied().filter(|run| made(run) && !distrusted(run)).collect();
    let trend = |value: fn(&BackupRun) -> Option<f64>| {
        figures::trend(history.iter().filter_map(|run| Some((run.started_at, value(run)?))))
    };
    let values = |value: fn(&BackupRun) -> Option<u64>| completed.iter().filter_map(move |run| value(run));
    // A planted manifest may claim any size.
    let sum = |value| values(value).fold(0, u64::saturating_add);
    let size = trend(|run| run.stored_bytes.map(|n| n as f64));
    let sizes: BTreeMap<&BackupId, u64> =
        completed.iter().filter_map(|run| Some((&run.id, run.stored_bytes?))).collect();
    let pace = figures::pace(&history, size.as_ref());
    let outlook = outlook(&known.backups, &sizes, policy, job, now, pace);
    let shown = |run: &BackupRun| StatsRun::new(run, known.faults.get(&run.id));
    let speeds = history.iter().take(LAST).filter_map(|run| run.raw_speed());
    StatsReport {
        version: 1,
        job: job.clone(),
        place: known.place.clone(),
        others: known.others.clone(),
        at: now,
        totals: STATUSES.map(|status| (status, runs.iter().filter(|r| r.status == status).count())).to_vec(),
        success: [Some(7), Some(30), None].map(|days| success(&whole, days, now)).to_vec(),
        backups: completed.len(),
        partial: outlook.stays.iter().filter(|stay| stay.partial.is_some()).count(),
        not_good: outlook.stays.iter().filter(|stay| stay.wrong.is_some() && stay.partial.is_none()).count(),
        lost: lost.len(),
        stored_bytes: sum(|run| run.stored_bytes),
        raw_bytes: sum(|run| run.raw_bytes),
        newest: completed.iter().find(|run| !clock::is_future(run.started_at, now)).map(|run| shown(run)),
        oldest: completed.last().map(|run| run.started_at),
        size,
        documents: trend(|run| run.documents.map(|n| n as f64)),
        duration: trend(|run| run.took().map(|took| took.as_secs_f64())),
        throughput: figures::median(speeds),
        periods: figures::periods(&whole, now),
        runs: runs.iter().map(|run| shown(run)).collect(),
        missed: figures::missed_days(&whole, all_known_since(&runs, policy, now), now),
        standing: standing(known, &whole, options, now),
        outlook,
        drills: known.drills.clone(),
        next_expiry: next_expiry(&known.backups, policy, job, now),
        pace,
        restorable: known.restorable.clone(),
        rpo: known.restorable.as_ref().and_then(|found| rpo(found, now)),
        places: Vec::new(),
    }
}

/// The time since which all runs are known, at most [`MISSED_DAYS`] ago. Without records, nothing shows when a deleted
/// backup was made, and backups younger than the retention period are not deleted.
fn all_known_since(runs: &[&BackupRun], policy: &Policy, now: DateTime<Utc>) -> DateTime<Utc> {
    let recorded = runs.iter().any(|run| run.status == Status::Deleted);
    let days = if recorded { MISSED_DAYS } else { MISSED_DAYS.min(policy.days) };
    now - TimeDelta::days(days.into())
}

fn success(runs: &[&BackupRun], days: Option<u32>, now: DateTime<Utc>) -> SuccessRate {
    let since = days.map(|days| now - TimeDelta::days(days.into()));
    let ended = runs.iter().filter(|run| run.status != Status::Running);
    let ended: Vec<_> = ended.filter(|run| since.is_none_or(|since| run.started_at >= since)).collect();
    let (made, ended) = (ended.iter().filter(|run| made(run)).count(), ended.len());
    let percent = (ended > 0).then(|| made as f64 * 100.0 / ended as f64);
    SuccessRate { days, made, ended, percent }
}

fn standing(
    known: &JobHistory,
    newest_first: &[&BackupRun],
    options: &StatsOptions,
    now: DateTime<Utc>,
) -> JobStanding {
    let mut past = newest_first.iter().filter(|run| !clock::is_future(run.started_at, now));
    let last_ended = past.find(|run| run.status != Status::Running);
    // `health` compares the clocks. Asking for the store's clock would be another request.
    let context = PlanContext {
        job: options.job.clone(),
        now,
        store_clock: now,
        force: false,
        unreadable: known.unreadable.clone(),
        oplog: known.oplog.clone(),
        oplog_days: options.oplog_days,
    };
    let mut freshness = freshness(&known.backups, &options.job, now, options.max_age);
    // A person made the partial backups, and they are counted apart.
    let is_partial =
        |id: &BackupId| known.backups.iter().any(|backup| backup.id == *id && backup.partial.is_some());
    freshness.bad.retain(|(id, _)| !is_partial(id));
    let (newest_good, age) = freshness.newest.unzip();
    JobStanding {
        newest_good,
        age,
        max_age: options.max_age,
        fresh: freshness.fresh,
        bad: freshness.bad,
        failing: last_ended.is_some_and(|run| !made(run)),
        frozen: plan(&known.backups, &options.policy, &context).frozen,
        problems: known.problems.clone(),
    }
}

#[cfg(test)]
mod tests;
