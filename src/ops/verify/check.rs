//! Checking one backup: every byte of its artifact is compared with the manifest and the index.
//!
//! The artifact is read in one pass. It is fetched from the first byte to the last; worker threads decompress
//! and hash its regions; and a thread reads the decompressed regions in their order like stock tools do
//! ([`structure`]). An encrypted artifact is decrypted on the way. Without a key, only its stored bytes are checked.

mod hashes;
mod structure;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

use bson::RawDocument;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use tokio::sync::{mpsc, oneshot};

use crate::artifact::age_header::MAGIC;
use crate::artifact::read::segment::{self, LARGEST_BETWEEN};
use crate::artifact::read::{self, Region};
use crate::artifact::unseal::Opener;
use crate::base::bounds::Limited;
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::keys::Identities;
use crate::base::progress::{Meter, Phase};
use crate::base::units::{count, several};
use crate::catalog::layout;
use crate::config::choices::{Codec, Format};
use crate::model::index::Index;
use crate::model::manifest::{self, Manifest};
use crate::model::optime::OpTime;
use crate::model::tally::Tally;
use crate::store::Store;
use hashes::StoredHashes;

/// The size of a range request in bytes.
const REQUEST: u64 = 8 << 20;
const REQUESTS: usize = 4;
/// How many decompressed pieces of a region may wait for the reader of the structure.
const WAITING: usize = 4;
/// How many bytes of headers and metadata are decompressed at once.
const CHUNK: usize = 1 << 20;

/// A decompressed piece of a region. `Err` if the region cannot be decompressed to its end.
type Piece = Result<Vec<u8>, ()>;
type Pieces = Receiver<Piece>;

struct FetchedRegion {
    region: Region,
    bytes: Bytes,
    pieces: SyncSender<Piece>,
}

/// The results of the workers: the tally of each namespace, by its place in the manifest, and the findings.
type Sums = (BTreeMap<usize, Tally>, Vec<VerifyFinding>);

/// A fault of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyFinding {
    /// `None` if the finding concerns the whole backup.
    pub namespace: Option<String>,
    /// The position in the artifact at which the faulty region begins, in bytes.
    pub offset: Option<u64>,
    pub what: String,
}

impl VerifyFinding {
    fn of_backup(what: String) -> VerifyFinding {
        VerifyFinding { namespace: None, offset: None, what }
    }
}

impl fmt::Display for VerifyFinding {
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

/// The result of checking a backup.
#[derive(Debug)]
pub struct BackupCheck {
    pub started_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    /// Empty if the backup is sound.
    pub findings: Vec<VerifyFinding>,
    /// As in [`super::VerifiedBackup`].
    pub stored_bytes: u64,
    pub documents: u64,
    pub raw_bytes: u64,
    /// True if the backup is encrypted and there was no key, so that only the stored bytes were checked.
    pub without_key: bool,
}

/// Reads a backup completely and compares it with its manifest. `workers` threads decompress. `keys` decrypt an encrypted backup;
/// without them, only the stored bytes are checked.
///
/// # Errors
/// Returns an error if the store does not answer, or no identity of `keys` decrypts the backup. Missing and damaged objects are
/// findings.
pub async fn check_backup(
    store: &Arc<dyn Store>,
    manifest: &Manifest,
    keys: Option<&Identities>,
    workers: usize,
    clock: Clock,
    meter: &Meter,
) -> Result<BackupCheck> {
    meter.expect(Phase::Verifying, Some(manifest.artifact.size), 0);
    meter.doing(manifest.id.to_string());
    let mut check = BackupCheck {
        started_at: clock.now(),
        finished_at: clock.now(),
        findings: Vec::new(),
        stored_bytes: 0,
        documents: 0,
        raw_bytes: 0,
        without_key: manifest.encryption.is_some() && keys.is_none(),
    };
    if check.without_key {
        let index = read::fetch_index(&**store, manifest).await?;
        check.findings.extend(index.err().map(VerifyFinding::of_backup));
        check_stored(store, manifest, meter, &mut check).await?;
        check.finished_at = clock.now();
        return Ok(check);
    }
    match read::load_index(&**store, manifest, keys).await? {
        Err(what) => check.findings.push(VerifyFinding::of_backup(what)),
        Ok((index, complete)) => {
            let changed = check_manifest(&**store, manifest, &index).await?;
            check.findings.extend(changed.map(VerifyFinding::of_backup));
            check_artifact(store, &complete, keys, &index, workers, meter, &mut check).await?;
        }
    }
    check.finished_at = clock.now();
    Ok(check)
}

/// Checks the stored bytes of an encrypted artifact: their number, their checksum, and that they begin as an age file.
async fn check_stored(
    store: &Arc<dyn Store>,
    manifest: &Manifest,
    meter: &Meter,
    check: &mut BackupCheck,
) -> Result<()> {
    if let Some(what) = missing_or_short(&**store, manifest).await? {
        check.findings.push(VerifyFinding::of_backup(what));
        return Ok(());
    }
    let key = &manifest.artifact.key;
    let whole = requests(manifest.artifact.size);
    let mut answers = stream::iter(whole).map(|range| store.get_range(key, range)).buffered(REQUESTS);
    let (mut hashes, mut first) = (StoredHashes::of(manifest), true);
    while let Some(bytes) = answers.next().await {
        let bytes = bytes?;
        if std::mem::take(&mut first) && !bytes.starts_with(MAGIC) {
            let what = format!("{key} does not begin with the header of an age file");
            check.findings.push(VerifyFinding::of_backup(what));
        }
        hashes.update(&bytes);
        meter.add(0, bytes.len() as u64);
    }
    check.stored_bytes = manifest.artifact.size;
    check.findings.extend(hashes.compare(manifest));
    Ok(())
}

/// The ranges in which an object of this size is requested.
fn requests(size: u64) -> impl Iterator<Item = Range<u64>> {
    (0..size.div_ceil(REQUEST)).map(move |n| n * REQUEST..size.min((n + 1) * REQUEST))
}

/// Returns the fault of an artifact that is missing or does not have its size.
async fn missing_or_short(store: &dyn Store, manifest: &Manifest) -> Result<Option<String>> {
    let artifact = &manifest.artifact;
    let stored = store.head(&artifact.key).await?.map(|object| object.size);
    if stored == Some(artifact.size) {
        return Ok(None);
    }
    let has = |n| format!("has {}, but the manifest says {}", several(n, "byte"), count(artifact.size));
    let what = stored.map_or("is missing".into(), has);
    Ok(Some(format!("{} {what}", artifact.key)))
}

/// Compares the stored manifest with its digest in the index. Returns the fault, if there is one.
async fn check_manifest(store: &dyn Store, manifest: &Manifest, index: &Index) -> Result<Option<String>> {
    // Version 0.1.0 did not write the digest.
    let Some(wanted) = &index.manifest_blake3 else { return Ok(None) };
    let key = layout::manifest(&manifest.id);
    let bytes = match store.get(&key, manifest::LARGEST).await {
        Ok(bytes) => bytes,
        Err(e) if e.kind.is_fault() => {
            return Ok(Some(e.to_string()));
        }
        Err(e) => return Err(e.into()),
    };
    Ok(match manifest::content_digest(&bytes) {
        Err(why) => Some(format!("{key} cannot be understood: {why}")),
        Ok(digest) if digest != *wanted => Some(format!(
            "{key} was changed after the backup: it does not have the digest in {}",
            manifest.index.key
        )),
        Ok(_) => None,
    })
}

async fn check_artifact(
    store: &Arc<dyn Store>,
    manifest: &Manifest,
    keys: Option<&Identities>,
    index: &Index,
    workers: usize,
    meter: &Meter,
    check: &mut BackupCheck,
) -> Result<()> {
    let artifact = &manifest.artifact;
    let format: Format = match artifact.format.parse() {
        Ok(format) => format,
        Err(why) => {
            let what = format!("the format of the artifact is unknown: {why}");
            check.findings.push(VerifyFinding::of_backup(what));
            return Ok(());
        }
    };
    if let Some(what) = missing_or_short(&**store, manifest).await? {
        check.findings.push(VerifyFinding::of_backup(what));
        return Ok(());
    }
    let opener = match read::open_artifact(&**store, manifest, keys).await? {
        Ok(opener) => opener,
        Err(what) => {
            check.findings.push(VerifyFinding::of_backup(what));
            return Ok(());
        }
    };
    let (ordered, in_order) = sync_channel(workers + 1);
    let described = !index.namespaces.is_empty();
    let reader = structure::start(in_order, manifest.clone(), format.container, described)?;
    let regions = read::regions(index, manifest);
    let work = FetchWork { store, manifest, opener: opener.as_ref(), meter };
    let ((tallies, findings), hashes) = read_regions(&work, regions, format.codec, workers, ordered).await?;
    check.findings.extend(findings);
    let fault = reader.await.map_err(|_| thread_panicked())?;
    check.findings.extend(fault.map(VerifyFinding::of_backup));
    check.stored_bytes = artifact.size;
    check.findings.extend(hashes.compare(manifest));
    check.findings.extend(compare_tallies(&tallies, manifest));
    // The manifest and `list` do not count the oplog slice. It has the place after the namespaces.
    let counted = || tallies.range(..manifest.namespaces.len()).map(|(_, tally)| tally);
    check.documents = counted().map(|tally| tally.documents).sum();
    check.raw_bytes = counted().map(|tally| tally.raw_bytes).sum();
    check.findings.sort_by_key(|finding| finding.offset.unwrap_or(u64::MAX));
    Ok(())
}

/// Compares the tallies of the namespaces and of the oplog slice with the manifest.
fn compare_tallies(tallies: &BTreeMap<usize, Tally>, manifest: &Manifest) -> Vec<VerifyFinding> {
    let mut findings = Vec::new();
    let namespaces = manifest.namespaces.iter().map(|n| (n.documents, n.raw_bytes, &n.xxh3_sum));
    let slice =
        manifest.consistency.oplog.iter().map(|slice| (slice.entries, slice.raw_bytes, &slice.xxh3_sum));
    for (at, (documents, raw_bytes, sum)) in namespaces.chain(slice).enumerate() {
        let tally = tallies.get(&at).cloned().unwrap_or_default();
        let name = manifest.name(at).expect("the manifest has this place");
        let mut find =
            |what: String| findings.push(VerifyFinding { namespace: Some(name.clone()), offset: None, what });
        for (noun, got, wanted) in
            [("document", tally.documents, documents), ("byte", tally.raw_bytes, raw_bytes)]
        {
            if got != wanted {
                let has = format!("it has {}", several(got, noun));
                find(format!("{has}, but the manifest says {}", count(wanted)));
            }
        }
        if format!("{:032x}", tally.sum) != *sum {
            find("its documents do not have the hash sum in the manifest".into());
        }
    }
    findings
}

/// The error of a thread that panicked.
pub(super) fn thread_panicked() -> Error {
    Error::failed("a thread of verify ended unexpectedly")
}

/// Fetches the artifact, hashes its regions on `workers` threads, and sends the decompressed regions to
/// `ordered`. Returns the results of the workers, and the checksums of the artifact.
async fn read_regions(
    work: &FetchWork<'_>,
    regions: Vec<Region>,
    codec: Codec,
    workers: usize,
    ordered: SyncSender<Pieces>,
) -> Result<(Sums, StoredHashes)> {
    // Each worker has a region in hand, and one region waits.
    let (fetched, taken) = mpsc::channel(1);
    let workers = start_workers(workers, codec, taken)?;
    let mut sums = Sums::default();
    let hashes = fetch(work, regions, &fetched, &ordered, &mut sums.1).await;
    drop((fetched, ordered));
    for answer in workers {
        let (tallies, findings) = answer.await.map_err(|_| thread_panicked())?;
        for (at, tally) in tallies {
            *sums.0.entry(at).or_default() += tally;
        }
        sums.1.extend(findings);
    }
    // The error of a store that failed in the middle comes before the faults that follow from it.
    Ok((sums, hashes?))
}

/// The artifact to fetch.
struct FetchWork<'a> {
    store: &'a Arc<dyn Store>,
    manifest: &'a Manifest,
    /// Decrypts the artifact; `None` if it is not encrypted.
    opener: Option<&'a Opener>,
    meter: &'a Meter,
}

impl FetchWork<'_> {
    /// The ranges to request, in order, each with the range of the content that it has.
    fn ranges(&self) -> Vec<(Range<u64>, Range<u64>)> {
        let Some(opener) = self.opener else {
            return requests(self.manifest.artifact.size).map(|range| (range.clone(), range)).collect();
        };
        let first = opener.stored(&(0..1)).start;
        let content = requests(opener.plain_size()).map(|plain| (opener.stored(&plain), plain));
        std::iter::once((0..first, 0..0)).chain(content).collect()
    }

    /// Decrypts a fetched range. If that fails, the content is zeros and the fault is a finding, so that the rest is checked.
    async fn open(
        &self,
        plain: Range<u64>,
        stored: Bytes,
        findings: &mut Vec<VerifyFinding>,
    ) -> Result<Bytes> {
        let Some(opener) = self.opener.cloned() else { return Ok(stored) };
        if plain.is_empty() {
            return Ok(Bytes::new());
        }
        let (len, offset) = ((plain.end - plain.start) as usize, plain.start);
        let opened = tokio::task::spawn_blocking(move || opener.open(&plain, stored.into())).await;
        Ok(opened.map_err(|_| thread_panicked())?.map_or_else(
            |what| {
                findings.push(VerifyFinding { namespace: None, offset: Some(offset), what });
                Bytes::from(vec![0; len])
            },
            Bytes::from,
        ))
    }
}

/// Fetches the artifact and returns its checksums.
async fn fetch(
    work: &FetchWork<'_>,
    regions: Vec<Region>,
    fetched: &mpsc::Sender<FetchedRegion>,
    ordered: &SyncSender<Pieces>,
    findings: &mut Vec<VerifyFinding>,
) -> Result<StoredHashes> {
    let key = work.manifest.artifact.key.as_str();
    let request = |(stored, plain)| async move { (work.store.get_range(key, stored).await, plain) };
    let mut answers = stream::iter(work.ranges()).map(request).buffered(REQUESTS);
    let (mut hashes, mut waiting) = (StoredHashes::of(work.manifest), BytesMut::new());
    let mut regions = regions.into_iter().peekable();
    while let Some((answer, plain)) = answers.next().await {
        let stored: Bytes = answer?;
        hashes.update(&stored);
        work.meter.add(0, stored.len() as u64);
        let mut bytes = work.open(plain, stored, findings).await?;
        while let Some(region) = regions
            .next_if(|region| (region.range.end - region.range.start) as usize <= waiting.len() + bytes.len())
        {
            let missing = (region.range.end - region.range.start) as usize - waiting.len();
            waiting.extend_from_slice(&bytes.split_to(missing));
            let (pieces, decompressed) = sync_channel(WAITING);
            // The channel holds as many regions as there are workers; sending to it waits for the reader. The
            // reader ends early if the structure is wrong. The hashes are checked all the same.
            let ordered = ordered.clone();
            let _ = tokio::task::spawn_blocking(move || ordered.send(decompressed)).await;
            let region = FetchedRegion { region, bytes: waiting.split().freeze(), pieces };
            fetched.send(region).await.map_err(|_| Error::aftermath("the workers ended"))?;
        }
        waiting.extend_from_slice(&bytes);
    }
    Ok(hashes)
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
