//! Reading the decompressed artifact like stock tools do: as a tar of a mongodump directory, or as
//! mongodump's archive.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::Receiver;
use std::thread;

use tokio::sync::oneshot;

use super::Pieces;
use crate::artifact::read::match_metadata;
use crate::artifact::tar::each_member;
use crate::base::bounds::{LARGEST_METADATA, Limited};
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::config::choices::Container;
use crate::dumpformat::demux::Demux;
use crate::dumpformat::names;
use crate::dumpformat::{Sink, metadata};
use crate::model::manifest::{Manifest, NamespaceEntry};
use crate::model::namespace::{Namespace, Type};
use crate::model::versions;

/// Starts a thread that reads the decompressed regions one after the other and compares the structure with
/// the manifest. If the index has no options and indexes (`described` is false), the thread also compares
/// those in the artifact. The thread returns the fault of the structure.
pub(super) fn start(
    regions: Receiver<Pieces>,
    manifest: Manifest,
    container: Container,
    described: bool,
) -> Result<oneshot::Receiver<Option<String>>> {
    let (answer, answered) = oneshot::channel();
    thread::Builder::new()
        .name("structure".into())
        .spawn(move || {
            let mut raw = RawStream { regions, current: None, piece: Vec::new(), at: 0, broken: false };
            let outcome = match container {
                Container::Tar => tar(&mut raw, &manifest, described),
                Container::Archive => archive(&mut raw, &manifest, described),
            };
            // A region that cannot be decompressed is already a finding.
            let what = outcome.err().filter(|_| !raw.broken);
            let _ = answer.send(what);
            // The workers must not wait for a reader that has ended.
            while raw.next().is_ok_and(|more| more) {}
        })
        .map_err(|e| Error::failed("cannot start a thread").caused_by(e))?;
    Ok(answered)
}

/// The decompressed regions as one stream.
struct RawStream {
    regions: Receiver<Pieces>,
    current: Option<Pieces>,
    piece: Vec<u8>,
    /// The position in `piece`.
    at: usize,
    /// True after a region that could not be decompressed.
    broken: bool,
}

impl RawStream {
    /// Moves to the next piece. Returns false at the end.
    fn next(&mut self) -> io::Result<bool> {
        loop {
            let Some(pieces) = &self.current else {
                let Ok(pieces) = self.regions.recv() else { return Ok(false) };
                self.current = Some(pieces);
                continue;
            };
            match pieces.recv() {
                Ok(Ok(piece)) => {
                    (self.piece, self.at) = (piece, 0);
                    return Ok(true);
                }
                Ok(Err(())) => {
                    (self.current, self.broken) = (None, true);
                    return Err(io::Error::other("a part of the artifact cannot be decompressed"));
                }
                Err(_) => self.current = None,
            }
        }
    }
}

impl Read for RawStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for RawStream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() && self.next()? {}
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

/// Returns the entries of a tar of this backup, with the size of the entries that contain documents.
fn entries(manifest: &Manifest) -> VecDeque<(String, Option<u64>)> {
    let mut entries = VecDeque::from([("RECOVERY.txt".to_string(), None)]);
    for namespace in &manifest.namespaces {
        let metadata = names::metadata_file(&namespace.db, &namespace.collection);
        entries.push_back((format!("dump/{metadata}"), None));
        if namespace.kind != Type::View {
            let bson = names::bson_file(&namespace.db, &data_collection(manifest, namespace));
            entries.push_back((format!("dump/{bson}"), Some(namespace.raw_bytes)));
        }
    }
    if let Some(slice) = &manifest.consistency.oplog {
        entries.push_back((format!("dump/{}", names::OPLOG_FILE), Some(slice.raw_bytes)));
    }
    if entries.len() > 1 {
        entries.push_back(("dump/prelude.json".into(), None));
    }
    entries
}

fn data_collection(manifest: &Manifest, namespace: &NamespaceEntry) -> String {
    match namespace.kind {
        Type::Timeseries if !versions::has_raw_data(&manifest.source.version) => {
            format!("system.buckets.{}", namespace.collection)
        }
        _ => namespace.collection.clone(),
    }
}

fn tar(raw: &mut RawStream, manifest: &Manifest, described: bool) -> Result<(), String> {
    let broken = |e: io::Error| format!("the tar is damaged: {e}");
    let mut wanted = entries(manifest);
    let path = |n: &NamespaceEntry| format!("dump/{}", names::metadata_file(&n.db, &n.collection));
    let texts: BTreeMap<String, &NamespaceEntry> = match described {
        true => BTreeMap::new(),
        false => manifest.namespaces.iter().map(|n| (path(n), n)).collect(),
    };
    each_member(&mut *raw, broken, |entry| {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        bring_forward(&mut wanted, &path);
        let Some((name, size)) = wanted.pop_front() else {
            return Err(format!("the tar has {path} after its expected last entry"));
        };
        if path != name {
            return Err(format!("the tar has {path} in the place of {name}"));
        }
        let read = match texts.get(&path) {
            Some(of) => {
                let mut text = String::new();
                Limited::new(entry, LARGEST_METADATA, "a metadata.json")
                    .read_to_string(&mut text)
                    .map_err(broken)?;
                metadata::parse(&of.db, &of.collection, &text)
                    .map_err(|e| e.chain())
                    .and_then(|namespace| compare_metadata(&namespace, of))?;
                text.len() as u64
            }
            None => io::copy(entry, &mut io::sink()).map_err(broken)?,
        };
        if size.is_some_and(|size| size != read) {
            let (has, wanted) = (units::several(read, "byte"), units::count(size.unwrap_or_default()));
            return Err(format!("{name} has {has} in the tar, but {wanted} in the manifest"));
        }
        Ok(())
    })?;
    if let Some((name, _)) = wanted.pop_front() {
        return Err(format!("the tar ends before {name}"));
    }
    let mut rest = Vec::new();
    raw.take(1 << 20).read_to_end(&mut rest).map_err(broken)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err("the tar has data after its end".into());
    }
    Ok(())
}

/// Compares the options and indexes in the artifact with the manifest.
fn compare_metadata(namespace: &Namespace, entry: &NamespaceEntry) -> Result<(), String> {
    let place = format!("{}.{}", entry.db, entry.collection);
    match_metadata(namespace, entry).map(drop).map_err(|what| format!("the metadata of {place} {what}"))
}

/// Moves the entries of a namespace to the front if its metadata comes earlier than in the manifest. The
/// manifest has the order in which mongodump announces namespaces, but mongodump reads them in another order.
/// The documents still follow the metadata.
fn bring_forward(wanted: &mut VecDeque<(String, Option<u64>)>, path: &str) {
    let is_metadata = |name: &str| name.ends_with(".metadata.json");
    let turn = wanted.front().is_some_and(|(name, _)| is_metadata(name) && name != path);
    if !turn || !is_metadata(path) {
        return;
    }
    let Some(at) = wanted.iter().position(|(name, _)| name == path) else { return };
    let slice = format!("dump/{}", names::OPLOG_FILE);
    let documents = wanted.get(at + 1).is_some_and(|(name, size)| size.is_some() && *name != slice);
    let of_namespace: Vec<_> = wanted.drain(at..=at + usize::from(documents)).collect();
    of_namespace.into_iter().rev().for_each(|entry| wanted.push_front(entry));
}

/// Returns the namespaces that an archive of this backup announces: database, collection, and the number of
/// documents. Views have no documents.
fn announced(manifest: &Manifest) -> Vec<(&str, &str, Option<u64>)> {
    let namespaces = manifest.namespaces.iter().map(|n| {
        let documents = (n.kind != Type::View).then_some(n.documents);
        (n.db.as_str(), n.collection.as_str(), documents)
    });
    let slice = manifest.consistency.oplog.iter().map(|slice| ("", "oplog", Some(slice.entries)));
    namespaces.chain(slice).collect()
}

fn archive(raw: &mut RawStream, manifest: &Manifest, described: bool) -> Result<(), String> {
    let wanted = announced(manifest);
    let collections = wanted.iter().filter(|(_, _, documents)| documents.is_some()).count();
    let mut check = ArchiveCheck { manifest, described, wanted, open: None, documents: 0, ended: 0 };
    Demux::new(BufReader::new(&mut *raw)).run(&|_| true, &mut check).map_err(|e| e.chain())?;
    if check.ended < collections {
        return Err(format!(
            "the archive has {}, but the manifest {collections}",
            units::several(check.ended as u64, "collection")
        ));
    }
    Ok(())
}

/// Compares the namespaces and documents of an archive with the manifest.
struct ArchiveCheck<'a> {
    manifest: &'a Manifest,
    described: bool,
    wanted: Vec<(&'a str, &'a str, Option<u64>)>,
    open: Option<usize>,
    documents: u64,
    ended: usize,
}

impl Sink for ArchiveCheck<'_> {
    fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
        let wanted = self.wanted.iter().map(|(db, collection, _)| (*db, *collection));
        if !namespaces.iter().map(|n| (n.db.as_str(), n.collection.as_str())).eq(wanted) {
            return Err(Error::failed("the archive and the manifest list different namespaces"));
        }
        if !self.described {
            for (namespace, entry) in namespaces.iter().zip(&self.manifest.namespaces) {
                compare_metadata(namespace, entry).map_err(Error::failed)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, namespace: usize) -> Result<()> {
        (self.open, self.documents) = (Some(namespace), 0);
        Ok(())
    }

    fn document(&mut self, _: &[u8]) -> Result<()> {
        self.documents += 1;
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let at = self.open.take().expect("a namespace is open");
        let (got, wanted) = (self.documents, self.wanted[at].2);
        if got != wanted.unwrap_or(0) {
            let (name, wanted) = (self.manifest.name(at).unwrap_or_default(), wanted.unwrap_or(0));
            let got = units::several(got, "document");
            return Err(Error::failed(format!(
                "the archive has {got} of {name}, but the manifest {}",
                units::count(wanted)
            )));
        }
        self.ended += usize::from(wanted.is_some());
        Ok(())
    }
}
