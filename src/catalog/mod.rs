//! The backups of a store, by their manifests: the store is the truth. [`records`] in MongoDB are a cache of
//! it, and [`history`] joins the two.

pub mod collapse;
pub mod fault;
pub mod history;
pub mod id;
pub mod identity;
pub mod layout;
pub mod marks;
pub mod reconcile;
pub mod records;
pub mod run;
pub mod verdict;

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};

use crate::artifact::index::Index;
use crate::artifact::manifest::{self, Manifest, Object};
use crate::error::Result;
use crate::store::{self, Store};
use id::BackupId;
use marks::{Failure, Pin};
use verdict::Verdict;

/// How many manifests are fetched at once.
const FETCHING: usize = 16;

/// What a manifest's key leads to.
#[derive(Debug)]
pub enum Entry {
    /// A backup.
    Backup(Box<Manifest>),
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

impl Entry {
    /// The backup's id.
    pub fn id(&self) -> &BackupId {
        match self {
            Entry::Backup(manifest) => &manifest.id,
            Entry::Damaged { id, .. } | Entry::Archived { id, .. } => id,
        }
    }

    /// When the backup began, as exactly as is known.
    pub fn started(&self) -> DateTime<Utc> {
        match self {
            Entry::Backup(manifest) => manifest.started_at,
            Entry::Damaged { id, .. } | Entry::Archived { id, .. } => id.started(),
        }
    }
}

/// The objects of a backup, or of one that never came to be: what the listing says of them, by their
/// file names.
pub type Folder = BTreeMap<String, store::Object>;

/// All folders of the store, by one listing. What belongs to no backup is left out.
pub async fn folders(store: &dyn Store) -> Result<BTreeMap<BackupId, Folder>> {
    let mut folders: BTreeMap<BackupId, Folder> = BTreeMap::new();
    for object in store.list("").await? {
        if let Some((id, file)) = layout::parse(&object.key) {
            let file = file.to_string();
            folders.entry(id).or_default().insert(file, object);
        }
    }
    Ok(folders)
}

/// The ids of all backups in the store, newest first.
pub async fn ids(store: &dyn Store) -> Result<Vec<BackupId>> {
    Ok(existing(&folders(store).await?))
}

/// The ids of those that have a manifest, newest first.
pub fn existing(folders: &BTreeMap<BackupId, Folder>) -> Vec<BackupId> {
    let exists = |folder: &Folder| folder.contains_key(layout::MANIFEST);
    folders.iter().rev().filter(|(_, folder)| exists(folder)).map(|(id, _)| id.clone()).collect()
}

/// The manifests of these backups, in their order. Those that a clean-up deletes meanwhile are left out.
///
/// # Errors
/// If one cannot be fetched. One that is fetched and cannot be understood is an [`Entry::Damaged`].
pub async fn manifests(store: &dyn Store, ids: &[BackupId]) -> Result<Vec<Entry>> {
    let answers: Vec<Result<Option<Entry>>> =
        stream::iter(ids).map(|id| find(store, id)).buffered(FETCHING).collect().await;
    answers.into_iter().filter_map(Result::transpose).collect()
}

/// The manifest of one backup, if it is still there: what was listed may be deleted since, by a clean-up
/// of another host.
pub async fn find(store: &dyn Store, id: &BackupId) -> Result<Option<Entry>> {
    match store.get(&layout::manifest(id), manifest::LARGEST).await {
        Ok(bytes) => Ok(Some(entry(id, &bytes))),
        Err(e) if e.kind == store::Kind::NotFound => Ok(None),
        Err(e) if e.kind == store::Kind::Damaged => {
            Ok(Some(Entry::Damaged { id: id.clone(), key: layout::manifest(id), why: e.cause }))
        }
        Err(e) if e.kind == store::Kind::Archived => {
            Ok(Some(Entry::Archived { id: id.clone(), key: layout::manifest(id), why: e.reason() }))
        }
        Err(e) => Err(e.into()),
    }
}

fn entry(id: &BackupId, bytes: &[u8]) -> Entry {
    let key = layout::manifest(id);
    match Manifest::decode(bytes) {
        Ok(manifest) if manifest.id == *id => Entry::Backup(Box::new(manifest)),
        Ok(manifest) => {
            let why = format!("it speaks of the backup {}", manifest.id);
            Entry::Damaged { id: id.clone(), key, why }
        }
        Err(why) => Entry::Damaged { id: id.clone(), key, why },
    }
}

/// What is said about these failed runs, in their order; of one that cannot be understood, why.
pub async fn failures(
    store: &dyn Store,
    ids: &[BackupId],
) -> Result<Vec<(BackupId, std::result::Result<Failure, String>)>> {
    let read = |id| async move { Ok((BackupId::clone(id), Failure::read(store, id).await?)) };
    let answers: Vec<Result<_>> = stream::iter(ids).map(read).buffered(FETCHING).collect().await;
    answers.into_iter().collect()
}

/// The newest result of a verify of each of these backups that has one; of one that cannot be understood, why.
pub async fn verdicts(
    store: &dyn Store,
    folders: &BTreeMap<BackupId, Folder>,
    ids: &[BackupId],
) -> Result<BTreeMap<BackupId, std::result::Result<Verdict, String>>> {
    let read =
        |(id, folder)| async move { Ok((BackupId::clone(id), Verdict::newest(store, id, folder).await?)) };
    let known = ids.iter().filter_map(|id| Some((id, folders.get(id)?)));
    let answers: Vec<Result<_>> = stream::iter(known).map(read).buffered(FETCHING).collect().await;
    let answers: Vec<_> = answers.into_iter().collect::<Result<_>>()?;
    Ok(answers.into_iter().filter_map(|(id, verdict)| Some((id, verdict?))).collect())
}

/// The pins of those of these backups that are pinned.
pub async fn pins(
    store: &dyn Store,
    folders: &BTreeMap<BackupId, Folder>,
    ids: &[BackupId],
) -> Result<BTreeMap<BackupId, Pin>> {
    let read = |id| async move { Ok((BackupId::clone(id), Pin::read(store, id).await?)) };
    let pinned = |id: &&BackupId| folders.get(*id).is_some_and(|folder| folder.contains_key(layout::PIN));
    let answers: Vec<Result<_>> =
        stream::iter(ids.iter().filter(pinned)).map(read).buffered(FETCHING).collect().await;
    answers.into_iter().collect()
}

/// Writes the index; what the manifest says of it.
pub async fn put_index(store: &dyn Store, id: &BackupId, index: &Index) -> Result<Object> {
    let key = layout::index(id);
    let bytes = index.encode()?;
    let object = Object {
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
