use bson::{Document, doc, rawdoc};
use proptest::prelude::*;

use super::*;

fn json(document: &Document) -> String {
    let mut out = String::new();
    write_document(&mut out, &RawDocumentBuf::try_from(document).unwrap()).unwrap();
    out
}

#[test]
fn an_index_is_written_like_mongodump_does() {
    let document = doc! {"v": 2, "key": {"_id": 1}, "name": "_id_"};
    assert_eq!(json(&document), r#"{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}"#);
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
fn duplicate_keys_are_written() {
    let mut raw = RawDocumentBuf::new();
    raw.append(bson::raw::cstr!("a"), 1);
    raw.append(bson::raw::cstr!("a"), "two");
    let mut out = String::new();
    write_document(&mut out, &raw).unwrap();
    assert_eq!(out, r#"{"a":{"$numberInt":"1"},"a":"two"}"#);
}

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

/// Old versions of mongodump wrote bare numbers, and dates as text.
#[test]
fn text_of_old_versions_is_read() {
    let text = "{\"a\": 1, \"b\": 5000000000, \"c\": 1.0,\n \"d\": {\"$date\": \"1970-01-01T00:00:01Z\"}, \
                \"e\": {\"$binary\": \"AAAA\", \"$type\": \"00\"}}";
    let binary = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0; 3] };
    let want =
        rawdoc! {"a": 1, "b": 5_000_000_000_i64, "c": 1.0, "d": DateTime::from_millis(1000), "e": binary};
    assert_eq!(read(text), want);
    assert_eq!(read(&format!("\u{feff}{text}")), want);
}

#[test]
fn a_document_that_only_begins_like_extended_json_stays_a_document() {
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
fn duplicate_keys_are_read() {
    assert_eq!(written(&read(r#"{"a":"one","a":"two"}"#)), r#"{"a":"one","a":"two"}"#);
    assert_eq!(Json::parse(r#"{"a":"one","a":"two"}"#).unwrap().get("a"), Some(&Json::String("two".into())));
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
        assert_eq!(json.read_as(&|reading| *reading == document).as_ref(), Some(&document), "{document:?}");
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
