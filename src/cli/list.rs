//! `uzima-backup list`.

use std::num::NonZeroUsize;

use chrono::{DateTime, Utc};
use serde_json::json;

use super::args::ListArgs;
use super::columns::columns;
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
        text(&found, args.job.as_deref(), &store.place(), now)
    });
    let faulty = found.iter().any(|listed| listed.fault.is_some());
    Ok(if faulty { Exit::Mismatch } else { Exit::Done })
}

fn row(listed: &Listed) -> serde_json::Value {
    let (pinned, status) = (listed.pinned, listed.shown().code());
    let fault = listed.fault.as_ref().map(|fault| &fault.why);
    let verified =
        listed.verified.as_ref().map(|v| json!({"at": v.at, "sound": v.sound, "drilled_at": v.drilled}));
    match &listed.row {
        Row::Stored(Entry::Backup(m)) => json!({
            "id": m.id,
            "status": status,
            "pinned": pinned,
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
            json!({"id": id, "status": status, "pinned": pinned, "key": key, "error": fault})
        }
        Row::Run(run) => json!({
            "id": run.id,
            "status": status,
            "pinned": pinned,
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

fn text(found: &[Listed], job: Option<&str>, place: &str, now: DateTime<Utc>) -> String {
    if found.is_empty() {
        let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        return format!("no backups{of_job} in {place}\n");
    }
    let rows: Vec<Vec<String>> = found.iter().map(|listed| cells(listed, now).into()).collect();
    columns(&HEADER, &rows, &[2, 3, 4, 5])
}

fn cells(listed: &Listed, now: DateTime<Utc>) -> [String; 10] {
    let pinned = if listed.pinned { ", pinned" } else { "" };
    let word = format!("{}{pinned}", listed.shown());
    let fault = listed.fault.as_ref().map(|fault| &fault.why);
    let run = match &listed.row {
        Row::Stored(Entry::Backup(manifest)) => &Run::completed(manifest, ""),
        Row::Run(run) => run.as_ref(),
        Row::Stored(Entry::Damaged { id, why, .. }) => {
            let mut cells: [String; 10] = Default::default();
            (cells[0], cells[9]) = (id.to_string(), one_line(&format!("{word}: {why}")));
            return cells;
        }
    };
    let status = match fault.or(run.error.as_ref()) {
        Some(error) => one_line(&format!("{word}: {error}")),
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

/// What other programs said may have several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
