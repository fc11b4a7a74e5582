//! The end of a run and its facts. Mails, pings, metrics and the webhook are made from them; docs/json.md describes the
//! webhook's JSON.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::message::{LOG_LINES, Table, Tone};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::catalog::CatalogOptions;
use crate::catalog::state::StoreState;
use crate::model::losses::Losses;
use crate::model::manifest::Manifest;
use crate::model::optime::OpTime;
use crate::model::timing::DataTiming;
use crate::retention;
use crate::store::Store;

/// The operation that a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    Backup,
    Cleanup,
    Oplog,
    /// The name of another operation that runs unattended.
    Other(&'static str),
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunKind::Backup => "backup",
            RunKind::Cleanup => "cleanup",
            RunKind::Oplog => "oplog",
            RunKind::Other(word) => word,
        })
    }
}

/// The run that a notification is about.
#[derive(Debug, Clone)]
pub struct NotifiedRun {
    pub job: String,
    pub operation: RunKind,
    /// The unique id of the run. A backup's run has the id of the backup.
    pub run: String,
    /// The run backs up only a part of its job. Monitors, metrics and failures in a row are about whole backups.
    pub partial: bool,
}

impl NotifiedRun {
    /// The run in a subject line. Only the id of a backup is useful to a person.
    pub(super) fn name(&self) -> String {
        match self.operation {
            RunKind::Backup => format!("{} ({})", self.job, self.run),
            RunKind::Cleanup | RunKind::Oplog | RunKind::Other(_) => self.job.clone(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum RunOutcome {
    Success(BackupSuccess),
    /// The operation failed.
    Failure(RunFailure),
    Cleanup(CleanupSuccess),
    /// A cleanup that deletes nothing until a person has looked.
    Frozen(CleanupFrozen),
    /// The oplog was stored.
    Oplog(OplogSuccess),
}

impl RunOutcome {
    /// The exit code of the run, unless a notification fails as well.
    pub fn exit(&self) -> Exit {
        match self {
            RunOutcome::Success(s) if s.problems.is_empty() => Exit::Done,
            RunOutcome::Cleanup(c) if c.problems.is_empty() => Exit::Done,
            RunOutcome::Oplog(o) if o.problems.is_empty() => Exit::Done,
            RunOutcome::Success(_)
            | RunOutcome::Cleanup(_)
            | RunOutcome::Frozen(_)
            | RunOutcome::Oplog(_) => Exit::NeedsLook,
            RunOutcome::Failure(f) => f.exit,
        }
    }

    /// Returns true if nobody needs to know: another run held the lock, and there is a fresh backup.
    pub fn is_harmless(&self, now: DateTime<Utc>) -> bool {
        let RunOutcome::Failure(failure) = self else { return false };
        failure.exit == Exit::Busy
            && matches!(failure.newest_good, NewestGood::At(_))
            && failure.too_old(now).is_none()
    }

    /// Returns true if the run ended well, with only problems that earlier runs may have reported.
    pub(super) fn has_lasting_problems(&self) -> bool {
        matches!(self, RunOutcome::Oplog(o) if !o.problems.is_empty() && !o.urgent)
    }

    /// Returns true if the run ended well. A frozen cleanup did not: it waits for a person.
    pub(super) fn is_good(&self) -> bool {
        matches!(self, RunOutcome::Success(_) | RunOutcome::Cleanup(_) | RunOutcome::Oplog(_))
    }
}

/// The figures of a backup, for its JSON and its notifications.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct BackupFacts {
    /// The place of the artifact: a path or an `s3://` address.
    pub place: String,
    pub started_at: DateTime<Utc>,
    /// When the artifact was complete.
    pub finished_at: DateTime<Utc>,
    pub engine: String,
    pub consistency: String,
    pub namespaces: u64,
    pub documents: u64,
    pub raw_bytes: u64,
    pub stored_bytes: u64,
    /// The instant of the data, if all of it is of one instant.
    #[serde(skip)]
    pub instant: Option<DateTime<Utc>>,
    /// The data phase and what it waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timing: Option<DataTiming>,
    /// The selection in words if the backup has only a part of its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
}

impl BackupFacts {
    /// The facts of a manifest. The artifact is at `place`.
    pub fn of(manifest: &Manifest, place: String) -> BackupFacts {
        BackupFacts {
            place,
            started_at: manifest.started_at,
            finished_at: manifest.finished_at,
            engine: manifest.engine.name.clone(),
            consistency: manifest.consistency.achieved.clone(),
            namespaces: manifest.totals.namespaces,
            documents: manifest.totals.documents,
            raw_bytes: manifest.totals.raw_bytes,
            stored_bytes: manifest.artifact.size,
            instant: manifest.consistency.at.map(OpTime::date),
            timing: manifest.timing,
            partial: manifest.part(),
        }
    }
}

/// A backup that was made.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct BackupSuccess {
    #[serde(flatten)]
    pub facts: BackupFacts,
    /// Problems that a person should look at.
    pub problems: Vec<String>,
    /// Problems that the run solved.
    pub notes: Vec<String>,
    /// The namespaces that vanished or shrank since the last good backup.
    pub losses: Option<Losses>,
}

#[cfg(test)]
impl BackupSuccess {
    pub(super) fn example() -> BackupSuccess {
        let at = |text: &str| text.parse().expect("a time");
        let facts = BackupFacts {
            place: "/backups/dump.tar.gz".into(),
            started_at: at("2026-11-23T03:00:00Z"),
            finished_at: at("2026-11-23T03:02:17Z"),
            engine: "native".into(),
            consistency: "none".into(),
            namespaces: 214,
            documents: 18_402_233,
            raw_bytes: 23_622_320_128,
            stored_bytes: 8_160_437_862,
            instant: Some(at("2026-11-23T03:02:11Z")),
            timing: Some(DataTiming {
                seconds: 131.2,
                mongodb_seconds: 96.4,
                compression_seconds: 21.9,
                store_seconds: 4.6,
                other_seconds: 8.3,
            }),
            partial: None,
        };
        BackupSuccess { facts, problems: vec![], notes: vec![], losses: None }
    }
}

/// The backup that the next one must follow.
pub(super) struct LastBackup<'a> {
    pub job: &'a str,
    pub id: &'a str,
    pub started_at: DateTime<Utc>,
    pub max_age: Duration,
}

/// The age of the newest good backup of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewestGood {
    /// The store did not answer.
    Unknown,
    Missing,
    /// When it began.
    At(DateTime<Utc>),
}

impl NewestGood {
    /// Finds the newest good backup of the job in the store.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn read(store: &dyn Store, job: &str, options: &CatalogOptions) -> Result<NewestGood> {
        let backups = StoreState::read(store, job, options).await?.backups();
        let newest = retention::freshness(&backups, job, options.now, Duration::ZERO).newest;
        let started = newest.and_then(|(id, _)| backups.iter().find(|backup| backup.id == id));
        Ok(started.map_or(NewestGood::Missing, |backup| NewestGood::At(backup.started)))
    }

    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            NewestGood::At(at) => Some(at.trunc_subsecs(0)),
            NewestGood::Missing | NewestGood::Unknown => None,
        }
        .serialize(serializer)
    }
}

/// The facts of a run that failed.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct RunFailure {
    pub error: String,
    pub next_step: Option<String>,
    #[serde(skip)]
    pub exit: Exit,
    #[serde(rename = "newest_good_at", serialize_with = "NewestGood::serialize")]
    #[schemars(with = "Option<DateTime<Utc>>")]
    pub newest_good: NewestGood,
    /// The age from which the newest good backup is too old.
    #[serde(skip)]
    pub max_age: Duration,
    /// The last lines of the log.
    #[serde(serialize_with = "last_lines")]
    pub log: Vec<String>,
}

impl RunFailure {
    /// The facts of a run that ended with `error`.
    pub fn of(error: &Error, log: Vec<String>, newest_good: NewestGood, max_age: Duration) -> RunFailure {
        RunFailure {
            error: error.chain(),
            next_step: error.next_step().map(str::to_string),
            exit: error.exit(),
            newest_good,
            max_age,
            log,
        }
    }

    /// The age of the newest good backup, if it is too old, and how many times `max_age` that is.
    pub(super) fn too_old(&self, now: DateTime<Utc>) -> Option<(Duration, u32)> {
        let NewestGood::At(at) = self.newest_good else { return None };
        let age = between(at, now);
        let times = age.as_secs() / self.max_age.as_secs().max(1);
        (age > self.max_age).then_some((age, u32::try_from(times).unwrap_or(u32::MAX)))
    }
}

/// A backup that a cleanup deleted.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct Deletion {
    pub id: String,
    #[serde(skip)]
    pub age: Duration,
    pub stored_bytes: u64,
    pub reason: String,
}

/// A place that a cleanup looked through.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct CleanedPlace {
    pub name: String,
    /// A path or an `s3://` address.
    pub place: String,
    /// Nothing was deleted there until a person has looked.
    pub frozen: bool,
    pub deleted: Vec<Deletion>,
    /// The number of backups that remain.
    pub kept: u64,
    pub kept_bytes: u64,
    #[serde(rename = "newest_good_at")]
    pub newest_good: Option<DateTime<Utc>>,
}

/// The facts of a cleanup that was not frozen. With copies, the place and the figures are those of the first place.
#[derive(Debug, Clone, Default, JsonSchema, Serialize)]
pub struct CleanupSuccess {
    pub place: String,
    pub deleted: Vec<Deletion>,
    /// The number of backups that were kept.
    pub kept: u64,
    pub kept_bytes: u64,
    /// Failures and other problems that a person should look at.
    pub problems: Vec<String>,
    /// Leftovers of killed runs that the cleanup removed.
    pub notes: Vec<String>,
    /// Every place that was cleaned, if there are copies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<CleanedPlace>,
    /// The most backups that a recent cleanup deleted, if this one deleted far more. Only the notifier knows it.
    #[serde(skip)]
    pub exceeds: Option<u64>,
}

impl CleanupSuccess {
    /// Returns true if the cleanup deleted nothing and found no problem.
    pub(super) fn is_idle(&self) -> bool {
        self.most_deleted() == 0 && self.problems.is_empty()
    }

    /// The number of backups that were deleted in the place that lost most.
    pub(super) fn most_deleted(&self) -> u64 {
        let deleted = [&self.deleted].into_iter().chain(self.places.iter().map(|place| &place.deleted));
        deleted.map(|deleted| deleted.len() as u64).max().unwrap_or(0)
    }

    /// Returns true if a person need not know of the cleanup at once.
    pub(super) fn is_routine(&self) -> bool {
        self.problems.is_empty() && self.exceeds.is_none()
    }
}

/// The facts of a cleanup that deletes nothing until a person has looked. With copies, the figures count the frozen places.
#[derive(Debug, Clone, Default, JsonSchema, Serialize)]
pub struct CleanupFrozen {
    pub place: String,
    /// The reasons, each with its next step.
    pub why: Vec<String>,
    /// How many backups would be deleted.
    pub waiting: u64,
    pub backups: u64,
    pub problems: Vec<String>,
    /// Every place that was looked through, if there are copies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<CleanedPlace>,
}

/// The facts of a run that stored the oplog.
#[derive(Debug, Clone, Default, JsonSchema, Serialize)]
pub struct OplogSuccess {
    pub place: String,
    /// The number of slices that the run stored.
    pub slices: u64,
    pub entries: u64,
    pub raw_bytes: u64,
    pub stored_bytes: u64,
    /// The time up to which points in time can be restored; `None` if nothing is stored yet.
    #[serde(rename = "end_at")]
    pub end: Option<DateTime<Utc>>,
    /// The beginning of the chain.
    #[serde(skip)]
    pub chain_start: Option<DateTime<Utc>>,
    /// The run began the chain after a gap.
    #[serde(skip)]
    pub gap: bool,
    /// The time of the newest barrier that the run stored.
    #[serde(skip)]
    pub barrier: Option<DateTime<Utc>>,
    /// Gaps, barriers, and other problems that a person should look at.
    pub problems: Vec<String>,
    /// Problems that the run solved.
    pub notes: Vec<String>,
    /// The run stored a gap or a barrier, which is mailed at once. Other problems may last, and are mailed once a day.
    #[serde(skip)]
    pub urgent: bool,
}

/// The report of `stats` or `health` for a mail.
#[derive(Debug, Clone)]
pub struct ReportMail {
    pub tone: Tone,
    /// Status and job, for the subject line: `health: 2 checks failed: db1`.
    pub subject: String,
    /// The same in a sentence.
    pub headline: String,
    pub facts: Vec<(String, String)>,
    pub paragraphs: Vec<String>,
    pub tables: Vec<Table>,
    pub next_step: Option<String>,
}

/// The result of a check of `health`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    Ok,
    /// A backup will work, but a person should look.
    Warning,
    /// A person must do something.
    Failed,
    /// Not run: not selected, or a check that it depends on failed, or there is nothing to check yet.
    Skipped,
    /// The settings for it are not set.
    NotConfigured,
}

impl CheckOutcome {
    /// The word in reports.
    pub fn word(self) -> &'static str {
        match self {
            CheckOutcome::Ok => "ok",
            CheckOutcome::Warning => "warning",
            CheckOutcome::Failed => "failed",
            CheckOutcome::Skipped => "skipped",
            CheckOutcome::NotConfigured => "not configured",
        }
    }
}

/// A check of `health` and its result. Serializes as docs/json.md describes it.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct CheckRow {
    pub name: &'static str,
    /// The name of the place that was checked, if there are copies; `None` for a check of no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    pub outcome: CheckOutcome,
    pub detail: String,
    /// How long the check took; zero if it was not run.
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    #[schemars(with = "u64")]
    pub took: Duration,
    /// What to do; always set after a failure and a warning.
    pub next_step: Option<String>,
}

impl CheckRow {
    /// The name of the check, and of the place if there are copies.
    pub fn label(&self) -> String {
        match &self.place {
            Some(place) => format!("{} {place}", self.name),
            None => self.name.into(),
        }
    }
}

fn milliseconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(took.as_millis() as u64)
}

/// The time between two dates; zero if the clock was set back in between.
pub(super) fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    (to - from).to_std().unwrap_or_default()
}

fn last_lines<S: Serializer>(log: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    log[log.len().saturating_sub(LOG_LINES)..].serialize(serializer)
}
