//! `Timestamp(0, 0)`: an insert puts the time in its place, unless a newer server is asked not to. On older
//! ones such documents are put right by an update, as mongorestore does.

use bson::{RawBsonRef, RawDocument, rawdoc};

use super::Target;
use super::insert::Place;
use crate::base::error::{Error, Result};

impl Target {
    /// Puts right what the server changed of these documents, which it has taken.
    pub(super) async fn empty_timestamps<'a>(
        &self,
        place: &Place,
        documents: impl Iterator<Item = &'a [u8]>,
    ) -> Result<()> {
        for document in documents.filter_map(with_empty_timestamp) {
            let doing = format!("cannot restore an empty timestamp in {}.{}", place.db, place.collection);
            let Some(id) = document.get("_id").ok().flatten() else {
                return Err(Error::failed(doing).caused_by("the document has no _id"));
            };
            let whole = rawdoc! {"$replaceWith": {"$literal": document.to_owned()}};
            let update = rawdoc! {"q": {"_id": {"$eq": bson::RawBson::from(id)}}, "u": [whole]};
            let command = rawdoc! {
                "update": place.collection.as_str(),
                "updates": [update],
                "bypassDocumentValidation": true,
                "writeConcern": self.concern.clone(),
            };
            let answer = self.run(&place.db, command).await;
            let answer = answer.map_err(|e| self.explain_beyond(&doing, e))?;
            if super::number(answer.get("n")) != 1 {
                return Err(Error::failed(doing).caused_by(answer.to_string()));
            }
        }
        Ok(())
    }
}

impl Target {
    /// Whether the server would change the document of this operation of an oplog, which `applyOps` cannot
    /// forbid.
    pub fn would_fill(operation: &RawDocument) -> bool {
        let document = operation.get_document("o").ok();
        document.and_then(|document| with_empty_timestamp(document.as_bytes())).is_some()
    }

    /// Puts its document right, once it was applied.
    pub async fn unfill(&self, place: &Place, operation: &RawDocument) -> Result<()> {
        let document = operation.get_document("o").map(RawDocument::as_bytes);
        self.empty_timestamps(place, document.into_iter()).await
    }
}

/// The document, if it has a field that the server would fill: those at its top but `_id`.
fn with_empty_timestamp(bytes: &[u8]) -> Option<&RawDocument> {
    // Where no key is followed by eight zero bytes there is nothing to look for; that is most documents.
    let zeros = bytes.split(|byte| *byte != 0).any(|run| run.len() > 8);
    let document = RawDocument::from_bytes(bytes).ok().filter(|_| zeros)?;
    let empty =
        |value: RawBsonRef<'_>| matches!(value, RawBsonRef::Timestamp(t) if t.time == 0 && t.increment == 0);
    let has = document.iter().flatten().any(|(key, value)| key.as_str() != "_id" && empty(value));
    has.then_some(document)
}

#[cfg(test)]
mod tests {
    use super::*;

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
