//! The output of the commands that need a server: `backup`, `verify`, `health`, `init` and `restore`.

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
              "drill": null,
              "problems": []
            }
          ],
          "damaged": [],
          "archived": [],
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
              "drill": null,
              "problems": []
            }
          ],
          "damaged": [],
          "archived": [],
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

#[tokio::test(flavor = "multi_thread")]
async fn health_prints_a_line_for_each_check() {
    let shop = Shop::open().await;
    shop.run(&["backup", "--db", "shop", "--job", "nightly"]).ends(0);
    assert_snapshot!(shop.text(&["health"]), @"
        exit code 0
        --- stdout
        ok              configuration  job nightly, tar.gz; today's backup is kept for 30 days, until 0000-00-00, and longer while it is among the newest 3 good backups   [TIME]
        ok              mongodb        [SERVER VERSION], standalone, 127.0.0.1:00000   [TIME]
        ok              namespaces     3 readable, [SIZE]; each collection is read at its own time: a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()   [TIME]
        ok              engine         native: engine = native   [TIME]
        ok              store          [HOME]/backups, a probe was written, read and deleted   [TIME]
        ok              disk           [SIZE] of [SIZE] free, 0 % must stay; there is room for another backup as large as the last one, [SIZE]   [TIME]
        skipped         clock          a directory has no clock of its own   [TIME]
        ok              freshness      00000000T000000Z-000001 is 0 min old, 30 h are allowed   [TIME]
        ok              backups        1 backup, no damage known   [TIME]
        not configured  drill          no backup was ever drilled: run `uzima-backup verify latest --drill`   [TIME]
        not configured  oplog          no oplog slice is stored: `uzima-backup oplog` does not run for this job   [TIME]
        not configured  records        BACKUP_RECORDS is off   [TIME]
        not configured  mail           neither RESEND_API_KEY nor ADMIN_EMAILS is set: failures are not mailed   [TIME]
        ok              state          [HOME]/state   [TIME]
        healthy: 9 ok, 1 skipped, 4 not configured
    ");
    assert_snapshot!(shop.json(&["health"]), @r#"
        {
          "version": 1,
          "job": "nightly",
          "healthy": true,
          "checks": [
            {
              "name": "configuration",
              "outcome": "ok",
              "detail": "job nightly, tar.gz; today's backup is kept for 30 days, until 0000-00-00, and longer while it is among the newest 3 good backups",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "mongodb",
              "outcome": "ok",
              "detail": "[SERVER VERSION], standalone, 127.0.0.1:00000",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "namespaces",
              "outcome": "ok",
              "detail": "3 readable, [SIZE]; each collection is read at its own time: a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "engine",
              "outcome": "ok",
              "detail": "native: engine = native",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "store",
              "outcome": "ok",
              "detail": "[HOME]/backups, a probe was written, read and deleted",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "disk",
              "outcome": "ok",
              "detail": "[SIZE] of [SIZE] free, 0 % must stay; there is room for another backup as large as the last one, [SIZE]",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "clock",
              "outcome": "skipped",
              "detail": "a directory has no clock of its own",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "freshness",
              "outcome": "ok",
              "detail": "00000000T000000Z-000001 is 0 min old, 30 h are allowed",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "backups",
              "outcome": "ok",
              "detail": "1 backup, no damage known",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "drill",
              "outcome": "not_configured",
              "detail": "no backup was ever drilled: run `uzima-backup verify latest --drill`",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "oplog",
              "outcome": "not_configured",
              "detail": "no oplog slice is stored: `uzima-backup oplog` does not run for this job",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "records",
              "outcome": "not_configured",
              "detail": "BACKUP_RECORDS is off",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "mail",
              "outcome": "not_configured",
              "detail": "neither RESEND_API_KEY nor ADMIN_EMAILS is set: failures are not mailed",
              "milliseconds": 0,
              "next_step": null
            },
            {
              "name": "state",
              "outcome": "ok",
              "detail": "[HOME]/state",
              "milliseconds": 0,
              "next_step": null
            }
          ]
        }
    "#);
    // MongoDB is down, and the job has no backup. Standard error also logs each attempt to connect.
    let down = run(shop.home.to_dir(NOWHERE).env("BACKUP_JOB", "weekly").arg("health")).ends(5);
    assert_snapshot!(normalize_measured(&down.stdout, &shop.home), @"
        ok              configuration  job weekly, tar.gz; today's backup is kept for 30 days, until 0000-00-00, and longer while it is among the newest 3 good backups   [TIME]
        failed          mongodb        cannot connect to MongoDB at 127.0.0.1:1, tried again for [TIME]: connection refused   [TIME]
                                       next step: Check that MongoDB runs at this address, that MONGO_URI names it, and that its TLS settings are right
        skipped         namespaces     because mongodb failed
        ok              engine         native: engine = native   [TIME]
        ok              store          [HOME]/backups, a probe was written, read and deleted   [TIME]
        ok              disk           [SIZE] of [SIZE] free, 0 % must stay; there is no backup yet to compare with   [TIME]
        skipped         clock          a directory has no clock of its own   [TIME]
        failed          freshness      there is no backup of the job weekly, only backups of nightly (--job, BACKUP_JOB)   [TIME]
                                       next step: Run `uzima-backup backup`; on a new installation: --skip freshness
        skipped         backups        there is no backup yet   [TIME]
        not configured  drill          no backup was ever drilled: run `uzima-backup verify latest --drill --job weekly`   [TIME]
        not configured  oplog          no oplog slice is stored: `uzima-backup oplog` does not run for this job   [TIME]
        skipped         records        because mongodb failed
        not configured  mail           neither RESEND_API_KEY nor ADMIN_EMAILS is set: failures are not mailed   [TIME]
        ok              state          [HOME]/state   [TIME]
        5 ok, 2 failed, 4 skipped, 3 not configured
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_prints_the_file_the_health_and_the_schedule() {
    let shop = Shop::open().await;
    let config = shop.home.path().join("config.toml");
    let init = |args: &[&str]| {
        let mut command = shop.home.to_dir(&shop.server.uri());
        command.env("BACKUP_JOB", "nightly").args(["init", "--config"]).arg(&config).args(args);
        run(&mut command)
    };
    // The programs of the machine and the owner of the folder differ from machine to machine.
    let text = normalize_measured(&all(&init(&[])), &shop.home);
    assert_snapshot!(without_section(&text, "Found on this machine:"), @"
        exit code 0
        --- stdout
        [HOME]/config.toml is written (mode 0600):
            dir, engine, job, min_free, mongo_uri, patience, records, state_dir

        Found on this machine:
            [MACHINE]

        Health:
            ok              configuration  job nightly, tar.gz; today's backup is kept for 30 days, until 0000-00-00, and longer while it is among the newest 3 good backups   [TIME]
            ok              mongodb        [SERVER VERSION], standalone, 127.0.0.1:00000   [TIME]
            ok              namespaces     3 readable, [SIZE]; each collection is read at its own time: a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()   [TIME]
            ok              engine         native: engine = native   [TIME]
            ok              store          [HOME]/backups, a probe was written, read and deleted   [TIME]
            ok              disk           [SIZE] of [SIZE] free, 0 % must stay; there is no backup yet to compare with   [TIME]
            skipped         clock          a directory has no clock of its own   [TIME]
            skipped         freshness      by --skip
            skipped         backups        there is no backup yet   [TIME]
            skipped         drill          by --skip
            not configured  oplog          no oplog slice is stored: `uzima-backup oplog` does not run for this job   [TIME]
            not configured  records        BACKUP_RECORDS is off   [TIME]
            not configured  mail           neither RESEND_API_KEY nor ADMIN_EMAILS is set: failures are not mailed   [TIME]
            ok              state          [HOME]/state does not exist yet: the first backup creates it   [TIME]
            healthy: 7 ok, 4 skipped, 3 not configured

        The first backup, as the user of the nightly backups:
            uzima-backup --config [HOME]/config.toml backup

        Every night:
            uzima-backup --config [HOME]/config.toml init --install
        It shows a plan, asks, and adds 3 jobs to the crontab of the user who runs it;
        as root on a machine with systemd, it enables 3 timers instead.
        --- stderr
        0000-00-00T00:00:00Z INFO  wrote [HOME]/config.toml; trying it, which takes half a minute or more if a server does not answer
    ");
    let mut json = init(&["--force", "--json"]).ends(0).json();
    json["found"] = "[MACHINE]".into();
    json["systemd"] = "[MACHINE]".into();
    assert_snapshot!(normalize_measured(&compact(&json), &shop.home), @r#"
        {
          "version": 1,
          "file": "[HOME]/config.toml",
          "mode": "0600",
          "kept": "[HOME]/config.toml.bak",
          "settings": ["dir", "engine", "job", "min_free", "mongo_uri", "patience", "records", "state_dir"],
          "left_out": [],
          "found": "[MACHINE]",
          "health": {
            "version": 1,
            "job": "nightly",
            "healthy": true,
            "checks": [
              {
                "name": "configuration",
                "outcome": "ok",
                "detail": "job nightly, tar.gz; today's backup is kept for 30 days, until 0000-00-00, and longer while it is among the newest 3 good backups",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "mongodb",
                "outcome": "ok",
                "detail": "[SERVER VERSION], standalone, 127.0.0.1:00000",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "namespaces",
                "outcome": "ok",
                "detail": "3 readable, [SIZE]; each collection is read at its own time: a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "engine",
                "outcome": "ok",
                "detail": "native: engine = native",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "store",
                "outcome": "ok",
                "detail": "[HOME]/backups, a probe was written, read and deleted",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "disk",
                "outcome": "ok",
                "detail": "[SIZE] of [SIZE] free, 0 % must stay; there is no backup yet to compare with",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "clock",
                "outcome": "skipped",
                "detail": "a directory has no clock of its own",
                "milliseconds": 0,
                "next_step": null
              },
              {"name": "freshness", "outcome": "skipped", "detail": "by --skip", "milliseconds": 0, "next_step": null},
              {
                "name": "backups",
                "outcome": "skipped",
                "detail": "there is no backup yet",
                "milliseconds": 0,
                "next_step": null
              },
              {"name": "drill", "outcome": "skipped", "detail": "by --skip", "milliseconds": 0, "next_step": null},
              {
                "name": "oplog",
                "outcome": "not_configured",
                "detail": "no oplog slice is stored: `uzima-backup oplog` does not run for this job",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "records",
                "outcome": "not_configured",
                "detail": "BACKUP_RECORDS is off",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "mail",
                "outcome": "not_configured",
                "detail": "neither RESEND_API_KEY nor ADMIN_EMAILS is set: failures are not mailed",
                "milliseconds": 0,
                "next_step": null
              },
              {
                "name": "state",
                "outcome": "ok",
                "detail": "[HOME]/state",
                "milliseconds": 0,
                "next_step": null
              }
            ]
          },
          "crontab": [
            "0 3 * * * uzima-backup --config [HOME]/config.toml backup --quiet",
            "0 4 * * * uzima-backup --config [HOME]/config.toml cleanup --quiet",
            "0 6 1 * * uzima-backup --config [HOME]/config.toml health --quiet"
          ],
          "systemd": "[MACHINE]",
          "install": null
        }
    "#);
}

/// Replaces the indented lines below a heading.
fn without_section(text: &str, heading: &str) -> String {
    let mut lines = text.lines().peekable();
    let mut out = Vec::new();
    while let Some(line) = lines.next() {
        out.push(line);
        if line.starts_with(heading) {
            while lines.next_if(|line| line.starts_with("    ")).is_some() {}
            out.push("    [MACHINE]");
        }
    }
    out.join("\n")
}
