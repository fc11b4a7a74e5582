//! Operations of an oplog, handed to the server as it would get them from another member: `applyOps`.
//!
//! Seen on 6.0.5: inserts become upserts, an update of what is not there makes it, a delete of it is fine, and
//! so is the creation of what exists, so that a replay over later data converges. Inserts and updates need
//! their collection: without it the rest of the command is not done (code 26). Only inserts, updates and
//! deletes may stand together: with a command among them the rights of a superuser are asked for. For the rest
//! those of the operations are enough.

use std::collections::BTreeSet;

use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};

use super::Target;
use super::shape::NOT_FOUND;
use crate::base::error::{Error, Kind, Result};
use crate::mongo::errors;
use crate::mongo::errors::Class;

/// The server's code for a command that it does not know.
pub(super) const NO_COMMAND: i32 = 59;
/// A collection that nobody has.
const PROBE: &str = "uzima_backup_probe";

/// The result of applying operations.
#[derive(Debug, Default)]
pub struct Applied {
    /// The places of the operations that were left out because their namespace is not there.
    pub left_out: Vec<usize>,
    /// The place of the operation that the server refused, and why. Later operations were not applied.
    pub refused: Option<(usize, Error)>,
}

impl Target {
    /// Asks whether the user may apply operations in these databases; nothing is changed by it.
    ///
    /// # Errors
    /// If not, or if the server cannot, with what would help.
    pub async fn may_apply(&self, databases: &BTreeSet<String>) -> Result<()> {
        for db in databases {
            let ns = format!("{db}.{PROBE}");
            let delete = rawdoc! {"op": "d", "ns": ns.as_str(), "o": {"_id": 0}};
            let update = rawdoc! {"op": "u", "ns": ns, "o2": {"_id": 0}, "o": {"_id": 0}};
            // Rights are asked for before anything is looked for.
            let operations = [delete, update];
            match self.insist("admin", || self.operations(&operations)).await.answer {
                Ok(_) => {}
                Err(e) if errors::code(&e) == Some(NOT_FOUND) => {}
                Err(e) if errors::code(&e) == Some(NO_COMMAND) => {
                    let error = Error::failed(format!(
                        "MongoDB at {} has no applyOps, by which an oplog is replayed: it is a mongos or no MongoDB",
                        self.address
                    ));
                    return Err(error.caused_by(errors::tidy(&e)).hint(
                        "Restore into a replica set, or without the oplog: --no-replay; then each collection is \
                         as it was when it was read",
                    ));
                }
                Err(e) => return Err(self.explain_apply("cannot replay the oplog", e)),
            }
        }
        Ok(())
    }

    /// Applies operations in their order: inserts, updates and deletes, or one command. Stops at the first one
    /// that the server refuses.
    ///
    /// # Errors
    /// Returns an error if operations on other namespaces would fail as well.
    pub async fn apply(&self, operations: &[RawDocumentBuf]) -> Result<Applied> {
        let mut applied = Applied::default();
        let (mut from, mut alone) = (0, false);
        while from < operations.len() {
            let to = if alone { from + 1 } else { operations.len() };
            let rest = &operations[from..to];
            let error = match self.change("admin", || self.operations(rest)).await.answer {
                Ok(answer) => {
                    acknowledged(&answer)?;
                    from = to;
                    continue;
                }
                Err(error) => error,
            };
            let failed = error.server_response().and_then(|answer| first_failure(answer));
            let Some(failed) = failed.or((rest.len() == 1).then_some(0)).filter(|at| *at < rest.len()) else {
                // The answer does not say which operation is refused. Each of them may be applied twice.
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
            let error =
                self.explain_apply(&format!("cannot apply an operation '{op}' of the oplog to {ns}"), error);
            if error.kind() != Kind::Refused {
                return Err(error);
            }
            applied.refused = Some((from, error));
            break;
        }
        Ok(applied)
    }

    /// Runs a command in a database. Returns false if the server refused it with one of the codes `fine`.
    ///
    /// # Errors
    /// Returns an error if the server refused the command with another code, or did not answer.
    pub async fn command(&self, db: &str, command: &RawDocument, doing: &str, fine: &[i32]) -> Result<bool> {
        let mut command = command.to_owned();
        command.append(bson::raw::cstr!("writeConcern"), self.concern.clone());
        match self.change(db, || command.clone()).await.answer {
            Err(e) if errors::code(&e).is_some_and(|code| fine.contains(&code)) => Ok(false),
            done => done.map(|_| true).map_err(|e| self.explain_apply(doing, e)),
        }
    }

    fn operations(&self, operations: &[RawDocumentBuf]) -> RawDocumentBuf {
        let mut array = RawArrayBuf::new();
        operations.iter().for_each(|operation| array.push(operation.clone()));
        rawdoc! {
            "applyOps": array,
            // Each on its own: all at once they would be one entry of the target's oplog, and too long for it.
            "allowAtomic": false,
            "bypassDocumentValidation": true,
            "writeConcern": self.concern.clone(),
        }
    }

    fn explain_apply(&self, doing: &str, error: mongodb::error::Error) -> Error {
        let unauthorized = errors::classify(&error) == Class::Unauthorized;
        let error = self.explain(doing, error);
        if !unauthorized {
            return match error.kind() {
                Kind::Refused => error.hint("If it fails again, --no-replay restores without the oplog"),
                _ => error,
            };
        }
        let (user, db) = self.user.as_ref().map_or(("…", "admin"), |user| (&user.name, &user.db));
        error.hint(format!(
            "The role \"restore\" does not allow updates and deletes: \
             db.getSiblingDB(\"{db}\").grantRolesToUser({user:?}, [{}]); \
             or restore without the oplog: --no-replay",
            errors::granted("readWriteAnyDatabase", db)
        ))
    }
}

/// The first operation that was not done, of an answer with the outcome of each.
fn first_failure(answer: &RawDocument) -> Option<usize> {
    let results = answer.get_array("results").ok()?;
    results.into_iter().flatten().position(|done| done.as_bool() == Some(false))
}

fn acknowledged(answer: &bson::Document) -> Result<()> {
    match answer.get_document("writeConcernError") {
        Ok(error) => Err(Error::failed("what was replayed of the oplog was not acknowledged")
            .caused_by(error.get_str("errmsg").unwrap_or_default().to_string())),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_was_not_done() {
        let answer = rawdoc! {"applied": 2, "results": [true, false], "ok": 0.0};
        assert_eq!(first_failure(&answer), Some(1));
        assert_eq!(first_failure(&rawdoc! {"ok": 0.0}), None);
    }
}
