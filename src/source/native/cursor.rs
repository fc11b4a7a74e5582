//! Cursors over one collection in natural order, and resume tokens, which say where such a cursor stands.
//!
//! With `$_requestResumeToken: true` each batch carries `postBatchResumeToken: {$recordId: …}`, and `$_resumeAfter` starts a
//! new cursor exactly after that record. Record ids are 64-bit integers, or binary in clustered collections; both grow along
//! the scan. They differ between the members of a replica set, so a token is valid only for the process that sent it.
//! Source: MongoDB 6.0, `src/mongo/db/query/plan_executor.h`, and seen on 6.0.5.
//!
//! From MongoDB 5.0 on, `find` with `readConcern: {level: "snapshot", atClusterTime}` outside of a transaction reads as of
//! one instant. Every find with the same time sees the same data, on every connection, and also when it continues after a
//! record that was deleted since. Seen on 6.0.5: if the collection was dropped or renamed since, the answer is not an error
//! but empty, and lacks only the time; if it was created again, or another collection was renamed to its name, the answer is
//! SnapshotUnavailable (246); changes of indexes or options do not matter. After `minSnapshotHistoryWindowInSeconds`, `find`
//! and `getMore` fail with SnapshotTooOld (239).

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;

use bson::raw::cstr;
use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, rawdoc};
use futures_util::StreamExt;
use mongodb::error::Error as Driver;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};

use crate::base::error::{Error, Kind};
use crate::model::namespace::BUCKETS;
use crate::model::optime::OpTime;
use crate::mongo::commands::{self, Progress};
use crate::mongo::errors::{self, Class};
use crate::mongo::listing;
use crate::mongo::server::Server;
use crate::source::ReadFailure;

/// The number of documents in the first batch: the server's own default. Most collections end within it; for larger
/// collections, it shows the scan how long the documents are.
pub(super) const FIRST_BATCH: u32 = 101;
/// The number of documents in a batch if the server sends no resume tokens. The scan then cannot open a second cursor with
/// another batch size.
const PLAIN_BATCH: u32 = 1_000;
/// The number of record ids in a batch when only record ids are read.
const ID_BATCH: u32 = 10_000;

/// The collection that is read, and how its cursors are opened.
#[derive(Clone)]
pub(super) struct NativeCollection {
    pub(super) server: Arc<Server>,
    pub(super) db: String,
    pub(super) collection: String,
    /// The namespace, for messages.
    pub(super) name: String,
    /// True if it is a time series without a bucket collection.
    pub(super) raw: bool,
    /// The instant as of which the collection is read. If `None`, each batch is read as of its own time.
    pub(super) at: Option<OpTime>,
    /// True if the server sends resume tokens.
    pub(super) tokens: bool,
}

impl NativeCollection {
    /// Opens the first cursor with batches of `size` documents, and finds out whether the server sends resume tokens.
    pub(super) async fn open_first(&mut self, size: u32) -> Result<RawBatchCursor, Driver> {
        match self.open(None, size).await {
            Err(e) if errors::classify(&e) == Class::UnknownOption => {
                self.tokens = false;
                self.open(None, PLAIN_BATCH).await
            }
            answer => answer,
        }
    }

    /// Opens a cursor after the newest record of `trail`, or at the start.
    pub(super) async fn reopen(&self, trail: &Trail, size: u32) -> Result<RawBatchCursor, ReadFailure> {
        let Some(last) = trail.last() else {
            return Ok(self.open(None, size).await?);
        };
        match self.open(Some(last), size).await {
            Err(e) if errors::classify(&e) == Class::TokenGone => {}
            answer => return Ok(answer?),
        }
        // The last record was deleted: continue after the nearest record before it that still exists.
        let before = self.predecessor(trail, last).await?;
        Ok(self.open(before.as_ref(), size).await?)
    }

    async fn open(&self, after: Option<&RecordId>, size: u32) -> Result<RawBatchCursor, Driver> {
        self.send(self.find(after, size), size).await
    }

    fn find(&self, after: Option<&RecordId>, size: u32) -> RawDocumentBuf {
        let mut find = rawdoc! {"find": self.collection.as_str(), "batchSize": i64::from(size)};
        if self.tokens {
            find.append(cstr!("hint"), rawdoc! {"$natural": 1});
            find.append(cstr!("$_requestResumeToken"), true);
        }
        if self.raw {
            find.append(cstr!("rawData"), true);
        }
        if let Some(after) = after {
            find.append(cstr!("$_resumeAfter"), after.token());
        }
        if let Some(concern) = self.concern() {
            find.append(cstr!("readConcern"), concern);
        }
        find
    }

    /// The read concern of the run's instant, if it has one.
    pub(super) fn concern(&self) -> Option<RawDocumentBuf> {
        self.at.map(|at| rawdoc! {"level": "snapshot", "atClusterTime": Timestamp::from(at)})
    }

    async fn send(&self, find: RawDocumentBuf, size: u32) -> Result<RawBatchCursor, Driver> {
        let database = self.server.database(&self.db);
        let action = database
            .run_raw_cursor_command(find)
            .selection_criteria(commands::any_member())
            .batch_size(size)
            .batch();
        self.server.bounded(action.into_future()).await
    }

    /// The `_id`s, as elements of BSON, of the records behind `end` among the first `most` ones behind `after`.
    pub(super) async fn ids_beyond(
        &self,
        after: Option<&RecordId>,
        end: &RecordId,
        most: usize,
    ) -> Result<HashSet<Vec<u8>>, ReadFailure> {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let mut find = self.find_ids(after, most);
        find.append(cstr!("limit"), i64::from(most));
        let mut cursor = self.send(find, most).await?;
        let mut beyond = HashSet::new();
        while let Some(reply) = self.server.next(async { cursor.next().await.transpose() }).await? {
            for value in reply.doc_slices()? {
                let value = value.map_err(|e| self.malformed(e))?;
                let document = value.as_document();
                let id = document.and_then(|d| shown(d.as_bytes()));
                let id = id.ok_or_else(|| self.malformed("a document has no record id"))?;
                if id > *end {
                    beyond.extend(document.and_then(id_element).map(<[u8]>::to_vec));
                }
            }
        }
        Ok(beyond)
    }

    /// A find of record ids. `showRecordId` would replace a document's own field `$recordId` (seen on 6.0.5), so documents are
    /// never read with it.
    fn find_ids(&self, after: Option<&RecordId>, size: u32) -> RawDocumentBuf {
        let mut find = self.find(after, size);
        find.append(cstr!("showRecordId"), true);
        find.append(cstr!("projection"), rawdoc! {"_id": 1});
        find
    }

    /// The newest record up to `last` that still exists; `None` if all records that still exist come after `last`.
    async fn predecessor(&self, trail: &Trail, last: &RecordId) -> Result<Option<RecordId>, ReadFailure> {
        let older = trail.0.iter().rev().skip(1).cloned().map(Some);
        for from in older.chain([None]) {
            let mut cursor = match self.send(self.find_ids(from.as_ref(), ID_BATCH), ID_BATCH).await {
                Err(e) if errors::classify(&e) == Class::TokenGone => continue,
                answer => answer?,
            };
            let mut before = from;
            let mut progress = Progress::new(self.server.stall);
            while let Some(reply) = self.server.next(async { cursor.next().await.transpose() }).await? {
                let documents = reply.doc_slices()?;
                progress.step(!documents.is_empty())?;
                for value in documents {
                    let value = value.map_err(|e| self.malformed(e))?;
                    let id = value.as_document().and_then(|d| shown(d.as_bytes()));
                    let id = id.ok_or_else(|| self.malformed("a document has no record id"))?;
                    match id.partial_cmp(last) {
                        Some(Ordering::Greater) => return Ok(before),
                        Some(_) => before = Some(id),
                        None => return Err(self.malformed("record ids of two kinds").into()),
                    }
                }
            }
            return Ok(before);
        }
        Ok(None)
    }

    /// Checks that the first reply of a cursor is of the requested instant.
    pub(super) fn check_instant(&self, reply: &RawDocument) -> Result<(), Error> {
        let given = reply.get_document("cursor").and_then(|cursor| cursor.get_timestamp("atClusterTime"));
        match self.at {
            Some(at) if given.ok().map(OpTime::from) != Some(at) => {
                Err(self.instant_gone("it was dropped or renamed since"))
            }
            _ => Ok(()),
        }
    }

    /// The error for a collection that can no longer be read as of the run's instant.
    pub(super) fn instant_gone(&self, cause: &str) -> Error {
        let when = self.at.map(|at| format!(" as of {at}")).unwrap_or_default();
        Error::new(Kind::Instant, format!("{} can no longer be read{when}", self.name))
            .caused_by(cause)
            .hint(
                "Raise minSnapshotHistoryWindowInSeconds, so that MongoDB keeps its history for longer than a backup \
                 takes, and do not drop or rename collections during a backup; or use --consistency oplog \
                 (BACKUP_CONSISTENCY)",
            )
    }

    /// Checks that a batch of a time series has buckets. A server that ignores `rawData` would send measurements, which no
    /// restore can turn into buckets again.
    pub(super) fn check_buckets(&self, reply: &RawBatch) -> Result<(), ReadFailure> {
        let first = reply.doc_slices()?.into_iter().next();
        let first = first.transpose().map_err(|e| self.malformed(e))?;
        let control = first.and_then(|value| value.as_document().map(|d| d.get_document("control").is_ok()));
        match control {
            Some(true) => Ok(()),
            _ => Err(self.malformed("the documents of a time series are not buckets").into()),
        }
    }

    /// The UUID that the collection of this name has now; `None` if the server does not list it.
    pub(super) async fn uuid_now(&self) -> Result<Option<String>, Driver> {
        let database = self.server.database(&self.db);
        let row = self.server.ask(|| listing::collection(&database, &self.collection)).await?;
        match row.and_then(|row| commands::uuid_of(&row)) {
            None if self.raw => {
                // While the feature compatibility version is below 9.0, only the bucket collection has a UUID.
                let buckets = format!("{BUCKETS}{}", self.collection);
                let row = self.server.ask(|| listing::collection(&database, &buckets)).await?;
                Ok(row.and_then(|row| commands::uuid_of(&row)))
            }
            uuid => Ok(uuid),
        }
    }

    pub(super) fn explain(&self, error: Driver) -> Error {
        match errors::classify(&error) {
            Class::InstantGone if self.at.is_some() => self.instant_gone(&errors::tidy(&error)),
            _ => self.server.explain(&format!("cannot read {}", self.name), error),
        }
    }

    pub(super) fn malformed(&self, cause: impl Display) -> Error {
        malformed(&self.name, cause)
    }
}

/// The error that the server's reply for the namespace `name` is malformed.
pub(super) fn malformed(name: impl Display, cause: impl Display) -> Error {
    Error::failed(format!("MongoDB sent a malformed reply for {name}")).caused_by(cause.to_string())
}

/// A record's place in the scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RecordId {
    /// The id in an ordinary collection.
    Number(i64),
    /// The id in a clustered collection: the bytes of its key.
    Key(Vec<u8>),
}

impl PartialOrd for RecordId {
    /// Ids of different kinds have no order, because they belong to different collections.
    fn partial_cmp(&self, other: &RecordId) -> Option<Ordering> {
        match (self, other) {
            (RecordId::Number(a), RecordId::Number(b)) => Some(a.cmp(b)),
            (RecordId::Key(a), RecordId::Key(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

impl RecordId {
    fn of(value: RawBsonRef<'_>) -> Option<RecordId> {
        match value {
            RawBsonRef::Int64(n) => Some(RecordId::Number(n)),
            RawBsonRef::Int32(n) => Some(RecordId::Number(n.into())),
            RawBsonRef::Binary(b) => Some(RecordId::Key(b.bytes.to_vec())),
            _ => None,
        }
    }

    /// The value of `$_resumeAfter`.
    pub(crate) fn token(&self) -> RawDocumentBuf {
        match self {
            RecordId::Number(n) => rawdoc! {"$recordId": *n},
            RecordId::Key(bytes) => {
                let subtype = bson::spec::BinarySubtype::Generic;
                rawdoc! {"$recordId": RawBson::Binary(bson::Binary { subtype, bytes: bytes.clone() })}
            }
        }
    }
}

/// The token in a reply's `cursor`. Returns `None` if the server sends no tokens, or the token is null because nothing was
/// scanned yet.
pub(crate) fn token_of(reply: &RawDocument) -> Option<RecordId> {
    let token = reply.get_document("cursor").ok()?.get_document("postBatchResumeToken").ok()?;
    RecordId::of(token.get("$recordId").ok()??)
}

/// Returns true if a reply has a token, even if it is null.
pub(crate) fn has_token(reply: &RawDocument) -> bool {
    reply.get_document("cursor").is_ok_and(|cursor| cursor.get_document("postBatchResumeToken").is_ok())
}

/// Returns true if a reply is the last one of its cursor.
pub(crate) fn is_last(reply: &RawDocument) -> bool {
    reply.get_document("cursor").and_then(|cursor| cursor.get_i64("id")).is_ok_and(|id| id == 0)
}

/// Places that a scan has passed, sparse towards its start. If the newest record was deleted, an older one may still exist.
#[derive(Debug, Default)]
pub(super) struct Trail(Vec<RecordId>);

/// The trail is thinned out when it has more places than this.
const LONGEST_TRAIL: usize = 64;

impl Trail {
    /// Adds the end of a batch that was handed on.
    pub(super) fn push(&mut self, id: RecordId) {
        self.0.push(id);
        if self.0.len() > LONGEST_TRAIL {
            let mut n = 0;
            // Drop every second place of the older half; keep the newer half dense.
            self.0.retain(|_| {
                n += 1;
                n > LONGEST_TRAIL / 2 || n % 2 == 1
            });
        }
    }

    /// The newest place.
    pub(super) fn last(&self) -> Option<&RecordId> {
        self.0.last()
    }
}

/// The `_id` of a document as an element of BSON. `None` if it is not the first element, where the server puts it.
pub(super) fn id_element(document: &RawDocument) -> Option<&[u8]> {
    let first = document.iter_elements().next()?.ok()?;
    // The document's length comes first. An element is a type, a name with its end, and a value.
    let len = 1 + "_id\0".len() + first.size();
    if first.key() == "_id" { document.as_bytes().get(4..4 + len) } else { None }
}

/// The record id of a document that was read with `showRecordId: true` and a projection. Together they put the id last. The
/// values of the other elements are not parsed: the strings of a stored document need not be UTF-8.
pub(crate) fn shown(document: &[u8]) -> Option<RecordId> {
    let last = RawDocument::from_bytes(document).ok()?.iter_elements().last()?.ok()?;
    if last.key() == "$recordId" { RecordId::of(last.value().ok()?) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_id_of_a_document_is_read() {
        // An `_id` need not be UTF-8.
        let odd = [&b"\x02_id\0\x02\0\0\0\xff\0"[..]].concat();
        let plain = [&(odd.len() as i32 + 5).to_le_bytes(), odd.as_slice(), &[0]].concat();
        let shown_as = |kind: u8, value: &[u8]| {
            let field = [&[kind], &b"$recordId\0"[..], value].concat();
            let len = (odd.len() + field.len() + 5) as i32;
            [&len.to_le_bytes(), odd.as_slice(), &field, &[0]].concat()
        };
        assert_eq!(shown(&shown_as(0x12, &99_i64.to_le_bytes())), Some(RecordId::Number(99)));
        for key in [vec![], vec![60], vec![5; 300], b"\x05$recordId\0\x01\0\0\0\0x".to_vec()] {
            let value = [&(key.len() as i32).to_le_bytes()[..], &[0], &key].concat();
            assert_eq!(shown(&shown_as(0x05, &value)), Some(RecordId::Key(key)));
        }
        // Its `_id` has a type, a name, a length and two bytes of text.
        assert_eq!(id_element(RawDocument::from_bytes(&plain).unwrap()), Some(&plain[4..15]));
        assert_eq!(id_element(&rawdoc! {"a": 1, "_id": 2}), None);
        assert_eq!(id_element(&rawdoc! {}), None);
        for none in [&plain, &shown_as(0x02, b"\x02\0\0\0x\0"), &b"\x05\0\0\0\0".to_vec(), &vec![]] {
            assert_eq!(shown(none), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_shown_panic(kinds in proptest::collection::vec(0_u8..=20, 0..40), tail: Vec<u8>) {
            let _ = shown(&[&[0; 4][..], &kinds, b"$recordId\0", &tail, &[0]].concat());
            let _ = shown(&tail);
        }
    }

    #[test]
    fn the_trail_keeps_the_newest_dense_and_the_start() {
        let mut trail = Trail::default();
        for n in 0..10_000 {
            trail.push(RecordId::Number(n));
            assert!(trail.0.len() <= LONGEST_TRAIL);
        }
        assert_eq!(trail.last(), Some(&RecordId::Number(9_999)));
        let newest: Vec<_> = trail.0.iter().rev().take(10).cloned().collect();
        assert_eq!(newest, (9_990..10_000).rev().map(RecordId::Number).collect::<Vec<_>>());
        assert_eq!(trail.0[0], RecordId::Number(0));
        assert!(trail.0.is_sorted());
    }

    #[test]
    fn tokens_are_read_back() {
        for id in [RecordId::Number(5), RecordId::Key(vec![1, 2, 3])] {
            let mut cursor = RawDocumentBuf::new();
            cursor.append(cstr!("postBatchResumeToken"), id.token());
            let mut reply = RawDocumentBuf::new();
            reply.append(cstr!("cursor"), cursor);
            assert_eq!(token_of(&reply), Some(id));
        }
        assert_eq!(token_of(&rawdoc! {"cursor": {"postBatchResumeToken": {"$recordId": null}}}), None);
        assert_eq!(token_of(&rawdoc! {"cursor": {}}), None);
    }
}
