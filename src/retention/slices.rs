//! Decides which oplog slices to delete, and which backups their chains need.
//!
//! `oplog_days` promises a range: a restore can reach each second of the last days. It needs the newest good base at or before
//! the beginning of the range, and all slices from there on. A base is a backup at which a chain can begin, and which the slices
//! after it continue. If more than half of the stored time would go at once, the plan is frozen until a person has looked.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{AT_ONCE, RetentionAction, Rule};
use crate::base::units::{self, several};
use crate::catalog::chain::RetainedSlice;
use crate::catalog::state::{BaseInstant, RetainedOplog};
use crate::model::id::BackupId;
use crate::model::optime::OpTime;

/// The decision about a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceDecision {
    pub slice: RetainedSlice,
    pub action: RetentionAction,
    /// The reason in words.
    pub reason: String,
}

/// The beginning of the range that `days` promises.
pub fn range_start(now: DateTime<Utc>, days: u32) -> OpTime {
    let start = now.checked_sub_signed(TimeDelta::days(days.into())).map_or(0, |at| at.timestamp());
    OpTime { t: u32::try_from(start.max(0)).unwrap_or(u32::MAX), i: 0 }
}

/// The good bases, oldest first.
fn bases<'a>(oplog: &RetainedOplog, good: &[&'a BackupId]) -> Vec<(&'a BackupId, BaseInstant)> {
    let based = good.iter().filter_map(|id| Some((*id, *oplog.bases.get(*id)?)));
    let mut bases: Vec<_> = based.collect();
    bases.sort_by_key(|(id, base)| (base.at, *id));
    bases
}

/// The newest base whose instant is not later than the second in which the range begins, and which slices continue.
fn floor<'a>(
    oplog: &RetainedOplog,
    bases: &[(&'a BackupId, BaseInstant)],
    start: OpTime,
) -> Option<(&'a BackupId, BaseInstant)> {
    let fits =
        |(id, base): &&(&BackupId, BaseInstant)| base.at.t <= start.t && !oplog.uncontinued.contains(*id);
    bases.iter().rfind(fits).copied()
}

/// Why the deletions of a plan look wrong: a setting or a clock may be. `None` if they do not.
pub(super) fn doubt(decisions: &[SliceDecision]) -> Option<String> {
    let going = |decision: &&SliceDecision| decision.action == RetentionAction::Delete;
    let seconds = |decision: &SliceDecision| {
        let SliceDecision { slice: RetainedSlice { start, end, .. }, .. } = decision;
        u64::from(end.map_or(0, |end| end.t.saturating_sub(start.t)))
    };
    let (count, gone): (usize, u64) =
        decisions.iter().filter(going).fold((0, 0), |(n, sum), one| (n + 1, sum + seconds(one)));
    let all: u64 = decisions.iter().map(seconds).sum();
    (count > AT_ONCE && gone * 2 > all).then(|| {
        let [gone, all] = [gone, all].map(|seconds| units::duration(Duration::from_secs(seconds)));
        format!("the oplog slices of {gone} would go at once, of {all}; if that is right, use --force")
    })
}

/// The good backups that stay because a restore to a point in the range begins at them: the base at or before its beginning,
/// and all later ones, because a gap or a change that no restore can repeat may end the use of an earlier one.
pub(super) fn kept_bases<'a>(
    oplog: &RetainedOplog,
    good: &[&'a BackupId],
    days: u32,
    now: DateTime<Utc>,
) -> BTreeMap<&'a BackupId, (Rule, String)> {
    if oplog.slices.is_empty() {
        return BTreeMap::new();
    }
    let (bases, start) = (bases(oplog, good), range_start(now, days));
    let first = floor(oplog, &bases, start);
    let needed = bases.iter().filter(|(_, base)| first.is_none_or(|(_, first)| base.at >= first.at));
    let reason = format!("the oplog of the last {} needs it (oplog_days)", several(days.into(), "day"));
    needed.map(|(id, _)| (*id, (Rule::Oplog, reason.clone()))).collect()
}

/// Decides about the slices of a job, in the order of `oplog`. `good` are its good backups.
pub(super) fn decide(
    oplog: &RetainedOplog,
    good: &[&BackupId],
    days: u32,
    now: DateTime<Utc>,
) -> Vec<SliceDecision> {
    let (start, bases) = (range_start(now, days), bases(oplog, good));
    let base = floor(oplog, &bases, start);
    // A later base can need earlier entries, because a transaction was open at its instant.
    let needed = base.and_then(|(_, base)| {
        bases.iter().filter(|(_, later)| later.at >= base.at).map(|(_, later)| later.from).min()
    });
    let within = several(days.into(), "day");
    let newest = oplog.slices.last();
    let decide = |slice: &RetainedSlice| {
        let (action, reason) = match (slice.end, base) {
            _ if Some(slice) == newest => {
                (RetentionAction::Keep, "the newest slice: the next run goes on after it".into())
            }
            (None, _) => {
                (RetentionAction::Keep, "its end is unknown, because its manifest cannot be read".into())
            }
            (Some(end), _) if end.t >= start.t => (RetentionAction::Keep, format!("within {within}")),
            (Some(_), None) => {
                let reason = format!("no good backup is old enough to begin the range of {within}");
                (RetentionAction::Keep, reason)
            }
            (Some(end), Some((id, _))) if needed.is_none_or(|needed| end > needed) => {
                (RetentionAction::Keep, format!("a restore that begins at the backup {id} needs it"))
            }
            (Some(_), Some((id, _))) => {
                let reason = format!("older than {within}, and before the backup {id}");
                (RetentionAction::Delete, reason)
            }
        };
        SliceDecision { slice: slice.clone(), action, reason }
    };
    oplog.slices.iter().map(decide).collect()
}

#[cfg(test)]
mod tests;
