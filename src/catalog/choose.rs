//! Chooses the backup that a command works on, by `latest` or by its id, and explains why a backup cannot be read:
//! its objects are archived, or an artifact has lost its manifest or index.

use std::collections::BTreeSet;
use std::path::Path;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Catalog, CatalogEntry, CatalogOptions, find, layout};
use crate::base::clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::quoted;
use crate::model::id::BackupId;
use crate::model::manifest::Manifest;
use crate::store::{ArchiveState, Store, StoredObject};

/// The backup that a command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhichBackup {
    /// The newest backup of the job.
    Latest,
    Id(BackupId),
}

impl FromStr for WhichBackup {
    type Err = String;

    fn from_str(text: &str) -> Result<WhichBackup, String> {
        if text == "latest" {
            return Ok(WhichBackup::Latest);
        }
        text.parse().map(WhichBackup::Id).map_err(|e: String| format!("{e}; or write latest"))
    }
}

/// Finds the backup and reads its manifest. The entry may be damaged or archived. With [`WhichBackup::Latest`], a damaged
/// or archived manifest is returned if it may belong to the newest backup of the job.
///
/// # Errors
/// Returns an error if there is no such backup, if it belongs to another job, or if `latest` is asked for without a job in
/// a store that holds several jobs.
pub async fn choose(
    store: &dyn Store,
    which: &WhichBackup,
    job: Option<&str>,
    options: &CatalogOptions,
) -> Result<CatalogEntry<Box<Manifest>>> {
    match which {
        WhichBackup::Id(id) => by_id(store, id, job).await,
        WhichBackup::Latest => latest(store, job, options).await,
    }
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
    match choose(store, which, job, options).await? {
        CatalogEntry::Backup(manifest) => Ok(*manifest),
        CatalogEntry::Damaged { key, why, .. } => {
            let error = Error::new(Kind::Mismatch, format!("the manifest {key} cannot be understood: {why}"));
            // It may be the newest backup of the job: only a person can decide to take an older one instead.
            Err(error.hint("Name another backup by its id (`uzima-backup list`)"))
        }
        CatalogEntry::Archived { id, key, why } => Err(archived_manifest(store, &id, &key, &why).await?),
    }
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
    match place.starts_with("s3://") {
        true => {
            let file = key.rsplit('/').next().unwrap_or(key);
            format!("`aws s3 cp {} .`, then {}", quoted(&place), from(file))
        }
        false => from(&place),
    }
}

async fn by_id(store: &dyn Store, id: &BackupId, job: Option<&str>) -> Result<CatalogEntry<Box<Manifest>>> {
    match find(store, id).await? {
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
        None => Error::new(Kind::Missing, none).hint("`uzima-backup list` shows those that exist"),
        Some(key) => Error::failed(format!("{none}: its artifact {key} exists, but its manifest is missing")).hint(format!(
            "If there is a copy of {}, bring that back. Without a copy, {} shows whether the artifact is complete. A run that \
             was killed also leaves an artifact",
            layout::manifest(id),
            inspect_artifact_step(store, key)
        )),
    })
}

/// Finds the newest backup of the job. Backups dated in the future are skipped: each would stay the newest until that
/// time has come.
async fn latest(
    store: &dyn Store,
    job: Option<&str>,
    options: &CatalogOptions,
) -> Result<CatalogEntry<Box<Manifest>>> {
    let catalog = Catalog::read(store, options).await?;
    let future = |at: DateTime<Utc>| clock::is_future(at, options.now);
    let ids: Vec<BackupId> = catalog.existing().into_iter().filter(|id| !future(id.started())).collect();
    // Without a named job every manifest is read: a store with several jobs has no latest backup.
    let mut at_once = if job.is_some() { 1 } else { ids.len() };
    let mut rest = ids.as_slice();
    let mut newest: Option<CatalogEntry> = None;
    let mut jobs: BTreeSet<String> = BTreeSet::new();
    while let Some(next) = rest.first() {
        // An id is exact to the second. Within one second only the manifests decide.
        if newest.as_ref().is_some_and(|newest| newest.id().started() > next.started()) {
            break;
        }
        let (these, later) = rest.split_at(at_once.min(rest.len()));
        (rest, at_once) = (later, (at_once * 4).min(64));
        let entries = catalog.summaries(these).await?;
        jobs.extend(entries.iter().filter_map(job_of).map(str::to_string));
        let wanted = job.or(jobs.first().map(String::as_str));
        let mine = entries.into_iter().filter(|entry| !future(entry.started()));
        // A damaged manifest may belong to this job.
        let mine =
            mine.filter(|entry| job_of(entry).is_none_or(|of| wanted.is_none_or(|wanted| of == wanted)));
        newest = newest.into_iter().chain(mine).max_by_key(rank);
    }
    catalog.save();
    let listed = jobs.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    if job.is_none() && jobs.len() > 1 {
        let flags: Vec<String> = jobs.iter().map(|job| format!("--job {}", quoted(job))).collect();
        return Err(Error::usage(format!("{} has backups of several jobs: {listed}", store.place()))
            .hint(format!("Give the same command with {}", flags.join(" or "))));
    }
    let none = || {
        let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        let hint = match listed.as_str() {
            "" => "Check that this is the place of the backups (`uzima-backup config`)".into(),
            _ => format!("It has backups of the jobs: {listed}"),
        };
        Error::new(Kind::Missing, format!("there is no backup{of_job} in {}", store.place())).hint(hint)
    };
    match newest.ok_or_else(none)? {
        CatalogEntry::Backup(summary) => find(store, &summary.id).await?.ok_or_else(none),
        CatalogEntry::Damaged { id, key, why } => Ok(CatalogEntry::Damaged { id, key, why }),
        CatalogEntry::Archived { id, key, why } => Ok(CatalogEntry::Archived { id, key, why }),
    }
}

/// The time by which backups are ordered. A damaged backup is dated by its id, which is exact to the second: it counts as
/// the newest of that second.
fn rank(entry: &CatalogEntry) -> DateTime<Utc> {
    match entry {
        CatalogEntry::Backup(manifest) => manifest.started_at,
        CatalogEntry::Damaged { id, .. } => id.started() + TimeDelta::seconds(1),
        // If the newest backup is archived, no older one is chosen in its place.
        CatalogEntry::Archived { id, .. } => id.started(),
    }
}

fn job_of(entry: &CatalogEntry) -> Option<&str> {
    match entry {
        CatalogEntry::Backup(manifest) => Some(&manifest.job),
        CatalogEntry::Damaged { .. } | CatalogEntry::Archived { .. } => None,
    }
}
