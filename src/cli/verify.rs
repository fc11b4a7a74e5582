//! `uzima-backup verify`.

use std::sync::Arc;

use log::Level;

use super::args::VerifyArgs;
use super::logging::Log;
use super::output::{self, Output};
use super::{drill, job_meant, reading, stored, units};
use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::Result;
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::config::Config;
use crate::model::manifest::Manifest;
use crate::ops::verify::{
    self, VerifiedBackup, VerifyOptions, VerifyReport, VerifyResources, VerifySelection,
};

pub async fn run(
    args: &VerifyArgs,
    config: &Config,
    output: &Output,
    log: &Log,
    cancel: &Cancel,
) -> Result<Exit> {
    let records = config.records()?;
    // The target of a drill is checked before hours of reading.
    let target = if args.drill { Some(cancel.or(drill::target(config)).await?) } else { None };
    let store = cancel.or(stored(config)).await?;
    let options = VerifyOptions {
        selection: match args.all {
            true => VerifySelection::Sample(args.sample.unwrap_or(100), args.job.clone()),
            false => {
                let job = job_meant(&args.which, args.job.as_deref(), config).map(str::to_string);
                VerifySelection::One(args.which.clone(), job)
            }
        },
        reading: reading(config),
        workers: config.machine.cores,
        host: config.machine.host.clone(),
    };
    let clock = Clock::start();
    let resources =
        VerifyResources { store: Arc::clone(&store), records, redactor: &config.redactor, cancel, clock };
    let drill = target.as_ref().map(|target| {
        let store = &store;
        async move |manifest: &Manifest| {
            drill::run(Arc::clone(store), manifest, target, config, output, log, cancel).await
        }
    });
    let mut report = verify::run_verify(&resources, &options, &mut rand::rng(), drill).await?;
    let text = text(&report);
    log.tell(Level::Info, &text);
    output.result(&report, || text);
    if output.quiet {
        for backup in &report.backups {
            backup.wrong().for_each(|what| output::say(&format!("{}: {what}", backup.id)));
        }
        report.damaged.iter().for_each(|one| output::say(&format!("{}: {}", one.id, one.error)));
        report.backups.iter().flat_map(VerifiedBackup::notes).for_each(|note| output::needs_look(note));
    }
    match report.drill_error.take() {
        Some(error) => Err(error),
        None => Ok(report.exit()),
    }
}

/// Returns the amount of data that was read, or an empty text if nothing was read.
fn amount(backup: &VerifiedBackup) -> String {
    if backup.stored_bytes == 0 {
        return String::new();
    }
    format!(
        ": {}, {} raw, {}/s",
        units::several(backup.documents, "document"),
        units::bytes(backup.raw_bytes),
        units::bytes((backup.raw_bytes as f64 / backup.seconds.max(0.001)) as u64),
    )
}

fn text(report: &VerifyReport) -> String {
    let mut text = String::new();
    for backup in &report.backups {
        let word = if backup.findings.is_empty() { "sound" } else { "DAMAGED" };
        push_line(&mut text, &format!("{word:8} {} of {}{}", backup.id, backup.job, amount(backup)));
        backup.findings.iter().for_each(|what| push_line(&mut text, &format!("         {what}")));
        backup.drill.iter().for_each(|drill| text.push_str(&drill::text(drill, backup.documents)));
        for problem in &backup.problems {
            push_line(&mut text, &format!("         needs a look: {problem}"));
        }
    }
    for one in &report.damaged {
        push_line(&mut text, &format!("DAMAGED  {}: {}", one.id, one.error));
    }
    for one in &report.archived {
        text.push_str(&format!("archived {}: {}\n", one.id, one.error));
    }
    if !report.damaged.is_empty() || report.backups.iter().any(|backup| !backup.findings.is_empty()) {
        text.push_str(
            "next step: make a new backup now (`uzima-backup backup`), and find out what changes or deletes files there: a \
             lifecycle rule, the disk, another tool\n",
        );
    }
    for key in &report.orphans {
        push_line(&mut text, &format!("orphan   {key}: no manifest refers to it (cleanup --orphans)"));
    }
    text
}
