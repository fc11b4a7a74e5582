//! A server with data, a backup of it, and a server to restore into.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use mongodb::Client;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::read_all::{DiffOptions, read_all};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use crate::cli::support::{Home, run};

/// A server and its client.
pub async fn server() -> (Mongod, Client) {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    (server, client)
}

/// A backup in a folder.
pub struct Backup {
    pub home: Home,
    pub manifest: Manifest,
}

impl Backup {
    /// Backs up a server.
    pub fn of(server: &Mongod, args: &[&str]) -> Backup {
        Backup::at(&server.uri(), args)
    }

    /// Backs up a server by its connection string.
    pub fn at(uri: &str, args: &[&str]) -> Backup {
        let home = Home::new();
        run(home.to_dir(uri).arg("backup").args(args)).ends(0);
        let manifest = home.manifests().pop().expect("a manifest");
        Backup { home, manifest }
    }

    pub fn artifact(&self) -> PathBuf {
        self.home.backups().join(&self.manifest.artifact.key)
    }

    /// `restore latest` into a server, without a terminal.
    pub fn restore_into(&self, target: &Mongod) -> Command {
        let mut command = self.home.to_dir("mongodb://127.0.0.1:1");
        command.env("RESTORE_URI", target.uri()).args(["restore", "latest", "--yes"]);
        command
    }
}

/// The differences between two servers, one line each.
pub async fn differences(a: &Client, b: &Client) -> Vec<String> {
    let (a, b) = (read_all(a).await.expect("one"), read_all(b).await.expect("the other"));
    assert!(!a.namespaces.is_empty(), "nothing to compare");
    a.diff_with(&b, &DiffOptions::default())
}

/// Writes documents `{_id, text}` with these ids.
pub async fn rows(client: &Client, db: &str, collection: &str, ids: std::ops::Range<i32>) {
    let rows: Vec<_> =
        ids.map(|n| bson::rawdoc! {"_id": n, "text": format!("row {n} of {db}.{collection}")}).collect();
    let rows: Vec<&[u8]> = rows.iter().map(|row| row.as_bytes()).collect();
    raw::insert(&client.database(db), collection, &rows).await.expect("rows");
}

/// Delays the answers by which a restore measures the round trip, so that it has as much under way at once as over the longest distance.
pub fn far_away(proxy: &WireProxy) {
    for command in ["buildInfo", "getParameter", "hello"] {
        proxy.add(Rule::on(command).then(Action::Stall(Duration::from_millis(60))));
    }
}
