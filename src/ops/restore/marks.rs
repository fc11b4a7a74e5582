//! The marks of restores at a target: of swaps, whose collections are kept, and of other restores, which were interrupted or are at
//! work. All are in one collection, and their format says which kind a document is.

use bson::RawDocumentBuf;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::clock::Clock;
use crate::base::error::{Error, Kind, Result};
use crate::mongo::meaning;
use crate::restore_target::RestoreTarget;

/// The formats of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkFormat {
    /// The mark of a swap.
    Swap = 1,
    /// The mark of another restore.
    Load = 2,
    /// Namespaces that are added to a mark of the format `Load`.
    Namespaces = 3,
}

/// The newest format of this version.
const NEWEST: u32 = MarkFormat::Namespaces as u32;

/// The marks of restores at a target.
#[derive(Debug)]
pub struct Marks {
    pub target: RestoreTarget,
    pub clock: Clock,
}

impl Marks {
    /// Reads the documents of all marks.
    pub(super) async fn documents(&self) -> Result<Vec<RawDocumentBuf>> {
        // Without marks, nothing can be moved or dropped.
        self.target.marks().await.map_err(|error| error.of_kind(Kind::Failed))
    }

    /// Reads all marks of a format.
    pub(super) async fn read<M: DeserializeOwned>(&self, format: MarkFormat) -> Result<Vec<M>> {
        Ok(understood(&self.documents().await?, format))
    }
}

/// The documents of a format. One that cannot be understood is only logged.
pub(super) fn understood<M: DeserializeOwned>(documents: &[RawDocumentBuf], format: MarkFormat) -> Vec<M> {
    let mut found = Vec::new();
    for document in documents {
        let of = document.get("format").ok().flatten().and_then(meaning::number).map(|number| number as u32);
        let id = document.get_str("_id").unwrap_or("?");
        match of {
            Some(of) if of == format as u32 => match bson::deserialize_from_slice(document.as_bytes()) {
                Ok(mark) => found.push(mark),
                Err(e) => log::warn!("the mark {id:?} of a restore cannot be understood: {e}"),
            },
            Some(1..=NEWEST) => {}
            _ => log::warn!("the mark {id:?} of a restore is of a newer version, or no mark"),
        }
    }
    found
}

/// The document of a mark.
pub(super) fn encode(mark: &impl Serialize) -> Result<RawDocumentBuf> {
    bson::serialize_to_raw_document_buf(mark)
        .map_err(|e| Error::failed("cannot encode the mark").caused_by(e))
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct One {
        #[serde(rename = "_id")]
        id: String,
    }

    #[test]
    fn only_marks_of_a_format_that_can_be_understood_are_read() {
        let documents = [
            rawdoc! {"_id": "a", "format": 2},
            rawdoc! {"_id": "b", "format": 2_i64},
            rawdoc! {"_id": "c", "format": 1},
            rawdoc! {"_id": "d", "format": 99},
            rawdoc! {"_id": "e", "format": -2},
            rawdoc! {"_id": "f", "format": "2"},
            rawdoc! {"_id": "g", "format": f64::NAN},
            rawdoc! {"_id": 7, "format": 2},
            rawdoc! {},
        ];
        let ids: Vec<One> = understood(&documents, MarkFormat::Load);
        assert_eq!(ids.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
