//! The manifest: what a backup is, and its commit marker. A backup exists once its manifest does.
//! docs/format.md describes every field; a field is never renamed, only added.

use bson::{RawDocument, RawDocumentBuf};
use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::base::clock;
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::model::id::BackupId;
use crate::model::namespace::Type;
use crate::model::optime::OpTime;
use crate::model::server::Fcv;
use crate::model::server::Topology;

/// The name and version of this program, as manifests and records have them.
pub const TOOL: &str = concat!("uzima-backup ", env!("CARGO_PKG_VERSION"));

/// The version of the manifest's format.
pub const FORMAT: u32 = 1;

/// The largest manifest that is written or read, in bytes: about 130,000 namespaces with two indexes each.
pub const LARGEST: u64 = 64 << 20;

/// How the warning of a backup begins that holds suspiciously less than the one before.
pub const COLLAPSED: &str = "collapsed: ";

/// A backup. `N` are its namespaces: [`NamespaceEntry`]s as stored, or less of them where many manifests are kept
/// in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest<N = Vec<NamespaceEntry>> {
    /// [`FORMAT`].
    pub format: u32,
    /// The backup's id.
    pub id: BackupId,
    /// The line of backups it belongs to.
    pub job: String,
    /// Name and version of the tool.
    pub tool: String,
    /// The machine it ran on.
    pub host: String,
    /// When the first byte was asked for.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub started_at: DateTime<Utc>,
    /// When the artifact was complete.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub finished_at: DateTime<Utc>,
    /// What was read.
    pub source: Source,
    /// What read it.
    pub engine: Engine,
    /// To what time the documents belong.
    pub consistency: Consistency,
    /// What was asked for.
    pub selection: SelectionAsked,
    /// The object that holds it all.
    pub artifact: Artifact,
    /// The object that says where everything stands in it.
    pub index: Object,
    /// Sums over the namespaces.
    pub totals: Totals,
    /// The namespaces, as the engine announced them; mongodump reads them in another order.
    pub namespaces: N,
    /// What a person should look at; empty when all is well.
    pub warnings: Vec<String>,
    /// What went wrong on the way and was mended: lost cursors, a second run.
    pub notes: Vec<String>,
}

/// The server that was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The deployment's kind.
    pub topology: Topology,
    /// `host:port` of the member that was read.
    pub member: String,
    /// The version of the member's binary. [`Source::needs`] says which servers can take the data.
    pub version: String,
    /// The server's feature compatibility version. `None` if the user could not read it, the server has none, or
    /// a version before 0.2.0 made the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_compatibility_version: Option<Fcv>,
    /// The replica set's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_name: Option<String>,
    /// The replica set's id, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_id: Option<String>,
}

/// The engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// `native` or `mongodump`.
    pub name: String,
    /// mongodump's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why it was chosen.
    pub why: String,
}

/// To what time the documents belong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consistency {
    /// `none`: each collection was read at its own time, between start and end. `oplog`: the same, and the
    /// oplog slice turns what is restored into the data of one instant. `snapshot`: all of it was read as of
    /// one instant.
    pub achieved: String,
    /// What chose it, or why it is not more.
    pub why: String,
    /// The instant that the restored data is of: the slice's end, or the snapshot's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<OpTime>,
    /// The oplog slice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oplog: Option<Slice>,
}

/// What the server wrote while it was read, filtered to the backup's namespaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// What was written after it is in the slice. It lies before the first document that was read, and before
    /// the oldest transaction that was under way then.
    pub start: OpTime,
    /// The last moment whose writes are in it, after the last document that was read.
    pub end: OpTime,
    /// How many oplog entries.
    pub entries: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
    /// What they take in the artifact, in bytes.
    pub stored_bytes: u64,
    /// The sum of the entries' hashes, as [`NamespaceEntry::xxh3_sum`].
    pub xxh3_sum: String,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelectionAsked {
    /// The databases; empty means all.
    pub databases: Vec<String>,
    /// Patterns; empty means all.
    pub include: Vec<String>,
    /// Patterns of what was left out.
    pub exclude: Vec<String>,
}

/// The artifact's object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// The key, relative to the store's root.
    pub key: String,
    /// `tar.gz`, `tar.zst`, `archive.gz` or `archive.zst`.
    pub format: String,
    /// The compression level.
    pub level: i32,
    /// The size in bytes.
    pub size: u64,
    /// CRC-64/NVME of all bytes, 16 hex digits.
    pub crc64nvme: String,
    /// The size of the parts it was uploaded in, in bytes.
    pub part_size: u64,
}

/// Another object.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Object {
    /// The key, relative to the store's root.
    pub key: String,
    /// The size in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes, hex.
    pub blake3: String,
}

/// Sums over the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// How many namespaces.
    pub namespaces: u64,
    /// How many documents.
    pub documents: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamespaceEntry {
    /// The database.
    pub db: String,
    /// The collection, as users know it.
    pub collection: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Type,
    /// The collection's UUID, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// BLAKE3 of the options' BSON, hex.
    pub options_blake3: String,
    /// The indexes, in order.
    pub indexes: Vec<IndexEntry>,
    /// How many documents.
    pub documents: u64,
    /// Their length in bytes.
    pub raw_bytes: u64,
    /// What they take in the artifact, in bytes.
    pub stored_bytes: u64,
    /// The sum modulo 2^128 of the documents' XXH3-128 hashes, 32 hex digits: independent of order.
    pub xxh3_sum: String,
    /// It was dropped while it was read: what is here is what was there until then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Its name.
    pub name: String,
    /// BLAKE3 of its `listIndexes` document, hex.
    pub blake3: String,
}

/// BLAKE3, hex, of a manifest's content: its JSON without white space and without the field `index`, which describes the
/// object that holds this digest.
///
/// # Errors
/// Returns an error if the bytes are not a JSON object.
pub fn content_digest(bytes: &[u8]) -> Result<String, String> {
    let json: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let content: serde_json::Map<_, _> = json.into_iter().filter(|(key, _)| key != "index").collect();
    let text = serde_json::to_string(&content).map_err(|e| e.to_string())?;
    Ok(blake3::hash(text.as_bytes()).to_hex().to_string())
}

impl Source {
    /// The lowest feature compatibility version of a server that takes all of the data: the source's own, or
    /// else the one that belongs to its binary. `None` if neither is known.
    pub fn needs(&self) -> Option<Fcv> {
        self.feature_compatibility_version.or_else(|| Fcv::of_version(&self.version))
    }
}

impl NamespaceEntry {
    /// `db.collection`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.db, self.collection)
    }

    /// Compares options and indexes with the digests. Returns "options" or "indexes", whichever differs first;
    /// `None` if both agree.
    pub fn differs(&self, options: &RawDocument, indexes: &[RawDocumentBuf]) -> Option<&'static str> {
        let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        if hash(options.as_bytes()) != self.options_blake3 {
            return Some("options");
        }
        let hashes = indexes.iter().map(|index| hash(index.as_bytes()));
        (!hashes.eq(self.indexes.iter().map(|index| index.blake3.clone()))).then_some("indexes")
    }
}

impl<N> Manifest<N> {
    /// Whether this backup holds suspiciously less than the one before it: then none is measured by it.
    pub fn collapsed(&self) -> bool {
        self.warnings.iter().any(|warning| warning.starts_with(COLLAPSED))
    }

    /// The same manifest with other namespaces.
    pub fn map_namespaces<M>(self, map: impl FnOnce(N) -> M) -> Manifest<M> {
        Manifest {
            format: self.format,
            id: self.id,
            job: self.job,
            tool: self.tool,
            host: self.host,
            started_at: self.started_at,
            finished_at: self.finished_at,
            source: self.source,
            engine: self.engine,
            consistency: self.consistency,
            selection: self.selection,
            artifact: self.artifact,
            index: self.index,
            totals: self.totals,
            namespaces: map(self.namespaces),
            warnings: self.warnings,
            notes: self.notes,
        }
    }
}

impl Manifest {
    /// The place that the oplog slice has in the index, if there is one: behind all namespaces.
    pub fn slice_place(&self) -> Option<usize> {
        self.consistency.oplog.as_ref().map(|_| self.namespaces.len())
    }

    /// What stands at a place of the index: `db.collection`, or the oplog slice.
    pub fn name(&self, place: usize) -> Option<String> {
        match self.namespaces.get(place) {
            Some(namespace) => Some(namespace.name()),
            None => (self.slice_place() == Some(place)).then(|| "the oplog slice".into()),
        }
    }

    /// The bytes of the manifest's object: JSON a person can read.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::failed("cannot write the manifest").caused_by(e))?;
        json.push(b'\n');
        if json.len() as u64 > LARGEST {
            return Err(Error::failed(format!(
                "the manifest of {} has {}, and at most {} are read back",
                units::several(self.namespaces.len() as u64, "namespace"),
                units::bytes(json.len() as u64),
                units::bytes(LARGEST)
            ))
            .hint("Divide the databases among several jobs (BACKUP_JOB, databases, exclude)"));
        }
        Ok(json)
    }

    /// Reads a manifest's object.
    ///
    /// # Errors
    /// If it is not JSON of this format, or of a format that only a newer version knows.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        decode(bytes)
    }
}

/// Reads a manifest's object with namespaces of any kind that its entries can be read as.
///
/// # Errors
/// As [`Manifest::decode`].
pub fn decode<N: DeserializeOwned>(bytes: &[u8]) -> Result<Manifest<N>, String> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if version.format != FORMAT {
        return Err(format!(
            "it has format {}, this version knows {FORMAT}: use a newer uzima-backup",
            version.format
        ));
    }
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}
