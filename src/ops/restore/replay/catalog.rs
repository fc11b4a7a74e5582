//! The namespaces of a replay and their indexes, which are built when it is over: a unique one would not stand
//! what lies between.

use std::collections::BTreeMap;

use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

use super::action::{Action, Edit};
use super::names::Named;
use crate::model::namespace::Type;
use crate::ops::restore::plan::Planned;
use crate::restore_target::shape;

/// Database and name at the target.
pub type Key = (String, String);

/// The namespaces.
#[derive(Debug, Default)]
pub struct Catalog(BTreeMap<Key, Known>);

#[derive(Debug, Default)]
struct Known {
    /// Its database in the backup.
    from_db: String,
    view: bool,
    collated: bool,
    indexes: Vec<Index>,
}

#[derive(Debug)]
struct Index {
    /// The collection on which it is built: a replay knows those of a time series as indexes of its buckets.
    on: String,
    spec: RawDocumentBuf,
}

/// Indexes to build.
#[derive(Debug, PartialEq)]
pub struct Build {
    /// Of which namespace.
    pub of: Key,
    /// The collection.
    pub on: String,
    /// What `createIndexes` takes.
    pub specs: Vec<RawDocumentBuf>,
}

impl Catalog {
    /// What is restored before the replay.
    pub fn new<'a>(planned: impl Iterator<Item = &'a Planned>) -> Catalog {
        let known = |planned: &Planned| {
            let (chosen, namespace) = (&planned.chosen, &planned.namespace);
            let index = |spec: &RawDocumentBuf| Index { on: chosen.collection.clone(), spec: spec.clone() };
            let known = Known {
                from_db: planned.offer.db.clone(),
                view: namespace.kind == Type::View,
                collated: namespace.options.get_document("collation").is_ok(),
                indexes: namespace.indexes.iter().map(index).collect(),
            };
            ((chosen.db.clone(), chosen.collection.clone()), known)
        };
        Catalog(planned.map(known).collect())
    }

    /// Follows a step.
    pub fn follow(&mut self, action: &Action) {
        match action {
            Action::Write { .. } | Action::Modify { .. } => {}
            Action::Create { to, view, collated, .. } => {
                let known = self.known(to);
                if known.view != *view {
                    known.indexes.clear();
                }
                (known.view, known.collated) = (*view, *collated);
            }
            Action::Drop(named) => {
                self.0.remove(&named.key());
            }
            Action::DropAll { from_db, views } => {
                self.0.retain(|_, known| known.from_db != *from_db || *views && !known.view);
            }
            Action::Rename { from, to, .. } => {
                if let Some(mut known) = self.0.remove(&from.key()) {
                    known.indexes.iter_mut().for_each(|index| index.on = to.collection.clone());
                    self.0.insert(to.key(), known);
                }
            }
            Action::Index { to, edit } => self.known(to).edit(to, edit),
        }
    }

    fn known(&mut self, named: &Named) -> &mut Known {
        let new = || Known { from_db: named.from_db.clone(), ..Known::default() };
        self.0.entry(named.key()).or_insert_with(new)
    }

    /// All of them.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }

    /// Whether this one was restored, or made by the replay.
    pub fn has(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    /// Those of a database of the backup, or its views.
    pub fn of_database(&self, from_db: &str, views: bool) -> Vec<Key> {
        let of = self.0.iter().filter(|(_, known)| known.from_db == from_db && (known.view || !views));
        of.map(|(key, _)| key.clone()).collect()
    }

    /// The indexes to build.
    pub fn builds(&self) -> Vec<Build> {
        let mut builds = Vec::new();
        for (key, known) in self.0.iter().filter(|(_, known)| !known.view) {
            let mut by_place: BTreeMap<&str, Vec<RawDocumentBuf>> = BTreeMap::new();
            for index in &known.indexes {
                by_place.entry(&index.on).or_default().push(index.spec.clone());
            }
            for (on, specs) in by_place {
                let specs = shape::built(&specs, known.collated);
                if !specs.is_empty() {
                    builds.push(Build { of: key.clone(), on: on.into(), specs });
                }
            }
        }
        builds
    }
}

impl Known {
    fn edit(&mut self, to: &Named, edit: &Edit) {
        match edit {
            Edit::Put(specs) => {
                for spec in specs {
                    if let Ok(name) = spec.get_str("name") {
                        self.indexes.retain(|index| !is(&index.spec, &name.into()));
                    }
                    self.indexes.push(Index { on: to.stored(), spec: spec.clone() });
                }
            }
            Edit::Remove(RawBson::String(all)) if all == "*" => {
                self.indexes.retain(|index| shape::is_own(&index.spec));
            }
            Edit::Remove(which) => self.indexes.retain(|index| !is(&index.spec, which)),
            // One that is not known was dropped later, before its collection was read.
            Edit::Change(change) => {
                let which = ["name", "keyPattern"].into_iter().find_map(|by| change.get(by).ok()?);
                let Some(which) = which.map(RawBson::from) else { return };
                for index in self.indexes.iter_mut().filter(|index| is(&index.spec, &which)) {
                    index.spec = changed(&index.spec, change);
                }
            }
        }
    }
}

/// Whether it is the index with this name or this key.
fn is(spec: &RawDocument, which: &RawBson) -> bool {
    match which {
        RawBson::String(name) => spec.get_str("name").is_ok_and(|own| own == name),
        RawBson::Document(key) => spec.get_document("key").is_ok_and(|own| own.as_bytes() == key.as_bytes()),
        _ => false,
    }
}

/// The index with other options, as `listIndexes` would show it.
fn changed(spec: &RawDocument, change: &RawDocument) -> RawDocumentBuf {
    let options: Vec<_> =
        change.iter().flatten().filter(|(key, _)| !["name", "keyPattern"].contains(&key.as_str())).collect();
    let set = |name: &str| {
        options.iter().any(|(key, value)| key.as_str() == name && *value == RawBsonRef::Boolean(true))
    };
    let mut out = RawDocumentBuf::new();
    for (key, value) in spec.iter().flatten() {
        let name = key.as_str();
        // One that has become unique no longer prepares for it, and the other way round.
        let over = name == "prepareUnique" && set("unique") || name == "unique" && set("forceNonUnique");
        if !over && !options.iter().any(|(other, _)| other.as_str() == name) {
            out.append(key, value);
        }
    }
    for (key, value) in options {
        // Only what is on is shown.
        if value != RawBsonRef::Boolean(false) && key.as_str() != "forceNonUnique" {
            out.append(key, value);
        }
    }
    out
}

#[cfg(test)]
mod tests;
