//! The deletions of oplog slices.
//!
//! The oldest slices go first, and of each slice its manifest, with which the slice ends to exist. So a run that is killed leaves
//! a chain that begins later, and objects without a manifest, which a later run deletes.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{CleanupOutcome, CleanupReport, planned};
use crate::base::error::{Error, Result};
use crate::base::units::several;
use crate::catalog::layout;
use crate::catalog::state::StoreState;
use crate::model::optime::OpTime;
use crate::model::slice::ChainId;
use crate::retention::RetentionPlan;
use crate::retention::slices::SliceDecision;
use crate::store::{Deleted, Store, StoreErrorKind};

/// The number of slices whose manifests are deleted at once.
const AT_ONCE: usize = 100;

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

/// Deletes the slices that the plan deletes. Ends with the first slice that cannot be deleted, so that no slice is missing
/// between others.
pub(super) async fn apply(
    store: &dyn Store,
    plan: &RetentionPlan,
    state: &StoreState,
    report: &mut CleanupReport,
) {
    let going = report.oplog.iter().any(|group| group.outcome == CleanupOutcome::Deleted);
    if report.dry_run || !going {
        return;
    }
    let of = |decision: &&SliceDecision| planned(plan, decision.action, false) == CleanupOutcome::Deleted;
    let going: Vec<&SliceDecision> = plan.slices.iter().filter(of).collect();
    let (mut gone, mut failed) = (0, None);
    for slices in going.chunks(AT_ONCE) {
        let key = |decision: &&SliceDecision| {
            layout::slice(&report.job, &decision.slice.chain, decision.slice.start)
        };
        let manifests: Vec<String> = slices.iter().map(key).collect();
        let answers = store.delete_all(&manifests).await;
        let done = answers.iter().take_while(|answer| answer.is_ok()).count();
        let rest = slices[..done].iter().flat_map(|decision| {
            let keys = state.slices.keys(&decision.slice.chain, decision.slice.start);
            keys.into_iter()
                .filter(|key| *key != layout::slice(&report.job, &decision.slice.chain, decision.slice.start))
        });
        let rest: Vec<String> = rest.collect();
        let others = store.delete_all(&rest).await;
        gone += done;
        for (key, answer) in manifests.iter().zip(answers).chain(rest.iter().zip(others)) {
            match answer {
                Ok(left) => report.hidden |= left == Deleted::Hidden,
                Err(e) => {
                    let locked = e.kind == StoreErrorKind::Locked;
                    failed.get_or_insert((locked, key.clone(), Error::from(e)));
                }
            }
        }
        if failed.is_some() {
            break;
        }
    }
    let Some((locked, key, error)) = failed else { return };
    let (outcome, reason) = match locked {
        true => (CleanupOutcome::Locked, "locked by the bucket".to_string()),
        false => {
            report.problems.push(format!("{key}: {}", error.chain_with_step()));
            (CleanupOutcome::Failed, "could not be deleted".to_string())
        }
    };
    let mut groups = Vec::new();
    let mut left = 0;
    for decision in &plan.slices {
        let planned = planned(plan, decision.action, false);
        let stays = planned == CleanupOutcome::Deleted && {
            left += 1;
            left > gone
        };
        match stays {
            true => add(&mut groups, decision, state, outcome, &reason),
            false => add(&mut groups, decision, state, planned, &decision.reason),
        }
    }
    report.oplog = groups;
}

/// Deletes the objects that killed runs of `oplog` left.
///
/// # Errors
/// Returns an error if the store does not answer.
pub(super) async fn delete_orphans(
    store: &dyn Store,
    state: &StoreState,
    clock: DateTime<Utc>,
    report: &mut CleanupReport,
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
