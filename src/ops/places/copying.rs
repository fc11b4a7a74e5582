//! Copies one backup or one oplog slice from a store into another: object by object, compared at both ends, and the manifest last.
//! No key is needed: the stored bytes are copied. An object that the target has already is not sent again.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::CrcAlgorithm::Crc64Nvme;
use futures_util::{StreamExt, stream};
use tokio::task::JoinSet;

use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::catalog::chain::{self, SliceEntry};
use crate::catalog::trust::Trust;
use crate::catalog::{self, CatalogEntry, layout};
use crate::model::id::BackupId;
use crate::model::manifest::{self, Manifest};
use crate::model::optime::OpTime;
use crate::model::slice::{self, ChainId, SliceManifest};
use crate::model::{index, manifest::TOOL};
use crate::store::leftovers;
use crate::store::mirror::at_once;
use crate::store::{Store, StoreErrorKind, UploadSpec, Whole};

/// The largest object that is copied in one piece, in bytes, if its manifest does not tell its size: a signature, or RECOVERY.txt.
const SMALL: u64 = 1 << 20;
/// The number of parts that are read ahead.
const AHEAD: usize = 2;

/// The stores of a copy.
#[derive(Clone, Copy)]
pub struct Copying<'a> {
    pub from: &'a Arc<dyn Store>,
    pub to: &'a dyn Store,
    /// Which backups and slices may be copied.
    pub trust: &'a Trust,
    /// Lets the next run abort an upload if this run is killed.
    pub state_dir: Option<&'a Path>,
    /// The number of parts that are sent at once.
    pub uploads: usize,
}

/// The result of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// The sum of the sizes of the sent objects in bytes.
    pub bytes: u64,
    /// True if the target had it before.
    pub already: bool,
}

/// An object of a backup or a slice.
struct ObjectFacts<'a> {
    key: &'a str,
    size: u64,
    /// CRC-64/NVME, hex, if it is known.
    crc64nvme: Option<&'a str>,
    /// BLAKE3, hex, if it is known.
    blake3: Option<&'a str>,
    part_size: u64,
}

impl Copying<'_> {
    /// Copies a backup. If `replace` is set, the target's own objects are known to be damaged, and are replaced.
    ///
    /// # Errors
    /// Returns an error if a store does not answer, and one of the kind `Mismatch` if the backup at the source is damaged or not
    /// trusted, or if the target has another backup with this id.
    pub async fn backup(&self, id: &BackupId, replace: bool) -> Result<Copied> {
        let key = layout::manifest(id);
        let (manifest, bytes) = self.manifest(id).await?;
        if replace {
            // Without its manifest, a backup is not listed, so the place never shows one that it does not have whole.
            for key in [&key, &manifest.index.key, &manifest.artifact.key] {
                self.to.delete(key).await?;
            }
        }
        let artifact = &manifest.artifact;
        let mut copied = Copied { already: true, ..Copied::default() };
        if self.to.head(&key).await?.is_none() {
            copied.already = false;
        }
        copied.bytes += self
            .object(&ObjectFacts {
                key: &artifact.key,
                size: artifact.size,
                crc64nvme: Some(&artifact.crc64nvme),
                blake3: artifact.blake3.as_deref(),
                part_size: artifact.part_size,
            })
            .await?;
        let whole = |bytes: &Bytes| {
            let same = blake3::hash(bytes).to_hex().as_str() == manifest.index.blake3;
            same && bytes.len() as u64 == manifest.index.size
        };
        copied.bytes += self.small(&manifest.index.key, index::LARGEST, whole).await?;
        if manifest.encryption.is_some() {
            copied.bytes += self.small(&layout::recovery(id), SMALL, |_| true).await?;
        }
        if manifest.signature.is_some() {
            copied.bytes += self.small(&layout::signature(&key), SMALL, |_| true).await?;
        }
        copied.bytes += self.commit(&key, bytes, &format!("the backup {id}")).await?;
        Ok(copied)
    }

    /// The manifest of a trusted backup at the source, and its bytes.
    async fn manifest(&self, id: &BackupId) -> Result<(Box<Manifest>, Bytes)> {
        let wrong = |why: String| {
            let what = format!("the backup {id} in {} cannot be copied: {why}", self.from.place());
            Error::new(Kind::Mismatch, what)
        };
        match catalog::find(&**self.from, id, self.trust).await? {
            Some(CatalogEntry::Backup(manifest)) => {
                let bytes = self.from.get(&layout::manifest(id), manifest::LARGEST).await?;
                match Manifest::decode(&bytes).is_ok_and(|read| read == *manifest) {
                    true => Ok((manifest, bytes)),
                    false => Err(wrong("its manifest was replaced a moment ago".into())),
                }
            }
            Some(CatalogEntry::Damaged { why, .. } | CatalogEntry::Archived { why, .. }) => Err(wrong(why)),
            Some(CatalogEntry::Untrusted { why, .. }) => Err(wrong(why.to_string())),
            None => Err(Error::failed(format!("there is no backup {id} in {}", self.from.place()))
                .hint("`uzima-backup list` shows the backups and their places")),
        }
    }

    /// Copies an oplog slice. Returns its manifest.
    ///
    /// # Errors
    /// As [`backup`](Copying::backup).
    pub async fn slice(&self, job: &str, chain: &ChainId, start: OpTime) -> Result<(SliceManifest, Copied)> {
        let key = layout::slice(job, chain, start);
        let wrong = |why: String| {
            let what = format!("the oplog slice {key} in {} cannot be copied: {why}", self.from.place());
            Error::new(Kind::Mismatch, what)
        };
        let slice = match chain::read_slice(&**self.from, job, chain, start, self.trust).await? {
            Some(Ok(SliceEntry::Slice(slice))) => *slice,
            Some(Ok(SliceEntry::Unreadable { why, .. })) => return Err(wrong(why)),
            Some(Err(why)) => return Err(wrong(why.to_string())),
            None => return Err(Error::failed(format!("there is no {key} in {}", self.from.place()))),
        };
        let bytes = self.from.get(&key, slice::LARGEST).await?;
        if SliceManifest::decode(&bytes).as_ref() != Ok(&slice) {
            return Err(wrong("its manifest was replaced a moment ago".into()));
        }
        let mut copied = Copied::default();
        if let Some(body) = &slice.body {
            copied.bytes += self
                .object(&ObjectFacts {
                    key: &body.key,
                    size: body.size,
                    crc64nvme: Some(&body.crc64nvme),
                    blake3: Some(&body.blake3),
                    part_size: 0,
                })
                .await?;
        }
        if let Some(events) = &slice.events {
            let whole = |bytes: &Bytes| blake3::hash(bytes).to_hex().as_str() == events.blake3;
            copied.bytes += self.small(&events.key, slice::LARGEST_EVENTS, whole).await?;
        }
        if let Some(signature) = &slice.signature {
            copied.bytes += self.small(signature, SMALL, |_| true).await?;
        }
        copied.bytes += self.commit(&key, bytes, "the oplog slice").await?;
        Ok((slice, copied))
    }

    /// Writes a manifest. With it, the copy exists.
    async fn commit(&self, key: &str, bytes: Bytes, what: &str) -> Result<u64> {
        let size = bytes.len() as u64;
        match self.to.create(key, bytes).await {
            Ok(()) => Ok(size),
            Err(e) if e.kind == StoreErrorKind::Exists => Err(Error::new(
                Kind::Mismatch,
                format!("{} has another manifest of {what}: {key}", self.to.place()),
            )
            .hint(
                "Find out who wrote it. `uzima-backup verify --place` shows which one belongs to its objects",
            )),
            Err(e) => Err(e.into()),
        }
    }

    /// Copies an object that is small enough for one request. Returns its size, or zero if the target has it.
    async fn small(&self, key: &str, most: u64, is_whole: impl Fn(&Bytes) -> bool) -> Result<u64> {
        let bytes = self.from.get(key, most).await?;
        if !is_whole(&bytes) {
            return Err(self.damaged(key));
        }
        let size = bytes.len() as u64;
        if self.to.head(key).await?.is_some_and(|there| there.size == size) {
            return Ok(0);
        }
        match self.to.create(key, bytes).await {
            Ok(()) => Ok(size),
            Err(e) if e.kind == StoreErrorKind::Exists => Err(Error::from(e).of_kind(Kind::Mismatch)),
            Err(e) => Err(e.into()),
        }
    }

    /// Copies an object in parts. Returns its size, or zero if the target has it: the target compared the object with its
    /// checksum when it was complete.
    async fn object(&self, facts: &ObjectFacts<'_>) -> Result<u64> {
        if self.to.head(facts.key).await?.is_some_and(|there| there.size == facts.size) {
            return Ok(0);
        }
        let part_size = self.part_size(facts)?;
        let spec = UploadSpec {
            key: facts.key.into(),
            part_size,
            estimate: Some(facts.size),
            metadata: vec![("tool".into(), TOOL.into())],
            probe: false,
        };
        let upload = self.to.begin(&spec).await?;
        let name = format!("copy-{}", blake3::hash(facts.key.as_bytes()).to_hex().split_at(16).0);
        let marker = self.state_dir.map(|state| {
            leftovers::remember(state, &name, &self.to.place(), facts.key, upload.id()).map_err(|e| {
                log::warn!("if this run is killed, the next run will not find its upload: {}", e.chain())
            })
        });
        let sent = async {
            let whole = self.send(facts, &upload, part_size).await?;
            Ok(upload.complete(&whole).await?)
        };
        let sent: Result<()> = sent.await;
        let over = match &sent {
            Ok(()) => true,
            Err(_) => upload.abort().await.map_err(|e| log::warn!("an unfinished upload stays: {e}")).is_ok(),
        };
        if over && let Some(Ok(marker)) = marker {
            marker.forget();
        }
        sent.map(|()| facts.size)
    }

    /// Sends an object, and compares what was read with its checksums.
    async fn send(
        &self,
        facts: &ObjectFacts<'_>,
        upload: &Arc<dyn crate::store::Upload>,
        part_size: u64,
    ) -> Result<Whole> {
        let parts = u32::try_from(facts.size.div_ceil(part_size)).unwrap_or(u32::MAX);
        let range = |part: u32| {
            let from = u64::from(part) * part_size;
            from..(from + part_size).min(facts.size)
        };
        let (key, from) = (facts.key.to_string(), self.from.clone());
        let reading = (0..parts).map(|part| {
            let (key, from) = (key.clone(), from.clone());
            async move { from.get_range(&key, range(part)).await }
        });
        let mut reading = stream::iter(reading).buffered(AHEAD);
        let (mut crc, mut hasher) = (crc_fast::Digest::new(Crc64Nvme), blake3::Hasher::new());
        let (mut sending, mut index) = (JoinSet::new(), 0);
        let at_once = at_once(self.uploads, part_size);
        let ended = |sent: std::result::Result<_, tokio::task::JoinError>| {
            sent.map_err(|e| Error::failed("the upload of a part ended unexpectedly").caused_by(e))
        };
        while let Some(body) = reading.next().await {
            let body = body?;
            crc.update(&body);
            hasher.update(&body);
            if sending.len() >= at_once
                && let Some(sent) = sending.join_next().await
            {
                ended(sent)??;
            }
            let upload = upload.clone();
            sending.spawn(async move { Ok::<_, Error>(upload.put_part(index, body).await?) });
            index += 1;
        }
        while let Some(sent) = sending.join_next().await {
            ended(sent)??;
        }
        let (crc, hash) = (crc.finalize(), hasher.finalize().to_hex());
        let same = facts.crc64nvme.is_none_or(|known| known == format!("{crc:016x}"));
        if !same || facts.blake3.is_some_and(|known| known != hash.as_str()) {
            return Err(self.damaged(facts.key));
        }
        Ok(Whole { size: facts.size, crc64nvme: crc, parts })
    }

    /// The size of the parts: that of the source if the target accepts it.
    fn part_size(&self, facts: &ObjectFacts<'_>) -> Result<u64> {
        let limits = self.to.limits();
        let needed = facts.size.div_ceil(u64::from(limits.max_parts).max(1)).next_multiple_of(1 << 20);
        let size = facts.part_size.max(limits.min_part).max(needed);
        match size <= limits.max_part {
            true => Ok(size),
            false => Err(Error::failed(format!(
                "{} has {}, and {} accepts no upload of this size",
                facts.key,
                units::bytes(facts.size),
                self.to.place()
            ))),
        }
    }

    fn damaged(&self, key: &str) -> Error {
        Error::new(Kind::Mismatch, format!("{key} in {} is damaged, and was not copied", self.from.place()))
            .hint("Copy it from another place (--from), or find out with `uzima-backup verify` what can be restored")
    }
}
