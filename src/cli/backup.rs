//! `uzima-backup backup`.

use std::sync::Arc;

use chrono::Utc;
use log::Level;
use serde_json::json;

use super::args::BackupArgs;
use super::logging::Log;
use super::output::{self, Output};
use super::progress::Display;
use super::tell::Teller;
use super::{store, units};
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::Result;
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::base::lock;
use crate::base::lock::Asked;
use crate::base::progress::Meter;
use crate::config::Config;
use crate::model::id::BackupId;
use crate::mongo::notes::Notes;
use crate::notify::Outcome;
use crate::notify::events::{Operation, Success};
use crate::ops::backup::{self, BackupOptions, Expected, Plan, Resources};
use crate::ops::recorded::{self, Done, Recording};

pub async fn run(
    args: &BackupArgs,
    config: &Config,
    output: &Output,
    log: &Log,
    cancel: Cancel,
) -> Result<Exit> {
    if args.dry_run {
        let settings = config.job()?.clone();
        let options =
            BackupOptions { settings, allow_empty: args.allow_empty, expected: Expected::default() };
        let plan = cancel.or(backup::plan(&options)).await?;
        output.result(&plan_json(&plan), || plan_text(&plan));
        return Ok(Exit::Done);
    }
    let teller = Teller::new(config, log, &cancel)?;
    let mut done = match made(args, config, output, log, &teller, &cancel).await {
        Ok(done) => done,
        Err(error) => {
            teller.failed(Operation::Backup, &error).await;
            return Err(error);
        }
    };
    let manifest = &done.report.manifest;
    let mut success = Success::of(manifest, &done.report.place);
    success.warnings.extend(done.problems.iter().cloned());
    let success = Outcome::Success(success);
    let unsent = teller.ended(Operation::Backup, &manifest.job, manifest.id.to_string(), success).await;
    done.problems.extend(unsent);
    let text = report_text(&done);
    log.tell(Level::Info, &text);
    output.result(&report_json(&done), || text);
    if output.quiet {
        // An exit code alone would not say what needs a look.
        for line in done.report.manifest.warnings.iter().chain(&done.problems) {
            output::needs_look(line);
        }
    }
    Ok(done.exit())
}

/// Makes the backup and records it.
async fn made(
    args: &BackupArgs,
    config: &Config,
    output: &Output,
    log: &Log,
    teller: &Teller<'_>,
    cancel: &Cancel,
) -> Result<Done> {
    let expected = if args.new_place { Expected::Nothing } else { Expected::default() };
    let options = BackupOptions { settings: config.job()?.clone(), allow_empty: args.allow_empty, expected };
    let taken = lock::take(
        &Asked {
            state_dir: options.settings.state_dir.as_deref(),
            job: &options.settings.job,
            operation: lock::Operation::Backup,
            host: &options.settings.host,
            started: Utc::now(),
            wait: args.wait,
        },
        cancel,
    )
    .await?;
    // A run that waits for another one has not begun.
    let unsaid = teller.started().await;
    let run = log.run.clone();
    let resources = Resources {
        store: cancel.or(store(config)).await?,
        clock: Clock::start(),
        new_id: Arc::new(move |now| {
            let id = BackupId::new(now, &mut rand::rng());
            run.set(&id);
            id
        }),
        meter: Arc::new(Meter::default()),
        cancel: cancel.clone(),
        notes: Notes::default(),
    };
    let display = Display::start(resources.meter.clone(), output.interactive(), &log.bars);
    let recording = Recording {
        records: config.records()?.clone(),
        redactor: config.redactor.clone(),
        alone: taken.lock.is_some(),
    };
    let outcome = recorded::backup(resources, &options, &recording).await;
    drop(display);
    outcome.map(|mut done| {
        done.problems.extend(taken.problem.into_iter().chain(unsaid));
        done
    })
}

fn report_json(done: &Done) -> serde_json::Value {
    let (report, m) = (&done.report, &done.report.manifest);
    json!({
        "version": 1,
        "id": m.id,
        "job": m.job,
        "place": report.place,
        "started_at": m.started_at,
        "finished_at": m.finished_at,
        "engine": m.engine.name,
        "consistency": m.consistency.achieved,
        "namespaces": m.totals.namespaces,
        "documents": m.totals.documents,
        "raw_bytes": m.totals.raw_bytes,
        "stored_bytes": m.artifact.size,
        "warnings": m.warnings,
        "notes": m.notes,
        "problems": done.problems,
    })
}

fn report_text(done: &Done) -> String {
    let (report, m) = (&done.report, &done.report.manifest);
    let took = (m.finished_at - m.started_at).to_std().unwrap_or_default();
    let mut text = String::new();
    push_line(&mut text, &format!("backup {} of {}", m.id, m.job));
    let figures = format!(
        "  {}, {}, {} raw, {} stored, in {}",
        units::several(m.totals.namespaces, "namespace"),
        units::several(m.totals.documents, "document"),
        units::bytes(m.totals.raw_bytes),
        units::bytes(m.artifact.size),
        units::duration(took),
    );
    push_line(&mut text, &figures);
    push_line(&mut text, &format!("  engine {}, consistency {}", m.engine.name, m.consistency.achieved));
    push_line(&mut text, &format!("  {}", report.place));
    for line in m.warnings.iter().chain(&done.problems) {
        push_line(&mut text, &format!("  needs a look: {line}"));
    }
    text
}

fn plan_json(plan: &Plan) -> serde_json::Value {
    let names: Vec<String> = plan.description.namespaces.iter().map(ToString::to_string).collect();
    json!({
        "version": 1,
        "member": plan.member,
        "server_version": plan.version,
        "feature_compatibility_version": plan.description.feature_compatibility,
        "engine": plan.engine,
        "shortfall": plan.shortfall,
        "namespaces": names,
        "raw_bytes": plan.description.raw_bytes,
        "warnings": plan.warnings,
    })
}

fn plan_text(plan: &Plan) -> String {
    let mut text = String::new();
    for namespace in &plan.description.namespaces {
        push_line(&mut text, &namespace.to_string());
    }
    let description = &plan.description;
    // The built-in role `backup` may not ask for the raw size.
    let raw = description.raw_bytes.map(|bytes| format!(", {} raw", units::bytes(bytes)));
    let on_disk = || Some(format!(", {} on the server's disk", units::bytes(description.disk_bytes?)));
    let fcv = description.feature_compatibility.map(|fcv| format!(", feature compatibility version {fcv}"));
    push_line(
        &mut text,
        &format!(
            "would read {}{}, of {} (MongoDB {}{}) with {}",
            units::several(description.namespaces.len() as u64, "namespace"),
            raw.or_else(on_disk).unwrap_or_default(),
            plan.member,
            plan.version,
            fcv.unwrap_or_default(),
            plan.engine
        ),
    );
    for line in &plan.warnings {
        push_line(&mut text, &format!("needs a look: {line}"));
    }
    if let Some(why) = &plan.shortfall {
        push_line(&mut text, &format!("each collection would be read at its own time: {why}"));
    }
    text
}
