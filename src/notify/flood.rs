//! When a failure is worth a mail: the first of a row, then once a day; and when it works again.
//!
//! Pure: what was mailed when comes in, and what to remember goes out. [`super::memory`] keeps it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::events::Row;

/// How a run ended, as far as mails are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Well,
    /// It failed, or waits for a person.
    Badly,
}

/// What is remembered of a job's operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// How many runs failed, one after another, up to now.
    pub failures: u32,
    /// When the first of them did.
    pub since: Option<DateTime<Utc>>,
    /// When the last mail about one of them was sent.
    pub mailed: Option<DateTime<Utc>>,
    /// When a run last ended well.
    pub success: Option<DateTime<Utc>>,
}

/// What to do about the end of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// A mail about this failure, the last of this row.
    Tell(Row),
    /// No mail: this row was told of today.
    Silence,
    /// The usual mail about a success.
    Usual,
    /// A mail that it works again after this row.
    Recovered(Row),
}

/// A day, minus what cron's start and the length of a run may differ by.
const DAILY: TimeDelta = TimeDelta::hours(23);

impl Past {
    /// What to do about a run that ends now.
    pub fn decide(&self, ended: Ended, now: DateTime<Utc>) -> Decision {
        match ended {
            Ended::Badly => {
                let row = Row { failures: self.failures.saturating_add(1), since: self.begun(now) };
                // A mail from the future was sent before the clock was set right: it silences nothing.
                let told = self.mailed.is_some_and(|at| at <= now && now - at < DAILY);
                if told { Decision::Silence } else { Decision::Tell(row) }
            }
            Ended::Well if self.failures > 0 && self.mailed.is_some() => {
                Decision::Recovered(Row { failures: self.failures, since: self.begun(now) })
            }
            Ended::Well => Decision::Usual,
        }
    }

    /// What to remember afterwards. `mailed`: a mail about it was really sent.
    pub fn after(&self, ended: Ended, mailed: bool, now: DateTime<Utc>) -> Past {
        match ended {
            Ended::Badly => Past {
                failures: self.failures.saturating_add(1),
                since: Some(self.begun(now)),
                mailed: if mailed { Some(now) } else { self.mailed },
                success: self.success,
            },
            Ended::Well => Past { success: Some(now), ..Past::default() },
        }
    }

    /// When the row of failures began: not in the future.
    fn begun(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.since.unwrap_or(now).min(now)
    }
}

/// The format of the file.
pub const FORMAT: u32 = 1;

/// Everything that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`].
    pub format: u32,
    /// By operation and job, a space between.
    pub runs: BTreeMap<String, Past>,
}

impl Default for State {
    fn default() -> State {
        State { format: FORMAT, runs: BTreeMap::new() }
    }
}

/// The name under which a job's operation is remembered.
pub fn name(job: &str, operation: impl std::fmt::Display) -> String {
    format!("{operation} {job}")
}

#[cfg(test)]
mod tests;
