//! What is said about failed runs goes by age, like the backups that they would have made. It is for
//! people and for figures: no decision about a backup depends on it.

use chrono::{DateTime, TimeDelta, Utc};

use super::state::State;
use super::{Options, Report};
use crate::catalog::layout;
use crate::catalog::marks::Failure;
use crate::store::{Deleted, Store};

/// Deletes what is said about old failures of the job. While the plan is frozen nothing goes: the clock
/// may be what is wrong.
pub async fn delete(
    store: &dyn Store,
    state: &State,
    options: &Options,
    report: &mut Report,
    now: DateTime<Utc>,
) {
    let kept = TimeDelta::days(options.policy.days.into());
    for id in state.failed.iter().filter(|id| now - id.started() > kept) {
        match Failure::read(store, id).await {
            Ok(Ok(failure)) if failure.job == options.job && report.frozen.is_empty() => {
                let gone = match report.dry_run {
                    true => Ok(Deleted::Gone),
                    false => store.delete(&layout::failed(id)).await,
                };
                match gone {
                    Ok(left) => {
                        report.expired.push(id.clone());
                        report.hidden |= left == Deleted::Hidden;
                    }
                    Err(e) => report.problems.push(format!("the failed run {id}: {e}")),
                }
            }
            Ok(Ok(_)) => {}
            // It may be of any job, so it stays.
            Ok(Err(why)) => report.notes.push(format!("{why}; it stays")),
            Err(e) => report.problems.push(format!("the failed run {id}: {}", e.chain())),
        }
    }
}
