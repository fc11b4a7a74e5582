//! Applies oplog operations with the command `applyOps`.
//!
//! Seen on 6.0.5: an insert of an existing document replaces it, an update of a missing document inserts it,
//! and the deletion of a missing document and the creation of an existing collection succeed, so a replay
//! over later data converges. An insert or update without its collection fails with code 26, and the later
//! operations of the command are not applied. A command that mixes inserts, updates or deletes with other
//! operations needs superuser rights; otherwise the rights for each operation are enough.

use std::collections::BTreeSet;

use bson::raw::cstr;
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};

use mongodb::error::Error as Driver;

use super::collections::NOT_FOUND;
use super::{RestoreTarget, ServerVersion, insert};
use crate::base::error::{Error, Kind, Result};
use crate::dumpformat::oplog::NO_REPLAY;
use crate::mongo::errors::{self, Class};

/// CommandNotFound.
pub(super) const NO_COMMAND: i32 = 59;
/// A collection name that is not in use.
const PROBE: &str = "uzima_backup_probe";

/// The result of applying operations.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    /// The positions of operations that were skipped because their collection does not exist.
    pub left_out: Vec<usize>,
    /// The position of the operation that the server refused, and the error. Later operations were not
    /// applied.
    pub refused: Option<(usize, Error)>,
}

impl RestoreTarget {
    /// Checks that the user may apply operations in these databases, and that the server has `applyOps`. Changes
    /// nothing.
    pub(crate) async fn may_apply(&self, databases: &BTreeSet<String>) -> Result<()> {
        for db in databases {
            let ns = format!("{db}.{PROBE}");
            let delete = rawdoc! {"op": "d", "ns": ns.as_str(), "o": {"_id": 0}};
            let update = rawdoc! {"op": "u", "ns": ns, "o2": {"_id": 0}, "o": {"_id": 0}};
            // The server checks the rights before it looks for the documents.
            let operations = [delete, update];
            match self.insist("admin", self.operations(&operations, true)).await {
                Ok(_) => {}
                Err(e) if errors::code(&e) == Some(NOT_FOUND) => {}
                Err(e) if errors::code(&e) == Some(NO_COMMAND) => {
                    let error = Error::failed(format!(
                        "MongoDB at {} has no command applyOps, which replays an oplog: it is a mongos or not MongoDB",
                        self.address
                    ));
                    let step = format!("Restore into a replica set. {NO_REPLAY}");
                    return Err(error.caused_by(errors::tidy(&e)).hint(step));
                }
                Err(e) => return Err(self.explain_apply("cannot replay the oplog", e)),
            }
        }
        Ok(())
    }

    /// Applies operations in order: inserts, updates and deletes, or one command. Stops at the first
    /// operation that the server refuses. Returns an error if operations on other namespaces would fail as well.
    pub(crate) async fn apply(&self, operations: &[RawDocumentBuf]) -> Result<Applied> {
        self.apply_with(operations, true).await
    }

    /// The same, but the server refuses an update that finds no document.
    pub(crate) async fn apply_exactly(&self, operations: &[RawDocumentBuf]) -> Result<Applied> {
        self.apply_with(operations, false).await
    }

    /// Deletes documents of a collection by their `_id`s. Returns how many were found; `None` if that is unknown, because the
    /// command was sent more than once.
    pub(crate) async fn delete_exactly(
        &self,
        db: &str,
        collection: &str,
        documents: &[&RawDocument],
    ) -> Result<Option<u64>> {
        let mut deletes = RawArrayBuf::new();
        for document in documents {
            deletes.push(rawdoc! {"q": insert::id_filter(document)?, "limit": 1});
        }
        let command =
            rawdoc! {"delete": collection, "deletes": deletes, "writeConcern": self.concern.clone()};
        let (answer, repeated) = self.change_repeated(db, || command.clone()).await;
        let doing = format!("cannot delete documents of {db}.{collection}, as the oplog does");
        let answer = answer.map_err(|e| self.explain_apply(&doing, e))?;
        if let Ok(errors) = answer.get_array("writeErrors") {
            let first = errors.first().map(ToString::to_string).unwrap_or_default();
            return Err(Error::new(Kind::Refused, doing).caused_by(first));
        }
        super::acknowledged(&answer, "the deletes were")?;
        Ok((!repeated).then(|| super::number(&answer, "n")))
    }

    async fn apply_with(&self, operations: &[RawDocumentBuf], upserts: bool) -> Result<Applied> {
        let mut applied = Applied::default();
        let (mut from, mut alone) = (0, false);
        while from < operations.len() {
            let to = if alone { from + 1 } else { operations.len() };
            let rest = &operations[from..to];
            let error = match self.change("admin", self.operations(rest, upserts)).await {
                Ok(answer) => {
                    super::acknowledged(&answer, "the replayed operations were")?;
                    from = to;
                    continue;
                }
                Err(error) => error,
            };
            let failed = error.server_response().and_then(|answer| first_failure(answer));
            let Some(failed) = failed.or((rest.len() == 1).then_some(0)).filter(|at| *at < rest.len()) else {
                // The answer does not name the operation, so they are sent one by one. Operations may be
                // applied twice.
                let error = self.explain_apply("cannot apply operations of the oplog", error);
                if error.kind() != Kind::Refused {
                    return Err(error);
                }
                alone = true;
                continue;
            };
            let at = &rest[failed];
            from += failed;
            if errors::code(&error) == Some(NOT_FOUND) {
                applied.left_out.push(from);
                from += 1;
                continue;
            }
            let (op, ns) = (at.get_str("op").unwrap_or("?"), at.get_str("ns").unwrap_or("?"));
            let doing = format!("cannot apply an operation '{op}' of the oplog to {ns}");
            let error = self.explain_apply(&doing, error);
            if error.kind() != Kind::Refused {
                return Err(error);
            }
            applied.refused = Some((from, error));
            break;
        }
        Ok(applied)
    }

    /// Runs a command in a database. Returns false if the server refused it with one of the codes in `fine`.
    pub(crate) async fn command(
        &self,
        db: &str,
        command: &RawDocument,
        doing: &str,
        fine: &[i32],
    ) -> Result<bool> {
        let mut command = command.to_owned();
        command.append(bson::raw::cstr!("writeConcern"), self.concern.clone());
        match self.change(db, command).await {
            Err(e) if errors::code(&e).is_some_and(|code| fine.contains(&code)) => Ok(false),
            done => done.map(|_| true).map_err(|e| self.explain_apply(doing, e)),
        }
    }

    fn operations(&self, operations: &[RawDocumentBuf], upserts: bool) -> RawDocumentBuf {
        let operations: RawArrayBuf = operations.iter().cloned().collect();
        let mut command = rawdoc! {
            "applyOps": operations,
            // Not atomic: one atomic command would be one entry in the target's oplog, and may be too long
            // for it.
            "allowAtomic": false,
            "bypassDocumentValidation": true,
        };
        // From 8.1 on no update inserts unless it says so, and the option is refused (SERVER-88158).
        if !upserts && self.version < ServerVersion(8, 1, 0) {
            command.append(cstr!("alwaysUpsert"), false);
        }
        command.append(cstr!("writeConcern"), self.concern.clone());
        command
    }

    fn explain_apply(&self, doing: &str, error: Driver) -> Error {
        let (user, db) = self.user_and_db();
        let step = match errors::classify(&error) {
            Class::Unauthorized => format!(
                "The role \"restore\" does not allow updates and deletes: \
                 db.getSiblingDB(\"{db}\").grantRolesToUser({user:?}, [{}]). {NO_REPLAY}",
                errors::granted("readWriteAnyDatabase", db)
            ),
            _ => format!("Try it once more. {NO_REPLAY}"),
        };
        let error = self.explain(doing, error);
        if error.kind() == Kind::Refused { error.hint(step) } else { error }
    }
}

/// The position of the first operation that failed, by the results in the answer.
fn first_failure(answer: &RawDocument) -> Option<usize> {
    let results = answer.get_array("results").ok()?;
    results.into_iter().flatten().position(|done| done.as_bool() == Some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failed_operation_is_found() {
        let answer = rawdoc! {"applied": 2, "results": [true, false], "ok": 0.0};
        assert_eq!(first_failure(&answer), Some(1));
        assert_eq!(first_failure(&rawdoc! {"ok": 0.0}), None);
    }
}
