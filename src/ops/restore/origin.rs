//! Where the data comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::runtime::Handle;

use super::dump::Dump;
use super::offer::Offer;
use super::stored::Stored;
use crate::base::error::Result;
use crate::model::manifest::Manifest;
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;

/// Where the data comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// A backup in a store.
    Stored(Arc<Stored>),
    /// A dump that no manifest describes.
    Dump(Arc<Dump>),
}

impl Origin {
    /// What it holds.
    pub fn offers(&self) -> Result<Vec<Offer>> {
        match self {
            Origin::Stored(stored) => stored.offers(),
            Origin::Dump(dump) => Ok(dump.offers()),
        }
    }

    /// Options and indexes of the namespaces at these places.
    pub async fn describe(&self, wanted: &BTreeSet<usize>) -> Result<BTreeMap<usize, Namespace>> {
        match self {
            Origin::Stored(stored) => stored.describe(wanted).await,
            Origin::Dump(dump) => Ok(wanted.iter().map(|at| (*at, dump.namespaces[*at].clone())).collect()),
        }
    }

    /// Shows every document of a namespace in order, on a thread that may be blocked.
    pub fn scan(&self, at: usize, handle: &Handle, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        match self {
            Origin::Stored(stored) => stored.scan(at, handle, each),
            Origin::Dump(dump) => dump.scan(at, each),
        }
    }

    /// Whether there is an oplog slice.
    pub fn has_slice(&self) -> bool {
        match self {
            Origin::Stored(stored) => stored.manifest.consistency.oplog.is_some(),
            Origin::Dump(dump) => dump.has_oplog(),
        }
    }

    /// The times from which on, and up to which, the slice has every entry, where they are known.
    pub fn slice_bounds(&self) -> Option<(OpTime, OpTime)> {
        self.manifest()?.consistency.oplog.as_ref().map(|slice| (slice.start, slice.end))
    }

    /// Shows every entry of the oplog slice in order, on a thread that may be blocked.
    ///
    /// # Errors
    /// Of the kind `Mismatch` if it is damaged.
    pub fn scan_slice(&self, handle: &Handle, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        match self {
            Origin::Stored(stored) => stored.scan_slice(handle, each),
            Origin::Dump(dump) => dump.scan_oplog(each),
        }
    }

    /// The manifest, of a backup that has one.
    pub fn manifest(&self) -> Option<&Manifest> {
        match self {
            Origin::Stored(stored) => Some(&stored.manifest),
            Origin::Dump(_) => None,
        }
    }

    /// What it is and where, in words.
    pub fn place(&self) -> String {
        match self {
            Origin::Stored(stored) => {
                format!("backup {} in {}", stored.manifest.id, stored.object.store.place())
            }
            Origin::Dump(dump) => dump.place(),
        }
    }

    /// Notes about options and indexes that are not restored as they are in the dump.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Origin::Stored(_) => Vec::new(),
            Origin::Dump(dump) => dump.notes.clone(),
        }
    }

    /// What a person should know of it.
    pub fn warnings(&self) -> Vec<String> {
        match self {
            Origin::Stored(stored) => stored.manifest.warnings.clone(),
            Origin::Dump(_) => Vec::new(),
        }
    }
}
