//! What a *good* backup is: completed, not collapsed, of the same source, not failed in verify, not
//! dated in the future. Each is compared with the last good one before it; one that a person accepted is
//! what the later ones are compared with.

use chrono::{DateTime, Utc};

use super::{CLOCK_TOLERANCE, RetainedBackup};
use crate::catalog::compare;

/// What a backup is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Quality {
    /// It counts.
    Good,
    /// Its stored data is known to be wrong.
    Unsound(String),
    /// It holds much less than the last good one.
    Collapsed(String),
    /// It is of another server than the last good one.
    Elsewhere(String),
    /// It is dated in the future: nothing can be said of its age.
    Future,
}

impl Quality {
    pub fn is_good(&self) -> bool {
        *self == Quality::Good
    }

    /// What is wrong.
    pub fn words(&self) -> Option<String> {
        match self {
            Quality::Good => None,
            Quality::Unsound(why) | Quality::Elsewhere(why) => Some(why.clone()),
            Quality::Collapsed(why) => Some(format!("it collapsed: {why}")),
            Quality::Future => Some("it is dated in the future".into()),
        }
    }
}

/// Judges the backups of a job, oldest first.
pub(super) fn judge(oldest_first: &[&RetainedBackup], now: DateTime<Utc>) -> Vec<Quality> {
    let mut last_good: Option<&RetainedBackup> = None;
    let mut qualities = Vec::with_capacity(oldest_first.len());
    for backup in oldest_first {
        let quality = one(backup, last_good, now);
        if quality.is_good() {
            last_good = Some(backup);
        }
        qualities.push(quality);
    }
    qualities
}

fn one(backup: &RetainedBackup, last_good: Option<&RetainedBackup>, now: DateTime<Utc>) -> Quality {
    if backup.started - now > CLOCK_TOLERANCE {
        return Quality::Future;
    }
    if let Some(why) = &backup.unsound {
        return Quality::Unsound(why.clone());
    }
    let Some(before) = last_good.filter(|_| !backup.accepted) else { return Quality::Good };
    if let Some(why) = compare::source_changed(&before.source, &backup.source) {
        return Quality::Elsewhere(why);
    }
    match before.contents.collapsed(&backup.contents, before.id.as_str()) {
        Some(why) => Quality::Collapsed(why),
        None => Quality::Good,
    }
}

/// Why a person must look before anything is deleted. Newest first.
pub(super) fn doubts(newest_first: &[(&RetainedBackup, &Quality)]) -> Vec<String> {
    let mut doubts = Vec::new();
    let accept = |id| format!("if that is right, use --accept {id}");
    if let Some((backup, Quality::Future)) = newest_first.first()
        && !backup.accepted
    {
        let (id, started) = (&backup.id, backup.started.format("%FT%TZ"));
        doubts.push(format!(
            "the newest backup {id} is dated {started}, which is in the future: a clock is or was wrong; \
once this machine's is right, use --accept {id}"
        ));
    }
    // One whose data is gone says nothing of what the server held.
    let newest =
        newest_first.iter().find(|(_, quality)| !matches!(quality, Quality::Future | Quality::Unsound(_)));
    if let Some((backup, Quality::Collapsed(why))) = newest {
        doubts.push(format!("the newest backup {} collapsed: {why}; {}", backup.id, accept(&backup.id)));
    }
    // Two servers that share a job's name by mistake take turns: an older change counts as well.
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
