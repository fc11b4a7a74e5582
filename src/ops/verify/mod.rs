//! `verify`: reads backups again and compares every byte with the manifest and the index.
//!
//! [`run_verify`] chooses the backups, checks each ([`check`]), drills a sound one if asked to, and stores the result next to
//! the backup and in its record. Later commands use the newest result. Then it checks the oplog slices ([`slices`]).

mod check;
mod slices;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rand::Rng;
use rand::seq::IteratorRandom;
use schemars::JsonSchema;
use serde::Serialize;

use crate::base::cancel::Cancel;
use crate::base::clock::Clock;
use crate::base::error::{Error, Kind, Result};
use crate::base::exit::Exit;
use crate::base::keys::Identities;
use crate::base::minisign::SigningKey;
use crate::base::progress::Meter;
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
pub use slices::{SliceFinding, VerifiedChain};

/// The most findings that are kept. The first ones show what happened.
const KEPT: usize = 20;

/// The backups that are verified.
#[derive(Debug, Clone)]
pub enum VerifySelection {
    One(WhichBackup),
    /// This percentage of the backups, randomly chosen, but at least one.
    Sample(u8),
    /// No backup, only oplog slices.
    None,
}

#[derive(Debug)]
pub struct VerifyOptions {
    pub selection: VerifySelection,
    /// Only backups and slices of this job.
    pub job: Option<String>,
    /// True if the oplog slices are read, too.
    pub slices: bool,
    /// The job of the configuration, which may have slices and no backup.
    pub configured_job: Option<String>,
    pub reading: CatalogOptions,
    /// How many threads decompress.
    pub workers: usize,
    /// The name of this machine, for the results.
    pub host: String,
    /// The identities for encrypted backups. Without them, only the stored bytes of such backups are checked.
    pub keys: Option<Arc<Identities>>,
    /// The key that signs the results.
    pub signing: Option<SigningKey>,
}

#[derive(Debug)]
pub struct VerifyResources<'a> {
    pub store: Arc<dyn Store>,
    pub records: &'a RecordsAt,
    pub redactor: &'a Redactor,
    pub cancel: &'a Cancel,
    pub meter: &'a Meter,
    pub clock: Clock,
}

/// The result of `verify`. docs/json.md describes its JSON.
#[derive(Debug, JsonSchema, Serialize)]
pub struct VerifyReport {
    version: u32,
    pub place: String,
    /// The backups that were read, newest first.
    pub backups: Vec<VerifiedBackup>,
    /// Backups with an unreadable manifest, and backups of a sample that could not be verified.
    pub damaged: Vec<UnverifiedBackup>,
    /// Backups that must be thawed before they can be read.
    pub archived: Vec<UnverifiedBackup>,
    /// Backups of a sample that no given identity decrypts.
    pub unopened: Vec<UnverifiedBackup>,
    /// The keys of artifacts without a manifest. Only a sample looks for them.
    pub orphans: Vec<String>,
    /// The chains of oplog slices that were read.
    pub oplog: Vec<VerifiedChain>,
    /// Places that were not used. Without copies it is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// The error of a drill that failed. It says nothing about the backup.
    #[serde(skip)]
    pub drill_error: Option<Error>,
}

/// A backup that was read.
#[derive(Debug, JsonSchema, Serialize)]
pub struct VerifiedBackup {
    pub id: BackupId,
    /// With copies: the name of the place that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    pub job: String,
    /// True if neither the artifact nor the drill, with its point in time, has findings.
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
    /// True if only the stored bytes of an encrypted backup were checked, because no identity was given.
    pub without_key: bool,
    pub drill: Option<Drill>,
    /// Reasons why the result could not be stored.
    pub problems: Vec<String>,
}

/// A backup that was not read, and why.
#[derive(Debug, JsonSchema, Serialize)]
pub struct UnverifiedBackup {
    pub id: BackupId,
    /// With copies: the name of the place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    pub error: String,
}

impl UnverifiedBackup {
    fn new(id: BackupId, error: String) -> UnverifiedBackup {
        UnverifiedBackup { id, place: None, error }
    }
}

impl VerifyReport {
    /// Joins the reports of several places, in their order. Each row gets the name of its place. `None` without a report.
    pub fn joined(reports: Vec<(String, VerifyReport)>, problems: Vec<String>) -> Option<VerifyReport> {
        let joined =
            reports.into_iter().map(|(name, report)| report.of_place(&name)).reduce(|mut all, next| {
                all.place = format!("{}, {}", all.place, next.place);
                all.backups.extend(next.backups);
                all.damaged.extend(next.damaged);
                all.archived.extend(next.archived);
                all.unopened.extend(next.unopened);
                all.orphans.extend(next.orphans);
                all.oplog.extend(next.oplog);
                all.problems.extend(next.problems);
                all.drill_error = all.drill_error.or(next.drill_error);
                all
            });
        joined.map(|mut all| {
            all.problems.extend(problems);
            all
        })
    }

    /// Names the place in each row.
    fn of_place(mut self, name: &str) -> VerifyReport {
        let place = || Some(name.to_string());
        self.backups.iter_mut().for_each(|backup| backup.place = place());
        let lists = [&mut self.damaged, &mut self.archived, &mut self.unopened];
        lists.into_iter().flatten().for_each(|backup| backup.place = place());
        self.oplog.iter_mut().for_each(|chain| chain.place = place());
        self.orphans.iter_mut().for_each(|key| *key = format!("{name}: {key}"));
        self
    }

    /// Returns the manifest of a backup, or adds the entry to the damaged or archived backups.
    fn manifest_of<M>(&mut self, entry: CatalogEntry<M>) -> Option<M> {
        match entry {
            CatalogEntry::Backup(manifest) => return Some(manifest),
            CatalogEntry::Damaged { id, key, why } => {
                let error = format!("{key} cannot be understood: {why}");
                self.damaged.push(UnverifiedBackup::new(id, error));
            }
            CatalogEntry::Archived { id, key, why } => {
                self.archived.push(UnverifiedBackup::new(id, format!("{key}: {why}")));
            }
            CatalogEntry::Untrusted { id, why, .. } => {
                let error = choose::untrusted_error(&id, &why).chain_with_step();
                self.damaged.push(UnverifiedBackup::new(id, error));
            }
        }
        None
    }

    /// Returns the exit code of the command, except for a failed drill. Damage weighs more than a wrong key.
    pub fn exit(&self) -> Exit {
        if !self.damaged.is_empty()
            || self.backups.iter().any(|backup| !backup.sound)
            || self.oplog.iter().any(|chain| !chain.sound)
        {
            Exit::Mismatch
        } else if !self.unopened.is_empty() || self.oplog.iter().any(|chain| !chain.unopened.is_empty()) {
            Exit::Key
        } else if !self.problems.is_empty()
            || self.backups.iter().any(|backup| backup.notes().next().is_some())
        {
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
            place: None,
            job: job.into(),
            sound: verdict.sound && verdict.drill.as_ref().is_none_or(Drill::is_sound),
            findings: verdict.findings,
            verified_at: verdict.at,
            stored_bytes: verdict.stored_bytes,
            documents: verdict.documents,
            raw_bytes: verdict.raw_bytes,
            seconds: verdict.seconds,
            without_key: verdict.without_key,
            drill: verdict.drill,
            problems,
        }
    }

    /// Everything that is wrong with the artifact or with the restored data.
    pub fn wrong(&self) -> impl Iterator<Item = &String> {
        self.findings.iter().chain(self.drill.iter().flat_map(Drill::wrong))
    }

    /// Everything else that needs attention.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        self.problems.iter().chain(self.drill.iter().flat_map(|drill| &drill.notes))
    }
}

/// Verifies backups. `rng` chooses the sample. `drill` restores a sound backup and compares the result.
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
        unopened: Vec::new(),
        orphans: Vec::new(),
        oplog: Vec::new(),
        problems: Vec::new(),
        drill_error: None,
    };
    let chosen = match &options.selection {
        VerifySelection::One(which) => {
            let chosen = choose_one(resources, options, which, &mut report);
            cancel.or(chosen).await?.into_iter().collect()
        }
        VerifySelection::Sample(percent) => {
            cancel.or(sample(resources, options, *percent, rng, &mut report)).await?
        }
        VerifySelection::None => Vec::new(),
    };
    for (id, manifest) in chosen {
        // The manifests of a sample are read one at a time, because a year of manifests takes gigabytes.
        if let Err(error) = verify_one(resources, options, &id, manifest, &drill, &mut report).await {
            let is_of_key = error.kind() == Kind::Key;
            let error = error_of_one(error, resources, options).await?;
            let list = if is_of_key { &mut report.unopened } else { &mut report.damaged };
            list.push(UnverifiedBackup::new(id, error));
        }
    }
    if options.slices {
        report.oplog = slices::check_slices(resources, options).await?;
        if report.oplog.is_empty() && matches!(options.selection, VerifySelection::None) {
            let of_job = options.job.as_ref().map(|job| format!(" of the job {job}")).unwrap_or_default();
            let none = format!("there are no oplog slices{of_job} in {}", report.place);
            return Err(Error::failed(none).hint("`uzima-backup oplog` stores them"));
        }
    }
    Ok(report)
}

/// A backup to verify, with its manifest if it was read already.
type ChosenBackup = (BackupId, Option<Box<Manifest>>);

async fn choose_one(
    resources: &VerifyResources<'_>,
    options: &VerifyOptions,
    which: &WhichBackup,
    report: &mut VerifyReport,
) -> Result<Option<ChosenBackup>> {
    let store = &*resources.store;
    match choose::choose(store, which, options.job.as_deref(), &options.reading).await? {
        CatalogEntry::Archived { id, key, why } => {
            Err(choose::archived_manifest(store, &id, &key, &why).await?)
        }
        CatalogEntry::Untrusted { id, why, .. } => Err(choose::untrusted_error(&id, &why)),
        entry => Ok(report.manifest_of(entry).map(|manifest| (manifest.id.clone(), Some(manifest)))),
    }
}

/// Chooses backups at random, newest first, and finds artifacts without a manifest.
async fn sample(
    resources: &VerifyResources<'_>,
    options: &VerifyOptions,
    percent: u8,
    rng: &mut impl Rng,
    report: &mut VerifyReport,
) -> Result<Vec<ChosenBackup>> {
    let (store, job) = (&*resources.store, options.job.as_ref());
    let catalog = Catalog::read(store, &options.reading).await?;
    let mut backups = Vec::new();
    for entry in catalog.summaries(&catalog.existing()).await? {
        let manifest = report.manifest_of(entry).filter(|m| job.is_none_or(|job| m.job == *job));
        backups.extend(manifest.map(|manifest| (manifest.started_at, manifest.id.clone())));
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
    Ok(backups.into_iter().map(|(_, id)| (id, None)).collect())
}

/// Verifies one backup and adds it to the report.
async fn verify_one(
    resources: &VerifyResources<'_>,
    options: &VerifyOptions,
    id: &BackupId,
    manifest: Option<Box<Manifest>>,
    drill: &Option<impl AsyncFn(&Manifest) -> Result<Drill>>,
    report: &mut VerifyReport,
) -> Result<()> {
    let VerifyResources { store, cancel, .. } = resources;
    let manifest = match manifest {
        Some(manifest) => Some(manifest),
        // `None` if a cleanup has deleted the backup since it was listed.
        None => {
            let found = cancel.or(catalog::find(&**store, id, &options.reading.trust)).await?;
            found.and_then(|entry| report.manifest_of(entry))
        }
    };
    let Some(manifest) = manifest.as_deref() else { return Ok(()) };
    if let Some(error) = cancel.or(choose::archived_error(&**store, &manifest.id)).await? {
        if let VerifySelection::One(_) = options.selection {
            return Err(error);
        }
        report.archived.push(UnverifiedBackup::new(id.clone(), error.chain_with_step()));
        return Ok(());
    }
    log::info!("verifying {id}, {}", units::bytes(manifest.artifact.size));
    let keys = options.keys.as_deref();
    let checking = check_backup(store, manifest, keys, options.workers, resources.clock, resources.meter);
    let check = cancel.or(checking).await?;
    let mut verdict = verdict(check, id, &options.host);
    // A damaged backup is not restored.
    if let Some(drill) = drill.as_ref().filter(|_| verdict.sound) {
        match drill(manifest).await {
            Ok(drill) => verdict = verdict.with(drill),
            Err(error) => report.drill_error = Some(error),
        }
    }
    let kept = if manifest.encryption.is_some() { verdict.readable() } else { verdict.clone() };
    let problems = cancel.or(async { Ok(keep(resources, options, &kept).await) }).await?;
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
        without_key: check.without_key,
        drill: None,
    }
}

/// Stores the result next to the backup and in its record. Returns the problems.
async fn keep(resources: &VerifyResources<'_>, options: &VerifyOptions, verdict: &Verdict) -> Vec<String> {
    let mut problems = Vec::new();
    if options.signing.is_none() && !options.reading.trust.is_off() {
        problems.push(
            "the result does not count, because it is not signed; set signing_key_file (BACKUP_SIGNING_KEY_FILE), or look at \
             this output"
                .into(),
        );
    }
    if let Err(e) = verdict.write(&*resources.store, options.signing.as_ref()).await {
        problems.push(format!("the result could not be stored next to the backup: {}", e.chain()));
    }
    let verified = Verified::from(verdict);
    if let Err(e) = records::record_verified(resources.records, &verdict.id, &verified).await {
        // Records are a cache. The store has the result.
        log::info!("{}", resources.redactor.clean(&e));
    }
    problems
}

/// Turns the error of one backup of a sample into text, so that the other backups are verified. No result is stored, because
/// an unreadable backup may be sound.
///
/// # Errors
/// Returns the error if a single backup was asked for, the run was cancelled, or the store does not answer.
async fn error_of_one(
    error: Error,
    resources: &VerifyResources<'_>,
    options: &VerifyOptions,
) -> Result<String> {
    let cancel = resources.cancel;
    if matches!(options.selection, VerifySelection::One(_)) || cancel.error().is_some() {
        return Err(error);
    }
    if error.kind() == Kind::Key {
        return Ok(error.chain_with_step());
    }
    cancel.or(async { Ok(resources.store.check().await?) }).await?;
    Ok(format!("it cannot be verified: {}", error.chain_with_step()))
}
