//! Transactions in an oplog: one entry each, or several, of which the last commits. What belongs to an open one
//! waits here; what is never committed is never handed on. Source: mongo-tools, `common/txn/`.

use std::collections::BTreeMap;

use bson::{RawArray, RawBsonRef, RawDocument, RawDocumentBuf};

use super::entry::{Entry, broken};
use crate::base::error::{Error, Result};
use crate::model::optime::OpTime;

/// Which transaction: the session's bytes, and its number within it.
type Id = (Vec<u8>, i64);

/// An entry's part in a transaction.
#[derive(Debug, PartialEq)]
enum Part {
    /// Operations; the last ones, unless more follow or it is only prepared.
    Operations {
        last: bool,
    },
    Commit,
    Abort,
}

/// Transactions that are open.
#[derive(Debug, Default)]
pub struct Transactions {
    open: BTreeMap<Id, Vec<RawDocumentBuf>>,
}

/// What comes of an entry.
#[derive(Debug, PartialEq)]
pub enum Came {
    /// It is not of a transaction.
    Alone,
    /// Nothing yet, or never.
    Waits,
    /// These operations are now done, in this order.
    Done(Vec<RawDocumentBuf>),
}

impl Transactions {
    /// Takes an entry. `start` is the time from which on the slice has every entry.
    ///
    /// # Errors
    /// If the entry goes on with a transaction that began before the slice.
    pub fn take(&mut self, entry: &Entry, start: OpTime) -> Result<Came> {
        let Some((id, part)) = part(entry)? else { return Ok(Came::Alone) };
        if !self.open.contains_key(&id)
            && part != Part::Abort
            && let Some(before) = previous(entry).filter(|before| *before < start)
        {
            return Err(Error::failed(format!(
                "the oplog slice begins at {start}, in the middle of a transaction of {before} that the entry{} \
                 goes on with",
                entry.when()
            ))
            .hint("Restore another backup, or this one without its oplog: --no-replay"));
        }
        let mut so_far = self.open.remove(&id).unwrap_or_default();
        match part {
            Part::Operations { last } => {
                so_far.extend(operations(entry.o)?);
                if last {
                    return Ok(Came::Done(so_far));
                }
                self.open.insert(id, so_far);
                Ok(Came::Waits)
            }
            Part::Commit => Ok(Came::Done(so_far)),
            Part::Abort => Ok(Came::Waits),
        }
    }

    /// How many were neither committed nor aborted.
    pub fn open(&self) -> u64 {
        self.open.len() as u64
    }
}

fn part(entry: &Entry) -> Result<Option<(Id, Part)>> {
    let session = entry.raw.get_document("lsid").ok();
    let number = entry.raw.get_i64("txnNumber").ok();
    // 1 says that it is a batch of inserts with retries (MongoDB 8.0), which looks the same.
    let vectored = entry.raw.get("multiOpType").ok().flatten().is_some_and(|kind| kind.as_i32() == Some(1));
    let (Some(session), Some(number), "c", false) = (session, number, entry.op, vectored) else {
        return Ok(None);
    };
    let flag = |name| entry.o.get_bool(name).unwrap_or(false);
    let part = match entry.command()?.0 {
        "applyOps" => Part::Operations { last: !flag("partialTxn") && !flag("prepare") },
        "commitTransaction" => Part::Commit,
        "abortTransaction" => Part::Abort,
        _ => return Ok(None),
    };
    Ok(Some(((session.as_bytes().to_vec(), number), part)))
}

/// The entry of the transaction before this one; a zero time says that there is none.
fn previous(entry: &Entry) -> Option<OpTime> {
    match entry.raw.get_document("prevOpTime").ok()?.get("ts") {
        Ok(Some(RawBsonRef::Timestamp(at))) => Some(OpTime::from(at)).filter(|at| at.t > 0),
        _ => None,
    }
}

/// The operations of an `applyOps`.
pub fn operations(command: &RawDocument) -> Result<Vec<RawDocumentBuf>> {
    let array: &RawArray = command.get_array("applyOps").map_err(broken)?;
    let one = |value: bson::error::Result<RawBsonRef<'_>>| {
        let value = value.map_err(broken)?;
        let document = value.as_document().ok_or_else(|| broken("an operation is no document"))?;
        Ok(document.to_owned())
    };
    array.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, rawdoc};

    use super::*;

    fn entry(number: i64, previous: u32, o: RawDocumentBuf) -> RawDocumentBuf {
        let before = bson::Timestamp { time: previous, increment: 1 };
        rawdoc! {"op": "c", "ns": "admin.$cmd", "lsid": {"id": 1}, "txnNumber": number,
        "prevOpTime": {"ts": before, "t": 1_i64}, "o": o}
    }

    fn operation(n: i32) -> RawDocumentBuf {
        rawdoc! {"op": "i", "ns": "a.b", "o": {"_id": n}}
    }

    fn take(open: &mut Transactions, raw: &RawDocumentBuf) -> Result<Came> {
        open.take(&Entry::parse(raw).unwrap(), OpTime { t: 100, i: 1 })
    }

    #[test]
    fn one_entry_is_done_at_once() {
        let mut open = Transactions::default();
        let whole = entry(1, 0, rawdoc! {"applyOps": [operation(1), operation(2)]});
        assert_eq!(take(&mut open, &whole).unwrap(), Came::Done(vec![operation(1), operation(2)]));
        assert_eq!(open.open(), 0);
        let plain = rawdoc! {"op": "c", "ns": "admin.$cmd", "o": {"applyOps": [operation(1)]}};
        assert_eq!(take(&mut open, &plain).unwrap(), Came::Alone);
        let mut vectored = whole.clone();
        vectored.append(bson::raw::cstr!("multiOpType"), 1);
        assert_eq!(take(&mut open, &vectored).unwrap(), Came::Alone);
    }

    #[test]
    fn several_entries_are_done_with_the_last() {
        let mut open = Transactions::default();
        let first = entry(1, 0, rawdoc! {"applyOps": [operation(1)], "partialTxn": true});
        let other = entry(2, 0, rawdoc! {"applyOps": [operation(9)], "prepare": true});
        let last = entry(1, 120, rawdoc! {"applyOps": [operation(2)], "count": 2_i64});
        assert_eq!(take(&mut open, &first).unwrap(), Came::Waits);
        assert_eq!(take(&mut open, &other).unwrap(), Came::Waits);
        assert_eq!(take(&mut open, &last).unwrap(), Came::Done(vec![operation(1), operation(2)]));
        assert_eq!(open.open(), 1, "the prepared one");
        let commit = entry(2, 130, rawdoc! {"commitTransaction": 1});
        assert_eq!(take(&mut open, &commit).unwrap(), Came::Done(vec![operation(9)]));
    }

    #[test]
    fn an_aborted_one_is_never_done() {
        let mut open = Transactions::default();
        take(&mut open, &entry(1, 0, rawdoc! {"applyOps": [operation(1)], "prepare": true})).unwrap();
        assert_eq!(take(&mut open, &entry(1, 120, rawdoc! {"abortTransaction": 1})).unwrap(), Came::Waits);
        assert_eq!(open.open(), 0);
    }

    #[test]
    fn a_beginning_before_the_slice_is_an_error() {
        let mut open = Transactions::default();
        for o in [rawdoc! {"commitTransaction": 1}, rawdoc! {"applyOps": [operation(2)]}] {
            let error = take(&mut open, &entry(1, 99, o.clone())).unwrap_err();
            assert!(error.to_string().contains("in the middle of a transaction"), "{error}");
            // One that began in the slice, and of which nothing was wanted so far.
            assert!(matches!(take(&mut open, &entry(1, 101, o)).unwrap(), Came::Done(_)));
        }
        let abort = entry(1, 99, rawdoc! {"abortTransaction": 1});
        assert_eq!(take(&mut open, &abort).unwrap(), Came::Waits, "nothing of it is wanted");
    }
}
