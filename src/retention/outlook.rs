//! Forecasts for the backups of a job: when each of them will be deleted, and how much will be stored.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::quality::{self, Quality};
use super::{PlanContext, RetainedBackup, RetentionAction, RetentionDecision, Rule, plan};
use crate::catalog::compare::Contents;
use crate::config::choices::Policy;
use crate::model::id::BackupId;

/// The assumed pace of backups. A cleanup is assumed to run daily.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// The time between two backups.
    pub every: TimeDelta,
    /// The size of an artifact now, in bytes.
    pub bytes: f64,
    /// The growth of an artifact per day in bytes; negative if it shrinks.
    pub per_day: f64,
}

impl Pace {
    /// Returns the size of a backup that is made after this time.
    fn size_after(&self, time: TimeDelta) -> u64 {
        let days = time.num_seconds() as f64 / 86_400.0;
        (self.bytes + self.per_day * days).max(0.0).round() as u64
    }
}

/// The stored backups after a cleanup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
pub struct StoredForecast {
    /// The time of the cleanup.
    pub at: DateTime<Utc>,
    pub backups: usize,
    /// The sum of the artifacts in bytes.
    #[serde(rename = "stored_bytes")]
    pub bytes: u64,
}

/// The forecast for an existing backup.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Stay {
    pub id: BackupId,
    /// The cleanup that deletes the backup; `None` if no cleanup of the next [`HORIZON`] days deletes it.
    pub until: Option<DateTime<Utc>>,
    /// The rule that keeps the backup until then.
    #[schemars(with = "String")]
    pub rule: Rule,
    /// The reason why the backup is not good.
    #[serde(rename = "not_good")]
    pub wrong: Option<String>,
    /// The selection in words if the backup has only a part of its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
}

/// The forecast for a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Outlook {
    /// Now, and after each cleanup of the next [`AHEAD`] days.
    #[serde(rename = "forecast")]
    pub stored: Vec<StoredForecast>,
    /// The existing backups, newest first.
    #[serde(rename = "kept")]
    pub stays: Vec<Stay>,
}

/// The number of days for which the stored amount is forecast.
pub const AHEAD: usize = 30;
/// The number of days in which the deletion of a backup is forecast.
pub const HORIZON: usize = 400;

const DAY: TimeDelta = TimeDelta::days(1);

/// Simulates backups and daily cleanups with the real policy. The first cleanup is an hour after the time of day of the
/// newest backup, as in crontab.example. `sizes` has the sizes of the artifacts in bytes.
///
/// A problem that freezes cleanups today is assumed to be solved: backups that are not good today stay bad, and nothing
/// else freezes a cleanup.
pub fn outlook(
    backups: &[RetainedBackup],
    sizes: &BTreeMap<&BackupId, u64>,
    policy: &Policy,
    job: &str,
    now: DateTime<Utc>,
    pace: Pace,
) -> Outlook {
    let mut simulated = Simulation::new(backups, sizes, job, now);
    if simulated.backups.is_empty() {
        return Outlook::default();
    }
    let parts: BTreeMap<&BackupId, String> =
        backups.iter().filter_map(|backup| Some((&backup.id, backup.partial.clone()?))).collect();
    let begun = |backup: &RetainedBackup| {
        let (id, wrong) = (backup.id.clone(), backup.unsound.clone().or_else(|| backup.untrusted.clone()));
        let partial = parts.get(&id).cloned();
        (id.clone(), Stay { id, until: None, rule: Rule::Days, wrong, partial })
    };
    let mut stays: BTreeMap<BackupId, Stay> = simulated.backups.iter().map(begun).collect();
    let mut stored = vec![simulated.stored(now)];
    let past = simulated.backups.iter().map(|backup| backup.started).filter(|at| *at <= now);
    let anchor = past.max().unwrap_or(now);
    let mut next = following(anchor, pace.every, now);
    let first = following(anchor + TimeDelta::hours(1) - DAY, DAY, now);
    for at in (0..HORIZON as i32).map(|day| first + DAY * day) {
        while next <= at {
            simulated.add_backup(next, pace.size_after(next - now));
            next += pace.every;
        }
        for decision in simulated.clean_up(policy, job, at) {
            let Some(stay) = stays.get_mut(&decision.id) else { continue };
            match decision.action {
                RetentionAction::Keep => stay.rule = decision.rule,
                RetentionAction::Delete => stay.until = Some(at),
            }
        }
        if stored.len() <= AHEAD {
            stored.push(simulated.stored(at));
        } else if stays.values().all(|stay| stay.until.is_some() || stay.rule == Rule::Pinned) {
            break;
        }
    }
    Outlook { stored, stays: stays.into_values().rev().collect() }
}

/// Returns the first time after `now` in the sequence that begins at `from`.
fn following(from: DateTime<Utc>, every: TimeDelta, now: DateTime<Utc>) -> DateTime<Utc> {
    let steps = (now - from).num_milliseconds().max(0) / every.num_milliseconds().max(1) + 1;
    from + TimeDelta::milliseconds(steps * every.num_milliseconds())
}

/// The backups at a simulated time.
struct Simulation {
    /// Oldest first.
    backups: Vec<RetainedBackup>,
    /// The sizes of the artifacts in bytes.
    sizes: BTreeMap<BackupId, u64>,
}

impl Simulation {
    /// Judges the backups of a job once. A backup that is not good becomes unsound, so that hundreds of plans need not
    /// compare all namespaces again.
    fn new(
        backups: &[RetainedBackup],
        sizes: &BTreeMap<&BackupId, u64>,
        job: &str,
        now: DateTime<Utc>,
    ) -> Simulation {
        let judged = quality::judge(backups, job, now);
        let source = judged.first().map(|(backup, _)| &backup.source);
        let simplified = |(backup, quality): &(&RetainedBackup, Quality)| RetainedBackup {
            id: backup.id.clone(),
            job: backup.job.clone(),
            started: backup.started,
            contents: Contents::default(),
            source: source.unwrap_or(&backup.source).clone(),
            pinned: backup.pinned.clone(),
            accepted: backup.accepted,
            partial: None,
            unsound: match quality {
                Quality::Future => backup.unsound.clone(),
                other => other.words(),
            },
            untrusted: backup.untrusted.clone(),
        };
        let size = |(backup, _): &(&RetainedBackup, Quality)| {
            (backup.id.clone(), sizes.get(&backup.id).copied().unwrap_or_default())
        };
        Simulation {
            sizes: judged.iter().map(size).collect(),
            backups: judged.iter().map(simplified).collect(),
        }
    }

    fn add_backup(&mut self, started: DateTime<Utc>, bytes: u64) {
        let Some(like) = self.backups.last() else { return };
        let id: BackupId = format!("{}-zzzzzz", started.format("%Y%m%dT%H%M%SZ")).parse().expect("an id");
        let made = RetainedBackup {
            id: id.clone(),
            started,
            pinned: None,
            accepted: false,
            unsound: None,
            untrusted: None,
            ..like.clone()
        };
        self.backups.push(made);
        self.sizes.insert(id, bytes);
    }

    fn clean_up(&mut self, policy: &Policy, job: &str, at: DateTime<Utc>) -> Vec<RetentionDecision> {
        let plan = plan(&self.backups, policy, &PlanContext::forecast(job, at));
        let gone: BTreeSet<&BackupId> = plan.deletions().map(|decision| &decision.id).collect();
        self.backups.retain(|backup| !gone.contains(&backup.id));
        plan.decisions
    }

    fn stored(&self, at: DateTime<Utc>) -> StoredForecast {
        let sizes = self.backups.iter().map(|backup| self.sizes[&backup.id]);
        let bytes = sizes.fold(0, u64::saturating_add);
        StoredForecast { at, backups: self.backups.len(), bytes }
    }
}

/// The next deletion of a backup.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Expiry {
    pub id: BackupId,
    /// The time from which a cleanup deletes the backup; never before now.
    pub at: DateTime<Utc>,
}

/// Returns the backup of `job` that will be deleted next if backups continue. Then the backups that `keep_min` and
/// `keep_last` keep today will not be the newest any more, so these rules do not count here.
pub fn next_expiry(
    backups: &[RetainedBackup],
    policy: &Policy,
    job: &str,
    now: DateTime<Utc>,
) -> Option<Expiry> {
    let policy = Policy { min: 0, last: 0, ..*policy };
    let days = TimeDelta::days(policy.days.into()) + TimeDelta::seconds(1);
    let ends = backups.iter().filter(|b| b.job == job).filter_map(|b| b.started.checked_add_signed(days));
    let times: BTreeSet<DateTime<Utc>> = ends.map(|at| at.max(now)).collect();
    times.into_iter().find_map(|at| {
        let decisions = plan(backups, &policy, &PlanContext::forecast(job, at)).decisions;
        // The oldest backup is last.
        let next = decisions.into_iter().rfind(|decision| decision.action == RetentionAction::Delete)?;
        Some(Expiry { id: next.id, at })
    })
}

#[cfg(test)]
mod tests;
