//! Writing documents byte by byte as they are, and what the server refused of them.

use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, rawdoc};

use super::Target;
use crate::error::{Error, Result};
use crate::source::errors::{self, Class};
use crate::source::patience;

/// A batch is about this long.
pub const BATCH: usize = 1 << 20;
/// The server takes no more documents in one command.
const DOCUMENTS: usize = 100_000;

/// How often a batch is sent again.
const SENT_AGAIN: u32 = 4;

/// Where documents go.
#[derive(Debug, Clone)]
pub struct Place {
    /// The database.
    pub db: String,
    /// The collection that holds the documents, `system.buckets.…` of a time series.
    pub collection: String,
    /// Whether it is the bucket collection of a time series.
    pub buckets: bool,
}

/// A document that the server did not take.
#[derive(Debug, Clone)]
pub struct Refused {
    /// The document.
    pub document: RawDocumentBuf,
    /// The server's code.
    pub code: i32,
    /// The server's words.
    pub why: String,
    /// There is a document with its `_id`.
    pub same_id: bool,
}

impl Target {
    /// Writes whole documents that stand one after the other; what was refused of them.
    ///
    /// # Errors
    /// When the server does not take the batch as such.
    pub async fn insert(&self, place: &Place, raw: &[u8]) -> Result<Vec<Refused>> {
        let documents = split(raw)?;
        let mut refused = Vec::new();
        for batch in batches(&documents) {
            let doing = || format!("cannot insert into {}.{}", place.db, place.collection);
            let sent = self.send(place, batch).await;
            let (answer, again) = sent.map_err(|e| self.explain(&doing(), e))?;
            if let Ok(error) = answer.get_document("writeConcernError") {
                let words = error.get_str("errmsg").unwrap_or_default().to_string();
                return Err(
                    Error::failed(format!("{}: the write was not acknowledged", doing())).caused_by(words)
                );
            }
            let errors = answer.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
            for one in errors.iter().filter_map(|error| refusal(error.as_document()?, batch)) {
                // Of what was sent twice, the first time may have arrived.
                if !(again && one.same_id && self.has(place, &one.document).await?) {
                    refused.push(one);
                }
            }
            let missing = batch.len() as u64 - super::number(answer.get("n")).min(batch.len() as u64);
            if missing != errors.len() as u64 {
                return Err(Error::failed(format!(
                    "{}: {missing} of {} documents were not inserted, without a reason for each",
                    doing(),
                    batch.len()
                )));
            }
            if !place.buckets && !self.version.keeps_empty_timestamps() {
                let taken = |at: &usize| !errors.iter().any(|e| index(e) == Some(*at));
                self.empty_timestamps(place, (0..batch.len()).filter(taken).map(|at| batch[at])).await?;
            }
        }
        Ok(refused)
    }

    /// Sends a batch, once more if the connection breaks: one lost connection must not cost the restore. Also
    /// whether it took more than once.
    async fn send(&self, place: &Place, batch: &[&[u8]]) -> mongodb::error::Result<(Document, bool)> {
        let mut again = 0;
        loop {
            match self.run(&place.db, self.insert_command(place, batch)).await {
                Err(e)
                    if again < SENT_AGAIN
                        && errors::classify(&e) == Class::Interrupted
                        && !patience::waited(&e) =>
                {
                    again += 1;
                    log::info!("inserting once more after: {}", errors::tidy(&e));
                    tokio::time::sleep(Duration::from_millis(200 << again)).await;
                }
                answer => return answer.map(|answer| (answer, again > 0)),
            }
        }
    }

    /// Whether the very document is there.
    async fn has(&self, place: &Place, document: &RawDocumentBuf) -> Result<bool> {
        let Some(id) = document.get("_id").ok().flatten() else { return Ok(false) };
        let filter = rawdoc! {"_id": {"$eq": bson::RawBson::from(id)}};
        let find = rawdoc! {"find": place.collection.as_str(), "filter": filter, "limit": 1};
        Ok(self.find(&place.db, find).await?.first() == Some(document))
    }

    /// Deletes the one document that a filter finds.
    pub async fn delete(&self, place: &Place, filter: RawDocumentBuf) -> Result<()> {
        let one = rawdoc! {"q": filter, "limit": 1};
        let command = rawdoc! {"delete": place.collection.as_str(), "deletes": [one], "writeConcern": self.concern.clone()};
        let doing = format!("cannot delete from {}.{}", place.db, place.collection);
        let answer = self.run(&place.db, command).await.map_err(|e| self.explain(&doing, e))?;
        match super::number(answer.get("n")) {
            1 => Ok(()),
            _ => Err(Error::failed(doing).caused_by("the document is not there")),
        }
    }

    fn insert_command(&self, place: &Place, batch: &[&[u8]]) -> RawDocumentBuf {
        let total: usize = batch.iter().map(|d| d.len() + 8).sum();
        let mut out = Vec::with_capacity(total + 256);
        out.extend_from_slice(&[0; 4]);
        string(&mut out, "insert", &place.collection);
        boolean(&mut out, "ordered", false);
        // A bucket is checked by rules of its own, which an insert may not go round.
        if !place.buckets {
            boolean(&mut out, "bypassDocumentValidation", true);
        }
        if self.version.keeps_empty_timestamps() {
            boolean(&mut out, "bypassEmptyTsReplacement", true);
        }
        if self.version >= super::Version(8, 3, 0) {
            boolean(&mut out, "rawData", true);
        }
        element(&mut out, 3, "writeConcern");
        out.extend_from_slice(self.concern.as_bytes());
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
}

fn element(out: &mut Vec<u8>, kind: u8, key: &str) {
    out.push(kind);
    out.extend_from_slice(key.as_bytes());
    out.push(0);
}

fn string(out: &mut Vec<u8>, key: &str, text: &str) {
    element(out, 2, key);
    out.extend_from_slice(&(text.len() as i32 + 1).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn boolean(out: &mut Vec<u8>, key: &str, value: bool) {
    element(out, 8, key);
    out.push(u8::from(value));
}

fn close(out: &mut [u8], at: usize) {
    let len = (out.len() - at) as i32;
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

/// The documents that stand one after the other.
pub fn split(mut raw: &[u8]) -> Result<Vec<&[u8]>> {
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

/// Runs of documents that fit into a command each. A document of 16 MiB goes alone: the command's body may
/// be 16 KiB longer, and no more.
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

/// Which document of the batch an error is about.
fn index(error: &Bson) -> Option<usize> {
    error.as_document().map(|error| super::number(error.get("index")) as usize)
}

fn refusal(error: &Document, batch: &[&[u8]]) -> Option<Refused> {
    let at = super::number(error.get("index")) as usize;
    let why = error.get_str("errmsg").unwrap_or("no reason given").to_string();
    let code = super::number(error.get("code")) as i32;
    let by_id = match error.get_document("keyPattern") {
        Ok(pattern) => pattern.len() == 1 && pattern.contains_key("_id"),
        // Before 4.2 only the words tell.
        Err(_) => why.contains("index: _id_ "),
    };
    let document = RawDocumentBuf::from_bytes(batch.get(at)?.to_vec()).ok()?;
    Some(Refused { document, code, why, same_id: code == 11000 && by_id })
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
    fn broken_runs_are_refused() {
        let document = bson::rawdoc! {"a": 1}.into_bytes();
        let two = [document.clone(), document.clone()].concat();
        assert_eq!(split(&two).unwrap().len(), 2);
        assert!(split(&two[..two.len() - 1]).is_err() && split(&[0; 8]).is_err());
    }
}
