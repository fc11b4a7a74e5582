//! What is around documents: dropping, creating with every option, and indexes.

use std::time::Duration;

use bson::raw::cstr;
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc};

use super::insert::id_text;
use super::insist::Sent;
use super::{Target, Version};
use crate::base::error::{Error, Kind, Result};
use crate::model::namespace::{Namespace, Type};
use crate::mongo::errors;
use crate::mongo::meaning;

/// The server's code for what is not there.
pub(super) const NOT_FOUND: i32 = 26;
/// The server's code for what is there already.
pub(super) const EXISTS: i32 = 48;
/// The pauses after each try to drop and create a namespace that another client creates in between.
const PAUSES_MS: [u64; 5] = [0, 50, 100, 200, 400];
/// The option that says how strict a collection's validator is.
const LEVEL: &str = "validationLevel";
/// The most documents that are named for breaking a validator.
const NAMED: i32 = 5;
/// Building the indexes of a large collection takes as long as it takes.
const NO_LIMIT: Duration = Duration::MAX;

impl Target {
    /// Empties a system collection, which cannot be dropped; the role `restore` does not allow it.
    pub async fn empty(&self, db: &str, collection: &str) -> Result<()> {
        let all = rawdoc! {"q": {}, "limit": 0};
        let command = rawdoc! {"delete": collection, "deletes": [all], "writeConcern": self.concern.clone()};
        let done = self.change(db, || command.clone()).await.answer.map(|_| ());
        done.map_err(|e| self.explain_beyond(&format!("cannot empty {db}.{collection}"), e))
    }

    /// Lets a time series hold buckets in which a field has values of several types, as those have that an
    /// old server wrote.
    pub async fn allow_mixed_buckets(&self, db: &str, collection: &str) -> Result<()> {
        let command = rawdoc! {"collMod": collection, "timeseriesBucketsMayHaveMixedSchemaData": true};
        let done = self.run(db, command).await.map(|_| ());
        done.map_err(|e| self.explain(&format!("cannot change {db}.{collection}"), e))
    }

    /// Drops a database; one that is not there is a success.
    pub async fn drop_database(&self, db: &str) -> Result<()> {
        let command = rawdoc! {"dropDatabase": 1, "writeConcern": self.concern.clone()};
        let done = self.run(db, command).await.map(|_| ());
        done.map_err(|e| {
            let unauthorized = errors::classify(&e) == errors::Class::Unauthorized;
            let error = self.explain(&format!("cannot drop the database {db}"), e);
            match unauthorized {
                true => error.hint("Give the user the built-in role \"dbAdminAnyDatabase\" as well"),
                false => error,
            }
        })
    }

    /// Drops a namespace; one that is not there is a success.
    pub async fn drop_namespace(&self, db: &str, collection: &str) -> Result<()> {
        let command = rawdoc! {"drop": collection, "writeConcern": self.concern.clone()};
        match self.change(db, || command.clone()).await.answer {
            Ok(_) => Ok(()),
            Err(e) if errors::code(&e) == Some(NOT_FOUND) => Ok(()),
            Err(e) => Err(self.explain(&format!("cannot drop {db}.{collection}"), e)),
        }
    }

    /// Creates a namespace as `namespace` was, under this name. With `exists`, drops the existing namespace first. With
    /// `drop`, also drops a namespace that appears between drop and create: a late request of an earlier restore, or the
    /// insert of another client, can create it.
    pub async fn make(
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

    /// Creates a namespace. Fails if another namespace has its name.
    async fn create(&self, namespace: &Namespace, db: &str, collection: &str) -> Result<Option<Error>> {
        let mut command = create(namespace, collection, self.version);
        command.append(cstr!("writeConcern"), self.concern.clone());
        let Sent { answer, again } = self.change(db, || command.clone()).await;
        let doing = format!("cannot create {db}.{collection}");
        match answer {
            Ok(_) => Ok(None),
            Err(e) if errors::code(&e) == Some(EXISTS) => {
                // If the command was sent twice, the first one may have been carried out.
                let ours = again && self.is_as(namespace, db, collection).await?;
                Ok((!ours).then(|| self.explain(&doing, e)))
            }
            Err(e) => Err(self.explain(&doing, e)),
        }
    }

    /// Lets inserts bypass the validator of an empty collection with the validation level `constraint` (9.0).
    pub async fn relax(&self, db: &str, collection: &str) -> Result<()> {
        let answer = self.level(db, collection, "strict").await;
        answer.map_err(|e| self.explain(&format!("cannot change {db}.{collection}"), e))
    }

    /// Sets the validation level `constraint` that a collection had. With it the server lets no insert bypass the validator,
    /// so it can only be set after the documents are there. If a document breaks the validator, the server refuses
    /// (12370902), and the returned text names the first such documents.
    ///
    /// # Errors
    /// Returns an error if the server did not answer.
    pub async fn constrain(
        &self,
        namespace: &Namespace,
        db: &str,
        collection: &str,
    ) -> Result<Option<String>> {
        let error = match self.level(db, collection, "constraint").await {
            Ok(()) => return Ok(None),
            // The oplog slice dropped the collection.
            Err(e) if errors::code(&e) == Some(NOT_FOUND) => return Ok(None),
            Err(e) if ends_all(&e) => {
                return Err(self.explain(&format!("cannot change {db}.{collection}"), e));
            }
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

    async fn level(&self, db: &str, collection: &str, level: &str) -> mongodb::error::Result<()> {
        let concern = self.concern.clone();
        let command = rawdoc! {"collMod": collection, "validationLevel": level, "writeConcern": concern};
        self.change(db, || command.clone()).await.answer.map(|_| ())
    }

    /// Whether there is a namespace of this name with the options of `namespace`.
    async fn is_as(&self, namespace: &Namespace, db: &str, collection: &str) -> Result<bool> {
        let rows = self.collections(db).await?;
        let row = rows.iter().find(|row| row.get_str("name").is_ok_and(|name| name == collection));
        let same = row.and_then(|row| row.get_document("options").ok());
        Ok(same.is_some_and(|options| meaning::same_options(options, &namespace.options)))
    }

    /// Builds the indexes, however long that takes; those that the server did not take, with its words.
    pub async fn index(&self, indexes: &[RawDocumentBuf], db: &str, collection: &str) -> Result<Vec<String>> {
        if indexes.is_empty() {
            return Ok(Vec::new());
        }
        match self.build(indexes, db, collection).await {
            Ok(()) => return Ok(Vec::new()),
            Err(e) if ends_all(&e) => {
                return Err(self.explain(&format!("cannot build the indexes of {db}.{collection}"), e));
            }
            Err(e) if indexes.len() == 1 => return Ok(vec![refused(&indexes[0], &e)]),
            // One of them is not taken: the others are built all the same.
            Err(_) => {}
        }
        let mut problems = Vec::new();
        for index in indexes {
            match self.build(std::slice::from_ref(index), db, collection).await {
                Ok(()) => {}
                Err(e) if !ends_all(&e) => problems.push(refused(index, &e)),
                Err(e) => {
                    return Err(self.explain(&format!("cannot build the indexes of {db}.{collection}"), e));
                }
            }
        }
        Ok(problems)
    }

    async fn build(
        &self,
        indexes: &[RawDocumentBuf],
        db: &str,
        collection: &str,
    ) -> mongodb::error::Result<()> {
        let mut array = RawArrayBuf::new();
        indexes.iter().for_each(|index| array.push(index.clone()));
        let command =
            rawdoc! {"createIndexes": collection, "indexes": array, "writeConcern": self.concern.clone()};
        // Once more is no harm: those that are there are left as they are, and one that is being built is waited for.
        self.insist_for(NO_LIMIT, db, || command.clone()).await.answer.map(|_| ())
    }
}

/// Returns true if no insert can bypass a collection's validator (`validationLevel: "constraint"`, 9.0).
pub fn is_constrained(namespace: &Namespace) -> bool {
    namespace.options.get_str(LEVEL).is_ok_and(|level| level == "constraint")
}

/// Returns true if after this error no other index can be built either.
fn ends_all(error: &mongodb::error::Error) -> bool {
    use errors::Class::{Interrupted, Login};
    errors::code(error).is_none_or(|code| super::EVERYWHERE.contains(&code))
        || [Interrupted, Login].contains(&errors::classify(error))
}

fn refused(index: &RawDocument, error: &mongodb::error::Error) -> String {
    format!("the index '{}' cannot be built: {}", index.get_str("name").unwrap_or("?"), errors::tidy(error))
}

/// Options that `create` refuses and that a restored collection does not need. `recordIdsReplicated` is the server's
/// own business. A temporary collection would be dropped when the server restarts; `listCollections` shows `temp`, and
/// `create` refuses it (code 72 on 4.4.2 to 6.0.27). The rest are of the MMAPv1 engine, in dumps of servers before 4.2.
pub const DROPPED: [&str; 5] = ["recordIdsReplicated", "temp", "flags", "usePowerOf2Sizes", "paddingFactor"];

/// `create` with every option that the target may take. mongo-tools, `mongorestore/metadata.go`.
pub(super) fn create(namespace: &Namespace, collection: &str, version: Version) -> RawDocumentBuf {
    let mut command = rawdoc! {"create": collection};
    let mut own_index = namespace.kind != Type::Collection;
    for (key, value) in namespace.options.iter().flatten() {
        match key.as_str() {
            key if DROPPED.contains(&key) => continue,
            "autoIndexId" if version >= Version(8, 2, 0) => continue,
            // "'idIndex' is not allowed with 'autoIndexId'" (code 72 on 4.4.2 to 6.0.27).
            "autoIndexId" => {
                own_index = true;
                command.append(key, true);
            }
            "clusteredIndex" => {
                own_index = true;
                command.append(key, value);
            }
            // It is set when the documents are there.
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

/// The indexes to build once the data is there: all but the one on `_id`, with every option.
pub fn indexes(namespace: &Namespace) -> Vec<RawDocumentBuf> {
    built(&namespace.indexes, namespace.options.get_document("collation").is_ok())
}

/// The same of a list of indexes. A collection with a collation hands it down; an index that has none was built
/// without.
pub fn built(indexes: &[RawDocumentBuf], collated: bool) -> Vec<RawDocumentBuf> {
    let one = |index: &RawDocumentBuf| {
        let mut out = without(index, &["v", "ns"]);
        // MongoDB 2.4 wrote no version, which is 1; without one, later servers build version 3.
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

/// Whether an index comes with its collection.
pub fn is_own(index: &RawDocumentBuf) -> bool {
    is_id(index) || is_clustered(index)
}

/// Whether an index is the one that every collection has.
fn is_id(index: &RawDocumentBuf) -> bool {
    let Ok(key) = index.get_document("key") else { return false };
    let mut fields = key.iter().flatten();
    let one = |value: bson::RawBsonRef<'_>| match value {
        bson::RawBsonRef::Int32(n) => n == 1,
        bson::RawBsonRef::Int64(n) => n == 1,
        bson::RawBsonRef::Double(n) => n == 1.0,
        _ => false,
    };
    let first = fields.next().is_some_and(|(key, value)| key.as_str() == "_id" && one(value));
    first && fields.next().is_none() && !is_clustered(index)
}

fn is_clustered(index: &RawDocument) -> bool {
    index.get_bool("clustered").unwrap_or(false)
}

fn without(document: &RawDocument, keys: &[&str]) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    for (key, value) in document.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            out.append(key, value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dumpformat::metadata;

    fn namespace(text: &str) -> Namespace {
        metadata::parse("shop", "c", text).unwrap()
    }

    #[test]
    fn options_go_as_they_are_and_the_id_index_without_its_version() {
        let ns = namespace(
            r#"{"options":{"autoIndexId":false,"collation":{"locale":"fr"}},"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_","collation":{"locale":"fr"}},{"v":{"$numberInt":"2"},"key":{"a":{"$numberInt":"1"}},"name":"a"}]}"#,
        );
        let command = create(&ns, "d", Version(6, 0, 5));
        let want = rawdoc! {
            "create": "d", "autoIndexId": true, "collation": {"locale": "fr"},
        };
        assert_eq!(command, want);
        let want = rawdoc! {
            "create": "d", "collation": {"locale": "fr"},
            "idIndex": {"key": {"_id": 1}, "name": "_id_", "collation": {"locale": "fr"}},
        };
        assert_eq!(create(&ns, "d", Version(8, 2, 0)), want);
        let want = rawdoc! {"key": {"a": 1}, "name": "a", "collation": {"locale": "simple"}};
        assert_eq!(indexes(&ns), [want]);
    }

    #[test]
    fn a_2dsphere_index_without_a_version_is_of_version_1() {
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
        assert!(create(&ns, "c", Version(6, 0, 5)).get("idIndex").unwrap().is_none());
        assert_eq!(indexes(&ns).len(), 0);
    }
}
