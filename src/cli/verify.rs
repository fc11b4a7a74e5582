//! `uzima-backup verify`, with its drill.

use std::sync::Arc;
use std::time::Duration;

use super::args::VerifyArgs;
use super::identity::identities;
use super::logging::Log;
use super::output::{self, Output};
use super::progress::Display;
use super::restore::{point_at, reading};
use super::{job_meant, units};
use crate::artifact::read::replicas::Replicas;
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::{self, push_line};
use crate::base::exit::Exit;
use crate::base::heap::on_heap;
use crate::base::keys::Identities;
use crate::base::progress::{Meter, Phase};
use crate::catalog::choose::{SkippedBackup, WhichBackup};
use crate::catalog::verdict::Drill;
use crate::config::{Config, RecordsAt};
use crate::model::manifest::Manifest;
use crate::model::optime::OpTime;
use crate::notify::run::Run;
use crate::ops::drill::{self, DrillResources, DrillSubject, DrillTarget};
use crate::ops::places::{FoundBackup, FoundPoint, OpenPlace, Places, Purpose};
use crate::ops::verify::{
    self, SliceFinding, UnverifiedBackup, VerifiedBackup, VerifiedChain, VerifyOptions, VerifyReport,
    VerifyResources, VerifySelection,
};
use crate::restore_target::throwaway;

pub async fn run(args: &VerifyArgs, run: &Run<'_>, output: &Output, log: &Log) -> Result<Exit> {
    let (config, cancel) = (run.config, run.cancel);
    let records = config.records.as_ref()?;
    let wanted = args.at.as_deref().map(point_at).transpose()?;
    // The target of a drill is checked before hours of reading.
    let target = if args.drill { Some(cancel.or(drill_target(config)).await?) } else { None };
    let keys = identities(config, cancel).await?.map(Arc::new);
    let signing = config.signing.as_ref()?.key()?;
    let reading = reading(args.allow_unsigned.as_ref(), run)?;
    let places = cancel.or(Places::open_existing(config)).await?;
    let which = args.allow_unsigned.clone().filter(|_| args.which == WhichBackup::Latest && wanted.is_none());
    let which = which.map_or_else(|| args.which.clone(), WhichBackup::Id);
    let job = args.backups.job.as_deref();
    let configured_job = config.job.as_ref().ok().map(|settings| settings.job.clone());
    let (selection, job) = match (args.all, args.oplog) {
        (true, _) => (VerifySelection::Sample(args.sample.unwrap_or(100)), job),
        (false, true) => (VerifySelection::None, job.or_else(|| config.layers.text("job"))),
        (false, false) => (VerifySelection::One(which.clone()), job_meant(&which, job, config)),
    };
    let (mut selection, mut job, mut point) = (selection, job.map(str::to_string), None);
    let (mut read, mut problems): (Vec<&OpenPlace>, _) = (places.open.iter().collect(), Vec::new());
    if let Some(wanted) = wanted {
        let choosing = places.choose_point(&which, job.as_deref(), wanted, &reading);
        let FoundPoint { place, job: named, chosen, passed_over } = cancel.or(choosing).await?;
        for SkippedBackup { id, reason } in &chosen.skipped {
            log::warn!("the newer backup {id} is skipped: {reason}");
        }
        (selection, job) = (VerifySelection::One(WhichBackup::Id(chosen.base.clone())), Some(named));
        (read, problems, point) = (vec![place], passed_over, Some(chosen));
    } else if let (VerifySelection::One(which), true) = (&selection, places.are_several()) {
        let choosing = places.choose_backup(which, job.as_deref(), &reading, Purpose::Verify);
        match cancel.or(choosing).await {
            Ok(FoundBackup { place, manifest, passed_over, .. }) => {
                (read, problems) = (vec![place], passed_over);
                selection = VerifySelection::One(WhichBackup::Id(manifest.id));
            }
            Err(error) if error.kind() == Kind::Mismatch => read.truncate(1),
            Err(error) => return Err(error),
        }
    } else {
        problems = places.problems();
    }
    let options = VerifyOptions {
        selection,
        job,
        slices: args.oplog || args.all && args.sample.is_none(),
        configured_job,
        reading,
        workers: config.machine.cores,
        host: config.machine.host.clone(),
        keys: keys.clone(),
        signing,
    };
    let meter = Arc::new(Meter::default());
    let display = Display::start(meter.clone(), output.interactive(), &log.bars);
    let mut reports = Vec::new();
    for place in &read {
        let resources = VerifyResources {
            store: Arc::clone(&place.store),
            // The records say what the first place has.
            records: if place.is_first() { records } else { &RecordsAt::Off },
            redactor: &config.redactor,
            cancel,
            clock: run.clock,
            meter: &meter,
        };
        let drill = target.as_ref().map(|target| {
            let (places, keys, meter, point) = (&places, &keys, &*meter, point.as_ref());
            async move |manifest: &Manifest| {
                let replicas = places.replicas(place, &manifest.id, Vec::new()).await;
                let subject = DrillSubject { manifest, point };
                on_heap(|| run_drill((replicas, keys.clone()), subject, target, run, meter)).await
            }
        });
        match verify::run_verify(&resources, &options, &mut rand::rng(), drill).await {
            Ok(report) => reports.push((place.name.clone(), report)),
            Err(error) if read.len() == 1 || cancel.error().is_some() => {
                drop(display);
                return Err(error);
            }
            Err(error) => problems.push(format!("the place {}: {}", place.name, error.chain_with_step())),
        }
    }
    drop(display);
    let report = match places.are_several() {
        true => VerifyReport::joined(reports, problems.clone()),
        false => reports.pop().map(|(_, report)| report),
    };
    let mut report = report.ok_or_else(|| Error::failed(problems.join("; ")))?;
    output.report(log, &report, text(&report));
    if output.quiet {
        for backup in &report.backups {
            let place = in_place(backup.place.as_ref());
            backup.wrong().for_each(|what| output::print_line(&format!("{}{place}: {what}", backup.id)));
        }
        let line = |backup: &UnverifiedBackup| {
            format!("{}{}: {}", backup.id, in_place(backup.place.as_ref()), backup.error)
        };
        report.damaged.iter().for_each(|backup| output::print_line(&line(backup)));
        let unopened = report.unopened.iter().map(line);
        let of_slices = report.oplog.iter().flat_map(|chain| chain.unopened.iter().cloned());
        unopened.chain(of_slices).for_each(|line| output::print_line(&line));
        for chain in &report.oplog {
            let finding =
                |one: &SliceFinding| format!("oplog slice of {}, {}: {}", chain.job, one.start, one.what);
            chain.findings.iter().for_each(|one| output::print_line(&finding(one)));
        }
        report.backups.iter().flat_map(VerifiedBackup::notes).for_each(|note| output::needs_look(note));
        report.problems.iter().for_each(|problem| output::needs_look(problem));
    }
    match report.drill_error.take() {
        Some(error) => Err(error),
        None => Ok(report.exit()),
    }
}

/// The amount of data that was read, or an empty text if nothing was read.
fn amount(backup: &VerifiedBackup) -> String {
    if backup.stored_bytes == 0 {
        return String::new();
    }
    if backup.without_key {
        let bytes = units::bytes(backup.stored_bytes);
        return format!(
            ": only the {bytes} as stored, because the backup is encrypted and no --identity was given"
        );
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
        let place = in_place(backup.place.as_ref());
        push_line(&mut text, &format!("{word:8} {} of {}{place}{}", backup.id, backup.job, amount(backup)));
        backup.findings.iter().for_each(|what| push_line(&mut text, &format!("         {what}")));
        backup.drill.iter().for_each(|drill| text.push_str(&drill_text(drill, backup.documents)));
        for problem in &backup.problems {
            push_line(&mut text, &format!("         needs a look: {problem}"));
        }
    }
    for backup in &report.damaged {
        push_line(&mut text, &unverified("DAMAGED", backup));
    }
    for backup in &report.archived {
        text.push_str(&format!("{}\n", unverified("archived", backup)));
    }
    for backup in &report.unopened {
        push_line(&mut text, &unverified("no key", backup));
    }
    if !report.damaged.is_empty() || report.backups.iter().any(|backup| !backup.findings.is_empty()) {
        text.push_str(
            "next step: make a new backup now (`uzima-backup backup`), and find out what changes or deletes files there: a \
             lifecycle rule, the disk or another tool\n",
        );
    }
    report.oplog.iter().for_each(|chain| push_chain(&mut text, chain));
    for key in &report.orphans {
        push_line(&mut text, &format!("orphan   {key}: no manifest refers to it (cleanup --orphans)"));
    }
    report.problems.iter().for_each(|problem| push_line(&mut text, &format!("needs a look: {problem}")));
    text
}

/// The place of a row, with copies.
fn in_place(place: Option<&String>) -> String {
    place.map(|name| format!(" in {name}")).unwrap_or_default()
}

fn unverified(word: &str, backup: &UnverifiedBackup) -> String {
    format!("{word:8} {}{}: {}", backup.id, in_place(backup.place.as_ref()), backup.error)
}

fn push_chain(text: &mut String, chain: &VerifiedChain) {
    let word = if chain.sound { "sound" } else { "DAMAGED" };
    let time = match (chain.from, chain.to) {
        (Some(from), Some(to)) => format!(", {} to {}", from.second(), to.second()),
        _ => String::new(),
    };
    let amount = format!(
        "{}, {}, {} raw",
        units::several(chain.slices, "slice"),
        units::several(chain.entries, "entry"),
        units::bytes(chain.raw_bytes)
    );
    push_line(
        text,
        &format!("{word:8} oplog of {}{}{time}: {amount}", chain.job, in_place(chain.place.as_ref())),
    );
    push_line(text, &format!("         chain {}", chain.chain));
    if chain.without_key > 0 {
        let slices = units::several(chain.without_key, "slice");
        push_line(
            text,
            &format!("         only as stored: {slices}, which are encrypted, and no --identity was given"),
        );
    }
    for why in &chain.unopened {
        push_line(text, &format!("         no key: {why}"));
    }
    let mut step = None;
    for finding in &chain.findings {
        push_line(text, &format!("         slice of {}: {}", finding.start, finding.what));
        if step.replace(&finding.next_step) != Some(&finding.next_step) {
            push_line(text, &format!("         next step: {}", finding.next_step));
        }
    }
    if chain.more_findings > 0 {
        push_line(text, &format!("         and {}", units::several(chain.more_findings, "more fault")));
    }
    for what in &chain.archived {
        push_line(text, &format!("archived {what}"));
    }
}

/// The configured server for drills, or a mongod that the drill starts.
async fn drill_target(config: &Config) -> Result<DrillTarget> {
    if let Some(uri) = config.drill_uri.as_ref()? {
        return Ok(DrillTarget::Server(uri.clone()));
    }
    let search_path = config.machine.search_path.as_deref();
    let program =
        throwaway::find(config.mongod_path.as_ref()?.as_deref(), search_path).await.map_err(|why| {
            Error::usage(format!("there is no server for the drill: {why}"))
                .hint("Install mongod, set MONGOD_PATH, or name a server for drills: --to-uri, DRILL_URI")
        })?;
    Ok(DrillTarget::Mongod { program, within: std::env::temp_dir() })
}

async fn run_drill(
    (places, keys): (Replicas, Option<Arc<Identities>>),
    subject: DrillSubject<'_>,
    target: &DrillTarget,
    run: &Run<'_>,
    meter: &Meter,
) -> Result<Drill> {
    meter.enter(Phase::Preparing);
    let token = format!("{:08x}", rand::random::<u32>());
    let (patience, host) = (run.config.patience.clone()?, run.config.machine.host.clone());
    let (cancel, clock) = (run.cancel, run.clock);
    let resources = DrillResources { places, keys, meter, cancel, clock, token, host, patience };
    drill::drill(&resources, subject, target).await
}

/// Formats the result of a drill of a backup with this many `documents`.
fn drill_text(drill: &Drill, documents: u64) -> String {
    let word = if drill.is_sound() { "drilled" } else { "DIFFERS" };
    let took = |seconds: f64| units::duration(Duration::from_secs_f64(seconds.max(0.0)));
    let place = match drill.target.as_str() {
        "mongod" => "a throw-away mongod",
        _ => "an existing server, without users and roles",
    };
    let replayed = match drill.oplog_entries {
        0 => String::new(),
        entries => format!("; {} replayed", units::several(entries, "oplog entry")),
    };
    let mut text = format!(
        "{word:8} {}, {}, {} raw, restored into {place} ({})\n         recovery time {}, {}/s \
         (indexes {}){replayed}; compared in {}\n",
        units::several(drill.namespaces, "namespace"),
        units::several(drill.documents, "document"),
        units::bytes(drill.raw_bytes),
        escape::line(&drill.version),
        took(drill.recovery_seconds),
        units::bytes(drill.speed() as u64),
        took(drill.index_seconds),
        took(drill.compare_seconds),
    );
    if let Some(point) = &drill.point {
        let slices = match point.slices {
            0 => "the backup's own instant".to_string(),
            n => format!("{} after the backup", units::several(n, "oplog slice")),
        };
        let OpTime { t, i } = point.at;
        push_line(&mut text, &format!("         up to {} ({t}:{i}): {slices}", point.at.second()));
    }
    let rest = documents.saturating_sub(drill.documents);
    if rest > 0 {
        let (rest, all) = (units::count(rest), units::count(documents));
        push_line(
            &mut text,
            &format!(
                "         not restored: users, roles and the server's internal collections, {rest} of the {all} documents"
            ),
        );
    }
    drill.wrong().for_each(|what| push_line(&mut text, &format!("         {what}")));
    if drill.point.as_ref().is_some_and(|point| !point.findings.is_empty()) {
        text.push_str(
            "next step: `uzima-backup verify --oplog` reads the oplog slices; make a new backup now (`uzima-backup backup`): \
             restores to later points begin with it\n",
        );
    }
    drill.notes.iter().for_each(|what| push_line(&mut text, &format!("         needs a look: {what}")));
    text
}
