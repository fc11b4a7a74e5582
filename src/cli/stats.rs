//! `uzima-backup stats`.

mod json;
mod page;
mod standing;
mod words;

use log::Level;

use super::args::StatsArgs;
use super::columns::columns;
use super::logging::Log;
use super::output::{self, Output};
use super::stored;
use crate::base::error::Result;
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::catalog::records;
use crate::config::notify::Event;
use crate::notify::events;
use crate::notify::message::{Sender, Table};
use crate::notify::run::{Run, RunNotices};
use crate::ops::stats::{self, StatsOptions, StatsReport};
use standing::Look;
use words::{StatsTable, facts, last, periods};

pub async fn run(args: &StatsArgs, run: &Run<'_>, output: &Output, log: &Log) -> Result<Exit> {
    let config = run.config;
    let settings = config.job()?;
    let notices = RunNotices::new(run)?;
    if args.email {
        notices.require_mail()?;
    }
    if let Some(file) = &args.html {
        page::check(file)?;
    }
    let store = stored(config).await?;
    let options =
        StatsOptions { job: settings.job.clone(), policy: settings.retention, max_age: settings.max_age };
    let known = records::known_runs(&settings.records, Some(&settings.job)).await;
    let report = stats::gather(&*store, &known, &options, &run.reading()).await?;
    let redactor = &config.redactor;
    let page = args
        .html
        .as_ref()
        .map(|file| page::write(file, &page::render(&report, &Sender::here(&config.machine.host), redactor)));
    let mut text = text(&report);
    if let (Some(file), Some(Ok(()))) = (&args.html, &page) {
        text.push_str(&format!("\nwritten: {}\n", file.display()));
    }
    log.tell(Level::Info, &text);
    output.result(&json::json(&report), || text);
    // A page that cannot be written keeps no mail back.
    let problems = if args.email { notices.report(Event::Stats, mail(&report)).await } else { Vec::new() };
    problems.iter().for_each(|problem| output::needs_look(problem));
    page.transpose()?;
    Ok(if problems.is_empty() { Exit::Done } else { Exit::NeedsLook })
}

/// The report for people.
fn text(report: &StatsReport) -> String {
    let mut text = String::new();
    for (label, value) in facts(report) {
        push_line(&mut text, &format!("{label:11}  {value}"));
    }
    for line in standing::look(report).looks {
        push_line(&mut text, &format!("needs a look: {line}"));
    }
    for table in [periods(report), last(report)].into_iter().flatten() {
        text.push_str(&format!("\n{}", columns(&table.head, &table.rows, table.figures)));
    }
    text
}

/// The report as a mail.
fn mail(report: &StatsReport) -> events::ReportMail {
    let Look { tone, headline, looks } = standing::look(report);
    let table = |rows: StatsTable| Table::new(rows.title, &rows.head, rows.figures, rows.rows);
    events::ReportMail {
        tone,
        subject: format!("statistics: {}", report.job),
        headline,
        facts: facts(report).into_iter().map(|(label, value)| (label.into(), value)).collect(),
        paragraphs: looks,
        tables: [periods(report), last(report)].into_iter().flatten().map(table).collect(),
        next_step: None,
    }
}
