//! `uzima-backup list`.

use std::num::NonZeroUsize;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::args::ListArgs;
use super::columns::{BETWEEN, columns};
use super::output::Output;
use super::{stored, units};
use crate::catalog::Entry;
use crate::catalog::run::{Run, Verified};
use crate::config::layers::Layers;
use crate::config::records::RecordsAt;
use crate::error::Result;
use crate::exit::Exit;
use crate::ops::list::{self, Listed, Options, Row};
use crate::ops::recorded;

pub async fn run(args: &ListArgs, layers: &Layers, output: &Output) -> Result<Exit> {
    let records = RecordsAt::resolve(layers)?;
    let store = stored(layers).await?;
    let limit = args.limit.map(NonZeroUsize::get);
    let options = Options { job: args.job.clone(), limit, statuses: args.status.clone() };
    let known = recorded::known(&records, options.job.as_deref()).await;
    let now = Utc::now();
    let found = list::list(&*store, &known, &options, now).await?;
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
        Row::Stored(Entry::Backup(m)) => json!({
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
        Row::Stored(Entry::Damaged { id, key, .. }) => {
            json!({"id": id, "status": status, "pinned": pinned, "pin_reason": reason, "key": key, "error": fault})
        }
        Row::Run(run) => json!({
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

/// How many characters of a status are told where there is no terminal.
const LEGIBLE: usize = 100;
/// So many are told on the narrowest terminal.
const LEAST: usize = 40;

fn text(
    found: &[Listed],
    job: Option<&str>,
    place: &str,
    now: DateTime<Utc>,
    width: Option<usize>,
) -> String {
    if found.is_empty() {
        let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        return format!("no backups{of_job} in {place}\n");
    }
    let rows: Vec<Vec<String>> = found.iter().map(|listed| cells(listed, now).into()).collect();
    columns(&HEADER, &briefly(rows, width), &[2, 3, 4, 5])
}

/// What other programs said may be long, and of several lines: it is cut where the terminal ends, but not
/// below what can be understood, and elsewhere where a line stays legible. All of it is in --json.
fn briefly(mut rows: Vec<Vec<String>>, width: Option<usize>) -> Vec<Vec<String>> {
    let before = HEADER.len() - 1;
    let widest = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEADER[column].len()]).max().unwrap_or_default()
    };
    let taken: usize = (0..before).map(|column| widest(column) + BETWEEN).sum();
    let room = width.map_or(LEGIBLE, |width| width.saturating_sub(taken).max(LEAST));
    rows.iter_mut().for_each(|row| row[before] = units::brief_text(&row[before], room));
    rows
}

fn cells(listed: &Listed, now: DateTime<Utc>) -> [String; 10] {
    let pinned = listed.pin.as_ref().map(|pin| format!(", {pin}")).unwrap_or_default();
    let word = format!("{}{pinned}", listed.shown());
    let fault = listed.fault.as_ref().map(|fault| &fault.why);
    let run = match &listed.row {
        Row::Stored(Entry::Backup(manifest)) => &Run::completed(manifest, ""),
        Row::Run(run) => run.as_ref(),
        Row::Stored(Entry::Damaged { id, why, .. }) => {
            let mut cells: [String; 10] = Default::default();
            (cells[0], cells[9]) = (id.to_string(), format!("{word}: {why}"));
            return cells;
        }
    };
    let status = match fault.or(run.error.as_ref()) {
        Some(error) => format!("{word}: {error}"),
        None if run.warnings.is_empty() => word,
        None => format!("{word}, look: {}", run.warnings.join("; ")),
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    let number = |n: Option<u64>, words: fn(u64) -> String| n.map_or_else(|| "-".into(), words);
    [
        run.id.to_string(),
        run.job.clone(),
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

    #[test]
    fn a_line_a_row_and_no_longer_than_is_legible() {
        let now: DateTime<Utc> = "2026-11-24T04:00:00Z".parse().unwrap();
        let id = "20261124T030000Z-aaaaaa".parse().unwrap();
        let mut run = Run::begun(id, "all@db1", "db1", "here", now);
        run.error = Some(format!("cannot read\n  'shop': {}", "x".repeat(900)));
        let found = [Listed { row: Row::Run(Box::new(run)), fault: None, pin: None, verified: None }];
        let longest = |width| {
            let text = text(&found, None, "here", now, width);
            assert_eq!(text.lines().count(), 2, "{text}");
            assert!(text.contains("running: cannot read 'shop': ") && text.ends_with("…\n"), "{text}");
            text.lines().map(|line| line.chars().count()).max().unwrap()
        };
        assert_eq!((longest(Some(200)), longest(Some(180))), (200, 180));
        // A terminal that is too narrow for the columns before still tells the beginning of it.
        assert_eq!(longest(Some(80)), longest(Some(20)));
        let before = longest(Some(80)) - LEAST;
        assert_eq!(longest(None), before + LEGIBLE);
    }
}
