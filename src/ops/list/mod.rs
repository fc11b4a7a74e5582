//! `list`: the runs of a place, newest first: what the store says, and what only records know.

mod row;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::base::error::Result;
use crate::catalog::fault::{BackupFault, ShownStatus};
use crate::catalog::history::{self, RunContext, StoreRuns};
use crate::catalog::marks::FailedRun;
use crate::catalog::run::{BackupRun, Status, Verified};
use crate::catalog::verdict::Verdict;
use crate::catalog::{self, BackupFolder, Catalog, CatalogEntry, CatalogOptions, layout};
use crate::model::id::BackupId;
use crate::store::Store;

pub use row::{ListRow, Listed};

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Only runs of this job.
    pub job: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Only what stands so; none means all but deleted backups.
    pub statuses: Vec<ShownStatus>,
}

/// Lists runs. A manifest that cannot be understood is listed as that, never left out. `records` are
/// those that could be read before the store was; a run that ends in between is then still seen.
pub async fn list(
    store: &dyn Store,
    records: &[BackupRun],
    options: &ListOptions,
    reading: &CatalogOptions,
) -> Result<Vec<Listed>> {
    let now = reading.now;
    let catalog = Catalog::read(store, reading).await?;
    let known = known(store, catalog.folders(), records, now);
    let ids = candidates(catalog.folders(), &known, now);
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut found: Vec<Listed> = Vec::new();
    let mut rest = ids.as_slice();
    while let Some(next) = rest.first() {
        // Only as many manifests are fetched as it takes; those of one second all.
        let last = found.get(limit.saturating_sub(1));
        if last.is_some_and(|listed| listed.id().started() > next.started()) {
            break;
        }
        let (these, later) = rest.split_at(limit.clamp(1, 64).min(rest.len()));
        rest = later;
        let rows = self::rows(store, &catalog, &known, these, now).await?;
        found.extend(rows.into_iter().filter(|listed| listed.wanted(options)));
    }
    catalog.save();
    // Ids tell the second; of runs within one, the manifests tell more.
    found.sort_by_key(|listed| std::cmp::Reverse(listed.started()));
    found.truncate(limit);
    Ok(found)
}

/// What records tell of this place, where the store has nothing to say against it.
fn known(
    store: &dyn Store,
    folders: &BTreeMap<BackupId, BackupFolder>,
    records: &[BackupRun],
    now: DateTime<Utc>,
) -> BTreeMap<BackupId, BackupRun> {
    let said = StoreRuns {
        place: store.place(),
        runs: Vec::new(),
        manifests: catalog::existing(folders).into_iter().collect(),
        failures: history::failures(folders),
    };
    // Whoever only looks holds no lock.
    let joined = history::join(&said, records, &RunContext { now, held: None });
    joined.into_iter().map(|run| (run.id.clone(), run)).collect()
}

/// Every id that somebody knows, newest first.
fn candidates(
    folders: &BTreeMap<BackupId, BackupFolder>,
    known: &BTreeMap<BackupId, BackupRun>,
    now: DateTime<Utc>,
) -> Vec<BackupId> {
    let mut ids: BTreeSet<BackupId> = catalog::existing(folders).into_iter().collect();
    ids.extend(history::failures(folders));
    ids.extend(known.keys().cloned());
    let bare = folders.iter().filter(|(_, folder)| BackupFault::unrecorded(folder, now).is_some());
    ids.extend(bare.map(|(id, _)| id.clone()));
    ids.into_iter().rev().collect()
}

/// What is listed of these ids.
async fn rows(
    store: &dyn Store,
    catalog: &Catalog<'_>,
    known: &BTreeMap<BackupId, BackupRun>,
    ids: &[BackupId],
    now: DateTime<Utc>,
) -> Result<Vec<Listed>> {
    let folders = catalog.folders();
    let has = |id: &BackupId, file: &str| folders.get(id).is_some_and(|folder| folder.contains_key(file));
    let (stored, others): (Vec<BackupId>, Vec<BackupId>) =
        ids.iter().cloned().partition(|id| has(id, layout::MANIFEST));
    let failed: Vec<BackupId> = others.iter().filter(|id| has(id, layout::FAILED)).cloned().collect();
    let mut rows: Vec<ListRow> = catalog.summaries(&stored).await?.into_iter().map(ListRow::Stored).collect();
    for (id, failure) in catalog.failures(&failed).await? {
        rows.push(ListRow::Run(Box::new(failed_run(store, &id, failure, known))));
    }
    // Where no record tells, all was there but the manifest.
    let bare = |id: &BackupId| BackupRun {
        status: Status::Deleted,
        ..BackupRun::begun(id.clone(), "", "", &store.place(), id.started())
    };
    for id in others.iter().filter(|id| !has(id, layout::FAILED)) {
        rows.push(ListRow::Run(Box::new(known.get(id).cloned().unwrap_or_else(|| bare(id)))));
    }
    let verdicts = catalog.verdicts(ids).await?;
    let pins = catalog.pins(ids).await?;
    verdicts.values().flat_map(|verdicts| &verdicts.future).for_each(|why| log::warn!("{why}"));
    let none = BackupFolder::new();
    let listed = |row: ListRow| {
        let mut listed = Listed { row, fault: None, pin: None, verified: None };
        let (id, verdict) = (
            listed.id(),
            verdicts.get(listed.id()).and_then(|found| found.newest.as_ref()).and_then(understood),
        );
        let fault = fault(&listed.row, folders.get(id).unwrap_or(&none), verdict, now);
        listed.pin = pins.get(listed.id()).cloned();
        (listed.fault, listed.verified) = (fault, verdict.map(Verified::from));
        listed
    };
    Ok(rows.into_iter().map(listed).collect())
}

/// What is wrong with the stored data that a row tells of.
fn fault(
    row: &ListRow,
    folder: &BackupFolder,
    verdict: Option<&Verdict>,
    now: DateTime<Utc>,
) -> Option<BackupFault> {
    match row {
        ListRow::Stored(CatalogEntry::Backup(manifest)) => BackupFault::find(manifest, folder, verdict),
        ListRow::Stored(CatalogEntry::Damaged { key, why, .. }) => Some(BackupFault::unreadable(key, why)),
        ListRow::Stored(CatalogEntry::Archived { .. }) => None,
        ListRow::Run(run) => BackupFault::lost_manifest(run, folder, now),
    }
}

/// The result of a verify; one that cannot be understood is told in the log.
fn understood(verdict: &Result<Verdict, String>) -> Option<&Verdict> {
    verdict.as_ref().inspect_err(|why| log::warn!("{why}")).ok()
}

/// A run of which the store says that it failed; what cannot be understood of that is told instead.
fn failed_run(
    store: &dyn Store,
    id: &BackupId,
    failure: Result<FailedRun, String>,
    known: &BTreeMap<BackupId, BackupRun>,
) -> BackupRun {
    match failure {
        Ok(failure) => BackupRun::failed(&failure, &store.place()),
        Err(why) => {
            let unknown = || BackupRun::begun(id.clone(), "", "", &store.place(), id.started());
            let run = known.get(id).cloned().unwrap_or_else(unknown);
            BackupRun { status: Status::Failed, error: run.error.clone().or(Some(why)), ..run }
        }
    }
}
