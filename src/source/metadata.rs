//! `metadata.json`: a namespace's options and indexes as mongodump writes them.

use bson::{Bson, Document, RawDocument, RawDocumentBuf};

use super::{Namespace, Type};
use crate::artifact::extjson;
use crate::error::{Error, Result};

/// The text of `metadata.json` for a namespace. Fields and their order: mongo-tools,
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
    out.push(']');
    if let Some(uuid) = uuid {
        out.push_str(&format!(",\"uuid\":\"{uuid}\""));
    }
    out.push_str(",\"collectionName\":");
    extjson::write_string(&mut out, collection);
    out.push_str(",\"type\":\"");
    out.push_str(match kind {
        Type::Collection => "collection",
        Type::View => "view",
        Type::Timeseries => "timeseries",
    });
    out.push_str("\"}");
    Ok(out)
}

/// A namespace from its `metadata.json`, as mongodump wrote it. An empty text (the oplog, users of
/// one database) is a collection of which nothing is known.
pub fn parse(db: &str, collection: &str, text: &str) -> Result<Namespace> {
    let broken = |why: &str| Error::failed(format!("the metadata of {db}.{collection} is damaged: {why}"));
    let json: serde_json::Value = if text.is_empty() {
        serde_json::json!({})
    } else {
        serde_json::from_str(text).map_err(|e| broken(&e.to_string()))?
    };
    let Bson::Document(document) = Bson::try_from(json).map_err(|e| broken(&e.to_string()))? else {
        return Err(broken("it is not an object"));
    };
    let raw = |d: &Document| RawDocumentBuf::try_from(d).map_err(|e| broken(&e.to_string()));
    let options = match document.get("options") {
        None => RawDocumentBuf::new(),
        Some(Bson::Document(options)) => raw(options)?,
        Some(_) => return Err(broken("its options are not an object")),
    };
    let mut indexes = Vec::new();
    if let Some(Bson::Array(rows)) = document.get("indexes") {
        for row in rows {
            indexes.push(raw(row.as_document().ok_or_else(|| broken("an index is not an object"))?)?);
        }
    }
    let kind = if options.get_document("timeseries").is_ok() {
        Type::Timeseries
    } else if options.get_str("viewOn").is_ok() {
        Type::View
    } else {
        Type::Collection
    };
    Ok(Namespace {
        db: db.into(),
        collection: collection.into(),
        kind,
        buckets: (kind == Type::Timeseries).then(|| format!("system.buckets.{collection}")),
        uuid: document.get_str("uuid").ok().map(str::to_string),
        options,
        indexes,
        metadata: text.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mongodump_wrote_is_written_the_same() {
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
    fn damage_names_the_namespace() {
        for text in ["{", "[]", r#"{"options":1}"#, r#"{"indexes":[1]}"#] {
            let error = parse("shop", "orders", text).unwrap_err();
            assert!(error.to_string().contains("shop.orders"), "{error}");
        }
    }
}
