//! Checking oplog slices: every byte of their bodies and events, and the continuity of their chains.
//!
//! A slice is read in one pass: its body is fetched from the first byte to the last, and a thread decrypts and decompresses it
//! and reads its entries. Memory holds a few pieces of the body and a run of entries. Without the key, only the stored bytes of an
//! encrypted slice are checked.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Read};

use bson::RawDocument;
use bytes::{Buf, Bytes};
use crc_fast::CrcAlgorithm::Crc64Nvme;
use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::mpsc;

use super::check::thread_panicked;
use super::{VerifyOptions, VerifyResources};
use crate::artifact::read::segment;
use crate::artifact::read::slice::{CODEC, check_stored_events, decode_events, largest_events, open_slice};
use crate::artifact::unseal::Opener;
use crate::base::error::{Error, Kind, Result};
use crate::base::keys::Identities;
use crate::base::progress::{Meter, Phase};
use crate::base::units::{count, several};
use crate::catalog::chain::{self, JobSlices, SliceEntry};
use crate::catalog::reach::break_between;
use crate::catalog::{Catalog, CatalogEntry, CatalogOptions, slice_reader};
use crate::model::optime::OpTime;
use crate::model::slice::{ChainId, SliceBody, SliceManifest};
use crate::store::{self, Store, StoreErrorKind};

/// The size of a range request in bytes.
const REQUEST: u64 = 4 << 20;
/// How many range requests run at once.
const REQUESTS: usize = 2;

/// The findings of a chain that are kept.
const KEPT: usize = 20;

/// What to do about entries that are lost.
const NEW_BASE: &str = "make a new backup now (`uzima-backup backup`): restores to later points begin with it. `uzima-backup oplog` \
                        goes on in this chain";
/// What to do about an unreadable manifest.
const NEW_CHAIN: &str = "put a copy of it back, or make a new backup now (`uzima-backup backup`): restores to later points begin \
                         with it. If it is the newest slice, `uzima-backup oplog` goes on in a new chain";
/// What to do about lost events.
const NO_EVENTS: &str = "nothing is lost for a restore: only `uzima-backup timeline` lacks these events";

/// A chain of oplog slices that was read.
#[derive(Debug, JsonSchema, Serialize)]
pub struct VerifiedChain {
    /// With copies: the name of the place that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    pub job: String,
    pub chain: ChainId,
    pub sound: bool,
    /// The beginning of the oldest slice, and the end of the newest one.
    pub from: Option<OpTime>,
    pub to: Option<OpTime>,
    pub slices: u64,
    /// How many of the slices are encrypted and were compared only with their checksums, because no identity was given.
    pub without_key: u64,
    /// The entries that were read. Those of slices without a key are not counted.
    pub entries: u64,
    /// The length of these entries in bytes.
    pub raw_bytes: u64,
    /// The bytes of bodies and events that were read.
    pub stored_bytes: u64,
    /// The first faults, in order.
    pub findings: Vec<SliceFinding>,
    /// The number of further faults.
    pub more_findings: u64,
    /// Slices that must be thawed before they can be read.
    pub archived: Vec<String>,
    /// Why the identities that were given do not decrypt slices: the first reasons. Their stored bytes were checked.
    pub unopened: Vec<String>,
}

/// A fault of a slice.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct SliceFinding {
    /// The start of the slice.
    pub start: OpTime,
    pub what: String,
    pub next_step: String,
}

impl VerifiedChain {
    fn of(job: &str, chain: &ChainId) -> VerifiedChain {
        VerifiedChain {
            place: None,
            job: job.into(),
            chain: chain.clone(),
            sound: true,
            from: None,
            to: None,
            slices: 0,
            without_key: 0,
            entries: 0,
            raw_bytes: 0,
            stored_bytes: 0,
            findings: Vec::new(),
            more_findings: 0,
            archived: Vec::new(),
            unopened: Vec::new(),
        }
    }

    /// Notes why a slice cannot be decrypted. Slices with the same recipients have the same reason.
    fn unopened(&mut self, error: &Error) {
        let why = error.chain_with_step();
        if self.unopened.len() < KEPT && !self.unopened.contains(&why) {
            self.unopened.push(why);
        }
    }

    /// Returns what was read of a slice; `None` after it was noted that the object is archived, missing or damaged.
    ///
    /// # Errors
    /// Returns an error if the store did not answer.
    fn answered<T>(
        &mut self,
        start: OpTime,
        answer: store::StoreResult<T>,
        next_step: &str,
    ) -> Result<Option<T>> {
        match answer {
            Ok(read) => return Ok(Some(read)),
            Err(e) if e.kind == StoreErrorKind::Archived => self.archived.push(e.to_string()),
            Err(e) if e.kind.is_fault() => self.find(start, e.to_string(), next_step),
            Err(e) => return Err(e.into()),
        }
        Ok(None)
    }

    fn find(&mut self, start: OpTime, what: String, next_step: &str) {
        self.sound = false;
        // A fault of an events object is found when the slice is opened, and when the object is compared.
        if self.findings.iter().any(|found| (found.start, &found.what) == (start, &what)) {
            return;
        }
        match self.findings.len() < KEPT {
            true => self.findings.push(SliceFinding { start, what, next_step: next_step.into() }),
            false => self.more_findings += 1,
        }
    }
}

/// Reads all slices of the jobs that were asked for.
///
/// # Errors
/// Returns an error if the store does not answer, or the run was cancelled.
pub(super) async fn check_slices(
    resources: &VerifyResources<'_>,
    options: &VerifyOptions,
) -> Result<Vec<VerifiedChain>> {
    let (store, cancel) = (&*resources.store, resources.cancel);
    let mut chains = Vec::new();
    for job in cancel.or(jobs(store, options)).await? {
        let CatalogOptions { trust, state_dir, .. } = &options.reading;
        let listing = slice_reader::list_trusted(store, &job, trust, state_dir.as_deref());
        let listed = cancel.or(listing).await?;
        for chain in listed.chains() {
            log::info!("verifying the oplog slices of {job}, chain {chain}");
            let checker = SliceChecker { store, keys: options.keys.as_deref(), meter: resources.meter };
            chains.push(cancel.or(checker.check_chain(&listed, &job, chain)).await?);
        }
    }
    Ok(chains)
}

/// The jobs whose slices are read: the one that was asked for, or the configured one and those with backups.
async fn jobs(store: &dyn Store, options: &VerifyOptions) -> Result<BTreeSet<String>> {
    if let Some(job) = &options.job {
        return Ok(BTreeSet::from([job.clone()]));
    }
    let catalog = Catalog::read(store, &options.reading).await?;
    let entries = catalog.summaries(&catalog.existing()).await?;
    catalog.save();
    let with_backups = entries.into_iter().filter_map(|entry| match entry {
        CatalogEntry::Backup(manifest) => Some(manifest.job.clone()),
        _ => None,
    });
    Ok(with_backups.chain(options.configured_job.clone()).collect())
}

struct SliceChecker<'a> {
    store: &'a dyn Store,
    keys: Option<&'a Identities>,
    meter: &'a Meter,
}

/// How the content of a slice is read.
enum Content {
    /// The complete manifest, and what decrypts the body of an encrypted slice.
    Readable(Box<SliceManifest>, Option<Opener>),
    /// The content is encrypted, and there is no key or no intact manifest of the content.
    Hidden,
}

impl SliceChecker<'_> {
    async fn check_chain(&self, listed: &JobSlices, job: &str, chain: &ChainId) -> Result<VerifiedChain> {
        let mut checked = VerifiedChain::of(job, chain);
        let mut before: Option<SliceManifest> = None;
        for start in listed.starts(chain) {
            // A cleanup may have deleted it since the listing.
            let found = chain::read_trusted(self.store, job, chain, start, listed.trust()).await?;
            let Some(entry) = found else { continue };
            checked.slices += 1;
            let slice = match entry {
                SliceEntry::Slice(slice) => *slice,
                SliceEntry::Unreadable { key, why, .. } => {
                    checked.find(start, format!("{key} cannot be understood: {why}"), NEW_CHAIN);
                    before = None;
                    continue;
                }
            };
            if let Some(why) = before.as_ref().and_then(|before| break_between(before, &slice)) {
                checked.find(start, why, NEW_BASE);
            }
            checked.from.get_or_insert(slice.start);
            checked.to = Some(slice.end.at);
            let folder = listed.folder(chain, start).into_iter().flatten();
            let archived = folder.into_iter().any(|(_, object)| object.archive.is_some());
            let content = self.open(&slice, archived, &mut checked).await?;
            self.check_body(&slice, content, &mut checked).await?;
            self.check_events(&slice, &mut checked).await?;
            before = Some(slice);
        }
        Ok(checked)
    }

    /// Finds the key of a slice, whose objects may be in an archive class.
    async fn open(
        &self,
        slice: &SliceManifest,
        archived: bool,
        checked: &mut VerifiedChain,
    ) -> Result<Content> {
        if slice.encryption.is_some() && self.keys.is_none() {
            checked.without_key += 1;
            return Ok(Content::Hidden);
        }
        if slice.encryption.is_some() && archived {
            return Ok(Content::Hidden);
        }
        match open_slice(self.store, slice, self.keys).await {
            Ok(Ok(opened)) => Ok(Content::Readable(Box::new(opened.manifest), opened.opener)),
            Ok(Err(what)) => {
                checked.find(slice.start, what, NEW_BASE);
                Ok(Content::Hidden)
            }
            Err(error) if error.kind() == Kind::Key => {
                checked.unopened(&error);
                Ok(Content::Hidden)
            }
            Err(error) => Err(error),
        }
    }

    async fn check_body(
        &self,
        slice: &SliceManifest,
        content: Content,
        checked: &mut VerifiedChain,
    ) -> Result<()> {
        let Some(body) = &slice.body else { return Ok(()) };
        self.meter.expect(Phase::Verifying, Some(body.size), 0);
        self.meter.doing(format!("oplog of {}", slice.start.second()));
        let stored = match self.store.head(&body.key).await? {
            Some(object) => object.size,
            None => {
                checked.find(slice.start, format!("{} is missing", body.key), NEW_BASE);
                return Ok(());
            }
        };
        if stored != body.size {
            let has = several(stored, "byte");
            let what = format!("{} has {has}, but the manifest says {}", body.key, count(body.size));
            checked.find(slice.start, what, NEW_BASE);
            return Ok(());
        }
        let (sender, receiver) = mpsc::channel(1);
        let reader = tokio::task::spawn_blocking(move || match content {
            Content::Readable(complete, opener) => read_entries(receiver, &complete, opener).map(Some),
            Content::Hidden => Ok(None),
        });
        let hashes = fetch(self.store, body, sender, self.meter).await;
        let read = reader.await.map_err(|_| thread_panicked())?;
        let Some((crc64nvme, blake3)) = checked.answered(slice.start, hashes, NEW_BASE)? else {
            return Ok(());
        };
        checked.stored_bytes += body.size;
        let mut find = |what: &str| checked.find(slice.start, format!("{}: {what}", body.key), NEW_BASE);
        if blake3 != body.blake3 {
            find("the object does not have the BLAKE3 in the manifest");
        }
        if format!("{crc64nvme:016x}") != body.crc64nvme {
            find(&format!("its checksum is {crc64nvme:016x}, but the manifest says {}", body.crc64nvme));
        }
        match read {
            Ok(Some(read)) => {
                read.faults.iter().for_each(|what| find(what));
                checked.entries += read.entries;
                checked.raw_bytes += read.raw_bytes;
            }
            Ok(None) => {}
            Err(what) => find(&what),
        }
        Ok(())
    }

    async fn check_events(&self, slice: &SliceManifest, checked: &mut VerifiedChain) -> Result<()> {
        let Some(events) = &slice.events else { return Ok(()) };
        // The complete manifest of an encrypted slice is in its events.
        let next_step = if slice.encryption.is_some() { NEW_BASE } else { NO_EVENTS };
        let read = self.store.get(&events.key, largest_events(events)).await;
        let Some(bytes) = checked.answered(slice.start, read, next_step)? else { return Ok(()) };
        checked.stored_bytes += bytes.len() as u64;
        let stored = check_stored_events(events, &bytes).map(|what| format!("{}: {what}", events.key));
        // A slice that could be opened had its events decoded already.
        let fault = stored.or_else(|| match slice.encryption {
            Some(_) => None,
            None => decode_events(slice, &bytes, None).ok()?.err(),
        });
        if let Some(what) = fault {
            checked.find(slice.start, what, next_step);
        }
        Ok(())
    }
}

/// Fetches a body, and sends it to the reader of its entries. Returns its CRC-64/NVME and BLAKE3.
async fn fetch(
    store: &dyn Store,
    body: &SliceBody,
    pieces: mpsc::Sender<Bytes>,
    meter: &Meter,
) -> store::StoreResult<(u64, String)> {
    let ranges = (0..body.size.div_ceil(REQUEST)).map(|n| n * REQUEST..body.size.min((n + 1) * REQUEST));
    let mut answers = stream::iter(ranges).map(|range| store.get_range(&body.key, range)).buffered(REQUESTS);
    let (mut crc, mut hasher) = (crc_fast::Digest::new(Crc64Nvme), blake3::Hasher::new());
    while let Some(answer) = answers.next().await {
        let bytes = answer?;
        crc.update(&bytes);
        hasher.update(&bytes);
        meter.add(0, bytes.len() as u64);
        // The reader ends early at a fault. The object is hashed all the same.
        let _ = pieces.send(bytes).await;
    }
    Ok((crc.finalize(), hasher.finalize().to_hex().to_string()))
}

/// The pieces of a body as a stream.
struct ReceivedPieces {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl BufRead for ReceivedPieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(bytes) => self.current = bytes,
                None => break,
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, n: usize) {
        self.current.advance(n);
    }
}

impl Read for ReceivedPieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

/// The entries of a body.
#[derive(Debug)]
struct ReadEntries {
    entries: u64,
    raw_bytes: u64,
    faults: Vec<String>,
}

/// Reads the entries of a body, and compares them with the complete manifest.
fn read_entries(
    receiver: mpsc::Receiver<Bytes>,
    slice: &SliceManifest,
    opener: Option<Opener>,
) -> Result<ReadEntries, String> {
    let pieces = ReceivedPieces { receiver, current: Bytes::new() };
    let content: Box<dyn BufRead> = match opener {
        Some(opener) => Box::new(opener.reader(pieces)),
        None => Box::new(pieces),
    };
    // One byte more shows that the body is too long.
    let mut raw = CODEC.stream(content).take(slice.raw_bytes + 1);
    let (mut last, mut fault) = (slice.start, None);
    let mut take = |run: Vec<u8>, _room| {
        let mut rest = run.as_slice();
        while fault.is_none() && !rest.is_empty() {
            let length = rest.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes) as usize);
            let Some((entry, after)) = rest.split_at_checked(length).filter(|_| length > 0) else { break };
            fault = check_entry(entry, slice, &mut last).err();
            rest = after;
        }
    };
    let (tally, raw_blake3) = segment::documents(&mut raw, u64::MAX, None, &mut take)?;
    let mut faults: Vec<String> = fault.into_iter().collect();
    if tally.documents != slice.entries {
        let has = several(tally.documents, "entry");
        faults.push(format!("it has {has}, but the manifest says {}", count(slice.entries)));
    }
    if tally.raw_bytes != slice.raw_bytes {
        // Reading stops one byte after the length in the manifest.
        let than = if tally.raw_bytes > slice.raw_bytes { "more" } else { "less" };
        faults.push(format!(
            "its entries are {than} than the {} bytes of the manifest",
            count(slice.raw_bytes)
        ));
    }
    if slice.body.as_ref().is_none_or(|body| body.raw_blake3.as_ref() != Some(&raw_blake3)) {
        faults.push("its decompressed entries do not have the BLAKE3 in the manifest".into());
    }
    Ok(ReadEntries { entries: tally.documents, raw_bytes: tally.raw_bytes, faults })
}

/// Checks the time of an entry. `last` is the time of the entry before it.
fn check_entry(entry: &[u8], slice: &SliceManifest, last: &mut OpTime) -> Result<(), String> {
    let entry =
        RawDocument::from_bytes(entry).map_err(|e| format!("an entry after {last} is malformed: {e}"))?;
    let at = entry.get_timestamp("ts").map_err(|e| format!("an entry after {last} has no time: {e}"))?;
    let (before, at) = (*last, OpTime::from(at));
    *last = at;
    if at <= slice.start {
        return Err(format!("the entry of {at} is not after the start of the slice"));
    }
    if at <= before {
        return Err(format!("the entry of {at} follows the entry of {before}"));
    }
    if at > slice.end.at {
        return Err(format!("the entry of {at} is after the end of the slice, {}", slice.end));
    }
    if at == slice.end.at && entry.get_i64("t").ok() != Some(slice.end.term) {
        return Err(format!("its last entry does not have the term {} of the manifest", slice.end.term));
    }
    Ok(())
}
