//! Decompressing regions on all cores: what a segment holds is counted and hashed, and the raw bytes go
//! on in the order of the artifact.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::thread;

use bson::RawDocument;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::regions::Region;
use crate::artifact::pool::sum_documents;
use crate::artifact::writer::Tally;
use crate::base::budget::{Budget, Room};
use crate::base::error::{Error, Result};
use crate::base::limited::Limited;
use crate::base::units;
use crate::config::format::Codec;
use crate::dumpformat::demux::{LONGEST, whole_documents};
use crate::model::optime::OpTime;

/// Something that is wrong with a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The namespace, where it is one's.
    pub namespace: Option<String>,
    /// Where in the artifact the region begins that is wrong, in bytes.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Finding {
    /// One of the whole backup.
    pub fn of_backup(what: String) -> Finding {
        Finding { namespace: None, offset: None, what }
    }

    /// One of a namespace.
    pub fn of_namespace(namespace: String, what: String) -> Finding {
        Finding { namespace: Some(namespace), offset: None, what }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}: ")?;
        }
        f.write_str(&self.what)?;
        match self.offset {
            Some(offset) => write!(f, " (at byte {offset} of the artifact)"),
            None => Ok(()),
        }
    }
}

/// The raw bytes of one region, piece by piece; `Err` when it cannot be decompressed to its end.
pub type Stream = std::sync::mpsc::Receiver<Result<Vec<u8>, ()>>;

/// A region in hand.
pub struct Work {
    /// What it should be.
    pub region: Region,
    /// Where it begins in the artifact.
    pub offset: u64,
    /// Its bytes.
    pub bytes: Bytes,
    /// Where its raw bytes go.
    pub raw: SyncSender<Result<Vec<u8>, ()>>,
}

/// How much may lie between two segments, in bytes without compression: the metadata of a namespace, or of all of them at
/// the beginning of an archive.
pub const LARGEST_BETWEEN: u64 = 512 << 20;

/// How much is decompressed at once.
const CHUNK: usize = 1 << 20;
/// The longest run of documents that takes no room in a budget, in bytes.
pub const ORDINARY: usize = 2 * CHUNK;

type Sums = (BTreeMap<usize, Tally>, Vec<Finding>);

/// The workers.
pub struct Pool(Vec<oneshot::Receiver<Sums>>);

impl Pool {
    /// Starts `workers` threads that take regions until there are no more.
    pub fn start(workers: usize, codec: Codec, regions: mpsc::Receiver<Work>) -> Result<Pool> {
        let regions = Arc::new(Mutex::new(regions));
        let mut answers = Vec::new();
        for n in 0..workers.max(1) {
            let (answer, answered) = oneshot::channel();
            let regions = regions.clone();
            thread::Builder::new()
                .name(format!("verify-{n}"))
                .spawn(move || {
                    let mut sums = Sums::default();
                    loop {
                        let work = regions.lock().expect("no holder panics").blocking_recv();
                        let Some(work) = work else { break };
                        one(codec, work, &mut sums);
                    }
                    // Nobody waits any more when the run was ended.
                    let _ = answer.send(sums);
                })
                .map_err(|e| Error::failed("cannot start a thread").caused_by(e))?;
            answers.push(answered);
        }
        Ok(Pool(answers))
    }

    /// Waits for all of them: what was in each namespace, and what is wrong.
    pub async fn finish(self) -> Result<Sums> {
        let mut all = Sums::default();
        for answer in self.0 {
            let (tallies, findings) = answer.await.map_err(|_| thread_panicked())?;
            for (at, tally) in tallies {
                add(all.0.entry(at).or_default(), &tally);
            }
            all.1.extend(findings);
        }
        Ok(all)
    }
}

/// Adds a tally to another.
pub fn add(sum: &mut Tally, more: &Tally) {
    sum.documents += more.documents;
    sum.raw_bytes += more.raw_bytes;
    sum.stored_bytes += more.stored_bytes;
    sum.sum = sum.sum.wrapping_add(more.sum);
}

fn one(codec: Codec, work: Work, sums: &mut Sums) {
    let Work { region, offset, bytes, raw } = work;
    let reader = codec.reader(bytes.as_ref());
    let (mut times, mut untimely) = (region.slice, None);
    let mut hand_on = |bytes: Vec<u8>| {
        if let Some((last, end)) = &mut times
            && untimely.is_none()
        {
            untimely = in_order(&bytes, last, *end).err();
        }
        // Whoever reads the stream may have ended at something that is wrong: the hashes go on.
        drop(raw.send(Ok(bytes)));
    };
    let outcome = match &region.segment {
        None => {
            let mut between = Limited::new(reader, LARGEST_BETWEEN, "what lies between two segments");
            plain(&mut between, &mut |bytes| hand_on(bytes.to_vec()))
        }
        Some(segment) => {
            let read = documents(&mut reader.take(segment.raw_bytes + 1), None, &mut |run, _| hand_on(run));
            read.and_then(|(tally, hash)| {
                let (wanted, got) =
                    ((segment.documents, segment.raw_bytes), (tally.documents, tally.raw_bytes));
                add(sums.0.entry(segment.namespace).or_default(), &tally);
                if got != wanted {
                    return Err(format!(
                        "{} of {}, the index says {} of {}",
                        units::several(got.0, "document"),
                        units::several(got.1, "byte"),
                        units::count(wanted.0),
                        units::count(wanted.1)
                    ));
                }
                if hash != segment.blake3 {
                    return Err("the BLAKE3 of a segment is not the index's".into());
                }
                Ok(())
            })
        }
    };
    if let (Ok(()), Some(what)) = (&outcome, untimely) {
        sums.1.push(Finding { namespace: region.namespace.clone(), offset: Some(offset), what });
    }
    if let Err(what) = outcome {
        let what = match (&region.segment, &region.namespace) {
            (Some(_), _) => what,
            (None, Some(_)) => format!("in the headers and metadata before its documents, {what}"),
            (None, None) => format!("in what follows the last documents, {what}"),
        };
        sums.1.push(Finding { namespace: region.namespace, offset: Some(offset), what });
        let _ = raw.send(Err(()));
    }
}

/// Checks that the times of oplog entries rise, from after `last` up to `end`.
fn in_order(entries: &[u8], last: &mut OpTime, end: OpTime) -> Result<(), String> {
    let mut rest = entries;
    while let Some(len) = rest.first_chunk::<4>() {
        let Some((entry, after)) = rest.split_at_checked(i32::from_le_bytes(*len) as usize) else { break };
        let time = RawDocument::from_bytes(entry).ok().and_then(|entry| entry.get_timestamp("ts").ok());
        let time: OpTime = time.ok_or("an entry of the oplog slice has no time")?.into();
        if time <= *last || time > end {
            return Err(format!(
                "an entry of the oplog slice is of {time}, which is not after {last} and up to {end}"
            ));
        }
        (*last, rest) = (time, after);
    }
    Ok(())
}

/// Reads headers and metadata.
fn plain(reader: &mut dyn Read, hand_on: &mut dyn FnMut(&[u8])) -> Result<(), String> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => hand_on(&buffer[..n]),
            Err(e) => return Err(damaged(&e)),
        }
    }
}

/// Reads the documents of a segment, and hands them on in runs of whole documents. The answer: what they are, and
/// the BLAKE3 of their bytes.
///
/// A run is up to [`ORDINARY`] bytes long. A longer document is a run of its own, and is read when there is room for
/// it in `large`: the run is handed on with its room, which is to be kept as long as its bytes.
pub fn documents(
    reader: &mut dyn Read,
    large: Option<&Arc<Budget>>,
    hand_on: &mut dyn FnMut(Vec<u8>, Option<Room>),
) -> Result<(Tally, String), String> {
    let (mut buffer, mut filled, mut room) = (vec![0; ORDINARY], 0, None);
    let (mut tally, mut hasher) = (Tally::default(), blake3::Hasher::new());
    loop {
        if filled == buffer.len() {
            // Whole documents were handed on before it was full: this is the beginning of a longer one.
            let length = buffer.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes) as usize);
            if !(filled + 1..=LONGEST).contains(&length) {
                return Err("there is something that is not a document".into());
            }
            room = large.map(|budget| budget.take(length));
            buffer.reserve_exact(length - filled);
            buffer.resize(length, 0);
        }
        let n = reader.read(&mut buffer[filled..]).map_err(|e| damaged(&e))?;
        filled += n;
        // Pieces of a decoder are small; hashing wants large ones.
        if n > 0 && filled < CHUNK {
            continue;
        }
        let whole = whole_documents(&buffer[..filled]);
        if n == 0 && whole < filled {
            return Err("a segment does not end with a document".into());
        }
        let run = &buffer[..whole];
        hasher.update(run);
        let (documents, sum) = sum_documents(run).map_err(|e| e.chain())?;
        add(&mut tally, &Tally { documents, raw_bytes: whole as u64, stored_bytes: 0, sum });
        if whole > 0 {
            let mut next = vec![0; ORDINARY];
            next[..filled - whole].copy_from_slice(&buffer[whole..filled]);
            buffer.truncate(whole);
            hand_on(std::mem::replace(&mut buffer, next), room.take());
        }
        filled -= whole;
        if n == 0 {
            return Ok((tally, hasher.finalize().to_hex().to_string()));
        }
    }
}

fn damaged(error: &std::io::Error) -> String {
    format!("it cannot be decompressed: {error}")
}

/// The error of a reader whose thread panicked.
pub fn thread_panicked() -> Error {
    Error::failed("a thread of the verify ended unexpectedly")
}
