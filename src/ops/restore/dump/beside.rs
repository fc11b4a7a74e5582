//! Reads the index object that lies in the same folder as an artifact of this tool. It has options and indexes as BSON;
//! the artifact has them only as Extended JSON, which is not always exact.

use std::collections::BTreeMap;
use std::path::Path;

use bson::RawDocumentBuf;

use crate::dumpformat::metadata;
use crate::model::index::{FILE, Index, LARGEST};
use crate::model::namespace::{Namespace, Type};

/// Options and indexes.
type Shape = (RawDocumentBuf, Vec<RawDocumentBuf>);

/// Replaces options and indexes by those of the index object in the artifact's folder, if both have the same text.
/// Without an index object, or with one of another backup, nothing changes.
pub fn exact(artifact: &Path, namespaces: &mut [Namespace]) {
    let path = artifact.with_file_name(FILE);
    let small = std::fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() <= LARGEST);
    let Some(index) = small.then(|| std::fs::read(&path).ok()).flatten() else { return };
    let Ok(index) = Index::decode(&index) else { return };
    let mut shapes: BTreeMap<String, Vec<Shape>> = BTreeMap::new();
    for shape in index.namespaces.iter().filter_map(|described| described.documents().ok()) {
        let Ok(text) = metadata::render("", Type::Collection, None, &shape.0, &shape.1) else { continue };
        shapes.entry(shape_text(&text).into()).or_default().push(shape);
    }
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, namespace) in namespaces.iter().enumerate() {
        places.entry(shape_text(&namespace.metadata).into()).or_default().push(at);
    }
    for (text, mut places) in places {
        let Some(shapes) = shapes.get(&text) else { continue };
        // Namespaces with the same text are matched in the order of their names, as the index object lists them.
        places.sort_by_key(|at| (namespaces[*at].db.clone(), namespaces[*at].collection.clone()));
        if places.len() == shapes.len() {
            for (at, (options, indexes)) in places.into_iter().zip(shapes) {
                (namespaces[at].options, namespaces[at].indexes) = (options.clone(), indexes.clone());
            }
        }
    }
}

/// The part of a `metadata.json` of this tool that has options and indexes; they come first in it.
fn shape_text(text: &str) -> &str {
    let end =
        [r#"],"uuid":""#, r#"],"collectionName":""#].into_iter().filter_map(|next| text.rfind(next)).min();
    &text[..end.unwrap_or(0)]
}
