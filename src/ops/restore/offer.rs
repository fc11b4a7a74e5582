//! What a backup holds.

use crate::base::error::{Error, Kind, Result};
use crate::model::manifest::NamespaceEntry;
use crate::model::namespace::Type;

/// A namespace of a backup.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The database.
    pub db: String,
    /// The collection, as users know it.
    pub collection: String,
    /// What it is.
    pub kind: Type,
    /// How many documents.
    pub documents: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
    /// What is read for them, in bytes.
    pub stored_bytes: u64,
    /// The sum of their hashes, as the manifest has it.
    pub sum: u128,
}

impl Offer {
    /// A namespace as a manifest has it.
    ///
    /// # Errors
    /// Of the kind `Mismatch` if its hash is none.
    pub fn of(entry: &NamespaceEntry) -> Result<Offer> {
        let sum = u128::from_str_radix(&entry.xxh3_sum, 16)
            .map_err(|e| Error::new(Kind::Mismatch, "the manifest has a broken hash").caused_by(e))?;
        Ok(Offer {
            db: entry.db.clone(),
            collection: entry.collection.clone(),
            kind: entry.kind,
            documents: entry.documents,
            raw_bytes: entry.raw_bytes,
            stored_bytes: entry.stored_bytes,
            sum,
        })
    }

    /// `db.collection`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.db, self.collection)
    }
}

/// Whether a namespace holds users, roles or their version.
pub fn is_people(db: &str, collection: &str) -> bool {
    db == "admin" && ["system.users", "system.roles", "system.version"].contains(&collection)
}

/// Whether a namespace is restored as a collection: users and roles are merged by the server, and the rest are
/// the server's own books.
pub fn ordinary(db: &str, collection: &str) -> bool {
    let own = ["system.profile", "system.indexes", "system.views", "system.keys"];
    !(is_people(db, collection)
        || own.contains(&collection)
        || db.is_empty()
        || db == "local"
        || collection.starts_with('$'))
}
