//! Counts the writes in the entries of a slice by minute and namespace, and lists its changes of namespaces and indexes.

use std::collections::{BTreeMap, HashMap};

use bson::{RawBsonRef, RawDocument};
use serde::Serialize;

use crate::dumpformat::oplog::transaction::{TransactionEntry, TransactionId, TransactionPart};
use crate::model::namespace::{BUCKETS, SERVERS_OWN};
use crate::model::optime::OpTime;
use crate::model::slice::{EventsFile, FORMAT, MinuteWrites, NamespaceChange};

/// A slice ends when it has this many rows of events, which bounds the memory.
const ROWS: usize = 100_000;
/// The deepest nesting of `applyOps` that the server accepts.
const DEPTH: usize = 10;

/// The length of an empty events object, and some more, in bytes.
const FRAMEWORK: u64 = 100;

/// Inserts, updates and deletes.
type Writes = [u64; 3];

/// The writes of a transaction that has not committed, and the minute of its last entry.
#[derive(Debug, Default)]
struct OpenWrites {
    minute: u32,
    writes: BTreeMap<String, Writes>,
}

/// The events of a slice.
#[derive(Debug)]
pub(super) struct CountedEvents {
    /// `None` if there are none.
    pub file: Option<EventsFile>,
    /// The rows that had no room.
    pub left_out: u64,
}

/// An insert, update or delete of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    pub ns: &'a str,
    /// The place in [`Writes`].
    kind: usize,
}

impl<'a> Write<'a> {
    /// Returns `None` for another entry.
    pub(super) fn of(entry: &'a RawDocument) -> Option<Write<'a>> {
        let kind = write_kind(entry.get_str("op").ok()?)?;
        entry.get_document("o").ok()?;
        Some(Write { ns: entry.get_str("ns").ok()?, kind })
    }

    /// Returns true if nothing but the namespace decides how the entry is treated.
    pub(super) fn is_ordinary(&self) -> bool {
        self.ns
            .split_once('.')
            .is_some_and(|(db, collection)| !SERVERS_OWN.contains(&db) && !collection.starts_with("system."))
    }
}

/// The place of an operation in [`Writes`]; `None` if it writes no document.
fn write_kind(op: &str) -> Option<usize> {
    ["i", "u", "d"].iter().position(|write| *write == op)
}

#[derive(Debug, Default)]
pub(super) struct EventCounter {
    minutes: BTreeMap<(u32, String), Writes>,
    /// The writes since the last change of the minute or the namespace.
    newest: Option<((u32, String), Writes)>,
    open: HashMap<TransactionId, OpenWrites>,
    /// The rows of open transactions.
    open_rows: usize,
    changes: Vec<NamespaceChange>,
}

impl EventCounter {
    /// Counts an entry that the slice keeps. A part of an entry that cannot be understood counts nothing.
    pub(super) fn take(&mut self, entry: &RawDocument, at: OpTime) {
        let minute = at.t - at.t % 60;
        let Some(of) = TransactionEntry::of(entry).ok().flatten() else {
            let mut writes = BTreeMap::new();
            self.operation(entry, at, 0, &mut writes);
            return self.add(minute, writes);
        };
        let mut open = self.open.remove(&of.id).unwrap_or_default();
        self.open_rows -= open.writes.len();
        self.operation(entry, at, 0, &mut open.writes);
        match of.part {
            TransactionPart::Operations { last: false } => {
                open.minute = minute;
                self.open_rows += open.writes.len();
                self.open.insert(of.id, open);
            }
            TransactionPart::Abort => {}
            TransactionPart::Operations { last: true } | TransactionPart::Commit => {
                self.add(minute, open.writes);
            }
        }
    }

    /// Counts a write to an ordinary collection.
    pub(super) fn write(&mut self, write: &Write, at: OpTime) {
        let minute = at.t - at.t % 60;
        match &mut self.newest {
            Some(((of, ns), counts)) if *of == minute && ns == write.ns => counts[write.kind] += 1,
            _ => {
                self.settle();
                let mut counts = Writes::default();
                counts[write.kind] = 1;
                self.newest = Some(((minute, write.ns.into()), counts));
            }
        }
    }

    /// Adds the newest writes to those of their minute.
    fn settle(&mut self) {
        if let Some(((minute, ns), counts)) = self.newest.take() {
            self.add(minute, BTreeMap::from([(ns, counts)]));
        }
    }

    /// Returns true if the slice should end.
    pub(super) fn is_full(&self) -> bool {
        self.minutes.len() + self.open_rows + self.changes.len() >= ROWS
    }

    /// Returns the events, of which at most `most` bytes of JSON are kept. Changes are kept rather than counts of writes.
    pub(super) fn finish(mut self, most: u64) -> CountedEvents {
        self.settle();
        for open in std::mem::take(&mut self.open).into_values() {
            self.add(open.minute, open.writes);
        }
        let row = |((minute, ns), [inserts, updates, deletes]): ((u32, String), Writes)| MinuteWrites {
            minute,
            ns,
            inserts,
            updates,
            deletes,
        };
        let mut room = most.saturating_sub(FRAMEWORK);
        let (changes, no_changes) = fitting(self.changes, &mut room);
        let (minutes, no_minutes) = fitting(self.minutes.into_iter().map(row), &mut room);
        let empty = minutes.is_empty() && changes.is_empty();
        CountedEvents {
            file: (!empty).then_some(EventsFile { format: FORMAT, minutes, changes, slice: None }),
            left_out: no_changes + no_minutes,
        }
    }

    fn add(&mut self, minute: u32, writes: BTreeMap<String, Writes>) {
        for (ns, counts) in writes {
            let sum = self.minutes.entry((minute, ns)).or_default();
            sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }

    fn operation(
        &mut self,
        operation: &RawDocument,
        at: OpTime,
        depth: usize,
        writes: &mut BTreeMap<String, Writes>,
    ) {
        let (Ok(op), Ok(ns)) = (operation.get_str("op"), operation.get_str("ns")) else { return };
        let Some(kind) = write_kind(op) else {
            if op == "c" {
                self.command(operation, ns, at, depth, writes);
            }
            return;
        };
        let ns = match ns.split_once('.') {
            // A view is a document of this collection; its changes are not writes of data.
            Some((_, "system.views")) => return,
            Some((db, collection)) => match collection.strip_prefix(BUCKETS) {
                Some(series) => &format!("{db}.{series}"),
                None => ns,
            },
            None => return,
        };
        match writes.get_mut(ns) {
            Some(counts) => counts[kind] += 1,
            None => writes.entry(ns.to_string()).or_default()[kind] += 1,
        }
    }

    fn command(
        &mut self,
        operation: &RawDocument,
        ns: &str,
        at: OpTime,
        depth: usize,
        writes: &mut BTreeMap<String, Writes>,
    ) -> Option<()> {
        let o = operation.get_document("o").ok()?;
        let (name, value) = o.iter().next()?.ok()?;
        if let ("applyOps", RawBsonRef::Array(operations)) = (name.as_str(), value) {
            if depth < DEPTH {
                for inner in operations.into_iter().flatten() {
                    if let RawBsonRef::Document(inner) = inner {
                        self.operation(inner, at, depth + 1, writes);
                    }
                }
            }
            return Some(());
        }
        let db = ns.split_once('.').map_or(ns, |(db, _)| db);
        let index = |index: RawBsonRef<'_>| Some(index.as_document()?.get_str("name").ok()?.to_string());
        let mut change = NamespaceChange {
            at,
            command: name.as_str().into(),
            ns: value.as_str().map_or_else(|| db.into(), |collection| series(db, collection)),
            to: None,
            indexes: Vec::new(),
            documents: operation.get_document("o2").ok().and_then(|o2| count(o2.get("numRecords").ok()??)),
        };
        match name.as_str() {
            "create" | "drop" | "dropDatabase" | "collMod" | "convertToCapped" | "emptycapped" => {}
            "renameCollection" => {
                change.ns = value.as_str()?.into();
                change.to = Some(o.get_str("to").ok()?.into());
            }
            "createIndexes" => change.indexes.extend(o.get_str("name").map(str::to_string)),
            "commitIndexBuild" => {
                change.command = "createIndexes".into();
                change.indexes =
                    o.get_array("indexes").ok()?.into_iter().flatten().filter_map(index).collect();
            }
            "dropIndexes" | "dropIndex" | "deleteIndexes" | "deleteIndex" => {
                change.command = "dropIndexes".into();
                change.indexes.extend(o.get_str("index").map(str::to_string));
            }
            // The start of an index build and the server's own commands change nothing.
            _ => return None,
        }
        self.changes.push(change);
        Some(())
    }
}

/// Takes rows while their JSON fits into `room` bytes. Returns the number of the other rows, too.
fn fitting<T: Serialize>(rows: impl IntoIterator<Item = T>, room: &mut u64) -> (Vec<T>, u64) {
    let (mut taken, mut left_out) = (Vec::new(), 0);
    for row in rows {
        let length = serde_json::to_vec(&row).map_or(u64::MAX, |json| json.len() as u64 + 1);
        match room.checked_sub(length).filter(|_| left_out == 0) {
            Some(rest) => {
                *room = rest;
                taken.push(row);
            }
            None => left_out += 1,
        }
    }
    (taken, left_out)
}

fn series(db: &str, collection: &str) -> String {
    format!("{db}.{}", collection.strip_prefix(BUCKETS).unwrap_or(collection))
}

fn count(value: RawBsonRef<'_>) -> Option<u64> {
    match value {
        RawBsonRef::Int32(n) => u64::try_from(n).ok(),
        RawBsonRef::Int64(n) => u64::try_from(n).ok(),
        RawBsonRef::Double(n) if n >= 0.0 => Some(n as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, Timestamp, rawdoc};

    use super::*;
    use crate::model::slice::LARGEST_EVENTS;

    fn at(t: u32) -> OpTime {
        OpTime { t, i: 1 }
    }

    fn entry(op: &str, ns: &str, o: RawDocumentBuf) -> RawDocumentBuf {
        rawdoc! {"op": op, "ns": ns, "o": o}
    }

    fn rows(counter: EventCounter) -> Vec<(u32, String, Writes)> {
        let minutes = counter.finish(LARGEST_EVENTS).file.map(|events| events.minutes).unwrap_or_default();
        minutes.into_iter().map(|m| (m.minute, m.ns, [m.inserts, m.updates, m.deletes])).collect()
    }

    #[test]
    fn writes_are_counted_by_minute_and_namespace() {
        let mut counter = EventCounter::default();
        counter.take(&entry("i", "a.b", rawdoc! {"_id": 1}), at(61));
        counter.take(&entry("u", "a.b", rawdoc! {"$v": 2}), at(119));
        counter.take(&entry("d", "a.b", rawdoc! {"_id": 1}), at(120));
        counter.take(&entry("i", "a.system.buckets.w", rawdoc! {"_id": 1}), at(120));
        let nested = rawdoc! {"applyOps": [entry("i", "a.c", rawdoc! {}), entry("d", "a.b", rawdoc! {})]};
        counter.take(&entry("c", "admin.$cmd", nested), at(121));
        let want = [
            (60, "a.b".to_string(), [1, 1, 0]),
            (120, "a.b".into(), [0, 0, 2]),
            (120, "a.c".into(), [1, 0, 0]),
            (120, "a.w".into(), [1, 0, 0]),
        ];
        assert_eq!(rows(counter), want);
        assert_eq!(EventCounter::default().finish(LARGEST_EVENTS).file, None);
    }

    fn part(number: i64, previous: u32, o: RawDocumentBuf) -> RawDocumentBuf {
        let previous = Timestamp { time: previous, increment: u32::from(previous > 0) };
        rawdoc! {"op": "c", "ns": "admin.$cmd", "lsid": {"id": 1}, "txnNumber": number,
        "prevOpTime": {"ts": previous, "t": 1_i64}, "o": o}
    }

    #[test]
    fn a_transaction_counts_when_it_commits() {
        let write = || entry("i", "a.b", rawdoc! {});
        let mut counter = EventCounter::default();
        counter.take(&part(1, 0, rawdoc! {"applyOps": [write(), write()], "partialTxn": true}), at(10));
        counter.take(&part(2, 0, rawdoc! {"applyOps": [write()], "prepare": true}), at(11));
        counter.take(&part(3, 0, rawdoc! {"applyOps": [write()], "prepare": true}), at(12));
        counter.take(&part(4, 0, rawdoc! {"applyOps": [write()], "prepare": true}), at(70));
        counter.take(&part(1, 10, rawdoc! {"applyOps": [write()], "count": 3_i64}), at(130));
        counter.take(&part(2, 11, rawdoc! {"commitTransaction": 1}), at(190));
        counter.take(&part(3, 12, rawdoc! {"abortTransaction": 1}), at(191));
        let want = [(60, [1, 0, 0]), (120, [3, 0, 0]), (180, [1, 0, 0])];
        assert_eq!(rows(counter), want.map(|(minute, writes)| (minute, "a.b".to_string(), writes)));
    }

    #[test]
    fn changes_of_namespaces_and_indexes_are_listed() {
        let mut counter = EventCounter::default();
        let mut drop = entry("c", "a.$cmd", rawdoc! {"drop": "b"});
        drop.append(bson::raw::cstr!("o2"), rawdoc! {"numRecords": 7_i64});
        let index = rawdoc! {"name": "x_1", "key": {"x": 1}};
        for (second, entry) in [
            drop,
            entry("c", "a.$cmd", rawdoc! {"dropDatabase": 1}),
            entry("c", "a.$cmd", rawdoc! {"renameCollection": "a.b", "to": "a.c", "dropTarget": true}),
            entry("c", "a.$cmd", rawdoc! {"commitIndexBuild": "b", "indexes": [index]}),
            entry("c", "a.$cmd", rawdoc! {"dropIndexes": "b", "index": "x_1"}),
            entry("c", "a.$cmd", rawdoc! {"startIndexBuild": "b"}),
        ]
        .iter()
        .enumerate()
        {
            counter.take(entry, at(second as u32));
        }
        let changes = counter.finish(LARGEST_EVENTS).file.unwrap().changes;
        let shown: Vec<String> = changes
            .iter()
            .map(|c| format!("{} {} {:?} {:?} {:?}", c.command, c.ns, c.to, c.indexes, c.documents))
            .collect();
        let want = [
            "drop a.b None [] Some(7)",
            "dropDatabase a None [] None",
            "renameCollection a.b Some(\"a.c\") [] None",
            "createIndexes a.b None [\"x_1\"] None",
            "dropIndexes a.b None [\"x_1\"] None",
        ];
        assert_eq!(shown, want);
    }

    #[test]
    fn events_without_room_are_left_out_and_counted() {
        let mut counter = EventCounter::default();
        counter.take(&entry("c", "a.$cmd", rawdoc! {"drop": "b"}), at(1));
        for n in 0..1000 {
            counter.take(&entry("i", &format!("a.\u{1}{n}"), rawdoc! {"_id": 1}), at(61));
        }
        let counted = counter.finish(10_000);
        let file = counted.file.unwrap();
        let length = serde_json::to_vec(&file).unwrap().len();
        assert!((9_800..=10_000).contains(&length), "{length}");
        assert_eq!((file.changes.len(), file.minutes.len() as u64 + counted.left_out), (1, 1000));
    }
}
