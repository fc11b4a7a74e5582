//! A backup in a store. The index says where each namespace is, so that only the chosen namespaces are read.
//!
//! The index has options and indexes as BSON. The index of version 0.1.0 does not; then they are read from the parts of
//! the artifact that can contain them: in a tar between the documents, in an archive at its beginning. Everything is
//! compared with the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::runtime::Handle;

use super::namespaces::BackupNamespace;
use crate::artifact::read::segment::{self, StoredArtifact};
use crate::artifact::read::{self, match_metadata, regions};
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::quoted;
use crate::base::progress::Meter;
use crate::base::suggest::escaped;
use crate::base::units;
use crate::catalog::choose;
use crate::config::choices::{Container, Format};
use crate::dumpformat::demux::Demux;
use crate::dumpformat::{Sink, metadata, names};
use crate::model::index::{Index, Segment};
use crate::model::manifest::{Manifest, NamespaceEntry};
use crate::model::namespace::Namespace;
use crate::model::tally::Tally;
use crate::restore_target::insert;
use crate::store::Store;

/// The most differences in a message.
const TOLD: usize = 5;

/// What can be restored instead of a damaged backup.
const ANOTHER: &str = "another backup (`uzima-backup list`); this one may be whole in another copy";

/// A backup in a store, opened for reading.
#[derive(Debug)]
pub struct StoredBackup {
    pub manifest: Manifest,
    index: Index,
    format: Format,
    pub object: StoredArtifact,
}

impl StoredBackup {
    /// Opens the backup of a manifest.
    ///
    /// # Errors
    /// Returns an error if index or artifact are missing or do not match the manifest.
    pub async fn open(store: Arc<dyn Store>, manifest: Manifest) -> Result<StoredBackup> {
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
            let step = format!(
                "{step}. Without the index, {read} shows whether the artifact is whole, and its content"
            );
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
        Ok(StoredBackup { index, format, object, manifest })
    }

    /// The namespaces of the manifest.
    pub(super) fn contents(&self) -> Result<Vec<BackupNamespace>> {
        self.manifest.namespaces.iter().map(BackupNamespace::of).collect()
    }

    /// Options and indexes of the namespaces at these positions.
    pub(crate) async fn describe(&self, wanted: &BTreeSet<usize>) -> Result<BTreeMap<usize, Namespace>> {
        read_descriptions(&self.object, self.format.container, &self.manifest, &self.index, wanted).await
    }

    pub(super) fn segments(&self, at: usize) -> Vec<Segment> {
        self.index.segments.iter().filter(|segment| segment.namespace == at).cloned().collect()
    }

    /// Reads all documents of these namespaces, and compares them with index and manifest.
    ///
    /// # Errors
    /// Returns an error of the kind `Mismatch` that lists the differences.
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

    /// The next step if these namespaces are damaged, of `wanted` namespaces in all.
    pub(crate) fn rest(&self, damaged: &BTreeSet<usize>, wanted: usize) -> String {
        let but = |at: &usize| format!("--ns-exclude {}", quoted(&escaped(&self.name(*at))));
        match damaged.len() < wanted {
            true => format!(
                "The same command with {} restores the rest after checking it again. Or restore {ANOTHER}",
                damaged.iter().map(but).collect::<Vec<_>>().join(" ")
            ),
            false => format!("Restore {ANOTHER}"),
        }
    }

    /// The difference between the documents that were read of a namespace and the manifest.
    pub(crate) fn compare(&self, at: usize, read: Option<&Tally>) -> Option<String> {
        let (entry, none) = (&self.manifest.namespaces[at], Tally::default());
        let read = read.unwrap_or(&none);
        if (read.documents, read.raw_bytes) != (entry.documents, entry.raw_bytes) {
            return Some(format!(
                "{} has {} of {}, but the manifest says {} of {}",
                self.name(at),
                units::several(read.documents, "document"),
                units::several(read.raw_bytes, "byte"),
                units::count(entry.documents),
                units::count(entry.raw_bytes)
            ));
        }
        let same = format!("{:032x}", read.sum) == entry.xxh3_sum;
        (!same).then(|| format!("the hash of the documents of {} differs from the manifest", self.name(at)))
    }

    /// Passes every document of a namespace to `each`, in order, on this thread.
    pub(crate) fn scan(&self, at: usize, handle: &Handle, each: &mut dyn FnMut(&[u8])) -> Result<Tally> {
        let mut read = Tally::default();
        for segment in self.segments(at) {
            read += self.object.read(&segment, &self.name(at), handle, &mut |run| {
                insert::split(&run.documents).unwrap_or_default().into_iter().for_each(&mut *each);
            })?;
        }
        Ok(read)
    }

    /// Passes every entry of the oplog slice to `each`, in order, on this thread. Compares it with index and
    /// manifest.
    pub(super) fn scan_slice(&self, handle: &Handle, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let (Some(slice), Some(at)) = (&self.manifest.consistency.oplog, self.manifest.slice_place()) else {
            return Ok(());
        };
        let read = self.scan(at, handle, each)?;
        let sum = format!("{:032x}", read.sum);
        if (read.documents, read.raw_bytes, &sum) == (slice.entries, slice.raw_bytes, &slice.xxh3_sum) {
            return Ok(());
        }
        let (id, got, wanted) =
            (&self.manifest.id, units::several(read.documents, "entry"), units::count(slice.entries));
        let what = format!(
            "the oplog slice of the backup {id} has {got}, but the manifest says {wanted}, \
             or their hashes differ"
        );
        let step = format!(
            "--no-replay restores each collection as it was when the backup read it. Or restore {ANOTHER}"
        );
        Err(Error::new(Kind::Mismatch, what).hint(step))
    }

    /// `db.collection` of a namespace, or the name of the slice.
    pub(crate) fn name(&self, at: usize) -> String {
        self.manifest.name(at).unwrap_or_default()
    }
}

/// The number of ranges that are read at once.
const ASKING: usize = 8;

/// Reads options and indexes of the namespaces at these positions of the manifest's list.
async fn read_descriptions(
    object: &StoredArtifact,
    container: Container,
    manifest: &Manifest,
    index: &Index,
    wanted: &BTreeSet<usize>,
) -> Result<BTreeMap<usize, Namespace>> {
    if wanted.is_empty() || !index.namespaces.is_empty() {
        return wanted.iter().map(|at| Ok((*at, described(index, manifest, *at)?))).collect();
    }
    let between = between(manifest, index);
    let found = match container {
        Container::Archive => {
            // The beginning has all of them. Without documents it is the whole artifact.
            let first = between.first().map(|(range, _)| range.clone()).unwrap_or_default();
            announced(&object.raw(first).await?)?
        }
        Container::Tar => {
            // A namespace's metadata comes right before its documents.
            let (near, far): (Vec<_>, Vec<_>) =
                between.into_iter().partition(|(_, next)| next.is_some_and(|next| wanted.contains(&next)));
            let mut found = entries(object, manifest, near).await?;
            if !wanted.iter().all(|at| found.contains_key(&manifest.namespaces[*at].key())) {
                found.extend(entries(object, manifest, far).await?);
            }
            found
        }
    };
    let mut out = BTreeMap::new();
    for at in wanted {
        let entry = &manifest.namespaces[*at];
        let namespace = found.get(&entry.key()).ok_or_else(|| wrong(entry, "is missing"))?;
        out.insert(*at, match_metadata(namespace, entry).map_err(|what| wrong(entry, &what))?);
    }
    Ok(out)
}

/// A namespace by its description in the index.
fn described(index: &Index, manifest: &Manifest, at: usize) -> Result<Namespace> {
    let entry = &manifest.namespaces[at];
    let described = index.namespaces.get(at).ok_or_else(|| wrong(entry, "is missing in the index"))?;
    let (options, indexes) =
        described.documents().map_err(|why| wrong(entry, "is damaged in the index").caused_by(why))?;
    if let Some(what) = entry.differs(&options, &indexes) {
        return Err(wrong(entry, &format!("has other {what} in the index than in the manifest")));
    }
    let namespace = metadata::of(&entry.db, &entry.collection, options, indexes);
    Ok(Namespace { uuid: entry.uuid.clone(), ..namespace })
}

type NamespacesByName = BTreeMap<(String, String), Namespace>;

impl NamespaceEntry {
    fn key(&self) -> (String, String) {
        (self.db.clone(), self.collection.clone())
    }
}

/// The ranges without documents, each with the namespace whose documents follow.
fn between(manifest: &Manifest, index: &Index) -> Vec<(Range<u64>, Option<usize>)> {
    let mut out: Vec<(Range<u64>, Option<usize>)> = Vec::new();
    let mut at = 0;
    for region in regions(index, manifest) {
        match region.segment {
            None => out.push((region.range.clone(), None)),
            Some(segment) => {
                if let Some((range, next)) = out.last_mut().filter(|(range, _)| range.end == at) {
                    debug_assert!(range.end == segment.offset);
                    *next = Some(segment.namespace);
                }
            }
        }
        at = region.range.end;
    }
    out
}

/// The metadata files in ranges of a tar.
async fn entries(
    object: &StoredArtifact,
    manifest: &Manifest,
    stretches: Vec<(Range<u64>, Option<usize>)>,
) -> Result<NamespacesByName> {
    let by_path: BTreeMap<String, &NamespaceEntry> = manifest
        .namespaces
        .iter()
        .map(|n| (format!("dump/{}", names::metadata_file(&n.db, &n.collection)), n))
        .collect();
    let pieces: Vec<Vec<u8>> =
        stream::iter(stretches).map(|(range, _)| object.raw(range)).buffered(ASKING).try_collect().await?;
    let mut found = NamespacesByName::new();
    for piece in &pieces {
        for (path, text) in files(piece) {
            if let Some(entry) = by_path.get(&path) {
                let text = String::from_utf8(text).map_err(|_| wrong(entry, "is not UTF-8"))?;
                let namespace = metadata::parse(&entry.db, &entry.collection, &text)
                    .map_err(|e| e.of_kind(Kind::Mismatch))?;
                found.insert(entry.key(), namespace);
            }
        }
    }
    Ok(found)
}

/// The complete files in a range of a tar. The range begins with the padding of the documents before it, and
/// ends with the header of the documents after it.
fn files(piece: &[u8]) -> Vec<(String, Vec<u8>)> {
    let begin = piece.iter().position(|byte| *byte != 0).unwrap_or(piece.len());
    let mut archive = tar::Archive::new(&piece[begin..]);
    let mut out = Vec::new();
    for entry in archive.entries().into_iter().flatten() {
        let Ok(mut entry) = entry else { break };
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        if entry.read_to_end(&mut content).is_err() || content.len() as u64 != entry.size() {
            break;
        }
        out.push((path, content));
    }
    out
}

/// The namespaces in an archive's prelude.
fn announced(raw: &[u8]) -> Result<NamespacesByName> {
    struct Prelude(Option<Vec<Namespace>>);
    impl Sink for Prelude {
        fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
            self.0 = Some(namespaces);
            // The bytes end after the prelude.
            Err(Error::aftermath("the prelude was read"))
        }
        fn begin(&mut self, _: usize) -> Result<()> {
            Ok(())
        }
        fn document(&mut self, _: &[u8]) -> Result<()> {
            Ok(())
        }
        fn end(&mut self) -> Result<()> {
            Ok(())
        }
    }
    let mut prelude = Prelude(None);
    let outcome = Demux::new(raw).run(&|_| true, &mut prelude);
    match (prelude.0, outcome) {
        (Some(namespaces), _) => {
            Ok(namespaces.into_iter().map(|n| ((n.db.clone(), n.collection.clone()), n)).collect())
        }
        (None, Err(error)) => Err(error.of_kind(Kind::Mismatch)),
        (None, Ok(_)) => Err(Error::new(Kind::Mismatch, "the archive has no prelude")),
    }
}

fn wrong(entry: &NamespaceEntry, what: &str) -> Error {
    let text = format!("the metadata of {}.{} {what}", entry.db, entry.collection);
    Error::new(Kind::Mismatch, text)
}
