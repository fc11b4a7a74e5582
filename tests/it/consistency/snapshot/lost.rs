//! The snapshot or a cursor is lost. A lost cursor is resumed within the same instant. If the server's
//! history is too short, or a collection disappears before it is read, a second run keeps an oplog slice
//! instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;
use uzima_backup::base::exit::Exit;
use uzima_backup::ops::backup::BackupReport;
use uzima_testkit::raw;
use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{
    LONG, SHORT, assert_snapshot, change, documents_now, fill, set_behind_a_proxy, snapshot, times_asked,
};
use crate::native::support::{Shelf, ids, insert, meanwhile, meanwhile_fail, rows};

/// Asserts that the second run was made, and that its manifest gives the reason why it is no snapshot.
fn assert_by_the_oplog(report: &BackupReport, why: &[&str]) {
    let consistency = &report.manifest.consistency;
    assert_eq!((consistency.achieved.as_str(), report.exit()), ("oplog", Exit::Done), "{consistency:?}");
    let notes = report.manifest.notes.join("\n");
    assert!(notes.contains("started once more with an oplog slice, because "), "{notes}");
    for words in why {
        assert!(notes.contains(words), "{words}: {notes}");
        assert!(consistency.why.contains(words), "{words}: {}", consistency.why);
    }
    assert!(consistency.why.starts_with("consistency = snapshot, but d."), "{}", consistency.why);
}

#[tokio::test]
async fn a_history_that_is_too_short_costs_a_second_run() {
    let (server, proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let before = documents_now(&client).await;
    for (command, namespace, nth) in [("find", "d.a", 2), ("getMore", "d.a", 1), ("find", "d.z", 1)] {
        let rule = proxy.add(Rule::on(command).namespace(namespace).nth(nth).then(Action::fail(239)));
        let shelf = Shelf::new();
        let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
        assert_eq!(proxy.hits(rule), 1);
        assert_by_the_oplog(&report, &[namespace, "SnapshotTooOld", "(code 239"]);
        assert!(report.manifest.notes.iter().any(|note| note.contains("minSnapshotHistoryWindowInSeconds")));
        let mut documents = shelf.decode(&report).documents;
        documents.retain(|namespace, _| before.contains_key(namespace));
        assert_eq!(documents, before);
        shelf.assert_only(&report).await;
        proxy.clear();
    }
}

#[tokio::test]
async fn a_second_run_that_loses_the_snapshot_is_followed_by_a_run_with_a_slice() {
    let (server, proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let generation = Arc::new(AtomicU8::new(0));
    let (counting, telling) = (generation.clone(), generation.clone());
    let restart = meanwhile_fail(server.uri(), 11602, move |_| {
        counting.fetch_add(1, Ordering::SeqCst);
        async {}
    });
    let hello = Action::edit(move |answer| {
        let id = [telling.load(Ordering::SeqCst); 12];
        raw::rewrite(answer, &["topologyVersion", "processId"], &|_, _| Some((7, id.into())))
    });
    proxy.add(Rule::on("hello").then(hello));
    let rules =
        [restart, Action::fail(239)].map(|action| Rule::on("getMore").namespace("d.a").nth(1).then(action));
    let rules = rules.map(|rule| proxy.add(rule));
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
    assert_eq!(rules.map(|rule| proxy.hits(rule)), [1, 1]);
    assert_by_the_oplog(&report, &["d.a can no longer be read as of 2", "SnapshotTooOld"]);
    shelf.assert_only(&report).await;
}

/// The server itself reports that its history is too short.
#[tokio::test]
async fn a_snapshot_that_the_server_discards_costs_a_second_run() {
    let (server, proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let forget = meanwhile(server.uri(), async |client: Client| {
        let admin = client.database("admin");
        let at = admin.run_command(doc! { "hello": 1 }).await.expect("hello");
        let at = at.get_document("lastWrite").and_then(|w| w.get_document("majorityOpTime"));
        let at = at.and_then(|time| time.get_timestamp("ts")).expect("a time");
        let shorten = doc! { "setParameter": 1, "minSnapshotHistoryWindowInSeconds": 0 };
        admin.run_command(shorten).await.expect("a parameter");
        let read = doc! {
            "find": "z", "limit": 1, "readConcern": { "level": "snapshot", "atClusterTime": at },
        };
        let noise = client.database("other").collection::<Document>("noise");
        let began = Instant::now();
        // The server removes old history now and then, as long as there are writes.
        while client.database("d").run_command(read.clone()).await.is_ok() {
            assert!(began.elapsed() < Duration::from_secs(60), "it does not forget");
            noise.insert_one(doc! {}).await.expect("an insert");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let rule = proxy.add(Rule::on("find").namespace("d.a").nth(2).then(forget));
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
    assert_eq!(proxy.hits(rule), 1);
    assert_by_the_oplog(&report, &["SnapshotTooOld", "older than the oldest available timestamp"]);
    assert_eq!(ids(shelf.decode(&report).get("d.a")), (0..LONG).collect::<Vec<_>>());
}

async fn drop_of(client: &Client, name: &str) {
    client.database("d").collection::<Document>(name).drop().await.expect("a drop");
}

async fn rename(client: &Client, from: &str, to: &str) {
    let command = doc! { "renameCollection": format!("d.{from}"), "to": format!("d.{to}") };
    client.database("admin").run_command(command).await.expect("a rename");
}

#[tokio::test]
async fn a_collection_that_disappears_before_it_is_read_costs_a_second_run() {
    // Before the find on `z`, and between the batches of `a`.
    for name in ["z", "a"] {
        let (server, proxy, client) = set_behind_a_proxy().await;
        let gone = meanwhile(server.uri(), async move |client: Client| drop_of(&client, name).await);
        let moved = meanwhile(server.uri(), async move |client: Client| rename(&client, name, "moved").await);
        let anew = meanwhile(server.uri(), async move |client: Client| {
            drop_of(&client, name).await;
            insert(&client, "d", name, &rows(5_000, 10, 10)).await;
        });
        let why = "it was dropped or renamed since";
        for (what, action) in [("gone", gone), ("moved", moved), ("anew", anew)] {
            client.database("d").drop().await.expect("a drop");
            fill(&client).await;
            let rule = proxy.add(Rule::on("find").namespace("d.a").nth(1).then(action));
            let shelf = Shelf::new();
            let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await;
            let report = report.unwrap_or_else(|e| panic!("{name} {what}: {}", e.chain()));
            assert_eq!(proxy.hits(rule), 1, "{name} {what}");
            let why = if what == "anew" { "SnapshotUnavailable" } else { why };
            assert_by_the_oplog(&report, &[&format!("d.{name} can no longer be read as of 2"), why]);
            let mut documents = shelf.decode(&report).documents;
            documents.retain(|namespace, _| namespace.starts_with("d."));
            assert_eq!(documents, documents_now(&client).await, "{name} {what}");
            assert_eq!(report.manifest.warnings, Vec::<String>::new());
            proxy.clear();
        }
    }
}

#[tokio::test]
async fn a_collection_may_change_once_it_is_read() {
    let (server, proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let before = documents_now(&client).await;
    // `a` was read to its end before the find on `z`.
    let change = meanwhile(server.uri(), async |client: Client| {
        drop_of(&client, "a").await;
        rename(&client, "b0", "moved").await;
        drop_of(&client, "b1").await;
        insert(&client, "d", "b1", &rows(7, 1, 1)).await;
        let index = doc! { "createIndexes": "b2", "indexes": [{ "key": { "x": 1 }, "name": "x_1" }] };
        client.database("d").run_command(index).await.expect("an index");
    });
    let rule = proxy.add(Rule::on("find").namespace("d.z").nth(1).then(change));
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
    assert_eq!((proxy.hits(rule), report.exit()), (1, Exit::Done), "{:?}", report.manifest.warnings);
    assert_snapshot(&report.manifest);
    assert_eq!(shelf.decode(&report).documents, before);
    assert_eq!(report.manifest.notes, Vec::<String>::new());
}

#[tokio::test]
async fn an_index_and_an_option_may_change_before_the_collection_is_read() {
    let (server, proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let before = documents_now(&client).await;
    let change = meanwhile(server.uri(), async |client: Client| {
        let d = client.database("d");
        let index = doc! { "createIndexes": "z", "indexes": [{ "key": { "x": 1 }, "name": "x_1" }] };
        d.run_command(index).await.expect("an index");
        d.run_command(doc! { "collMod": "z", "validator": { "x": 1 } }).await.expect("a validator");
        d.collection::<Document>("z").delete_many(doc! {}).await.expect("a delete");
    });
    let rule = proxy.add(Rule::on("find").namespace("d.a").nth(1).then(change));
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
    assert_eq!((proxy.hits(rule), report.exit()), (1, Exit::Done));
    assert_snapshot(&report.manifest);
    let decoded = shelf.decode(&report);
    assert_eq!(decoded.documents, before);
    assert_eq!(decoded.get("d.z").len(), SHORT as usize);
    // Options and indexes are of the instant, too.
    let metadata = &decoded.metadata["d.z"];
    assert!(!metadata.contains("x_1") && !metadata.contains("validator"), "{metadata}");
}

#[tokio::test]
async fn a_lost_cursor_is_resumed_within_the_instant() {
    for nth in 1..=2 {
        for action in [Action::fail(43), Action::CutAnswer(100), Action::Close, Action::fail(175)] {
            let (server, proxy, client) = set_behind_a_proxy().await;
            fill(&client).await;
            let before = documents_now(&client).await;
            let rules = [
                Rule::on("find").namespace("d.a").nth(1).then(meanwhile(server.uri(), change)),
                Rule::on("getMore").namespace("d.a").nth(nth).then(action.clone()),
            ];
            let rules = rules.map(|rule| proxy.add(rule));
            let shelf = Shelf::new();
            let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
            assert_eq!(rules.map(|rule| proxy.hits(rule)), [1, 1]);
            assert_snapshot(&report.manifest);
            assert_eq!(shelf.decode(&report).documents, before, "{action:?}");
            let notes = &report.manifest.notes;
            assert!(
                notes.len() == 1 && notes[0].starts_with("continued reading d.a after batch "),
                "{notes:?}"
            );
            let at = report.manifest.consistency.at.map(Into::into);
            assert!(times_asked(&proxy).iter().all(|time| *time == at));
        }
    }
}

#[tokio::test]
async fn behind_a_deleted_record_the_scan_resumes_by_the_same_token() {
    let clustered = bson::doc! { "create": "a", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } };
    for create in [bson::doc! { "create": "a" }, clustered] {
        let (server, proxy, client) = set_behind_a_proxy().await;
        client.database("d").run_command(create).await.expect("a collection");
        insert(&client, "d", "a", &rows(0, 1_800, 2_000)).await;
        let before = documents_now(&client).await;
        let delete = async |client: mongodb::Client| {
            let all = client.database("d").collection::<bson::Document>("a");
            all.delete_many(bson::doc! { "_id": { "$lte": 1_500 } }).await.expect("a delete");
        };
        let rule = Rule::on("getMore").namespace("d.a").nth(1).then(meanwhile_fail(server.uri(), 43, delete));
        let rule = proxy.add(rule);
        let shelf = Shelf::new();
        let report = shelf.run(&proxy.uri(&server.uri()), snapshot()).await.expect("a backup");
        assert_eq!(proxy.hits(rule), 1);
        assert_snapshot(&report.manifest);
        assert_eq!(shelf.decode(&report).documents, before);
        let shown = |body: &bson::RawDocumentBuf| body.get("showRecordId").is_ok_and(|v| v.is_some());
        let scans = proxy.commands("find").iter().filter(|c| c.body.as_ref().is_some_and(shown)).count();
        assert_eq!(scans, 0, "nothing is read twice");
    }
}
