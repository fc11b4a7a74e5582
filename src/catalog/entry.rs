//! The entries of a catalog: the manifests of a store, and whether each is that of a backup, damaged, archived or untrusted.

use std::borrow::Borrow;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::trust::{Distrust, Trust};
use super::{Signed, Summary, layout};
use crate::base::error::Result;
use crate::base::minisign::PublicKey;
use crate::model::id::BackupId;
use crate::model::manifest;
use crate::model::manifest::Manifest;
use crate::store::{self, Store, StoreErrorKind};

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
    /// A manifest without a valid signature, although there are trusted keys: anybody may have written it.
    Untrusted {
        id: BackupId,
        /// `None` if the manifest cannot be decoded.
        manifest: Option<M>,
        why: Distrust,
    },
}

impl<M> CatalogEntry<M> {
    /// Replaces the manifest.
    pub(super) fn map<T>(self, map: impl FnOnce(M) -> T) -> CatalogEntry<T> {
        match self {
            CatalogEntry::Backup(manifest) => CatalogEntry::Backup(map(manifest)),
            CatalogEntry::Damaged { id, key, why } => CatalogEntry::Damaged { id, key, why },
            CatalogEntry::Archived { id, key, why } => CatalogEntry::Archived { id, key, why },
            CatalogEntry::Untrusted { id, manifest, why } => {
                CatalogEntry::Untrusted { id, manifest: manifest.map(map), why }
            }
        }
    }
}

impl CatalogEntry {
    pub fn id(&self) -> &BackupId {
        match self {
            CatalogEntry::Backup(manifest) => &manifest.id,
            CatalogEntry::Damaged { id, .. }
            | CatalogEntry::Archived { id, .. }
            | CatalogEntry::Untrusted { id, .. } => id,
        }
    }

    /// Returns the start of the backup: to the second if only the id is known.
    pub fn started(&self) -> DateTime<Utc> {
        match self {
            CatalogEntry::Backup(manifest) | CatalogEntry::Untrusted { manifest: Some(manifest), .. } => {
                manifest.started_at
            }
            CatalogEntry::Damaged { id, .. }
            | CatalogEntry::Archived { id, .. }
            | CatalogEntry::Untrusted { id, .. } => id.started(),
        }
    }
}

/// Reads the manifest of a backup. Returns `None` if it does not exist: another host may have deleted the backup since
/// the listing.
pub async fn find(
    store: &dyn Store,
    id: &BackupId,
    trust: &Trust,
) -> Result<Option<CatalogEntry<Box<Manifest>>>> {
    Ok(fetch(store, id, trust).await?.map(|(entry, _)| entry.map(Box::new)))
}

/// Reads a manifest and its signature. Returns the key that signed it, too.
pub(super) async fn fetch<N: DeserializeOwned>(
    store: &dyn Store,
    id: &BackupId,
    trust: &Trust,
) -> Result<Option<(CatalogEntry<Manifest<N>>, Option<PublicKey>)>> {
    let key = layout::manifest(id);
    let entry = match store.get(&key, manifest::LARGEST).await {
        Ok(bytes) => {
            let signed = trust.check(store, &layout::signature(&key), &bytes).await?;
            let by = signed.as_ref().ok().cloned().flatten();
            return Ok(Some((judge(id, decode(id, &bytes), signed, trust), by)));
        }
        Err(e) => match e.kind {
            StoreErrorKind::NotFound => return Ok(None),
            StoreErrorKind::Damaged => judge(id, Err(Undecoded::Damaged(e.cause)), trust.unread(), trust),
            StoreErrorKind::Archived => CatalogEntry::Archived { id: id.clone(), key, why: e.reason() },
            _ => return Err(e.into()),
        },
    };
    Ok(Some((entry, None)))
}

/// Returns true if these bytes are a manifest of this backup, also in a format that only a newer version knows.
pub fn is_manifest_of(id: &BackupId, bytes: &[u8]) -> bool {
    !matches!(decode::<IgnoredAny>(id, bytes), Err(Undecoded::Damaged(_)))
}

/// Why a manifest cannot be decoded.
pub(super) enum Undecoded {
    /// It is no manifest of this backup.
    Damaged(String),
    /// It is a manifest of this backup, in a format that only a newer version knows.
    Newer(String),
}

/// Decides whether a manifest is that of a backup.
pub(super) fn judge<M: Borrow<Manifest<N>>, N>(
    id: &BackupId,
    decoded: Result<M, Undecoded>,
    signed: Signed,
    trust: &Trust,
) -> CatalogEntry<M> {
    let (id, key) = (id.clone(), layout::manifest(id));
    match (decoded, signed) {
        (Ok(manifest), Ok(_)) => CatalogEntry::Backup(manifest),
        // Everybody can copy a signed object and its signature to another place.
        (Err(Undecoded::Damaged(why)), Ok(Some(_))) => {
            let why = Distrust::Wrong(format!("it is that of another object: {why}"));
            CatalogEntry::Untrusted { id, manifest: None, why }
        }
        (Err(Undecoded::Damaged(why) | Undecoded::Newer(why)), Ok(_)) => {
            CatalogEntry::Damaged { id, key, why }
        }
        (Ok(manifest), Err(why)) => {
            let started = manifest.borrow().started_at;
            if trust.allows(&id) {
                log::warn!("the backup {id} is used because of --allow-unsigned, although {why}");
                return CatalogEntry::Backup(manifest);
            }
            match why == Distrust::Unsigned && trust.is_before(started) && trust.is_before(id.started()) {
                true => CatalogEntry::Backup(manifest),
                false => CatalogEntry::Untrusted { id, manifest: Some(manifest), why },
            }
        }
        (Err(_), Err(why)) => CatalogEntry::Untrusted { id, manifest: None, why },
    }
}

/// Decodes a manifest. It may name only objects in its own folder, because these are read, and deleted with the backup.
fn decode<N: DeserializeOwned>(id: &BackupId, bytes: &[u8]) -> Result<Manifest<N>, Undecoded> {
    #[derive(Deserialize)]
    struct ManifestHead {
        format: u32,
        id: String,
    }
    let manifest: Manifest<N> = manifest::decode(bytes).map_err(|why| {
        let head = serde_json::from_slice::<ManifestHead>(bytes);
        match head.is_ok_and(|head| head.id == id.as_str() && head.format > manifest::FORMAT) {
            true => Undecoded::Newer(why),
            false => Undecoded::Damaged(why),
        }
    })?;
    if manifest.id != *id {
        return Err(Undecoded::Damaged(format!("it is the manifest of the backup {}", manifest.id)));
    }
    let own = |key: &str| store::is_key(key) && layout::parse(key).is_some_and(|(folder, _)| folder == *id);
    if let Some(key) = [&manifest.artifact.key, &manifest.index.key].into_iter().find(|key| !own(key)) {
        return Err(Undecoded::Damaged(format!("it names {key:?}, which is not in its folder")));
    }
    Ok(manifest)
}
