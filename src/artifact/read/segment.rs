//! Reading one stretch of an artifact: asked for piece by piece, decompressed and hashed on a thread of its
//! own, while the next piece is on its way.

use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinHandle;

use crate::artifact::read::region;
use crate::artifact::writer::Tally;
use crate::base::budget::{Budget, Room};
use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::config::format::Codec;
use crate::dumpformat::demux::LONGEST;
use crate::model::index::Segment;
use crate::store::{self, Store};

/// How much is asked for at once.
const REQUEST: u64 = 4 << 20;

/// An object of compressed pieces.
#[derive(Debug, Clone)]
pub struct Object {
    /// Where it is kept.
    pub store: Arc<dyn Store>,
    /// Its key.
    pub key: String,
    /// Its compression.
    pub codec: Codec,
    /// The room for large documents, which all readers of the object share.
    pub large: Arc<Budget>,
}

/// Whole documents that stand one after the other.
#[derive(Debug)]
pub struct Run {
    /// Their bytes.
    pub documents: Vec<u8>,
    /// The room that they take, if they are large.
    _room: Option<Room>,
}

/// How many bytes of large documents may be on their way from the artifact to the target. Two of the largest: one is
/// sent while the next is read. Each is in memory several times, as the command and as the driver's message, and
/// a restore is to need no more than 256 MiB.
const LARGE: usize = 2 * LONGEST;

/// The room for large documents of one restore.
pub fn large() -> Arc<Budget> {
    Budget::new(LARGE)
}

impl Object {
    /// The raw bytes of a stretch, whole.
    pub async fn raw(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let place = format!("{} at {}", self.key, range.start);
        let bytes = self.store.get_range(&self.key, range).await.map_err(of_store)?;
        self.codec
            .decode(&bytes, region::LARGEST_BETWEEN)
            .map_err(|e| Error::new(Kind::Mismatch, format!("{place} is damaged")).caused_by(e.chain()))
    }

    /// Reads a segment to its end, hands its documents on in runs, and compares it with the index. Ends
    /// early, but not with an error, when nobody takes the runs any more.
    pub async fn segment(&self, segment: &Segment, name: String, runs: Option<Sender<Run>>) -> Result<Tally> {
        let (object, segment, handle) = (self.clone(), segment.clone(), Handle::current());
        let work = move || {
            object.runs(&segment, &name, &handle, &mut |run| {
                if let Some(runs) = &runs {
                    // Whoever took them may have failed: that error is the one that is told.
                    let _ = runs.blocking_send(run);
                }
            })
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Error::failed("a reader ended unexpectedly"))?
    }

    /// The same on this thread.
    pub fn read(
        &self,
        segment: &Segment,
        name: &str,
        handle: &Handle,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<Tally> {
        self.runs(segment, name, handle, &mut |run| take(&run.documents))
    }

    fn runs(
        &self,
        segment: &Segment,
        name: &str,
        handle: &Handle,
        take: &mut dyn FnMut(Run),
    ) -> Result<Tally> {
        let range = segment.offset..segment.offset + segment.length;
        let failure = Arc::default();
        let ranges = Ranges::new(self, range, handle.clone(), Arc::clone(&failure));
        let mut reader = self.codec.stream(ranges).take(segment.raw_bytes + 1);
        let mut hand_on = |documents, _room| take(Run { documents, _room });
        let read = region::documents(&mut reader, Some(&self.large), &mut hand_on);
        if let Some(error) = failure.lock().expect("no holder panics").take() {
            return Err(of_store(error));
        }
        let wrong = |what: String| {
            let place = format!("{name} is damaged in {} at {}: {what}", self.key, segment.offset);
            Error::new(Kind::Mismatch, place)
        };
        let (tally, hash) = read.map_err(wrong)?;
        let (got, wanted) = ((tally.documents, tally.raw_bytes), (segment.documents, segment.raw_bytes));
        if got != wanted {
            let (documents, bytes) = (units::several(got.0, "document"), units::several(got.1, "byte"));
            return Err(wrong(format!(
                "{documents} of {bytes}, not {} of {}",
                units::count(wanted.0),
                units::count(wanted.1)
            )));
        }
        if hash != segment.blake3 {
            return Err(wrong("its BLAKE3 is not the index's".into()));
        }
        Ok(tally)
    }
}

/// The bytes of a stretch as a stream. One request is under way while the answer before is read.
struct Ranges {
    store: Arc<dyn Store>,
    key: String,
    handle: Handle,
    left: Range<u64>,
    current: Bytes,
    asked: Option<JoinHandle<store::Result<Bytes>>>,
    /// The store's own error, which the decoder would wrap.
    failure: Arc<Mutex<Option<store::Error>>>,
}

impl Ranges {
    fn new(
        object: &Object,
        left: Range<u64>,
        handle: Handle,
        failure: Arc<Mutex<Option<store::Error>>>,
    ) -> Ranges {
        let (store, key) = (Arc::clone(&object.store), object.key.clone());
        let mut ranges = Ranges { store, key, handle, left, current: Bytes::new(), asked: None, failure };
        ranges.ask();
        ranges
    }

    fn ask(&mut self) {
        if self.left.is_empty() {
            return;
        }
        let end = self.left.end.min(self.left.start + REQUEST);
        let range = std::mem::replace(&mut self.left.start, end)..end;
        let (store, key) = (Arc::clone(&self.store), self.key.clone());
        self.asked = Some(self.handle.spawn(async move { store.get_range(&key, range).await }));
    }
}

impl BufRead for Ranges {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.current.is_empty()
            && let Some(asked) = self.asked.take()
        {
            match self.handle.block_on(asked).map_err(io::Error::other)? {
                Ok(bytes) => self.current = bytes,
                Err(error) => {
                    *self.failure.lock().expect("no holder panics") = Some(error);
                    return Err(io::Error::other("it cannot be read"));
                }
            }
            self.ask();
        }
        Ok(&self.current)
    }

    fn consume(&mut self, n: usize) {
        self.current.advance(n);
    }
}

impl Read for Ranges {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

/// An error of the store while stored data is read: what is not there or too short does not match the
/// manifest.
fn of_store(error: store::Error) -> Error {
    let kind = error.kind;
    let error = Error::from(error);
    match kind {
        store::Kind::NotFound | store::Kind::Damaged => error.of_kind(Kind::Mismatch),
        _ => error,
    }
}
