//! `list`: the runs of a store, newest first, with the runs that only records know.

pub mod details;
mod merged;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::base::error::Result;
use crate::base::exit::Exit;
use crate::catalog::fault::{BackupFault, FaultKind, ShownStatus};
use crate::catalog::history::{self, RunContext, StoreRuns};
use crate::catalog::marks::Pin;
use crate::catalog::place_files::MissingBackups;
use crate::catalog::ranges::Restorable;
use crate::catalog::run::{BackupRun, Status, Verified, raw_speed};
use crate::catalog::state::StoreState;
use crate::catalog::verdict::Verdict;
use crate::catalog::{self, BackupFolder, Catalog, CatalogEntry, CatalogOptions, layout};
use crate::model::id::BackupId;
use crate::model::losses::Losses;
use crate::model::timing::DataTiming;
use crate::store::Store;
pub use merged::{PlaceFault, RowPlaces, list_places};

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Only runs of this job.
    pub job: Option<String>,
    /// The job of the configuration, which may have slices and no backup.
    pub configured_job: Option<String>,
    /// The most rows.
    pub limit: Option<usize>,
    /// Only runs with one of these statuses. If empty, all but deleted backups are listed.
    pub statuses: Vec<ShownStatus>,
}

/// The listed runs. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct ListReport {
    version: u32,
    /// The store, as shown to people.
    pub place: String,
    /// The rows, newest first.
    #[serde(rename = "backups")]
    pub rows: Vec<ListRow>,
    /// The points in time that can be restored, for each of these jobs that has oplog slices.
    pub oplog: Vec<JobRanges>,
    /// Places that cannot be read, or lack their backups. Without copies it is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The points in time that can be restored of a job.
#[derive(Debug, JsonSchema, Serialize)]
pub struct JobRanges {
    pub job: String,
    #[serde(flatten)]
    pub restorable: Restorable,
}

impl ListReport {
    /// The exit code: 4 if a listed backup has a fault, but for a missing signature; 3 if a place cannot be read.
    pub fn exit(&self) -> Exit {
        match (self.rows.iter().any(ListRow::mismatches), self.problems.is_empty()) {
            (true, _) => Exit::Mismatch,
            (false, false) => Exit::NeedsLook,
            (false, true) => Exit::Done,
        }
    }
}

/// A row of the list: a run, or a backup whose manifest cannot be read.
#[derive(Debug, JsonSchema, Serialize)]
pub struct ListRow {
    /// The id of the run and of its backup.
    pub id: BackupId,
    /// The state of the run and its backup.
    pub status: ShownStatus,
    /// A pinned backup is never deleted by a cleanup.
    pub pinned: bool,
    /// Why the backup is pinned.
    pub pin_reason: Option<String>,
    /// With copies: the places of the backup.
    #[serde(flatten)]
    pub places: Option<RowPlaces>,
    /// The rest of the row.
    #[serde(flatten)]
    pub content: ListedContent,
    /// The fault of the backup.
    #[serde(skip)]
    pub fault: Option<BackupFault>,
    #[serde(skip)]
    started: DateTime<Utc>,
}

/// The fields of a row that depend on its kind.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(untagged)]
pub enum ListedContent {
    /// A run, with or without a backup.
    Run(Box<ListedRun>),
    /// A manifest that cannot be read. The job of the backup is unknown.
    Unreadable {
        /// The manifest's key.
        key: String,
        /// Why it cannot be read.
        error: String,
    },
}

/// A run in the list. Figures are `None` if they are not known.
#[derive(Debug, JsonSchema, Serialize)]
pub struct ListedRun {
    /// The job; empty if it is not known.
    pub job: String,
    host: String,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// When the run ended.
    pub finished_at: Option<DateTime<Utc>>,
    namespaces: Option<u64>,
    /// The number of documents.
    pub documents: Option<u64>,
    /// The length of the documents in bytes.
    pub raw_bytes: Option<u64>,
    /// The size of the artifact in bytes.
    pub stored_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<String>,
    /// The name of the engine.
    pub engine: Option<String>,
    /// The achieved consistency.
    pub consistency: Option<String>,
    key: Option<String>,
    /// The selection in words if the backup has only a part of its job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// The data phase and what it waited for, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timing: Option<DataTiming>,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// The namespaces that vanished or shrank since the last good backup. The manifest lists more of them.
    pub losses: Option<Losses>,
    /// The last result of `verify`.
    pub verified: Option<Verified>,
    /// The fault of the backup, or else the error of the run.
    pub error: Option<String>,
}

impl ListedRun {
    /// The machine of the run; `None` if it is not known.
    pub fn host(&self) -> Option<&str> {
        Some(self.host.as_str()).filter(|host| !host.is_empty())
    }

    /// The duration of the run, if it has ended.
    pub fn took(&self) -> Option<Duration> {
        (self.finished_at? - self.started_at).to_std().ok()
    }

    /// The speed in bytes of raw data per second, see [`raw_speed`].
    pub fn raw_speed(&self) -> Option<f64> {
        raw_speed(self.raw_bytes?, self.timing.as_ref(), self.took())
    }
}

impl ListRow {
    /// Returns true if stored data does not match its manifest, or the manifest its signature. A backup that nobody signed
    /// contradicts nothing.
    fn mismatches(&self) -> bool {
        let in_places = self.places.iter().flat_map(|places| &places.faults).map(|fault| &fault.fault);
        self.fault.iter().chain(in_places).any(|fault| fault.kind != FaultKind::Untrusted)
    }

    fn is_wanted(&self, options: &ListOptions) -> bool {
        // A row whose job is unknown may belong to any job and is never left out.
        let job = match &self.content {
            ListedContent::Run(run) => Some(&run.job).filter(|job| !job.is_empty()),
            ListedContent::Unreadable { .. } => None,
        };
        let of_job = options.job.as_ref().is_none_or(|wanted| job.is_none_or(|job| job == wanted));
        let has_status = match options.statuses.as_slice() {
            [] => self.status != ShownStatus::Run(Status::Deleted),
            statuses => statuses.contains(&self.status),
        };
        of_job && has_status
    }
}

/// Lists runs. A backup with an unreadable manifest has a row, too. `records` must have been read before, so that a run that
/// ends in between is not missed.
///
/// # Errors
/// Returns an error if the store cannot be read.
pub async fn list(
    store: &dyn Store,
    records: &[BackupRun],
    options: &ListOptions,
    reading: &CatalogOptions,
) -> Result<ListReport> {
    Ok(listed(store, records, options, reading).await?.0)
}

/// Lists the runs of one place. Also returns the problem with known backups that are missing.
async fn listed(
    store: &dyn Store,
    records: &[BackupRun],
    options: &ListOptions,
    reading: &CatalogOptions,
) -> Result<(ListReport, Option<String>)> {
    let now = reading.now;
    let catalog = Catalog::read(store, reading).await?;
    let known = recorded(store, catalog.folders(), records, now);
    let ids = candidates(catalog.folders(), &known, now);
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut found: Vec<ListRow> = Vec::new();
    let mut rest = ids.as_slice();
    while let Some(next) = rest.first() {
        // Fetches only as many manifests as needed. Ids have no fractions of a second, so all runs of a second are read.
        let last = found.get(limit.saturating_sub(1));
        if last.is_some_and(|row| row.id.started() > next.started()) {
            break;
        }
        let (these, later) = rest.split_at(limit.clamp(1, 64).min(rest.len()));
        rest = later;
        let rows = read_rows(store, &catalog, &known, these, now).await?;
        found.extend(rows.into_iter().filter(|row| row.is_wanted(options)));
    }
    catalog.save();
    found.sort_by_key(|row| Reverse(row.started));
    found.truncate(limit);
    let oplog = ranges(&catalog, &found, options).await?;
    let missing = catalog.missing().map(MissingBackups::message);
    let report = ListReport { version: 1, place: store.place(), rows: found, oplog, problems: Vec::new() };
    Ok((report, missing))
}

/// The points in time that can be restored, of the jobs with slices.
async fn ranges(catalog: &Catalog<'_>, rows: &[ListRow], options: &ListOptions) -> Result<Vec<JobRanges>> {
    let listed = rows.iter().filter_map(|row| match &row.content {
        ListedContent::Run(run) => Some(&run.job),
        ListedContent::Unreadable { .. } => None,
    });
    let jobs: BTreeSet<&String> = match &options.job {
        Some(job) => BTreeSet::from([job]),
        None => listed.chain(&options.configured_job).collect(),
    };
    let mut all = Vec::new();
    for job in jobs {
        if catalog.slices(job).chains().next().is_none() {
            continue;
        }
        let state = StoreState::of(catalog, job).await?;
        let found = Restorable::read(catalog.store(), &state).await?;
        all.extend(found.map(|restorable| JobRanges { job: job.clone(), restorable }));
    }
    Ok(all)
}

/// The recorded runs of this store, corrected by what the store contains.
fn recorded(
    store: &dyn Store,
    folders: &BTreeMap<BackupId, BackupFolder>,
    records: &[BackupRun],
    now: DateTime<Utc>,
) -> BTreeMap<BackupId, BackupRun> {
    let said = StoreRuns {
        place: store.place(),
        runs: Vec::new(),
        manifests: catalog::existing(folders).into_iter().collect(),
        failures: history::failures(folders),
    };
    let joined = history::join(&said, records, &RunContext { now, held: None });
    joined.into_iter().map(|run| (run.id.clone(), run)).collect()
}

/// All ids in the store and in the records, newest first.
fn candidates(
    folders: &BTreeMap<BackupId, BackupFolder>,
    known: &BTreeMap<BackupId, BackupRun>,
    now: DateTime<Utc>,
) -> Vec<BackupId> {
    let mut ids: BTreeSet<BackupId> = catalog::existing(folders).into_iter().collect();
    ids.extend(history::failures(folders));
    ids.extend(known.keys().cloned());
    let bare = folders.iter().filter(|(_, folder)| BackupFault::unrecorded(folder, now).is_some());
    ids.extend(bare.map(|(id, _)| id.clone()));
    ids.into_iter().rev().collect()
}

async fn read_rows(
    store: &dyn Store,
    catalog: &Catalog<'_>,
    known: &BTreeMap<BackupId, BackupRun>,
    ids: &[BackupId],
    now: DateTime<Utc>,
) -> Result<Vec<ListRow>> {
    let (folders, place) = (catalog.folders(), store.place());
    let none = BackupFolder::new();
    let folder = |id: &BackupId| folders.get(id).unwrap_or(&none);
    let has = |id: &BackupId, file: &str| folder(id).contains_key(file);
    let (stored, others): (Vec<BackupId>, Vec<BackupId>) =
        ids.iter().cloned().partition(|id| has(id, layout::MANIFEST));
    let (failed, others): (Vec<BackupId>, Vec<BackupId>) =
        others.into_iter().partition(|id| has(id, layout::FAILED));
    let (verdicts, pins) = (catalog.verdicts(ids).await?, catalog.pins(ids).await?);
    verdicts.values().flat_map(|verdicts| &verdicts.future).for_each(|why| log::warn!("{why}"));
    let verdict = |id: &BackupId| {
        let newest = verdicts.get(id)?.newest.as_ref()?;
        newest.as_ref().inspect_err(|why| log::warn!("{why}")).ok()
    };
    let row = |id: BackupId, started, status, content, fault| {
        let pin: Option<&Pin> = pins.get(&id);
        let (pinned, pin_reason) = (pin.is_some(), pin.and_then(|pin| pin.reason.clone()));
        ListRow { id, status, pinned, pin_reason, places: None, content, fault, started }
    };
    let run_row = |run: BackupRun, verdict: Option<&Verdict>, fault: Option<BackupFault>| {
        let status = ShownStatus::new(run.status, fault.as_ref());
        let (id, started) = (run.id.clone(), run.started_at);
        row(id, started, status, listed_run(run, verdict, fault.as_ref()), fault)
    };
    let unknown = |id: &BackupId, status| BackupRun {
        status,
        ..BackupRun::begun(id.clone(), "", "", &place, id.started())
    };
    let mut rows: Vec<ListRow> = Vec::new();
    for entry in catalog.summaries(&stored).await? {
        rows.push(match entry {
            CatalogEntry::Backup(manifest) => {
                let verdict = verdict(&manifest.id);
                let fault = BackupFault::find(&manifest, folder(&manifest.id), verdict);
                let mut row = run_row(BackupRun::completed(&manifest, &place), verdict, fault);
                if let ListedContent::Run(run) = &mut row.content {
                    run.format = Some(manifest.artifact.format.clone());
                    run.losses = manifest.losses.as_ref().map(Losses::reported);
                }
                row
            }
            CatalogEntry::Damaged { id, key, why } => {
                let fault = BackupFault::unreadable(&key, &why);
                let status = ShownStatus::new(Status::Completed, Some(&fault));
                let content = ListedContent::Unreadable { key, error: fault.why.clone() };
                row(id.clone(), id.started(), status, content, Some(fault))
            }
            CatalogEntry::Untrusted { manifest: Some(manifest), why, .. } => {
                let fault = BackupFault::untrusted(&why);
                run_row(BackupRun::completed(&manifest, &place), None, Some(fault))
            }
            CatalogEntry::Untrusted { id, manifest: None, why } => {
                let fault = BackupFault::untrusted(&why);
                let status = ShownStatus::new(Status::Completed, Some(&fault));
                let (key, error) = (layout::manifest(&id), fault.why.clone());
                row(id.clone(), id.started(), status, ListedContent::Unreadable { key, error }, Some(fault))
            }
            CatalogEntry::Archived { id, key, why } => {
                let content = ListedContent::Unreadable { key, error: why };
                row(id.clone(), id.started(), ShownStatus::Archived, content, None)
            }
        });
    }
    let mut runs: Vec<BackupRun> = Vec::new();
    for (id, failure) in catalog.failures(&failed).await? {
        runs.push(match failure {
            Ok(failure) => BackupRun::failed(&failure, &place),
            Err(why) => {
                let run = known.get(&id).cloned().unwrap_or_else(|| unknown(&id, Status::Failed));
                BackupRun { status: Status::Failed, error: run.error.clone().or(Some(why)), ..run }
            }
        });
    }
    // Without a record, the folder has everything but the manifest.
    let bare = |id: &BackupId| known.get(id).cloned().unwrap_or_else(|| unknown(id, Status::Deleted));
    runs.extend(others.iter().map(bare));
    rows.extend(runs.into_iter().map(|run| {
        let (verdict, fault) = (verdict(&run.id), BackupFault::lost_manifest(&run, folder(&run.id), now));
        run_row(run, verdict, fault)
    }));
    Ok(rows)
}

fn listed_run(run: BackupRun, verdict: Option<&Verdict>, fault: Option<&BackupFault>) -> ListedContent {
    ListedContent::Run(Box::new(ListedRun {
        job: run.job,
        host: run.host,
        started_at: run.started_at,
        finished_at: run.finished_at,
        namespaces: run.namespaces,
        documents: run.documents,
        raw_bytes: run.raw_bytes,
        stored_bytes: run.stored_bytes,
        format: None,
        engine: run.engine,
        consistency: run.consistency,
        key: run.key,
        partial: run.partial,
        timing: run.timing,
        warnings: run.warnings,
        losses: None,
        verified: verdict.map(Verified::from),
        error: fault.map(|fault| fault.why.clone()).or(run.error),
    }))
}
