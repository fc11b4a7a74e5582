//! Encrypted backups come back: by the tool, whole and in part, and by stock tools alone.

use uzima_backup::catalog::layout;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;

use super::support::{Encrypted, FORMATS, assert_private, names, server, stock};
use crate::cli::contents::contents;
use crate::cli::support::run;
use crate::restore::support::differences;

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_backup_is_verified_and_restored_in_every_format() {
    let (server, target) = (server().await, Mongod::builder().start().await.expect("mongod"));
    let (source, copy) = (server.client().await.expect("one"), target.client().await.expect("two"));
    for format in FORMATS {
        let encrypted = Encrypted::new();
        let manifest = encrypted.backup(&server.uri(), &["--format", format]);
        let artifact = format!("dump.{format}.age");
        assert_eq!(
            names(&encrypted.home, &manifest),
            ["RECOVERY.txt", artifact.as_str(), "index.json.zst.age", "manifest.json"]
        );
        let encryption = manifest.encryption.as_ref().expect("it is encrypted");
        assert_eq!(encryption.recipients.len(), 2);
        assert!(
            !std::fs::read_to_string(encrypted.home.backups().join(layout::manifest(&manifest.id)))
                .expect("a manifest")
                .contains(&encrypted.key.recipient)
        );
        let tool = |args: &[&str], key: Option<&std::path::Path>| {
            let mut command = encrypted.tool("mongodb://127.0.0.1:1");
            command.args(args).env("RESTORE_URI", target.uri());
            if let Some(key) = key {
                command.arg("--identity").arg(key);
            }
            run(&mut command)
        };
        // Without the key, the stored bytes are checked; with it, everything.
        let stored = tool(&["verify"], None).ends(0);
        assert!(
            stored.stdout.contains("sound") && stored.stdout.contains("no --identity"),
            "{}",
            stored.stdout
        );
        let verified = tool(&["verify", "--json"], Some(&encrypted.offline.file)).ends(0).json();
        let row = &verified["backups"][0];
        assert_eq!(
            (&row["without_key"], &row["documents"]),
            (&false.into(), &manifest.totals.documents.into())
        );
        let restore = ["restore", "latest", "--yes", "--drop", "--exact"];
        tool(&restore, Some(&encrypted.key.file)).ends(0);
        assert_eq!(differences(&source, &copy).await, Vec::<String>::new(), "{format}");
        copy.database("canaryshop").drop().await.expect("dropped");
        tool(
            &["restore", "latest", "--yes", "--ns-include", "canaryshop.canaryfew"],
            Some(&encrypted.key.file),
        )
        .ends(0);
        let left = copy.database("canaryshop").list_collection_names().await.expect("names");
        assert_eq!(left, ["canaryfew"], "{format}");
        assert_private(&encrypted.home);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_age_and_the_unpackers_get_the_same_dump() {
    let server = server().await;
    for format in FORMATS {
        let encrypted = Encrypted::new();
        let plain = crate::cli::support::Home::new();
        run(plain.to_dir(&server.uri()).args(["backup", "--format", format])).ends(0);
        let plain_manifest = plain.manifests().pop().expect("a manifest");
        let manifest = encrypted.backup(&server.uri(), &["--format", format]);
        let sealed = encrypted.home.artifact(&manifest);
        for key in [&encrypted.key, &encrypted.offline] {
            let opened = stock("age", &["-d", "-i", key.file.to_str().unwrap()], &sealed);
            assert_eq!(opened.len() as u64, manifest.encryption.as_ref().unwrap().content_size);
            let complete = encrypted.complete(&manifest);
            let same = contents(&complete, &opened)
                .diff(&contents(&plain_manifest, &plain.artifact(&plain_manifest)));
            // The admin database may have a write of the set's own between the two backups.
            let same: Vec<_> = same.into_iter().filter(|line| line.contains("canary")).collect();
            assert_eq!(same, Vec::<String>::new(), "{format}");
        }
        let index = std::fs::read(encrypted.home.backups().join(&manifest.index.key)).expect("an index");
        let index = stock("age", &["-d", "-i", encrypted.key.file.to_str().unwrap()], &index);
        let json = zstd::decode_all(&index[..]).expect("a frame");
        crate::docs::schema::check("stored-index", &serde_json::from_slice(&json).expect("JSON"));
        let recovery = encrypted.home.backups().join(layout::recovery(&manifest.id));
        let recovery = std::fs::read_to_string(recovery).expect("RECOVERY.txt");
        assert!(recovery.contains(&format!("age -d -i KEYFILE dump.{format}.age | ")), "{recovery}");
        assert!(recovery.contains("--oplogReplay"), "{recovery}");
    }
}

/// The reading engine makes no difference to the encryption.
#[tokio::test(flavor = "multi_thread")]
async fn mongodump_fills_an_encrypted_backup_too() {
    let Some(tools) = Official::find("encryption::backups::mongodump_fills_an_encrypted_backup_too") else {
        return;
    };
    let (server, target) = (server().await, Mongod::builder().start().await.expect("mongod"));
    let encrypted = Encrypted::new();
    let mut backup = encrypted.tool(&server.uri());
    run(backup.args(["backup", "--engine", "mongodump"]).env("MONGODUMP_PATH", &tools.mongodump)).ends(0);
    assert_private(&encrypted.home);
    let mut restore = encrypted.tool("mongodb://127.0.0.1:1");
    restore.env("RESTORE_URI", target.uri()).args(["restore", "latest", "--yes", "--identity"]);
    run(restore.arg(&encrypted.key.file)).ends(0);
    let (source, copy) = (server.client().await.expect("one"), target.client().await.expect("two"));
    assert_eq!(differences(&source, &copy).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_needs_the_key_and_compares_everything() {
    let (server, encrypted) = (server().await, Encrypted::new());
    let program = uzima_testkit::mongod::binary::find().expect("a mongod");
    let manifest = encrypted.backup(&server.uri(), &[]);
    let drill = |identity: bool| {
        let mut command = encrypted.tool("mongodb://127.0.0.1:1");
        command.env("MONGOD_PATH", &program).args(["verify", "--drill", "--json"]);
        if identity {
            command.env("BACKUP_IDENTITY_FILE", &encrypted.key.file);
        }
        run(&mut command)
    };
    drill(false).ends(6).says(&["is encrypted, and no identity file is named", "--identity"]);
    let report = drill(true).ends(0).json();
    let drilled = &report["backups"][0]["drill"];
    assert_eq!(drilled["findings"], serde_json::json!([]));
    assert!(drilled["documents"].as_u64().unwrap() >= 303 && manifest.totals.documents >= 303, "{drilled}");
    assert_private(&encrypted.home);
}

#[tokio::test(flavor = "multi_thread")]
async fn list_shows_the_namespaces_only_with_the_key() {
    let (server, encrypted) = (server().await, Encrypted::new());
    let manifest = encrypted.backup(&server.uri(), &[]);
    let list = |identity: bool| {
        let mut command = encrypted.tool("mongodb://127.0.0.1:1");
        command.args(["list", "latest"]);
        if identity {
            command.arg("--identity").arg(&encrypted.key.file);
        }
        run(&mut command).ends(0).stdout
    };
    let fingerprints = manifest.encryption.as_ref().unwrap().recipients.join(", ");
    let (without, with) = (list(false), list(true));
    assert!(!without.contains("canary") && without.contains("--identity shows the namespaces"), "{without}");
    assert!(with.contains("canaryshop.canaryrows") && with.contains("canaryindex"), "{with}");
    for text in [without, with] {
        assert!(text.contains(&format!("encrypted     to {fingerprints}")), "{text}");
    }
    let all = run(encrypted.tool("mongodb://127.0.0.1:1").args(["list", "--json"])).ends(0).json();
    let key = all["backups"][0]["key"].as_str().expect("a key").to_string();
    assert!(key.ends_with("dump.tar.gz.age"), "{key}");
    // The complete manifest has everything that the readable one has.
    let complete = encrypted.complete(&manifest);
    assert_eq!(complete.readable(), manifest);
    assert!(complete.namespaces.len() >= 3 && manifest.namespaces.is_empty());
}
