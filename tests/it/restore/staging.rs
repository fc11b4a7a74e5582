//! The staging collections of `restore --filter` and `--merge`: the oplog is replayed there before documents are chosen. They are dropped
//! at the end, after errors and after signals, and what a killed run left is listed and dropped.

use std::process::{Command, Stdio};
use std::time::Duration;

use bson::{Document, doc, rawdoc};
use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::read_all::{Snapshot, read_all};
use uzima_testkit::wire_proxy::{Action, Gate, Rule, WireProxy};

use super::filter::ids;
use super::support::{Backup, rows};
use crate::cli::support::{Ran, peak, run};
use crate::consistency::support::{set, slice};
use crate::native::support::{behind_a_proxy, meanwhile};

/// A backup of 100 orders and 20 items. While the orders are read, one is deleted, one is changed and one is inserted, and a collection
/// is created. So the backup's instant has 100 orders: all from 0 to 100 but 6.
async fn backup() -> (Backup, Mongod) {
    let (server, proxy, client) = set().await;
    rows(&client, "shop", "orders", 0..100).await;
    rows(&client, "shop", "items", 0..20).await;
    let write = async |client: Client| {
        let orders = client.database("shop").collection::<Document>("orders");
        orders.delete_one(doc! {"_id": 6}).await.expect("a delete");
        orders.update_one(doc! {"_id": 5}, doc! {"$set": {"text": "changed"}}).await.expect("an update");
        orders.insert_one(doc! {"_id": 100, "text": "new"}).await.expect("an insert");
        rows(&client, "shop", "made", 0..3).await;
    };
    let during = Rule::on("find").namespace("shop.orders").having("$_requestResumeToken").times(1);
    let during = proxy.add(during.then(meanwhile(server.uri(), write)));
    let backup = Backup::at(&proxy.uri(&server.uri()), &["--db", "shop"]);
    assert_eq!(proxy.hits(during), 1);
    assert!(slice(&backup.manifest).entries > 0);
    (backup, server)
}

/// The live orders before the merge: a third of those of the backup, and one of its own.
async fn live(client: &Client) -> Snapshot {
    rows(client, "shop", "orders", 0..33).await;
    rows(client, "shop", "orders", 1000..1001).await;
    snapshot(client).await
}

async fn snapshot(client: &Client) -> Snapshot {
    let mut all = read_all(client).await.expect("a snapshot");
    all.retain(|db, _| db == "shop");
    all
}

/// The orders after the merge.
fn merged() -> Vec<i32> {
    (0..=100).chain([1000]).collect()
}

fn tool(backup: &Backup, uri: &str, args: &[&str]) -> Command {
    let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
    command.env("RESTORE_URI", uri).arg("restore").args(args);
    command
}

const MERGE: [&str; 3] = ["latest", "--merge", "--yes"];

async fn marks(client: &Client) -> u64 {
    let marks = client.database("uzima_backup").collection::<Document>("restores");
    marks.count_documents(doc! {}).await.expect("a count")
}

async fn staged(client: &Client) -> Vec<String> {
    let mut names = client.database("shop").list_collection_names().await.expect("names");
    names.retain(|name| name.starts_with("uzima_backup"));
    names
}

/// Asserts that the live documents are unchanged, and that nothing is left of the restore.
async fn assert_unchanged(client: &Client, before: &Snapshot) {
    assert_eq!(before.diff(&snapshot(client).await), Vec::<String>::new());
    assert_eq!(marks(client).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_the_slice_writes_are_chosen_as_of_the_instant_of_the_backup() {
    let ((backup, _source), (target, _, client)) = (backup().await, behind_a_proxy().await);
    let changed =
        ["latest", "--yes", "--filter", r#"{"text": {"$in": ["changed", "new", "row 6 of shop.orders"]}}"#];
    let done = run(&mut tool(&backup, &target.uri(), &changed)).ends(0);
    done.prints(&[
        "shop.orders: 2 of 100 documents match",
        "note: the oplog is replayed in staging collections first, which are dropped at the end: for shop.made, shop.orders",
        "note: no document of shop.items matches the filter",
    ]);
    assert_eq!(ids(&client, "shop", "orders").await, [5, 100]);
    assert_eq!((staged(&client).await, marks(&client).await), (vec![], 0));
    // The artifact has the slice, too.
    client.database("shop").drop().await.expect("a drop");
    let artifact = backup.artifact();
    let dump = ["--from", artifact.to_str().expect("a path"), "--yes", "--filter", changed[3]];
    run(&mut tool(&backup, &target.uri(), &dump)).ends(0).prints(&["shop.orders: 2 of 100 documents match"]);
    assert_eq!(ids(&client, "shop", "orders").await, [5, 100]);
    assert_eq!((staged(&client).await, marks(&client).await), (vec![], 0));
    client.database("shop").drop().await.expect("a drop");
    live(&client).await;
    let dry = run(&mut tool(&backup, &target.uri(), &["latest", "--merge", "--dry-run"])).ends(0);
    dry.prints(&[
        "shop.orders: documents that the oplog writes are not counted, because that needs its replay",
    ]);
    let done = run(&mut tool(&backup, &target.uri(), &MERGE)).ends(3);
    done.prints(&[
        "shop.orders: 68 inserted, 31 there and equal, 1 there and different",
        "_id 5;",
        "shop.made: 3 inserted",
    ]);
    // 6 was there before, and is not deleted.
    assert_eq!(ids(&client, "shop", "orders").await, merged());
    assert_eq!(ids(&client, "shop", "made").await, [0, 1, 2]);
    assert_eq!((staged(&client).await, marks(&client).await), (vec![], 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_replay_documents_are_chosen_as_they_were_read() {
    let ((backup, _source), (target, _, client)) = (backup().await, behind_a_proxy().await);
    let filter = ["latest", "--yes", "--no-replay", "--filter", r#"{"text": "row 5 of shop.orders"}"#];
    let done = run(&mut tool(&backup, &target.uri(), &filter)).ends(0);
    assert!(!done.stderr.contains("staging"), "{}", done.stderr);
    assert_eq!(ids(&client, "shop", "orders").await, [5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_before_the_replay_is_complete_changes_no_live_document() {
    let ((backup, _source), (target, proxy, client)) = (backup().await, behind_a_proxy().await);
    let before = live(&client).await;
    let faults = [
        Rule::on("insert").having("documents").nth(1).then(Action::fail(1)),
        // The first one only tries whether the user may replay.
        Rule::on("applyOps").from(2).then(Action::fail(1)),
        Rule::on("create").nth(1).then(Action::fail(1)),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let rule = proxy.add(fault);
        let ran = run(&mut tool(&backup, &proxy.uri(&target.uri()), &MERGE)).ends(1);
        assert!(proxy.hits(rule) > 0, "{n}");
        proxy.clear();
        assert!(
            ran.stderr.contains("No live collection was changed")
                || ran.stderr.contains("Nothing was changed"),
            "{n}: {}",
            ran.stderr
        );
        assert_unchanged(&client, &before).await;
    }
    run(&mut tool(&backup, &target.uri(), &MERGE)).ends(3);
    assert_eq!(ids(&client, "shop", "orders").await, merged());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_write_marks_changes_nothing() {
    let (backup, _source) = backup().await;
    let target = Mongod::builder().auth().start().await.expect("mongod");
    let client = target.client().await.expect("a client");
    let privileges = [
        doc! {"resource": {"db": "shop", "collection": ""}, "actions": [
            "find", "listCollections", "listIndexes", "dropCollection", "createCollection", "insert", "update", "remove",
            "bypassDocumentValidation", "createIndex", "collMod", "convertToCapped",
        ]},
        doc! {"resource": {"cluster": true}, "actions": ["applyOps"]},
    ];
    let admin = client.database("admin");
    let role = doc! {"createRole": "shopkeeper", "privileges": privileges.to_vec(), "roles": []};
    admin.run_command(role).await.expect("a role");
    target.create_user("ben", "x", &[("shopkeeper", "admin")]).await.expect("a user");
    let before = live(&client).await;
    let ran = run(&mut tool(&backup, &target.uri_as("ben", "x", "admin"), &MERGE)).ends(1);
    assert!(ran.stderr.contains("uzima_backup") || ran.stderr.contains("may not"), "{}", ran.stderr);
    assert_eq!(before.diff(&snapshot(&client).await), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drops_the_staging_collections() {
    let ((backup, _source), (target, proxy, client)) = (backup().await, behind_a_proxy().await);
    let before = live(&client).await;
    let held = proxy.add(Rule::on("applyOps").nth(2).then(Action::Hold(Gate::default())));
    let mut tool = tool(&backup, &proxy.uri(&target.uri()), &MERGE);
    let child = tool.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the tool");
    while proxy.hits(held) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!staged(&client).await.is_empty());
    // SAFETY: the call takes no pointer, and the child has not been waited for.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let ended = child.wait_with_output().expect("its end");
    assert_eq!(ended.status.code(), Some(143), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("No live collection was changed"));
    assert_unchanged(&client, &before).await;
}

/// Kills a merge at its nth command. Returns false if it ended before.
async fn kill_at(backup: &Backup, target: &Mongod, nth: u64) -> bool {
    let proxy = WireProxy::start(&[target.host()]).expect("a proxy");
    let gate = Gate::default();
    let held = proxy.add(Rule::on("*").nth(nth).then(Action::Hold(gate.clone())));
    let mut tool = tool(backup, &proxy.uri(&target.uri()), &MERGE);
    let mut child = tool.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the tool");
    let killed = loop {
        if proxy.hits(held) > 0 {
            child.kill().expect("a signal");
            break true;
        }
        if child.try_wait().expect("its state").is_some() {
            break false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    child.wait().expect("its end");
    gate.open();
    killed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_command_leaves_live_documents_and_names_what_it_left() {
    let ((backup, _source), (target, _, client)) = (backup().await, behind_a_proxy().await);
    let own = |args: &[&str]| -> Ran { run(&mut tool(&backup, &target.uri(), args)) };
    let (mut nth, mut left) = (1, 0);
    while {
        client.database("shop").drop().await.expect("a drop");
        let before = live(&client).await;
        let killed = kill_at(&backup, &target, nth).await;
        let orders = snapshot(&client).await.get("shop", "orders").expect("the orders").documents.clone();
        let was = &before.get("shop", "orders").expect("the orders").documents;
        assert!(was.iter().all(|document| orders.contains(document)), "{nth}: a live document is gone");
        let kept = own(&["--kept", "--json"]).ends(0).json();
        crate::docs::schema::check("restore-kept", &kept);
        for one in kept["restores"].as_array().expect("restores") {
            let id = one["id"].as_str().expect("an id");
            assert_eq!(
                (one["state"].as_str(), one["staging"].as_bool()),
                (Some("loading"), Some(true)),
                "{nth}"
            );
            own(&["--kept"]).ends(0).prints(&[id, "staging collections of --filter or --merge"]);
            let undo = own(&["--undo", id, "--yes"]).ends(1);
            undo.says(&[id, "was no --swap", "--discard", "Nothing was changed"]);
            own(&["--discard", id, "--yes"]).ends(0);
            left += 1;
        }
        assert_eq!((staged(&client).await.len(), marks(&client).await), (0, 0), "{nth}");
        if killed {
            own(&MERGE).ends(3);
            assert_eq!(ids(&client, "shop", "orders").await, merged(), "{nth}");
        }
        killed
    } {
        nth += 1;
    }
    assert!(nth > 20 && left > 5, "{nth} commands, {left} restores left something");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_of_large_documents_and_of_many_fits_into_256_mib() {
    let (server, proxy, client) = set().await;
    let film = |n: i32| {
        let bytes = vec![7u8; (16 << 20) - 100];
        rawdoc! {"_id": n, "data": bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes }}
    };
    for n in 0..6 {
        raw::insert(&client.database("shop"), "films", &[film(n).as_bytes()]).await.expect("a film");
    }
    for part in 0..10 {
        rows(&client, "shop", "orders", part * 20_000..(part + 1) * 20_000).await;
    }
    let write = async |client: Client| {
        let films = client.database("shop").collection::<Document>("films");
        films.update_many(doc! {}, doc! {"$set": {"seen": 1}}).await.expect("updates");
        let orders = client.database("shop").collection::<Document>("orders");
        orders
            .update_many(doc! {"_id": {"$lt": 30_000}}, doc! {"$set": {"paid": true}})
            .await
            .expect("updates");
    };
    let during = Rule::on("find").namespace("shop.orders").having("$_requestResumeToken").times(1);
    proxy.add(during.then(meanwhile(server.uri(), write)));
    let backup = Backup::at(&proxy.uri(&server.uri()), &["--db", "shop"]);
    assert!(slice(&backup.manifest).entries >= 30_000);
    let (target, _, live) = behind_a_proxy().await;
    for n in 2..5 {
        let mut seen = film(n);
        seen.append(bson::raw::cstr!("seen"), 1);
        raw::insert(&live.database("shop"), "films", &[seen.as_bytes()]).await.expect("a film");
    }
    rows(&live, "shop", "orders", 100_000..150_000).await;
    // The films that are there are equal: `peak` wants exit 0.
    let merge = ["latest", "--yes", "--merge", "--filter", r#"{"_id": {"$gte": 3}}"#];
    let used = peak(&mut tool(&backup, &target.uri(), &merge));
    assert!(used < 256 << 10, "{used} KiB");
    assert_eq!(ids(&live, "shop", "films").await, [2, 3, 4, 5]);
    assert_eq!(ids(&live, "shop", "orders").await.len(), 199_997);
    println!("{used} KiB");
}
