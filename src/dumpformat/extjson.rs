//! Extended JSON v2 from raw BSON and back. The canonical form is the format of `metadata.json`.
//!
//! The `bson` crate is not used for this: decoding into a map would lose duplicate keys, and `bson` 3.1
//! prints subnormal doubles as bare numbers, NaN with a sign, and sorts the flags of regular expressions.
//! Source: <https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md>.
//!
//! Options can contain constants that look like Extended JSON, such as `{$literal: {$numberLong: "5"}}`. In
//! the text such a constant looks the same as a 64-bit number. mongorestore reads a number, and so does this
//! reader (mongo-go-driver 2, `bson/extjson_parser.go`). A document that only begins like Extended JSON, for
//! example `{$oid: {bsonType: "string"}}`, makes mongorestore fail; this reader keeps it as a document.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bson::oid::ObjectId;
use bson::raw::{CString, cstr};
use bson::{
    Bson, DateTime, Decimal128, RawArray, RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf,
    Regex, Timestamp,
};
use chrono::Datelike;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::Error as _;

use crate::base::bounds;

/// Appends `document` to `out` without spaces. The keys keep their order.
///
/// # Errors
/// Returns an error if the bytes are not BSON, contain a string that is not UTF-8, or are nested deeper than
/// [`bounds::DEEPEST`].
pub fn write_document(out: &mut String, document: &RawDocument) -> Result<(), bson::error::Error> {
    bounds::check_depth(document).map_err(bson::error::Error::custom)?;
    write_fields(out, document, Form::Canonical)
}

/// Returns one value as canonical Extended JSON, without spaces.
///
/// # Errors
/// As [`write_document`].
pub fn value_text(value: RawBsonRef<'_>) -> Result<String, bson::error::Error> {
    let mut wrapped = RawDocumentBuf::new();
    wrapped.append(cstr!("v"), value);
    bounds::check_depth(&wrapped).map_err(bson::error::Error::custom)?;
    let mut out = String::new();
    write_value(&mut out, value, Form::Canonical)?;
    Ok(out)
}

/// As [`write_document`], in the relaxed form: numbers are JSON numbers, and times of the years 1970 to 9999 are text. The types of
/// numbers are lost.
///
/// # Errors
/// As [`write_document`].
pub fn write_relaxed(out: &mut String, document: &RawDocument) -> Result<(), bson::error::Error> {
    bounds::check_depth(document).map_err(bson::error::Error::custom)?;
    write_fields(out, document, Form::Relaxed)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Canonical,
    Relaxed,
}

fn write_fields(out: &mut String, document: &RawDocument, form: Form) -> Result<(), bson::error::Error> {
    for (i, element) in document.iter().enumerate() {
        let (key, value) = element?;
        out.push(if i == 0 { '{' } else { ',' });
        out.push_str(&quoted(key.as_str()));
        out.push(':');
        write_value(out, value, form)?;
    }
    out.push_str(if document.is_empty() { "{}" } else { "}" });
    Ok(())
}

fn write_array(out: &mut String, array: &RawArray, form: Form) -> Result<(), bson::error::Error> {
    for (i, value) in array.into_iter().enumerate() {
        out.push(if i == 0 { '[' } else { ',' });
        write_value(out, value?, form)?;
    }
    out.push_str(if array.is_empty() { "[]" } else { "]" });
    Ok(())
}

/// `text` as a JSON string. Only the characters that JSON requires are escaped, not `<`, `>` or `&`.
pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

fn write_value(out: &mut String, value: RawBsonRef<'_>, form: Form) -> Result<(), bson::error::Error> {
    macro_rules! put { ($($t:tt)*) => { write!(out, $($t)*).expect("writing to a String succeeds") } }
    match value {
        RawBsonRef::Double(v) if form == Form::Relaxed && v.is_finite() => out.push_str(&double(v)),
        RawBsonRef::Int32(v) if form == Form::Relaxed => put!("{v}"),
        RawBsonRef::Int64(v) if form == Form::Relaxed => put!("{v}"),
        RawBsonRef::DateTime(v)
            if form == Form::Relaxed
                && let Some(text) = date_text(v) =>
        {
            put!(r#"{{"$date":"{text}"}}"#);
        }
        RawBsonRef::Double(v) => put!(r#"{{"$numberDouble":"{}"}}"#, double(v)),
        RawBsonRef::String(v) => out.push_str(&quoted(v)),
        RawBsonRef::Document(v) => write_fields(out, v, form)?,
        RawBsonRef::Array(v) => write_array(out, v, form)?,
        RawBsonRef::Binary(v) => put!(
            r#"{{"$binary":{{"base64":"{}","subType":"{:02x}"}}}}"#,
            STANDARD.encode(v.bytes),
            u8::from(v.subtype)
        ),
        RawBsonRef::Undefined => out.push_str(r#"{"$undefined":true}"#),
        RawBsonRef::ObjectId(v) => put!(r#"{{"$oid":"{}"}}"#, v.to_hex()),
        RawBsonRef::Boolean(v) => put!("{v}"),
        RawBsonRef::DateTime(v) => put!(r#"{{"$date":{{"$numberLong":"{}"}}}}"#, v.timestamp_millis()),
        RawBsonRef::Null => out.push_str("null"),
        RawBsonRef::RegularExpression(v) => put!(
            r#"{{"$regularExpression":{{"pattern":{},"options":{}}}}}"#,
            quoted(v.pattern.as_str()),
            quoted(v.options.as_str())
        ),
        RawBsonRef::DbPointer(v) => {
            // The fields of a DBPointer are private to the bson crate; its own JSON is exact here.
            let json = bson::Bson::try_from(bson::RawBson::from(RawBsonRef::DbPointer(v)))?;
            put!("{}", json.into_canonical_extjson());
        }
        RawBsonRef::JavaScriptCode(v) => put!(r#"{{"$code":{}}}"#, quoted(v)),
        RawBsonRef::JavaScriptCodeWithScope(v) => {
            put!(r#"{{"$code":{},"$scope":"#, quoted(v.code));
            write_fields(out, v.scope, form)?;
            out.push('}');
        }
        RawBsonRef::Symbol(v) => put!(r#"{{"$symbol":{}}}"#, quoted(v)),
        RawBsonRef::Int32(v) => put!(r#"{{"$numberInt":"{v}"}}"#),
        RawBsonRef::Timestamp(v) => put!(r#"{{"$timestamp":{{"t":{},"i":{}}}}}"#, v.time, v.increment),
        RawBsonRef::Int64(v) => put!(r#"{{"$numberLong":"{v}"}}"#),
        RawBsonRef::Decimal128(v) => put!(r#"{{"$numberDecimal":"{v}"}}"#),
        RawBsonRef::MinKey => out.push_str(r#"{"$minKey":1}"#),
        RawBsonRef::MaxKey => out.push_str(r#"{"$maxKey":1}"#),
    }
    Ok(())
}

/// The text of a time of the years 1970 to 9999; `None` for another time.
fn date_text(time: DateTime) -> Option<String> {
    let millis = time.timestamp_millis();
    let time =
        chrono::DateTime::from_timestamp_millis(millis).filter(|time| time.year() <= 9999 && millis >= 0)?;
    let fraction = if millis % 1000 == 0 { "" } else { "%.3f" };
    Some(time.format(&format!("%Y-%m-%dT%H:%M:%S{fraction}Z")).to_string())
}

/// Returns the shortest text that reads back as the same double. It contains a point or an exponent.
fn double(v: f64) -> String {
    match v {
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        v => format!("{v:?}"),
    }
}

/// The most interpretations that [`Json::read_as`] tries. Large options take a second or two.
const INTERPRETATIONS: usize = 50_000;

/// A JSON value. Objects keep the order of their keys and duplicate keys; `serde_json::Value` would lose
/// both.
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
    /// Parses a text. Skips a byte order mark at its beginning.
    pub fn parse(text: &str) -> Result<Json, String> {
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|e| e.to_string())
    }

    /// Returns the value of a key of an object; the last one if the key occurs more than once.
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(pairs) => pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Converts an object to a document. Returns `None` if the value is not an object.
    pub fn document(&self) -> Result<Option<RawDocumentBuf>, String> {
        self.document_with(&BTreeSet::new()).map(|(document, _)| document)
    }

    /// Converts an object to the document that `is_right` accepts. An object that looks like Extended JSON
    /// may be a constant; up to two of them are taken literally. Returns `None` if `is_right` accepts no such
    /// interpretation.
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
                // Only later places are added, so that each set is tried once.
                let from = places.last().map_or(0, |last| last + 1);
                next.extend((from..count).map(|at| places.iter().copied().chain([at]).collect()));
                if tried > INTERPRETATIONS {
                    return None;
                }
            }
            literal = next;
        }
        None
    }

    fn document_with(&self, literal: &BTreeSet<usize>) -> Result<(Option<RawDocumentBuf>, usize), String> {
        let mut reader = JsonToBson { literal, count: 0 };
        let document = match self {
            Json::Object(pairs) => Some(reader.document(pairs)?),
            _ => None,
        };
        Ok((document, reader.count))
    }

    pub(super) fn str(&self) -> Option<&str> {
        if let Json::String(text) = self { Some(text) } else { None }
    }

    /// Returns the value of an object that has only this key.
    fn only(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(pairs) if pairs.len() == 1 => self.get(key),
            _ => None,
        }
    }

    /// Returns the values of an object that has only these two keys, in any order.
    fn both(&self, first: &str, second: &str) -> Option<(&Json, &Json)> {
        match self {
            Json::Object(pairs) if pairs.len() == 2 => Some((self.get(first)?, self.get(second)?)),
            _ => None,
        }
    }
}

/// Converts JSON to BSON.
struct JsonToBson<'a> {
    /// The objects that are taken literally, as numbers in the sequence of objects that may be Extended JSON.
    literal: &'a BTreeSet<usize>,
    /// The number of such objects so far.
    count: usize,
}

impl JsonToBson<'_> {
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
                let items: Result<RawArrayBuf, String> = items.iter().map(|item| self.value(item)).collect();
                RawBson::Array(items?)
            }
            Json::Object(pairs) => match self.extended(pairs)? {
                Some(value) => value,
                None => RawBson::Document(self.document(pairs)?),
            },
        })
    }

    /// Returns the value of an object in Extended JSON.
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

    /// Counts an object that may be Extended JSON. Returns true if it is taken literally.
    fn is_literal(&mut self) -> bool {
        self.count += 1;
        self.literal.contains(&(self.count - 1))
    }
}

/// Returns the value of an object in Extended JSON with one key.
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

/// Parses a date: canonical, or in the form of mongodump before 4.2.
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
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
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
        std::iter::from_fn(|| access.next_element().transpose()).collect::<Result<_, _>>().map(Json::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        std::iter::from_fn(|| access.next_entry().transpose()).collect::<Result<_, _>>().map(Json::Object)
    }
}

#[cfg(test)]
mod tests;
