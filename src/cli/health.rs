//! `uzima-backup health`.

use std::time::Duration;

use chrono::Utc;
use log::Level;
use serde_json::json;

use super::args::HealthArgs;
use super::logging::Log;
use super::output::{self, Output};
use super::tell::Teller;
use super::units;
use crate::base::cancel::Cancel;
use crate::base::error::Result;
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::base::retry::FOR_A_PERSON;
use crate::config::Config;
use crate::config::event::Event;
use crate::config::place::Place;
use crate::ops::backup::{BackupOptions, Expected};
use crate::ops::health::{self, Options, Outcome, Report, Row, Subject};

/// How long a check may take: longer than MongoDB's driver looks for a server (30 s).
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn run(
    args: &HealthArgs,
    config: &Config,
    output: &Output,
    log: &Log,
    cancel: &Cancel,
) -> Result<Exit> {
    // Before anything is asked: a mail that nobody can get is a mistake in the command.
    let teller = if args.email { Some(Teller::new(config, log, cancel)?) } else { None };
    teller.as_ref().map_or(Ok(()), Teller::is_ready)?;
    let report = look(args, config, log, cancel).await?;
    output.result(&report_json(&report), || report_text(&report));
    // What it says stands on its own: a mail that cannot be sent is what the check `mail` is for.
    let unsent = match &teller {
        Some(teller) => teller.report(Event::Health, report.mail(Utc::now())).await,
        None => Vec::new(),
    };
    unsent.iter().for_each(|problem| output::needs_look(problem));
    tell_failed(&report, output);
    Ok(match report.exit() {
        Exit::Done if !unsent.is_empty() => Exit::NeedsLook,
        exit => exit,
    })
}

/// Looks at everything that the flags ask for, and logs it. What is told has no secrets in it, though words of
/// servers and drivers are among it.
pub async fn look(args: &HealthArgs, config: &Config, log: &Log, cancel: &Cancel) -> Result<Report> {
    let options = Options { only: args.only.clone(), skip: args.skip.clone(), patience: PATIENCE };
    let mut report = health::health(subject(args, config), &options, Utc::now(), cancel).await?;
    let redactor = &config.redactor;
    for row in &mut report.checks {
        row.detail = redactor.clean(&row.detail);
        row.next_step = row.next_step.as_ref().map(|step| redactor.clean(step));
    }
    log.tell(Level::Info, &report_text(&report));
    Ok(report)
}

/// Names on standard error what failed.
pub fn tell_failed(report: &Report, output: &Output) {
    let failed: Vec<&Row> = report.checks.iter().filter(|row| row.outcome == Outcome::Failed).collect();
    if output.quiet {
        // Names alone would not say what is wrong.
        for row in &failed {
            output::say(&format!("{}: {}", row.name, row.detail));
            row.next_step.iter().for_each(|step| output::say(&format!("next step: {step}")));
        }
    }
    if !failed.is_empty() {
        output::say(&format!("unhealthy: {}", report.failed().join(", ")));
    }
}

fn subject(args: &HealthArgs, config: &Config) -> Result<Subject> {
    let mut settings = config.job()?.clone();
    settings.patience = settings.patience.at_most(FOR_A_PERSON);
    let mut place = config.place()?.clone();
    if let Place::S3(options) = &mut place {
        options.patience = settings.patience.at_most(FOR_A_PERSON);
    }
    Ok(Subject {
        backup: BackupOptions { settings, allow_empty: args.allow_empty, expected: Expected::default() },
        place,
        mail: config.mail()?.cloned(),
        metrics: config.signals()?.metrics.clone(),
        misspelt: config.misspelt().to_vec(),
        exposed: config.exposed().to_vec(),
    })
}

/// The report as JSON.
pub fn report_json(report: &Report) -> serde_json::Value {
    let row = |row: &Row| {
        json!({
            "name": row.name,
            "outcome": row.outcome.word().replace(' ', "_"),
            "detail": row.detail,
            "milliseconds": row.took.as_millis() as u64,
            "next_step": row.next_step,
        })
    };
    json!({
        "version": 1,
        "job": report.job,
        "healthy": report.exit() == Exit::Done,
        "checks": report.checks.iter().map(row).collect::<Vec<_>>(),
    })
}

/// The report as text: a line for each check, and the next step of each that failed or warned.
pub fn report_text(report: &Report) -> String {
    let word = |row: &Row| row.outcome.word();
    let widest = |width: &dyn Fn(&Row) -> usize| report.checks.iter().map(width).max().unwrap_or(0);
    let (first, second) = (widest(&|row| word(row).len()), widest(&|row| row.name.len()));
    let mut text = String::new();
    for row in &report.checks {
        let took = match row.took.is_zero() {
            true => String::new(),
            false => format!("   {}", units::brief(row.took)),
        };
        push_line(&mut text, &format!("{:first$}  {:second$}  {}{took}", word(row), row.name, row.detail));
        if let Some(step) = &row.next_step {
            push_line(&mut text, &format!("{:first$}  {:second$}  next step: {step}", "", ""));
        }
    }
    let count = |outcome| report.checks.iter().filter(|row| row.outcome == outcome).count();
    // That it is not, and why, is said once: on standard error.
    let health = if report.exit() == Exit::Done { "healthy: " } else { "" };
    let kinds = [Outcome::Ok, Outcome::Warning, Outcome::Failed, Outcome::Skipped, Outcome::NotConfigured];
    let counts = kinds.into_iter().filter(|outcome| count(*outcome) > 0);
    let counts: Vec<String> =
        counts.map(|outcome| format!("{} {}", count(outcome), outcome.word())).collect();
    text + &format!("{health}{}\n", counts.join(", "))
}
