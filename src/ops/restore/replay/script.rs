//! What the entries of an oplog slice mean, in their order: which of them are replayed, under which names, and
//! how. Nothing is done here. The rules are mongorestore's (mongo-tools, `mongorestore/oplog.go`) but for these:
//! what is not wanted is left out, also inside `applyOps`; views and time series are made and dropped by
//! commands, because `applyOps` on `system.views` takes the rights of a superuser; `dropDatabase` drops what the
//! backup knows of the database, and not what else the target has in it.

use std::collections::BTreeSet;

use bson::RawDocument;

use super::action::{self, Action, Edit, Form};
use super::commands;
use super::entry::{Entry, broken};
use super::names::{BUCKETS, Names};
use super::transactions::{Came, Transactions, operations};
use crate::base::error::{Error, Result};
use crate::model::optime::OpTime;

/// How deep an `applyOps` may be in another one; the server allows itself 10.
const DEPTH: usize = 10;

/// Takes what is to be done.
pub type Act<'a> = &'a mut dyn FnMut(Action) -> Result<()>;

/// Reads entries one after the other.
#[derive(Debug)]
pub struct Script {
    names: Names,
    /// The `_id`s of users that must stay as they are.
    connected: Vec<String>,
    open: Transactions,
    bounds: Option<(OpTime, OpTime)>,
    /// What was read so far.
    pub read: Read,
    /// The namespaces of all entries read so far, wanted or not.
    pub seen: BTreeSet<String>,
    /// The indexes that were built, wanted or not: `database.collection.index`.
    pub indexes: BTreeSet<String>,
}

/// What was read of a slice.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Read {
    /// How many entries.
    pub entries: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
    /// How many operations, those inside `applyOps` one by one, are not replayed: other namespaces', and what
    /// changes no data.
    pub left_out: u64,
    /// How many transactions were neither committed nor aborted at its end: they are not part of it.
    pub open_transactions: u64,
    /// The time from which on it has every entry.
    pub first: Option<OpTime>,
    /// The time up to which it has.
    pub last: Option<OpTime>,
}

impl Script {
    /// `bounds` are the times between which the slice has every entry, where they are known: else those of its
    /// first and its last.
    pub fn new(names: Names, connected: Vec<String>, bounds: Option<(OpTime, OpTime)>) -> Script {
        let (first, last) = bounds.unzip();
        let read = Read { first, last, ..Read::default() };
        let (seen, indexes) = (BTreeSet::new(), BTreeSet::new());
        Script { names, connected, open: Transactions::default(), bounds, read, seen, indexes }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// If it cannot be replayed; the error says why.
    pub fn take(&mut self, raw: &[u8], act: Act) -> Result<()> {
        let entry = Entry::parse(RawDocument::from_bytes(raw).map_err(broken)?)?;
        self.read.entries += 1;
        self.read.raw_bytes += raw.len() as u64;
        if self.bounds.is_none() {
            self.read.first = self.read.first.or(entry.at);
            self.read.last = entry.at.or(self.read.last);
        }
        let start = self.read.first.unwrap_or(OpTime { t: 0, i: 0 });
        match self.open.take(&entry, start)? {
            Came::Alone => self.operation(&entry, 0, act)?,
            Came::Waits => {}
            Came::Done(operations) => {
                for raw in &operations {
                    self.operation(&Entry::parse(raw)?, 1, act)?;
                }
            }
        }
        self.read.open_transactions = self.open.open();
        Ok(())
    }

    fn operation(&mut self, entry: &Entry, depth: usize, act: Act) -> Result<()> {
        let actions = match entry.op {
            // No-ops; the rest are the books of a server with replicated record ids.
            "n" | "ci" | "cu" | "cd" | "km" => Vec::new(),
            "i" | "u" | "d" => self.write(entry)?,
            "c" if entry.command()?.0 == "applyOps" && depth < DEPTH => {
                for raw in operations(entry.o)? {
                    self.operation(&Entry::parse(&raw)?, depth + 1, act)?;
                }
                return Ok(());
            }
            "c" => self.command(entry)?,
            other => return Err(unknown(&format!("operation '{other}'"), entry)),
        };
        if actions.is_empty() {
            self.read.left_out += 1;
        }
        actions.into_iter().try_for_each(act)
    }

    fn write(&mut self, entry: &Entry) -> Result<Vec<Action>> {
        let (db, collection) = entry.place()?;
        if collection == "system.views" {
            return self.view(entry, db);
        }
        self.see(db, collection);
        let Some(to) = self.names.target(db, collection)? else { return Ok(Vec::new()) };
        if to.is_people() && id(entry).is_some_and(|id| self.connected.iter().any(|c| c == id)) {
            return Ok(Vec::new());
        }
        let operation = action::write(entry, &to);
        Ok(vec![Action::Write { to, operation }])
    }

    /// A view is a document of `system.views`, so is the face of a time series.
    fn view(&mut self, entry: &Entry, db: &str) -> Result<Vec<Action>> {
        let full = id(entry).ok_or_else(|| broken("a view has no name"))?;
        let name = full.strip_prefix(&format!("{db}.")).unwrap_or(full);
        self.see(db, name);
        let Some(to) = self.names.target(db, name)? else { return Ok(Vec::new()) };
        if entry.op == "d" {
            return Ok(vec![Action::Drop(to)]);
        }
        match entry.o.get_str("viewOn") {
            // It comes and goes with its buckets.
            Ok(on) if on.starts_with("system.buckets.") => Ok(Vec::new()),
            Ok(_) => {
                let form = Form::Command(action::create_view(entry.o, &to.collection));
                Ok(vec![Action::Create { to, form, view: true, collated: false }])
            }
            Err(_) => Err(unknown("change of a view", entry)),
        }
    }

    fn command(&mut self, entry: &Entry) -> Result<Vec<Action>> {
        let (name, first) = entry.command()?;
        let db = entry.ns.split_once('.').map_or(entry.ns, |(db, _)| db);
        match name {
            // What they lead to is told by other entries, or changes no data.
            "startIndexBuild" | "abortIndexBuild" | "setMultikeyMetadata" | "dbCheck" => {
                return Ok(Vec::new());
            }
            // Storage and catalog of the server itself (8.3, 9.0).
            "dropIdent" | "createDatabaseMetadata" | "dropDatabaseMetadata" => return Ok(Vec::new()),
            // Before this command the slice writes to the buckets of a time series, after it to the series' own name.
            "upgradeDowngradeViewlessTimeseries" => {
                return Err(Error::failed(format!(
                    "the oplog slice has a command 'upgradeDowngradeViewlessTimeseries'{} on {}: the feature \
                     compatibility version was changed while the backup ran, and the slice cannot be replayed",
                    entry.when(),
                    entry.ns
                ))
                .hint("Restore another backup, or this one without its oplog: --no-replay"));
            }
            "dropDatabase" => return Ok(vec![Action::DropAll { from_db: db.into(), views: false }]),
            "renameCollection" => return self.rename(entry),
            _ => {}
        }
        if !commands::KNOWN.contains(&name) {
            return Err(unknown(&format!("command '{name}'"), entry));
        }
        let collection = first.as_str().ok_or_else(|| broken(format!("'{name}' names no collection")))?;
        if collection == "system.views" {
            let all = Action::DropAll { from_db: db.into(), views: true };
            return Ok(if name == "drop" { vec![all] } else { Vec::new() });
        }
        self.see(db, collection);
        // The server makes the collections of users and roles by itself.
        let to = self.names.target(db, collection)?.filter(|to| !to.is_people());
        let Some(to) = to else { return Ok(Vec::new()) };
        let mut actions = commands::on_collection(name, entry, to)?;
        for action in &mut actions {
            let Action::Index { to, edit: Edit::Put(specs) } = action else { continue };
            specs.retain(|spec| {
                let index = spec.get_str("name").unwrap_or_default();
                let name = format!("{}.{}.{index}", to.from_db, to.from);
                let wanted = self.names.filter.wants_index(&name);
                self.indexes.insert(name);
                wanted
            });
        }
        Ok(actions)
    }

    fn see(&mut self, db: &str, stored: &str) {
        let name = format!("{db}.{}", stored.strip_prefix(BUCKETS).unwrap_or(stored));
        if !self.seen.contains(&name) {
            self.seen.insert(name);
        }
    }

    fn rename(&mut self, entry: &Entry) -> Result<Vec<Action>> {
        let mut named = |field: &str| {
            let full = entry.o.get_str(field).map_err(broken)?;
            let (db, collection) =
                full.split_once('.').ok_or_else(|| broken("a rename names no namespace"))?;
            self.see(db, collection);
            self.names.target(db, collection)
        };
        match (named("renameCollection")?, named("to")?) {
            (None, None) => Ok(Vec::new()),
            (Some(from), Some(to)) if from.db == to.db && !from.buckets && !to.buckets => {
                let command = action::rename(entry.o, &from, &to);
                Ok(vec![Action::Rename { from, to, command }])
            }
            _ => Err(Error::failed(format!(
                "the oplog slice renames {} to {}, and only one of them is to be restored, or into another database",
                entry.o.get_str("renameCollection").unwrap_or_default(),
                entry.o.get_str("to").unwrap_or_default()
            ))
            .hint("Restore both, under their names, or restore without the oplog: --no-replay")),
        }
    }
}

/// The `_id` of the document that is written, if it is a text.
fn id<'a>(entry: &Entry<'a>) -> Option<&'a str> {
    let of_update = entry.o2.filter(|_| entry.op == "u");
    of_update.unwrap_or(entry.o).get_str("_id").ok()
}

fn unknown(what: &str, entry: &Entry) -> Error {
    Error::failed(format!(
        "the oplog slice has a {what}{} on {}, which cannot be replayed",
        entry.when(),
        entry.ns
    ))
    .hint("Restore without the oplog: --no-replay; then each collection is as it was when it was read")
}

#[cfg(test)]
mod tests;
