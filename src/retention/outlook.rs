//! What becomes of the backups of a job: what will be stored, and until when each of them is kept.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::quality::{self, Quality};
use super::{PlanContext, RetainedBackup, RetentionAction, RetentionDecision, Rule, plan};
use crate::catalog::compare::Contents;
use crate::config::choices::Policy;
use crate::model::id::BackupId;

/// What is taken for granted: backups go on at this pace, and a clean-up runs a day.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// From one backup to the next.
    pub every: TimeDelta,
    /// The size of an artifact now, in bytes.
    pub bytes: f64,
    /// What is added to that in a day, in bytes; negative where it shrinks.
    pub per_day: f64,
}

impl Pace {
    /// The size of a backup that is made in so long.
    fn after(&self, time: TimeDelta) -> u64 {
        let days = time.num_seconds() as f64 / 86_400.0;
        (self.bytes + self.per_day * days).max(0.0).round() as u64
    }
}

/// What is stored at a time, after the clean-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StoredForecast {
    /// When.
    pub at: DateTime<Utc>,
    /// How many backups.
    pub backups: usize,
    /// Their artifacts, in bytes.
    #[serde(rename = "stored_bytes")]
    pub bytes: u64,
}

/// How long a backup that exists stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stay {
    /// The backup.
    pub id: BackupId,
    /// The clean-up that deletes it; `None` if none does in [`HORIZON`] days.
    pub until: Option<DateTime<Utc>>,
    /// What keeps it until then.
    pub rule: Rule,
    /// Why it is not good, if it is not.
    #[serde(rename = "not_good")]
    pub wrong: Option<String>,
}

/// What becomes of the backups of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outlook {
    /// What is stored now, and after each clean-up of the next [`AHEAD`] days.
    #[serde(rename = "forecast")]
    pub stored: Vec<StoredForecast>,
    /// The backups that exist now, newest first.
    #[serde(rename = "kept")]
    pub stays: Vec<Stay>,
}

/// So many days ahead it is told what is stored.
pub const AHEAD: usize = 30;
/// So many days are looked ahead for the end of a backup.
pub const HORIZON: usize = 400;

/// Plays backups and clean-ups by the real policy, day by day: the first clean-up is an hour after the
/// newest backup's time of the day (as in crontab.example). `backups` are those that exist, `sizes` what
/// their artifacts have in bytes. A clean-up that is frozen today is taken to be put right: those that are
/// not good today stay that, and nothing else freezes it.
pub fn outlook(
    backups: &[RetainedBackup],
    sizes: &BTreeMap<&BackupId, u64>,
    policy: &Policy,
    job: &str,
    now: DateTime<Utc>,
    pace: Pace,
) -> Outlook {
    let mut there = There::judged(backups, sizes, job, now);
    if there.backups.is_empty() {
        return Outlook::default();
    }
    let mut stays: BTreeMap<BackupId, Stay> = there.backups.iter().map(Stay::begun).collect();
    let mut stored = vec![there.stored(now)];
    let past = there.backups.iter().map(|backup| backup.started).filter(|at| *at <= now);
    let anchor = past.max().unwrap_or(now);
    let mut next = following(anchor, pace.every, now);
    let first = following(anchor + TimeDelta::hours(1) - DAY, DAY, now);
    for at in (0..HORIZON as i32).map(|day| first + DAY * day) {
        while next <= at {
            there.make(next, pace.after(next - now));
            next += pace.every;
        }
        for decision in there.clean_up(policy, job, at) {
            let Some(stay) = stays.get_mut(&decision.id) else { continue };
            match decision.action {
                RetentionAction::Keep => stay.rule = decision.rule,
                RetentionAction::Delete => stay.until = Some(at),
            }
        }
        if stored.len() <= AHEAD {
            stored.push(there.stored(at));
        } else if stays.values().all(|stay| stay.until.is_some() || stay.rule == Rule::Pinned) {
            break;
        }
    }
    Outlook { stored, stays: stays.into_values().rev().collect() }
}

impl Stay {
    fn begun(backup: &RetainedBackup) -> (BackupId, Stay) {
        let (id, wrong) = (backup.id.clone(), backup.unsound.clone());
        (id.clone(), Stay { id, until: None, rule: Rule::Days, wrong })
    }
}

const DAY: TimeDelta = TimeDelta::days(1);

/// The first time after `now`, of those that follow `from` at this pace.
fn following(from: DateTime<Utc>, every: TimeDelta, now: DateTime<Utc>) -> DateTime<Utc> {
    let steps = (now - from).num_milliseconds().max(0) / every.num_milliseconds().max(1) + 1;
    from + TimeDelta::milliseconds(steps * every.num_milliseconds())
}

/// What there is at a time that is played.
struct There {
    /// Oldest first.
    backups: Vec<RetainedBackup>,
    /// The size of each one's artifact in bytes.
    sizes: BTreeMap<BackupId, u64>,
}

impl There {
    /// The backups of a job, judged: what is not good stands for itself, so that hundreds of plans need not
    /// compare all their namespaces again.
    fn judged(
        backups: &[RetainedBackup],
        sizes: &BTreeMap<&BackupId, u64>,
        job: &str,
        now: DateTime<Utc>,
    ) -> There {
        let mut mine: Vec<&RetainedBackup> = backups.iter().filter(|backup| backup.job == job).collect();
        mine.sort_by_key(|backup| (backup.started, &backup.id));
        let qualities = quality::judge(&mine, now);
        let one = |(backup, quality): (&&RetainedBackup, Quality)| RetainedBackup {
            id: backup.id.clone(),
            job: backup.job.clone(),
            started: backup.started,
            contents: Contents::default(),
            source: mine[0].source.clone(),
            pinned: backup.pinned.clone(),
            accepted: backup.accepted,
            unsound: match quality {
                Quality::Future => backup.unsound.clone(),
                other => other.words(),
            },
        };
        let size = |backup: &&RetainedBackup| {
            (backup.id.clone(), sizes.get(&backup.id).copied().unwrap_or_default())
        };
        There {
            sizes: mine.iter().map(size).collect(),
            backups: mine.iter().zip(qualities).map(one).collect(),
        }
    }

    /// A backup is made.
    fn make(&mut self, started: DateTime<Utc>, bytes: u64) {
        let Some(like) = self.backups.last() else { return };
        let id: BackupId = format!("{}-zzzzzz", started.format("%Y%m%dT%H%M%SZ")).parse().expect("an id");
        let (pinned, accepted, unsound) = (None, false, None);
        let made = RetainedBackup { id: id.clone(), started, pinned, accepted, unsound, ..like.clone() };
        self.backups.push(made);
        self.sizes.insert(id, bytes);
    }

    /// A clean-up runs: what it decides.
    fn clean_up(&mut self, policy: &Policy, job: &str, at: DateTime<Utc>) -> Vec<RetentionDecision> {
        let around =
            PlanContext { job: job.into(), now: at, store_clock: at, force: true, unreadable: vec![] };
        let plan = plan(&self.backups, policy, &around);
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

#[cfg(test)]
mod tests;
