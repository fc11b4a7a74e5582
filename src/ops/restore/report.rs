//! The result of a restore, and its exit code.

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::continued::ContinuedFacts;
use crate::base::error::Error;
use crate::base::exit::Exit;
use crate::catalog::choose::SkippedBackup;
use crate::model::optime::OpTime;
use crate::model::slice::ChainId;
use crate::model::tally::Tally;

/// The facts that a plan and a report have in common.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct RestoreFacts {
    /// The version of the JSON format.
    pub version: u8,
    /// The backup or dump, for messages.
    pub from: String,
    /// `None` for a dump.
    pub id: Option<String>,
    /// `None` for a dump.
    pub job: Option<String>,
    /// The start of the backup; `None` for a dump.
    pub started_at: Option<DateTime<Utc>>,
    /// `host:port`.
    pub target: String,
    /// The selection in words if the backup has only a part of its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// True if the target is the server that is backed up.
    #[serde(skip)]
    pub onto_source: bool,
    /// Newer backups of the job that were not chosen, newest first.
    pub skipped: Vec<SkippedBackup>,
    /// Notes about consequences of the given options.
    pub notes: Vec<String>,
    /// The instant of the restored data, if all of it is of one instant.
    pub at: Option<OpTime>,
    /// With `--filter`: the filter, as the user gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// True with `--merge`.
    pub merge: bool,
    /// With `--swap`: the restore's own id, for `--undo` and `--discard`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_id: Option<String>,
    /// The oplog slices that lead from the backup to a point in time; `None` if the backup is restored alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub point: Option<PointFacts>,
    /// With `--continue`: what was continued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continued: Option<ContinuedFacts>,
}

/// The oplog slices that lead from a backup to a point in time.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct PointFacts {
    pub chain: Option<ChainId>,
    /// The number of slices that are replayed.
    pub slices: u64,
    /// The length of their entries in bytes.
    pub raw_bytes: u64,
    pub stored_bytes: u64,
    /// The backup's own instant.
    pub base_at: OpTime,
    /// The last optime that could be restored.
    pub end: OpTime,
}

impl RestoreFacts {
    /// The target for messages, with a remark if it is the server that is backed up.
    pub fn target_text(&self) -> String {
        let source = if self.onto_source { ", the server that is backed up" } else { "" };
        format!("{}{source}", self.target)
    }
}

/// A difference between the backup and the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problem {
    #[serde(skip)]
    pub kind: ProblemKind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The target refused documents, or the replay could not apply operations.
    Documents,
    /// The number of documents at the target differs from the number that was written.
    Count,
    /// The target refused an index.
    Index,
    /// The namespace, or users and roles, are not restored completely. Another restore may succeed.
    Incomplete,
    /// The namespace is not restored completely, because its data differs from the data that the oplog was written for.
    Diverged,
}

impl ProblemKind {
    /// Returns true if something is not restored completely.
    fn is_incomplete(self) -> bool {
        matches!(self, ProblemKind::Incomplete | ProblemKind::Diverged)
    }

    pub(crate) fn problem(self, text: String) -> Problem {
        Problem { kind: self, text }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The result of a replay.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema, Serialize)]
pub struct Replayed {
    pub entries: u64,
    /// The number of operations carried out.
    pub operations: u64,
    pub left_out: u64,
    pub open_transactions: u64,
    /// Restored namespaces that the replay dropped, because they were dropped while the backup ran.
    pub gone: Vec<String>,
    /// Namespaces that only the slice has.
    pub came: Vec<String>,
    /// The number of indexes built on the namespaces in `came`.
    pub indexes: u64,
    #[serde(skip)]
    pub indexing: Duration,
    #[schemars(with = "Vec<String>")]
    pub problems: Vec<Problem>,
}

/// The result of restoring a namespace.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema, Serialize)]
pub struct NamespaceOutcome {
    /// The name in the backup.
    pub from: String,
    /// The name at the target.
    pub to: String,
    /// The number of documents sent.
    pub documents: u64,
    /// The length of the documents in bytes.
    pub raw_bytes: u64,
    /// Sent documents that were replaced by a document with the same `_id` that the backup read later.
    pub superseded: u64,
    /// Documents that the server refused.
    pub refused: u64,
    /// The sent documents that are at the target: all except the superseded ones.
    #[serde(skip)]
    pub kept: Tally,
    /// The number of indexes built.
    pub indexes: u64,
    #[serde(skip)]
    pub indexing: Duration,
    #[schemars(with = "Vec<String>")]
    pub problems: Vec<Problem>,
    pub notes: Vec<String>,
    /// With `--filter` or `--merge`: what was done with the documents.
    #[serde(flatten)]
    pub chosen: ChosenCounts,
    /// How to remove the cause, if the namespace is incomplete and the cause is known.
    #[serde(skip)]
    pub next_step: Option<String>,
}

/// The documents of a namespace that a filter and a merge choose.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub struct ChosenCounts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filtered: Option<FilterCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged: Option<MergeCounts>,
}

impl ChosenCounts {
    pub(super) fn add(&mut self, more: ChosenCounts) {
        if let Some(FilterCounts { examined, matched }) = more.filtered {
            let filtered = self.filtered.get_or_insert_default();
            filtered.examined += examined;
            filtered.matched += matched;
        }
        if let Some(merged) = more.merged {
            self.merged.get_or_insert_default().add(merged);
        }
    }
}

/// The documents of a namespace that a filter chooses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub struct FilterCounts {
    /// The documents of the namespace at the instant of the restored data.
    pub examined: u64,
    pub matched: u64,
}

/// The documents of a namespace that are merged into the target.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub struct MergeCounts {
    pub inserted: u64,
    /// Documents that the target has with the same bytes.
    pub equal: u64,
    /// Documents whose `_id` the target has with other content. They were not changed.
    pub different: u64,
    /// The `_id`s of the first different documents, in relaxed Extended JSON.
    pub different_ids: Vec<String>,
}

/// The most `_id`s of different documents that a report lists for a namespace.
const DIFFERENT: usize = 10;

impl MergeCounts {
    /// Counts a document whose `_id` the target has.
    pub(super) fn present(&mut self, id: impl FnOnce() -> String, equal: bool) {
        self.equal += u64::from(equal);
        self.different += u64::from(!equal);
        if !equal && self.different_ids.len() < DIFFERENT {
            self.different_ids.push(id());
        }
    }

    pub(super) fn add(&mut self, more: MergeCounts) {
        self.inserted += more.inserted;
        self.equal += more.equal;
        self.different += more.different;
        self.different_ids.extend(more.different_ids);
        self.different_ids.truncate(DIFFERENT);
    }
}

impl NamespaceOutcome {
    /// Returns true if the whole namespace is at the target, apart from refused documents and indexes.
    pub fn is_complete(&self) -> bool {
        !self.problems.iter().any(|problem| problem.kind.is_incomplete())
    }
}

/// The collections of a swap, in its report.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct SwapReport {
    /// The restore's own id, for `--undo` and `--discard`.
    pub id: String,
    pub collections: Vec<SwappedCollection>,
}

/// A collection that was moved in.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct SwappedCollection {
    pub namespace: String,
    /// The name of the collection that was there before; null if there was none.
    pub kept: Option<String>,
}

/// The result of a restore.
#[derive(Debug, JsonSchema, Serialize)]
pub struct RestoreReport {
    #[serde(flatten)]
    pub facts: RestoreFacts,
    /// Sorted by name.
    #[serde(rename = "namespaces")]
    pub outcomes: Vec<NamespaceOutcome>,
    /// Namespaces that were dropped without a replacement from the backup: by `--exact`, or because only the
    /// slice writes to them.
    pub dropped: Vec<String>,
    pub users: Option<usize>,
    pub roles: Option<usize>,
    pub replayed: Option<Replayed>,
    /// The names at the target of incomplete namespaces.
    pub missing: Vec<String>,
    /// Users and roles that could not be restored, and namespaces that could not be dropped.
    #[schemars(with = "Vec<String>")]
    pub problems: Vec<Problem>,
    /// How to restore the rest; `None` if everything is restored.
    pub next_step: Option<String>,
    /// With `--swap`: the collections that were moved in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<SwapReport>,
    /// Warnings; they lead to exit code 3.
    pub warnings: Vec<String>,
}

impl RestoreReport {
    /// The error that names the incomplete parts, with the next step; `None` if everything is restored.
    pub fn failure(&self) -> Option<Error> {
        self.failure_by(ProblemKind::is_incomplete)
    }

    /// The error that names the parts that the target could not take.
    pub(crate) fn failure_of_target(&self) -> Option<Error> {
        self.failure_by(|kind| kind == ProblemKind::Incomplete)
    }

    fn failure_by(&self, counts: impl Fn(ProblemKind) -> bool) -> Option<Error> {
        let is_incomplete = |problem: &&Problem| counts(problem.kind);
        let line = |(name, problem): (&String, &Problem)| format!("{name}: {problem}");
        let named = self.outcomes.iter().flat_map(|one| one.problems.iter().map(|p| (&one.to, p)));
        let named = named.filter(|(_, problem)| is_incomplete(problem)).map(line);
        let others = self.replayed.iter().flat_map(|replayed| &replayed.problems).chain(&self.problems);
        let others = others.filter(is_incomplete).map(Problem::to_string);
        let lines: Vec<String> = named.chain(others).collect();
        let step = self.next_step.clone();
        (!lines.is_empty()).then(|| {
            let lines = lines.join(". ");
            let error =
                Error::failed(format!("the restore is not complete; everything else was restored. {lines}"));
            step.into_iter().fold(error, Error::hint)
        })
    }

    /// The exit code of a finished restore.
    ///
    /// # Errors
    /// Returns [`RestoreReport::failure`].
    pub fn conclude(&self) -> Result<Exit, Error> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        let replayed = self.replayed.as_ref().is_some_and(|replayed| !replayed.problems.is_empty());
        let named = self.outcomes.iter().any(|outcome| !outcome.problems.is_empty());
        let differs = named || replayed || !self.problems.is_empty();
        let notes = self.outcomes.iter().any(|outcome| !outcome.notes.is_empty());
        Ok(match (differs, !self.warnings.is_empty() || notes) {
            (true, _) => Exit::Failed,
            (false, true) => Exit::NeedsLook,
            (false, false) => Exit::Done,
        })
    }
}
