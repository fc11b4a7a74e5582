//! `backup`: reads a server, streams one artifact to the store, checks it, and then writes the manifest that makes it a
//! backup.
//!
//! An attempt connects and describes the server ([`preflight`]), begins the upload ([`upload`]), runs the data path
//! ([`pipeline`]), checks that everything was read from one life of the server ([`changes`]), completes the upload, and
//! writes the index and the manifest. If a step before the manifest fails, nothing remains in the store. If a new attempt can
//! succeed, it follows under a new id ([`tries`]). [`run_backup`] adds the lock, the record of the run ([`recorded`]) and
//! the notices.

mod attempt;
mod changes;
mod consistency;
mod pipeline;
mod preflight;
mod recorded;
mod tries;
mod upload;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use crate::base::cancel::{Cancel, LastStep};
use crate::base::clock::Clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::exit::Exit;
use crate::base::lock;
use crate::base::progress::Meter;
use crate::catalog::place_files::KnownBackups;
use crate::catalog::{self, CatalogOptions, layout};
use crate::config::JobSettings;
use crate::model::id::{BackupId, NewId};
use crate::model::manifest::Manifest;
use crate::model::namespace::Namespace;
use crate::model::server::Fcv;
use crate::model::versions;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::notify::events::RunOutcome;
use crate::notify::events::{BackupSuccess, RunKind};
use crate::notify::run::{Run, RunNotices};
use crate::source::describe::{self, Description};
use crate::source::engine;
use crate::source::oplog;
use crate::store::leftovers;
use crate::store::{self, Store};

use attempt::{Attempt, Seen};
pub use recorded::{Recording, recorded_backup};
use tries::Tries;

/// The settings of a backup, and what its flags ask for.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// The job.
    pub settings: JobSettings,
    /// A server without collections is not an error.
    pub allow_empty: bool,
    /// The backups that the place should have before this one.
    pub expected: Expected,
}

impl BackupOptions {
    /// A backup without flags.
    pub fn new(settings: JobSettings) -> BackupOptions {
        BackupOptions { settings, allow_empty: false, expected: Expected::default() }
    }
}

/// The backups that a place should have before another one is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The backups that the state directory knows. If it knows nothing of the place, the backups of these records.
    Known(BTreeSet<BackupId>),
    /// None: the place is new, or its backups are gone for good.
    Nothing,
}

impl Default for Expected {
    fn default() -> Expected {
        Expected::Known(BTreeSet::new())
    }
}

/// What a backup works with.
pub struct Resources {
    /// The store that the backup is written to.
    pub store: Arc<dyn Store>,
    /// The clock of the run.
    pub clock: Clock,
    /// Makes the id of an attempt. Called once when the attempt begins.
    pub new_id: NewId,
    /// The progress of the run.
    pub meter: Arc<Meter>,
    /// Ends the run early.
    pub cancel: Cancel,
    /// Collects events that belong in the log and the manifest.
    pub notes: Notes,
}

/// A completed backup. Serializes as docs/json.md describes it.
#[derive(Debug, Serialize)]
pub struct BackupReport {
    version: u32,
    id: BackupId,
    job: String,
    /// The place of the artifact: a path or an `s3://` address.
    pub place: String,
    started_at: DateTime<Utc>,
    finished_at: DateTime<Utc>,
    engine: String,
    consistency: String,
    namespaces: u64,
    documents: u64,
    raw_bytes: u64,
    stored_bytes: u64,
    warnings: Vec<String>,
    notes: Vec<String>,
    /// Problems beside the backup: missing older backups, failed records and notices.
    pub problems: Vec<String>,
    /// The manifest of the backup.
    #[serde(skip)]
    pub manifest: Manifest,
}

impl BackupReport {
    fn new(manifest: Manifest, place: String) -> BackupReport {
        BackupReport {
            version: 1,
            id: manifest.id.clone(),
            job: manifest.job.clone(),
            place,
            started_at: manifest.started_at,
            finished_at: manifest.finished_at,
            engine: manifest.engine.name.clone(),
            consistency: manifest.consistency.achieved.clone(),
            namespaces: manifest.totals.namespaces,
            documents: manifest.totals.documents,
            raw_bytes: manifest.totals.raw_bytes,
            stored_bytes: manifest.artifact.size,
            warnings: manifest.warnings.clone(),
            notes: manifest.notes.clone(),
            problems: Vec::new(),
            manifest,
        }
    }

    /// [`Exit::NeedsLook`] if there are warnings or problems, else [`Exit::Done`].
    pub fn exit(&self) -> Exit {
        let is_clean = self.warnings.is_empty() && self.problems.is_empty();
        if is_clean { Exit::Done } else { Exit::NeedsLook }
    }
}

/// What a backup would read. Serializes as docs/json.md describes it.
#[derive(Debug, Serialize)]
pub struct BackupPlan {
    version: u32,
    /// The address of the member that would be read.
    pub member: String,
    /// The version of the server's binary.
    pub server_version: String,
    /// The server's feature compatibility version, if the user may read it.
    pub feature_compatibility_version: Option<Fcv>,
    /// The engine and the reason for it.
    pub engine: String,
    /// Why the backup would not belong to one instant, unless the settings chose that.
    pub shortfall: Option<String>,
    /// The namespaces that would be read.
    #[serde(serialize_with = "names")]
    pub namespaces: Vec<Namespace>,
    /// The size of the documents in bytes, if the server reports it.
    pub raw_bytes: Option<u64>,
    /// The size on the server's disk in bytes, if the server reports it.
    #[serde(skip)]
    pub disk_bytes: Option<u64>,
    /// The warnings that the backup would have before it reads a document.
    pub warnings: Vec<String>,
}

fn names<S: Serializer>(namespaces: &[Namespace], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(namespaces.iter().map(ToString::to_string))
}

/// The flags of `backup`.
#[derive(Debug, Clone, Default)]
pub struct BackupRequest {
    /// A server without collections is not an error.
    pub allow_empty: bool,
    /// The place is new: no earlier backups are expected in it.
    pub new_place: bool,
    /// How long to wait for another run of the job; `None`: the backup fails at once if there is one.
    pub wait: Option<Duration>,
}

/// Makes a backup as the settings say: locks the job, reports the start, makes and records the backup, and sends the
/// notices. `meter` shows the progress.
///
/// # Errors
/// Returns an error if there is no backup. The failure is recorded and reported before.
pub async fn run_backup(run: &Run<'_>, request: &BackupRequest, meter: &Arc<Meter>) -> Result<BackupReport> {
    let notices = RunNotices::new(run)?;
    let mut report = match Box::pin(locked_backup(run, request, meter, &notices)).await {
        Ok(report) => report,
        Err(error) => {
            notices.failed(RunKind::Backup, &error).await;
            return Err(error);
        }
    };
    let mut success = BackupSuccess::of(&report.manifest, &report.place);
    success.warnings.extend(report.problems.iter().cloned());
    let (job, id) = (report.job.clone(), report.id.to_string());
    report.problems.extend(notices.ended(RunKind::Backup, &job, id, RunOutcome::Success(success)).await);
    Ok(report)
}

async fn locked_backup(
    run: &Run<'_>,
    request: &BackupRequest,
    meter: &Arc<Meter>,
    notices: &RunNotices<'_>,
) -> Result<BackupReport> {
    let (config, cancel) = (run.config, run.cancel);
    let settings = config.job.clone()?;
    let taken = lock::take(
        &lock::LockRequest {
            state_dir: settings.state_dir.clone(),
            job: settings.job.clone(),
            operation: lock::Operation::Backup,
            host: settings.host.clone(),
            started: run.clock.started(),
            wait: request.wait,
        },
        cancel,
    )
    .await?;
    // A run that waits for another one has not started.
    let unsent = notices.started().await;
    let recording = Recording {
        records: settings.records.clone(),
        redactor: config.redactor.clone(),
        alone: taken.lock.is_some(),
    };
    let (new_id, log) = (run.new_id.clone(), run.log.clone());
    let resources = Resources {
        store: cancel.or(async { Ok(store::open(config.place.as_ref()?).await?) }).await?,
        clock: Clock::at(run.clock.now()),
        new_id: Arc::new(move |now| {
            let id = new_id(now);
            log.set_run(id.as_str());
            id
        }),
        meter: meter.clone(),
        cancel: cancel.clone(),
        notes: Notes::default(),
    };
    let expected = if request.new_place { Expected::Nothing } else { Expected::default() };
    let options = BackupOptions { settings, allow_empty: request.allow_empty, expected };
    let mut report = recorded_backup(resources, &options, &recording).await?;
    report.problems.extend(taken.problem.into_iter().chain(unsent));
    Ok(report)
}

/// Makes a backup, without lock, record and notices.
///
/// # Errors
/// Returns an error if there is no backup.
pub async fn backup(resources: &Resources, options: &BackupOptions) -> Result<BackupReport> {
    // After a signal the data path ends by itself and cleans up. Everything else only asks questions.
    let outcome = resources.cancel.within(LastStep::Work, attempts(resources, options)).await;
    let outcome = outcome.unwrap_or_else(|| Err(Error::failed("the run did not end in time")));
    if outcome.is_err() {
        // There is no manifest that could list them.
        resources.store.retries().iter().for_each(|line| log::warn!("{line}"));
    }
    outcome.map_err(|error| resources.cancel.error().unwrap_or(error))
}

async fn attempts(resources: &Resources, options: &BackupOptions) -> Result<BackupReport> {
    let notes = &resources.notes;
    // The attempt begins first, so that every later failure is recorded.
    let first = Attempt::new(resources);
    let checked = async {
        resources.store.check().await?;
        // A key that may write but not read would fail only after the whole upload.
        resources.store.head(&layout::manifest(first.id())).await?;
        let problem = absent(resources, options).await?;
        Ok((leftovers::sweep(options.settings.state_dir.as_deref(), &*resources.store).await, problem))
    };
    let (lines, problem) = resources.cancel.or(checked).await?;
    lines.into_iter().for_each(|line| notes.add(line));
    let mut tries = Tries::new(options);
    let (mut attempt, mut wanted) = (first, options.clone());
    loop {
        let mut seen = Seen::default();
        let error = match Box::pin(attempt.run(resources, &wanted, notes, &mut seen)).await {
            Err(error) if error.calls_for_another_run() && resources.cancel.error().is_none() => error,
            Err(error) => return Err(error),
            Ok(mut report) => {
                let place = resources.store.place();
                let here =
                    catalog::folders(&*resources.store).await.map(|folders| catalog::existing(&folders));
                // Missing backups are reported only once.
                KnownBackups::update(options.settings.state_dir.as_deref(), &place, |known| match here {
                    Ok(here) => known.backups = here.into_iter().collect(),
                    Err(_) => known.backups.extend([report.manifest.id.clone()]),
                });
                report.problems.extend(problem);
                return Ok(report);
            }
        };
        let Some(next) = tries.next(&error, seen) else { return Err(error.of_kind(Kind::Failed)) };
        notes.add(next.note);
        wanted.settings.consistency = next.consistency;
        wanted.settings.engine = next.engine;
        attempt = Attempt::new(resources).otherwise(next.other);
    }
}

/// Compares the place with the backups that should be in it. Returns a problem if most of them are missing.
///
/// # Errors
/// Returns an error of the kind [`Kind::Unmounted`] if the newest backup is missing as well.
async fn absent(resources: &Resources, options: &BackupOptions) -> Result<Option<String>> {
    let reading = CatalogOptions::remembering(options.settings.state_dir.clone(), resources.clock.now());
    let recorded = match &options.expected {
        Expected::Known(recorded) => recorded.clone(),
        Expected::Nothing => {
            let place = resources.store.place();
            KnownBackups::update(options.settings.state_dir.as_deref(), &place, |known| {
                known.backups.clear()
            });
            return Ok(None);
        }
    };
    match catalog::missing_backups(&*resources.store, &CatalogOptions { recorded, ..reading }).await? {
        Some(absent) if absent.newest => Err(absent.error()),
        Some(absent) => Ok(Some(absent.message())),
        None => Ok(None),
    }
}

/// Describes what a backup would read, and checks that the user may read it.
///
/// # Errors
/// Returns an error if a backup would fail before it reads a document.
pub async fn plan_backup(settings: &JobSettings, allow_empty: bool) -> Result<BackupPlan> {
    let (uri, notes) = (&settings.mongo_uri, Notes::default());
    let server = Server::connect(uri, &settings.patience, settings.stall, &notes).await?;
    let engine = engine::choose(settings).await?;
    let Description { namespaces, raw_bytes, disk_bytes, warnings, feature_compatibility, .. } =
        describe::describe_for_backup(&server, &settings.selection, allow_empty).await?;
    describe::prove_readable(&server, &namespaces).await?;
    let server_version = server.version().await?;
    let plan = BackupPlan {
        version: 1,
        warnings: versions::newer(&server_version).into_iter().chain(warnings).collect(),
        member: server.hello.address.clone(),
        server_version,
        feature_compatibility_version: feature_compatibility,
        engine: format!("{}: {}", engine.name(), engine.why),
        shortfall: oplog::shortfall(&server, settings.consistency).await?,
        namespaces,
        raw_bytes,
        disk_bytes,
    };
    server.close().await;
    Ok(plan)
}
