//! Drops and creates namespaces with all their options, and builds indexes.

use std::time::Duration;

use bson::raw::{CStr, cstr};
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};

use mongodb::error::{Error as Driver, Result as Answer};

use super::insert::id_text;
use super::{RestoreTarget, ServerVersion};
use crate::base::error::{Error, Kind, Result};
use crate::model::namespace::{Namespace, Type};
use crate::mongo::{errors, meaning};

/// NamespaceNotFound.
pub(super) const NOT_FOUND: i32 = 26;
/// NamespaceExists.
pub(super) const EXISTS: i32 = 48;
/// Pauses in milliseconds between attempts to drop and create a namespace that another client creates again.
const PAUSES_MS: [u64; 5] = [0, 50, 100, 200, 400];
const LEVEL: &str = "validationLevel";
/// The most documents that a message names.
const NAMED: i32 = 5;
/// Building the indexes of a large collection may take any time.
const NO_LIMIT: Duration = Duration::MAX;

impl RestoreTarget {
    /// Deletes all documents of a system collection, which cannot be dropped. The role `restore` does not
    /// allow it.
    pub(crate) async fn empty(&self, db: &str, collection: &str) -> Result<()> {
        let all = rawdoc! {"q": {}, "limit": 0};
        let command = rawdoc! {"delete": collection, "deletes": [all], "writeConcern": self.concern.clone()};
        let done = self.change(db, command).await.map(drop);
        done.map_err(|e| self.explain_beyond(format_args!("cannot empty {db}.{collection}"), e))
    }

    /// Lets a time series hold buckets in which a field has values of several types, as old servers wrote
    /// them.
    pub(crate) async fn allow_mixed_buckets(&self, db: &str, collection: &str) -> Result<()> {
        let command = rawdoc! {"collMod": collection, "timeseriesBucketsMayHaveMixedSchemaData": true};
        self.run(db, command).await.map(drop).map_err(|e| self.cannot_change(db, collection, e))
    }

    /// Drops a database, if it exists.
    pub(crate) async fn drop_database(&self, db: &str) -> Result<()> {
        let command = rawdoc! {"dropDatabase": 1, "writeConcern": self.concern.clone()};
        let step = "Give the user the built-in role \"dbAdminAnyDatabase\" as well";
        let done = self.run(db, command).await.map(drop);
        done.map_err(|e| self.explain_right(format_args!("cannot drop the database {db}"), e, step))
    }

    /// Drops a namespace, if it exists.
    pub(crate) async fn drop_namespace(&self, db: &str, collection: &str) -> Result<()> {
        let command = rawdoc! {"drop": collection, "writeConcern": self.concern.clone()};
        match self.change(db, command).await {
            Err(e) if errors::code(&e) != Some(NOT_FOUND) => {
                Err(self.explain(format_args!("cannot drop {db}.{collection}"), e))
            }
            _ => Ok(()),
        }
    }

    /// Creates `namespace` under this name. With `exists`, drops the existing namespace first. With `drop`,
    /// also drops a namespace that appears between drop and create: a late request of an earlier restore, or
    /// the insert of another client, can create it.
    pub(crate) async fn make(
        &self,
        namespace: &Namespace,
        db: &str,
        collection: &str,
        drop: bool,
        exists: bool,
    ) -> Result<()> {
        let mut drops = exists;
        for pause in PAUSES_MS {
            if drops {
                self.drop_namespace(db, collection).await?;
            }
            let error = match self.create(namespace, db, collection).await? {
                None => return Ok(()),
                Some(error) => error,
            };
            if !drop {
                return Err(
                    error.hint(format!("Another client has created {db}.{collection}: stop it first"))
                );
            }
            drops = true;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        let what = format!(
            "cannot create {db}.{collection}: another client is writing to it, and its writes create the collection \
             again after each of {} drops",
            PAUSES_MS.len()
        );
        Err(Error::new(Kind::Refused, what)
            .hint(format!("Stop the application that writes to {db}.{collection}")))
    }

    /// Creates a namespace. Returns an error value if another namespace has the name.
    async fn create(&self, namespace: &Namespace, db: &str, collection: &str) -> Result<Option<Error>> {
        let mut command = create(namespace, collection, self.version);
        command.append(cstr!("writeConcern"), self.concern.clone());
        let (answer, repeated) = self.change_repeated(db, || command.clone()).await;
        let doing = format!("cannot create {db}.{collection}");
        match answer {
            Ok(_) => Ok(None),
            Err(e) if errors::code(&e) == Some(EXISTS) => {
                // If the command was sent twice, the first one may have created it.
                let ours = repeated && self.is_as(namespace, db, collection).await?;
                Ok((!ours).then(|| self.explain(&doing, e)))
            }
            Err(e) => Err(self.explain(&doing, e)),
        }
    }

    /// Sets the validation level of an empty collection from `constraint` (9.0) to `strict`, so that inserts
    /// can bypass the validator.
    pub(crate) async fn relax(&self, db: &str, collection: &str) -> Result<()> {
        let answer = self.level(db, collection, "strict").await;
        answer.map_err(|e| self.cannot_change(db, collection, e))
    }

    /// Sets the validation level `constraint` that a collection had. With it the server lets no insert bypass
    /// the validator, so it is set after all documents are inserted. If a document breaks the validator, the
    /// server refuses (12370902), and the returned text names the first such documents.
    pub(crate) async fn constrain(
        &self,
        namespace: &Namespace,
        db: &str,
        collection: &str,
    ) -> Result<Option<String>> {
        let error = match self.level(db, collection, "constraint").await {
            Ok(()) => return Ok(None),
            // The oplog slice dropped the collection.
            Err(e) if errors::code(&e) == Some(NOT_FOUND) => return Ok(None),
            Err(e) if ends_all(&e) => return Err(self.cannot_change(db, collection, e)),
            Err(e) => errors::tidy(&e),
        };
        let mut breaking = Vec::new();
        if let Ok(validator) = namespace.options.get_document("validator") {
            let find = rawdoc! {
                "find": collection, "filter": {"$nor": [validator.to_owned()]}, "projection": {"_id": 1}, "limit": NAMED,
            };
            breaking = self.find(db, find).await?;
        }
        let id = |document: &RawDocumentBuf| document.get("_id").ok().flatten().map(id_text);
        let ids: Vec<String> = breaking.iter().filter_map(id).collect();
        let which = match ids.is_empty() {
            true => String::new(),
            false => format!("; the _id of documents that break its validator: {}", ids.join(", ")),
        };
        Ok(Some(format!("its validationLevel is \"strict\" and not \"constraint\": {error}{which}")))
    }

    async fn level(&self, db: &str, collection: &str, level: &str) -> Answer<()> {
        let concern = self.concern.clone();
        let command = rawdoc! {"collMod": collection, "validationLevel": level, "writeConcern": concern};
        self.change(db, command).await.map(drop)
    }

    fn cannot_change(&self, db: &str, collection: &str, error: Driver) -> Error {
        self.explain(format_args!("cannot change {db}.{collection}"), error)
    }

    /// Returns true if a namespace of this name has the options of `namespace`.
    async fn is_as(&self, namespace: &Namespace, db: &str, collection: &str) -> Result<bool> {
        let rows = self.collections(db).await?;
        let row = rows.iter().find(|row| row.get_str("name").is_ok_and(|name| name == collection));
        let same = row.and_then(|row| row.get_document("options").ok());
        Ok(same.is_some_and(|options| meaning::same_options(options, &namespace.options)))
    }

    /// Builds indexes without a time limit. Returns a line for each index that the server refuses.
    pub(crate) async fn index(
        &self,
        indexes: &[RawDocumentBuf],
        db: &str,
        collection: &str,
    ) -> Result<Vec<String>> {
        let cannot = |e| self.explain(format_args!("cannot build the indexes of {db}.{collection}"), e);
        match self.build(indexes, db, collection).await {
            Ok(()) => return Ok(Vec::new()),
            Err(e) if ends_all(&e) => return Err(cannot(e)),
            Err(e) if indexes.len() == 1 => return Ok(vec![refused(&indexes[0], &e)]),
            // One index is refused. The others are built one by one.
            Err(_) => {}
        }
        let mut problems = Vec::new();
        for index in indexes {
            match self.build(std::slice::from_ref(index), db, collection).await {
                Ok(()) => {}
                Err(e) if ends_all(&e) => return Err(cannot(e)),
                Err(e) => problems.push(refused(index, &e)),
            }
        }
        Ok(problems)
    }

    async fn build(&self, indexes: &[RawDocumentBuf], db: &str, collection: &str) -> Answer<()> {
        if indexes.is_empty() {
            return Ok(());
        }
        let indexes: RawArrayBuf = indexes.iter().cloned().collect();
        let command =
            rawdoc! {"createIndexes": collection, "indexes": indexes, "writeConcern": self.concern.clone()};
        // Sending it again is harmless: existing indexes stay, and the server waits for an index that it is
        // building.
        self.insist_for(NO_LIMIT, db, || command.clone()).await.0.map(drop)
    }
}

/// Returns true if no insert can bypass the collection's validator (`validationLevel: "constraint"`, 9.0).
pub(crate) fn is_constrained(namespace: &Namespace) -> bool {
    namespace.options.get_str(LEVEL).is_ok_and(|level| level == "constraint")
}

/// Returns true if other indexes would fail with the same error.
fn ends_all(error: &Driver) -> bool {
    errors::code(error).is_none() || super::ends_all(error)
}

fn refused(index: &RawDocument, error: &Driver) -> String {
    format!("the index '{}' cannot be built: {}", index.get_str("name").unwrap_or("?"), errors::tidy(error))
}

/// Options that `create` refuses and that a restored collection does not need. `recordIdsReplicated` is
/// internal to the server. A temporary collection would be dropped when the server restarts;
/// `listCollections` shows `temp`, and `create` refuses it (code 72 on 4.4.2 to 6.0.27). The others belong to
/// the MMAPv1 engine, in dumps of servers before 4.2.
pub(crate) const DROPPED: [&str; 5] =
    ["recordIdsReplicated", "temp", "flags", "usePowerOf2Sizes", "paddingFactor"];

/// The `create` command with every option that the target accepts. Source: mongo-tools,
/// `mongorestore/metadata.go`.
pub(super) fn create(namespace: &Namespace, collection: &str, version: ServerVersion) -> RawDocumentBuf {
    let mut command = rawdoc! {"create": collection};
    let mut own_index = namespace.kind != Type::Collection;
    for (key, value) in namespace.options.iter().flatten() {
        match key.as_str() {
            key if DROPPED.contains(&key) => continue,
            "autoIndexId" if version >= ServerVersion(8, 2, 0) => continue,
            // "'idIndex' is not allowed with 'autoIndexId'" (code 72 on 4.4.2 to 6.0.27).
            "autoIndexId" => {
                own_index = true;
                command.append(key, true);
            }
            "clusteredIndex" => {
                own_index = true;
                command.append(key, value);
            }
            // [`RestoreTarget::constrain`] sets the level after the documents are inserted.
            LEVEL if is_constrained(namespace) => command.append(key, "strict"),
            _ => command.append(key, value),
        }
    }
    let id = namespace.indexes.iter().find(|index| is_id(index));
    if let Some(id) = id.filter(|_| !own_index) {
        command.append(cstr!("idIndex"), without(id, &["v", "ns"]));
    }
    command
}

/// The indexes to build: all except the index on `_id`, with every option.
pub(crate) fn indexes(namespace: &Namespace) -> Vec<RawDocumentBuf> {
    built(&namespace.indexes, namespace.options.get_document("collation").is_ok())
}

/// The same for a list of indexes. An index inherits the collection's collation, so an index without a
/// collation gets the simple one.
pub(crate) fn built(indexes: &[RawDocumentBuf], collated: bool) -> Vec<RawDocumentBuf> {
    let one = |index: &RawDocumentBuf| {
        let mut out = without(index, &["v", "ns"]);
        // MongoDB 2.4 wrote no version for version 1. Later servers would build version 3.
        let spherical = |value| value == bson::RawBsonRef::String("2dsphere");
        if index.get_document("key").is_ok_and(|key| key.iter().flatten().any(|(_, value)| spherical(value)))
            && matches!(index.get("2dsphereIndexVersion"), Ok(None))
        {
            out.append(cstr!("2dsphereIndexVersion"), 1);
        }
        if collated && index.get_document("collation").is_err() {
            out.append(cstr!("collation"), rawdoc! {"locale": "simple"});
        }
        out
    };
    let wanted = |index: &&RawDocumentBuf| !is_own(index) && index.get_document("key").is_ok();
    indexes.iter().filter(wanted).map(one).collect()
}

/// Returns true if the server creates the index together with its collection.
pub(crate) fn is_own(index: &RawDocumentBuf) -> bool {
    is_id(index) || is_clustered(index)
}

/// Returns true for the ascending index on `_id`.
fn is_id(index: &RawDocument) -> bool {
    index.get_document("key").is_ok_and(is_ascending_id) && !is_clustered(index)
}

/// Returns true for the key `{_id: 1}`.
pub(super) fn is_ascending_id(key: &RawDocument) -> bool {
    let mut fields = key.iter().flatten();
    let first = |(name, value): (&CStr, _)| name == "_id" && meaning::number(value) == Some(1.0);
    fields.next().is_some_and(first) && fields.next().is_none()
}

fn is_clustered(index: &RawDocument) -> bool {
    index.get_bool("clustered").unwrap_or(false)
}

fn without(document: &RawDocument, keys: &[&str]) -> RawDocumentBuf {
    document.iter().flatten().filter(|(key, _)| !keys.contains(&key.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dumpformat::metadata;

    fn namespace(text: &str) -> Namespace {
        metadata::parse("shop", "c", text).unwrap()
    }

    #[test]
    fn create_keeps_all_options_and_the_id_index_without_its_version() {
        let ns = namespace(
            r#"{"options":{"autoIndexId":false,"collation":{"locale":"fr"}},"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_","collation":{"locale":"fr"}},{"v":{"$numberInt":"2"},"key":{"a":{"$numberInt":"1"}},"name":"a"}]}"#,
        );
        let command = create(&ns, "d", ServerVersion(6, 0, 5));
        let want = rawdoc! {
            "create": "d", "autoIndexId": true, "collation": {"locale": "fr"},
        };
        assert_eq!(command, want);
        let want = rawdoc! {
            "create": "d", "collation": {"locale": "fr"},
            "idIndex": {"key": {"_id": 1}, "name": "_id_", "collation": {"locale": "fr"}},
        };
        assert_eq!(create(&ns, "d", ServerVersion(8, 2, 0)), want);
        let want = rawdoc! {"key": {"a": 1}, "name": "a", "collation": {"locale": "simple"}};
        assert_eq!(indexes(&ns), [want]);
    }

    #[test]
    fn a_2dsphere_index_without_a_version_gets_version_1() {
        let one = |index: RawDocumentBuf| built(&[index], false).remove(0);
        let old = rawdoc! {"v": 1, "key": {"a": 1, "loc": "2dsphere"}, "name": "loc"};
        let want = rawdoc! {"key": {"a": 1, "loc": "2dsphere"}, "name": "loc", "2dsphereIndexVersion": 1};
        assert_eq!(one(old), want);
        let new = rawdoc! {"key": {"loc": "2dsphere"}, "name": "loc", "2dsphereIndexVersion": 3};
        assert_eq!(one(new.clone()), new);
        let text = rawdoc! {"key": {"_fts": "text", "_ftsx": 1}, "name": "t"};
        assert_eq!(one(text.clone()), text);
    }

    #[test]
    fn a_clustered_collection_has_no_id_index() {
        let ns = namespace(
            r#"{"options":{"clusteredIndex":{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"mine","unique":true}},"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"mine","unique":true,"clustered":true}]}"#,
        );
        assert!(create(&ns, "c", ServerVersion(6, 0, 5)).get("idIndex").unwrap().is_none());
        assert_eq!(indexes(&ns).len(), 0);
    }
}
