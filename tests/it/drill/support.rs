//! A backup to drill, a folder for scratch servers, and assertions about leftovers.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use uzima_testkit::mongod::binary;

use crate::restore::support::Backup;

/// A short path, because the path of a socket has at most 107 bytes.
pub fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("dr").tempdir_in("/tmp").expect("a folder")
}

/// `verify latest --drill` into a scratch mongod in this folder.
pub fn drill(backup: &Backup, within: &Path) -> Command {
    let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
    command.env("MONGOD_PATH", mongod()).env("TMPDIR", within).args(["verify", "latest", "--drill"]);
    command
}

pub fn mongod() -> PathBuf {
    binary::find().expect("a mongod")
}

/// The processes whose command line contains this folder.
pub fn processes(within: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&within.display().to_string()) {
            found.push(line);
        }
    }
    found
}

/// Asserts that no process and no file is left.
#[track_caller]
pub fn assert_gone(within: &Path) {
    assert_eq!(processes(within), Vec::<String>::new());
    let left: Vec<_> = std::fs::read_dir(within).expect("the folder").flatten().map(|e| e.path()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}
