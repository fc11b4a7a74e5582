//! An oplog entry: one operation, or one of several inside an `applyOps`. Fields: MongoDB
//! `src/mongo/db/repl/oplog_entry.idl`.

use bson::{RawBsonRef, RawDocument};

use crate::base::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::model::optime::OpTime;

/// The entry.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// All of it.
    pub raw: &'a RawDocument,
    /// When; operations inside an `applyOps` have no time of their own.
    pub at: Option<OpTime>,
    /// What: `i`, `u`, `d`, `c` or `n`, and a few that concern the server's own books.
    pub op: &'a str,
    /// `database.collection`, `database.$cmd` of a command.
    pub ns: &'a str,
    /// The document, its change, its `_id`, or the command.
    pub o: &'a RawDocument,
    /// Which document an update is about.
    pub o2: Option<&'a RawDocument>,
}

impl<'a> Entry<'a> {
    /// Reads an entry.
    ///
    /// # Errors
    /// Of the kind `Mismatch` if it is none.
    pub fn parse(raw: &'a RawDocument) -> Result<Entry<'a>> {
        let at = match raw.get("ts").map_err(broken)? {
            Some(RawBsonRef::Timestamp(at)) => Some(OpTime::from(at)),
            _ => None,
        };
        let op = raw.get_str("op").map_err(broken)?;
        // Only commands hold operations, and definitions, that are followed into their depth.
        if op == "c" {
            bounds::check_depth(raw).map_err(broken)?;
        }
        // A command's document may be anything, a no-op's too.
        let o = raw.get_document("o").map_err(broken)?;
        let o2 = match raw.get("o2").map_err(broken)? {
            Some(RawBsonRef::Document(o2)) => Some(o2),
            _ => None,
        };
        Ok(Entry { raw, at, op, ns: raw.get_str("ns").unwrap_or_default(), o, o2 })
    }

    /// Database and collection.
    pub fn place(&self) -> Result<(&'a str, &'a str)> {
        let parts =
            self.ns.split_once('.').filter(|(db, collection)| !db.is_empty() && !collection.is_empty());
        parts.ok_or_else(|| broken(format!("'{}' is no namespace", self.ns)))
    }

    /// The command's name and what it is given first.
    pub fn command(&self) -> Result<(&'a str, RawBsonRef<'a>)> {
        let first = self.o.iter().next().ok_or_else(|| broken("a command is empty"))?;
        first.map(|(name, value)| (name.as_str(), value)).map_err(broken)
    }

    /// The time in words, where it has one.
    pub fn when(&self) -> String {
        self.at.map_or_else(String::new, |at| format!(" of {at}"))
    }
}

/// The error for what is no entry.
pub fn broken(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::new(Kind::Mismatch, "the oplog slice holds something that is no oplog entry").caused_by(why)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn what_is_no_entry_is_refused() {
        let at = bson::Timestamp { time: 5, increment: 2 };
        let raw = rawdoc! {"ts": at, "op": "d", "ns": "a.b.c", "o": {"_id": 1}};
        let entry = Entry::parse(&raw).unwrap();
        assert_eq!((entry.place().unwrap(), entry.at), (("a", "b.c"), Some(OpTime { t: 5, i: 2 })));
        for raw in [rawdoc! {}, rawdoc! {"op": "i", "ns": "a.b"}, rawdoc! {"op": 1, "o": {}}] {
            assert_eq!(Entry::parse(&raw).unwrap_err().kind(), Kind::Mismatch);
        }
        for ns in ["", "a", "a.", ".b"] {
            let raw = rawdoc! {"op": "i", "ns": ns, "o": {}};
            assert!(Entry::parse(&raw).unwrap().place().is_err(), "{ns}");
        }
    }
}
