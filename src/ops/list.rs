//! `list`: the runs of a place, newest first: what the store says, and what only records know.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::catalog::history::{self, Around, Said};
use crate::catalog::id::BackupId;
use crate::catalog::marks::Failure;
use crate::catalog::run::{Run, STATUSES, Status, Verified};
use crate::catalog::{self, Entry, Folder, layout, reconcile};
use crate::error::Result;
use crate::store::Store;

/// How what is listed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A run.
    Run(Status),
    /// A manifest that cannot be understood.
    Damaged,
}

impl Shown {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Shown::Run(status) => status.word(),
            Shown::Damaged => "damaged",
        }
    }
}

impl FromStr for Shown {
    type Err = String;

    fn from_str(word: &str) -> Result<Shown, String> {
        match word {
            "damaged" => Ok(Shown::Damaged),
            _ => word.parse().map(Shown::Run).map_err(|_| {
                let words = STATUSES.map(Status::word).join(", ");
                format!("a status is one of {words}, damaged")
            }),
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only runs of this job.
    pub job: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
    /// Only what stands so; none means all but deleted backups.
    pub statuses: Vec<Shown>,
}

/// What a row tells of.
#[derive(Debug)]
pub enum Row {
    /// A backup, or a manifest that cannot be understood.
    Stored(Entry),
    /// A run of which there is no backup.
    Run(Box<Run>),
}

/// A run, and what is said about it.
#[derive(Debug)]
pub struct Listed {
    /// The run.
    pub row: Row,
    /// No clean-up deletes it.
    pub pinned: bool,
    /// When and how it was last verified.
    pub verified: Option<Verified>,
}

impl Listed {
    /// The run's id.
    pub fn id(&self) -> &BackupId {
        match &self.row {
            Row::Stored(entry) => entry.id(),
            Row::Run(run) => &run.id,
        }
    }

    /// How it stands.
    pub fn shown(&self) -> Shown {
        match &self.row {
            Row::Stored(Entry::Backup(_)) => Shown::Run(Status::Completed),
            Row::Stored(Entry::Damaged { .. }) => Shown::Damaged,
            Row::Run(run) => Shown::Run(run.status),
        }
    }

    fn started(&self) -> DateTime<Utc> {
        match &self.row {
            Row::Stored(Entry::Backup(manifest)) => manifest.started_at,
            Row::Stored(Entry::Damaged { id, .. }) => id.started(),
            Row::Run(run) => run.started_at,
        }
    }

    fn wanted(&self, options: &Options) -> bool {
        let job = match &self.row {
            Row::Stored(Entry::Backup(manifest)) => Some(&manifest.job),
            // It might be of any job: it is never left out.
            Row::Stored(Entry::Damaged { .. }) => None,
            Row::Run(run) => Some(&run.job).filter(|job| !job.is_empty()),
        };
        let of_job = options.job.as_ref().is_none_or(|wanted| job.is_none_or(|job| job == wanted));
        let shown = self.shown();
        let so = match options.statuses.as_slice() {
            [] => shown != Shown::Run(Status::Deleted),
            statuses => statuses.contains(&shown),
        };
        of_job && so
    }
}

/// Lists runs. A manifest that cannot be understood is listed as damaged, never left out. `records` are
/// those that could be read before the store was; a run that ends in between is then still seen.
pub async fn list(
    store: &dyn Store,
    records: &[Run],
    options: &Options,
    now: DateTime<Utc>,
) -> Result<Vec<Listed>> {
    let folders = catalog::folders(store).await?;
    let known = known(store, &folders, records, now);
    let ids = candidates(&folders, &known);
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut found: Vec<Listed> = Vec::new();
    let mut rest = ids.as_slice();
    while let Some(next) = rest.first() {
        // Only as many manifests are fetched as it takes; those of one second all.
        let last = found.get(limit.saturating_sub(1));
        if last.is_some_and(|listed| listed.id().started() > next.started()) {
            break;
        }
        let (now, later) = rest.split_at(limit.clamp(1, 64).min(rest.len()));
        rest = later;
        let rows = self::rows(store, &folders, &known, now).await?;
        found.extend(rows.into_iter().filter(|listed| listed.wanted(options)));
    }
    // Ids tell the second; of runs within one, the manifests tell more.
    found.sort_by_key(|listed| std::cmp::Reverse(listed.started()));
    found.truncate(limit);
    Ok(found)
}

/// What records tell of this place, where the store has nothing to say against it.
fn known(
    store: &dyn Store,
    folders: &BTreeMap<BackupId, Folder>,
    records: &[Run],
    now: DateTime<Utc>,
) -> BTreeMap<BackupId, Run> {
    let said = Said {
        place: store.place(),
        runs: Vec::new(),
        manifests: catalog::existing(folders).into_iter().collect(),
        failures: reconcile::failed(folders),
    };
    // Whoever only looks holds no lock.
    let joined = history::join(&said, records, &Around { now, held: None });
    joined.into_iter().map(|run| (run.id.clone(), run)).collect()
}

/// Every id that somebody knows, newest first.
fn candidates(folders: &BTreeMap<BackupId, Folder>, known: &BTreeMap<BackupId, Run>) -> Vec<BackupId> {
    let mut ids: BTreeSet<BackupId> = catalog::existing(folders).into_iter().collect();
    ids.extend(reconcile::failed(folders));
    ids.extend(known.keys().cloned());
    ids.into_iter().rev().collect()
}

/// What is listed of these ids.
async fn rows(
    store: &dyn Store,
    folders: &BTreeMap<BackupId, Folder>,
    known: &BTreeMap<BackupId, Run>,
    ids: &[BackupId],
) -> Result<Vec<Listed>> {
    let has = |id: &BackupId, file: &str| folders.get(id).is_some_and(|folder| folder.contains_key(file));
    let (stored, others): (Vec<BackupId>, Vec<BackupId>) =
        ids.iter().cloned().partition(|id| has(id, layout::MANIFEST));
    let failed: Vec<BackupId> = others.iter().filter(|id| has(id, layout::FAILED)).cloned().collect();
    let mut rows: Vec<Row> = catalog::manifests(store, &stored).await?.into_iter().map(Row::Stored).collect();
    for (id, failure) in catalog::failures(store, &failed).await? {
        rows.push(Row::Run(Box::new(failed_run(store, &id, failure, known))));
    }
    let only_recorded = others.iter().filter(|id| !has(id, layout::FAILED));
    rows.extend(only_recorded.filter_map(|id| known.get(id)).map(|run| Row::Run(Box::new(run.clone()))));
    let listed = |row: Row| {
        let mut listed = Listed { row, pinned: false, verified: None };
        listed.pinned = has(listed.id(), layout::PIN);
        listed.verified = known.get(listed.id()).and_then(|run| run.verified.clone());
        listed
    };
    Ok(rows.into_iter().map(listed).collect())
}

/// A run of which the store says that it failed; what cannot be understood of that is told instead.
fn failed_run(
    store: &dyn Store,
    id: &BackupId,
    failure: Result<Failure, String>,
    known: &BTreeMap<BackupId, Run>,
) -> Run {
    match failure {
        Ok(failure) => Run::failed(&failure, &store.place()),
        Err(why) => {
            let unknown = || Run::begun(id.clone(), "", "", &store.place(), id.started());
            let run = known.get(id).cloned().unwrap_or_else(unknown);
            Run { status: Status::Failed, error: run.error.clone().or(Some(why)), ..run }
        }
    }
}
