//! The state of a store for one job: its backups with their faults, begun deletions, failed runs and incomplete folders.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::base::error::Result;
use crate::catalog::chain::{JobSlices, RetainedSlice, SliceEntry};
use crate::catalog::compare::Contents;
use crate::catalog::fault::BackupFault;
use crate::catalog::marks::{self, FailedRun, Pin, Tombstone};
use crate::catalog::place_files::MissingBackups;
use crate::catalog::slice_reader::SliceReader;
use crate::catalog::verdict::{Drill, Verdicts};
use crate::catalog::{BackupFolder, Catalog, CatalogEntry, CatalogOptions, Summary, layout};
use crate::model::id::BackupId;
use crate::model::manifest::SourceServer;
use crate::model::optime::OpTime;
use crate::store::Store;

/// A completed backup with the facts that retention decides on.
#[derive(Debug, Clone)]
pub struct RetainedBackup {
    pub id: BackupId,
    pub job: String,
    /// The start of the backup.
    pub started: DateTime<Utc>,
    /// The documents and bytes in it, in all and by namespace.
    pub contents: Contents,
    /// The server that was read.
    pub source: SourceServer,
    /// The pin that keeps it; `None` if it is not pinned.
    pub pinned: Option<Pin>,
    /// A person checked the backup and accepted it, with its collapse, its new source or its date.
    pub accepted: bool,
    /// The selection in words if the backup has only a part of its job.
    pub partial: Option<String>,
    /// The known fault of its stored data, such as a failed verify or a missing artifact.
    pub unsound: Option<String>,
    /// Why anybody may have written it: its signature is missing or wrong, although there are trusted keys.
    pub untrusted: Option<String>,
}

/// The oplog slices of a job, and the backups at which their chains can begin.
#[derive(Debug, Clone, Default)]
pub struct RetainedOplog {
    /// Oldest first.
    pub slices: Vec<RetainedSlice>,
    /// The backups of the same replica set that begin within a stored slice.
    pub bases: BTreeMap<BackupId, BaseInstant>,
    /// The bases that the slices after them do not continue, because these have another selection or cannot be read. None of
    /// them replaces an earlier base.
    pub uncontinued: BTreeSet<BackupId>,
}

/// The times of a backup at which a chain can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseInstant {
    /// A restore needs the entries after this optime.
    pub from: OpTime,
    /// The instant of the backup's data.
    pub at: OpTime,
}

/// A backup of the job.
pub struct FoundBackup {
    pub manifest: Arc<Summary>,
    folder: BackupFolder,
    pin: Option<Pin>,
    accepted: bool,
    fault: Option<BackupFault>,
    /// The last drill.
    drill: Option<Drill>,
    /// The end of the newest verify with the key.
    keyed_at: Option<DateTime<Utc>>,
}

/// The state of a store for the cleanup of one job.
pub struct StoreState {
    job: String,
    /// The directory with the caches.
    state_dir: Option<PathBuf>,
    found: BTreeMap<BackupId, FoundBackup>,
    /// Manifests that cannot be decoded, trusted or not, so that their jobs are unknown.
    pub broken: BTreeMap<BackupId, BackupFault>,
    /// Backups of any job whose manifests are in an archive class. They are neither counted nor deleted.
    pub archived: Vec<BackupId>,
    /// The job's oplog slices.
    pub slices: JobSlices,
    /// The other jobs that have backups in the store.
    pub others: BTreeSet<String>,
    /// Begun deletions of this job whose manifest is gone, and whether the backup is pinned.
    pub halfway: Vec<(Tombstone, bool)>,
    /// Folders with neither a manifest nor a tombstone.
    pub incomplete: BTreeMap<BackupId, BackupFolder>,
    /// Failed runs of any job; the reason if the object about the failure cannot be used.
    pub failed: Vec<(BackupId, Result<FailedRun, String>)>,
    /// The reasons why a plan must not delete anything: objects that cannot be decoded, or missing backups.
    pub unreadable: Vec<String>,
    /// Known backups that are missing, the newest among them.
    pub missing: Option<MissingBackups>,
    /// Messages about objects that do not count: results of verifies that are dated in the future, and unreadable objects
    /// that need no signature, if there are trusted keys.
    pub ignored: Vec<String>,
}

impl StoreState {
    /// Reads the state of a store. Objects that cannot be decoded are in `unreadable`.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn read(store: &dyn Store, job: &str, options: &CatalogOptions) -> Result<StoreState> {
        StoreState::of(&Catalog::read(store, options).await?, job).await
    }

    /// Reads the state of a store that was listed.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn of(catalog: &Catalog<'_>, job: &str) -> Result<StoreState> {
        let listed = catalog.existing();
        let has_failed = |folder: &BackupFolder| folder.contains_key(layout::FAILED);
        let failed = catalog.folders.iter().filter(|(_, folder)| has_failed(folder));
        let failed: Vec<BackupId> = failed.map(|(id, _)| id.clone()).collect();
        // If only older backups are missing, a cleanup of another machine may have deleted them.
        let missing = catalog.missing.clone().filter(|missing| missing.newest);
        let mut state = StoreState {
            job: job.into(),
            state_dir: catalog.options.state_dir.clone(),
            found: BTreeMap::new(),
            broken: BTreeMap::new(),
            archived: Vec::new(),
            slices: catalog.trusted_slices(job).await?,
            others: BTreeSet::new(),
            halfway: Vec::new(),
            incomplete: BTreeMap::new(),
            failed: catalog.failures(&failed).await?,
            // The place may be another one. Conclusions from it could delete the backups that are left.
            unreadable: missing.iter().map(MissingBackups::message).collect(),
            missing,
            ignored: Vec::new(),
        };
        let mut verdicts = catalog.verdicts(&listed).await?;
        let mut pins = catalog.pins(&listed).await?;
        let accepted = catalog.accepted(&listed).await?;
        let entries = catalog.summaries(&listed).await?;
        catalog.save();
        let mut folders = catalog.folders.clone();
        for entry in entries {
            let folder = folders.remove(entry.id()).unwrap_or_default();
            let (verdicts, pin) = (verdicts.remove(entry.id()), pins.remove(entry.id()));
            let accepted = accepted.contains(entry.id());
            state.add(entry, folder, (pin, accepted), verdicts.unwrap_or_default());
        }
        // Another cleanup is deleting the backups that were listed with a manifest and have none now.
        folders.retain(|id, _| !listed.contains(id));
        for (id, folder) in folders {
            if !folder.contains_key(layout::TOMBSTONE) {
                state.incomplete.insert(id, folder);
                continue;
            }
            match Tombstone::read(catalog.store, &id).await? {
                Some(Ok(tombstone)) if tombstone.job == job => {
                    state.halfway.push((tombstone, folder.contains_key(layout::PIN)));
                }
                Some(Ok(_)) | None => {}
                // Everybody who can write to the store could block the cleanups with such an object.
                Some(Err(why)) if !catalog.options.trust.is_off() => state.ignored.push(why),
                Some(Err(why)) => state.unreadable.push(why),
            }
        }
        Ok(state)
    }

    fn add(
        &mut self,
        entry: CatalogEntry,
        folder: BackupFolder,
        (pin, accepted): (Option<Pin>, bool),
        verdicts: Verdicts,
    ) {
        let (manifest, distrust) = match entry {
            CatalogEntry::Backup(manifest) => (manifest, None),
            CatalogEntry::Untrusted { manifest: Some(manifest), why, .. } => (manifest, Some(why)),
            CatalogEntry::Untrusted { id, manifest: None, why } => {
                self.broken.insert(id, BackupFault::untrusted(&why));
                return;
            }
            CatalogEntry::Damaged { id, key, why } => {
                let fault = BackupFault::unreadable(&key, &why);
                self.unreadable.push(fault.why.clone());
                self.broken.insert(id, fault);
                return;
            }
            CatalogEntry::Archived { id, .. } => return self.archived.push(id),
        };
        if manifest.job != self.job {
            if distrust.is_none() {
                self.others.insert(manifest.job.clone());
            }
            return;
        }
        self.ignored.extend(verdicts.future);
        // What lies beside an untrusted backup says nothing.
        let keyed_at = verdicts.keyed_at.filter(|_| distrust.is_none());
        let newest = verdicts.newest.filter(|_| distrust.is_none());
        let verdict = newest.and_then(|verdict| verdict.map_err(|why| self.unreadable.push(why)).ok());
        let fault = match &distrust {
            Some(why) => Some(BackupFault::untrusted(why)),
            None => BackupFault::find(&manifest, &folder, verdict.as_ref()),
        };
        let drill = verdict.and_then(|verdict| verdict.drill);
        let found = FoundBackup { manifest, folder, pin, accepted, fault, drill, keyed_at };
        self.found.insert(found.manifest.id.clone(), found);
    }

    /// Marks a backup as accepted. Returns `false` if there is no such backup.
    pub fn accept(&mut self, id: &BackupId) -> bool {
        self.found.get_mut(id).map(|found| found.accepted = true).is_some()
    }

    /// Why anybody may have written a backup of the job; `None` if it is trusted.
    pub fn distrust(&self, id: &BackupId) -> Option<String> {
        self.found.get(id)?.fault_text(true)
    }

    /// Returns a backup of the job. Panics if there is no such backup.
    pub fn found(&self, id: &BackupId) -> &FoundBackup {
        &self.found[id]
    }

    /// The manifests of the job's trusted backups, oldest first.
    pub fn trusted_manifests(&self) -> impl DoubleEndedIterator<Item = &Summary> {
        self.found.values().filter(|found| found.fault_text(true).is_none()).map(|found| &*found.manifest)
    }

    /// The manifests of the job's backups, trusted or not, oldest first.
    pub fn manifests(&self) -> impl DoubleEndedIterator<Item = &Summary> {
        self.found.values().map(|found| &*found.manifest)
    }

    /// The last drill with each backup of the job that had one, newest first.
    pub fn drills(&self) -> Vec<(&BackupId, &Drill)> {
        let drills = self.found.iter().filter_map(|(id, found)| Some((id, found.drill.as_ref()?)));
        let mut drills: Vec<_> = drills.collect();
        drills.sort_by_key(|(_, drill)| std::cmp::Reverse(drill.at));
        drills
    }

    /// The newest verify or drill of an encrypted backup with its key, and the backup.
    pub fn newest_keyed(&self) -> Option<(&BackupId, DateTime<Utc>)> {
        let encrypted = self.found.iter().filter(|(_, found)| found.manifest.encryption.is_some());
        encrypted.filter_map(|(id, found)| Some((id, found.keyed_at?))).max_by_key(|(_, at)| *at)
    }

    /// The faults of the job's backups.
    pub fn faults(&self) -> impl Iterator<Item = (&BackupId, &BackupFault)> {
        self.found.iter().filter_map(|(id, found)| Some((id, found.fault.as_ref()?)))
    }

    /// The backups of any job that lack only their manifest.
    pub fn lost(&self, now: DateTime<Utc>) -> Vec<(&BackupId, BackupFault)> {
        let lost = |(id, folder)| Some((id, BackupFault::unrecorded(folder, now)?));
        self.incomplete.iter().filter_map(lost).collect()
    }

    /// The job's backups for retention.
    pub fn backups(&self) -> Vec<RetainedBackup> {
        let backup = |found: &FoundBackup| RetainedBackup {
            id: found.manifest.id.clone(),
            job: found.manifest.job.clone(),
            started: found.manifest.started_at,
            contents: Contents::new(&found.manifest, found.manifest.namespaces.clone()),
            source: found.manifest.source.clone(),
            pinned: found.pin.clone(),
            accepted: found.accepted,
            partial: found.manifest.part(),
            unsound: found.fault_text(false),
            untrusted: found.fault_text(true),
        };
        self.found.values().map(backup).collect()
    }

    /// The job's oplog slices and their bases for retention.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn oplog(&self, store: &dyn Store) -> Result<RetainedOplog> {
        let reader = self.slice_reader(store);
        let slices = reader.retained().await?;
        let begins_in_a_chain = |id: &BackupId, base: &BaseInstant| {
            let set_id = self.found[id].manifest.source.set_id.as_deref();
            let mut of_set = slices.iter().filter(|slice| Some(&*slice.chain.set_id) == set_id);
            of_set.any(|slice| slice.start <= base.from && slice.end.is_none_or(|end| base.from <= end))
        };
        let bases = self.found.keys().filter_map(|id| Some((id.clone(), self.base(id)?)));
        let bases: BTreeMap<BackupId, BaseInstant> =
            bases.filter(|(id, base)| begins_in_a_chain(id, base)).collect();
        let mut uncontinued = BTreeSet::new();
        for (id, base) in &bases {
            if !self.is_continued(id, base.at, &slices, &reader).await? {
                uncontinued.insert(id.clone());
            }
        }
        reader.save();
        Ok(RetainedOplog { slices, bases, uncontinued })
    }

    /// Returns true if the slice with the first entries after the instant of a backup has the backup's selection, or does not
    /// exist yet. If only a key could show that, the answer is false: then an older backup is kept as well.
    async fn is_continued(
        &self,
        id: &BackupId,
        at: OpTime,
        slices: &[RetainedSlice],
        reader: &SliceReader<'_>,
    ) -> Result<bool> {
        let manifest = &*self.found[id].manifest;
        let (source, selection) = (&manifest.source, manifest.known_selection());
        let follows = |slice: &&RetainedSlice| {
            let same_set = Some(&slice.chain.set_id) == source.set_id.as_ref();
            same_set && slice.start <= at && slice.end.is_none_or(|end| end > at)
        };
        let mut any = false;
        for slice in slices.iter().filter(follows) {
            match reader.read(&slice.chain, slice.start).await? {
                Some(SliceEntry::Slice(slice)) if slice.end.at <= at => {}
                Some(SliceEntry::Slice(slice)) if slice.known_selection().is(&selection) == Some(true) => {
                    return Ok(true);
                }
                Some(_) => any = true,
                None => {}
            }
        }
        Ok(!any)
    }

    /// A reader for the job's slices.
    pub fn slice_reader<'a>(&'a self, store: &'a dyn Store) -> SliceReader<'a> {
        SliceReader::remembering(store, &self.slices, self.state_dir.as_deref())
    }

    /// The times of a backup of the job; `None` if no chain can begin at it.
    pub fn base(&self, id: &BackupId) -> Option<BaseInstant> {
        let found = self.found.get(id).filter(|found| found.fault_text(true).is_none())?;
        let consistency = &found.manifest.consistency;
        let (base, at) = (consistency.base.as_ref()?, consistency.at?);
        Some(BaseInstant { from: base.from.min(at), at })
    }

    /// Messages about problems that a person should look at, whatever the plan is.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.faults().map(|(id, fault)| fault.with_id(id)).collect();
        let distrusted = self.broken.iter().filter(|(_, fault)| fault.kind.is_distrust());
        problems.extend(distrusted.map(|(id, fault)| fault.with_id(id)));
        problems.extend(self.slices.untrusted().iter().cloned());
        problems.extend(self.ignored.iter().cloned());
        if self.found.is_empty() && self.halfway.is_empty() && !self.others.is_empty() {
            let others: Vec<&str> = self.others.iter().map(String::as_str).collect();
            problems.push(format!(
                "there are no backups of the job {}, only of {}, which are not deleted (--job, BACKUP_JOB)",
                self.job,
                others.join(", ")
            ));
        }
        problems
    }
}

impl FoundBackup {
    /// The message of a fault, of distrust or of another kind.
    fn fault_text(&self, distrust: bool) -> Option<String> {
        let fault = self.fault.as_ref().filter(|fault| fault.kind.is_distrust() == distrust);
        fault.map(|fault| fault.why.clone())
    }

    /// Returns true if an earlier run began to delete the backup.
    pub fn doomed(&self) -> bool {
        self.folder.contains_key(layout::TOMBSTONE)
    }

    /// The tombstone with which the deletion of the backup begins.
    pub fn tombstone(&self, id: &BackupId, job: &str, now: DateTime<Utc>, reason: &str) -> Tombstone {
        let mut keys = vec![layout::manifest(id), self.manifest.index.key.clone()];
        if self.accepted || self.folder.contains_key(layout::ACCEPTED) {
            keys.push(layout::accepted(id));
        }
        let beside = self.folder.iter().filter(|(file, _)| {
            layout::is_verified(file) || *file == layout::RECOVERY || layout::is_signature(file)
        });
        keys.extend(beside.map(|(_, object)| object.key.clone()));
        keys.push(self.manifest.artifact.key.clone());
        let (job, reason) = (job.into(), reason.into());
        Tombstone { format: marks::FORMAT, id: id.clone(), job, at: now, reason, keys }
    }
}
