//! Which backup: `latest`, or the one with an id.

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::TimeDelta;

use super::{archived, bare};
use crate::artifact::manifest::Manifest;
use crate::catalog::id::BackupId;
use crate::catalog::{self, Entry, layout};
use crate::error::{Error, Kind, Result};
use crate::shell::quoted;
use crate::store::{Object, Store};

/// Which backup is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The newest of the job.
    Latest,
    /// This one.
    Id(BackupId),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Which, String> {
        if text == "latest" {
            return Ok(Which::Latest);
        }
        text.parse().map(Which::Id).map_err(|e: String| format!("{e}; or write latest"))
    }
}

/// The backup's manifest, or the one that cannot be understood and is, or may be, that of the backup.
///
/// # Errors
/// If there is none, or if `latest` is asked for of a store with several jobs.
pub async fn choose(store: &dyn Store, which: &Which, job: Option<&str>) -> Result<Entry> {
    match which {
        Which::Id(id) => by_id(store, id, job).await,
        Which::Latest => latest(store, job).await,
    }
}

/// The same where nothing can be done with a manifest that cannot be understood.
///
/// # Errors
/// Also for such a manifest.
pub async fn sound(store: &dyn Store, which: &Which, job: Option<&str>) -> Result<Manifest> {
    match choose(store, which, job).await? {
        Entry::Backup(manifest) => Ok(*manifest),
        Entry::Damaged { key, why, .. } => {
            let error = Error::new(Kind::Mismatch, format!("the manifest {key} cannot be understood: {why}"));
            // It may be the newest of the job: an older one in its place is for a person to decide.
            Err(error.hint("Name another backup by its id (`uzima-backup list`)"))
        }
        Entry::Archived { id, key, why } => Err(frozen(store, &id, &key, &why).await?),
    }
}

/// The error for a backup whose manifest must be thawed first.
///
/// # Errors
/// Returns an error if the store does not answer.
pub async fn frozen(store: &dyn Store, id: &BackupId, key: &str, why: &str) -> Result<Error> {
    let error = archived::found(store, id).await?;
    // It may have been thawed in this moment.
    Ok(error.unwrap_or_else(|| Error::failed(format!("cannot read the manifest {key}: {why}"))))
}

async fn by_id(store: &dyn Store, id: &BackupId, job: Option<&str>) -> Result<Entry> {
    match catalog::find(store, id).await? {
        Some(Entry::Backup(manifest)) if job.is_some_and(|job| job != manifest.job) => {
            Err(Error::usage(format!("the backup {id} is of the job {}", manifest.job)))
        }
        Some(entry) => Ok(entry),
        None => Err(absent(store, id).await?),
    }
}

/// The error for a backup without a manifest. Who lost nothing else of it has its data still.
async fn absent(store: &dyn Store, id: &BackupId) -> Result<Error> {
    let listed = store.list(&layout::folder(id)).await?;
    let has = |wanted: fn(&str) -> bool| {
        let of = |object: &&Object| layout::parse(&object.key).is_some_and(|(_, file)| wanted(file));
        listed.iter().find(of).map(|object| object.key.as_str())
    };
    let none = format!("there is no backup {id} in {}", store.place());
    // One that is being deleted was not lost.
    let artifact = has(layout::is_artifact).filter(|_| has(|file| file == layout::TOMBSTONE).is_none());
    Ok(match artifact {
        None => Error::failed(none).hint("`uzima-backup list` shows those that exist"),
        Some(key) => Error::failed(format!("{none}: its artifact {key} is there, and its manifest is not")).hint(format!(
            "If there is a copy of {}, bring that back. Without it, {} tells whether the artifact is whole; a run that was \
             killed leaves one, too",
            layout::manifest(id),
            bare::read_step(store, key)
        )),
    })
}

async fn latest(store: &dyn Store, job: Option<&str>) -> Result<Entry> {
    let entries = catalog::manifests(store, &catalog::ids(store).await?).await?;
    let jobs: BTreeSet<&str> = entries.iter().filter_map(job_of).collect();
    let listed = jobs.iter().copied().collect::<Vec<_>>().join(", ");
    if job.is_none() && jobs.len() > 1 {
        let flags: Vec<String> = jobs.iter().map(|job| format!("--job {}", quoted(job))).collect();
        return Err(Error::usage(format!("{} has backups of several jobs: {listed}", store.place()))
            .hint(format!("Give the same command with {}", flags.join(" or "))));
    }
    let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
    let job = job.or(jobs.first().copied()).unwrap_or_default().to_string();
    // A damaged one may be of this job. Its id tells the second alone: within it, it may be the newest.
    let mine = entries.into_iter().filter(|entry| job_of(entry).is_none_or(|of| of == job));
    // Archives hold the old backups. Where an archived one is the newest, an older one is not taken in its place.
    let newest = mine.max_by_key(|entry| match entry {
        Entry::Backup(manifest) => manifest.started_at,
        Entry::Damaged { id, .. } => id.started() + TimeDelta::seconds(1),
        Entry::Archived { id, .. } => id.started(),
    });
    newest.ok_or_else(|| {
        let hint = match listed.as_str() {
            "" => "Check that this is the place of the backups (`uzima-backup config`)".into(),
            _ => format!("It has backups of the jobs: {listed}"),
        };
        Error::failed(format!("there is no backup{of_job} in {}", store.place())).hint(hint)
    })
}

fn job_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Backup(manifest) => Some(&manifest.job),
        Entry::Damaged { .. } | Entry::Archived { .. } => None,
    }
}
