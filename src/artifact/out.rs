//! The compressed stream on its way to the store.
//!
//! [`Out`] appends pieces and blocks, and can reserve room for content that is known only later, such as the header of a tar
//! entry, which holds the entry's size. The stream is encrypted if the backup has recipients ([`seal`]), and cut into parts
//! ([`parts`]), which are sent as soon as they are complete.
//!
//! [`seal`]: super::seal
//! [`parts`]: super::parts

use std::vec::Drain;

use blake3::Hash;
use tokio::sync::mpsc::Sender;

use super::codec::Encoder;
use super::parts::{ArtifactPart, Parts, Slot};
use super::seal::{SealedParts, Sealing};
use crate::base::error::{Error, Result};
use crate::base::waits::{Waits, WaitsFor};
use crate::config::choices::Codec;
use crate::store::Whole;

/// The spare buffers of a backup. One part is being filled, two wait, and two are ready; buffers of uploaded parts come back one
/// by one.
const SPARE: usize = 6;

/// The compressed stream.
pub struct Out {
    codec: Codec,
    encoder: Encoder,
    scratch: Vec<u8>,
    stored: StoredStream,
    finished: Sender<ArtifactPart>,
    waits: Waits,
}

/// The stored bytes: encrypted if there is a key, and cut into parts.
pub struct StoredStream(Body);

enum Body {
    Plain(Box<Parts>),
    Sealed(Box<SealedParts>),
}

impl StoredStream {
    /// Makes a stream that is cut into parts of `part_size` bytes. With `sealing`, it is encrypted. Up to `spare` buffers of
    /// uploaded parts are kept for later parts.
    pub fn new(sealing: Option<Sealing>, part_size: u64, spare: usize) -> StoredStream {
        let parts = Parts::new(part_size, spare);
        StoredStream(match sealing {
            None => Body::Plain(Box::new(parts)),
            Some(sealing) => Body::Sealed(Box::new(SealedParts::new(sealing, parts))),
        })
    }

    pub fn append(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Body::Plain(parts) => parts.append(bytes),
            Body::Sealed(parts) => parts.append(bytes),
        }
    }

    /// Takes the parts that are complete. Without reserved room, they are in order.
    pub fn ready(&mut self) -> Drain<'_, ArtifactPart> {
        match &mut self.0 {
            Body::Plain(parts) => parts.ready.drain(..),
            Body::Sealed(parts) => parts.parts.ready.drain(..),
        }
    }

    /// Ends the stream. Returns the size and checksum of the whole.
    pub fn finish(&mut self) -> Whole {
        match &mut self.0 {
            Body::Plain(parts) => parts.finish(),
            Body::Sealed(parts) => parts.finish(),
        }
    }

    /// Computes the BLAKE3 of the stored bytes as well. Nothing was appended yet.
    fn hash(&mut self) {
        match &mut self.0 {
            Body::Plain(parts) => parts.hash(),
            Body::Sealed(parts) => parts.parts.hash(),
        }
    }

    /// The BLAKE3 of the finished stream, if it was computed.
    fn blake3(&self, whole: &Whole) -> Option<Hash> {
        match &self.0 {
            Body::Plain(parts) => parts.blake3(whole),
            Body::Sealed(parts) => parts.parts.blake3(whole),
        }
    }

    /// The number of bytes so far, before encryption.
    fn offset(&self) -> u64 {
        match &self.0 {
            Body::Plain(parts) => parts.offset(),
            Body::Sealed(parts) => parts.offset(),
        }
    }

    fn reserve(&mut self, len: usize) -> Slot {
        match &mut self.0 {
            Body::Plain(parts) => parts.reserve(len),
            Body::Sealed(parts) => parts.reserve(len),
        }
    }

    fn fill(&mut self, slot: Slot, bytes: &[u8]) {
        match &mut self.0 {
            Body::Plain(parts) => parts.fill(slot, bytes),
            Body::Sealed(parts) => parts.fill(slot, bytes),
        }
    }
}

impl Out {
    /// Makes a stream that is compressed by `codec` and cut into parts of `part_size` bytes. With `sealing`, it is encrypted.
    /// Finished parts are sent to `finished`, which may block while too many are under way; that time is added to `waits`.
    pub fn new(
        codec: Codec,
        sealing: Option<Sealing>,
        part_size: u64,
        finished: Sender<ArtifactPart>,
        waits: Waits,
    ) -> Result<Out> {
        let (encoder, stored) = (codec.encoder()?, StoredStream::new(sealing, part_size, SPARE));
        Ok(Out { codec, encoder, scratch: Vec::new(), stored, finished, waits })
    }

    /// Computes the BLAKE3 of the stored bytes as well. Nothing was appended yet.
    pub fn hash(&mut self) {
        self.stored.hash();
    }

    /// Returns the number of compressed bytes so far, before encryption.
    pub(super) fn offset(&self) -> u64 {
        self.stored.offset()
    }

    /// Returns the number of bytes so far that can be sent when their parts are full, with the encryption. Full parts in which room is
    /// reserved are left out.
    pub(super) fn sendable(&self) -> u64 {
        let parts: &Parts = match &self.stored.0 {
            Body::Plain(parts) => parts,
            Body::Sealed(parts) => &parts.parts,
        };
        parts.offset() - parts.held()
    }

    /// Compresses a small piece and appends it.
    pub(super) fn piece(&mut self, raw: &[u8]) -> Result<()> {
        self.encoder.encode(raw, &mut self.scratch)?;
        self.stored.append(&self.scratch);
        self.send()
    }

    /// Appends a block that is already compressed.
    pub(super) fn block(&mut self, compressed: &[u8]) -> Result<()> {
        self.stored.append(compressed);
        self.send()
    }

    /// Reserves room for an uncompressed piece of `len` raw bytes.
    pub(super) fn reserve(&mut self, len: usize) -> Slot {
        self.stored.reserve(self.codec.stored_len(len))
    }

    /// Fills the reserved room with its content.
    pub(super) fn fill(&mut self, slot: Slot, raw: &[u8]) {
        self.stored.fill(slot, &self.codec.stored(raw));
    }

    /// Ends the stream and returns the size and checksum of the whole, and its BLAKE3 if it was computed.
    pub(super) fn finish(mut self) -> Result<(Whole, Option<Hash>)> {
        let whole = self.stored.finish();
        self.send()?;
        let blake3 = self.stored.blake3(&whole);
        Ok((whole, blake3))
    }

    fn send(&mut self) -> Result<()> {
        let mut ready = self.stored.ready();
        ready
            .try_for_each(|part| {
                let _blocked = self.waits.begin(WaitsFor::Store);
                self.finished.blocking_send(part)
            })
            .map_err(|_| Error::aftermath("the upload ended"))
    }
}

#[cfg(test)]
pub(super) mod testing {
    use tokio::sync::mpsc::{Receiver, channel};

    use super::*;

    /// The bytes of all parts that were sent.
    pub fn bytes(mut parts: Receiver<ArtifactPart>) -> Vec<u8> {
        let mut sent: Vec<_> = std::iter::from_fn(|| parts.try_recv().ok()).collect();
        sent.sort_by_key(|part| part.index);
        sent.into_iter().flat_map(|part| part.body.to_vec()).collect()
    }

    impl Out {
        pub fn collecting(codec: Codec) -> (Out, Receiver<ArtifactPart>) {
            let (finished, parts) = channel(1_000);
            (Out::new(codec, None, 64 * 1024, finished, Waits::default()).unwrap(), parts)
        }

        pub fn test_block(&mut self, raw: &[u8]) {
            let mut bytes = Vec::new();
            self.codec.encoder().unwrap().encode(raw, &mut bytes).unwrap();
            self.block(&bytes).unwrap();
        }
    }
}
