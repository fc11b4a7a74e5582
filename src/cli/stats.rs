//! `uzima-backup stats`: the report as text and as a mail.

mod page;

use std::time::Duration;

use super::args::StatsArgs;
use super::logging::Log;
use super::open_place;
use super::output::{self, Output, columns};
use super::restorable::{open_gap_text, restorable_text};
use crate::base::error::Result;
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::base::units;
use crate::catalog::fault::ShownStatus;
use crate::catalog::records;
use crate::catalog::run::Status;
use crate::config::notify::Event;
use crate::config::place::FIRST;
use crate::notify::events;
use crate::notify::message::{Sender, Table, Tone};
use crate::notify::run::{Run, RunNotices};
use crate::ops::stats::places::{self, StatsPlace};
use crate::ops::stats::{
    self, MISSED_DAYS, StatsOptions, StatsPeriod, StatsReport, StatsRun, SuccessRate, Trend,
};
use crate::retention::outlook::{AHEAD, Pace};
use chrono::{DateTime, Utc};

/// The most characters of an error in the table of runs. `list` and --json show all of it.
const BRIEF_ERROR: usize = 72;
/// The most days without a run that are named.
const MOST_MISSED: usize = 3;

pub async fn run(args: &StatsArgs, run: &Run<'_>, output: &Output, log: &Log) -> Result<Exit> {
    let config = run.config;
    let settings = config.job.as_ref()?;
    let notices = RunNotices::new(run)?;
    if args.email {
        notices.require_mail()?;
    }
    if let Some(file) = &args.html {
        page::check_file(file)?;
    }
    let store = open_place(config).await?;
    let options = StatsOptions {
        job: settings.job.clone(),
        policy: settings.retention,
        max_age: settings.max_age,
        oplog_days: settings.oplog_days,
    };
    let known = records::known_runs(&settings.records, Some(&settings.job)).await;
    let reading = run.reading()?;
    let mut report = stats::gather(&*store, &known, &options, &reading).await?;
    report.places = places::of_each(config, &reading).await?;
    let written = args.html.as_ref().map(|file| {
        let sender = Sender::here(&config.machine.host);
        page::write_file(file, &page::render(&report, &sender, &config.redactor))
    });
    let mut text = text(&report);
    if let (Some(file), Some(Ok(()))) = (&args.html, &written) {
        text.push_str(&format!("\nwritten: {}\n", file.display()));
    }
    output.report(log, &report, text);
    // The mail is sent even if the page cannot be written.
    let problems = if args.email { notices.report(Event::Stats, mail(&report)).await } else { Vec::new() };
    problems.iter().for_each(|problem| output::needs_look(problem));
    written.transpose()?;
    Ok(if problems.is_empty() { Exit::Done } else { Exit::NeedsLook })
}

fn text(report: &StatsReport) -> String {
    let mut text = String::new();
    for (label, value) in facts(report) {
        push_line(&mut text, &format!("{label:11}  {value}"));
    }
    for line in StatsSummary::new(report).looks {
        push_line(&mut text, &format!("needs a look: {line}"));
    }
    for table in tables(report) {
        text.push_str(&format!("\n{}", columns(&table.head, &table.rows, table.figures)));
    }
    text
}

/// The mail with a report.
pub(super) fn mail(report: &StatsReport) -> events::ReportMail {
    let StatsSummary { tone, headline, subject, looks } = StatsSummary::new(report);
    let table = |rows: StatsTable| Table::new(rows.title, &rows.head, rows.figures, rows.rows);
    events::ReportMail {
        tone,
        subject,
        headline,
        facts: facts(report).into_iter().map(|(label, value)| (label.into(), value)).collect(),
        paragraphs: looks,
        tables: tables(report).into_iter().map(table).collect(),
        next_step: None,
    }
}

/// The state of a job in a sentence, and the lines that a person should look at.
#[derive(Debug)]
struct StatsSummary {
    tone: Tone,
    headline: String,
    /// The subject of the mail. It says what is wrong, or only names the job.
    subject: String,
    looks: Vec<String>,
}

impl StatsSummary {
    fn new(report: &StatsReport) -> StatsSummary {
        let standing = &report.standing;
        let mut looks: Vec<String> =
            standing.frozen.iter().map(|why| format!("A cleanup would delete nothing: {why}")).collect();
        // A reason to freeze cleanups is also a problem of the store. It is shown once.
        looks.extend(standing.problems.iter().filter(|problem| !standing.frozen.contains(problem)).cloned());
        for (id, why) in &standing.bad {
            if !looks.iter().any(|line| line.contains(id.as_str())) {
                looks.push(format!("The backup {id} does not count: {why}"));
            }
        }
        looks.extend(missed_text(report));
        looks.extend(report.places.iter().filter(|place| place.name != FIRST).filter_map(stale_text));
        looks.extend(report.restorable.as_ref().and_then(open_gap_text));
        let (tone, state) = match standing.age {
            None if report.runs.is_empty() => (Tone::Warning, "no run yet".to_string()),
            None => (Tone::Bad, "no good backup".into()),
            Some(age) if !standing.fresh => {
                (Tone::Bad, format!("the newest good backup is {} old", units::age(age)))
            }
            Some(_) if standing.failing => (Tone::Warning, "the last run made no backup".into()),
            Some(_) if !standing.frozen.is_empty() => (Tone::Warning, "cleanups are frozen".into()),
            Some(_) if looks.len() == 1 => (Tone::Warning, "one thing needs a look".into()),
            Some(_) if !looks.is_empty() => (Tone::Warning, format!("{} things need a look", looks.len())),
            Some(_) => (
                Tone::Good,
                format!(
                    "{}, {}",
                    units::several(report.backups as u64, "backup"),
                    units::bytes(report.stored_bytes)
                ),
            ),
        };
        let subject = match tone {
            Tone::Good => format!("stats: {}", report.job),
            _ => format!("stats: {}: {}", report.job, state.strip_prefix("the ").unwrap_or(&state)),
        };
        let limit = match standing.age {
            Some(_) if !standing.fresh => format!(", {} are allowed", units::age(standing.max_age)),
            _ => String::new(),
        };
        StatsSummary { tone, headline: format!("{}: {state}{limit}", report.job), subject, looks }
    }
}

/// The number of days without a run, and the newest of them; `None` if there were none.
fn missed_text(report: &StatsReport) -> Option<String> {
    let count = report.missed.len();
    let mut days: Vec<String> = report.missed.iter().take(MOST_MISSED).map(ToString::to_string).collect();
    if count > MOST_MISSED {
        days.push("…".into());
    }
    let had = if count == 1 { "day had" } else { "days had" };
    let step = "the log of cron or systemd shows whether the run was started";
    let days = days.join(", ");
    (count > 0).then(|| format!("{count} of the last {MISSED_DAYS} {had} no run ({days}): {step}"))
}

/// A table of figures. `figures` are the numbers of its right-aligned columns.
#[derive(Debug)]
struct StatsTable {
    title: &'static str,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    figures: &'static [usize],
}

/// The report as labels and values, the same for the terminal and for the mail.
fn facts(report: &StatsReport) -> Vec<(&'static str, String)> {
    let mut facts = vec![("job", report.job.clone()), ("place", report.place.clone())];
    if !report.others.is_empty() {
        facts.push(("other jobs", format!("{} (--job)", report.others.join(", "))));
    }
    let totals = report.totals.iter().filter(|(_, count)| *count > 0);
    let totals: Vec<String> = totals.map(|(status, n)| format!("{n} {status}")).collect();
    facts.push(("runs", if totals.is_empty() { "none yet".into() } else { totals.join(", ") }));
    if report.success.iter().any(|success| success.ended > 0) {
        let parts: Vec<String> = report.success.iter().map(success_text).collect();
        facts.push(("success", parts.join(" · ")));
    }
    if report.backups + report.lost > 0 {
        facts.push((
            "storage",
            format!(
                "{} in {} ({} raw){}",
                units::bytes(report.stored_bytes),
                units::several(report.backups as u64, "backup"),
                units::bytes(report.raw_bytes),
                not_good(report)
            ),
        ));
    }
    if let Some(newest) = &report.newest {
        let fault = match newest.status {
            ShownStatus::Fault(_) => format!(", {}", newest.status),
            _ => String::new(),
        };
        facts.push(("newest", format!("{}, {} ago{fault}", newest.id, age(newest.started_at, report))));
    }
    if let Some(oldest) = report.oldest {
        facts.push(("oldest", format!("{}, {} ago", oldest.format("%F"), age(oldest, report))));
    }
    let restorable = report.restorable.as_ref();
    facts.extend(restorable.map(|found| ("restorable", restorable_text(found, report.at))));
    let bytes = |n: f64| units::bytes(n.round() as u64);
    let count = |n: f64| units::count(n.round() as u64);
    facts.extend(report.size.map(|size| ("size", trend_text(&size, bytes))));
    facts.extend(report.documents.map(|documents| ("documents", trend_text(&documents, count))));
    facts.extend(report.duration.map(|took| ("duration", trend_text(&took, seconds))));
    let throughput = report.throughput.map(|speed| format!("{} raw", units::bytes_per_second(speed)));
    facts.extend(throughput.map(|speed| ("throughput", speed)));
    let newest = report.newest.as_ref();
    facts.extend(newest.and_then(|run| run.timing).map(|timing| ("waited", timing.words())));
    facts.extend(newest.and_then(|run| run.slow.clone()).map(|slow| ("note", slow)));
    if let Some((id, drill)) = report.drills.first() {
        let differs = if drill.is_sound() { "" } else { ", and found differences" };
        let point = drill.point.as_ref().map(|point| format!(" up to {}", point.at.second()));
        let (took, speed) = (seconds(drill.recovery_seconds), bytes(drill.speed()));
        let ago = age(drill.at, report);
        let point = point.unwrap_or_default();
        facts.push(("drill", format!("{id}{point} {ago} ago: restored in {took}, {speed}/s raw{differs}")));
    }
    facts.extend(forecast(report).map(|forecast| ("forecast", forecast)));
    if let Some(next) = &report.next_expiry {
        let when = match next.at <= report.at {
            true => "at the next cleanup".to_string(),
            false => format!("on {}", next.at.format("%F")),
        };
        facts.push(("next expiry", format!("{} {when}, if backups go on", next.id)));
    }
    facts
}

fn tables(report: &StatsReport) -> Vec<StatsTable> {
    let [periods, period_waits] = over_time(report);
    [places_table(report), periods, period_waits, runs_table(report), run_waits_table(report)]
        .into_iter()
        .flatten()
        .collect()
}

/// The line about a copy that cannot be read or is too old.
fn stale_text(place: &StatsPlace) -> Option<String> {
    let name = &place.name;
    if let Some(why) = &place.away {
        return Some(format!("The copy {name} could not be read: {why}"));
    }
    let allowed = units::age(place.max_age);
    let step = format!("`uzima-backup copy --missing --to {name}`");
    match place.age {
        _ if place.fresh => None,
        Some(age) => Some(format!(
            "The newest good backup in the copy {name} is {} old, {allowed} are allowed: {step}",
            units::age(age)
        )),
        None => Some(format!("The copy {name} has no good backup: {step}")),
    }
}

/// The places; `None` without copies.
fn places_table(report: &StatsReport) -> Option<StatsTable> {
    let row = |place: &StatsPlace| {
        let newest = place.newest_good.as_ref().map_or("-".into(), ToString::to_string);
        let age = place.age.map_or("-".into(), units::age);
        let stored = units::bytes(place.stored_bytes);
        vec![place.name.clone(), place.backups.to_string(), stored, newest, age]
    };
    let head = vec!["place", "backups", "stored", "newest good", "age"];
    let rows: Vec<_> = report.places.iter().map(row).collect();
    (!rows.is_empty()).then_some(StatsTable { title: "Places", head, rows, figures: &[1, 2, 4] })
}

/// The figures by day, week or month.
fn over_time(report: &StatsReport) -> [Option<StatsTable>; 2] {
    [periods_table(report), period_waits_table(report)]
}

/// A duration, or `-` if it was not measured.
fn measured(n: Option<f64>) -> String {
    n.map_or("-".into(), seconds)
}

fn raw_speed(speed: Option<f64>) -> String {
    speed.map_or("-".into(), units::bytes_per_second)
}

/// The raw speed and the waits by day, week or month; `None` if nothing was measured.
fn period_waits_table(report: &StatsReport) -> Option<StatsTable> {
    let unit = report.periods.first()?.unit.word();
    let row = |p: &StatsPeriod| {
        let waits = [p.mongodb_seconds, p.compression_seconds, p.store_seconds].map(measured);
        [vec![p.start.to_string(), raw_speed(p.raw_bytes_per_second)], waits.into()].concat()
    };
    let head = vec![unit, "raw speed", "MongoDB wait", "compression wait", "store wait"];
    let rows = report.periods.iter().map(row).collect();
    let any = report.periods.iter().any(|p| p.mongodb_seconds.is_some());
    any.then_some(StatsTable { title: "Waits over time", head, rows, figures: &[1, 2, 3, 4] })
}

/// The raw speed and the waits of the last runs; `None` if nothing was measured.
fn run_waits_table(report: &StatsReport) -> Option<StatsTable> {
    let row = |run: &StatsRun| {
        let waits = match run.timing {
            Some(timing) => timing.waits().map(|(_, wait)| seconds(wait)),
            None => ["-"; 3].map(String::from),
        };
        let other = measured(run.timing.map(|timing| timing.other_seconds));
        let speed = raw_speed(run.raw_bytes_per_second);
        [vec![run.id.to_string(), speed], waits.into(), vec![other]].concat()
    };
    let head = vec!["run", "raw speed", "MongoDB wait", "compression wait", "store wait", "other"];
    let rows = report.last().iter().map(row).collect();
    let any = report.last().iter().any(|run| run.timing.is_some());
    any.then_some(StatsTable { title: "Waits of the last runs", head, rows, figures: &[1, 2, 3, 4, 5] })
}

fn periods_table(report: &StatsReport) -> Option<StatsTable> {
    let unit = report.periods.first()?.unit.word();
    let row = |p: &StatsPeriod| {
        vec![
            p.start.to_string(),
            p.made.to_string(),
            p.failed.to_string(),
            p.stored_bytes.map_or("-".into(), |n| units::bytes(n.round() as u64)),
            p.seconds.map_or("-".into(), seconds),
        ]
    };
    let head = vec![unit, "backups", "failed", "size", "took"];
    let rows = report.periods.iter().map(row).collect();
    Some(StatsTable { title: "Over time", head, rows, figures: &[1, 2, 3, 4] })
}

fn runs_table(report: &StatsReport) -> Option<StatsTable> {
    let row = |run: &StatsRun| {
        vec![
            run.id.to_string(),
            run.status.to_string(),
            run.stored_bytes.map_or("-".into(), units::bytes),
            run.took().map_or("-".into(), units::duration),
            units::brief_text(main_problem(run), BRIEF_ERROR),
        ]
    };
    let head = vec!["run", "status", "size", "took", "what to look at"];
    let rows = report.last().iter().map(row).collect();
    (!report.runs.is_empty()).then_some(StatsTable { title: "The last runs", head, rows, figures: &[2, 3] })
}

/// The most important problem or note of a run, or an empty text.
fn main_problem(run: &StatsRun) -> &str {
    let killed = (run.outcome == Status::Interrupted).then_some("killed, or its machine went down");
    let warning = run.warnings.first().or(run.slow.as_ref()).map(String::as_str);
    run.error.as_deref().or(killed).or(warning).unwrap_or_default()
}

fn success_text(success: &SuccessRate) -> String {
    let of = match success.days {
        Some(days) => format!("of {days} days"),
        None => "of all".into(),
    };
    match success.percent {
        Some(percent) => format!("{percent:.1} % {of} ({}/{})", success.made, success.ended),
        None => format!("no runs {of}"),
    }
}

fn trend_text(trend: &Trend, show: impl Fn(f64) -> String) -> String {
    let (least, most) = (show(trend.least), show(trend.most));
    // Values that look the same after rounding are no range.
    let range = match least == most {
        true => String::new(),
        false => format!(" (median {}, {least} to {most})", show(trend.median)),
    };
    let growth = match trend.per_day.unwrap_or_default() * 30.0 {
        monthly if monthly >= 0.5 => format!(", grows by {} in 30 days", show(monthly)),
        monthly if monthly <= -0.5 => format!(", shrinks by {} in 30 days", show(-monthly)),
        _ => String::new(),
    };
    format!("{}{range}{growth}", show(trend.last))
}

/// The numbers of partial, bad and lost backups, to be appended to the number of backups.
fn not_good(report: &StatsReport) -> String {
    let bad = match report.not_good {
        0 => String::new(),
        1 => ", 1 of them is not good".into(),
        n => format!(", {n} of them are not good"),
    };
    let partial = match report.partial {
        0 => String::new(),
        n => format!(", {n} partial"),
    };
    match report.lost {
        0 => format!("{partial}{bad}"),
        n => format!("{partial}{bad}, and {n} more without a readable manifest"),
    }
}

/// The storage after the next days, with the pace that is assumed; `None` without backups.
fn forecast(report: &StatsReport) -> Option<String> {
    let last = report.outlook.stored.get(AHEAD)?;
    Some(format!(
        "{} in {} on {}, if {}",
        units::bytes(last.bytes),
        units::several(last.backups as u64, "backup"),
        last.at.format("%F"),
        pace_text(&report.pace)
    ))
}

fn pace_text(pace: &Pace) -> String {
    let often = match pace.every.num_hours() {
        24 => "every day".to_string(),
        hours if hours % 24 == 0 => format!("every {} days", hours / 24),
        1 => "every hour".into(),
        hours => format!("every {hours} hours"),
    };
    let bytes = |n: f64| units::bytes(n.abs().round() as u64);
    let growth = match pace.per_day.round() {
        n if n >= 1.0 => format!(" and grow by {} a day", bytes(n)),
        n if n <= -1.0 => format!(" and shrink by {} a day", bytes(n)),
        _ => String::new(),
    };
    format!("backups of {} are made {often}{growth}", bytes(pace.bytes))
}

fn seconds(n: f64) -> String {
    units::duration(Duration::from_secs_f64(n.max(0.0)))
}

/// The time from `then` to the report.
fn age(then: DateTime<Utc>, report: &StatsReport) -> String {
    units::duration((report.at - then).to_std().unwrap_or_default())
}
