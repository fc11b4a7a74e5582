//! Translates the entries of an oplog slice, in order, into the steps of a replay. Nothing is written here. The rules are
//! mongorestore's (mongo-tools, `mongorestore/oplog.go`), with three differences: unwanted operations are left out, also
//! inside `applyOps`; commands create and drop views and time series, because `applyOps` on `system.views` needs superuser
//! rights; `dropDatabase` drops only the namespaces of the backup.

use std::collections::BTreeSet;

use bson::raw::cstr;
use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};

use super::entry::{OplogEntry, broken, documents};
use super::transaction::{SliceTransactions, TransactionEffect, TransactionEntry, TransactionId};
use super::{EntrySource, NO_REPLAY, ReplayNames, SliceCounts, TargetNamespace};
use crate::base::error::{Error, Result};
use crate::model::namespace::BUCKETS;
use crate::model::optime::OpTime;

/// The server's limit for nested `applyOps`.
const DEPTH: usize = 10;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ReplayStep {
    /// Inserts, changes or deletes a document.
    Write {
        to: TargetNamespace,
        /// For `applyOps`.
        operation: RawDocumentBuf,
        /// The time of the entry, if its document must be as it was at the source then. `None` if the document may be of
        /// another time, so that an update inserts a missing document, and a delete may find none.
        exact: Option<OpTime>,
    },
    Create {
        to: TargetNamespace,
        form: ChangeForm,
        /// True for a view. It replaces an existing namespace with its name.
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
    pub(crate) fn counts(&self) -> bool {
        !matches!(self, ReplayStep::DropAll { .. })
    }

    /// The namespaces that the step names. `DropAll` names none.
    pub(crate) fn namespaces(&self) -> Vec<&TargetNamespace> {
        match self {
            ReplayStep::Write { to, .. }
            | ReplayStep::Create { to, .. }
            | ReplayStep::Modify { to, .. }
            | ReplayStep::Index { to, .. }
            | ReplayStep::Drop(to) => vec![to],
            ReplayStep::Rename { from, to, .. } => vec![from, to],
            ReplayStep::DropAll { .. } => Vec::new(),
        }
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

impl ChangeForm {
    /// The command's document, as the oplog has it.
    pub(crate) fn options(&self) -> &RawDocument {
        match self {
            ChangeForm::Operation(operation) => operation.get_document("o").unwrap_or(operation),
            ChangeForm::Command(command) => command,
        }
    }

    pub(crate) fn converts_to_capped(&self) -> bool {
        self.name() == "convertToCapped"
    }

    /// The command's name.
    pub(crate) fn name(&self) -> &str {
        self.options().iter().flatten().next().map_or("", |(name, _)| name.as_str())
    }

    /// The change without an option.
    pub(crate) fn without(&self, option: &str) -> ChangeForm {
        match self {
            ChangeForm::Command(command) => ChangeForm::Command(without(command, option)),
            ChangeForm::Operation(operation) => {
                let mut out = RawDocumentBuf::new();
                for (key, value) in operation.iter().flatten() {
                    match value {
                        RawBsonRef::Document(o) if key.as_str() == "o" => out.append(key, without(o, option)),
                        other => out.append(key, other),
                    }
                }
                ChangeForm::Operation(out)
            }
        }
    }
}

/// A change of a collection's indexes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum IndexEdit {
    /// Adds indexes. They replace indexes with the same names.
    Put(Vec<RawDocumentBuf>),
    /// Removes an index by name or key; `*` removes all.
    Remove(RawBson),
    /// Changes the options of the index with this `name` or `keyPattern`.
    Change(RawDocumentBuf),
}

pub(crate) type TakeStep<'a> = &'a mut dyn FnMut(ReplayStep) -> Result<()>;

#[derive(Debug)]
pub(crate) struct Script<N> {
    names: N,
    /// The `_id`s of users that must stay unchanged.
    connected: Vec<String>,
    open: SliceTransactions,
    bounds: Option<(OpTime, OpTime)>,
    /// The time from which on the data is of one instant.
    exact_after: Option<OpTime>,
    /// True if the data has the writes up to that time.
    contained: bool,
    /// The time of the entry that is translated, if its writes must be exact.
    exact: Option<OpTime>,
    /// Reads the operations of large transactions again.
    source: Option<Box<dyn EntrySource>>,
    pub(crate) read: SliceCounts,
    /// The namespaces of all entries so far, wanted or not.
    pub(crate) seen: BTreeSet<String>,
    /// The indexes that were built, wanted or not: `database.collection.index`.
    pub(crate) indexes: BTreeSet<String>,
}

impl<N: ReplayNames> Script<N> {
    /// `bounds` are the times between which the slice has every entry. If they are unknown, the times of the
    /// first and last entry count.
    pub(crate) fn new(names: N, connected: Vec<String>, bounds: Option<(OpTime, OpTime)>) -> Script<N> {
        let (first, last) = bounds.unzip();
        let read = SliceCounts { first, last, ..SliceCounts::default() };
        let (open, seen, indexes) = Default::default();
        let (exact_after, contained, exact, source) = Default::default();
        Script { names, connected, open, bounds, exact_after, contained, exact, source, read, seen, indexes }
    }

    /// Makes the writes after this time exact, because all data is of that time. If it is `contained` in the data, earlier
    /// entries matter only for transactions that were open then.
    pub(crate) fn exact_after(self, time: OpTime, contained: bool) -> Script<N> {
        Script { exact_after: Some(time), contained, ..self }
    }

    /// Reads the operations of large transactions again at their commit, instead of keeping them in memory.
    pub(crate) fn reading_again(mut self, source: Box<dyn EntrySource>) -> Script<N> {
        self.open.reads_again = true;
        Script { source: Some(source), ..self }
    }

    /// Translates the next entry. Returns an error with the reason if the entry cannot be replayed.
    pub(crate) fn take(&mut self, raw: &[u8], act: TakeStep) -> Result<()> {
        let entry = OplogEntry::parse(RawDocument::from_bytes(raw).map_err(broken)?)?;
        let start = self.bounds.map(|(start, _)| start);
        let later = entry.at.filter(|at| self.exact_after.is_some_and(|time| *at > time));
        if self.contained && later.is_none() {
            // A transaction that began before the slices was over by then: none that was open began so early.
            let _ = self.open.take(&entry, start.unwrap_or(OpTime { t: 0, i: 0 }));
            return Ok(());
        }
        self.exact = later;
        self.read.newest = entry.at.or(self.read.newest);
        self.read.entries += 1;
        self.read.raw_bytes += raw.len() as u64;
        if self.bounds.is_none() {
            self.read.first = self.read.first.or(entry.at);
            self.read.last = entry.at.or(self.read.last);
        }
        let start = self.read.first.unwrap_or(OpTime { t: 0, i: 0 });
        match self.open.take(&entry, start)? {
            TransactionEffect::Alone => self.operation(&entry, 0, act)?,
            TransactionEffect::Nothing => {}
            TransactionEffect::Commits(operations) => {
                for raw in &operations {
                    self.operation(&OplogEntry::parse(raw)?, 1, act)?;
                }
            }
            TransactionEffect::CommitsSince(id, since) => self.read_again(&id, since, &entry, act)?,
        }
        self.read.open_transactions = self.open.count();
        Ok(())
    }

    /// Translates the operations of a transaction that are not in memory. `commit` is its last entry.
    fn read_again(
        &mut self,
        id: &TransactionId,
        since: OpTime,
        commit: &OplogEntry,
        act: TakeStep,
    ) -> Result<()> {
        let (source, until) = (self.source.take(), commit.at.unwrap_or(since));
        let mut failed = None;
        let read = source.as_ref().map(|source| {
            source.entries(since, until, &mut |raw| {
                if failed.is_none() {
                    failed = self.part(id, raw, act).err();
                }
            })
        });
        self.source = source;
        read.unwrap_or(Ok(()))?;
        failed.map_or(Ok(()), Err)
    }

    /// Translates the operations of an entry, if it belongs to the transaction.
    fn part(&mut self, id: &TransactionId, raw: &[u8], act: TakeStep) -> Result<()> {
        let entry = OplogEntry::parse(RawDocument::from_bytes(raw).map_err(broken)?)?;
        let of = TransactionEntry::of(entry.raw).map_err(broken)?;
        if !of.is_some_and(|of| of.id == *id && of.has_operations()) {
            return Ok(());
        }
        documents(entry.o, "applyOps")?.try_for_each(|raw| self.operation(&OplogEntry::parse(raw?)?, 1, act))
    }

    /// Checks that the next entry can be replayed, and returns an error with the reason if not. The operations of a
    /// transaction are checked with the entry that contains them, so nothing of it is kept until its commit.
    pub(crate) fn check(&mut self, raw: &RawDocument) -> Result<()> {
        let entry = OplogEntry::parse(raw)?;
        match entry.op {
            "i" | "u" | "d" => entry.place().map(drop),
            "c" if matches!(entry.command()?.0, "commitTransaction" | "abortTransaction") => Ok(()),
            _ => self.operation(&entry, 0, &mut |_| Ok(())),
        }
    }

    fn operation(&mut self, entry: &OplogEntry, depth: usize, act: TakeStep) -> Result<()> {
        let steps = match entry.op {
            // No-ops. The other codes are internal to servers with replicated record ids.
            "n" | "ci" | "cu" | "cd" | "km" => Vec::new(),
            "i" | "u" | "d" => self.write(entry)?,
            "c" if entry.command()?.0 == "applyOps" && depth < DEPTH => {
                return documents(entry.o, "applyOps")?
                    .try_for_each(|raw| self.operation(&OplogEntry::parse(raw?)?, depth + 1, act));
            }
            "c" => self.command(entry)?,
            other => return Err(unknown(&format!("operation '{other}'"), entry)),
        };
        if steps.is_empty() {
            self.read.left_out += 1;
        }
        steps.into_iter().try_for_each(act)
    }

    fn write(&mut self, entry: &OplogEntry) -> Result<Vec<ReplayStep>> {
        let (db, collection) = entry.place()?;
        if collection == "system.views" {
            return self.view(entry, db);
        }
        self.see(db, collection);
        let Some(to) = self.names.target(db, collection)? else { return Ok(Vec::new()) };
        if to.is_users_or_roles() && id(entry).is_some_and(|id| self.connected.iter().any(|c| c == id)) {
            return Ok(Vec::new());
        }
        // Users and roles are merged with those of the target.
        let exact = self.exact.filter(|_| !to.is_users_or_roles());
        let operation = write_operation(entry, &to, exact.is_none());
        Ok(vec![ReplayStep::Write { to, operation, exact }])
    }

    /// A view is a document of `system.views`. A time series has a document there, too.
    fn view(&mut self, entry: &OplogEntry, db: &str) -> Result<Vec<ReplayStep>> {
        let full = id(entry).ok_or_else(|| broken("a view has no name"))?;
        let name = full.strip_prefix(&format!("{db}.")).unwrap_or(full);
        self.see(db, name);
        let Some(to) = self.names.target(db, name)? else { return Ok(Vec::new()) };
        if entry.op == "d" {
            return Ok(vec![ReplayStep::Drop(to)]);
        }
        match entry.o.get_str("viewOn") {
            // A time series: the operations on its buckets create and drop it.
            Ok(on) if on.starts_with(BUCKETS) => Ok(Vec::new()),
            Ok(_) => {
                let mut create = rawdoc! {"create": to.collection.as_str()};
                for (key, value) in entry.o.iter().flatten().filter(|(key, _)| key.as_str() != "_id") {
                    create.append(key, value);
                }
                let form = ChangeForm::Command(create);
                Ok(vec![ReplayStep::Create { to, form, view: true, collated: false }])
            }
            Err(_) => Err(unknown("change to a view", entry)),
        }
    }

    fn command(&mut self, entry: &OplogEntry) -> Result<Vec<ReplayStep>> {
        let (name, first) = entry.command()?;
        let db = entry.ns.split_once('.').map_or(entry.ns, |(db, _)| db);
        match name {
            // Their results are in other entries, or they change no data.
            "startIndexBuild" | "abortIndexBuild" | "setMultikeyMetadata" | "dbCheck" => {
                return Ok(Vec::new());
            }
            // The server's own storage and catalog (8.3, 9.0).
            "dropIdent" | "createDatabaseMetadata" | "dropDatabaseMetadata" => return Ok(Vec::new()),
            // Before this command the slice writes to the buckets of a time series, after it to the name of
            // the time series.
            "upgradeDowngradeViewlessTimeseries" => {
                return Err(Error::failed(format!(
                    "the oplog slice has a command 'upgradeDowngradeViewlessTimeseries'{} on {}: the feature \
                     compatibility version was changed, and later entries cannot be replayed",
                    entry.when(),
                    entry.ns
                ))
                .hint(format!("Restore another backup. {NO_REPLAY}")));
            }
            "dropDatabase" => return Ok(vec![ReplayStep::DropAll { from_db: db.into(), views: false }]),
            "renameCollection" => return self.rename(entry),
            _ if KNOWN.contains(&name) => {}
            _ => return Err(unknown(&format!("command '{name}'"), entry)),
        }
        let collection =
            first.as_str().ok_or_else(|| broken(format!("'{name}' does not name a collection")))?;
        if collection == "system.views" {
            let all = ReplayStep::DropAll { from_db: db.into(), views: true };
            return Ok(if name == "drop" { vec![all] } else { Vec::new() });
        }
        self.see(db, collection);
        // The server creates the collections of users and roles by itself.
        let to = self.names.target(db, collection)?.filter(|to| !to.is_users_or_roles());
        let Some(to) = to else { return Ok(Vec::new()) };
        let mut steps = on_collection(name, entry, to)?;
        for step in &mut steps {
            let ReplayStep::Index { to, edit: IndexEdit::Put(specs) } = step else { continue };
            specs.retain(|spec| {
                let name = format!("{}.{}", to.backup_name(), spec.get_str("name").unwrap_or_default());
                let wanted = self.names.wants_index(&name);
                self.indexes.insert(name);
                wanted
            });
        }
        Ok(steps)
    }

    fn see(&mut self, db: &str, stored: &str) {
        let name = format!("{db}.{}", stored.strip_prefix(BUCKETS).unwrap_or(stored));
        if !self.seen.contains(&name) {
            self.seen.insert(name);
        }
    }

    fn rename(&mut self, entry: &OplogEntry) -> Result<Vec<ReplayStep>> {
        let mut named = |field: &str| {
            let full = entry.o.get_str(field).map_err(broken)?;
            let (db, collection) =
                full.split_once('.').ok_or_else(|| broken("a rename does not name a namespace"))?;
            self.see(db, collection);
            self.names.target(db, collection)
        };
        match (named("renameCollection")?, named("to")?) {
            (None, None) => Ok(Vec::new()),
            (Some(from), Some(to)) if from.db == to.db && !from.buckets && !to.buckets => {
                // `applyOps` would need the UUID of the collection that is replaced; without it the server
                // keeps that collection under a generated name (seen on 6.0.5).
                let drop_target = entry.o.get("dropTarget").ok().flatten();
                let drop_target = !matches!(drop_target, None | Some(RawBsonRef::Boolean(false)));
                let command =
                    rawdoc! {"renameCollection": from.name(), "to": to.name(), "dropTarget": drop_target};
                Ok(vec![ReplayStep::Rename { from, to, command }])
            }
            _ => Err(Error::failed(format!(
                "the oplog slice renames {} to {}, but only one of them is restored, or they are restored to different databases",
                entry.o.get_str("renameCollection").unwrap_or_default(),
                entry.o.get_str("to").unwrap_or_default()
            ))
            .hint(format!("Restore both in one database. {NO_REPLAY}"))),
        }
    }
}

/// The document without a field.
pub(crate) fn without(document: &RawDocument, field: &str) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    for (key, value) in document.iter().flatten().filter(|(key, _)| key.as_str() != field) {
        out.append(key, value);
    }
    out
}

/// The `_id` of the written document, if it is a string.
fn id<'a>(entry: &OplogEntry<'a>) -> Option<&'a str> {
    let of_update = entry.o2.filter(|_| entry.op == "u");
    of_update.unwrap_or(entry.o).get_str("_id").ok()
}

fn unknown(what: &str, entry: &OplogEntry) -> Error {
    Error::failed(format!(
        "the oplog slice has a {what}{} on {}, which cannot be replayed",
        entry.when(),
        entry.ns
    ))
    .hint(format!("Restore another backup. {NO_REPLAY}"))
}

/// An operation `i`, `u` or `d` for `applyOps`. The other fields of an entry only have a meaning on the
/// server that wrote it: session, term, the collection's UUID, the record id (`rid`), the version context
/// (8.2, which `applyOps` refuses in an operation: 10296501).
///
/// With `upserts`, an update gets `b: true`, so that it inserts a missing document: the slice begins before the collections
/// are read, so it can update a document that was deleted before it was read. Up to 8.0 `applyOps` does so by
/// default, from 8.1 on it does not (SERVER-88158); all versions accept the field.
fn write_operation(entry: &OplogEntry, to: &TargetNamespace, upserts: bool) -> RawDocumentBuf {
    let ns = format!("{}.{}", to.db, to.stored());
    // A document that grows can take twice its length.
    let mut empty = Vec::with_capacity(entry.raw.as_bytes().len() + ns.len() + 64);
    empty.extend_from_slice(&[5, 0, 0, 0, 0]);
    let mut out = RawDocumentBuf::from_bytes(empty).expect("an empty document");
    out.append(cstr!("op"), entry.op);
    out.append(cstr!("ns"), ns);
    // The format version of an update's `o`.
    if let Some(version) = entry.raw.get("v").ok().flatten() {
        out.append(cstr!("v"), version);
    }
    out.append(cstr!("o"), entry.o);
    if let Some(o2) = entry.o2.filter(|_| entry.op == "u") {
        out.append(cstr!("o2"), o2);
        if upserts {
            out.append(cstr!("b"), true);
        }
    }
    out
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

/// The commands on a collection that can be replayed.
const KNOWN: [&str; 11] = [
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

/// Fields in the `create` of a bucket collection that the server derives when it creates the time series.
const DERIVED: [&str; 5] = ["validator", "clusteredIndex", "idIndex", "recordIdsReplicated", "temp"];

/// The steps for a command on a collection.
fn on_collection(name: &str, entry: &OplogEntry, to: TargetNamespace) -> Result<Vec<ReplayStep>> {
    let o = entry.o;
    let form = |without: &[&str]| {
        let o = with_first(o, &to.collection, without);
        match to.buckets {
            true => ChangeForm::Command(o),
            false => ChangeForm::Operation(rawdoc! {"op": "c", "ns": format!("{}.$cmd", to.db), "o": o}),
        }
    };
    let step = match name {
        "create" => {
            let form = form(if to.buckets { &DERIVED } else { &["recordIdsReplicated"] });
            ReplayStep::Create { to, form, view: false, collated: o.get_document("collation").is_ok() }
        }
        "drop" => ReplayStep::Drop(to),
        "createIndexes" | "commitIndexBuild" => {
            let specs = match name {
                "createIndexes" => vec![o.iter().flatten().skip(1).collect()],
                _ => documents(o, "indexes")?.map(|index| Ok(index?.to_owned())).collect::<Result<_>>()?,
            };
            if let Some(spec) = specs.iter().find(|spec: &&RawDocumentBuf| spec.get_document("key").is_err())
            {
                let index = spec.get_str("name").unwrap_or("?");
                return Err(broken(format!("the index '{index}' has no key")));
            }
            ReplayStep::Index { to, edit: IndexEdit::Put(specs) }
        }
        "collMod" => {
            // The last two are from servers before 4.2, and later servers refuse them.
            let without = ["index", "noPadding", "usePowerOf2Sizes"];
            let modifies = o.iter().flatten().skip(1).any(|(key, _)| !without.contains(&key.as_str()));
            let modify = modifies.then(|| ReplayStep::Modify { to: to.clone(), form: form(&without) });
            let change = o.get_document("index").ok();
            let edit = change.map(|change| IndexEdit::Change(change.to_owned()));
            let steps = edit.map(|edit| ReplayStep::Index { to, edit }).into_iter().chain(modify);
            return Ok(steps.collect());
        }
        "convertToCapped" | "emptycapped" => {
            let form = form(&[]);
            ReplayStep::Modify { to, form }
        }
        _ => match o.get("index").map_err(broken)? {
            Some(which @ (RawBsonRef::String(_) | RawBsonRef::Document(_))) => {
                ReplayStep::Index { to, edit: IndexEdit::Remove(which.into()) }
            }
            _ => return Err(broken("a dropped index has no name")),
        },
    };
    Ok(vec![step])
}

#[cfg(test)]
mod tests;
