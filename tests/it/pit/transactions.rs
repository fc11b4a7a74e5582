//! Transactions whose entries lie in several slices.

use bson::{Document, RawDocument, RawDocumentBuf, doc};
use mongodb::Client;
use uzima_backup::catalog::layout;
use uzima_backup::model::slice::{EntryMark, SliceManifest};
use uzima_testkit::mongod::Mongod;

use super::stored::*;
use super::support::*;
use crate::cli::support::run;
use crate::restore::support::differences;

async fn count(client: &Client) -> u64 {
    client.database("live").collection::<Document>("rows").count_documents(doc! {}).await.expect("a count")
}

/// The entries of one transaction lie in several slices, and a restore to a time between them has none of its writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_across_slices_is_restored_whole_or_not_at_all() {
    let server = Mongod::builder().replica_set("rs").cache_gb(1.0).start().await.expect("mongod");
    let stored = Stored::of(server, 1).await;
    let rows = stored.client.database("live").collection::<Document>("rows");
    let mut session = stored.client.start_session().await.expect("a session");
    session.start_transaction().await.expect("a transaction");
    for n in 10..50 {
        let row = doc! {"_id": n, "pad": "x".repeat(1 << 20)};
        rows.insert_one(row).session(&mut session).await.expect("a row");
    }
    session.commit_transaction().await.expect("a commit");
    oplog(&stored.home, &stored.server.uri());
    let all = stored.slices();
    let (path, slice) = all.last().expect("a slice");
    let whole = entries(&stored.home, slice);
    let parts = whole.iter().filter(|entry| entry.get_document("lsid").is_ok() && is(entry, "op", "c"));
    let parts: Vec<&RawDocumentBuf> = parts.collect();
    assert!(parts.len() >= 3, "{} parts", parts.len());
    // Cuts the slice after the second part.
    let time = |entry: &RawDocument| entry.get_timestamp("ts").expect("a time");
    let cut = whole.iter().position(|entry| time(entry) == time(parts[1])).expect("a part") + 1;
    let end = &whole[cut - 1];
    let mark = EntryMark {
        at: time(end).into(),
        term: 1,
        blake3: Some(blake3::hash(end.as_bytes()).to_hex().to_string()),
    };
    let mut later = slice.clone();
    (later.start, later.after) = (mark.at, Some(mark.clone()));
    let key = layout::slice("nightly", &later.chain, later.start);
    let body = later.body.as_mut().expect("a body");
    body.key = key.replace("slice.json", "slice-second.bson.zst");
    later.events = None;
    let later_path = stored.home.backups().join(key);
    std::fs::create_dir_all(later_path.parent().expect("a folder")).expect("a folder");
    replace(&stored.home, &later_path, &later, &whole[cut..]);
    let earlier = SliceManifest { end: mark, ..slice.clone() };
    replace(&stored.home, path, &earlier, &whole[..cut]);
    let (target, live) = set(None).await;
    let between = text(time(parts[1]));
    let report = run(&mut restore(&stored.home, &target, &["--at", &between, "--json"])).ends(0).json();
    assert_eq!(report["replayed"]["open_transactions"], 1, "{report}");
    assert_eq!(count(&live).await, 2);
    clear(&live).await;
    run(&mut restore(&stored.home, &target, &["--at", "newest"])).ends(0);
    assert_eq!(differences(&stored.client, &live).await, Vec::<String>::new());
}

/// A prepared transaction is committed by an entry in a later slice.
#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_is_restored_from_its_commit_on() {
    let server = Mongod::builder().replica_set("rs").test_commands().start().await.expect("mongod");
    let stored = Stored::of(server, 1).await;
    let (rows, admin) =
        (stored.client.database("live").collection::<Document>("rows"), stored.client.database("admin"));
    let mut session = stored.client.start_session().await.expect("a session");
    session.start_transaction().await.expect("a transaction");
    for n in 10..15 {
        rows.insert_one(doc! {"_id": n}).session(&mut session).await.expect("a row");
    }
    rows.delete_one(doc! {"_id": 0}).session(&mut session).await.expect("a delete");
    let prepare = doc! {"prepareTransaction": 1};
    let prepared = admin.run_command(prepare).session(&mut session).await.expect("a prepared transaction");
    let at = prepared.get_timestamp("prepareTimestamp").expect("a time");
    let between = mark(&stored.client).await;
    oplog(&stored.home, &stored.server.uri());
    let commit = doc! {"commitTransaction": 1, "commitTimestamp": at};
    admin.run_command(commit).session(&mut session).await.expect("a commit");
    mark(&stored.client).await;
    oplog(&stored.home, &stored.server.uri());
    let (target, live) = set(None).await;
    run(&mut restore(&stored.home, &target, &["--at", &text(between)])).ends(0);
    assert_eq!(count(&live).await, 2);
    clear(&live).await;
    run(&mut restore(&stored.home, &target, &["--at", "newest"])).ends(0);
    assert_eq!(count(&live).await, 6);
    assert_eq!(differences(&stored.client, &live).await, Vec::<String>::new());
}
