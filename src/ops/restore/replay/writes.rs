//! Sends the writes of a lane to the target.
//!
//! Before all data is of one instant, writes go through `applyOps`, which inserts what an update does not find, and does not mind
//! a delete without a document. After that instant, writes are exact: an update that finds no document is refused, inserts go
//! through the command `insert`, which refuses an `_id` that exists, and deletes through `delete`, whose answer counts them.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bson::{RawDocument, RawDocumentBuf};

use super::Exceptions;
use crate::base::error::{Error, Kind, Result};
use crate::dumpformat::oplog::TargetNamespace;
use crate::model::optime::OpTime;
use crate::restore_target::RestoreTarget;
use crate::restore_target::insert::{BATCH, Destination, id_text};

/// The most writes in one batch.
const WRITES: usize = 4000;
/// The length of a batch in bytes; the last write may exceed it.
pub(super) const BYTES: usize = 512 << 10;

/// A write that waits in a lane.
#[derive(Debug, Clone)]
pub(super) struct PendingWrite {
    pub to: TargetNamespace,
    /// For `applyOps`.
    pub operation: RawDocumentBuf,
    /// The time of its entry, if its document must be as it was at the source then.
    pub exact: Option<OpTime>,
    /// True for a capped collection, from which the target deletes documents by itself.
    pub capped: bool,
    /// True if the command `insert` may insert the document: its collection is an ordinary one, and is known to exist.
    pub ordinary: bool,
    /// The same for all writes to the document.
    pub key: u64,
}

/// How a write is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Updates may insert.
    Converging,
    Exact,
    /// Like `Exact`, but the document of an update may be gone.
    Capped,
    ExactInsert,
    ExactDelete,
}

impl Manner {
    /// The rank of a first write of this manner to a document. The rank of a later one is the next that leaves the same remainder
    /// by [`RANKS`].
    fn rank(self) -> usize {
        match self {
            Manner::ExactInsert => 0,
            Manner::Converging | Manner::Exact | Manner::Capped => 1,
            Manner::ExactDelete => 2,
        }
    }

    /// Returns true if a command of this manner has writes to one namespace.
    fn is_of_one_namespace(self) -> bool {
        matches!(self, Manner::ExactInsert | Manner::ExactDelete)
    }
}

const RANKS: usize = 3;

impl PendingWrite {
    fn manner(&self) -> Manner {
        match (self.exact, self.capped) {
            (None, _) => return Manner::Converging,
            (Some(_), true) => return Manner::Capped,
            (Some(_), false) => {}
        }
        match self.operation.get_str("op") {
            Ok("d") => Manner::ExactDelete,
            Ok("i") if self.ordinary => Manner::ExactInsert,
            _ => Manner::Exact,
        }
    }

    /// The time of the entry and the `_id` of the document, for messages.
    fn place(&self) -> String {
        let id = self.document().get("_id").ok().flatten().map_or_else(|| "unknown".into(), id_text);
        let at = self.exact.map(|at| format!("{}:{} ({})", at.t, at.i, at.second()));
        format!("the entry {}, _id {id}", at.unwrap_or_default())
    }

    /// The inserted document.
    fn inserted(&self) -> &RawDocument {
        self.operation.get_document("o").unwrap_or(&self.operation)
    }

    /// The document with the `_id`: the filter of an update, an inserted document, or the key of a delete.
    fn document(&self) -> &RawDocument {
        let of = |field| self.operation.get_document(field);
        of("o2").or_else(|_| of("o")).unwrap_or(&self.operation)
    }
}

/// Writes that are sent together.
#[derive(Default)]
pub(super) struct WriteBatch {
    pub writes: Vec<PendingWrite>,
    pub bytes: usize,
}

impl WriteBatch {
    pub(super) fn push(&mut self, write: PendingWrite) {
        self.bytes += write.operation.as_bytes().len();
        self.writes.push(write);
    }

    pub(super) fn is_full(&self) -> bool {
        self.writes.len() >= WRITES || self.bytes >= BYTES
    }
}

/// Reorders writes, so that inserts and deletes need few commands. Writes to one document stay in order.
fn arranged(writes: Vec<PendingWrite>) -> Vec<(Manner, PendingWrite)> {
    let mut ranks: HashMap<u64, usize> = HashMap::new();
    let mut ranked: Vec<(usize, Manner, PendingWrite)> = Vec::with_capacity(writes.len());
    for write in writes {
        let manner = write.manner();
        let rank = ranks.entry(write.key).or_insert(manner.rank());
        *rank += (RANKS + manner.rank() - *rank % RANKS) % RANKS;
        ranked.push((*rank, manner, write));
    }
    // The sort is stable. A document has one namespace, so the inserts and deletes of one namespace may come together.
    ranked.sort_by(|(a, manner, one), (b, _, other)| {
        a.cmp(b).then_with(|| match manner.is_of_one_namespace() {
            true => one.to.cmp(&other.to),
            false => Ordering::Equal,
        })
    });
    ranked.into_iter().map(|(_, manner, write)| (manner, write)).collect()
}

pub(super) fn lock(exceptions: &Mutex<Exceptions>) -> MutexGuard<'_, Exceptions> {
    exceptions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends writes. If the server refuses a write, its namespace fails, and the other writes go on.
pub(super) async fn send(
    target: &RestoreTarget,
    exceptions: &Mutex<Exceptions>,
    writes: Vec<PendingWrite>,
) -> Result<()> {
    let mut rest = arranged(writes).into_iter().peekable();
    while let Some((manner, first)) = rest.next() {
        let to = first.to.clone();
        let mut now = vec![first];
        let alike = |(of, write): &(Manner, PendingWrite)| {
            *of == manner && (!manner.is_of_one_namespace() || write.to == to)
        };
        now.extend(std::iter::from_fn(|| rest.next_if(alike).map(|(_, write)| write)));
        while !now.is_empty() {
            {
                let exceptions = lock(exceptions);
                now.retain(|write| !exceptions.skip.leaves_out(&write.to));
            }
            let done = match manner {
                _ if now.is_empty() => 0,
                Manner::ExactInsert => insert(target, exceptions, &now).await?,
                Manner::ExactDelete => delete(target, exceptions, &now).await?,
                _ => apply(target, exceptions, &now, manner).await?,
            };
            now.drain(..done);
        }
    }
    Ok(())
}

/// Applies writes in order. An operation of 16 MiB goes alone, because a command may be only 16 KiB longer. Returns how many
/// writes are done, or failed.
async fn apply(
    target: &RestoreTarget,
    exceptions: &Mutex<Exceptions>,
    writes: &[PendingWrite],
    manner: Manner,
) -> Result<usize> {
    let alone = writes.iter().rposition(|write| write.operation.as_bytes().len() >= BATCH);
    let now = alone.filter(|at| *at > 0).unwrap_or(writes.len());
    let operations: Vec<RawDocumentBuf> = writes[..now].iter().map(|write| write.operation.clone()).collect();
    let applied = match manner {
        Manner::Converging => target.apply(&operations).await?,
        _ => target.apply_exactly(&operations).await?,
    };
    let mut exceptions = lock(exceptions);
    for at in applied.left_out {
        let PendingWrite { to, .. } = &writes[at];
        match manner {
            Manner::Converging => {
                exceptions.missing.insert(to.key(), to.from_db.clone());
            }
            _ => exceptions.skip.fail(to.name(), &lost(&writes[at], "the collection does not exist")),
        }
    }
    Ok(match applied.refused {
        None => now,
        Some((at, _)) if manner == Manner::Capped => at + 1,
        Some((at, error)) => {
            let write = &writes[at];
            let error = match manner {
                Manner::Exact => lost(write, &error.chain()),
                _ => error,
            };
            exceptions.skip.fail(write.to.name(), &error);
            at + 1
        }
    })
}

/// Inserts documents into one collection, none of which may be there.
async fn insert(
    target: &RestoreTarget,
    exceptions: &Mutex<Exceptions>,
    writes: &[PendingWrite],
) -> Result<usize> {
    let to = &writes[0].to;
    let documents: Vec<&[u8]> = writes.iter().map(|write| write.inserted().as_bytes()).collect();
    match target.insert_all(&Destination::new(&to.db, &to.collection), &documents).await {
        Ok(refused) => {
            if let Some(one) = refused.first() {
                let about = |write: &&PendingWrite| write.inserted() == &*one.document;
                let error = match writes.iter().find(about) {
                    Some(write) if one.same_id => lost(write, &one.why),
                    Some(write) => Error::new(Kind::Refused, format!("{}: {}", write.place(), one.why)),
                    None => Error::new(Kind::Refused, one.why.clone()),
                };
                lock(exceptions).skip.fail(to.name(), &error);
            }
        }
        Err(error) if error.kind() == Kind::Refused => lock(exceptions).skip.fail(to.name(), &error),
        Err(error) => return Err(error),
    }
    Ok(writes.len())
}

/// Deletes documents of one namespace, which must all be there.
async fn delete(
    target: &RestoreTarget,
    exceptions: &Mutex<Exceptions>,
    writes: &[PendingWrite],
) -> Result<usize> {
    let to = &writes[0].to;
    let documents: Vec<&RawDocument> = writes.iter().map(PendingWrite::document).collect();
    match target.delete_exactly(&to.db, &to.stored(), &documents).await {
        Ok(found) => {
            let missing = found.map_or(0, |found| (writes.len() as u64).saturating_sub(found));
            if missing > 0 {
                let (first, last) = (&writes[0], &writes[writes.len() - 1]);
                let error = match writes.len() {
                    1 => lost(first, "the document does not exist"),
                    n => Error::new(
                        Kind::Mismatch,
                        format!(
                            "{missing} of {n} deleted documents do not exist at the target, between {} and {}",
                            first.place(),
                            last.place()
                        ),
                    )
                    .hint(DAMAGE),
                };
                lock(exceptions).skip.fail(to.name(), &error);
            }
        }
        Err(error) if error.kind() == Kind::Refused => lock(exceptions).skip.fail(to.name(), &error),
        Err(error) => return Err(error),
    }
    Ok(writes.len())
}

pub(super) const DAMAGE: &str = "The data differs from the data that the oplog was written for: another client may have changed it. Restore \
                      again into a server without other clients";

fn lost(write: &PendingWrite, why: &str) -> Error {
    Error::new(Kind::Mismatch, format!("{} cannot be replayed: {why}", write.place())).hint(DAMAGE)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn write(op: &str, id: i32, collection: &str) -> PendingWrite {
        let (db, name) = ("shop".to_string(), collection.to_string());
        let to =
            TargetNamespace { from_db: db.clone(), from: name.clone(), db, collection: name, buckets: false };
        let operation = rawdoc! {"op": op, "o": {"_id": id}};
        PendingWrite {
            to,
            operation,
            exact: Some(OpTime { t: 5, i: 1 }),
            capped: false,
            ordinary: true,
            key: id as u64,
        }
    }

    fn order(writes: Vec<PendingWrite>) -> Vec<(String, i32)> {
        let one = |(_, write): &(Manner, PendingWrite)| {
            let id = write.document().get_i32("_id").unwrap();
            (write.operation.get_str("op").unwrap().to_string(), id)
        };
        arranged(writes).iter().map(one).collect()
    }

    #[test]
    fn writes_of_one_kind_come_together_and_writes_to_a_document_stay_in_order() {
        let writes = [
            ("i", 1),
            ("u", 5),
            ("d", 1),
            ("i", 2),
            ("d", 3),
            ("i", 3),
            ("u", 2),
            ("d", 2),
            ("i", 1),
            ("u", 4),
        ];
        let writes = writes.map(|(op, id)| write(op, id, "rows")).to_vec();
        let wanted = [
            ("i", 1),
            ("i", 2),
            ("u", 5),
            ("u", 2),
            ("u", 4),
            ("d", 1),
            ("d", 3),
            ("d", 2),
            ("i", 3),
            ("i", 1),
        ];
        assert_eq!(order(writes), wanted.map(|(op, id)| (op.to_string(), id)));
    }

    #[test]
    fn inserts_and_deletes_of_one_namespace_come_together() {
        for op in ["i", "d"] {
            let writes = vec![write(op, 1, "a"), write(op, 2, "b"), write(op, 3, "a")];
            assert_eq!(order(writes), [1, 3, 2].map(|id| (op.to_string(), id)));
        }
    }

    #[test]
    fn the_order_of_updates_stays() {
        let writes = vec![write("u", 1, "b"), write("u", 2, "a"), write("u", 1, "b")];
        assert_eq!(order(writes), [1, 2, 1].map(|id| ("u".to_string(), id)));
    }
}
