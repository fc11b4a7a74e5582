//! Oplog entries. Fields: MongoDB `src/mongo/db/repl/oplog_entry.idl`.

use bson::{RawBsonRef, RawDocument};

use crate::base::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::model::optime::OpTime;

/// An oplog entry: one operation, or one of several inside an `applyOps`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OplogEntry<'a> {
    pub raw: &'a RawDocument,
    /// `None` for operations inside an `applyOps`.
    pub at: Option<OpTime>,
    /// `i`, `u`, `d`, `c`, `n`, or one of a few codes for the server's own data.
    pub op: &'a str,
    /// `database.collection`; `database.$cmd` for a command.
    pub ns: &'a str,
    /// The document, the change, the `_id` of a deleted document, or the command.
    pub o: &'a RawDocument,
    /// The `_id` of an updated document.
    pub o2: Option<&'a RawDocument>,
}

impl<'a> OplogEntry<'a> {
    /// Parses an entry. Returns an error of the kind `Mismatch` if it is not an oplog entry.
    pub(super) fn parse(raw: &'a RawDocument) -> Result<OplogEntry<'a>> {
        let at = match raw.get("ts").map_err(broken)? {
            Some(RawBsonRef::Timestamp(at)) => Some(OpTime::from(at)),
            _ => None,
        };
        let op = raw.get_str("op").map_err(broken)?;
        // Nested operations and definitions are parsed only in commands.
        if op == "c" {
            bounds::check_depth(raw).map_err(broken)?;
        }
        // The `o` of a no-op or a command can be any document.
        let o = raw.get_document("o").map_err(broken)?;
        let o2 = match raw.get("o2").map_err(broken)? {
            Some(RawBsonRef::Document(o2)) => Some(o2),
            _ => None,
        };
        Ok(OplogEntry { raw, at, op, ns: raw.get_str("ns").unwrap_or_default(), o, o2 })
    }

    /// Splits the namespace into database and collection.
    pub(super) fn place(&self) -> Result<(&'a str, &'a str)> {
        let parts =
            self.ns.split_once('.').filter(|(db, collection)| !db.is_empty() && !collection.is_empty());
        parts.ok_or_else(|| broken(format!("'{}' is not a namespace", self.ns)))
    }

    /// The command's name and its value.
    pub(super) fn command(&self) -> Result<(&'a str, RawBsonRef<'a>)> {
        let first = self.o.iter().next().ok_or_else(|| broken("a command is empty"))?;
        first.map(|(name, value)| (name.as_str(), value)).map_err(broken)
    }

    /// The entry's time for messages; empty for an operation inside an `applyOps`.
    pub(super) fn when(&self) -> String {
        self.at.map_or_else(String::new, |at| format!(" of {at}"))
    }
}

/// The error for bytes that are not an oplog entry.
pub(super) fn broken(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Mismatch, "the oplog slice contains a document that is not an oplog entry")
        .caused_by(why)
}

/// The documents in an array of a command.
pub(super) fn documents<'a>(
    command: &'a RawDocument,
    field: &str,
) -> Result<impl Iterator<Item = Result<&'a RawDocument>> + use<'a>> {
    let not = format!("an element of '{field}' is not a document");
    let document = move |value: bson::error::Result<RawBsonRef<'a>>| {
        value.map_err(broken)?.as_document().ok_or_else(|| broken(not.clone()))
    };
    Ok(command.get_array(field).map_err(broken)?.into_iter().map(document))
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn malformed_entries_are_refused() {
        let at = bson::Timestamp { time: 5, increment: 2 };
        let raw = rawdoc! {"ts": at, "op": "d", "ns": "a.b.c", "o": {"_id": 1}};
        let entry = OplogEntry::parse(&raw).unwrap();
        assert_eq!((entry.place().unwrap(), entry.at), (("a", "b.c"), Some(OpTime { t: 5, i: 2 })));
        for raw in [rawdoc! {}, rawdoc! {"op": "i", "ns": "a.b"}, rawdoc! {"op": 1, "o": {}}] {
            assert_eq!(OplogEntry::parse(&raw).unwrap_err().kind(), Kind::Mismatch);
        }
        for ns in ["", "a", "a.", ".b"] {
            let raw = rawdoc! {"op": "i", "ns": ns, "o": {}};
            assert!(OplogEntry::parse(&raw).unwrap().place().is_err(), "{ns}");
        }
    }
}
