//! The places of a cleanup. Each place is cleaned by a plan from its own backups, policy and clock. A place that cannot be used
//! does not stop the others.

use std::path::Path;

use futures_util::{StreamExt, stream};

use super::{CleanupReport, CleanupRequest, PlaceCleanup, cleanup};
use crate::base::error::{Error, Kind, Result};
use crate::base::lock::{LockOutcome, Operation};
use crate::catalog::place_files::KnownBackups;
use crate::catalog::{layout, records};
use crate::config::Config;
use crate::config::place::Place;
use crate::model::id::BackupId;
use crate::notify::run::Run;
use crate::ops::places::{AwayPlace, OpenPlace, Places};
use crate::store::Store;

/// How many backups are looked up at once.
const AT_ONCE: usize = 16;

/// Cleans the places under a lock of the job, and corrects the records.
///
/// # Errors
/// Returns an error if no place could be cleaned.
pub(super) async fn locked_cleanup(run: &Run<'_>, request: &CleanupRequest) -> Result<CleanupReport> {
    let settings = run.config.job.as_ref()?;
    run.log.set_run(&format!("cleanup {}", settings.job));
    let taken = match request.dry_run {
        true => LockOutcome::default(),
        false => run.lock(settings, Operation::Cleanup, request.wait).await?,
    };
    let names: Vec<String> = run.config.place_names().into_iter().map(str::to_string).collect();
    let places = open(run.config, request.place.as_deref()).await?;
    let has_copies = names.len() > 1;
    let accepted = match has_copies {
        true => accepted_by_place(&places.open, &request.accept).await?,
        false => vec![request.accept.clone(); places.open.len()],
    };
    let mut rows: Vec<PlaceCleanup> = Vec::new();
    let mut failures: Vec<Error> = Vec::new();
    for away in &places.away {
        rows.push(away_row(away, request.dry_run));
        failures.push(away.why.clone());
    }
    for (place, accept) in places.open.iter().zip(accepted) {
        let request = CleanupRequest { accept, ..request.clone() };
        // The plan is made for the time after the wait for the lock.
        let cleaned =
            async { cleanup(&*place.store, place.config.job.as_ref()?, &request, run.clock.now()).await };
        rows.push(match cleaned.await {
            Ok(report) => PlaceCleanup { name: Some(place.name.clone()), ..report },
            Err(error) => {
                let row = failed_row(&place.name, place.store.place(), &error, request.dry_run);
                failures.push(error);
                row
            }
        });
    }
    if failures.len() == rows.len() {
        return Err(none_cleaned(&rows, failures));
    }
    rows.sort_by_key(|row| names.iter().position(|name| row.name.as_deref() == Some(name)));
    let gone = gone(run.config, &names, &places, &rows).await;
    if !has_copies {
        rows.iter_mut().for_each(|row| row.name = None);
    }
    let first = rows.remove(0);
    let mut report = CleanupReport::of_place(&settings.job, first);
    report.copies = rows;
    report.first.problems.extend(taken.problem.clone());
    if !gone.is_empty()
        && let Err(e) = records::record_deleted(&settings.records, &gone, run.clock.now()).await
    {
        report.first.problems.push(run.config.redactor.clean(&e));
    }
    Ok(report)
}

/// Opens the places, or only the named one.
async fn open(config: &Config, only: Option<&str>) -> Result<Places> {
    let Some(only) = only else { return Places::open(config, &|_| None, false).await };
    let mut places = Places::open(&config.at(only)?, &|_| None, false).await?;
    places.open.iter_mut().for_each(|place| place.name = only.into());
    places.away.iter_mut().for_each(|place| place.name = only.into());
    Ok(places)
}

/// The backups that a person accepts, for each place those that it has.
///
/// # Errors
/// Returns an error if one of them was found in no place.
async fn accepted_by_place(places: &[OpenPlace], accept: &[BackupId]) -> Result<Vec<Vec<BackupId>>> {
    let mut accepted = vec![Vec::new(); places.len()];
    for id in accept {
        let mut found = false;
        for (place, accepted) in places.iter().zip(&mut accepted) {
            let there = place.store.head(&layout::manifest(id)).await;
            found |= matches!(there, Ok(Some(_)));
            // A place that cannot be asked reports its error when it is cleaned.
            if !matches!(there, Ok(None)) {
                accepted.push(id.clone());
            }
        }
        if !found {
            return Err(Error::failed(format!("no place has a backup {id} to accept"))
                .hint("`uzima-backup list` shows the backups and their jobs"));
        }
    }
    Ok(accepted)
}

fn away_row(away: &AwayPlace, dry_run: bool) -> PlaceCleanup {
    let place = away.place.as_ref().map_or_else(|| away.name.clone(), Place::name);
    failed_row(&away.name, place, &away.why, dry_run)
}

fn failed_row(name: &str, place: String, why: &Error, dry_run: bool) -> PlaceCleanup {
    PlaceCleanup {
        name: Some(name.into()),
        not_cleaned: Some(why.chain_with_step()),
        dry_run,
        ..PlaceCleanup::of(place)
    }
}

/// The error of a run that cleaned no place.
fn none_cleaned(rows: &[PlaceCleanup], mut failures: Vec<Error>) -> Error {
    if failures.len() == 1 || failures.iter().all(|error| matches!(error.kind(), Kind::Usage)) {
        return failures.remove(0);
    }
    let why: Vec<String> = rows.iter().flat_map(PlaceCleanup::named_problems).collect();
    Error::failed(format!("no place could be cleaned: {}", why.join("; ")))
}

/// The deleted backups that no place has any more. A place that was not cleaned may still have a backup, unless this machine
/// knows that a cleanup deleted it there.
async fn gone(config: &Config, names: &[String], places: &Places, rows: &[PlaceCleanup]) -> Vec<BackupId> {
    let mut gone: Vec<BackupId> = rows.iter().flat_map(PlaceCleanup::deleted).collect();
    gone.sort_unstable();
    gone.dedup();
    for name in names {
        let open = places.named(name);
        let row = rows.iter().find(|row| row.name.as_ref() == Some(name) && row.not_cleaned.is_none());
        gone = match (open, row) {
            (Some(place), Some(row)) => absent(&*place.store, gone, &row.deleted()).await,
            _ => known_deleted(config, name, gone),
        };
    }
    gone
}

/// The backups of `ids` that a place does not have. `deleted` are those that the run deleted there.
async fn absent(store: &dyn Store, ids: Vec<BackupId>, deleted: &[BackupId]) -> Vec<BackupId> {
    let is_absent = async |id: &BackupId| {
        deleted.contains(id) || matches!(store.head(&layout::manifest(id)).await, Ok(None))
    };
    let asked = stream::iter(ids).map(async |id| is_absent(&id).await.then_some(id));
    asked.buffered(AT_ONCE).filter_map(async |id| id).collect().await
}

/// The backups of `ids` that cleanups of this machine deleted in a place that is not read now.
fn known_deleted(config: &Config, name: &str, ids: Vec<BackupId>) -> Vec<BackupId> {
    let place = config.at(name).ok().and_then(|view| view.place.ok().map(|place| place.name()));
    let state_dir: Option<&Path> = config.state_dir.as_deref();
    let known = place.and_then(|place| KnownBackups::load(state_dir, &place)).unwrap_or_default();
    ids.into_iter().filter(|id| known.deleted.contains(id)).collect()
}
