//! A job with a copy, and damage to one of its places.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bson::doc;
use mongodb::Client;
use uzima_backup::model::index::Index;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, NOWHERE, Ran, files, run};

/// The names of the two places.
pub const PLACES: [&str; 2] = ["first", "copy"];

/// A folder with the backups of a job in two places.
pub struct TwoPlaces {
    pub home: Home,
}

impl TwoPlaces {
    pub fn new() -> TwoPlaces {
        TwoPlaces { home: Home::new() }
    }

    /// The folder of a place.
    pub fn folder(&self, place: &str) -> PathBuf {
        match place {
            "first" => self.home.backups(),
            _ => self.home.path().join("offsite"),
        }
    }

    /// Adds the second place to the settings of a command.
    pub fn with_copy(&self, mut command: Command) -> Command {
        command.env("COPY_DIR", self.folder("copy"));
        command
    }

    pub fn tool(&self, uri: &str, args: &[&str]) -> Command {
        let mut command = self.with_copy(self.home.to_dir(uri));
        command.env("BACKUP_JOB", "nightly").args(args);
        command
    }

    /// Runs a command that needs no server.
    pub fn run(&self, args: &[&str]) -> Ran {
        run(&mut self.tool(NOWHERE, args))
    }

    /// Makes a backup in both places. Returns its manifest.
    pub fn backup(&self, uri: &str, args: &[&str]) -> Manifest {
        run(self.tool(uri, &["backup"]).args(args)).ends(0);
        let manifest = self.home.manifests().pop().expect("a manifest");
        let read =
            |place| std::fs::read(self.folder(place).join(&manifest.artifact.key)).expect("an artifact");
        assert!(read("first") == read("copy"), "the places have different artifacts");
        manifest
    }

    /// Restores the newest backup, or what `args` say. Returns the result.
    pub fn restore(&self, target: &Mongod, args: &[&str]) -> Ran {
        let mut command = self.tool(NOWHERE, &["restore", "--yes", "--json"]);
        run(command.env("RESTORE_URI", target.uri()).args(args))
    }

    /// Makes a place unreachable, and returns the folder in which it can be reached again.
    pub fn hide(&self, place: &str) -> PathBuf {
        let away = self.home.path().join(format!("{place}.away"));
        std::fs::rename(self.folder(place), &away).expect("a folder");
        away
    }
}

/// The files of a folder and their contents.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |file: String| {
        let bytes = std::fs::read(folder.join(&file)).expect("a file");
        (file, bytes)
    };
    files(folder).into_iter().map(read).collect()
}

/// Changes a byte of a file.
pub fn flip(file: &Path, at: u64) {
    let mut bytes = std::fs::read(file).expect("a file");
    bytes[usize::try_from(at).expect("it fits")] ^= 0x10;
    std::fs::write(file, bytes).expect("a file");
}

/// The positions of the segments of an artifact that is not encrypted: offset and length.
pub fn segments(folder: &Path, manifest: &Manifest) -> Vec<(u64, u64)> {
    let bytes = std::fs::read(folder.join(&manifest.index.key)).expect("an index");
    let index = Index::decode(&bytes).expect("an index");
    index.segments.iter().map(|segment| (segment.offset, segment.length)).collect()
}

/// Fills a server with collections whose segments have several blocks, and with small ones.
pub async fn fill(client: &Client) {
    let shop = client.database("shop");
    for (name, rows) in [("orders", 900), ("carts", 400), ("few", 3)] {
        for from in (0..rows).step_by(100) {
            let rows = (from..rows.min(from + 100)).map(|n| doc! {"_id": n, "text": text(name, n)});
            shop.collection(name).insert_many(rows).await.expect("rows");
        }
    }
}

/// A text of 6 KB that is nearly incompressible.
pub fn text(name: &str, n: i32) -> String {
    let part = |part: i32| blake3::hash(format!("{name} {n} {part}").as_bytes()).to_hex().to_string();
    (0..94).map(part).collect()
}

/// The texts of the problems and warnings in the JSON of a command.
pub fn lines(json: &serde_json::Value, field: &str) -> Vec<String> {
    let lines = json[field].as_array().unwrap_or_else(|| panic!("no {field} in {json}"));
    lines.iter().map(|line| line.as_str().expect("a text").to_string()).collect()
}
