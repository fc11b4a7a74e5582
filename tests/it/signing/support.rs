//! Keys, signatures, and stock `minisign`.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use uzima_backup::base::minisign::SigningKey;
use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Manifest;

use crate::cleanup::support::Place;
use crate::cli::support::{Ran, bare, run};

/// A key that `keygen --signing` wrote.
pub struct Signer {
    folder: TempDir,
    pub file: PathBuf,
    pub public: String,
}

impl Signer {
    pub fn new() -> Signer {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("signing.key");
        let ran = run(bare().args(["keygen", "--signing", "--out"]).arg(&file)).ends(0);
        let public = ran.stdout.lines().next().expect("a public key").to_string();
        Signer { folder, file, public }
    }

    pub fn key(&self) -> SigningKey {
        SigningKey::read(&self.file).expect("a key")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Signs and trusts.
    pub fn set(&self, command: &mut Command) {
        command.env("BACKUP_SIGNING_KEY_FILE", &self.file).env("BACKUP_TRUSTED_KEYS", &self.public);
    }

    /// Signs the object with this key in the store.
    pub fn sign(&self, place: &Place, key: &str, bytes: &[u8]) {
        place.put(&layout::signature(key), self.key().sign(bytes, "x").as_bytes());
        place.put(key, bytes);
    }

    /// Writes the objects of a signed backup.
    pub fn add(&self, place: &Place, manifest: &Manifest) {
        place.add(manifest);
        self.sign(place, &layout::manifest(&manifest.id), &manifest.encode().expect("JSON"));
    }

    /// Runs the tool with this public key as the only trusted one.
    pub fn run(&self, place: &Place, args: &[&str]) -> Ran {
        run(place.command().env("BACKUP_TRUSTED_KEYS", &self.public).args(args))
    }

    /// Runs the tool with this key, which also signs.
    pub fn run_signing(&self, place: &Place, args: &[&str]) -> Ran {
        let mut command = place.command();
        self.set(&mut command);
        run(command.args(args))
    }
}

/// Runs the Debian package `minisign` in a folder. Returns whether it succeeded.
pub fn minisign(folder: &Path, args: &[&str]) -> bool {
    let mut command = Command::new("minisign");
    let output = command.args(args).current_dir(folder).stdin(std::process::Stdio::null()).output();
    output.unwrap_or_else(|e| panic!("minisign is needed ({e}): apt-get install minisign")).status.success()
}

/// The status of each listed backup, by id.
pub fn statuses(listed: &Ran) -> std::collections::BTreeMap<String, String> {
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_string();
    let report = listed.json();
    let rows = report["backups"].as_array().expect("rows");
    rows.iter().map(|row| (text(&row["id"]), text(&row["status"]))).collect()
}
