//! Views under other names: what they show is part of their options, and stays as it is.

use super::plan::Planned;
use crate::source::Type;

/// A line for each view that shows a name which its collection will not have.
pub fn astray(namespaces: &[Planned]) -> Vec<String> {
    let note = |view: &Planned| {
        let on = view.namespace.options.get_str("viewOn").ok()?;
        let shown = format!("{}.{on}", view.chosen.db);
        let collection =
            namespaces.iter().find(|n| n.offer.db == view.offer.db && n.offer.collection == on)?;
        let (from, to) = (collection.offer.name(), collection.chosen.name());
        (to != shown).then(|| {
            format!("the view {} will show {shown}, but {from} is restored as {to}", view.chosen.name())
        })
    };
    namespaces.iter().filter(|n| n.offer.kind == Type::View).filter_map(note).collect()
}
