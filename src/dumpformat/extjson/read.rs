//! Reading Extended JSON, as `metadata.json` of a dump holds it.
//!
//! Options can contain constants that look like Extended JSON, such as `{$literal: {$numberLong: "5"}}`; in
//! the text such a constant looks the same as a 64-bit number. mongorestore reads a number, and so does this reader
//! (mongo-go-driver 2, `bson/extjson_parser.go`). A document that only begins like Extended JSON, for example
//! `{$oid: {bsonType: "string"}}`, makes mongorestore fail; this reader keeps it as a document.
//!
//! Keys keep their order, and duplicate keys are kept; `serde_json::Value` would lose both.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bson::oid::ObjectId;
use bson::raw::CString;
use bson::{Bson, DateTime, Decimal128, RawArrayBuf, RawBson, RawDocumentBuf, Regex, Timestamp};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// How many readings [`Json::read_as`] tries before it gives up: a second or two for large options.
const READINGS: usize = 50_000;

/// A JSON value with all its keys.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Integer(i64),
    Double(f64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a text. A byte order mark at its beginning is skipped.
    ///
    /// # Errors
    /// Returns an error if the text is not JSON.
    pub fn parse(text: &str) -> Result<Json, String> {
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|e| e.to_string())
    }

    /// The value of a key of an object; the last one if it stands more than once.
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(pairs) => pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Reads an object as a document; `None` if the value is no object.
    ///
    /// # Errors
    /// Returns an error if a key cannot be a BSON key.
    pub fn document(&self) -> Result<Option<RawDocumentBuf>, String> {
        self.document_with(&BTreeSet::new()).map(|(document, _)| document)
    }

    /// Reads an object as the document that `is_right` accepts. An object that looks like Extended JSON may be a
    /// constant; up to two of them are read literally. `None` if `is_right` accepts no such reading.
    pub fn read_as(&self, is_right: &dyn Fn(&RawDocumentBuf) -> bool) -> Option<RawDocumentBuf> {
        let mut tried = 0;
        let mut literal = vec![BTreeSet::new()];
        for _ in 0..=2 {
            let mut next = Vec::new();
            for places in &literal {
                let (document, count) = self.document_with(places).ok()?;
                let document = document?;
                if is_right(&document) {
                    return Some(document);
                }
                tried += 1;
                // Only places behind the last one are added, so that each set is tried once.
                let from = places.last().map_or(0, |last| last + 1);
                next.extend((from..count).map(|at| places.iter().copied().chain([at]).collect()));
                if tried > READINGS {
                    return None;
                }
            }
            literal = next;
        }
        None
    }

    fn document_with(&self, literal: &BTreeSet<usize>) -> Result<(Option<RawDocumentBuf>, usize), String> {
        let mut reader = Reader { literal, count: 0 };
        let document = match self {
            Json::Object(pairs) => Some(reader.document(pairs)?),
            _ => None,
        };
        Ok((document, reader.count))
    }

    fn str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// The only value of an object with this one key.
    fn only(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(pairs) => match &pairs[..] {
                [(name, value)] if name == key => Some(value),
                _ => None,
            },
            _ => None,
        }
    }

    /// The values of an object with these two keys, in any order.
    fn both(&self, first: &str, second: &str) -> Option<(&Json, &Json)> {
        match self {
            Json::Object(pairs) if pairs.len() == 2 => Some((self.get(first)?, self.get(second)?)),
            _ => None,
        }
    }
}

/// Converts JSON to BSON.
struct Reader<'a> {
    /// Which of the objects that may be Extended JSON are taken literally, counted from 0.
    literal: &'a BTreeSet<usize>,
    /// The number of objects read so far that may be Extended JSON.
    count: usize,
}

impl Reader<'_> {
    fn document(&mut self, pairs: &[(String, Json)]) -> Result<RawDocumentBuf, String> {
        let mut out = RawDocumentBuf::new();
        for (key, value) in pairs {
            let name = CString::try_from(key.as_str()).map_err(|e| format!("the key {key:?}: {e}"))?;
            out.append(name, self.value(value)?);
        }
        Ok(out)
    }

    fn value(&mut self, json: &Json) -> Result<RawBson, String> {
        Ok(match json {
            Json::Null => RawBson::Null,
            Json::Bool(value) => RawBson::Boolean(*value),
            Json::Integer(value) => i32::try_from(*value).map_or(RawBson::Int64(*value), RawBson::Int32),
            Json::Double(value) => RawBson::Double(*value),
            Json::String(text) => RawBson::String(text.clone()),
            Json::Array(items) => {
                let mut out = RawArrayBuf::new();
                for item in items {
                    out.push(self.value(item)?);
                }
                RawBson::Array(out)
            }
            Json::Object(pairs) => match self.extended(pairs)? {
                Some(value) => value,
                None => RawBson::Document(self.document(pairs)?),
            },
        })
    }

    /// The value that an object stands for, if it is Extended JSON.
    fn extended(&mut self, pairs: &[(String, Json)]) -> Result<Option<RawBson>, String> {
        if !pairs.first().is_some_and(|(key, _)| key.starts_with('$')) {
            return Ok(None);
        }
        if let [(code, Json::String(text)), (scope, Json::Object(inner))] = pairs
            && (code.as_str(), scope.as_str()) == ("$code", "$scope")
        {
            if self.is_literal() {
                return Ok(None);
            }
            let scope = self.document(inner)?;
            let value = bson::raw::RawJavaScriptCodeWithScope { code: text.clone(), scope };
            return Ok(Some(RawBson::JavaScriptCodeWithScope(value)));
        }
        let value = match pairs {
            [(key, value)] => single(key, value),
            [(binary, Json::String(text)), (kind, Json::String(number))]
                if (binary.as_str(), kind.as_str()) == ("$binary", "$type") =>
            {
                binary_of(text, number)
            }
            _ => None,
        };
        Ok(value.filter(|_| !self.is_literal()))
    }

    /// Counts an object that may be Extended JSON; returns true if it is to be taken literally.
    fn is_literal(&mut self) -> bool {
        self.count += 1;
        self.literal.contains(&(self.count - 1))
    }
}

/// The value of an object with one key.
fn single(key: &str, value: &Json) -> Option<RawBson> {
    Some(match key {
        "$numberInt" => RawBson::Int32(value.str()?.parse().ok()?),
        "$numberLong" => RawBson::Int64(value.str()?.parse().ok()?),
        "$numberDouble" => RawBson::Double(match value.str()? {
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            "NaN" => f64::NAN,
            number => number.parse().ok().filter(|number: &f64| number.is_finite())?,
        }),
        "$numberDecimal" => RawBson::Decimal128(value.str()?.parse::<Decimal128>().ok()?),
        "$oid" => RawBson::ObjectId(ObjectId::parse_str(value.str()?).ok()?),
        "$symbol" => RawBson::Symbol(value.str()?.into()),
        "$code" => RawBson::JavaScriptCode(value.str()?.into()),
        "$minKey" => (*value == Json::Integer(1)).then_some(RawBson::MinKey)?,
        "$maxKey" => (*value == Json::Integer(1)).then_some(RawBson::MaxKey)?,
        "$undefined" => (*value == Json::Bool(true)).then_some(RawBson::Undefined)?,
        "$date" => RawBson::DateTime(date(value)?),
        "$binary" => {
            let (bytes, kind) = value.both("base64", "subType")?;
            binary_of(bytes.str()?, kind.str()?)?
        }
        "$uuid" => {
            let uuid = bson::Uuid::parse_str(value.str().filter(|text| text.len() == 36)?).ok()?;
            RawBson::Binary(bson::Binary::from_uuid(uuid))
        }
        "$timestamp" => match value.both("t", "i")? {
            (Json::Integer(t), Json::Integer(i)) => RawBson::Timestamp(Timestamp {
                time: u32::try_from(*t).ok()?,
                increment: u32::try_from(*i).ok()?,
            }),
            _ => return None,
        },
        "$regularExpression" => {
            let (pattern, options) = value.both("pattern", "options")?;
            RawBson::RegularExpression(Regex {
                pattern: CString::try_from(pattern.str()?).ok()?,
                options: CString::try_from(options.str()?).ok()?,
            })
        }
        "$dbPointer" => {
            let (namespace, id) = value.both("$ref", "$id")?;
            let (namespace, id) = (namespace.str()?, id.only("$oid")?.str()?);
            // The fields of a DBPointer are private to the bson crate; its own JSON is exact here.
            let json = serde_json::json!({"$dbPointer": {"$ref": namespace, "$id": {"$oid": id}}});
            RawBson::try_from(Bson::try_from(json).ok()?).ok()?
        }
        _ => return None,
    })
}

/// A time: canonical, or as versions of mongodump before 4.2 wrote it.
fn date(value: &Json) -> Option<DateTime> {
    match value {
        Json::Integer(millis) => Some(DateTime::from_millis(*millis)),
        Json::String(text) => DateTime::parse_rfc3339_str(text).ok(),
        _ => value.only("$numberLong")?.str()?.parse().ok().map(DateTime::from_millis),
    }
}

fn binary_of(bytes: &str, kind: &str) -> Option<RawBson> {
    let subtype = u8::from_str_radix(kind, 16).ok()?.into();
    Some(RawBson::Binary(bson::Binary { subtype, bytes: STANDARD.decode(bytes).ok()? }))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(Values)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Json, E> {
        Ok(i64::try_from(value).map_or(Json::Double(value as f64), Json::Integer))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Double(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = access.next_entry()? {
            pairs.push(pair);
        }
        Ok(Json::Object(pairs))
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawDocument, doc, rawdoc};
    use proptest::prelude::*;

    use super::*;
    use crate::dumpformat::extjson::write_document;

    fn read(text: &str) -> RawDocumentBuf {
        Json::parse(text).unwrap().document().unwrap().unwrap()
    }

    fn written(document: &RawDocument) -> String {
        let mut out = String::new();
        write_document(&mut out, document).unwrap();
        out
    }

    #[test]
    fn every_type_reads_back() {
        let document = doc! {
            "double": 1.0, "tiny": 5e-324, "neg": -0.0, "inf": f64::NEG_INFINITY, "s": "a\"\\\n<&>\u{1}ü",
            "d": {"a": {"b": []}}, "a": [1, 2i64, Bson::Null, true],
            "bin": bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![1; 16] },
            "b1": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 2, 3, 4] },
            "u": Bson::Undefined, "oid": ObjectId::from_bytes([7; 12]),
            "date": DateTime::from_millis(-1), "code": Bson::JavaScriptCode("f()".into()),
            "cws": bson::JavaScriptCodeWithScope { code: "f".into(), scope: doc! {"x": 1} },
            "sym": Bson::Symbol("s".into()), "ts": Timestamp { time: 1, increment: u32::MAX },
            "dec": "1.10".parse::<Decimal128>().unwrap(), "min": Bson::MinKey, "max": Bson::MaxKey,
        };
        let raw = RawDocumentBuf::try_from(&document).unwrap();
        assert_eq!(read(&written(&raw)), raw);
        let pointer = r#"{"p":{"$dbPointer":{"$ref":"a.b","$id":{"$oid":"0123456789abcdef01234567"}}}}"#;
        assert_eq!(written(&read(pointer)), pointer);
        let regex = r#"{"r":{"$regularExpression":{"pattern":"a.*","options":"xsmi"}}}"#;
        assert_eq!(written(&read(regex)), regex);
    }

    /// Old versions of mongodump wrote bare numbers, and times as text.
    #[test]
    fn what_old_versions_wrote_is_read() {
        let text = "{\"a\": 1, \"b\": 5000000000, \"c\": 1.0,\n \"d\": {\"$date\": \"1970-01-01T00:00:01Z\"}, \
                    \"e\": {\"$binary\": \"AAAA\", \"$type\": \"00\"}}";
        let binary = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0; 3] };
        let want =
            rawdoc! {"a": 1, "b": 5_000_000_000_i64, "c": 1.0, "d": DateTime::from_millis(1000), "e": binary};
        assert_eq!(read(text), want);
        assert_eq!(read(&format!("\u{feff}{text}")), want);
    }

    #[test]
    fn what_only_begins_like_extended_json_stays_a_document() {
        for text in [
            r#"{"p":{"$oid":{"bsonType":"string"}}}"#,
            r#"{"p":{"$date":{"bsonType":"date"}}}"#,
            r#"{"p":{"$binary":{"bsonType":"string"}}}"#,
            r#"{"p":{"$regex":"^a","$options":"i"}}"#,
            r#"{"p":{"$oid":"short"}}"#,
            r#"{"p":{"$numberLong":"5","x":"y"}}"#,
            r#"{"p":{"$uuid":"no"}}"#,
            r#"{"p":{"$undefined":false}}"#,
            r#"{"p":{"$code":"f()","$scope":"x"}}"#,
            r#"{"p":{"$timestamp":{"bsonType":"timestamp"}}}"#,
        ] {
            assert_eq!(written(&read(text)), text);
        }
    }

    #[test]
    fn duplicate_keys_stay_two() {
        assert_eq!(written(&read(r#"{"a":"one","a":"two"}"#)), r#"{"a":"one","a":"two"}"#);
        assert_eq!(
            Json::parse(r#"{"a":"one","a":"two"}"#).unwrap().get("a"),
            Some(&Json::String("two".into()))
        );
    }

    #[test]
    fn a_constant_is_found_when_the_right_document_is_known() {
        let constants = [
            rawdoc! {"$numberLong": "5"},
            rawdoc! {"$date": {"$numberLong": "5"}},
            rawdoc! {"$date": 5_i64},
            rawdoc! {"$undefined": true},
            rawdoc! {"$minKey": 1},
            rawdoc! {"$code": "f()", "$scope": {}},
        ];
        for constant in constants {
            let document =
                rawdoc! {"n": 1, "pipeline": [{"$limit": 7}, {"x": {"$literal": constant}}], "m": 2_i64};
            let json = Json::parse(&written(&document)).unwrap();
            assert_eq!(
                json.read_as(&|reading| *reading == document).as_ref(),
                Some(&document),
                "{document:?}"
            );
            assert_eq!(json.read_as(&|_| false), None);
        }
    }

    proptest! {
        #[test]
        fn doubles_and_binaries_read_back_exactly(bits in any::<u64>(), bytes in prop::collection::vec(any::<u8>(), 0..40), s in ".*") {
            let number = f64::from_bits(bits);
            prop_assume!(!number.is_nan());
            let binary = bson::Binary { subtype: bson::spec::BinarySubtype::UserDefined(0x81), bytes };
            let document = RawDocumentBuf::try_from(&doc! {"n": number, "b": binary, "s": s}).unwrap();
            prop_assert_eq!(read(&written(&document)), document);
        }
    }
}
