//! Compares the indexes and collection options of two servers by meaning.
//!
//! `listIndexes` and `listCollections` return roughly the documents that clients once sent: MongoDB 4.4 keeps the number
//! types and puts some keys in front, 5.0 and later rewrite both, and each server adds its defaults. So the
//! documents of two servers are compared by value, without the order of their keys, and with the defaults filled in.
//! A validator and a view's pipeline must be the same byte by byte: servers keep them as they were sent, and an
//! expression can look at number types.

use std::collections::BTreeMap;

use bson::{RawBsonRef, RawDocument};

/// Fields of an index that belong to its server: the version, the collection's name (before 4.4), and how the index was
/// built.
const IGNORED_OF_INDEX: [&str; 4] = ["v", "ns", "background", "dropDups"];
/// Options that a server sets by itself, and options that a restore leaves out because `create` refuses them.
const IGNORED_OF_OPTIONS: [&str; 6] =
    ["recordIdsReplicated", "autoIndexId", "flags", "temp", "usePowerOf2Sizes", "paddingFactor"];
/// Versions of index formats. A server adds its own where the index has none.
const FORMATS: [&str; 2] = ["textIndexVersion", "2dsphereIndexVersion"];
/// Options that may be booleans or numbers. False means the same as a missing option.
const SWITCHES: [&str; 6] = ["unique", "sparse", "hidden", "prepareUnique", "capped", "recordPreImages"];
/// The value that MongoDB 5.0.14 and later use instead of a NaN in `expireAfterSeconds`: such documents never expire.
const NEVER: i64 = i32::MAX as i64;

/// A value without its number type.
#[derive(Debug, Clone, PartialEq)]
enum Normal {
    Whole(i64),
    Fraction(f64),
    Text(String),
    /// Fields in any order.
    Fields(Fields),
    /// Fields in their order, or items.
    Sequence(Vec<(String, Normal)>),
    /// All other values, and values that must be equal byte by byte.
    Exact(Vec<u8>),
}

type Fields = BTreeMap<String, Normal>;

/// Returns true if two indexes, as `listIndexes` describes them, are equivalent.
pub fn same_index(one: &RawDocument, other: &RawDocument) -> bool {
    let (mut one, mut other) = (index(one), index(other));
    for format in FORMATS {
        if !(one.contains_key(format) && other.contains_key(format)) {
            one.remove(format);
            other.remove(format);
        }
    }
    one == other
}

/// Returns true if two collections or views with these options, as `listCollections` describes them, are equivalent.
pub fn same_options(one: &RawDocument, other: &RawDocument) -> bool {
    options(one) == options(other)
}

fn index(raw: &RawDocument) -> Fields {
    let mut out = Fields::new();
    for (key, value) in raw.iter().flatten() {
        let value = match key.as_str() {
            key if IGNORED_OF_INDEX.contains(&key) => continue,
            "key" => ordered(value),
            // {$gt: 1} and {$gt: 1.0} select the same documents; {a: {x: 1, y: 2}} and {a: {y: 2, x: 1}} do
            // not.
            "partialFilterExpression" => ordered(value),
            "wildcardProjection" | "columnstoreProjection" => projection(value),
            "collation" if is_simple(value) => continue,
            "collation" => collation(value),
            "expireAfterSeconds" => seconds(value),
            key if SWITCHES.contains(&key) && !is_on(value) => continue,
            key if SWITCHES.contains(&key) => Normal::Whole(1),
            _ => loose(value),
        };
        out.insert(key.to_string(), value);
    }
    text_index(&mut out);
    if has_kind(&out, "2d") {
        for (key, default) in [("bits", 26), ("min", -180), ("max", 180)] {
            out.entry(key.into()).or_insert(Normal::Whole(default));
        }
    }
    out
}

/// A client creates a text index by naming its fields; the server describes it by the weights of the fields. Converts the first
/// form into the second.
fn text_index(index: &mut Fields) {
    if !has_kind(index, "text") {
        return;
    }
    let text = Normal::Text("text".into());
    let mut weights = match index.remove("weights") {
        Some(Normal::Fields(weights)) => weights,
        _ => Fields::new(),
    };
    if let Some(Normal::Sequence(key)) = index.get_mut("key") {
        let named = |field: &(String, Normal)| field.1 == text && field.0 != "_fts";
        let at = key.iter().position(named);
        for (name, _) in key.extract_if(.., |field| named(field)) {
            weights.entry(name).or_insert(Normal::Whole(1));
        }
        if let Some(at) = at {
            key.insert(at, ("_fts".into(), text));
            key.insert(at + 1, ("_ftsx".into(), Normal::Whole(1)));
        }
    }
    index.insert("weights".into(), Normal::Fields(weights));
    for (key, default) in [("default_language", "english"), ("language_override", "language")] {
        index.entry(key.into()).or_insert(Normal::Text(default.into()));
    }
}

fn has_kind(index: &Fields, kind: &str) -> bool {
    let Some(Normal::Sequence(key)) = index.get("key") else { return false };
    key.iter().any(|(_, value)| matches!(value, Normal::Text(text) if text == kind))
}

fn options(raw: &RawDocument) -> Fields {
    let mut out = Fields::new();
    for (key, value) in raw.iter().flatten() {
        let value = match (key.as_str(), value) {
            (key, _) if IGNORED_OF_OPTIONS.contains(&key) => continue,
            ("validator", RawBsonRef::Document(rules)) if rules.is_empty() => continue,
            ("validator" | "pipeline" | "viewOn" | "encryptedFields", value) => exact(value),
            ("validationLevel", RawBsonRef::String("strict")) => continue,
            ("validationAction", RawBsonRef::String("error")) => continue,
            ("collation", value) if is_simple(value) => continue,
            ("collation", value) => collation(value),
            ("expireAfterSeconds", value) => seconds(value),
            ("changeStreamPreAndPostImages", RawBsonRef::Document(images))
                if !images.get("enabled").ok().flatten().is_some_and(is_on) =>
            {
                continue;
            }
            ("clusteredIndex", RawBsonRef::Document(clustered)) => {
                let mut fields = index(clustered);
                fields.entry("name".into()).or_insert(Normal::Text("_id_".into()));
                Normal::Fields(fields)
            }
            ("timeseries", RawBsonRef::Document(series)) => Normal::Fields(time_series(series)),
            (key, value) if SWITCHES.contains(&key) && !is_on(value) => continue,
            (key, _) if SWITCHES.contains(&key) => Normal::Whole(1),
            (_, value) => loose(value),
        };
        out.insert(key.to_string(), value);
    }
    out
}

/// The options of a time series. The server derives the span of a bucket from the granularity, unless the span was set.
fn time_series(raw: &RawDocument) -> Fields {
    let mut out = fields(raw);
    if out.contains_key("bucketRoundingSeconds") {
        return out;
    }
    let granularity = out.entry("granularity".into()).or_insert(Normal::Text("seconds".into()));
    let span = match granularity {
        Normal::Text(text) if text == "minutes" => 86_400,
        Normal::Text(text) if text == "hours" => 2_592_000,
        _ => 3_600,
    };
    out.entry("bucketMaxSpanSeconds".into()).or_insert(Normal::Whole(span));
    out
}

/// Returns true for the simple collation, which means the same as no collation.
fn is_simple(value: RawBsonRef<'_>) -> bool {
    matches!(value, RawBsonRef::Document(raw) if raw.get_str("locale").is_ok_and(|locale| locale == "simple"))
}

/// A collation with the server's defaults. The field `version` is left out: it is the version of the server's ICU library.
fn collation(value: RawBsonRef<'_>) -> Normal {
    let RawBsonRef::Document(raw) = value else { return loose(value) };
    let mut out = fields(raw);
    out.remove("version");
    let (off, text) = (Normal::Exact(vec![0]), |text: &str| Normal::Text(text.into()));
    for (key, default) in [
        ("caseLevel", off.clone()),
        ("caseFirst", text("off")),
        ("strength", Normal::Whole(3)),
        ("numericOrdering", off.clone()),
        ("alternate", text("non-ignorable")),
        ("maxVariable", text("punct")),
        ("normalization", off.clone()),
        ("backwards", off),
    ] {
        out.entry(key.into()).or_insert(default);
    }
    Normal::Fields(out)
}

/// A number of seconds. MongoDB 5.0 and later store whole seconds.
fn seconds(value: RawBsonRef<'_>) -> Normal {
    match number(value) {
        Some(seconds) if seconds.is_nan() => Normal::Whole(NEVER),
        Some(seconds) => Normal::Whole(seconds as i64),
        None => loose(value),
    }
}

/// A projection, in which every value means included or excluded.
fn projection(value: RawBsonRef<'_>) -> Normal {
    match value {
        RawBsonRef::Document(raw) => Normal::Fields(each_field(raw, projection)),
        value => Normal::Whole(is_on(value).into()),
    }
}

/// Returns true for a boolean or number that switches an option on.
pub(crate) fn is_on(value: RawBsonRef<'_>) -> bool {
    match value {
        RawBsonRef::Boolean(on) => on,
        RawBsonRef::Null | RawBsonRef::Undefined => false,
        value => number(value) != Some(0.0),
    }
}

/// A number of any type.
pub(crate) fn number(value: RawBsonRef<'_>) -> Option<f64> {
    match value {
        RawBsonRef::Int32(n) => Some(n.into()),
        RawBsonRef::Int64(n) => Some(n as f64),
        RawBsonRef::Double(n) => Some(n),
        RawBsonRef::Decimal128(n) => n.to_string().parse().ok(),
        _ => None,
    }
}

/// A value in which neither number types nor the order of fields count.
fn loose(value: RawBsonRef<'_>) -> Normal {
    match value {
        RawBsonRef::Document(raw) => Normal::Fields(fields(raw)),
        value => scalar(value, loose),
    }
}

fn fields(raw: &RawDocument) -> Fields {
    each_field(raw, loose)
}

fn each_field<C: FromIterator<(String, Normal)>>(
    raw: &RawDocument,
    normal: fn(RawBsonRef<'_>) -> Normal,
) -> C {
    raw.iter().flatten().map(|(key, value)| (key.to_string(), normal(value))).collect()
}

/// A value in which the order of fields counts and number types do not.
fn ordered(value: RawBsonRef<'_>) -> Normal {
    match value {
        RawBsonRef::Document(raw) => Normal::Sequence(each_field(raw, ordered)),
        value => scalar(value, ordered),
    }
}

fn scalar(value: RawBsonRef<'_>, item: fn(RawBsonRef<'_>) -> Normal) -> Normal {
    match (value, number(value)) {
        (RawBsonRef::Int32(n), _) => Normal::Whole(n.into()),
        (RawBsonRef::Int64(n), _) => Normal::Whole(n),
        // Beyond 2^53 not every integer is a double, so the comparison must be exact.
        (_, Some(n)) if n.fract() == 0.0 && n.abs() <= 9_007_199_254_740_992.0 => Normal::Whole(n as i64),
        (_, Some(n)) if !n.is_nan() => Normal::Fraction(n),
        (RawBsonRef::String(text), _) => Normal::Text(text.into()),
        (RawBsonRef::Boolean(on), _) => Normal::Exact(vec![on.into()]),
        (RawBsonRef::Array(items), _) => {
            let items = items.into_iter().flatten();
            Normal::Sequence(items.map(|value| (String::new(), item(value))).collect())
        }
        (value, _) => exact(value),
    }
}

fn exact(value: RawBsonRef<'_>) -> Normal {
    let mut out = bson::RawDocumentBuf::new();
    out.append(bson::raw::cstr!(""), value);
    Normal::Exact(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use bson::{Decimal128, RawDocumentBuf, rawdoc};

    use super::*;

    /// Pairs of answers to the same request: from 4.4.2, and from 5.0.32 and 6.0.27.
    #[test]
    fn an_index_is_equivalent_in_the_form_of_each_server() {
        let decimal: Decimal128 = "3600".parse().unwrap();
        for (one, other) in [
            (
                rawdoc! {"v": 2, "key": {"p": "2d"}, "name": "p_2d", "min": -200, "max": 200, "bits": 20},
                rawdoc! {"v": 2, "key": {"p": "2d"}, "name": "p_2d", "bits": 20, "min": -200.0, "max": 200.0},
            ),
            (
                rawdoc! {"v": 2, "hidden": true, "key": {"hid": 1}, "name": "hid_1"},
                rawdoc! {"v": 2, "key": {"hid": 1}, "name": "hid_1", "hidden": true},
            ),
            (
                rawdoc! {"v": 2, "unique": true, "key": {"s": 1}, "name": "s_1", "sparse": 1.0},
                rawdoc! {"v": 2, "key": {"s": 1}, "name": "s_1", "unique": true, "sparse": true},
            ),
            (
                rawdoc! {"v": 2, "key": {"s": 1}, "name": "s_1", "sparse": false, "background": false},
                rawdoc! {"v": 2, "key": {"s": 1}, "name": "s_1", "background": true},
            ),
            (
                rawdoc! {"v": 1, "key": {"e": 1}, "name": "e_1", "expireAfterSeconds": 3600.7, "ns": "a.b"},
                rawdoc! {"v": 2, "key": {"e": 1_i64}, "name": "e_1", "expireAfterSeconds": 3600},
            ),
            (
                rawdoc! {"key": {"e": 1}, "name": "e_1", "expireAfterSeconds": decimal},
                rawdoc! {"key": {"e": 1.0}, "name": "e_1", "expireAfterSeconds": 3600_i64},
            ),
            (
                rawdoc! {"key": {"e": 1}, "name": "e_1", "expireAfterSeconds": f64::NAN},
                rawdoc! {"key": {"e": 1}, "name": "e_1", "expireAfterSeconds": i32::MAX},
            ),
        ] {
            assert!(same_index(&one, &other), "{one:?} {other:?}");
            assert!(same_index(&other, &one), "{other:?} {one:?}");
        }
    }

    #[test]
    fn an_index_is_equivalent_with_the_defaults_of_the_server() {
        for (asked, described) in [
            (
                rawdoc! {"key": {"p": "2d"}, "name": "p"},
                rawdoc! {"key": {"p": "2d"}, "name": "p", "bits": 26, "min": -180.0, "max": 180.0},
            ),
            (
                rawdoc! {"key": {"a": 1, "t": "text", "u": "text", "b": -1}, "name": "t", "weights": {"u": 3.0}},
                rawdoc! {
                    "v": 2, "key": {"a": 1, "_fts": "text", "_ftsx": 1, "b": -1}, "name": "t",
                    "weights": {"t": 1, "u": 3}, "default_language": "english", "language_override": "language",
                    "textIndexVersion": 3,
                },
            ),
            (
                rawdoc! {"key": {"g": "2dsphere"}, "name": "g"},
                rawdoc! {"key": {"g": "2dsphere"}, "name": "g", "2dsphereIndexVersion": 3},
            ),
            (
                rawdoc! {"key": {"c": 1}, "name": "c", "collation": {"locale": "de"}},
                rawdoc! {"key": {"c": 1}, "name": "c", "collation": {
                    "locale": "de", "caseLevel": false, "caseFirst": "off", "strength": 3,
                    "numericOrdering": false, "alternate": "non-ignorable", "maxVariable": "punct",
                    "normalization": false, "backwards": false, "version": "57.1",
                }},
            ),
            (
                rawdoc! {"key": {"c": 1}, "name": "c", "collation": {"locale": "simple"}},
                rawdoc! {"key": {"c": 1}, "name": "c"},
            ),
            (
                rawdoc! {"key": {"$**": 1}, "name": "w", "wildcardProjection": {"a": true, "b": {"c": 1}}},
                rawdoc! {"key": {"$**": 1}, "name": "w", "wildcardProjection": {"b": {"c": 1.0}, "a": 1}},
            ),
        ] {
            assert!(same_index(&asked, &described), "{asked:?} {described:?}");
            assert!(same_index(&described, &asked), "{described:?} {asked:?}");
        }
    }

    #[test]
    fn indexes_that_behave_differently_differ() {
        let base = rawdoc! {"v": 2, "key": {"a": 1, "b": 1}, "name": "x"};
        let with = |more: RawDocumentBuf| {
            let mut out = base.clone();
            more.iter().flatten().for_each(|(key, value)| out.append(key, value));
            out
        };
        let filter = |filter: RawDocumentBuf| with(rawdoc! {"partialFilterExpression": filter});
        let collated = |collation: RawDocumentBuf| with(rawdoc! {"collation": collation});
        for (one, other) in [
            (base.clone(), rawdoc! {"v": 2, "key": {"b": 1, "a": 1}, "name": "x"}),
            (base.clone(), rawdoc! {"v": 2, "key": {"a": 1, "b": -1}, "name": "x"}),
            (base.clone(), rawdoc! {"v": 2, "key": {"a": 1, "b": "hashed"}, "name": "x"}),
            (base.clone(), rawdoc! {"v": 2, "key": {"a": 1, "c": 1}, "name": "x"}),
            (base.clone(), rawdoc! {"v": 2, "key": {"a": 1, "b": 1}, "name": "y"}),
            (base.clone(), with(rawdoc! {"unique": true})),
            (base.clone(), with(rawdoc! {"sparse": 1})),
            (base.clone(), with(rawdoc! {"hidden": true})),
            (base.clone(), with(rawdoc! {"expireAfterSeconds": 0})),
            (with(rawdoc! {"expireAfterSeconds": 3600}), with(rawdoc! {"expireAfterSeconds": 3601})),
            (base.clone(), collated(rawdoc! {"locale": "de"})),
            (collated(rawdoc! {"locale": "de"}), collated(rawdoc! {"locale": "fr"})),
            (collated(rawdoc! {"locale": "de"}), collated(rawdoc! {"locale": "de", "strength": 1})),
            (base.clone(), filter(rawdoc! {"a": 1})),
            (filter(rawdoc! {"a": {"$gt": 1}}), filter(rawdoc! {"a": {"$gt": 1.5}})),
            (filter(rawdoc! {"a": {"x": 1, "y": 2}}), filter(rawdoc! {"a": {"y": 2, "x": 1}})),
            (filter(rawdoc! {"a": true}), filter(rawdoc! {"a": 1})),
            (filter(rawdoc! {"a": 1}), filter(rawdoc! {"a": "1"})),
            (with(rawdoc! {"textIndexVersion": 2}), with(rawdoc! {"textIndexVersion": 3})),
            (with(rawdoc! {"2dsphereIndexVersion": 2}), with(rawdoc! {"2dsphereIndexVersion": 3})),
            (with(rawdoc! {"wildcardProjection": {"a": 1}}), with(rawdoc! {"wildcardProjection": {"a": 0}})),
            (
                rawdoc! {"key": {"p": "2d"}, "name": "p", "min": -200},
                rawdoc! {"key": {"p": "2d"}, "name": "p"},
            ),
            (
                rawdoc! {"key": {"t": "text"}, "name": "t"},
                rawdoc! {"key": {"t": "text"}, "name": "t", "weights": {"t": 2}},
            ),
            (
                rawdoc! {"key": {"t": "text"}, "name": "t"},
                rawdoc! {"key": {"t": "text"}, "name": "t", "default_language": "german"},
            ),
        ] {
            assert!(!same_index(&one, &other), "{one:?} {other:?}");
            assert!(same_index(&one, &one) && same_index(&other, &other), "{one:?} {other:?}");
        }
    }

    #[test]
    fn options_are_equivalent_in_the_form_of_each_server() {
        for (one, other) in [
            (
                rawdoc! {"capped": true, "size": 4096, "max": 5_i64},
                rawdoc! {"size": 4096.0, "capped": 1, "max": 5},
            ),
            (rawdoc! {}, rawdoc! {"autoIndexId": true, "validator": {}, "flags": 1, "capped": false}),
            (rawdoc! {"collation": {"locale": "simple"}}, rawdoc! {"recordPreImages": false}),
            (
                rawdoc! {"validator": {"a": 1}},
                rawdoc! {"validationLevel": "strict", "validationAction": "error", "validator": {"a": 1}},
            ),
            (
                rawdoc! {"collation": {"strength": 3_i64, "locale": "de", "version": "57.1"}},
                rawdoc! {"collation": {"locale": "de", "backwards": false, "version": "64.2"}},
            ),
            (
                rawdoc! {"expireAfterSeconds": 10_i64, "timeseries": {"timeField": "t", "granularity": "hours"}},
                rawdoc! {"timeseries": {"granularity": "hours", "timeField": "t", "bucketMaxSpanSeconds": 2592000},
                "expireAfterSeconds": 10},
            ),
            (
                rawdoc! {"timeseries": {"timeField": "t"}},
                rawdoc! {"timeseries": {"timeField": "t", "granularity": "seconds", "bucketMaxSpanSeconds": 3600}},
            ),
            (
                rawdoc! {"clusteredIndex": {"key": {"_id": 1.0}, "unique": 1}},
                rawdoc! {"clusteredIndex": {"v": 2, "key": {"_id": 1}, "name": "_id_", "unique": true}},
            ),
            (rawdoc! {"changeStreamPreAndPostImages": {"enabled": false}}, rawdoc! {}),
        ] {
            assert!(same_options(&one, &other), "{one:?} {other:?}");
            assert!(same_options(&other, &one), "{other:?} {one:?}");
        }
    }

    #[test]
    fn options_that_behave_differently_differ() {
        let schema =
            |kind: &str| rawdoc! {"validator": {"$jsonSchema": {"properties": {"a": {"bsonType": kind}}}}};
        for (one, other) in [
            (rawdoc! {}, rawdoc! {"capped": true, "size": 4096}),
            (rawdoc! {"capped": true, "size": 4096}, rawdoc! {"capped": true, "size": 8192}),
            (rawdoc! {"capped": true, "size": 4096}, rawdoc! {"capped": true, "size": 4096, "max": 5}),
            (rawdoc! {"collation": {"locale": "de"}}, rawdoc! {}),
            (
                rawdoc! {"collation": {"locale": "de"}},
                rawdoc! {"collation": {"locale": "de", "backwards": true}},
            ),
            (schema("int"), schema("long")),
            (schema("int"), rawdoc! {}),
            (rawdoc! {"validator": {"a": 1}}, rawdoc! {"validator": {"a": 1}, "validationLevel": "off"}),
            (rawdoc! {"validator": {"a": 1}}, rawdoc! {"validator": {"a": 1}, "validationAction": "warn"}),
            (rawdoc! {"validator": {"a": 1, "b": 1}}, rawdoc! {"validator": {"b": 1, "a": 1}}),
            (
                rawdoc! {"viewOn": "a", "pipeline": [{"$set": {"n": {"$literal": 1}}}]},
                rawdoc! {"viewOn": "a", "pipeline": [{"$set": {"n": {"$literal": 1.0}}}]},
            ),
            (rawdoc! {"viewOn": "a", "pipeline": []}, rawdoc! {"viewOn": "b", "pipeline": []}),
            (
                rawdoc! {"timeseries": {"timeField": "t", "granularity": "hours"}},
                rawdoc! {"timeseries": {"timeField": "t"}},
            ),
            (
                rawdoc! {"timeseries": {"timeField": "t"}},
                rawdoc! {"timeseries": {"timeField": "t"}, "expireAfterSeconds": 1},
            ),
            (rawdoc! {"clusteredIndex": {"key": {"_id": 1}, "unique": true}}, rawdoc! {}),
            (rawdoc! {"changeStreamPreAndPostImages": {"enabled": true}}, rawdoc! {}),
            (rawdoc! {"recordPreImages": true}, rawdoc! {}),
            (rawdoc! {"storageEngine": {"wiredTiger": {"configString": "a"}}}, rawdoc! {}),
        ] {
            assert!(!same_options(&one, &other), "{one:?} {other:?}");
            assert!(same_options(&one, &one) && same_options(&other, &other), "{one:?} {other:?}");
        }
    }
}
