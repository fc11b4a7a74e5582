//! An artifact of ours that still lies beside its index: the index has options and indexes as BSON, which the
//! artifact's Extended JSON may not tell exactly.

use std::collections::BTreeMap;
use std::path::Path;

use bson::RawDocumentBuf;

use crate::artifact::index::{FILE, Index};
use crate::source::{Namespace, Type, metadata};

/// An index of more bytes than this is not read: it is of no backup whose artifact is a mere file.
const LARGEST: u64 = 64 << 20;

/// Options and indexes.
type Shape = (RawDocumentBuf, Vec<RawDocumentBuf>);

/// Takes options and indexes from the index in the artifact's folder, where their text is that of the artifact.
/// Without an index, or if it is of another backup, nothing changes.
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
        // Of several that have one text the order decides: that of the index is by name.
        places.sort_by_key(|at| (namespaces[*at].db.clone(), namespaces[*at].collection.clone()));
        if places.len() == shapes.len() {
            for (at, (options, indexes)) in places.into_iter().zip(shapes) {
                (namespaces[at].options, namespaces[at].indexes) = (options.clone(), indexes.clone());
            }
        }
    }
}

/// What a `metadata.json` of ours says of options and indexes, which come first in it.
fn shape_text(text: &str) -> &str {
    let end =
        [r#"],"uuid":""#, r#"],"collectionName":""#].into_iter().filter_map(|next| text.rfind(next)).min();
    &text[..end.unwrap_or(0)]
}
