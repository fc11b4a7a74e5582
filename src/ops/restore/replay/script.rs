//! Translates the entries of an oplog slice, in order, into the steps of a replay. Nothing is written here. The rules are
//! mongorestore's (mongo-tools, `mongorestore/oplog.go`), except that unwanted operations are left out, also inside
//! `applyOps`; that commands create and drop views and time series, because `applyOps` on `system.views` needs superuser
//! rights; and that `dropDatabase` drops only the namespaces of the backup.

use std::collections::BTreeSet;

use bson::RawDocument;

use super::action::{self, ChangeForm, IndexEdit, ReplayStep};
use super::entry::{OplogEntry, SliceTransactions, TransactionState, broken, operations};
use crate::base::error::{Error, Result};
use crate::model::optime::OpTime;
use crate::ops::restore::filter::{BUCKETS, ReplayFilter};
use crate::ops::restore::report::SliceCounts;

/// The server's limit for nested `applyOps`.
const DEPTH: usize = 10;

/// Takes the next step.
type TakeStep<'a> = &'a mut dyn FnMut(ReplayStep) -> Result<()>;

/// Translates entries one by one.
#[derive(Debug)]
pub(crate) struct Script {
    names: ReplayFilter,
    /// The `_id`s of users that must stay unchanged.
    connected: Vec<String>,
    open: SliceTransactions,
    bounds: Option<(OpTime, OpTime)>,
    pub read: SliceCounts,
    /// The namespaces of all entries so far, wanted or not.
    pub seen: BTreeSet<String>,
    /// The indexes that were built, wanted or not: `database.collection.index`.
    pub indexes: BTreeSet<String>,
}

impl Script {
    /// `bounds` are the times between which the slice has every entry. If they are unknown, the times of the
    /// first and last entry count.
    pub(crate) fn new(
        names: ReplayFilter,
        connected: Vec<String>,
        bounds: Option<(OpTime, OpTime)>,
    ) -> Script {
        let (first, last) = bounds.unzip();
        let read = SliceCounts { first, last, ..SliceCounts::default() };
        let (seen, indexes) = (BTreeSet::new(), BTreeSet::new());
        Script { names, connected, open: SliceTransactions::default(), bounds, read, seen, indexes }
    }

    /// Translates the next entry.
    ///
    /// # Errors
    /// Returns an error with the reason if the entry cannot be replayed.
    pub(crate) fn take(&mut self, raw: &[u8], act: TakeStep) -> Result<()> {
        let entry = OplogEntry::parse(RawDocument::from_bytes(raw).map_err(broken)?)?;
        self.read.entries += 1;
        self.read.raw_bytes += raw.len() as u64;
        if self.bounds.is_none() {
            self.read.first = self.read.first.or(entry.at);
            self.read.last = entry.at.or(self.read.last);
        }
        let start = self.read.first.unwrap_or(OpTime { t: 0, i: 0 });
        match self.open.take(&entry, start)? {
            TransactionState::NotInTransaction => self.operation(&entry, 0, act)?,
            TransactionState::Pending => {}
            TransactionState::Committed(operations) => {
                for raw in &operations {
                    self.operation(&OplogEntry::parse(raw)?, 1, act)?;
                }
            }
        }
        self.read.open_transactions = self.open.open();
        Ok(())
    }

    fn operation(&mut self, entry: &OplogEntry, depth: usize, act: TakeStep) -> Result<()> {
        let actions = match entry.op {
            // No-ops; the others are internal to servers with replicated record ids.
            "n" | "ci" | "cu" | "cd" | "km" => Vec::new(),
            "i" | "u" | "d" => self.write(entry)?,
            "c" if entry.command()?.0 == "applyOps" && depth < DEPTH => {
                for raw in operations(entry.o)? {
                    self.operation(&OplogEntry::parse(&raw)?, depth + 1, act)?;
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
        let operation = action::write(entry, &to);
        Ok(vec![ReplayStep::Write { to, operation }])
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
            Ok(on) if on.starts_with("system.buckets.") => Ok(Vec::new()),
            Ok(_) => {
                let form = ChangeForm::Command(action::create_view(entry.o, &to.collection));
                Ok(vec![ReplayStep::Create { to, form, view: true, collated: false }])
            }
            Err(_) => Err(unknown("change of a view", entry)),
        }
    }

    fn command(&mut self, entry: &OplogEntry) -> Result<Vec<ReplayStep>> {
        let (name, first) = entry.command()?;
        let db = entry.ns.split_once('.').map_or(entry.ns, |(db, _)| db);
        match name {
            // Other entries have their results, or they change no data.
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
                     compatibility version was changed while the backup ran, and the slice cannot be replayed",
                    entry.when(),
                    entry.ns
                ))
                .hint("Restore another backup, or this one without its oplog: --no-replay"));
            }
            "dropDatabase" => return Ok(vec![ReplayStep::DropAll { from_db: db.into(), views: false }]),
            "renameCollection" => return self.rename(entry),
            _ => {}
        }
        if !action::KNOWN.contains(&name) {
            return Err(unknown(&format!("command '{name}'"), entry));
        }
        let collection = first.as_str().ok_or_else(|| broken(format!("'{name}' names no collection")))?;
        if collection == "system.views" {
            let all = ReplayStep::DropAll { from_db: db.into(), views: true };
            return Ok(if name == "drop" { vec![all] } else { Vec::new() });
        }
        self.see(db, collection);
        // The server creates the collections of users and roles by itself.
        let to = self.names.target(db, collection)?.filter(|to| !to.is_users_or_roles());
        let Some(to) = to else { return Ok(Vec::new()) };
        let mut actions = action::on_collection(name, entry, to)?;
        for action in &mut actions {
            let ReplayStep::Index { to, edit: IndexEdit::Put(specs) } = action else { continue };
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

    fn rename(&mut self, entry: &OplogEntry) -> Result<Vec<ReplayStep>> {
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
                Ok(vec![ReplayStep::Rename { from, to, command }])
            }
            _ => Err(Error::failed(format!(
                "the oplog slice renames {} to {}, but only one of them is restored, or they are restored to different databases",
                entry.o.get_str("renameCollection").unwrap_or_default(),
                entry.o.get_str("to").unwrap_or_default()
            ))
            .hint("Restore both in one database, or restore without the oplog: --no-replay")),
        }
    }
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
    .hint("Restore without the oplog: --no-replay. Then each collection is as it was when the backup read it")
}

#[cfg(test)]
mod tests;
