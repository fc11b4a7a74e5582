//! A dump of a server, and the oplog entries around its time.

use std::path::PathBuf;
use std::process::Command;

use bson::{RawDocumentBuf, Timestamp, doc, rawdoc};
use mongodb::Client;
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, Ran, run};
use crate::restore::support::Backup;

/// A replica set with one member, and its client.
pub async fn source() -> (Mongod, Client) {
    let server = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    (server, client)
}

/// The time of the newest oplog entry.
pub async fn now(client: &Client) -> Timestamp {
    let command = rawdoc! {"find": "oplog.rs", "sort": {"$natural": -1}, "limit": 1};
    let newest = entries(client, command).await;
    newest[0].get_timestamp("ts").expect("a time")
}

/// The oplog entries from `start` on.
pub async fn since(client: &Client, start: Timestamp) -> Vec<RawDocumentBuf> {
    entries(client, rawdoc! {"find": "oplog.rs", "filter": {"ts": {"$gte": start}}}).await
}

async fn entries(client: &Client, command: RawDocumentBuf) -> Vec<RawDocumentBuf> {
    let mut cursor = client.database("local").run_raw_cursor_command(command).await.expect("the oplog");
    let mut entries = Vec::new();
    while cursor.advance().await.expect("the oplog") {
        entries.push(cursor.current().to_owned());
    }
    entries
}

/// A dump in a folder, in the form that mongodump writes.
pub struct Dump {
    pub home: Home,
    pub folder: PathBuf,
}

impl Dump {
    /// Dumps a server.
    pub fn of(source: &Mongod) -> Dump {
        let Backup { home, manifest } = Backup::of(source, &["--format", "tar.gz", "--consistency", "none"]);
        let artifact = home.backups().join(&manifest.artifact.key);
        run(Command::new("tar").arg("xzf").arg(artifact).arg("-C").arg(home.path())).ends(0);
        let folder = home.path().join("dump");
        Dump { home, folder }
    }

    /// Adds an oplog to the dump.
    pub fn oplog(&self, entries: &[RawDocumentBuf]) -> &Dump {
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.as_bytes()).copied().collect();
        std::fs::write(self.folder.join("oplog.bson"), bytes).expect("an oplog");
        self
    }

    /// Restores the dump with `restore --from`.
    pub fn restore(&self, uri: &str, args: &[&str]) -> Ran {
        let mut command = self.home.tool();
        command.env("RESTORE_URI", uri).args(["restore", "--yes", "--json", "--from"]).arg(&self.folder);
        run(command.args(args))
    }
}

/// Builds an oplog entry.
pub fn entry(second: u32, op: &str, ns: &str, o: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! {"ts": Timestamp { time: second, increment: 1 }, "t": 1_i64, "v": 2_i64, "op": op, "ns": ns, "o": o}
}

/// Runs commands in a database, one after the other.
pub async fn commands(client: &Client, db: &str, commands: Vec<bson::Document>) {
    for command in commands {
        let done = client.database(db).run_command(command.clone()).await;
        done.unwrap_or_else(|e| panic!("{command}: {e}"));
    }
}

/// Writes documents with these ids.
pub async fn insert(client: &Client, db: &str, collection: &str, ids: std::ops::Range<i32>) {
    let rows = ids.map(|id| doc! {"_id": id, "n": id});
    client.database(db).collection(collection).insert_many(rows).await.expect("rows");
}
