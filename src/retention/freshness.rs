//! How old the newest good backup of a job is: what tells, on the day after, that a night was missed.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::RetainedBackup;
use super::quality::{self, Quality};
use crate::model::id::BackupId;

/// How current the backups of a job are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freshness {
    /// The newest good backup and its age; one of the future is never good.
    pub newest: Option<(BackupId, Duration)>,
    /// It is no older than it may be.
    pub fresh: bool,
    /// The backups after it, newest first, and why each does not count.
    pub bad: Vec<(BackupId, String)>,
}

/// Judges the backups of one job; those of others are not looked at.
pub fn freshness(backups: &[RetainedBackup], job: &str, now: DateTime<Utc>, max_age: Duration) -> Freshness {
    let mut mine: Vec<&RetainedBackup> = backups.iter().filter(|backup| backup.job == job).collect();
    mine.sort_by_key(|backup| (backup.started, &backup.id));
    let qualities = quality::judge(&mine, now);
    let judged = || mine.iter().zip(&qualities).rev();
    let after = judged().take_while(|(_, quality)| !quality.is_good());
    let bad = after.filter_map(|(backup, quality)| Some((backup.id.clone(), quality.words()?))).collect();
    // What is within the tolerance of two clocks in the future is new.
    let age = |backup: &RetainedBackup| (now - backup.started).to_std().unwrap_or_default();
    let newest = judged()
        .find(|(_, quality)| **quality == Quality::Good)
        .map(|(backup, _)| (backup.id.clone(), age(backup)));
    let fresh = newest.as_ref().is_some_and(|(_, age)| *age <= max_age);
    Freshness { newest, fresh, bad }
}
