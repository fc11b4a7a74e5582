//! The data that notifications are made from: how a run ended, and the facts of that end. The webhook serializes these types
//! as docs/json.md describes.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use super::message::{LOG_LINES, Table, Tone};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::catalog::CatalogOptions;
use crate::catalog::state::StoreState;
use crate::model::manifest::Manifest;
use crate::retention;
use crate::store::Store;

/// The operation that a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    Backup,
    Cleanup,
    /// Another operation that runs unattended, by its name.
    Other(&'static str),
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunKind::Backup => "backup",
            RunKind::Cleanup => "cleanup",
            RunKind::Other(word) => word,
        })
    }
}

/// The run that a notification is about.
#[derive(Debug, Clone)]
pub struct NotifiedRun {
    pub job: String,
    pub operation: RunKind,
    /// A name that no other run has: the id of a backup, or an id made in the same way for another operation.
    pub run: String,
}

impl NotifiedRun {
    /// The run in a subject line. Only the id of a backup is of use to a person.
    pub(super) fn name(&self) -> String {
        match self.operation {
            RunKind::Backup => format!("{} ({})", self.job, self.run),
            RunKind::Cleanup | RunKind::Other(_) => self.job.clone(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum RunOutcome {
    Success(BackupSuccess),
    /// Any operation failed.
    Failure(RunFailure),
    Cleanup(CleanupSuccess),
    /// A cleanup deletes nothing until a person has looked.
    Frozen(CleanupFrozen),
}

impl RunOutcome {
    /// The exit code of the run, unless a notification fails as well.
    pub fn exit(&self) -> Exit {
        match self {
            RunOutcome::Success(s) if s.warnings.is_empty() => Exit::Done,
            RunOutcome::Cleanup(c) if c.problems.is_empty() => Exit::Done,
            RunOutcome::Success(_) | RunOutcome::Cleanup(_) | RunOutcome::Frozen(_) => Exit::NeedsLook,
            RunOutcome::Failure(f) => f.exit,
        }
    }

    /// Returns true if nobody needs to know: another run held the lock, and there is a fresh backup.
    pub fn is_harmless(&self, now: DateTime<Utc>) -> bool {
        matches!(self, RunOutcome::Failure(failure) if failure.is_harmless(now))
    }
}

/// The facts of a backup that was made.
#[derive(Debug, Clone, Serialize)]
pub struct BackupSuccess {
    /// The place of the artifact.
    pub place: String,
    #[serde(rename = "started_at", serialize_with = "to_the_second")]
    pub started: DateTime<Utc>,
    /// When the artifact was complete.
    #[serde(rename = "finished_at", serialize_with = "to_the_second")]
    pub finished: DateTime<Utc>,
    pub engine: String,
    pub consistency: String,
    pub namespaces: u64,
    pub documents: u64,
    pub raw_bytes: u64,
    /// The size of the artifact.
    pub stored_bytes: u64,
    /// Problems that a person should look at.
    #[serde(rename = "problems")]
    pub warnings: Vec<String>,
    /// Problems that the run solved.
    pub notes: Vec<String>,
}

impl BackupSuccess {
    /// The backup of a manifest. The artifact is at `place`.
    pub fn of(manifest: &Manifest, place: &str) -> BackupSuccess {
        BackupSuccess {
            place: place.into(),
            started: manifest.started_at,
            finished: manifest.finished_at,
            engine: manifest.engine.name.clone(),
            consistency: manifest.consistency.achieved.clone(),
            namespaces: manifest.totals.namespaces,
            documents: manifest.totals.documents,
            raw_bytes: manifest.totals.raw_bytes,
            stored_bytes: manifest.artifact.size,
            warnings: manifest.warnings.clone(),
            notes: manifest.notes.clone(),
        }
    }
}

/// The newest good backup of a job.
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
            NewestGood::At(at) => to_the_second(at, serializer),
            NewestGood::Missing | NewestGood::Unknown => serializer.serialize_none(),
        }
    }
}

/// The facts of a run that failed.
#[derive(Debug, Clone, Serialize)]
pub struct RunFailure {
    /// The error and its causes.
    pub error: String,
    pub next_step: Option<String>,
    #[serde(skip)]
    pub exit: Exit,
    #[serde(rename = "newest_good_at", serialize_with = "NewestGood::serialize")]
    pub newest_good: NewestGood,
    /// The newest good backup is too old if it is older.
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

    fn is_harmless(&self, now: DateTime<Utc>) -> bool {
        self.exit == Exit::Busy
            && matches!(self.newest_good, NewestGood::At(_))
            && self.too_old(now).is_none()
    }
}

/// A backup that a cleanup deleted.
#[derive(Debug, Clone, Serialize)]
pub struct Deletion {
    pub id: String,
    #[serde(skip)]
    pub age: Duration,
    pub stored_bytes: u64,
    pub reason: String,
}

/// The facts of a cleanup that was not frozen.
#[derive(Debug, Clone, Default, Serialize)]
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
}

impl CleanupSuccess {
    /// Returns true if the cleanup deleted nothing and found no problem.
    pub(super) fn is_idle(&self) -> bool {
        self.deleted.is_empty() && self.problems.is_empty()
    }
}

/// The facts of a cleanup that deletes nothing until a person has looked.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CleanupFrozen {
    pub place: String,
    /// The reasons, each with its next step.
    pub why: Vec<String>,
    /// How many backups would be deleted.
    pub waiting: u64,
    /// How many backups there are.
    pub backups: u64,
    pub problems: Vec<String>,
}

/// The report of `stats` or `health` for a mail.
#[derive(Debug, Clone)]
pub struct ReportMail {
    pub tone: Tone,
    /// Status and job, for the subject line: `health: 2 checks failed: db1`.
    pub subject: String,
    /// The same as a sentence.
    pub headline: String,
    /// Pairs of label and value.
    pub facts: Vec<(String, String)>,
    pub paragraphs: Vec<String>,
    pub tables: Vec<Table>,
    pub next_step: Option<String>,
}

/// The result of one check of `health`.
#[derive(Debug, Clone)]
pub struct CheckResult {
    pub name: &'static str,
    /// The outcome in words.
    pub word: &'static str,
    /// [`Tone::Good`] also for a check that was skipped.
    pub tone: Tone,
    pub detail: String,
    pub took: Duration,
    pub next_step: Option<String>,
}

/// The time between; zero if a clock was set back meanwhile.
pub(super) fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    (to - from).to_std().unwrap_or_default()
}

fn to_the_second<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Secs, true))
}

fn last_lines<S: Serializer>(log: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    log[log.len().saturating_sub(LOG_LINES)..].serialize(serializer)
}
