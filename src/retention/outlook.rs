//! What becomes of the backups of a job: what will be stored, and until when each of them is kept.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::quality::{self, Quality};
use super::{Action, Backup, Circumstances, Policy, Rule, plan};
use crate::catalog::collapse::Contents;
use crate::catalog::id::BackupId;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// When.
    pub at: DateTime<Utc>,
    /// How many backups.
    pub backups: usize,
    /// Their artifacts, in bytes.
    pub bytes: u64,
}

/// How long a backup that exists stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// The backup.
    pub id: BackupId,
    /// The clean-up that deletes it; `None` if none does in [`HORIZON`] days.
    pub until: Option<DateTime<Utc>>,
    /// What keeps it until then.
    pub rule: Rule,
    /// Why it is not good, if it is not.
    pub wrong: Option<String>,
}

/// What becomes of the backups of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// What is stored now, and after each clean-up of the next [`AHEAD`] days.
    pub stored: Vec<Stored>,
    /// The backups that exist now, newest first.
    pub stays: Vec<Stay>,
}

/// So many days ahead it is told what is stored.
pub const AHEAD: usize = 30;
/// So many days are looked ahead for the end of a backup.
pub const HORIZON: usize = 400;

/// Plays backups and clean-ups by the real policy, day by day: the first clean-up is an hour after the
/// newest backup's time of the day (as in crontab.example). `backups` are those that exist, with the size
/// of their artifacts in bytes. A clean-up that is frozen today is taken to be put right: those that are
/// not good today stay that, and nothing else freezes it.
pub fn outlook(
    backups: &[(Backup, u64)],
    policy: &Policy,
    job: &str,
    now: DateTime<Utc>,
    pace: Pace,
) -> Outlook {
    let mut there = judged(backups, job, now);
    let Some(model) = there.last().map(|(backup, _)| backup.clone()) else { return Outlook::default() };
    let stay = |backup: &Backup| Stay {
        id: backup.id.clone(),
        until: None,
        rule: Rule::Days,
        wrong: backup.unsound.clone(),
    };
    let mut stays: BTreeMap<BackupId, Stay> =
        there.iter().map(|(backup, _)| (backup.id.clone(), stay(backup))).collect();
    let mut stored = vec![sum(&there, now)];
    let anchor = there.iter().map(|(backup, _)| backup.started).filter(|at| *at <= now).max().unwrap_or(now);
    let mut next = following(anchor, pace.every, now);
    let first = following(anchor + TimeDelta::hours(1) - DAY, DAY, now);
    for at in (0..HORIZON as i32).map(|day| first + DAY * day) {
        while next <= at {
            let id = format!("{}-zzzzzz", next.format("%Y%m%dT%H%M%SZ")).parse().expect("an id");
            let made =
                Backup { id, started: next, pinned: false, accepted: false, unsound: None, ..model.clone() };
            there.push((made, pace.after(next - now)));
            next += pace.every;
        }
        let all: Vec<Backup> = there.iter().map(|(backup, _)| backup.clone()).collect();
        let around =
            Circumstances { job: job.into(), now: at, store_clock: at, force: true, unreadable: vec![] };
        let plan = plan(&all, policy, &around);
        let gone: BTreeSet<&BackupId> = plan.deletions().map(|decision| &decision.id).collect();
        for decision in &plan.decisions {
            let Some(stay) = stays.get_mut(&decision.id) else { continue };
            match decision.action {
                Action::Keep => stay.rule = decision.rule,
                Action::Delete => stay.until = Some(at),
            }
        }
        there.retain(|(backup, _)| !gone.contains(&backup.id));
        if stored.len() <= AHEAD {
            stored.push(sum(&there, at));
        }
        let decided = |stay: &Stay| stay.until.is_some() || stay.rule == Rule::Pinned;
        if stored.len() > AHEAD && stays.values().all(decided) {
            break;
        }
    }
    let mut stays: Vec<Stay> = stays.into_values().collect();
    stays.reverse();
    Outlook { stored, stays }
}

const DAY: TimeDelta = TimeDelta::days(1);

/// The first time after `now`, of those that follow `from` at this pace.
fn following(from: DateTime<Utc>, every: TimeDelta, now: DateTime<Utc>) -> DateTime<Utc> {
    let steps = (now - from).num_milliseconds().max(0) / every.num_milliseconds().max(1) + 1;
    from + TimeDelta::milliseconds(steps * every.num_milliseconds())
}

/// The backups of a job, oldest first, judged: what is not good stands for itself, so that hundreds of
/// plans need not compare all their namespaces again.
fn judged(backups: &[(Backup, u64)], job: &str, now: DateTime<Utc>) -> Vec<(Backup, u64)> {
    let mut mine: Vec<&(Backup, u64)> = backups.iter().filter(|(backup, _)| backup.job == job).collect();
    mine.sort_by_key(|(backup, _)| (backup.started, &backup.id));
    let qualities = quality::judge(&mine.iter().map(|(backup, _)| backup).collect::<Vec<_>>(), now);
    let Some(source) = mine.last().map(|(backup, _)| &backup.source) else { return Vec::new() };
    let one = |((backup, bytes), quality): (&&(Backup, u64), Quality)| {
        let unsound = match quality {
            Quality::Future => backup.unsound.clone(),
            other => other.words(),
        };
        let backup = Backup {
            id: backup.id.clone(),
            job: backup.job.clone(),
            started: backup.started,
            contents: Contents::default(),
            source: source.clone(),
            pinned: backup.pinned,
            accepted: backup.accepted,
            unsound,
        };
        (backup, *bytes)
    };
    mine.iter().zip(qualities).map(one).collect()
}

fn sum(there: &[(Backup, u64)], at: DateTime<Utc>) -> Stored {
    Stored { at, backups: there.len(), bytes: there.iter().map(|(_, bytes)| bytes).sum() }
}

#[cfg(test)]
mod tests;
