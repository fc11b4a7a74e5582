//! The backups of a store, by their manifests: the store is the truth. [`records`] in MongoDB are a cache of
//! it, and [`history`] joins the two.

mod cache;
pub mod choose;
pub mod collapse;
pub mod fault;
pub mod history;
pub mod identity;
pub mod known;
pub mod layout;
pub mod marks;
pub mod reconcile;
pub mod records;
pub mod run;
pub mod state;
pub mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::base::error::{Error, Result};
use crate::model::id::BackupId;
use crate::model::index::Index;
use crate::model::manifest;
use crate::model::manifest::{IndexObject, Manifest};
use crate::store::{self, Store};
use cache::{Cache, CachedContent};
use collapse::{NamespaceAmounts, StoredAmounts};
use known::{KnownBackups, MissingBackups, PlaceFile};
use marks::{FailedRun, Pin};
use verdict::{Verdict, Verdicts};

/// How many objects are fetched at once.
const FETCHING: usize = 16;
/// How many KiB of manifests are fetched at once; a larger manifest is fetched alone.
const FETCHED_KIB: u32 = 4 << 10;

/// A manifest without what only its own data is compared with: of its namespaces only the amounts.
pub type Summary = Manifest<NamespaceAmounts>;

/// What a manifest's key leads to.
#[derive(Debug)]
pub enum CatalogEntry<M = Arc<Summary>> {
    /// A backup.
    Backup(M),
    /// A manifest that cannot be understood.
    Damaged {
        /// The backup's id, from the key.
        id: BackupId,
        /// The manifest's key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A backup whose manifest is in an archive class of the bucket and cannot be read now. Its job is unknown.
    Archived {
        /// The backup's id, from the key.
        id: BackupId,
        /// The manifest's key.
        key: String,
        /// The class, and how to thaw the manifest.
        why: String,
    },
}

impl CatalogEntry {
    /// The backup's id.
    pub fn id(&self) -> &BackupId {
        match self {
            CatalogEntry::Backup(manifest) => &manifest.id,
            CatalogEntry::Damaged { id, .. } | CatalogEntry::Archived { id, .. } => id,
        }
    }

    /// When the backup began, as exactly as is known.
    pub fn started(&self) -> DateTime<Utc> {
        match self {
            CatalogEntry::Backup(manifest) => manifest.started_at,
            CatalogEntry::Damaged { id, .. } | CatalogEntry::Archived { id, .. } => id.started(),
        }
    }
}

/// The objects of a backup, or of one that never came to be: what the listing says of them, by their
/// file names.
pub type BackupFolder = BTreeMap<String, store::StoredObject>;

/// How the backups of a place are read.
#[derive(Debug, Clone)]
pub struct CatalogOptions {
    /// The directory that remembers what was read; `None`: nothing is remembered.
    pub state_dir: Option<PathBuf>,
    /// This machine's clock.
    pub now: DateTime<Utc>,
    /// The backups that records know of the place, where the state directory knows nothing of it.
    pub recorded: BTreeSet<BackupId>,
}

impl CatalogOptions {
    /// Reads all of it, and remembers nothing.
    pub fn at(now: DateTime<Utc>) -> CatalogOptions {
        CatalogOptions { state_dir: None, now, recorded: BTreeSet::new() }
    }

    /// Remembers what is read in this directory.
    pub fn remembering(state_dir: Option<PathBuf>, now: DateTime<Utc>) -> CatalogOptions {
        CatalogOptions { state_dir, ..CatalogOptions::at(now) }
    }
}

/// The folders of a store, by one listing, and a way to read the objects in them: each once as long as it does not
/// change, also by later runs ([`cache`]).
pub struct Catalog<'a> {
    store: &'a dyn Store,
    reading: CatalogOptions,
    folders: BTreeMap<BackupId, BackupFolder>,
    cache: Mutex<Cache>,
    /// Bounds what is in memory of objects that are being read.
    room: Semaphore,
    /// Backups that are known of the place, and not there.
    pub absent: Option<MissingBackups>,
}

impl<'a> Catalog<'a> {
    /// Lists a store, and reads what is remembered of it.
    pub async fn read(store: &'a dyn Store, reading: &CatalogOptions) -> Result<Catalog<'a>> {
        let (folders, place) = (folders(store).await?, store.place());
        let file = reading.state_dir.as_deref().map(|dir| PlaceFile::new(dir, &place, "cache"));
        let listed = |key: &str| {
            let (id, file) = layout::parse(key)?;
            folders.get(&id)?.get(file)
        };
        let cache = Mutex::new(Cache::load(file, &place, listed));
        let absent = compare(&place, &folders, reading);
        let room = Semaphore::new(FETCHED_KIB as usize);
        Ok(Catalog { store, reading: reading.clone(), folders, cache, room, absent })
    }

    /// All folders. What belongs to no backup is left out.
    pub fn folders(&self) -> &BTreeMap<BackupId, BackupFolder> {
        &self.folders
    }

    /// The folders alone.
    pub fn into_folders(self) -> BTreeMap<BackupId, BackupFolder> {
        self.folders
    }

    /// The ids of the backups that have a manifest, newest first.
    pub fn existing(&self) -> Vec<BackupId> {
        existing(&self.folders)
    }

    /// The summaries of these backups, in their order. Those that a clean-up deletes meanwhile are left out.
    ///
    /// # Errors
    /// If one cannot be fetched. One that is fetched and cannot be understood is an [`Entry::Damaged`].
    pub async fn summaries(&self, ids: &[BackupId]) -> Result<Vec<CatalogEntry>> {
        let found = self.all(ids, layout::MANIFEST, |id, object| self.summary(id, object));
        Ok(found.await?.into_iter().filter_map(|(_, entry)| entry).collect())
    }

    async fn summary(&self, id: &BackupId, object: &store::StoredObject) -> Result<Option<CatalogEntry>> {
        if let Some(CachedContent::Backup(summary)) = self.known(object) {
            return Ok(Some(CatalogEntry::Backup(summary)));
        }
        let size = u32::try_from(object.size >> 10).unwrap_or(u32::MAX).clamp(1, FETCHED_KIB);
        let _room =
            self.room.acquire_many(size).await.map_err(|e| Error::failed("no memory").caused_by(e))?;
        let entry = fetch::<StoredAmounts>(self.store, id).await?;
        Ok(entry.map(|entry| match entry {
            CatalogEntry::Backup(manifest) => {
                let summary = Arc::new(manifest.map_namespaces(|StoredAmounts(namespaces)| namespaces));
                match self.learn(object, CachedContent::Backup(summary)) {
                    CachedContent::Backup(summary) => CatalogEntry::Backup(summary),
                    _ => unreachable!("it stays what it is"),
                }
            }
            CatalogEntry::Damaged { id, key, why } => CatalogEntry::Damaged { id, key, why },
            CatalogEntry::Archived { id, key, why } => CatalogEntry::Archived { id, key, why },
        }))
    }

    /// The records of these failed runs, in their order; for a record that cannot be understood, the reason.
    pub async fn failures(&self, ids: &[BackupId]) -> Result<Vec<(BackupId, Result<FailedRun, String>)>> {
        let read = async |id: &BackupId, object: &store::StoredObject| {
            if let Some(CachedContent::Failure(failure)) = self.known(object) {
                return Ok(Some(Ok(Arc::unwrap_or_clone(failure))));
            }
            let found = FailedRun::read(self.store, id).await?;
            if let Some(Ok(failure)) = &found {
                self.learn(object, CachedContent::Failure(Arc::new(failure.clone())));
            }
            Ok(found)
        };
        let found = self.all(ids, layout::FAILED, read).await?;
        Ok(found.into_iter().filter_map(|(id, failure)| Some((id, failure?))).collect())
    }

    /// The results of the verifies of each of these backups.
    pub async fn verdicts(&self, ids: &[BackupId]) -> Result<BTreeMap<BackupId, Verdicts>> {
        let known = ids.iter().filter_map(|id| Some((id, self.folders.get(id)?)));
        let asked = known.map(|(id, folder)| async move {
            let found = Verdicts::read(folder, self.reading.now, |object| self.verdict(id, object)).await?;
            Ok((id.clone(), found))
        });
        stream::iter(asked).buffered(FETCHING).try_collect().await
    }

    async fn verdict(
        &self,
        id: &BackupId,
        object: &store::StoredObject,
    ) -> Result<Option<Result<Arc<Verdict>, String>>> {
        if let Some(CachedContent::Verdict(verdict)) = self.known(object) {
            return Ok(Some(Ok(verdict)));
        }
        let found = Verdict::read(self.store, id, &object.key).await?;
        Ok(found.map(|found| {
            let verdict = Arc::new(found?);
            self.learn(object, CachedContent::Verdict(verdict.clone()));
            Ok(verdict)
        }))
    }

    /// The pins of those of these backups that are pinned.
    pub async fn pins(&self, ids: &[BackupId]) -> Result<BTreeMap<BackupId, Pin>> {
        let read = async |id: &BackupId, object: &store::StoredObject| {
            if let Some(CachedContent::Pin(pin)) = self.known(object) {
                return Ok(pin);
            }
            let pin = Pin::read(self.store, id).await?;
            self.learn(object, CachedContent::Pin(pin.clone()));
            Ok(pin)
        };
        Ok(self.all(ids, layout::PIN, read).await?.into_iter().collect())
    }

    /// Keeps what was read for later runs.
    pub fn save(&self) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).save();
    }

    /// Reads the object of this file name of each of these backups that has one.
    async fn all<'b, T>(
        &'b self,
        ids: &'b [BackupId],
        file: &'static str,
        read: impl AsyncFn(&'b BackupId, &'b store::StoredObject) -> Result<T>,
    ) -> Result<Vec<(BackupId, T)>> {
        let named = ids.iter().filter_map(|id| Some((id, self.folders.get(id)?.get(file)?)));
        let read = &read;
        let asked = named.map(|(id, object)| async move { Ok((id.clone(), read(id, object).await?)) });
        stream::iter(asked).buffered(FETCHING).try_collect().await
    }

    fn known(&self, object: &store::StoredObject) -> Option<CachedContent> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(object)
    }

    fn learn(&self, object: &store::StoredObject, what: CachedContent) -> CachedContent {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).put(object, what)
    }
}

/// The backups that are known of a store, and not there; what is known is brought up to date where none is missing.
pub async fn absent(store: &dyn Store, reading: &CatalogOptions) -> Result<Option<MissingBackups>> {
    Ok(compare(&store.place(), &folders(store).await?, reading))
}

fn compare(
    place: &str,
    folders: &BTreeMap<BackupId, BackupFolder>,
    reading: &CatalogOptions,
) -> Option<MissingBackups> {
    let state_dir = reading.state_dir.as_deref();
    let here: BTreeSet<BackupId> = existing(folders).into_iter().collect();
    let known = KnownBackups::load(state_dir, place).unwrap_or_default();
    let expected = if known.backups.is_empty() { &reading.recorded } else { &known.backups };
    // A clean-up deleted it, or has begun to.
    let going = |id: &BackupId| {
        let begun = folders.get(id).is_some_and(|folder| folder.contains_key(layout::TOMBSTONE));
        begun || known.deleted.contains(id)
    };
    let expected = expected.iter().filter(|id| !going(id)).cloned().collect();
    let absent = MissingBackups::of(place, &expected, &here, reading.now);
    if absent.is_none() {
        KnownBackups::update(state_dir, place, |known| known.backups = here);
    }
    absent
}

/// All folders of the store, by one listing. What belongs to no backup is left out.
pub async fn folders(store: &dyn Store) -> Result<BTreeMap<BackupId, BackupFolder>> {
    let mut folders: BTreeMap<BackupId, BackupFolder> = BTreeMap::new();
    for object in store.list("").await? {
        if let Some((id, file)) = layout::parse(&object.key) {
            let file = file.to_string();
            folders.entry(id).or_default().insert(file, object);
        }
    }
    Ok(folders)
}

/// The ids of those that have a manifest, newest first.
pub fn existing(folders: &BTreeMap<BackupId, BackupFolder>) -> Vec<BackupId> {
    let exists = |folder: &BackupFolder| folder.contains_key(layout::MANIFEST);
    folders.iter().rev().filter(|(_, folder)| exists(folder)).map(|(id, _)| id.clone()).collect()
}

/// The manifest of one backup, if it is still there: what was listed may be deleted since, by a clean-up
/// of another host.
pub async fn find(store: &dyn Store, id: &BackupId) -> Result<Option<CatalogEntry<Box<Manifest>>>> {
    fetch(store, id).await
}

async fn fetch<N: DeserializeOwned>(
    store: &dyn Store,
    id: &BackupId,
) -> Result<Option<CatalogEntry<Box<Manifest<N>>>>> {
    let key = layout::manifest(id);
    match store.get(&key, manifest::LARGEST).await {
        Ok(bytes) => Ok(Some(entry(id, &bytes))),
        Err(e) if e.kind == store::StoreErrorKind::NotFound => Ok(None),
        Err(e) if e.kind == store::StoreErrorKind::Damaged => {
            Ok(Some(CatalogEntry::Damaged { id: id.clone(), key, why: e.cause }))
        }
        Err(e) if e.kind == store::StoreErrorKind::Archived => {
            Ok(Some(CatalogEntry::Archived { id: id.clone(), key: layout::manifest(id), why: e.reason() }))
        }
        Err(e) => Err(e.into()),
    }
}

fn entry<N: DeserializeOwned>(id: &BackupId, bytes: &[u8]) -> CatalogEntry<Box<Manifest<N>>> {
    let damaged = |why| CatalogEntry::Damaged { id: id.clone(), key: layout::manifest(id), why };
    let manifest: Manifest<N> = match manifest::decode(bytes) {
        Ok(manifest) => manifest,
        Err(why) => return damaged(why),
    };
    if manifest.id != *id {
        return damaged(format!("it speaks of the backup {}", manifest.id));
    }
    // What a manifest names is read, and deleted with the backup: it may name its own folder only.
    let keys = [&manifest.artifact.key, &manifest.index.key];
    let own = |key: &str| store::is_key(key) && layout::parse(key).is_some_and(|(of, _)| of == *id);
    let foreign = keys.into_iter().find(|key| !own(key));
    match foreign.map(|key| format!("it names {key:?}, which is not in its folder")) {
        Some(why) => damaged(why),
        None => CatalogEntry::Backup(Box::new(manifest)),
    }
}

/// Writes the index; what the manifest says of it.
pub async fn put_index(store: &dyn Store, id: &BackupId, index: &Index) -> Result<IndexObject> {
    let key = layout::index(id);
    let bytes = index.encode()?;
    let object = IndexObject {
        key: key.clone(),
        size: bytes.len() as u64,
        blake3: blake3::hash(&bytes).to_hex().to_string(),
    };
    store.create(&key, Bytes::from(bytes)).await?;
    Ok(object)
}

/// Writes the manifest: from now on the backup exists.
pub async fn commit(store: &dyn Store, manifest: &Manifest) -> Result<()> {
    store.create(&layout::manifest(&manifest.id), Bytes::from(manifest.encode()?)).await?;
    Ok(())
}
