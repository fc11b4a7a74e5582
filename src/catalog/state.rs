//! What there is in the store: one listing, every manifest, and the tombstones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::base::error::Result;
use crate::catalog::collapse::Contents;
use crate::catalog::fault::BackupFault;
use crate::catalog::known::MissingBackups;
use crate::catalog::marks::{self, FailedRun, Pin, Tombstone};
use crate::catalog::verdict::{Drill, Verdict, Verdicts};
use crate::catalog::{BackupFolder, Catalog, CatalogEntry, CatalogOptions, Summary, layout};
use crate::model::id::BackupId;
use crate::model::manifest::SourceServer;
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
    /// The known fault of its stored data, such as a failed verify or a missing artifact.
    pub unsound: Option<String>,
}

/// A backup of the job.
pub struct FoundBackup {
    /// Its manifest.
    pub manifest: Arc<Summary>,
    /// The objects in its folder.
    folder: BackupFolder,
    pin: Option<Pin>,
    accepted: bool,
    /// What is wrong with its stored data.
    fault: Option<BackupFault>,
    /// The last drill with it.
    drill: Option<Drill>,
}

/// The store, as far as a clean-up of one job is concerned.
pub struct StoreState {
    job: String,
    found: BTreeMap<BackupId, FoundBackup>,
    /// Manifests that cannot be understood: of which job they are is not known.
    broken: BTreeMap<BackupId, BackupFault>,
    /// Backups whose manifests are in an archive class, of any job. They are neither counted nor deleted.
    pub archived: Vec<BackupId>,
    /// Other jobs that have backups here.
    pub others: BTreeSet<String>,
    /// Deletions of this job that were begun, and whose manifest is gone; and whether the backup is pinned.
    pub halfway: Vec<(Tombstone, bool)>,
    /// Folders with neither manifest nor tombstone.
    pub bare: BTreeMap<BackupId, BackupFolder>,
    /// Runs that are said to have failed, of any job, and what is said; of one that cannot be understood, why.
    pub failed: Vec<(BackupId, Result<FailedRun, String>)>,
    /// What could not be understood.
    pub unreadable: Vec<String>,
    /// Backups that are known of the place, and not there.
    pub absent: Option<MissingBackups>,
    /// Results of verifies that are dated in the future.
    future: Vec<String>,
}

impl StoreState {
    /// Reads all of it.
    ///
    /// # Errors
    /// If the store does not answer. What it holds and cannot be understood is in `unreadable`.
    pub async fn read(store: &dyn Store, job: &str, reading: &CatalogOptions) -> Result<StoreState> {
        let catalog = Catalog::read(store, reading).await?;
        let listed = catalog.existing();
        let said = catalog.folders().iter().filter(|(_, folder)| folder.contains_key(layout::FAILED));
        let said: Vec<BackupId> = said.map(|(id, _)| id.clone()).collect();
        let mut state = StoreState {
            job: job.into(),
            found: BTreeMap::new(),
            broken: BTreeMap::new(),
            archived: Vec::new(),
            others: BTreeSet::new(),
            halfway: Vec::new(),
            bare: BTreeMap::new(),
            failed: catalog.failures(&said).await?,
            unreadable: Vec::new(),
            // The older ones may have gone by the clean-up of another machine.
            absent: catalog.absent.clone().filter(|absent| absent.newest),
            future: Vec::new(),
        };
        // What is concluded from a place that may be another one could delete what is left.
        state
            .unreadable
            .extend(state.absent.iter().map(|absent| format!("{}; {}", absent.words(), absent.step())));
        let mut verdicts = catalog.verdicts(&listed).await?;
        let mut pins = catalog.pins(&listed).await?;
        let entries = catalog.summaries(&listed).await?;
        catalog.save();
        let mut folders = catalog.into_folders();
        for entry in entries {
            let folder = folders.remove(entry.id()).unwrap_or_default();
            let (verdicts, pin) = (verdicts.remove(entry.id()), pins.remove(entry.id()));
            state.add(entry, folder, pin, verdicts.unwrap_or_default());
        }
        // What was listed with a manifest and has none now another clean-up deletes at this moment.
        for id in &listed {
            folders.remove(id);
        }
        for (id, folder) in folders {
            if !folder.contains_key(layout::TOMBSTONE) {
                state.bare.insert(id, folder);
                continue;
            }
            match Tombstone::read(store, &id).await? {
                Some(Ok(tombstone)) if tombstone.job == job => {
                    state.halfway.push((tombstone, folder.contains_key(layout::PIN)));
                }
                Some(Ok(_)) | None => {}
                Some(Err(why)) => state.unreadable.push(why),
            }
        }
        Ok(state)
    }

    fn add(&mut self, entry: CatalogEntry, folder: BackupFolder, pin: Option<Pin>, verdicts: Verdicts) {
        let manifest = match entry {
            CatalogEntry::Backup(manifest) => manifest,
            CatalogEntry::Damaged { id, key, why } => {
                let fault = BackupFault::unreadable(&key, &why);
                self.unreadable.push(fault.why.clone());
                self.broken.insert(id, fault);
                return;
            }
            CatalogEntry::Archived { id, .. } => return self.archived.push(id),
        };
        if manifest.job != self.job {
            self.others.insert(manifest.job.clone());
            return;
        }
        let accepted = folder.contains_key(layout::ACCEPTED);
        self.future.extend(verdicts.future);
        let verdict: Option<Verdict> =
            verdicts.newest.and_then(|verdict| verdict.map_err(|why| self.unreadable.push(why)).ok());
        let fault = BackupFault::of(&manifest, &folder, verdict.as_ref());
        let drill = verdict.and_then(|verdict| verdict.drill);
        self.found.insert(manifest.id.clone(), FoundBackup { manifest, folder, pin, accepted, fault, drill });
    }

    /// Notes that a person found a backup right; `false` if there is no such backup.
    pub fn accept(&mut self, id: &BackupId) -> bool {
        self.found.get_mut(id).map(|found| found.accepted = true).is_some()
    }

    /// A backup that the plan speaks of.
    pub fn found(&self, id: &BackupId) -> &FoundBackup {
        &self.found[id]
    }

    /// The manifests of the job's backups, oldest first.
    pub fn manifests(&self) -> impl Iterator<Item = &Summary> {
        self.found.values().map(|found| &*found.manifest)
    }

    /// The manifest of the newest backup.
    pub fn newest(&self) -> Option<&Summary> {
        self.found.values().next_back().map(|found| &*found.manifest)
    }

    /// The last drill with each backup of the job that had one, newest first.
    pub fn drills(&self) -> Vec<(&BackupId, &Drill)> {
        let drills = self.found.iter().filter_map(|(id, found)| Some((id, found.drill.as_ref()?)));
        let mut drills: Vec<_> = drills.collect();
        drills.sort_by_key(|(_, drill)| std::cmp::Reverse(drill.at));
        drills
    }

    /// The manifests that cannot be understood, of any job.
    pub fn broken(&self) -> &BTreeMap<BackupId, BackupFault> {
        &self.broken
    }

    /// Results of verifies of the job's backups that are dated in the future, a line each.
    pub fn future(&self) -> &[String] {
        &self.future
    }

    /// What is wrong with the backups of the job that are not as they should be.
    pub fn faults(&self) -> impl Iterator<Item = (&BackupId, &BackupFault)> {
        self.found.iter().filter_map(|(id, found)| Some((id, found.fault.as_ref()?)))
    }

    /// The backups, of any job, of which all is there but the manifest.
    pub fn lost(&self, now: DateTime<Utc>) -> Vec<(&BackupId, BackupFault)> {
        self.bare.iter().filter_map(|(id, folder)| Some((id, BackupFault::bare(folder, now)?))).collect()
    }

    /// The backups of the job, as retention wants them.
    pub fn backups(&self) -> Vec<RetainedBackup> {
        let backup = |found: &FoundBackup| RetainedBackup {
            id: found.manifest.id.clone(),
            job: found.manifest.job.clone(),
            started: found.manifest.started_at,
            contents: Contents::of_summary(&found.manifest),
            source: found.manifest.source.clone(),
            pinned: found.pin.clone(),
            accepted: found.accepted,
            unsound: found.fault.as_ref().map(|fault| fault.why.clone()),
        };
        self.found.values().map(backup).collect()
    }

    /// What a person should look at, whatever the plan is.
    pub fn problems(&self) -> Vec<String> {
        let mut problems: Vec<String> = self.faults().map(|(id, fault)| fault.of_backup(id)).collect();
        problems.extend(self.future.iter().cloned());
        if self.found.is_empty() && self.halfway.is_empty() && !self.others.is_empty() {
            let others: Vec<&str> = self.others.iter().map(String::as_str).collect();
            problems.push(format!(
                "there are no backups of the job {}, only of {}: nothing of those goes (--job, BACKUP_JOB)",
                self.job,
                others.join(", ")
            ));
        }
        problems
    }
}

impl FoundBackup {
    /// Whether an earlier run began to delete it.
    pub fn doomed(&self) -> bool {
        self.folder.contains_key(layout::TOMBSTONE)
    }

    /// What its deletion begins with.
    pub fn tombstone(&self, id: &BackupId, job: &str, now: DateTime<Utc>, reason: &str) -> Tombstone {
        let mut keys = vec![layout::manifest(id), self.manifest.index.key.clone()];
        if self.accepted {
            keys.push(layout::accepted(id));
        }
        let verdicts = self.folder.iter().filter(|(file, _)| layout::is_verified(file));
        keys.extend(verdicts.map(|(_, object)| object.key.clone()));
        keys.push(self.manifest.artifact.key.clone());
        let (job, reason) = (job.into(), reason.into());
        Tombstone { format: marks::FORMAT, id: id.clone(), job, at: now, reason, keys }
    }
}
