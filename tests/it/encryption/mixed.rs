//! Stores with encrypted backups and others: switching encryption on, changing the recipients, and switching it off.

use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Encryption;
use uzima_testkit::mongod::Mongod;

use super::support::{Encrypted, Key, server};
use crate::cleanup::support::{JOB, Place, manifest, with};
use crate::cli::support::{NOWHERE, run};
use crate::restore::support::differences;

#[tokio::test(flavor = "multi_thread")]
async fn backups_from_before_during_and_after_encryption_are_restored() {
    let (server, target) = (server().await, Mongod::builder().start().await.expect("mongod"));
    let (source, copy) = (server.client().await.expect("one"), target.client().await.expect("two"));
    let encrypted = Encrypted::new();
    let newer = Key::new(encrypted.home.path(), "newer.key");
    let backup = |recipients: Option<&str>| {
        let mut command = encrypted.tool(&server.uri());
        match recipients {
            Some(recipients) => command.env("BACKUP_RECIPIENTS", recipients),
            None => command.env_remove("BACKUP_RECIPIENTS"),
        };
        // Switching is no reason for a warning.
        run(command.arg("backup")).ends(0);
        encrypted.home.manifests().pop().expect("a manifest")
    };
    let before = backup(None);
    let first = backup(Some(&encrypted.key.recipient));
    let changed = backup(Some(&newer.recipient));
    let after = backup(None);
    let fingerprint =
        |m: &uzima_backup::model::manifest::Manifest| m.encryption.as_ref().unwrap().recipients.clone();
    assert_ne!(fingerprint(&first), fingerprint(&changed));
    assert!(before.encryption.is_none() && after.encryption.is_none());
    for (manifest, key) in [
        (&before, None),
        (&first, Some(&encrypted.key)),
        (&changed, Some(&newer)),
        // An identity does not matter for a backup that is not encrypted.
        (&after, Some(&newer)),
    ] {
        let mut restore = encrypted.tool(NOWHERE);
        restore.env("RESTORE_URI", target.uri()).args([
            "restore",
            manifest.id.as_str(),
            "--yes",
            "--drop",
            "--exact",
        ]);
        if let Some(key) = key {
            restore.arg("--identity").arg(&key.file);
        }
        run(&mut restore).ends(0);
        assert_eq!(differences(&source, &copy).await, Vec::<String>::new(), "{}", manifest.id);
    }
    run(encrypted.tool(NOWHERE).args(["verify", "--all"])).ends(0);
    run(encrypted.tool(NOWHERE).arg("cleanup")).ends(0);
    assert_eq!(encrypted.home.manifests().len(), 4);
    let both = encrypted.file("both.key");
    let keys = [&encrypted.key.file, &newer.file].map(|file| std::fs::read_to_string(file).expect("a key"));
    std::fs::write(&both, keys.concat()).expect("a file");
    run(encrypted.tool(NOWHERE).args(["verify", "--all", "--identity"]).arg(&both)).ends(0);
}

#[test]
fn an_encrypted_backup_is_deleted_with_all_its_objects() {
    let place = Place::dir();
    let mut manifests = place.nightly([0, 1, 2]);
    let mut old = manifest(JOB, 100);
    old.artifact.key = layout::artifact(&old.id, "tar.gz".parse().unwrap(), true);
    old.index.key = layout::index(&old.id, true);
    let recipients = vec!["ab".into()];
    old.encryption =
        Some(Encryption { header_length: 200, content_size: 10, recipients, selection_mark: None });
    place.add(&old);
    place.put(&layout::recovery(&old.id), b"how to restore it");
    // A run that was killed before its manifest.
    let orphan = manifest("other", 90);
    place.put(&layout::artifact(&orphan.id, "tar.zst".parse().unwrap(), true), b"half");
    place.put(&layout::recovery(&orphan.id), b"how to restore it");
    place.put(&layout::index(&orphan.id, true), b"index");
    let report = place.run(&["cleanup", "--json"]).ends(0).json();
    assert_eq!(with(&report, "deleted"), [old.id.to_string()]);
    assert_eq!(report["orphans"].as_array().unwrap().len(), 1, "{report}");
    let left: Vec<String> = place.keys().into_iter().filter(|key| key.contains(old.id.as_str())).collect();
    assert_eq!(left, Vec::<String>::new());
    // The artifact was just written, so `--orphans` keeps it.
    place.run(&["cleanup", "--orphans"]).ends(0);
    assert_eq!(place.keys().iter().filter(|key| key.contains(orphan.id.as_str())).count(), 3);
    manifests.retain(|manifest| place.listed().contains(&manifest.id.to_string()));
    assert_eq!(manifests.len(), 3);
}
