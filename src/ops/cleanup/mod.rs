//! `cleanup`: reads the state of the whole store, plans, and only then deletes.
//!
//! [`crate::retention`] decides. Only objects that a manifest or tombstone of the job names are deleted ([`delete`]), and oplog
//! slices of the job with what killed runs left of them ([`oplog`]). First,
//! deletions that an earlier run left unfinished are finished if their manifest is deleted. If the manifest exists, the backup
//! still exists, and retention decides again. [`run_cleanup`] adds the lock, the records and the notices, and cleans every place by
//! its own plan ([`places`]).

mod delete;
mod oplog;
mod places;
mod report;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::base::error::{Error, Kind, Result};
use crate::base::units::several;
use crate::catalog::fault::BackupFault;
use crate::catalog::marks::{self, Mark};
use crate::catalog::place_files::KnownBackups;
use crate::catalog::state::{RetainedBackup, StoreState};
use crate::catalog::{CatalogOptions, layout, records};
use crate::config::JobSettings;
use crate::config::choices::Policy;
use crate::model::id::BackupId;
use crate::notify::events::RunKind;
use crate::notify::run::{Run, RunNotices};
use crate::retention::{self, PlanContext, RetentionAction, RetentionDecision, RetentionPlan, Rule};
use crate::store::{Store, leftovers};

pub use delete::Orphan;
pub use oplog::SliceGroup;
pub use report::{CleanupOutcome, CleanupReport, CleanupRow, PlaceCleanup};

/// The flags of `cleanup`.
#[derive(Debug, Clone, Default)]
pub struct CleanupRequest {
    /// Backups that a person has checked and accepts.
    pub accept: Vec<BackupId>,
    /// Deletes any number of backups at once.
    pub force: bool,
    /// Deletes artifacts without a manifest as well.
    pub orphans: bool,
    /// Changes nothing.
    pub dry_run: bool,
    /// How long to wait for another run of the job; `None`: the cleanup fails at once if there is one.
    pub wait: Option<Duration>,
    /// The name of the only place to clean; without a name, every place.
    pub place: Option<String>,
}

/// Cleans up as the settings say: locks the job, deletes, corrects the records and sends the notices. A dry run does none of
/// this.
///
/// # Errors
/// Returns an error if the cleanup could not run. The failure is reported before.
pub async fn run_cleanup(run: &Run<'_>, request: &CleanupRequest) -> Result<CleanupReport> {
    let notices = RunNotices::new(run)?;
    let mut report = match run.cancel.or(places::locked_cleanup(run, request)).await {
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
        report.first.problems.extend(unsent);
    }
    Ok(report)
}

/// Cleans up a place, without lock, records and notices. `now` is this machine's clock.
///
/// # Errors
/// Returns an error if the store cannot be read. Deletions that fail are problems of the report.
pub async fn cleanup(
    store: &dyn Store,
    settings: &JobSettings,
    request: &CleanupRequest,
    now: DateTime<Utc>,
) -> Result<PlaceCleanup> {
    let JobSettings { job, records, host, retention: policy, .. } = settings;
    let (state_dir, place, dry_run) = (settings.state_dir.as_deref(), store.place(), request.dry_run);
    let recorded = records::expected_backups(records, state_dir, &place, host).await;
    let notes = if dry_run { Vec::new() } else { leftovers::sweep(state_dir, store).await };
    let store_clock = store.clock().await?;
    let reading = CatalogOptions::remembering(settings.state_dir.clone(), now, &settings.signing);
    let reading = CatalogOptions { recorded, ..reading };
    let mut state = StoreState::read(store, job, &reading).await?;
    accept(store, &mut state, settings, request, now).await?;
    let unreadable = state.unreadable.clone();
    let context = PlanContext {
        job: job.clone(),
        now,
        store_clock,
        force: request.force,
        unreadable,
        oplog: state.oplog(store).await?,
        oplog_days: settings.oplog_days,
    };
    let plan = retention::plan(&state.backups(), policy, &context);
    let mut report = PlaceCleanup {
        dry_run,
        frozen: plan.frozen.clone(),
        backups: rows(&plan, &state, dry_run),
        orphans: delete::find_orphans(&state, store_clock),
        oplog: oplog::rows(&plan, &state, dry_run),
        archived: state.archived.clone(),
        problems: problems(&state, &plan, policy),
        notes,
        newest_good: newest_good(&state.backups(), job, now),
        ..PlaceCleanup::of(place.clone())
    };
    if !report.archived.is_empty() {
        report.notes.push(format!(
            "{} with an archived manifest: cleanup neither counts nor deletes them; let the bucket's lifecycle rule \
             expire them",
            several(report.archived.len() as u64, "backup")
        ));
    }
    let known = |change: &dyn Fn(&mut KnownBackups)| {
        if !dry_run && state.missing.is_none() {
            KnownBackups::update(state_dir, &place, change);
        }
    };
    // The deletions are remembered before the first of them, because a killed run cannot report them afterwards.
    let halfway = state.halfway.iter().map(|(tombstone, _)| tombstone.id.clone());
    let going: Vec<BackupId> = report.going().chain(halfway).collect();
    known(&|known| known.deleted.extend(going.iter().cloned()));
    delete::finish(store, &state, &mut report).await;
    delete::apply(store, &state, job, &mut report, now).await;
    delete::delete_failures(store, &state, settings, &mut report, now).await;
    oplog::apply(store, &plan, &state, &mut report).await;
    oplog::delete_orphans(store, &state, store_clock, &mut report).await?;
    let gone = report.deleted();
    known(&|known| known.backups.retain(|id| !gone.contains(id)));
    if request.orphans && report.frozen.is_empty() {
        delete::delete_orphans(store, &mut report).await;
    }
    let expire = if report.hidden { store.versions_expire().await } else { Some(true) };
    if expire != Some(true) {
        let unknown = ", and set S3_VERSIONED=true or allow s3:GetLifecycleConfiguration";
        report.problems.push(format!(
            "{place} keeps versions: the deleted objects are hidden, but their bytes still cost; let a lifecycle rule of the \
             bucket expire noncurrent versions{}",
            if expire.is_none() { unknown } else { "" }
        ));
    }
    report.notes.extend(store.retries());
    Ok(report)
}

/// When the newest good backup of the job began.
fn newest_good(backups: &[RetainedBackup], job: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    retention::good(backups, job, now).last().map(|backup| backup.started)
}

/// Marks the backups that a person accepts.
async fn accept(
    store: &dyn Store,
    state: &mut StoreState,
    settings: &JobSettings,
    request: &CleanupRequest,
    now: DateTime<Utc>,
) -> Result<()> {
    if request.accept.is_empty() {
        return Ok(());
    }
    let signing = settings.signing.key()?;
    if signing.is_none() && !settings.signing.trusted.is_empty() {
        return Err(Error::usage(
            "an acceptance that is not signed does not count, because there are trusted keys",
        )
        .hint("Set signing_key_file (BACKUP_SIGNING_KEY_FILE)"));
    }
    for id in &request.accept {
        if let Some(why) = state.distrust(id) {
            return Err(Error::new(Kind::Mismatch, format!("the backup {id} cannot be accepted: {why}"))
                .hint("Set trusted_before (BACKUP_TRUSTED_BEFORE) if it is from before signing began"));
        }
        if !state.accept(id) {
            return Err(Error::failed(format!("the job {} has no backup {id} to accept", settings.job))
                .hint("`uzima-backup list` shows the backups and their jobs"));
        }
    }
    for id in request.accept.iter().filter(|_| !request.dry_run) {
        let host = settings.host.clone();
        let mark = Mark { format: marks::FORMAT, id: id.clone(), at: now, host, reason: None };
        mark.write(store, &layout::accepted(id), signing.as_ref()).await?;
    }
    Ok(())
}

/// The result of an action if nothing fails.
fn planned(plan: &RetentionPlan, action: RetentionAction, dry_run: bool) -> CleanupOutcome {
    match action {
        RetentionAction::Keep => CleanupOutcome::Kept,
        RetentionAction::Delete if !plan.frozen.is_empty() => CleanupOutcome::Frozen,
        RetentionAction::Delete if dry_run => CleanupOutcome::Planned,
        RetentionAction::Delete => CleanupOutcome::Deleted,
    }
}

fn rows(plan: &RetentionPlan, state: &StoreState, dry_run: bool) -> Vec<CleanupRow> {
    let row = |decision: &RetentionDecision| {
        let manifest = &state.found(&decision.id).manifest;
        CleanupRow {
            id: decision.id.clone(),
            started_at: manifest.started_at,
            stored_bytes: manifest.artifact.size,
            outcome: planned(plan, decision.action, dry_run),
            reason: decision.reason.clone(),
        }
    };
    plan.decisions.iter().map(row).collect()
}

/// The problems of the store. For a faulty backup, the text also says what will happen to it, and the next step.
fn problems(state: &StoreState, plan: &RetentionPlan, policy: &Policy) -> Vec<String> {
    let described = |problem: String| {
        let mut faults = state.faults();
        let fault = faults.find(|(id, fault)| fault.with_id(id) == problem);
        fault.map_or(problem.clone(), |(id, fault)| {
            format!("{problem}; {}", fate(state, plan, policy, id, fault))
        })
    };
    state.problems().into_iter().map(described).collect()
}

fn fate(
    state: &StoreState,
    plan: &RetentionPlan,
    policy: &Policy,
    id: &BackupId,
    fault: &BackupFault,
) -> String {
    let decision = plan.decisions.iter().find(|decision| decision.id == *id);
    let fate = match decision {
        // The backup is about to be deleted, so a repair makes no sense.
        Some(RetentionDecision { action: RetentionAction::Delete, .. }) => {
            return "it does not count, and is old enough to be deleted".into();
        }
        Some(RetentionDecision { rule: Rule::Days, .. }) => {
            let days = TimeDelta::try_days(policy.days.into());
            let date = days.and_then(|days| state.found(id).manifest.started_at.checked_add_signed(days));
            date.map(|date| format!(", and is deleted by age after {}", date.format("%F")))
                .unwrap_or_default()
        }
        // The plan says why the backup stays.
        _ => String::new(),
    };
    let step = fault.next_step(id).map(|step| format!("; {step}")).unwrap_or_default();
    format!("it does not count{fate}{step}")
}
