//! Canonical Extended JSON v2 from raw BSON and back, as `metadata.json` of a dump holds it.
//!
//! Written out here because decoding into a map would lose duplicate keys, and because the `bson`
//! crate (3.1) prints subnormal doubles as bare numbers, NaN with a sign, and sorts the flags of
//! regular expressions. Source: <https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md>.

mod read;

use std::fmt::Write;

use base64::Engine;
use bson::{RawArray, RawBsonRef, RawDocument};
use serde::ser::Error as _;

pub use read::Json;

use crate::base::bounds;

/// Appends `document` to `out`, without spaces, keys in their order.
///
/// # Errors
/// Returns an error if the bytes are not BSON, hold a string that is not UTF-8, which JSON cannot express, or are nested
/// deeper than [`bounds::DEEPEST`].
pub fn write_document(out: &mut String, document: &RawDocument) -> Result<(), bson::error::Error> {
    bounds::check_depth(document).map_err(bson::error::Error::custom)?;
    write_fields(out, document)
}

fn write_fields(out: &mut String, document: &RawDocument) -> Result<(), bson::error::Error> {
    out.push('{');
    for (i, element) in document.iter().enumerate() {
        let (key, value) = element?;
        if i > 0 {
            out.push(',');
        }
        write_string(out, key.as_str());
        out.push(':');
        write_value(out, value)?;
    }
    out.push('}');
    Ok(())
}

fn write_array(out: &mut String, array: &RawArray) -> Result<(), bson::error::Error> {
    out.push('[');
    for (i, value) in array.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_value(out, value?)?;
    }
    out.push(']');
    Ok(())
}

/// Appends `text` as a JSON string; only what JSON demands is escaped, not `<`, `>` or `&`.
pub fn write_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("a string is JSON"));
}

fn write_value(out: &mut String, value: RawBsonRef<'_>) -> Result<(), bson::error::Error> {
    // Writing to a String cannot fail.
    macro_rules! put { ($($t:tt)*) => { write!(out, $($t)*).expect("a String takes all") } }
    match value {
        RawBsonRef::Double(v) => put!(r#"{{"$numberDouble":"{}"}}"#, double(v)),
        RawBsonRef::String(v) => write_string(out, v),
        RawBsonRef::Document(v) => write_fields(out, v)?,
        RawBsonRef::Array(v) => write_array(out, v)?,
        RawBsonRef::Binary(v) => put!(
            r#"{{"$binary":{{"base64":"{}","subType":"{:02x}"}}}}"#,
            base64::engine::general_purpose::STANDARD.encode(v.bytes),
            u8::from(v.subtype)
        ),
        RawBsonRef::Undefined => out.push_str(r#"{"$undefined":true}"#),
        RawBsonRef::ObjectId(v) => put!(r#"{{"$oid":"{}"}}"#, v.to_hex()),
        RawBsonRef::Boolean(v) => put!("{v}"),
        RawBsonRef::DateTime(v) => put!(r#"{{"$date":{{"$numberLong":"{}"}}}}"#, v.timestamp_millis()),
        RawBsonRef::Null => out.push_str("null"),
        RawBsonRef::RegularExpression(v) => {
            out.push_str(r#"{"$regularExpression":{"pattern":"#);
            write_string(out, v.pattern.as_str());
            out.push_str(r#","options":"#);
            write_string(out, v.options.as_str());
            out.push_str("}}");
        }
        RawBsonRef::DbPointer(v) => {
            // The fields of a DBPointer are private to the bson crate; its own JSON is exact here.
            let json = bson::Bson::try_from(bson::RawBson::from(RawBsonRef::DbPointer(v)))?;
            put!("{}", json.into_canonical_extjson());
        }
        RawBsonRef::JavaScriptCode(v) => {
            out.push_str(r#"{"$code":"#);
            write_string(out, v);
            out.push('}');
        }
        RawBsonRef::JavaScriptCodeWithScope(v) => {
            out.push_str(r#"{"$code":"#);
            write_string(out, v.code);
            out.push_str(r#","$scope":"#);
            write_fields(out, v.scope)?;
            out.push('}');
        }
        RawBsonRef::Symbol(v) => {
            out.push_str(r#"{"$symbol":"#);
            write_string(out, v);
            out.push('}');
        }
        RawBsonRef::Int32(v) => put!(r#"{{"$numberInt":"{v}"}}"#),
        RawBsonRef::Timestamp(v) => put!(r#"{{"$timestamp":{{"t":{},"i":{}}}}}"#, v.time, v.increment),
        RawBsonRef::Int64(v) => put!(r#"{{"$numberLong":"{v}"}}"#),
        RawBsonRef::Decimal128(v) => put!(r#"{{"$numberDecimal":"{v}"}}"#),
        RawBsonRef::MinKey => out.push_str(r#"{"$minKey":1}"#),
        RawBsonRef::MaxKey => out.push_str(r#"{"$maxKey":1}"#),
    }
    Ok(())
}

/// The shortest text that reads back as the same double, with a point or an exponent in it.
fn double(v: f64) -> String {
    if v.is_nan() {
        "NaN".into()
    } else if v.is_infinite() {
        if v > 0.0 { "Infinity".into() } else { "-Infinity".into() }
    } else {
        format!("{v:?}")
    }
}

#[cfg(test)]
mod tests {
    use bson::{Document, RawDocumentBuf, doc};

    use super::*;

    fn json(document: &Document) -> String {
        let mut out = String::new();
        write_document(&mut out, &RawDocumentBuf::try_from(document).unwrap()).unwrap();
        out
    }

    #[test]
    fn the_example_of_mongodump() {
        let document = doc! {"v": 2, "key": {"_id": 1}, "name": "_id_"};
        assert_eq!(
            json(&document),
            r#"{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}"#
        );
    }

    #[test]
    fn regular_expressions_keep_the_order_of_their_flags() {
        let mut raw = RawDocumentBuf::new();
        raw.append(
            bson::raw::cstr!("r"),
            bson::Regex { pattern: "a.*".try_into().unwrap(), options: "imsx".try_into().unwrap() },
        );
        let mut bytes = raw.into_bytes();
        let at = bytes.windows(4).position(|w| w == b"imsx").unwrap();
        bytes[at..at + 4].copy_from_slice(b"xsmi");
        let mut out = String::new();
        write_document(&mut out, RawDocument::from_bytes(&bytes).unwrap()).unwrap();
        assert_eq!(out, r#"{"r":{"$regularExpression":{"pattern":"a.*","options":"xsmi"}}}"#);
    }

    #[test]
    fn duplicate_keys_stay_two() {
        let mut raw = RawDocumentBuf::new();
        raw.append(bson::raw::cstr!("a"), 1);
        raw.append(bson::raw::cstr!("a"), "two");
        let mut out = String::new();
        write_document(&mut out, &raw).unwrap();
        assert_eq!(out, r#"{"a":{"$numberInt":"1"},"a":"two"}"#);
    }
}
