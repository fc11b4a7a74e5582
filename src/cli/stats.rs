//! `uzima-backup stats`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::units;
use crate::catalog::run::{Run, Status};
use crate::ops::stats::{Report, Success, Trend};

/// A table: its head and its rows.
pub type Table = (Vec<&'static str>, Vec<Vec<String>>);

/// What the report says, a line each: the same on a terminal and in a mail.
pub fn facts(report: &Report) -> Vec<(&'static str, String)> {
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
pub fn periods(report: &Report) -> Option<Table> {
    let unit = report.periods.first()?.unit.word();
    let row = |p: &crate::ops::stats::Period| {
        vec![
            p.start.to_string(),
            p.made.to_string(),
            p.failed.to_string(),
            p.stored_bytes.map_or("-".into(), |n| units::bytes(n.round() as u64)),
            p.seconds.map_or("-".into(), seconds),
        ]
    };
    let head = vec![unit, "backups", "failed", "size", "took"];
    Some((head, report.periods.iter().map(row).collect()))
}

/// The last runs.
pub fn last(report: &Report) -> Option<Table> {
    let row = |run: &Run| {
        vec![
            run.id.to_string(),
            run.status.to_string(),
            run.stored_bytes.map_or("-".into(), units::bytes),
            run.took().map_or("-".into(), units::duration),
            run.error.as_deref().or(run.warnings.first().map(String::as_str)).unwrap_or_default().to_string(),
        ]
    };
    let head = vec!["last runs", "status", "size", "took", "what to look at"];
    (!report.last.is_empty()).then(|| (head, report.last.iter().map(row).collect()))
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
    let range = match trend.least == trend.most {
        true => String::new(),
        false => format!(" (median {}, {} to {})", show(trend.median), show(trend.least), show(trend.most)),
    };
    let growth = match trend.per_day {
        Some(per_day) if per_day * 30.0 >= 0.5 => format!(", grows by {} in 30 days", show(per_day * 30.0)),
        Some(per_day) if per_day * 30.0 <= -0.5 => format!(", shrinks by {} in 30 days", show(-per_day * 30.0)),
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

/// The report for machines.
pub fn json(report: &Report) -> serde_json::Value {
    let trend = |trend: &Option<Trend>| {
        trend.map(|t| {
            json!({"first": t.first, "last": t.last, "least": t.least, "most": t.most, "median": t.median,
                   "per_day": t.per_day})
        })
    };
    let success: Vec<_> = report
        .success
        .iter()
        .map(|s| json!({"days": s.days, "made": s.made, "ended": s.ended, "percent": s.percent()}))
        .collect();
    let periods: Vec<_> = report
        .periods
        .iter()
        .map(|p| {
            json!({"unit": p.unit.word(), "start": p.start, "made": p.made, "failed": p.failed,
                   "stored_bytes": p.stored_bytes, "seconds": p.seconds})
        })
        .collect();
    let totals: serde_json::Map<String, serde_json::Value> =
        report.totals.iter().map(|(status, n)| (status.to_string(), json!(n))).collect();
    json!({
        "version": 1,
        "job": report.job,
        "place": report.place,
        "at": report.at,
        "runs": totals,
        "success": success,
        "backups": report.kept.0,
        "stored_bytes": report.kept.1,
        "raw_bytes": report.kept_raw,
        "newest": report.newest.as_ref().map(|run| run.id.clone()),
        "oldest_started_at": report.oldest,
        "size": trend(&report.size),
        "documents": trend(&report.documents),
        "seconds": trend(&report.duration),
        "raw_bytes_per_second": report.throughput,
        "periods": periods,
        "last": report.last.iter().map(run_json).collect::<Vec<_>>(),
        "next_expiry": report.next_expiry.as_ref().map(|next| json!({"id": next.id, "at": next.at})),
    })
}

fn run_json(run: &Run) -> serde_json::Value {
    json!({
        "id": run.id,
        "status": run.status.word(),
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "documents": run.documents,
        "raw_bytes": run.raw_bytes,
        "stored_bytes": run.stored_bytes,
        "error": run.error,
        "warnings": run.warnings,
    })
}

/// The report for people.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for (label, value) in facts(report) {
        text.push_str(&format!("{label:11}  {value}\n"));
    }
    for table in [periods(report), last(report)].into_iter().flatten() {
        text.push_str(&format!("\n{}", lines(table)));
    }
    text
}

/// A table in columns; figures stand right.
fn lines((head, rows): Table) -> String {
    let head: Vec<String> = head.into_iter().map(str::to_uppercase).collect();
    let all: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..all[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cell = |(column, text): (usize, &String)| match column {
            0 => format!("{text:<w$}", w = widths[column]),
            _ if column == row.len() - 1 && widths.len() == 5 && widths[column] > 12 => text.clone(),
            _ => format!("{text:>w$}", w = widths[column]),
        };
        let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    all.iter().map(line).collect()
}

/// Whether a person should look: the last run that ended made no backup.
pub fn worrying(report: &Report) -> bool {
    let ended = report.last.iter().find(|run| run.status != Status::Running);
    ended.is_none_or(|run| matches!(run.status, Status::Failed | Status::Interrupted))
}
