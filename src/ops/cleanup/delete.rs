//! The deletions of a cleanup.
//!
//! Backups are deleted in four steps: tombstones, manifests, other objects, tombstones. A run that is killed at any step is
//! finished by the next run. Without the manifest, only the tombstone says which objects belong to the backup. Each step is
//! done for all backups before the next step, so that a store can do it in few requests.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Serialize;

use super::{CleanupOutcome, CleanupRow, PlaceCleanup};
use crate::base::error::Error;
use crate::catalog::layout;
use crate::catalog::marks::Tombstone;
use crate::catalog::state::StoreState;
use crate::config::JobSettings;
use crate::model::id::BackupId;
use crate::store::{Deleted, Store, StoreErrorKind, StoredObject};

/// How many backups are marked at once.
const AT_ONCE: usize = 16;
/// A younger artifact without a manifest may belong to a running backup.
const YOUNG: TimeDelta = TimeDelta::days(2);

/// Deletions that failed, a line each.
type Problems = Vec<String>;

fn problem(id: &BackupId, error: impl Into<Error>) -> Problems {
    vec![format!("the backup {id}: {}", error.into().chain_with_step())]
}

/// The result of deleting a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
enum DeleteOutcome {
    Went(Deleted),
    /// The backup was pinned after the plan was made.
    Stays,
    /// The backup, or a remaining part of it, is under a retention period or legal hold. The text says until when, if known.
    Locked(String),
}

type DeleteResult = Result<DeleteOutcome, Problems>;

/// Finishes the deletions that earlier runs began, unless the plan is frozen.
pub(super) async fn finish(store: &dyn Store, state: &StoreState, report: &mut PlaceCleanup) {
    if !report.frozen.is_empty() {
        return;
    }
    let pinned = state.halfway.iter().filter(|(_, pinned)| *pinned);
    report.problems.extend(pinned.map(|(Tombstone { id, .. }, _)| {
        format!(
            "{id} is pinned, but an earlier run deleted its manifest: its other objects stay; \
             `uzima-backup unpin {id}` lets cleanup delete them"
        )
    }));
    let open: Vec<&Tombstone> =
        state.halfway.iter().filter(|(_, pinned)| !pinned).map(|(tombstone, _)| tombstone).collect();
    let done = match report.dry_run {
        true => open.iter().map(|_| Ok(DeleteOutcome::Went(Deleted::Gone))).collect(),
        false => delete_objects(store, &open).await,
    };
    for (tombstone, done) in open.into_iter().zip(done) {
        match done {
            Ok(DeleteOutcome::Went(left)) => {
                report.finished.push(tombstone.id.clone());
                report.hidden |= left == Deleted::Hidden;
            }
            Ok(DeleteOutcome::Locked(why)) => {
                report.notes.push(format!("objects of the deleted backup {} stay: {why}", tombstone.id));
            }
            Ok(DeleteOutcome::Stays) => {}
            Err(problems) => report.problems.extend(problems),
        }
    }
}

/// Deletes the backups that the plan deletes. A backup that cannot be deleted becomes a problem of the report. `now` is this
/// machine's clock.
pub(super) async fn apply(
    store: &dyn Store,
    state: &StoreState,
    job: &str,
    report: &mut PlaceCleanup,
    now: DateTime<Utc>,
) {
    let may = report.frozen.is_empty() && !report.dry_run;
    for row in report.backups.iter_mut().filter(|row| row.outcome == CleanupOutcome::Kept) {
        // An earlier run began to delete the backup. Since then it was pinned or accepted.
        if state.found(&row.id).doomed()
            && may
            && let Err(problems) = retract(store, &row.id).await
        {
            row.outcome = CleanupOutcome::Failed;
            report.problems.extend(problems);
        }
    }
    let going: Vec<&mut CleanupRow> =
        report.backups.iter_mut().filter(|row| row.outcome == CleanupOutcome::Deleted).collect();
    let tombstone = |row: &&mut CleanupRow| state.found(&row.id).tombstone(&row.id, job, now, &row.reason);
    let tombstones: Vec<Tombstone> = going.iter().map(tombstone).collect();
    for (row, done) in going.into_iter().zip(delete_backups(store, &tombstones, now).await) {
        match done {
            Ok(DeleteOutcome::Went(left)) => report.hidden |= left == Deleted::Hidden,
            Ok(DeleteOutcome::Stays) => {
                row.outcome = CleanupOutcome::Kept;
                row.reason = "pinned meanwhile".into();
            }
            Ok(DeleteOutcome::Locked(why)) => {
                row.outcome = CleanupOutcome::Locked;
                row.reason = format!("{why}; then it is deleted: {}", row.reason);
            }
            Err(problems) => {
                row.outcome = CleanupOutcome::Failed;
                report.problems.extend(problems);
            }
        }
    }
}

/// Deletes backups, but none with a locked artifact: a bucket that locks objects keeps versions, so a deletion would hide the
/// backup and free nothing. The results have the order of the tombstones.
async fn delete_backups(
    store: &dyn Store,
    tombstones: &[Tombstone],
    now: DateTime<Utc>,
) -> Vec<DeleteResult> {
    let begun = stream::iter(tombstones).map(|tombstone| begin(store, tombstone, now)).buffered(AT_ONCE);
    let begun: Vec<Option<DeleteResult>> = begun.collect().await;
    let open: Vec<&Tombstone> =
        tombstones.iter().zip(&begun).filter(|(_, ended)| ended.is_none()).map(|(t, _)| t).collect();
    let mut deleted = delete_objects(store, &open).await.into_iter();
    let ended = begun.into_iter().map(|ended| ended.or_else(|| deleted.next()));
    ended.map(|ended| ended.expect("each open deletion has a result")).collect()
}

/// Writes the tombstone of a backup. Returns `None` if the backup may be deleted.
async fn begin(store: &dyn Store, tombstone: &Tombstone, now: DateTime<Utc>) -> Option<DeleteResult> {
    let id = &tombstone.id;
    if let Some(artifact) = tombstone.keys.last() {
        match store.locked_until(artifact).await {
            Ok(Some(end)) if end == DateTime::<Utc>::MAX_UTC => {
                return Some(Ok(DeleteOutcome::Locked("under a legal hold".into())));
            }
            Ok(Some(end)) if end > now => {
                return Some(Ok(DeleteOutcome::Locked(format!("locked until {}", end.format("%F")))));
            }
            Ok(_) => {}
            Err(e) => return Some(Err(problem(id, e))),
        }
    }
    if let Err(e) = tombstone.write(store).await {
        return Some(Err(problem(id, e)));
    }
    // `pin` writes the pin and then looks for a tombstone; this writes the tombstone and then looks for a pin. So one of
    // them sees the other's object.
    match store.head(&layout::pin(id)).await {
        Ok(None) => None,
        Ok(Some(_)) => Some(retract(store, id).await.map(|()| DeleteOutcome::Stays)),
        Err(e) => Some(Err(problem(id, e))),
    }
}

/// Deletes the objects that tombstones name, then the tombstones.
async fn delete_objects(store: &dyn Store, tombstones: &[&Tombstone]) -> Vec<DeleteResult> {
    let mut ended: Vec<DeleteResult> =
        tombstones.iter().map(|_| Ok(DeleteOutcome::Went(Deleted::Gone))).collect();
    // The manifest comes first: while it exists, the backup is listed and must restore.
    let manifests = |tombstone: &Tombstone| vec![layout::manifest(&tombstone.id)];
    step(store, tombstones, &mut ended, manifests).await;
    let others = |tombstone: &Tombstone| {
        let manifest = layout::manifest(&tombstone.id);
        tombstone.keys.iter().filter(|key| **key != manifest).cloned().collect()
    };
    step(store, tombstones, &mut ended, others).await;
    step(store, tombstones, &mut ended, |tombstone| vec![layout::tombstone(&tombstone.id)]).await;
    ended
}

/// Deletes these keys of every backup for which no earlier step failed or met a lock.
async fn step(
    store: &dyn Store,
    tombstones: &[&Tombstone],
    ended: &mut [DeleteResult],
    keys: impl Fn(&Tombstone) -> Vec<String>,
) {
    let open = (0..tombstones.len()).filter(|n| matches!(ended[*n], Ok(DeleteOutcome::Went(_))));
    let asked: Vec<(usize, String)> =
        open.flat_map(|n| keys(tombstones[n]).into_iter().map(move |key| (n, key))).collect();
    let (of, keys): (Vec<usize>, Vec<String>) = asked.into_iter().unzip();
    for (n, answer) in of.into_iter().zip(store.delete_all(&keys).await) {
        match (answer, &mut ended[n]) {
            (Ok(Deleted::Hidden), Ok(DeleteOutcome::Went(left))) => *left = Deleted::Hidden,
            (Ok(_), _) => {}
            // The tombstone stays, so that the next run tries again.
            (Err(e), Ok(done)) if e.kind == StoreErrorKind::Locked => {
                *done = DeleteOutcome::Locked("locked by the bucket".into())
            }
            (Err(e), Ok(_)) => ended[n] = Err(problem(&tombstones[n].id, e)),
            (Err(e), Err(problems)) => problems.extend(problem(&tombstones[n].id, e)),
        }
    }
}

/// Cancels a deletion that was begun.
async fn retract(store: &dyn Store, id: &BackupId) -> Result<(), Problems> {
    store.delete(&layout::tombstone(id)).await.map(drop).map_err(|e| problem(id, e))
}

/// Deletes the failure objects of the job's failed runs at the age at which backups are deleted. They are for people and for
/// statistics. If the plan is frozen, they stay, because the clock may be wrong.
pub(super) async fn delete_failures(
    store: &dyn Store,
    state: &StoreState,
    settings: &JobSettings,
    report: &mut PlaceCleanup,
    now: DateTime<Utc>,
) {
    let kept = TimeDelta::days(settings.retention.days.into());
    let mut going: Vec<(&BackupId, String)> = Vec::new();
    for (id, failure) in state.failed.iter().filter(|(id, _)| now - id.started() > kept) {
        match failure {
            Ok(failure) if failure.job == settings.job && report.frozen.is_empty() => {
                going.push((id, layout::failed(id)));
            }
            Ok(_) => {}
            // The failure may belong to any job.
            Err(why) => report.notes.push(format!("{why}; it stays")),
        }
    }
    if report.dry_run {
        report.expired.extend(going.into_iter().map(|(id, _)| id.clone()));
        return;
    }
    let (ids, keys): (Vec<&BackupId>, Vec<String>) = going.into_iter().unzip();
    for (id, gone) in ids.into_iter().zip(store.delete_all(&keys).await) {
        match gone {
            Ok(left) => {
                report.expired.push(id.clone());
                report.hidden |= left == Deleted::Hidden;
            }
            Err(e) => report.problems.push(format!("the failed run {id}: {e}")),
        }
    }
}

/// An artifact without a manifest and without a tombstone. Its backup failed or was killed, or its manifest was lost. In the
/// second case it may be the only copy, so it is never deleted because of its age alone.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct Orphan {
    pub key: String,
    pub stored_bytes: u64,
    /// The time of the last write, by the store's clock.
    pub modified_at: DateTime<Utc>,
    /// Why `--orphans` keeps the artifact; `None` if it deletes it.
    pub kept: Option<String>,
    pub deleted: bool,
    /// The other objects of the same backup.
    #[serde(skip)]
    companions: Vec<String>,
}

pub(super) fn find_orphans(state: &StoreState, clock: DateTime<Utc>) -> Vec<Orphan> {
    let mut orphans = Vec::new();
    for folder in state.incomplete.values() {
        let body =
            |(file, object): (&String, &StoredObject)| layout::is_artifact(file).then(|| object.clone());
        for object in folder.iter().filter_map(body) {
            let Some((id, _)) = layout::parse(&object.key) else { continue };
            let others = [layout::recovery(&id), layout::accepted(&id)];
            let beside = |(file, object): (&String, &StoredObject)| {
                let goes = others.contains(&object.key)
                    || layout::is_index(file)
                    || layout::is_verified(file)
                    || layout::is_signature(file);
                goes.then(|| object.key.clone())
            };
            let kept = if folder.contains_key(layout::PIN) {
                Some("pinned".into())
            } else if clock - object.modified <= YOUNG {
                Some("younger than 2 days: a backup may be running".into())
            } else {
                None
            };
            orphans.push(Orphan {
                companions: folder.iter().filter_map(beside).collect(),
                key: object.key,
                stored_bytes: object.size,
                modified_at: object.modified,
                kept,
                deleted: false,
            });
        }
    }
    orphans
}

/// Deletes the orphans that nothing keeps.
pub(super) async fn delete_orphans(store: &dyn Store, report: &mut PlaceCleanup) {
    if report.dry_run {
        return;
    }
    let mut asked: Vec<(usize, String)> = Vec::new();
    for (n, orphan) in report.orphans.iter_mut().enumerate().filter(|(_, orphan)| orphan.kept.is_none()) {
        asked.extend(orphan.companions.iter().chain([&orphan.key]).map(|key| (n, key.clone())));
        orphan.deleted = true;
    }
    let (of, keys): (Vec<usize>, Vec<String>) = asked.into_iter().unzip();
    for (n, answer) in of.into_iter().zip(store.delete_all(&keys).await) {
        let orphan = &mut report.orphans[n];
        match answer {
            Ok(left) => report.hidden |= left == Deleted::Hidden,
            Err(e) => {
                orphan.deleted = false;
                report.problems.push(format!("the orphan {}: {e}", orphan.key));
            }
        }
    }
}
