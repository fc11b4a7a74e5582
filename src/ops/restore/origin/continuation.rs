//! The oplog slices that continue a backup to a point in time. Base and slices are one replay: the entries of the base's own
//! slice come first.

use std::sync::Arc;

use bson::RawDocument;
use tokio::runtime::Handle;

use super::{RestoreOrigin, StoredBackup};
use crate::artifact::read::segment::{self, StoredArtifact};
use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::catalog::point::ChosenSlices;
use crate::config::choices::Codec;
use crate::dumpformat::oplog::EntrySource;
use crate::model::optime::OpTime;
use crate::model::slice::{SliceBody, SliceManifest};
use crate::ops::restore::report::PointFacts;
use crate::restore_target::insert;
use crate::store::Store;

/// The next step if a slice is damaged.
const DAMAGED: &str = "Nothing was changed. Put a copy of the object back, or restore to an earlier time: --at takes any time before it";

/// The slices that are replayed after a backup.
#[derive(Debug)]
pub struct Continuation {
    chosen: ChosenSlices,
    /// The term of the entry at the backup's instant.
    term: Option<i64>,
    /// True if the data has every write up to the instant, so that earlier entries matter only for transactions that were open
    /// then. Otherwise the backup has these entries itself.
    pub contained: bool,
}

impl Continuation {
    pub fn new(chosen: ChosenSlices, term: Option<i64>, contained: bool) -> Continuation {
        Continuation { chosen, term, contained }
    }

    /// The backup's own instant. Later operations are replayed exactly.
    pub fn instant(&self) -> OpTime {
        self.chosen.instant
    }

    /// The last optime that is replayed.
    pub fn last(&self) -> OpTime {
        self.chosen.last
    }

    /// The start of the first slice.
    pub fn start(&self) -> OpTime {
        self.chosen.slices.first().map_or(self.chosen.instant, |slice| slice.start)
    }

    /// The length of all entries in bytes.
    pub fn raw_bytes(&self) -> u64 {
        self.chosen.slices.iter().map(|slice| slice.raw_bytes).sum()
    }

    pub fn facts(&self) -> PointFacts {
        let slices = &self.chosen.slices;
        PointFacts {
            chain: slices.first().map(|slice| slice.chain.clone()),
            slices: slices.len() as u64,
            raw_bytes: self.raw_bytes(),
            stored_bytes: slices.iter().filter_map(|slice| Some(slice.body.as_ref()?.size)).sum(),
            base_at: self.chosen.instant,
            end: self.chosen.end,
        }
    }

    /// Passes the entries of the slices that the replay needs, from `from` to `to`, to `each`, and compares each slice with its
    /// manifest. Blocks the thread.
    fn scan(
        &self,
        store: &Arc<dyn Store>,
        (from, to): (OpTime, OpTime),
        each: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        // The backup has the earlier entries itself.
        let from = if self.contained { from } else { from.max(self.chosen.instant.after()) };
        let to = to.min(self.chosen.last);
        let mut foreign = None;
        for slice in self.chosen.slices.iter().filter(|slice| slice.end.at >= from && slice.start < to) {
            let Some(body) = &slice.body else { continue };
            scan_body(store, slice, body, &mut |at, raw| {
                if at == self.chosen.instant && self.is_foreign(raw) {
                    foreign = Some(slice);
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

/// Passes every entry of a slice to `each`, with its time.
fn scan_body(
    store: &Arc<dyn Store>,
    slice: &SliceManifest,
    body: &SliceBody,
    each: &mut dyn FnMut(OpTime, &[u8]),
) -> Result<()> {
    let object = StoredArtifact {
        store: Arc::clone(store),
        key: body.key.clone(),
        // Decompression does not depend on the level.
        codec: Codec::Zstd { level: 3 },
        opener: None,
        large: segment::large_documents(),
    };
    let (mut last, mut wrong) = (slice.start, None);
    let read = object.read_whole(body.size, slice.raw_bytes, &Handle::current(), &mut |run| {
        for raw in insert::split(&run.documents).unwrap_or_default() {
            let at = RawDocument::from_bytes(raw).ok().and_then(|entry| entry.get_timestamp("ts").ok());
            match at.map(OpTime::from).filter(|at| *at > last && *at <= slice.end.at) {
                Some(at) if wrong.is_none() => {
                    last = at;
                    each(at, raw);
                }
                _ => wrong = Some("its entries are not in order, or not within its times".to_string()),
            }
        }
    });
    let damaged = |what: &str| {
        let text = format!("the oplog slice that starts at {} is damaged: {}: {what}", slice.start, body.key);
        Error::new(Kind::Mismatch, text).hint(DAMAGED)
    };
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
    if (&read.raw_blake3, &read.blake3) != (&body.raw_blake3, &body.blake3) {
        return Err(damaged("its BLAKE3 differs from its manifest"));
    }
    wrong.map_or(Ok(()), |what| Err(damaged(&what)))
}

impl StoredBackup {
    /// Adds the slices that lead to a point in time.
    #[must_use]
    pub fn continued(mut self, chosen: ChosenSlices) -> StoredBackup {
        let consistency = &self.manifest.consistency;
        let term = consistency.base.as_ref().map(|base| base.term);
        let contained = consistency.oplog.is_none();
        self.continuation = Some(Continuation::new(chosen, term, contained));
        self
    }

    /// Passes every entry of the backup's own slice and of the slices after it to `each`, in order. Blocks the thread.
    pub(super) fn scan_entries(&self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.scan_slice(each)?;
        match &self.continuation {
            None => Ok(()),
            Some(slices) => slices.scan(&self.object.store, (OpTime { t: 0, i: 0 }, slices.last()), each),
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
            Some(slices) => slices.scan(&stored.object.store, (from, to), &mut each),
        }
    }
}
