//! `uzima-backup stats`.

mod json;

use std::time::Duration;

use chrono::{DateTime, Utc};
use log::Level;

use super::args::StatsArgs;
use super::columns::columns;
use super::logging::Log;
use super::output::{self, Output};
use super::tell::Teller;
use super::{machine, stored, units};
use crate::cancel::Cancel;
use crate::catalog::run::{Run, Status};
use crate::config::layers::Layers;
use crate::config::settings::Settings;
use crate::error::Result;
use crate::exit::Exit;
use crate::notify::events;
use crate::notify::message::{Event, Table, Tone};
use crate::ops::recorded;
use crate::ops::stats::{self, Period, Report, Success, Trend};

pub async fn run(
    args: &StatsArgs,
    layers: &Layers,
    output: &Output,
    log: &Log,
    cancel: &Cancel,
) -> Result<Exit> {
    let settings = Settings::resolve(layers, &machine())?;
    let teller = Teller::new(layers, log, cancel)?;
    if args.email {
        teller.is_ready()?;
    }
    let store = stored(layers).await?;
    let known = recorded::known(&settings.records, Some(&settings.job)).await;
    let report = stats::gather(&*store, &known, &settings.job, &settings.retention, Utc::now()).await?;
    let text = text(&report);
    log.tell(Level::Info, &text);
    output.result(&json::json(&report), || text);
    if !args.email {
        return Ok(Exit::Done);
    }
    let problems = teller.report(Event::Stats, mail(&report)).await;
    problems.iter().for_each(|problem| output::needs_look(problem));
    Ok(if problems.is_empty() { Exit::Done } else { Exit::NeedsLook })
}

/// How many characters of an error stand in a table.
const BRIEF: usize = 72;

/// The head and the rows of a table, and which of its columns are figures.
struct Rows {
    title: &'static str,
    head: [&'static str; 5],
    rows: Vec<Vec<String>>,
    figures: &'static [usize],
}

/// What the report says, a line each: the same on a terminal and in a mail.
fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = vec![("job", report.job.clone()), ("place", report.place.clone())];
    let totals = report.totals.iter().filter(|(_, count)| *count > 0);
    let totals: Vec<String> = totals.map(|(status, n)| format!("{n} {status}")).collect();
    facts.push(("runs", if totals.is_empty() { "none yet".into() } else { totals.join(", ") }));
    if report.success.iter().any(|success| success.ended > 0) {
        let parts: Vec<String> = report.success.iter().map(success).collect();
        facts.push(("success", parts.join(" · ")));
    }
    let (kept, stored) = report.kept;
    if kept > 0 {
        let raw = units::bytes(report.kept_raw);
        facts.push(("storage", format!("{} in {kept} backups ({raw} raw)", units::bytes(stored))));
    }
    if let Some(newest) = &report.newest {
        facts.push(("newest", format!("{}, {} ago", newest.id, ago(newest.started_at, report.at))));
    }
    if let Some(oldest) = report.oldest {
        facts.push(("oldest", format!("{}, {} ago", oldest.format("%F"), ago(oldest, report.at))));
    }
    let bytes = |n: f64| units::bytes(n.round() as u64);
    if let Some(size) = &report.size {
        facts.push(("size", trend(size, bytes)));
    }
    if let Some(documents) = &report.documents {
        facts.push(("documents", trend(documents, |n| units::count(n.round() as u64))));
    }
    if let Some(took) = &report.duration {
        facts.push(("duration", trend(took, seconds)));
    }
    if let Some(speed) = report.throughput {
        facts.push(("throughput", format!("{}/s raw", bytes(speed))));
    }
    if let Some((id, drill)) = &report.drill {
        let how = if drill.findings.is_empty() { "" } else { ", and found differences" };
        let (took, speed) = (seconds(drill.recovery_seconds), bytes(drill.speed()));
        let when = ago(drill.at, report.at);
        facts.push(("drill", format!("{id} {when} ago: restored in {took}, {speed}/s raw{how}")));
    }
    if let Some(next) = &report.next_expiry {
        let when = match next.at <= report.at {
            true => "at the next cleanup".to_string(),
            false => format!("on {}", next.at.format("%F")),
        };
        facts.push(("next expiry", format!("{} {when}, if backups go on", next.id)));
    }
    facts
}

/// The runs by day, week or month.
fn periods(report: &Report) -> Option<Rows> {
    let unit = report.periods.first()?.unit.word();
    let row = |p: &Period| {
        vec![
            p.start.to_string(),
            p.made.to_string(),
            p.failed.to_string(),
            p.stored_bytes.map_or("-".into(), |n| units::bytes(n.round() as u64)),
            p.seconds.map_or("-".into(), seconds),
        ]
    };
    let head = [unit, "backups", "failed", "size", "took"];
    let rows = report.periods.iter().map(row).collect();
    Some(Rows { title: "Over the time", head, rows, figures: &[1, 2, 3, 4] })
}

/// The last runs.
fn last(report: &Report) -> Option<Rows> {
    let row = |run: &Run| {
        vec![
            run.id.to_string(),
            run.status.to_string(),
            run.stored_bytes.map_or("-".into(), units::bytes),
            run.took().map_or("-".into(), units::duration),
            brief(to_look_at(run)),
        ]
    };
    let head = ["run", "status", "size", "took", "what to look at"];
    let rows = report.last.iter().map(row).collect();
    (!report.last.is_empty()).then_some(Rows { title: "The last runs", head, rows, figures: &[2, 3] })
}

fn to_look_at(run: &Run) -> &str {
    let killed = (run.status == Status::Interrupted).then_some("killed, or its machine went down");
    let warning = run.warnings.first().map(String::as_str);
    run.error.as_deref().or(killed).or(warning).unwrap_or_default()
}

/// The beginning of a text, in one line that leaves a table legible; `list` and --json have all of it.
fn brief(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(BRIEF) {
        Some((end, _)) => format!("{}…", line[..end].trim_end()),
        None => line,
    }
}

fn success(success: &Success) -> String {
    let of = match success.days {
        Some(days) => format!("of {days} days"),
        None => "of all".into(),
    };
    match success.percent() {
        Some(percent) => format!("{percent:.1} % {of} ({}/{})", success.made, success.ended),
        None => format!("no runs {of}"),
    }
}

fn trend(trend: &Trend, show: impl Fn(f64) -> String) -> String {
    let (least, most) = (show(trend.least), show(trend.most));
    // What rounds to the same is the same to a person.
    let range = match least == most {
        true => String::new(),
        false => format!(" (median {}, {least} to {most})", show(trend.median)),
    };
    let growth = match trend.per_day {
        Some(per_day) if per_day * 30.0 >= 0.5 => format!(", grows by {} in 30 days", show(per_day * 30.0)),
        Some(per_day) if per_day * 30.0 <= -0.5 => {
            format!(", shrinks by {} in 30 days", show(-per_day * 30.0))
        }
        _ => String::new(),
    };
    format!("{}{range}{growth}", show(trend.last))
}

fn seconds(n: f64) -> String {
    units::duration(Duration::from_secs_f64(n.max(0.0)))
}

fn ago(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    units::duration((now - then).to_std().unwrap_or_default())
}

/// The report for people.
fn text(report: &Report) -> String {
    let mut text = String::new();
    for (label, value) in facts(report) {
        text.push_str(&format!("{label:11}  {value}\n"));
    }
    for table in [periods(report), last(report)].into_iter().flatten() {
        text.push_str(&format!("\n{}", columns(&table.head, &table.rows, table.figures)));
    }
    text
}

/// The report as a mail.
fn mail(report: &Report) -> events::Report {
    let ended = report.last.iter().find(|run| run.status != Status::Running);
    let (tone, how) = match ended.map(|run| run.status) {
        None => (Tone::Warning, "no run yet".to_string()),
        Some(Status::Failed | Status::Interrupted) => (Tone::Warning, "the last run made no backup".into()),
        Some(_) => (Tone::Good, format!("{} backups, {}", report.kept.0, units::bytes(report.kept.1))),
    };
    let table = |rows: Rows| Table::new(rows.title, &rows.head, rows.figures, rows.rows);
    events::Report {
        tone,
        subject: format!("statistics: {}", report.job),
        headline: format!("{}: {how}", report.job),
        facts: facts(report).into_iter().map(|(label, value)| (label.into(), value)).collect(),
        paragraphs: Vec::new(),
        tables: [periods(report), last(report)].into_iter().flatten().map(table).collect(),
        next_step: None,
    }
}
