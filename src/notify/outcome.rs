//! How a run ended, as far as anybody is told.

use chrono::{DateTime, Utc};

use super::events::{Cleanup, Failure, Frozen, Success};
use crate::base::exit::Exit;

/// How a run ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A backup was made.
    Success(Success),
    /// It failed.
    Failure(Failure),
    /// A clean-up did its work.
    Cleanup(Cleanup),
    /// A clean-up deletes nothing until a person looks.
    Frozen(Frozen),
}

impl Outcome {
    /// How the run ends, if nothing goes wrong with telling of it.
    pub fn exit(&self) -> Exit {
        match self {
            Outcome::Success(s) if s.warnings.is_empty() => Exit::Done,
            Outcome::Cleanup(c) if c.problems.is_empty() => Exit::Done,
            Outcome::Success(_) | Outcome::Cleanup(_) | Outcome::Frozen(_) => Exit::NeedsLook,
            Outcome::Failure(f) => f.exit,
        }
    }

    /// Nobody needs to know: another run was under way, and there is a fresh backup.
    pub fn is_harmless(&self, now: DateTime<Utc>) -> bool {
        matches!(self, Outcome::Failure(failure) if failure.is_harmless(now))
    }
}
