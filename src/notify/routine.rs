//! Routine cleanups. They get no mail of their own: the next mail about a whole backup of the job mentions them. Cleanups
//! that fail, are frozen, have problems, or delete far more than the recent ones are mailed at once.

use std::ops::AddAssign;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::events::{CleanupSuccess, RunOutcome};
use super::time;
use crate::base::units;

/// How many cleanups are compared with the next one.
const RECENT: usize = 10;
/// Up to this number of deletions is never more than usual.
const FEW: u64 = 3;

/// The cleanups of a job so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct CleanupHistory {
    /// How many backups each of the last cleanups deleted, oldest first, without those that deleted none.
    recent: Vec<u64>,
    /// The cleanups that no mail has mentioned.
    unmailed: Option<UnmailedCleanups>,
}

/// Cleanups that the next mail about a backup mentions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UnmailedCleanups {
    runs: u64,
    /// When the first of them ended.
    since: DateTime<Utc>,
    deleted: u64,
    freed_bytes: u64,
    /// The number of backups that the last of them kept.
    kept: u64,
    kept_bytes: u64,
}

impl CleanupHistory {
    /// The most backups that a recent cleanup deleted, if a cleanup that deletes `deleted` is unusual. Without recent
    /// cleanups, no number is unusual: retention freezes a cleanup that deletes a large part of the backups.
    pub fn exceeded(&self, deleted: u64) -> Option<u64> {
        let most = *self.recent.iter().max()?;
        (deleted > FEW && deleted > most.saturating_mul(2)).then_some(most)
    }

    /// The line of the next mail about a backup.
    pub fn line(&self) -> Option<String> {
        self.unmailed.as_ref().map(UnmailedCleanups::text)
    }

    /// The history after a run. `mailed` is the history at the time of the mail about the run; `None` if no mail was sent.
    pub fn after(
        mut self,
        outcome: &RunOutcome,
        mailed: Option<&CleanupHistory>,
        now: DateTime<Utc>,
    ) -> CleanupHistory {
        match outcome {
            // A cleanup that ended after the mail was written has its line in the next one.
            RunOutcome::Success(_) if mailed.is_some_and(|mailed| mailed.unmailed == self.unmailed) => {
                self.unmailed = None;
            }
            RunOutcome::Cleanup(c) if c.most_deleted() > 0 => {
                self.recent.push(c.most_deleted());
                self.recent.drain(..self.recent.len().saturating_sub(RECENT));
                if mailed.is_none() {
                    match &mut self.unmailed {
                        Some(unmailed) => *unmailed += c,
                        None => self.unmailed = Some(UnmailedCleanups::first(c, now)),
                    }
                }
            }
            _ => {}
        }
        self
    }
}

impl UnmailedCleanups {
    fn first(c: &CleanupSuccess, now: DateTime<Utc>) -> UnmailedCleanups {
        let mut none =
            UnmailedCleanups { runs: 0, since: now, deleted: 0, freed_bytes: 0, kept: 0, kept_bytes: 0 };
        none += c;
        none
    }

    /// `2026-11-23 04:00 UTC: 1 backup deleted, 7.6 GiB freed; 30 backups kept, 228.0 GiB`
    fn text(&self) -> String {
        let when = match self.runs {
            1 => time(self.since),
            runs => format!("{} since {}", units::several(runs, "run"), time(self.since)),
        };
        format!(
            "{when}: {} deleted, {} freed; {} kept, {}",
            units::several(self.deleted, "backup"),
            units::bytes(self.freed_bytes),
            units::several(self.kept, "backup"),
            units::bytes(self.kept_bytes)
        )
    }
}

impl AddAssign<&CleanupSuccess> for UnmailedCleanups {
    fn add_assign(&mut self, c: &CleanupSuccess) {
        // A planted manifest or state file may claim any size.
        let sum = |sum: u64, part: u64| sum.saturating_add(part);
        self.runs = sum(self.runs, 1);
        self.deleted = sum(self.deleted, c.deleted.len() as u64);
        self.freed_bytes = c.deleted.iter().map(|deletion| deletion.stored_bytes).fold(self.freed_bytes, sum);
        (self.kept, self.kept_bytes) = (c.kept, c.kept_bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::notify::events::{BackupSuccess, Deletion};

    fn cleanup(deleted: usize) -> RunOutcome {
        let deletion = Deletion {
            id: "20261022T030000Z-4hw2mp".into(),
            age: Duration::ZERO,
            stored_bytes: 1 << 20,
            reason: "older than 30 days and outside every keep rule".into(),
        };
        let deleted = vec![deletion; deleted];
        RunOutcome::Cleanup(CleanupSuccess {
            deleted,
            kept: 30,
            kept_bytes: 30 << 20,
            ..CleanupSuccess::default()
        })
    }

    fn now() -> DateTime<Utc> {
        "2026-11-23T04:00:00Z".parse().unwrap()
    }

    fn after(history: CleanupHistory, deleted: usize) -> CleanupHistory {
        history.after(&cleanup(deleted), None, now())
    }

    #[test]
    fn unmailed_cleanups_are_summed_up_in_a_line() {
        let history = after(after(CleanupHistory::default(), 1), 0);
        let line = "2026-11-23 04:00 UTC: 1 backup deleted, 1.0 MiB freed; 30 backups kept, 30.0 MiB";
        assert_eq!(history.line().as_deref(), Some(line));
        let line = after(history, 2).line().unwrap();
        assert!(line.starts_with("2 runs since 2026-11-23 04:00 UTC: 3 backups deleted, 3.0 MiB"), "{line}");
    }

    #[test]
    fn a_mail_about_a_backup_uses_the_line_up() {
        let success = RunOutcome::Success(BackupSuccess::example());
        let (none, one) = (CleanupHistory::default(), after(CleanupHistory::default(), 1));
        let end = |history: &CleanupHistory, mailed| history.clone().after(&success, mailed, now());
        assert_eq!(end(&one, Some(&one)).line(), None);
        assert_eq!(end(&one, None), one, "no mail was sent");
        assert_eq!(end(&one, Some(&none)), one, "the cleanup ended while the mail was sent");
        assert_eq!(end(&one, Some(&one)).recent, one.recent);
    }

    #[test]
    fn a_number_of_deletions_is_unusual_in_comparison_with_recent_cleanups() {
        let (none, nightly) = (CleanupHistory::default(), after(CleanupHistory::default(), 1));
        assert_eq!((none.exceeded(100), nightly.exceeded(3), nightly.exceeded(4)), (None, None, Some(1)));
        // Of an hourly job, every nightly cleanup deletes a day's backups.
        let hourly = after(CleanupHistory::default(), 24);
        assert_eq!((hourly.exceeded(48), hourly.exceeded(49)), (None, Some(24)));
        let later = (0..RECENT).fold(hourly, |history, _| after(history, 1));
        assert_eq!(later.exceeded(4), Some(1), "only the last cleanups count");
    }
}
