//! Signed backups of a real server: stock minisign checks them, every change is found, and forged ones are not restored.

use std::path::Path;

use uzima_backup::catalog::trust::Trust;
use uzima_backup::catalog::{self, CatalogEntry, layout};
use uzima_backup::config::signing::Signing;
use uzima_backup::config::store::DirOptions;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::store::DirStore;
use uzima_testkit::mongod::Mongod;

use super::support::{Signer, minisign, statuses};
use crate::cli::support::{Home, NOWHERE, Ran, run, server_with_rows};
use crate::encryption::support::Key;
use crate::restore::support::differences;

/// A home whose runs sign and trust this key.
struct SignedHome {
    home: Home,
    signer: Signer,
}

impl SignedHome {
    /// Runs the tool. An empty variable is removed.
    fn run(&self, uri: &str, args: &[&str], env: &[(&str, &str)]) -> Ran {
        let mut command = self.home.to_dir(uri);
        command.env("BACKUP_JOB", "nightly");
        self.signer.set(&mut command);
        for (name, value) in env {
            match *value {
                "" => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        run(command.args(args))
    }

    /// The backup that began last.
    fn newest(&self) -> Manifest {
        self.home.manifests().into_iter().max_by_key(|manifest| manifest.started_at).expect("a manifest")
    }

    fn folder(&self, manifest: &Manifest) -> std::path::PathBuf {
        self.home.backups().join(layout::folder(&manifest.id))
    }
}

/// Copies a backup under the id of a later second, as somebody who can write to the store would. Returns the forged manifest.
fn forge(signed: &SignedHome, manifest: &Manifest, suffix: &str) -> Manifest {
    let later = manifest.started_at + chrono::TimeDelta::seconds(1);
    let id = format!("{}-{suffix}", later.format("%Y%m%dT%H%M%SZ"));
    let text = String::from_utf8(manifest.encode().expect("JSON")).expect("UTF-8");
    let mut forged =
        Manifest::decode(text.replace(manifest.id.as_str(), &id).as_bytes()).expect("a manifest");
    (forged.started_at, forged.finished_at) = (later, later);
    let (from, to) = (signed.folder(manifest), signed.folder(&forged));
    std::fs::create_dir_all(&to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
    }
    let _ = std::fs::remove_file(to.join("manifest.json.minisig"));
    std::fs::write(to.join("manifest.json"), forged.encode().expect("JSON")).expect("a manifest");
    forged
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_backups_are_proven_by_stock_minisign_and_forged_ones_are_not_restored() {
    let (server, target) =
        (server_with_rows(500, 100).await, Mongod::builder().start().await.expect("mongod"));
    let (source, copy) = (server.client().await.expect("one"), target.client().await.expect("two"));
    let signed = SignedHome { home: Home::new(), signer: Signer::new() };
    let key = Key::new(signed.signer.folder(), "age.key");
    let (uri, to) = (server.uri(), target.uri());
    let to_target = [("RESTORE_URI", to.as_str())];
    // Signing is switched on after the first backup.
    let off = [("BACKUP_SIGNING_KEY_FILE", ""), ("BACKUP_TRUSTED_KEYS", "")];
    signed.run(&uri, &["backup"], &off).ends(0);
    let unsigned = signed.newest();
    assert_eq!((&unsigned.signature, &unsigned.artifact.blake3), (&None, &None));
    signed.run(&uri, &["backup"], &[]).ends(0);
    let plain = signed.newest();
    signed.run(&uri, &["backup", "--format", "tar.zst"], &[("BACKUP_RECIPIENTS", &key.recipient)]).ends(0);
    let encrypted = signed.newest();
    // An unsigned backup is never the previous one.
    let previous = |m: &Manifest| m.signature.as_ref().expect("it is signed").previous.clone();
    assert_eq!((previous(&plain), previous(&encrypted)), (None, Some(plain.id.clone())));
    for manifest in [&plain, &encrypted] {
        let folder = signed.folder(manifest);
        let check = ["-V", "-q", "-P", &signed.signer.public, "-m", "manifest.json"];
        assert!(minisign(&folder, &check), "{}", manifest.id);
        let hash = blake3::hash(&signed.home.artifact(manifest)).to_hex().to_string();
        assert_eq!(manifest.artifact.blake3.as_ref(), Some(&hash));
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).expect("a file"))
                .expect("JSON");
        crate::docs::schema::check("stored-manifest", &json);
        assert_eq!(json["signature"]["key"], signed.signer.key().public().number());
    }
    let shown = statuses(&signed.run(NOWHERE, &["list", "--json"], &[]).ends(0));
    assert_eq!(shown[unsigned.id.as_str()], "untrusted");
    let before = [("BACKUP_TRUSTED_BEFORE", "2999-01-01")];
    assert!(
        statuses(&signed.run(NOWHERE, &["list", "--json"], &before).ends(0))
            .values()
            .all(|s| s == "completed")
    );
    // A backup that is newer than all others, complete and encrypted to the right recipient, but not signed.
    let forged = forge(&signed, &encrypted, "zzzzzz");
    let identity = key.file.to_str().expect("UTF-8");
    let restored = |args: &[&str]| {
        let all = [&["restore", "--yes", "--drop", "--identity", identity][..], args].concat();
        signed.run(NOWHERE, &all, &to_target)
    };
    let ran = restored(&["latest"]).ends(0);
    assert!(ran.stdout.contains(encrypted.id.as_str()), "{}", ran.stdout);
    assert!(ran.stderr.contains(&format!("{} is skipped: untrusted: ", forged.id)), "{}", ran.stderr);
    assert_eq!(differences(&source, &copy).await, Vec::<String>::new());
    restored(&[forged.id.as_str()]).ends(4).says(&["is untrusted"]);
    restored(&[unsigned.id.as_str()]).ends(4).says(&["is untrusted: it is not signed"]);
    for id in [&unsigned.id, &forged.id] {
        let ran = restored(&["--allow-unsigned", id.as_str()]);
        assert!(ran.stderr.contains("because of --allow-unsigned"), "{}", ran.stderr);
        assert_eq!(
            ran.code == Some(0),
            *id == unsigned.id,
            "the index is of the other backup: {}",
            ran.stderr
        );
    }
    assert_eq!(differences(&source, &copy).await, Vec::<String>::new());
    // Another backup does not clear the exception.
    restored(&[forged.id.as_str(), "--allow-unsigned", unsigned.id.as_str()]).ends(4);
    let get = |args: &[&str]| signed.run(NOWHERE, &[&["get"], args].concat(), &[]);
    get(&[unsigned.id.as_str(), "shop.absent"]).ends(4).says(&["is untrusted: it is not signed"]);
    get(&["latest", "shop.absent", "--allow-unsigned", unsigned.id.as_str()]).ends(2).says(&[
        "because of --allow-unsigned",
        &format!("the backup {} has no namespace shop.absent", unsigned.id),
    ]);
    signed.run(NOWHERE, &["verify", "--allow-unsigned", unsigned.id.as_str()], &[]).ends(0);
    // The result is signed and counts.
    let result = signed.home.files().into_iter().filter(|file| file.contains("verified-")).count();
    assert_eq!(result, 2);
    signed.run(&uri, &["backup"], &[]).ends(0);
    let mut stored = signed.home.manifests();
    stored.retain(|manifest| ![&unsigned.id, &plain.id, &encrypted.id, &forged.id].contains(&&manifest.id));
    let found = previous(&stored[0]).expect("a backup");
    assert!([&plain.id, &encrypted.id].contains(&&found), "{found} is not trusted");
    let cleanup = signed.run(NOWHERE, &["cleanup"], &[]).ends(3);
    assert!(cleanup.stdout.contains(&format!("the backup {}: untrusted: ", forged.id)), "{}", cleanup.stdout);
    // Its absence is no sign of an unmounted disk.
    std::fs::remove_dir_all(signed.folder(&forged)).expect("a folder");
    // A byte of the artifact changes, and the other checksums are made to fit.
    for (manifest, args) in [(&encrypted, &["verify"][..]), (&plain, &["verify"])] {
        let path = signed.home.backups().join(&manifest.artifact.key);
        let original = std::fs::read(&path).expect("an artifact");
        let mut changed = original.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        std::fs::write(&path, &changed).expect("an artifact");
        let ran = signed.run(NOWHERE, &[args, &[manifest.id.as_str()]].concat(), &[]).ends(4);
        assert!(ran.stdout.contains("does not have the BLAKE3 in the manifest"), "{}", ran.stdout);
        std::fs::write(&path, original).expect("an artifact");
        signed.run(NOWHERE, &["verify", manifest.id.as_str()], &[]).ends(0);
    }
    every_changed_byte_is_found(&signed, &plain).await;
    // Signing is switched off again.
    signed.run(&uri, &["backup"], &off).ends(0);
    signed.run(NOWHERE, &["list"], &off).ends(0);
    signed.run(NOWHERE, &["cleanup"], &off).ends(0);
}

/// Flips a bit of every byte of the manifest and its signature.
async fn every_changed_byte_is_found(signed: &SignedHome, manifest: &Manifest) {
    let store = DirStore::new(DirOptions::new(signed.home.backups())).expect("a store");
    let trusted = vec![signed.signer.key().public()];
    let trust = Trust::from(&Signing { key_file: None, trusted, trusted_before: None });
    let is_trusted = async || {
        let found = catalog::find(&store, &manifest.id, &trust).await.expect("the store answers");
        matches!(found, Some(CatalogEntry::Backup(_)))
    };
    assert!(is_trusted().await);
    let change = async |path: &Path, from: usize| {
        let original = std::fs::read(path).expect("a file");
        for at in from..original.len() {
            let mut changed = original.clone();
            changed[at] ^= 1 << (at % 8);
            std::fs::write(path, &changed).expect("a file");
            assert!(!is_trusted().await, "byte {at} of {}", path.display());
        }
        std::fs::write(path, original).expect("a file");
    };
    let folder = signed.folder(manifest);
    change(&folder.join("manifest.json"), 0).await;
    let signature = folder.join("manifest.json.minisig");
    // The text of the first line means nothing.
    let first = std::fs::read(&signature).expect("a file").iter().position(|byte| *byte == b'\n');
    change(&signature, first.expect("lines")).await;
    assert!(is_trusted().await);
}
