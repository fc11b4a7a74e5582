//! Compression by all cores, with the results in the order of the questions and memory bounded by
//! the raw bytes in flight.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use crc_fast::CrcAlgorithm::Crc64Xz;

use super::buffers::{Buffers, Lent};
use super::pack::BLOCK;
use crate::base::bounds::{Budget, Share};
use crate::base::error::{Error, Result};
use crate::base::process;
use crate::model::tally::Tally;

/// Compresses one piece into the buffer, which it clears first.
pub type Encode = Box<dyn FnMut(&[u8], &mut Vec<u8>) -> Result<()> + Send>;
/// Gives back the raw bytes of a compressed piece.
pub type Decode = Box<dyn Fn(&[u8]) -> Result<Vec<u8>> + Send>;

/// What a worker does with a block beside compressing it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// Compute the CRC-64/XZ of the raw bytes, which mongodump's archive needs.
    pub crc64: bool,
}

/// A block that was compressed.
pub struct Packed {
    /// The gzip member or zstd frame.
    pub compressed: Lent,
    /// Counts and hash sum of the documents in the block.
    pub tally: Tally,
    /// CRC-64/XZ of the raw bytes, 0 if it was not asked for.
    pub crc64: u64,
    _room: Share,
}

/// The answer to come for a block.
pub struct Pending(Receiver<Result<Packed>>);

impl Pending {
    /// Waits for the block.
    pub fn wait(self) -> Result<Packed> {
        self.0.recv().unwrap_or_else(|_| Err(Error::failed("a compressor thread ended unexpectedly")))
    }
}

struct Job {
    raw: Lent,
    room: Share,
    answer: SyncSender<Result<Packed>>,
}

/// The workers. Dropping it lets them finish what they have and end.
pub struct Pool {
    jobs: SyncSender<Job>,
    budget: Arc<Budget>,
    raw: Buffers,
}

/// Buffers kept for reuse are at most this large.
const KEPT: usize = 2 * BLOCK;

impl Pool {
    /// Starts `workers` threads that may hold `budget` raw bytes at a time (a single larger block is
    /// let through alone). `encode` makes a compressor for each; with `decode` each block is
    /// decompressed again and compared before it counts.
    pub fn start(
        workers: usize,
        budget: usize,
        extras: Extras,
        encode: impl Fn() -> Result<Encode>,
        decode: impl Fn() -> Option<Decode>,
    ) -> Result<Pool> {
        let (jobs, queue) = sync_channel::<Job>(workers * 2);
        let queue = Arc::new(Mutex::new(queue));
        // As many of each as may be in flight.
        let stock = || Buffers::new(budget / BLOCK + workers, KEPT);
        let (raw, compressed) = (stock(), stock());
        for n in 0..workers {
            let worker = Worker { encode: encode()?, decode: decode(), extras };
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

    /// An empty buffer for the next block.
    pub fn buffer(&self) -> Lent {
        self.raw.take()
    }

    /// Hands in a block of whole documents; waits while too much is in flight.
    pub fn submit(&self, raw: Lent) -> Result<Pending> {
        let room = self.budget.take(raw.bytes.len());
        let (answer, pending) = sync_channel(1);
        self.jobs
            .send(Job { raw, room, answer })
            .map_err(|_| Error::failed("the compressor threads ended unexpectedly"))?;
        Ok(Pending(pending))
    }
}

struct Worker {
    encode: Encode,
    decode: Option<Decode>,
    extras: Extras,
}

impl Worker {
    fn run(mut self, queue: &Mutex<Receiver<Job>>, buffers: &Buffers) {
        loop {
            let job = queue.lock().expect("no holder panics").recv();
            let Ok(Job { raw, room, answer }) = job else { return };
            let packed = self.pack(&raw.bytes, buffers.take(), room);
            // Nobody waits any more when the run was ended.
            let _ = answer.send(packed);
        }
    }

    fn pack(&mut self, raw: &[u8], mut compressed: Lent, room: Share) -> Result<Packed> {
        (self.encode)(raw, &mut compressed.bytes)?;
        if let Some(decode) = &self.decode
            && decode(&compressed.bytes)? != raw
        {
            return Err(Error::failed("a compressed block does not decompress to what went in").hint(
                "The memory or the processor of this machine is faulty: do not trust it with backups",
            ));
        }
        Ok(Packed {
            compressed,
            tally: Tally::of_all(raw)?,
            crc64: if self.extras.crc64 { crc_fast::checksum(Crc64Xz, raw) } else { 0 },
            _room: room,
        })
    }
}

#[cfg(test)]
mod tests {
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
        let mut buffer = pool.buffer();
        buffer.bytes.extend_from_slice(bytes);
        buffer
    }

    #[test]
    fn answers_come_in_order_and_within_the_budget() {
        let pool = Pool::start(3, 40, Extras { crc64: true }, copying, || None).unwrap();
        for round in 0..100u8 {
            let raw = [document(round), document(round.wrapping_add(1))].concat();
            let packed = pool.submit(lent(&pool, &raw)).unwrap().wait().unwrap();
            assert_eq!((packed.tally.documents, packed.tally.raw_bytes), (2, 24));
            assert_eq!(packed.compressed.bytes, raw);
            assert_eq!(packed.crc64, crc_fast::checksum(Crc64Xz, &raw));
        }
    }

    #[test]
    fn a_broken_compressor_is_found_when_asked() {
        let broken = || -> Result<Encode> {
            Ok(Box::new(|raw, out| {
                out.clear();
                out.extend_from_slice(raw);
                out[7] ^= 1;
                Ok(())
            }))
        };
        let decode = || Some(Box::new(|c: &[u8]| Ok(c.to_vec())) as Decode);
        let pool = Pool::start(1, 100, Extras::default(), broken, decode).unwrap();
        let error = pool.submit(lent(&pool, &document(1))).unwrap().wait().err().unwrap();
        assert!(error.to_string().contains("does not decompress"), "{error}");
    }
}
