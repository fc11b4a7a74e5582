//! Reads an artifact with as little of the tool's own code as possible: tar and gzip by their crates, an
//! archive by the demultiplexer, which is tested on recordings of the official tool.

use std::collections::BTreeMap;
use std::io::Read;

use uzima_backup::base::error::Result;
use uzima_backup::dumpformat::Sink;
use uzima_backup::dumpformat::demux::Demux;
use uzima_backup::dumpformat::names;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::model::namespace::{Namespace, Type};

use super::support::decompressed;

/// Documents in order, and metadata, by `db.collection`. A time series has the documents of its buckets.
#[derive(Debug, Default, PartialEq)]
pub struct Contents {
    pub documents: BTreeMap<String, Vec<Vec<u8>>>,
    /// Parsed, because two writers may space their JSON differently.
    pub metadata: BTreeMap<String, serde_json::Value>,
}

impl Contents {
    /// Every namespace, sorted by name.
    pub fn names(&self) -> Vec<&str> {
        self.metadata.keys().map(String::as_str).collect()
    }

    /// The differences, one line each, without the documents themselves.
    pub fn diff(&self, other: &Contents) -> Vec<String> {
        let mut out = Vec::new();
        let keys = |c: &Contents| c.metadata.keys().chain(c.documents.keys()).cloned().collect::<Vec<_>>();
        let mut all = keys(self);
        all.extend(keys(other));
        all.sort();
        all.dedup();
        for key in all {
            let (a, b) = (self.documents.get(&key), other.documents.get(&key));
            if a != b {
                let count = |d: Option<&Vec<Vec<u8>>>| d.map(Vec::len);
                out.push(format!("{key:?}: documents differ ({:?}, {:?})", count(a), count(b)));
            }
            let (a, b) = (self.metadata.get(&key), other.metadata.get(&key));
            if a != b {
                out.push(format!("{key:?}: metadata {a:?} and {b:?}"));
            }
        }
        out
    }
}

/// The contents of a backup's artifact.
pub fn contents(manifest: &Manifest, artifact: &[u8]) -> Contents {
    let raw = decompressed(manifest, artifact);
    if manifest.artifact.format.starts_with("archive") {
        return of_archive(&raw);
    }
    let files = tar_files(&raw);
    let mut out = Contents::default();
    for n in &manifest.namespaces {
        let name = format!("{}.{}", n.db, n.collection);
        let json = &files[&format!("dump/{}", names::metadata_file(&n.db, &n.collection))];
        out.metadata.insert(name.clone(), serde_json::from_slice(json).expect("metadata is JSON"));
        let data = match n.kind {
            Type::View => continue,
            Type::Timeseries => format!("system.buckets.{}", n.collection),
            Type::Collection => n.collection.clone(),
        };
        let bson = &files[&format!("dump/{}", names::bson_file(&n.db, &data))];
        out.documents.insert(name, split(bson));
    }
    out
}

/// The files of a tar by path, read to its end.
pub fn tar_files(raw: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(raw);
    let entries = archive.entries().expect("a tar");
    entries
        .map(|entry| {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).expect("its bytes");
            (path, bytes)
        })
        .collect()
}

/// The contents of an archive in mongodump's format.
pub fn of_archive(raw: &[u8]) -> Contents {
    let mut collected = Collected::default();
    Demux::new(raw).run(&|_| true, &mut collected).expect("a whole archive");
    collected.out
}

fn split(mut bson: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    while let Some(len) = bson.first_chunk::<4>() {
        let (document, rest) = bson.split_at(i32::from_le_bytes(*len) as usize);
        out.push(document.to_vec());
        bson = rest;
    }
    assert!(bson.is_empty(), "whole documents only");
    out
}

#[derive(Default)]
struct Collected {
    namespaces: Vec<Namespace>,
    open: String,
    out: Contents,
}

impl Sink for Collected {
    fn prelude(&mut self, namespaces: Vec<Namespace>) -> Result<()> {
        for n in &namespaces {
            // An oplog has no metadata.
            let text = if n.metadata.is_empty() { "null" } else { &n.metadata };
            let json = serde_json::from_str(text).expect("metadata is JSON");
            self.out.metadata.insert(n.to_string(), json);
        }
        self.namespaces = namespaces;
        Ok(())
    }

    fn begin(&mut self, at: usize) -> Result<()> {
        self.open = self.namespaces[at].to_string();
        if self.namespaces[at].has_documents() {
            self.out.documents.entry(self.open.clone()).or_default();
        }
        Ok(())
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        self.out.documents.get_mut(&self.open).expect("it was begun").push(raw.to_vec());
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        Ok(())
    }
}
