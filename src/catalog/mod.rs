//! The backups of a store. The manifests in the store decide which backups exist. [`records`] in MongoDB are a cache of
//! this, and [`history`] joins both.

pub mod chain;
pub mod choose;
pub mod compare;
mod entry;
pub mod fault;
pub mod history;
pub mod layout;
pub mod marks;
pub mod objects;
pub mod place_files;
pub mod point;
pub mod ranges;
pub mod reach;
pub mod records;
pub mod run;
pub mod scheduled;
pub mod slice_reader;
pub mod slowdown;
pub mod state;
pub mod trust;
pub mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

use crate::base::error::{Error, Result};
use crate::base::minisign::PublicKey;
use crate::model::id::BackupId;
use crate::model::manifest::Manifest;
use crate::store::{Store, StoredObject};
use chain::JobSlices;
use compare::{EntryAmount, NamespaceAmounts};
pub use entry::{CatalogEntry, find, is_manifest_of};
use entry::{fetch, judge};
use marks::{FailedRun, Mark, Pin};
use place_files::{CACHE, Cache, CachedContent, KnownBackups, MissingBackups, ValidSignature};
use trust::{Distrust, Trust};
use verdict::{Verdict, Verdicts};

/// The number of objects that are fetched at once.
const FETCHING: usize = 16;
/// The KiB of manifests that are fetched at once. A larger manifest is fetched alone.
const FETCHED_KIB: u32 = 4 << 10;

/// The key that signed an object, `None` if there are no trusted keys; or why the object is not trusted.
type Signed = Result<Option<PublicKey>, Distrust>;

/// A manifest with only the amounts of its namespaces.
pub type Summary = Manifest<NamespaceAmounts>;

/// The listed objects in the folder of a backup or failed run, by file name.
pub type BackupFolder = BTreeMap<String, StoredObject>;

/// Options for reading the backups of a place.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// The directory with the cache and the known backups; `None` for neither.
    pub state_dir: Option<PathBuf>,
    /// The machine's time.
    pub now: DateTime<Utc>,
    /// The backups of the place according to the records, for a state directory that does not know the place.
    pub recorded: BTreeSet<BackupId>,
    /// Which objects count.
    pub trust: Trust,
}

impl CatalogOptions {
    /// Options that use and update the files in this state directory, if there is one.
    pub fn remembering(
        state_dir: Option<PathBuf>,
        now: DateTime<Utc>,
        trust: impl Into<Trust>,
    ) -> CatalogOptions {
        CatalogOptions { state_dir, now, recorded: BTreeSet::new(), trust: trust.into() }
    }
}

/// The folders of a store from one listing, and a reader for the objects in them. An object is read once, also over
/// several runs, until it changes ([`Cache`]).
pub struct Catalog<'a> {
    store: &'a dyn Store,
    options: CatalogOptions,
    folders: BTreeMap<BackupId, BackupFolder>,
    /// The listed objects of oplog slices, of any job.
    oplog: Vec<StoredObject>,
    cache: Mutex<Cache>,
    /// Limits the memory for objects that are being read.
    room: Semaphore,
    missing: Option<MissingBackups>,
}

impl<'a> Catalog<'a> {
    /// Lists a store, and loads the cache of its objects.
    pub async fn read(store: &'a dyn Store, options: &CatalogOptions) -> Result<Catalog<'a>> {
        let (listed, place) = (store.list("").await?, store.place());
        let (oplog, listed): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|object| layout::is_of_slices(&object.key));
        let folders = in_folders(listed);
        let listed = |key: &str| {
            let (id, file) = layout::parse(key)?;
            folders.get(&id)?.get(file)
        };
        let cache = Mutex::new(Cache::load(options.state_dir.as_deref(), &place, CACHE, listed));
        let missing = compare_with_known(&place, &folders, options);
        let room = Semaphore::new(FETCHED_KIB as usize);
        Ok(Catalog { store, options: options.clone(), folders, oplog, cache, room, missing })
    }

    /// All folders. Objects that belong to no backup are left out.
    pub fn folders(&self) -> &BTreeMap<BackupId, BackupFolder> {
        &self.folders
    }

    /// Known backups that are missing.
    pub fn missing(&self) -> Option<&MissingBackups> {
        self.missing.as_ref()
    }

    /// The oplog slices of a job.
    pub fn slices(&self, job: &str) -> JobSlices {
        JobSlices::of(job, self.oplog.iter().cloned())
    }

    /// The trusted oplog slices of a job.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn trusted_slices(&self, job: &str) -> Result<JobSlices> {
        let CatalogOptions { trust, state_dir, .. } = &self.options;
        slice_reader::trusted(self.store, self.slices(job), trust, state_dir.as_deref()).await
    }

    /// The store that was listed.
    pub fn store(&self) -> &'a dyn Store {
        self.store
    }

    /// The ids of the backups that have a manifest, newest first.
    pub fn existing(&self) -> Vec<BackupId> {
        existing(&self.folders)
    }

    /// Returns the summaries of these backups, in this order, without the backups that a cleanup has deleted since the
    /// listing.
    ///
    /// # Errors
    /// Returns an error if a manifest cannot be fetched. A manifest that is fetched and cannot be decoded is
    /// [`CatalogEntry::Damaged`].
    pub async fn summaries(&self, ids: &[BackupId]) -> Result<Vec<CatalogEntry>> {
        let found = self.read_each(ids, layout::MANIFEST, |id, object| self.summary(id, object));
        Ok(found.await?.into_iter().filter_map(|(_, entry)| entry).collect())
    }

    async fn summary(&self, id: &BackupId, object: &StoredObject) -> Result<Option<CatalogEntry>> {
        let trust = &self.options.trust;
        let known = (self.cached(object), self.known_signature(id, object));
        if let (Some(CachedContent::Backup(summary)), Some(signed)) = known {
            return Ok(Some(judge(id, Ok(summary), signed, trust)));
        }
        let size = u32::try_from(object.size >> 10).unwrap_or(u32::MAX).clamp(1, FETCHED_KIB);
        let _room =
            self.room.acquire_many(size).await.map_err(|e| Error::failed("no memory").caused_by(e))?;
        let Some((found, signed)) = fetch(self.store, id, trust).await? else { return Ok(None) };
        let found = found.map(|manifest: Manifest<Vec<EntryAmount>>| {
            let amounts = |entries: Vec<EntryAmount>| entries.into_iter().map(|entry| entry.0).collect();
            Arc::new(self.cache().share(manifest.map_namespaces(amounts)))
        });
        match &found {
            CatalogEntry::Backup(summary)
            | CatalogEntry::Untrusted { manifest: Some(summary), why: Distrust::Unsigned, .. } => {
                self.cache().put(object, CachedContent::Backup(summary.clone()));
                self.remember_signature(id, object, signed);
            }
            _ => {}
        }
        Ok(Some(found))
    }

    /// The signature of a listed object as far as the listing and the cache show it; `None` if it must be checked.
    fn known_signature(&self, id: &BackupId, object: &StoredObject) -> Option<Signed> {
        if self.options.trust.is_off() {
            return Some(Ok(None));
        }
        let Some(signature) = self.signature_of(id, object) else { return Some(Err(Distrust::Unsigned)) };
        let Some(CachedContent::Signature(valid)) = self.cached(signature) else { return None };
        let trusted = valid.is_of(object) && self.options.trust.has(&valid.key);
        trusted.then(|| valid.key.parse().map(Some).map_err(Distrust::Wrong))
    }

    fn remember_signature(&self, id: &BackupId, object: &StoredObject, key: Option<PublicKey>) {
        let valid = key.and_then(|key| ValidSignature::new(object, &key));
        if let Some((signature, valid)) = self.signature_of(id, object).zip(valid) {
            self.cache().put(signature, CachedContent::Signature(valid));
        }
    }

    /// The listed signature of a listed object.
    fn signature_of(&self, id: &BackupId, object: &StoredObject) -> Option<&StoredObject> {
        let (_, file) = layout::parse(&object.key)?;
        self.folders.get(id)?.get(&layout::signature(file))
    }

    /// Returns the records of these failed runs, in this order, or the reason why a record cannot be used.
    pub async fn failures(&self, ids: &[BackupId]) -> Result<Vec<(BackupId, Result<FailedRun, String>)>> {
        let read = async |id: &BackupId, object: &StoredObject| {
            if let Some(CachedContent::Failure(failure)) = self.cache().get(object) {
                return Ok(Some(Ok(failure)));
            }
            let found = FailedRun::read(self.store, id).await?;
            if let Some(Ok(failure)) = &found {
                self.cache().put(object, CachedContent::Failure(failure.clone()));
            }
            Ok(found)
        };
        let found = self.read_each(ids, layout::FAILED, read).await?;
        Ok(found.into_iter().filter_map(|(id, failure)| Some((id, failure?))).collect())
    }

    /// Returns the results of the verifies of these backups.
    pub async fn verdicts(&self, ids: &[BackupId]) -> Result<BTreeMap<BackupId, Verdicts>> {
        let listed = ids.iter().filter(|id| self.folders.contains_key(id));
        let reading = listed.map(|id| async move { Ok((id.clone(), Verdicts::read(self, id).await?)) });
        stream::iter(reading).buffered(FETCHING).try_collect().await
    }

    async fn verdict(&self, id: &BackupId, object: &StoredObject) -> Result<Option<Result<Verdict, String>>> {
        let trust = &self.options.trust;
        let known = (self.cached(object), self.known_signature(id, object));
        if let (Some(CachedContent::Verdict(verdict)), Some(signed)) = known {
            return Ok(trust.counts(&object.key, id, Some(verdict.at), &signed).then_some(Ok(verdict)));
        }
        let Some((found, signed)) = Verdict::read(self.store, id, &object.key, trust).await? else {
            return Ok(None);
        };
        if let Ok(verdict) = &found {
            self.cache().put(object, CachedContent::Verdict(verdict.clone()));
        }
        let at = found.as_ref().ok().map(|verdict| verdict.at);
        let counts = trust.counts(&object.key, id, at, &signed);
        self.remember_signature(id, object, signed.ok().flatten());
        Ok(counts.then_some(found))
    }

    /// Returns those of the backups that a person accepted.
    pub async fn accepted(&self, ids: &[BackupId]) -> Result<BTreeSet<BackupId>> {
        let (store, trust) = (self.store, &self.options.trust);
        let read = async |id: &BackupId, _: &StoredObject| is_accepted(store, id, trust).await;
        let found = self.read_each(ids, layout::ACCEPTED, read).await?;
        Ok(found.into_iter().filter(|(_, counts)| *counts).map(|(id, _)| id).collect())
    }

    /// Returns the pins of these backups, as far as they are pinned.
    pub async fn pins(&self, ids: &[BackupId]) -> Result<BTreeMap<BackupId, Pin>> {
        let read = async |id: &BackupId, object: &StoredObject| {
            if let Some(CachedContent::Pin(pin)) = self.cache().get(object) {
                return Ok(pin);
            }
            let pin = Pin::read(self.store, id).await?;
            self.cache().put(object, CachedContent::Pin(pin.clone()));
            Ok(pin)
        };
        Ok(self.read_each(ids, layout::PIN, read).await?.into_iter().collect())
    }

    /// Reads the pin or the acceptance of a backup, by the name of its file. Returns `None` if there is none, or if it cannot
    /// be read; it still counts then.
    pub async fn mark(&self, id: &BackupId, file: &str) -> Result<Option<Mark>> {
        let Some(object) = self.folders.get(id).and_then(|folder| folder.get(file)) else { return Ok(None) };
        let mark = marks::read::<Mark>(self.store, &object.key, |_| Ok(())).await?;
        Ok(mark.and_then(Result::ok))
    }

    /// Saves the cache for later runs.
    pub fn save(&self) {
        self.cache().save();
    }

    /// Reads the object `file` of each of these backups that has it.
    async fn read_each<'b, T>(
        &'b self,
        ids: &'b [BackupId],
        file: &'static str,
        read: impl AsyncFn(&'b BackupId, &'b StoredObject) -> Result<T>,
    ) -> Result<Vec<(BackupId, T)>> {
        let listed = ids.iter().filter_map(|id| Some((id, self.folders.get(id)?.get(file)?)));
        let read = &read;
        let reading = listed.map(|(id, object)| async move { Ok((id.clone(), read(id, object).await?)) });
        stream::iter(reading).buffered(FETCHING).try_collect().await
    }

    fn cached(&self, object: &StoredObject) -> Option<CachedContent> {
        self.cache().get(object)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the known backups that are missing in the store. If none is missing, the state directory is updated.
pub async fn missing_backups(store: &dyn Store, options: &CatalogOptions) -> Result<Option<MissingBackups>> {
    Ok(compare_with_known(&store.place(), &folders(store).await?, options))
}

/// The known backups of a place that does not exist, if there are any.
pub fn missing_in_nothing(place: &str, options: &CatalogOptions) -> Option<MissingBackups> {
    compare_with_known(place, &BTreeMap::new(), options).filter(|missing| missing.newest)
}

fn compare_with_known(
    place: &str,
    folders: &BTreeMap<BackupId, BackupFolder>,
    options: &CatalogOptions,
) -> Option<MissingBackups> {
    let state_dir = options.state_dir.as_deref();
    let here: BTreeSet<BackupId> = existing(folders).into_iter().collect();
    let known = KnownBackups::load(state_dir, place).unwrap_or_default();
    let expected = if known.backups.is_empty() { &options.recorded } else { &known.backups };
    let is_deleted = |id: &BackupId| {
        let begun = folders.get(id).is_some_and(|folder| folder.contains_key(layout::TOMBSTONE));
        begun || known.deleted.contains(id)
    };
    let trusted =
        |id: &BackupId| folders.get(id).is_none_or(|folder| may_be_trusted(&options.trust, id, folder));
    let expected = expected.iter().filter(|id| !is_deleted(id) && trusted(id)).cloned().collect();
    let here = here.into_iter().filter(trusted).collect();
    let missing = MissingBackups::find(place, &expected, &here, options.now);
    if missing.is_none() {
        KnownBackups::update(state_dir, place, |known| known.backups = here);
    }
    missing
}

/// Returns false for a backup that the listing shows as untrusted: its presence and absence say nothing about the place.
fn may_be_trusted(trust: &Trust, id: &BackupId, folder: &BackupFolder) -> bool {
    let signed = || folder.contains_key(&layout::signature(layout::MANIFEST));
    trust.is_off() || trust.is_before(id.started()) || signed()
}

/// Returns true if a person accepted a backup, which has an acceptance.
///
/// # Errors
/// Returns an error if the store does not answer.
pub async fn is_accepted(store: &dyn Store, id: &BackupId, trust: &Trust) -> Result<bool> {
    if trust.is_off() {
        return Ok(true);
    }
    let key = layout::accepted(id);
    let own = |mark: &Mark| match mark.id == *id {
        true => Ok(()),
        false => Err("belongs to another backup".into()),
    };
    Ok(match marks::read_signed(store, &key, trust, own).await? {
        Some((Ok(mark), signed)) => trust.counts(&key, id, Some(mark.at), &signed),
        Some((Err(why), _)) => {
            log::warn!("{why}");
            false
        }
        None => false,
    })
}

/// Returns all folders of a store, from one listing. Objects that belong to no backup are left out.
pub async fn folders(store: &dyn Store) -> Result<BTreeMap<BackupId, BackupFolder>> {
    Ok(in_folders(store.list("").await?))
}

fn in_folders(listed: Vec<StoredObject>) -> BTreeMap<BackupId, BackupFolder> {
    let mut folders: BTreeMap<BackupId, BackupFolder> = BTreeMap::new();
    for object in listed {
        if let Some((id, file)) = layout::parse(&object.key) {
            let file = file.to_string();
            folders.entry(id).or_default().insert(file, object);
        }
    }
    folders
}

/// Returns the ids of the folders that have a manifest, newest first.
pub fn existing(folders: &BTreeMap<BackupId, BackupFolder>) -> Vec<BackupId> {
    let exists = |folder: &BackupFolder| folder.contains_key(layout::MANIFEST);
    folders.iter().rev().filter(|(_, folder)| exists(folder)).map(|(id, _)| id.clone()).collect()
}
