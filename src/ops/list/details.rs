//! `list ID`: everything that the store and the records know about one run and its backup.

use schemars::JsonSchema;
use serde::Serialize;

use super::{ListRow, ListedContent, candidates, merged, read_rows, recorded};
use crate::artifact::read;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::keys::Identities;
use crate::catalog::choose::{self, WhichBackup};
use crate::catalog::marks::{FailedRun, Mark};
use crate::catalog::run::BackupRun;
use crate::catalog::trust::Trust;
use crate::catalog::verdict::Verdict;
use crate::catalog::{self, Catalog, CatalogEntry, CatalogOptions, layout};
use crate::model::id::BackupId;
use crate::model::manifest::Manifest;
use crate::ops::places::Places;
use crate::store::Store;

/// A run and its backup. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct BackupDetails {
    version: u32,
    /// The store, as shown to people.
    pub place: String,
    /// The row of the list.
    pub backup: ListRow,
    seconds: Option<f64>,
    raw_bytes_per_second: Option<f64>,
    /// `None` without a readable manifest.
    pub manifest: Option<Box<Manifest>>,
    /// The newest result of a verify, with the newest drill.
    pub verdict: Option<Verdict>,
    /// `None` if the backup is not pinned, or if the pin cannot be read.
    pub pin: Option<Mark>,
    /// A person accepted the backup although it collapsed or is of another server.
    pub accepted: bool,
    /// `None` if the backup is not accepted, or if the acceptance cannot be read.
    pub acceptance: Option<Mark>,
    /// A cleanup has begun to delete the backup.
    pub being_deleted: bool,
    /// The failed run, if its record in the store can be read.
    pub failure: Option<FailedRun>,
    /// Places that cannot be read. Without copies it is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

impl BackupDetails {
    /// The exit code: 4 if the backup has a fault, 3 if a place cannot be read.
    pub fn exit(&self) -> Exit {
        match (self.backup.mismatches(), self.problems.is_empty()) {
            (true, _) => Exit::Mismatch,
            (false, false) => Exit::NeedsLook,
            (false, true) => Exit::Done,
        }
    }
}

/// As [`details`], from the place where the backup is best, with all places of the backup.
///
/// # Errors
/// As [`details`], if no place knows the run.
pub async fn details_in(
    places: &Places,
    records: &[BackupRun],
    id: &BackupId,
    job: Option<&str>,
    keys: impl AsyncFnOnce() -> Result<Option<Identities>>,
    reading: &CatalogOptions,
) -> Result<BackupDetails> {
    let mut best = places.first_open()?;
    if !places.are_several() {
        return details(&*best.store, records, id, job, keys, reading).await;
    }
    let (mut rows, mut problems, mut worth) = (Vec::new(), places.problems(), None);
    for place in &places.open {
        match row_in(&*place.store, records, id, reading).await {
            Ok(Some(row)) => {
                if worth.is_none_or(|worth| worth < merged::worth(&row)) {
                    (best, worth) = (place, Some(merged::worth(&row)));
                }
                rows.push((place.name.as_str(), row));
            }
            Ok(None) => {}
            Err(error) => {
                problems.push(format!("the place {} cannot be read: {}", place.name, error.chain_with_step()))
            }
        }
    }
    let mut details = details(&*best.store, records, id, job, keys, reading).await?;
    if let Some(row) = merged::merge(rows) {
        (details.backup.places, details.backup.pinned) = (row.places, row.pinned);
        details.backup.pin_reason = row.pin_reason;
    }
    details.problems = problems;
    Ok(details)
}

/// The row of a run in one place; `None` if the place does not know the run.
async fn row_in(
    store: &dyn Store,
    records: &[BackupRun],
    id: &BackupId,
    reading: &CatalogOptions,
) -> Result<Option<ListRow>> {
    let catalog = Catalog::read(store, reading).await?;
    let known = recorded(store, catalog.folders(), records, reading.now);
    if !candidates(catalog.folders(), &known, reading.now).contains(id) {
        return Ok(None);
    }
    let rows = read_rows(store, &catalog, &known, std::slice::from_ref(id), reading.now).await?;
    Ok(rows.into_iter().next())
}

/// Reads everything about a run. `records` must have been read before, as for [`list`](super::list). `keys` is called for an
/// encrypted backup; without identities, its readable manifest is shown.
///
/// # Errors
/// Returns an error if there is no such run, if it belongs to another job than `job`, if the store cannot be read, or if no
/// identity decrypts the backup.
pub async fn details(
    store: &dyn Store,
    records: &[BackupRun],
    id: &BackupId,
    job: Option<&str>,
    keys: impl AsyncFnOnce() -> Result<Option<Identities>>,
    reading: &CatalogOptions,
) -> Result<BackupDetails> {
    let now = reading.now;
    let catalog = Catalog::read(store, reading).await?;
    let known = recorded(store, catalog.folders(), records, now);
    if !candidates(catalog.folders(), &known, now).contains(id) {
        // This error explains an artifact without a manifest.
        choose::choose(store, &WhichBackup::Id(id.clone()), None, reading).await?;
    }
    let ids = std::slice::from_ref(id);
    let rows = read_rows(store, &catalog, &known, ids, now).await?;
    let gone = || Error::failed(format!("a cleanup deleted the backup {id} just now"));
    let backup = rows.into_iter().next().ok_or_else(gone)?;
    let run = match &backup.content {
        ListedContent::Run(run) => Some(run),
        ListedContent::Unreadable { .. } => None,
    };
    if let (Some(job), Some(run)) = (job, run)
        && job != run.job
    {
        return Err(Error::usage(format!("the backup {id} is of the job {}", run.job)));
    }
    // An untrusted manifest is shown as well: its status says so.
    let found = catalog::find(store, id, &Trust::default()).await?;
    let manifest = match found {
        Some(CatalogEntry::Backup(manifest)) if manifest.encryption.is_some() => {
            Some(Box::new(decrypted(store, *manifest, keys().await?).await?))
        }
        Some(CatalogEntry::Backup(manifest)) => Some(manifest),
        _ => None,
    };
    let verdict = catalog.verdicts(ids).await?.remove(id).and_then(|verdicts| verdicts.newest?.ok());
    let failure = catalog.failures(ids).await?.pop().and_then(|(_, failure)| failure.ok());
    let has = |file| catalog.folders().get(id).is_some_and(|folder| folder.contains_key(file));
    let details = BackupDetails {
        version: 1,
        place: store.place(),
        seconds: run.and_then(|run| run.took()).map(|took| took.as_secs_f64()),
        raw_bytes_per_second: run.and_then(|run| run.raw_speed()),
        manifest,
        verdict,
        pin: catalog.mark(id, layout::PIN).await?,
        accepted: catalog.accepted(ids).await?.contains(id),
        acceptance: catalog.mark(id, layout::ACCEPTED).await?,
        being_deleted: has(layout::TOMBSTONE),
        failure,
        backup,
        problems: Vec::new(),
    };
    catalog.save();
    Ok(details)
}

/// The complete manifest of an encrypted backup; the readable one without identities, or if the index is damaged.
async fn decrypted(store: &dyn Store, manifest: Manifest, keys: Option<Identities>) -> Result<Manifest> {
    let Some(keys) = keys else { return Ok(manifest) };
    Ok(match read::load_index(store, &manifest, Some(&keys)).await? {
        Ok((_, complete)) => complete,
        Err(what) => {
            log::warn!("the namespaces of {} cannot be shown: {what}", manifest.id);
            manifest
        }
    })
}
