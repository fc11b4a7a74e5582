//! Packs the entries of one slice: filters them, notes barriers and events, and compresses and encrypts the body.

use bson::RawDocument;
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::events::{EventCounter, Write};
use crate::artifact::codec::Encoder;
use crate::artifact::out::StoredStream;
use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::config::choices::Codec;
use crate::config::selection::Selection;
use crate::dumpformat::oplog::script::Script;
use crate::model::optime::OpTime;
use crate::model::slice::{BARRIERS, Barrier, CUT, EventsFile, LARGEST, LARGEST_EVENTS};
use crate::source::oplog::filter::{KeptEntry, OplogFilter, SelectedNames};
use crate::source::oplog::tail::EntrySink;

/// The raw length of a frame, in bytes.
const FRAME: usize = 1 << 20;
/// The longest reason of a barrier, in characters.
const LONGEST_REASON: usize = 500;

/// A packed slice. The parts of its body that are full were sent before.
#[derive(Debug)]
pub(super) struct PackedSlice {
    /// The end of the body. The last frame may make it longer than a part.
    pub rest: Bytes,
    /// The number of parts before `rest`.
    pub parts: u32,
    pub entries: u64,
    pub raw_bytes: u64,
    pub read_entries: u64,
    /// The size of the whole body in bytes.
    pub size: u64,
    pub crc64nvme: u64,
    pub blake3: String,
    pub raw_blake3: String,
    pub barriers: Vec<Barrier>,
    pub events: Option<EventsFile>,
    /// The rows that the events have no room for.
    pub events_left_out: u64,
}

/// Takes the entries of a slice. Memory holds one frame, and the compressed bytes of one batch of entries.
pub(super) struct SlicePacker<'a> {
    filter: OplogFilter<'a>,
    script: Script<SelectedNames<'a>>,
    /// A namespace, `database.collection`, of which every write is kept as a whole.
    kept: String,
    events: EventCounter,
    barriers: Vec<Barrier>,
    encoder: Encoder,
    frame: Vec<u8>,
    compressed: Vec<u8>,
    /// Encrypts the compressed bytes, if the job has recipients, and cuts them into parts.
    stored: StoredStream,
    parts: mpsc::Sender<Bytes>,
    sent: u32,
    entries: u64,
    raw_bytes: u64,
    read_entries: u64,
    /// BLAKE3 of the object.
    hasher: blake3::Hasher,
    raw: blake3::Hasher,
    /// The size at which the slice ends, in bytes.
    cut: u64,
}

impl<'a> SlicePacker<'a> {
    /// Full parts of `stored` go to `parts`. `barriers` are those at the start of the slice.
    pub(super) fn new(
        selection: &'a Selection,
        codec: Codec,
        stored: StoredStream,
        parts: mpsc::Sender<Bytes>,
        barriers: Vec<Barrier>,
    ) -> Result<SlicePacker<'a>> {
        Ok(SlicePacker {
            filter: OplogFilter::of_chain(selection),
            script: Script::new(SelectedNames(selection), Vec::new(), None),
            kept: String::new(),
            events: EventCounter::default(),
            barriers,
            encoder: codec.encoder()?,
            frame: Vec::new(),
            compressed: Vec::new(),
            stored,
            parts,
            sent: 0,
            entries: 0,
            raw_bytes: 0,
            read_entries: 0,
            hasher: blake3::Hasher::new(),
            raw: blake3::Hasher::new(),
            cut: CUT,
        })
    }

    fn barrier(&mut self, at: OpTime, why: &Error) {
        log::debug!("the change of {at} cannot be replayed: {}", why.chain());
        let barrier = Barrier { at, why: units::brief_text(&why.chain(), LONGEST_REASON) };
        // Two reasons for one entry are one barrier.
        if self.barriers.last().is_some_and(|last| last.at == at) {
            return;
        }
        self.barriers.truncate(BARRIERS - 1);
        self.barriers.push(barrier);
    }

    /// Adds bytes to the body. A long entry has several frames.
    fn add(&mut self, mut bytes: &[u8]) -> Result<()> {
        while self.frame.len() + bytes.len() >= FRAME {
            let (now, later) = bytes.split_at(FRAME - self.frame.len());
            self.frame.extend_from_slice(now);
            self.close_frame()?;
            bytes = later;
        }
        self.frame.extend_from_slice(bytes);
        Ok(())
    }

    fn close_frame(&mut self) -> Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        self.encoder.encode(&self.frame, &mut self.compressed)?;
        self.stored.append(&self.compressed);
        self.raw.update(&self.frame);
        self.frame.clear();
        Ok(())
    }

    /// Adds an entry. Returns true if the slice ends with it.
    fn keep(&mut self, entry: &RawDocument) -> Result<bool> {
        let bytes = entry.as_bytes();
        self.entries += 1;
        self.raw_bytes += bytes.len() as u64;
        self.add(bytes)?;
        Ok(self.raw_bytes >= self.cut || self.events.is_full())
    }

    /// Ends the slice.
    pub(super) fn finish(mut self) -> Result<PackedSlice> {
        self.close_frame()?;
        let whole = self.stored.finish();
        let (mut rest, mut size) = (BytesMut::new(), whole.size);
        for part in self.stored.ready() {
            self.hasher.update(&part.body);
            rest.extend_from_slice(&part.body);
        }
        if self.entries == 0 {
            // The header of an encrypted object alone is not stored.
            (rest, size) = (BytesMut::new(), 0);
        }
        // An encrypted events object has the complete manifest as well.
        let events = self.events.finish(LARGEST_EVENTS - LARGEST);
        Ok(PackedSlice {
            rest: rest.freeze(),
            parts: self.sent,
            entries: self.entries,
            raw_bytes: self.raw_bytes,
            read_entries: self.read_entries,
            size,
            crc64nvme: whole.crc64nvme,
            blake3: self.hasher.finalize().to_hex().to_string(),
            raw_blake3: self.raw.finalize().to_hex().to_string(),
            barriers: self.barriers,
            events: events.file,
            events_left_out: events.left_out,
        })
    }
}

impl EntrySink for SlicePacker<'_> {
    fn take(&mut self, at: OpTime, entry: &RawDocument) -> Result<bool> {
        self.read_entries += 1;
        if let Some(write) = Write::of(entry).filter(|write| write.ns == self.kept) {
            self.events.write(&write, at);
            return self.keep(entry);
        }
        let kept = match self.filter.take(entry) {
            Ok(kept) => kept,
            // A backup would begin again; a chain notes the barrier and goes on.
            Err(why) if why.kind() == Kind::Moved => {
                self.barrier(at, &why);
                KeptEntry::Nothing
            }
            Err(why) => return Err(why.of_kind(Kind::Failed)),
        };
        let raw = match &kept {
            KeptEntry::Whole => entry,
            KeptEntry::Part(part) => part,
            KeptEntry::Nothing => return Ok(false),
        };
        if let Err(why) = self.script.check(raw) {
            self.barrier(at, &why);
        } else if let Some(write) = Write::of(raw).filter(Write::is_ordinary) {
            write.ns.clone_into(&mut self.kept);
        }
        self.events.take(raw, at);
        self.keep(raw)
    }

    async fn flush(&mut self) -> Result<()> {
        for part in self.stored.ready() {
            self.hasher.update(&part.body);
            let sent = self.parts.send(part.body).await;
            sent.map_err(|_| Error::aftermath("the upload of the slice ended"))?;
            self.sent += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, Timestamp, rawdoc};

    use super::*;

    const PART: u64 = 64 << 10;

    fn entry(t: u32, op: &str, ns: &str, o: RawDocumentBuf) -> RawDocumentBuf {
        rawdoc! {"ts": Timestamp { time: t, increment: 1 }, "t": 1_i64, "op": op, "ns": ns, "o": o}
    }

    /// Packs entries, and returns the slice, its decompressed body, and whether it was full after each entry.
    async fn packed(
        selection: &Selection,
        entries: &[RawDocumentBuf],
        cut: u64,
    ) -> (PackedSlice, Vec<u8>, Vec<bool>) {
        let (sender, mut receiver) = mpsc::channel(100);
        let codec = Codec::Zstd { level: 3 };
        let stored = StoredStream::new(None, PART, 0);
        let mut packer = SlicePacker::new(selection, codec, stored, sender, Vec::new()).unwrap();
        packer.cut = cut;
        let mut full = Vec::new();
        for entry in entries {
            let at = entry.get_timestamp("ts").unwrap().into();
            full.push(packer.take(at, entry).unwrap());
            packer.flush().await.unwrap();
        }
        let packed = packer.finish().unwrap();
        let mut body = Vec::new();
        while let Some(part) = receiver.recv().await {
            assert_eq!(part.len() as u64, PART);
            body.extend_from_slice(&part);
        }
        assert_eq!(body.len() as u64, u64::from(packed.parts) * PART);
        body.extend_from_slice(&packed.rest);
        assert_eq!(body.len() as u64, packed.size);
        assert_eq!(blake3::hash(&body).to_hex().to_string(), packed.blake3);
        let raw = if body.is_empty() { Vec::new() } else { codec.decode(&body, u64::MAX).unwrap() };
        assert_eq!(blake3::hash(&raw).to_hex().to_string(), packed.raw_blake3);
        (packed, raw, full)
    }

    #[tokio::test]
    async fn the_body_has_the_wanted_entries_without_no_ops() {
        let selection = Selection { databases: vec!["a".into()], ..Selection::default() };
        let wanted = entry(1, "i", "a.b", rawdoc! {"_id": 1});
        let entries = [
            wanted.clone(),
            entry(2, "n", "", rawdoc! {"msg": "periodic noop"}),
            entry(3, "i", "z.b", rawdoc! {"_id": 1}),
            entry(4, "d", "a.b", rawdoc! {"_id": 1}),
        ];
        let (packed, raw, full) = packed(&selection, &entries, 150).await;
        assert_eq!((packed.entries, packed.read_entries, packed.barriers.len()), (2, 4, 0));
        assert_eq!(raw, [wanted.as_bytes(), entries[3].as_bytes()].concat());
        assert_eq!(full, [false, false, false, raw.len() >= 150]);
    }

    #[tokio::test]
    async fn changes_that_no_restore_can_repeat_are_barriers() {
        let selection = Selection { databases: vec!["a".into()], ..Selection::default() };
        let rename = |t, from: &str, to: &str| {
            entry(t, "c", "a.$cmd", rawdoc! {"renameCollection": from, "to": to, "dropTarget": true})
        };
        let entries = [
            rename(1, "a.x", "a.y"),
            rename(2, "z.x", "a.y"),
            rename(3, "z.x", "z.y"),
            entry(4, "c", "a.$cmd", rawdoc! {"importCollection": "x"}),
            entry(5, "c", "a.$cmd", rawdoc! {"brandNew": "x"}),
            entry(6, "c", "z.$cmd", rawdoc! {"brandNew": "x"}),
        ];
        let (packed, ..) = packed(&selection, &entries, u64::MAX).await;
        let barriers: Vec<u32> = packed.barriers.iter().map(|barrier| barrier.at.t).collect();
        assert_eq!(barriers, [2, 4, 5], "{:?}", packed.barriers);
        let all = Selection::default();
        let version = entry(1, "u", "admin.system.version", rawdoc! {"_id": "featureCompatibilityVersion"});
        let (packed, raw, _) = self::packed(&all, &[version], u64::MAX).await;
        assert_eq!((packed.barriers.len(), raw.len()), (1, 0));
        let many: Vec<_> = (1..=200).map(|t| rename(t, "z.x", "a.y")).collect();
        let (packed, ..) = self::packed(&selection, &many, u64::MAX).await;
        let ends = (packed.barriers.len(), packed.barriers[98].at.t, packed.barriers[99].at.t);
        assert_eq!(ends, (100, 99, 200));
    }

    /// Parts of a transaction are kept as they come: its other parts may be in other slices.
    #[tokio::test]
    async fn parts_of_transactions_are_kept_without_their_beginning() {
        let selection = Selection { databases: vec!["a".into()], ..Selection::default() };
        let part = |t, o| {
            let mut part = entry(t, "c", "admin.$cmd", o);
            part.append(bson::raw::cstr!("lsid"), rawdoc! {"id": 1});
            part.append(bson::raw::cstr!("txnNumber"), 1_i64);
            let previous = Timestamp { time: t - 1, increment: 1 };
            part.append(bson::raw::cstr!("prevOpTime"), rawdoc! {"ts": previous, "t": 1_i64});
            part
        };
        let other = rawdoc! {"op": "i", "ns": "z.b", "o": {"_id": 1}};
        let commit = part(7, rawdoc! {"commitTransaction": 1});
        let entries = [part(6, rawdoc! {"applyOps": [other], "partialTxn": true}), commit.clone()];
        let (packed, raw, _) = packed(&selection, &entries, u64::MAX).await;
        assert_eq!((packed.entries, packed.barriers.len()), (2, 0));
        let empty = RawDocument::from_bytes(&raw[..raw.len() - commit.as_bytes().len()]).unwrap();
        assert!(empty.get_document("o").unwrap().get_array("applyOps").unwrap().is_empty());
        assert!(raw.ends_with(commit.as_bytes()));
    }
}
