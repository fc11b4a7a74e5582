//! Finds and replaces the names of the collections and views that a view shows. A view that is restored under
//! another name still shows the same names; a trial of a view shows the trials of other views.

use std::collections::BTreeSet;

use bson::raw::cstr;
use bson::{RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::namespaces::Planned;
use crate::model::namespace::Type;

/// Stages that read another collection, with the field that names it. `$unionWith` can also be the name
/// itself.
const JOINS: [(&str, &str); 3] = [("$lookup", "from"), ("$graphLookup", "from"), ("$unionWith", "coll")];

/// A line for each view that shows a name under which its collection is not restored.
pub(super) fn astray(namespaces: &[Planned]) -> Vec<String> {
    let note = |view: &Planned| {
        let on = view.namespace.options.get_str("viewOn").ok()?;
        let shown = format!("{}.{on}", view.chosen.db);
        let collection =
            namespaces.iter().find(|n| n.source.db == view.source.db && n.source.collection == on)?;
        let (from, to) = (collection.source.name(), collection.chosen.name());
        (to != shown).then(|| {
            format!("the view {} will show {shown}, but {from} is restored as {to}", view.chosen.name())
        })
    };
    namespaces.iter().filter(|n| n.source.kind == Type::View).filter_map(note).collect()
}

/// The names of the collections and views that a view shows.
pub(super) fn shown(options: &RawDocument) -> BTreeSet<String> {
    let found = std::cell::RefCell::new(BTreeSet::new());
    showing(options, &|name| {
        found.borrow_mut().insert(name.to_string());
        None
    });
    found.into_inner()
}

/// The options of a view that shows the same names and does nothing else.
pub(super) fn bare(options: &RawDocument) -> RawDocumentBuf {
    let on = options.get_str("viewOn").unwrap_or_default();
    let mut pipeline = RawArrayBuf::new();
    shown(options)
        .into_iter()
        .filter(|name| name != on)
        .for_each(|name| pipeline.push(rawdoc! {"$unionWith": name}));
    let mut out = rawdoc! {"viewOn": on, "pipeline": pipeline};
    if let Ok(Some(collation)) = options.get("collation") {
        out.append(cstr!("collation"), collation);
    }
    out
}

/// The options of a view with other names: `other` returns the new name, or `None` to keep the name.
pub(super) fn showing(options: &RawDocument, other: &dyn Fn(&str) -> Option<String>) -> RawDocumentBuf {
    within(options, Some("viewOn"), other)
}

fn named(name: &str, other: &dyn Fn(&str) -> Option<String>) -> String {
    other(name).unwrap_or_else(|| name.into())
}

fn append(
    out: &mut RawDocumentBuf,
    key: &str,
    value: RawBsonRef<'_>,
    other: &dyn Fn(&str) -> Option<String>,
) {
    let Ok(at) = bson::raw::CString::try_from(key) else { return };
    let join = JOINS.iter().find(|(stage, _)| *stage == key);
    match value {
        RawBsonRef::String(name) if key == "$unionWith" => out.append(at, named(name, other)),
        RawBsonRef::Document(document) => {
            out.append(at, within(document, join.map(|(_, field)| *field), other))
        }
        RawBsonRef::Array(array) => {
            let mut list = RawArrayBuf::new();
            for one in array.into_iter().flatten() {
                match one {
                    RawBsonRef::Document(document) => list.push(within(document, None, other)),
                    one => list.push(one),
                }
            }
            out.append(at, list);
        }
        value => out.append(at, value),
    }
}

fn within(
    document: &RawDocument,
    field: Option<&str>,
    other: &dyn Fn(&str) -> Option<String>,
) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    for (key, value) in document.iter().flatten() {
        match value {
            RawBsonRef::String(name) if Some(key.as_str()) == field => out.append(key, named(name, other)),
            value => append(&mut out, key.as_str(), value, other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_that_a_view_shows_are_found() {
        let options = |a: &str, b: &str, c: &str, d: &str| {
            rawdoc! {"viewOn": a, "pipeline": [
                {"$lookup": {"from": b, "as": "x", "pipeline": [{"$unionWith": {"coll": c, "pipeline": []}}]}},
                {"$facet": {"y": [{"$unionWith": d}]}},
                {"$match": {"from": "e", "coll": "f"}},
            ], "collation": {"locale": "fr"}}
        };
        assert_eq!(shown(&options("a", "b", "c", "d")), ["a", "b", "c", "d"].map(String::from).into());
        let other = showing(&options("a", "b", "c", "d"), &|name| Some(format!("{name}2")));
        assert_eq!(other, options("a2", "b2", "c2", "d2"));
        let bare = bare(&options("a", "b", "c", "d"));
        assert_eq!(bare.get_array("pipeline").unwrap().into_iter().count(), 3);
        assert_eq!(shown(&bare), ["a", "b", "c", "d"].map(String::from).into());
        assert!(bare.get_document("collation").is_ok());
        let same = showing(&options("a", "b", "c", "d"), &|_| None);
        assert_eq!(same, options("a", "b", "c", "d"));
    }
}
