//! `metadata.json`: the options and indexes of a namespace as mongodump writes them.

use bson::{RawDocument, RawDocumentBuf};

use crate::base::error::{Error, Result};
use crate::dumpformat::extjson::{self, Json};
use crate::model::namespace::{BUCKETS, Namespace, Type};

/// Renders `metadata.json`. The source of the fields and their order is mongo-tools,
/// `mongodump/metadata_dump.go`.
pub fn render(
    collection: &str,
    kind: Type,
    uuid: Option<&str>,
    options: &RawDocument,
    indexes: &[RawDocumentBuf],
) -> Result<String, bson::error::Error> {
    let mut out = String::from("{");
    if !options.is_empty() {
        out.push_str("\"options\":");
        extjson::write_document(&mut out, options)?;
        out.push(',');
    }
    out.push_str("\"indexes\":[");
    for (i, index) in indexes.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        extjson::write_document(&mut out, index)?;
    }
    let uuid = uuid.map(|uuid| format!("\"uuid\":\"{uuid}\",")).unwrap_or_default();
    let name = extjson::quoted(collection);
    out.push_str(&format!("],{uuid}\"collectionName\":{name},\"type\":\"{}\"}}", kind.as_str()));
    Ok(out)
}

/// Parses `metadata.json`. An empty text, which mongodump writes for the oplog and for the users of one
/// database, is a collection without options and indexes.
///
/// # Errors
/// Returns an error that names the namespace if the text is damaged.
pub fn parse(db: &str, collection: &str, text: &str) -> Result<Namespace> {
    let broken = |why: String| Error::failed(format!("the metadata of {db}.{collection} is damaged: {why}"));
    let json = json(text).map_err(broken)?;
    let document = |json: &Json, what: &str| {
        let document = json.document().map_err(broken)?;
        document.ok_or_else(|| broken(format!("{what} not an object")))
    };
    let options = match json.get("options") {
        None | Some(Json::Null) => RawDocumentBuf::new(),
        Some(options) => document(options, "its options are")?,
    };
    let indexes = match json.get("indexes") {
        None | Some(Json::Null) => Vec::new(),
        Some(Json::Array(rows)) => {
            rows.iter().map(|row| document(row, "an index is")).collect::<Result<_>>()?
        }
        Some(_) => return Err(broken("its indexes are not a list".into())),
    };
    let uuid = json.get("uuid").and_then(Json::str).map(String::from);
    Ok(Namespace { uuid, metadata: text.into(), ..of(db, collection, options, indexes) })
}

/// Makes a namespace with these options and indexes, without UUID and text.
pub fn of(db: &str, collection: &str, options: RawDocumentBuf, indexes: Vec<RawDocumentBuf>) -> Namespace {
    let kind = if options.get_document("timeseries").is_ok() {
        Type::Timeseries
    } else if options.get("viewOn").is_ok_and(|value| value.is_some()) {
        Type::View
    } else {
        Type::Collection
    };
    Namespace {
        db: db.into(),
        collection: collection.into(),
        kind,
        buckets: (kind == Type::Timeseries).then(|| format!("{BUCKETS}{collection}")),
        uuid: None,
        options,
        indexes,
        metadata: String::new(),
    }
}

/// Parses the text of `metadata.json`. An empty text is an empty object.
fn json(text: &str) -> Result<Json, String> {
    let json = match text.trim_start_matches('\u{feff}').trim() {
        "" => Json::Object(Vec::new()),
        _ => Json::parse(text)?,
    };
    match json {
        Json::Object(_) => Ok(json),
        _ => Err("it is not an object".into()),
    }
}

/// Returns the collection's name in the text. Versions of mongodump before 4.4 did not write it.
pub fn collection_name(text: &str) -> Option<String> {
    json(text).ok()?.get("collectionName")?.str().map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_mongodump_is_rendered_byte_for_byte() {
        for text in [
            r#"{"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}],"uuid":"7105a2817a4542899be20bd048e2c835","collectionName":"c","type":"collection"}"#,
            r#"{"options":{"viewOn":"src","pipeline":[{"$match":{"a":{"$gt":{"$numberInt":"1"}}}}]},"indexes":[],"collectionName":"view1","type":"view"}"#,
            r#"{"options":{"expireAfterSeconds":{"$numberLong":"1000000000"},"timeseries":{"timeField":"ts"}},"indexes":[],"collectionName":"weather","type":"timeseries"}"#,
        ] {
            let collection = serde_json::from_str::<serde_json::Value>(text).unwrap()["collectionName"]
                .as_str()
                .unwrap()
                .to_string();
            let ns = parse("d", &collection, text).unwrap();
            let again = render(&collection, ns.kind, ns.uuid.as_deref(), &ns.options, &ns.indexes).unwrap();
            assert_eq!(again, text);
        }
        let weather = parse("d", "w", r#"{"options":{"timeseries":{"timeField":"ts"}}}"#).unwrap();
        assert_eq!(weather.data_collection(), "system.buckets.w");
    }

    #[test]
    fn the_error_of_damaged_text_names_the_namespace() {
        for text in ["{", "[]", r#"{"options":1}"#, r#"{"indexes":[1]}"#] {
            let error = parse("shop", "orders", text).unwrap_err();
            assert!(error.to_string().contains("shop.orders"), "{error}");
        }
    }
}
