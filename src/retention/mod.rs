//! Decides which backups to delete. The code is pure: from the backups of a store, a policy and two clocks, it makes a plan
//! with a reason for each decision.
//!
//! [`quality`] defines a *good* backup. Age alone never decides: the newest `keep_min` good backups stay however old they
//! are, so that weeks of failures do not use up the backups that are left. A pinned backup stays. If anything looks wrong,
//! the plan is *frozen* and deletes nothing until a person has looked.
//!
//! `tests/it/cleanup/histories.rs` compares plans with an oracle that was written independently. For a million histories:
//! `UZIMA_HISTORIES=1000000 cargo test --release --test it histories -- --nocapture`.

pub mod copies;
pub mod outlook;
mod quality;
pub mod slices;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use serde::{Serialize, Serializer};

pub use crate::base::clock::CLOCK_TOLERANCE;
use crate::base::units::several;
use crate::catalog::state::{RetainedBackup, RetainedOplog};
use crate::config::choices::Policy;
use crate::model::id::BackupId;
use quality::Quality;
pub use quality::{Freshness, freshness};
use slices::SliceDecision;

/// The number of good backups that may be deleted at once, or a quarter of them if that is more; and the number of oplog slices
/// that may be, or half of their time if that is more.
const AT_ONCE: usize = 3;

/// A rule of retention. If several rules keep a backup, the plan names the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `retention_days`.
    Days,
    /// `keep_min`.
    Min,
    /// `keep_last`.
    Last,
    /// `keep_daily`.
    Daily,
    /// `keep_weekly`.
    Weekly,
    /// `keep_monthly`.
    Monthly,
    /// `keep_yearly`.
    Yearly,
    /// A person pinned the backup.
    Pinned,
    /// A person accepted the backup, and an older good backup stays.
    Accepted,
    /// `oplog_days`: a restore to a point in the last days begins at the backup.
    Oplog,
    /// The backup is dated in the future.
    Future,
    /// Anybody may have written the backup. Only a person deletes it.
    Untrusted,
    /// No backup is good, so a bad one may be all that is left of the data.
    NoneGood,
}

impl Rule {
    /// The name of the setting, or of the reason that is not a setting.
    pub fn word(self) -> &'static str {
        match self {
            Rule::Days => "retention_days",
            Rule::Min => "keep_min",
            Rule::Last => "keep_last",
            Rule::Daily => "keep_daily",
            Rule::Weekly => "keep_weekly",
            Rule::Monthly => "keep_monthly",
            Rule::Yearly => "keep_yearly",
            Rule::Pinned => "pinned",
            Rule::Accepted => "accepted",
            Rule::Oplog => "oplog_days",
            Rule::Future => "dated_in_the_future",
            Rule::Untrusted => "untrusted",
            Rule::NoneGood => "none_good",
        }
    }

    /// The name of the calendar period in which a time lies; `None` for a rule without periods.
    fn period(self, time: DateTime<Utc>) -> Option<String> {
        match self {
            Rule::Daily => Some(time.format("%F").to_string()),
            Rule::Weekly => Some(format!("{}-W{:02}", time.iso_week().year(), time.iso_week().week())),
            Rule::Monthly => Some(time.format("%Y-%m").to_string()),
            Rule::Yearly => Some(time.format("%Y").to_string()),
            _ => None,
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// The facts for a plan, besides the backups and the policy.
#[derive(Debug, Clone)]
pub struct PlanContext {
    /// Only backups of this job may be deleted.
    pub job: String,
    /// The machine's clock.
    pub now: DateTime<Utc>,
    /// The store's clock.
    pub store_clock: DateTime<Utc>,
    /// A person allows many deletions at once.
    pub force: bool,
    /// Messages about objects in the store that cannot be decoded. Any such message freezes the plan.
    pub unreadable: Vec<String>,
    /// The job's oplog slices.
    pub oplog: RetainedOplog,
    /// The number of days that the slices must cover.
    pub oplog_days: u32,
}

impl PlanContext {
    /// The context of a forecast: a cleanup at `at` that nothing freezes.
    fn forecast(job: &str, at: DateTime<Utc>) -> PlanContext {
        let (oplog, oplog_days) = Default::default();
        let unreadable = Vec::new();
        PlanContext { job: job.into(), now: at, store_clock: at, force: true, unreadable, oplog, oplog_days }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionAction {
    Keep,
    Delete,
}

/// The decision about a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionDecision {
    pub id: BackupId,
    pub action: RetentionAction,
    /// The rule that decided.
    pub rule: Rule,
    /// The reason in words.
    pub reason: String,
}

/// The decisions about the backups of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPlan {
    /// A decision for each backup, newest first.
    pub decisions: Vec<RetentionDecision>,
    /// A decision for each oplog slice of the job, oldest first.
    pub slices: Vec<SliceDecision>,
    /// The reasons why nothing may be deleted; usually empty. A frozen plan still contains its decisions.
    pub frozen: Vec<String>,
}

impl RetentionPlan {
    /// The backups to delete: none if the plan is frozen.
    pub fn deletions(&self) -> impl Iterator<Item = &RetentionDecision> {
        let may = self.frozen.is_empty();
        self.decisions.iter().filter(move |decision| may && decision.action == RetentionAction::Delete)
    }
}

/// The good backups of a job, oldest first.
pub fn good<'a>(backups: &'a [RetainedBackup], job: &str, now: DateTime<Utc>) -> Vec<&'a RetainedBackup> {
    let judged = quality::judge(backups, job, now).into_iter();
    judged.filter(|(_, quality)| quality.is_good()).map(|(backup, _)| backup).collect()
}

/// Decides about the backups of one job, and ignores all others.
pub fn plan(backups: &[RetainedBackup], policy: &Policy, context: &PlanContext) -> RetentionPlan {
    let mut judged = quality::judge(backups, &context.job, context.now);
    judged.reverse();
    let good: Vec<&RetainedBackup> =
        judged.iter().filter(|(_, quality)| quality.is_good()).map(|(backup, _)| *backup).collect();
    let good_ids: Vec<&BackupId> = good.iter().map(|backup| &backup.id).collect();
    let mut kept = kept(&good, policy);
    for (id, rule) in slices::kept_bases(&context.oplog, &good_ids, context.oplog_days, context.now) {
        kept.entry(id).or_insert(rule);
    }
    let mut decisions: Vec<RetentionDecision> = judged
        .iter()
        .map(|(backup, quality)| decide(backup, quality, &kept, good.is_empty(), policy, context.now))
        .collect();
    keep_accepted(&mut decisions, &judged);
    let is_good: BTreeSet<&BackupId> = good_ids.iter().copied().collect();
    let deleted =
        decisions.iter().filter(|d| d.action == RetentionAction::Delete && is_good.contains(&d.id)).count();
    let mut frozen = quality::doubts(&judged);
    let apart = (context.now - context.store_clock).abs();
    if apart > CLOCK_TOLERANCE {
        let why = format!(
            "the clocks disagree by {} minutes: this machine says {}, the store {}",
            apart.num_minutes(),
            context.now.format("%FT%TZ"),
            context.store_clock.format("%FT%TZ")
        );
        frozen.insert(0, why);
    }
    frozen.extend(context.unreadable.iter().cloned());
    if deleted > AT_ONCE && deleted * 4 > good.len() && !context.force {
        frozen.push(format!(
            "{deleted} of {} good backups would go at once; if that is right, use --force",
            good.len()
        ));
    }
    let slices = slices::decide(&context.oplog, &good_ids, context.oplog_days, context.now);
    frozen.extend(slices::doubt(&slices).filter(|_| !context.force));
    RetentionPlan { decisions, slices, frozen }
}

/// Returns the good backups that stay however old they are, with rule and reason. `good` is sorted, newest first.
fn kept<'a>(good: &[&'a RetainedBackup], policy: &Policy) -> BTreeMap<&'a BackupId, (Rule, String)> {
    let mut kept: BTreeMap<&BackupId, (Rule, String)> = BTreeMap::new();
    for (rule, count) in [(Rule::Min, policy.min), (Rule::Last, policy.last)] {
        for backup in good.iter().take(count) {
            let newest = several(count as u64, "good backup");
            let reason = || (rule, format!("among the newest {newest} ({})", rule.word()));
            kept.entry(&backup.id).or_insert_with(reason);
        }
    }
    for (rule, count) in [
        (Rule::Daily, policy.daily),
        (Rule::Weekly, policy.weekly),
        (Rule::Monthly, policy.monthly),
        (Rule::Yearly, policy.yearly),
    ] {
        // The newest backup of each of the newest periods that have any.
        let mut periods: Vec<String> = Vec::new();
        for backup in good {
            let Some(period) = rule.period(backup.started).filter(|name| periods.last() != Some(name)) else {
                continue;
            };
            if periods.len() == count {
                break;
            }
            let reason = || (rule, format!("the newest good backup of {period} ({})", rule.word()));
            kept.entry(&backup.id).or_insert_with(reason);
            periods.push(period);
        }
    }
    kept
}

/// Keeps an accepted backup while an older good backup stays. Without it, all later backups would be compared with the
/// older one, and the change that was accepted once would make all of them bad.
fn keep_accepted(decisions: &mut [RetentionDecision], judged: &[(&RetainedBackup, Quality)]) {
    let mut older = false;
    for (decision, (backup, quality)) in decisions.iter_mut().zip(judged).rev() {
        if older && backup.accepted && quality.is_good() && decision.action == RetentionAction::Delete {
            decision.action = RetentionAction::Keep;
            decision.rule = Rule::Accepted;
            decision.reason = "accepted, and an older good backup stays".into();
        }
        older |= decision.action == RetentionAction::Keep && quality.is_good();
    }
}

fn decide(
    backup: &RetainedBackup,
    quality: &Quality,
    kept: &BTreeMap<&BackupId, (Rule, String)>,
    none_good: bool,
    policy: &Policy,
    now: DateTime<Utc>,
) -> RetentionDecision {
    let age = now - backup.started;
    let days = |days| several(days, "day");
    let bad = quality.words().map(|words| format!("; not good: {words}")).unwrap_or_default();
    let (action, rule, reason) = if let Some(pin) = &backup.pinned {
        (RetentionAction::Keep, Rule::Pinned, pin.to_string())
    } else if let Quality::Untrusted(_) = quality {
        (RetentionAction::Keep, Rule::Untrusted, "only a person deletes an untrusted backup".into())
    } else if let Quality::Future = quality {
        (RetentionAction::Keep, Rule::Future, "dated in the future".into())
    } else if age <= TimeDelta::days(policy.days.into()) {
        let reason =
            format!("{} old, within {}", days(age.num_days().max(0) as u64), days(policy.days.into()));
        (RetentionAction::Keep, Rule::Days, reason)
    } else if let Some((rule, reason)) = kept.get(&backup.id) {
        (RetentionAction::Keep, *rule, reason.clone())
    } else if none_good {
        (RetentionAction::Keep, Rule::NoneGood, "there is no good backup at all".into())
    } else {
        // The age in whole days would look like the limit: "14 days" for a backup that is 14 days and an hour old.
        let reason = format!("older than {} and outside every keep rule", days(policy.days.into()));
        (RetentionAction::Delete, Rule::Days, reason)
    };
    let reason = if matches!(quality, Quality::Future) { reason } else { reason + &bad };
    RetentionDecision { id: backup.id.clone(), action, rule, reason }
}
