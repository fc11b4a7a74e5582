//! The deletions of oplog slices.
//!
//! The oldest slices are deleted first, and the manifest of a slice before its other objects. A run that is killed therefore
//! leaves a shorter chain, and objects without a manifest, which a later run deletes.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{CleanupOutcome, PlaceCleanup, planned};
use crate::base::error::{Error, Result};
use crate::base::units::several;
use crate::catalog::state::StoreState;
use crate::model::optime::OpTime;
use crate::model::slice::ChainId;
use crate::retention::RetentionPlan;
use crate::retention::slices::SliceDecision;
use crate::store::{Deleted, Store, StoreErrorKind};

/// Consecutive oplog slices with the same result.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct SliceGroup {
    pub chain: ChainId,
    /// The start of the first slice.
    pub from: OpTime,
    /// The end of the last slice; `None` if it is not known without reading the slice.
    pub to: Option<OpTime>,
    pub slices: u64,
    /// The size of their objects in bytes.
    pub stored_bytes: u64,
    pub outcome: CleanupOutcome,
    /// Why the slices are kept or deleted.
    pub reason: String,
}

/// Groups the decisions of a plan.
pub(super) fn rows(plan: &RetentionPlan, state: &StoreState, dry_run: bool) -> Vec<SliceGroup> {
    let mut groups: Vec<SliceGroup> = Vec::new();
    for decision in &plan.slices {
        add(&mut groups, decision, state, planned(plan, decision.action, dry_run), &decision.reason);
    }
    groups
}

fn add(
    groups: &mut Vec<SliceGroup>,
    decision: &SliceDecision,
    state: &StoreState,
    outcome: CleanupOutcome,
    reason: &str,
) {
    let slice = &decision.slice;
    let stored_bytes = state.slices.stored_bytes(&slice.chain, slice.start);
    let same = |group: &&mut SliceGroup| {
        group.chain == slice.chain && group.outcome == outcome && group.reason == reason
    };
    match groups.last_mut().filter(same) {
        Some(group) => {
            group.to = slice.end;
            group.slices += 1;
            group.stored_bytes = group.stored_bytes.saturating_add(stored_bytes);
        }
        None => groups.push(SliceGroup {
            chain: slice.chain.clone(),
            from: slice.start,
            to: slice.end,
            slices: 1,
            stored_bytes,
            outcome,
            reason: reason.into(),
        }),
    }
}

/// Deletes the slices that the plan deletes. The manifests go one by one, the oldest first, and the first one that stays ends
/// the deletion, so that no slice is missing between others.
pub(super) async fn apply(
    store: &dyn Store,
    plan: &RetentionPlan,
    state: &StoreState,
    report: &mut PlaceCleanup,
) {
    if report.dry_run {
        return;
    }
    let going = |decision: &&SliceDecision| planned(plan, decision.action, false) == CleanupOutcome::Deleted;
    let (mut gone, mut others, mut failed) = (0, Vec::new(), None);
    for SliceDecision { slice, .. } in plan.slices.iter().filter(going) {
        let mut keys = state.slices.keys(&slice.chain, slice.start).into_iter();
        let Some(manifest) = keys.next() else { continue };
        match store.delete(&manifest).await {
            Ok(left) => report.hidden |= left == Deleted::Hidden,
            Err(e) => {
                failed = Some((manifest, e));
                break;
            }
        }
        gone += 1;
        others.extend(keys);
    }
    for (key, answer) in others.iter().zip(store.delete_all(&others).await) {
        match answer {
            Ok(left) => report.hidden |= left == Deleted::Hidden,
            // A later run deletes it as an object without a manifest.
            Err(e) => report.problems.push(format!("{key}: {}", Error::from(e).chain_with_step())),
        }
    }
    let Some((key, error)) = failed else { return };
    let (outcome, reason) = match error.kind {
        StoreErrorKind::Locked => (CleanupOutcome::Locked, "locked by the bucket"),
        _ => {
            report.problems.push(format!("{key}: {}", Error::from(error).chain_with_step()));
            (CleanupOutcome::Failed, "an older slice could not be deleted")
        }
    };
    report.oplog.clear();
    for decision in &plan.slices {
        match going(&decision) {
            true if gone == 0 => add(&mut report.oplog, decision, state, outcome, reason),
            deleted => {
                gone -= usize::from(deleted);
                let planned = planned(plan, decision.action, false);
                add(&mut report.oplog, decision, state, planned, &decision.reason);
            }
        }
    }
}

/// Deletes the objects that killed runs of `oplog` left.
///
/// # Errors
/// Returns an error if the store does not answer.
pub(super) async fn delete_orphans(
    store: &dyn Store,
    state: &StoreState,
    clock: DateTime<Utc>,
    report: &mut PlaceCleanup,
) -> Result<()> {
    if report.dry_run || !report.frozen.is_empty() {
        return Ok(());
    }
    let orphans = state.slices.find_orphans(store, clock).await?;
    let keys: Vec<String> = orphans.into_iter().map(|orphan| orphan.key).collect();
    let mut deleted = 0;
    for (key, answer) in keys.iter().zip(store.delete_all(&keys).await) {
        match answer {
            Ok(left) => {
                deleted += 1;
                report.hidden |= left == Deleted::Hidden;
            }
            Err(e) if e.kind == StoreErrorKind::Locked => {}
            Err(e) => report.problems.push(format!("{key}: {}", Error::from(e).chain_with_step())),
        }
    }
    if deleted > 0 {
        let objects = several(deleted, "object");
        report.notes.push(format!("deleted {objects} that interrupted runs of `oplog` left"));
    }
    Ok(())
}
