//! The namespaces of two backups, compared by their manifests. Nothing is read here.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::documents::DocumentChanges;
use crate::base::error::{Error, Result};
use crate::base::suggest;
use crate::model::manifest::{IndexEntry, Manifest, NamespaceEntry};

/// What happened to a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiffKind {
    /// Only the second backup has it.
    Added,
    /// Only the first backup has it.
    Removed,
    /// Both backups have it, and it differs.
    Changed,
}

impl DiffKind {
    /// The word in tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            DiffKind::Added => "added",
            DiffKind::Removed => "removed",
            DiffKind::Changed => "changed",
        }
    }
}

/// A namespace that differs between two backups.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct NamespaceDiff {
    /// `db.collection`.
    pub namespace: String,
    pub change: DiffKind,
    /// False if the backup without the namespace left it out by its selection: the server may still have had it.
    pub selected: bool,
    /// `None` if the first backup does not have the namespace.
    pub documents_before: Option<u64>,
    /// `None` if the second backup does not have the namespace.
    pub documents: Option<u64>,
    /// The length of the documents in bytes.
    pub raw_bytes_before: Option<u64>,
    /// The length of the documents in bytes.
    pub raw_bytes: Option<u64>,
    /// The hash of the documents differs. True for a namespace that only one backup has, if it has documents.
    pub documents_changed: bool,
    /// Collection, view or time series: the type differs.
    pub type_changed: bool,
    pub options_changed: bool,
    /// The UUID of the collection differs: it was dropped and created again, renamed or restored.
    pub recreated: bool,
    /// The names of indexes that only the second backup has.
    pub indexes_added: Vec<String>,
    /// The names of indexes that only the first backup has.
    pub indexes_removed: Vec<String>,
    /// The names of indexes with different definitions.
    pub indexes_changed: Vec<String>,
    /// The documents that differ. `None` without `--documents`, and if the documents are equal or only one backup has the namespace.
    pub contents: Option<DocumentChanges>,
    /// The places of the namespace in the two manifests.
    #[serde(skip)]
    pub(super) at: [Option<usize>; 2],
}

impl NamespaceDiff {
    /// The places in the two manifests, if the documents of both have to be compared.
    pub(super) fn to_be_read(&self) -> Option<[usize; 2]> {
        let [Some(before), Some(now)] = self.at else { return None };
        self.documents_changed.then_some([before, now])
    }
}

/// The namespaces that a comparison is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiffScope {
    All,
    Database(String),
    /// `db.collection`.
    Namespace(String),
}

impl DiffScope {
    /// Understands a name: with a dot it is a namespace, otherwise a database.
    pub fn of(name: Option<&str>) -> DiffScope {
        match name {
            None => DiffScope::All,
            Some(name) if name.contains('.') => DiffScope::Namespace(name.into()),
            Some(name) => DiffScope::Database(name.into()),
        }
    }

    /// Returns true if the comparison is about this namespace.
    pub(super) fn has(&self, db: &str, name: &str) -> bool {
        match self {
            DiffScope::All => true,
            DiffScope::Database(wanted) => wanted == db,
            DiffScope::Namespace(wanted) => wanted == name,
        }
    }

    /// Checks that one of the backups has what was named.
    ///
    /// # Errors
    /// Returns a usage error that names similar names if neither has it.
    fn check(&self, [before, now]: [&Manifest; 2]) -> Result<()> {
        let all = || before.namespaces.iter().chain(&now.namespaces);
        if all().any(|entry| self.has(&entry.db, &entry.name())) {
            return Ok(());
        }
        let (what, wanted, names): (&str, &str, BTreeSet<String>) = match self {
            DiffScope::All => return Ok(()),
            DiffScope::Database(db) => ("database", db, all().map(|entry| entry.db.clone()).collect()),
            DiffScope::Namespace(name) => ("namespace", name, all().map(NamespaceEntry::name).collect()),
        };
        let near = suggest::nearest(wanted, names.iter().map(String::as_str)).join(", ");
        let none = format!("neither {} nor {} has a {what} {wanted}", before.id, now.id);
        Err(match near.is_empty() {
            true => Error::usage(none),
            false => Error::usage(none).hint(format!("Write a name that one of the backups has: {near}")),
        })
    }
}

/// The result of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NamespaceDiffs {
    /// Sorted by name.
    pub different: Vec<NamespaceDiff>,
    /// The number of equal namespaces.
    pub equal: u64,
}

/// Compares the namespaces of two complete manifests.
///
/// # Errors
/// Returns a usage error if neither backup has what `scope` names.
pub(super) fn compare_namespaces(
    before: &Manifest,
    now: &Manifest,
    scope: &DiffScope,
) -> Result<NamespaceDiffs> {
    scope.check([before, now])?;
    let mut pairs: BTreeMap<String, [Option<usize>; 2]> = BTreeMap::new();
    for (side, manifest) in [before, now].into_iter().enumerate() {
        for (at, entry) in manifest.namespaces.iter().enumerate() {
            let name = entry.name();
            if scope.has(&entry.db, &name) {
                pairs.entry(name).or_default()[side] = Some(at);
            }
        }
    }
    let selections = [before.selection.parsed(), now.selection.parsed()];
    let mut diffs = NamespaceDiffs { different: Vec::new(), equal: 0 };
    for (name, at) in pairs {
        let entries = [at[0].map(|at| &before.namespaces[at]), at[1].map(|at| &now.namespaces[at])];
        let lacks = entries.iter().position(Option::is_none);
        let selected = lacks.zip(entries.iter().flatten().next()).is_none_or(|(lacks, entry)| {
            let entry: &NamespaceEntry = entry;
            selections[lacks].wants_database(&entry.db)
                && selections[lacks].wants(&entry.db, &entry.collection)
        });
        match compare(name, entries) {
            Some(diff) => diffs.different.push(NamespaceDiff { selected, at, ..diff }),
            None => diffs.equal += 1,
        }
    }
    Ok(diffs)
}

/// Compares the entries of a namespace; `None` if they are equal.
fn compare(namespace: String, [before, now]: [Option<&NamespaceEntry>; 2]) -> Option<NamespaceDiff> {
    let change = match (before, now) {
        (None, _) => DiffKind::Added,
        (_, None) => DiffKind::Removed,
        _ => DiffKind::Changed,
    };
    let count = |entry: Option<&NamespaceEntry>| entry.map(|entry| (entry.documents, entry.raw_bytes));
    let content = |entry: &NamespaceEntry| (entry.documents, entry.raw_bytes, entry.xxh3_sum.clone());
    let both = before.zip(now);
    let differs = |is: &dyn Fn(&NamespaceEntry, &NamespaceEntry) -> bool| both.is_some_and(|(a, b)| is(a, b));
    let (were, are) = (indexes(before), indexes(now));
    // The indexes of a namespace that only one backup has are part of that change.
    let without = |some: &BTreeMap<&str, &IndexEntry>, other: &BTreeMap<&str, &IndexEntry>| {
        let names = some.keys().filter(|name| both.is_some() && !other.contains_key(*name));
        names.map(|name| name.to_string()).collect::<Vec<_>>()
    };
    let redefined =
        were.iter().filter(|(name, index)| are.get(*name).is_some_and(|now| now.blake3 != index.blake3));
    let diff = NamespaceDiff {
        namespace,
        change,
        selected: true,
        documents_before: before.map(|entry| entry.documents),
        documents: now.map(|entry| entry.documents),
        raw_bytes_before: before.map(|entry| entry.raw_bytes),
        raw_bytes: now.map(|entry| entry.raw_bytes),
        documents_changed: match both {
            Some((a, b)) => content(a) != content(b),
            None => count(before).or(count(now)).is_some_and(|(documents, _)| documents > 0),
        },
        type_changed: differs(&|a, b| a.kind != b.kind),
        options_changed: differs(&|a, b| a.options_blake3 != b.options_blake3),
        // Views and old dumps have no UUID.
        recreated: differs(&|a, b| a.uuid.as_ref().zip(b.uuid.as_ref()).is_some_and(|(a, b)| a != b)),
        indexes_added: without(&are, &were),
        indexes_removed: without(&were, &are),
        indexes_changed: redefined.map(|(name, _)| name.to_string()).collect(),
        contents: None,
        at: [None, None],
    };
    let is_equal = both.is_some()
        && !(diff.documents_changed || diff.type_changed || diff.options_changed || diff.recreated)
        && [&diff.indexes_added, &diff.indexes_removed, &diff.indexes_changed]
            .iter()
            .all(|list| list.is_empty());
    (!is_equal).then_some(diff)
}

fn indexes(entry: Option<&NamespaceEntry>) -> BTreeMap<&str, &IndexEntry> {
    let indexes = entry.map(|entry| entry.indexes.as_slice()).unwrap_or_default();
    indexes.iter().map(|index| (index.name.as_str(), index)).collect()
}

#[cfg(test)]
mod tests;
