//! Chooses the backup that a command works on, by `latest`, an id or a time, and explains why a backup cannot be read:
//! its objects are archived, or an artifact has lost its manifest or index.

mod newest;
mod which;

use std::path::Path;

use super::fault::BackupFault;
use super::trust::{Distrust, Trust};
use super::{BackupFolder, Catalog, CatalogEntry, CatalogOptions, find, layout};
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::quoted;
use crate::catalog;
use crate::model::id::BackupId;
use crate::model::manifest::Manifest;
use crate::store::{ArchiveState, Store, StoredObject};

pub use newest::SkippedBackup;
use newest::{Counted, Newest, newest};
pub use which::WhichBackup;

/// The most ids in a message about an ambiguous beginning.
const LISTED: usize = 10;

/// Finds the backup and reads its manifest. The entry may be damaged or archived. With [`WhichBackup::Latest`], it is the
/// newest stored backup, and a damaged or archived manifest is returned if it may belong to the newest backup of the job.
///
/// # Errors
/// Returns an error if there is no such backup, if it belongs to another job, if an id is not unique, or if a backup is
/// searched by time without a job in a store that holds several jobs.
pub async fn choose(
    store: &dyn Store,
    which: &WhichBackup,
    job: Option<&str>,
    options: &CatalogOptions,
) -> Result<CatalogEntry<Box<Manifest>>> {
    let chosen = match which {
        WhichBackup::Latest => logged(newest(store, Counted::Stored, job, options).await?),
        other => good(store, other, job, options).await?,
    };
    Ok(chosen.entry)
}

/// Like [`choose`], for commands that need a readable manifest.
///
/// # Errors
/// Also returns an error if the manifest is damaged or archived.
pub async fn choose_readable(
    store: &dyn Store,
    which: &WhichBackup,
    job: Option<&str>,
    options: &CatalogOptions,
) -> Result<Manifest> {
    readable(store, choose(store, which, job, options).await?).await
}

/// Chooses the backup of a restore: with [`WhichBackup::Latest`], the newest backup without a known fault. Also returns the
/// newer backups that have one.
///
/// # Errors
/// See [`choose_readable`].
pub async fn choose_for_restore(
    store: &dyn Store,
    which: &WhichBackup,
    job: Option<&str>,
    options: &CatalogOptions,
) -> Result<(Manifest, Vec<SkippedBackup>)> {
    let chosen = good(store, which, job, options).await?;
    Ok((readable(store, chosen.entry).await?, chosen.skipped))
}

/// The known fault of a backup: an object is missing or has another size, or the last verify found damage.
///
/// # Errors
/// Returns an error if the store does not answer.
pub async fn known_fault(
    store: &dyn Store,
    manifest: &Manifest,
    options: &CatalogOptions,
) -> Result<Option<BackupFault>> {
    let (catalog, id) = (Catalog::read(store, options).await?, &manifest.id);
    let verdicts = catalog.verdicts(std::slice::from_ref(id)).await?.remove(id);
    let verdict = verdicts.and_then(|verdicts| verdicts.newest?.ok());
    let none = BackupFolder::new();
    let folder = catalog.folders().get(id).unwrap_or(&none);
    Ok(BackupFault::find(manifest, folder, verdict.as_ref()))
}

/// Finds the backup. Without an id it is one without a known fault, and the newer ones are named in the log.
async fn good(
    store: &dyn Store,
    which: &WhichBackup,
    job: Option<&str>,
    options: &CatalogOptions,
) -> Result<Newest> {
    let by = match which {
        WhichBackup::Id(id) => {
            return Ok(Newest { entry: by_id(store, id, job, options).await?, skipped: Vec::new() });
        }
        WhichBackup::Prefix(prefix) => {
            let id = by_prefix(store, prefix, job).await?;
            return Ok(Newest { entry: by_id(store, &id, job, options).await?, skipped: Vec::new() });
        }
        WhichBackup::By(time) => Some(*time),
        WhichBackup::Latest => None,
    };
    Ok(logged(newest(store, Counted::Good(by), job, options).await?))
}

/// Names the skipped backups in the log.
fn logged(chosen: Newest) -> Newest {
    for SkippedBackup { id, reason } in &chosen.skipped {
        log::warn!("the newer backup {id} is skipped: {reason}");
    }
    chosen
}

async fn readable(store: &dyn Store, entry: CatalogEntry<Box<Manifest>>) -> Result<Manifest> {
    match entry {
        CatalogEntry::Backup(manifest) => Ok(*manifest),
        CatalogEntry::Damaged { key, why, .. } => {
            let error = Error::new(Kind::Mismatch, format!("the manifest {key} cannot be understood: {why}"));
            // It may be the newest backup of the job: only a person can decide to take an older one instead.
            Err(error.hint("Name another backup by its id (`uzima-backup list`)"))
        }
        CatalogEntry::Archived { id, key, why } => Err(archived_manifest(store, &id, &key, &why).await?),
        CatalogEntry::Untrusted { id, why, .. } => Err(untrusted_error(&id, &why)),
    }
}

/// The error of a command that reads a backup whose signature is missing or wrong.
pub fn untrusted_error(id: &BackupId, why: &Distrust) -> Error {
    Error::new(Kind::Mismatch, format!("the backup {id} is untrusted: {why}")).hint(format!(
        "Find out who wrote it. `restore`, `get` and `verify` with --allow-unsigned {id} read it nevertheless; trusted_before \
         (BACKUP_TRUSTED_BEFORE) trusts unsigned backups from before a date"
    ))
}

/// Finds the only backup whose id begins with this text. If no backup does, folders without a manifest count, too: those of
/// failed runs and of lost manifests.
///
/// # Errors
/// Returns an error if there is none, or if there are several, also within the job.
pub async fn by_prefix(store: &dyn Store, prefix: &str, job: Option<&str>) -> Result<BackupId> {
    let folders = catalog::folders(store).await?;
    let begins = |id: &BackupId| id.as_str().starts_with(prefix);
    let mut ids: Vec<BackupId> = catalog::existing(&folders).into_iter().filter(begins).collect();
    if ids.is_empty() {
        ids = folders.keys().rev().filter(|id| begins(id)).cloned().collect();
    } else if ids.len() > 1 && job.is_some() {
        let mut of_job = Vec::new();
        for id in ids {
            match find(store, &id, &Trust::default()).await? {
                Some(CatalogEntry::Backup(manifest)) if job != Some(&manifest.job) => {}
                _ => of_job.push(id),
            }
        }
        ids = of_job;
    }
    match ids.as_slice() {
        [id] => Ok(id.clone()),
        [] => {
            let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
            let none =
                format!("there is no backup{of_job} in {} whose id begins with {prefix}", store.place());
            Err(Error::new(Kind::Missing, none).hint(nearby(store, prefix).await?))
        }
        several => {
            let mut shown: Vec<&str> = several.iter().map(BackupId::as_str).take(LISTED).collect();
            let more = format!("{} more", several.len().saturating_sub(LISTED));
            if several.len() > LISTED {
                shown.push(&more);
            }
            let what = format!(
                "{} ids in {} begin with {prefix}: {}",
                several.len(),
                store.place(),
                shown.join(", ")
            );
            Err(Error::usage(what).hint("Write more of the id"))
        }
    }
}

/// The next step for an id or a beginning that no backup has: the backups before and after it.
async fn nearby(store: &dyn Store, text: &str) -> Result<String> {
    let mut ids = catalog::existing(&catalog::folders(store).await?);
    ids.reverse();
    let after = ids.partition_point(|id| id.as_str() < text);
    let near = ids[after.saturating_sub(1)..].iter().take(2).map(BackupId::as_str).collect::<Vec<_>>();
    let near = if near.is_empty() { String::new() } else { format!("Near it are {}. ", near.join(" and ")) };
    Ok(format!("{near}`uzima-backup list` shows the existing backups"))
}

/// Builds the error for a backup whose manifest must be thawed before it can be read.
///
/// # Errors
/// Returns an error if the store does not answer.
pub async fn archived_manifest(store: &dyn Store, id: &BackupId, key: &str, why: &str) -> Result<Error> {
    let error = archived_error(store, id).await?;
    // Without an error, the manifest was thawed since it was read.
    Ok(error.unwrap_or_else(|| Error::failed(format!("cannot read the manifest {key}: {why}"))))
}

/// Checks that neither the artifact of a backup nor any object that the listing shows as archived has to be thawed. Call
/// this before any work on a backup starts: a thaw takes hours, so the error names all archived objects at once.
///
/// # Errors
/// Returns an error that explains how to thaw the backup. A missing object is not an error here.
pub async fn refuse_archived(store: &dyn Store, id: &BackupId) -> Result<()> {
    match archived_error(store, id).await? {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Builds the error for a backup that is archived; `None` if all of it can be read now.
pub async fn archived_error(store: &dyn Store, id: &BackupId) -> Result<Option<Error>> {
    let (mut frozen, mut thawing) = (Vec::new(), 0);
    for object in store.list(&layout::folder(id)).await? {
        let artifact = layout::parse(&object.key).is_some_and(|(_, file)| layout::is_artifact(file));
        if object.archive.is_none() && !artifact {
            continue;
        }
        match store.head(&object.key).await?.and_then(|object| object.archive) {
            Some(ArchiveState::Frozen) => frozen.push(object.key),
            Some(ArchiveState::Thawing) => thawing += 1,
            None => {}
        }
    }
    if frozen.is_empty() && thawing == 0 {
        return Ok(None);
    }
    let what = format!("the backup {id} is in an archive class of the bucket and cannot be read now");
    if frozen.is_empty() {
        return Ok(Some(Error::failed(format!("{what}: it is being thawed")).hint(
            "Run this command again when it can be read; `aws s3api head-object` then shows ongoing-request=\"false\" \
             (Standard takes 3 to 12 hours, Bulk up to 48)",
        )));
    }
    let commands: Vec<String> = frozen.iter().filter_map(|key| store.thaw(key)).collect();
    Ok(Some(Error::failed(what).hint(format!(
        "Thaw it, and run this command again when it can be read (Standard takes 3 to 12 hours): {}",
        commands.join("; ")
    ))))
}

/// The commands that show whether the artifact at `key`, which has lost its manifest or index, is whole and what it holds.
pub fn inspect_artifact_step(store: &dyn Store, key: &str) -> String {
    let place = Path::new(&store.place()).join(key).display().to_string();
    let from = |path: &str| format!("`uzima-backup restore --from {} --dry-run`", quoted(path));
    let (file, in_bucket) = (key.rsplit('/').next().unwrap_or(key), place.starts_with("s3://"));
    match (file.strip_suffix(".age"), in_bucket) {
        (Some(plain), true) => {
            let place = quoted(&place);
            format!("`aws s3 cp {place} - | age -d -i KEYFILE -o {plain}`, then {}", from(plain))
        }
        (Some(plain), false) => {
            format!("`age -d -i KEYFILE -o {plain} {}`, then {}", quoted(&place), from(plain))
        }
        (None, true) => format!("`aws s3 cp {} .`, then {}", quoted(&place), from(file)),
        (None, false) => from(&place),
    }
}

async fn by_id(
    store: &dyn Store,
    id: &BackupId,
    job: Option<&str>,
    options: &CatalogOptions,
) -> Result<CatalogEntry<Box<Manifest>>> {
    match find(store, id, &options.trust).await? {
        Some(CatalogEntry::Backup(manifest)) if job.is_some_and(|job| job != manifest.job) => {
            Err(Error::usage(format!("the backup {id} is of the job {}", manifest.job)))
        }
        Some(entry) => Ok(entry),
        None => Err(absent(store, id).await?),
    }
}

/// Builds the error for a backup without a manifest. If only the manifest was lost, the data is still there.
async fn absent(store: &dyn Store, id: &BackupId) -> Result<Error> {
    let listed = store.list(&layout::folder(id)).await?;
    let has = |wanted: fn(&str) -> bool| {
        let of = |object: &&StoredObject| layout::parse(&object.key).is_some_and(|(_, file)| wanted(file));
        listed.iter().find(of).map(|object| object.key.as_str())
    };
    let none = format!("there is no backup {id} in {}", store.place());
    // A tombstone means that a cleanup is deleting the backup: nothing was lost.
    let artifact = has(layout::is_artifact).filter(|_| has(|file| file == layout::TOMBSTONE).is_none());
    Ok(match artifact {
        None => Error::new(Kind::Missing, none).hint(nearby(store, id.as_str()).await?),
        Some(key) => Error::failed(format!("{none}: its artifact {key} exists, but its manifest is missing")).hint(format!(
            "If there is a copy of {}, put it back. Without a copy, {} shows whether the artifact is complete. A run that \
             was killed also leaves an artifact",
            layout::manifest(id),
            inspect_artifact_step(store, key)
        )),
    })
}
