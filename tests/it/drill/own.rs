//! Drills in a mongod that the drill starts itself.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bson::{doc, rawdoc};
use uzima_testkit::torture;
use uzima_testkit::wire_proxy::Rule;

use super::support::{assert_gone, drill, mongod, processes, scratch};
use crate::cli::signals::{ends_by, start, until};
use crate::cli::support::run;
use crate::native::support::{behind_a_proxy, insert, meanwhile, rows as padded};
use crate::restore::support::{Backup, rows, server};

/// One format holds all data, the others everything but the documents of 16 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn the_torture_database_is_sound_in_every_format() {
    let (source, original) = server().await;
    let within = scratch();
    for (format, big) in [("archive.zst", true), ("tar.gz", false), ("tar.zst", false), ("archive.gz", false)]
    {
        let options = torture::Options { big, ..torture::Options::default() };
        torture::fill_with(&original, options).await.expect("the torture database");
        let backup = Backup::of(&source, &["--format", format]);
        let drilled = run(drill(&backup, within.path()).arg("--json")).ends(0).json();
        let (row, totals) = (&drilled["backups"][0], backup.manifest.totals);
        assert_eq!(row["sound"], true, "{drilled}");
        let found = &row["drill"];
        assert_eq!(
            (&found["target"], &found["findings"]),
            (&"mongod".into(), &serde_json::json!([])),
            "{found}"
        );
        let restored = found["namespaces"].as_u64().expect("a number");
        // Users and roles are merged, and the server has its own version document.
        assert_eq!(restored + 3, totals.namespaces);
        assert!(found["recovery_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{found}");
        assert_gone(within.path());
    }
}

/// Documents that were read twice, a capped collection that was written during the backup, and documents that
/// expired long ago: the drill knows which of them a restore leaves out.
#[tokio::test(flavor = "multi_thread")]
async fn documents_that_a_restore_leaves_out_are_no_difference() {
    let (source, proxy, original) = behind_a_proxy().await;
    let shop = original.database("shop");
    let off = doc! {"setParameter": 1, "ttlMonitorEnabled": false};
    original.database("admin").run_command(off).await.expect("no TTL at the source");
    rows(&original, "shop", "old", 0..3).await;
    let index = doc! {"key": {"at": 1}, "name": "at_1", "expireAfterSeconds": 1};
    shop.run_command(doc! {"createIndexes": "old", "indexes": [index]}).await.expect("an index");
    let old = rawdoc! {"_id": 9, "at": bson::DateTime::from_millis(0)};
    insert(&original, "shop", "old", &[old]).await;
    let full = doc! {"create": "ring", "capped": true, "size": 1 << 20, "max": 400};
    shop.run_command(full).await.expect("a capped collection");
    insert(&original, "shop", "ring", &padded(0, 400, 1_000)).await;
    insert(&original, "shop", "orders", &padded(0, 700, 100_000)).await;
    let during = Rule::on("getMore").namespace("shop.orders").nth(40);
    let during = proxy.add(during.then(meanwhile(source.uri(), async |client| {
        let orders = client.database("shop").collection::<bson::Document>("orders");
        orders.delete_many(doc! {"_id": {"$lt": 3}}).await.expect("a delete");
        let anew: Vec<_> = (0..3).map(|id| rawdoc! {"_id": id, "anew": true}).collect();
        insert(&client, "shop", "orders", &anew).await;
    })));
    let more = Rule::on("find").namespace("shop.ring").nth(1);
    let more = proxy.add(more.then(meanwhile(source.uri(), async |client| {
        insert(&client, "shop", "ring", &padded(400, 50, 1_000)).await;
    })));
    let backup = Backup::at(&proxy.uri(&source.uri()), &["--db", "shop"]);
    assert_eq!((proxy.hits(during), proxy.hits(more)), (1, 1));
    let documents = |name: &str| {
        backup.manifest.namespaces.iter().find(|n| n.collection == name).expect("the namespace").documents
    };
    assert_eq!(documents("orders"), 703, "three were read twice");
    assert!(documents("ring") > 400, "{}", documents("ring"));
    let within = scratch();
    let drilled = run(&mut drill(&backup, within.path())).ends(0);
    assert!(drilled.stdout.contains("\ndrilled  3 namespaces"), "{}", drilled.stdout);
    assert_gone(within.path());
}

/// SIGTERM and SIGKILL during the restore: the first leaves nothing, the second a folder that the next drill
/// removes.
#[tokio::test(flavor = "multi_thread")]
async fn the_drills_mongod_ends_with_the_drill() {
    let (source, original) = server().await;
    insert(&original, "shop", "orders", &padded(0, 3_000, 20_000)).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let within = scratch();
    let runs = || !processes(within.path()).is_empty();
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130)] {
        let child = start(&mut drill(&backup, within.path()));
        until("a mongod runs", runs);
        std::thread::sleep(Duration::from_millis(300));
        ends_by(child, signal, code);
        assert_gone(within.path());
    }
    let mut child = start(&mut drill(&backup, within.path()));
    until("a mongod runs", runs);
    child.kill().expect("a kill");
    child.wait().expect("its end");
    until("the mongod ends", || !runs());
    assert_eq!(std::fs::read_dir(within.path()).expect("a folder").count(), 1, "its folder stays");
    run(&mut drill(&backup, within.path())).ends(0).says(&["which a killed drill left behind"]);
    assert_gone(within.path());
}

/// The message names possible senders of the signal. Files may have any size.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_mongod_is_reported_with_possible_causes() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    let (backup, within) = (Backup::of(&source, &[]), scratch());
    for (signal, words) in [("KILL", "lack of memory"), ("XFSZ", "file-size limit")] {
        let program = backup.home.path().join("mongod");
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && exec {} --version\nkill -{signal} $$\nexit 9\n",
            mongod().display()
        );
        std::fs::write(&program, script).expect("a script");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a program");
        run(drill(&backup, within.path()).env("MONGOD_PATH", &program)).ends(1).says(&[
            "the throw-away mongod",
            words,
            "next step: ",
        ]);
        assert_gone(within.path());
    }
}
