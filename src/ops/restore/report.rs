//! What a restore did, and which exit code that is.

use super::load::Outcome;
use super::replay::Replayed;
use crate::exit::Exit;

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// The namespaces, by name.
    pub outcomes: Vec<Outcome>,
    /// What was dropped because the backup has nothing of that name, and because only the slice writes to it.
    pub dropped: Vec<String>,
    /// How many users and roles were merged.
    pub people: Option<(usize, usize)>,
    /// What was replayed of the oplog slice.
    pub replayed: Option<Replayed>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

impl Report {
    /// Whether something is not as it was in the backup.
    pub fn has_problems(&self) -> bool {
        self.outcomes.iter().any(|outcome| !outcome.problems.is_empty())
            || self.replayed.as_ref().is_some_and(|replayed| !replayed.problems.is_empty())
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        if self.has_problems() {
            Exit::Failed
        } else if !self.warnings.is_empty() || self.outcomes.iter().any(|outcome| !outcome.notes.is_empty()) {
            Exit::NeedsLook
        } else {
            Exit::Done
        }
    }
}
