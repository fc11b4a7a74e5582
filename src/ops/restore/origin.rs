//! The origin of the restored data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::runtime::Handle;

use super::dump::Dump;
use super::namespaces::BackupNamespace;
use super::stored::StoredBackup;
use crate::base::error::Result;
use crate::model::manifest::Manifest;
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;

/// The origin of the restored data: a backup in a store, or a dump.
#[derive(Debug, Clone)]
pub enum RestoreOrigin {
    Stored(Arc<StoredBackup>),
    /// A dump without a manifest.
    Dump(Arc<Dump>),
}

impl RestoreOrigin {
    /// The namespaces of the backup.
    pub(super) fn contents(&self) -> Result<Vec<BackupNamespace>> {
        match self {
            RestoreOrigin::Stored(stored) => stored.contents(),
            RestoreOrigin::Dump(dump) => Ok(dump.contents()),
        }
    }

    /// Options and indexes of the namespaces at these positions.
    pub(crate) async fn describe(&self, wanted: &BTreeSet<usize>) -> Result<BTreeMap<usize, Namespace>> {
        match self {
            RestoreOrigin::Stored(stored) => stored.describe(wanted).await,
            RestoreOrigin::Dump(dump) => {
                Ok(wanted.iter().map(|at| (*at, dump.namespaces[*at].clone())).collect())
            }
        }
    }

    /// Passes every document of a namespace to `each`, in order. Blocks the thread.
    pub(crate) fn scan(&self, at: usize, handle: &Handle, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        match self {
            RestoreOrigin::Stored(stored) => stored.scan(at, handle, each).map(drop),
            RestoreOrigin::Dump(dump) => dump.scan(at, each),
        }
    }

    pub(super) fn has_slice(&self) -> bool {
        match self {
            RestoreOrigin::Stored(stored) => stored.manifest.consistency.oplog.is_some(),
            RestoreOrigin::Dump(dump) => dump.has_oplog(),
        }
    }

    /// The times between which the slice has every entry, if they are known.
    pub(super) fn slice_bounds(&self) -> Option<(OpTime, OpTime)> {
        self.manifest()?.consistency.oplog.as_ref().map(|slice| (slice.start, slice.end))
    }

    /// Passes every entry of the oplog slice to `each`, in order. Blocks the thread.
    ///
    /// # Errors
    /// Returns an error of the kind `Mismatch` if the slice is damaged.
    pub(super) fn scan_slice(&self, handle: &Handle, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        match self {
            RestoreOrigin::Stored(stored) => stored.scan_slice(handle, each),
            RestoreOrigin::Dump(dump) => dump.scan_oplog(each),
        }
    }

    /// `None` for a dump.
    pub(crate) fn manifest(&self) -> Option<&Manifest> {
        match self {
            RestoreOrigin::Stored(stored) => Some(&stored.manifest),
            RestoreOrigin::Dump(_) => None,
        }
    }

    /// The backup and its place, for messages.
    pub(crate) fn place(&self) -> String {
        match self {
            RestoreOrigin::Stored(stored) => {
                format!("backup {} in {}", stored.manifest.id, stored.object.store.place())
            }
            RestoreOrigin::Dump(dump) => dump.place(),
        }
    }

    /// Notes about options and indexes that are not restored as they are in the dump.
    pub(crate) fn notes(&self) -> Vec<String> {
        match self {
            RestoreOrigin::Stored(_) => Vec::new(),
            RestoreOrigin::Dump(dump) => dump.notes.clone(),
        }
    }

    /// The warnings of the backup.
    pub(crate) fn warnings(&self) -> Vec<String> {
        match self {
            RestoreOrigin::Stored(stored) => stored.manifest.warnings.clone(),
            RestoreOrigin::Dump(_) => Vec::new(),
        }
    }
}
