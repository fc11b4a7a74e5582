//! A namespace of a MongoDB server: a collection, a view or a time series.

use std::fmt;

use bson::RawDocumentBuf;
use serde::{Deserialize, Serialize};

/// What a namespace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// An ordinary collection, capped and clustered ones included.
    Collection,
    /// A view: options, no documents.
    View,
    /// A time series: its documents are those of its bucket collection.
    Timeseries,
}

/// A namespace as it was when the backup began.
#[derive(Debug, Clone, PartialEq)]
pub struct Namespace {
    /// The database.
    pub db: String,
    /// The collection's name as users know it.
    pub collection: String,
    /// What it is.
    pub kind: Type,
    /// The collection that holds the documents, if it has another name (`system.buckets.…`). A time series
    /// of MongoDB 8.3 and later has none: [`Namespace::is_raw`].
    pub buckets: Option<String>,
    /// The collection's UUID, 32 hex digits; views have none.
    pub uuid: Option<String>,
    /// `listCollections`' options, verbatim.
    pub options: RawDocumentBuf,
    /// `listIndexes`' documents, verbatim and in order.
    pub indexes: Vec<RawDocumentBuf>,
    /// The text of `metadata.json` (canonical Extended JSON).
    pub metadata: String,
}

impl Namespace {
    /// The oplog slice of a backup, which an artifact holds like one more namespace, behind all others.
    /// This is also how mongodump's archive announces it.
    pub fn oplog() -> Namespace {
        Namespace {
            db: String::new(),
            collection: "oplog".into(),
            kind: Type::Collection,
            buckets: None,
            uuid: None,
            options: RawDocumentBuf::new(),
            indexes: Vec::new(),
            metadata: String::new(),
        }
    }

    /// Whether it is no namespace but the oplog slice: no database has an empty name.
    pub fn is_oplog(&self) -> bool {
        self.db.is_empty()
    }

    /// The name of the collection that holds the documents.
    pub fn data_collection(&self) -> &str {
        self.buckets.as_deref().unwrap_or(&self.collection)
    }

    /// Returns true for a time series whose buckets are read under its own name, with `rawData: true`.
    pub fn is_raw(&self) -> bool {
        self.kind == Type::Timeseries && self.buckets.is_none()
    }

    /// Whether it has documents of its own to read.
    pub fn has_documents(&self) -> bool {
        self.kind != Type::View
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_oplog() {
            true => f.write_str("the oplog slice"),
            false => write!(f, "{}.{}", self.db, self.collection),
        }
    }
}
