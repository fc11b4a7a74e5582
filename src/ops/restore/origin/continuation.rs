//! The oplog slices that continue a backup to a point in time. Base and slices are one replay: the entries of the base's own
//! slice come first.

use std::sync::Arc;

use bson::RawDocument;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::runtime::Handle;

use super::{RestoreOrigin, StoredBackup};
use crate::artifact::read::held::Resumed;
use crate::artifact::read::replicas::{Replica, Replicas};
use crate::artifact::read::segment::{self, DocumentRun, StoredArtifact};
use crate::artifact::read::slice::{CODEC, OpenedSlice, open_slice};
use crate::artifact::unseal::Opener;
use crate::base::error::{Error, Kind, Result};
use crate::base::keys::Identities;
use crate::base::units;
use crate::catalog::layout;
use crate::catalog::point::ChosenSlices;
use crate::dumpformat::oplog::EntrySource;
use crate::model::optime::OpTime;
use crate::model::slice::{self, SliceManifest};
use crate::ops::restore::report::PointFacts;
use crate::restore_target::insert;
use crate::store::Store;

/// The next step if a slice is damaged.
const DAMAGED: &str = "Nothing was changed. Put a copy of the object back, or restore to an earlier time: --at takes any time before it";

/// How many encrypted slices are opened at once.
const OPENING: usize = 16;

/// A slice that is replayed.
#[derive(Debug)]
struct ChosenSlice {
    /// The manifest as it is stored.
    stored: SliceManifest,
    opened: OpenedSlice,
}

/// The slices that are replayed after a backup.
#[derive(Debug)]
pub struct Continuation {
    slices: Vec<ChosenSlice>,
    /// The backup's own instant.
    instant: OpTime,
    /// The last optime that is replayed.
    last: OpTime,
    /// The end of the unbroken slices.
    end: OpTime,
    /// The term of the entry at the backup's instant.
    term: Option<i64>,
    /// True if the data has every write up to the instant, so that earlier entries matter only for transactions that were open
    /// then. Otherwise the backup has these entries itself.
    pub contained: bool,
}

impl Continuation {
    /// The backup's own instant. Later operations are replayed exactly.
    pub fn instant(&self) -> OpTime {
        self.instant
    }

    /// The last optime that is replayed.
    pub fn last(&self) -> OpTime {
        self.last
    }

    fn manifests(&self) -> impl Iterator<Item = &SliceManifest> {
        self.slices.iter().map(|slice| &slice.opened.manifest)
    }

    /// The start of the first slice.
    pub fn start(&self) -> OpTime {
        self.manifests().next().map_or(self.instant, |slice| slice.start)
    }

    /// The length of all entries in bytes.
    pub fn raw_bytes(&self) -> u64 {
        self.manifests().map(|slice| slice.raw_bytes).sum()
    }

    pub fn facts(&self) -> PointFacts {
        PointFacts {
            chain: self.manifests().next().map(|slice| slice.chain.clone()),
            slices: self.slices.len() as u64,
            raw_bytes: self.raw_bytes(),
            stored_bytes: self.manifests().filter_map(|slice| Some(slice.body.as_ref()?.size)).sum(),
            base_at: self.instant,
            end: self.end,
        }
    }

    /// Passes the entries of the slices that the replay needs, from `from` to `to`, to `each`, and compares each slice with its
    /// manifest. Blocks the thread.
    fn scan(
        &self,
        places: &Replicas,
        (from, to): (OpTime, OpTime),
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        // The backup has the earlier entries itself.
        let from = if self.contained { from } else { from.max(self.instant.after()) };
        let to = to.min(self.last);
        let mut foreign = None;
        let wanted = |slice: &SliceManifest| slice.end.at >= from && slice.start < to;
        for slice in self.slices.iter().filter(|slice| wanted(&slice.opened.manifest)) {
            scan_body(places, slice, &mut |at, raw| {
                if at == self.instant && self.is_foreign(raw) {
                    foreign = Some(&slice.opened.manifest);
                }
                if (from..=to).contains(&at) {
                    each(raw);
                }
            })?;
        }
        match foreign {
            None => Ok(()),
            Some(slice) => {
                let what = format!(
                    "the oplog slice that starts at {} has another entry at the instant of the backup than the server that was \
                     backed up: they are of different histories",
                    slice.start
                );
                Err(Error::new(Kind::Mismatch, what).hint("Nothing was changed. Restore another backup"))
            }
        }
    }

    fn is_foreign(&self, raw: &[u8]) -> bool {
        let term = RawDocument::from_bytes(raw).ok().and_then(|entry| entry.get_i64("t").ok());
        self.term.zip(term).is_some_and(|(wanted, term)| wanted != term)
    }
}

/// Passes every entry of a slice to `each`, with its time. A slice that one place does not give whole is read from the next one.
fn scan_body(places: &Replicas, slice: &ChosenSlice, each: &mut dyn FnMut(OpTime, &[u8])) -> Result<()> {
    let ChosenSlice { stored, opened: OpenedSlice { manifest, opener } } = slice;
    let Some(body) = &manifest.body else { return Ok(()) };
    let object = StoredArtifact {
        places: places.clone(),
        key: body.key.clone(),
        codec: CODEC,
        opener: opener.clone(),
        large: segment::large_documents(),
    };
    let (mut last, mut wrong, handle) = (manifest.start, None, Handle::current());
    let mut take = |run: DocumentRun| {
        for raw in insert::split(&run.documents).unwrap_or_default() {
            let at = RawDocument::from_bytes(raw).ok().and_then(|entry| entry.get_timestamp("ts").ok());
            match at.map(OpTime::from).filter(|at| *at > last && *at <= manifest.end.at) {
                Some(at) if wrong.is_none() => {
                    last = at;
                    each(at, raw);
                }
                _ => wrong = Some("its entries are not in order, or not within its times".to_string()),
            }
        }
    };
    if !places.are_several() {
        read_body(&object, places.first(), manifest, &mut take)?;
    } else {
        let (mut resumed, mut attempts) = (Resumed::new(&mut take), places.attempts(&body.key, 0));
        loop {
            let Some(replica) = attempts.next_store() else { return Err(attempts.error()) };
            resumed.begin();
            let same = handle.block_on(has_slice(places, replica, stored));
            let read = same
                .and_then(|()| read_body(&object, &replica.store, manifest, &mut |run| resumed.take(run)));
            match read {
                Ok(()) => {
                    resumed.end().map_err(|what| damaged(manifest, &what))?;
                    attempts.succeeded(replica);
                    break;
                }
                Err(error) => attempts.failed(error)?,
            }
        }
    }
    wrong.map_or(Ok(()), |what| Err(damaged(manifest, &what)))
}

/// Checks that a place has this slice with the same manifest as the place that it was chosen from.
///
/// # Errors
/// Returns an error of the kind `Mismatch` if it does not, and another one if the store does not answer.
async fn has_slice(places: &Replicas, replica: &Replica, stored: &SliceManifest) -> Result<()> {
    if Arc::ptr_eq(places.first(), &replica.store) {
        return Ok(());
    }
    let key = layout::slice(&stored.job, &stored.chain, stored.start);
    let bytes = match replica.store.get(&key, slice::LARGEST).await {
        Ok(bytes) => bytes,
        Err(e) if e.kind.is_fault() => return Err(Error::from(e).of_kind(Kind::Mismatch)),
        Err(e) => return Err(e.into()),
    };
    match SliceManifest::decode(&bytes).as_ref() == Ok(stored) {
        true => Ok(()),
        false => Err(damaged(stored, &format!("the place {} has another manifest of it", replica.name))),
    }
}

/// Reads the body of a slice from one place, and compares it with the manifest.
fn read_body(
    object: &StoredArtifact,
    store: &Arc<dyn Store>,
    slice: &SliceManifest,
    take: &mut dyn FnMut(DocumentRun),
) -> Result<()> {
    let Some(body) = &slice.body else { return Ok(()) };
    let content = object.opener.as_ref().map_or(body.size, Opener::plain_size);
    let damaged = |what: &str| damaged(slice, &format!("{}: {what}", body.key));
    let read = object.read_whole(store, content, slice.raw_bytes, &Handle::current(), take);
    let read = read.map_err(|error| match error.kind() {
        Kind::Mismatch => error.hint(DAMAGED),
        _ => error,
    })?;
    if (read.tally.documents, read.tally.raw_bytes) != (slice.entries, slice.raw_bytes) {
        return Err(damaged(&format!(
            "it has {} of {}, but the manifest says {} of {}",
            units::several(read.tally.documents, "entry"),
            units::several(read.tally.raw_bytes, "byte"),
            units::count(slice.entries),
            units::count(slice.raw_bytes)
        )));
    }
    // The chunks of an encrypted body have tags, which prove what its BLAKE3 proves.
    let same_object = object.opener.is_some() || read.blake3 == body.blake3;
    match body.raw_blake3.as_ref() == Some(&read.raw_blake3) && same_object {
        true => Ok(()),
        false => Err(damaged("its BLAKE3 differs from its manifest")),
    }
}

fn damaged(slice: &SliceManifest, what: &str) -> Error {
    let text = format!("the oplog slice that starts at {} is damaged: {what}", slice.start);
    Error::new(Kind::Mismatch, text).hint(DAMAGED)
}

impl StoredBackup {
    /// Adds the slices that lead to a point in time, with the identities for encrypted ones.
    ///
    /// # Errors
    /// Returns an error if a slice is damaged or has another selection than the backup, or if the store does not answer. The error
    /// has the kind [`Kind::Key`] if no identity decrypts a slice.
    pub async fn continued(
        mut self,
        chosen: &ChosenSlices,
        keys: Option<&Identities>,
    ) -> Result<StoredBackup> {
        let places = &self.object.places;
        let selection = self.manifest.known_selection();
        let open = async |slice: &SliceManifest| {
            let key = slice.events.as_ref().map_or("", |events| &events.key);
            let open = async |one: &Replica| {
                has_slice(places, one, slice).await?;
                open_slice(&*one.store, slice, keys).await?.map_err(|what| damaged(slice, &what))
            };
            let opened = places.read(key, 0, open).await?;
            // Without the key, an encrypted selection cannot be compared with another one.
            let other = opened.manifest.known_selection();
            if slice.end.at > chosen.instant && other.differs(&selection) {
                let start = slice.start.second();
                let text = format!(
                    "the oplog slice that starts at {start} has another selection than the backup {}: {other} instead of \
                     {selection}",
                    self.manifest.id
                );
                return Err(Error::usage(text).hint(
                    "Restore to an earlier time, or begin with another backup: `uzima-backup restore ID --at TIME`",
                ));
            }
            Ok(ChosenSlice { stored: slice.clone(), opened })
        };
        let slices: Vec<ChosenSlice> =
            stream::iter(&chosen.slices).map(open).buffered(OPENING).try_collect().await?;
        let consistency = &self.manifest.consistency;
        self.continuation = Some(Continuation {
            slices,
            instant: chosen.instant,
            last: chosen.last,
            end: chosen.end,
            term: consistency.base.as_ref().map(|base| base.term),
            contained: consistency.oplog.is_none(),
        });
        Ok(self)
    }

    /// Passes every entry of the backup's own slice and of the slices after it to `each`, in order. Blocks the thread.
    pub(super) fn scan_entries(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.scan_slice(each)?;
        match &self.continuation {
            None => Ok(()),
            Some(slices) => slices.scan(&self.object.places, (OpTime { t: 0, i: 0 }, slices.last()), each),
        }
    }
}

impl EntrySource for RestoreOrigin {
    fn entries(&self, from: OpTime, to: OpTime, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let within = |raw: &[u8]| {
            let at = RawDocument::from_bytes(raw).ok().and_then(|entry| entry.get_timestamp("ts").ok());
            at.is_some_and(|at| (from..=to).contains(&OpTime::from(at)))
        };
        let mut each = |raw: &[u8]| {
            if within(raw) {
                each(raw);
            }
        };
        let RestoreOrigin::Stored(stored) = self else { return self.scan_slice(&mut each) };
        if stored.manifest.consistency.oplog.as_ref().is_some_and(|slice| from <= slice.end) {
            stored.scan_slice(&mut each)?;
        }
        match &stored.continuation {
            None => Ok(()),
            Some(slices) => slices.scan(&stored.object.places, (from, to), &mut each),
        }
    }
}
