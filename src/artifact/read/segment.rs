//! Reading segments: decompress, count and hash the documents, and compare the result with the index.
//!
//! [`check`] is the only reader of segments. `verify` gives it bytes that are already in memory.
//! [`StoredArtifact`] gives it a range of an object in a store: the next piece is requested while the current
//! one is decompressed.

use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;

use super::held::{self, Resumed};
use super::replicas::Replicas;
pub use super::runs::{DocumentRun, ORDINARY, undecodable};
use super::runs::{RUN, buffer_size};
use crate::artifact::age_header::CHUNK as SEALED_CHUNK;
use crate::artifact::unseal::Opener;
use crate::base::bounds::{Budget, Share};
use crate::base::error::{Error, Kind, Result};
use crate::base::units::{count, several};
use crate::config::choices::Codec;
use crate::dumpformat::demux::{LONGEST, whole_documents};
use crate::model::index::Segment;
use crate::model::tally::Tally;
use crate::store::{self, Store};

/// The size of a range request in bytes.
const REQUEST: u64 = 4 << 20;
/// The same for a whole object. Two of them can be read at once, and the replay of their documents is slower than any store.
const REQUEST_OF_WHOLE: u64 = 2 << 20;
/// The largest region without documents, decompressed, in bytes: the metadata of a namespace, or of all
/// namespaces at the beginning of an archive.
pub const LARGEST_BETWEEN: u64 = 512 << 20;
/// The size of the budget for large documents: two of the largest ones. One is sent to the target while the
/// next is read. Each is in memory several times, as the command and as the driver's message, and a restore
/// must not need more than 256 MiB.
const LARGE: usize = 2 * LONGEST;

/// Makes the budget for the large documents of one restore.
pub fn large_documents() -> Arc<Budget> {
    Budget::new(LARGE)
}

/// Reads a segment from its compressed bytes, compares it with the index, and hands its documents on in runs.
/// The segment's tally is returned even if the segment differs from the index, but not if it cannot be read to
/// its end.
pub fn check(
    compressed: impl BufRead,
    codec: Codec,
    segment: &Segment,
    large: Option<&Arc<Budget>>,
    take: &mut dyn FnMut(Vec<u8>, Option<Share>),
) -> (Tally, Result<(), String>) {
    let mut raw = codec.stream(compressed).take(segment.raw_bytes + 1);
    compare(documents(&mut raw, segment.raw_bytes, large, take), segment)
}

/// Compares the documents that were read with the index.
fn compare(read: Result<(Tally, String), String>, segment: &Segment) -> (Tally, Result<(), String>) {
    let (tally, hash) = match read {
        Ok(read) => read,
        Err(why) => return (Tally::default(), Err(why)),
    };
    let same = if (tally.documents, tally.raw_bytes) != (segment.documents, segment.raw_bytes) {
        Err(format!(
            "a segment has {} of {}, but the index says {} of {}",
            several(tally.documents, "document"),
            several(tally.raw_bytes, "byte"),
            count(segment.documents),
            count(segment.raw_bytes)
        ))
    } else if hash != segment.blake3 {
        Err("the BLAKE3 of a segment differs from the index".into())
    } else {
        Ok(())
    };
    (tally, same)
}

/// Reads concatenated BSON documents and hands them on in runs of whole documents. Returns their tally and
/// the BLAKE3 of their bytes.
///
/// A run is at most [`ORDINARY`] bytes long. A longer document is a run of its own. It is read when the
/// budget `large` has room for it, and handed on with that room, which must be kept as long as the bytes.
/// `expected` is the length of all documents, if it is known: short segments need little memory.
///
/// # Errors
/// Returns an error if the stream cannot be read or contains anything but whole documents.
pub fn documents(
    reader: &mut dyn Read,
    expected: u64,
    large: Option<&Arc<Budget>>,
    take: &mut dyn FnMut(Vec<u8>, Option<Share>),
) -> Result<(Tally, String), String> {
    let size = buffer_size(expected);
    let (mut buffer, mut filled, mut room) = (vec![0; size], 0, None);
    let (mut tally, mut hasher) = (Tally::default(), blake3::Hasher::new());
    loop {
        if filled == buffer.len() {
            // Whole documents were handed on before the buffer was full: it holds the beginning of a longer
            // one.
            let length = buffer.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes) as usize);
            if !(filled + 1..=LONGEST).contains(&length) {
                return Err("some bytes are not a BSON document".into());
            }
            room = large.map(|budget| budget.take(length));
            buffer.reserve_exact(length - filled);
            buffer.resize(length, 0);
        }
        let n = reader.read(&mut buffer[filled..]).map_err(|e| undecodable(&e))?;
        filled += n;
        if n > 0 && filled < RUN {
            continue;
        }
        let whole = whole_documents(&buffer[..filled]);
        if n == 0 && whole < filled {
            return Err("the last document is incomplete".into());
        }
        let run = &buffer[..whole];
        hasher.update(run);
        tally += Tally::of_all(run).map_err(|e| e.chain())?;
        if whole > 0 {
            let mut next = vec![0; size.max(filled - whole)];
            next[..filled - whole].copy_from_slice(&buffer[whole..filled]);
            buffer.truncate(whole);
            take(std::mem::replace(&mut buffer, next), room.take());
        }
        filled -= whole;
        if n == 0 {
            return Ok((tally, hasher.finalize().to_hex().to_string()));
        }
    }
}

/// An artifact in a store, or in several.
#[derive(Debug, Clone)]
pub struct StoredArtifact {
    pub places: Replicas,
    pub key: String,
    pub codec: Codec,
    /// Decrypts ranges of the object; `None` if it is not encrypted.
    pub opener: Option<Opener>,
    /// The room for large documents, which all readers of the artifact share.
    pub large: Arc<Budget>,
}

impl StoredArtifact {
    /// Reads a region without documents from one of the stores, and decompresses it.
    pub async fn raw(&self, store: &Arc<dyn Store>, range: Range<u64>) -> Result<Vec<u8>> {
        let place = format!("{} at byte {}", self.key, range.start);
        let stored = store.get_range(&self.key, self.stored(&range)).await;
        let bytes = stored.and_then(|stored| self.open(&range, stored)).map_err(of_store)?;
        self.codec
            .decode(&bytes, LARGEST_BETWEEN)
            .map_err(|e| Error::new(Kind::Mismatch, format!("{place} is damaged")).caused_by(e.chain()))
    }

    /// The stored range with a range of the content.
    fn stored(&self, range: &Range<u64>) -> Range<u64> {
        self.opener.as_ref().map_or(range.clone(), |opener| opener.stored(range))
    }

    /// The content of a range, from the stored bytes.
    fn open(&self, range: &Range<u64>, stored: Bytes) -> store::StoreResult<Bytes> {
        let Some(opener) = &self.opener else { return Ok(stored) };
        opener.open(range, stored.into()).map(Bytes::from).map_err(|why| {
            store::StoreError::new(
                store::StoreErrorKind::Damaged,
                format!("{} cannot be decrypted", self.key),
                why,
            )
        })
    }

    /// Reads a segment, sends its documents to `runs`, and compares it with the index. `name` is the
    /// namespace's name in errors. If the receiver of `runs` is gone, the segment is still read to its end.
    ///
    /// If there are several stores, a segment that one of them does not give whole is read from the next one, and no document is
    /// sent before the checksum of its block was compared.
    ///
    /// # Errors
    /// Returns an error if no store can be read. The error has the kind `Mismatch` if the segment is
    /// damaged.
    pub async fn segment(
        &self,
        segment: &Segment,
        name: String,
        runs: Option<Sender<DocumentRun>>,
    ) -> Result<Tally> {
        let (artifact, segment, handle) = (self.clone(), segment.clone(), Handle::current());
        let work = move || {
            artifact.read(&segment, &name, &handle, &mut |run| {
                if let Some(runs) = &runs {
                    // A receiver that is gone has failed and reports its own error.
                    let _ = runs.blocking_send(run);
                }
            })
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::failed("a reader ended unexpectedly"))?
    }

    /// Does the same as [`segment`](StoredArtifact::segment) on the current thread.
    pub fn read(
        &self,
        segment: &Segment,
        name: &str,
        handle: &Handle,
        take: &mut dyn FnMut(DocumentRun),
    ) -> Result<Tally> {
        if !self.places.are_several() {
            return self.read_from(self.places.first(), segment, name, handle, take);
        }
        let (mut resumed, mut attempts) =
            (Resumed::new(take), self.places.attempts(&self.key, segment.offset));
        while let Some(replica) = attempts.next_store() {
            resumed.begin();
            match self.read_from(&replica.store, segment, name, handle, &mut |run| resumed.take(run)) {
                Ok(tally) => {
                    resumed.end().map_err(|what| self.damaged(segment, name, &what))?;
                    attempts.succeeded(replica);
                    return Ok(tally);
                }
                Err(error) => attempts.failed(error)?,
            }
        }
        Err(attempts.error())
    }

    fn read_from(
        &self,
        store: &Arc<dyn Store>,
        segment: &Segment,
        name: &str,
        handle: &Handle,
        take: &mut dyn FnMut(DocumentRun),
    ) -> Result<Tally> {
        let (failure, range) = (Arc::default(), segment.offset..segment.offset + segment.length);
        let mut pieces = self.pieces(store, range, REQUEST, handle, &failure);
        let mut take = |documents, room| take(DocumentRun::new(documents, room));
        let large = Some(&self.large);
        let (tally, same) = match self.places.are_several() {
            false => check(pieces, self.codec, segment, large, &mut take),
            true => compare(
                held::documents(&mut pieces, self.codec, segment.raw_bytes, large, &mut take),
                segment,
            ),
        };
        if let Some(error) = failure.lock().expect("no holder panics").take() {
            return Err(of_store(error));
        }
        same.map(|()| tally).map_err(|what| self.damaged(segment, name, &what))
    }

    fn damaged(&self, segment: &Segment, name: &str, what: &str) -> Error {
        let place = format!("{name} is damaged in {} at byte {}: {what}", self.key, segment.offset);
        Error::new(Kind::Mismatch, place)
    }
}

/// The documents of an object that was read to its end.
#[derive(Debug)]
pub struct WholeObject {
    pub tally: Tally,
    /// BLAKE3 of the documents, hex.
    pub raw_blake3: String,
    /// BLAKE3 of the object, hex.
    pub blake3: String,
}

impl StoredArtifact {
    /// Reads the whole object, which is `size` bytes long, from one of the stores, and hands its documents on in runs. Stops after
    /// `most` bytes of documents. Blocks the thread. If there are several stores, no document is handed on before the checksum of its
    /// frame was compared.
    ///
    /// # Errors
    /// Returns an error if the store cannot be read. The error has the kind `Mismatch` if the object cannot be decompressed or
    /// contains anything but documents.
    pub fn read_whole(
        &self,
        store: &Arc<dyn Store>,
        size: u64,
        most: u64,
        handle: &Handle,
        take: &mut dyn FnMut(DocumentRun),
    ) -> Result<WholeObject> {
        let failure = Arc::default();
        let mut pieces = HashedPieces {
            pieces: self.pieces(store, 0..size, REQUEST_OF_WHOLE, handle, &failure),
            hasher: blake3::Hasher::new(),
        };
        let mut take = |documents, room| take(DocumentRun::new(documents, room));
        let large = Some(&self.large);
        let read = match self.places.are_several() {
            false => documents(&mut self.codec.stream(&mut pieces).take(most + 1), most, large, &mut take),
            true => held::documents(&mut pieces, self.codec, most, large, &mut take),
        };
        // A decoder may stop at the end of its last frame.
        let rest = io::copy(&mut pieces, &mut io::sink());
        if let Some(error) = failure.lock().expect("no holder panics").take() {
            return Err(of_store(error));
        }
        let damaged = |what: String| Error::new(Kind::Mismatch, format!("{} is damaged: {what}", self.key));
        let (tally, raw_blake3) = read.map_err(damaged)?;
        rest.map_err(|e| damaged(e.to_string()))?;
        Ok(WholeObject { tally, raw_blake3, blake3: pieces.hasher.finalize().to_hex().to_string() })
    }

    fn pieces(
        &self,
        store: &Arc<dyn Store>,
        range: Range<u64>,
        request: u64,
        handle: &Handle,
        failure: &Arc<Mutex<Option<store::StoreError>>>,
    ) -> RequestedPieces {
        let mut pieces = RequestedPieces {
            artifact: self.clone(),
            store: Arc::clone(store),
            handle: handle.clone(),
            left: range,
            request,
            current: Bytes::new(),
            requested: None,
            failure: Arc::clone(failure),
        };
        pieces.request_next();
        pieces
    }
}

/// Hashes the bytes that are consumed.
struct HashedPieces {
    pieces: RequestedPieces,
    hasher: blake3::Hasher,
}

impl BufRead for HashedPieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.pieces.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.hasher.update(&self.pieces.current[..n]);
        self.pieces.consume(n);
    }
}

impl Read for HashedPieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

/// A range of an artifact as a stream. The next piece is requested while the current one is read.
struct RequestedPieces {
    artifact: StoredArtifact,
    store: Arc<dyn Store>,
    handle: Handle,
    left: Range<u64>,
    /// The size of a range request in bytes.
    request: u64,
    current: Bytes,
    /// The range of the content that was requested, and the stored bytes.
    requested: Option<(Range<u64>, JoinHandle<store::StoreResult<Bytes>>)>,
    /// The store's own error. The decoder would wrap it in an error of decompression.
    failure: Arc<Mutex<Option<store::StoreError>>>,
}

impl RequestedPieces {
    fn request_next(&mut self) {
        if self.left.is_empty() {
            return;
        }
        let mut end = self.left.end.min(self.left.start + self.request);
        if self.artifact.opener.is_some() && end < self.left.end {
            // No chunk is requested twice.
            end -= end % SEALED_CHUNK as u64;
        }
        let range = std::mem::replace(&mut self.left.start, end)..end;
        let (store, key, stored) =
            (Arc::clone(&self.store), self.artifact.key.clone(), self.artifact.stored(&range));
        let request = async move { store.get_range(&key, stored).await };
        self.requested = Some((range, self.handle.spawn(request)));
    }
}

impl BufRead for RequestedPieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.is_empty()
            && let Some((range, requested)) = self.requested.take()
        {
            let stored = self.handle.block_on(requested).map_err(io::Error::other)?;
            match stored.and_then(|stored| self.artifact.open(&range, stored)) {
                Ok(bytes) => self.current = bytes,
                Err(error) => {
                    *self.failure.lock().expect("no holder panics") = Some(error);
                    return Err(io::Error::other("the store cannot be read"));
                }
            }
            self.request_next();
        }
        Ok(&self.current)
    }

    fn consume(&mut self, n: usize) {
        self.current.advance(n);
    }
}

impl Read for RequestedPieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

/// Turns a store's error into the error of a restore: an object that is missing or too short does not match
/// the manifest.
fn of_store(error: store::StoreError) -> Error {
    match error.kind.is_fault() {
        true => Error::from(error).of_kind(Kind::Mismatch),
        false => error.into(),
    }
}
