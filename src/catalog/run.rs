//! A run of `backup`, as records, `list` and `stats` tell of it: what the store says, with what only
//! records know (that it runs now, that it was killed, that it was deleted).

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::marks::FailedRun;
use super::verdict::Verdict;
use crate::model::id::BackupId;
use crate::model::manifest::Manifest;

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It is under way.
    Running,
    /// The backup exists.
    Completed,
    /// It failed; there is no backup.
    Failed,
    /// It was killed, or its machine was: nobody said how it ended.
    Interrupted,
    /// There was a backup, which a clean-up deleted.
    Deleted,
}

/// Every status.
pub const STATUSES: [Status; 5] =
    [Status::Running, Status::Completed, Status::Failed, Status::Interrupted, Status::Deleted];

impl Status {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Interrupted => "interrupted",
            Status::Deleted => "deleted",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(word: &str) -> Result<Status, String> {
        let found = STATUSES.into_iter().find(|status| status.word() == word);
        found.ok_or_else(|| format!("a status is one of {}", STATUSES.map(Status::word).join(", ")))
    }
}

/// A run. What is not known is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupRun {
    /// The id of its backup, made or not.
    pub id: BackupId,
    /// The job.
    pub job: String,
    /// How it stands.
    pub status: Status,
    /// The machine it ran on.
    pub host: String,
    /// The store, in words.
    pub place: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What read.
    pub engine: Option<String>,
    /// To what time the documents belong.
    pub consistency: Option<String>,
    /// How many namespaces.
    pub namespaces: Option<u64>,
    /// How many documents.
    pub documents: Option<u64>,
    /// Their length in bytes.
    pub raw_bytes: Option<u64>,
    /// The size of the artifact in bytes.
    pub stored_bytes: Option<u64>,
    /// The key of the artifact.
    pub key: Option<String>,
    /// Why it failed: what, its causes, the next step.
    pub error: Option<String>,
    /// When and how it was last verified.
    pub verified: Option<Verified>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// The result of a verify.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// Whether every byte was as it should be.
    pub sound: bool,
    /// When a drill last restored it.
    pub drilled: Option<DateTime<Utc>>,
}

impl Verified {
    /// That of a verdict.
    pub fn of(verdict: &Verdict) -> Verified {
        let drilled = verdict.drill.as_ref().map(|drill| drill.at);
        Verified { at: verdict.at, sound: verdict.sound, drilled }
    }
}

impl BackupRun {
    /// A run that begins.
    pub fn begun(id: BackupId, job: &str, host: &str, place: &str, at: DateTime<Utc>) -> BackupRun {
        BackupRun {
            id,
            job: job.into(),
            status: Status::Running,
            host: host.into(),
            place: place.into(),
            started_at: at,
            finished_at: None,
            engine: None,
            consistency: None,
            namespaces: None,
            documents: None,
            raw_bytes: None,
            stored_bytes: None,
            key: None,
            error: None,
            verified: None,
            warnings: Vec::new(),
        }
    }

    /// The run that made a backup.
    pub fn completed<N>(manifest: &Manifest<N>, place: &str) -> BackupRun {
        BackupRun {
            status: Status::Completed,
            finished_at: Some(manifest.finished_at),
            engine: Some(manifest.engine.name.clone()),
            consistency: Some(manifest.consistency.achieved.clone()),
            namespaces: Some(manifest.totals.namespaces),
            documents: Some(manifest.totals.documents),
            raw_bytes: Some(manifest.totals.raw_bytes),
            stored_bytes: Some(manifest.artifact.size),
            key: Some(manifest.artifact.key.clone()),
            warnings: manifest.warnings.clone(),
            ..BackupRun::begun(manifest.id.clone(), &manifest.job, &manifest.host, place, manifest.started_at)
        }
    }

    /// The run that failed.
    pub fn failed(failure: &FailedRun, place: &str) -> BackupRun {
        let step = failure.next_step.as_ref().map(|step| format!(" (next step: {step})")).unwrap_or_default();
        BackupRun {
            status: Status::Failed,
            finished_at: Some(failure.failed_at),
            error: Some(format!("{}{step}", failure.error)),
            ..BackupRun::begun(failure.id.clone(), &failure.job, &failure.host, place, failure.started_at)
        }
    }

    /// How long it took.
    pub fn took(&self) -> Option<std::time::Duration> {
        (self.finished_at? - self.started_at).to_std().ok()
    }
}
