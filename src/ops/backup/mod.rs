//! `backup`: reads a server, streams one artifact to the store, checks it, and then writes the manifest that makes it a
//! backup.
//!
//! An attempt ([`attempt`]) connects to the server and describes it ([`preflight`]), begins the upload, runs the data path
//! ([`data_path`]), checks that the server and its collections stayed the same, completes the upload, and writes the index
//! and the manifest. If a step before the manifest fails, nothing remains in the store. If a new attempt can succeed, it
//! follows under a new id ([`tries`]). [`run_backup`] adds the lock, the hooks ([`hooks`]), the record of the run
//! ([`recorded`]) and the notices.

mod attempt;
mod copies;
mod data_path;
mod hooks;
mod place;
mod preflight;
mod recorded;
mod tries;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::base::cancel::{Cancel, LastStep};
use crate::base::clock::Clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::exit::Exit;
use crate::base::heap::on_heap;
use crate::base::lock::Operation;
use crate::base::progress::{Meter, Phase};
use crate::catalog::place_files::KnownBackups;
use crate::catalog::{self, CatalogOptions, layout};
use crate::config::JobSettings;
use crate::model::id::{BackupId, NewId};
use crate::model::losses::Losses;
use crate::model::manifest::Manifest;
use crate::model::selection::SelectionAsked;
use crate::model::server::Fcv;
use crate::model::versions;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::notify::events::{BackupFacts, BackupSuccess, RunKind, RunOutcome};
use crate::notify::run::{Run, RunNotices};
use crate::ops::places::{AwayPlace, Places, refuse_gone};
use crate::source::describe::{self, Description};
use crate::source::{engine, oplog};
use crate::store::{self, Store, leftovers};

use hooks::RunHooks;
pub use hooks::{Hooked, PlannedHook};
pub use place::{BackupPlace, BackupPlaceRow, PlaceOutcome};
pub use recorded::{Recording, recorded_backup};
use tries::{Seen, Tries};

/// The settings and flags of a backup.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    pub settings: JobSettings,
    /// A server without collections is not an error.
    pub allow_empty: bool,
    /// The backups that the place should have before this one.
    pub expected: Expected,
    pub hooked: Hooked,
}

impl BackupOptions {
    /// A backup without flags.
    pub fn new(settings: JobSettings) -> BackupOptions {
        let (expected, hooked) = (Expected::default(), Hooked::default());
        BackupOptions { settings, allow_empty: false, expected, hooked }
    }
}

/// The backups that a place should have before another one is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The backups that the state directory knows. If it does not know the place, these recorded backups.
    Known(BTreeSet<BackupId>),
    /// No backups: the place is new, or its backups are lost.
    Nothing,
}

impl Default for Expected {
    fn default() -> Expected {
        Expected::Known(BTreeSet::new())
    }
}

/// The resources of a backup.
#[derive(Clone)]
pub struct Resources {
    /// The places that get the backup. The first one leads: its backups are the earlier ones of the job.
    pub places: Vec<BackupPlace>,
    /// The places that could not be used when the run began.
    pub away: Vec<AwayPlace>,
    /// The names of all places in the order of the settings.
    pub order: Vec<String>,
    pub clock: Clock,
    /// Makes the id of an attempt. Called once when the attempt begins.
    pub new_id: NewId,
    pub meter: Arc<Meter>,
    pub cancel: Cancel,
    /// Collects events that belong in the log and the manifest.
    pub notes: Notes,
}

impl Resources {
    /// The store of the leading place.
    ///
    /// # Panics
    /// Panics if there is no place.
    pub fn store(&self) -> &dyn Store {
        &*self.places[0].store
    }
}

/// A completed backup. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct BackupReport {
    version: u32,
    id: BackupId,
    job: String,
    #[serde(flatten)]
    pub facts: BackupFacts,
    warnings: Vec<String>,
    notes: Vec<String>,
    /// The namespaces that vanished or shrank since the last good backup. The manifest lists more of them.
    losses: Option<Losses>,
    /// The places of the run, if there are several, and whether they have the backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<BackupPlaceRow>,
    /// Problems that do not concern the backup: missing older backups, failed records and notices.
    pub problems: Vec<String>,
    /// The problem of `problems` that the hook after the backup failed. The record has it, too.
    #[serde(skip)]
    hook_problem: Option<String>,
    /// The manifest in the store. For an encrypted backup, it is the readable part.
    #[serde(skip)]
    pub manifest: Manifest,
}

impl BackupReport {
    /// The report of a backup with this manifest in the store, and the complete manifest of an encrypted backup.
    fn new(manifest: Manifest, complete: Option<&Manifest>, place: String) -> BackupReport {
        let complete = complete.unwrap_or(&manifest);
        BackupReport {
            version: 1,
            id: manifest.id.clone(),
            job: manifest.job.clone(),
            facts: BackupFacts::of(complete, place),
            warnings: complete.warnings.clone(),
            notes: complete.notes.clone(),
            losses: complete.losses.as_ref().map(Losses::reported),
            places: Vec::new(),
            problems: Vec::new(),
            hook_problem: None,
            manifest,
        }
    }

    /// The facts for the notifications.
    pub fn success(&self) -> BackupSuccess {
        let problems = self.warnings.iter().chain(&self.problems).cloned().collect();
        let (facts, notes, losses) = (self.facts.clone(), self.notes.clone(), self.losses.clone());
        BackupSuccess { facts, problems, notes, losses }
    }

    /// The places that do not have the backup.
    pub fn missing_from(&self) -> impl Iterator<Item = &BackupPlaceRow> {
        self.places.iter().filter(|row| row.outcome == PlaceOutcome::Missing)
    }

    /// [`Exit::NeedsLook`] if there are warnings or problems, else [`Exit::Done`].
    pub fn exit(&self) -> Exit {
        let is_clean = self.warnings.is_empty() && self.problems.is_empty();
        if is_clean { Exit::Done } else { Exit::NeedsLook }
    }
}

/// The id and the start time of an attempt.
type AttemptId = (BackupId, DateTime<Utc>);

/// What a backup would read. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct BackupPlan {
    version: u32,
    /// The address of the member that would be read.
    pub member: String,
    pub server_version: String,
    /// The server's feature compatibility version, if the user may read it.
    pub feature_compatibility_version: Option<Fcv>,
    /// The engine and the reason for it.
    pub engine: String,
    /// Why the backup would not be of one instant; `None` if it would be, or if the settings ask for that.
    pub shortfall: Option<String>,
    pub namespaces: Vec<String>,
    /// The size of the documents in bytes, if the server reports it.
    pub raw_bytes: Option<u64>,
    /// The size on the server's disk in bytes, if the server reports it.
    #[serde(skip)]
    pub disk_bytes: Option<u64>,
    /// The selection in words if the backup would be partial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// The warnings that the backup would have before it reads a document.
    pub warnings: Vec<String>,
    /// The hooks that would run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<PlannedHook>,
}

/// How long a copy may take to abort the uploads of killed runs.
const SWEEPING: Duration = Duration::from_secs(10);

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

/// Makes a backup as the settings say: locks the job, reports the start, runs the hooks around the backup, makes and records
/// the backup, and sends the notices. `meter` shows the progress.
///
/// # Errors
/// Returns an error if there is no backup. The failure is recorded and reported before.
pub async fn run_backup(run: &Run<'_>, request: &BackupRequest, meter: &Arc<Meter>) -> Result<BackupReport> {
    let notices = RunNotices::new(run)?;
    let mut report = match on_heap(|| locked_backup(run, request, meter, &notices)).await {
        Ok(report) => report,
        Err(error) => {
            notices.failed(RunKind::Backup, &error).await;
            return Err(error);
        }
    };
    let kept = notices.backed_up(&report.job, report.id.as_str(), report.facts.started_at).await;
    report.problems.extend(kept);
    let (id, success) = (report.id.to_string(), RunOutcome::Success(report.success()));
    report.problems.extend(notices.ended(RunKind::Backup, &report.job, id, success).await);
    Ok(report)
}

async fn locked_backup(
    run: &Run<'_>,
    request: &BackupRequest,
    meter: &Arc<Meter>,
    notices: &RunNotices<'_>,
) -> Result<BackupReport> {
    let (config, cancel) = (run.config, run.cancel);
    let (settings, hooks) = (config.job.clone()?, config.hooks.clone()?);
    hooks.check()?;
    let taken = run.lock(&settings, Operation::Backup, request.wait).await?;
    // A run that waits for another one has not started.
    let unsent = if settings.partial { None } else { notices.started().await };
    let hooks = RunHooks::new(run, &settings, hooks, meter);
    // Before anything else, because the hook may mount the disk or open the way to the server.
    let prevented = hooks.before().await.err();
    let recording = Recording {
        records: settings.records.clone(),
        redactor: config.redactor.clone(),
        alone: taken.lock.is_some(),
    };
    let (new_id, log) = (run.new_id.clone(), run.log.clone());
    let (places, away) = match cancel.or(on_heap(|| open_places(run, request.new_place))).await {
        Ok(places) => places,
        Err(error) => {
            let error = prevented.unwrap_or(error);
            if let Some(problem) = hooks.after_failure(&error, None).await {
                log::warn!("{problem}");
            }
            return Err(error);
        }
    };
    let resources = Resources {
        places,
        away,
        order: config.place_names().into_iter().map(str::to_string).collect(),
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
    let hooked = Hooked { prevented, after: Some(hooks) };
    let options = BackupOptions { settings, allow_empty: request.allow_empty, expected, hooked };
    let mut report = on_heap(|| recorded_backup(resources, &options, &recording)).await?;
    report.problems.extend(taken.problem.into_iter().chain(unsent));
    Ok(report)
}

/// Opens the places of a run. Of several places, those that cannot be used are away.
///
/// # Errors
/// Returns an error if no place can be used.
async fn open_places(run: &Run<'_>, new_place: bool) -> Result<(Vec<BackupPlace>, Vec<AwayPlace>)> {
    let (config, reading) = (run.config, run.reading()?);
    if config.place_names().len() == 1 {
        let place = config.place.as_ref()?;
        if !new_place {
            refuse_gone(place, &reading)?;
        }
        let store = store::open(place).await?;
        let uploads = config.job.as_ref()?.uploads;
        return Ok((vec![BackupPlace::only(store, uploads)], Vec::new()));
    }
    let places = Places::open(config, &|_| (!new_place).then_some(&reading), true).await?;
    let (mut open, mut away) = (Vec::new(), places.away);
    for place in places.open {
        let (name, configured) = (place.name.clone(), place.config.place.clone().ok());
        match BackupPlace::of(place) {
            Ok(place) => open.push(place),
            Err(why) => away.push(AwayPlace { name, place: configured, why, catch_up: Duration::ZERO }),
        }
    }
    away.iter().for_each(|away| log::warn!("{}", away.problem()));
    match (open.is_empty(), away.first()) {
        (true, Some(away)) => Err(away.why.clone()),
        _ => Ok((open, away)),
    }
}

/// Makes a backup, without lock, record and notices.
///
/// # Errors
/// Returns an error if there is no backup.
pub async fn backup(resources: &Resources, options: &BackupOptions) -> Result<BackupReport> {
    // After a signal the data path ends by itself and cleans up. The other steps only read.
    let outcome = resources.cancel.within(LastStep::Work, on_heap(|| attempts(resources, options))).await;
    let outcome = outcome.unwrap_or_else(|| Err(Error::failed("the run did not end in time")));
    if outcome.is_err() {
        // There is no manifest to list the retries.
        let retries = resources.places.iter().flat_map(|place| place.store.retries());
        retries.for_each(|line| log::warn!("{line}"));
    }
    outcome.map_err(|error| resources.cancel.error().unwrap_or(error))
}

/// Makes attempts. If the store of the leading place fails, another place leads.
async fn attempts(resources: &Resources, options: &BackupOptions) -> Result<BackupReport> {
    let (mut resources, mut options) = (resources.clone(), options.clone());
    // The first attempt begins before the checks, so that their failures are recorded.
    let mut id = begin(&resources);
    if let Some(error) = options.hooked.prevented.clone() {
        return Err(error);
    }
    for _ in 1..resources.places.len() {
        match attempts_led_by_the_first(&resources, &options, id).await {
            Err(error) if error.is_of_store() && resources.cancel.error().is_none() => {
                let failed = &resources.places[0].name;
                let line = format!(
                    "the place {failed} failed, and the backup begins again, led by {}: {}",
                    resources.places[1].name,
                    error.chain()
                );
                log::warn!("{line}");
                resources.notes.add(line);
                resources.places.rotate_left(1);
                // The recorded backups are those of the place that led before.
                if let Expected::Known(recorded) = &mut options.expected {
                    recorded.clear();
                }
                id = begin(&resources);
            }
            outcome => return outcome,
        }
    }
    attempts_led_by_the_first(&resources, &options, id).await
}

/// Begins an attempt.
fn begin(resources: &Resources) -> AttemptId {
    resources.meter.begin_attempt();
    let started = resources.clock.now();
    ((resources.new_id)(started), started)
}

async fn attempts_led_by_the_first(
    resources: &Resources,
    options: &BackupOptions,
    mut id: AttemptId,
) -> Result<BackupReport> {
    let notes = &resources.notes;
    let checked = async {
        resources.meter.enter(Phase::AskingStore);
        resources.store().check().await?;
        // A key that may write but not read would fail only after the whole upload.
        resources.store().head(&layout::manifest(&id.0)).await?;
        let problem = absent(resources, options).await?;
        let state_dir = options.settings.state_dir.as_deref();
        let mut lines = leftovers::sweep(state_dir, resources.store()).await;
        for place in &resources.places[1..] {
            // A slow copy must not delay the backup. The next run sweeps it.
            let swept = tokio::time::timeout(SWEEPING, leftovers::sweep(state_dir, &*place.store)).await;
            lines.extend(swept.unwrap_or_default());
        }
        Ok((lines, problem))
    };
    let (lines, problem) = resources.cancel.or(on_heap(|| checked)).await?;
    lines.into_iter().for_each(|line| notes.add(line));
    let mut tries = Tries::new(options);
    let (mut plan, mut wanted) = (tries.first(), options.clone());
    loop {
        let mut seen = Seen::default();
        let made = on_heap(|| attempt::attempt(resources, &wanted, id, plan, &mut seen));
        let error = match made.await {
            Err(error) if error.calls_for_another_run() && resources.cancel.error().is_none() => error,
            Err(error) => return Err(error),
            Ok(mut report) => {
                let store = resources.store();
                // Missing backups are reported only once.
                if let Ok(folders) = catalog::folders(store).await {
                    let state_dir = options.settings.state_dir.as_deref();
                    KnownBackups::update(state_dir, &store.place(), |known| {
                        known.backups = catalog::existing(&folders).into_iter().collect();
                    });
                }
                report.problems.extend(problem);
                return Ok(report);
            }
        };
        let Some(next) = tries.next(&error, seen) else { return Err(error.of_kind(Kind::Failed)) };
        notes.add(next.note.clone());
        wanted.settings.consistency = next.consistency;
        wanted.settings.engine = next.engine;
        (id, plan) = (begin(resources), next);
    }
}

/// Compares the place with the backups that should be in it. Returns a problem if most of them are missing.
///
/// # Errors
/// Returns an error of the kind [`Kind::Unmounted`] if the newest backup is missing as well.
async fn absent(resources: &Resources, options: &BackupOptions) -> Result<Option<String>> {
    let state_dir = &options.settings.state_dir;
    let Expected::Known(recorded) = options.expected.clone() else {
        for place in &resources.places {
            let place = place.store.place();
            KnownBackups::update(state_dir.as_deref(), &place, |known| known.backups.clear());
        }
        return Ok(None);
    };
    let signing = &options.settings.signing;
    let reading = CatalogOptions::remembering(state_dir.clone(), resources.clock.now(), signing);
    match catalog::missing_backups(resources.store(), &CatalogOptions { recorded, ..reading }).await? {
        Some(absent) if absent.newest => Err(absent.error()),
        Some(absent) => Ok(Some(absent.message())),
        None => Ok(None),
    }
}

/// The selection in words if it is only a part of the job.
fn part(settings: &JobSettings) -> Option<String> {
    settings.partial.then(|| SelectionAsked::from(&settings.selection).to_string())
}

/// Describes what a backup would read, and checks that the user may read it.
///
/// # Errors
/// Returns an error if a backup would fail before it reads a document.
pub async fn plan_backup(settings: &JobSettings, allow_empty: bool) -> Result<BackupPlan> {
    settings.signing.writing_key()?;
    let (uri, notes) = (&settings.mongo_uri, Notes::default());
    let server = Server::connect(uri, &settings.patience, settings.stall, &notes).await?;
    let engine = engine::choose(settings).await?;
    let Description { namespaces, raw_bytes, disk_bytes, warnings, feature_compatibility, .. } =
        describe::describe_for_backup(&server, &settings.selection, allow_empty).await?;
    describe::prove_readable(&server, &namespaces).await?;
    let server_version = server.version().await?;
    let plan = BackupPlan {
        version: 1,
        partial: part(settings),
        warnings: versions::newer(&server_version).into_iter().chain(warnings).collect(),
        member: server.hello.address.clone(),
        server_version,
        feature_compatibility_version: feature_compatibility,
        engine: format!("{}: {}", engine.name(), engine.why),
        shortfall: oplog::shortfall(&server, settings.consistency).await?,
        namespaces: namespaces.iter().map(ToString::to_string).collect(),
        raw_bytes,
        disk_bytes,
        hooks: Vec::new(),
    };
    server.close().await;
    Ok(plan)
}
