//! Reads the formats of old versions of mongodump and of the server. Dumps by mongodump 2.x have indexes as
//! documents of a collection `system.indexes` in each database.

use std::collections::BTreeMap;

use bson::{RawBsonRef, RawDocument, RawDocumentBuf};

use crate::base::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::model::namespace::Namespace;
use crate::restore_target::legacy_indexes;

/// Options that old servers stored and that later servers refuse in `create`, or that do not describe the
/// collection: the command's own name (mongo-tools #98), options of MMAPv1, and options of writes.
const SKIPPED: [&str; 17] = [
    "$nExtents",
    "create",
    "flags",
    "fsync",
    "idIndex",
    "j",
    "noPadding",
    "ns",
    "paddingFactor",
    "safe",
    "strict",
    "temp",
    "usePowerOf2Sizes",
    "uuid",
    "w",
    "writeConcern",
    "wtimeout",
];

/// The collection's name, which is also its file's name without suffix.
pub(super) const STEM: &str = "system.indexes";

#[derive(Debug, Default)]
pub(crate) struct OldIndexes(BTreeMap<(String, String), Vec<RawDocumentBuf>>);

/// Parses a document of `system.indexes`. Returns an error of the kind `Mismatch` if the document does not
/// name the index's collection.
pub(crate) fn parse(db: &str, document: &[u8]) -> Result<RawDocumentBuf> {
    let damaged =
        |why: &dyn std::fmt::Display| Error::new(Kind::Mismatch, format!("{db}.{STEM} is damaged: {why}"));
    let index = RawDocument::from_bytes(document).map_err(|e| damaged(&e))?;
    bounds::check_depth(index).map_err(|e| damaged(&e))?;
    match collection(index) {
        Some(_) => Ok(index.to_owned()),
        None => Err(damaged(&"an index has no \"ns\"")),
    }
}

/// The collection of an index. The database in `ns` is ignored, because the dump's folder may have been
/// renamed.
fn collection(index: &RawDocument) -> Option<&str> {
    index.get_str("ns").ok()?.split_once('.').map(|(_, collection)| collection)
}

impl OldIndexes {
    pub(crate) fn add(&mut self, db: &str, indexes: Vec<RawDocumentBuf>) {
        for index in indexes {
            if let Some(collection) = collection(&index) {
                self.0.entry((db.into(), collection.into())).or_default().push(index);
            }
        }
    }

    /// Adds the indexes to namespaces without metadata. Metadata takes precedence over `system.indexes`.
    pub(crate) fn give(mut self, namespaces: &mut [Namespace]) {
        for namespace in namespaces.iter_mut().filter(|namespace| namespace.metadata.trim().is_empty()) {
            let key = (namespace.db.clone(), namespace.collection.clone());
            namespace.indexes.extend(self.0.remove(&key).unwrap_or_default());
        }
    }
}

/// Converts options and indexes to a form that servers since 4.4 accept, without changing their meaning.
/// Returns a line for each index option that is left out.
pub(crate) fn tidy(namespace: &mut Namespace) -> Vec<String> {
    namespace.options = options(&namespace.options);
    let mut notes = Vec::new();
    for index in &mut namespace.indexes {
        let (tidied, unknown) = legacy_indexes::tidy(index);
        let name = index.get_str("name").unwrap_or("?");
        notes.extend(unknown.into_iter().map(|option| {
            format!(
                "{}.{}: the index '{name}' is built without its option '{option}', which no server knows",
                namespace.db, namespace.collection
            )
        }));
        *index = tidied;
    }
    notes
}

/// Removes the options that [`tidy`] leaves out. The last one of duplicate options counts.
fn options(options: &RawDocument) -> RawDocumentBuf {
    let all: Vec<_> = options.iter().flatten().collect();
    let last = |key: &str| all.iter().rev().find(|(name, _)| name.as_str() == key).map(|(_, value)| *value);
    let capped = match last("capped") {
        None
        | Some(
            RawBsonRef::Boolean(false) | RawBsonRef::Int32(0) | RawBsonRef::Null | RawBsonRef::Undefined,
        ) => false,
        Some(RawBsonRef::Double(value)) => value != 0.0,
        Some(_) => true,
    };
    let mut out = RawDocumentBuf::new();
    for (at, (key, value)) in all.iter().enumerate() {
        let later = all[at + 1..].iter().any(|(other, _)| other == key);
        // The shell of MongoDB 2.x stored missing options as undefined.
        let unset = matches!(value, RawBsonRef::Null | RawBsonRef::Undefined);
        // Old servers stored a size for collections that are not capped.
        let uncapped = !capped && ["capped", "size", "max"].contains(&key.as_str());
        if !later && !unset && !uncapped && !SKIPPED.contains(&key.as_str()) {
            out.append(*key, *value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use bson::{RawBson, rawdoc};

    use super::*;
    use crate::dumpformat::metadata;

    #[test]
    fn options_that_no_server_accepts_are_left_out() {
        let old = rawdoc! {
            "create": "c", "flags": 1, "ns": "d.c", "safe": true, "capped": RawBson::Undefined, "size": 4096,
            "max": RawBson::Null, "idIndex": {"key": {"_id": 1}, "name": "_id_"}, "validator": {"a": RawBson::Null},
        };
        assert_eq!(options(&old), rawdoc! {"validator": {"a": RawBson::Null}});
        let capped = rawdoc! {"create": "c", "capped": true, "size": 4096, "max": 5};
        assert_eq!(options(&capped), rawdoc! {"capped": true, "size": 4096, "max": 5});
        let other = rawdoc! {"validationLevel": "off", "unknown": 1, "autoIndexId": false};
        assert_eq!(options(&other), other);
    }

    #[test]
    fn metadata_of_every_age_is_read() {
        let index = r#"{"v":1,"key":{"a":1},"name":"a_1","ns":"d.c"}"#;
        for (text, indexes) in [
            (
                format!(
                    "\u{feff}{{\n  \"options\" : {{ \"create\" : \"c\" }},\n  \"indexes\" : [ {index} ]\n}}\n"
                ),
                1,
            ),
            (
                format!(
                    r#"{{"options":{{"create":"c"}},"options":{{"create":"c","create":"d"}},"indexes":[{index}],"other":[1]}}"#
                ),
                1,
            ),
            (r#"{"options":null,"indexes":null}"#.into(), 0),
            (" \n".into(), 0),
            (String::new(), 0),
        ] {
            let mut namespace = metadata::parse("d", "c", &text).unwrap();
            assert_eq!(tidy(&mut namespace), Vec::<String>::new());
            assert_eq!((namespace.options, namespace.indexes.len()), (rawdoc! {}, indexes), "{text}");
        }
    }

    #[test]
    fn metadata_counts_before_system_indexes() {
        let of = |collection: &str, text: &str| metadata::parse("d", collection, text).unwrap();
        let written = r#"{"indexes":[{"key":{"b":1},"name":"b_1"}]}"#;
        let mut namespaces = [of("a", ""), of("b.c", written), of("b.d", "{}")];
        let mut old = OldIndexes::default();
        for collection in ["a", "b.c", "b.d", "gone"] {
            let index =
                rawdoc! {"v": 1, "key": {"a": 1}, "ns": format!("renamed.{collection}"), "name": "a_1"};
            old.add("d", vec![parse("d", index.as_bytes()).unwrap()]);
        }
        old.give(&mut namespaces);
        let names: Vec<&str> =
            namespaces.iter().flat_map(|n| &n.indexes).map(|index| index.get_str("name").unwrap()).collect();
        assert_eq!(names, ["a_1", "b_1"]);
        let error = parse("d", rawdoc! {"key": {"a": 1}}.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("d.system.indexes"), "{error}");
    }
}
