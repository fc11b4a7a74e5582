//! `uzima-backup restore`.

use std::io::IsTerminal;
use std::sync::Arc;

use indicatif::MultiProgress;

use super::args::RestoreArgs;
use super::ask;
use super::identity::identities;
use super::output::{self, Output};
use super::progress::Display;
use super::{job_meant, units};
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::push_line;
use crate::base::exit::Exit;
use crate::base::progress::Meter;
use crate::catalog::CatalogOptions;
use crate::catalog::choose::{self, SkippedBackup, WhichBackup};
use crate::catalog::point::{ChosenSlices, WantedPoint};
use crate::model::id::BackupId;
use crate::model::optime::OpTime;
use crate::notify::run::Run;
use crate::ops::places::{FoundBackup, FoundPoint, Places, Purpose};
use crate::ops::restore::{
    self, At, Dump, NamespaceOutcome, OplogPlan, Problem, Replayed, Restore, RestoreFacts, RestoreFilter,
    RestoreOptions, RestoreOrigin, RestorePlan, RestoreReport, StoredBackup, Users,
};
use crate::restore_target::RestoreTarget;

/// The state of the target before the restore begins.
const UNCHANGED: &str = "nothing was changed";

/// The most renamed namespaces in a report.
const RENAMED: usize = 10;

pub async fn run(args: &RestoreArgs, run: &Run<'_>, output: &Output, bars: &MultiProgress) -> Result<Exit> {
    let (config, cancel) = (run.config, run.cancel);
    let options = options(args)?;
    let asks = !args.yes && !args.dry_run;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Error::usage(
            "a restore writes to a server, and there is no terminal to ask for confirmation",
        )
        .hint("Check the plan with --dry-run, then add --yes"));
    }
    let server = config.restore_target.as_ref()?;
    // A restore stores nothing, so the usual error of a signal says nothing about it.
    let unchanged = |error: Error| match error.kind() {
        Kind::Signal(_) => cancel.error_with(UNCHANGED).unwrap_or(error),
        _ => error,
    };
    let patience = config.patience.as_ref()?;
    let Chosen { origin, skipped, at } = cancel.or(origin(args, run)).await.map_err(unchanged)?;
    let options = RestoreOptions { onto_source: server.is_source, skipped, at, ..options };
    let target = cancel.or(RestoreTarget::connect(&server.uri, patience)).await.map_err(unchanged)?;
    let restore = Restore::plan(origin, target, options, cancel).await.map_err(unchanged)?;
    let meter = Arc::new(Meter::default());
    if args.dry_run {
        return dry_run(restore, &meter, output, bars).await.map_err(unchanged);
    }
    if let Some(error) = restore.plan.refusal() {
        return Err(error);
    }
    if asks {
        let question = format!("{}Restore this? [y/N] ", plan_text(&restore.plan));
        ask::confirm(&question, "not restored", UNCHANGED, cancel).await?;
    }
    let display = Display::start(meter.clone(), output.interactive(), bars);
    let outcome = restore.apply(&meter).await;
    drop(display);
    let report = outcome?;
    output.result(&report, || report_text(&report));
    if output.quiet {
        // The exit code alone does not name the reason.
        differences(&report).iter().for_each(|line| output::needs_look(line));
    }
    report.conclude()
}

fn options(args: &RestoreArgs) -> Result<RestoreOptions> {
    let patterns = |texts: &[String]| -> Result<Vec<_>> {
        texts.iter().map(|text| text.parse().map_err(|why: String| Error::usage(why))).collect()
    };
    let rename = restore::pairs(&args.ns_from, &args.ns_to).map_err(Error::usage)?;
    let users = match (args.users, args.no_users) {
        (true, _) => Users::Always,
        (_, true) => Users::Never,
        _ => Users::Unfiltered,
    };
    Ok(RestoreOptions {
        filter: RestoreFilter {
            include: patterns(&args.ns_include)?,
            exclude: patterns(&args.ns_exclude)?,
            rename,
            no_index: patterns(&args.no_index)?,
        },
        drop: args.drop,
        exact: args.exact,
        no_indexes: args.no_indexes,
        convert_legacy_indexes: args.convert_legacy_indexes,
        users,
        no_replay: args.no_replay,
        at: None,
        onto_source: false,
        skipped: Vec::new(),
        token: format!("{:08x}", rand::random::<u32>()),
        // Measured with a replica set on one machine: with two workers, small collections take 1.7 times as long,
        // because each insert waits for a majority. For large collections the server is the limit.
        workers: 4,
    })
}

/// The dump or backup to restore.
struct Chosen {
    origin: RestoreOrigin,
    /// Newer backups that are not restored.
    skipped: Vec<SkippedBackup>,
    /// The instant that the data must have without slices after it.
    at: Option<At>,
}

async fn origin(args: &RestoreArgs, run: &Run<'_>) -> Result<Chosen> {
    let point = point(args)?;
    if let Some(path) = args.from.clone() {
        let at = point.map(|point| match point {
            WantedPoint::Second(second) => Ok(At::Second(second)),
            WantedPoint::Entry(at) => Ok(At::Entry(at)),
            _ => {
                Err(Error::usage("--at takes a time or seconds:ordinal with --from: a dump has one instant"))
            }
        });
        let at = at.transpose()?;
        let read = tokio::task::spawn_blocking(move || Dump::open(&path)).await;
        let dump = read.map_err(|_| Error::failed("a reader ended unexpectedly"))??;
        return Ok(Chosen { origin: RestoreOrigin::Dump(Arc::new(dump)), skipped: Vec::new(), at });
    }
    let reading = reading(args.allow_unsigned.as_ref(), run)?;
    let places = Places::open_existing(run.config).await?;
    let allowed = args.allow_unsigned.clone().filter(|_| point.is_none()).map(WhichBackup::Id);
    let which = args.which.as_ref().or(allowed.as_ref()).unwrap_or(&WhichBackup::Latest);
    let job = job_meant(which, args.backups.job.as_deref(), run.config);
    // The identity of a person may be on a disk that is not there.
    let keys = async |encrypted: bool| match encrypted {
        true => identities(run.config, run.cancel).await,
        false => Ok(None),
    };
    let Some(point) = point else {
        let found = places.choose_backup(which, job, &reading, Purpose::Restore).await?;
        let FoundBackup { place, manifest, skipped, passed_over } = found;
        let keys = keys(manifest.encryption.is_some()).await?;
        let replicas = places.replicas(place, &manifest.id, passed_over).await;
        let backup = StoredBackup::open(replicas, manifest, keys.as_ref()).await?;
        return Ok(Chosen { origin: RestoreOrigin::Stored(Arc::new(backup)), skipped, at: None });
    };
    let found = places.choose_point(which, job, point, &reading).await?;
    let FoundPoint { place, job: named, chosen, passed_over } = found;
    let by_id = WhichBackup::Id(chosen.base);
    let (manifest, _) = choose::choose_for_restore(&*place.store, &by_id, Some(&named), &reading).await?;
    let slices = chosen.chain.as_ref();
    let encrypted = manifest.encryption.is_some() || slices.is_some_and(ChosenSlices::are_encrypted);
    let keys = keys(encrypted).await?;
    let replicas = places.replicas(place, &manifest.id, passed_over).await;
    let mut backup = StoredBackup::open(replicas, manifest, keys.as_ref()).await?;
    if let Some(slices) = slices {
        backup = backup.continued(slices, keys.as_ref()).await?;
    }
    Ok(Chosen { origin: RestoreOrigin::Stored(Arc::new(backup)), skipped: chosen.skipped, at: None })
}

/// The options to read the backups of the place, with a backup that needs no valid signature.
pub(super) fn reading(allow_unsigned: Option<&BackupId>, run: &Run<'_>) -> Result<CatalogOptions> {
    let mut reading = run.reading()?;
    if let Some(id) = allow_unsigned {
        reading.trust.allow(id.clone());
    }
    Ok(reading)
}

/// The point of `--at`.
pub(super) fn point_at(text: &str) -> Result<WantedPoint> {
    if text == "newest" {
        return Ok(WantedPoint::Newest);
    }
    let parsed = text.parse::<At>().map_err(|why| {
        Error::usage(why).hint(
            "`uzima-backup timeline` shows the times that can be restored; --at newest is the newest one",
        )
    });
    Ok(match parsed? {
        At::Second(second) => WantedPoint::Second(second),
        At::Entry(at) => WantedPoint::Entry(at),
    })
}

/// The point of `--at` or `--before`.
fn point(args: &RestoreArgs) -> Result<Option<WantedPoint>> {
    match (args.at.as_deref(), args.before.as_deref()) {
        (Some(text), _) => point_at(text).map(Some),
        (None, Some(text)) => match text.parse::<At>().map_err(Error::usage)? {
            At::Entry(at) => Ok(Some(WantedPoint::Before(at))),
            At::Second(_) => Err(Error::usage(format!(
                "--before takes an entry of the oplog, seconds:ordinal, and not '{text}'"
            ))
            .hint("--at takes a time: everything up to the end of that second")),
        },
        (None, None) => Ok(None),
    }
}

async fn dry_run(
    mut restore: Restore,
    meter: &Arc<Meter>,
    output: &Output,
    bars: &MultiProgress,
) -> Result<Exit> {
    if !output.json {
        // Printed before the check, which reads the whole backup.
        output.result(&(), || plan_text(&restore.plan));
    }
    let display = Display::start(meter.clone(), output.interactive(), bars);
    let checked = restore.check(meter).await;
    drop(display);
    checked?;
    let of_places = restore.problems_of_places();
    if output.json {
        restore.plan.warnings.extend(of_places.iter().cloned());
        output.result(&restore.plan, String::new);
    } else {
        output.result(&(), || {
            let mut text = String::new();
            of_places.iter().for_each(|problem| push_line(&mut text, &format!("needs a look: {problem}")));
            text + "all data was read and is intact\n"
        });
    }
    if output.quiet {
        of_places.iter().for_each(|problem| output::needs_look(problem));
    }
    let exit = if of_places.is_empty() { Exit::Done } else { Exit::NeedsLook };
    restore.plan.objection().map_or(Ok(exit), Err)
}

fn source_text(facts: &RestoreFacts) -> String {
    let mut text = String::new();
    push_line(&mut text, &facts.from);
    if let (Some(job), Some(started)) = (&facts.job, facts.started_at) {
        push_line(
            &mut text,
            &format!("  of the job {job}, begun {}", started.format("%Y-%m-%d %H:%M:%S UTC")),
        );
    }
    if let Some(what) = &facts.partial {
        push_line(&mut text, &format!("  a partial backup: {what}"));
    }
    for SkippedBackup { id, reason } in &facts.skipped {
        push_line(&mut text, &format!("  skipped the newer backup {id}: {reason}"));
    }
    if let Some(point) = &facts.point {
        let line = format!(
            "  continued from {} by {}, {} raw, {} stored",
            point.base_at.second(),
            units::several(point.slices, "oplog slice"),
            units::bytes(point.raw_bytes),
            units::bytes(point.stored_bytes)
        );
        push_line(&mut text, &line);
    }
    text
}

fn plan_text(plan: &RestorePlan) -> String {
    let mut text = source_text(&plan.facts);
    for planned in &plan.namespaces {
        let (from, to) = (planned.source.name(), planned.chosen.name());
        let name = if from == to { to } else { format!("{from} as {to}") };
        let there = planned.existing.map_or_else(String::new, |existing| {
            let count = existing
                .documents
                .map_or_else(|| "an unknown number of documents".into(), |n| units::several(n, "document"));
            let does = if plan.drop { "replaces" } else { "there with" };
            format!(" ({does} {count})")
        });
        push_line(
            &mut text,
            &format!("  {name}: {}{there}", units::several(planned.source.documents, "document")),
        );
    }
    for (db, name) in &plan.extra {
        push_line(&mut text, &format!("  {db}.{name}: dropped, the backup does not have it"));
    }
    if let Some((users, roles)) = plan.user_counts() {
        push_line(&mut text, &format!("  {}", users_text(users, roles)));
    }
    text.push_str(&oplog_text(plan));
    for obstacle in &plan.obstacles {
        push_line(&mut text, &format!("  cannot be restored: {obstacle}"));
    }
    for what in &plan.unproved {
        push_line(&mut text, &format!("  unproved: {what}"));
    }
    for warning in &plan.warnings {
        push_line(&mut text, &format!("  needs a look: {warning}"));
    }
    for note in &plan.facts.notes {
        push_line(&mut text, &format!("  note: {note}"));
    }
    push_line(
        &mut text,
        &format!(
            "would restore {}, {}, {} raw, of {} stored, into {}",
            units::several(plan.namespaces.len() as u64, "namespace"),
            units::several(plan.total(|source| source.documents), "document"),
            units::bytes(plan.total(|source| source.raw_bytes)),
            units::bytes(plan.total(|source| source.stored_bytes)),
            plan.facts.target_text()
        ),
    );
    text
}

fn oplog_text(plan: &RestorePlan) -> String {
    let mut text = String::new();
    match &plan.oplog {
        OplogPlan::Absent => {}
        OplogPlan::Left => {
            text.push_str(
                "  its oplog is not replayed: each collection is as it was when the backup read it\n",
            );
        }
        // Without writes during the backup, nothing is replayed.
        OplogPlan::Replayed(survey) if survey.read.entries == 0 => {}
        OplogPlan::Replayed(survey) => {
            let read = &survey.read;
            let times = read.first.zip(read.last).map(times_text).unwrap_or_default();
            let operations = units::several(survey.operations, "operation");
            let entries = units::several(read.entries, "oplog entry");
            push_line(&mut text, &format!("  replays {operations} of {entries}{times}"));
            for (db, name) in plan.in_the_way.iter().filter(|_| plan.drop) {
                push_line(&mut text, &format!("  {db}.{name}: dropped, the oplog writes to it"));
            }
        }
    }
    if let Some(at) = plan.facts.at {
        push_line(&mut text, &format!("  all restored data is as of {}", at.second()));
    }
    text
}

/// The times of a slice in seconds. --json also has the position in the second.
fn times_text((first, last): (OpTime, OpTime)) -> String {
    match (first.second(), last.second()) {
        (first, last) if first == last => format!(", of {last}"),
        (first, last) => format!(", from {first} to {last}"),
    }
}

/// The differences and notes that need a look.
fn differences(report: &RestoreReport) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in &report.outcomes {
        lines.extend(outcome.problems.iter().map(|problem| format!("{}: {problem}", outcome.to)));
        lines.extend(outcome.notes.iter().map(|note| format!("{}: {note}", outcome.to)));
    }
    lines
        .extend(report.replayed.iter().flat_map(|replayed| replayed.problems.iter().map(Problem::to_string)));
    lines.extend(report.problems.iter().map(Problem::to_string));
    lines.extend(report.warnings.iter().cloned());
    lines
}

fn report_text(report: &RestoreReport) -> String {
    let sum = |figure: fn(&NamespaceOutcome) -> u64| report.outcomes.iter().map(figure).sum::<u64>();
    let mut text = source_text(&report.facts);
    let restored = format!(
        "restored {}, {}, {} raw, {}, into {}",
        units::several((report.outcomes.len() - report.missing.len()) as u64, "namespace"),
        units::several(sum(|o| o.documents - o.superseded - o.refused), "document"),
        units::bytes(sum(|o| o.raw_bytes)),
        units::several(
            sum(|o| o.indexes) + report.replayed.as_ref().map_or(0, |replayed| replayed.indexes),
            "index"
        ),
        report.facts.target_text()
    );
    push_line(&mut text, &restored);
    text.push_str(&renamed_text(&report.outcomes));
    if let Some((users, roles)) = report.users.zip(report.roles) {
        push_line(&mut text, &format!("  merged {}", users_text(users, roles)));
    }
    if let Some(replayed) = &report.replayed {
        text.push_str(&replayed_text(replayed));
    }
    for name in &report.dropped {
        push_line(&mut text, &format!("  dropped {name}"));
    }
    for outcome in report.outcomes.iter().filter(|outcome| outcome.superseded > 0) {
        let (to, documents) = (&outcome.to, units::several(outcome.superseded, "document"));
        push_line(
            &mut text,
            &format!("  {to}: left out {documents} because the backup has a later version of them"),
        );
    }
    for line in differences(report) {
        push_line(&mut text, &format!("  needs a look: {line}"));
    }
    for note in &report.facts.notes {
        push_line(&mut text, &format!("  note: {note}"));
    }
    text
}

/// The first [`RENAMED`] renamed namespaces.
fn renamed_text(outcomes: &[NamespaceOutcome]) -> String {
    let renamed: Vec<&NamespaceOutcome> =
        outcomes.iter().filter(|outcome| outcome.from != outcome.to).collect();
    let mut text = String::new();
    for outcome in renamed.iter().take(RENAMED) {
        push_line(&mut text, &format!("  {} as {}", outcome.from, outcome.to));
    }
    if let Some(more @ 1..) = renamed.len().checked_sub(RENAMED) {
        push_line(&mut text, &format!("  and {more} more renamed namespaces"));
    }
    text
}

fn users_text(users: usize, roles: usize) -> String {
    format!("{} and {}", units::several(users as u64, "user"), units::several(roles as u64, "role"))
}

/// The lines about the replay; empty without writes during the backup.
fn replayed_text(replayed: &Replayed) -> String {
    if replayed.entries == 0 {
        return String::new();
    }
    let left_out = match replayed.left_out {
        0 => String::new(),
        n => format!("; left out {} on other namespaces or without data", units::several(n, "operation")),
    };
    let mut text = format!(
        "  replayed {} of {}{left_out}\n",
        units::several(replayed.operations, "operation"),
        units::several(replayed.entries, "oplog entry"),
    );
    if replayed.open_transactions > 0 {
        push_line(
            &mut text,
            &format!(
                "  left out {}, not committed by then",
                units::several(replayed.open_transactions, "transaction")
            ),
        );
    }
    for (names, what) in [(&replayed.gone, "was dropped"), (&replayed.came, "was created")] {
        names.iter().for_each(|name| push_line(&mut text, &format!("  {name} {what} by the oplog")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_described_without_empty_parts() {
        assert_eq!(replayed_text(&Replayed::default()), "");
        let mut replayed = Replayed { operations: 2_000, ..Replayed::default() };
        replayed.entries = 1_200;
        assert_eq!(replayed_text(&replayed), "  replayed 2,000 operations of 1,200 oplog entries\n");
        (replayed.left_out, replayed.open_transactions) = (1, 2);
        assert_eq!(
            replayed_text(&replayed),
            "  replayed 2,000 operations of 1,200 oplog entries; left out 1 operation on other namespaces or without data\n  \
             left out 2 transactions, not committed by then\n"
        );
    }

    #[test]
    fn the_times_of_a_slice_are_seconds() {
        let time = |t, i| OpTime { t, i };
        let (first, last) = (time(1_795_489_212, 4), time(1_795_489_215, 1));
        assert_eq!(times_text((first, last)), ", from 2026-11-24T03:00:12Z to 2026-11-24T03:00:15Z");
        assert_eq!(times_text((first, time(1_795_489_212, 5))), ", of 2026-11-24T03:00:12Z");
    }

    #[test]
    fn only_the_first_new_names_are_listed() {
        let outcome = |from: &str, to: String| NamespaceOutcome {
            from: from.into(),
            to,
            ..NamespaceOutcome::default()
        };
        let stays = outcome("shop.carts", "shop.carts".into());
        let moved = |n: usize| (0..n).map(|n| outcome("shop.orders", format!("rescue.orders{n}")));
        let text = |n| renamed_text(&std::iter::once(stays.clone()).chain(moved(n)).collect::<Vec<_>>());
        assert_eq!(text(0), "");
        assert_eq!(text(1), "  shop.orders as rescue.orders0\n");
        assert_eq!(text(10).lines().count(), 10);
        assert!(text(12).ends_with("rescue.orders9\n  and 2 more renamed namespaces\n"), "{}", text(12));
    }
}
