//! Which backups go: pure code, from the backups of a store, a policy and two clocks to a plan with a
//! reason for each decision.
//!
//! The rules are [`quality`]'s (what is *good*) and those below. Age alone never decides: the newest
//! `keep_min` good backups stay however old they are, so that weeks of failures do not eat what is left;
//! a pinned backup stays; and where something looks wrong, the plan is *frozen* and deletes nothing
//! until a person has looked. `tests/it/cleanup/histories.rs` holds all of it against an oracle that was
//! written independently; a million histories:
//! `UZIMA_HISTORIES=1000000 cargo test --release --test it histories -- --nocapture`.

mod calendar;
pub mod forecast;
mod freshness;
pub mod outlook;
mod quality;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

pub use crate::base::clock::CLOCK_TOLERANCE;
use crate::base::units::several;
use crate::catalog::state::RetainedBackup;
use crate::config::choices::Policy;
use crate::model::id::BackupId;
pub use freshness::{Freshness, freshness};
use quality::Quality;
pub use rule::Rule;

/// So many good backups may go at once, or a quarter of them if that is more.
const AT_ONCE: usize = 3;

/// What a plan is made of, beside the backups and the policy.
#[derive(Debug, Clone)]
pub struct PlanContext {
    /// The job whose backups may go.
    pub job: String,
    /// This machine's clock.
    pub now: DateTime<Utc>,
    /// The store's clock.
    pub store_clock: DateTime<Utc>,
    /// A person wants many to go at once.
    pub force: bool,
    /// What of the store could not be understood; anything freezes the plan.
    pub unreadable: Vec<String>,
}

/// What becomes of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionAction {
    /// It stays.
    Keep,
    /// It goes.
    Delete,
}

/// What becomes of a backup, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionDecision {
    /// The backup.
    pub id: BackupId,
    /// What becomes of it.
    pub action: RetentionAction,
    /// What decided.
    pub rule: Rule,
    /// Why, in words.
    pub reason: String,
}

/// What becomes of the backups of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPlan {
    /// A decision for each, newest first.
    pub decisions: Vec<RetentionDecision>,
    /// Why nothing may be deleted; empty when all is well. A frozen plan still tells what would go.
    pub frozen: Vec<String>,
}

impl RetentionPlan {
    /// What really goes: nothing of a frozen plan.
    pub fn deletions(&self) -> impl Iterator<Item = &RetentionDecision> {
        let may = self.frozen.is_empty();
        self.decisions.iter().filter(move |decision| may && decision.action == RetentionAction::Delete)
    }
}

/// Decides what becomes of the backups of one job; those of others are not looked at.
pub fn plan(backups: &[RetainedBackup], policy: &Policy, around: &PlanContext) -> RetentionPlan {
    let mut mine: Vec<&RetainedBackup> = backups.iter().filter(|backup| backup.job == around.job).collect();
    mine.sort_by_key(|backup| (backup.started, &backup.id));
    let qualities = quality::judge(&mine, around.now);
    let judged: Vec<(&RetainedBackup, &Quality)> = mine.into_iter().zip(&qualities).rev().collect();
    let good: Vec<&RetainedBackup> =
        judged.iter().filter(|(_, quality)| quality.is_good()).map(|(backup, _)| *backup).collect();
    let kept = kept(&good, policy);
    let mut decisions: Vec<RetentionDecision> = judged
        .iter()
        .map(|(backup, quality)| decide(backup, quality, &kept, good.is_empty(), policy, around.now))
        .collect();
    keep_accepted(&mut decisions, &judged);
    let good_ids: BTreeSet<&BackupId> = good.iter().map(|backup| &backup.id).collect();
    let going =
        decisions.iter().filter(|d| d.action == RetentionAction::Delete && good_ids.contains(&d.id)).count();
    let mut frozen = clocks(around);
    frozen.extend(quality::doubts(&judged));
    frozen.extend(around.unreadable.iter().cloned());
    if going > AT_ONCE && going * 4 > good.len() && !around.force {
        frozen.push(format!(
            "{going} of {} good backups would go at once; if that is right, use --force",
            good.len()
        ));
    }
    RetentionPlan { decisions, frozen }
}

fn clocks(around: &PlanContext) -> Vec<String> {
    let apart = (around.now - around.store_clock).abs();
    let wrong = (apart > CLOCK_TOLERANCE).then(|| {
        format!(
            "the clocks disagree by {} minutes: this machine says {}, the store {}",
            apart.num_minutes(),
            around.now.format("%FT%TZ"),
            around.store_clock.format("%FT%TZ")
        )
    });
    wrong.into_iter().collect()
}

/// The good backups, newest first, that stay however old they are, and why.
fn kept<'a>(good: &[&'a RetainedBackup], policy: &Policy) -> BTreeMap<&'a BackupId, (Rule, String)> {
    let mut kept: BTreeMap<&BackupId, (Rule, String)> = BTreeMap::new();
    for (rule, count) in [(Rule::Min, policy.min), (Rule::Last, policy.last)] {
        for backup in good.iter().take(count) {
            let reason =
                || (rule, format!("among the newest {} ({rule})", several(count as u64, "good one")));
            kept.entry(&backup.id).or_insert_with(reason);
        }
    }
    for (rule, period, count) in [
        (Rule::Daily, calendar::CalendarPeriod::Day, policy.daily),
        (Rule::Weekly, calendar::CalendarPeriod::Week, policy.weekly),
        (Rule::Monthly, calendar::CalendarPeriod::Month, policy.monthly),
        (Rule::Yearly, calendar::CalendarPeriod::Year, policy.yearly),
    ] {
        for (backup, name) in calendar::newest_of_each(good, period, count) {
            let reason = || (rule, format!("the newest good one of {name} ({rule})"));
            kept.entry(&backup.id).or_insert_with(reason);
        }
    }
    kept
}

/// What a person accepted stays while an older good one does. Without it, all that came after would be
/// compared with the older one, and the change that was accepted once would make none of them good.
fn keep_accepted(decisions: &mut [RetentionDecision], judged: &[(&RetainedBackup, &Quality)]) {
    let mut older = false;
    for (decision, (backup, quality)) in decisions.iter_mut().zip(judged).rev() {
        if older && backup.accepted && quality.is_good() && decision.action == RetentionAction::Delete {
            decision.action = RetentionAction::Keep;
            decision.rule = Rule::Accepted;
            decision.reason = "accepted, and an older one stays".into();
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
    let old = format!("{} old, kept for {}", several(age.num_days().max(0) as u64, "day"), policy.days);
    let bad = quality.words().map(|words| format!("; not good: {words}")).unwrap_or_default();
    let (action, rule, reason) = if let Some(pin) = &backup.pinned {
        (RetentionAction::Keep, Rule::Pinned, pin.to_string())
    } else if let Quality::Future = quality {
        (RetentionAction::Keep, Rule::Future, "dated in the future".into())
    } else if age <= TimeDelta::days(policy.days.into()) {
        (RetentionAction::Keep, Rule::Days, old)
    } else if let Some((rule, reason)) = kept.get(&backup.id) {
        (RetentionAction::Keep, *rule, reason.clone())
    } else if none_good {
        // What is bad may be all that is left of the data.
        (RetentionAction::Keep, Rule::NoneGood, "there is no good backup at all".into())
    } else {
        (RetentionAction::Delete, Rule::Days, old)
    };
    let reason = if matches!(quality, Quality::Future) { reason } else { reason + &bad };
    RetentionDecision { id: backup.id.clone(), action, rule, reason }
}
