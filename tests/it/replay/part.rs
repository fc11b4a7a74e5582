//! Replays of chosen namespaces, under other names, from other places of the oplog, and across renames.

use std::process::Command;

use bson::{doc, rawdoc};
use uzima_testkit::read_all::read_all;

use super::support::{Dump, commands, entry, insert, now, since, source};
use crate::cli::support::run;
use crate::restore::support::{differences, server as empty};

#[tokio::test(flavor = "multi_thread")]
async fn chosen_namespaces_are_replayed_under_other_names() {
    let (server, client) = source().await;
    for name in ["orders", "items"] {
        insert(&client, "shop", name, 0..10).await;
    }
    commands(
        &client,
        "shop",
        vec![
            doc! {"create": "series", "timeseries": {"timeField": "t"}},
            doc! {"create": "view", "viewOn": "orders", "pipeline": []},
        ],
    )
    .await;
    let start = now(&client).await;
    let dump = Dump::of(&server);
    let mut session = client.start_session().await.expect("a session");
    session.start_transaction().await.expect("a transaction");
    for name in ["orders", "items"] {
        let rows = client.database("shop").collection::<bson::Document>(name);
        rows.insert_one(doc! {"_id": 100, "in": name}).session(&mut session).await.expect("a row");
    }
    session.commit_transaction().await.expect("both");
    insert(&client, "other", "rows", 0..5).await;
    let index = |key: &str| doc! {"createIndexes": "orders", "indexes": [{"key": {key: 1}, "name": key}]};
    commands(
        &client,
        "shop",
        vec![
            index("x"),
            index("y"),
            doc! {"dropIndexes": "orders", "index": "x"},
            doc! {"update": "orders", "updates": [{"q": {"_id": 1}, "u": {"$set": {"x": 5}}}]},
            doc! {"drop": "view"},
            doc! {"create": "view", "viewOn": "orders", "pipeline": [{"$match": {"n": 1}}]},
            doc! {"insert": "series", "documents": [{"t": bson::DateTime::now(), "v": 1}]},
            doc! {"create": "late"},
        ],
    )
    .await;
    client.database("other").drop().await.expect("a drop");
    dump.oplog(&since(&client, start).await);
    let (target, live) = empty().await;
    insert(&live, "other", "mine", 0..3).await;
    let args = ["--ns-include=shop.*", "--ns-exclude=shop.items", "--ns-from=shop.*", "--ns-to=copy.*_"];
    dump.restore(&target.uri(), &args).ends(0);
    let (original, found) = (
        read_all(&client).await.expect("a snapshot of the server"),
        read_all(&live).await.expect("a snapshot of the server"),
    );
    let names: Vec<_> = found.namespaces.keys().map(|(db, name)| format!("{db}.{name}")).collect();
    let want = [
        "copy.late_",
        "copy.orders_",
        "copy.series_",
        "copy.system.buckets.series_",
        "copy.view_",
        "other.mine",
    ];
    assert_eq!(names, want);
    for name in ["orders", "system.buckets.series", "late"] {
        let (one, other) = (
            original.get("shop", name).expect("one"),
            found.get("copy", &format!("{name}_")).expect("the other"),
        );
        let mut documents = [one.documents.clone(), other.documents.clone()];
        documents.iter_mut().for_each(|documents| documents.sort());
        assert_eq!(documents[0], documents[1], "{name}");
        assert_eq!(one.indexes, other.indexes, "{name}");
    }
    let view = |snapshot: &uzima_testkit::read_all::Snapshot, db: &str, name: &str| {
        snapshot.get(db, name).expect("a view").options.clone()
    };
    assert_eq!(view(&original, "shop", "view"), view(&found, "copy", "view_"));
    // A restore of one collection does not touch the others.
    let (target, live) = empty().await;
    let report = dump.restore(&target.uri(), &["--ns-include=shop.items", "--no-indexes"]).ends(0).json();
    assert_eq!(report["replayed"]["operations"], 1, "{report}");
    assert_eq!(read_all(&live).await.expect("a snapshot of the server").documents(), 11);
}

/// The same dump and oplog in a folder with `--gzip`, in tars and in an archive.
#[tokio::test(flavor = "multi_thread")]
async fn the_oplog_is_found_in_folders_tars_and_archives() {
    let (server, client) = source().await;
    insert(&client, "shop", "orders", 0..10).await;
    let start = now(&client).await;
    let dump = Dump::of(&server);
    insert(&client, "shop", "orders", 10..20).await;
    dump.oplog(&since(&client, start).await);
    let path = |name: &str| dump.home.path().join(name);
    let tar = |args: &[&str], name: &str| {
        run(Command::new("tar").arg("cf").arg(path(name)).args(args)).ends(0);
    };
    let (home, folder) = (dump.home.path().display().to_string(), dump.folder.display().to_string());
    tar(&["-C", &home, "dump"], "with-folder.tar");
    tar(&["-C", &folder, "."], "with-dot.tar");
    tar(&["-C", &folder, "oplog.bson", "shop"], "plain.tar");
    let from = |name: &str, args: &[&str]| {
        let mut command = dump.home.tool();
        command.args(["restore", "--yes", "--from"]).arg(path(name)).args(args);
        command
    };
    for name in ["dump", "with-folder.tar", "with-dot.tar", "plain.tar"] {
        let (target, live) = empty().await;
        run(from(name, &[]).env("RESTORE_URI", target.uri())).ends(0);
        assert_eq!(differences(&client, &live).await, Vec::<String>::new(), "{name}");
    }
    run(Command::new("gzip").arg(path("dump/oplog.bson"))).ends(0);
    std::fs::rename(path("dump/oplog.bson.gz"), path("dump/oplog.bson")).expect("mongodump's name for it");
    let (target, live) = empty().await;
    run(from("dump", &[]).env("RESTORE_URI", target.uri())).ends(0);
    assert_eq!(differences(&client, &live).await, Vec::<String>::new(), "compressed");
}

/// A collection with the name `oplog` is restored as a collection.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_named_oplog_is_restored_as_a_collection() {
    let (server, client) = source().await;
    insert(&client, "shop", "oplog", 0..10).await;
    let dump = Dump::of(&server);
    std::fs::remove_file(dump.folder.join("shop/oplog.metadata.json")).expect("metadata of it");
    let (target, live) = empty().await;
    let report = dump.restore(&target.uri(), &[]).ends(0).json();
    assert_eq!(report["replayed"], serde_json::Value::Null);
    assert_eq!(differences(&client, &live).await, Vec::<String>::new());
}

/// A rename is replayed over a dump from before the rename. If the dump does not contain the old name, it
/// cannot be replayed.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_is_replayed_if_the_dump_contains_the_old_name() {
    let (server, client) = source().await;
    insert(&client, "shop", "a", 0..10).await;
    insert(&client, "shop", "b", 0..3).await;
    let index = doc! {"key": {"n": 1}, "name": "n_1", "unique": true};
    commands(&client, "shop", vec![doc! {"createIndexes": "a", "indexes": [index]}]).await;
    let (start, before) = (now(&client).await, Dump::of(&server));
    commands(&client, "admin", vec![doc! {"renameCollection": "shop.a", "to": "shop.b", "dropTarget": true}])
        .await;
    insert(&client, "shop", "b", 10..12).await;
    insert(&client, "shop", "a", 100..105).await;
    let entries = since(&client, start).await;
    let (target, live) = empty().await;
    before.oplog(&entries).restore(&target.uri(), &[]).ends(0);
    assert_eq!(differences(&client, &live).await, Vec::<String>::new());
    let (target, _) = empty().await;
    let lost = entry(
        5,
        "c",
        "shop.$cmd",
        rawdoc! {"renameCollection": "shop.x", "to": "shop.b", "dropTarget": true},
    );
    before.oplog(&[lost]).restore(&target.uri(), &[]).ends(1).says(&[
        "renames shop.x",
        "--no-replay",
        "--drop",
    ]);
}

/// The source collection was dropped before the dump reached it, so the dump does not contain it and the
/// oplog drops it. The target's collection of that name belongs to somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_not_in_the_backup_is_not_dropped() {
    let (server, client) = source().await;
    insert(&client, "shop", "gone", 0..3).await;
    insert(&client, "shop", "orders", 0..3).await;
    let start = now(&client).await;
    commands(&client, "shop", vec![doc! {"drop": "gone"}]).await;
    let dump = Dump::of(&server);
    dump.oplog(&since(&client, start).await);
    let (target, live) = empty().await;
    insert(&live, "shop", "gone", 10..15).await;
    dump.restore(&target.uri(), &[]).ends(0);
    let found = read_all(&live).await.expect("the target");
    let documents = |name: &str| found.get("shop", name).map(|namespace| namespace.documents.len());
    assert_eq!((documents("gone"), documents("orders")), (Some(5), Some(3)));
}
