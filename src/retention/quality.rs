//! The quality of backups. A *good* backup is trusted, complete, not partial, not collapsed, of the same source, has passed its last verify, and
//! is not dated in the future. Each backup is compared with the last good one before it. A backup that a person accepted is
//! good, and later backups are compared with it.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::RetainedBackup;
use crate::base::clock;
use crate::catalog::compare;
use crate::model::id::BackupId;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Quality {
    Good,
    /// Anybody may have written the backup: its signature is missing or wrong.
    Untrusted(String),
    /// The stored data has a known fault.
    Unsound(String),
    /// The backup has only a part of its job: the part in words.
    Partial(String),
    /// The backup has much less data than the last good one.
    Collapsed(String),
    /// The backup and the last good one are of different servers.
    Elsewhere(String),
    /// The backup is dated in the future, so its age is unknown.
    Future,
}

impl Quality {
    pub fn is_good(&self) -> bool {
        *self == Quality::Good
    }

    /// Returns the reason why the backup is not good.
    pub fn words(&self) -> Option<String> {
        match self {
            Quality::Good => None,
            Quality::Untrusted(why) | Quality::Unsound(why) | Quality::Elsewhere(why) => Some(why.clone()),
            Quality::Partial(what) => Some(format!("it is partial ({what})")),
            Quality::Collapsed(why) => Some(format!("it collapsed: {why}")),
            Quality::Future => Some("it is dated in the future".into()),
        }
    }
}

/// Judges the backups of a job. Returns them sorted, oldest first.
pub(super) fn judge<'a>(
    backups: &'a [RetainedBackup],
    job: &str,
    now: DateTime<Utc>,
) -> Vec<(&'a RetainedBackup, Quality)> {
    let mut oldest_first: Vec<&RetainedBackup> = backups.iter().filter(|backup| backup.job == job).collect();
    oldest_first.sort_by_key(|backup| (backup.started, &backup.id));
    let mut last_good: Option<&RetainedBackup> = None;
    let judge = |backup: &'a RetainedBackup| {
        let quality = judge_one(backup, last_good, now);
        if quality.is_good() {
            last_good = Some(backup);
        }
        (backup, quality)
    };
    oldest_first.into_iter().map(judge).collect()
}

fn judge_one(backup: &RetainedBackup, last_good: Option<&RetainedBackup>, now: DateTime<Utc>) -> Quality {
    // An untrusted backup says nothing about the server, the clocks or other backups.
    if let Some(why) = &backup.untrusted {
        return Quality::Untrusted(why.clone());
    }
    if clock::is_future(backup.started, now) {
        return Quality::Future;
    }
    if let Some(why) = &backup.unsound {
        return Quality::Unsound(why.clone());
    }
    // Also if a person accepted it: the rest of the job is missing.
    if let Some(what) = &backup.partial {
        return Quality::Partial(what.clone());
    }
    let Some(before) = last_good.filter(|_| !backup.accepted) else { return Quality::Good };
    if let Some(why) = compare::source_changed(&before.source, &backup.source) {
        return Quality::Elsewhere(why);
    }
    match before.contents.collapsed(&backup.contents, &before.id) {
        Some(why) => Quality::Collapsed(why),
        None => Quality::Good,
    }
}

/// Returns the reasons why a person must look before anything is deleted.
pub(super) fn doubts(newest_first: &[(&RetainedBackup, Quality)]) -> Vec<String> {
    let mut doubts = Vec::new();
    let accept = |id| format!("if that is right, use --accept {id}");
    let mut trusted = newest_first.iter().filter(|(_, quality)| !matches!(quality, Quality::Untrusted(_)));
    if let Some((backup, Quality::Future)) = trusted.next()
        && !backup.accepted
    {
        let (id, started) = (&backup.id, backup.started.format("%FT%TZ"));
        doubts.push(format!(
            "the newest backup {id} is dated {started}, which is in the future: a clock is or was wrong; \
             once this machine's clock is right, use --accept {id}"
        ));
    }
    // A backup whose stored data is lost, or of a part of the data, says nothing about all data on the server.
    let says_nothing = |quality: &Quality| match quality {
        Quality::Future | Quality::Untrusted(_) | Quality::Unsound(_) | Quality::Partial(_) => true,
        Quality::Good | Quality::Collapsed(_) | Quality::Elsewhere(_) => false,
    };
    let newest = newest_first.iter().find(|(_, quality)| !says_nothing(quality));
    if let Some((backup, Quality::Collapsed(why))) = newest {
        doubts.push(format!("the newest backup {} collapsed: {why}; {}", backup.id, accept(&backup.id)));
    }
    // If two servers share a job by mistake, they take turns, so an older change counts as well.
    let elsewhere = newest_first.iter().find(|(_, quality)| matches!(quality, Quality::Elsewhere(_)));
    if let Some((backup, Quality::Elsewhere(why))) = elsewhere {
        doubts.push(format!(
            "of the backup {}, {why}; if these are two servers, give each a job of its own (BACKUP_JOB, \
             --job); {}",
            backup.id,
            accept(&backup.id)
        ));
    }
    doubts
}

/// The age of the newest good backup of a job. It shows on the next day that a night was missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// The newest good backup and its age.
    pub newest: Option<(BackupId, Duration)>,
    /// The newest good backup is no older than allowed.
    pub fresh: bool,
    /// The later backups, newest first, and why each of them is not good.
    pub bad: Vec<(BackupId, String)>,
}

/// Judges the backups of one job, and ignores all others.
pub fn freshness(backups: &[RetainedBackup], job: &str, now: DateTime<Utc>, max_age: Duration) -> Freshness {
    let mut bad = Vec::new();
    let mut newest = None;
    for (backup, quality) in judge(backups, job, now).into_iter().rev() {
        match quality.words() {
            Some(why) => bad.push((backup.id.clone(), why)),
            None => {
                // A backup may be dated in the future within the tolerance of two clocks.
                newest = Some((backup.id.clone(), (now - backup.started).to_std().unwrap_or_default()));
                break;
            }
        }
    }
    let fresh = newest.as_ref().is_some_and(|(_, age)| *age <= max_age);
    Freshness { newest, fresh, bad }
}
