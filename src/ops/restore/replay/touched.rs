//! The documents that an oplog slice writes. A restore that chooses documents one by one needs the others only as the backup read
//! them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use bson::RawDocument;

use super::lanes::{id_key, written_id};
use crate::dumpformat::oplog::script::ReplayStep;
use crate::ops::restore::namespaces::NamespaceKey;

/// The most `_id`s that are remembered in all. A hash set of them takes 18 MiB.
pub(crate) const REMEMBERED: usize = 1_000_000;

/// The documents of a namespace that the slice may write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Touched {
    All,
    /// The keys of their `_id`s. Other documents may have the same keys.
    Keys(HashSet<u64>),
}

impl Touched {
    /// Returns true if the slice may write this document. A write without an `_id` may concern all documents, so no write concerns
    /// a document without an `_id` alone.
    pub(crate) fn has(&self, document: &RawDocument) -> bool {
        match (self, document.get("_id")) {
            (Touched::All, _) => true,
            (Touched::Keys(keys), Ok(Some(id))) => keys.contains(&id_key(id)),
            (Touched::Keys(_), _) => false,
        }
    }

    /// Returns true if the slice writes no document: it changes only options or indexes.
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Touched::Keys(keys) if keys.is_empty())
    }
}

/// The documents that a slice writes, by their namespaces at the target.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TouchedDocuments {
    namespaces: BTreeMap<NamespaceKey, Arc<Touched>>,
    /// How many more `_id`s may be remembered.
    room: usize,
}

impl TouchedDocuments {
    /// `most` is the number of `_id`s that may be remembered.
    pub(super) fn new(most: usize) -> TouchedDocuments {
        TouchedDocuments { namespaces: BTreeMap::new(), room: most }
    }

    pub(super) fn take(&mut self, step: &ReplayStep) {
        match step {
            ReplayStep::Write { to, operation, .. } => self.write(to.key(), operation),
            ReplayStep::Index { .. } => self.name(step),
            ReplayStep::Modify { form, .. } if form.name() == "collMod" => self.name(step),
            step => step.namespaces().iter().for_each(|named| self.take_all(named.key())),
        }
    }

    fn name(&mut self, step: &ReplayStep) {
        for named in step.namespaces() {
            self.of_name(named.key());
        }
    }

    fn of_name(&mut self, key: NamespaceKey) -> &mut Touched {
        let touched = self.namespaces.entry(key).or_insert_with(|| Arc::new(Touched::Keys(HashSet::new())));
        Arc::make_mut(touched)
    }

    fn write(&mut self, key: NamespaceKey, operation: &RawDocument) {
        let id = written_id(operation).map(id_key).filter(|_| self.room > 0);
        let Some(id) = id else { return self.take_all(key) };
        let new = match self.of_name(key) {
            Touched::Keys(keys) => keys.insert(id),
            Touched::All => false,
        };
        self.room -= usize::from(new);
    }

    fn take_all(&mut self, key: NamespaceKey) {
        if let Touched::Keys(keys) = std::mem::replace(self.of_name(key), Touched::All) {
            self.room += keys.len();
        }
    }

    pub(crate) fn of(&self, key: &NamespaceKey) -> Option<&Arc<Touched>> {
        self.namespaces.get(key)
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &NamespaceKey> {
        self.namespaces.keys()
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, rawdoc};

    use super::*;
    use crate::dumpformat::oplog::TargetNamespace;
    use crate::dumpformat::oplog::script::ChangeForm;

    fn named(collection: &str) -> TargetNamespace {
        let (db, collection) = ("shop".to_string(), collection.to_string());
        TargetNamespace { from_db: db.clone(), from: collection.clone(), db, collection, buckets: false }
    }

    fn write(collection: &str, operation: RawDocumentBuf) -> ReplayStep {
        ReplayStep::Write { to: named(collection), operation, exact: None }
    }

    fn insert(collection: &str, id: i32) -> ReplayStep {
        write(collection, rawdoc! {"op": "i", "o": {"_id": id}})
    }

    fn touched(steps: &[ReplayStep], most: usize) -> TouchedDocuments {
        let mut touched = TouchedDocuments::new(most);
        steps.iter().for_each(|step| touched.take(step));
        touched
    }

    fn of<'a>(touched: &'a TouchedDocuments, collection: &str) -> Option<&'a Touched> {
        touched.of(&named(collection).key()).map(|touched| &**touched)
    }

    #[test]
    fn a_document_is_found_by_its_id_whatever_the_type_of_the_number() {
        let update = rawdoc! {"op": "u", "o": {"$v": 2, "diff": {}}, "o2": {"_id": 2_i64}};
        let all = touched(&[insert("rows", 1), write("rows", update)], 10);
        let rows = of(&all, "rows").unwrap();
        assert!(rows.has(&rawdoc! {"_id": 1.0}) && rows.has(&rawdoc! {"_id": 2}));
        assert!(!rows.has(&rawdoc! {"_id": 3}) && !rows.has(&rawdoc! {"n": 1}) && !rows.is_none());
        assert_eq!(of(&all, "others"), None);
    }

    #[test]
    fn a_namespace_with_too_many_writes_gives_its_room_to_others() {
        let mut steps: Vec<ReplayStep> = (0..3).map(|id| insert("a", id)).collect();
        steps.extend([insert("a", 0), insert("a", 4), insert("b", 1), insert("b", 2), insert("b", 3)]);
        let all = touched(&steps, 3);
        assert_eq!(of(&all, "a"), Some(&Touched::All));
        assert!(matches!(of(&all, "b"), Some(Touched::Keys(keys)) if keys.len() == 3));
    }

    #[test]
    fn a_new_name_touches_all_documents_and_a_new_option_touches_none() {
        let modify =
            |name: &str, command| ReplayStep::Modify { to: named(name), form: ChangeForm::Command(command) };
        let options = modify("options", rawdoc! {"collMod": "rows"});
        let capped = modify("capped", rawdoc! {"convertToCapped": "rows"});
        let rename = ReplayStep::Rename { from: named("a"), to: named("b"), command: rawdoc! {} };
        let no_id = write("c", rawdoc! {"op": "i", "o": {"n": 1}});
        let drop = ReplayStep::Drop(named("d"));
        let all = touched(&[rename, no_id, drop, options, capped], 10);
        for name in ["a", "b", "c", "d", "capped"] {
            assert_eq!(of(&all, name), Some(&Touched::All), "{name}");
        }
        assert!(of(&all, "options").unwrap().is_none());
    }
}
