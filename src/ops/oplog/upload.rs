//! Stores one slice: the parts of its body as they come, the events, and then the manifest, which makes the slice exist.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::pack::PackedSlice;
use crate::artifact::codec::Encoder;
use crate::artifact::seal::seal;
use crate::artifact::sealed::prove_begin;
use crate::base::cancel::Cancel;
use crate::base::error::{Error, Result};
use crate::base::keys::Recipients;
use crate::base::minisign::SigningKey;
use crate::catalog::layout;
use crate::config::choices::Codec;
use crate::model::manifest::TOOL;
use crate::model::optime::OpTime;
use crate::model::slice::{ChainId, EventsFile, SliceBody, SliceEvents};
use crate::store::leftovers::{self, Marker};
use crate::store::{Store, StoreErrorKind, Upload, UploadSpec, Whole};

/// The first bytes of an encrypted events object that are read back.
const PROVED: usize = 200;

/// The keys of a slice, and the store.
pub(super) struct SliceUpload<'a> {
    pub store: &'a dyn Store,
    pub state_dir: Option<&'a Path>,
    pub job: &'a str,
    pub chain: ChainId,
    pub start: OpTime,
    /// Makes the keys of body and events different for each run.
    pub random: String,
    pub part_size: u64,
    /// The keys to which body and events are encrypted; `None` if they are not encrypted.
    pub recipients: Option<&'a Recipients>,
    /// A signal ends the sending of parts, so that time is left to abort the upload.
    pub cancel: &'a Cancel,
}

/// A body of which parts were sent.
pub(super) struct SentParts {
    upload: Arc<dyn Upload>,
    /// Lets the next run abort the upload if this run is killed.
    marker: Option<Marker>,
}

impl SentParts {
    pub(super) async fn abort(self) {
        match self.upload.abort().await {
            Ok(()) => self.forget(),
            Err(e) => log::warn!("the unfinished upload of a slice could not be removed: {e}"),
        }
    }

    fn forget(self) {
        if let Some(marker) = self.marker {
            marker.forget();
        }
    }
}

/// Whether a slice was stored.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Commit {
    Done,
    /// Another run stored the slice with this start first.
    Lost,
}

impl SliceUpload<'_> {
    fn keys(&self) -> (String, String) {
        layout::slice_objects(self.job, &self.chain, self.start, &self.random, self.recipients.is_some())
    }

    /// Sends the parts of the body that come before its end. Returns `None` if there are none: a short body is stored with one
    /// request.
    pub(super) async fn send(&self, mut parts: mpsc::Receiver<Bytes>) -> Result<Option<SentParts>> {
        let mut sent: Option<SentParts> = None;
        let mut index = 0;
        while let Some(part) = parts.recv().await {
            let begun = match sent.take() {
                Some(begun) => begun,
                None => self.begin().await?,
            };
            if let Err(e) = self.put_part(&begun, index, part).await {
                begun.abort().await;
                return Err(e);
            }
            sent = Some(begun);
            index += 1;
        }
        Ok(sent)
    }

    async fn put_part(&self, sent: &SentParts, index: u32, part: Bytes) -> Result<()> {
        self.cancel.or(async { Ok(sent.upload.put_part(index, part).await?) }).await
    }

    async fn begin(&self) -> Result<SentParts> {
        let key = self.keys().0;
        let metadata = vec![("job".into(), self.job.into()), ("tool".into(), TOOL.into())];
        let part_size = self.part_size;
        let spec = UploadSpec { key: key.clone(), part_size, estimate: None, metadata, probe: false };
        let upload = self.store.begin(&spec).await?;
        let name = format!("oplog-{}", self.random);
        let marker = self
            .state_dir
            .map(|state| leftovers::remember(state, &name, &self.store.place(), &key, upload.id()));
        let marker = marker.and_then(|marker| {
            marker
                .map_err(|e| {
                    log::warn!("if this run is killed, the next run will not find its upload: {}", e.chain())
                })
                .ok()
        });
        Ok(SentParts { upload, marker })
    }

    /// Completes the body. Returns its description; `None` for a slice without entries.
    pub(super) async fn complete(
        &self,
        packed: &PackedSlice,
        sent: Option<SentParts>,
    ) -> Result<Option<SliceBody>> {
        if packed.entries == 0 {
            return Ok(None);
        }
        let key = self.keys().0;
        match sent {
            None => self.store.create(&key, packed.rest.clone()).await?,
            Some(sent) => {
                let mut parts = packed.parts;
                let done = async {
                    let mut rest = packed.rest.clone();
                    while !rest.is_empty() {
                        let part = rest.split_to(rest.len().min(self.part_size as usize));
                        self.put_part(&sent, parts, part).await?;
                        parts += 1;
                    }
                    let whole = Whole { size: packed.size, crc64nvme: packed.crc64nvme, parts };
                    Ok::<_, Error>(sent.upload.complete(&whole).await?)
                };
                if let Err(e) = done.await {
                    sent.abort().await;
                    return Err(e);
                }
                sent.forget();
            }
        }
        Ok(Some(SliceBody {
            key,
            size: packed.size,
            crc64nvme: format!("{:016x}", packed.crc64nvme),
            blake3: packed.blake3.clone(),
            raw_blake3: Some(packed.raw_blake3.clone()),
        }))
    }

    /// Stores the events. Returns the description of their object.
    pub(super) async fn events(&self, events: &EventsFile) -> Result<SliceEvents> {
        let key = self.keys().1;
        let json = serde_json::to_vec(events)
            .map_err(|e| Error::failed("cannot write the events of a slice").caused_by(e))?;
        let mut out = Vec::new();
        let mut encoder: Encoder = Codec::Zstd { level: 3 }.encoder()?;
        encoder.encode(&json, &mut out)?;
        if let Some(recipients) = self.recipients {
            out = seal(recipients, &out)?;
        }
        let (size, blake3) = (out.len() as u64, blake3::hash(&out).to_hex().to_string());
        let begin = out[..out.len().min(PROVED)].to_vec();
        self.store.create(&key, out.into()).await?;
        if self.recipients.is_some() {
            prove_begin(self.store, &key, &begin).await?;
        }
        Ok(SliceEvents { key, size, blake3 })
    }

    /// The key of the signature.
    pub(super) fn signature(&self) -> String {
        layout::slice_signature(self.job, &self.chain, self.start, &self.random)
    }

    /// Stores the signature of the encoded manifest.
    pub(super) async fn sign(&self, manifest: &[u8], signing: &SigningKey) -> Result<()> {
        let comment = format!("manifest of the oplog slice after {}", self.start);
        Ok(self.store.create(&self.signature(), signing.sign(manifest, &comment).into()).await?)
    }

    /// Writes the encoded manifest. With this, the slice exists, unless another run has stored a slice with the same start.
    ///
    /// # Errors
    /// Returns an error if the store does not answer. The manifest may reach the store even later.
    pub(super) async fn commit(&self, manifest: Vec<u8>) -> Result<Commit> {
        let key = layout::slice(self.job, &self.chain, self.start);
        match self.store.create(&key, manifest.into()).await {
            Ok(()) => Ok(Commit::Done),
            Err(e) if e.kind == StoreErrorKind::Exists => Ok(Commit::Lost),
            Err(e) => Err(e.into()),
        }
    }

    /// Deletes the body, the events and the signature of a slice whose manifest was not sent, or lost against the manifest of
    /// another run.
    pub(super) async fn remove(&self) {
        let stays = |e| log::warn!("the body of a slice that was not stored stays as an orphan: {e}");
        let (body, events) = self.keys();
        for key in [body, events, self.signature()] {
            self.store.delete(&key).await.map_or_else(stays, drop);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::store::DirOptions;
    use crate::store::dir::DirStore;

    /// The last frame of a slice can exceed what is left of a part.
    #[tokio::test]
    async fn an_end_longer_than_a_part_is_sent_in_several_parts() {
        let folder = tempfile::tempdir().unwrap();
        let options = DirOptions { min_free: 0.0, ..DirOptions::new(folder.path().join("store")) };
        let store = DirStore::new(options).unwrap();
        let part = store.limits().min_part as usize;
        let start = OpTime { t: 100, i: 1 };
        let upload = SliceUpload {
            store: &store,
            state_dir: None,
            job: "nightly",
            chain: ChainId::new("6563a1b2c3d4e5f60718293a", start).unwrap(),
            start,
            random: "abc123".into(),
            part_size: part as u64,
            recipients: None,
            cancel: &Cancel::default(),
        };
        let body: Vec<u8> = (0..3 * part + 5).map(|n| n.to_le_bytes()[0]).collect();
        let (sender, parts) = mpsc::channel(1);
        sender.send(Bytes::copy_from_slice(&body[..part])).await.unwrap();
        drop(sender);
        let sent = upload.send(parts).await.unwrap();
        let packed = PackedSlice {
            rest: Bytes::copy_from_slice(&body[part..]),
            parts: 1,
            entries: 1,
            raw_bytes: 1,
            read_entries: 1,
            size: body.len() as u64,
            crc64nvme: crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &body),
            blake3: blake3::hash(&body).to_hex().to_string(),
            raw_blake3: String::new(),
            barriers: Vec::new(),
            events: None,
            events_left_out: 0,
        };
        let stored = upload.complete(&packed, sent).await.unwrap().unwrap();
        assert!(store.get(&stored.key, 1 << 30).await.unwrap() == body);
    }
}
