//! Documents that the server changes by itself, and documents that it accepts only under a condition.

use bson::{Timestamp, doc, rawdoc};
use serde_json::json;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::read_all::{read_all, read_documents};
use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{Backup, differences, rows, server};
use crate::cli::support::{Home, run};
use crate::native::support::{behind_a_proxy, meanwhile};

/// The documents are counted before the TTL index exists that deletes them.
#[tokio::test(flavor = "multi_thread")]
async fn documents_are_counted_before_the_ttl_index_deletes_them() {
    let (source, original) = server().await;
    let off = doc! {"setParameter": 1, "ttlMonitorEnabled": false};
    original.database("admin").run_command(off).await.expect("no TTL at the source");
    let old = bson::DateTime::from_millis(0);
    let sessions = original.database("shop").collection("sessions");
    sessions.insert_many((0..500).map(|n| doc! {"_id": n, "at": old})).await.expect("rows");
    let index = doc! {"key": {"at": 1}, "name": "at_1", "expireAfterSeconds": 1};
    let create = doc! {"createIndexes": "sessions", "indexes": [index]};
    original.database("shop").run_command(create).await.expect("an index");
    let backup = Backup::of(&source, &["--db", "shop"]);
    let target = Mongod::builder().arg("--setParameter=ttlMonitorSleepSecs=1").start().await.expect("mongod");
    let live = target.client().await.expect("a client");
    let report = run(backup.restore_into(&target).arg("--json")).ends(0).json();
    assert_eq!(report["namespaces"][0]["documents"], json!(500));
    for _ in 0..200 {
        if live
            .database("shop")
            .collection::<bson::Document>("sessions")
            .count_documents(doc! {})
            .await
            .expect("a count")
            == 0
        {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the TTL index does nothing at the target, so this test shows nothing");
}

/// The server replaces an empty timestamp of an inserted document by the current time.
#[tokio::test(flavor = "multi_thread")]
async fn empty_timestamps_stay_empty() {
    let (source, original) = server().await;
    rows(&original, "shop", "times", 0..3).await;
    let empty = Timestamp { time: 0, increment: 0 };
    let update = doc! {"q": {"_id": 1}, "u": [{"$replaceWith": {"$literal": {"_id": 1, "t": empty, "in": {"t": empty}}}}]};
    let update = doc! {"update": "times", "updates": [update]};
    original.database("shop").run_command(update).await.expect("an update");
    let stored = read_documents(&original.database("shop"), "times").await.expect("documents");
    let wanted = rawdoc! {"_id": 1, "t": empty, "in": {"t": empty}}.into_bytes();
    assert!(stored.contains(&wanted), "the source has one");
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, restored) = server().await;
    run(&mut backup.restore_into(&target)).ends(0);
    assert_eq!(differences(&original, &restored).await, Vec::<String>::new());
}

/// A bucket whose field was a number and later a string, as servers before 5.2 wrote it.
#[tokio::test(flavor = "multi_thread")]
async fn time_series_buckets_with_mixed_types_are_restored() {
    let (_source, original) = server().await;
    let shop = original.database("shop");
    let create = doc! {"create": "w", "timeseries": {"timeField": "t"}};
    shop.run_command(create).await.expect("a time series");
    let at = bson::DateTime::from_millis(1_700_000_000_000);
    let rows: Vec<_> = (0..3).map(|n| rawdoc! {"t": at, "v": n}.into_bytes()).collect();
    raw::insert(&shop, "w", &rows).await.expect("rows");
    let bucket = read_documents(&shop, "system.buckets.w").await.expect("a bucket").remove(0);
    let mut bucket =
        bson::Document::try_from(bson::RawDocument::from_bytes(&bucket).unwrap()).expect("a bucket");
    let control = bucket.get_document_mut("control").expect("control");
    control.get_document_mut("max").expect("max").insert("v", "text");
    bucket.get_document_mut("data").and_then(|d| d.get_document_mut("v")).expect("data").insert("2", "text");
    let home = Home::new();
    let folder = home.path().join("dump/shop");
    std::fs::create_dir_all(&folder).expect("a folder");
    let raw = bson::serialize_to_vec(&bucket).expect("BSON");
    std::fs::write(folder.join("system.buckets.w.bson"), &raw).expect("documents");
    let metadata = r#"{"options":{"timeseries":{"timeField":"t","granularity":"seconds"}},"indexes":[],"collectionName":"w"}"#;
    std::fs::write(folder.join("w.metadata.json"), metadata).expect("metadata");
    let (target, proxy, live) = behind_a_proxy().await;
    // This server accepts such buckets. Newer ones refuse them until the collection allows them.
    let delete = meanwhile(target.uri(), async |client| {
        let buckets = client.database("shop").collection::<bson::Document>("system.buckets.w");
        buckets.delete_many(doc! {}).await.expect("a delete");
    });
    let Action::Edit(delete) = delete else { unreachable!("it is an edit") };
    let refuse = Action::edit(move |answer| {
        delete(answer);
        let error = rawdoc! {"index": 0, "code": 408, "errmsg": "a bucket with mixed-schema data"};
        rawdoc! {"n": 0, "writeErrors": [error], "ok": 1.0}.into_bytes()
    });
    let refused = proxy.add(Rule::on("insert").namespace("shop.system.buckets.w").nth(1).then(refuse));
    let agree = Action::edit(|_| rawdoc! {"ok": 1.0}.into_bytes());
    let allowed =
        proxy.add(Rule::on("collMod").having("timeseriesBucketsMayHaveMixedSchemaData").then(agree));
    let mut command = home.tool();
    command.env("RESTORE_URI", proxy.uri(&target.uri())).args(["restore", "--yes", "--from"]);
    run(command.arg(home.path().join("dump"))).ends(0);
    assert_eq!((proxy.hits(refused), proxy.hits(allowed)), (1, 1));
    let found = read_all(&live).await.expect("the target");
    assert_eq!(found.get("shop", "system.buckets.w").expect("buckets").documents, [raw]);
}
