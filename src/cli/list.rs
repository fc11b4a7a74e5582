//! `uzima-backup list`.

use std::num::NonZeroUsize;

use chrono::Utc;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::args::ListArgs;
use super::output::Output;
use super::{store, units};
use crate::artifact::manifest::Manifest;
use crate::catalog::Entry;
use crate::config::layers::Layers;
use crate::config::settings::{self, Place};
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::ops::list::{self, Listed, Options};

pub async fn run(args: &ListArgs, layers: &Layers, output: &Output) -> Result<Exit> {
    // A backup creates the directory; whoever only looks has mistyped it, or forgot to mount the disk.
    if let Place::Dir(dir) = settings::place(layers)?
        && !dir.root.try_exists().unwrap_or(true)
    {
        return Err(Error::failed(format!("there is no backup directory {}", dir.root.display()))
            .hint("Mount the disk, or correct --dir or BACKUP_DIR; the first backup creates it"));
    }
    let store = store(layers).await?;
    store.check().await?;
    let limit = args.limit.map(NonZeroUsize::get);
    let entries = list::list(&*store, &Options { job: args.job.clone(), limit }).await?;
    let rows: Vec<serde_json::Value> = entries.iter().map(row).collect();
    output.result(&json!({"version": 1, "place": store.place(), "backups": rows}), || {
        text(&entries, args.job.as_deref(), &store.place())
    });
    let damaged = entries.iter().any(|listed| matches!(listed.entry, Entry::Damaged { .. }));
    Ok(if damaged { Exit::Mismatch } else { Exit::Done })
}

fn row(listed: &Listed) -> serde_json::Value {
    let pinned = listed.pinned;
    match &listed.entry {
        Entry::Backup(m) => json!({
            "id": m.id,
            "status": "completed",
            "pinned": pinned,
            "job": m.job,
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
        }),
        Entry::Damaged { id, key, why } => {
            json!({"id": id, "status": "damaged", "pinned": pinned, "key": key, "error": why})
        }
    }
}

fn text(entries: &[Listed], job: Option<&str>, place: &str) -> String {
    if entries.is_empty() {
        let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        return format!("no backups{of_job} in {place}\n");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["ID", "JOB", "AGE", "TOOK", "STORED", "DOCUMENTS", "ENGINE", "CONSISTENCY", "STATUS"]);
    for listed in entries {
        let pinned = if listed.pinned { ", pinned" } else { "" };
        match &listed.entry {
            Entry::Backup(m) => table.add_row(cells(m, pinned)),
            Entry::Damaged { id, why, .. } => {
                let mut cells: [String; 9] = Default::default();
                cells[0] = id.to_string();
                cells[8] = format!("damaged{pinned}: {why}");
                table.add_row(cells)
            }
        };
    }
    for column in [2, 3, 4, 5] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    // A job's name is long, and a line per backup is what a person reads and a script greps.
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    let text = table.to_string();
    text.lines().map(|line| format!("{}\n", line.trim())).collect()
}

fn cells(m: &Manifest, pinned: &str) -> [String; 9] {
    let age = (Utc::now() - m.started_at).to_std().unwrap_or_default();
    let took = (m.finished_at - m.started_at).to_std().unwrap_or_default();
    [
        m.id.to_string(),
        m.job.clone(),
        units::duration(age),
        units::duration(took),
        units::bytes(m.artifact.size),
        units::count(m.totals.documents),
        m.engine.name.clone(),
        m.consistency.achieved.clone(),
        if m.warnings.is_empty() {
            format!("completed{pinned}")
        } else {
            format!("completed{pinned}, look: {}", m.warnings.join("; "))
        },
    ]
}
