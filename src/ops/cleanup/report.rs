//! The report of a cleanup.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Orphan, SliceGroup};
use crate::base::exit::Exit;
use crate::model::id::BackupId;
use crate::notify::events::{CleanedPlace, CleanupFrozen, CleanupSuccess, Deletion, RunOutcome};

/// The result of a cleanup for a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CleanupOutcome {
    Kept,
    Deleted,
    /// The backup would be deleted without `--dry-run`.
    Planned,
    /// The backup would be deleted if the plan were not frozen.
    Frozen,
    /// The backup would be deleted, but its retention period (Object Lock) has not ended.
    Locked,
    /// The backup could not be deleted completely.
    Failed,
}

/// A backup of the job and its result.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct CleanupRow {
    pub id: BackupId,
    pub outcome: CleanupOutcome,
    /// Why the backup is kept or deleted.
    pub reason: String,
    pub started_at: DateTime<Utc>,
    /// The size of the artifact in bytes.
    pub stored_bytes: u64,
}

/// The result of a cleanup. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct CleanupReport {
    version: u32,
    pub job: String,
    /// The first place, or the only one that was to be cleaned. Its problems include those of the run.
    #[serde(flatten)]
    pub first: PlaceCleanup,
    /// The other places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<PlaceCleanup>,
}

/// The result of a cleanup in a place.
#[derive(Debug, JsonSchema, Serialize)]
pub struct PlaceCleanup {
    /// The name of the place if the settings have copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A path or an `s3://` address.
    pub place: String,
    /// Why the place could not be cleaned. It may have backups that are not listed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_cleaned: Option<String>,
    pub dry_run: bool,
    /// Why nothing was deleted; empty if the plan is not frozen.
    pub frozen: Vec<String>,
    /// The backups of the job, newest first.
    pub backups: Vec<CleanupRow>,
    /// Deletions of earlier runs that were finished (with `dry_run`: would be).
    pub finished: Vec<BackupId>,
    /// Failed runs whose failure objects were deleted (with `dry_run`: would be).
    pub expired: Vec<BackupId>,
    /// Artifacts without a manifest, of any job.
    pub orphans: Vec<Orphan>,
    /// The oplog slices of the job, oldest first, in groups with the same result.
    pub oplog: Vec<SliceGroup>,
    /// Backups of any job with an archived manifest, which are neither counted nor deleted.
    pub archived: Vec<BackupId>,
    /// Failures and other problems that a person should look at.
    pub problems: Vec<String>,
    pub notes: Vec<String>,
    /// True if the store keeps versions of a deleted object.
    #[serde(skip)]
    pub(super) hidden: bool,
    /// When the newest good backup began.
    #[serde(skip)]
    pub newest_good: Option<DateTime<Utc>>,
}

impl CleanupReport {
    /// The result of a cleanup of one place.
    pub fn of_place(job: &str, first: PlaceCleanup) -> CleanupReport {
        CleanupReport { version: 1, job: job.into(), first, copies: Vec::new() }
    }

    /// The results of all places, the first one before the copies.
    pub fn places(&self) -> impl Iterator<Item = &PlaceCleanup> {
        [&self.first].into_iter().chain(&self.copies)
    }

    /// The facts for the notifications. The run counts as frozen if any place is frozen.
    pub fn outcome(&self, now: DateTime<Utc>) -> RunOutcome {
        let problems = self.places().flat_map(PlaceCleanup::named_problems).collect();
        let places: Vec<CleanedPlace> = self.places().filter_map(|place| place.facts(now)).collect();
        let frozen: Vec<&PlaceCleanup> = self.places().filter(|place| !place.frozen.is_empty()).collect();
        if !frozen.is_empty() {
            let addresses: Vec<&str> = frozen.iter().map(|place| place.place.as_str()).collect();
            let count = |place: &&PlaceCleanup| place.with(CleanupOutcome::Frozen).count() as u64;
            return RunOutcome::Frozen(CleanupFrozen {
                place: addresses.join(", "),
                why: frozen.iter().flat_map(|place| place.frozen.iter().map(|why| place.line(why))).collect(),
                waiting: frozen.iter().map(count).sum(),
                backups: frozen.iter().map(|place| place.backups.len() as u64).sum(),
                problems,
                places,
            });
        }
        let notes = self.places().flat_map(|place| place.notes.iter().map(|note| place.line(note)));
        RunOutcome::Cleanup(CleanupSuccess {
            place: self.first.place.clone(),
            deleted: self.first.deletions(now),
            kept: self.first.kept_rows().count() as u64,
            kept_bytes: self.first.kept_bytes(),
            problems,
            notes: notes.collect(),
            places,
            exceeds: None,
        })
    }

    /// [`Exit::NeedsLook`] if a person should look at any place, else [`Exit::Done`].
    pub fn exit(&self) -> Exit {
        let is_done = |place: &PlaceCleanup| place.exit() == Exit::Done;
        if self.places().all(is_done) { Exit::Done } else { Exit::NeedsLook }
    }
}

impl PlaceCleanup {
    /// A result without backups.
    pub(super) fn of(place: String) -> PlaceCleanup {
        PlaceCleanup {
            name: None,
            place,
            not_cleaned: None,
            dry_run: false,
            frozen: Vec::new(),
            backups: Vec::new(),
            finished: Vec::new(),
            expired: Vec::new(),
            orphans: Vec::new(),
            oplog: Vec::new(),
            archived: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
            hidden: false,
            newest_good: None,
        }
    }

    /// [`Exit::NeedsLook`] if the plan is frozen or there are problems, else [`Exit::Done`].
    pub fn exit(&self) -> Exit {
        let is_done = self.frozen.is_empty() && self.problems.is_empty() && self.not_cleaned.is_none();
        if is_done { Exit::Done } else { Exit::NeedsLook }
    }

    /// The deleted backups.
    pub fn deleted(&self) -> Vec<BackupId> {
        self.going().chain(self.finished.iter().cloned()).collect()
    }

    /// The backups that the plan deletes.
    pub(super) fn going(&self) -> impl Iterator<Item = BackupId> {
        self.with(CleanupOutcome::Deleted).map(|row| row.id.clone())
    }

    /// A line about the place, with its name if there are copies.
    pub fn line(&self, text: &str) -> String {
        match &self.name {
            Some(name) => format!("{name}: {text}"),
            None => text.into(),
        }
    }

    /// The problems, each with the name of the place if there are copies.
    pub fn named_problems(&self) -> Vec<String> {
        self.not_cleaned.iter().chain(&self.problems).map(|problem| self.line(problem)).collect()
    }

    fn with(&self, outcome: CleanupOutcome) -> impl Iterator<Item = &CleanupRow> {
        self.backups.iter().filter(move |row| row.outcome == outcome)
    }

    fn kept_rows(&self) -> impl Iterator<Item = &CleanupRow> {
        self.with(CleanupOutcome::Kept)
    }

    fn kept_bytes(&self) -> u64 {
        self.kept_rows().map(|row| row.stored_bytes).fold(0, u64::saturating_add)
    }

    fn deletions(&self, now: DateTime<Utc>) -> Vec<Deletion> {
        let deletion = |row: &CleanupRow| Deletion {
            id: row.id.to_string(),
            age: (now - row.started_at).to_std().unwrap_or_default(),
            stored_bytes: row.stored_bytes,
            reason: row.reason.clone(),
        };
        self.with(CleanupOutcome::Deleted).map(deletion).collect()
    }

    /// The facts of a place that was cleaned, if there are copies.
    fn facts(&self, now: DateTime<Utc>) -> Option<CleanedPlace> {
        let name = self.name.clone().filter(|_| self.not_cleaned.is_none())?;
        let left = self.backups.iter().filter(|row| row.outcome != CleanupOutcome::Deleted);
        Some(CleanedPlace {
            name,
            place: self.place.clone(),
            frozen: !self.frozen.is_empty(),
            deleted: self.deletions(now),
            kept: left.clone().count() as u64,
            kept_bytes: left.map(|row| row.stored_bytes).fold(0, u64::saturating_add),
            newest_good: self.newest_good,
        })
    }
}
