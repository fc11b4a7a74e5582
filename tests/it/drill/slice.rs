//! Drills of backups with an oplog slice: the documents are compared as they were read, and then the slice is
//! replayed.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Rule, WireProxy};

use super::lent::{databases, drill as on};
use super::support::{assert_gone, drill, scratch};
use crate::cli::support::run;
use crate::consistency::instant;
use crate::native::support::meanwhile;
use crate::replay::stored::written_to;
use crate::restore::support::{Backup, rows, server};

/// Drills in a mongod of its own and on a server with data. Returns both results as JSON.
async fn on_both(backup: &Backup, uri: &str) -> [serde_json::Value; 2] {
    let within = scratch();
    let own = run(drill(backup, within.path()).arg("--json")).ends(0).json();
    assert_gone(within.path());
    let lent = run(on(backup, uri).arg("--json")).ends(0).json();
    [own, lent].map(|report| report["backups"][0].clone())
}

/// Until the end of the replay, two documents have the same value of a unique index.
#[tokio::test(flavor = "multi_thread")]
async fn a_unique_value_that_moved_is_no_difference() {
    let (backup, source) = written_to(&[]).await;
    let entries = backup.manifest.consistency.oplog.as_ref().expect("a slice").entries;
    for row in on_both(&backup, &source.uri()).await {
        assert_eq!(row["sound"], true, "{row}");
        assert_eq!(row["documents"], backup.manifest.totals.documents, "without the slice's: {row}");
        assert_eq!(row["drill"]["oplog_entries"], entries, "{row}");
        assert!(entries >= 3 && row["drill"]["index_seconds"].as_f64() > Some(0.0), "{row}");
    }
    let printed = run(&mut on(&backup, &source.uri())).ends(0).stdout;
    assert!(printed.contains("internal collections, 1 of the 1,511 documents\n"), "{printed}");
    assert!(printed.contains(&format!("; {entries} oplog entries replayed; compared in ")), "{printed}");
}

/// Every kind of oplog entry is replayed. Live databases with the names of the backup's are not touched,
/// neither by creates nor by drops of the slice.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_replayed_and_nothing_else_is_touched() {
    let write = async |client: Client| {
        instant::write(client.clone()).await;
        rows(&client, "late", "rows", 0..5).await;
        rows(&client, "brief", "rows", 0..5).await;
        client.database("brief").drop().await.expect("a drop");
    };
    let (_source, _, backup) = instant::dumped(&[], write).await;
    let (target, live) = server().await;
    for (db, collection) in [("late", "rows"), ("brief", "rows"), ("shop", "gone"), ("shop", "orders")] {
        rows(&live, db, collection, 500..510).await;
    }
    let before = read_all(&live).await.expect("the live data");
    for row in on_both(&backup, &target.uri()).await {
        assert_eq!(
            (&row["sound"], &row["drill"]["findings"]),
            (&true.into(), &serde_json::json!([])),
            "{row}"
        );
    }
    assert_eq!(before.diff(&read_all(&live).await.expect("a snapshot of the server")), Vec::<String>::new());
    assert_eq!(databases(&live).await, Vec::<String>::new());
}

/// A document that differs from the one that was read, and an index that is missing in the end, are found in
/// namespaces that the slice writes to. The time of the comparison does not count as recovery time.
#[tokio::test(flavor = "multi_thread")]
async fn differences_before_and_after_the_replay_are_found() {
    const PAUSE: Duration = Duration::from_secs(3);
    let (backup, _source) = written_to(&["--db", "shop"]).await;
    let target = Mongod::builder().start().await.expect("mongod");
    let proxy = WireProxy::start(&[target.host()]).expect("a proxy");
    let described = proxy.add(Rule::on("listIndexes").nth(1).then(meanwhile(target.uri(), async |client| {
        let db = client.database(&databases(&client).await[0]);
        let orders = db.collection::<Document>("orders");
        orders.update_one(doc! {"_id": 5}, doc! {"$set": {"other": 1}}).await.expect("an update");
        tokio::time::sleep(PAUSE).await;
    })));
    let built = proxy.add(Rule::on("createIndexes").then(meanwhile(target.uri(), async |client| {
        let db = client.database(&databases(&client).await[0]);
        // An index that was not built is missing, too.
        let _ = db.run_command(doc! {"dropIndexes": "orders", "index": "code_1"}).await;
    })));
    let began = Instant::now();
    let report = run(on(&backup, &proxy.uri(&target.uri())).arg("--json")).ends(4).json();
    let took = began.elapsed();
    assert_eq!((proxy.hits(described), proxy.hits(built)), (1, 1));
    let found = &report["backups"][0]["drill"];
    let findings: Vec<&str> =
        found["findings"].as_array().expect("a list").iter().filter_map(|line| line.as_str()).collect();
    let [data, index] = findings[..] else { panic!("{findings:?}") };
    assert!(data.starts_with("shop.orders: ") && data.contains("documents of"), "{data}");
    assert_eq!(index, "shop.orders: its index 'code_1' is missing");
    let seconds = |name: &str| Duration::from_secs_f64(found[name].as_f64().expect("seconds"));
    assert!(seconds("compare_seconds") >= PAUSE, "{found}");
    assert!(seconds("recovery_seconds") <= took - PAUSE, "{found}");
}

/// A user who may restore but not replay is refused before anything is created.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_role_for_the_replay_is_named_before_anything_is_created() {
    let (backup, _source) = written_to(&["--db", "shop"]).await;
    let target = Mongod::builder().auth().start().await.expect("mongod");
    let roles = ["restore", "readAnyDatabase", "dbAdminAnyDatabase", "readWriteAnyDatabase"];
    let roles = roles.map(|role| (role, "admin"));
    target.create_user("few", "canary-pw", &roles[..3]).await.expect("a user");
    target.create_user("driller", "canary-pw", &roles).await.expect("a user");
    let proxy = WireProxy::start(&[target.host()]).expect("a proxy");
    let made = ["insert", "create"].map(|command| proxy.add(Rule::on(command)));
    let uri = |user: &str| proxy.uri(&target.uri_as(user, "canary-pw", "admin"));
    let ran = run(&mut on(&backup, &uri("few"))).ends(1);
    ran.says(&["user 'few' may not", "\"readWriteAnyDatabase\"", "The drill replays"]);
    assert_eq!(made.map(|rule| proxy.hits(rule)), [0, 0]);
    run(&mut on(&backup, &uri("driller"))).ends(0);
    assert!(made.iter().all(|rule| proxy.hits(*rule) > 0), "the drill sends each of these commands");
    assert_eq!(databases(&target.client().await.expect("a client")).await, Vec::<String>::new());
}
