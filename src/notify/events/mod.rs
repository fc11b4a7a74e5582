//! What happened, as a message: pure, a file a subject.

mod cleanup;
mod failure;
mod recovered;
mod report;
mod success;

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use cleanup::{Cleanup, Deletion, Frozen, cleanup, frozen};
pub use failure::{Failure, NewestGood, failure};
pub use recovered::{Row, recovered};
pub use report::{CheckResult, Report, health, report};
pub use success::{Success, success};

/// What a run is about to do for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A backup.
    Backup,
    /// A clean-up.
    Cleanup,
    /// Anything else that runs unattended.
    Other(&'static str),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Backup => "backup",
            Operation::Cleanup => "cleanup",
            Operation::Other(word) => word,
        })
    }
}

/// The run that a mail is about.
#[derive(Debug, Clone)]
pub struct Occasion {
    /// The line of backups.
    pub job: String,
    /// What ran.
    pub operation: Operation,
    /// The id of this run, unlike every other's: of a backup its id, of another operation one made alike.
    pub run: String,
}

impl Occasion {
    /// How it stands in a subject. Only a backup's id is of use to a person.
    fn named(&self) -> String {
        match self.operation {
            Operation::Backup => format!("{} ({})", self.job, self.run),
            Operation::Cleanup | Operation::Other(_) => self.job.clone(),
        }
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// The time between; none when a clock was set back meanwhile.
fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    (to - from).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests;
