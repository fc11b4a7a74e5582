//! The entries of transactions: a large transaction is written in parts, and a prepared one is committed by an entry of its own.
//! The rules: mongo-tools, `common/txn/`; server source, `transaction_oplog_application.cpp`.

use std::collections::BTreeMap;

use bson::{RawDocument, RawDocumentBuf};

use super::NO_REPLAY;
use super::entry::{OplogEntry, broken, documents};
use crate::base::error::{Error, Result};
use crate::model::optime::OpTime;

/// The session's bytes, and the transaction's number in the session.
pub(crate) type TransactionId = (Vec<u8>, i64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransactionPart {
    /// `last` is true if no more operations follow and the transaction is not only prepared.
    Operations { last: bool },
    /// Commits a prepared transaction.
    Commit,
    /// Aborts a prepared transaction.
    Abort,
}

/// An entry of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransactionEntry {
    pub id: TransactionId,
    pub part: TransactionPart,
    /// The time of the transaction's previous entry; `None` for the first one, which has a zero time.
    pub previous: Option<OpTime>,
}

impl TransactionEntry {
    /// Returns `None` if the entry does not belong to a transaction.
    ///
    /// # Errors
    /// Returns the reason if it is not an oplog entry.
    pub(crate) fn of(entry: &RawDocument) -> Result<Option<TransactionEntry>, String> {
        if entry.get_str("op").map_err(|e| e.to_string())? != "c" {
            return Ok(None);
        }
        let (Ok(session), Ok(number)) = (entry.get_document("lsid"), entry.get_i64("txnNumber")) else {
            return Ok(None);
        };
        // 1 is a batch of inserts with retries (MongoDB 8.0), which looks like a transaction.
        if entry.get("multiOpType").ok().flatten().is_some_and(|kind| kind.as_i32() == Some(1)) {
            return Ok(None);
        }
        let command = entry.get_document("o").map_err(|e| e.to_string())?;
        let flag = |name| command.get_bool(name).unwrap_or(false);
        let (name, _) = command.iter().next().ok_or("a command is empty")?.map_err(|e| e.to_string())?;
        let part = match name.as_str() {
            "applyOps" => TransactionPart::Operations { last: !flag("partialTxn") && !flag("prepare") },
            "commitTransaction" => TransactionPart::Commit,
            "abortTransaction" => TransactionPart::Abort,
            _ => return Ok(None),
        };
        let previous = entry.get_document("prevOpTime").and_then(|previous| previous.get_timestamp("ts"));
        let previous = previous.ok().map(OpTime::from).filter(|at| at.t > 0);
        Ok(Some(TransactionEntry { id: (session.as_bytes().to_vec(), number), part, previous }))
    }

    /// Returns true if more entries of the transaction follow, unless it is aborted.
    pub(crate) fn has_more(&self) -> bool {
        self.part == TransactionPart::Operations { last: false }
    }

    /// Returns true if the entry has operations.
    pub(super) fn has_operations(&self) -> bool {
        matches!(self.part, TransactionPart::Operations { .. })
    }
}

/// The most bytes of operations of open transactions that are kept in memory. The operations of further transactions are read
/// again at their commit.
const KEPT: usize = 8 << 20;

/// What an entry does to the transactions.
#[derive(Debug, PartialEq)]
pub(super) enum TransactionEffect {
    /// The entry belongs to no transaction, or has all operations of one that is committed.
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
        let Some(of) = TransactionEntry::of(entry.raw).map_err(broken)? else {
            return Ok(TransactionEffect::Alone);
        };
        let TransactionEntry { id, part, previous } = of;
        if !self.open.contains_key(&id)
            && part != TransactionPart::Abort
            && let Some(before) = previous.filter(|before| *before < start)
        {
            return Err(Error::failed(format!(
                "the oplog slice begins at {start}, in the middle of a transaction: the entry{} continues it, and it began \
                 at {before} or earlier",
                entry.when()
            ))
            .hint(format!("Restore another backup. {NO_REPLAY}")));
        }
        let mut so_far = self.open.remove(&id).unwrap_or_else(|| OpenTransaction {
            operations: Vec::new(),
            bytes: 0,
            since: None,
            first: entry.at,
        });
        self.bytes -= so_far.bytes;
        Ok(match part {
            TransactionPart::Operations { last: true }
                if so_far.operations.is_empty() && so_far.since.is_none() =>
            {
                TransactionEffect::Alone
            }
            TransactionPart::Operations { last } => {
                self.keep(&mut so_far, entry)?;
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

    /// Adds the operations of an entry, unless too many are kept.
    fn keep(&self, so_far: &mut OpenTransaction, entry: &OplogEntry) -> Result<()> {
        let bytes = entry.o.as_bytes().len();
        if self.reads_again && self.bytes + so_far.bytes + bytes > KEPT {
            so_far.since = so_far.since.or(so_far.first);
        }
        if so_far.since.is_some() {
            (so_far.operations, so_far.bytes) = Default::default();
            return Ok(());
        }
        for operation in documents(entry.o, "applyOps")? {
            so_far.operations.push(operation?.to_owned());
        }
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

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

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
        assert_eq!(whole, TransactionEffect::Alone);
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
        assert_eq!(take(&mut open, &whole).unwrap(), None);
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
        let commit = (rawdoc! {"commitTransaction": 1}, Some(vec![]));
        for (o, operations) in [commit, (rawdoc! {"applyOps": [operation(2)]}, None)] {
            let error = take(&mut open, &entry(1, 99, o.clone())).unwrap_err();
            assert!(error.to_string().contains("in the middle of a transaction"), "{error}");
            // A transaction that began in the slice, of which no operation was wanted so far.
            assert_eq!(take(&mut open, &entry(1, 101, o)).unwrap(), operations);
        }
        let abort = entry(1, 99, rawdoc! {"abortTransaction": 1});
        assert_eq!(take(&mut open, &abort).unwrap(), Some(vec![]), "nothing of it is wanted");
    }
}
