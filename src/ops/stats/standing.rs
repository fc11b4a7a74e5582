//! How a job stands: whether there is a good backup that is new enough, and what a person should look at.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Known, Options, made};
use crate::catalog::run::{Run, Status};
use crate::retention::{Circumstances, Freshness, freshness, plan};

/// How a job stands. Nothing but the store was asked for it: `health` tries the rest.
#[derive(Debug)]
pub struct Standing {
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

impl Standing {
    /// Nothing needs a look.
    pub fn is_well(&self) -> bool {
        self.freshness.fresh && !self.failing && self.frozen.is_empty() && self.problems.is_empty()
    }
}

/// That of the job, whose runs are given newest first.
pub fn of(known: &Known, newest_first: &[&Run], options: &Options, now: DateTime<Utc>) -> Standing {
    let last = newest_first.iter().find(|run| run.status != Status::Running);
    // The clocks are health's business: asking the store's would be a question more.
    let around = Circumstances {
        job: options.job.clone(),
        now,
        store_clock: now,
        force: false,
        unreadable: known.unreadable.clone(),
    };
    Standing {
        freshness: freshness(&known.backups, &options.job, now, options.max_age),
        max_age: options.max_age,
        failing: last.is_some_and(|run| !made(run)),
        frozen: plan(&known.backups, &options.policy, &around).frozen,
        problems: known.problems.clone(),
    }
}
