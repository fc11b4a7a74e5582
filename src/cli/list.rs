//! `uzima-backup list`.

use std::num::NonZeroUsize;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::args::ListArgs;
use super::columns::{BETWEEN, columns, wrapped};
use super::output::Output;
use super::{reading, stored, units};
use crate::base::error::Result;
use crate::base::escape;
use crate::base::exit::Exit;
use crate::catalog::fault::BackupFault;
use crate::catalog::records;
use crate::catalog::run::{BackupRun, Verified};
use crate::catalog::{CatalogEntry, CatalogOptions};
use crate::config::Config;
use crate::ops::list::{self, ListOptions, ListRow, Listed};

pub async fn run(args: &ListArgs, config: &Config, output: &Output) -> Result<Exit> {
    let records = config.records()?;
    let store = stored(config).await?;
    let limit = args.limit.map(NonZeroUsize::get);
    let options = ListOptions { job: args.job.clone(), limit, statuses: args.status.clone() };
    let known = records::known_runs(records, options.job.as_deref()).await;
    let now = Utc::now();
    let found = list::list(&*store, &known, &options, &CatalogOptions { now, ..reading(config) }).await?;
    let rows: Vec<serde_json::Value> = found.iter().map(row).collect();
    output.result(&json!({"version": 1, "place": store.place(), "backups": rows}), || {
        text(&found, args.job.as_deref(), &store.place(), now, output.width())
    });
    let faulty = found.iter().any(|listed| listed.fault.is_some());
    Ok(if faulty { Exit::Mismatch } else { Exit::Done })
}

fn row(listed: &Listed) -> serde_json::Value {
    let (pinned, status) = (listed.pin.is_some(), listed.shown().code());
    let reason = listed.pin.as_ref().and_then(|pin| pin.reason.as_ref());
    let fault = listed.fault.as_ref().map(|fault| &fault.why);
    let verified =
        listed.verified.as_ref().map(|v| json!({"at": v.at, "sound": v.sound, "drilled_at": v.drilled}));
    match &listed.row {
        ListRow::Stored(CatalogEntry::Backup(m)) => json!({
            "id": m.id,
            "status": status,
            "pinned": pinned,
            "pin_reason": reason,
            "job": m.job,
            "host": m.host,
            "started_at": m.started_at,
            "finished_at": m.finished_at,
            "namespaces": m.totals.namespaces,
            "documents": m.totals.documents,
            "raw_bytes": m.totals.raw_bytes,
            "stored_bytes": m.artifact.size,
            "format": m.artifact.format,
            "engine": m.engine.name,
            "consistency": m.consistency.achieved,
            "key": m.artifact.key,
            "warnings": m.warnings,
            "verified": verified,
            "error": fault,
        }),
        ListRow::Stored(CatalogEntry::Damaged { id, key, .. }) => {
            json!({"id": id, "status": status, "pinned": pinned, "pin_reason": reason, "key": key, "error": fault})
        }
        ListRow::Stored(CatalogEntry::Archived { id, key, why }) => {
            json!({"id": id, "status": status, "pinned": pinned, "pin_reason": reason, "key": key, "error": why})
        }
        ListRow::Run(run) => json!({
            "id": run.id,
            "status": status,
            "pinned": pinned,
            "pin_reason": reason,
            "job": run.job,
            "host": run.host,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "namespaces": run.namespaces,
            "documents": run.documents,
            "raw_bytes": run.raw_bytes,
            "stored_bytes": run.stored_bytes,
            "engine": run.engine,
            "consistency": run.consistency,
            "key": run.key,
            "warnings": run.warnings,
            "verified": verified,
            "error": fault.or(run.error.as_ref()),
        }),
    }
}

const HEADER: [&str; 10] =
    ["ID", "JOB", "AGE", "TOOK", "STORED", "DOCUMENTS", "ENGINE", "CONSISTENCY", "VERIFIED", "STATUS"];

fn text(
    found: &[Listed],
    job: Option<&str>,
    place: &str,
    now: DateTime<Utc>,
    width: Option<usize>,
) -> String {
    if found.is_empty() {
        let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        return format!("{}\n", escape::line(&format!("no backups{of_job} in {place}")));
    }
    let mut rows: Vec<Vec<String>> = found.iter().map(|listed| cells(listed, now).into()).collect();
    let below = below(found, &mut rows, width);
    let table = columns(&HEADER, &rows, &[2, 3, 4, 5]);
    let mut lines = table.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, below) in lines.zip(below) {
        text.push_str(&format!("{line}\n{below}"));
    }
    text
}

/// Ends each row with what is said about it. On a terminal what does not fit there stands in lines of its own below the
/// row, which are the answer: it may be long, and ends in the next step. Elsewhere a row is a line, whole.
fn below(found: &[Listed], rows: &mut [Vec<String>], width: Option<usize>) -> Vec<String> {
    let last = HEADER.len() - 1;
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEADER[column].len()]).max().unwrap_or_default()
    };
    let before: usize = (0..last).map(|column| widest(column) + BETWEEN).sum();
    let ended = rows.iter_mut().zip(found).map(|(row, listed)| {
        let Some((joined, said)) = said(listed) else { return String::new() };
        let whole = format!("{}{joined}{said}", row[last]);
        match width {
            Some(width) if before + whole.chars().count() > width => wrapped(&said, width),
            _ => {
                row[last] = whole;
                String::new()
            }
        }
    });
    ended.collect()
}

/// What is said about a row beside its status, in one line, and what joins the two.
fn said(listed: &Listed) -> Option<(&'static str, String)> {
    let fault = listed.fault.as_ref().map(BackupFault::detail);
    let (error, warnings) = match &listed.row {
        ListRow::Stored(CatalogEntry::Backup(manifest)) => (None, manifest.warnings.join("; ")),
        ListRow::Stored(CatalogEntry::Damaged { why, .. } | CatalogEntry::Archived { why, .. }) => {
            (Some(why), String::new())
        }
        ListRow::Run(run) => (run.error.as_ref(), run.warnings.join("; ")),
    };
    match fault.or(error.map(String::as_str)) {
        Some(error) => Some((": ", one_line(error))),
        None if warnings.is_empty() => None,
        None => Some((", look: ", one_line(&warnings))),
    }
}

/// The words of a text in one line, without characters that steer a terminal: the width of a row is that of its shown text.
fn one_line(text: &str) -> String {
    escape::line(&units::one_line(text)).into_owned()
}

fn cells(listed: &Listed, now: DateTime<Utc>) -> [String; 10] {
    let pinned = listed.pin.as_ref().map(|pin| format!(", {pin}")).unwrap_or_default();
    let status = one_line(&format!("{}{pinned}", listed.shown()));
    let run = match &listed.row {
        ListRow::Stored(CatalogEntry::Backup(manifest)) => &BackupRun::completed(manifest, ""),
        ListRow::Run(run) => run.as_ref(),
        ListRow::Stored(CatalogEntry::Damaged { id, .. } | CatalogEntry::Archived { id, .. }) => {
            let mut cells: [String; 10] = Default::default();
            (cells[0], cells[9]) = (id.to_string(), status);
            return cells;
        }
    };
    let text = |text: &Option<String>| {
        text.as_deref().map_or_else(|| "-".into(), |text| escape::line(text).into_owned())
    };
    let number = |n: Option<u64>, words: fn(u64) -> String| n.map_or_else(|| "-".into(), words);
    [
        run.id.to_string(),
        escape::line(&run.job).into_owned(),
        units::duration((now - run.started_at).to_std().unwrap_or_default()),
        run.took().map_or_else(|| "-".into(), units::duration),
        number(run.stored_bytes, units::bytes),
        number(run.documents, units::count),
        text(&run.engine),
        text(&run.consistency),
        verified(listed.verified.as_ref(), now),
        status,
    ]
}

fn verified(verified: Option<&Verified>, now: DateTime<Utc>) -> String {
    match verified {
        None => "-".into(),
        Some(Verified { sound: false, .. }) => "DAMAGED".into(),
        // What has been restored says more than what has been read.
        Some(Verified { drilled: Some(at), .. }) => format!("drill {}", at.format("%F")),
        Some(Verified { at, .. }) => {
            format!("sound {} ago", units::duration((now - *at).to_std().unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(error: String) -> [Listed; 1] {
        let id = "20261124T030000Z-aaaaaa".parse().unwrap();
        let mut run = BackupRun::begun(id, "all@db1", "db1", "here", "2026-11-24T03:00:00Z".parse().unwrap());
        run.error = Some(error);
        [Listed { row: ListRow::Run(Box::new(run)), fault: None, pin: None, verified: None }]
    }

    fn told(error: &str, width: Option<usize>) -> String {
        text(&listed(error.into()), None, "here", "2026-11-24T04:00:00Z".parse().unwrap(), width)
    }

    #[test]
    fn a_reason_is_never_cut() {
        let reason = format!("cannot read 'shop': {}(next step: grant the role)", "x y z ".repeat(100));
        let error = reason.replacen(' ', "\n  ", 1);
        // A script greps a line a row.
        let text = told(&error, None);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.ends_with(&format!("  running: {reason}\n")), "{text}");
        for width in [200, 80, 20] {
            let text = told(&error, Some(width));
            let mut lines = text.lines().skip(1);
            assert!(lines.next().unwrap().ends_with("  running"), "{text}");
            let below: Vec<&str> = lines.collect();
            assert!(
                below.iter().all(|line| line.starts_with("    ") && line.chars().count() <= width),
                "{text}"
            );
            assert_eq!(below.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "), reason);
        }
        // What fits stays in its row.
        assert!(told("it broke", Some(200)).ends_with("  running: it broke\n"));
    }
}
