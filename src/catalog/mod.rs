//! The backups of a store. The manifests in the store decide which backups exist. [`records`] in MongoDB are a cache of
//! this, and [`history`] joins both.

pub mod chain;
pub mod choose;
pub mod compare;
pub mod fault;
pub mod history;
pub mod layout;
pub mod marks;
pub mod place_files;
pub mod point;
pub mod ranges;
pub mod reach;
pub mod records;
pub mod run;
pub mod slice_reader;
pub mod slowdown;
pub mod state;
pub mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::artifact::seal::seal;
use crate::base::error::{Error, Result};
use crate::base::keys::Recipients;
use crate::model::id::BackupId;
use crate::model::index::Index;
use crate::model::manifest;
use crate::model::manifest::{IndexObject, Manifest};
use crate::store::{self, Store, StoreErrorKind, StoredObject};
use chain::JobSlices;
use compare::{EntryAmount, NamespaceAmounts};
use marks::{FailedRun, Mark, Pin};
use place_files::{CACHE, Cache, CachedContent, KnownBackups, MissingBackups};
use verdict::{Verdict, Verdicts};

/// The number of objects that are fetched at once.
const FETCHING: usize = 16;
/// The KiB of manifests that are fetched at once. A larger manifest is fetched alone.
const FETCHED_KIB: u32 = 4 << 10;

/// A manifest with only the amounts of its namespaces.
pub type Summary = Manifest<NamespaceAmounts>;

/// The object under the key of a manifest.
#[derive(Debug)]
pub enum CatalogEntry<M = Arc<Summary>> {
    Backup(M),
    /// A manifest that cannot be decoded.
    Damaged {
        /// The backup's id, from the key.
        id: BackupId,
        /// The key of the manifest.
        key: String,
        why: String,
    },
    /// A manifest in an archive class of the bucket, which cannot be read now. The backup's job is unknown.
    Archived {
        id: BackupId,
        key: String,
        /// The class, and how to thaw the manifest.
        why: String,
    },
}

impl CatalogEntry {
    pub fn id(&self) -> &BackupId {
        match self {
            CatalogEntry::Backup(manifest) => &manifest.id,
            CatalogEntry::Damaged { id, .. } | CatalogEntry::Archived { id, .. } => id,
        }
    }

    /// Returns the start of the backup: to the second if only the id is known.
    pub fn started(&self) -> DateTime<Utc> {
        match self {
            CatalogEntry::Backup(manifest) => manifest.started_at,
            CatalogEntry::Damaged { id, .. } | CatalogEntry::Archived { id, .. } => id.started(),
        }
    }
}

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
}

impl CatalogOptions {
    /// Options that use and update the files in this state directory, if there is one.
    pub fn remembering(state_dir: Option<PathBuf>, now: DateTime<Utc>) -> CatalogOptions {
        CatalogOptions { state_dir, now, recorded: BTreeSet::new() }
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

    /// The oplog slices of a job.
    pub fn slices(&self, job: &str) -> JobSlices {
        JobSlices::of(job, self.oplog.iter().cloned())
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
        if let Some(CachedContent::Backup(summary)) = self.cache().get(object) {
            return Ok(Some(CatalogEntry::Backup(summary)));
        }
        let size = u32::try_from(object.size >> 10).unwrap_or(u32::MAX).clamp(1, FETCHED_KIB);
        let _room =
            self.room.acquire_many(size).await.map_err(|e| Error::failed("no memory").caused_by(e))?;
        let summary = |manifest: Manifest<Vec<EntryAmount>>| {
            let mut cache = self.cache();
            let amounts = |entries: Vec<EntryAmount>| entries.into_iter().map(|entry| entry.0).collect();
            let summary = Arc::new(cache.share(manifest.map_namespaces(amounts)));
            cache.put(object, CachedContent::Backup(summary.clone()));
            summary
        };
        fetch(self.store, id, summary).await
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
        if let Some(CachedContent::Verdict(verdict)) = self.cache().get(object) {
            return Ok(Some(Ok(verdict)));
        }
        let found = Verdict::read(self.store, id, &object.key).await?;
        if let Some(Ok(verdict)) = &found {
            self.cache().put(object, CachedContent::Verdict(verdict.clone()));
        }
        Ok(found)
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

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the known backups that are missing in the store. If none is missing, the state directory is updated.
pub async fn missing_backups(store: &dyn Store, options: &CatalogOptions) -> Result<Option<MissingBackups>> {
    Ok(compare_with_known(&store.place(), &folders(store).await?, options))
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
    let expected = expected.iter().filter(|id| !is_deleted(id)).cloned().collect();
    let missing = MissingBackups::find(place, &expected, &here, options.now);
    if missing.is_none() {
        KnownBackups::update(state_dir, place, |known| known.backups = here);
    }
    missing
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

/// Reads the manifest of a backup. Returns `None` if it does not exist: another host may have deleted the backup since
/// the listing.
pub async fn find(store: &dyn Store, id: &BackupId) -> Result<Option<CatalogEntry<Box<Manifest>>>> {
    fetch(store, id, Box::new).await
}

async fn fetch<N: DeserializeOwned, M>(
    store: &dyn Store,
    id: &BackupId,
    wrap: impl FnOnce(Manifest<N>) -> M,
) -> Result<Option<CatalogEntry<M>>> {
    let (id, key) = (id.clone(), layout::manifest(id));
    let entry = match store.get(&key, manifest::LARGEST).await {
        Ok(bytes) => match decode(&id, &bytes) {
            Ok(manifest) => CatalogEntry::Backup(wrap(manifest)),
            Err(why) => CatalogEntry::Damaged { id, key, why },
        },
        Err(e) => match e.kind {
            StoreErrorKind::NotFound => return Ok(None),
            StoreErrorKind::Damaged => CatalogEntry::Damaged { id, key, why: e.cause },
            StoreErrorKind::Archived => CatalogEntry::Archived { id, key, why: e.reason() },
            _ => return Err(e.into()),
        },
    };
    Ok(Some(entry))
}

/// Decodes a manifest. It may name only objects in its own folder, because these are read, and deleted with the backup.
fn decode<N: DeserializeOwned>(id: &BackupId, bytes: &[u8]) -> Result<Manifest<N>, String> {
    let manifest: Manifest<N> = manifest::decode(bytes)?;
    if manifest.id != *id {
        return Err(format!("it is the manifest of the backup {}", manifest.id));
    }
    let own = |key: &str| store::is_key(key) && layout::parse(key).is_some_and(|(folder, _)| folder == *id);
    if let Some(key) = [&manifest.artifact.key, &manifest.index.key].into_iter().find(|key| !own(key)) {
        return Err(format!("it names {key:?}, which is not in its folder"));
    }
    Ok(manifest)
}

/// Writes the index, encrypted if there are recipients. Returns its description for the manifest.
pub async fn put_index(
    store: &dyn Store,
    id: &BackupId,
    index: &Index,
    recipients: Option<&Recipients>,
) -> Result<IndexObject> {
    let (key, plain) = (layout::index(id, recipients.is_some()), index.encode()?);
    let bytes = match recipients {
        Some(recipients) => seal(recipients, &plain)?,
        None => plain,
    };
    let (size, blake3) = (bytes.len() as u64, blake3::hash(&bytes).to_hex().to_string());
    store.create(&key, Bytes::from(bytes)).await?;
    Ok(IndexObject { key, size, blake3 })
}

/// Writes the commands that restore an encrypted backup without this tool.
pub async fn put_recovery(store: &dyn Store, id: &BackupId, text: String) -> Result<()> {
    store.create(&layout::recovery(id), Bytes::from(text)).await?;
    Ok(())
}

/// Writes the manifest. With this, the backup exists.
pub async fn commit(store: &dyn Store, manifest: &Manifest) -> Result<()> {
    store.create(&layout::manifest(&manifest.id), Bytes::from(manifest.encode()?)).await?;
    Ok(())
}
