//! Which backup: `latest`, or the one with an id.

use std::collections::BTreeSet;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};

use super::{archived, bare};
use crate::base::dates;
use crate::base::error::{Error, Kind, Result};
use crate::base::shell::quoted;
use crate::catalog::{self, Catalog, Entry, Reading, layout};
use crate::model::id::BackupId;
use crate::model::manifest::Manifest;
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
pub async fn choose(
    store: &dyn Store,
    which: &Which,
    job: Option<&str>,
    reading: &Reading,
) -> Result<Entry<Box<Manifest>>> {
    match which {
        Which::Id(id) => by_id(store, id, job).await,
        Which::Latest => latest(store, job, reading).await,
    }
}

/// The same where nothing can be done with a manifest that cannot be understood.
///
/// # Errors
/// Also for such a manifest.
pub async fn sound(
    store: &dyn Store,
    which: &Which,
    job: Option<&str>,
    reading: &Reading,
) -> Result<Manifest> {
    match choose(store, which, job, reading).await? {
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

async fn by_id(store: &dyn Store, id: &BackupId, job: Option<&str>) -> Result<Entry<Box<Manifest>>> {
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

/// The newest backup of the job. What is dated in the future is passed over: it would be the newest for as long as that
/// lies ahead.
async fn latest(store: &dyn Store, job: Option<&str>, reading: &Reading) -> Result<Entry<Box<Manifest>>> {
    let catalog = Catalog::read(store, reading).await?;
    let future = |at: DateTime<Utc>| dates::is_future(at, reading.now);
    let ids: Vec<BackupId> = catalog.existing().into_iter().filter(|id| !future(id.started())).collect();
    // Only a named job spares the look at all: without one, a store of several jobs has no latest backup.
    let mut at_once = if job.is_some() { 1 } else { ids.len() };
    let mut rest = ids.as_slice();
    let mut newest: Option<Entry> = None;
    let mut jobs: BTreeSet<String> = BTreeSet::new();
    while let Some(next) = rest.first() {
        // Ids tell the second; within it, the manifests tell more.
        if newest.as_ref().is_some_and(|newest| newest.id().started() > next.started()) {
            break;
        }
        let (these, later) = rest.split_at(at_once.min(rest.len()));
        (rest, at_once) = (later, (at_once * 4).min(64));
        let entries = catalog.summaries(these).await?;
        jobs.extend(entries.iter().filter_map(job_of).map(str::to_string));
        let wanted = job.or(jobs.first().map(String::as_str));
        let mine = entries.into_iter().filter(|entry| !future(entry.started()));
        // A damaged one may be of this job.
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
        Error::failed(format!("there is no backup{of_job} in {}", store.place())).hint(hint)
    };
    match newest.ok_or_else(none)? {
        Entry::Backup(summary) => catalog::find(store, &summary.id).await?.ok_or_else(none),
        Entry::Damaged { id, key, why } => Ok(Entry::Damaged { id, key, why }),
        Entry::Archived { id, key, why } => Ok(Entry::Archived { id, key, why }),
    }
}

/// The time by which backups are ordered. A damaged backup has only its id, which is exact to the second: it counts as the
/// newest of that second.
fn rank(entry: &Entry) -> DateTime<Utc> {
    match entry {
        Entry::Backup(manifest) => manifest.started_at,
        Entry::Damaged { id, .. } => id.started() + TimeDelta::seconds(1),
        // Archives hold the old backups. Where an archived one is the newest, an older one is not taken in its place.
        Entry::Archived { id, .. } => id.started(),
    }
}

fn job_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Backup(manifest) => Some(&manifest.job),
        Entry::Damaged { .. } | Entry::Archived { .. } => None,
    }
}
