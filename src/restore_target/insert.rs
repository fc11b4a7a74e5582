//! Writing documents byte by byte as they are, and what the server refused of them.

use bson::{Bson, Document, RawDocumentBuf, rawdoc};

use super::Target;
use super::batch::{batches, command, split};
use super::insist::Sent;
use crate::base::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::mongo::errors;

/// Where documents go.
#[derive(Debug, Clone)]
pub struct Place {
    /// The database.
    pub db: String,
    /// The collection that holds the documents, `system.buckets.…` of a time series.
    pub collection: String,
    /// Whether it is the bucket collection of a time series.
    pub buckets: bool,
    /// The buckets are under the name of the time series itself, with `rawData: true` (from 8.3 on).
    pub raw: bool,
}

impl Place {
    /// A command on this place.
    pub(super) fn command(&self, mut command: RawDocumentBuf) -> RawDocumentBuf {
        if self.raw {
            command.append(bson::raw::cstr!("rawData"), true);
        }
        command
    }

    /// A `find` with a filter for the `_id` of one document.
    pub fn find_one(&self, filter: RawDocumentBuf) -> RawDocumentBuf {
        self.command(rawdoc! {"find": self.collection.as_str(), "filter": filter, "limit": 1})
    }
}

/// Codes that refuse a document and not its collection: InvalidBSON, BSONObjectTooLarge. A server that validates incoming
/// BSON (9.0) refuses the whole command with them.
const INVALID_DOCUMENT: [i32; 2] = [22, 10334];

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
            let answer = match answer {
                Err(e) if errors::code(&e).is_some_and(|code| INVALID_DOCUMENT.contains(&code)) => {
                    refused.extend(self.insert_alone(place, batch).await?);
                    continue;
                }
                answer => answer.map_err(|e| self.explain(&doing(), e))?,
            };
            refused.extend(self.taken(place, batch, &answer, again).await?);
        }
        Ok(refused)
    }

    /// Writes documents one by one, because the server refuses the command that has all of them.
    async fn insert_alone(&self, place: &Place, batch: &[&[u8]]) -> Result<Vec<Refused>> {
        let mut refused = Vec::new();
        for document in batch {
            let alone = std::slice::from_ref(document);
            let Sent { answer, again } = self.change(&place.db, || command(self, place, alone)).await;
            match answer {
                Err(e) if errors::code(&e).is_some_and(|code| INVALID_DOCUMENT.contains(&code)) => {
                    let document = RawDocumentBuf::from_bytes(document.to_vec()).map_err(|e| {
                        Error::new(Kind::Mismatch, "a document is not valid BSON").caused_by(e)
                    })?;
                    let code = errors::code(&e).unwrap_or_default();
                    refused.push(Refused { document, code, why: errors::tidy(&e), same_id: false });
                }
                answer => {
                    let doing = format!("cannot insert into {}.{}", place.db, place.collection);
                    let answer = answer.map_err(|e| self.explain(&doing, e))?;
                    refused.extend(self.taken(place, alone, &answer, again).await?);
                }
            }
        }
        Ok(refused)
    }

    /// Reads the answer to the insert of a batch, and corrects documents that the server changed.
    async fn taken(
        &self,
        place: &Place,
        batch: &[&[u8]],
        answer: &Document,
        again: bool,
    ) -> Result<Vec<Refused>> {
        let doing = || format!("cannot insert into {}.{}", place.db, place.collection);
        if let Ok(error) = answer.get_document("writeConcernError") {
            let words = error.get_str("errmsg").unwrap_or_default().to_string();
            return Err(
                Error::failed(format!("{}: the write was not acknowledged", doing())).caused_by(words)
            );
        }
        let mut refused = Vec::new();
        let errors = answer.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
        for one in errors.iter().filter_map(|error| refusal(error.as_document()?, batch)) {
            // If the command was sent twice, the first one may have arrived.
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
        Ok(refused)
    }

    /// Whether the very document is there.
    async fn has(&self, place: &Place, document: &RawDocumentBuf) -> Result<bool> {
        let Some(id) = document.get("_id").ok().flatten() else { return Ok(false) };
        let filter = rawdoc! {"_id": {"$eq": bson::RawBson::from(id)}};
        Ok(self.find(&place.db, place.find_one(filter)).await?.first() == Some(document))
    }

    /// Deletes the one document that a filter finds.
    pub async fn delete(&self, place: &Place, filter: RawDocumentBuf) -> Result<()> {
        let one = rawdoc! {"q": filter, "limit": 1};
        let command = rawdoc! {"delete": place.collection.as_str(), "deletes": [one], "writeConcern": self.concern.clone()};
        let command = place.command(command);
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

/// An `_id` as people read it, in at most 60 characters.
pub fn id_text(id: bson::RawBsonRef<'_>) -> String {
    if bounds::check_value_depth(id).is_err() {
        return "that is nested too deeply".into();
    }
    let text = match Bson::try_from(bson::RawBson::from(id)) {
        Ok(id) => id.into_relaxed_extjson().to_string(),
        Err(_) => "that is not UTF-8".into(),
    };
    if text.chars().count() > 60 { text.chars().take(60).chain(['…']).collect() } else { text }
}
