//! Writing documents byte by byte as they are, and what the server refused of them.

use bson::{Bson, Document, RawDocumentBuf, rawdoc};

use super::Target;
use super::batch::{batches, command, split};
use super::insist::Sent;
use crate::error::{Error, Kind, Result};
use crate::units;

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
            let Sent { answer, again } = self.change(&place.db, || command(self, place, batch)).await;
            let answer = answer.map_err(|e| self.explain(&doing(), e))?;
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
                return Err(Error::new(
                    Kind::Refused,
                    format!(
                        "{}: not inserted, without a reason for each: {missing} of {}",
                        doing(),
                        units::several(batch.len() as u64, "document")
                    ),
                ));
            }
            if !place.buckets && !self.version.keeps_empty_timestamps() {
                let taken = |at: &usize| !errors.iter().any(|e| index(e) == Some(*at));
                self.empty_timestamps(place, (0..batch.len()).filter(taken).map(|at| batch[at])).await?;
            }
        }
        Ok(refused)
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
        let answer = self.run(&place.db, command).await.map_err(|e| self.explain_beyond(&doing, e))?;
        match super::number(answer.get("n")) {
            1 => Ok(()),
            _ => Err(Error::new(Kind::Refused, doing).caused_by("the document is not there")),
        }
    }
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
