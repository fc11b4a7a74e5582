//! Faults that must be found before the target is touched, and states that must not be reported as the
//! backup's instant.

use bson::{RawDocumentBuf, Timestamp, doc, rawdoc};
use mongodb::Client;
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{Dump, entry, insert, now, since, source};
use crate::native::support::behind_a_proxy;
use crate::restore::support::{rows, server as empty};

/// A dump with two collections, and the end of the oplog at the time of the dump.
async fn small() -> (Dump, Timestamp, Client, uzima_testkit::mongod::Mongod) {
    let (server, client) = source().await;
    insert(&client, "shop", "orders", 0..10).await;
    insert(&client, "shop", "items", 0..10).await;
    let at = now(&client).await;
    (Dump::of(&server), at, client, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oplog_that_cannot_be_replayed_leaves_the_target_unchanged() {
    let (dump, _, _, _server) = small().await;
    let (target, live) = empty().await;
    rows(&live, "shop", "orders", 500..600).await;
    let before = read_all(&live).await.expect("the live data");
    let write = || entry(5, "i", "shop.orders", rawdoc! {"_id": 77});
    let command = |o| entry(6, "c", "shop.$cmd", o);
    let mut tail = entry(7, "c", "admin.$cmd", rawdoc! {"applyOps": [], "count": 9_i64});
    tail.append(bson::raw::cstr!("lsid"), rawdoc! {"id": 1});
    tail.append(bson::raw::cstr!("txnNumber"), 3_i64);
    let earlier = Timestamp { time: 2, increment: 1 };
    tail.append(bson::raw::cstr!("prevOpTime"), rawdoc! {"ts": earlier, "t": 1_i64});
    let rename = rawdoc! {"renameCollection": "shop.orders", "to": "shop.old"};
    let cases: Vec<(RawDocumentBuf, &[&str], &str, i32)> = vec![
        (command(rawdoc! {"importCollection": "shop.x"}), &[], "'importCollection'", 1),
        (entry(6, "xi", "shop.orders", rawdoc! {}), &[], "'xi'", 1),
        (tail, &[], "it began at 1970-01-01T00:00:02Z", 1),
        (command(rename), &["--ns-include=shop.orders"], "only one of them", 1),
        (rawdoc! {"something": "else"}, &[], "not an oplog entry", 4),
        (command(rawdoc! {"createIndexes": "orders", "name": "x"}), &[], "not an oplog entry", 4),
        (
            entry(6, "i", "shop.new", rawdoc! {"_id": 1}),
            &["--ns-from=shop.orders", "--ns-to=shop.new"],
            "both",
            2,
        ),
    ];
    for (entry, args, says, exit) in cases {
        dump.oplog(&[write(), entry]);
        for args in [[args, &["--drop"]].concat(), [args, &["--drop", "--dry-run"]].concat()] {
            dump.restore(&target.uri(), &args).ends(exit).says(&[says]);
        }
        dump.restore(&target.uri(), &[args, &["--drop", "--no-replay", "--dry-run"]].concat()).ends(0);
    }
    // The oplog is cut within an entry.
    let whole = write().into_bytes();
    std::fs::write(dump.folder.join("oplog.bson"), &whole[..whole.len() - 3]).expect("a part");
    dump.restore(&target.uri(), &["--drop"]).ends(4).says(&["oplog.bson", "damaged"]);
    let after = read_all(&live).await.expect("the live data");
    assert_eq!(before.diff(&after), Vec::<String>::new());
}

/// A collection that only the oplog writes to is in no plan, but the target's collection of that name may
/// hold somebody's data.
#[tokio::test(flavor = "multi_thread")]
async fn an_existing_namespace_of_the_oplog_is_refused_and_replaced_with_drop() {
    let (dump, at, client, _server) = small().await;
    insert(&client, "shop", "new", 0..5).await;
    insert(&client, "fresh", "rows", 0..5).await;
    dump.oplog(&since(&client, at).await);
    let (target, live) = empty().await;
    rows(&live, "shop", "new", 500..600).await;
    rows(&live, "fresh", "other", 0..3).await;
    dump.restore(&target.uri(), &[]).ends(1).says(&["the oplog writes to shop.new, which exists", "--drop"]);
    let report = dump.restore(&target.uri(), &["--drop"]).ends(0).json();
    assert_eq!(report["replayed"]["came"], serde_json::json!(["fresh.rows", "shop.new"]));
    assert_eq!(report["dropped"], serde_json::json!(["shop.new"]));
    let found = read_all(&live).await.expect("the target");
    let count = |db: &str, name: &str| found.get(db, name).map(|namespace| namespace.documents.len());
    assert_eq!(
        [count("shop", "new"), count("fresh", "rows"), count("fresh", "other")],
        [Some(5), Some(5), Some(3)]
    );
}

/// A namespace that the server refuses to drop stays unchanged, and no oplog entry is applied to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_cannot_be_dropped_stays_and_the_rest_is_restored() {
    let (dump, at, client, _server) = small().await;
    insert(&client, "shop", "new", 0..5).await;
    insert(&client, "shop", "newer", 0..5).await;
    dump.oplog(&since(&client, at).await);
    let (target, proxy, live) = behind_a_proxy().await;
    for refused in ["newer", "orders"] {
        for name in ["new", "newer", "orders"] {
            rows(&live, "shop", name, 500..510).await;
        }
        let rule = proxy.add(Rule::on("drop").namespace(&format!("shop.{refused}")).then(Action::fail(20)));
        let says = [&*format!("cannot drop shop.{refused}"), "--drop"];
        dump.restore(&proxy.uri(&target.uri()), &["--drop"]).ends(1).says(&says);
        assert_eq!(proxy.hits(rule), 1);
        let (before, after) = (
            read_all(&client).await.expect("a snapshot of the server"),
            read_all(&live).await.expect("a snapshot of the server"),
        );
        for name in ["new", "newer", "orders", "items"] {
            let (wanted, found) = (before.get("shop", name).unwrap(), after.get("shop", name).unwrap());
            match name == refused {
                true => assert_eq!(found.documents.len(), 10, "{name} is as it was"),
                // Writes to different documents are replayed in any order.
                false => assert_eq!(sorted(&wanted.documents), sorted(&found.documents), "{name}"),
            }
        }
        proxy.clear();
        live.database("shop").drop().await.expect("a drop");
    }
}

/// A collection that is in neither the dump nor a `create` of the oplog.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_missing_from_dump_and_oplog_is_reported() {
    let (dump, _, _, _server) = small().await;
    let write = |second, id: i32| entry(second, "i", "shop.lost", rawdoc! {"_id": id});
    let drop = entry(8, "c", "shop.$cmd", rawdoc! {"drop": "lost"});
    let other = entry(9, "i", "shop.orders", rawdoc! {"_id": 77});
    // The collection was dropped before the dump read it, so nothing is missing.
    dump.oplog(&[write(5, 1), write(6, 2), drop, other.clone()]);
    let (target, live) = empty().await;
    dump.restore(&target.uri(), &[]).ends(0);
    dump.oplog(&[write(5, 1), write(6, 2), other]);
    dump.restore(&target.uri(), &["--drop"]).ends(1);
    let report = dump.restore(&target.uri(), &["--drop"]).ends(1).json();
    assert!(report["replayed"]["problems"][0].as_str().expect("one").contains("shop.lost"), "{report}");
    let found = live.database("shop").collection::<bson::Document>("orders").count_documents(doc! {}).await;
    assert_eq!(found.expect("a count"), 11, "the rest was replayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_can_be_restored_only_at_its_own_time() {
    let (dump, at, client, _server) = small().await;
    insert(&client, "shop", "orders", 20..30).await;
    let entries = since(&client, at).await;
    let end = entries.last().expect("one").get_timestamp("ts").expect("a time");
    dump.oplog(&entries);
    let (target, _) = empty().await;
    let exact = format!("{}:{}", end.time, end.increment);
    for wrong in [
        format!("{}:{}", end.time, end.increment - 1),
        format!("{}:1", end.time + 1),
        format!("{}:{}", at.time, 0),
    ] {
        dump.restore(&target.uri(), &["--at", &wrong]).ends(2).says(&["at no other time"]);
    }
    dump.restore(&target.uri(), &["--at", "yesterday"]).ends(2).says(&["'yesterday' is neither a time"]);
    dump.restore(&target.uri(), &["--at", &exact, "--no-replay"]).ends(2);
    let report = dump.restore(&target.uri(), &["--at", &exact]).ends(0).json();
    assert_eq!((&report["at"]["t"], &report["at"]["i"]), (&end.time.into(), &end.increment.into()));
    std::fs::remove_file(dump.folder.join("oplog.bson")).expect("it was there");
    dump.restore(&target.uri(), &["--drop", "--at", &exact]).ends(2).says(&["read at different times"]);
}

fn sorted(documents: &[Vec<u8>]) -> Vec<&[u8]> {
    let mut documents: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
    documents.sort();
    documents
}
