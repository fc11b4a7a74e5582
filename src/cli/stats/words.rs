//! The figures in words, for a terminal, a mail and the page.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::standing::forecast;
use crate::base::units;
use crate::catalog::fault::ShownStatus;
use crate::catalog::run::{BackupRun, Status};
use crate::ops::stats::{StatsPeriod, StatsReport, SuccessRate, Trend};

/// How many characters of an error stand in a table that has to be legible; `list` and --json have more.
const BRIEF: usize = 72;

/// The head and the rows of a table, and which of its columns are figures.
#[derive(Debug)]
pub struct StatsTable {
    pub title: &'static str,
    pub head: [&'static str; 5],
    pub rows: Vec<Vec<String>>,
    pub figures: &'static [usize],
}

/// What the report says, a line each: the same on a terminal and in a mail.
pub fn facts(report: &StatsReport) -> Vec<(&'static str, String)> {
    let mut facts = vec![("job", report.job.clone()), ("place", report.place.clone())];
    if !report.others.is_empty() {
        facts.push(("other jobs", format!("{} (--job)", report.others.join(", "))));
    }
    let totals = report.totals.iter().filter(|(_, count)| *count > 0);
    let totals: Vec<String> = totals.map(|(status, n)| format!("{n} {status}")).collect();
    facts.push(("runs", if totals.is_empty() { "none yet".into() } else { totals.join(", ") }));
    if report.success.iter().any(|success| success.ended > 0) {
        let parts: Vec<String> = report.success.iter().map(success).collect();
        facts.push(("success", parts.join(" · ")));
    }
    let (kept, stored) = report.kept;
    if kept + report.lost > 0 {
        let raw = units::bytes(report.kept_raw);
        let (stored, bad) = (units::bytes(stored), not_good(report));
        facts.push((
            "storage",
            format!("{stored} in {} ({raw} raw){bad}", units::several(kept as u64, "backup")),
        ));
    }
    if let Some(newest) = &report.newest {
        let fault =
            report.faults.get(&newest.id).map(|fault| format!(", {}", ShownStatus::Fault(fault.kind)));
        let when = ago(newest.started_at, report.at);
        facts.push(("newest", format!("{}, {when} ago{}", newest.id, fault.unwrap_or_default())));
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
    if let Some((id, drill)) = report.drills.first() {
        let how = if drill.findings.is_empty() { "" } else { ", and found differences" };
        let (took, speed) = (seconds(drill.recovery_seconds), bytes(drill.speed()));
        let when = ago(drill.at, report.at);
        facts.push(("drill", format!("{id} {when} ago: restored in {took}, {speed}/s raw{how}")));
    }
    if let Some(forecast) = forecast(report) {
        facts.push(("forecast", forecast));
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
pub fn periods(report: &StatsReport) -> Option<StatsTable> {
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
    let head = [unit, "backups", "failed", "size", "took"];
    let rows = report.periods.iter().map(row).collect();
    Some(StatsTable { title: "Over the time", head, rows, figures: &[1, 2, 3, 4] })
}

/// The last runs.
pub fn last(report: &StatsReport) -> Option<StatsTable> {
    let row = |run: &BackupRun| {
        vec![
            run.id.to_string(),
            report.shown(run).to_string(),
            run.stored_bytes.map_or("-".into(), units::bytes),
            run.took().map_or("-".into(), units::duration),
            units::brief_text(to_look_at(report, run), BRIEF),
        ]
    };
    let head = ["run", "status", "size", "took", "what to look at"];
    let rows = report.last().iter().map(row).collect();
    (!report.runs.is_empty()).then_some(StatsTable { title: "The last runs", head, rows, figures: &[2, 3] })
}

/// The first thing that a person should look at.
pub fn to_look_at<'a>(report: &'a StatsReport, run: &'a BackupRun) -> &'a str {
    let fault = report.faults.get(&run.id).map(|fault| fault.why.as_str());
    let killed = (run.status == Status::Interrupted).then_some("killed, or its machine went down");
    let warning = run.warnings.first().map(String::as_str);
    fault.or(run.error.as_deref()).or(killed).or(warning).unwrap_or_default()
}

fn success(success: &SuccessRate) -> String {
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

/// What is said behind the backups that exist: how many of them are not good, and how many have no manifest.
pub fn not_good(report: &StatsReport) -> String {
    let bad = match report.not_good {
        0 => String::new(),
        1 => ", 1 of them is no good".into(),
        n => format!(", {n} of them are no good"),
    };
    match report.lost {
        0 => bad,
        n => format!("{bad}, beside {n} without a manifest that can be read"),
    }
}

pub fn seconds(n: f64) -> String {
    units::duration(Duration::from_secs_f64(n.max(0.0)))
}

pub fn ago(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    units::duration((now - then).to_std().unwrap_or_default())
}
