//! From documents to blocks and segments, and on to the compressors: the first half of the data path,
//! on the thread that reads.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use super::buffers::Lent;
use super::pool::{Pending, Pool};
use crate::base::error::{Error, Result};
use crate::dumpformat::Sink;
use crate::model::namespace::Namespace;

/// What is compressed on its own: whole documents, about this many raw bytes.
pub const BLOCK: usize = 1 << 20;
/// What is hashed and restored on its own: whole blocks, at most about this many raw bytes.
pub const SEGMENT: u64 = 64 << 20;

/// What the writer gets, in the order of the artifact.
pub enum Step {
    /// All namespaces, first.
    Prelude(Arc<Vec<Namespace>>),
    /// The next blocks belong to this namespace.
    Begin(usize),
    /// A block, maybe still being compressed.
    Block(Pending),
    /// The blocks since the last one of these are a segment with this BLAKE3 of its raw bytes.
    Segment(blake3::Hash),
    /// The namespace is complete.
    End,
    /// The source is complete.
    Done,
}

/// Packs documents into blocks.
pub struct Packer {
    pool: Pool,
    steps: SyncSender<Step>,
    block: Option<Lent>,
    hasher: blake3::Hasher,
    segment: u64,
}

impl Packer {
    /// Hands blocks to `pool` and the order of things to `steps`.
    pub fn new(pool: Pool, steps: SyncSender<Step>) -> Packer {
        Packer { pool, steps, block: None, hasher: blake3::Hasher::new(), segment: 0 }
    }

    /// The source has no more.
    pub fn finish(self) -> Result<()> {
        self.send(Step::Done)
    }

    fn send(&self, step: Step) -> Result<()> {
        self.steps.send(step).map_err(|_| Error::aftermath("the writer of the artifact ended"))
    }

    fn flush_block(&mut self) -> Result<()> {
        let Some(block) = self.block.take() else { return Ok(()) };
        self.hasher.update(&block.bytes);
        self.segment += block.bytes.len() as u64;
        let pending = self.pool.submit(block)?;
        self.send(Step::Block(pending))?;
        if self.segment >= SEGMENT { self.flush_segment() } else { Ok(()) }
    }

    fn flush_segment(&mut self) -> Result<()> {
        if self.segment > 0 {
            self.send(Step::Segment(self.hasher.finalize()))?;
            self.hasher.reset();
            self.segment = 0;
        }
        Ok(())
    }
}

impl Sink for Packer {
    fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
        self.send(Step::Prelude(Arc::new(namespaces)))
    }

    fn begin(&mut self, namespace: usize) -> Result<()> {
        self.send(Step::Begin(namespace))
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        if self.block.as_ref().is_some_and(|block| block.bytes.len() + raw.len() > BLOCK) {
            self.flush_block()?;
        }
        self.block.get_or_insert_with(|| self.pool.buffer()).bytes.extend_from_slice(raw);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.flush_block()?;
        self.flush_segment()?;
        self.send(Step::End)
    }
}
