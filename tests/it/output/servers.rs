//! The output of the commands that need a server: `backup`, `verify` and `restore`.

use insta::assert_snapshot;
use uzima_testkit::mongod::Mongod;

use super::support::{Shop, all, compact, normalize_measured};
use crate::cli::support::{NOWHERE, run};
use crate::drill::support::{mongod, scratch};

#[tokio::test(flavor = "multi_thread")]
async fn backup_prints_its_plan_and_its_result() {
    let shop = Shop::open().await;
    assert_snapshot!(shop.text(&["backup", "--dry-run", "--db", "shop", "--job", "nightly"]), @"
        exit code 0
        --- stdout
        shop.customers
        shop.orders
        would read 2 namespaces, [SIZE] raw, of 127.0.0.1:00000 (MongoDB [SERVER VERSION]) with native: engine = native
        each collection would be read at its own time: a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()
    ");
    assert_snapshot!(shop.json(&["backup", "--dry-run", "--db", "shop", "--job", "nightly"]), @r#"
        {
          "version": 1,
          "member": "127.0.0.1:00000",
          "server_version": "[SERVER VERSION]",
          "feature_compatibility_version": "[SERVER VERSION]",
          "engine": "native: engine = native",
          "shortfall": "a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()",
          "namespaces": ["shop.customers", "shop.orders"],
          "raw_bytes": 0,
          "warnings": []
        }
    "#);
    assert_snapshot!(shop.text(&["backup", "--db", "shop", "--job", "nightly"]), @"
        exit code 0
        --- stdout
        backup 00000000T000000Z-000001 of nightly
          2 namespaces, 5 documents, [SIZE] raw, [SIZE] stored, in [TIME]
          engine native, consistency none
          [HOME]/backups/0000/00/00000000T000000Z-000001/dump.tar.gz
        --- stderr
        0000-00-00T00:00:00Z INFO  [00000000T000000Z-000001] backing up 2 namespaces of 127.0.0.1:00000 (nightly) with the native engine: engine = native
    ");
    assert_snapshot!(shop.json(&["backup", "--db", "shop", "--job", "nightly"]), @r#"
        {
          "version": 1,
          "id": "00000000T000000Z-000001",
          "job": "nightly",
          "place": "[HOME]/backups/0000/00/00000000T000000Z-000001/dump.tar.gz",
          "started_at": "0000-00-00T00:00:00Z",
          "finished_at": "0000-00-00T00:00:00Z",
          "engine": "native",
          "consistency": "none",
          "namespaces": 2,
          "documents": 5,
          "raw_bytes": 0,
          "stored_bytes": 0,
          "timing": "[TIMING]",
          "warnings": [],
          "notes": [],
          "losses": null,
          "problems": []
        }
    "#);
    // More than half of the documents are gone: the backup is stored, and exit code 3 asks for a look.
    let client = shop.server.client().await.expect("a client");
    client.database("shop").collection::<bson::Document>("orders").drop().await.expect("a drop");
    assert_snapshot!(shop.text(&["backup", "--db", "shop", "--job", "nightly"]), @"
        exit code 3
        --- stdout
        backup 00000000T000000Z-000001 of nightly
          1 namespace, 2 documents, [SIZE] raw, [SIZE] stored, in [TIME]
          engine native, consistency none
          [HOME]/backups/0000/00/00000000T000000Z-000001/dump.tar.gz
          needs a look: collapsed: 2 documents where the last good backup 00000000T000000Z-000002 had 5: shop.orders with 3 documents vanished
        --- stderr
        0000-00-00T00:00:00Z INFO  [00000000T000000Z-000001] backing up 1 namespace of 127.0.0.1:00000 (nightly) with the native engine: engine = native
        0000-00-00T00:00:00Z WARN  [00000000T000000Z-000001] collapsed: 2 documents where the last good backup 00000000T000000Z-000002 had 5: shop.orders with 3 documents vanished
    ");
    assert_snapshot!(shop.text(&["backup", "--db", "shop", "--job", "nightly", "--quiet"]), @"
        exit code 3
        --- stderr
        needs a look: collapsed: 2 documents where the last good backup 00000000T000000Z-000001 had 5: shop.orders with 3 documents vanished
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_prints_sound_and_damaged_backups() {
    let shop = Shop::open().await;
    shop.run(&["backup", "--db", "shop", "--job", "nightly"]).ends(0);
    assert_snapshot!(shop.text(&["verify", "latest"]), @"
        exit code 0
        --- stdout
        sound    00000000T000000Z-000001 of nightly: 5 documents, [SIZE] raw, [SIZE]/s
        --- stderr
        0000-00-00T00:00:00Z INFO  verifying 00000000T000000Z-000001, [SIZE]
    ");
    assert_snapshot!(shop.json(&["verify", "latest"]), @r#"
        {
          "version": 1,
          "place": "[HOME]/backups",
          "backups": [
            {
              "id": "00000000T000000Z-000001",
              "job": "nightly",
              "sound": true,
              "findings": [],
              "verified_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 0,
              "documents": 5,
              "raw_bytes": 0,
              "seconds": 0,
              "without_key": false,
              "drill": null,
              "problems": []
            }
          ],
          "damaged": [],
          "archived": [],
          "unopened": [],
          "orphans": [],
          "oplog": []
        }
    "#);
    let manifest = shop.home.manifests().pop().expect("a manifest");
    std::fs::remove_file(shop.home.backups().join(&manifest.artifact.key)).expect("the artifact");
    assert_snapshot!(shop.text(&["verify", "latest"]), @"
        exit code 4
        --- stdout
        DAMAGED  00000000T000000Z-000001 of nightly
                 0000/00/00000000T000000Z-000001/dump.tar.gz is missing
        next step: make a new backup now (`uzima-backup backup`), and find out what changes or deletes files there: a lifecycle rule, the disk or another tool
        --- stderr
        0000-00-00T00:00:00Z INFO  verifying 00000000T000000Z-000001, [SIZE]
    ");
    assert_snapshot!(shop.json(&["verify", "latest"]), @r#"
        {
          "version": 1,
          "place": "[HOME]/backups",
          "backups": [
            {
              "id": "00000000T000000Z-000001",
              "job": "nightly",
              "sound": false,
              "findings": ["0000/00/00000000T000000Z-000001/dump.tar.gz is missing"],
              "verified_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 0,
              "documents": 0,
              "raw_bytes": 0,
              "seconds": 0,
              "without_key": false,
              "drill": null,
              "problems": []
            }
          ],
          "damaged": [],
          "archived": [],
          "unopened": [],
          "orphans": [],
          "oplog": []
        }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_prints_what_it_restored() {
    let shop = Shop::open().await;
    shop.run(&["backup", "--db", "shop", "--job", "nightly"]).ends(0);
    let within = scratch();
    let drill = |args: &[&str]| {
        let mut command = shop.home.to_dir(NOWHERE);
        command.env("MONGOD_PATH", mongod()).env("TMPDIR", within.path()).env("BACKUP_JOB", "nightly");
        run(command.args(["verify", "latest", "--drill"]).args(args)).ends(0)
    };
    assert_snapshot!(normalize_measured(&drill(&[]).stdout, &shop.home), @"
        sound    00000000T000000Z-000001 of nightly: 5 documents, [SIZE] raw, [SIZE]/s
        drilled  2 namespaces, 5 documents, [SIZE] raw, restored into a throw-away mongod ([SERVER VERSION])
                 recovery time [TIME], [SIZE]/s (indexes [TIME]); compared in [TIME]
    ");
    assert_snapshot!(normalize_measured(&compact(&drill(&["--json"]).json()), &shop.home), @r#"
        {
          "version": 1,
          "place": "[HOME]/backups",
          "backups": [
            {
              "id": "00000000T000000Z-000001",
              "job": "nightly",
              "sound": true,
              "findings": [],
              "verified_at": "0000-00-00T00:00:00Z",
              "stored_bytes": 0,
              "documents": 5,
              "raw_bytes": 0,
              "seconds": 0,
              "without_key": false,
              "drill": {
                "at": "0000-00-00T00:00:00Z",
                "target": "mongod",
                "version": "[SERVER VERSION]",
                "oplog_entries": 0,
                "recovery_seconds": 0,
                "index_seconds": 0,
                "compare_seconds": 0,
                "namespaces": 2,
                "documents": 5,
                "raw_bytes": 0,
                "findings": [],
                "notes": []
              },
              "problems": []
            }
          ],
          "damaged": [],
          "archived": [],
          "unopened": [],
          "orphans": [],
          "oplog": []
        }
    "#);
    assert_snapshot!(shop.text(&["health", "--only", "drill"]), @"
        exit code 0
        --- stdout
        ok  drill  the newest drill, of 00000000T000000Z-000001, is 0 min old, and took [TIME]   [TIME]
        healthy: 1 ok
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn restore_prints_its_plan_its_refusal_and_its_report() {
    let (shop, target) = (Shop::open().await, Mongod::builder().start().await.expect("mongod"));
    shop.run(&["backup", "--db", "shop", "--job", "nightly"]).ends(0);
    let restore = |args: &[&str]| {
        let mut command = shop.home.to_dir(NOWHERE);
        command.env("RESTORE_URI", target.uri()).env("BACKUP_JOB", "nightly");
        run(command.args(["restore", "latest"]).args(args))
    };
    let text = |args: &[&str]| normalize_measured(&all(&restore(args)), &shop.home);
    let json = |args: &[&str]| {
        let ran = restore(&[args, &["--json"]].concat());
        normalize_measured(&compact(&ran.json()), &shop.home)
    };
    assert_snapshot!(text(&["--dry-run"]), @"
        exit code 0
        --- stdout
        backup 00000000T000000Z-000001 in [HOME]/backups
          of the job nightly, begun 0000-00-00 00:00 UTC
          shop.customers: 2 documents
          shop.orders: 3 documents
        would restore 2 namespaces, 5 documents, [SIZE] raw, of [SIZE] stored, into 127.0.0.1:00000
        all data was read and is intact
    ");
    assert_snapshot!(json(&["--dry-run"]), @r#"
        {
          "version": 1,
          "from": "backup 00000000T000000Z-000001 in [HOME]/backups",
          "id": "00000000T000000Z-000001",
          "job": "nightly",
          "started_at": "0000-00-00T00:00:00Z",
          "target": "127.0.0.1:00000",
          "skipped": [],
          "notes": [],
          "at": null,
          "merge": false,
          "drop": false,
          "namespaces": [
            {
              "from": "shop.customers",
              "to": "shop.customers",
              "type": "collection",
              "documents": 2,
              "raw_bytes": 0,
              "existing_documents": null
            },
            {
              "from": "shop.orders",
              "to": "shop.orders",
              "type": "collection",
              "documents": 3,
              "raw_bytes": 0,
              "existing_documents": null
            }
          ],
          "extra": [],
          "users": null,
          "roles": null,
          "replay": null,
          "refused": [],
          "rest": null,
          "unproved": [],
          "warnings": []
        }
    "#);
    assert_snapshot!(text(&["--yes"]), @"
        exit code 0
        --- stdout
        backup 00000000T000000Z-000001 in [HOME]/backups
          of the job nightly, begun 0000-00-00 00:00 UTC
        restored 2 namespaces, 5 documents, [SIZE] raw, 0 indexes, into 127.0.0.1:00000
    ");
    // The collections are there now: a second restore refuses them.
    assert_snapshot!(text(&["--dry-run"]), @"
        exit code 1
        --- stdout
        backup 00000000T000000Z-000001 in [HOME]/backups
          of the job nightly, begun 0000-00-00 00:00 UTC
          shop.customers: 2 documents (there with 2 documents)
          shop.orders: 3 documents (there with 3 documents)
        would restore 2 namespaces, 5 documents, [SIZE] raw, of [SIZE] stored, into 127.0.0.1:00000
        all data was read and is intact
        --- stderr
        error: the target 127.0.0.1:00000 has data already: shop.customers has 2 documents, shop.orders has 3 documents
        next step: Nothing was changed. With --drop these namespaces are replaced
    ");
    assert_snapshot!(json(&["--dry-run"]), @r#"
        {
          "version": 1,
          "from": "backup 00000000T000000Z-000001 in [HOME]/backups",
          "id": "00000000T000000Z-000001",
          "job": "nightly",
          "started_at": "0000-00-00T00:00:00Z",
          "target": "127.0.0.1:00000",
          "skipped": [],
          "notes": [],
          "at": null,
          "merge": false,
          "drop": false,
          "namespaces": [
            {
              "from": "shop.customers",
              "to": "shop.customers",
              "type": "collection",
              "documents": 2,
              "raw_bytes": 0,
              "existing_documents": 2
            },
            {
              "from": "shop.orders",
              "to": "shop.orders",
              "type": "collection",
              "documents": 3,
              "raw_bytes": 0,
              "existing_documents": 3
            }
          ],
          "extra": [],
          "users": null,
          "roles": null,
          "replay": null,
          "refused": ["shop.customers has 2 documents", "shop.orders has 3 documents"],
          "rest": null,
          "unproved": [],
          "warnings": []
        }
    "#);
    assert_snapshot!(text(&["--yes"]), @"
        exit code 1
        --- stderr
        error: the target 127.0.0.1:00000 has data already: shop.customers has 2 documents, shop.orders has 3 documents
        next step: Nothing was changed. With --drop these namespaces are replaced
    ");
    assert_snapshot!(json(&["--yes", "--drop"]), @r#"
        {
          "version": 1,
          "from": "backup 00000000T000000Z-000001 in [HOME]/backups",
          "id": "00000000T000000Z-000001",
          "job": "nightly",
          "started_at": "0000-00-00T00:00:00Z",
          "target": "127.0.0.1:00000",
          "skipped": [],
          "notes": [],
          "at": null,
          "merge": false,
          "namespaces": [
            {
              "from": "shop.customers",
              "to": "shop.customers",
              "documents": 2,
              "raw_bytes": 0,
              "superseded": 0,
              "refused": 0,
              "indexes": 0,
              "problems": [],
              "notes": []
            },
            {
              "from": "shop.orders",
              "to": "shop.orders",
              "documents": 3,
              "raw_bytes": 0,
              "superseded": 0,
              "refused": 0,
              "indexes": 0,
              "problems": [],
              "notes": []
            }
          ],
          "dropped": [],
          "users": null,
          "roles": null,
          "replayed": null,
          "missing": [],
          "problems": [],
          "next_step": null,
          "warnings": []
        }
    "#);
}
