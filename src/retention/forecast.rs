//! When the next backup will go.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::{PlanContext, RetainedBackup, RetentionAction, plan};
use crate::config::choices::Policy;
use crate::model::id::BackupId;

/// A backup that will go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expiry {
    /// The backup.
    pub id: BackupId,
    /// From when on a clean-up deletes it; not before the time that was asked at.
    pub at: DateTime<Utc>,
}

/// The backup of `job` that goes next, if backups go on as they do: then those that `keep_min` and
/// `keep_last` keep today are not the newest any more, and do not count here.
pub fn next_expiry(
    backups: &[RetainedBackup],
    policy: &Policy,
    job: &str,
    now: DateTime<Utc>,
) -> Option<Expiry> {
    let policy = Policy { min: 0, last: 0, ..*policy };
    let days = TimeDelta::days(policy.days.into()) + TimeDelta::seconds(1);
    let mut times: Vec<DateTime<Utc>> =
        backups.iter().filter(|b| b.job == job).filter_map(|b| b.started.checked_add_signed(days)).collect();
    times.iter_mut().for_each(|at| *at = (*at).max(now));
    times.sort_unstable();
    times.dedup();
    times.into_iter().find_map(|at| {
        let (job, unreadable) = (job.to_string(), Vec::new());
        let around = PlanContext { job, now: at, store_clock: at, force: true, unreadable };
        let decisions = plan(backups, &policy, &around).decisions;
        // The oldest stands last.
        let going = decisions.into_iter().rfind(|decision| decision.action == RetentionAction::Delete)?;
        Some(Expiry { id: going.id, at })
    })
}
