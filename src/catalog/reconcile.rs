//! Making records say what the store says: lost ones are written anew, wrong ones corrected.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{self, RunContext, StoreRuns};
use super::records::Records;
use super::run::{BackupRun, Status};
use super::{BackupFolder, Catalog, CatalogEntry, CatalogOptions, layout};
use crate::base::error::Result;
use crate::model::id::BackupId;
use crate::store::Store;

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Records that were missing.
    pub added: usize,
    /// Records that said something else.
    pub corrected: usize,
}

impl Reconciled {
    /// It in words; `None` if all was right.
    pub fn summary(self) -> Option<String> {
        let Reconciled { added, corrected } = self;
        (self != Reconciled::default())
            .then(|| format!("the records were rebuilt from the store: {added} added, {corrected} corrected"))
    }
}

/// What proves that a backup which is not in the store was deleted. Without proof its record stays: the store may be
/// another one, because a disk is not mounted.
#[derive(Debug, Clone, Default)]
pub struct Deletions {
    /// The backups that clean-ups of this machine deleted.
    pub backups: BTreeSet<BackupId>,
    /// A person says so of all that are missing.
    pub by_hand: bool,
}

/// Compares records with the store and writes what differs. Nothing is cleared, so a kill in the middle
/// loses nothing.
pub async fn reconcile(
    store: &dyn Store,
    records: &Records,
    around: &RunContext,
    reading: &CatalogOptions,
    deleted: &Deletions,
) -> Result<Reconciled> {
    // Records first: a run that ends meanwhile has its manifest before its record, never a record alone.
    let recorded = records.all(None).await?;
    let catalog = Catalog::read(store, reading).await?;
    let mut said = said(store, &catalog, &recorded.runs).await?;
    catalog.save();
    // Whoever wrote what this version cannot understand knows more than it does.
    let foreign: BTreeSet<&str> = recorded.unreadable.iter().map(|(id, _)| id.as_str()).collect();
    said.runs.retain(|run| !foreign.contains(run.id.as_str()));
    let mut differences = history::differences(&said, &recorded.runs, around);
    let going = |id: &BackupId| {
        catalog.folders().get(id).is_some_and(|folder| folder.contains_key(layout::TOMBSTONE))
    };
    differences.corrected.retain(|run| {
        run.status != Status::Deleted
            || deleted.by_hand
            || deleted.backups.contains(&run.id)
            || going(&run.id)
    });
    records.upsert_all(&differences.added).await?;
    records.upsert_all(&differences.corrected).await?;
    Ok(Reconciled { added: differences.added.len(), corrected: differences.corrected.len() })
}

/// What the store says, as far as records do not say it already: a manifest never changes, so one whose
/// record says that the backup exists is not fetched.
async fn said(store: &dyn Store, catalog: &Catalog<'_>, records: &[BackupRun]) -> Result<StoreRuns> {
    let place = store.place();
    let known: BTreeMap<&BackupId, Status> =
        records.iter().filter(|record| record.place == place).map(|r| (&r.id, r.status)).collect();
    let unknown = |ids: &BTreeSet<BackupId>, status| -> Vec<BackupId> {
        ids.iter().filter(|id| known.get(id) != Some(&status)).cloned().collect()
    };
    let with_manifest: BTreeSet<BackupId> = catalog.existing().into_iter().collect();
    let failed = failed(catalog.folders());
    let mut runs = Vec::new();
    for entry in catalog.summaries(&unknown(&with_manifest, Status::Completed)).await? {
        match entry {
            CatalogEntry::Backup(manifest) => runs.push(BackupRun::completed(&manifest, &place)),
            CatalogEntry::Damaged { key, why, .. } => log::warn!("{key} cannot be understood: {why}"),
            // The records are all that says what it is.
            CatalogEntry::Archived { .. } => {}
        }
    }
    for (_, failure) in catalog.failures(&unknown(&failed, Status::Failed)).await? {
        match failure {
            Ok(failure) => runs.push(BackupRun::failed(&failure, &place)),
            Err(why) => log::warn!("{why}"),
        }
    }
    Ok(StoreRuns { place, runs, manifests: with_manifest, failures: failed })
}

/// The runs that are said to have failed, and of which there is no backup all the same.
pub fn failed(folders: &BTreeMap<BackupId, BackupFolder>) -> BTreeSet<BackupId> {
    let failed =
        |folder: &BackupFolder| folder.contains_key(layout::FAILED) && !folder.contains_key(layout::MANIFEST);
    folders.iter().filter(|(_, folder)| failed(folder)).map(|(id, _)| id.clone()).collect()
}
