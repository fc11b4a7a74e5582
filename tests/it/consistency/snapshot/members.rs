//! A set of several members: any member can be read, and the instant must be known to a majority.

use std::time::{Duration, Instant};

use bson::doc;
use mongodb::Client;
use uzima_testkit::replica_set::ReplicaSet;
use uzima_testkit::wire_proxy::{Rule, WireProxy};

use super::support::{assert_snapshot, change, documents_now, fill, snapshot};
use crate::native::support::{Shelf, failed, meanwhile};

async fn filled(client: &Client) -> anyhow::Result<()> {
    fill(client).await;
    Ok(())
}

#[tokio::test]
async fn a_secondary_is_read_as_of_one_instant() {
    let set = ReplicaSet::builder("pair").start_filled(filled).await.expect("a set");
    let proxy = WireProxy::start(&[set.members[0].host(), set.members[1].host()]).expect("the proxy");
    let primary = set.primary().await.expect("a primary");
    let client = set.client().await.expect("a client");
    let before = documents_now(&client).await;
    let rule = Rule::on("find").namespace("d.a").nth(1).member(1 - primary);
    let rule = proxy.add(rule.then(meanwhile(set.uri(), change)));
    let shelf = Shelf::new();
    let uri = format!("{}&readPreference=secondary", proxy.uri(&set.uri()));
    let report = shelf.run(&uri, snapshot()).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(proxy.hits(rule), 1);
    assert_snapshot(&report.manifest);
    assert_eq!(report.manifest.source.member, proxy.host(1 - primary));
    let mut decoded = shelf.decode(&report).documents;
    let mut before = before;
    // The members may store them in different orders.
    before.values_mut().chain(decoded.values_mut()).for_each(|documents| documents.sort());
    assert_eq!(decoded, before);
    assert_ne!(documents_now(&client).await["d.z"].len(), before["d.z"].len());
}

#[tokio::test]
async fn an_instant_without_a_majority_is_not_used() {
    let mut set = ReplicaSet::builder("trio").arbiter().start_filled(filled).await.expect("a set");
    let primary = set.primary().await.expect("a primary");
    set.members[1 - primary].kill();
    let client = set.members[primary].direct_client().await.expect("a client");
    let insert = doc! { "insert": "z", "documents": [{ "_id": -1 }], "writeConcern": { "w": 1 } };
    client.database("d").run_command(insert).await.expect("an insert");
    let shelf = Shelf::new();
    let began = Instant::now();
    let change = |options: &mut uzima_backup::ops::backup::BackupOptions| {
        snapshot()(options);
        options.settings.stall = Duration::from_secs(2);
    };
    let text = failed(shelf.run(&set.uri(), change).await);
    assert!(text.contains("was not on a majority of its members after 2 s"), "{text}");
    assert!(text.contains("rs.status()") && began.elapsed() < Duration::from_secs(30), "{text}");
    shelf.assert_nothing().await;
}
