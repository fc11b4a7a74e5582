//! The newest backup of a job: any, or one without known faults.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::base::clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::quoted;
use crate::catalog::fault::BackupFault;
use crate::catalog::{self, BackupFolder, Catalog, CatalogEntry, CatalogOptions, Summary};
use crate::model::id::BackupId;
use crate::model::manifest::Manifest;
use crate::store::Store;

/// Which backups count in the search for the newest one.
#[derive(Debug, Clone, Copy)]
pub enum Counted {
    /// Every backup that has a manifest.
    Stored,
    /// Backups of the whole job without a known fault. With a time, only those that were complete by then. A collapsed
    /// backup counts: it is what the server had.
    Good(Option<DateTime<Utc>>),
}

impl Counted {
    /// The time by which a backup must be complete.
    fn by(self) -> Option<DateTime<Utc>> {
        match self {
            Counted::Stored => None,
            Counted::Good(by) => by,
        }
    }
}

/// A backup that was passed over although it is newer than the chosen one.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct SkippedBackup {
    pub id: BackupId,
    pub reason: String,
}

/// The chosen backup.
#[derive(Debug)]
pub struct Newest {
    /// The backup. Its manifest is damaged or archived if it may belong to the newest backup of the job.
    pub entry: CatalogEntry<Box<Manifest>>,
    /// Newer backups that do not count, newest first.
    pub skipped: Vec<SkippedBackup>,
}

/// The number of manifests that are read to name the next backup in a message.
const NEAR: usize = 64;

/// Finds the newest backup of the job. Backups dated in the future are left out: each would stay the newest until that
/// time has come.
pub async fn newest(
    store: &dyn Store,
    counted: Counted,
    job: Option<&str>,
    options: &CatalogOptions,
) -> Result<Newest> {
    let catalog = Catalog::read(store, options).await?;
    let mut search = Search {
        catalog,
        counted,
        job,
        now: options.now,
        trusts_all: options.trust.is_off(),
        jobs: BTreeSet::new(),
        skipped: vec![],
        faults: false,
    };
    let found = search.run().await?;
    search.catalog.save();
    search.refuse_several_jobs(store)?;
    let Some(entry) = found else { return Err(search.none(store).await?) };
    let entry = match entry {
        CatalogEntry::Backup(summary) => match catalog::find(store, &summary.id, &options.trust).await? {
            Some(entry) => entry,
            None => return Err(search.none(store).await?),
        },
        CatalogEntry::Untrusted { .. } => return Err(search.none(store).await?),
        CatalogEntry::Damaged { id, key, why } => CatalogEntry::Damaged { id, key, why },
        CatalogEntry::Archived { id, key, why } => CatalogEntry::Archived { id, key, why },
    };
    Ok(Newest { entry, skipped: search.skipped })
}

struct Search<'a> {
    catalog: Catalog<'a>,
    counted: Counted,
    job: Option<&'a str>,
    now: DateTime<Utc>,
    /// True if there are no trusted keys.
    trusts_all: bool,
    /// The jobs of the manifests that were read.
    jobs: BTreeSet<String>,
    skipped: Vec<SkippedBackup>,
    /// True if a skipped backup has a fault; a partial backup has none.
    faults: bool,
}

impl Search<'_> {
    async fn run(&mut self) -> Result<Option<CatalogEntry>> {
        let future = |at: DateTime<Utc>| clock::is_future(at, self.now);
        let mut ids: Vec<BackupId> = self.catalog.existing();
        ids.retain(|id| !future(id.started()));
        if let (Some(by), true) = (self.counted.by(), self.job.is_some()) {
            ids.retain(|id| id.started() <= by);
        }
        // Without a named job every manifest is read: a store with several jobs has no latest backup.
        let mut at_once = if self.job.is_some() { 1 } else { ids.len() };
        let mut rest = ids.as_slice();
        // Oldest first.
        let mut read: Vec<CatalogEntry> = Vec::new();
        loop {
            // An id is exact to the second. Only manifests show the order of backups from the same second.
            let settled = |entry: &mut CatalogEntry| {
                rest.first().is_none_or(|next| entry.id().started() > next.started())
            };
            if let Some(entry) = read.pop_if(settled) {
                if self.counts(&entry).await? {
                    return Ok(Some(entry));
                }
                continue;
            }
            if rest.is_empty() {
                return Ok(None);
            }
            let (these, later) = rest.split_at(at_once.min(rest.len()));
            (rest, at_once) = (later, (at_once * 4).min(64));
            let entries = self.catalog.summaries(these).await?;
            self.jobs.extend(entries.iter().filter_map(job_of).map(str::to_string));
            let wanted = self.job.or(self.jobs.first().map(String::as_str));
            // A damaged manifest may belong to this job.
            let is_mine = |entry: &CatalogEntry| {
                let job = match entry {
                    CatalogEntry::Untrusted { manifest: Some(manifest), .. } => Some(manifest.job.as_str()),
                    entry => job_of(entry),
                };
                job.is_none_or(|job| wanted.is_none_or(|wanted| job == wanted))
            };
            let now = self.now;
            let past = |entry: &CatalogEntry| !clock::is_future(entry.started(), now);
            read.extend(entries.into_iter().filter(|entry| past(entry) && is_mine(entry)));
            read.sort_by_key(rank);
        }
    }

    /// Returns true if the search ends with this backup. A backup with a fault is added to `skipped`.
    async fn counts(&mut self, entry: &CatalogEntry) -> Result<bool> {
        if let Some(reason) = self.distrust(entry) {
            if self.counted.by().is_none_or(|by| entry.started() <= by) {
                self.faults = true;
                self.skipped.push(SkippedBackup { id: entry.id().clone(), reason });
            }
            return Ok(false);
        }
        let Counted::Good(by) = self.counted else { return Ok(true) };
        let CatalogEntry::Backup(summary) = entry else {
            return Ok(by.is_none_or(|by| entry.started() <= by));
        };
        if by.is_some_and(|by| summary.finished_at > by) {
            return Ok(false);
        }
        let fault = self.fault(summary).await?;
        self.faults |= fault.is_some();
        let reason = fault.or_else(|| summary.part().map(|what| format!("it is partial ({what})")));
        let counts = reason.is_none();
        self.skipped.extend(reason.map(|reason| SkippedBackup { id: summary.id.clone(), reason }));
        Ok(counts)
    }

    /// Returns the reason why a backup is not trusted. Everybody who can write to the store could hide the backups before a
    /// planted manifest, also before one in an archive class.
    fn distrust(&self, entry: &CatalogEntry) -> Option<String> {
        match entry {
            CatalogEntry::Untrusted { why, .. } => Some(BackupFault::untrusted(why).why),
            CatalogEntry::Archived { .. } if !self.trusts_all => {
                Some("its manifest is archived, so that its signature cannot be checked".into())
            }
            _ => None,
        }
    }

    /// Returns the reason why a backup must not be restored without being named.
    async fn fault(&self, summary: &Summary) -> Result<Option<String>> {
        let id = &summary.id;
        let verdicts = self.catalog.verdicts(std::slice::from_ref(id)).await?.remove(id).unwrap_or_default();
        verdicts.future.iter().for_each(|why| log::warn!("{why}"));
        let verdict = match verdicts.newest {
            Some(Err(why)) => {
                log::warn!("{why}");
                None
            }
            Some(Ok(verdict)) => Some(verdict),
            None => None,
        };
        let none = BackupFolder::new();
        let folder = self.catalog.folders().get(id).unwrap_or(&none);
        Ok(BackupFault::find(summary, folder, verdict.as_ref()).map(|fault| fault.why))
    }

    fn refuse_several_jobs(&self, store: &dyn Store) -> Result<()> {
        if self.job.is_some() || self.jobs.len() < 2 {
            return Ok(());
        }
        let flags: Vec<String> = self.jobs.iter().map(|job| format!("--job {}", quoted(job))).collect();
        let what = format!("{} has backups of several jobs: {}", store.place(), self.listed_jobs());
        Err(Error::usage(what).hint(format!("Repeat the command with {}", flags.join(" or "))))
    }

    fn listed_jobs(&self) -> String {
        self.jobs.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// Builds the error of a search that found nothing.
    async fn none(&self, store: &dyn Store) -> Result<Error> {
        let of_job = self.job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        let by = self.counted.by().map(|by| format!(" that was complete by {}", by.format("%F %T UTC")));
        let by = by.unwrap_or_default();
        if let Some(newest) = self.skipped.first() {
            let lines: Vec<String> =
                self.skipped.iter().map(|skipped| format!("{}: {}", skipped.id, skipped.reason)).collect();
            let what = format!(
                "there is no good backup{of_job} in {}{by}; these are not good: {}",
                store.place(),
                lines.join("; ")
            );
            let (kind, step) = match self.faults {
                true => (Kind::Mismatch, ", which also shows how to restore the sound part of a damaged one"),
                false => (
                    Kind::Missing,
                    ". If their selection is all of the job, set it as BACKUP_DATABASES, BACKUP_INCLUDE or BACKUP_EXCLUDE \
                     instead of flags",
                ),
            };
            return Ok(Error::new(kind, what).hint(format!(
                "Name a backup by its id to use it nevertheless: `uzima-backup restore {}`{step}",
                newest.id
            )));
        }
        let hint = match (self.next_after().await?, self.listed_jobs().as_str()) {
            (Some(next), _) => {
                format!("The next one is {}, complete at {}", next.id, next.finished_at.format("%F %T UTC"))
            }
            (None, "") => "Check that this is the place of the backups (`uzima-backup config`)".into(),
            (None, jobs) => format!("It has backups of the jobs: {jobs}"),
        };
        Ok(Error::new(Kind::Missing, format!("there is no backup{of_job} in {}{by}", store.place()))
            .hint(hint))
    }

    /// Returns the first backup of the job that was complete only after the given time.
    async fn next_after(&self) -> Result<Option<std::sync::Arc<Summary>>> {
        let Some(by) = self.counted.by() else { return Ok(None) };
        let mut later = self.catalog.existing();
        later.retain(|id| id.started() > by - TimeDelta::days(1));
        later.reverse();
        later.truncate(NEAR);
        let entries = self.catalog.summaries(&later).await?;
        Ok(entries.into_iter().find_map(|entry| match entry {
            CatalogEntry::Backup(summary) => {
                Some(summary).filter(|one| one.finished_at > by && self.job.is_none_or(|job| one.job == job))
            }
            _ => None,
        }))
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
        CatalogEntry::Untrusted { .. } => entry.started(),
    }
}

fn job_of(entry: &CatalogEntry) -> Option<&str> {
    match entry {
        CatalogEntry::Backup(manifest) => Some(&manifest.job),
        CatalogEntry::Damaged { .. } | CatalogEntry::Archived { .. } | CatalogEntry::Untrusted { .. } => None,
    }
}
