//! A namespace of a MongoDB server: a collection, a view or a time series.

use std::fmt;

use bson::RawDocumentBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The prefix of the collection that holds the documents of a time series, before MongoDB 8.3.
pub const BUCKETS: &str = "system.buckets.";
/// The databases whose collections the server itself may write to.
pub const SERVERS_OWN: [&str; 3] = ["admin", "config", "local"];

/// The type of a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// A collection, including capped and clustered ones.
    #[default]
    Collection,
    /// A view. It has options and no documents.
    View,
    /// A time series. Its documents are stored in a bucket collection.
    Timeseries,
}

impl Type {
    /// The name in `metadata.json`, manifests and archives.
    pub fn as_str(self) -> &'static str {
        match self {
            Type::Collection => "collection",
            Type::View => "view",
            Type::Timeseries => "timeseries",
        }
    }
}

/// A namespace as it was when the backup began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Namespace {
    pub db: String,
    /// The name that users see; for a time series, not the name of its bucket collection.
    pub collection: String,
    pub kind: Type,
    /// The collection that holds the documents, if it has another name (`system.buckets.…`). `None` for a
    /// time series of MongoDB 8.3 and later, see [`Namespace::is_raw`].
    pub buckets: Option<String>,
    /// The UUID of the collection, 32 hex digits. Views have none.
    pub uuid: Option<String>,
    /// The options that `listCollections` returned, unchanged.
    pub options: RawDocumentBuf,
    /// The documents that `listIndexes` returned, unchanged and in order.
    pub indexes: Vec<RawDocumentBuf>,
    /// The text of `metadata.json` (canonical Extended JSON).
    pub metadata: String,
}

impl Namespace {
    /// The oplog slice of a backup. An artifact holds it like a namespace, after all others. mongodump's
    /// archive announces it in the same way.
    pub fn oplog() -> Namespace {
        Namespace { collection: "oplog".into(), ..Namespace::default() }
    }

    /// Returns true for the oplog slice. No database has an empty name.
    pub fn is_oplog(&self) -> bool {
        self.db.is_empty()
    }

    /// Returns the name of the collection that holds the documents.
    pub fn data_collection(&self) -> &str {
        self.buckets.as_deref().unwrap_or(&self.collection)
    }

    /// Returns true for a time series whose buckets are read under its own name, with `rawData: true`.
    pub fn is_raw(&self) -> bool {
        self.kind == Type::Timeseries && self.buckets.is_none()
    }

    /// Returns false for a view.
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
