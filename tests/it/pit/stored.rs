//! A server with a backup and slices, and changes to these slices.

use std::path::PathBuf;

use bson::{Document, RawDocument, RawDocumentBuf, Timestamp, doc};
use mongodb::Client;
use uzima_backup::model::slice::SliceManifest;
use uzima_testkit::mongod::Mongod;

use super::support::*;
use crate::cli::support::Home;

/// A server with a backup and slices, of which each has one insert.
pub struct Stored {
    pub home: Home,
    pub server: Mongod,
    pub client: Client,
    /// The times after the inserts.
    pub times: Vec<Timestamp>,
}

impl Stored {
    pub async fn new(slices: i32) -> Stored {
        Stored::of(set(None).await.0, slices).await
    }

    pub async fn of(server: Mongod, slices: i32) -> Stored {
        let (client, home) = (server.client().await.expect("a client"), Home::new());
        insert(&client, 0).await;
        mark(&client).await;
        backup(&home, &server.uri(), "oplog");
        let mut times = Vec::new();
        for n in 1..=slices {
            insert(&client, n).await;
            times.push(mark(&client).await);
            oplog(&home, &server.uri());
        }
        Stored { home, server, client, times }
    }

    pub fn slices(&self) -> Vec<(PathBuf, SliceManifest)> {
        slices(&self.home)
    }

    pub fn last(&self) -> String {
        text(*self.times.last().expect("a time"))
    }
}

/// The files of the slices and their manifests, in order.
pub fn slices(home: &Home) -> Vec<(PathBuf, SliceManifest)> {
    let mut files: Vec<String> =
        home.files().into_iter().filter(|file| file.ends_with("/slice.json")).collect();
    files.sort();
    let read = |file: String| {
        let path = home.backups().join(file);
        let manifest = SliceManifest::decode(&std::fs::read(&path).expect("a manifest")).expect("a slice");
        (path, manifest)
    };
    files.into_iter().map(read).collect()
}

pub fn write(path: &PathBuf, manifest: &SliceManifest) {
    std::fs::write(path, manifest.encode().expect("JSON")).expect("a manifest");
}

/// Replaces the entries of a slice.
pub fn replace(home: &Home, path: &PathBuf, manifest: &SliceManifest, entries: &[RawDocumentBuf]) {
    let raw: Vec<u8> = entries.iter().flat_map(|entry| entry.as_bytes()).copied().collect();
    let packed = zstd::encode_all(&raw[..], 3).expect("zstd");
    let mut manifest = manifest.clone();
    (manifest.entries, manifest.raw_bytes) = (entries.len() as u64, raw.len() as u64);
    let body = manifest.body.as_mut().expect("a body");
    body.size = packed.len() as u64;
    body.blake3 = blake3::hash(&packed).to_hex().to_string();
    body.raw_blake3 = Some(blake3::hash(&raw).to_hex().to_string());
    std::fs::write(home.backups().join(&body.key), packed).expect("a body");
    write(path, &manifest);
}

pub fn entries(home: &Home, manifest: &SliceManifest) -> Vec<RawDocumentBuf> {
    let Some(body) = &manifest.body else { return Vec::new() };
    let packed = std::fs::read(home.backups().join(&body.key)).expect("a body");
    let raw = zstd::decode_all(&packed[..]).expect("zstd");
    let (mut rest, mut entries) = (&raw[..], Vec::new());
    while let Some(length) = rest.first_chunk() {
        let (entry, later) = rest.split_at(i32::from_le_bytes(*length) as usize);
        entries.push(RawDocument::from_bytes(entry).expect("an entry").to_owned());
        rest = later;
    }
    entries
}

pub fn is(entry: &RawDocument, field: &str, value: &str) -> bool {
    entry.get_str(field).is_ok_and(|text| text == value)
}

pub async fn insert(client: &Client, n: i32) {
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": n, "n": n}).await.expect("a row");
}
