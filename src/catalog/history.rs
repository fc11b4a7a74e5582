//! The runs of a place: what the store knows, joined with the records, and the correction of records that differ. The
//! store always wins. Records add that a run is under way, was killed, or that its backup is gone.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::records::{self, Records};
use super::run::{BackupRun, Status};
use super::{BackupFolder, Catalog, CatalogEntry, CatalogOptions, layout};
use crate::base::error::Result;
use crate::model::id::BackupId;
use crate::store::Store;

/// The longest possible run. A run that is recorded as running for longer was killed.
const DEAD: TimeDelta = TimeDelta::days(2);

/// The runs that a store knows.
#[derive(Debug, Clone, Default)]
pub struct StoreRuns {
    /// The store. Records of other places are ignored.
    pub place: String,
    /// Completed runs from their manifests, and failed runs.
    pub runs: Vec<BackupRun>,
    /// All backups that have a manifest, whether it was read or not.
    pub manifests: BTreeSet<BackupId>,
    /// All failed runs, whether their objects were read or not.
    pub failures: BTreeSet<BackupId>,
}

/// The facts that distinguish a dead run from one that is under way.
#[derive(Debug, Clone)]
pub struct RunContext {
    pub now: DateTime<Utc>,
    /// The job whose lock the caller holds, and the host. No other run of the job is under way on this host.
    pub held: Option<(String, String)>,
}

/// Returns every run of a place, newest first, with unique ids.
pub fn join(store: &StoreRuns, records: &[BackupRun], context: &RunContext) -> Vec<BackupRun> {
    let mut runs: BTreeMap<&BackupId, BackupRun> = BTreeMap::new();
    for record in records.iter().filter(|record| record.place == store.place) {
        runs.insert(&record.id, BackupRun { status: status(store, record, context), ..record.clone() });
    }
    // Only its record says where a backup was missing, and a run from the store may lack the result of a verify.
    for run in &store.runs {
        let record = records.iter().find(|record| record.id == run.id);
        let verified = run.verified.clone().or_else(|| record?.verified.clone());
        let missing_from = record.map(|record| record.missing_from.clone()).unwrap_or_default();
        runs.insert(&run.id, BackupRun { verified, missing_from, ..run.clone() });
    }
    let mut runs: Vec<BackupRun> = runs.into_values().collect();
    runs.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    runs
}

/// Returns the status of a recorded run whose object in the store was not read or does not exist.
fn status(store: &StoreRuns, record: &BackupRun, context: &RunContext) -> Status {
    let exists = store.manifests.contains(&record.id);
    let held = context.held.as_ref().is_some_and(|(job, host)| (job, host) == (&record.job, &record.host));
    match record.status {
        Status::Completed if !exists => Status::Deleted,
        Status::Running if store.failures.contains(&record.id) => Status::Failed,
        Status::Running if held || context.now - record.started_at > DEAD => Status::Interrupted,
        status => status,
    }
}

/// The records that differ from the joined runs.
#[derive(Debug, Clone, Default, PartialEq)]
struct RecordChanges {
    /// Runs without a record.
    added: Vec<BackupRun>,
    /// Runs whose record is wrong.
    corrected: Vec<BackupRun>,
}

fn changes(store: &StoreRuns, records: &[BackupRun], context: &RunContext) -> RecordChanges {
    let known: BTreeMap<&BackupId, &BackupRun> = records.iter().map(|record| (&record.id, record)).collect();
    let mut changes = RecordChanges::default();
    for run in join(store, records, context) {
        match known.get(&run.id) {
            None => changes.added.push(run),
            Some(record) if !records::same(record, &run) => changes.corrected.push(run),
            Some(_) => {}
        }
    }
    changes
}

/// The proof that a missing backup was deleted. Without proof its record stays as it is, because a disk may not be
/// mounted.
#[derive(Debug, Clone, Default)]
pub struct Deletions {
    /// The backups that cleanups of this machine deleted.
    pub backups: BTreeSet<BackupId>,
    /// A person confirmed that all missing backups were deleted.
    pub by_hand: bool,
}

/// Corrects the records that differ from the store. Returns a message if any did. Nothing is cleared, so a kill in between
/// loses nothing.
pub async fn reconcile(
    store: &dyn Store,
    records: &Records,
    context: &RunContext,
    options: &CatalogOptions,
    deleted: &Deletions,
) -> Result<Option<String>> {
    // Records are read first. A run that ends in between writes its manifest before its record, never the record alone.
    let recorded = records.all(None).await?;
    let catalog = Catalog::read(store, options).await?;
    let mut stored = store_runs(store, &catalog, &recorded.runs).await?;
    catalog.save();
    // A record that this version cannot decode may come from a newer version, which knows more.
    let foreign: BTreeSet<&str> = recorded.unreadable.iter().map(|(id, _)| id.as_str()).collect();
    stored.runs.retain(|run| !foreign.contains(run.id.as_str()));
    let mut changes = changes(&stored, &recorded.runs, context);
    let has_tombstone = |id: &BackupId| {
        catalog.folders().get(id).is_some_and(|folder| folder.contains_key(layout::TOMBSTONE))
    };
    changes.corrected.retain(|run| {
        run.status != Status::Deleted
            || deleted.by_hand
            || deleted.backups.contains(&run.id)
            || has_tombstone(&run.id)
    });
    // One by one, so that a kill in between loses nothing.
    for run in changes.added.iter().chain(&changes.corrected) {
        records.write(run).await?;
    }
    let (added, corrected) = (changes.added.len(), changes.corrected.len());
    Ok((added + corrected > 0)
        .then(|| format!("the records were rebuilt from the store: {added} added, {corrected} corrected")))
}

/// Reads the runs of a store whose records are missing or differ. Manifests never change, so the manifest of a run that is
/// recorded as completed is not fetched.
async fn store_runs(store: &dyn Store, catalog: &Catalog<'_>, records: &[BackupRun]) -> Result<StoreRuns> {
    let place = store.place();
    let known: BTreeMap<&BackupId, Status> =
        records.iter().filter(|record| record.place == place).map(|r| (&r.id, r.status)).collect();
    let unknown = |ids: &BTreeSet<BackupId>, status| -> Vec<BackupId> {
        ids.iter().filter(|id| known.get(id) != Some(&status)).cloned().collect()
    };
    let manifests: BTreeSet<BackupId> = catalog.existing().into_iter().collect();
    let failures = failures(catalog.folders());
    let mut runs = Vec::new();
    for entry in catalog.summaries(&unknown(&manifests, Status::Completed)).await? {
        match entry {
            CatalogEntry::Backup(manifest) => runs.push(BackupRun::completed(&manifest, &place)),
            CatalogEntry::Damaged { key, why, .. } => log::warn!("{key} cannot be understood: {why}"),
            // Only the record, if there is one, describes the backup.
            CatalogEntry::Archived { .. } => {}
            CatalogEntry::Untrusted { id, why, .. } => log::info!("the backup {id} is not recorded: {why}"),
        }
    }
    for (_, failure) in catalog.failures(&unknown(&failures, Status::Failed)).await? {
        match failure {
            Ok(failure) => runs.push(BackupRun::failed(&failure, &place)),
            Err(why) => log::warn!("{why}"),
        }
    }
    Ok(StoreRuns { place, runs, manifests, failures })
}

/// Returns the failed runs that left no backup.
pub fn failures(folders: &BTreeMap<BackupId, BackupFolder>) -> BTreeSet<BackupId> {
    let failed =
        |folder: &BackupFolder| folder.contains_key(layout::FAILED) && !folder.contains_key(layout::MANIFEST);
    folders.iter().filter(|(_, folder)| failed(folder)).map(|(id, _)| id.clone()).collect()
}

#[cfg(test)]
mod tests;
