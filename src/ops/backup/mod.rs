//! `backup`: read a server, stream one artifact to the store, check it, and only then let it exist.
//!
//! An attempt goes downwards only: connect and describe, begin the upload, run the data path
//! ([`pipeline`]), ask the source whether all that was read belongs together ([`changes`]), complete
//! the upload, write the index, write the manifest. Whatever fails before the manifest leaves nothing
//! behind. Where a new reading may well succeed, there are more attempts under new ids ([`tries`]).

mod attempt;
mod begun;
mod changes;
mod consistency;
mod known;
mod pipeline;
mod sheet;
mod tries;
mod upload;

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::base::cancel::{Cancel, Step};
use crate::base::clock::Clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::exit::Exit;
use crate::base::progress::Meter;
use crate::catalog::known::Known;
use crate::catalog::{self, Reading, layout};
use crate::model::id::BackupId;
use crate::model::manifest::Manifest;
use crate::model::versions;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::source::describe::{self, Description};
use crate::source::engine;
use crate::source::oplog;
use crate::store::Store;
use crate::store::leftovers;

use crate::config::JobSettings;
use attempt::{Attempt, Seen};
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

/// What the operation works with.
pub struct Resources {
    /// Where the backup goes.
    pub store: Arc<dyn Store>,
    /// The clock of the run.
    pub clock: Clock,
    /// Makes the id of an attempt, asked once at its beginning, and tells it to whoever wants to know.
    pub new_id: NewId,
    /// How far the run is.
    pub meter: Arc<Meter>,
    /// The wish to end early.
    pub cancel: Cancel,
    /// What happens on the way.
    pub notes: Notes,
}

/// Makes an id for a time.
pub type NewId = Arc<dyn Fn(DateTime<Utc>) -> BackupId + Send + Sync>;

/// A backup that exists.
#[derive(Debug)]
pub struct Report {
    /// Its manifest.
    pub manifest: Manifest,
    /// The place of its artifact, in words.
    pub place: String,
    /// What a person should look at that is no matter of this backup.
    pub problems: Vec<String>,
}

impl Report {
    /// 0, or 3 if a person should look.
    pub fn exit(&self) -> Exit {
        if self.manifest.warnings.is_empty() { Exit::Done } else { Exit::NeedsLook }
    }
}

/// What a backup would read.
#[derive(Debug)]
pub struct Plan {
    /// The member that would be read.
    pub member: String,
    /// The version of its binary.
    pub version: String,
    /// `native` or `mongodump`, and why.
    pub engine: String,
    /// Why it would be of no instant, where that was not chosen.
    pub shortfall: Option<String>,
    /// The warnings that a backup would have before it reads anything.
    pub warnings: Vec<String>,
    /// The namespaces, and how much it is.
    pub description: Description,
}

/// Makes a backup.
pub async fn backup(resources: &Resources, options: &BackupOptions) -> Result<Report> {
    // After a signal the data path ends by itself and cleans up. Everything else only asks questions.
    let outcome = resources.cancel.deadline().within(Step::Work, attempts(resources, options)).await;
    let outcome = outcome.unwrap_or_else(|| Err(Error::failed("the run did not end in time")));
    if outcome.is_err() {
        // There is no manifest that would tell of it.
        resources.store.retries().iter().for_each(|line| log::warn!("{line}"));
    }
    outcome.map_err(|error| resources.cancel.error().unwrap_or(error))
}

async fn attempts(resources: &Resources, options: &BackupOptions) -> Result<Report> {
    let notes = &resources.notes;
    // The first thing: whatever fails from here on is a run that is recorded.
    let first = Attempt::new(resources);
    let checked = async {
        resources.store.check().await?;
        // A key that may write and not read would upload everything and fail when that is compared.
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
        let error = match attempt.run(resources, &wanted, notes, &mut seen).await {
            Err(error) if error.calls_for_another_run() && resources.cancel.error().is_none() => error,
            Err(error) => return Err(error),
            Ok(mut report) => {
                let place = resources.store.place();
                let here =
                    catalog::folders(&*resources.store).await.map(|folders| catalog::existing(&folders));
                // What is missing is reported once.
                Known::update(options.settings.state_dir.as_deref(), &place, |known| match here {
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

/// Looks whether the place has the backups that should be there; where most of them are missing, what a person should
/// look at.
///
/// # Errors
/// Returns an error of the kind [`Kind::Unmounted`] if the newest is missing, too.
async fn absent(resources: &Resources, options: &BackupOptions) -> Result<Option<String>> {
    let reading = Reading::remembering(options.settings.state_dir.clone(), resources.clock.now());
    let recorded = match &options.expected {
        Expected::Known(recorded) => recorded.clone(),
        Expected::Nothing => {
            let place = resources.store.place();
            Known::update(options.settings.state_dir.as_deref(), &place, |known| known.backups.clear());
            return Ok(None);
        }
    };
    match catalog::absent(&*resources.store, &Reading { recorded, ..reading }).await? {
        Some(absent) if absent.newest => Err(absent.error()),
        Some(absent) => Ok(Some(format!("{}; {}", absent.words(), absent.step()))),
        None => Ok(None),
    }
}

/// Finds out what a backup would read, without reading it.
pub async fn plan(options: &BackupOptions) -> Result<Plan> {
    let server = Server::connect(&options.settings.mongo_uri, &options.settings.patience)
        .await?
        .patient(options.settings.stall);
    let engine = engine::choose(&options.settings).await?;
    let description =
        describe::describe_for_backup(&server, &options.settings.selection, options.allow_empty).await?;
    describe::prove_readable(&server, &description.namespaces).await?;
    let version = server.version().await?;
    let warnings = versions::newer(&version).into_iter().chain(description.warnings.iter().cloned());
    let plan = Plan {
        warnings: warnings.collect(),
        member: server.hello.address.clone(),
        version,
        engine: format!("{}: {}", engine.name(), engine.why),
        shortfall: oplog::shortfall(&server, options.settings.consistency).await?,
        description,
    };
    server.close().await;
    Ok(plan)
}
