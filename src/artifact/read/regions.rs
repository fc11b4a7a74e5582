//! The artifact as a row of regions: the segments, and what stands between them.

use std::collections::BTreeMap;

use super::region::Finding;
use crate::artifact::writer::Tally;
use crate::base::units::{bytes, count};
use crate::model::index::{Index, Segment};
use crate::model::manifest::Manifest;
use crate::model::optime::OpTime;

/// The largest segment in bytes, stored and raw. One is closed at 64 MiB raw, and its last block of documents can pass that
/// by the longest document.
pub const LARGEST_SEGMENT: u64 = 128 << 20;
/// The longest stretch without a segment, in stored bytes: metadata.
pub const LARGEST_GAP: u64 = 128 << 20;

/// A stretch of the artifact.
#[derive(Debug, Clone)]
pub struct Region {
    /// Where it ends, in bytes.
    pub end: u64,
    /// The segment; `None` for headers and metadata.
    pub segment: Option<Segment>,
    /// The namespace of the segment, or of the next one.
    pub namespace: Option<String>,
    /// The segment is of the oplog slice between these times: after the first, up to the second.
    pub slice: Option<(OpTime, OpTime)>,
}

/// Checks that the index can be of this artifact at all, and has the options and indexes of the manifest.
///
/// # Errors
/// What is wrong with it.
pub fn check(index: &Index, manifest: &Manifest) -> Result<(), String> {
    let mut end = 0;
    let long = |from: u64, to: u64, most: u64| to.saturating_sub(from) > most;
    for segment in &index.segments {
        let (from, most) = (segment.offset, bytes(LARGEST_SEGMENT));
        if segment.length > LARGEST_SEGMENT || segment.raw_bytes > LARGEST_SEGMENT {
            return Err(format!("the index has a segment at {from} that is larger than {most}"));
        }
        if long(end, from, LARGEST_GAP) {
            return Err(format!(
                "the index has no segment for more than {} before {from}",
                bytes(LARGEST_GAP)
            ));
        }
        let fits = segment.offset.checked_add(segment.length).filter(|end| *end <= manifest.artifact.size);
        if segment.offset < end || segment.length == 0 {
            return Err(format!("the index has a segment at {} that overlaps another one", segment.offset));
        }
        if manifest.name(segment.namespace).is_none() {
            return Err("the index speaks of a namespace that the manifest does not have".into());
        }
        end =
            fits.ok_or_else(|| format!("the index has a segment beyond the artifact: {}", segment.offset))?;
    }
    if long(end, manifest.artifact.size, LARGEST_GAP) {
        return Err(format!("the index has no segment for more than {} from {end} on", bytes(LARGEST_GAP)));
    }
    if let (Some(at), Some(slice)) = (manifest.consistency.at, &manifest.consistency.oplog)
        && (at != slice.end || slice.start > slice.end)
    {
        return Err(format!(
            "the manifest has the oplog slice from {} to {}, and its instant is {at}",
            slice.start, slice.end
        ));
    }
    // Version 0.1.0 did not write them.
    if !index.namespaces.is_empty() && index.namespaces.len() != manifest.namespaces.len() {
        return Err("the index does not describe the namespaces of the manifest".into());
    }
    for (described, entry) in index.namespaces.iter().zip(&manifest.namespaces) {
        let place = format!("{}.{}", entry.db, entry.collection);
        let (options, indexes) =
            described.documents().map_err(|why| format!("the index is damaged at {place}: {why}"))?;
        if let Some(what) = entry.differs(&options, &indexes) {
            return Err(format!("the index has other {what} of {place} than the manifest"));
        }
    }
    Ok(())
}

/// The regions, from the first byte to the last.
pub fn of(index: &Index, manifest: &Manifest) -> Vec<Region> {
    let bounds = manifest.consistency.oplog.as_ref().map(|slice| (slice.start, slice.end));
    let (mut regions, mut at) = (Vec::new(), 0);
    for segment in &index.segments {
        let namespace = manifest.name(segment.namespace);
        if segment.offset > at {
            regions.push(Region {
                end: segment.offset,
                segment: None,
                namespace: namespace.clone(),
                slice: None,
            });
        }
        at = segment.offset + segment.length;
        let slice = bounds.filter(|_| manifest.slice_place() == Some(segment.namespace));
        regions.push(Region { end: at, segment: Some(segment.clone()), namespace, slice });
    }
    if manifest.artifact.size > at {
        regions.push(Region { end: manifest.artifact.size, segment: None, namespace: None, slice: None });
    }
    regions
}

/// Holds what was read of each namespace, and of the oplog slice, against the manifest.
pub fn compare(tallies: &BTreeMap<usize, Tally>, manifest: &Manifest) -> Vec<Finding> {
    let mut findings = Vec::new();
    let namespaces = manifest.namespaces.iter().map(|n| (n.documents, n.raw_bytes, &n.xxh3_sum));
    let slice =
        manifest.consistency.oplog.iter().map(|slice| (slice.entries, slice.raw_bytes, &slice.xxh3_sum));
    for (at, (documents, raw_bytes, sum)) in namespaces.chain(slice).enumerate() {
        let tally = tallies.get(&at).cloned().unwrap_or_default();
        let name = manifest.name(at).expect("it is one of the manifest's");
        let mut say = |what: String| findings.push(Finding::of_namespace(name.clone(), what));
        for (what, got, wanted) in
            [("documents", tally.documents, documents), ("bytes of documents", tally.raw_bytes, raw_bytes)]
        {
            if got != wanted {
                let (got, wanted) = (count(got), count(wanted));
                say(format!("{got} {what} where the manifest says {wanted}"));
            }
        }
        if format!("{:032x}", tally.sum) != *sum {
            say("the hash of its documents is not the manifest's".into());
        }
    }
    findings
}
