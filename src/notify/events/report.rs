//! What `stats` and `health` tell: they know their figures, and only the frame is made here.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::time;
use crate::base::units;
use crate::config::notify::Event;
use crate::notify::message::{Message, Sender, Table, Tone};

/// A report.
#[derive(Debug, Clone)]
pub struct Report {
    /// How it looks at first sight.
    pub tone: Tone,
    /// Status and what it is about, for the subject: `health: 2 checks failed: db1`.
    pub subject: String,
    /// The same as a sentence.
    pub headline: String,
    /// Label and value.
    pub facts: Vec<(String, String)>,
    /// What else there is to say.
    pub paragraphs: Vec<String>,
    /// Rows of the like.
    pub tables: Vec<Table>,
    /// What a person should do.
    pub next_step: Option<String>,
}

/// The mail about it.
pub fn report(event: Event, report: Report, sender: &Sender) -> Message {
    Message {
        facts: report.facts,
        paragraphs: report.paragraphs,
        tables: report.tables,
        next_step: report.next_step,
        ..Message::new(event, report.tone, &report.subject, &report.headline, sender)
    }
}

/// A check of `health`, for the mail.
#[derive(Debug, Clone)]
pub struct CheckResult {
    pub name: &'static str,
    /// The outcome in one word: `ok`, `warning`, `failed`, `skipped`.
    pub word: &'static str,
    /// [`Tone::Good`] also for a check that was skipped.
    pub tone: Tone,
    pub detail: String,
    pub took: Duration,
    pub next_step: Option<String>,
}

/// The mail with the results of `health`. `job` is `None` if the settings are wrong.
pub fn health(job: Option<&str>, checks: Vec<CheckResult>, now: DateTime<Utc>) -> Report {
    let job = job.unwrap_or("settings that are wrong");
    let count = |tone| checks.iter().filter(|check| check.tone == tone).count() as u64;
    let (tone, status) = match (count(Tone::Bad), count(Tone::Warning)) {
        (0, 0) => (Tone::Good, "healthy".to_string()),
        (0, warnings) => (Tone::Warning, format!("healthy, {}", units::several(warnings, "warning"))),
        (failed, _) => {
            (Tone::Bad, format!("{failed} of {} failed", units::several(checks.len() as u64, "check")))
        }
    };
    let steps: Vec<String> = checks
        .iter()
        .filter_map(|check| Some(format!("{}: {}", check.name, check.next_step.as_ref()?)))
        .collect();
    let row = |check: CheckResult| {
        vec![check.name.to_string(), check.word.to_string(), check.detail, units::brief(check.took)]
    };
    let rows = checks.into_iter().map(row).collect();
    Report {
        tone,
        subject: format!("health: {status}: {job}"),
        headline: format!("{job}: {status}"),
        facts: vec![("Checked".into(), time(now))],
        paragraphs: Vec::new(),
        tables: vec![Table::new("Checks", &["Check", "Result", "Found", "Took"], &[3], rows)],
        next_step: (!steps.is_empty()).then(|| steps.join(" · ")),
    }
}
