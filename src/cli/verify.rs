//! `uzima-backup verify`.

use std::sync::Arc;

use log::Level;
use serde_json::json;

use super::args::VerifyArgs;
use super::logging::Log;
use super::output::{self, Output};
use super::{drill, job_meant, reading, stored, units};
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::catalog::choose;
use crate::catalog::records;
use crate::catalog::run::Verified;
use crate::catalog::verdict::Verdict;
use crate::catalog::{self, Entry};
use crate::config::Config;
use crate::config::records::RecordsAt;
use crate::model::manifest::Manifest;
use crate::ops::verify::{self, Chosen};
use crate::store::Store;

/// A backup, and how it was found.
struct Row {
    job: String,
    verdict: Verdict,
    problems: Vec<String>,
}

pub async fn run(
    args: &VerifyArgs,
    config: &Config,
    output: &Output,
    log: &Log,
    cancel: &Cancel,
) -> Result<Exit> {
    let records = config.records()?;
    // What a drill lacks is told before hours of reading.
    let ground = if args.drill { Some(cancel.or(drill::ground(config)).await?) } else { None };
    let store = cancel.or(stored(config)).await?;
    let (mut chosen, mut read) = cancel.or(chosen(args, config, &*store)).await?;
    let mut archived = std::mem::take(&mut chosen.archived);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let (mut rows, mut undrilled) = (Vec::new(), None);
    for id in std::mem::take(&mut chosen.backups) {
        // One at a time: a year of manifests takes gigabytes.
        let manifest = match read.take() {
            Some(manifest) => manifest,
            None => match cancel.or(catalog::find(&*store, &id)).await {
                Ok(Some(Entry::Backup(manifest))) => manifest,
                // A clean-up took it meanwhile.
                Ok(None) => continue,
                Ok(Some(Entry::Damaged { id, key, why })) => {
                    chosen.damaged.push((id, format!("{key} cannot be understood: {why}")));
                    continue;
                }
                Ok(Some(Entry::Archived { id, key, why })) => {
                    archived.push((id, format!("{key}: {why}")));
                    continue;
                }
                Err(e) => {
                    chosen.damaged.push((id, of_one(e, args, &*store, cancel).await?));
                    continue;
                }
            },
        };
        let manifest = &*manifest;
        if let Some(error) = cancel.or(choose::archived_error(&*store, &manifest.id)).await? {
            if !args.all {
                return Err(error);
            }
            let step = error.next_step().map(|step| format!(". {step}")).unwrap_or_default();
            archived.push((manifest.id.clone(), format!("{error}{step}")));
            continue;
        }
        log::info!("verifying {}, {}", manifest.id, units::bytes(manifest.artifact.size));
        let report = match cancel.or(verify::verify(&store, manifest, workers, Clock::start())).await {
            Ok(report) => report,
            Err(e) => {
                chosen.damaged.push((id, of_one(e, args, &*store, cancel).await?));
                continue;
            }
        };
        let mut verdict = report.verdict(&manifest.id, &config.machine.host);
        // One that is damaged is not restored.
        if let Some(ground) = ground.as_ref().filter(|_| verdict.sound) {
            match drill::run(Arc::clone(&store), manifest, ground, config, output, log, cancel).await {
                Ok(drill) => verdict = verdict.with(drill),
                Err(e) => undrilled = Some(e),
            }
        }
        rows.push(cancel.or(async { Ok(kept(&*store, manifest, verdict, records, config).await) }).await?);
    }
    chosen.archived = archived;
    let text = text(&rows, &chosen);
    log.tell(Level::Info, &text);
    output.result(&json(&rows, &chosen, &store.place()), || text);
    let damaged = !chosen.damaged.is_empty() || rows.iter().any(|row| !row.verdict.sound);
    let looks: Vec<&String> = rows.iter().flat_map(looks).collect();
    if output.quiet {
        for row in &rows {
            row.verdict.wrong().for_each(|what| output::say(&format!("{}: {what}", row.verdict.id)));
        }
        chosen.damaged.iter().for_each(|(id, why)| output::say(&format!("{id}: {why}")));
        looks.iter().for_each(|problem| output::needs_look(problem));
    }
    match undrilled {
        Some(error) => Err(error),
        None if damaged => Ok(Exit::Mismatch),
        None if !looks.is_empty() => Ok(Exit::NeedsLook),
        None => Ok(Exit::Done),
    }
}

/// What a person should know, beside what is wrong.
fn looks(row: &Row) -> impl Iterator<Item = &String> {
    row.problems.iter().chain(row.verdict.drill.iter().flat_map(|drill| &drill.notes))
}

/// The words for an error that concerns one of all backups: the others are verified all the same. No verdict is
/// written, because what could not be read may be sound.
///
/// # Errors
/// Returns the error if one backup was asked for, the run was ended, or the store is away.
async fn of_one(error: Error, args: &VerifyArgs, store: &dyn Store, cancel: &Cancel) -> Result<String> {
    if !args.all || cancel.error().is_some() {
        return Err(error);
    }
    cancel.or(async { Ok(store.check().await?) }).await?;
    let step = error.next_step().map(|step| format!(" ({step})")).unwrap_or_default();
    Ok(format!("it cannot be verified: {}{step}", error.chain()))
}

/// The backups to verify; for a single backup, its manifest too.
async fn chosen(
    args: &VerifyArgs,
    config: &Config,
    store: &dyn Store,
) -> Result<(Chosen, Option<Box<Manifest>>)> {
    let reading = reading(config);
    if args.all {
        let (percent, job) = (args.sample.unwrap_or(100), args.job.as_deref());
        let chosen = verify::sample(store, percent, job, &reading, &mut rand::rng()).await?;
        return Ok((chosen, None));
    }
    let job = job_meant(&args.which, args.job.as_deref(), config);
    let mut chosen = Chosen::default();
    match choose::choose(store, &args.which, job, &reading).await? {
        Entry::Backup(manifest) => {
            chosen.backups.push(manifest.id.clone());
            Ok((chosen, Some(manifest)))
        }
        Entry::Damaged { id, key, why } => {
            chosen.damaged.push((id, format!("{key} cannot be understood: {why}")));
            Ok((chosen, None))
        }
        Entry::Archived { id, key, why } => Err(choose::archived_manifest(store, &id, &key, &why).await?),
    }
}

/// Keeps the result beside the backup, and in its record.
async fn kept(
    store: &dyn Store,
    manifest: &Manifest,
    verdict: Verdict,
    records: &RecordsAt,
    config: &Config,
) -> Row {
    let mut problems = Vec::new();
    if let Err(e) = verdict.write(store).await {
        problems.push(format!("the result could not be kept beside the backup: {}", e.chain()));
    }
    let verified = Verified::of(&verdict);
    if let Err(e) = records::record_verified(records, &manifest.id, &verified).await {
        // A cache, which the next backup does not depend on: the store has it.
        log::info!("{}", config.redactor.clean(&e));
    }
    Row { job: manifest.job.clone(), verdict, problems }
}

fn json(rows: &[Row], chosen: &Chosen, place: &str) -> serde_json::Value {
    let row = |row: &Row| {
        let v = &row.verdict;
        json!({
            "id": v.id,
            "job": row.job,
            "sound": v.sound,
            "findings": v.findings,
            "verified_at": v.at,
            "stored_bytes": v.stored_bytes,
            "documents": v.documents,
            "raw_bytes": v.raw_bytes,
            "seconds": v.seconds,
            "drill": v.drill,
            "problems": row.problems,
        })
    };
    let damaged = |(id, why): &(crate::model::id::BackupId, String)| json!({"id": id, "error": why});
    json!({
        "version": 1,
        "place": place,
        "backups": rows.iter().map(row).collect::<Vec<_>>(),
        "damaged": chosen.damaged.iter().map(damaged).collect::<Vec<_>>(),
        "archived": chosen.archived.iter().map(damaged).collect::<Vec<_>>(),
        "orphans": chosen.orphans,
    })
}

/// What was read; nothing where there was nothing to read.
fn read_text(verdict: &Verdict) -> String {
    if verdict.stored_bytes == 0 {
        return String::new();
    }
    format!(
        ": {}, {} raw, {}/s",
        units::several(verdict.documents, "document"),
        units::bytes(verdict.raw_bytes),
        units::bytes((verdict.raw_bytes as f64 / verdict.seconds.max(0.001)) as u64),
    )
}

fn text(rows: &[Row], chosen: &Chosen) -> String {
    let mut text = String::new();
    for Row { job, verdict, problems } in rows {
        let word = if verdict.findings.is_empty() { "sound" } else { "DAMAGED" };
        push_line(&mut text, &format!("{word:8} {} of {job}{}", verdict.id, read_text(verdict)));
        verdict.findings.iter().for_each(|what| push_line(&mut text, &format!("         {what}")));
        verdict.drill.iter().for_each(|drill| text.push_str(&drill::text(drill, verdict.documents)));
        problems.iter().for_each(|what| push_line(&mut text, &format!("         needs a look: {what}")));
    }
    for (id, why) in &chosen.damaged {
        push_line(&mut text, &format!("DAMAGED  {id}: {why}"));
    }
    for (id, why) in &chosen.archived {
        text.push_str(&format!("archived {id}: {why}\n"));
    }
    if !chosen.damaged.is_empty() || rows.iter().any(|row| !row.verdict.findings.is_empty()) {
        text.push_str(
            "next step: make a new backup now (`uzima-backup backup`), and find out what changes or deletes files there: a \
             lifecycle rule, the disk, another tool\n",
        );
    }
    for key in &chosen.orphans {
        push_line(&mut text, &format!("orphan   {key}: no manifest speaks of it (cleanup --orphans)"));
    }
    text
}
