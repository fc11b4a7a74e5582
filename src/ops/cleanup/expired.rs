//! What is said about failed runs goes by age, like the backups that they would have made. It is for
//! people and for figures: no decision about a backup depends on it.

use chrono::{DateTime, TimeDelta, Utc};

use super::{CleanupOptions, CleanupReport};
use crate::catalog::layout;
use crate::catalog::state::StoreState;
use crate::model::id::BackupId;
use crate::store::{Deleted, Store};

/// Deletes what is said about old failures of the job. While the plan is frozen nothing goes: the clock
/// may be what is wrong.
pub async fn delete(
    store: &dyn Store,
    state: &StoreState,
    options: &CleanupOptions,
    report: &mut CleanupReport,
    now: DateTime<Utc>,
) {
    let kept = TimeDelta::days(options.policy.days.into());
    let mut going: Vec<(&BackupId, String)> = Vec::new();
    for (id, failure) in state.failed.iter().filter(|(id, _)| now - id.started() > kept) {
        match failure {
            Ok(failure) if failure.job == options.job && report.frozen.is_empty() => {
                going.push((id, layout::failed(id)));
            }
            Ok(_) => {}
            // It may be of any job, so it stays.
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
