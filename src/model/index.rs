//! The index of an artifact: the offset of each segment, so that a reader can request one collection by
//! ranges, or many collections in parallel. docs/format.md is the specification.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bson::RawDocumentBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::bounds;
use crate::base::bounds::Limited;
use crate::base::error::{Error, Result};
use crate::model::manifest::{Manifest, too_large};
use crate::model::namespace::Namespace;

/// The version of the index's format.
pub const FORMAT: u32 = 1;

/// The name of the file in the backup's folder. It contains JSON in one zstd frame.
pub const FILE: &str = "index.json.zst";
/// The same for an encrypted backup.
pub const ENCRYPTED_FILE: &str = "index.json.zst.age";

/// The largest index that is written or read, in stored bytes.
pub const LARGEST: u64 = 64 << 20;
/// The largest JSON of an index that is written or read, in bytes. [`LARGEST`] stored bytes could expand to
/// terabytes.
const LARGEST_JSON: u64 = 128 << 20;

/// The segments of an artifact, in the order of the artifact.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Index {
    pub format: u32,
    /// The id of the backup.
    pub id: String,
    pub segments: Vec<Segment>,
    /// Options and indexes of each namespace, in the order of the manifest; empty in backups by version
    /// 0.1.0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<NamespaceDescription>,
    /// [`content_digest`](super::manifest::content_digest) of the manifest. `None` if a version before 0.2.0
    /// made the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_blake3: Option<String>,
    /// The complete manifest of an encrypted backup, whose field `index` is empty. The manifest in the store is its
    /// [readable](Manifest::readable) part. `None` if the backup is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Box<Manifest>>,
}

/// Options and indexes of a namespace as the server sent them. `metadata.json` is Extended JSON, in which a
/// constant such as `{$numberLong: "5"}` has the same text as a 64-bit number.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct NamespaceDescription {
    /// The options' BSON, in Base64.
    pub options: String,
    /// The BSON of each `listIndexes` document, in Base64.
    pub indexes: Vec<String>,
}

impl NamespaceDescription {
    pub fn new(namespace: &Namespace) -> NamespaceDescription {
        NamespaceDescription {
            options: STANDARD.encode(namespace.options.as_bytes()),
            indexes: namespace.indexes.iter().map(|index| STANDARD.encode(index.as_bytes())).collect(),
        }
    }

    /// Decodes options and indexes.
    ///
    /// # Errors
    /// Returns an error if one of them is not BSON in Base64 or is nested too deeply.
    pub fn documents(&self) -> Result<(RawDocumentBuf, Vec<RawDocumentBuf>), String> {
        let document = |text: &String| {
            let bytes = STANDARD.decode(text).map_err(|e| e.to_string())?;
            let document = RawDocumentBuf::from_bytes(bytes).map_err(|e| e.to_string())?;
            bounds::check_depth(&document).map(|()| document)
        };
        Ok((document(&self.options)?, self.indexes.iter().map(document).collect::<Result<_, _>>()?))
    }
}

/// A run of whole documents of one namespace.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct Segment {
    /// The place of the namespace in the manifest's list, from 0. The oplog slice has the place after the
    /// last namespace.
    pub namespace: usize,
    pub documents: u64,
    /// The length of the documents in bytes.
    pub raw_bytes: u64,
    /// BLAKE3 of the raw bytes, hex.
    pub blake3: String,
    /// The offset of the first gzip member or zstd frame in the artifact, in bytes.
    pub offset: u64,
    /// The length of the members or frames in bytes.
    pub length: u64,
}

impl Index {
    /// Encodes the index for the store.
    ///
    /// # Errors
    /// Returns an error if the index is larger than [`LARGEST`] or [`LARGEST_JSON`].
    pub fn encode(&self) -> Result<Vec<u8>> {
        let json =
            serde_json::to_vec(self).map_err(|e| Error::failed("cannot write the index").caused_by(e))?;
        let bytes = zstd::bulk::compress(&json, 9)
            .map_err(|e| Error::failed("cannot compress the index").caused_by(e))?;
        if json.len() as u64 > LARGEST_JSON || bytes.len() as u64 > LARGEST {
            return Err(too_large("index", self.namespaces.len(), json.len(), LARGEST_JSON));
        }
        Ok(bytes)
    }

    /// Decodes an index.
    ///
    /// # Errors
    /// Returns an error if it is not an index, or if its JSON is longer than [`LARGEST_JSON`].
    pub fn decode(bytes: &[u8]) -> Result<Index> {
        let broken =
            |e: Box<dyn std::error::Error + Send + Sync>| Error::failed("the index is damaged").caused_by(e);
        let json = zstd::Decoder::new(bytes).map_err(|e| broken(e.into()))?;
        let mut text = Vec::new();
        Limited::new(json, LARGEST_JSON, "the JSON of the index")
            .read_to_end(&mut text)
            .map_err(|e| broken(e.into()))?;
        serde_json::from_slice(&text).map_err(|e| broken(e.into()))
    }
}
