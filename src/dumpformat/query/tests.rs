use bson::{RawBson, RawDocumentBuf, rawdoc};

use super::*;
use crate::base::exit::Exit;

fn matches(filter: &str, document: &RawDocumentBuf) -> bool {
    Query::parse(filter).unwrap_or_else(|e| panic!("{filter}: {}", e.chain())).matches(document).unwrap()
}

/// A comparison with `find` on a server is `get::oracle` of the integration tests.
#[test]
fn a_value_matches_an_element_of_an_array_or_the_array_itself() {
    let document = rawdoc! {"a": [1, [2, 3], {"b": 4}], "c": {"0": 5}, "d": [{"0": 6}, 7], "e": []};
    for (filter, wanted) in [
        (r#"{"a": 1}"#, true),
        (r#"{"a": 2}"#, false),
        (r#"{"a": [2, 3]}"#, true),
        (r#"{"a": {"b": 4}}"#, true),
        (r#"{"a.b": 4}"#, true),
        (r#"{"a.b": null}"#, false),
        (r#"{"a.1": [2, 3]}"#, true),
        (r#"{"a.1.0": 2}"#, true),
        (r#"{"a.01": [2, 3]}"#, false),
        (r#"{"c.0": 5}"#, true),
        (r#"{"d.0": 6}"#, true),
        (r#"{"d.1": 7}"#, true),
        (r#"{"e": {"$exists": true}}"#, true),
        (r#"{"e": []}"#, true),
        (r#"{"e.x": null}"#, false),
        (r#"{"x": null}"#, true),
        (r#"{"x": {"$in": [1, null]}}"#, true),
        (r#"{"x": {"$ne": 1}}"#, true),
        (r#"{"a": {"$not": {"$gt": 0}}}"#, false),
        (r#"{"$nor": [{"a": 9}, {"c": 5}]}"#, true),
        (r#"{"a": {"$gt": 0, "$lt": 1}}"#, false),
        (r#"{"c.0": {"$numberDecimal": "5.00"}}"#, true),
        (r#"{"c.0": {"$gt": "4"}}"#, false),
        ("{}", true),
    ] {
        assert_eq!(matches(filter, &document), wanted, "{filter}");
    }
}

/// `$in` finds undefined as a comparison with null does.
#[test]
fn undefined_is_null() {
    let mut document = RawDocumentBuf::new();
    document.append(bson::raw::cstr!("a"), RawBson::Undefined);
    assert!(matches(r#"{"a": null}"#, &document) && matches(r#"{"a": {"$in": [null, 1]}}"#, &document));
}

#[test]
fn an_unsupported_filter_is_named_with_the_supported_operators() {
    for (filter, named) in [
        ("", "not JSON"),
        ("[]", "not a document"),
        ("5", "not a document"),
        (r#"{"$where": "true"}"#, "$where"),
        (r#"{"$expr": {}}"#, "$expr"),
        (r#"{"a": {"$regex": "x"}}"#, "$regex"),
        (r#"{"a": {"$regularExpression": {"pattern": "x", "options": ""}}}"#, "$regex"),
        (r#"{"a": {"$in": [{"$regularExpression": {"pattern": "x", "options": ""}}]}}"#, "$regex"),
        (r#"{"a": {"$elemMatch": {}}}"#, "$elemMatch"),
        (r#"{"a": {"$oid": "5"}}"#, "$oid"),
        (r#"{"a": {"$gt": 1, "b": 2}}"#, "the field b"),
        (r#"{"a": {"$in": 1}}"#, "$in"),
        (r#"{"a": {"$in": [{"$gt": 1}]}}"#, "$gt"),
        (r#"{"a": {"$not": 1}}"#, "$not"),
        (r#"{"a": {"$exists": "x"}}"#, "$exists"),
        (r#"{"$and": []}"#, "$and"),
        (r#"{"$or": [1]}"#, "$or"),
        (r#"{"a": {"$undefined": true}}"#, "undefined"),
    ] {
        let error = Query::parse(filter).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage, "{filter}");
        assert!(error.chain().contains(named), "{filter}: {}", error.chain());
        assert!(error.next_step().is_some_and(|step| step.contains("$exists")), "{filter}");
    }
    let deep = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    assert_eq!(Query::parse(&deep).unwrap_err().exit(), Exit::Usage);
}

#[test]
fn an_id_is_a_value_in_extended_json() {
    let of = |id: &str| Query::of_id(id).unwrap();
    assert!(of("5").matches(&rawdoc! {"_id": 5_i64}).unwrap());
    assert!(of(r#"{"a": 1}"#).matches(&rawdoc! {"_id": {"a": 1.0}}).unwrap());
    assert!(!of("null").matches(&rawdoc! {"_id": 5}).unwrap());
    for (wrong, step) in [
        ("507f1f77bcf86cd799439011", r#"{"$oid": "507f1f77bcf86cd799439011"}"#),
        ("abc", r#"'"text"'"#),
        ("[1]", "ObjectId"),
        (r#"{"$gt": 1}"#, "ObjectId"),
    ] {
        let error = Query::of_id(wrong).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage, "{wrong}");
        assert!(error.next_step().unwrap().contains(step), "{wrong}: {:?}", error.next_step());
    }
}
