//! `cleanup`: reads the state of the whole store, plans, and only then deletes.
//!
//! [`crate::retention`] decides. Only objects that a manifest or tombstone of the job names are deleted ([`delete`]). A
//! deletion that an earlier run left unfinished, without the manifest, is finished first. If the manifest still exists, the
//! backup still exists, and retention decides again. [`run_cleanup`] adds the lock, the records and the notices.

mod delete;
mod expired;
mod looks;
mod orphans;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::lock;
use crate::base::units::several;
use crate::catalog::marks::{self, Mark, Tombstone};
use crate::catalog::place_files::KnownBackups;
use crate::catalog::{CatalogOptions, layout, records};
use crate::config::choices::Policy;
use crate::model::id::BackupId;
use crate::notify;
use crate::notify::events::{CleanupFrozen, CleanupSuccess, Deletion, RunKind};
use crate::notify::run::{Run, RunNotices};
use crate::retention;
use crate::retention::{PlanContext, RetentionAction, RetentionPlan};
use crate::store::leftovers;
use crate::store::{self, Deleted, Store};

use crate::catalog::state::StoreState;
use delete::DeleteOutcome;
pub use orphans::Orphan;

/// What a clean-up may delete, and how.
#[derive(Debug, Clone)]
pub struct CleanupOptions {
    /// The job whose backups may go.
    pub job: String,
    /// How long its backups are kept.
    pub policy: Policy,
    /// Backups that a person has checked and accepts.
    pub accept: Vec<BackupId>,
    /// Deletes more backups at once than is usual.
    pub force: bool,
    /// Deletes artifacts without a manifest as well.
    pub orphans: bool,
    /// Changes nothing.
    pub dry_run: bool,
    /// The directory that remembers uploads under way.
    pub state_dir: Option<PathBuf>,
    /// The name of this machine.
    pub host: String,
    /// The backups that the records list for the place. Used if the state directory does not know the place.
    pub recorded: BTreeSet<BackupId>,
}

/// What a clean-up did with a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CleanupOutcome {
    /// The backup stays.
    Kept,
    /// The backup was deleted.
    Deleted,
    /// The backup would be deleted without `--dry-run`.
    Planned,
    /// The backup would be deleted if the plan were not frozen.
    Frozen,
    /// The backup is due, but its retention period (Object Lock) has not ended.
    Locked,
    /// The backup, or a part of it, could not be deleted.
    Failed,
}

/// A backup of the job, and what the clean-up did with it.
#[derive(Debug, Clone, Serialize)]
pub struct CleanupRow {
    pub id: BackupId,
    pub outcome: CleanupOutcome,
    /// Why the backup stays or goes.
    pub reason: String,
    pub started_at: DateTime<Utc>,
    /// The size of its artifact in bytes.
    pub stored_bytes: u64,
}

/// What a clean-up did. Serializes as docs/json.md describes it.
#[derive(Debug, Serialize)]
pub struct CleanupReport {
    version: u32,
    /// The job.
    pub job: String,
    /// The place: a path or an `s3://` address.
    pub place: String,
    /// Nothing was changed.
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
    /// Backups of any job with an archived manifest, which are neither counted nor deleted.
    pub archived: Vec<BackupId>,
    /// What failed or needs a look.
    pub problems: Vec<String>,
    /// What else happened.
    pub notes: Vec<String>,
    /// The store keeps versions of a deleted object.
    #[serde(skip)]
    hidden: bool,
}

impl CleanupReport {
    /// The deleted backups.
    pub fn deleted(&self) -> Vec<BackupId> {
        self.going().chain(self.finished.iter().cloned()).collect()
    }

    /// What notifications say about this run.
    pub fn outcome(&self, now: DateTime<Utc>) -> notify::events::RunOutcome {
        let with = |outcome| self.backups.iter().filter(move |row| row.outcome == outcome);
        if !self.frozen.is_empty() {
            return notify::events::RunOutcome::Frozen(CleanupFrozen {
                place: self.place.clone(),
                why: self.frozen.clone(),
                waiting: with(CleanupOutcome::Frozen).count() as u64,
                backups: self.backups.len() as u64,
                problems: self.problems.clone(),
            });
        }
        let deletion = |row: &CleanupRow| Deletion {
            id: row.id.to_string(),
            age: (now - row.started_at).to_std().unwrap_or_default(),
            stored_bytes: row.stored_bytes,
            reason: row.reason.clone(),
        };
        notify::events::RunOutcome::Cleanup(CleanupSuccess {
            place: self.place.clone(),
            deleted: with(CleanupOutcome::Deleted).map(deletion).collect(),
            kept: with(CleanupOutcome::Kept).count() as u64,
            kept_bytes: with(CleanupOutcome::Kept).map(|row| row.stored_bytes).fold(0, u64::saturating_add),
            problems: self.problems.clone(),
            notes: self.notes.clone(),
        })
    }

    fn going(&self) -> impl Iterator<Item = BackupId> {
        let going = self.backups.iter().filter(|row| row.outcome == CleanupOutcome::Deleted);
        going.map(|row| row.id.clone())
    }

    /// [`Exit::NeedsLook`] if the plan is frozen or there are problems, else [`Exit::Done`].
    pub fn exit(&self) -> Exit {
        if self.frozen.is_empty() && self.problems.is_empty() { Exit::Done } else { Exit::NeedsLook }
    }
}

/// The flags of `cleanup`.
#[derive(Debug, Clone, Default)]
pub struct CleanupRequest {
    /// Backups that a person has checked and accepts.
    pub accept: Vec<BackupId>,
    /// Deletes more backups at once than is usual.
    pub force: bool,
    /// Deletes artifacts without a manifest as well.
    pub orphans: bool,
    /// Changes nothing.
    pub dry_run: bool,
    /// How long to wait for another run of the job; `None`: the clean-up fails at once if there is one.
    pub wait: Option<Duration>,
}

/// Cleans up as the settings say: locks the job, deletes, corrects the records and sends the notices. A dry run does none of
/// this.
///
/// # Errors
/// Returns an error if the clean-up could not run. The failure is reported before.
pub async fn run_cleanup(run: &Run<'_>, request: &CleanupRequest) -> Result<CleanupReport> {
    let notices = RunNotices::new(run)?;
    let mut report = match run.cancel.or(locked_cleanup(run, request)).await {
        Ok(report) => report,
        Err(error) => {
            if !request.dry_run {
                notices.failed(RunKind::Cleanup, &error).await;
            }
            return Err(error);
        }
    };
    if !request.dry_run {
        let outcome = report.outcome(run.clock.now());
        let unsent = notices.ended(RunKind::Cleanup, &report.job, run.fresh_id(), outcome).await;
        report.problems.extend(unsent);
    }
    Ok(report)
}

async fn locked_cleanup(run: &Run<'_>, request: &CleanupRequest) -> Result<CleanupReport> {
    let settings = run.config.job.as_ref()?;
    run.log.set_run(&format!("cleanup {}", settings.job));
    let asked = lock::LockRequest {
        state_dir: settings.state_dir.clone(),
        job: settings.job.clone(),
        operation: lock::Operation::Cleanup,
        host: settings.host.clone(),
        started: run.clock.started(),
        wait: request.wait,
    };
    let taken =
        if request.dry_run { lock::LockOutcome::default() } else { lock::take(&asked, run.cancel).await? };
    let store = store::open_existing(run.config.place.as_ref()?).await?;
    let (state_dir, place) = (settings.state_dir.as_deref(), store.place());
    let options = CleanupOptions {
        job: settings.job.clone(),
        policy: settings.retention,
        accept: request.accept.clone(),
        force: request.force,
        orphans: request.orphans,
        dry_run: request.dry_run,
        state_dir: settings.state_dir.clone(),
        host: settings.host.clone(),
        recorded: records::expected_backups(&settings.records, state_dir, &place, &settings.host).await,
    };
    // The time after the wait for the lock, so that the plan is made for the present.
    let mut report = cleanup(&*store, &options, run.clock.now()).await?;
    report.problems.extend(taken.problem.clone());
    let deleted = report.deleted();
    if !deleted.is_empty()
        && let Err(e) = records::record_deleted(&settings.records, &deleted, run.clock.now()).await
    {
        report.problems.push(run.config.redactor.clean(&e));
    }
    Ok(report)
}

/// Cleans up, without lock, records and notices. `now` is this machine's clock.
///
/// # Errors
/// Returns an error if the store cannot be read. Deletions that fail are problems of the report.
pub async fn cleanup(
    store: &dyn Store,
    options: &CleanupOptions,
    now: DateTime<Utc>,
) -> Result<CleanupReport> {
    store.check().await?;
    let mut notes = Vec::new();
    if !options.dry_run {
        notes.extend(leftovers::sweep(options.state_dir.as_deref(), store).await);
    }
    let store_clock = store.clock().await?;
    let reading = CatalogOptions {
        recorded: options.recorded.clone(),
        ..CatalogOptions::remembering(options.state_dir.clone(), now)
    };
    let mut state = StoreState::read(store, &options.job, &reading).await?;
    accept(store, &mut state, options, now).await?;
    let around = PlanContext {
        job: options.job.clone(),
        now,
        store_clock,
        force: options.force,
        unreadable: state.unreadable.clone(),
    };
    let plan = retention::plan(&state.backups(), &options.policy, &around);
    let mut report = CleanupReport {
        version: 1,
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
    let known = |change: &dyn Fn(&mut KnownBackups)| {
        if !options.dry_run && state.missing.is_none() {
            KnownBackups::update(options.state_dir.as_deref(), &place, change);
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
async fn accept(
    store: &dyn Store,
    state: &mut StoreState,
    options: &CleanupOptions,
    now: DateTime<Utc>,
) -> Result<()> {
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

fn rows(plan: &RetentionPlan, state: &StoreState, dry_run: bool) -> Vec<CleanupRow> {
    let outcome = |action| match action {
        RetentionAction::Keep => CleanupOutcome::Kept,
        RetentionAction::Delete if !plan.frozen.is_empty() => CleanupOutcome::Frozen,
        RetentionAction::Delete if dry_run => CleanupOutcome::Planned,
        RetentionAction::Delete => CleanupOutcome::Deleted,
    };
    let row = |decision: &retention::RetentionDecision| {
        let manifest = &state.found(&decision.id).manifest;
        CleanupRow {
            id: decision.id.clone(),
            started_at: manifest.started_at,
            stored_bytes: manifest.artifact.size,
            outcome: outcome(decision.action),
            reason: decision.reason.clone(),
        }
    };
    plan.decisions.iter().map(row).collect()
}

/// Finishes what earlier runs left halfway, unless the plan is frozen.
async fn finish(store: &dyn Store, state: &StoreState, report: &mut CleanupReport) {
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
        true => open.iter().map(|_| Ok(DeleteOutcome::Went(Deleted::Gone))).collect(),
        false => delete::rest(store, &open).await,
    };
    for (tombstone, done) in open.into_iter().zip(done) {
        match done {
            Ok(DeleteOutcome::Went(left)) => {
                report.finished.push(tombstone.id.clone());
                report.hidden |= left == Deleted::Hidden;
            }
            Ok(DeleteOutcome::Locked(why)) => {
                report.notes.push(format!("the rest of the deleted backup {} stays: {why}", tombstone.id));
            }
            Ok(DeleteOutcome::Stays) => {}
            Err(problems) => report.problems.extend(problems),
        }
    }
}

/// Deletes the backups that go. A backup that cannot be deleted becomes a problem of the report.
async fn apply(store: &dyn Store, state: &StoreState, report: &mut CleanupReport, now: DateTime<Utc>) {
    let may = report.frozen.is_empty() && !report.dry_run;
    for row in report.backups.iter_mut().filter(|row| row.outcome == CleanupOutcome::Kept) {
        // An earlier run began to delete it, and since then it was pinned or accepted.
        if state.found(&row.id).doomed()
            && may
            && let Err(problems) = delete::retract(store, &row.id).await
        {
            row.outcome = CleanupOutcome::Failed;
            report.problems.extend(problems);
        }
    }
    let job = &report.job;
    let going: Vec<&mut CleanupRow> =
        report.backups.iter_mut().filter(|row| row.outcome == CleanupOutcome::Deleted).collect();
    let tombstone = |row: &&mut CleanupRow| state.found(&row.id).tombstone(&row.id, job, now, &row.reason);
    let tombstones: Vec<Tombstone> = going.iter().map(tombstone).collect();
    for (row, done) in going.into_iter().zip(delete::backups(store, &tombstones, now).await) {
        match done {
            Ok(DeleteOutcome::Went(left)) => report.hidden |= left == Deleted::Hidden,
            Ok(DeleteOutcome::Stays) => {
                row.outcome = CleanupOutcome::Kept;
                row.reason = "pinned just now".into();
            }
            Ok(DeleteOutcome::Locked(why)) => {
                row.outcome = CleanupOutcome::Locked;
                row.reason = format!("{why}; then it goes: {}", row.reason);
            }
            Err(problems) => {
                row.outcome = CleanupOutcome::Failed;
                report.problems.extend(problems);
            }
        }
    }
}
