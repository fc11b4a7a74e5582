//! `uzima-backup cleanup`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use log::Level;
use serde_json::json;

use super::args::CleanupArgs;
use super::logging::Log;
use super::output::{self, Output};
use super::tell::{self, Teller};
use super::{store_there, units};
use crate::base::cancel::Cancel;
use crate::base::error::Result;
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::base::lock;
use crate::base::lock::{Asked, Taken};
use crate::catalog::records;
use crate::config::Config;
use crate::notify::events::Operation;
use crate::ops::cleanup::{self, Options, Orphan, Outcome, Report};

pub async fn run(
    args: &CleanupArgs,
    config: &Config,
    output: &Output,
    log: &Log,
    cancel: &Cancel,
) -> Result<Exit> {
    let teller = Teller::new(config, log, cancel)?;
    let mut report = match cancel.or(cleaned(args, config, log, cancel)).await {
        Ok(report) => report,
        Err(error) => {
            if !args.dry_run {
                teller.failed(Operation::Cleanup, &error).await;
            }
            return Err(error);
        }
    };
    let now = Utc::now();
    if !args.dry_run {
        let outcome = report.outcome(now);
        let unsent = teller.ended(Operation::Cleanup, &report.job, tell::fresh(), outcome).await;
        report.problems.extend(unsent);
    }
    let text = report_text(&report, now);
    log.tell(Level::Info, &text);
    output.result(&report_json(&report), || text);
    if output.quiet {
        // An exit code alone would not say what needs a look.
        for line in report.frozen.iter().map(|why| format!("nothing is deleted: {why}")) {
            output::needs_look(&line);
        }
        report.problems.iter().for_each(|problem| output::needs_look(problem));
    }
    Ok(report.exit())
}

/// Cleans up, and corrects the records.
async fn cleaned(args: &CleanupArgs, config: &Config, log: &Log, cancel: &Cancel) -> Result<Report> {
    let settings = config.job()?;
    log.run.set(format!("cleanup {}", settings.job));
    let options = Options {
        job: settings.job.clone(),
        policy: settings.retention,
        accept: args.accept.clone(),
        force: args.force,
        orphans: args.orphans,
        dry_run: args.dry_run,
        state_dir: config.state_dir.clone(),
        host: settings.host.clone(),
        recorded: BTreeSet::new(),
    };
    let asked = Asked {
        state_dir: options.state_dir.as_deref(),
        job: &options.job,
        operation: lock::Operation::Cleanup,
        host: &options.host,
        started: Utc::now(),
        wait: args.wait,
    };
    let taken = if args.dry_run { Taken::default() } else { lock::take(&asked, cancel).await? };
    let store = store_there(config).await?;
    let (state_dir, place) = (options.state_dir.as_deref(), store.place());
    let recorded = records::expected_backups(&settings.records, state_dir, &place, &options.host).await;
    let options = Options { recorded, ..options };
    // Not the time before a wait: the plan must not be of yesterday.
    let mut report = cleanup::cleanup(&*store, &options, Utc::now()).await?;
    report.problems.extend(taken.problem.clone());
    let deleted = report.deleted();
    if !deleted.is_empty()
        && let Err(e) = records::record_deleted(&settings.records, &deleted, Utc::now()).await
    {
        report.problems.push(config.redactor.clean(&e));
    }
    Ok(report)
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Kept => "kept",
        Outcome::Deleted => "deleted",
        Outcome::Planned => "planned",
        Outcome::Frozen => "frozen",
        Outcome::Locked => "locked",
        Outcome::Failed => "failed",
    }
}

fn report_json(report: &Report) -> serde_json::Value {
    let backups: Vec<serde_json::Value> = report
        .backups
        .iter()
        .map(|row| {
            json!({
                "id": row.id,
                "outcome": name(row.outcome),
                "reason": row.reason,
                "started_at": row.started,
                "stored_bytes": row.stored_bytes,
            })
        })
        .collect();
    let orphans: Vec<serde_json::Value> = report
        .orphans
        .iter()
        .map(|orphan| {
            json!({
                "key": orphan.key,
                "stored_bytes": orphan.size,
                "modified_at": orphan.modified,
                "kept": orphan.kept,
                "deleted": orphan.deleted,
            })
        })
        .collect();
    json!({
        "version": 1,
        "job": report.job,
        "place": report.place,
        "dry_run": report.dry_run,
        "frozen": report.frozen,
        "backups": backups,
        "finished": report.finished,
        "expired": report.expired,
        "orphans": orphans,
        "archived": report.archived,
        "problems": report.problems,
        "notes": report.notes,
    })
}

fn report_text(report: &Report, now: DateTime<Utc>) -> String {
    let mut text = String::new();
    for note in &report.notes {
        push_line(&mut text, note);
    }
    for id in &report.finished {
        let did = if report.dry_run { "would finish" } else { "finished" };
        push_line(&mut text, &format!("{did} the deletion of {id}, which an earlier run began"));
    }
    for id in &report.expired {
        let did = if report.dry_run { "would forget" } else { "forgot" };
        push_line(&mut text, &format!("{did} the failed run {id}"));
    }
    for row in &report.backups {
        let word = match row.outcome {
            Outcome::Kept => "keep",
            Outcome::Deleted => "deleted",
            Outcome::Locked => "locked",
            Outcome::Planned | Outcome::Frozen => "would go",
            Outcome::Failed => "failed",
        };
        push_line(&mut text, &format!("{word:8}  {}  {}", row.id, row.reason));
    }
    for orphan in &report.orphans {
        push_line(&mut text, &orphan_text(orphan, now));
    }
    for problem in &report.problems {
        push_line(&mut text, &format!("needs a look: {problem}"));
    }
    for why in &report.frozen {
        push_line(&mut text, &format!("frozen, nothing is deleted: {why}"));
    }
    push_line(&mut text, &summary(report));
    text
}

fn orphan_text(orphan: &Orphan, now: DateTime<Utc>) -> String {
    let age = units::duration((now - orphan.modified).to_std().unwrap_or_default());
    let size = units::bytes(orphan.size);
    let fate = match (&orphan.kept, orphan.deleted) {
        (_, true) => "deleted",
        (Some(why), _) => why,
        (None, _) => "if nobody needs it: cleanup --orphans",
    };
    format!("orphan    {}  {size}, {age} old, no manifest: {fate}", orphan.key)
}

fn summary(report: &Report) -> String {
    let count = |outcome| report.backups.iter().filter(|row| row.outcome == outcome).count();
    let bytes = |outcome| {
        let rows = report.backups.iter().filter(|row| row.outcome == outcome);
        units::bytes(rows.map(|row| row.stored_bytes).sum())
    };
    let all = format!("{} of {}", units::several(report.backups.len() as u64, "backup"), report.job);
    let place = &report.place;
    if !report.frozen.is_empty() {
        return format!("frozen: {} of {all} in {place} would go", count(Outcome::Frozen));
    }
    if report.dry_run {
        let (planned, freed) = (count(Outcome::Planned), bytes(Outcome::Planned));
        return format!("would delete {planned} of {all} in {place}, {freed}");
    }
    let failed = match count(Outcome::Failed) {
        0 => String::new(),
        n => format!("; {n} failed"),
    };
    format!("deleted {} of {all} in {place}, {}{failed}", count(Outcome::Deleted), bytes(Outcome::Deleted))
}
