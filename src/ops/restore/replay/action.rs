//! The steps of a replay, made from oplog entries.

use bson::raw::cstr;
use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::entry::{OplogEntry, broken};
use crate::base::error::Result;
use crate::ops::restore::filter::TargetNamespace;

/// A step of a replay.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ReplayStep {
    /// Inserts, changes or deletes a document.
    Write {
        to: TargetNamespace,
        /// For `applyOps`.
        operation: RawDocumentBuf,
    },
    Create {
        to: TargetNamespace,
        form: ChangeForm,
        /// True for a view: an existing namespace of its name is dropped.
        view: bool,
        /// True if it has a collation, which indexes inherit.
        collated: bool,
    },
    Modify {
        to: TargetNamespace,
        form: ChangeForm,
    },
    Drop(TargetNamespace),
    /// Drops all namespaces of a database of the backup, or only its views.
    DropAll {
        from_db: String,
        views: bool,
    },
    Rename {
        from: TargetNamespace,
        to: TargetNamespace,
        command: RawDocumentBuf,
    },
    /// Changes the indexes that are built after the replay.
    Index {
        to: TargetNamespace,
        edit: IndexEdit,
    },
}

impl ReplayStep {
    /// Returns true if the step counts as a replayed operation. The oplog also has a drop of each collection
    /// before the drop of their database, so `DropAll` does not count.
    pub(super) fn is_one(&self) -> bool {
        !matches!(self, ReplayStep::DropAll { .. })
    }
}

/// The way in which a namespace is created or changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ChangeForm {
    /// With `applyOps`.
    Operation(RawDocumentBuf),
    /// With a command in the namespace's database.
    Command(RawDocumentBuf),
}

/// A change of a collection's indexes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum IndexEdit {
    /// Adds indexes; they replace indexes with the same names.
    Put(Vec<RawDocumentBuf>),
    /// Removes an index by name or key; `*` removes all.
    Remove(RawBson),
    /// Changes the options of the index with this `name` or `keyPattern`.
    Change(RawDocumentBuf),
}

/// An operation `i`, `u` or `d` for `applyOps`. The other fields of an entry only have a meaning on the
/// server that wrote it: session, term, the collection's UUID, the record id (`rid`), the version context
/// (8.2, which `applyOps` refuses in an operation: 10296501).
///
/// An update gets `b: true`, so that it inserts a missing document: the slice begins before the collections
/// are read, so it can update a document that was deleted before it was read. Up to 8.0 `applyOps` does so by
/// default, from 8.1 on it does not (SERVER-88158); all versions accept the field.
pub(crate) fn write(entry: &OplogEntry, to: &TargetNamespace) -> RawDocumentBuf {
    let mut out = rawdoc! {"op": entry.op, "ns": format!("{}.{}", to.db, to.stored())};
    // The format version of an update's `o`.
    if let Some(version) = entry.raw.get("v").ok().flatten() {
        out.append(cstr!("v"), version);
    }
    out.append(cstr!("o"), entry.o.to_owned());
    if let Some(o2) = entry.o2.filter(|_| entry.op == "u") {
        out.append(cstr!("o2"), o2.to_owned());
        out.append(cstr!("b"), true);
    }
    out
}

/// A command for `applyOps`.
pub(crate) fn command(db: &str, o: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! {"op": "c", "ns": format!("{db}.$cmd"), "o": o}
}

/// The command's document with another first value, and without the given fields.
pub(crate) fn with_first(o: &RawDocument, value: &str, without: &[&str]) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    for (n, (key, field)) in o.iter().flatten().enumerate() {
        match n {
            0 => out.append(key, value),
            _ if without.contains(&key.as_str()) => {}
            _ => out.append(key, field),
        }
    }
    out
}

/// The `create` command of a time series, from the `create` of its bucket collection. The server derives the
/// removed fields.
fn create_timeseries(o: &RawDocument, name: &str) -> RawDocumentBuf {
    let follows = ["validator", "clusteredIndex", "idIndex", "recordIdsReplicated", "temp"];
    with_first(o, name, &follows)
}

/// The `create` command of a view, from its document in `system.views`.
pub(super) fn create_view(document: &RawDocument, name: &str) -> RawDocumentBuf {
    let mut out = rawdoc! {"create": name};
    for (key, value) in document.iter().flatten().filter(|(key, _)| key.as_str() != "_id") {
        out.append(key, value);
    }
    out
}

/// The `renameCollection` command. `applyOps` would need the UUID of the collection that is replaced; without
/// it the server keeps that collection under a generated name (seen on 6.0.5).
pub(crate) fn rename(o: &RawDocument, from: &TargetNamespace, to: &TargetNamespace) -> RawDocumentBuf {
    let makes_room = !matches!(o.get("dropTarget"), Ok(None | Some(RawBsonRef::Boolean(false))) | Err(_));
    let name = |named: &TargetNamespace| format!("{}.{}", named.db, named.collection);
    rawdoc! {"renameCollection": name(from), "to": name(to), "dropTarget": makes_room}
}

/// The commands on a collection that can be replayed.
pub(super) const KNOWN: [&str; 11] = [
    "create",
    "drop",
    "collMod",
    "convertToCapped",
    "emptycapped",
    "createIndexes",
    "commitIndexBuild",
    "dropIndexes",
    "dropIndex",
    "deleteIndexes",
    "deleteIndex",
];

/// The steps for a command on a collection.
pub(super) fn on_collection(name: &str, entry: &OplogEntry, to: TargetNamespace) -> Result<Vec<ReplayStep>> {
    let o = entry.o;
    let form = |o| match to.buckets {
        true => ChangeForm::Command(o),
        false => ChangeForm::Operation(command(&to.db, o)),
    };
    Ok(match name {
        "create" => {
            let collated = o.get_document("collation").is_ok();
            let o = match to.buckets {
                true => create_timeseries(o, &to.collection),
                false => with_first(o, &to.collection, &["recordIdsReplicated"]),
            };
            let form = form(o);
            vec![ReplayStep::Create { to, form, view: false, collated }]
        }
        "drop" => vec![ReplayStep::Drop(to)],
        "createIndexes" | "commitIndexBuild" => {
            vec![ReplayStep::Index { to, edit: IndexEdit::Put(specs(name, o)?) }]
        }
        "collMod" => {
            let mut actions = Vec::new();
            if let Ok(change) = o.get_document("index") {
                let edit = IndexEdit::Change(change.to_owned());
                actions.push(ReplayStep::Index { to: to.clone(), edit });
            }
            // The last two are from servers before 4.2, and later servers refuse them.
            let rest = with_first(o, &to.collection, &["index", "noPadding", "usePowerOf2Sizes"]);
            if rest.iter().count() > 1 {
                let form = form(rest);
                actions.push(ReplayStep::Modify { to, form });
            }
            actions
        }
        "convertToCapped" | "emptycapped" => {
            let form = form(with_first(o, &to.collection, &[]));
            vec![ReplayStep::Modify { to, form }]
        }
        _ => match o.get("index").map_err(broken)? {
            Some(which @ (RawBsonRef::String(_) | RawBsonRef::Document(_))) => {
                vec![ReplayStep::Index { to, edit: IndexEdit::Remove(which.into()) }]
            }
            _ => return Err(broken("a dropped index has no name")),
        },
    })
}

/// The indexes that a command builds.
fn specs(name: &str, o: &RawDocument) -> Result<Vec<RawDocumentBuf>> {
    let specs: Vec<RawDocumentBuf> = match name {
        "createIndexes" => vec![o.iter().flatten().skip(1).collect()],
        _ => {
            let one = |spec: bson::error::Result<RawBsonRef<'_>>| {
                let spec = spec.map_err(broken)?;
                Ok(spec.as_document().ok_or_else(|| broken("an index is not a document"))?.to_owned())
            };
            o.get_array("indexes").map_err(broken)?.into_iter().map(one).collect::<Result<_>>()?
        }
    };
    match specs.iter().find(|spec| spec.get_document("key").is_err()) {
        Some(spec) => Err(broken(format!("the index '{}' has no key", spec.get_str("name").unwrap_or("?")))),
        None => Ok(specs),
    }
}
