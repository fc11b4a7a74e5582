//! The marks of restores: documents at the target that say what a restore made or moved, so that a later run can go on with an
//! interrupted restore, or take it back. They are in a collection of the database of the records.
//!
//! A mark says which namespace it means by the namespace's [identity](RestoreTarget::identities), because another client may drop a
//! namespace and create another one with the same name.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};
use xxhash_rust::xxh3::xxh3_128;

use super::rights::Right;
use super::{RestoreTarget, acknowledged, number};
use crate::base::error::{Error, Kind, Result};
use crate::config::selection::RECORDS_DB;
use crate::model::namespace::BUCKETS;
use crate::mongo::commands::uuid_of;
use crate::mongo::errors;

/// The collection of the marks.
const MARKS: &str = "restores";
/// The same with its database, for messages.
pub(crate) const MARKS_NAME: &str = "uzima_backup.restores";
/// The beginning of the identity of a view.
const VIEW: &str = "view ";
/// DuplicateKey.
const DUPLICATE: i32 = 11000;
/// How often the removal of a mark is tried. A mark that stays would let a later run drop what this one restored.
const REMOVALS: usize = 3;

/// The identities of namespaces by their names.
pub(crate) type Identities = BTreeMap<String, String>;

/// Returns true for the collection of the marks. It belongs to its server: no restore drops or restores it.
pub(crate) fn is_marks(db: &str, collection: &str) -> bool {
    db == RECORDS_DB && collection == MARKS
}

impl RestoreTarget {
    /// Returns true if the user may read, write and remove marks. Changes nothing.
    pub(crate) async fn may_mark(&self) -> Result<bool> {
        let needs = [(Right::Mark, (RECORDS_DB.to_string(), MARKS.to_string()))];
        Ok(self.lacking(&needs).await?.is_empty())
    }

    /// The command that gives the user the right to write marks.
    pub(crate) fn grant_of_marks(&self) -> String {
        let (user, db) = self.user_and_db();
        format!(
            "db.getSiblingDB({db:?}).grantRolesToUser({user:?}, [{{role: \"readWrite\", db: {RECORDS_DB:?}}}])"
        )
    }

    /// Writes a mark. Without `new`, it replaces the one with its `_id`. Returns false if there is none.
    pub(crate) async fn write_mark(&self, mark: RawDocumentBuf, new: bool) -> Result<bool> {
        let id = mark.get_str("_id").unwrap_or_default().to_string();
        let update = rawdoc! {"q": {"_id": id}, "u": mark, "upsert": new};
        // Without its mark, nothing can be moved.
        self.update_mark(update, true).await.map_err(|error| error.of_kind(Kind::Failed))
    }

    /// Writes the first document of a new mark, with the time of the server's clock.
    pub(crate) async fn begin_mark(&self, id: &str, mark: RawDocumentBuf) -> Result<()> {
        let set: RawDocumentBuf =
            mark.iter().flatten().filter(|(key, _)| !["_id", "changed_at"].contains(&key.as_str())).collect();
        let update = rawdoc! {"q": {"_id": id}, "u": dated(set), "upsert": true};
        self.update_mark(update, false).await.map(drop)
    }

    /// Sets fields of the mark `id`, and the time of its last change, by the server's clock. Returns false if the mark does not belong
    /// to `run`.
    pub(crate) async fn change_mark(&self, id: &str, run: ObjectId, set: RawDocumentBuf) -> Result<bool> {
        let update = rawdoc! {"q": {"_id": id, "run": run}, "u": dated(set)};
        self.update_mark(update, false).await
    }

    async fn update_mark(&self, update: RawDocumentBuf, counts: bool) -> Result<bool> {
        let command = rawdoc! {"update": MARKS, "updates": [update], "writeConcern": self.concern.clone()};
        // The mark of a restore is no change of the data: a restore that wrote only its mark has changed nothing.
        let answer = match counts {
            true => self.change(RECORDS_DB, command).await,
            false => self.insist(RECORDS_DB, command).await,
        };
        let answer = answer.map_err(|e| self.explain_mark("mark the restore", e))?;
        refused(&answer)?;
        acknowledged(&answer, "the mark of the restore was")?;
        Ok(number(&answer, "n") > 0)
    }

    /// Removes the documents that were added to a mark, except these.
    pub(crate) async fn remove_added(&self, id: &str, except: &[ObjectId]) -> Result<()> {
        let except: RawArrayBuf = except.iter().copied().collect();
        let old = rawdoc! {"q": {"of": id, "_id": {"$nin": except}}, "limit": 0};
        let command = rawdoc! {"delete": MARKS, "deletes": [old], "writeConcern": self.concern.clone()};
        let answer = self.insist(RECORDS_DB, command).await;
        refused(&answer.map_err(|e| self.explain_mark("change the mark of the restore", e))?)
    }

    /// Adds a document to a mark. It waits for one member only: without the document, a later run drops less.
    pub(crate) async fn insert_mark(&self, document: RawDocumentBuf, quick: bool) -> Result<()> {
        let concern = if quick {
            rawdoc! {"w": 1}
        } else {
            self.concern.clone()
        };
        let command = rawdoc! {"insert": MARKS, "documents": [document], "writeConcern": concern};
        let answer = self.insist(RECORDS_DB, command).await;
        let answer = answer.map_err(|e| self.explain_mark("mark the restore", e))?;
        refused(&answer)
    }

    /// Removes a mark of a swap.
    pub(crate) async fn remove_mark(&self, id: &str) -> Result<()> {
        self.remove_marks(&[id]).await
    }

    /// Removes marks, with the documents that were added to them. Drops the collection of the marks if none is left.
    pub(crate) async fn remove_marks(&self, ids: &[&str]) -> Result<()> {
        removing(async || self.try_to_remove(ids).await).await
    }

    /// Removes a mark, with the documents that were added to it, if it belongs to `run` or is gone already. Returns false if it belongs to
    /// another run.
    pub(crate) async fn remove_mark_of(&self, id: &str, run: ObjectId) -> Result<bool> {
        match removing(async || self.remove_first(id, run).await).await? {
            true => self.remove_marks(&[id]).await.map(|()| true),
            false => Ok(false),
        }
    }

    /// Removes the first document of a mark. Returns false if it belongs to another run.
    async fn remove_first(&self, id: &str, run: ObjectId) -> Result<bool> {
        let own = rawdoc! {"q": {"_id": id, "run": run}, "limit": 1};
        let command = rawdoc! {"delete": MARKS, "deletes": [own], "writeConcern": self.concern.clone()};
        let done = self.insist(RECORDS_DB, command).await;
        let answer = done.map_err(|e| self.explain_mark("remove the mark of the restore", e))?;
        refused(&answer)?;
        if number(&answer, "n") > 0 {
            return Ok(true);
        }
        // A delete that was sent twice removed it the first time.
        let left =
            self.documents(RECORDS_DB, rawdoc! {"find": MARKS, "filter": {"_id": id}, "limit": 1}).await;
        Ok(left.map_err(|e| self.explain_mark("read the marks of restores", e))?.is_empty())
    }

    async fn try_to_remove(&self, ids: &[&str]) -> Result<()> {
        let all = || ids.iter().copied().collect::<RawArrayBuf>();
        let mut deletes = RawArrayBuf::new();
        // Further documents without the first one are ignored.
        deletes.push(rawdoc! {"q": {"_id": {"$in": all()}}, "limit": 0});
        deletes.push(rawdoc! {"q": {"of": {"$in": all()}}, "limit": 0});
        let command = rawdoc! {"delete": MARKS, "deletes": deletes, "writeConcern": self.concern.clone()};
        let done = self.insist(RECORDS_DB, command).await;
        let answer = done.map_err(|e| self.explain_mark("remove the mark of the restore", e))?;
        refused(&answer)?;
        let one = self.documents(RECORDS_DB, rawdoc! {"find": MARKS, "limit": 1}).await;
        if one.map_err(|e| self.explain_mark("read the marks of restores", e))?.is_empty() {
            let command = rawdoc! {"drop": MARKS, "writeConcern": self.concern.clone()};
            match self.insist(RECORDS_DB, command).await {
                // A user who may not drop it leaves it empty.
                Err(e) if errors::classify(&e) == errors::Class::Unauthorized => {}
                Err(e) if errors::code(&e) == Some(super::collections::NOT_FOUND) => {}
                done => drop(done.map_err(|e| self.explain_mark("drop the empty collection of marks", e))?),
            }
        }
        Ok(())
    }

    /// All marks, by `_id`.
    pub(crate) async fn marks(&self) -> Result<Vec<RawDocumentBuf>> {
        let found = self.documents(RECORDS_DB, rawdoc! {"find": MARKS, "sort": {"_id": 1}}).await;
        found.map_err(|e| self.explain_mark("read the marks of earlier restores", e))
    }

    /// The identities of these namespaces, as far as they exist: of a collection its UUID, of a time series the UUID of its buckets,
    /// and of a view, which has no data, a hash of its definition.
    pub(crate) async fn identities(&self, db: &str, names: &[&str]) -> Result<Identities> {
        let mut wanted: RawArrayBuf = names.iter().copied().collect();
        names.iter().for_each(|name| wanted.push(format!("{BUCKETS}{name}")));
        let listing = rawdoc! {"listCollections": 1, "filter": {"name": {"$in": wanted}}, "cursor": {"batchSize": 10_000}};
        let rows = match self.documents(db, listing).await {
            Ok(rows) => rows,
            // An invalid view, around which the whole database can be listed.
            Err(_) => self.collections(db).await?,
        };
        let mut found = identities_in(&rows);
        found.retain(|name, _| names.contains(&name.as_str()));
        Ok(found)
    }

    /// The identity of a namespace; `None` if it does not exist.
    pub(crate) async fn identity(&self, db: &str, name: &str) -> Result<Option<String>> {
        Ok(self.identities(db, &[name]).await?.remove(name))
    }

    /// The identities of all namespaces of a database.
    pub(crate) async fn all_identities(&self, db: &str) -> Result<Identities> {
        Ok(identities_in(&self.collections(db).await?))
    }

    /// Checks that a namespace still has this identity, or does not exist any more.
    ///
    /// # Errors
    /// Returns an error of the kind `Refused` if another namespace has its name.
    pub(crate) async fn check_identity(&self, db: &str, name: &str, identity: &str) -> Result<()> {
        match self.identity(db, name).await? {
            Some(other) if other != identity => {
                let what = format!("{db}.{name} is not the one that the interrupted restore made any more");
                Err(Error::new(Kind::Refused, what)
                    .hint(format!("Another client dropped and created {db}.{name}: stop it first")))
            }
            _ => Ok(()),
        }
    }

    /// Drops a namespace if it has this identity. Returns false if it has not.
    pub(crate) async fn drop_identified(&self, db: &str, name: &str, identity: &str) -> Result<bool> {
        let is = self.identity(db, name).await?.is_some_and(|found| found == identity);
        match is {
            // It cannot be dropped (code 20 on 6.0.5).
            true if name.starts_with("system.") => self.empty(db, name).await?,
            true => self.drop_namespace(db, name).await?,
            false => {}
        }
        Ok(is)
    }

    /// Creates a system collection. A server that refuses this creates it with the first document.
    pub(crate) async fn create_system(&self, db: &str, collection: &str) -> Result<()> {
        match self.create_empty(db, collection).await {
            Err(error) if error.kind() == Kind::Refused => Ok(()),
            done => done,
        }
    }

    fn explain_mark(&self, doing: &str, error: mongodb::error::Error) -> Error {
        let doing = format!("cannot {doing} in {MARKS_NAME}");
        let step = format!("Give the user the right to write there: {}", self.grant_of_marks());
        self.explain_right(doing, error, &step)
    }
}

/// Tries a removal up to [`REMOVALS`] times.
async fn removing<T>(attempt: impl AsyncFn() -> Result<T>) -> Result<T> {
    let mut tried = attempt().await;
    for _ in 1..REMOVALS {
        if tried.is_err() {
            tried = attempt().await;
        }
    }
    tried.map_err(|error| error.of_kind(Kind::Failed))
}

/// An update that sets fields, and the time of the last change.
fn dated(set: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! {"$set": set, "$currentDate": {"changed_at": true}}
}

/// The error of a write that the server refused, although it carried out the command.
fn refused(answer: &bson::Document) -> Result<()> {
    let errors = answer.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
    let first = errors.iter().filter_map(|error| error.as_document());
    // A command that was sent twice.
    let mut first = first.filter(|error| number(error, "code") as i32 != DUPLICATE);
    let Some(error) = first.next() else { return Ok(()) };
    let why = error.get_str("errmsg").unwrap_or("no reason given").to_string();
    Err(Error::new(Kind::Refused, format!("the mark of the restore cannot be written to {MARKS_NAME}"))
        .caused_by(why))
}

fn identities_in(rows: &[RawDocumentBuf]) -> Identities {
    let uuid = |row: &RawDocumentBuf| Some((row.get_str("name").ok()?.to_string(), uuid_of(row)?));
    let uuids: Identities = rows.iter().filter_map(uuid).collect();
    let identity = |row: &RawDocumentBuf| {
        let name = row.get_str("name").ok()?;
        let identity = match row.get_str("type").ok()? {
            "view" => view_identity(&options(row)),
            // Buckets that have no collection of their own belong to the time series itself (9.0).
            "timeseries" => uuids.get(&format!("{BUCKETS}{name}")).or_else(|| uuids.get(name))?.clone(),
            _ => uuids.get(name)?.clone(),
        };
        Some((name.to_string(), identity))
    };
    rows.iter().filter_map(identity).collect()
}

/// The identity of a view with this definition.
pub(crate) fn view_identity(options: &RawDocument) -> String {
    format!("{VIEW}{:032x}", xxh3_128(options.as_bytes()))
}

/// Returns true if an identity is that of a view.
pub(crate) fn is_of_view(identity: &str) -> bool {
    identity.starts_with(VIEW)
}

fn options(row: &RawDocument) -> RawDocumentBuf {
    row.get_document("options").map(ToOwned::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bson::Binary;
    use bson::spec::BinarySubtype;

    use super::*;

    fn row(name: &str, kind: &str, info: RawDocumentBuf) -> RawDocumentBuf {
        rawdoc! {"name": name, "type": kind, "options": {"viewOn": name}, "info": info}
    }

    #[test]
    fn a_namespace_has_the_identity_of_its_data_or_of_its_definition() {
        let uuid = |byte: u8| {
            let uuid = Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] };
            rawdoc! {"uuid": uuid}
        };
        let rows = [
            row("c", "collection", uuid(1)),
            row("s", "timeseries", rawdoc! {}),
            row("system.buckets.s", "collection", uuid(2)),
            row("v", "view", rawdoc! {}),
            row("w", "view", rawdoc! {}),
            row("x", "collection", rawdoc! {}),
        ];
        let found = identities_in(&rows);
        assert_eq!((found["c"].as_str(), found["s"].as_str()), (&*"01".repeat(16), &*"02".repeat(16)));
        assert!(found["v"].starts_with("view ") && found["v"] != found["w"]);
        assert_eq!(found.get("x"), None, "a collection without a UUID has no identity");
    }
}
