//! The compressed stream on its way out: pieces are appended, room is kept and filled, and finished
//! parts go to whoever uploads them.

use tokio::sync::mpsc::Sender;

use super::codec::Encoder;
use super::parts::{Part, Parts, Slot};
use crate::base::error::{Error, Result};
use crate::config::format::Codec;
use crate::store::Whole;

/// Takes finished parts, and may wait while too many are under way.
pub trait PartSink: Send {
    /// Hands a part on.
    fn part(&mut self, part: Part) -> Result<()>;
}

impl PartSink for Sender<Part> {
    fn part(&mut self, part: Part) -> Result<()> {
        self.blocking_send(part).map_err(|_| Error::aftermath("the upload ended"))
    }
}

/// The stream.
pub struct Out {
    codec: Codec,
    encoder: Encoder,
    scratch: Vec<u8>,
    parts: Parts,
    sink: Box<dyn PartSink>,
}

impl Out {
    /// A stream in `codec`, cut into parts of `part_size` bytes for `sink`.
    pub fn new(codec: Codec, part_size: u64, sink: Box<dyn PartSink>) -> Result<Out> {
        Ok(Out { codec, encoder: codec.encoder()?, scratch: Vec::new(), parts: Parts::new(part_size), sink })
    }

    /// Compressed bytes so far.
    pub fn offset(&self) -> u64 {
        self.parts.offset()
    }

    /// Compresses and appends a small piece.
    pub fn piece(&mut self, raw: &[u8]) -> Result<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.encoder.encode(raw, &mut scratch)?;
        self.parts.append(&scratch);
        self.scratch = scratch;
        self.send()
    }

    /// Appends a block that was compressed elsewhere.
    pub fn block(&mut self, compressed: &[u8]) -> Result<()> {
        self.parts.append(compressed);
        self.send()
    }

    /// Keeps room for a stored piece of `len` raw bytes.
    pub fn reserve(&mut self, len: usize) -> Slot {
        self.parts.reserve(self.codec.stored_len(len))
    }

    /// Fills the room with its content.
    pub fn fill(&mut self, slot: Slot, raw: &[u8]) {
        self.parts.fill(slot, &self.codec.stored(raw));
    }

    /// Ends the stream; the size and checksum of all of it.
    pub fn finish(mut self) -> Result<Whole> {
        let (parts, whole) = self.parts.finish();
        for part in parts {
            self.sink.part(part)?;
        }
        Ok(whole)
    }

    fn send(&mut self) -> Result<()> {
        for part in self.parts.take() {
            self.sink.part(part)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Collects parts in memory.
    #[derive(Clone, Default)]
    pub struct Taken(Arc<Mutex<Vec<Part>>>);

    impl Taken {
        pub fn bytes(&self) -> Vec<u8> {
            let mut parts = std::mem::take(&mut *self.0.lock().unwrap());
            parts.sort_by_key(|p| p.index);
            parts.into_iter().flat_map(|p| p.body.to_vec()).collect()
        }
    }

    impl PartSink for Taken {
        fn part(&mut self, part: Part) -> Result<()> {
            self.0.lock().unwrap().push(part);
            Ok(())
        }
    }

    impl Out {
        pub fn collecting(codec: Codec) -> (Out, Taken) {
            let taken = Taken::default();
            (Out::new(codec, 64 * 1024, Box::new(taken.clone())).unwrap(), taken)
        }

        pub fn test_block(&mut self, raw: &[u8]) {
            let mut bytes = Vec::new();
            self.codec.encoder().unwrap().encode(raw, &mut bytes).unwrap();
            self.block(&bytes).unwrap();
        }
    }
}
