//! Runs `backup`, `oplog` and `restore`, and reads a server as of an earlier time.

use std::process::Command;

use anyhow::Result;
use bson::{RawDocument, RawDocumentBuf, Timestamp, doc, rawdoc};
use mongodb::Client;
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::read_all::{DiffOptions, Namespace, Snapshot, read_all, read_cursor};

use crate::cli::support::{Home, Ran, run};

pub const DATABASES: [&str; 2] = ["live", "second"];

/// A replica set of one member, which can be read as of the last hour. 4.4 cannot.
pub async fn set(version: Option<Version>) -> (Mongod, Client) {
    let mut builder = Mongod::builder().replica_set("rs");
    if version != Some(Version::V4_4_2) {
        builder = builder.parameter("minSnapshotHistoryWindowInSeconds", "3600");
    }
    if let Some(version) = version {
        builder = builder.version(version);
    }
    let server = builder.start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    (server, client)
}

/// The tool for the databases of the test.
pub fn tool(home: &Home, uri: &str, args: &[&str]) -> Command {
    let mut command = home.to_dir(uri);
    command.env("BACKUP_JOB", "nightly").env("BACKUP_DATABASES", DATABASES.join(",")).args(args);
    command
}

/// Makes a backup with this consistency. It may need a look, because the writers drop collections.
pub fn backup(home: &Home, uri: &str, consistency: &str) {
    let ran = run(&mut tool(home, uri, &["backup", "--consistency", consistency]));
    assert!([Some(0), Some(3)].contains(&ran.code), "{}\n{}", ran.stdout, ran.stderr);
}

pub fn oplog(home: &Home, uri: &str) {
    run(&mut tool(home, uri, &["oplog"])).ends(0);
}

/// `restore` into a server, without a terminal.
pub fn restore(home: &Home, target: &Mongod, args: &[&str]) -> Command {
    let mut command = tool(home, "mongodb://127.0.0.1:1", &["restore", "--yes"]);
    command.env("RESTORE_URI", target.uri()).args(args);
    command
}

/// Runs a restore. It may need a look, if the backup has warnings, for example about dropped collections.
#[track_caller]
pub fn restored(command: &mut Command) -> Ran {
    let ran = run(command);
    assert!([Some(0), Some(3)].contains(&ran.code), "{}\n{}", ran.stdout, ran.stderr);
    ran
}

/// `seconds:ordinal`.
pub fn text(at: Timestamp) -> String {
    format!("{}:{}", at.time, at.increment)
}

/// Writes a mark in each database, and returns the time of the newest entry of the oplog.
pub async fn mark(client: &Client) -> Timestamp {
    let second = client.database("second").collection::<bson::Document>("marks");
    second.insert_one(doc! {}).await.expect("a mark");
    let marks = rawdoc! {"_id": bson::oid::ObjectId::new()};
    let insert = rawdoc! {"insert": "marks", "documents": [marks], "writeConcern": {"w": "majority"}};
    let answer = client.database("live").run_raw_command(insert).await.expect("a mark");
    answer.get_timestamp("operationTime").expect("a time")
}

/// Reads the databases of the test: collections as of `at`, or as they are now. Capped collections are read as they are now.
/// Nobody may create, drop or change collections meanwhile.
pub async fn read_as_of(client: &Client, at: Option<Timestamp>) -> Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    for name in DATABASES {
        let db = client.database(name);
        for info in read_cursor(&db, rawdoc! {"listCollections": 1}).await? {
            let info = RawDocument::from_bytes(&info)?;
            let (collection, kind) = (info.get_str("name")?.to_string(), info.get_str("type")?.to_string());
            if collection == "system.views" {
                continue;
            }
            let options = info.get_document("options")?.to_owned();
            let capped = options.get_bool("capped").unwrap_or(false);
            let mut namespace = Namespace { kind: kind.clone(), options, ..Namespace::default() };
            if kind != "view" {
                let list = rawdoc! {"listIndexes": collection.as_str()};
                let indexes = read_cursor(&db, list).await?.into_iter().map(RawDocumentBuf::from_bytes);
                namespace.indexes = indexes.collect::<Result<_, _>>()?;
            }
            if kind == "collection" {
                let mut find = rawdoc! {"find": collection.as_str()};
                if let Some(at) = at.filter(|_| !capped) {
                    find.append(
                        bson::raw::cstr!("readConcern"),
                        rawdoc! {"level": "snapshot", "atClusterTime": at},
                    );
                }
                namespace.documents = read_cursor(&db, find).await?;
            }
            snapshot.namespaces.insert((name.into(), collection), namespace);
        }
    }
    Ok(snapshot)
}

/// Compares the databases of the test with their wanted content. The documents of capped collections must be in order.
pub async fn differences_from(live: &Client, wanted: &Snapshot) -> Vec<String> {
    let mut found = read_all(live).await.expect("the target");
    found.retain(|db, _| DATABASES.contains(&db));
    let mut lines = wanted.diff_with(&found, &DiffOptions { users: false, ..DiffOptions::default() });
    let capped = wanted.namespaces.iter().filter(|(_, one)| one.options.get_bool("capped").unwrap_or(false));
    for ((db, name), one) in capped {
        if found.get(db, name).is_some_and(|other| other.documents != one.documents) {
            lines.push(format!("{db}.{name} is capped, and its documents are in another order"));
        }
    }
    lines
}

/// Drops the databases of the test.
pub async fn clear(client: &Client) {
    for name in DATABASES {
        client.database(name).run_command(doc! {"dropDatabase": 1}).await.expect("a drop");
    }
}

/// Runs commands in the database `live`, one after the other.
pub async fn commands(client: &Client, commands: Vec<bson::Document>) {
    crate::replay::support::commands(client, "live", commands).await;
}
