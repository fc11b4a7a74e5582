//! Options and indexes of the namespaces of an artifact: in a tar they stand between the documents, in an
//! archive at its beginning. The index has them as BSON. The index of version 0.1.0 does not; then only the parts of the
//! artifact that can hold them are read. Both are compared with the manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::Range;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::artifact::read::match_metadata;
use crate::artifact::read::regions;
use crate::artifact::read::segment::StoredArtifact;
use crate::base::error::{Error, Kind, Result};
use crate::config::format::Container;
use crate::dumpformat::demux::Demux;
use crate::dumpformat::names;
use crate::dumpformat::{Sink, metadata};
use crate::model::index::Index;
use crate::model::manifest::{Manifest, NamespaceEntry};
use crate::model::namespace::Namespace;

/// How many stretches are asked for at once.
const ASKING: usize = 8;

/// Reads what belongs to the namespaces at these places of the manifest's list.
pub async fn read(
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
            // Its beginning has them all; without any document it is the whole of it.
            let first = between.first().map(|(range, _)| range.clone()).unwrap_or_default();
            announced(&object.raw(first).await?)?
        }
        Container::Tar => {
            // A namespace's metadata stands right before its documents.
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

/// A namespace as the index describes it.
fn described(index: &Index, manifest: &Manifest, at: usize) -> Result<Namespace> {
    let entry = &manifest.namespaces[at];
    let described = index.namespaces.get(at).ok_or_else(|| wrong(entry, "is missing in the index"))?;
    let (options, indexes) =
        described.documents().map_err(|why| wrong(entry, "is damaged in the index").caused_by(why))?;
    if let Some(what) = entry.differs(&options, &indexes) {
        return Err(wrong(entry, &format!("has other {what} in the index than the manifest says")));
    }
    let namespace = metadata::of(&entry.db, &entry.collection, options, indexes);
    Ok(Namespace { uuid: entry.uuid.clone(), ..namespace })
}

type Found = BTreeMap<(String, String), Namespace>;

impl NamespaceEntry {
    fn key(&self) -> (String, String) {
        (self.db.clone(), self.collection.clone())
    }
}

/// The stretches without documents, and the namespace whose documents follow each.
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

/// The metadata files in stretches of a tar.
async fn entries(
    object: &StoredArtifact,
    manifest: &Manifest,
    stretches: Vec<(Range<u64>, Option<usize>)>,
) -> Result<Found> {
    let by_path: BTreeMap<String, &NamespaceEntry> = manifest
        .namespaces
        .iter()
        .map(|n| (format!("dump/{}", names::metadata_file(&n.db, &n.collection)), n))
        .collect();
    let pieces: Vec<Vec<u8>> =
        stream::iter(stretches).map(|(range, _)| object.raw(range)).buffered(ASKING).try_collect().await?;
    let mut found = Found::new();
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

/// The whole files in a stretch of a tar. It begins with what is left to fill the record of the documents
/// before, and ends with the header of those that follow.
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

/// What an archive announces.
fn announced(raw: &[u8]) -> Result<Found> {
    struct Prelude(Option<Vec<Namespace>>);
    impl Sink for Prelude {
        fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
            self.0 = Some(namespaces);
            // Documents do not follow here.
            Err(Error::aftermath("enough was read"))
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
        (None, Ok(_)) => Err(Error::new(Kind::Mismatch, "the archive announces nothing")),
    }
}

fn wrong(entry: &NamespaceEntry, what: &str) -> Error {
    let text = format!("the metadata of {}.{} {what}", entry.db, entry.collection);
    Error::new(Kind::Mismatch, text)
}
