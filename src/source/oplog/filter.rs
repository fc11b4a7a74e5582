//! Selects the oplog entries of a backup: the entries of its namespaces, also inside `applyOps` and transactions.
//!
//! An entry that is kept as a whole keeps its bytes. If only a part of an `applyOps` is wanted, a new entry is made of the raw
//! bytes of that part. The format of entries: server source, `src/mongo/db/repl/oplog_entry.idl`; how restores apply them:
//! mongo-tools, `mongorestore/oplog.go`.

use std::collections::HashSet;

use bson::raw::{RawArrayBuf, RawBsonRef};
use bson::{RawDocument, RawDocumentBuf};

use crate::base::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::config::selection::{self, CONFIG, Selection};
use crate::dumpformat::oplog::transaction::{TransactionEntry, TransactionId, TransactionPart};
use crate::dumpformat::oplog::{ReplayNames, TargetNamespace};
use crate::model::namespace::BUCKETS;
use crate::model::optime::OpTime;

/// The collection that defines a database's views and time series.
const VIEWS: &str = "system.views";
/// The collections of `config` in which a server records that it is resharding.
const RESHARDING: [&str; 3] =
    ["reshardingOperations", "localReshardingOperations.donor", "localReshardingOperations.recipient"];

/// The part of an entry that is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum KeptEntry {
    Whole,
    /// An `applyOps` entry with only the wanted operations.
    Part(RawDocumentBuf),
    /// The entry belongs to other namespaces.
    Nothing,
}

/// Filters the entries of a slice, which it must see in order.
pub(crate) struct OplogFilter<'a> {
    selection: &'a Selection,
    /// `None` for a slice of a chain. Its transactions may have begun in an earlier slice, and end in a later one.
    transactions: Option<OpenTransactions>,
}

impl<'a> OplogFilter<'a> {
    /// Makes a filter for `selection`. The documents in the backup contain every write up to `ready`.
    pub(crate) fn new(selection: &'a Selection, ready: OpTime) -> OplogFilter<'a> {
        let transactions = Some(OpenTransactions { ready, open: HashSet::new() });
        OplogFilter { selection, transactions }
    }

    /// Makes a filter for the slices of a chain. It keeps renames of the selected namespaces, because the entries are replayed
    /// on data of one instant.
    pub(crate) fn of_chain(selection: &'a Selection) -> OplogFilter<'a> {
        OplogFilter { selection, transactions: None }
    }

    /// Decides about the next entry. Returns a [`Kind::Moved`] if the entry changes a namespace of the backup in a way that a
    /// replay cannot repeat.
    pub(crate) fn take(&mut self, entry: &RawDocument) -> Result<KeptEntry> {
        if entry.get_str("op").is_ok_and(|op| op == "c") {
            bounds::check_depth(entry).map_err(malformed)?;
        }
        let link = match &mut self.transactions {
            Some(open) => open.link(entry)?,
            None => transaction(entry)?.as_ref().map_or(TransactionLink::Alone, TransactionLink::of),
        };
        if link == TransactionLink::Over {
            return Ok(KeptEntry::Nothing);
        }
        let kept = self.operation(entry)?;
        // The parts of a transaction are counted, so a part without wanted operations stays as an empty one.
        Ok(match (kept, link) {
            (KeptEntry::Nothing, TransactionLink::Part) => {
                KeptEntry::Part(with_operations(entry, &RawArrayBuf::new())?)
            }
            (_, TransactionLink::End) => KeptEntry::Whole,
            (kept, _) => kept,
        })
    }

    /// Decides about an entry, or about an operation inside of one.
    fn operation(&self, operation: &RawDocument) -> Result<KeptEntry> {
        match operation.get_str("op").map_err(malformed)? {
            "c" => self.command(operation),
            // No-ops, and containers and keys, which belong to each server itself. mongorestore leaves them out, too.
            "n" | "ci" | "cu" | "cd" | "km" => Ok(KeptEntry::Nothing),
            _ => Ok(if self.wants_write(operation)? { KeptEntry::Whole } else { KeptEntry::Nothing }),
        }
    }

    /// Decides about each operation of an `applyOps`.
    fn apply_ops(&self, entry: &RawDocument, operations: &bson::RawArray) -> Result<KeptEntry> {
        let (mut kept, mut complete) = (RawArrayBuf::new(), true);
        for operation in operations {
            let operation = operation.map_err(malformed)?;
            let operation =
                operation.as_document().ok_or_else(|| malformed("an operation is not a document"))?;
            match self.operation(operation)? {
                KeptEntry::Whole => kept.push(RawBsonRef::Document(operation)),
                KeptEntry::Part(part) => {
                    complete = false;
                    kept.push(RawBsonRef::Document(&part));
                }
                KeptEntry::Nothing => complete = false,
            }
        }
        Ok(match complete {
            true => KeptEntry::Whole,
            false if kept.is_empty() => KeptEntry::Nothing,
            false => KeptEntry::Part(with_operations(entry, &kept)?),
        })
    }

    /// Decides about a command. The first field of `o` is the command's name and, usually, its collection.
    fn command(&self, operation: &RawDocument) -> Result<KeptEntry> {
        let namespace = operation.get_str("ns").map_err(malformed)?;
        let db = namespace.split_once('.').map_or(namespace, |(db, _)| db);
        let command = operation.get_document("o").map_err(malformed)?;
        let (name, value) =
            command.iter().next().ok_or_else(|| malformed("a command is empty"))?.map_err(malformed)?;
        let name = name.as_str();
        if let RawBsonRef::String(value) = value {
            self.refuse_command(db, name, value, command)?;
        }
        let wanted = match (name, value) {
            ("applyOps", RawBsonRef::Array(operations)) => return self.apply_ops(operation, operations),
            // MongoDB 8.3 and later write these commands about the server's own storage. mongorestore leaves them out, too.
            ("dropIdent" | "createDatabaseMetadata" | "dropDatabaseMetadata", _) => false,
            ("renameCollection", RawBsonRef::String(from)) if self.transactions.is_none() => {
                self.wants_namespace(from) || self.wants_namespace(command.get_str("to").unwrap_or_default())
            }
            // `refuse_command` refuses these commands on namespaces of the backup.
            ("renameCollection" | "importCollection" | "upgradeDowngradeViewlessTimeseries", _) => false,
            (_, RawBsonRef::String(collection)) => self.wants_command(db, name, collection),
            // `dropDatabase`, before which each collection was dropped by its own entry (seen on 6.0.5), and commands on
            // databases that only newer servers have.
            _ => self.wants_all_of(db),
        };
        Ok(if wanted { KeptEntry::Whole } else { KeptEntry::Nothing })
    }

    /// Returns true if the namespace is part of the backup. The buckets of a time series count as the time series.
    fn wants(&self, db: &str, collection: &str) -> bool {
        let collection = collection.strip_prefix(BUCKETS).unwrap_or(collection);
        // The other collections of `config` are the server's own state, which no restore may replay, even if the backup
        // contains the whole database.
        (db != "config" || CONFIG.contains(&collection)) && self.selection.wants(db, collection)
    }

    /// Returns true if `database.collection` is part of the backup.
    fn wants_namespace(&self, namespace: &str) -> bool {
        namespace.split_once('.').is_some_and(|(db, collection)| self.wants(db, collection))
    }

    /// Returns true if the whole database is part of the backup, so that a replay may drop it.
    fn wants_all_of(&self, db: &str) -> bool {
        self.selection.unfiltered() && self.selection.wants_database(db)
    }

    /// Returns true if an insert, update or delete belongs to the backup.
    fn wants_write(&self, operation: &RawDocument) -> Result<bool> {
        let namespace = operation.get_str("ns").map_err(malformed)?;
        let Some((db, collection)) = namespace.split_once('.') else {
            return Err(malformed(format!("it writes to '{namespace}'")));
        };
        self.refuse_write(db, collection, operation)?;
        // A view is created, changed and dropped by writes to `system.views` (seen on 6.0.5). The view's namespace is the
        // `_id`, which an update has in `o2`.
        if collection == VIEWS {
            let of = |field: &str| operation.get_document(field).ok()?.get_str("_id").ok();
            return Ok(of("o2").or_else(|| of("o")).is_some_and(|view| self.wants_namespace(view)));
        }
        Ok(self.wants(db, collection))
    }

    /// Returns true if a command on a collection belongs to the backup.
    fn wants_command(&self, db: &str, command: &str, collection: &str) -> bool {
        match (command, collection) {
            // Views that are created later need this collection. Without such views it does no harm.
            ("create", VIEWS) => self.selection.may_want_of(db),
            // Dropping it would also drop views that are not part of the backup.
            (_, VIEWS) => self.wants_all_of(db),
            _ => self.wants(db, collection),
        }
    }

    /// Refuses writes to the backup that no replay can repeat on collections that were read at the same time.
    ///
    /// mongodump refuses the same operations (mongo-tools, `mongodump/oplog_dump.go`), but in every namespace, and it searches
    /// the `o` of every entry: a user's document with a field `renameCollection` stops it, and a rename inside `applyOps`
    /// does not.
    fn refuse_write(&self, db: &str, collection: &str, operation: &RawDocument) -> Result<()> {
        if db == "admin" && collection == "system.version" && self.wants(db, collection) {
            return Err(refused(
                "admin.system.version was written to: the first user was created, or the feature compatibility version \
                 was changed",
                "Back up again once this is complete",
            ));
        }
        if db == "config" && RESHARDING.contains(&collection) {
            let namespace = operation.get_document("o").and_then(|o| o.get_str("ns")).unwrap_or_default();
            if self.wants_namespace(namespace) {
                return Err(resharded(namespace));
            }
        }
        Ok(())
    }

    /// Refuses such commands. `value` is the value of the command's first field.
    fn refuse_command(&self, db: &str, name: &str, value: &str, command: &RawDocument) -> Result<()> {
        match name {
            "renameCollection" => {
                let to = command.get_str("to").unwrap_or_default();
                match self.wants_namespace(value) || self.wants_namespace(to) {
                    false => Ok(()),
                    true if [value, to].into_iter().any(is_of_restore) => Err(refused(
                        &format!("a restore with --swap moved {value} to {to}"),
                        "Back up again: later points in time can be restored from the new backup",
                    )),
                    true if value.contains(".system.resharding.") => Err(resharded(to)),
                    true if self.transactions.is_none() => Ok(()),
                    true => Err(refused(
                        &format!("{value} was renamed to {to}"),
                        "Back up while no collections are renamed ($out, mapReduce and convertToCapped also rename them), \
                         exclude this collection with --exclude, or use --consistency snapshot or none",
                    )),
                }
            }
            "importCollection" if self.wants_namespace(value) || self.wants(db, value) => {
                Err(refused(&format!("{value} was imported"), "Back up again when the import is over"))
            }
            "upgradeDowngradeViewlessTimeseries" if self.wants(db, value) => Err(refused(
                &format!("the time series {db}.{value} was converted to another format"),
                "Back up again when the server's upgrade or downgrade is over",
            )),
            _ => Ok(()),
        }
    }
}

/// Returns true for a collection that only restores have.
fn is_of_restore(namespace: &str) -> bool {
    namespace.split_once('.').is_some_and(|(_, collection)| selection::is_of_restore(collection))
}

fn resharded(namespace: &str) -> Error {
    refused(
        &format!("{namespace} was resharded"),
        "Back up again when the resharding is over: sh.status() shows it",
    )
}

fn refused(what: &str, hint: &str) -> Error {
    Error::moved(format!("{what}, and an oplog slice cannot contain such a change")).hint(hint)
}

/// An `applyOps` entry with other operations. Its other fields stay the same.
fn with_operations(entry: &RawDocument, operations: &bson::RawArray) -> Result<RawDocumentBuf> {
    let replaced = |document: &RawDocument, name: &str, value: RawBsonRef<'_>| {
        let mut out = RawDocumentBuf::new();
        for element in document {
            let (key, old) = element.map_err(malformed)?;
            out.append(key, if key == name { value } else { old });
        }
        Ok::<_, Error>(out)
    };
    let command = entry.get_document("o").map_err(malformed)?;
    let command = replaced(command, "applyOps", RawBsonRef::Array(operations))?;
    replaced(entry, "o", RawBsonRef::Document(&command))
}

fn malformed(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::NoSlice, "MongoDB sent a malformed oplog entry").caused_by(error.to_string())
}

fn transaction(entry: &RawDocument) -> Result<Option<TransactionEntry>> {
    TransactionEntry::of(entry).map_err(malformed)
}

/// The relation of an entry to a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TransactionLink {
    /// The entry is complete in itself.
    Alone,
    /// One of several entries with operations.
    Part,
    /// Commits or aborts a prepared transaction.
    End,
    /// The transaction began before the slice, and was over before the first document was read.
    Over,
}

impl TransactionLink {
    fn of(entry: &TransactionEntry) -> TransactionLink {
        match entry.part {
            _ if entry.previous.is_none() && !entry.has_more() => TransactionLink::Alone,
            TransactionPart::Operations { .. } => TransactionLink::Part,
            TransactionPart::Commit | TransactionPart::Abort => TransactionLink::End,
        }
    }
}

/// The namespaces of a job, by their own names, for the checks of a replay.
#[derive(Debug)]
pub(crate) struct SelectedNames<'a>(pub(crate) &'a Selection);

impl ReplayNames for SelectedNames<'_> {
    fn target(&self, db: &str, stored: &str) -> Result<Option<TargetNamespace>> {
        let (collection, buckets) = match stored.strip_prefix(BUCKETS) {
            Some(collection) => (collection, true),
            None => (stored, false),
        };
        let named = || TargetNamespace {
            db: db.into(),
            collection: collection.into(),
            buckets,
            from_db: db.into(),
            from: collection.into(),
        };
        Ok(OplogFilter::of_chain(self.0).wants(db, collection).then(named))
    }
}

/// Finds the entries that belong to one transaction.
struct OpenTransactions {
    /// The documents in the backup contain every write that was committed up to this time.
    ready: OpTime,
    /// The transactions that are not complete yet.
    open: HashSet<TransactionId>,
}

impl OpenTransactions {
    /// Classifies the next entry.
    fn link(&mut self, entry: &RawDocument) -> Result<TransactionLink> {
        let Some(of) = transaction(entry)? else { return Ok(TransactionLink::Alone) };
        let link = TransactionLink::of(&of);
        match (of.previous, of.has_more()) {
            (None, false) => {}
            (None, true) => {
                self.open.insert(of.id);
            }
            (Some(_), _) if !self.open.contains(&of.id) => return self.began_before(entry),
            (Some(_), true) => {}
            (Some(_), false) => {
                self.open.remove(&of.id);
            }
        }
        Ok(link)
    }

    /// Classifies an entry of a transaction that began before the slice.
    fn began_before(&self, entry: &RawDocument) -> Result<TransactionLink> {
        let time: OpTime = entry.get_timestamp("ts").map_err(malformed)?.into();
        if time > self.ready {
            let text =
                "a transaction that was not known to be under way at the start was committed during the run";
            return Err(Error::moved(text));
        }
        Ok(TransactionLink::Over)
    }
}

#[cfg(test)]
mod tests;
