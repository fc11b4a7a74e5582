//! What of the oplog belongs to a backup: the entries of its namespaces, also inside `applyOps` and
//! transactions. What is kept whole is kept to the byte; of an `applyOps` of which only a part is wanted a new
//! entry is put together from the raw bytes of that part.
//!
//! What an entry looks like: server source, `src/mongo/db/repl/oplog_entry.idl`; what restores do with it:
//! mongo-tools, `mongorestore/oplog.go`.

mod chains;
mod commands;
mod names;
mod refusals;
#[cfg(test)]
mod tests;

use bson::raw::{RawArrayBuf, RawBsonRef};
use bson::{RawDocument, RawDocumentBuf};

use self::chains::{Chains, Link};
use crate::base::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::config::selection::Selection;
use crate::model::optime::OpTime;

/// What is kept of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// All of it.
    Whole,
    /// What was asked for of an `applyOps`.
    Part(RawDocumentBuf),
    /// It belongs to other namespaces.
    Nothing,
}

/// Sees every entry of a slice, in order.
pub struct Filter<'a> {
    selection: &'a Selection,
    chains: Chains,
}

impl<'a> Filter<'a> {
    /// A filter for what `selection` wants. Whatever was written up to `ready` the reader of the documents saw.
    pub fn new(selection: &'a Selection, ready: OpTime) -> Filter<'a> {
        Filter { selection, chains: Chains::new(ready) }
    }

    /// What is kept of the next entry.
    ///
    /// # Errors
    /// [`Kind::Moved`] if it does to a namespace of the backup what no replay onto collections
    /// that were read meanwhile can do.
    pub fn take(&mut self, entry: &RawDocument) -> Result<Kept> {
        if entry.get_str("op").is_ok_and(|op| op == "c") {
            bounds::check_depth(entry).map_err(malformed)?;
        }
        let link = self.chains.link(entry)?;
        if link == Link::Over {
            return Ok(Kept::Nothing);
        }
        let kept = self.operation(entry)?;
        // The parts of a transaction count on each other, even those of which nothing is left.
        Ok(match (kept, link) {
            (Kept::Nothing, Link::Part) => Kept::Part(with_operations(entry, &RawArrayBuf::new())?),
            (_, Link::End) => Kept::Whole,
            (kept, _) => kept,
        })
    }

    /// An entry, or an operation inside of one.
    fn operation(&self, operation: &RawDocument) -> Result<Kept> {
        let wanted = match operation.get_str("op").map_err(malformed)? {
            "c" => return self.command(operation),
            // Noops; containers and keys, which are each server's own (mongorestore leaves them out too).
            "n" | "ci" | "cu" | "cd" | "km" => false,
            _ => self.wants_document(operation)?,
        };
        Ok(if wanted { Kept::Whole } else { Kept::Nothing })
    }

    /// The operations of an `applyOps`, each on its own.
    fn apply_ops(&self, entry: &RawDocument, operations: &bson::RawArray) -> Result<Kept> {
        let (mut kept, mut complete, mut any) = (RawArrayBuf::new(), true, false);
        for operation in operations {
            let operation = operation.map_err(malformed)?;
            let operation =
                operation.as_document().ok_or_else(|| malformed("an operation is no document"))?;
            match self.operation(operation)? {
                Kept::Whole => kept.push(RawBsonRef::Document(operation)),
                Kept::Part(part) => {
                    complete = false;
                    kept.push(RawBsonRef::Document(&part));
                }
                Kept::Nothing => {
                    complete = false;
                    continue;
                }
            }
            any = true;
        }
        match (complete, any) {
            (true, _) => Ok(Kept::Whole),
            (false, true) => Ok(Kept::Part(with_operations(entry, &kept)?)),
            (false, false) => Ok(Kept::Nothing),
        }
    }
}

/// An `applyOps` entry with other operations; everything else of it stays.
fn with_operations(entry: &RawDocument, operations: &bson::RawArray) -> Result<RawDocumentBuf> {
    let replaced = |document: &RawDocument, name: &str, value: RawBsonRef<'_>| {
        let mut out = RawDocumentBuf::new();
        for element in document {
            let (key, old) = element.map_err(malformed)?;
            out.append(key, if key == name { value } else { old });
        }
        Ok::<_, Error>(out)
    };
    let command = entry.get_document("o").map_err(malformed)?;
    let command = replaced(command, "applyOps", RawBsonRef::Array(operations))?;
    replaced(entry, "o", RawBsonRef::Document(&command))
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::NoSlice, "MongoDB sent a malformed oplog entry").caused_by(error.to_string())
}
