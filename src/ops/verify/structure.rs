//! The raw stream as stock tools see it: a tar of a mongodump directory, or mongodump's archive.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::Receiver;
use std::thread;

use tokio::sync::oneshot;

use super::pass::Pieces;
use super::{VerifyFinding, thread_panicked};
use crate::artifact::read::match_metadata;
use crate::artifact::untar;
use crate::base::bounds::{LARGEST_METADATA, Limited};
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::config::format::Container;
use crate::dumpformat::demux::Demux;
use crate::dumpformat::names;
use crate::dumpformat::{Sink, metadata};
use crate::model::manifest::{Manifest, NamespaceEntry};
use crate::model::namespace::{Namespace, Type};
use crate::model::versions;

/// The reader at work.
pub struct Reader(oneshot::Receiver<Option<String>>);

/// Starts to read the streams one after the other. If the index does not have options and indexes (`described`), those in
/// the artifact are compared with the manifest.
pub fn start(
    streams: Receiver<Pieces>,
    manifest: Manifest,
    container: Container,
    described: bool,
) -> Result<Reader> {
    let (answer, answered) = oneshot::channel();
    thread::Builder::new()
        .name("structure".into())
        .spawn(move || {
            let mut raw = Raw { streams, current: None, piece: Vec::new(), at: 0, broken: false };
            let outcome = match container {
                Container::Tar => tar(&mut raw, &manifest, described),
                Container::Archive => archive(&mut raw, &manifest, described),
            };
            // What follows from a region that cannot be decompressed is not told twice.
            let what = outcome.err().filter(|_| !raw.broken);
            let _ = answer.send(what);
            // The workers must not wait for a reader that found enough.
            while raw.next().is_ok_and(|more| more) {}
        })
        .map_err(|e| Error::failed("cannot start a thread").caused_by(e))?;
    Ok(Reader(answered))
}

impl Reader {
    /// What is wrong.
    pub async fn finish(self) -> Result<Option<VerifyFinding>> {
        Ok(self.0.await.map_err(|_| thread_panicked())?.map(VerifyFinding::of_backup))
    }
}

/// The raw bytes of all regions, one after the other.
struct Raw {
    streams: Receiver<Pieces>,
    current: Option<Pieces>,
    piece: Vec<u8>,
    at: usize,
    /// A region could not be decompressed.
    broken: bool,
}

impl Raw {
    /// Takes the next piece; false at the end.
    fn next(&mut self) -> io::Result<bool> {
        loop {
            let Some(stream) = &self.current else {
                let Ok(stream) = self.streams.recv() else { return Ok(false) };
                self.current = Some(stream);
                continue;
            };
            match stream.recv() {
                Ok(Ok(piece)) => {
                    (self.piece, self.at) = (piece, 0);
                    return Ok(true);
                }
                Ok(Err(())) => {
                    (self.current, self.broken) = (None, true);
                    return Err(io::Error::other("a part of it cannot be decompressed"));
                }
                Err(_) => self.current = None,
            }
        }
    }
}

impl Read for Raw {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(out)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Raw {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.piece.len() && self.next()? {}
        Ok(&self.piece[self.at..])
    }

    fn consume(&mut self, n: usize) {
        self.at += n;
    }
}

/// The entries that a tar of this backup has, and the size of those that hold documents.
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

fn tar(raw: &mut Raw, manifest: &Manifest, described: bool) -> Result<(), String> {
    let broken = |e: io::Error| format!("the tar is damaged: {e}");
    let mut wanted = entries(manifest);
    let path = |n: &NamespaceEntry| format!("dump/{}", names::metadata_file(&n.db, &n.collection));
    let texts: BTreeMap<String, &NamespaceEntry> = match described {
        true => BTreeMap::new(),
        false => manifest.namespaces.iter().map(|n| (path(n), n)).collect(),
    };
    untar::each_member(&mut *raw, broken, |entry| {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        bring_forward(&mut wanted, &path);
        let Some((name, size)) = wanted.pop_front() else {
            return Err(format!("the tar has {path} too much"));
        };
        if path != name {
            return Err(format!("the tar has {path} where {name} belongs"));
        }
        let read = match texts.get(&path) {
            Some(of) => {
                let mut text = String::new();
                Limited::new(entry, LARGEST_METADATA, "a metadata.json")
                    .read_to_string(&mut text)
                    .map_err(broken)?;
                metadata::parse(&of.db, &of.collection, &text)
                    .map_err(|e| e.chain())
                    .and_then(|namespace| compare(&namespace, of))?;
                text.len() as u64
            }
            None => io::copy(entry, &mut io::sink()).map_err(broken)?,
        };
        if size.is_some_and(|size| size != read) {
            let (has, wanted) = (units::several(read, "byte"), units::count(size.unwrap_or_default()));
            return Err(format!("{name} has {has} in the tar, not {wanted}"));
        }
        Ok(())
    })?;
    if let Some((name, _)) = wanted.pop_front() {
        return Err(format!("the tar ends before {name}"));
    }
    let mut rest = Vec::new();
    raw.take(1 << 20).read_to_end(&mut rest).map_err(broken)?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err("something follows the end of the tar".into());
    }
    Ok(())
}

/// Compares options and indexes in the artifact with the manifest.
fn compare(namespace: &Namespace, entry: &NamespaceEntry) -> Result<(), String> {
    let place = format!("{}.{}", entry.db, entry.collection);
    match_metadata(namespace, entry).map(drop).map_err(|what| format!("the metadata of {place} {what}"))
}

/// Lets a namespace whose metadata comes before its turn have it now: mongodump reads in another order than
/// the one in which it announces, which is the manifest's. Its documents still follow its metadata.
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

/// What an archive of this backup announces: database, collection, and how many documents; views have none.
fn announced(manifest: &Manifest) -> Vec<(&str, &str, Option<u64>)> {
    let namespaces = manifest.namespaces.iter().map(|n| {
        let documents = (n.kind != Type::View).then_some(n.documents);
        (n.db.as_str(), n.collection.as_str(), documents)
    });
    let slice = manifest.consistency.oplog.iter().map(|slice| ("", "oplog", Some(slice.entries)));
    namespaces.chain(slice).collect()
}

fn archive(raw: &mut Raw, manifest: &Manifest, described: bool) -> Result<(), String> {
    let wanted = announced(manifest);
    let collections = wanted.iter().filter(|(_, _, documents)| documents.is_some()).count();
    let mut counted = Counted { manifest, described, wanted, open: None, documents: 0, ended: 0 };
    Demux::new(BufReader::new(&mut *raw)).run(&|_| true, &mut counted).map_err(|e| e.chain())?;
    if counted.ended < collections {
        return Err(format!(
            "the archive has {}, not {collections}",
            units::several(counted.ended as u64, "collection")
        ));
    }
    Ok(())
}

/// Compares what the archive says with the manifest.
struct Counted<'a> {
    manifest: &'a Manifest,
    described: bool,
    wanted: Vec<(&'a str, &'a str, Option<u64>)>,
    open: Option<usize>,
    documents: u64,
    ended: usize,
}

impl Sink for Counted<'_> {
    fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
        let wanted = self.wanted.iter().map(|(db, collection, _)| (*db, *collection));
        if !namespaces.iter().map(|n| (n.db.as_str(), n.collection.as_str())).eq(wanted) {
            return Err(Error::failed("the archive announces other namespaces than the manifest"));
        }
        if !self.described {
            for (namespace, entry) in namespaces.iter().zip(&self.manifest.namespaces) {
                compare(namespace, entry).map_err(Error::failed)?;
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
        let at = self.open.take().expect("one is open");
        let (got, wanted) = (self.documents, self.wanted[at].2);
        if got != wanted.unwrap_or(0) {
            let (name, wanted) = (self.manifest.name(at).unwrap_or_default(), wanted.unwrap_or(0));
            let got = units::several(got, "document");
            return Err(Error::failed(format!(
                "the archive has {got} of {name}, not {}",
                units::count(wanted)
            )));
        }
        self.ended += usize::from(wanted.is_some());
        Ok(())
    }
}
