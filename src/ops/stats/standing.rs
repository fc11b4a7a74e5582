//! How a job stands: whether there is a good backup that is new enough, and what a person should look at.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{JobHistory, StatsOptions, made};
use crate::base::clock;
use crate::catalog::run::{BackupRun, Status};
use crate::retention::{Freshness, PlanContext, freshness, plan};

/// How a job stands. Nothing but the store was asked for it: `health` tries the rest.
#[derive(Debug)]
pub struct JobStanding {
    /// The newest good backup.
    pub freshness: Freshness,
    /// How old it may be.
    pub max_age: Duration,
    /// The last run that ended made no backup.
    pub failing: bool,
    /// Why a clean-up would delete nothing; empty when all is well.
    pub frozen: Vec<String>,
    /// What else of the store a person should look at.
    pub problems: Vec<String>,
}

/// That of the job, whose runs are given newest first.
pub fn of(
    known: &JobHistory,
    newest_first: &[&BackupRun],
    options: &StatsOptions,
    now: DateTime<Utc>,
) -> JobStanding {
    let past = newest_first.iter().filter(|run| !clock::is_future(run.started_at, now));
    let last = past.clone().find(|run| run.status != Status::Running);
    // The clocks are health's business: asking the store's would be a question more.
    let around = PlanContext {
        job: options.job.clone(),
        now,
        store_clock: now,
        force: false,
        unreadable: known.unreadable.clone(),
    };
    JobStanding {
        freshness: freshness(&known.backups, &options.job, now, options.max_age),
        max_age: options.max_age,
        failing: last.is_some_and(|run| !made(run)),
        frozen: plan(&known.backups, &options.policy, &around).frozen,
        problems: known.problems.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::choices::Policy;
    use crate::model::id::BackupId;

    fn run(hour: u32, status: Status) -> BackupRun {
        let started: DateTime<Utc> = format!("2026-11-23T{hour:02}:00:00Z").parse().unwrap();
        let id: BackupId = format!("20261123T{hour:02}0000Z-aaaaaa").parse().unwrap();
        BackupRun { status, ..BackupRun::begun(id, "j", "h", "p", started) }
    }

    fn failing(newest_first: &[BackupRun]) -> bool {
        let policy = Policy { days: 30, min: 3, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
        let options = StatsOptions { job: "j".into(), policy, max_age: Duration::from_secs(26 * 3600) };
        let now = "2026-11-23T09:00:00Z".parse().unwrap();
        of(&JobHistory::default(), &newest_first.iter().collect::<Vec<_>>(), &options, now).failing
    }

    #[test]
    fn the_last_run_that_ended_decides() {
        use Status::{Completed, Deleted, Failed, Interrupted, Running};
        for (statuses, want) in [
            (vec![], false),
            (vec![Running], false),
            (vec![Completed, Failed], false),
            (vec![Running, Failed, Completed], true),
            (vec![Interrupted, Completed], true),
            (vec![Deleted, Failed], false),
        ] {
            let runs: Vec<BackupRun> =
                statuses.iter().rev().enumerate().map(|(n, s)| run(n as u32, *s)).collect();
            let newest_first: Vec<BackupRun> = runs.into_iter().rev().collect();
            assert_eq!(failing(&newest_first), want, "{statuses:?}");
        }
    }
}
