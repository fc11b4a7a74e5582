//! The namespaces of a replay and their indexes. Indexes are built after the replay, because the states in
//! between may break a unique index.

use std::collections::BTreeMap;

use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

use super::action::{IndexEdit, ReplayStep};
use crate::model::namespace::Type;
use crate::ops::restore::filter::TargetNamespace;
use crate::ops::restore::namespaces::{NamespaceKey, Planned};
use crate::restore_target::collections;

#[derive(Debug, Default)]
pub(crate) struct ReplayCatalog(BTreeMap<NamespaceKey, KnownNamespace>);

#[derive(Debug, Default)]
struct KnownNamespace {
    /// The database in the backup.
    from_db: String,
    view: bool,
    collated: bool,
    indexes: Vec<KnownIndex>,
}

#[derive(Debug)]
struct KnownIndex {
    /// The collection on which it is built: for a time series the bucket collection, if a replayed command
    /// built it.
    on: String,
    spec: RawDocumentBuf,
}

/// The indexes to build on a collection.
#[derive(Debug, PartialEq)]
pub(crate) struct Build {
    pub of: NamespaceKey,
    /// The collection, or its bucket collection.
    pub on: String,
    pub specs: Vec<RawDocumentBuf>,
}

impl ReplayCatalog {
    /// Starts with the restored namespaces.
    pub(crate) fn new<'a>(planned: impl Iterator<Item = &'a Planned>) -> ReplayCatalog {
        let known = |planned: &Planned| {
            let (chosen, namespace) = (&planned.chosen, &planned.namespace);
            let index =
                |spec: &RawDocumentBuf| KnownIndex { on: chosen.collection.clone(), spec: spec.clone() };
            let known = KnownNamespace {
                from_db: planned.source.db.clone(),
                view: namespace.kind == Type::View,
                collated: namespace.options.get_document("collation").is_ok(),
                indexes: namespace.indexes.iter().map(index).collect(),
            };
            ((chosen.db.clone(), chosen.collection.clone()), known)
        };
        ReplayCatalog(planned.map(known).collect())
    }

    /// Applies a step.
    pub(crate) fn follow(&mut self, action: &ReplayStep) {
        match action {
            ReplayStep::Write { .. } | ReplayStep::Modify { .. } => {}
            ReplayStep::Create { to, view, collated, .. } => {
                let known = self.known(to);
                if known.view != *view {
                    known.indexes.clear();
                }
                (known.view, known.collated) = (*view, *collated);
            }
            ReplayStep::Drop(named) => {
                self.0.remove(&named.key());
            }
            ReplayStep::DropAll { from_db, views } => {
                self.0.retain(|_, known| known.from_db != *from_db || *views && !known.view);
            }
            ReplayStep::Rename { from, to, .. } => {
                if let Some(mut known) = self.0.remove(&from.key()) {
                    known.indexes.iter_mut().for_each(|index| index.on = to.collection.clone());
                    self.0.insert(to.key(), known);
                }
            }
            ReplayStep::Index { to, edit } => self.known(to).edit(to, edit),
        }
    }

    fn known(&mut self, named: &TargetNamespace) -> &mut KnownNamespace {
        let new = || KnownNamespace { from_db: named.from_db.clone(), ..KnownNamespace::default() };
        self.0.entry(named.key()).or_insert_with(new)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &NamespaceKey> {
        self.0.keys()
    }

    /// Returns true if a namespace was restored or created by the replay.
    pub(crate) fn has(&self, key: &NamespaceKey) -> bool {
        self.0.contains_key(key)
    }

    /// The namespaces of a database of the backup, or only its views.
    pub(super) fn of_database(&self, from_db: &str, views: bool) -> Vec<NamespaceKey> {
        let of = self.0.iter().filter(|(_, known)| known.from_db == from_db && (known.view || !views));
        of.map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn builds(&self) -> Vec<Build> {
        let mut builds = Vec::new();
        for (key, known) in self.0.iter().filter(|(_, known)| !known.view) {
            let mut by_place: BTreeMap<&str, Vec<RawDocumentBuf>> = BTreeMap::new();
            for index in &known.indexes {
                by_place.entry(&index.on).or_default().push(index.spec.clone());
            }
            for (on, specs) in by_place {
                let specs = collections::built(&specs, known.collated);
                if !specs.is_empty() {
                    builds.push(Build { of: key.clone(), on: on.into(), specs });
                }
            }
        }
        builds
    }
}

impl KnownNamespace {
    fn edit(&mut self, to: &TargetNamespace, edit: &IndexEdit) {
        match edit {
            IndexEdit::Put(specs) => {
                for spec in specs {
                    if let Ok(name) = spec.get_str("name") {
                        self.indexes.retain(|index| !is(&index.spec, &name.into()));
                    }
                    self.indexes.push(KnownIndex { on: to.stored(), spec: spec.clone() });
                }
            }
            IndexEdit::Remove(RawBson::String(all)) if all == "*" => {
                self.indexes.retain(|index| collections::is_own(&index.spec));
            }
            IndexEdit::Remove(which) => self.indexes.retain(|index| !is(&index.spec, which)),
            // An unknown index was dropped later, before its collection was read.
            IndexEdit::Change(change) => {
                let which = ["name", "keyPattern"].into_iter().find_map(|by| change.get(by).ok()?);
                let Some(which) = which.map(RawBson::from) else { return };
                for index in self.indexes.iter_mut().filter(|index| is(&index.spec, &which)) {
                    index.spec = changed(&index.spec, change);
                }
            }
        }
    }
}

/// Returns true if the index has this name or this key.
fn is(spec: &RawDocument, which: &RawBson) -> bool {
    match which {
        RawBson::String(name) => spec.get_str("name").is_ok_and(|own| own == name),
        RawBson::Document(key) => spec.get_document("key").is_ok_and(|own| own.as_bytes() == key.as_bytes()),
        _ => false,
    }
}

/// The index with changed options, in the form of `listIndexes`.
fn changed(spec: &RawDocument, change: &RawDocument) -> RawDocumentBuf {
    let options: Vec<_> =
        change.iter().flatten().filter(|(key, _)| !["name", "keyPattern"].contains(&key.as_str())).collect();
    let set = |name: &str| {
        options.iter().any(|(key, value)| key.as_str() == name && *value == RawBsonRef::Boolean(true))
    };
    let mut out = RawDocumentBuf::new();
    for (key, value) in spec.iter().flatten() {
        let name = key.as_str();
        // A unique index no longer prepares for uniqueness, and the reverse.
        let over = name == "prepareUnique" && set("unique") || name == "unique" && set("forceNonUnique");
        if !over && !options.iter().any(|(other, _)| other.as_str() == name) {
            out.append(key, value);
        }
    }
    for (key, value) in options {
        // `listIndexes` does not show options that are false.
        if value != RawBsonRef::Boolean(false) && key.as_str() != "forceNonUnique" {
            out.append(key, value);
        }
    }
    out
}

#[cfg(test)]
mod tests;
