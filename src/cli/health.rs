//! `uzima-backup health`.

use super::args::HealthArgs;
use super::logging::Log;
use super::output::{self, Output};
use super::units;
use crate::base::error::Result;
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::config::notify::Event;
use crate::notify::run::{Run, RunNotices};
use crate::ops::health::{CheckOutcome, CheckRow, HealthOptions, HealthReport, run_health};

pub async fn run(args: &HealthArgs, run: &Run<'_>, output: &Output, log: &Log) -> Result<Exit> {
    // `--email` without a mail service is wrong usage, which is reported before any check.
    let notices = if args.email { Some(RunNotices::new(run)?) } else { None };
    notices.as_ref().map_or(Ok(()), RunNotices::require_mail)?;
    let (only, skip, allow_empty) = (args.only.clone(), args.skip.clone(), args.allow_empty);
    let options = HealthOptions { only, skip, allow_empty, ..HealthOptions::default() };
    let report = run_health(run, &options).await?;
    output.report(log, &report, report_text(&report));
    // A mail that cannot be sent does not change the report. The check `mail` covers mails.
    let unsent = match &notices {
        Some(notices) => notices.report(Event::Health, report.mail(run.clock.now())).await,
        None => Vec::new(),
    };
    unsent.iter().for_each(|problem| output::needs_look(problem));
    print_failed(&report, output);
    Ok(match report.exit() {
        Exit::Done if !unsent.is_empty() => Exit::NeedsLook,
        exit => exit,
    })
}

/// Prints the failed checks on standard error.
pub fn print_failed(report: &HealthReport, output: &Output) {
    let failed: Vec<&CheckRow> =
        report.checks.iter().filter(|row| row.outcome == CheckOutcome::Failed).collect();
    if output.quiet {
        // The names of the checks alone do not say what is wrong.
        for row in &failed {
            output::print_line(&format!("{}: {}", row.label(), row.detail));
            row.next_step.iter().for_each(|step| output::print_line(&format!("next step: {step}")));
        }
    }
    if !failed.is_empty() {
        output::print_line(&format!("unhealthy: {}", report.failed().join(", ")));
    }
}

/// Formats the report: a line for each check, and the next step below it.
pub fn report_text(report: &HealthReport) -> String {
    let word = |row: &CheckRow| row.outcome.word();
    let widest = |width: &dyn Fn(&CheckRow) -> usize| report.checks.iter().map(width).max().unwrap_or(0);
    let (first, second) = (widest(&|row| word(row).len()), widest(&|row| row.label().len()));
    let mut text = String::new();
    for row in &report.checks {
        let took = match row.took.is_zero() {
            true => String::new(),
            false => format!("   {}", units::brief(row.took)),
        };
        push_line(&mut text, &format!("{:first$}  {:second$}  {}{took}", word(row), row.label(), row.detail));
        if let Some(step) = &row.next_step {
            push_line(&mut text, &format!("{:first$}  {:second$}  next step: {step}", "", ""));
        }
    }
    let count = |outcome| report.checks.iter().filter(|row| row.outcome == outcome).count();
    // Failed checks are printed once, on standard error.
    let health = if report.exit() == Exit::Done { "healthy: " } else { "" };
    let kinds = [
        CheckOutcome::Ok,
        CheckOutcome::Warning,
        CheckOutcome::Failed,
        CheckOutcome::Skipped,
        CheckOutcome::NotConfigured,
    ];
    let counts = kinds.into_iter().filter(|outcome| count(*outcome) > 0);
    let counts: Vec<String> =
        counts.map(|outcome| format!("{} {}", count(outcome), outcome.word())).collect();
    text + &format!("{health}{}\n", counts.join(", "))
}
