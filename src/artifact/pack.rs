//! The first half of the data path: documents are packed into blocks and segments, and blocks are compressed
//! on all cores.
//!
//! The thread that reads the source fills blocks ([`Packer`]) and submits them to the compressor threads
//! ([`Pool`]). The compressed blocks reach the writer in the order of the source, and a budget bounds the raw
//! bytes in flight.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use crc_fast::CrcAlgorithm::Crc64Xz;

use crate::base::bounds::{Budget, Share};
use crate::base::error::{Error, Result};
use crate::base::process;
use crate::base::waits::{Waits, WaitsFor};
use crate::dumpformat::Sink;
use crate::model::namespace::Namespace;
use crate::model::tally::Tally;

/// The size of a block in raw bytes: whole documents that are compressed on their own. A longer document
/// makes a longer block.
pub const BLOCK: usize = 1 << 20;
/// The size of a segment in raw bytes: whole blocks that are hashed and restored on their own.
const SEGMENT: u64 = 64 << 20;
/// Buffers up to this size are kept for reuse.
const KEPT: usize = 2 * BLOCK;

/// A message to the writer. The messages are in the order of the artifact.
pub(super) enum WriteStep {
    /// All namespaces. This is the first step.
    Prelude(Arc<Vec<Namespace>>),
    /// The next blocks belong to this namespace of the prelude.
    Begin(usize),
    /// A block, which may still be being compressed.
    Block(PendingBlock),
    /// The blocks since the previous `Segment` or `Begin` form a segment. The hash is the BLAKE3 of its raw
    /// bytes.
    Segment(blake3::Hash),
    /// The namespace is complete.
    End,
    /// The source is complete.
    Done,
}

/// The receiver of the messages to the writer.
pub struct WriteSteps(pub(super) Receiver<WriteStep>);

/// Packs documents into blocks and segments.
pub struct Packer {
    pool: Pool,
    steps: SyncSender<WriteStep>,
    block: Option<Lent>,
    hasher: blake3::Hasher,
    /// Raw bytes of the current segment.
    segment: u64,
    waits: Waits,
}

impl Packer {
    /// Makes a packer, and the receiver of its messages for [`write`](super::writer::write). At most `waiting`
    /// messages wait for the writer. The time in which the packer is blocked is added to `waits`.
    pub fn new(pool: Pool, waiting: usize, waits: Waits) -> (Packer, WriteSteps) {
        let (steps, stepping) = sync_channel(waiting);
        let hasher = blake3::Hasher::new();
        (Packer { pool, steps, block: None, hasher, segment: 0, waits }, WriteSteps(stepping))
    }

    /// Signals to the writer that the source is complete.
    pub fn finish(self) -> Result<()> {
        self.send(WriteStep::Done)
    }

    fn send(&self, step: WriteStep) -> Result<()> {
        let _blocked = self.waits.begin(WaitsFor::Compression);
        self.steps.send(step).map_err(|_| Error::aftermath("the writer of the artifact ended"))
    }

    fn flush_block(&mut self) -> Result<()> {
        let Some(block) = self.block.take() else { return Ok(()) };
        self.hasher.update(&block.bytes);
        self.segment += block.bytes.len() as u64;
        let blocked = self.waits.begin(WaitsFor::Compression);
        let pending = self.pool.submit(block)?;
        drop(blocked);
        self.send(WriteStep::Block(pending))?;
        if self.segment >= SEGMENT { self.flush_segment() } else { Ok(()) }
    }

    fn flush_segment(&mut self) -> Result<()> {
        if self.segment > 0 {
            self.send(WriteStep::Segment(self.hasher.finalize()))?;
            self.hasher.reset();
            self.segment = 0;
        }
        Ok(())
    }
}

impl Sink for Packer {
    fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
        self.send(WriteStep::Prelude(Arc::new(namespaces)))
    }

    fn begin(&mut self, namespace: usize) -> Result<()> {
        self.send(WriteStep::Begin(namespace))
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        if self.block.as_ref().is_some_and(|block| block.bytes.len() + raw.len() > BLOCK) {
            self.flush_block()?;
        }
        self.block.get_or_insert_with(|| self.pool.raw.take()).bytes.extend_from_slice(raw);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.flush_block()?;
        self.flush_segment()?;
        self.send(WriteStep::End)
    }

    fn waits(&self) -> Waits {
        self.waits.clone()
    }
}

/// Compresses a piece into the buffer, replacing its content.
pub type Encode = Box<dyn FnMut(&[u8], &mut Vec<u8>) -> Result<()> + Send>;
/// Decompresses a piece.
pub type Decode = Box<dyn Fn(&[u8]) -> Result<Vec<u8>> + Send>;

/// A compressed block.
pub(super) struct PackedBlock {
    /// A gzip member or a zstd frame.
    pub compressed: Lent,
    /// Counts and hash sum of the documents in the block.
    pub tally: Tally,
    /// CRC-64/XZ of the raw bytes; 0 unless the pool was started with `crc64`.
    pub crc64: u64,
    _room: Share,
}

/// A block that is being compressed.
pub(super) struct PendingBlock(Receiver<Result<PackedBlock>>);

impl PendingBlock {
    pub(super) fn wait(self) -> Result<PackedBlock> {
        self.0.recv().unwrap_or_else(|_| Err(Error::failed("a compressor thread ended unexpectedly")))
    }
}

struct PoolJob {
    raw: Lent,
    room: Share,
    answer: SyncSender<Result<PackedBlock>>,
}

/// The compressor threads. When the pool is dropped, they finish their blocks and end.
pub struct Pool {
    jobs: SyncSender<PoolJob>,
    budget: Arc<Budget>,
    raw: Buffers,
}

impl Pool {
    /// Starts `workers` threads.
    ///
    /// At most `budget` raw bytes are in flight; a larger block passes alone. `crc64` computes the CRC-64/XZ
    /// of each block, which mongodump's archive needs. `encode` and `decode` are called once for each thread.
    /// If `decode` returns a decoder, each block is decompressed again and compared.
    pub fn start(
        workers: usize,
        budget: usize,
        crc64: bool,
        encode: impl Fn() -> Result<Encode>,
        decode: impl Fn() -> Option<Decode>,
    ) -> Result<Pool> {
        let (jobs, queue) = sync_channel::<PoolJob>(workers * 2);
        let queue = Arc::new(Mutex::new(queue));
        // The most buffers of each kind that can be in flight.
        let stock = || Buffers::new(budget / BLOCK + workers, KEPT);
        let (raw, compressed) = (stock(), stock());
        for n in 0..workers {
            let worker = Worker { encode: encode()?, decode: decode(), crc64 };
            let queue = queue.clone();
            let compressed = compressed.clone();
            thread::Builder::new()
                .name(format!("compress-{n}"))
                .spawn(move || {
                    process::yielding();
                    worker.run(&queue, &compressed)
                })
                .map_err(|e| Error::failed("cannot start a compressor thread").caused_by(e))?;
        }
        Ok(Pool { jobs, budget: Budget::new(budget), raw })
    }

    /// Submits a block of whole documents. Waits while too many bytes are in flight.
    fn submit(&self, raw: Lent) -> Result<PendingBlock> {
        let room = self.budget.take(raw.bytes.len());
        let (answer, pending) = sync_channel(1);
        self.jobs
            .send(PoolJob { raw, room, answer })
            .map_err(|_| Error::failed("the compressor threads ended unexpectedly"))?;
        Ok(PendingBlock(pending))
    }
}

struct Worker {
    encode: Encode,
    decode: Option<Decode>,
    crc64: bool,
}

impl Worker {
    fn run(mut self, queue: &Mutex<Receiver<PoolJob>>, buffers: &Buffers) {
        loop {
            let job = queue.lock().expect("no holder panics").recv();
            let Ok(PoolJob { raw, room, answer }) = job else { return };
            let packed = self.pack(&raw.bytes, buffers.take(), room);
            // The receiver is gone if the run was cancelled.
            let _ = answer.send(packed);
        }
    }

    fn pack(&mut self, raw: &[u8], mut compressed: Lent, room: Share) -> Result<PackedBlock> {
        (self.encode)(raw, &mut compressed.bytes)?;
        if let Some(decode) = &self.decode
            && decode(&compressed.bytes)? != raw
        {
            return Err(Error::failed("a compressed block does not decompress to its original bytes").hint(
                "The memory or the processor of this machine is faulty: do not trust it with backups",
            ));
        }
        let crc64 = if self.crc64 { crc_fast::checksum(Crc64Xz, raw) } else { 0 };
        Ok(PackedBlock { compressed, tally: Tally::of_all(raw)?, crc64, _room: room })
    }
}

/// A stock of spare buffers of about the same size.
///
/// Blocks and parts are so large that the allocator would request each from the kernel and return it, and the
/// kernel would clear every page. Measured with 1 GB of incompressible documents, this took half of the
/// client's CPU time.
#[derive(Debug, Clone)]
pub(super) struct Buffers(Arc<Stock>);

#[derive(Debug)]
struct Stock {
    spare: Mutex<Vec<Vec<u8>>>,
    /// At most this many buffers are kept.
    count: usize,
    /// Larger buffers are not kept: a rare huge document must not stay in memory.
    largest: usize,
}

impl Buffers {
    /// Keeps up to `count` buffers of at most `largest` bytes each.
    pub(super) fn new(count: usize, largest: usize) -> Buffers {
        Buffers(Arc::new(Stock { spare: Mutex::new(Vec::new()), count, largest }))
    }

    /// Returns an empty buffer; a spare one, if there is any.
    pub(super) fn take(&self) -> Lent {
        let spare = self.0.spare.lock().expect("no holder panics").pop();
        Lent { bytes: spare.unwrap_or_default(), from: self.0.clone() }
    }
}

/// A buffer that returns to its stock when it is dropped.
#[derive(Debug)]
pub(super) struct Lent {
    pub bytes: Vec<u8>,
    from: Arc<Stock>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.bytes.capacity() == 0 || self.bytes.capacity() > self.from.largest {
            return;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let mut spare = self.from.spare.lock().expect("no holder panics");
        if spare.len() < self.from.count {
            spare.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    use std::time::Duration;

    use super::*;

    fn document(n: u8) -> Vec<u8> {
        vec![12, 0, 0, 0, 0x10, b'a', 0, n, 0, 0, 0, 0]
    }

    fn copying() -> Result<Encode> {
        Ok(Box::new(|raw, out| {
            out.clear();
            out.extend_from_slice(raw);
            Ok(())
        }))
    }

    fn lent(pool: &Pool, bytes: &[u8]) -> Lent {
        let mut buffer = pool.raw.take();
        buffer.bytes.extend_from_slice(bytes);
        buffer
    }

    #[test]
    fn blocks_come_back_in_order_and_within_the_budget() {
        let pool = Pool::start(3, 40, true, copying, || None).unwrap();
        for round in 0..100u8 {
            let raw = [document(round), document(round.wrapping_add(1))].concat();
            let packed = pool.submit(lent(&pool, &raw)).unwrap().wait().unwrap();
            assert_eq!((packed.tally.documents, packed.tally.raw_bytes), (2, 24));
            assert_eq!(packed.compressed.bytes, raw);
            assert_eq!(packed.crc64, crc_fast::checksum(Crc64Xz, &raw));
        }
    }

    /// The compressor holds the first block until the packer is seen to wait.
    #[test]
    fn the_time_in_which_the_compression_takes_no_more_is_counted() {
        let clock = Arc::new(AtomicU64::new(0));
        let seconds = clock.clone();
        let waits = Waits::new(move || Duration::from_secs(seconds.load(Relaxed)));
        let (hold, held) = sync_channel::<()>(0);
        let held = Arc::new(Mutex::new(held));
        let holding = || -> Result<Encode> {
            let held = held.clone();
            Ok(Box::new(move |raw, out| {
                // After the first block, the other end is gone.
                let _ = held.lock().expect("no holder panics").recv();
                out.clear();
                out.extend_from_slice(raw);
                Ok(())
            }))
        };
        let pool = Pool::start(1, 1, false, holding, || None).unwrap();
        let (mut packer, steps) = Packer::new(pool, 100, waits.clone());
        let packing = thread::spawn(move || {
            packer.begin(0)?;
            // Two of these documents fill a block.
            let long = [vec![0, 0, 8, 0], vec![0; (1 << 19) - 4]].concat();
            (0..4).try_for_each(|_| packer.document(&long))?;
            packer.end()?;
            packer.finish()
        });
        while waits.spent().compression < Duration::from_secs(5) {
            clock.fetch_add(1, Relaxed);
            thread::yield_now();
        }
        drop(hold);
        for step in &steps.0 {
            if let WriteStep::Block(pending) = step {
                drop(pending.wait());
            }
        }
        packing.join().unwrap().unwrap();
        let spent = waits.spent();
        assert_eq!((spent.mongodb, spent.store), (Duration::ZERO, Duration::ZERO), "{spent:?}");
        let whole = spent.compression + spent.other;
        assert_eq!(whole, Duration::from_secs(clock.load(Relaxed)));
    }

    #[test]
    fn a_broken_compressor_is_found_if_blocks_are_decompressed_again() {
        let broken = || -> Result<Encode> {
            Ok(Box::new(|raw, out| {
                out.clear();
                out.extend_from_slice(raw);
                out[7] ^= 1;
                Ok(())
            }))
        };
        let decode = || Some(Box::new(|c: &[u8]| Ok(c.to_vec())) as Decode);
        let pool = Pool::start(1, 100, false, broken, decode).unwrap();
        let error = pool.submit(lent(&pool, &document(1))).unwrap().wait().err().unwrap();
        assert!(error.to_string().contains("does not decompress"), "{error}");
    }

    #[test]
    fn buffers_come_back_empty_and_huge_ones_are_freed() {
        let buffers = Buffers::new(1, 100);
        let mut first = buffers.take();
        first.bytes.extend_from_slice(&[1; 50]);
        let place = first.bytes.as_ptr();
        drop((first, buffers.take()));
        let again = buffers.take();
        assert!(again.bytes.is_empty() && again.bytes.as_ptr() == place);
        let mut huge = buffers.take();
        huge.bytes.extend_from_slice(&[1; 1000]);
        drop(huge);
        assert_eq!(buffers.take().bytes.capacity(), 0);
    }
}
