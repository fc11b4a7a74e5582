//! Converts indexes that old servers built and later servers refuse: before 3.4 a key could have any value,
//! and before 4.2 the server kept any option. Source: mongo-tools, `common/bsonutil/indexes.go`; the refusals
//! were seen on 4.4.2, 5.0.32 and 6.0.27.

use bson::raw::CString;
use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

use super::collections::is_ascending_id;
use crate::mongo::meaning::{self, number};

/// The flag of `restore` that converts such indexes.
pub(crate) const FLAG: &str = "--convert-legacy-indexes";

/// Index options that servers from 4.4 to 9.0 know.
const KNOWN: [&str; 27] = [
    "2dsphereIndexVersion",
    "background",
    "bits",
    "bucketSize",
    "clustered",
    "coarsestIndexedLevel",
    "collation",
    "columnstoreProjection",
    "default_language",
    "expireAfterSeconds",
    "finestIndexedLevel",
    "hidden",
    "key",
    "language_override",
    "max",
    "min",
    "name",
    "ns",
    "partialFilterExpression",
    "prepareUnique",
    "sparse",
    "storageEngine",
    "textIndexVersion",
    "unique",
    "v",
    "weights",
    "wildcardProjection",
];
/// Options of writes and index builds, which drivers sent to old servers together with index options, and
/// which the servers stored. They do not describe the index.
const OF_THE_WRITE: [&str; 8] =
    ["dropDups", "fsync", "getLastError", "j", "safe", "w", "wtimeout", "writeConcern"];
const FLAGS: [&str; 5] = ["background", "hidden", "prepareUnique", "sparse", "unique"];

/// Removes options that no server knows. Returns the index, and the names of removed options that may have
/// had a meaning. mongorestore makes the server ignore such options (`ignoreUnknownIndexOptions`).
pub(crate) fn tidy(index: &RawDocument) -> (RawDocumentBuf, Vec<String>) {
    let (mut out, mut unknown) = (RawDocumentBuf::new(), Vec::new());
    if is_default(index) {
        // `create` accepts no other options for this index.
        let kept = ["v", "key", "name", "ns", "collation"];
        let id: RawDocumentBuf =
            index.iter().flatten().filter(|(key, _)| kept.contains(&key.as_str())).collect();
        return (with(&id, "key", key_of(index).map(RawBson::from)), unknown);
    }
    for (key, value) in index.iter().flatten() {
        match key.as_str() {
            known if KNOWN.contains(&known) => out.append(key, value),
            write if OF_THE_WRITE.contains(&write) => {}
            other => unknown.push(other.into()),
        }
    }
    if index.get_str("name").is_err() {
        out = with(&out, "name", Some(name(index).into()));
    }
    (out, unknown)
}

/// Returns true for the index on `_id` that every collection has. Its key can have any value in old versions.
fn is_default(index: &RawDocument) -> bool {
    let Some(key) = key_of(index) else { return false };
    let apart = ["clustered", "partialFilterExpression"].iter().any(|o| matches!(index.get(o), Ok(Some(_))));
    !apart && is_ascending_id(&key)
}

/// Why servers since 3.4 refuse the index; `None` if they accept it.
pub(crate) fn refused(index: &RawDocument) -> Option<String> {
    let name = index.get_str("name").unwrap_or("?");
    let key = index.get_document("key").ok()?;
    let bad = key.iter().flatten().find(|(_, value)| match value {
        // `convert` treats it like 0, but no server refuses it.
        RawBsonRef::Double(tiny) if *tiny != 0.0 && !tiny.is_nan() => false,
        value => direction(*value).is_some(),
    });
    if let Some((field, value)) = bad {
        return Some(format!(
            "the index '{name}' has {} as the value of its key '{}'",
            shown(value),
            field.as_str()
        ));
    }
    let expires = index.get("expireAfterSeconds").ok().flatten()?;
    number(expires)
        .is_none()
        .then(|| format!("the index '{name}' expires after {}, which is not a number", shown(expires)))
}

/// Converts indexes to a form that servers since 3.4 accept. Returns a line for each changed index. If two
/// indexes then have the same key, the second one is left out, or the first one if only the second is unique.
pub(crate) fn convert(indexes: &mut Vec<RawDocumentBuf>) -> Vec<String> {
    let named = |index: &RawDocument| index.get_str("name").unwrap_or("?").to_string();
    let key = |index: &RawDocument| index.get_document("key").map_or("?".into(), |key| shown(key.into()));
    let mut notes = Vec::new();
    let mut all: Vec<(RawDocumentBuf, bool)> = Vec::new();
    for old in indexes.drain(..) {
        let new = converted(&old);
        let changed = new.is_some();
        if let Some(new) = &new {
            let (name, from, to) = (named(&old), key(&old), key(new));
            notes.push(format!("the index '{name}' was converted: key {from} to {to}"));
        }
        let index = new.unwrap_or(old);
        let equal =
            |(other, too): &&mut (RawDocumentBuf, bool)| (changed || *too) && same_keys(&index, other);
        match all.iter_mut().find(equal) {
            None => all.push((index, changed)),
            Some((other, _)) => {
                let left = match is_unique(&index) && !is_unique(other) {
                    true => std::mem::replace(other, index),
                    false => index,
                };
                let (left, kept) = (named(&left), named(other));
                notes.push(format!("the index '{left}' is left out: '{kept}' has the same key"));
            }
        }
    }
    indexes.extend(all.into_iter().map(|(index, _)| index));
    notes
}

/// The converted index; `None` if servers accept the index as it is.
fn converted(index: &RawDocument) -> Option<RawDocumentBuf> {
    let mut out = index.to_owned();
    let mut changed = false;
    if let (Some(key), Ok(old)) = (key_of(index), index.get_document("key"))
        && old.as_bytes() != key.as_bytes()
    {
        (out, changed) = (with(&out, "key", Some(key.into())), true);
    }
    for flag in FLAGS {
        let value = match index.get(flag).ok().flatten() {
            None | Some(RawBsonRef::Boolean(_)) => continue,
            Some(RawBsonRef::Null | RawBsonRef::Undefined) => None,
            // Servers accept numbers for these options, except for `hidden`.
            Some(value) => match number(value) {
                Some(_) if flag != "hidden" => continue,
                number => Some(RawBson::Boolean(number.is_none_or(|number| number != 0.0))),
            },
        };
        (out, changed) = (with(&out, flag, value), true);
    }
    if let Some(value) = index.get("expireAfterSeconds").ok().flatten()
        && number(value).is_none()
    {
        let seconds = value.as_str().and_then(|text| text.trim().parse::<i32>().ok());
        (out, changed) = (with(&out, "expireAfterSeconds", seconds.map(RawBson::Int32)), true);
    }
    changed.then_some(out)
}

/// The key with values that servers accept.
fn key_of(index: &RawDocument) -> Option<RawDocumentBuf> {
    let accepted = |value| direction(value).map_or_else(|| value.into(), RawBson::Int32);
    let key = index.get_document("key").ok()?.iter().flatten();
    Some(key.map(|(field, value)| (field, accepted(value))).collect())
}

/// The replacement for a key value that servers refuse; `None` if they accept the value. Before 3.4, every
/// value was ascending except negative numbers and the names of index types.
fn direction(value: RawBsonRef<'_>) -> Option<i32> {
    let sign = |number: f64| if number < 0.0 { -1 } else { 1 };
    match value {
        RawBsonRef::String("") => Some(1),
        // mongorestore does not convert these values, and the server refuses them as an unknown index type.
        RawBsonRef::String(text) => text.trim().parse().ok().map(sign),
        value => match number(value) {
            None => Some(1),
            Some(number) => (number.is_nan() || number.abs() < 1e-9).then(|| sign(number)),
        },
    }
}

/// Returns true if a server considers two indexes equal: it compares key, collation and filter.
fn same_keys(a: &RawDocument, b: &RawDocument) -> bool {
    let same = |option: &str| a.get_document(option).ok() == b.get_document(option).ok();
    let (Ok(one), Ok(two)) = (a.get_document("key"), b.get_document("key")) else { return false };
    let equal = |((field, value), (other, there)): ((_, RawBsonRef<'_>), (_, RawBsonRef<'_>))| {
        let values = match (number(value), number(there)) {
            (Some(value), Some(there)) => (value - there).abs() < 1e-9,
            _ => value == there,
        };
        field == other && values
    };
    one.iter().count() == two.iter().count()
        && one.iter().flatten().zip(two.iter().flatten()).all(equal)
        && same("collation")
        && same("partialFilterExpression")
}

fn is_unique(index: &RawDocument) -> bool {
    index.get("unique").ok().flatten().is_some_and(meaning::is_on)
}

/// The document with this value for a key, which is added if it is missing. Removes the key if `value` is
/// `None`.
fn with(document: &RawDocument, name: &str, mut value: Option<RawBson>) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    for (key, old) in document.iter().flatten() {
        if key.as_str() != name {
            out.append(key, old);
        } else if let Some(value) = value.take() {
            out.append(key, value);
        }
    }
    if let (Some(value), Ok(key)) = (value, CString::try_from(name)) {
        out.append(key, value);
    }
    out
}

/// The name that a server gives to an index without a name.
fn name(index: &RawDocument) -> String {
    let Ok(key) = index.get_document("key") else { return "unnamed".into() };
    let part = |(field, value): (&bson::raw::CStr, RawBsonRef<'_>)| {
        let value = match value {
            RawBsonRef::String(text) => text.to_string(),
            value => number(value).unwrap_or(1.0).to_string(),
        };
        format!("{}_{value}", field.as_str())
    };
    key.iter().flatten().map(part).collect::<Vec<_>>().join("_")
}

fn shown(value: RawBsonRef<'_>) -> String {
    match bson::Bson::try_from(RawBson::from(value)) {
        Ok(value) => value.into_relaxed_extjson().to_string(),
        Err(_) => "a value that is not UTF-8".into(),
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    /// The vectors of mongo-tools (`common/bsonutil/indexes_test.go`), and strings that are numbers.
    #[test]
    fn key_values_become_what_servers_accept() {
        let decimal = |text: &str| RawBson::Decimal128(text.parse().unwrap());
        for (value, want) in [
            (RawBson::Int32(0), Some(1)),
            (RawBson::Int64(0), Some(1)),
            (RawBson::Double(0.0), Some(1)),
            (RawBson::Double(-0.0), Some(1)),
            (RawBson::Double(-1e-12), Some(-1)),
            (RawBson::Double(f64::NAN), Some(1)),
            (decimal("0"), Some(1)),
            (RawBson::String(String::new()), Some(1)),
            (RawBson::String("1".into()), Some(1)),
            (RawBson::String("-1".into()), Some(-1)),
            (RawBson::Boolean(true), Some(1)),
            (RawBson::Boolean(false), Some(1)),
            (RawBson::Null, Some(1)),
            (RawBson::Document(rawdoc! {"a": 1}), Some(1)),
            (RawBson::Int32(1), None),
            (RawBson::Int64(-1), None),
            (RawBson::Double(2.5), None),
            (decimal("-1"), None),
            (RawBson::String("2dsphere".into()), None),
            (RawBson::String("text".into()), None),
        ] {
            assert_eq!(direction(value.as_raw_bson_ref()), want, "{value:?}");
        }
    }

    #[test]
    fn refused_indexes_are_named_and_converted() {
        for (index, word) in [
            (rawdoc! {"key": {"a": true}, "name": "x"}, "'x' has true as the value of its key 'a'"),
            (rawdoc! {"key": {"a": 1, "b": ""}, "name": "x"}, "'x' has \"\" as"),
            (rawdoc! {"key": {"a": 1}, "name": "x", "expireAfterSeconds": "60"}, "expires after \"60\""),
        ] {
            let why = refused(&index).unwrap();
            assert!(why.contains(word), "{why}");
            assert!(converted(&index).is_some());
            let mut all = vec![index];
            assert_eq!(convert(&mut all).len(), 1);
            assert!(refused(&all[0]).is_none() && converted(&all[0]).is_none(), "{:?}", all[0]);
        }
        let sound = rawdoc! {"key": {"a": -1, "b": "hashed"}, "name": "x", "sparse": 1, "unique": true};
        assert!(refused(&sound).is_none() && converted(&sound).is_none());
        let mut odd = vec![
            rawdoc! {"key": {"a": 1}, "name": "x", "unique": "yes", "sparse": bson::RawBson::Null, "hidden": 1},
        ];
        assert_eq!(convert(&mut odd).len(), 1);
        assert_eq!(odd, [rawdoc! {"key": {"a": 1}, "name": "x", "unique": true, "hidden": true}]);
    }

    #[test]
    fn the_unique_one_of_two_equal_indexes_stays() {
        let mut all = vec![
            rawdoc! {"key": {"a": 1}, "name": "a_1"},
            rawdoc! {"key": {"a": true}, "name": "a_true", "unique": true},
            rawdoc! {"key": {"b": ""}, "name": "b"},
            rawdoc! {"key": {"b": 1.0}, "name": "b_1"},
            rawdoc! {"key": {"c": 1}, "name": "c_1"},
            rawdoc! {"key": {"c": true}, "name": "c_de", "collation": {"locale": "de"}},
            rawdoc! {"key": {"d": 1}, "name": "d_1"},
            rawdoc! {"key": {"d": 1}, "name": "d_2"},
        ];
        let notes = convert(&mut all);
        let names: Vec<&str> = all.iter().map(|index| index.get_str("name").unwrap()).collect();
        assert_eq!(names, ["a_true", "b", "c_1", "c_de", "d_1", "d_2"], "{notes:?}");
        let left: Vec<&String> = notes.iter().filter(|note| note.contains("left out")).collect();
        assert!(left.len() == 2 && left[0].contains("'a_1'") && left[1].contains("'b_1'"), "{notes:?}");
    }

    #[test]
    fn options_of_writes_are_removed_and_unknown_options_are_reported() {
        let index = rawdoc! {
            "v": 1, "key": {"a": 1}, "name": "a_1", "ns": "old.c", "safe": true, "w": 1, "dropDups": true,
            "background": true, "nonsense": 1, "wildcardProjection": {},
        };
        let (tidied, unknown) = tidy(&index);
        let want = rawdoc! {
            "v": 1, "key": {"a": 1}, "name": "a_1", "ns": "old.c", "background": true, "wildcardProjection": {},
        };
        assert_eq!((tidied, unknown), (want, vec!["nonsense".to_string()]));
        let id = rawdoc! {"v": 1, "key": {"_id": true}, "name": "_id_", "unique": true, "ns": "d.c"};
        assert_eq!(tidy(&id).0, rawdoc! {"v": 1, "key": {"_id": 1}, "name": "_id_", "ns": "d.c"});
        let hashed = rawdoc! {"key": {"_id": "hashed"}, "name": "_id_hashed", "sparse": true};
        assert_eq!(tidy(&hashed).0, hashed);
        let (named, _) = tidy(&rawdoc! {"key": {"a": 1, "b": -1.0, "c": "text"}});
        assert_eq!(named.get_str("name").unwrap(), "a_1_b_-1_c_text");
    }
}
