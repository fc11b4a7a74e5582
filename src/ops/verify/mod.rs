//! `verify`: read backups again and compare every byte with manifest and index.
//!
//! [`run_verify`] chooses the backups, checks each ([`check`]), has a sound one restored by a drill if asked
//! to, and stores the result next to the backup and in its record. Later commands take the newest result into
//! account.

mod check;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rand::Rng;
use rand::seq::IteratorRandom;
use serde::Serialize;

use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::secret::Redactor;
use crate::base::units;
use crate::catalog::choose::{self, WhichBackup};
use crate::catalog::run::Verified;
use crate::catalog::verdict::{Drill, Verdict};
use crate::catalog::{self, Catalog, CatalogEntry, CatalogOptions, layout, marks, records};
use crate::config::RecordsAt;
use crate::model::id::BackupId;
use crate::model::manifest::{Manifest, TOOL};
use crate::store::Store;

pub use check::{BackupCheck, VerifyFinding, check_backup};

/// The most findings that are kept. The first ones show what happened.
const KEPT: usize = 20;

/// The backups that are verified.
#[derive(Debug, Clone)]
pub enum VerifySelection {
    /// One backup, of this job if there is one.
    One(WhichBackup, Option<String>),
    /// Randomly chosen backups, of this job if there is one: this percentage of them, but at least one.
    Sample(u8, Option<String>),
}

/// What `verify` is asked to do.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    pub selection: VerifySelection,
    pub reading: CatalogOptions,
    /// The number of threads that decompress.
    pub workers: usize,
    /// The name of this machine, for the results.
    pub host: String,
}

/// What `verify` works with.
#[derive(Debug)]
pub struct VerifyResources<'a> {
    pub store: Arc<dyn Store>,
    pub records: &'a RecordsAt,
    pub redactor: &'a Redactor,
    pub cancel: &'a Cancel,
    pub clock: Clock,
}

/// The result of `verify`. docs/json.md describes its JSON.
#[derive(Debug, Serialize)]
pub struct VerifyReport {
    version: u32,
    pub place: String,
    /// The backups that were read, newest first.
    pub backups: Vec<VerifiedBackup>,
    /// Manifests that cannot be parsed, and other backups of a sample that cannot be read.
    pub damaged: Vec<UnverifiedBackup>,
    /// Backups that must be thawed before they can be read.
    pub archived: Vec<UnverifiedBackup>,
    /// The keys of artifacts without a manifest. Only a sample looks for them.
    pub orphans: Vec<String>,
    /// The error of a drill that failed. It says nothing about the backup.
    #[serde(skip)]
    pub drill_error: Option<Error>,
}

/// A backup that was read.
#[derive(Debug, Serialize)]
pub struct VerifiedBackup {
    pub id: BackupId,
    pub job: String,
    /// True if neither the artifact nor the drill has findings.
    pub sound: bool,
    pub findings: Vec<String>,
    verified_at: DateTime<Utc>,
    /// Bytes of the artifact that were read.
    pub stored_bytes: u64,
    /// Documents that were hashed, without the entries of an oplog slice.
    pub documents: u64,
    /// The length of these documents in bytes.
    pub raw_bytes: u64,
    pub seconds: f64,
    pub drill: Option<Drill>,
    /// Reasons why the result could not be stored.
    pub problems: Vec<String>,
}

/// A backup that was not read, and why.
#[derive(Debug, Serialize)]
pub struct UnverifiedBackup {
    pub id: BackupId,
    pub error: String,
}

impl VerifyReport {
    /// Returns the exit code of the command, except for a failed drill.
    pub fn exit(&self) -> Exit {
        if !self.damaged.is_empty() || self.backups.iter().any(|backup| !backup.sound) {
            Exit::Mismatch
        } else if self.backups.iter().any(|backup| backup.notes().next().is_some()) {
            Exit::NeedsLook
        } else {
            Exit::Done
        }
    }
}

impl VerifiedBackup {
    fn new(verdict: Verdict, job: &str, problems: Vec<String>) -> VerifiedBackup {
        VerifiedBackup {
            id: verdict.id,
            job: job.into(),
            sound: verdict.sound,
            findings: verdict.findings,
            verified_at: verdict.at,
            stored_bytes: verdict.stored_bytes,
            documents: verdict.documents,
            raw_bytes: verdict.raw_bytes,
            seconds: verdict.seconds,
            drill: verdict.drill,
            problems,
        }
    }

    /// Everything that is wrong with the artifact or with the restored data.
    pub fn wrong(&self) -> impl Iterator<Item = &String> {
        self.findings.iter().chain(self.drill.iter().flat_map(|drill| &drill.findings))
    }

    /// Everything else that needs attention.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        self.problems.iter().chain(self.drill.iter().flat_map(|drill| &drill.notes))
    }
}

/// Verifies backups. `rng` chooses the sample. `drill` restores a backup that was found sound and compares
/// the result.
///
/// # Errors
/// Returns an error if there is no backup, the store cannot be read, or the run was cancelled. With a sample,
/// an error that concerns a single backup is part of the report.
pub async fn run_verify(
    resources: &VerifyResources<'_>,
    options: &VerifyOptions,
    rng: &mut impl Rng,
    drill: Option<impl AsyncFn(&Manifest) -> Result<Drill>>,
) -> Result<VerifyReport> {
    let cancel = resources.cancel;
    let mut report = VerifyReport {
        version: 1,
        place: resources.store.place(),
        backups: Vec::new(),
        damaged: Vec::new(),
        archived: Vec::new(),
        orphans: Vec::new(),
        drill_error: None,
    };
    let chosen = match &options.selection {
        VerifySelection::One(which, job) => {
            cancel.or(choose_one(resources, options, which, job.as_deref(), &mut report)).await?
        }
        VerifySelection::Sample(percent, job) => {
            cancel.or(sample(resources, options, *percent, job.as_deref(), rng, &mut report)).await?
        }
    };
    for chosen in chosen {
        let id = match &chosen {
            ChosenBackup::Id(id) => id.clone(),
            ChosenBackup::Manifest(manifest) => manifest.id.clone(),
        };
        // Manifests are read one at a time: a year of them takes gigabytes.
        if let Err(error) = verify_one(resources, options, chosen, &drill, &mut report).await {
            let error = error_of_one(error, resources, options).await?;
            report.damaged.push(UnverifiedBackup { id, error });
        }
    }
    Ok(report)
}

enum ChosenBackup {
    Id(BackupId),
    Manifest(Box<Manifest>),
}

/// Finds one backup.
async fn choose_one(
    resources: &VerifyResources<'_>,
    options: &VerifyOptions,
    which: &WhichBackup,
    job: Option<&str>,
    report: &mut VerifyReport,
) -> Result<Vec<ChosenBackup>> {
    let store = &*resources.store;
    match choose::choose(store, which, job, &options.reading).await? {
        CatalogEntry::Backup(manifest) => Ok(vec![ChosenBackup::Manifest(manifest)]),
        CatalogEntry::Damaged { id, key, why } => {
            report.damaged.push(unreadable(id, &key, &why));
            Ok(Vec::new())
        }
        CatalogEntry::Archived { id, key, why } => {
            Err(choose::archived_manifest(store, &id, &key, &why).await?)
        }
    }
}

/// Chooses some of the backups by chance, and finds artifacts without a manifest. The chosen backups are
/// sorted from the newest to the oldest.
async fn sample(
    resources: &VerifyResources<'_>,
    options: &VerifyOptions,
    percent: u8,
    job: Option<&str>,
    rng: &mut impl Rng,
    report: &mut VerifyReport,
) -> Result<Vec<ChosenBackup>> {
    let store = &*resources.store;
    let catalog = Catalog::read(store, &options.reading).await?;
    let mut backups = Vec::new();
    for entry in catalog.summaries(&catalog.existing()).await? {
        match entry {
            CatalogEntry::Backup(manifest) if job.is_some_and(|job| manifest.job != job) => {}
            CatalogEntry::Backup(manifest) => backups.push((manifest.started_at, manifest.id.clone())),
            CatalogEntry::Damaged { id, key, why } => report.damaged.push(unreadable(id, &key, &why)),
            CatalogEntry::Archived { id, key, why } => {
                report.archived.push(UnverifiedBackup { id, error: format!("{key}: {why}") });
            }
        }
    }
    catalog.save();
    for folder in catalog.folders().values() {
        if !folder.contains_key(layout::MANIFEST) && !folder.contains_key(layout::TOMBSTONE) {
            let artifacts = folder.iter().filter(|(file, _)| layout::is_artifact(file));
            report.orphans.extend(artifacts.map(|(_, object)| object.key.clone()));
        }
    }
    let wanted = (backups.len() * usize::from(percent)).div_ceil(100);
    let mut backups = backups.into_iter().sample(rng, wanted);
    backups.sort_by(|a, b| b.cmp(a));
    if backups.is_empty() && report.damaged.is_empty() && report.archived.is_empty() {
        let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        return Err(Error::failed(format!("there is no backup{of_job} in {}", store.place()))
            .hint("`uzima-backup list` shows the backups"));
    }
    Ok(backups.into_iter().map(|(_, id)| ChosenBackup::Id(id)).collect())
}

fn unreadable(id: BackupId, key: &str, why: &str) -> UnverifiedBackup {
    UnverifiedBackup { id, error: format!("{key} cannot be understood: {why}") }
}

/// Verifies one backup and adds it to the report.
async fn verify_one(
    resources: &VerifyResources<'_>,
    options: &VerifyOptions,
    chosen: ChosenBackup,
    drill: &Option<impl AsyncFn(&Manifest) -> Result<Drill>>,
    report: &mut VerifyReport,
) -> Result<()> {
    let VerifyResources { store, cancel, .. } = resources;
    let manifest = match chosen {
        ChosenBackup::Manifest(manifest) => manifest,
        ChosenBackup::Id(id) => match cancel.or(catalog::find(&**store, &id)).await? {
            Some(CatalogEntry::Backup(manifest)) => manifest,
            Some(CatalogEntry::Damaged { id, key, why }) => {
                report.damaged.push(unreadable(id, &key, &why));
                return Ok(());
            }
            Some(CatalogEntry::Archived { id, key, why }) => {
                report.archived.push(UnverifiedBackup { id, error: format!("{key}: {why}") });
                return Ok(());
            }
            // A cleanup deleted the backup meanwhile.
            None => return Ok(()),
        },
    };
    let manifest = &*manifest;
    if let Some(error) = cancel.or(choose::archived_error(&**store, &manifest.id)).await? {
        if let VerifySelection::One(..) = options.selection {
            return Err(error);
        }
        let step = error.next_step().map(|step| format!(". {step}")).unwrap_or_default();
        report.archived.push(UnverifiedBackup { id: manifest.id.clone(), error: format!("{error}{step}") });
        return Ok(());
    }
    log::info!("verifying {}, {}", manifest.id, units::bytes(manifest.artifact.size));
    let check = cancel.or(check_backup(store, manifest, options.workers, resources.clock)).await?;
    let mut verdict = verdict(check, &manifest.id, &options.host);
    // A damaged backup is not restored.
    if let Some(drill) = drill.as_ref().filter(|_| verdict.sound) {
        match drill(manifest).await {
            Ok(drill) => verdict = verdict.with(drill),
            Err(error) => report.drill_error = Some(error),
        }
    }
    let problems = cancel.or(async { Ok(keep(resources, &verdict).await) }).await?;
    report.backups.push(VerifiedBackup::new(verdict, &manifest.job, problems));
    Ok(())
}

/// Makes the result that is stored next to the backup.
fn verdict(check: BackupCheck, id: &BackupId, host: &str) -> Verdict {
    Verdict {
        format: marks::FORMAT,
        id: id.clone(),
        at: check.finished_at,
        host: host.into(),
        tool: TOOL.into(),
        sound: check.findings.is_empty(),
        findings: check.findings.iter().take(KEPT).map(ToString::to_string).collect(),
        stored_bytes: check.stored_bytes,
        documents: check.documents,
        raw_bytes: check.raw_bytes,
        seconds: (check.finished_at - check.started_at).as_seconds_f64().max(0.0),
        drill: None,
    }
}

/// Stores the result next to the backup and in its record. Returns the problems.
async fn keep(resources: &VerifyResources<'_>, verdict: &Verdict) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(e) = verdict.write(&*resources.store).await {
        problems.push(format!("the result could not be stored next to the backup: {}", e.chain()));
    }
    let verified = Verified::from(verdict);
    if let Err(e) = records::record_verified(resources.records, &verdict.id, &verified).await {
        // Records are a cache. The store has the result.
        log::info!("{}", resources.redactor.clean(&e));
    }
    problems
}

/// Turns the error of one backup of a sample into text, so that the others are verified. No result is stored,
/// because a backup that cannot be read may be sound.
///
/// # Errors
/// Returns the error if a single backup was asked for, the run was cancelled, or the store does not answer.
async fn error_of_one(
    error: Error,
    resources: &VerifyResources<'_>,
    options: &VerifyOptions,
) -> Result<String> {
    let cancel = resources.cancel;
    if matches!(options.selection, VerifySelection::One(..)) || cancel.error().is_some() {
        return Err(error);
    }
    cancel.or(async { Ok(resources.store.check().await?) }).await?;
    let step = error.next_step().map(|step| format!(" ({step})")).unwrap_or_default();
    Ok(format!("it cannot be verified: {}{step}", error.chain()))
}
