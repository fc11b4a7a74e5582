//! What a restore did, and which exit code that is.

use std::time::Duration;

use super::problem::{Problem, Trouble};
use super::replay::Replayed;
use crate::base::error::Error;
use crate::base::exit::Exit;
use crate::model::tally::Tally;

/// How it went with a namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// The name in the backup.
    pub from: String,
    /// The name at the target.
    pub to: String,
    /// How many documents were sent.
    pub documents: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
    /// How many of them an other one with the same `_id` stands for, which was read later.
    pub superseded: u64,
    /// How many the server did not take.
    pub refused: u64,
    /// What is at the target of what was sent: all but what was superseded.
    pub kept: Tally,
    /// How many indexes were built.
    pub indexes: u64,
    /// How long that took.
    pub indexing: Duration,
    /// What is not as it was in the backup.
    pub problems: Vec<Problem>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// How to remove the cause, if the namespace is not complete and the cause is known.
    pub next_step: Option<String>,
}

impl Outcome {
    /// Returns true if the whole namespace is at the target, apart from refused documents and indexes.
    pub fn is_complete(&self) -> bool {
        self.problems.iter().all(|problem| problem.trouble != Trouble::Incomplete)
    }
}

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
    /// Users and roles that could not be restored, and namespaces that could not be dropped, a line each.
    pub problems: Vec<Problem>,
    /// How to restore what is missing; `None` if nothing is missing.
    pub next_step: Option<String>,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// What may surprise, and is as it was asked for.
    pub notes: Vec<String>,
}

impl Report {
    /// Whether something is not as it was in the backup.
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty()
            || self.outcomes.iter().any(|outcome| !outcome.problems.is_empty())
            || self.replayed.as_ref().is_some_and(|replayed| !replayed.problems.is_empty())
    }

    /// The names at the target of the namespaces that are not complete.
    pub fn missing(&self) -> Vec<&str> {
        let missing = self.outcomes.iter().filter(|outcome| !outcome.is_complete());
        missing.map(|outcome| outcome.to.as_str()).collect()
    }

    /// The error that names what is missing, and how to restore it; `None` if everything was restored.
    pub fn failure(&self) -> Option<Error> {
        let all =
            self.outcomes.iter().flat_map(|outcome| outcome.problems.iter().map(move |p| (&*outcome.to, p)));
        let all = all.map(|(name, problem)| (format!("{name}: {problem}"), problem));
        let others = self.replayed.iter().flat_map(|replayed| &replayed.problems).chain(&self.problems);
        let all = all.chain(others.map(|problem| (problem.to_string(), problem)));
        let lines: Vec<String> =
            all.filter(|(_, problem)| problem.trouble == Trouble::Incomplete).map(|(line, _)| line).collect();
        let error = (!lines.is_empty()).then(|| {
            Error::failed(format!(
                "the restore is not complete; everything else was restored. {}",
                lines.join(". ")
            ))
        });
        match (error, &self.next_step) {
            (Some(error), Some(step)) => Some(error.hint(step.clone())),
            (error, _) => error,
        }
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
