//! Inserts documents byte by byte as they are, and reports the documents that the server refuses.
//!
//! The `insert` command is written by hand, so that no document is decoded. A server replaces `Timestamp(0, 0)` in an
//! inserted document by the current time, unless a newer server is told not to; on older servers an update restores
//! such documents, as mongorestore does.

use std::fmt;

use bson::raw::cstr;
use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use mongodb::error::Error as Driver;

use super::RestoreTarget;
use crate::base::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::mongo::errors;

/// The collection that documents are written to.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub db: String,
    /// The collection that holds the documents: `system.buckets.…` for a time series before 8.3.
    pub collection: String,
    /// True if the documents are the buckets of a time series.
    pub buckets: bool,
    /// True if commands need `rawData: true`, because the buckets have the name of the time series (from 8.3
    /// on).
    pub raw: bool,
}

impl Destination {
    /// An ordinary collection.
    pub(crate) fn new(db: &str, collection: &str) -> Destination {
        Destination { db: db.into(), collection: collection.into(), buckets: false, raw: false }
    }

    /// A command on this destination.
    pub(super) fn command(&self, mut command: RawDocumentBuf) -> RawDocumentBuf {
        if self.raw {
            command.append(cstr!("rawData"), true);
        }
        command
    }

    /// The `find` command for one document.
    pub(crate) fn find_one(&self, filter: RawDocumentBuf) -> RawDocumentBuf {
        self.command(rawdoc! {"find": self.collection.as_str(), "filter": filter, "limit": 1})
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.db, self.collection)
    }
}

/// Codes for an invalid document: InvalidBSON, BSONObjectTooLarge. A server that validates incoming BSON
/// (9.0) refuses the whole command with them.
const INVALID_DOCUMENT: [i32; 2] = [22, 10334];

#[derive(Debug, Clone)]
pub(crate) struct RefusedDocument {
    pub document: RawDocumentBuf,
    pub code: i32,
    pub why: String,
    /// True if the target has a document with the same `_id`.
    pub same_id: bool,
}

impl RestoreTarget {
    /// Inserts documents that follow each other in `raw`. Returns the documents that the server refuses.
    pub(crate) async fn insert(&self, destination: &Destination, raw: &[u8]) -> Result<Vec<RefusedDocument>> {
        self.insert_all(destination, &split(raw)?).await
    }

    /// Inserts documents. Returns the documents that the server refuses.
    pub(crate) async fn insert_all(
        &self,
        destination: &Destination,
        documents: &[&[u8]],
    ) -> Result<Vec<RefusedDocument>> {
        let mut refused = Vec::new();
        for batch in batches(documents) {
            if self.insert_batch(destination, batch, &mut refused).await?.is_none() {
                continue;
            }
            for document in batch {
                if let Some(e) =
                    self.insert_batch(destination, std::slice::from_ref(document), &mut refused).await?
                {
                    let document = RawDocumentBuf::from_bytes(document.to_vec()).map_err(|e| {
                        Error::new(Kind::Mismatch, "a document is not valid BSON").caused_by(e)
                    })?;
                    let code = errors::code(&e).unwrap_or_default();
                    refused.push(RefusedDocument { document, code, why: errors::tidy(&e), same_id: false });
                }
            }
        }
        Ok(refused)
    }

    /// Inserts a batch, and adds the documents that the server refuses to `refused`. Returns the server's error if it
    /// refuses the whole command because a document is invalid.
    async fn insert_batch(
        &self,
        destination: &Destination,
        batch: &[&[u8]],
        refused: &mut Vec<RefusedDocument>,
    ) -> Result<Option<Driver>> {
        let insert = || command(self, destination, batch);
        let (answer, repeated) = self.change_repeated(&destination.db, insert).await;
        match answer {
            Err(e) if errors::code(&e).is_some_and(|code| INVALID_DOCUMENT.contains(&code)) => Ok(Some(e)),
            answer => {
                let answer =
                    answer.map_err(|e| self.explain(format_args!("cannot insert into {destination}"), e))?;
                refused.extend(self.refused_in(destination, batch, &answer, repeated).await?);
                Ok(None)
            }
        }
    }

    /// The documents that an answer refuses. Corrects documents that the server changed.
    async fn refused_in(
        &self,
        destination: &Destination,
        batch: &[&[u8]],
        answer: &Document,
        repeated: bool,
    ) -> Result<Vec<RefusedDocument>> {
        super::acknowledged(answer, format_args!("cannot insert into {destination}: the write was"))?;
        let mut refused = Vec::new();
        let errors = answer.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
        for one in errors.iter().filter_map(|error| refusal(error.as_document()?, batch)) {
            // If the command was sent twice, the first one may have inserted the document.
            if !(repeated && one.same_id && self.has(destination, &one.document).await?) {
                refused.push(one);
            }
        }
        let sent = batch.len() as u64;
        let missing = sent - super::number(answer, "n").min(sent);
        if missing != errors.len() as u64 {
            let what = format!(
                "cannot insert into {destination}: {missing} of {} were not inserted, and the server gives no reason",
                units::several(sent, "document")
            );
            return Err(Error::new(Kind::Refused, what));
        }
        if !destination.buckets && !self.version.keeps_empty_timestamps() {
            let taken = |at: &usize| !errors.iter().any(|e| index(e) == Some(*at));
            self.empty_timestamps(destination, (0..batch.len()).filter(taken).map(|at| batch[at])).await?;
        }
        Ok(refused)
    }

    /// Returns true if the target has exactly this document.
    async fn has(&self, destination: &Destination, document: &RawDocumentBuf) -> Result<bool> {
        let Ok(filter) = id_filter(document) else { return Ok(false) };
        Ok(self.find(&destination.db, destination.find_one(filter)).await?.first() == Some(document))
    }

    /// Replaces a document by another one with the same `_id`.
    pub(crate) async fn replace(
        &self,
        destination: &Destination,
        old: &RawDocument,
        new: &RawDocument,
    ) -> Result<()> {
        let one = rawdoc! {"q": id_filter(old)?, "limit": 1};
        let concern = self.concern.clone();
        let command =
            rawdoc! {"delete": destination.collection.as_str(), "deletes": [one], "writeConcern": concern};
        let doing = format!("cannot delete from {destination}");
        let answer = self.run(&destination.db, destination.command(command)).await;
        let answer = answer.map_err(|e| self.explain_beyond(&doing, e))?;
        if super::number(&answer, "n") != 1 {
            return Err(Error::new(Kind::Refused, doing).caused_by("the document no longer exists"));
        }
        match self.insert(destination, new.as_bytes()).await?.first() {
            None => Ok(()),
            Some(refused) => {
                let what = format!("cannot write into {destination}");
                Err(Error::new(Kind::Refused, what).caused_by(refused.why.clone()))
            }
        }
    }
}

/// The position in the batch of the document that an error is about.
fn index(error: &Bson) -> Option<usize> {
    error.as_document().map(|error| super::number(error, "index") as usize)
}

fn refusal(error: &Document, batch: &[&[u8]]) -> Option<RefusedDocument> {
    let at = super::number(error, "index") as usize;
    let why = error.get_str("errmsg").unwrap_or("no reason given").to_string();
    let code = super::number(error, "code") as i32;
    let by_id = match error.get_document("keyPattern") {
        Ok(pattern) => pattern.len() == 1 && pattern.contains_key("_id"),
        // Servers before 4.2 do not send `keyPattern`.
        Err(_) => why.contains("index: _id_ "),
    };
    let document = RawDocumentBuf::from_bytes(batch.get(at)?.to_vec()).ok()?;
    Some(RefusedDocument { document, code, why, same_id: code == 11000 && by_id })
}

/// A filter for the document's `_id`.
pub(crate) fn id_filter(document: &RawDocument) -> Result<RawDocumentBuf> {
    let id = document.get("_id").ok().flatten();
    let id = id.ok_or_else(|| Error::failed("a document has no readable _id"))?;
    Ok(rawdoc! {"_id": {"$eq": bson::RawBson::from(id)}})
}

/// An `_id` for messages, in at most 60 characters.
pub(crate) fn id_text(id: bson::RawBsonRef<'_>) -> String {
    if bounds::check_value_depth(id).is_err() {
        return "that is nested too deeply".into();
    }
    let text = match Bson::try_from(bson::RawBson::from(id)) {
        Ok(id) => id.into_relaxed_extjson().to_string(),
        Err(_) => "that is not UTF-8".into(),
    };
    if text.chars().count() > 60 { text.chars().take(60).chain(['…']).collect() } else { text }
}

impl RestoreTarget {
    /// Restores the empty timestamps of documents that the server has just inserted.
    async fn empty_timestamps<'a>(
        &self,
        destination: &Destination,
        documents: impl Iterator<Item = &'a [u8]>,
    ) -> Result<()> {
        for document in documents.filter_map(with_empty_timestamp) {
            let doing = format!("cannot restore an empty timestamp in {destination}");
            let filter = id_filter(document).map_err(|e| Error::failed(&doing).caused_by(e))?;
            let whole = rawdoc! {"$replaceWith": {"$literal": document.to_owned()}};
            let update = rawdoc! {"q": filter, "u": [whole]};
            let command = rawdoc! {
                "update": destination.collection.as_str(),
                "updates": [update],
                "bypassDocumentValidation": true,
                "writeConcern": self.concern.clone(),
            };
            let answer = self.run(&destination.db, command).await;
            let answer = answer.map_err(|e| self.explain_beyond(&doing, e))?;
            if super::number(&answer, "n") != 1 {
                return Err(Error::failed(doing).caused_by(answer.to_string()));
            }
        }
        Ok(())
    }

    /// Returns true if the server would replace an empty timestamp in this oplog operation. `applyOps` has no
    /// option against it.
    pub(crate) fn would_fill(operation: &RawDocument) -> bool {
        operation.get_document("o").is_ok_and(|document| with_empty_timestamp(document.as_bytes()).is_some())
    }

    /// Restores the empty timestamps of a document that an oplog operation wrote.
    pub(crate) async fn unfill(&self, destination: &Destination, operation: &RawDocument) -> Result<()> {
        let document = operation.get_document("o").map(RawDocument::as_bytes);
        self.empty_timestamps(destination, document.into_iter()).await
    }
}

/// The document, if it has an empty timestamp that the server replaces: in a top-level field other than
/// `_id`.
fn with_empty_timestamp(bytes: &[u8]) -> Option<&RawDocument> {
    // A timestamp field ends in at least nine zero bytes with its key. Most documents have none and need no
    // parsing.
    let zeros = bytes.split(|byte| *byte != 0).any(|run| run.len() > 8);
    let document = RawDocument::from_bytes(bytes).ok().filter(|_| zeros)?;
    let empty =
        |value: RawBsonRef<'_>| matches!(value, RawBsonRef::Timestamp(t) if t.time == 0 && t.increment == 0);
    let has = document.iter().flatten().any(|(key, value)| key.as_str() != "_id" && empty(value));
    has.then_some(document)
}

/// The length of a batch in bytes; the last document may exceed it.
pub(crate) const BATCH: usize = 1 << 20;
/// The server's limit for documents in one command.
const DOCUMENTS: usize = 100_000;

/// The `insert` command for a batch.
fn command(target: &RestoreTarget, destination: &Destination, batch: &[&[u8]]) -> RawDocumentBuf {
    let mut command = rawdoc! {"insert": destination.collection.as_str(), "ordered": false};
    // The server refuses this option for buckets.
    if !destination.buckets {
        command.append(cstr!("bypassDocumentValidation"), true);
    }
    if target.version.keeps_empty_timestamps() {
        command.append(cstr!("bypassEmptyTsReplacement"), true);
    }
    let mut command = destination.command(command);
    command.append(cstr!("writeConcern"), target.concern.clone());
    let mut out = command.into_bytes();
    out.reserve(batch.iter().map(|document| document.len() + 8).sum::<usize>() + 32);
    // The array takes the place of the zero byte that ends the command.
    out.pop();
    element(&mut out, 4, "documents");
    let array = out.len();
    out.extend_from_slice(&[0; 4]);
    for (n, document) in batch.iter().enumerate() {
        element(&mut out, 3, &n.to_string());
        out.extend_from_slice(document);
    }
    out.push(0);
    close(&mut out, array);
    out.push(0);
    close(&mut out, 0);
    RawDocumentBuf::from_bytes(out).expect("the lengths were written last")
}

/// Splits bytes into documents that follow each other.
pub(crate) fn split(mut raw: &[u8]) -> Result<Vec<&[u8]>> {
    let mut out = Vec::new();
    while !raw.is_empty() {
        let len = raw.first_chunk::<4>().map(|b| i32::from_le_bytes(*b) as usize).filter(|len| *len >= 5);
        let (document, rest) = len
            .and_then(|len| raw.split_at_checked(len))
            .ok_or_else(|| Error::failed("a document's length does not fit its bytes"))?;
        out.push(document);
        raw = rest;
    }
    Ok(out)
}

/// Groups documents into batches that fit into a command each. A document of 16 MiB goes alone, because a
/// command may be only 16 KiB longer.
fn batches<'a, 'b>(documents: &'b [&'a [u8]]) -> impl Iterator<Item = &'b [&'a [u8]]> {
    let mut rest = documents;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(DOCUMENTS).take_while(|document| {
            let first = bytes == 0;
            bytes += document.len() + 8;
            first || bytes <= 2 * BATCH
        });
        let count = fits.count();
        let (batch, later) = rest.split_at(count);
        rest = later;
        (!batch.is_empty()).then_some(batch)
    })
}

fn element(out: &mut Vec<u8>, kind: u8, key: &str) {
    out.push(kind);
    out.extend_from_slice(key.as_bytes());
    out.push(0);
}

fn close(out: &mut [u8], at: usize) {
    let len = (out.len() - at) as i32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_document_once() {
        let large = vec![1; 3 << 20];
        let small = vec![2; 1 << 19];
        let documents: Vec<&[u8]> = vec![&small, &large, &small, &small, &small, &small, &large, &large];
        let lens: Vec<usize> = batches(&documents).map(<[_]>::len).collect();
        assert_eq!(lens, [1, 1, 3, 1, 1, 1]);
        let tiny = [0; 5];
        let many: Vec<&[u8]> = (0..DOCUMENTS + 1).map(|_| &tiny[..]).collect();
        let lens: Vec<usize> = batches(&many).map(<[_]>::len).collect();
        assert_eq!(lens, [DOCUMENTS, 1]);
        assert_eq!(batches(&[]).count(), 0);
    }

    #[test]
    fn a_cut_document_is_refused() {
        let document = bson::rawdoc! {"a": 1}.into_bytes();
        let two = [document.clone(), document.clone()].concat();
        assert_eq!(split(&two).unwrap().len(), 2);
        assert!(split(&two[..two.len() - 1]).is_err() && split(&[0; 8]).is_err());
    }

    #[test]
    fn only_empty_timestamps_at_the_top_are_filled() {
        let empty = bson::Timestamp { time: 0, increment: 0 };
        for (document, want) in [
            (rawdoc! {"_id": 1, "t": empty}, true),
            (rawdoc! {"_id": empty, "n": 0_i64, "d": 0.0}, false),
            (rawdoc! {"_id": 1, "in": {"t": empty}, "a": [empty]}, false),
            (rawdoc! {"_id": 1, "t": bson::Timestamp { time: 0, increment: 1 }}, false),
        ] {
            assert_eq!(with_empty_timestamp(document.as_bytes()).is_some(), want, "{document:?}");
        }
    }
}
