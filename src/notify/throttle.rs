//! Decides if a run is worth a mail: the first failure of a streak, then one failure a day, and the next success. The
//! decision is pure; `notify.json` in the state directory remembers the sent mails. Without that file, one mail too many is
//! sent, so errors of the file do not fail a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::events::NotifiedRun;
use super::routine::CleanupHistory;
use crate::base::beneath::Folder;
use crate::base::files::replace_in;

pub const FILE: &str = "notify.json";
const FORMAT: u32 = 1;
/// The largest file that is read, in bytes. A job takes some hundred bytes.
const LARGEST: u64 = 4 << 20;
/// A day, minus the variation of cron's start times and of the durations of runs.
const DAILY: TimeDelta = TimeDelta::hours(23);

/// Failures of one operation and job without a success in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FailureStreak {
    pub failures: u32,
    pub since: DateTime<Utc>,
}

/// The runs of one operation and job so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MailHistory {
    /// How many runs have failed since the last success.
    pub failures: u32,
    /// When the first of these runs failed.
    pub since: Option<DateTime<Utc>>,
    /// When the last mail about one of these failures was sent.
    pub mailed: Option<DateTime<Utc>>,
    /// When a run last ended well.
    pub success: Option<DateTime<Utc>>,
    /// When the last mail about a good run with lasting problems was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reminded: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MailDecision {
    Failure(FailureStreak),
    /// Send nothing: a mail about this streak was sent today.
    Silence,
    /// Send the usual mail about a success.
    Success,
    /// Send the mail about the recovery after these failures.
    Recovered(FailureStreak),
}

impl MailHistory {
    /// Decides about a run that ends now. `good` is false if it failed or waits for a person.
    pub fn decide(&self, good: bool, now: DateTime<Utc>) -> MailDecision {
        let streak = |failures| FailureStreak { failures, since: self.streak_start(now) };
        let mailed_today = is_today(self.mailed, now);
        match good {
            false if mailed_today => MailDecision::Silence,
            false => MailDecision::Failure(streak(self.failures.saturating_add(1))),
            true if self.failures > 0 && self.mailed.is_some() => {
                MailDecision::Recovered(streak(self.failures))
            }
            true => MailDecision::Success,
        }
    }

    /// Decides about a run that ends well now, with problems that earlier runs may have reported.
    pub fn decide_about_lasting(&self, now: DateTime<Utc>) -> MailDecision {
        match self.decide(true, now) {
            MailDecision::Success if is_today(self.reminded, now) => MailDecision::Silence,
            decision => decision,
        }
    }

    /// The history after a good run with lasting problems. `mailed` is true if a mail about it was sent.
    pub fn after_lasting(&self, mailed: bool, now: DateTime<Utc>) -> MailHistory {
        let reminded = if mailed { Some(now) } else { self.reminded };
        MailHistory { reminded, ..self.after(true, mailed, now) }
    }

    /// The history after the run. `mailed` is true if a mail about it was sent.
    pub fn after(&self, good: bool, mailed: bool, now: DateTime<Utc>) -> MailHistory {
        if good {
            return MailHistory { success: Some(now), reminded: self.reminded, ..MailHistory::default() };
        }
        MailHistory {
            failures: self.failures.saturating_add(1),
            since: Some(self.streak_start(now)),
            mailed: if mailed { Some(now) } else { self.mailed },
            success: self.success,
            reminded: self.reminded,
        }
    }

    /// When the streak of failures began; never in the future.
    fn streak_start(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.since.unwrap_or(now).min(now)
    }
}

/// A date in the future comes from a wrong clock and silences nothing.
fn is_today(mailed: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    mailed.is_some_and(|at| at <= now && now - at < DAILY)
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct MailFile {
    format: u32,
    /// The histories, by operation and job with a space between.
    runs: BTreeMap<String, MailHistory>,
    /// The cleanups, by job.
    #[serde(default)]
    cleanups: BTreeMap<String, CleanupHistory>,
}

/// Keeps the histories in `notify.json`. Without a state directory nothing is remembered.
#[derive(Debug)]
pub(super) struct MailMemory {
    state_dir: Option<PathBuf>,
}

impl MailMemory {
    pub fn new(state_dir: Option<PathBuf>) -> MailMemory {
        MailMemory { state_dir }
    }

    pub fn history(&self, run: &NotifiedRun) -> MailHistory {
        self.load().runs.remove(&key(run)).unwrap_or_default()
    }

    /// The cleanups of a job. If they are lost, a mail has a line less.
    pub fn cleanups(&self, job: &str) -> CleanupHistory {
        self.load().cleanups.remove(job).unwrap_or_default()
    }

    /// Stores the history after a run, and what `change` makes of the job's cleanups. The file is read again first, because
    /// another run may have changed it while the mail was sent.
    pub fn remember(
        &self,
        run: &NotifiedRun,
        history: MailHistory,
        change: impl FnOnce(CleanupHistory) -> CleanupHistory,
    ) {
        let mut file = self.load();
        file.runs.insert(key(run), history);
        let cleanups = change(file.cleanups.remove(&run.job).unwrap_or_default());
        if cleanups != CleanupHistory::default() {
            file.cleanups.insert(run.job.clone(), cleanups);
        }
        self.save(&file);
    }

    pub fn forget(&self, run: &NotifiedRun) {
        let mut file = self.load();
        if file.runs.remove(&key(run)).is_some() {
            self.save(&file);
        }
    }

    fn save(&self, file: &MailFile) {
        let Some(state_dir) = &self.state_dir else { return };
        let write = || {
            let folder = Folder::create(state_dir, 0o700)?;
            replace_in(&folder, Path::new(FILE), &serde_json::to_vec_pretty(file)?, 0o600)
        };
        if let Err(e) = write() {
            log::warn!(
                "cannot record in {} which mails were sent, so a mail may be sent too often: {e}",
                state_dir.display()
            );
        }
    }

    fn load(&self) -> MailFile {
        let text = self.state_dir.as_ref().and_then(|folder| {
            let folder = Folder::open(folder).ok()?;
            folder.read_all(Path::new(FILE), LARGEST).ok()
        });
        let file = text.and_then(|text| serde_json::from_slice::<MailFile>(&text).ok());
        file.filter(|file| file.format == FORMAT).unwrap_or_else(|| MailFile {
            format: FORMAT,
            runs: BTreeMap::new(),
            cleanups: BTreeMap::new(),
        })
    }
}

fn key(run: &NotifiedRun) -> String {
    format!("{} {}", run.operation, run.job)
}

#[cfg(test)]
mod tests;
