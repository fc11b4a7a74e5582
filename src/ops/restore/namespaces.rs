//! The namespaces of a backup, of a plan and of the target.

use std::collections::{BTreeMap, BTreeSet};

use bson::RawDocumentBuf;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::config::selection::RECORDS_DB;
use crate::model::manifest::NamespaceEntry;
use crate::model::namespace::{Namespace, SERVERS_OWN, Type};
use crate::mongo::meaning;
use crate::restore_target::marks::is_marks;
use crate::restore_target::{RestoreTarget, trial};

/// Database and collection at the target.
pub type NamespaceKey = (String, String);

pub(super) fn full_name((db, collection): &NamespaceKey) -> String {
    format!("{db}.{collection}")
}

#[derive(Debug, Clone, PartialEq)]
pub struct BackupNamespace {
    pub db: String,
    /// The name that users see: of a time series, its own name and not the name of its bucket collection.
    pub collection: String,
    pub kind: Type,
    pub documents: u64,
    pub raw_bytes: u64,
    /// The bytes that a restore reads for it.
    pub stored_bytes: u64,
    /// The sum of the documents' hashes, as in the manifest.
    pub sum: u128,
}

impl BackupNamespace {
    /// Reads a namespace of a manifest. Returns an error of the kind `Mismatch` if its hash cannot be parsed.
    pub(crate) fn of(entry: &NamespaceEntry) -> Result<BackupNamespace> {
        let sum = u128::from_str_radix(&entry.xxh3_sum, 16).map_err(|e| {
            Error::new(Kind::Mismatch, "the manifest has a hash that is not hexadecimal").caused_by(e)
        })?;
        Ok(BackupNamespace {
            db: entry.db.clone(),
            collection: entry.collection.clone(),
            kind: entry.kind,
            documents: entry.documents,
            raw_bytes: entry.raw_bytes,
            stored_bytes: entry.stored_bytes,
            sum,
        })
    }

    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.db, self.collection)
    }
}

/// Returns true if a namespace holds users, roles or the version of their format.
pub(super) fn is_users_or_roles(db: &str, collection: &str) -> bool {
    db == "admin" && ["system.users", "system.roles", "system.version"].contains(&collection)
}

/// Returns true if a namespace is restored as a collection. The server itself merges users and roles, and has
/// its own system collections.
pub(super) fn is_ordinary(db: &str, collection: &str) -> bool {
    let own = ["system.profile", "system.indexes", "system.views", "system.keys"];
    !(is_users_or_roles(db, collection)
        || own.contains(&collection)
        || is_marks(db, collection)
        || db.is_empty()
        || db == "local"
        || collection.starts_with('$'))
}

/// A namespace that is chosen to be restored, and its name at the target.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenNamespace {
    /// The position in the backup's list.
    pub at: usize,
    pub db: String,
    pub collection: String,
}

impl ChosenNamespace {
    pub(crate) fn key(&self) -> NamespaceKey {
        (self.db.clone(), self.collection.clone())
    }

    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.db, self.collection)
    }
}

#[derive(Debug, Clone)]
pub struct Planned {
    pub chosen: ChosenNamespace,
    pub source: BackupNamespace,
    /// Options and indexes.
    pub namespace: Namespace,
    /// The target's namespace of the same name.
    pub existing: Option<Existing>,
    /// With `--continue`, if the interrupted restore made the existing namespace.
    pub resumed: Option<Resumed>,
}

impl Planned {
    /// Returns true if the existing namespace is dropped or emptied first. `drop` is true with `--drop`.
    pub(super) fn is_replaced(&self, drop: bool) -> bool {
        match self.resumed {
            Some(Resumed::Kept { .. }) => false,
            Some(Resumed::Again { .. }) => true,
            None => drop && self.existing.is_some(),
        }
    }

    /// Returns true if all documents are at the target already.
    pub fn is_kept(&self) -> bool {
        matches!(self.resumed, Some(Resumed::Kept { .. }))
    }
}

/// What happens with `--continue` to a namespace that the interrupted restore made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// It stays, because its documents are complete.
    Kept {
        /// The number of its documents.
        documents: u64,
    },
    /// It is restored again.
    Again {
        /// It is touched only if it still has this identity.
        identity: String,
        /// True if the interrupted restore created it, so that it can be dropped; false if it was there, and only its documents are
        /// deleted.
        created: bool,
    },
}

/// A namespace that the target has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    /// `None` if the user may not count them.
    pub documents: Option<u64>,
    /// True if kind and options are the same as in the backup.
    pub same: bool,
}

/// The databases of the target, and the namespaces in the databases that the restore writes to.
pub(crate) struct TargetContents {
    /// Kind and options by database and name.
    rows: BTreeMap<NamespaceKey, (String, RawDocumentBuf)>,
    /// All databases that the user may list.
    databases: BTreeSet<String>,
    /// True if the target has no databases except the server's own.
    pub fresh: bool,
}

/// Lists the target's databases, and the namespaces of the given databases.
pub(crate) async fn look(target: &RestoreTarget, databases: &BTreeSet<&str>) -> Result<TargetContents> {
    let all = target.databases(false).await?;
    // The tool's own database has marks and records, but no data of users.
    let own = |db: &String| {
        SERVERS_OWN.contains(&db.as_str()) || [trial::DATABASE, RECORDS_DB].contains(&db.as_str())
    };
    let fresh = all.as_ref().is_some_and(|all| all.iter().all(own));
    let known = match all {
        Some(all) => all,
        None => target.databases(true).await?.unwrap_or_default(),
    };
    let listed = stream::iter(databases).map(async |db| Ok::<_, Error>((db, target.collections(db).await?)));
    let mut listed = listed.buffer_unordered(target.pace.namespaces);
    let mut rows = BTreeMap::new();
    while let Some((db, found)) = listed.try_next().await? {
        for row in found {
            let (Ok(name), Ok(kind)) = (row.get_str("name"), row.get_str("type")) else { continue };
            let options = row.get_document("options").map(|o| o.to_owned()).unwrap_or_default();
            rows.insert((db.to_string(), name.to_string()), (kind.to_string(), options));
        }
    }
    Ok(TargetContents { rows, databases: known.into_iter().collect(), fresh })
}

impl TargetContents {
    /// The listed databases that have a namespace.
    pub(crate) fn databases(&self) -> BTreeSet<&str> {
        self.rows.keys().map(|(db, _)| db.as_str()).collect()
    }

    /// The names in a listed database.
    pub(super) fn names_of<'a>(&'a self, db: &'a str) -> impl Iterator<Item = &'a str> {
        self.rows.keys().filter(move |(of, _)| of == db).map(|(_, name)| name.as_str())
    }

    /// The views in the listed databases, with their options.
    pub(super) fn views(&self) -> impl Iterator<Item = (&NamespaceKey, &RawDocumentBuf)> {
        self.rows.iter().filter(|(_, (kind, _))| kind == "view").map(|(key, (_, options))| (key, options))
    }

    pub(super) fn has_database(&self, db: &str) -> bool {
        self.databases.contains(db) || self.rows.keys().any(|(of, _)| of == db)
    }

    /// A database of the target whose name differs from this name only by case.
    pub(super) fn alike(&self, db: &str) -> Option<&str> {
        let all = self.databases.iter().map(String::as_str);
        all.chain(self.databases()).find(|other| *other != db && other.eq_ignore_ascii_case(db))
    }

    /// The target's namespace that has the name of a namespace to be restored.
    pub(crate) async fn existing(
        &self,
        target: &RestoreTarget,
        chosen: &ChosenNamespace,
        namespace: &Namespace,
    ) -> Result<Option<Existing>> {
        let Some((kind, options)) = self.rows.get(&chosen.key()) else { return Ok(None) };
        let same = kind == namespace.kind.as_str() && meaning::same_options(options, &namespace.options);
        let documents = match kind.as_str() {
            "view" => Some(0),
            "timeseries" => {
                target.count_in(&target.place_of_series(&chosen.db, &chosen.collection).await?).await?
            }
            _ => target.count(&chosen.db, &chosen.collection).await?,
        };
        Ok(Some(Existing { documents, same }))
    }

    /// The kind of a namespace, such as `view`, and true if it is capped.
    pub(super) fn kind(&self, key: &NamespaceKey) -> Option<(&str, bool)> {
        let (kind, options) = self.rows.get(key)?;
        Some((kind, options.get_bool("capped").unwrap_or(false)))
    }

    pub(crate) fn has(&self, key: &NamespaceKey) -> bool {
        self.rows.contains_key(key)
    }

    /// The namespaces that are not in `names`, without the server's own collections.
    pub(super) fn beside(&self, names: &BTreeSet<NamespaceKey>) -> Vec<NamespaceKey> {
        let own = |(db, name): &&NamespaceKey| {
            name.starts_with("system.") || SERVERS_OWN.contains(&db.as_str()) || is_marks(db, name)
        };
        self.rows.keys().filter(|key| !names.contains(key) && !own(key)).cloned().collect()
    }
}

/// A text like `a, b and 3 more`, which has at most `most` names.
pub(super) fn name_list(names: &[impl AsRef<str>], most: usize) -> String {
    let first = names.iter().take(most).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(most) {
        0 => first,
        more => format!("{first} and {} more", units::count(more as u64)),
    }
}
