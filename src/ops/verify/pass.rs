//! One pass over the artifact: fetch it from the first byte to the last, decompress and hash its regions on all cores,
//! and hand the decompressed bytes to the reader of the structure in their order.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use bson::RawDocument;
use bytes::{Bytes, BytesMut};
use crc_fast::CrcAlgorithm::Crc64Nvme;
use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};

use super::{VerifyFinding, thread_panicked};
use crate::artifact::read::Region;
use crate::artifact::read::segment::{self, LARGEST_BETWEEN};
use crate::base::bounds::Limited;
use crate::base::error::{Error, Result};
use crate::config::format::Codec;
use crate::model::manifest::Manifest;
use crate::model::optime::OpTime;
use crate::model::tally::Tally;
use crate::store::Store;

/// The size of a range request in bytes.
const REQUEST: u64 = 8 << 20;
/// How many requests are under way.
const REQUESTS: usize = 4;
/// How many decompressed pieces of a region may wait for the reader of the structure.
const WAITING: usize = 4;
/// How many bytes of headers and metadata are decompressed at once.
const CHUNK: usize = 1 << 20;

/// A decompressed piece of a region. `Err` if the region cannot be decompressed to its end.
type Piece = Result<Vec<u8>, ()>;
/// The decompressed pieces of one region.
pub type Pieces = Receiver<Piece>;

/// A region with its compressed bytes.
struct FetchedRegion {
    region: Region,
    bytes: Bytes,
    pieces: SyncSender<Piece>,
}

/// What the workers found: the tally of each namespace, by its place in the manifest, and the findings.
type Sums = (BTreeMap<usize, Tally>, Vec<VerifyFinding>);

/// Fetches the artifact, hashes its regions on `workers` threads, and sends the decompressed regions to `ordered`.
/// Returns what the workers found, and the CRC-64/NVME of the artifact.
pub async fn read_regions(
    store: &Arc<dyn Store>,
    manifest: &Manifest,
    regions: Vec<Region>,
    codec: Codec,
    workers: usize,
    ordered: SyncSender<Pieces>,
) -> Result<(Sums, u64)> {
    // Each worker has a region in hand, and one region waits.
    let (fetched, taken) = mpsc::channel(1);
    let workers = start_workers(workers, codec, taken)?;
    let crc64nvme = fetch(store, manifest, regions, &fetched, &ordered).await;
    drop((fetched, ordered));
    let mut sums = Sums::default();
    for answer in workers {
        let (tallies, findings) = answer.await.map_err(|_| thread_panicked())?;
        for (at, tally) in tallies {
            *sums.0.entry(at).or_default() += tally;
        }
        sums.1.extend(findings);
    }
    // The error of a store that failed in the middle comes before the faults that follow from it.
    Ok((sums, crc64nvme?))
}

/// Fetches the artifact and returns its CRC-64/NVME.
async fn fetch(
    store: &Arc<dyn Store>,
    manifest: &Manifest,
    regions: Vec<Region>,
    fetched: &mpsc::Sender<FetchedRegion>,
    ordered: &SyncSender<Pieces>,
) -> Result<u64> {
    let (key, size) = (manifest.artifact.key.as_str(), manifest.artifact.size);
    let ranges = (0..size.div_ceil(REQUEST)).map(|n| n * REQUEST..size.min((n + 1) * REQUEST));
    let mut answers = stream::iter(ranges).map(|range| store.get_range(key, range)).buffered(REQUESTS);
    let (mut digest, mut waiting) = (crc_fast::Digest::new(Crc64Nvme), BytesMut::new());
    let mut regions = regions.into_iter().peekable();
    while let Some(answer) = answers.next().await {
        let mut bytes: Bytes = answer?;
        digest.update(&bytes);
        while let Some(region) = regions
            .next_if(|region| (region.range.end - region.range.start) as usize <= waiting.len() + bytes.len())
        {
            let missing = (region.range.end - region.range.start) as usize - waiting.len();
            waiting.extend_from_slice(&bytes.split_to(missing));
            let (pieces, decompressed) = sync_channel(WAITING);
            // The channel holds as many regions as there are workers; sending to it waits for the reader. The reader
            // ends early if the structure is wrong. The hashes are checked all the same.
            let ordered = ordered.clone();
            let _ = tokio::task::spawn_blocking(move || ordered.send(decompressed)).await;
            let work = FetchedRegion { region, bytes: waiting.split().freeze(), pieces };
            fetched.send(work).await.map_err(|_| Error::aftermath("the workers ended"))?;
        }
        waiting.extend_from_slice(&bytes);
    }
    Ok(digest.finalize())
}

/// Starts the threads that decompress and hash regions until there are no more.
fn start_workers(
    workers: usize,
    codec: Codec,
    fetched: mpsc::Receiver<FetchedRegion>,
) -> Result<Vec<oneshot::Receiver<Sums>>> {
    let fetched = Arc::new(Mutex::new(fetched));
    let start = |n| {
        let (answer, answered) = oneshot::channel();
        let fetched = fetched.clone();
        let work = move || {
            let mut sums = Sums::default();
            loop {
                let next = fetched.lock().expect("no holder panics").blocking_recv();
                let Some(region) = next else { break };
                check_region(codec, region, &mut sums);
            }
            // The receiver is gone if the run was cancelled.
            let _ = answer.send(sums);
        };
        thread::Builder::new()
            .name(format!("verify-{n}"))
            .spawn(work)
            .map_err(|e| Error::failed("cannot start a thread").caused_by(e))?;
        Ok(answered)
    };
    (0..workers.max(1)).map(start).collect()
}

fn check_region(codec: Codec, work: FetchedRegion, sums: &mut Sums) {
    let FetchedRegion { region, bytes, pieces } = work;
    let (mut times, mut untimely) = (region.slice, None);
    let mut hand_on = |bytes: Vec<u8>| {
        if let Some((last, end)) = &mut times
            && untimely.is_none()
        {
            untimely = check_order(&bytes, last, *end).err();
        }
        // The reader of the structure may have ended because of a fault. The hashes are checked all the same.
        drop(pieces.send(Ok(bytes)));
    };
    let outcome = match &region.segment {
        None => {
            headers(&mut codec.stream(bytes.as_ref()), &mut hand_on).map_err(|what| match &region.namespace {
                Some(_) => format!("in the headers and metadata before its documents, {what}"),
                None => format!("after the last documents, {what}"),
            })
        }
        Some(segment) => {
            let (tally, outcome) =
                segment::check(bytes.as_ref(), codec, segment, None, &mut |run, _| hand_on(run));
            if tally.documents > 0 {
                *sums.0.entry(segment.namespace).or_default() += tally;
            }
            outcome
        }
    };
    if outcome.is_err() {
        let _ = pieces.send(Err(()));
    }
    let offset = Some(region.range.start);
    let what = outcome.err().or(untimely);
    sums.1.extend(what.map(|what| VerifyFinding { namespace: region.namespace, offset, what }));
}

/// Checks that the times of oplog entries rise, from after `last` up to `end`.
fn check_order(entries: &[u8], last: &mut OpTime, end: OpTime) -> Result<(), String> {
    let mut rest = entries;
    while let Some(len) = rest.first_chunk::<4>() {
        let Some((entry, after)) = rest.split_at_checked(i32::from_le_bytes(*len) as usize) else { break };
        let time = RawDocument::from_bytes(entry).ok().and_then(|entry| entry.get_timestamp("ts").ok());
        let time: OpTime = time.ok_or("an entry of the oplog slice has no time")?.into();
        if time <= *last || time > end {
            return Err(format!(
                "an entry of the oplog slice has the time {time}, which is not after {last} and up to {end}"
            ));
        }
        (*last, rest) = (time, after);
    }
    Ok(())
}

/// Reads headers and metadata.
fn headers(compressed: &mut dyn Read, take: &mut dyn FnMut(Vec<u8>)) -> Result<(), String> {
    let mut raw = Limited::new(compressed, LARGEST_BETWEEN, "the data between two segments");
    let mut buffer = vec![0; CHUNK];
    loop {
        match raw.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => take(buffer[..n].to_vec()),
            Err(e) => return Err(segment::undecodable(&e)),
        }
    }
}
