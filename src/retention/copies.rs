//! Decides what a place gets from another place: only what its own retention would keep.
//!
//! The plan is made as if the place had all sound backups of the others. Backups that a cleanup of the place deleted are not copied
//! back.

use std::collections::{BTreeMap, BTreeSet};

use super::{PlanContext, RetentionAction, plan};
use crate::catalog::chain::RetainedSlice;
use crate::catalog::state::{RetainedBackup, RetainedOplog};
use crate::config::choices::Policy;
use crate::model::id::BackupId;

/// The backups and the slices of a job in a place.
#[derive(Debug, Clone, Default)]
pub struct PlaceStock {
    pub backups: Vec<RetainedBackup>,
    pub oplog: RetainedOplog,
}

/// The backups and slices that a place lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Newest first.
    pub backups: Vec<LackingBackup>,
    /// In the order of their chains.
    pub slices: Vec<RetainedSlice>,
}

/// A backup that a place lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LackingBackup {
    pub id: BackupId,
    /// The place has a damaged backup with this id.
    pub damaged: bool,
}

/// Chooses what `target` gets from another place. `deleted` are the backups that cleanups of the target deleted; of the context,
/// the job, the clock and the days of the oplog count.
pub fn lacking(
    target: &PlaceStock,
    source: &PlaceStock,
    deleted: &BTreeSet<BackupId>,
    policy: &Policy,
    context: &PlanContext,
) -> Lacking {
    let own: BTreeMap<&BackupId, &RetainedBackup> =
        target.backups.iter().map(|backup| (&backup.id, backup)).collect();
    let is_sound = |backup: &RetainedBackup| backup.unsound.is_none() && backup.untrusted.is_none();
    let lacks = |backup: &&RetainedBackup| match own.get(&backup.id) {
        Some(own) => own.unsound.is_some() && own.untrusted.is_none(),
        None => !deleted.contains(&backup.id),
    };
    let of_job = |backup: &&RetainedBackup| backup.job == context.job && is_sound(backup);
    // A copied backup keeps the pin and the acceptance that the target has already.
    let arrived = |backup: &RetainedBackup| {
        let own = own.get(&backup.id);
        let pinned = backup.pinned.clone().or_else(|| own?.pinned.clone());
        let accepted = backup.accepted || own.is_some_and(|own| own.accepted);
        RetainedBackup { pinned, accepted, ..backup.clone() }
    };
    let mut offered: BTreeMap<&BackupId, RetainedBackup> = source
        .backups
        .iter()
        .filter(of_job)
        .filter(lacks)
        .map(|backup| (&backup.id, arrived(backup)))
        .collect();
    let mut oplog = target.oplog.clone();
    let missing = add_oplog(&mut oplog, &source.oplog);
    let context = PlanContext { oplog, ..context.clone() };
    let keeps = |action| action == RetentionAction::Keep;
    // Without the backups that are not copied, a later one may be no longer good, so the plan is made until it keeps all.
    let plan = loop {
        let kept = target.backups.iter().filter(|backup| !offered.contains_key(&backup.id));
        let all: Vec<RetainedBackup> = kept.chain(offered.values()).cloned().collect();
        let plan = plan(&all, policy, &context);
        let stays = plan.decisions.iter().filter(|decision| keeps(decision.action));
        let stays: BTreeSet<&BackupId> = stays.map(|decision| &decision.id).collect();
        let before = offered.len();
        offered.retain(|id, _| stays.contains(id));
        if offered.len() == before {
            break plan;
        }
    };
    let backups = offered.keys().rev();
    let backups = backups.map(|id| LackingBackup { id: (*id).clone(), damaged: own.contains_key(id) });
    let kept = plan.slices.iter().filter(|decision| keeps(decision.action)).map(|decision| &decision.slice);
    Lacking {
        backups: backups.collect(),
        slices: kept.filter(|slice| missing.contains(slice)).cloned().collect(),
    }
}

/// Adds the slices and bases of another place, and returns the slices that are new.
pub fn add_oplog(own: &mut RetainedOplog, other: &RetainedOplog) -> Vec<RetainedSlice> {
    let place = |slice: &RetainedSlice| (slice.chain.clone(), slice.start);
    let known: BTreeSet<_> = own.slices.iter().map(place).collect();
    let new: Vec<RetainedSlice> =
        other.slices.iter().filter(|slice| !known.contains(&place(slice))).cloned().collect();
    own.slices.extend(new.iter().cloned());
    own.slices.sort_by_key(place);
    own.bases.extend(other.bases.clone());
    own.uncontinued.extend(other.uncontinued.iter().cloned());
    new
}

#[cfg(test)]
mod tests;
