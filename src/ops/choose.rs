//! Which backup: `latest`, or the one with an id.

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::TimeDelta;

use crate::artifact::manifest::Manifest;
use crate::catalog::id::BackupId;
use crate::catalog::{self, Entry};
use crate::error::{Error, Kind, Result};
use crate::store::Store;

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
    }
}

async fn by_id(store: &dyn Store, id: &BackupId, job: Option<&str>) -> Result<Entry> {
    match catalog::find(store, id).await? {
        Some(Entry::Backup(manifest)) if job.is_some_and(|job| job != manifest.job) => {
            Err(Error::usage(format!("the backup {id} is of the job {}", manifest.job)))
        }
        Some(entry) => Ok(entry),
        None => Err(Error::failed(format!("there is no backup {id} in {}", store.place()))
            .hint("`uzima-backup list` shows those that exist")),
    }
}

async fn latest(store: &dyn Store, job: Option<&str>) -> Result<Entry> {
    let entries = catalog::manifests(store, &catalog::ids(store).await?).await?;
    let jobs: BTreeSet<&str> = entries.iter().filter_map(job_of).collect();
    let listed = jobs.iter().copied().collect::<Vec<_>>().join(", ");
    if job.is_none() && jobs.len() > 1 {
        return Err(Error::usage(format!("{} has backups of several jobs: {listed}", store.place()))
            .hint(format!("Say which, e.g. --job {}", jobs.first().copied().unwrap_or_default())));
    }
    let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
    let job = job.or(jobs.first().copied()).unwrap_or_default().to_string();
    // A damaged one may be of this job. Its id tells the second alone: within it, it may be the newest.
    let mine = entries.into_iter().filter(|entry| job_of(entry).is_none_or(|of| of == job));
    let newest = mine.max_by_key(|entry| match entry {
        Entry::Backup(manifest) => manifest.started_at,
        Entry::Damaged { id, .. } => id.started() + TimeDelta::seconds(1),
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
        Entry::Damaged { .. } => None,
    }
}
