//! Which backup: `latest`, or the one with an id.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::artifact::manifest::Manifest;
use crate::catalog::id::BackupId;
use crate::catalog::{self, Entry};
use crate::error::{Error, Kind, Result};
use crate::store::{self, Store};

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
        if text == "latest" { Ok(Which::Latest) } else { text.parse().map(Which::Id) }
    }
}

/// The backup's manifest.
///
/// # Errors
/// If there is none, if it cannot be understood, or if `latest` is asked for of a store with several jobs.
pub async fn choose(store: &dyn Store, which: &Which, job: Option<&str>) -> Result<Manifest> {
    match which {
        Which::Id(id) => by_id(store, id, job).await,
        Which::Latest => latest(store, job).await,
    }
}

async fn by_id(store: &dyn Store, id: &BackupId, job: Option<&str>) -> Result<Manifest> {
    match catalog::manifest(store, id).await {
        Ok(Entry::Backup(manifest)) if job.is_some_and(|job| job != manifest.job) => {
            Err(Error::usage(format!("the backup {id} is of the job {}", manifest.job)))
        }
        Ok(Entry::Backup(manifest)) => Ok(*manifest),
        Ok(Entry::Damaged { key, why, .. }) => Err(damaged(&key, &why)),
        Err(error) => match store.head(&catalog::layout::manifest(id)).await {
            Ok(None) => Err(Error::failed(format!("there is no backup {id} in {}", store.place()))
                .hint("`uzima-backup list` shows those that exist")),
            _ => Err(error),
        },
    }
}

async fn latest(store: &dyn Store, job: Option<&str>) -> Result<Manifest> {
    let entries = catalog::manifests(store, &catalog::ids(store).await?).await?;
    let jobs: BTreeSet<&str> = entries.iter().filter_map(job_of).collect();
    let job = match (job, jobs.len()) {
        (Some(job), _) => job,
        (None, 2..) => {
            let jobs: Vec<&str> = jobs.into_iter().collect();
            return Err(Error::usage(format!("{} has backups of several jobs", store.place()))
                .hint(format!("Name one with --job: {}", jobs.join(", "))));
        }
        (None, _) => jobs.first().copied().unwrap_or_default(),
    };
    let mut newest: Option<&Manifest> = None;
    for entry in &entries {
        match entry {
            // Ids tell the second; of backups within one, the manifests tell more.
            Entry::Backup(manifest)
                if manifest.job == job && newest.is_none_or(|n| manifest.started_at > n.started_at) =>
            {
                newest = Some(manifest);
            }
            // It may be the newest of this job: an older one in its place is for a person to decide.
            Entry::Damaged { key, why, .. } if newest.is_none() => {
                return Err(damaged(key, why).hint("Name an older backup by its id (`uzima-backup list`)"));
            }
            _ => {}
        }
    }
    newest.cloned().ok_or_else(|| {
        let of_job = if job.is_empty() { String::new() } else { format!(" of the job {job}") };
        Error::failed(format!("there is no backup{of_job} in {}", store.place()))
            .hint(format!("It has backups of the jobs: {}", jobs_text(&entries)))
    })
}

fn job_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Backup(manifest) => Some(&manifest.job),
        Entry::Damaged { .. } => None,
    }
}

fn jobs_text(entries: &[Entry]) -> String {
    let jobs: BTreeSet<&str> = entries.iter().filter_map(job_of).collect();
    if jobs.is_empty() { "none".into() } else { jobs.into_iter().collect::<Vec<_>>().join(", ") }
}

fn damaged(key: &str, why: &str) -> Error {
    Error::new(Kind::Mismatch, format!("the manifest {key} cannot be understood: {why}"))
}

/// An error of the store while stored data is read: what is not there or too short does not match the
/// manifest.
pub fn of_store(error: store::Error) -> Error {
    let kind = error.kind;
    let error = Error::from(error);
    match kind {
        store::Kind::NotFound | store::Kind::Damaged => error.of_kind(Kind::Mismatch),
        _ => error,
    }
}
