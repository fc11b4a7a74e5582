//! The manifest: the description of a backup and its commit marker. A backup exists if its manifest exists.
//!
//! docs/format.md describes every field. Fields may be added but never renamed.

use bson::{RawDocument, RawDocumentBuf};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::base::clock;
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::model::id::BackupId;
use crate::model::losses::Losses;
use crate::model::namespace::Type;
use crate::model::optime::OpTime;
use crate::model::selection::{KnownSelection, SelectionAsked};
use crate::model::server::{Fcv, Topology};
use crate::model::timing::DataTiming;

/// The name and version of this program, as written to manifests and records.
pub const TOOL: &str = concat!("uzima-backup ", env!("CARGO_PKG_VERSION"));

/// The version of the manifest's format.
pub const FORMAT: u32 = 1;

/// The largest manifest that is written or read, in bytes: about 130,000 namespaces with two indexes each.
pub const LARGEST: u64 = 64 << 20;

/// The beginning of the warning that a backup is suspiciously smaller than the previous one.
pub const COLLAPSED: &str = "collapsed: ";

/// Stands for a text of an encrypted backup in its readable manifest.
pub const HIDDEN: &str = "encrypted";

/// The beginning of the note that a backup was much slower than usual.
pub const SLOW: &str = "slower than usual: ";

/// A backup. `N` is the type of the list of namespaces: [`NamespaceEntry`]s as stored, or less data if many
/// manifests are kept in memory.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Manifest<N = Vec<NamespaceEntry>> {
    pub format: u32,
    pub id: BackupId,
    pub job: String,
    /// [`TOOL`] of the program that made the backup.
    pub tool: String,
    /// The name of the machine that made the backup.
    pub host: String,
    /// When the backup began.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub started_at: DateTime<Utc>,
    /// When the artifact was complete.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub finished_at: DateTime<Utc>,
    pub source: SourceServer,
    pub engine: EngineUsed,
    pub consistency: ConsistencyAchieved,
    pub selection: SelectionAsked,
    /// The backup has only a part of what its job is configured to have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    pub artifact: ArtifactObject,
    pub index: IndexObject,
    /// `None` if artifact and index are not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    pub totals: Totals,
    /// `None` if a version before 0.2.0 made the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<DataTiming>,
    /// The namespaces in the order in which the engine announced them. mongodump reads them in another order.
    pub namespaces: N,
    /// Facts that need attention. Empty for a backup without problems.
    pub warnings: Vec<String>,
    /// Problems that were solved during the backup: lost cursors, a second attempt.
    pub notes: Vec<String>,
    /// The namespaces that vanished or shrank since the last good backup of the job. `None` if there are none, if there was
    /// no such backup, or if a version before 0.2.0 made this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub losses: Option<Losses>,
    /// `None` if the backup is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<ManifestSignature>,
}

/// What a signed manifest says about its signature, which is an object of its own.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ManifestSignature {
    /// The number of the key, as minisign prints it.
    pub key: String,
    /// The newest trusted backup of the job when this one began. `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<BackupId>,
}

/// The server that was backed up.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct SourceServer {
    pub topology: Topology,
    /// `host:port` of the member.
    pub member: String,
    /// The version of the member's binary. [`SourceServer::needs`] returns the version that a target needs.
    pub version: String,
    /// `None` if the user could not read it, the server has none, or a version before 0.2.0 made the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_compatibility_version: Option<Fcv>,
    /// The name of the replica set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_name: Option<String>,
    /// The id of the replica set, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_id: Option<String>,
}

/// The engine that read the source.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct EngineUsed {
    /// `native` or `mongodump`.
    pub name: String,
    /// The version of mongodump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The reason for the choice of this engine.
    pub why: String,
}

/// The point in time to which the documents belong.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct ConsistencyAchieved {
    /// `none`: each collection was read at its own time, between start and end. `oplog`: the same, and a
    /// restore replays the oplog slice, so that the data is of one instant. `snapshot`: all collections were
    /// read as of one instant.
    pub achieved: String,
    /// The setting that selected this consistency, or the reason for a weaker consistency.
    pub why: String,
    /// The instant of the restored data: the end of the oplog slice, or the time of the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<OpTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oplog: Option<OplogSlice>,
    /// What a chain of oplog slices needs to begin at this backup. `None` if the data is of no instant, the user could not
    /// read the oplog, or a version before 0.2.0 made the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<ChainBase>,
}

/// The place of a backup in the oplog of its replica set.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct ChainBase {
    /// All transactions that were open at the backup's instant began after this optime.
    pub from: OpTime,
    /// The term of the oplog entry at the backup's instant.
    pub term: i64,
    /// BLAKE3 of this entry, hex. `None` in the readable manifest of an encrypted backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// The oplog entries from the time of the backup, filtered to its namespaces.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct OplogSlice {
    /// The slice contains writes after this optime. It lies before the first document was read, and before
    /// the oldest transaction that was open then.
    pub start: OpTime,
    /// The slice contains writes up to this optime. It lies after the last document was read.
    pub end: OpTime,
    pub entries: u64,
    /// The length of the documents in bytes.
    pub raw_bytes: u64,
    /// The space in the artifact, in bytes.
    pub stored_bytes: u64,
    /// The sum of the hashes of the entries, see [`NamespaceEntry::xxh3_sum`].
    pub xxh3_sum: String,
}

/// The object that holds the artifact.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct ArtifactObject {
    /// The key, relative to the root of the store.
    pub key: String,
    /// `tar.gz`, `tar.zst`, `archive.gz` or `archive.zst`.
    pub format: String,
    /// The compression level; if it followed the line, the nearest to the mean.
    pub level: i32,
    /// The mean of the levels of all blocks, weighed by their raw bytes. `None` if all blocks have the same level, because
    /// `compression_level` was not `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "mean_level")]
    pub mean_level: Option<f64>,
    /// In bytes.
    pub size: u64,
    /// CRC-64/NVME of all bytes, 16 hex digits.
    pub crc64nvme: String,
    /// The size of the uploaded parts in bytes.
    pub part_size: u64,
    /// BLAKE3 of all bytes, hex. `None` if the backup is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
}

/// Reads a mean level, and moves it into a range that can be shown. A manifest can be planted.
fn mean_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let level = Option::<f64>::deserialize(deserializer)?;
    Ok(level.filter(|level| !level.is_nan()).map(|level| level.clamp(0.0, 100.0)))
}

impl ArtifactObject {
    /// `tar.gz, level 5` or `tar.zst, level 9.4 on average`.
    pub fn compression(&self) -> String {
        match self.mean_level {
            Some(mean) => format!("{}, level {mean:.1} on average", self.format),
            None => format!("{}, level {}", self.format, self.level),
        }
    }

    /// What two backups must have in common if their speeds are compared: the format, and the level unless it followed the line.
    pub fn method(&self) -> (&str, Option<i32>) {
        (&self.format, self.mean_level.is_none().then_some(self.level))
    }
}

/// The object that holds the index.
#[derive(Debug, Clone, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct IndexObject {
    /// The key, relative to the root of the store.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// BLAKE3 of the object, hex.
    pub blake3: String,
}

/// The encryption of the artifact and the index: age files, see docs/format.md.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Encryption {
    /// The length of the artifact's age header in bytes. A nonce of 16 bytes and the chunks follow.
    pub header_length: u64,
    /// The length of the decrypted artifact in bytes.
    pub content_size: u64,
    /// The fingerprints of the recipients: the first 16 hex digits of the SHA-256 of each.
    pub recipients: Vec<String>,
    /// As in the manifest of an oplog slice. `None` if the server is no replica set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection_mark: Option<String>,
}

/// Sums over the namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Totals {
    pub namespaces: u64,
    pub documents: u64,
    /// The length of the documents in bytes.
    pub raw_bytes: u64,
}

/// A namespace of a backup.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct NamespaceEntry {
    pub db: String,
    pub collection: String,
    #[serde(rename = "type")]
    pub kind: Type,
    /// The UUID of the collection, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// BLAKE3 of the options' BSON, hex.
    pub options_blake3: String,
    /// In the order of the server.
    pub indexes: Vec<IndexEntry>,
    pub documents: u64,
    /// The length of the documents in bytes.
    pub raw_bytes: u64,
    /// The space in the artifact, in bytes.
    pub stored_bytes: u64,
    /// The sum, modulo 2^128, of the XXH3-128 hashes of the documents, 32 hex digits. It does not depend on
    /// their order.
    pub xxh3_sum: String,
    /// The namespace was dropped while it was read. The backup has the documents that were read before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
}

/// An index of a collection.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct IndexEntry {
    pub name: String,
    /// BLAKE3 of the document that `listIndexes` returned, hex.
    pub blake3: String,
}

/// Returns the BLAKE3, hex, of a manifest's JSON without white space and without the field `index`. That
/// field describes the object that holds this digest.
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

impl SourceServer {
    /// Returns the lowest feature compatibility version of a server that accepts all of the data: the
    /// source's own, or the version that belongs to its binary. Returns `None` if neither is known.
    pub fn needs(&self) -> Option<Fcv> {
        self.feature_compatibility_version.or_else(|| Fcv::of_version(&self.version))
    }
}

impl NamespaceEntry {
    /// `db.collection`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.db, self.collection)
    }

    /// Compares options and indexes with the digests. Returns "options" or "indexes", whichever differs
    /// first, or `None`.
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
    /// Returns true if the backup is suspiciously smaller than the previous one. Later backups are not
    /// compared with it.
    pub fn collapsed(&self) -> bool {
        self.warnings.iter().any(|warning| warning.starts_with(COLLAPSED))
    }

    /// Returns the note that the backup was much slower than usual, if it was.
    pub fn slow(&self) -> Option<&str> {
        self.notes.iter().find(|note| note.starts_with(SLOW)).map(String::as_str)
    }

    /// Returns the selection in words if the backup is partial.
    pub fn part(&self) -> Option<String> {
        self.partial.then(|| match self.hides_details() {
            true => "its selection is encrypted".into(),
            false => self.selection.to_string(),
        })
    }

    /// Returns true for the readable manifest of an encrypted backup, which names no namespace.
    pub fn hides_details(&self) -> bool {
        self.encryption.is_some() && self.engine.why == HIDDEN
    }

    /// The selection, for comparisons.
    pub fn known_selection(&self) -> KnownSelection {
        KnownSelection {
            asked: (!self.hides_details()).then(|| self.selection.clone()),
            mark: self.encryption.as_ref().and_then(|encryption| encryption.selection_mark.clone()),
        }
    }

    /// The length of the artifact in bytes, without its encryption. The index has positions in this content.
    pub fn content_size(&self) -> u64 {
        self.encryption.as_ref().map_or(self.artifact.size, |encryption| encryption.content_size)
    }

    /// Replaces the list of namespaces.
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
            partial: self.partial,
            artifact: self.artifact,
            index: self.index,
            encryption: self.encryption,
            totals: self.totals,
            timing: self.timing,
            namespaces: map(self.namespaces),
            warnings: self.warnings,
            notes: self.notes,
            losses: self.losses,
            signature: self.signature,
        }
    }
}

impl Manifest {
    /// Returns the place of the oplog slice in the index, after all namespaces. Returns `None` if there is no
    /// slice.
    pub fn slice_place(&self) -> Option<usize> {
        self.consistency.oplog.as_ref().map(|_| self.namespaces.len())
    }

    /// Returns the name of a place in the index: `db.collection`, or "the oplog slice".
    pub fn name(&self, place: usize) -> Option<String> {
        match self.namespaces.get(place) {
            Some(namespace) => Some(namespace.name()),
            None => (self.slice_place() == Some(place)).then(|| "the oplog slice".into()),
        }
    }

    /// The manifest of an encrypted backup as everybody may read it: everything that the operation of backups needs, without
    /// names, counts and hashes of namespaces. The complete manifest is in the index.
    pub fn readable(&self) -> Manifest {
        let (kept, hidden): (Vec<_>, Vec<_>) =
            self.warnings.iter().cloned().partition(|warning| warning.starts_with(COLLAPSED));
        let hidden = (!hidden.is_empty()).then(|| {
            let count = units::several(hidden.len() as u64, "warning");
            format!("{count} encrypted: `uzima-backup list {} --identity FILE` shows the text", self.id)
        });
        let consistency = ConsistencyAchieved {
            why: HIDDEN.into(),
            oplog: self
                .consistency
                .oplog
                .clone()
                .map(|slice| OplogSlice { xxh3_sum: String::new(), ..slice }),
            base: self.consistency.base.clone().map(|base| ChainBase { blake3: None, ..base }),
            ..self.consistency.clone()
        };
        Manifest {
            engine: EngineUsed { why: HIDDEN.into(), ..self.engine.clone() },
            consistency,
            selection: SelectionAsked::default(),
            namespaces: Vec::new(),
            warnings: kept.into_iter().chain(hidden).collect(),
            notes: self.notes.iter().filter(|note| note.starts_with(SLOW)).cloned().collect(),
            losses: None,
            ..self.clone()
        }
    }

    /// Encodes the manifest as indented JSON.
    ///
    /// # Errors
    /// Returns an error if the JSON is larger than [`LARGEST`].
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::failed("cannot write the manifest").caused_by(e))?;
        json.push(b'\n');
        if json.len() as u64 > LARGEST {
            return Err(too_large("manifest", self.namespaces.len(), json.len(), LARGEST));
        }
        Ok(json)
    }

    /// Decodes a manifest.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a manifest, or have a format that only a newer version knows.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, String> {
        decode(bytes)
    }
}

/// The error for a manifest or index that is larger than the limit, both in bytes.
pub(super) fn too_large(what: &str, namespaces: usize, size: usize, limit: u64) -> Error {
    Error::failed(format!(
        "the {what} of {} has {}, but at most {} can be read back",
        units::several(namespaces as u64, "namespace"),
        units::bytes(size as u64),
        units::bytes(limit)
    ))
    .hint("Divide the databases among several jobs (BACKUP_JOB, databases, exclude)")
}

/// Decodes a manifest with a list of namespaces of any type that can be deserialized from it.
///
/// # Errors
/// See [`Manifest::decode`].
pub fn decode<N: DeserializeOwned>(bytes: &[u8]) -> Result<Manifest<N>, String> {
    #[derive(Deserialize)]
    struct FormatVersion {
        format: u32,
    }
    let version: FormatVersion = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if version.format != FORMAT {
        return Err(format!(
            "it has the format {}, but this version only knows {FORMAT}: use a newer uzima-backup",
            version.format
        ));
    }
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}
