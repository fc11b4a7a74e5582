//! Oplog entries, and the transactions that they belong to. Fields: MongoDB `src/mongo/db/repl/oplog_entry.idl`; the
//! rules for transactions: mongo-tools, `common/txn/`.

use std::collections::BTreeMap;

use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

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

/// The session's bytes, and the transaction's number in the session.
type Id = (Vec<u8>, i64);

#[derive(Debug, PartialEq)]
enum TransactionPart {
    /// `last` is true if no more operations follow and the transaction is not only prepared.
    Operations {
        last: bool,
    },
    Commit,
    Abort,
}

/// Keeps the operations of open transactions until their commit. A transaction has one entry or several, of
/// which the last commits.
#[derive(Debug, Default)]
pub(super) struct SliceTransactions {
    open: BTreeMap<Id, Vec<RawDocumentBuf>>,
}

impl SliceTransactions {
    /// Takes an entry, and returns the operations that it commits: none while its transaction is open, or
    /// after it was aborted. Returns `None` if the entry does not belong to a transaction. The slice has
    /// every entry from `start` on. Returns an error if the entry continues a transaction that began before
    /// the slice.
    pub(super) fn take(&mut self, entry: &OplogEntry, start: OpTime) -> Result<Option<Vec<RawDocumentBuf>>> {
        let Some((id, part)) = part(entry)? else { return Ok(None) };
        if !self.open.contains_key(&id)
            && part != TransactionPart::Abort
            && let Some(before) = previous(entry).filter(|before| *before < start)
        {
            return Err(Error::failed(format!(
                "the oplog slice begins at {start}, in the middle of a transaction: the entry{} continues it, and it began \
                 at {before} or earlier",
                entry.when()
            ))
            .hint("Restore another backup, or this one without its oplog: --no-replay"));
        }
        let mut so_far = self.open.remove(&id).unwrap_or_default();
        match part {
            TransactionPart::Operations { last } => {
                so_far.extend(documents(entry.o, "applyOps")?);
                if last {
                    return Ok(Some(so_far));
                }
                self.open.insert(id, so_far);
                Ok(Some(Vec::new()))
            }
            TransactionPart::Commit => Ok(Some(so_far)),
            TransactionPart::Abort => Ok(Some(Vec::new())),
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.open.len() as u64
    }
}

fn part(entry: &OplogEntry) -> Result<Option<(Id, TransactionPart)>> {
    let session = entry.raw.get_document("lsid").ok();
    let number = entry.raw.get_i64("txnNumber").ok();
    // 1 is a batch of inserts with retries (MongoDB 8.0), which looks like a transaction.
    let vectored = entry.raw.get("multiOpType").ok().flatten().is_some_and(|kind| kind.as_i32() == Some(1));
    let (Some(session), Some(number), "c", false) = (session, number, entry.op, vectored) else {
        return Ok(None);
    };
    let flag = |name| entry.o.get_bool(name).unwrap_or(false);
    let part = match entry.command()?.0 {
        "applyOps" => TransactionPart::Operations { last: !flag("partialTxn") && !flag("prepare") },
        "commitTransaction" => TransactionPart::Commit,
        "abortTransaction" => TransactionPart::Abort,
        _ => return Ok(None),
    };
    Ok(Some(((session.as_bytes().to_vec(), number), part)))
}

/// Returns true for a command that commits or aborts a prepared transaction.
pub(super) fn ends_transaction(entry: &OplogEntry) -> Result<bool> {
    Ok(matches!(entry.command()?.0, "commitTransaction" | "abortTransaction"))
}

/// The time of the transaction's previous entry; `None` for the first one, which has a zero time.
fn previous(entry: &OplogEntry) -> Option<OpTime> {
    match entry.raw.get_document("prevOpTime").ok()?.get("ts") {
        Ok(Some(RawBsonRef::Timestamp(at))) => Some(OpTime::from(at)).filter(|at| at.t > 0),
        _ => None,
    }
}

/// The documents in an array of a command.
pub(super) fn documents(command: &RawDocument, field: &str) -> Result<Vec<RawDocumentBuf>> {
    let document = |value: bson::error::Result<RawBsonRef<'_>>| {
        let not = || broken(format!("an element of '{field}' is not a document"));
        Ok(value.map_err(broken)?.as_document().ok_or_else(not)?.to_owned())
    };
    command.get_array(field).map_err(broken)?.into_iter().map(document).collect()
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

    fn entry(number: i64, previous: u32, o: RawDocumentBuf) -> RawDocumentBuf {
        let before = bson::Timestamp { time: previous, increment: 1 };
        rawdoc! {"op": "c", "ns": "admin.$cmd", "lsid": {"id": 1}, "txnNumber": number,
        "prevOpTime": {"ts": before, "t": 1_i64}, "o": o}
    }

    fn operation(n: i32) -> RawDocumentBuf {
        rawdoc! {"op": "i", "ns": "a.b", "o": {"_id": n}}
    }

    fn take(open: &mut SliceTransactions, raw: &RawDocumentBuf) -> Result<Option<Vec<RawDocumentBuf>>> {
        open.take(&OplogEntry::parse(raw).unwrap(), OpTime { t: 100, i: 1 })
    }

    #[test]
    fn a_transaction_of_one_entry_is_committed_at_once() {
        let mut open = SliceTransactions::default();
        let whole = entry(1, 0, rawdoc! {"applyOps": [operation(1), operation(2)]});
        assert_eq!(take(&mut open, &whole).unwrap(), Some(vec![operation(1), operation(2)]));
        assert_eq!(open.count(), 0);
        let plain = rawdoc! {"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [operation(1)]}};
        assert_eq!(take(&mut open, &plain).unwrap(), None);
        let mut vectored = whole.clone();
        vectored.append(bson::raw::cstr!("multiOpType"), 1);
        assert_eq!(take(&mut open, &vectored).unwrap(), None);
    }

    #[test]
    fn a_transaction_of_several_entries_is_committed_by_the_last() {
        let mut open = SliceTransactions::default();
        let first = entry(1, 0, rawdoc! {"applyOps": [operation(1)], "partialTxn": true});
        let other = entry(2, 0, rawdoc! {"applyOps": [operation(9)], "prepare": true});
        let last = entry(1, 120, rawdoc! {"applyOps": [operation(2)], "count": 2_i64});
        assert_eq!(take(&mut open, &first).unwrap(), Some(vec![]));
        assert_eq!(take(&mut open, &other).unwrap(), Some(vec![]));
        assert_eq!(take(&mut open, &last).unwrap(), Some(vec![operation(1), operation(2)]));
        assert_eq!(open.count(), 1, "the prepared one");
        let commit = entry(2, 130, rawdoc! {"commitTransaction": 1});
        assert_eq!(take(&mut open, &commit).unwrap(), Some(vec![operation(9)]));
    }

    #[test]
    fn an_aborted_transaction_is_never_committed() {
        let mut open = SliceTransactions::default();
        take(&mut open, &entry(1, 0, rawdoc! {"applyOps": [operation(1)], "prepare": true})).unwrap();
        assert_eq!(take(&mut open, &entry(1, 120, rawdoc! {"abortTransaction": 1})).unwrap(), Some(vec![]));
        assert_eq!(open.count(), 0);
    }

    #[test]
    fn a_transaction_that_began_before_the_slice_is_an_error() {
        let mut open = SliceTransactions::default();
        let commit = (rawdoc! {"commitTransaction": 1}, vec![]);
        for (o, operations) in [commit, (rawdoc! {"applyOps": [operation(2)]}, vec![operation(2)])] {
            let error = take(&mut open, &entry(1, 99, o.clone())).unwrap_err();
            assert!(error.to_string().contains("in the middle of a transaction"), "{error}");
            // A transaction that began in the slice, of which no operation was wanted so far.
            assert_eq!(take(&mut open, &entry(1, 101, o)).unwrap(), Some(operations));
        }
        let abort = entry(1, 99, rawdoc! {"abortTransaction": 1});
        assert_eq!(take(&mut open, &abort).unwrap(), Some(vec![]), "nothing of it is wanted");
    }
}
