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
pub(super) type TransactionId = (Vec<u8>, i64);

/// The most bytes of operations of open transactions that are kept in memory. The operations of further transactions are read
/// again at their commit.
const KEPT: usize = 32 << 20;

#[derive(Debug, PartialEq)]
enum TransactionPart {
    /// `last` is true if no more operations follow and the transaction is not only prepared.
    Operations {
        last: bool,
    },
    Commit,
    Abort,
}

/// What an entry does to the transactions.
#[derive(Debug, PartialEq)]
pub(super) enum TransactionEffect {
    /// The entry belongs to no transaction.
    Alone,
    /// The transaction stays open, or was aborted.
    Nothing,
    /// The operations of the committed transaction.
    Commits(Vec<RawDocumentBuf>),
    /// The transaction is committed by this entry. Its operations are in the entries from this time on.
    CommitsSince(TransactionId, OpTime),
}

/// An open transaction.
#[derive(Debug)]
struct OpenTransaction {
    operations: Vec<RawDocumentBuf>,
    bytes: usize,
    /// The time of its first entry, if its operations are read again.
    since: Option<OpTime>,
    first: Option<OpTime>,
}

/// Keeps the operations of open transactions until their commit. A transaction has one entry or several, of
/// which the last commits.
#[derive(Debug, Default)]
pub(super) struct SliceTransactions {
    open: BTreeMap<TransactionId, OpenTransaction>,
    /// The bytes of all kept operations.
    bytes: usize,
    /// True if the operations of large transactions are not kept.
    pub reads_again: bool,
}

impl SliceTransactions {
    /// Takes an entry. The slice has every entry from `start` on. Returns an error if the entry continues a
    /// transaction that began before the slice.
    pub(super) fn take(&mut self, entry: &OplogEntry, start: OpTime) -> Result<TransactionEffect> {
        let Some((id, part)) = part(entry)? else { return Ok(TransactionEffect::Alone) };
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
        let mut so_far = self.open.remove(&id).unwrap_or_else(|| OpenTransaction {
            operations: Vec::new(),
            bytes: 0,
            since: None,
            first: entry.at,
        });
        self.bytes -= so_far.bytes;
        Ok(match part {
            TransactionPart::Operations { last } => {
                self.keep(&mut so_far, entry, last)?;
                if last {
                    return Ok(commits(id, so_far));
                }
                self.bytes += so_far.bytes;
                self.open.insert(id, so_far);
                TransactionEffect::Nothing
            }
            TransactionPart::Commit => commits(id, so_far),
            TransactionPart::Abort => TransactionEffect::Nothing,
        })
    }

    /// Adds the operations of an entry, unless too many are kept. The operations of a whole transaction in one entry are not
    /// kept, so their number does not matter.
    fn keep(&self, so_far: &mut OpenTransaction, entry: &OplogEntry, last: bool) -> Result<()> {
        let bytes = entry.o.as_bytes().len();
        let alone = last && so_far.operations.is_empty() && so_far.since.is_none();
        if self.reads_again && !alone && self.bytes + so_far.bytes + bytes > KEPT {
            so_far.since = so_far.since.or(so_far.first);
        }
        if so_far.since.is_some() {
            (so_far.operations, so_far.bytes) = Default::default();
            return Ok(());
        }
        so_far.operations.extend(documents(entry.o, "applyOps")?);
        so_far.bytes += bytes;
        Ok(())
    }

    pub(super) fn count(&self) -> u64 {
        self.open.len() as u64
    }
}

fn commits(id: TransactionId, transaction: OpenTransaction) -> TransactionEffect {
    match transaction.since {
        Some(since) => TransactionEffect::CommitsSince(id, since),
        None => TransactionEffect::Commits(transaction.operations),
    }
}

/// Returns true if the entry has operations of this transaction.
pub(super) fn is_part_of(entry: &OplogEntry, id: &TransactionId) -> Result<bool> {
    Ok(part(entry)?.is_some_and(|(of, part)| of == *id && matches!(part, TransactionPart::Operations { .. })))
}

fn part(entry: &OplogEntry) -> Result<Option<(TransactionId, TransactionPart)>> {
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
        Ok(match open.take(&OplogEntry::parse(raw).unwrap(), OpTime { t: 100, i: 1 })? {
            TransactionEffect::Alone => None,
            TransactionEffect::Nothing => Some(Vec::new()),
            TransactionEffect::Commits(operations) => Some(operations),
            TransactionEffect::CommitsSince(..) => panic!("nothing is read again"),
        })
    }

    #[test]
    fn the_operations_of_a_large_transaction_are_not_kept() {
        let mut open = SliceTransactions { reads_again: true, ..SliceTransactions::default() };
        let mut at = |time: u32, number, o| {
            let mut raw = entry(number, if time > 101 { time - 1 } else { 0 }, o);
            raw.append(bson::raw::cstr!("ts"), bson::Timestamp { time, increment: 1 });
            open.take(&OplogEntry::parse(&raw).unwrap(), OpTime { t: 100, i: 1 }).unwrap()
        };
        let large = || rawdoc! {"op": "i", "ns": "a.b", "o": {"_id": 1, "pad": "x".repeat(12 << 20)}};
        for time in 101..105 {
            let part = rawdoc! {"applyOps": [large()], "partialTxn": true};
            assert_eq!(at(time, 1, part), TransactionEffect::Nothing);
        }
        let small = at(105, 2, rawdoc! {"applyOps": [operation(1)], "prepare": true});
        assert_eq!(small, TransactionEffect::Nothing);
        let whole = at(106, 3, rawdoc! {"applyOps": [large(), large(), large()]});
        assert!(matches!(whole, TransactionEffect::Commits(operations) if operations.len() == 3));
        let committed = at(107, 1, rawdoc! {"applyOps": [operation(9)]});
        let TransactionEffect::CommitsSince(id, since) = committed else { panic!("{committed:?}") };
        assert_eq!((id.1, since), (1, OpTime { t: 101, i: 1 }));
        let committed = at(108, 2, rawdoc! {"commitTransaction": 1});
        assert_eq!(committed, TransactionEffect::Commits(vec![operation(1)]));
        assert_eq!((open.bytes, open.count()), (0, 0));
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
