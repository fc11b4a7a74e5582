//! Options and indexes of a namespace, as its `metadata.json` has them, compared with the digests in the manifest.

use bson::RawDocumentBuf;

use crate::dumpformat::extjson::Json;
use crate::model::manifest::NamespaceEntry;
use crate::model::namespace::Namespace;

/// The namespace with exactly the options and indexes that the manifest has digests of. If a text can be read in more
/// than one way, the digests decide.
///
/// # Errors
/// Returns an error that says what differs.
pub fn checked(namespace: &Namespace, entry: &NamespaceEntry) -> Result<Namespace, String> {
    if entry.differs(&namespace.options, &namespace.indexes).is_none() {
        return Ok(namespace.clone());
    }
    let is = |document: &RawDocumentBuf, digest: &str| {
        blake3::hash(document.as_bytes()).to_hex().as_str() == digest
    };
    let read = |json: &Json, digest: &str| json.read_as(&|document| is(document, digest));
    let wrong_options = || "has other options than the manifest says".to_string();
    let wrong_indexes = || "has other indexes than the manifest says".to_string();
    let json = Json::parse(&namespace.metadata).map_err(|why| format!("is damaged: {why}"))?;
    let options = match json.get("options") {
        Some(options) => read(options, &entry.options_blake3).ok_or_else(wrong_options)?,
        None if is(&RawDocumentBuf::new(), &entry.options_blake3) => RawDocumentBuf::new(),
        None => return Err(wrong_options()),
    };
    let rows = match json.get("indexes") {
        Some(Json::Array(rows)) if rows.len() == entry.indexes.len() => rows,
        _ => return Err(wrong_indexes()),
    };
    let indexes = rows.iter().zip(&entry.indexes).map(|(row, index)| read(row, &index.blake3));
    let indexes = indexes.collect::<Option<Vec<_>>>().ok_or_else(wrong_indexes)?;
    Ok(Namespace { options, indexes, ..namespace.clone() })
}
