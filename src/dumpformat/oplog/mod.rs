//! The oplog entries of a dump, `oplog.bson`, and their meaning for a replay.

mod entry;
pub(crate) mod script;
pub(crate) mod transaction;

use std::fmt;

use crate::base::error::Result;
use crate::model::namespace::BUCKETS;
use crate::model::optime::OpTime;

/// The end of a next step that advises to leave the replay out. A restore to a point in time cannot do so, and replaces it.
pub(crate) const NO_REPLAY: &str = "Or restore without the oplog, with --no-replay: each collection is then as it was when the backup read it";

/// Chooses the namespaces of a replay.
pub(crate) trait ReplayNames {
    /// The name of a namespace at the target; `None` if its operations are not replayed. Returns a usage
    /// error if the new name is not a namespace.
    fn target(&self, db: &str, stored: &str) -> Result<Option<TargetNamespace>>;

    /// Returns true if an index, `database.collection.index` by the names of the backup, is built.
    fn wants_index(&self, _name: &str) -> bool {
        true
    }
}

/// Reads entries of a replay again.
pub(crate) trait EntrySource: fmt::Debug + Send {
    /// Passes the entries between two times, both included, to `each`, in order. Blocks the thread.
    fn entries(&self, from: OpTime, to: OpTime, each: &mut dyn FnMut(&[u8])) -> Result<()>;
}

/// A namespace of an oplog slice, with its name at the target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TargetNamespace {
    pub db: String,
    /// The name that users see.
    pub collection: String,
    /// True for the bucket collection of a time series.
    pub buckets: bool,
    pub from_db: String,
    /// The name in the backup that users see.
    pub from: String,
}

impl TargetNamespace {
    /// The name of the collection with the documents.
    pub(crate) fn stored(&self) -> String {
        if self.buckets { format!("{BUCKETS}{}", self.collection) } else { self.collection.clone() }
    }

    pub(crate) fn key(&self) -> (String, String) {
        (self.db.clone(), self.collection.clone())
    }

    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.db, self.collection)
    }

    /// The name in the backup, `db.collection`.
    pub(crate) fn backup_name(&self) -> String {
        format!("{}.{}", self.from_db, self.from)
    }

    pub(crate) fn is_users_or_roles(&self) -> bool {
        is_users_or_roles(&self.from_db, &self.from)
    }
}

/// Returns true for the collection of users or the collection of roles.
pub(crate) fn is_users_or_roles(db: &str, collection: &str) -> bool {
    db == "admin" && ["system.users", "system.roles"].contains(&collection)
}

/// Counts and times of an oplog slice.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SliceCounts {
    pub entries: u64,
    /// The length of the entries in bytes.
    pub raw_bytes: u64,
    /// Operations, also inside `applyOps`, that are not replayed because they change other namespaces or no
    /// data.
    pub left_out: u64,
    /// Transactions that are neither committed nor aborted at the slice's end. They are not replayed.
    pub open_transactions: u64,
    /// The beginning of the time in which the slice has every entry.
    pub first: Option<OpTime>,
    /// The end of the time in which the slice has every entry.
    pub last: Option<OpTime>,
    /// The time of the last entry.
    pub newest: Option<OpTime>,
}
