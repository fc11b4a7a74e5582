//! Copies one backup or one oplog slice from a store into another: object by object, compared at both ends, and the manifest last.
//! No key is needed: the stored bytes are copied. An object that the target has already is not sent again.
//!
//! A damaged backup at the target is replaced only after all of the source was read and compared. Until then its segments may be the only
//! whole ones.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use crc_fast::CrcAlgorithm::Crc64Nvme;
use futures_util::{StreamExt, stream};
use tokio::task::JoinSet;

use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::catalog::chain::{self, SliceEntry};
use crate::catalog::place_files::KnownBackups;
use crate::catalog::trust::Trust;
use crate::catalog::{self, CatalogEntry, layout};
use crate::model::id::BackupId;
use crate::model::manifest::{self, Manifest};
use crate::model::optime::OpTime;
use crate::model::slice::{self, ChainId, SliceManifest};
use crate::model::{index, manifest::TOOL};
use crate::store::leftovers;
use crate::store::mirror::at_once;
use crate::store::{Store, StoreError, StoreErrorKind, UploadSpec, Whole};

/// The largest object that is copied in one piece, in bytes, if its manifest does not tell its size: a signature, or RECOVERY.txt.
const SMALL: u64 = 1 << 20;
/// The number of parts that are read ahead.
const AHEAD: usize = 2;
/// The length of the parts in bytes if a source is only read.
const READ: u64 = 8 << 20;

/// The stores of a copy.
#[derive(Clone, Copy)]
pub struct Copying<'a> {
    pub from: &'a Arc<dyn Store>,
    /// The name of the place of `from`.
    pub from_name: &'a str,
    pub to: &'a dyn Store,
    /// Which backups and slices may be copied.
    pub trust: &'a Trust,
    /// Lets the next run abort an upload if this run is killed, and has the known backups of the target.
    pub state_dir: Option<&'a Path>,
    /// The number of parts that are sent at once.
    pub uploads: usize,
    /// This machine, in the key of the probe that shows whether both stores are one place.
    pub host: &'a str,
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

/// An object of a backup that is small enough for one request.
struct SmallFacts<'a> {
    key: String,
    /// The largest size that is read, in bytes.
    most: u64,
    /// The size, and BLAKE3, hex, if they are known.
    known: Option<(u64, &'a str)>,
}

/// The manifest of a backup at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TargetManifest {
    Absent,
    /// It has the same bytes as that of the source.
    Same,
    /// It is no manifest of this backup.
    Damaged,
}

impl Copying<'_> {
    /// Copies a backup. If `replace` is set, the target's own objects are known to be damaged, and are replaced. A manifest at the
    /// target that cannot be understood is replaced, too.
    ///
    /// # Errors
    /// Returns an error if a store does not answer, and one of the kind `Mismatch` if the backup at the source is damaged or not
    /// trusted, or if the target has another backup with this id. Then nothing was deleted at the target.
    pub async fn backup(&self, id: &BackupId, replace: bool) -> Result<Copied> {
        let key = layout::manifest(id);
        let (manifest, bytes) = self.manifest(id).await?;
        let there = self.target_manifest(id, &bytes).await?;
        let replace = replace || there == TargetManifest::Damaged;
        if replace {
            self.clear_target(&manifest).await?;
        }
        let already = there == TargetManifest::Same && !replace;
        let mut copied = Copied { already, bytes: self.object(&artifact_facts(&manifest)).await? };
        for small in small_objects(&manifest) {
            copied.bytes += self.small(&small).await?;
        }
        copied.bytes += self.commit(&key, bytes, &format!("the backup {id}")).await?;
        Ok(copied)
    }

    /// Compares the manifest of a backup at the target with the one of the source.
    ///
    /// # Errors
    /// Returns an error of the kind `Mismatch` if the target has another manifest of the backup.
    async fn target_manifest(&self, id: &BackupId, bytes: &Bytes) -> Result<TargetManifest> {
        let key = layout::manifest(id);
        match self.to.get(&key, manifest::LARGEST).await {
            Ok(found) if found == *bytes => Ok(TargetManifest::Same),
            Ok(found) if catalog::is_manifest_of(id, &found) => {
                Err(self.another_manifest(&key, &format!("the backup {id}")))
            }
            Ok(_) => Ok(TargetManifest::Damaged),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(TargetManifest::Absent),
            Err(e) if e.kind == StoreErrorKind::Damaged => Ok(TargetManifest::Damaged),
            Err(e) => Err(e.into()),
        }
    }

    /// Deletes a damaged backup at the target, after all of it was read whole from the source.
    ///
    /// # Errors
    /// Returns an error, before anything is deleted, if the source is damaged, or if both stores are the same place.
    async fn clear_target(&self, manifest: &Manifest) -> Result<()> {
        let id = &manifest.id;
        self.refuse_one_place().await?;
        self.read(&artifact_facts(manifest), READ, async |_, _| Ok(())).await?;
        for small in small_objects(manifest) {
            self.read_small(&small).await?;
        }
        log::info!("the damaged backup {id} in {} is deleted, and then copied again", self.to.place());
        let listed = self.to.list(&layout::folder(id)).await?;
        let is_verdict =
            |key: &&str| layout::parse(key).is_some_and(|(_, file)| layout::is_beside_verify(file));
        let listed: Vec<&str> = listed.iter().map(|object| object.key.as_str()).collect();
        let key = layout::manifest(id);
        let (signature, recovery) = (layout::signature(&key), layout::recovery(id));
        // While the manifest exists, the missing artifact is a fault of the backup, so it counts as good at no moment, and the run
        // after a killed one replaces it.
        let mut going = vec![manifest.artifact.key.as_str(), manifest.index.key.as_str()];
        going.extend(listed.iter().copied().filter(is_verdict));
        going.extend([key.as_str(), &signature, &recovery]);
        going.retain(|key| listed.contains(key));
        // If this run is killed, the place does not look like a disk that is not mounted.
        KnownBackups::update(self.state_dir, &self.to.place(), |known| {
            known.backups.remove(id);
        });
        for key in going {
            self.to.delete(key).await?;
        }
        Ok(())
    }

    /// Refuses to replace objects if both stores are the same place, for example because a directory is a link to the other one.
    /// Writes, reads and deletes a probe. So a login that may not delete fails here, before the source is read.
    async fn refuse_one_place(&self) -> Result<()> {
        let key = layout::probe(&format!("copy-{}", self.host));
        let probe = Bytes::from(format!("a probe of `copy`: {:032x}\n", rand::random::<u128>()));
        self.to.put(&key, probe.clone()).await?;
        let found = self.from.get(&key, SMALL).await;
        self.to.delete(&key).await?;
        match found {
            Ok(found) if found == probe => Err(Error::new(
                Kind::Mismatch,
                format!("{} and {} are the same place, so nothing was copied", self.from.place(), self.to.place()),
            )
            .hint("Give the copy a directory or bucket of its own: a link to the first place is no second place")),
            Ok(_) => Ok(()),
            Err(e) if e.kind == StoreErrorKind::NotFound => Ok(()),
            Err(e) => Err(e.into()),
        }
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
            let known = Some((events.size, events.blake3.as_str()));
            let facts = SmallFacts { key: events.key.clone(), most: slice::LARGEST_EVENTS, known };
            copied.bytes += self.small(&facts).await?;
        }
        if let Some(signature) = &slice.signature {
            copied.bytes += self.small(&SmallFacts::unknown(signature.clone())).await?;
        }
        copied.bytes += self.commit(&key, bytes, "the oplog slice").await?;
        Ok((slice, copied))
    }

    /// Writes a manifest. With it, the copy exists.
    async fn commit(&self, key: &str, bytes: Bytes, what: &str) -> Result<u64> {
        let size = bytes.len() as u64;
        match self.to.create(key, bytes).await {
            Ok(()) => Ok(size),
            Err(e) if e.kind == StoreErrorKind::Exists => Err(self.another_manifest(key, what)),
            Err(e) => Err(e.into()),
        }
    }

    fn another_manifest(&self, key: &str, what: &str) -> Error {
        Error::new(Kind::Mismatch, format!("{} has another manifest of {what}: {key}", self.to.place())).hint(
            "Find out who wrote it. `uzima-backup verify --place` shows which one belongs to its objects",
        )
    }

    /// Reads a small object of the source, and compares it.
    async fn read_small(&self, facts: &SmallFacts<'_>) -> Result<Bytes> {
        let read = self.from.get(&facts.key, facts.most).await;
        let bytes = read.map_err(|e| self.unread(&facts.key, e))?;
        let is_whole = facts.known.is_none_or(|(size, hash)| {
            bytes.len() as u64 == size && blake3::hash(&bytes).to_hex().as_str() == hash
        });
        if is_whole { Ok(bytes) } else { Err(self.damaged(&facts.key)) }
    }

    /// Copies a small object. Returns its size, or zero if the target has it.
    async fn small(&self, facts: &SmallFacts<'_>) -> Result<u64> {
        let bytes = self.read_small(facts).await?;
        let (key, size) = (&facts.key, bytes.len() as u64);
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
        let (mut sending, mut parts) = (JoinSet::new(), 0);
        let at_once = at_once(self.uploads, part_size);
        let ended = |sent: std::result::Result<_, tokio::task::JoinError>| {
            sent.map_err(|e| Error::failed("the upload of a part ended unexpectedly").caused_by(e))
        };
        let read = self.read(facts, part_size, async |index, body| {
            if sending.len() >= at_once
                && let Some(sent) = sending.join_next().await
            {
                ended(sent)??;
            }
            let upload = upload.clone();
            sending.spawn(async move { Ok::<_, Error>(upload.put_part(index, body).await?) });
            parts = index + 1;
            Ok(())
        });
        let crc64nvme = read.await?;
        while let Some(sent) = sending.join_next().await {
            ended(sent)??;
        }
        Ok(Whole { size: facts.size, crc64nvme, parts })
    }

    /// Reads an object of the source in parts, passes them on in order, and compares them with the object's checksums. Returns its
    /// CRC-64/NVME.
    async fn read(
        &self,
        facts: &ObjectFacts<'_>,
        part_size: u64,
        mut take: impl AsyncFnMut(u32, Bytes) -> Result<()>,
    ) -> Result<u64> {
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
        let mut index = 0;
        while let Some(body) = reading.next().await {
            let body = body.map_err(|e| self.unread(facts.key, e))?;
            crc.update(&body);
            hasher.update(&body);
            take(index, body).await?;
            index += 1;
        }
        let (crc, hash) = (crc.finalize(), hasher.finalize().to_hex());
        let same = facts.crc64nvme.is_none_or(|known| known == format!("{crc:016x}"));
        if !same || facts.blake3.is_some_and(|known| known != hash.as_str()) {
            return Err(self.damaged(facts.key));
        }
        Ok(crc)
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

    /// The error of an object of the source that cannot be read.
    fn unread(&self, key: &str, error: StoreError) -> Error {
        match error.kind.is_fault() {
            true => self.damaged(key).caused_by(error),
            false => error.into(),
        }
    }

    fn damaged(&self, key: &str) -> Error {
        let (what, does) = match layout::parse(key) {
            Some((id, _)) => (id.to_string(), "shows and remembers"),
            None => ("--oplog".into(), "shows"),
        };
        Error::new(Kind::Mismatch, format!("{key} in {} is damaged, and was not copied", self.from.place())).hint(format!(
            "Run `uzima-backup verify {what} --place {}`, which {does} the damage; a restore reads each segment \
             from a place where it is whole",
            self.from_name
        ))
    }
}

impl SmallFacts<'_> {
    /// An object whose manifest does not tell its size.
    fn unknown(key: String) -> SmallFacts<'static> {
        SmallFacts { key, most: SMALL, known: None }
    }
}

fn artifact_facts(manifest: &Manifest) -> ObjectFacts<'_> {
    let artifact = &manifest.artifact;
    ObjectFacts {
        key: &artifact.key,
        size: artifact.size,
        crc64nvme: Some(&artifact.crc64nvme),
        blake3: artifact.blake3.as_deref(),
        part_size: artifact.part_size,
    }
}

/// The objects of a backup other than artifact and manifest, in the order in which they are copied.
fn small_objects(manifest: &Manifest) -> Vec<SmallFacts<'_>> {
    let (id, index) = (&manifest.id, &manifest.index);
    let known = Some((index.size, index.blake3.as_str()));
    let mut all = vec![SmallFacts { key: index.key.clone(), most: index::LARGEST, known }];
    if manifest.encryption.is_some() {
        all.push(SmallFacts::unknown(layout::recovery(id)));
    }
    if manifest.signature.is_some() {
        all.push(SmallFacts::unknown(layout::signature(&layout::manifest(id))));
    }
    all
}
