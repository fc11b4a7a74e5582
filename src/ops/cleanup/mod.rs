//! `cleanup`: look at the whole store, plan, and only then delete.
//!
//! [`state`] reads what there is; [`crate::retention`] decides; [`delete`] takes a backup away so that a
//! run which is killed at any step leaves what the next one finishes. Only what a manifest or tombstone
//! of this job names is deleted. What was deleted halfway, without its manifest, is finished first; where
//! the manifest is still there, the backup still exists, and is decided on like any other.

mod delete;
mod expired;
mod looks;
mod orphans;

use std::collections::BTreeSet;
use std::path::PathBuf;

use chrono::{DateTime, Utc};

use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::units::several;
use crate::catalog::known::Known;
use crate::catalog::marks::{self, Mark, Tombstone};
use crate::catalog::{Reading, layout};
use crate::config::choices::Policy;
use crate::model::id::BackupId;
use crate::notify;
use crate::notify::events::{Cleanup, Deletion, Frozen};
use crate::retention;
use crate::retention::{Action, Circumstances, Plan};
use crate::store::leftovers;
use crate::store::{Deleted, Store};

use crate::catalog::state::State;
use delete::Done;
pub use orphans::Orphan;

/// What may go, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The line of backups.
    pub job: String,
    /// How long they are kept.
    pub policy: Policy,
    /// Backups that a person looked at and found right.
    pub accept: Vec<BackupId>,
    /// Many may go at once.
    pub force: bool,
    /// Artifacts without a manifest go as well.
    pub orphans: bool,
    /// Nothing is changed.
    pub dry_run: bool,
    /// The directory that remembers uploads under way.
    pub state_dir: Option<PathBuf>,
    /// The machine's name.
    pub host: String,
    /// The backups that records know of the place, where the state directory knows nothing of it.
    pub recorded: BTreeSet<BackupId>,
}

/// What became of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It stays.
    Kept,
    /// It went.
    Deleted,
    /// It would go.
    Planned,
    /// It would go, but the plan is frozen.
    Frozen,
    /// It would go, but its retention period (Object Lock) has not ended.
    Locked,
    /// It did not go, or not all of it.
    Failed,
}

/// A backup, and what became of it.
#[derive(Debug, Clone)]
pub struct Row {
    /// The backup.
    pub id: BackupId,
    /// When it began.
    pub started: DateTime<Utc>,
    /// The size of its artifact in bytes.
    pub stored_bytes: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Why it stays or goes.
    pub reason: String,
}

/// What a clean-up did.
#[derive(Debug)]
pub struct Report {
    /// The job.
    pub job: String,
    /// The place, in words.
    pub place: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Why nothing was deleted; empty when all is well.
    pub frozen: Vec<String>,
    /// The backups of the job, newest first.
    pub backups: Vec<Row>,
    /// Deletions of earlier runs that were finished (or would be).
    pub finished: Vec<BackupId>,
    /// Failed runs of the job that are no longer spoken of (or would not be).
    pub expired: Vec<BackupId>,
    /// Artifacts without a manifest, of any job.
    pub orphans: Vec<Orphan>,
    /// Backups, of any job, whose manifests are archived: they are neither counted nor deleted.
    pub archived: Vec<BackupId>,
    /// What failed or needs a look.
    pub problems: Vec<String>,
    /// What was cleared up on the way.
    pub notes: Vec<String>,
    /// The bytes of something that was deleted remain in the store.
    hidden: bool,
}

impl Report {
    /// What went.
    pub fn deleted(&self) -> Vec<BackupId> {
        let went = self.backups.iter().filter(|row| row.outcome == Outcome::Deleted);
        went.map(|row| row.id.clone()).chain(self.finished.iter().cloned()).collect()
    }

    /// What notifications say about this run.
    pub fn outcome(&self, now: DateTime<Utc>) -> notify::Outcome {
        let with = |outcome| self.backups.iter().filter(move |row| row.outcome == outcome);
        if !self.frozen.is_empty() {
            return notify::Outcome::Frozen(Frozen {
                place: self.place.clone(),
                why: self.frozen.clone(),
                waiting: with(Outcome::Frozen).count() as u64,
                backups: self.backups.len() as u64,
                problems: self.problems.clone(),
            });
        }
        let deletion = |row: &Row| Deletion {
            id: row.id.to_string(),
            age: (now - row.started).to_std().unwrap_or_default(),
            stored_bytes: row.stored_bytes,
            reason: row.reason.clone(),
        };
        notify::Outcome::Cleanup(Cleanup {
            place: self.place.clone(),
            deleted: with(Outcome::Deleted).map(deletion).collect(),
            kept: with(Outcome::Kept).count() as u64,
            kept_bytes: with(Outcome::Kept).map(|row| row.stored_bytes).fold(0, u64::saturating_add),
            problems: self.problems.clone(),
            notes: self.notes.clone(),
        })
    }

    /// The backups that are about to be deleted.
    fn going(&self) -> impl Iterator<Item = BackupId> {
        let going = self.backups.iter().filter(|row| row.outcome == Outcome::Deleted);
        going.map(|row| row.id.clone()).collect::<Vec<_>>().into_iter()
    }

    /// 0, or 3 if a person should look.
    pub fn exit(&self) -> Exit {
        if self.frozen.is_empty() && self.problems.is_empty() { Exit::Done } else { Exit::NeedsLook }
    }
}

/// Cleans up. `now` is this machine's clock.
pub async fn cleanup(store: &dyn Store, options: &Options, now: DateTime<Utc>) -> Result<Report> {
    store.check().await?;
    let mut notes = Vec::new();
    if !options.dry_run {
        notes.extend(leftovers::sweep(options.state_dir.as_deref(), store).await);
    }
    let store_clock = store.clock().await?;
    let reading = Reading {
        recorded: options.recorded.clone(),
        ..Reading::remembering(options.state_dir.clone(), now)
    };
    let mut state = State::read(store, &options.job, &reading).await?;
    accept(store, &mut state, options, now).await?;
    let around = Circumstances {
        job: options.job.clone(),
        now,
        store_clock,
        force: options.force,
        unreadable: state.unreadable.clone(),
    };
    let plan = retention::plan(&state.backups(), &options.policy, &around);
    let mut report = Report {
        job: options.job.clone(),
        place: store.place(),
        dry_run: options.dry_run,
        frozen: plan.frozen.clone(),
        backups: rows(&plan, &state, options.dry_run),
        finished: Vec::new(),
        expired: Vec::new(),
        orphans: orphans::find(&state, store_clock),
        archived: state.archived.clone(),
        problems: looks::problems(&state, &plan, &options.policy),
        notes,
        hidden: false,
    };
    if !report.archived.is_empty() {
        report.notes.push(format!(
            "{} with an archived manifest: retention neither counts nor deletes them; let the bucket's lifecycle rule \
             expire them",
            several(report.archived.len() as u64, "backup")
        ));
    }
    let place = report.place.clone();
    let known = |change: &dyn Fn(&mut Known)| {
        if !options.dry_run && state.absent.is_none() {
            Known::update(options.state_dir.as_deref(), &place, change);
        }
    };
    // Before the first one goes: a run that is killed cannot say afterwards what it deleted.
    let halfway = state.halfway.iter().map(|(tombstone, _)| tombstone.id.clone());
    let going: Vec<BackupId> = report.going().chain(halfway).collect();
    known(&|known| known.deleted.extend(going.iter().cloned()));
    finish(store, &state, &mut report).await;
    apply(store, &state, &mut report, now).await;
    expired::delete(store, &state, options, &mut report, now).await;
    let gone = report.deleted();
    known(&|known| known.backups.retain(|id| !gone.contains(id)));
    let orphans = options.orphans && report.frozen.is_empty();
    if orphans {
        orphans::delete(store, &mut report).await;
    }
    if report.hidden {
        let place = &report.place;
        match store.versions_expire().await {
            Some(true) => {}
            Some(false) => report.problems.push(format!(
                "{place} keeps versions: the deleted objects are hidden, its bytes remain and cost; let a lifecycle rule \
                 of the bucket expire noncurrent versions"
            )),
            None => report.problems.push(format!(
                "{place} keeps versions: the deleted objects are hidden, its bytes remain and cost; let a lifecycle rule \
                 of the bucket expire noncurrent versions, and set S3_VERSIONED=true or allow \
                 s3:GetLifecycleConfiguration"
            )),
        }
    }
    report.notes.extend(store.retries());
    Ok(report)
}

/// Writes down that a person found these backups right.
async fn accept(store: &dyn Store, state: &mut State, options: &Options, now: DateTime<Utc>) -> Result<()> {
    for id in &options.accept {
        if !state.accept(id) {
            return Err(Error::failed(format!("the job {} has no backup {id} to accept", options.job))
                .hint("`uzima-backup list` shows the backups and their jobs"));
        }
    }
    for id in options.accept.iter().filter(|_| !options.dry_run) {
        let host = options.host.clone();
        let mark = Mark { format: marks::FORMAT, id: id.clone(), at: now, host, reason: None };
        mark.write(store, &layout::accepted(id)).await?;
    }
    Ok(())
}

fn rows(plan: &Plan, state: &State, dry_run: bool) -> Vec<Row> {
    let outcome = |action| match action {
        Action::Keep => Outcome::Kept,
        Action::Delete if !plan.frozen.is_empty() => Outcome::Frozen,
        Action::Delete if dry_run => Outcome::Planned,
        Action::Delete => Outcome::Deleted,
    };
    let row = |decision: &retention::Decision| {
        let manifest = &state.found(&decision.id).manifest;
        Row {
            id: decision.id.clone(),
            started: manifest.started_at,
            stored_bytes: manifest.artifact.size,
            outcome: outcome(decision.action),
            reason: decision.reason.clone(),
        }
    };
    plan.decisions.iter().map(row).collect()
}

/// Finishes what earlier runs left halfway, unless the plan is frozen.
async fn finish(store: &dyn Store, state: &State, report: &mut Report) {
    if !report.frozen.is_empty() {
        return;
    }
    let pinned = state.halfway.iter().filter(|(_, pinned)| *pinned);
    report.problems.extend(pinned.map(|(Tombstone { id, .. }, _)| {
        format!(
            "the deletion of {id} was begun and its manifest is gone, but it is pinned: what is left of it stays; \
             `uzima-backup unpin {id}` lets it go"
        )
    }));
    let open: Vec<&Tombstone> =
        state.halfway.iter().filter(|(_, pinned)| !pinned).map(|(tombstone, _)| tombstone).collect();
    let done = match report.dry_run {
        true => open.iter().map(|_| Ok(Done::Went(Deleted::Gone))).collect(),
        false => delete::rest(store, &open).await,
    };
    for (tombstone, done) in open.into_iter().zip(done) {
        match done {
            Ok(Done::Went(left)) => {
                report.finished.push(tombstone.id.clone());
                report.hidden |= left == Deleted::Hidden;
            }
            Ok(Done::Locked(why)) => {
                report.notes.push(format!("the rest of the deleted backup {} stays: {why}", tombstone.id));
            }
            Ok(Done::Stays) => {}
            Err(problems) => report.problems.extend(problems),
        }
    }
}

/// Deletes what goes. What cannot be deleted is told, and the rest goes on.
async fn apply(store: &dyn Store, state: &State, report: &mut Report, now: DateTime<Utc>) {
    let may = report.frozen.is_empty() && !report.dry_run;
    for row in report.backups.iter_mut().filter(|row| row.outcome == Outcome::Kept) {
        // An earlier run began to delete it, and since then it was pinned or accepted.
        if state.found(&row.id).doomed()
            && may
            && let Err(problems) = delete::retract(store, &row.id).await
        {
            row.outcome = Outcome::Failed;
            report.problems.extend(problems);
        }
    }
    let job = &report.job;
    let going: Vec<&mut Row> =
        report.backups.iter_mut().filter(|row| row.outcome == Outcome::Deleted).collect();
    let tombstone = |row: &&mut Row| state.found(&row.id).tombstone(&row.id, job, now, &row.reason);
    let tombstones: Vec<Tombstone> = going.iter().map(tombstone).collect();
    for (row, done) in going.into_iter().zip(delete::backups(store, &tombstones, now).await) {
        match done {
            Ok(Done::Went(left)) => report.hidden |= left == Deleted::Hidden,
            Ok(Done::Stays) => {
                row.outcome = Outcome::Kept;
                row.reason = "pinned just now".into();
            }
            Ok(Done::Locked(why)) => {
                row.outcome = Outcome::Locked;
                row.reason = format!("{why}; then it goes: {}", row.reason);
            }
            Err(problems) => {
                row.outcome = Outcome::Failed;
                report.problems.extend(problems);
            }
        }
    }
}
