//! The compressed stream on its way to the store.
//!
//! [`Out`] appends pieces and blocks, and can reserve room for content that is known only later, such as the header of a tar
//! entry, which holds the entry's size. The stream is encrypted if the backup has recipients ([`seal`]), and cut into parts
//! ([`parts`]), which are sent as soon as they are complete.
//!
//! [`seal`]: super::seal
//! [`parts`]: super::parts

use tokio::sync::mpsc::Sender;

use super::codec::Encoder;
use super::parts::{ArtifactPart, Parts, Slot};
use super::seal::{SealedParts, Sealing};
use crate::base::error::{Error, Result};
use crate::base::waits::{Waits, WaitsFor};
use crate::config::choices::Codec;
use crate::store::Whole;

/// The compressed stream.
pub struct Out {
    codec: Codec,
    encoder: Encoder,
    scratch: Vec<u8>,
    body: Body,
    finished: Sender<ArtifactPart>,
    waits: Waits,
}

/// The stored bytes.
enum Body {
    Plain(Box<Parts>),
    Sealed(Box<SealedParts>),
}

impl Body {
    fn append(&mut self, bytes: &[u8]) {
        match self {
            Body::Plain(parts) => parts.append(bytes),
            Body::Sealed(parts) => parts.append(bytes),
        }
    }

    fn parts(&mut self) -> &mut Parts {
        match self {
            Body::Plain(parts) => parts,
            Body::Sealed(parts) => &mut parts.parts,
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
        let (encoder, scratch, parts) = (codec.encoder()?, Vec::new(), Parts::new(part_size));
        let body = match sealing {
            None => Body::Plain(Box::new(parts)),
            Some(sealing) => Body::Sealed(Box::new(SealedParts::new(sealing, parts))),
        };
        Ok(Out { codec, encoder, scratch, body, finished, waits })
    }

    /// Returns the number of compressed bytes so far, before encryption.
    pub(super) fn offset(&self) -> u64 {
        match &self.body {
            Body::Plain(parts) => parts.offset(),
            Body::Sealed(parts) => parts.offset(),
        }
    }

    /// Compresses a small piece and appends it.
    pub(super) fn piece(&mut self, raw: &[u8]) -> Result<()> {
        self.encoder.encode(raw, &mut self.scratch)?;
        self.body.append(&self.scratch);
        self.send()
    }

    /// Appends a block that is already compressed.
    pub(super) fn block(&mut self, compressed: &[u8]) -> Result<()> {
        self.body.append(compressed);
        self.send()
    }

    /// Reserves room for an uncompressed piece of `len` raw bytes.
    pub(super) fn reserve(&mut self, len: usize) -> Slot {
        let len = self.codec.stored_len(len);
        match &mut self.body {
            Body::Plain(parts) => parts.reserve(len),
            Body::Sealed(parts) => parts.reserve(len),
        }
    }

    /// Fills the reserved room with its content.
    pub(super) fn fill(&mut self, slot: Slot, raw: &[u8]) {
        let bytes = self.codec.stored(raw);
        match &mut self.body {
            Body::Plain(parts) => parts.fill(slot, &bytes),
            Body::Sealed(parts) => parts.fill(slot, &bytes),
        }
    }

    /// Ends the stream and returns the size and checksum of the whole.
    pub(super) fn finish(mut self) -> Result<Whole> {
        let whole = match &mut self.body {
            Body::Plain(parts) => parts.finish(),
            Body::Sealed(parts) => parts.finish(),
        };
        self.send()?;
        Ok(whole)
    }

    fn send(&mut self) -> Result<()> {
        let mut ready = self.body.parts().ready.drain(..);
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
