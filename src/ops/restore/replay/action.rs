//! What a replay does at the target, one step of it.

use bson::raw::cstr;
use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::entry::Entry;
use super::names::Named;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A document is inserted, changed or deleted: an operation for `applyOps`.
    Write {
        /// Where.
        to: Named,
        /// The operation.
        operation: RawDocumentBuf,
    },
    /// A namespace is created.
    Create {
        /// Which.
        to: Named,
        /// How.
        form: Form,
        /// It is a view: what is there under its name makes room.
        view: bool,
        /// It has a collation, which indexes inherit.
        collated: bool,
    },
    /// A namespace is changed.
    Modify {
        /// Which.
        to: Named,
        /// How.
        form: Form,
    },
    /// A namespace is dropped.
    Drop(Named),
    /// All namespaces of a database of the backup are dropped, or its views.
    DropAll {
        /// The database's name in the backup.
        from_db: String,
        /// Only the views.
        views: bool,
    },
    /// A collection gets another name.
    Rename {
        /// The old one.
        from: Named,
        /// The new one.
        to: Named,
        /// The command.
        command: RawDocumentBuf,
    },
    /// An index that is to be built in the end.
    Index {
        /// On what.
        to: Named,
        /// What becomes of it.
        edit: Edit,
    },
}

impl Action {
    /// Whether it counts as an operation that is replayed. Before a database goes each of its collections does:
    /// what is left for `DropAll` was mostly dropped before.
    pub fn is_one(&self) -> bool {
        !matches!(self, Action::DropAll { .. })
    }
}

/// How a namespace is made or changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// By an operation for `applyOps`.
    Operation(RawDocumentBuf),
    /// By a command in the namespace's database.
    Command(RawDocumentBuf),
}

/// What becomes of the indexes of a collection.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// These are there, in place of those of the same names.
    Put(Vec<RawDocumentBuf>),
    /// This one is gone, by name or by key; `*` is all of them.
    Remove(RawBson),
    /// One, named by `name` or `keyPattern`, has these options.
    Change(RawDocumentBuf),
}

/// `i`, `u` or `d` as `applyOps` takes it. The other fields of an entry belong to the server that wrote it: its
/// session, its term, the collection's UUID, the record id (`rid`), the version context (8.2, which `applyOps`
/// refuses in an operation: 10296501).
///
/// An update gets `b: true`, by which it inserts a document that is not there: the slice of a backup begins before its
/// collections are read, so that it may update a document that was deleted before it was read. Up to 8.0 `applyOps`
/// does so by itself, from 8.1 on it does not (SERVER-88158); all versions take the field.
pub fn write(entry: &Entry, to: &Named) -> RawDocumentBuf {
    let mut out = rawdoc! {"op": entry.op, "ns": format!("{}.{}", to.db, to.stored())};
    // Says how `o` of an update is to be understood.
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

/// A command as `applyOps` takes it.
pub fn command(db: &str, o: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! {"op": "c", "ns": format!("{db}.$cmd"), "o": o}
}

/// The command's document with another first value, and without these fields.
pub fn with_first(o: &RawDocument, value: &str, without: &[&str]) -> RawDocumentBuf {
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

/// The `create` that makes a time series, from the one that made its bucket collection: the rest of that one
/// follows from it.
pub fn create_timeseries(o: &RawDocument, name: &str) -> RawDocumentBuf {
    let follows = ["validator", "clusteredIndex", "idIndex", "recordIdsReplicated", "temp"];
    with_first(o, name, &follows)
}

/// The `create` that makes a view, from its document in `system.views`.
pub fn create_view(document: &RawDocument, name: &str) -> RawDocumentBuf {
    let mut out = rawdoc! {"create": name};
    for (key, value) in document.iter().flatten().filter(|(key, _)| key.as_str() != "_id") {
        out.append(key, value);
    }
    out
}

/// `renameCollection`, a command as users give it. Of `applyOps` the server wants the UUID of the collection that
/// makes room: without it that collection stays, under a name of its own making (seen on 6.0.5).
pub fn rename(o: &RawDocument, from: &Named, to: &Named) -> RawDocumentBuf {
    let makes_room = !matches!(o.get("dropTarget"), Ok(None | Some(RawBsonRef::Boolean(false))) | Err(_));
    let name = |named: &Named| format!("{}.{}", named.db, named.collection);
    rawdoc! {"renameCollection": name(from), "to": name(to), "dropTarget": makes_room}
}
