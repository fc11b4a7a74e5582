//! Compares the documents of namespaces in two backups, in bounded memory and whatever their order.
//!
//! Each document becomes a record: a keyed hash of its `_id`, a keyed hash of the document, and its position in the backup. Records
//! with the same hash of the `_id` are compared with each other ([`super::scratch`]). The `_id`s to be shown are then read from the
//! segments with their documents. The key is random, so nobody can find out from a scratch file whether a value is in the backup.
//!
//! Segments with the same BLAKE3 in both backups are not read. Documents without an `_id`, which only old or damaged collections
//! have, count as added and removed. So do several documents with one `_id`: equal ones are paired first.

use std::collections::{BTreeMap, BinaryHeap};

use bson::raw::cstr;
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};
use schemars::JsonSchema;
use serde::Serialize;

use super::scratch::{HASH, HashRecord, HashRecords};
use crate::base::error::{Error, Kind, Result};
use crate::dumpformat::extjson;
use crate::model::index::Segment;
use crate::ops::restore::StoredBackup;

/// The documents of a namespace that differ between two backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub struct DocumentChanges {
    pub added: u64,
    pub removed: u64,
    /// Documents with the same `_id` and another content.
    pub changed: u64,
    /// How many of these documents an oplog slice of the two backups writes: they may be equal, or differ in another way, after a
    /// restore, which replays the slice.
    pub touched: u64,
    /// How many of these documents have no `_id`. They are not in the lists.
    pub without_id: u64,
    /// The `_id`s of the first added documents, in the order of the second backup: canonical Extended JSON.
    pub added_ids: Vec<String>,
    /// The `_id`s of the first removed documents, in the order of the first backup.
    pub removed_ids: Vec<String>,
    /// The `_id`s of the first changed documents, in the order of the first backup.
    pub changed_ids: Vec<String>,
}

impl DocumentChanges {
    /// The number of documents that differ.
    pub fn count(&self) -> u64 {
        self.added + self.removed + self.changed
    }
}

/// The origin of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Origin {
    First = 0,
    Second = 1,
    /// A write of an oplog slice.
    Slice = 2,
}

/// The bits of a tag with the position of the document in its namespace. Above them are 22 bits of the namespace and 2 of the
/// origin.
const POSITION: u64 = (1 << 40) - 1;

fn tag(origin: Origin, namespace: usize, position: u64) -> u64 {
    (origin as u64) << 62 | (namespace as u64) << 40 | position & POSITION
}

/// Makes records. The key is random, and known to one run only.
pub(super) struct RecordHasher {
    key: [u8; 32],
}

impl RecordHasher {
    pub fn new() -> RecordHasher {
        RecordHasher { key: rand::random() }
    }

    fn hash(&self, namespace: usize, bytes: &[u8]) -> [u8; HASH] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        let hash = hasher.update(&(namespace as u64).to_le_bytes()).update(bytes).finalize();
        hash.as_bytes()[..HASH].try_into().expect("a hash is longer")
    }

    /// The record of a document.
    fn document(&self, origin: Origin, namespace: usize, position: u64, bytes: &[u8]) -> HashRecord {
        let document = self.hash(namespace, bytes);
        let id = RawDocument::from_bytes(bytes).ok().and_then(|document| document.get("_id").ok().flatten());
        let id = match id {
            Some(id) => self.id(namespace, id),
            // The last bit marks hashes of documents without an `_id`.
            None => marked(document, true),
        };
        HashRecord { id, document, tag: tag(origin, namespace, position) }
    }

    fn id(&self, namespace: usize, id: RawBsonRef) -> [u8; HASH] {
        let mut alone = RawDocumentBuf::new();
        alone.append(cstr!("_id"), id);
        marked(self.hash(namespace, alone.as_bytes()), false)
    }

    /// The record of a write in an oplog slice.
    pub fn write(&self, namespace: usize, id: RawBsonRef) -> HashRecord {
        HashRecord { id: self.id(namespace, id), document: [0; HASH], tag: tag(Origin::Slice, namespace, 0) }
    }
}

fn marked(mut hash: [u8; HASH], without_id: bool) -> [u8; HASH] {
    hash[HASH - 1] = hash[HASH - 1] & 0xfe | u8::from(without_id);
    hash
}

/// The smallest positions.
#[derive(Debug, Default)]
struct FirstPositions(BinaryHeap<u64>);

impl FirstPositions {
    fn add(&mut self, position: u64, most: usize) {
        self.0.push(position);
        if self.0.len() > most {
            self.0.pop();
        }
    }
}

/// The differences of a namespace, with positions in place of `_id`s.
#[derive(Debug, Default)]
struct FoundChanges {
    changes: DocumentChanges,
    added: FirstPositions,
    removed: FirstPositions,
    changed: FirstPositions,
}

/// Finds the differences in sorted records.
struct ChangeFinder {
    found: Vec<FoundChanges>,
    /// The most positions in each list.
    limit: usize,
}

impl ChangeFinder {
    fn take(&mut self, sorted: &[HashRecord]) {
        sorted.chunk_by(|a, b| a.id == b.id).for_each(|group| self.take_group(group));
    }

    /// Compares the records with one `_id`.
    fn take_group(&mut self, group: &[HashRecord]) {
        let is_of = |record: &&HashRecord, origin: Origin| record.tag >> 62 == origin as u64;
        let mut left: [Vec<u64>; 2] = Default::default();
        for same in group.chunk_by(|a, b| a.document == b.document) {
            let [first, second] = [Origin::First, Origin::Second].map(|origin| {
                same.iter().filter(move |record| is_of(record, origin)).map(|record| record.tag & POSITION)
            });
            let equal = first.clone().count().min(second.clone().count());
            left[0].extend(first.skip(equal));
            left[1].extend(second.skip(equal));
        }
        let (changed, most) = (left[0].len().min(left[1].len()), left[0].len().max(left[1].len()));
        if most == 0 {
            return;
        }
        left.iter_mut().for_each(|positions| positions.sort_unstable());
        let [removed, added] = &left;
        let (limit, found) = (self.limit, &mut self.found[(group[0].tag >> 40 & 0x3f_ffff) as usize]);
        let without_id = group[0].id[HASH - 1] & 1 == 1;
        let list = |positions: &mut FirstPositions, new: &[u64]| {
            if !without_id {
                new.iter().for_each(|position| positions.add(*position, limit));
            }
            new.len() as u64
        };
        found.changes.changed += list(&mut found.changed, &removed[..changed]);
        found.changes.removed += list(&mut found.removed, &removed[changed..]);
        found.changes.added += list(&mut found.added, &added[changed..]);
        let touched = group.iter().any(|record| is_of(&record, Origin::Slice));
        found.changes.touched += if touched { most as u64 } else { 0 };
        found.changes.without_id += if without_id { most as u64 } else { 0 };
    }
}

/// A segment, and the position of its first document in the namespace.
#[derive(Debug, Clone)]
struct PlacedSegment {
    segment: Segment,
    first: u64,
}

/// The segments of a namespace with their positions.
///
/// # Errors
/// Returns an error of the kind `Mismatch` if the segments do not have as many documents as the manifest says.
fn placed(backup: &StoredBackup, at: usize) -> Result<Vec<PlacedSegment>> {
    let mut next = 0;
    let segments = backup.segments(at).into_iter().map(|segment| {
        let first = next;
        next += segment.documents;
        PlacedSegment { segment, first }
    });
    let segments: Vec<PlacedSegment> = segments.collect();
    let wanted = backup.manifest.namespaces[at].documents;
    match next == wanted {
        true => Ok(segments),
        false => Err(Error::new(
            Kind::Mismatch,
            format!(
                "the index {} of the backup {} has {next} documents of {}, and the manifest has {wanted}",
                backup.manifest.index.key,
                backup.manifest.id,
                backup.name(at)
            ),
        )),
    }
}

/// Leaves out the segments that both sides have.
fn different([first, second]: [Vec<PlacedSegment>; 2]) -> [Vec<PlacedSegment>; 2] {
    let content = |placed: &PlacedSegment| (placed.segment.blake3.clone(), placed.segment.documents);
    let mut there: BTreeMap<(String, u64), usize> = BTreeMap::new();
    second.iter().for_each(|placed| *there.entry(content(placed)).or_default() += 1);
    let mut equal: BTreeMap<(String, u64), usize> = BTreeMap::new();
    let mut kept = Vec::new();
    for placed in first {
        match there.get_mut(&content(&placed)).filter(|left| **left > 0) {
            Some(left) => {
                *left -= 1;
                *equal.entry(content(&placed)).or_default() += 1;
            }
            None => kept.push(placed),
        }
    }
    let is_different =
        |placed: &PlacedSegment| match equal.get_mut(&content(placed)).filter(|left| **left > 0) {
            Some(left) => {
                *left -= 1;
                false
            }
            None => true,
        };
    [kept, second.into_iter().filter(is_different).collect()]
}

/// The comparison of the documents of several namespaces.
pub(super) struct DocumentComparison<'a> {
    sides: [&'a StoredBackup; 2],
    /// The segments to be read, by namespace and side.
    segments: Vec<[Vec<PlacedSegment>; 2]>,
    hasher: RecordHasher,
    /// The most `_id`s in each list.
    limit: usize,
}

impl<'a> DocumentComparison<'a> {
    /// Prepares the comparison of namespaces by their places in the two manifests.
    ///
    /// # Errors
    /// Returns an error of the kind `Mismatch` if an index does not match its manifest.
    pub fn new(
        sides: [&'a StoredBackup; 2],
        namespaces: &[[usize; 2]],
        limit: usize,
    ) -> Result<DocumentComparison<'a>> {
        let both = |[first, second]: &[usize; 2]| {
            Ok(different([placed(sides[0], *first)?, placed(sides[1], *second)?]))
        };
        let segments = namespaces.iter().map(both).collect::<Result<_>>()?;
        Ok(DocumentComparison { sides, segments, hasher: RecordHasher::new(), limit })
    }

    pub fn hasher(&self) -> &RecordHasher {
        &self.hasher
    }

    fn all_segments(&self) -> impl Iterator<Item = &PlacedSegment> {
        self.segments.iter().flatten().flatten()
    }

    /// The number of documents to be read.
    pub fn documents(&self) -> u64 {
        self.all_segments().map(|placed| placed.segment.documents).sum()
    }

    /// The length of the documents to be read, in bytes.
    pub fn raw_bytes(&self) -> u64 {
        self.all_segments().map(|placed| placed.segment.raw_bytes).sum()
    }

    /// Adds the records of all documents. Blocks the thread. `read` gets the name of each namespace, and the length of its documents.
    ///
    /// # Errors
    /// Returns an error if a store or the scratch file fails. The error has the kind `Mismatch` if a segment is damaged.
    pub fn read(&self, records: &mut HashRecords, progress: &dyn Fn(&str, u64, u64)) -> Result<()> {
        for (namespace, sides) in self.segments.iter().enumerate() {
            for (side, origin) in [Origin::First, Origin::Second].into_iter().enumerate() {
                for placed in &sides[side] {
                    let (mut position, mut failed) = (placed.first, None);
                    self.sides[side].read_segment(&placed.segment, &mut |bytes| {
                        if failed.is_none() {
                            let record = self.hasher.document(origin, namespace, position, bytes);
                            failed = records.push(record).err();
                        }
                        position += 1;
                    })?;
                    failed.map_or(Ok(()), Err)?;
                    let segment = &placed.segment;
                    progress(&self.sides[side].name(segment.namespace), segment.documents, segment.raw_bytes);
                }
            }
        }
        Ok(())
    }

    /// Compares the records, and reads the `_id`s of the lists. Blocks the thread.
    ///
    /// # Errors
    /// As [`DocumentComparison::read`].
    pub fn finish(&self, records: HashRecords) -> Result<Vec<DocumentChanges>> {
        let found = self.segments.iter().map(|_| FoundChanges::default()).collect();
        let mut finder = ChangeFinder { found, limit: self.limit };
        records.sorted_parts(&mut |part| finder.take(part))?;
        let with_ids = |(segments, found): (&[Vec<PlacedSegment>; 2], FoundChanges)| {
            let mut changes = found.changes;
            changes.removed_ids = self.ids(0, &segments[0], found.removed)?;
            changes.changed_ids = self.ids(0, &segments[0], found.changed)?;
            changes.added_ids = self.ids(1, &segments[1], found.added)?;
            Ok(changes)
        };
        self.segments.iter().zip(finder.found).map(with_ids).collect()
    }

    /// The `_id`s of the documents at these positions, in order.
    fn ids(&self, side: usize, segments: &[PlacedSegment], positions: FirstPositions) -> Result<Vec<String>> {
        let (positions, mut ids) = (positions.0.into_sorted_vec(), Vec::new());
        for PlacedSegment { segment, first } in segments {
            let from = positions.partition_point(|position| position < first);
            let to = positions.partition_point(|position| *position < first + segment.documents);
            let mut wanted = positions[from..to].iter().peekable();
            if wanted.peek().is_none() {
                continue;
            }
            let mut position = *first;
            self.sides[side].read_segment(segment, &mut |bytes| {
                if wanted.next_if_eq(&&position).is_some() {
                    ids.push(id_text(bytes));
                }
                position += 1;
            })?;
        }
        Ok(ids)
    }
}

/// The `_id` of a document as canonical Extended JSON.
fn id_text(bytes: &[u8]) -> String {
    let text = || {
        let id = RawDocument::from_bytes(bytes).ok()?.get("_id").ok()??;
        extjson::value_text(id).ok()
    };
    text().unwrap_or_else(|| "an _id that is no valid BSON".into())
}

#[cfg(test)]
mod tests;
