//! `health`: is everything there that tonight's backup needs, and is there a good backup at all?
//!
//! Each check of [`checks::CHECKS`] is asked on its own, bounded in time, and those that need nothing of
//! each other at the same time ([`runner`]). One that rests on a failed one is skipped: one cause, one
//! failure. Nothing is changed but the checks' own probes.

mod around;
mod checks;
mod history;
mod machine;
mod mongo;
mod place;
mod probe;
mod runner;
mod telling;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::config::exposed::Exposed;
use crate::config::misspelt::Misspelt;
use crate::config::notify::MailOptions;
use crate::config::place::Place;
use crate::notify::events::{self, CheckResult};
use crate::notify::message::Tone;
use crate::ops::backup;

use around::Around;

/// What is looked at, as the settings say.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What a backup would do.
    pub backup: backup::BackupOptions,
    /// Where backups are kept.
    pub place: Place,
    /// Whom to tell; `None` if nobody.
    pub mail: Option<MailOptions>,
    /// The file of figures for Prometheus, which each run replaces.
    pub metrics: Option<PathBuf>,
    /// Variables that were meant to be settings.
    pub misspelt: Vec<Misspelt>,
    /// Files of settings that are open to other users.
    pub exposed: Vec<Exposed>,
}

/// Which checks are wanted, and how patiently.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only these; empty for all.
    pub only: Vec<String>,
    /// Not these.
    pub skip: Vec<String>,
    /// A check that takes longer has failed. (The namespaces of a large server may take longer.)
    pub patience: Duration,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Ok,
    /// A backup will work, but a person should look.
    Warning,
    /// A person must do something.
    Failed,
    /// Not asked: not wanted, or it rests on one that failed, or there is nothing of its kind.
    Skipped,
    /// The settings ask for nothing that this check looks at.
    NotConfigured,
}

impl Outcome {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failed => "failed",
            Outcome::Skipped => "skipped",
            Outcome::NotConfigured => "not configured",
        }
    }
}

/// A check, and how it ended.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found, in one line.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
    /// What to do; always there after a failure and a warning.
    pub next_step: Option<String>,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// The line of backups; unknown when the settings are wrong.
    pub job: Option<String>,
    /// A row for each check, in the order of the list.
    pub checks: Vec<Row>,
}

impl Report {
    /// The names of the checks that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|row| row.outcome == Outcome::Failed).map(|row| row.name).collect()
    }

    /// The names of the checks that ended with a warning.
    pub fn warned(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|row| row.outcome == Outcome::Warning).map(|row| row.name).collect()
    }

    /// The mail about this report.
    pub fn mail(&self, now: DateTime<Utc>) -> events::Report {
        let check = |row: &Row| CheckResult {
            name: row.name,
            word: row.outcome.word(),
            tone: match row.outcome {
                Outcome::Ok | Outcome::Skipped | Outcome::NotConfigured => Tone::Good,
                Outcome::Warning => Tone::Warning,
                Outcome::Failed => Tone::Bad,
            },
            detail: row.detail.clone(),
            took: row.took,
            next_step: row.next_step.clone(),
        };
        events::health(self.job.as_deref(), self.checks.iter().map(check).collect(), now)
    }

    /// 0, or 5 if a check failed.
    pub fn exit(&self) -> Exit {
        if self.failed().is_empty() { Exit::Done } else { Exit::Unhealthy }
    }
}

/// The names of all checks, in their order.
pub fn names() -> impl Iterator<Item = &'static str> {
    checks::CHECKS.iter().map(|check| check.name)
}

/// Looks at everything. `subject` is an error when the settings do not resolve: then the check
/// `configuration` has failed, whatever is wanted. `now` is this machine's clock.
///
/// # Errors
/// Only when `cancel` ended it early, or the options leave nothing to look at, which must not be told as
/// healthy. What is wrong is in the report.
pub async fn health(
    subject: Result<Subject>,
    options: &Options,
    now: DateTime<Utc>,
    cancel: &Cancel,
) -> Result<Report> {
    if !checks::CHECKS.iter().any(|check| runner::asked(check, options)) {
        return Err(Error::usage("--only and --skip leave no check to make")
            .hint("Skip fewer checks; `uzima-backup health --help` names them"));
    }
    let subject = match subject {
        Ok(subject) => subject,
        Err(error) => return Ok(Report { job: None, checks: unresolved(&error, options) }),
    };
    let job = Some(subject.backup.settings.job.clone());
    let around = Around::new(subject, now, options.patience);
    let checks = cancel.or(async { Ok(runner::run(checks::CHECKS, &around, options).await) }).await;
    around.close().await;
    Ok(Report { job, checks: checks? })
}

/// Without settings there is nothing else to look at.
fn unresolved(error: &Error, options: &Options) -> Vec<Row> {
    let row = |check: &checks::Check| {
        if check.name == checks::CONFIGURATION {
            return Some(runner::failed(check, error, Duration::ZERO));
        }
        let why = format!("because {} failed", checks::CONFIGURATION);
        runner::wanted(check, options).then(|| runner::skipped(check, why))
    };
    checks::CHECKS.iter().filter_map(row).collect()
}
