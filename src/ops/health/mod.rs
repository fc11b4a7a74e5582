//! `health`: checks that the next backup can work, and that there is a recent good backup.
//!
//! The checks of [`checks::CHECKS`] run at the same time unless one depends on another, each with a time limit. If a check
//! failed, the checks that depend on it are skipped, so that one cause is one failure. Only probes are written.

mod checks;
mod context;
mod history;
mod machine;
mod place;
mod probe;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::retry::FOR_A_PERSON;
use crate::config::notify::MailOptions;
use crate::config::place::Place;
use crate::config::warnings::Exposed;
use crate::config::warnings::Misspelt;
use crate::config::{Config, JobSettings};
use crate::notify::events::{CheckResult, ReportMail};
use crate::notify::mails;
use crate::notify::message::Tone;
use crate::notify::run::Run;

use context::Context;

/// The settings that the checks look at.
#[derive(Debug, Clone)]
pub struct HealthSubject {
    /// The job.
    pub settings: JobSettings,
    /// A server without collections is not a failure.
    pub allow_empty: bool,
    /// The place of the backups.
    pub place: Place,
    /// How mails are sent; `None` if mails are not set up.
    pub mail: Option<MailOptions>,
    /// The metrics file.
    pub metrics: Option<PathBuf>,
    /// Variables that look like misspelt settings.
    pub misspelt: Vec<Misspelt>,
    /// Files with settings that other users can read or change.
    pub exposed: Vec<Exposed>,
}

/// Selects the checks, and limits their time.
#[derive(Debug, Clone)]
pub struct HealthOptions {
    /// Only these checks; empty for all.
    pub only: Vec<String>,
    /// Not these checks.
    pub skip: Vec<String>,
    /// A check that takes longer fails. The check `namespaces` may take longer on a large server.
    pub patience: Duration,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    Ok,
    /// A backup will work, but a person should look.
    Warning,
    /// A person must do something.
    Failed,
    /// Not run: not selected, or a check that it depends on failed, or there is nothing to check yet.
    Skipped,
    /// Nothing is set that the check could look at.
    NotConfigured,
}

impl CheckOutcome {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            CheckOutcome::Ok => "ok",
            CheckOutcome::Warning => "warning",
            CheckOutcome::Failed => "failed",
            CheckOutcome::Skipped => "skipped",
            CheckOutcome::NotConfigured => "not configured",
        }
    }
}

/// A check and its result.
#[derive(Debug, Clone, Serialize)]
pub struct CheckRow {
    pub name: &'static str,
    pub outcome: CheckOutcome,
    /// The finding, in one line.
    pub detail: String,
    /// How long the check took; zero if it was not run.
    #[serde(rename = "milliseconds", serialize_with = "milliseconds")]
    pub took: Duration,
    /// What to do; always set after a failure and a warning.
    pub next_step: Option<String>,
}

fn milliseconds<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(took.as_millis() as u64)
}

/// The results of all checks. Serializes as docs/json.md describes it.
#[derive(Debug, Serialize)]
pub struct HealthReport {
    version: u32,
    /// The job; `None` if the settings are wrong.
    pub job: Option<String>,
    /// No check failed.
    pub healthy: bool,
    /// The checks in the order of [`names`].
    pub checks: Vec<CheckRow>,
}

impl HealthReport {
    fn new(job: Option<String>, checks: Vec<CheckRow>) -> HealthReport {
        let healthy = checks.iter().all(|row| row.outcome != CheckOutcome::Failed);
        HealthReport { version: 1, job, healthy, checks }
    }

    /// The names of the checks that failed.
    pub fn failed(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|row| row.outcome == CheckOutcome::Failed).map(|row| row.name).collect()
    }

    /// The mail about this report.
    pub fn mail(&self, now: DateTime<Utc>) -> ReportMail {
        let check = |row: &CheckRow| CheckResult {
            name: row.name,
            word: row.outcome.word(),
            tone: match row.outcome {
                CheckOutcome::Ok | CheckOutcome::Skipped | CheckOutcome::NotConfigured => Tone::Good,
                CheckOutcome::Warning => Tone::Warning,
                CheckOutcome::Failed => Tone::Bad,
            },
            detail: row.detail.clone(),
            took: row.took,
            next_step: row.next_step.clone(),
        };
        mails::health(self.job.as_deref(), self.checks.iter().map(check).collect(), now)
    }

    /// [`Exit::Unhealthy`] if a check failed, else [`Exit::Done`].
    pub fn exit(&self) -> Exit {
        if self.healthy { Exit::Done } else { Exit::Unhealthy }
    }
}

/// The names of all checks, in their order.
pub fn names() -> impl Iterator<Item = &'static str> {
    checks::CHECKS.iter().map(|check| check.name)
}

/// The flags of `health`.
#[derive(Debug, Clone, Default)]
pub struct HealthRequest {
    /// Only these checks; empty for all.
    pub only: Vec<String>,
    /// Not these checks.
    pub skip: Vec<String>,
    /// A server without collections is not a failure.
    pub allow_empty: bool,
}

/// How long a check may take: longer than MongoDB's driver looks for a server (30 s).
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the checks on the settings. The report contains no secrets.
///
/// # Errors
/// As [`health`].
pub async fn run_health(run: &Run<'_>, request: &HealthRequest) -> Result<HealthReport> {
    let (only, skip) = (request.only.clone(), request.skip.clone());
    let options = HealthOptions { only, skip, patience: PATIENCE };
    let subject = subject(run.config, request.allow_empty);
    let mut report = health(subject, &options, run.clock.now(), run.cancel).await?;
    let redactor = &run.config.redactor;
    for row in &mut report.checks {
        row.detail = redactor.clean(&row.detail);
        row.next_step = row.next_step.as_ref().map(|step| redactor.clean(step));
    }
    Ok(report)
}

fn subject(config: &Config, allow_empty: bool) -> Result<HealthSubject> {
    let mut settings = config.job.clone()?;
    settings.patience = settings.patience.at_most(FOR_A_PERSON);
    let mut place = config.place.clone()?;
    if let Place::S3(options) = &mut place {
        options.patience = settings.patience.at_most(FOR_A_PERSON);
    }
    Ok(HealthSubject {
        settings,
        allow_empty,
        place,
        mail: config.mail.clone()?,
        metrics: config.signals.as_ref()?.metrics.clone(),
        misspelt: config.misspelt.clone(),
        exposed: config.exposed.clone(),
    })
}

/// Runs the checks. If `subject` is an error, the check `configuration` fails, even if it is not selected. `now` is this
/// machine's clock.
///
/// # Errors
/// Returns an error if `cancel` ended the run early, or if the options select no check, which must not count as healthy.
/// Failed checks are in the report.
pub async fn health(
    subject: Result<HealthSubject>,
    options: &HealthOptions,
    now: DateTime<Utc>,
    cancel: &Cancel,
) -> Result<HealthReport> {
    if !checks::CHECKS.iter().any(|check| checks::asked(check, options)) {
        return Err(Error::usage("--only and --skip leave no check to make")
            .hint("Skip fewer checks; `uzima-backup health --help` names them"));
    }
    let subject = match subject {
        Ok(subject) => subject,
        Err(error) => return Ok(HealthReport::new(None, unresolved(&error, options))),
    };
    let job = Some(subject.settings.job.clone());
    let context = Context::new(subject, now, options.patience);
    let checks = cancel.or(async { Ok(checks::run(checks::CHECKS, &context, options).await) }).await;
    context.close().await;
    Ok(HealthReport::new(job, checks?))
}

/// Without settings there is nothing else to look at.
fn unresolved(error: &Error, options: &HealthOptions) -> Vec<CheckRow> {
    let row = |check: &checks::Check| {
        if check.name == checks::CONFIGURATION {
            return Some(checks::failed(check, error, Duration::ZERO));
        }
        let why = format!("because {} failed", checks::CONFIGURATION);
        checks::wanted(check, options).then(|| checks::skipped(check, why))
    };
    checks::CHECKS.iter().filter_map(row).collect()
}
