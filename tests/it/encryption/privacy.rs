//! Nothing in the store names a namespace of an encrypted job, counts its documents or shows a validator, whatever happened.

use bson::doc;
use uzima_backup::artifact::age_header::MAGIC;
use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::{COLLAPSED, Manifest};
use uzima_testkit::mongod::Mongod;

use super::support::{CANARY, Encrypted, assert_private, insert, server, standalone};
use crate::cli::support::{NOWHERE, run};
use crate::pit::stored::slices;

fn manifest_text(encrypted: &Encrypted, manifest: &Manifest) -> String {
    let path = encrypted.home.backups().join(layout::manifest(&manifest.id));
    std::fs::read_to_string(path).expect("a manifest")
}

/// A collapse, a warning, a damaged backup, pins, deletions: the objects that these write are scanned.
#[tokio::test(flavor = "multi_thread")]
async fn no_stored_byte_names_a_namespace() {
    let (server, encrypted) = (standalone().await, Encrypted::new());
    let client = server.client().await.expect("a client");
    let first = encrypted.backup(&server.uri(), &[]);
    // A view whose definition is invalid is a warning with its name.
    let views = async |op: &str, view: bson::Document| {
        let change = doc! {"op": op, "ns": "canaryshop.system.views", "o": view};
        client.database("admin").run_command(doc! {"applyOps": [change]}).await.expect("a view");
    };
    views("i", doc! {"_id": "canaryshop.canarybad", "viewOn": 7, "pipeline": []}).await;
    let ran = run(encrypted.tool(&server.uri()).arg("backup")).ends(3);
    assert!(ran.stderr.contains("canarybad"), "{}", ran.stderr);
    let warned = encrypted.home.manifests().pop().expect("a manifest");
    assert_eq!(warned.warnings.len(), 1, "{:?}", warned.warnings);
    assert!(
        warned.warnings[0].starts_with("1 warning encrypted: `uzima-backup list "),
        "{:?}",
        warned.warnings
    );
    assert!(encrypted.complete(&warned).warnings[0].contains("canarybad"));
    views("d", doc! {"_id": "canaryshop.canarybad"}).await;
    // Most documents are gone.
    client.database("canaryshop").collection::<bson::Document>("canaryrows").drop().await.expect("dropped");
    let ran = run(encrypted.tool(&server.uri()).arg("backup")).ends(3);
    assert!(ran.stderr.contains("where the last good backup"), "{}", ran.stderr);
    let collapsed = encrypted.home.manifests().pop().expect("a manifest");
    assert!(
        collapsed.collapsed() && collapsed.warnings[0].starts_with(COLLAPSED),
        "{:?}",
        collapsed.warnings
    );
    assert_eq!(collapsed.losses, None);
    let id = |manifest: &Manifest| manifest.id.to_string();
    for (args, code) in [
        (vec!["cleanup".to_string()], 3),
        (vec!["cleanup".into(), "--accept".into(), id(&collapsed)], 0),
        (vec!["pin".into(), id(&first), "--reason".into(), "kept".into()], 0),
    ] {
        run(encrypted.tool(NOWHERE).args(args)).ends(code);
    }
    // A partial backup.
    let mut partial = encrypted.tool(&server.uri());
    run(partial.args(["backup", "--include", "canaryshop.canaryfew"])).ends(0);
    let partial = encrypted.home.manifests().pop().expect("a manifest");
    assert!(partial.partial && partial.selection.include.is_empty());
    let all = run(encrypted.tool(NOWHERE).args(["list", "--json"])).ends(0);
    assert!(
        !all.stdout.contains(CANARY) && all.stdout.contains("its selection is encrypted"),
        "{}",
        all.stdout
    );
    // Damage within the content, which only a verify with the key can name.
    let path = encrypted.home.backups().join(&first.artifact.key);
    let mut bytes = std::fs::read(&path).expect("an artifact");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    for key in [true, false] {
        let mut verify = encrypted.tool(NOWHERE);
        verify.args(["verify", &id(&first)]);
        if key {
            verify.arg("--identity").arg(&encrypted.key.file);
        }
        let ran = run(&mut verify).ends(4);
        assert!(ran.stdout.contains("DAMAGED"), "{}", ran.stdout);
    }
    let damaged = run(encrypted.tool(NOWHERE).args(["list", &id(&first)])).ends(4);
    assert!(damaged.stdout.contains("damaged"), "{}", damaged.stdout);
    assert_private(&encrypted.home);
    // Totals, times and the server stay readable for the operation of backups.
    let text = manifest_text(&encrypted, &first);
    assert!(
        text.contains("\"documents\"") && text.contains("\"member\"") && !text.contains("xxh3_sum\": \"0"),
        "{text}"
    );
}

/// Drops, a changed selection, a gap, a drill and damage: the objects that `oplog` and the commands beside it write are scanned.
#[tokio::test(flavor = "multi_thread")]
async fn no_stored_byte_of_a_chain_names_a_namespace() {
    let (server, encrypted) = (server().await, Encrypted::new());
    let client = server.client().await.expect("a client");
    let (uri, database) = (server.uri(), client.database("canaryshop"));
    encrypted.backup(&uri, &[]);
    insert(&client, 1000..1010).await;
    encrypted.oplog(&uri, 0);
    database.collection::<bson::Document>("canaryfew").drop().await.expect("a drop");
    let rename = doc! {"renameCollection": "canaryshop.canaryrows", "to": "canaryshop.canarymoved"};
    client.database("admin").run_command(rename).await.expect("a rename");
    database.drop().await.expect("the database is dropped");
    insert(&client, 0..400).await;
    encrypted.oplog(&uri, 0);
    // Another selection is a barrier that names it, on the terminal and in the mail.
    insert(&client, 1000..1001).await;
    let mut other = encrypted.tool(&uri);
    let ran = run(other.env("BACKUP_EXCLUDE", "canaryshop.canarylog").args(["oplog", "--json"])).ends(3);
    assert!(ran.json()["barriers"][0]["why"].as_str().unwrap().contains("canarylog"), "{}", ran.stdout);
    let all = slices(&encrypted.home);
    let barred = all.iter().find(|(_, slice)| !slice.barriers.is_empty()).expect("a barrier");
    assert_eq!((barred.1.barriers.len(), barred.1.barriers[0].why.as_str()), (1, "encrypted"));
    for command in ["list", "stats", "timeline"] {
        let mut shown = encrypted.tool(NOWHERE);
        shown.args([command, "--json"]);
        if command == "timeline" {
            shown.arg("--identity").arg(&encrypted.key.file);
        }
        let text = run(&mut shown).ends(0).stdout;
        assert_eq!(text.contains("canarylog"), command == "timeline", "{text}");
        assert!(text.contains("barrier"), "{text}");
    }
    let health = run(encrypted.tool(NOWHERE).args(["health", "--only", "oplog"])).ends(5);
    assert!(health.stdout.contains("can pass") && !health.stdout.contains(CANARY), "{}", health.stdout);
    // An unreadable slice is a gap.
    let (tip, _) = slices(&encrypted.home).pop().expect("a slice");
    std::fs::write(&tip, "{}").expect("a damaged slice");
    insert(&client, 1010..1020).await;
    let report = encrypted.oplog(&uri, 3);
    assert!(report["gap"]["why"].as_str().unwrap().contains("cannot be understood"), "{report}");
    std::fs::remove_file(&tip).expect("removed");
    // A drill whose replay finds faults, and a verify that finds damage.
    encrypted.backup(&uri, &[]);
    insert(&client, 1020..1030).await;
    encrypted.oplog(&uri, 0);
    let (_, last) = slices(&encrypted.home).pop().expect("a slice");
    let body = encrypted.home.backups().join(last.body.expect("a body").key);
    let mut bytes = std::fs::read(&body).expect("a body");
    *bytes.last_mut().expect("a byte") ^= 1;
    std::fs::write(&body, bytes).expect("damaged");
    for args in [
        &["verify", "--oplog"][..],
        &["verify", "--all"],
        &["verify", "--drill", "--at", "newest", "--to-uri", &uri],
    ] {
        run(encrypted.tool(NOWHERE).args(args).arg("--identity").arg(&encrypted.key.file)).ends(4);
    }
    assert_private(&encrypted.home);
    let objects = encrypted.home.files().into_iter().filter(|file| file.starts_with("oplog/"));
    for file in objects.filter(|file| !file.ends_with(layout::SLICE)) {
        let bytes = std::fs::read(encrypted.home.backups().join(&file)).expect("an object");
        assert!(file.ends_with(".age") && bytes.starts_with(MAGIC), "{file}");
    }
}

/// The reason of a failure names a namespace on the terminal, and not in the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_stores_no_name() {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("canaryshop").collection("canaryrows");
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");
    server.create_user("reader", "secret", &[("read", "other")]).await.expect("a user");
    let uri = server.uri_as("reader", "secret", "admin");
    let encrypted = Encrypted::new();
    let failed = run(encrypted.tool(&uri).args(["backup"]).env("BACKUP_DATABASES", "canaryshop")).ends(1);
    assert!(failed.stderr.contains("canaryshop"), "{}", failed.stderr);
    let stored = encrypted.home.failures().pop().expect("the failure");
    assert!(stored.error.contains("exit code 1") && stored.error.contains("encrypted"), "{}", stored.error);
    assert_private(&encrypted.home);
}
