//! Reading artifacts: the index, and the regions of the artifact that it describes.
//!
//! The index of a backup says where each segment begins and ends in the artifact. Headers and metadata lie
//! between the segments. [`segment`] reads both; `verify`, `restore` and `drill` share this code.

pub mod segment;

use std::ops::Range;

use bson::RawDocumentBuf;

use crate::base::error::Result;
use crate::base::units::bytes;
use crate::dumpformat::extjson::Json;
use crate::model::index::{self, Index, Segment};
use crate::model::manifest::{Manifest, NamespaceEntry};
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
use crate::store::{self, Store};

/// The largest segment in bytes, stored and raw. The writer closes a segment at 64 MiB raw, and the last
/// block of documents can exceed this by the longest document.
const LARGEST_SEGMENT: u64 = 128 << 20;
/// The longest region without a segment, in stored bytes.
const LARGEST_GAP: u64 = 128 << 20;

/// A contiguous range of the artifact: a segment, or the headers and metadata between two segments.
#[derive(Debug, Clone)]
pub struct Region {
    /// In bytes of the artifact.
    pub range: Range<u64>,
    /// `None` for headers and metadata.
    pub segment: Option<Segment>,
    /// The name of the segment's namespace. For headers and metadata, the name of the next segment's
    /// namespace.
    pub namespace: Option<String>,
    /// If the segment belongs to the oplog slice: the slice's start (exclusive) and end (inclusive).
    pub slice: Option<(OpTime, OpTime)>,
}

/// Reads the index of a backup and checks it against the manifest. The inner error names the fault of the
/// index.
///
/// # Errors
/// Returns an error if the store cannot be read.
pub async fn load_index(store: &dyn Store, manifest: &Manifest) -> Result<Result<Index, String>> {
    let object = &manifest.index;
    let bytes = match store.get(&object.key, index::LARGEST).await {
        Ok(bytes) => bytes,
        Err(e) if e.kind == store::StoreErrorKind::NotFound => {
            return Ok(Err(format!("{} is missing", object.key)));
        }
        Err(e) if e.kind == store::StoreErrorKind::Damaged => return Ok(Err(e.to_string())),
        Err(e) => return Err(e.into()),
    };
    if bytes.len() as u64 != object.size || blake3::hash(&bytes).to_hex().as_str() != object.blake3 {
        return Ok(Err(format!("{} does not have the size and the BLAKE3 in the manifest", object.key)));
    }
    Ok(match Index::decode(&bytes) {
        Err(e) => Err(e.chain()),
        Ok(index) if index.id != manifest.id.as_str() => {
            Err(format!("{} belongs to the backup {}", object.key, index.id))
        }
        Ok(index) => check_index(&index, manifest).map(|()| index),
    })
}

/// Checks that the segments of the index lie within the artifact, one after the other, and that its options
/// and indexes have the digests in the manifest.
///
/// # Errors
/// Returns an error that names the fault of the index.
pub fn check_index(index: &Index, manifest: &Manifest) -> Result<(), String> {
    let mut end = 0;
    let size = manifest.artifact.size;
    for segment in &index.segments {
        let from = segment.offset;
        let wrong = |what: &str| format!("the index has a segment at byte {from} {what}");
        if segment.length > LARGEST_SEGMENT || segment.raw_bytes > LARGEST_SEGMENT {
            return Err(wrong(&format!("that is larger than {}", bytes(LARGEST_SEGMENT))));
        }
        if from.saturating_sub(end) > LARGEST_GAP {
            let most = bytes(LARGEST_GAP);
            return Err(format!("the index has no segment in the {most} before byte {from}"));
        }
        if from < end || segment.length == 0 {
            return Err(wrong("that is empty or overlaps another one"));
        }
        if manifest.name(segment.namespace).is_none() {
            return Err(wrong("of a namespace that the manifest does not list"));
        }
        let behind = from.checked_add(segment.length).filter(|end| *end <= size);
        end = behind.ok_or_else(|| wrong("that ends after the end of the artifact"))?;
    }
    if size.saturating_sub(end) > LARGEST_GAP {
        return Err(format!("the index has no segment in the {} after byte {end}", bytes(LARGEST_GAP)));
    }
    if let (Some(at), Some(slice)) = (manifest.consistency.at, &manifest.consistency.oplog)
        && (at != slice.end || slice.start > slice.end)
    {
        return Err(format!(
            "the manifest contradicts itself: the oplog slice runs from {} to {}, but the backup's instant is {at}",
            slice.start, slice.end
        ));
    }
    // Version 0.1.0 wrote no options and indexes.
    if !index.namespaces.is_empty() && index.namespaces.len() != manifest.namespaces.len() {
        return Err("the index and the manifest list different numbers of namespaces".into());
    }
    for (described, entry) in index.namespaces.iter().zip(&manifest.namespaces) {
        let name = entry.name();
        let (options, indexes) =
            described.documents().map_err(|why| format!("the index is damaged at {name}: {why}"))?;
        if let Some(what) = entry.differs(&options, &indexes) {
            return Err(format!(
                "the {what} of {name} in the index do not match the digests in the manifest"
            ));
        }
    }
    Ok(())
}

/// Divides the artifact into regions, from the first byte to the last. The index must have passed
/// [`check_index`].
pub fn regions(index: &Index, manifest: &Manifest) -> Vec<Region> {
    let bounds = manifest.consistency.oplog.as_ref().map(|slice| (slice.start, slice.end));
    let between = |range, namespace| Region { range, segment: None, namespace, slice: None };
    let (mut regions, mut at) = (Vec::new(), 0);
    for segment in &index.segments {
        let namespace = manifest.name(segment.namespace);
        if segment.offset > at {
            regions.push(between(at..segment.offset, namespace.clone()));
        }
        at = segment.offset + segment.length;
        let slice = bounds.filter(|_| manifest.slice_place() == Some(segment.namespace));
        regions.push(Region { range: segment.offset..at, segment: Some(segment.clone()), namespace, slice });
    }
    if manifest.artifact.size > at {
        regions.push(between(at..manifest.artifact.size, None));
    }
    regions
}

/// Compares a namespace that was parsed from `metadata.json` with the digests in the manifest. If the text
/// can be read in more than one way, the digests decide: the result has exactly the options and indexes of
/// the backup.
///
/// # Errors
/// Returns an error that names the difference.
pub fn match_metadata(namespace: &Namespace, entry: &NamespaceEntry) -> Result<Namespace, String> {
    if entry.differs(&namespace.options, &namespace.indexes).is_none() {
        return Ok(namespace.clone());
    }
    let is = |document: &RawDocumentBuf, digest: &str| {
        blake3::hash(document.as_bytes()).to_hex().as_str() == digest
    };
    let read = |json: &Json, digest: &str| json.read_as(&|document| is(document, digest));
    let differ = |what: &str| format!("does not match the {what} in the manifest");
    let json = Json::parse(&namespace.metadata).map_err(|why| format!("is damaged: {why}"))?;
    let options = match json.get("options") {
        Some(options) => read(options, &entry.options_blake3),
        None => Some(RawDocumentBuf::new()).filter(|none| is(none, &entry.options_blake3)),
    };
    let options = options.ok_or_else(|| differ("options"))?;
    let indexes = match json.get("indexes") {
        Some(Json::Array(rows)) if rows.len() == entry.indexes.len() => {
            rows.iter().zip(&entry.indexes).map(|(row, index)| read(row, &index.blake3)).collect()
        }
        _ => None,
    };
    let indexes = indexes.ok_or_else(|| differ("indexes"))?;
    Ok(Namespace { options, indexes, ..namespace.clone() })
}
