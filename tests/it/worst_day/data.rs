//! The data of the recovery tests, and its comparison with the restored data.

use std::path::Path;

use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::{Namespace, Snapshot, read_all};
use uzima_testkit::torture;

use crate::cli::contents::tar_files;
use crate::cli::support::{decompressed, files};
use crate::restore::support::Backup;

/// A server with everything that breaks backup tools.
pub struct Data {
    pub server: Mongod,
    pub original: Snapshot,
}

impl Data {
    pub async fn new() -> Data {
        // A replica set, so that its backups have an oplog slice.
        let server = Mongod::builder().replica_set("source").start().await.expect("mongod");
        let client = server.client().await.expect("a client");
        let options = torture::Options { big: false, users: true };
        torture::fill_with(&client, options).await.expect("the torture database");
        Data { server, original: read_all(&client).await.expect("the source") }
    }

    /// Backs up the server.
    pub fn backup(&self, format: &str) -> Backup {
        Backup::of(&self.server, &["--format", format])
    }

    /// Asserts that a server has all of the data.
    pub async fn assert_in(&self, client: &Client) {
        let found = read_all(client).await.expect("the target");
        assert_eq!(self.original.diff(&found), Vec::<String>::new());
    }
}

/// The collection `orders` of a database, without its UUID and with sorted documents.
pub fn one(snapshot: &Snapshot, db: &str) -> Namespace {
    let mut one = snapshot.get(db, "orders").unwrap_or_else(|| panic!("no {db}.orders")).clone();
    one.uuid = None;
    one.documents.sort();
    one
}

/// Asserts that mongorestore would have read the contents of the backup's artifact: the archive, or each file
/// of the folder.
pub fn assert_taken(backup: &Backup, taken: &Path) {
    let whole = std::fs::read(backup.artifact()).expect("the artifact");
    let raw = decompressed(&backup.manifest, &whole);
    if taken.is_file() {
        assert!(std::fs::read(taken).expect("the archive") == raw, "{}", backup.manifest.artifact.format);
        return;
    }
    let wanted = tar_files(&raw);
    let wanted: Vec<_> =
        wanted.iter().filter_map(|(path, bytes)| Some((path.strip_prefix("dump/")?, bytes))).collect();
    assert!(wanted.len() > 60, "{}", wanted.len());
    assert_eq!(files(taken), wanted.iter().map(|(path, _)| *path).collect::<Vec<_>>());
    for (path, bytes) in wanted {
        assert!(std::fs::read(taken.join(path)).expect("a file") == *bytes, "{path}");
    }
}
