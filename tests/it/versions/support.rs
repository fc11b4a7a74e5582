//! The combinations that run, servers of a version, and backups with either engine.

use std::fmt;
use std::path::PathBuf;

use mongodb::Client;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::official::Official;
use uzima_testkit::read_all::{DiffOptions, read_all};
use uzima_testkit::standin::{Play, StandIn};

use crate::cli::support::{Home, decompressed, run};
use crate::restore::support::Backup;

pub const FORMATS: [&str; 4] = ["tar.gz", "tar.zst", "archive.gz", "archive.zst"];

/// Runs all combinations, not only those of `in_ci`.
const FULL: &str = "UZIMA_TEST_FULL";

/// The versions that this run covers, oldest first.
pub fn versions() -> Vec<Version> {
    Version::selected().unwrap_or_else(|error| panic!("{error:#}"))
}

/// Pairs of a version and one that is not older.
pub fn upgrades() -> Vec<(Version, Version)> {
    let all = versions();
    all.iter().flat_map(|from| all.iter().filter(move |to| *to >= from).map(|to| (*from, *to))).collect()
}

/// The format for this version, in runs that do not cover all four formats.
pub fn format_of(version: Version) -> &'static str {
    FORMATS[version as usize]
}

/// The combinations of a matrix that this run covers: all of them with `UZIMA_TEST_FULL`, else those of `in_ci`.
/// Prints how many combinations of the matrix this run covers.
pub fn chosen<C: fmt::Debug>(matrix: &str, all: Vec<C>, in_ci: impl Fn(&C) -> bool) -> Vec<C> {
    let full = std::env::var_os(FULL).is_some_and(|value| !value.is_empty() && value != "0");
    let of = all.len();
    let chosen: Vec<C> = all.into_iter().filter(|one| full || in_ci(one)).collect();
    println!("versions::{matrix}: {} of {of} combinations", chosen.len());
    chosen
}

pub async fn server(version: Version) -> (Mongod, Client) {
    started(Mongod::builder().version(version)).await
}

/// A replica set with one member.
pub async fn set(version: Version) -> (Mongod, Client) {
    started(Mongod::builder().version(version).replica_set("rs")).await
}

/// A server with access control.
pub async fn guarded(version: Version) -> (Mongod, Client) {
    started(Mongod::builder().version(version).auth()).await
}

async fn started(builder: uzima_testkit::mongod::Builder) -> (Mongod, Client) {
    let server = builder.start().await.unwrap_or_else(|error| panic!("{error:#}"));
    let client = server.client().await.expect("a client");
    (server, client)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Native,
    /// The official program if it is on PATH. Otherwise the kit's stand-in, which plays the data that the
    /// native engine read from the same server just before.
    Mongodump,
}

impl Engine {
    pub const ALL: [Engine; 2] = [Engine::Native, Engine::Mongodump];

    /// Backs up a server in this format.
    pub fn backup(self, server: &Mongod, format: &str) -> Backup {
        match self {
            Engine::Native => Backup::of(server, &["--format", format]),
            Engine::Mongodump => {
                let (program, _standin) = mongodump(server);
                let home = Home::new();
                let mut command = home.to_dir(&server.uri());
                command.env("MONGODUMP_PATH", program);
                run(command.args(["backup", "--engine", "mongodump", "--format", format])).ends(0);
                let manifest: Manifest = home.manifests().pop().expect("a manifest");
                assert_eq!(manifest.engine.name, "mongodump");
                Backup { home, manifest }
            }
        }
    }
}

fn mongodump(server: &Mongod) -> (PathBuf, Option<StandIn>) {
    if let Some(tools) = Official::find("versions::, reading by the official mongodump") {
        return (tools.mongodump, None);
    }
    let read = Backup::of(server, &["--format", "archive.gz"]);
    let archive = decompressed(&read.manifest, &read.home.artifact(&read.manifest));
    let standin = StandIn::create(&[Play::archive(archive)]).expect("a stand-in");
    (standin.program(), Some(standin))
}

/// The differences between two servers: exact if both have the same version; otherwise options and indexes
/// are compared by meaning.
pub async fn differences(from: (Version, &Client), to: (Version, &Client)) -> Vec<String> {
    let ignore_users = vec![format!("admin.{}", uzima_testkit::mongod::ROOT_USER)];
    let options = DiffOptions { by_meaning: from.0 != to.0, ignore_users, ..DiffOptions::default() };
    let (one, other) = (read_all(from.1).await.expect("one"), read_all(to.1).await.expect("the other"));
    assert!(!one.namespaces.is_empty(), "nothing to compare");
    one.diff_with(&other, &options)
}
