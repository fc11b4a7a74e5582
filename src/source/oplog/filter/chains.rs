//! Transactions that are several entries: a large one is written in parts, a prepared one is committed by an
//! entry of its own. Only together do they mean something.

use std::collections::HashSet;

use bson::{RawDocument, Timestamp};

use super::malformed;
use crate::base::error::{Error, Result};
use crate::model::optime::OpTime;

/// What an entry is to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It stands for itself.
    Alone,
    /// One of several entries with operations.
    Part,
    /// Commits or aborts what was prepared.
    End,
    /// The transaction began before the slice and was over before the first document was read.
    Over,
}

/// The transactions of which more is to come.
pub struct Chains {
    ready: OpTime,
    open: HashSet<(Vec<u8>, i64)>,
}

impl Chains {
    /// Whatever was committed up to `ready`, the reader of the documents saw.
    pub fn new(ready: OpTime) -> Chains {
        Chains { ready, open: HashSet::new() }
    }

    /// What the next entry is. Fields: `lsid` and `txnNumber` name the transaction, `prevOpTime` is the entry
    /// before of the same one, with the time 0 at the first (server source, `transaction_oplog_application.cpp`).
    pub fn link(&mut self, entry: &RawDocument) -> Result<Link> {
        if entry.get_str("op").map_err(malformed)? != "c" {
            return Ok(Link::Alone);
        }
        let command = entry.get_document("o").map_err(malformed)?;
        let says = |field: &str| command.get_bool(field).unwrap_or(false);
        let operations = command.get("applyOps").map_err(malformed)?.is_some();
        let ends = ["commitTransaction", "abortTransaction"]
            .iter()
            .any(|name| matches!(command.get(name), Ok(Some(_))));
        let (Ok(session), Ok(number)) = (entry.get_document("lsid"), entry.get_i64("txnNumber")) else {
            return Ok(Link::Alone);
        };
        // Of several inserts that a client may repeat each entry counts by itself.
        if !(operations || ends) || entry.get_i32("multiOpType").is_ok_and(|kind| kind == 1) {
            return Ok(Link::Alone);
        }
        let previous = entry.get_document("prevOpTime").and_then(|previous| previous.get_timestamp("ts"));
        let first = previous.is_err() || previous.is_ok_and(|ts| ts == Timestamp { time: 0, increment: 0 });
        let more = operations && (says("partialTxn") || says("prepare"));
        let key = (session.as_bytes().to_vec(), number);
        match (first, more) {
            (true, false) => return Ok(Link::Alone),
            (true, true) => {
                self.open.insert(key);
            }
            (false, _) if !self.open.contains(&key) => return self.began_before(entry),
            (false, true) => {}
            (false, false) => {
                self.open.remove(&key);
            }
        }
        Ok(if ends { Link::End } else { Link::Part })
    }

    fn began_before(&self, entry: &RawDocument) -> Result<Link> {
        let time: OpTime = entry.get_timestamp("ts").map_err(malformed)?.into();
        if time > self.ready {
            let text =
                "a transaction that was not known to be under way at the start was committed during the run";
            return Err(Error::moved(text));
        }
        Ok(Link::Over)
    }
}
