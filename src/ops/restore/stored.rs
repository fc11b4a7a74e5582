//! A backup in a store: chosen namespaces are read by the index, and nothing else of the artifact.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::runtime::Handle;

use super::metadata;
use super::offer::Offer;
use crate::artifact::read;
use crate::artifact::read::segment::{self, StoredArtifact};
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::quoted;
use crate::base::progress::Meter;
use crate::base::suggest::escaped;
use crate::base::units;
use crate::catalog::choose;
use crate::config::format::Format;
use crate::model::index::{Index, Segment};
use crate::model::manifest::Manifest;
use crate::model::namespace::Namespace;
use crate::model::tally::Tally;
use crate::restore_target::batch;
use crate::store::Store;

/// So many things that are wrong are told.
const TOLD: usize = 5;

/// What can be restored instead of a damaged backup.
const ANOTHER: &str = "another backup (`uzima-backup list`); this one may be whole in another copy";

/// The backup.
#[derive(Debug)]
pub struct Stored {
    /// What it is.
    pub manifest: Manifest,
    index: Index,
    format: Format,
    /// The artifact.
    pub object: StoredArtifact,
}

impl Stored {
    /// Opens the backup of a manifest: its index and its artifact have to be there.
    pub async fn open(store: Arc<dyn Store>, manifest: Manifest) -> Result<Stored> {
        let mismatch = |what: String| {
            Error::new(Kind::Mismatch, format!("the backup {}: {what}", manifest.id)).hint(
                "Restore another backup (`uzima-backup list`), or bring the file back from a copy; a bucket may keep older \
                 versions of it",
            )
        };
        choose::refuse_archived(&*store, &manifest.id).await?;
        let format: Format = manifest.artifact.format.parse().map_err(mismatch)?;
        let key = manifest.artifact.key.clone();
        let index = read::load_index(&*store, &manifest).await?.map_err(|what| {
            let error = mismatch(what);
            let step = error.next_step().unwrap_or_default();
            let read = choose::inspect_artifact_step(&*store, &key);
            let step =
                format!("{step}. Without it, {read} tells whether the artifact is whole, and what it holds");
            error.hint(step)
        })?;
        match store.head(&key).await? {
            None => return Err(mismatch(format!("{key} is missing"))),
            Some(object) if object.size != manifest.artifact.size => {
                return Err(mismatch(format!(
                    "{key} has {}, not {}",
                    units::several(object.size, "byte"),
                    units::count(manifest.artifact.size)
                )));
            }
            Some(_) => {}
        }
        let object = StoredArtifact { store, key, codec: format.codec, large: segment::large_documents() };
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
        let (mut wrong, mut damaged) = (Vec::new(), BTreeSet::new());
        while let Some((segment, read)) = answers.next().await {
            match read {
                Ok(tally) => {
                    meter.add(tally.documents, tally.raw_bytes, segment.offset + segment.length);
                    *tallies.entry(segment.namespace).or_default() += tally;
                }
                Err(e) if e.kind() == Kind::Mismatch => {
                    damaged.insert(segment.namespace);
                    wrong.push(e.chain());
                }
                Err(e) => return Err(e),
            }
        }
        if wrong.is_empty() {
            for at in wanted {
                let differs = self.compare(*at, tallies.get(at));
                damaged.extend(differs.is_some().then_some(*at));
                wrong.extend(differs);
            }
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let more =
            if wrong.len() > TOLD { format!("; and {} more", wrong.len() - TOLD) } else { String::new() };
        wrong.truncate(TOLD);
        Err(Error::new(Kind::Mismatch, format!("the backup {} is damaged", self.manifest.id))
            .hint(self.rest(&damaged, wanted.len()))
            .caused_by(wrong.join("; ") + &more))
    }

    /// The next step where these of so many namespaces that are wanted are damaged.
    pub fn rest(&self, damaged: &BTreeSet<usize>, wanted: usize) -> String {
        let but = |at: &usize| format!("--ns-exclude {}", quoted(&escaped(&self.name(*at))));
        match damaged.len() < wanted {
            true => format!(
                "The same command with {} restores the rest, which is looked at again. Or restore {ANOTHER}",
                damaged.iter().map(but).collect::<Vec<_>>().join(" ")
            ),
            false => format!("Restore {ANOTHER}"),
        }
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
                batch::split(&run.documents).unwrap_or_default().into_iter().for_each(&mut *each);
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
                batch::split(&run.documents).unwrap_or_default().into_iter().for_each(&mut *each);
            })?;
            read += one;
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
        let step =
            format!("--no-replay restores each collection as it was when it was read. Or restore {ANOTHER}");
        Err(Error::new(Kind::Mismatch, what).hint(step))
    }

    /// `db.collection` of a namespace, or the slice.
    pub fn name(&self, at: usize) -> String {
        self.manifest.name(at).unwrap_or_default()
    }
}
