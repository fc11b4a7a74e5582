//! `uzima-backup restore`.

mod command;
mod guided;
mod kept;
mod text;

use std::sync::Arc;

use indicatif::MultiProgress;

use super::args::{Common, RestoreArgs};
use super::ask;
use super::identity::{RememberedPassphrase, identities_remembering};
use super::job_meant;
use super::output::{self, Output};
use super::progress::Display;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::{line, push_line};
use crate::base::exit::Exit;
use crate::base::heap::on_heap;
use crate::base::keys::Identities;
use crate::base::progress::Meter;
use crate::catalog::CatalogOptions;
use crate::catalog::choose::{self, SkippedBackup, WhichBackup};
use crate::catalog::point::{ChosenSlices, WantedPoint};
use crate::model::id::BackupId;
use crate::notify::run::Run;
use crate::ops::places::{FoundBackup, FoundPoint, Places, Purpose};
use crate::ops::restore::{
    self, At, DocumentFilter, Dump, MarkOptions, Restore, RestoreFilter, RestoreOptions, RestoreOrigin,
    RestorePlan, StoredBackup, Swap, Users,
};
use crate::restore_target::RestoreTarget;
use text::{counted_text, differences, plan_text, report_text};

/// The state of the target before the restore begins.
const UNCHANGED: &str = "nothing was changed";
/// The consequence of a question that is not answered with yes.
const REFUSED: &str = "not restored";

pub async fn run(
    args: &RestoreArgs,
    common: &Common,
    run: &Run<'_>,
    output: &Output,
    bars: &MultiProgress,
) -> Result<Exit> {
    if let Some(wanted) = kept::wanted(args) {
        return kept::run(wanted, args, run, output).await;
    }
    if guided::is_wanted(args) {
        return on_heap(|| guided::run(args, common, run, output, bars)).await;
    }
    let options = options(args)?;
    if asks(args) && !ask::at_terminal() {
        return Err(Error::usage(
            "a restore writes to a server, and there is no terminal to ask for confirmation",
        )
        .hint("Check the plan with --dry-run, then add --yes"));
    }
    let prepared = on_heap(|| prepare(args, common, options, None, run)).await?;
    on_heap(|| carry_out(prepared, args, "", run, output, bars)).await
}

/// Returns true if a person confirms the plan.
fn asks(args: &RestoreArgs) -> bool {
    !args.yes && !args.dry_run
}

/// The error, with the state of the target after a signal: a restore stores nothing, so the usual error of a signal says nothing
/// about it.
fn unchanged(error: Error, cancel: &Cancel) -> Error {
    match error.kind() {
        Kind::Signal(_) => cancel.error_with(UNCHANGED).unwrap_or(error),
        _ => error,
    }
}

/// A restore with its plan.
struct Prepared {
    restore: Restore,
    swap: Option<Swap>,
}

/// Makes the plan. `chosen` is what the arguments name, if it was opened before.
async fn prepare(
    args: &RestoreArgs,
    common: &Common,
    options: RestoreOptions,
    chosen: Option<Chosen>,
    run: &Run<'_>,
) -> Result<Prepared> {
    let (config, cancel) = (run.config, run.cancel);
    let server = config.restore_target.as_ref()?;
    let unchanged = |error| unchanged(error, cancel);
    let patience = config.patience.as_ref()?;
    let chosen = match chosen {
        Some(chosen) => chosen,
        None => cancel.or(origin(args, run, &RememberedPassphrase::default())).await.map_err(unchanged)?,
    };
    let Chosen { origin, skipped, at } = chosen;
    let (id, chooses) = ((run.new_id)(run.clock.now()), args.merge || args.filter.is_some());
    // The mark of a restore that chooses documents is that of its staging collections.
    let own = chooses.then(|| (id.to_string(), run.clock));
    let mut options = RestoreOptions { onto_source: server.is_source, skipped, at, own, ..options };
    let connect = || cancel.or(RestoreTarget::connect(&server.uri, patience));
    let target = connect().await.map_err(unchanged)?;
    let mut swap = None;
    if args.swap {
        // The moves need a connection after the restore has closed its own.
        let (own, clock) = (connect().await.map_err(unchanged)?, run.clock);
        let begun = Swap::begin(&origin, own, options, id.to_string(), clock);
        let (begun, with_swap) = cancel.or(begun).await.map_err(unchanged)?;
        (swap, options) = (Some(begun), with_swap);
    } else if !chooses {
        let backup = origin.backup_id();
        let command = command::that_goes_on(args, common, backup, origin.point());
        options.mark = Some(MarkOptions { id, clock: run.clock, command });
    }
    let restore = Restore::plan(origin, target, options, cancel).await.map_err(unchanged)?;
    Ok(Prepared { restore, swap })
}

/// Shows the plan, asks for confirmation, and restores. `words` are shown between the plan and the question.
async fn carry_out(
    Prepared { restore, swap }: Prepared,
    args: &RestoreArgs,
    words: &str,
    run: &Run<'_>,
    output: &Output,
    bars: &MultiProgress,
) -> Result<Exit> {
    let cancel = run.cancel;
    let meter = Arc::new(Meter::default());
    if args.dry_run {
        return dry_run(restore, &meter, output, bars).await.map_err(|error| unchanged(error, cancel));
    }
    if let Some(error) = restore.plan.refusal() {
        return Err(error);
    }
    if asks(args) {
        confirm(&restore.plan, args, words, cancel).await?;
    }
    let display = Display::start(meter.clone(), output.interactive(), bars);
    let outcome = match swap {
        None => restore.apply(&meter).await,
        Some(mut swap) => {
            swap.mark().await?;
            swap.complete(restore.apply(&meter).await).await
        }
    };
    drop(display);
    let report = outcome?;
    output.result(&report, || report_text(&report));
    if output.quiet {
        // The exit code alone does not name the reason.
        differences(&report).iter().for_each(|line| output::needs_look(line));
    }
    report.conclude()
}

/// Shows the plan and asks for confirmation: for the name of the server if live data of the server that is backed up is replaced.
async fn confirm(plan: &RestorePlan, args: &RestoreArgs, words: &str, cancel: &Cancel) -> Result<()> {
    let text = format!("{}{words}", plan_text(plan));
    let facts = &plan.facts;
    if !(facts.onto_source && (plan.drop || args.swap)) {
        let question = format!("{text}Restore this? [y/N] ");
        return ask::confirm(&question, REFUSED, UNCHANGED, cancel).await;
    }
    let how = match (args.swap, args.exact) {
        (true, _) => "--swap exchanges live collections",
        (_, true) => "--exact deletes live data",
        _ => "--drop deletes live data",
    };
    let name = line(&facts.target);
    let question =
        format!("{text}{how} of the server that is backed up.\nType its name to restore this, {name}: ");
    ask::confirm_name(&question, &facts.target, REFUSED, UNCHANGED, cancel).await
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
        documents: args.filter.as_deref().map(DocumentFilter::parse).transpose()?,
        merge: args.merge,
        at: None,
        onto_source: false,
        skipped: Vec::new(),
        swap: None,
        left_by_swap: Vec::new(),
        mark: None,
        continues: args.continues,
        token: format!("{:08x}", rand::random::<u32>()),
        // For large collections the server is the limit, and each reader needs memory.
        workers: 4,
        ..RestoreOptions::default()
    })
}

/// The dump or backup to restore.
#[derive(Clone)]
struct Chosen {
    origin: RestoreOrigin,
    /// Newer backups that are not restored.
    skipped: Vec<SkippedBackup>,
    /// The instant that the data must have without slices after it.
    at: Option<At>,
}

async fn origin(args: &RestoreArgs, run: &Run<'_>, passphrase: &RememberedPassphrase) -> Result<Chosen> {
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
    let Some(point) = point else {
        let found = places.choose_backup(which, job, &reading, Purpose::Restore).await?;
        let (backup, skipped) = open_remembering(&places, found, run, passphrase).await?;
        return Ok(Chosen { origin: RestoreOrigin::Stored(Arc::new(backup)), skipped, at: None });
    };
    let found = places.choose_point(which, job, point, &reading).await?;
    let FoundPoint { place, job: named, chosen, passed_over } = found;
    let by_id = WhichBackup::Id(chosen.base);
    let (manifest, _) = choose::choose_for_restore(&*place.store, &by_id, Some(&named), &reading).await?;
    let slices = chosen.chain.as_ref();
    let encrypted = manifest.encryption.is_some() || slices.is_some_and(ChosenSlices::are_encrypted);
    let keys = keys(encrypted, run, passphrase).await?;
    let replicas = places.replicas(place, &manifest.id, passed_over).await;
    let mut backup = StoredBackup::open(replicas, manifest, keys.as_ref()).await?;
    if let Some(slices) = slices {
        backup = backup.continued(slices, keys.as_ref()).await?;
    }
    Ok(Chosen { origin: RestoreOrigin::Stored(Arc::new(backup)), skipped: chosen.skipped, at: None })
}

/// The secret keys if they are needed. The identity of a person may be on a disk that is not there.
async fn keys(
    encrypted: bool,
    run: &Run<'_>,
    passphrase: &RememberedPassphrase,
) -> Result<Option<Identities>> {
    match encrypted {
        true => identities_remembering(run.config, run.cancel, passphrase).await,
        false => Ok(None),
    }
}

/// Opens a backup that was chosen. Returns also the newer ones that were skipped.
pub(super) async fn open(
    places: &Places,
    found: FoundBackup<'_>,
    run: &Run<'_>,
) -> Result<(StoredBackup, Vec<SkippedBackup>)> {
    open_remembering(places, found, run, &RememberedPassphrase::default()).await
}

async fn open_remembering(
    places: &Places,
    found: FoundBackup<'_>,
    run: &Run<'_>,
    passphrase: &RememberedPassphrase,
) -> Result<(StoredBackup, Vec<SkippedBackup>)> {
    let FoundBackup { place, manifest, skipped, passed_over } = found;
    let keys = keys(manifest.encryption.is_some(), run, passphrase).await?;
    let replicas = places.replicas(place, &manifest.id, passed_over).await;
    Ok((StoredBackup::open(replicas, manifest, keys.as_ref()).await?, skipped))
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
    let checked = async {
        restore.check(meter).await?;
        restore.count_chosen(meter).await
    };
    let checked = checked.await;
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
            text.push_str(&counted_text(&restore.plan.counted));
            text + "all data was read and is intact\n"
        });
    }
    if output.quiet {
        of_places.iter().for_each(|problem| output::needs_look(problem));
    }
    let exit = if of_places.is_empty() { Exit::Done } else { Exit::NeedsLook };
    restore.plan.objection().map_or(Ok(exit), Err)
}
