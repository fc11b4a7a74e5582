//! A backup in a store: chosen namespaces are read by the index, and nothing else of the artifact.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::runtime::Handle;

use super::metadata;
use super::offer::Offer;
use super::segment::Object;
use crate::artifact::format::Format;
use crate::artifact::index::{Index, Segment};
use crate::artifact::manifest::Manifest;
use crate::artifact::writer::Tally;
use crate::error::{Error, Kind, Result};
use crate::ops::verify::{self, region};
use crate::progress::Meter;
use crate::source::Namespace;
use crate::store::Store;
use crate::target::batch;
use crate::units;

/// So many things that are wrong are told.
const TOLD: usize = 5;

/// The backup.
#[derive(Debug)]
pub struct Stored {
    /// What it is.
    pub manifest: Manifest,
    index: Index,
    format: Format,
    /// The artifact.
    pub object: Object,
}

impl Stored {
    /// Opens the backup of a manifest: its index and its artifact have to be there.
    pub async fn open(store: Arc<dyn Store>, manifest: Manifest) -> Result<Stored> {
        let mismatch = |what: String| {
            Error::new(Kind::Mismatch, format!("the backup {}: {what}", manifest.id)).hint(
                "Restore another backup (`uzima-backup list`). A file that is missing may be where the bucket keeps older \
                 versions, or a lifecycle rule took it",
            )
        };
        let format: Format = manifest.artifact.format.parse().map_err(mismatch)?;
        let index = verify::index(&store, &manifest).await?.map_err(mismatch)?;
        let key = manifest.artifact.key.clone();
        match store.head(&key).await? {
            None => return Err(mismatch(format!("{key} is missing"))),
            Some(object) if object.size != manifest.artifact.size => {
                return Err(mismatch(format!(
                    "{key} has {} bytes, not {}",
                    object.size, manifest.artifact.size
                )));
            }
            Some(_) => {}
        }
        let object = Object { store, key, codec: format.codec };
        Ok(Stored { index, format, object, manifest })
    }

    /// What it holds.
    pub fn offers(&self) -> Result<Vec<Offer>> {
        self.manifest.namespaces.iter().map(Offer::of).collect()
    }

    /// Options and indexes of these namespaces.
    pub async fn describe(&self, wanted: &BTreeSet<usize>) -> Result<BTreeMap<usize, Namespace>> {
        metadata::read(&self.object, self.format.container, &self.manifest, &self.index, wanted).await
    }

    /// The segments of a namespace, in order.
    pub fn segments(&self, at: usize) -> Vec<Segment> {
        self.index.segments.iter().filter(|segment| segment.namespace == at).cloned().collect()
    }

    /// Reads all documents of these namespaces, and compares them with index and manifest.
    ///
    /// # Errors
    /// Of the kind `Mismatch`, with what is wrong.
    pub async fn check(&self, wanted: &BTreeSet<usize>, at_once: usize, meter: &Meter) -> Result<()> {
        let segments = self.index.segments.iter().filter(|segment| wanted.contains(&segment.namespace));
        let reads = segments.map(|segment| async move {
            meter.doing(format!("checking {}", self.name(segment.namespace)));
            let tally = self.object.segment(segment, self.name(segment.namespace), None).await;
            (segment, tally)
        });
        let mut answers = stream::iter(reads).buffer_unordered(at_once);
        let mut tallies: BTreeMap<usize, Tally> = BTreeMap::new();
        let mut wrong = Vec::new();
        while let Some((segment, read)) = answers.next().await {
            match read {
                Ok(tally) => {
                    meter.add(tally.documents, tally.raw_bytes, segment.offset + segment.length);
                    region::add(tallies.entry(segment.namespace).or_default(), &tally);
                }
                Err(e) if e.kind() == Kind::Mismatch => wrong.push(e.chain()),
                Err(e) => return Err(e),
            }
        }
        if wrong.is_empty() {
            let compared = wanted.iter().filter_map(|at| self.compare(*at, tallies.get(at)));
            wrong.extend(compared);
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let more =
            if wrong.len() > TOLD { format!("; and {} more", wrong.len() - TOLD) } else { String::new() };
        wrong.truncate(TOLD);
        Err(Error::new(Kind::Mismatch, format!("the backup {} is damaged", self.manifest.id))
            .hint("`uzima-backup list` shows other backups; this one may be whole in another copy")
            .caused_by(wrong.join("; ") + &more))
    }

    /// What is wrong with what was read of a namespace.
    pub fn compare(&self, at: usize, read: Option<&Tally>) -> Option<String> {
        let (entry, none) = (&self.manifest.namespaces[at], Tally::default());
        let read = read.unwrap_or(&none);
        if (read.documents, read.raw_bytes) != (entry.documents, entry.raw_bytes) {
            return Some(format!(
                "{} has {} of {} where the manifest says {} of {}",
                self.name(at),
                units::several(read.documents, "document"),
                units::several(read.raw_bytes, "byte"),
                units::count(entry.documents),
                units::count(entry.raw_bytes)
            ));
        }
        let same = format!("{:032x}", read.sum) == entry.xxh3_sum;
        (!same).then(|| format!("the hash of the documents of {} is not the manifest's", self.name(at)))
    }

    /// Shows every document of a namespace in order, on this thread.
    pub fn scan(&self, at: usize, handle: &Handle, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        for segment in self.segments(at) {
            self.object.read(&segment, &self.name(at), handle, &mut |run| {
                batch::split(run).unwrap_or_default().into_iter().for_each(&mut *each);
            })?;
        }
        Ok(())
    }

    /// Shows every entry of the oplog slice in order, on this thread; compares it with index and manifest.
    pub fn scan_slice(&self, handle: &Handle, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let (Some(slice), Some(at)) = (&self.manifest.consistency.oplog, self.manifest.slice_place()) else {
            return Ok(());
        };
        let mut read = Tally::default();
        for segment in self.segments(at) {
            let one = self.object.read(&segment, &self.name(at), handle, &mut |run| {
                batch::split(run).unwrap_or_default().into_iter().for_each(&mut *each);
            })?;
            region::add(&mut read, &one);
        }
        let sum = format!("{:032x}", read.sum);
        if (read.documents, read.raw_bytes, &sum) == (slice.entries, slice.raw_bytes, &slice.xxh3_sum) {
            return Ok(());
        }
        let (id, got, wanted) =
            (&self.manifest.id, units::several(read.documents, "entry"), units::count(slice.entries));
        let what = format!(
            "the oplog slice of the backup {id} has {got} where the manifest says {wanted}, \
             or their hashes differ"
        );
        Err(Error::new(Kind::Mismatch, what))
    }

    /// `db.collection` of a namespace, or the slice.
    pub fn name(&self, at: usize) -> String {
        self.manifest.name(at).unwrap_or_default()
    }
}
