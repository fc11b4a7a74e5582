//! Documents of a backup with an oplog slice are of different moments.

use bson::{Document, doc};
use mongodb::Client;
use uzima_testkit::wire_proxy::Rule;

use super::{ids, ran};
use crate::consistency::support::{set, slice};
use crate::native::support::meanwhile;
use crate::restore::support::{Backup, rows};

/// A backup of 100 orders and 100 items. `write` runs between two reads of the orders.
async fn during<W>(write: W) -> Backup
where
    W: AsyncFn(Client) + Send + Sync + 'static,
{
    let (server, proxy, client) = set().await;
    rows(&client, "shop", "orders", 0..100).await;
    rows(&client, "shop", "items", 0..100).await;
    let during = Rule::on("find").namespace("shop.orders").having("$_requestResumeToken").times(1);
    let during = proxy.add(during.then(meanwhile(server.uri(), write)));
    let backup = Backup::at(&proxy.uri(&server.uri()), &["--db", "shop"]);
    assert_eq!(proxy.hits(during), 1);
    assert!(slice(&backup.manifest).entries > 0);
    backup
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_the_slice_changes_are_named() {
    let backup = during(async |client: Client| {
        let orders = client.database("shop").collection::<Document>("orders");
        orders.update_one(doc! {"_id": 5}, doc! {"$set": {"paid": true}}).await.expect("an update");
        orders.update_one(doc! {"_id": 5}, doc! {"$set": {"sent": true}}).await.expect("an update");
        orders.delete_one(doc! {"_id": 6}).await.expect("a delete");
        orders.insert_one(doc! {"_id": 200}).await.expect("an insert");
    })
    .await;
    let get = |args: &[&str]| ran(&backup.home, &[&["latest", "--format=relaxed"], args].concat());
    for id in ["5", "6"] {
        let changed = get(&["shop.orders", "--id", id]).ends(3);
        assert_eq!(ids(&changed), [id.parse::<i64>().unwrap()]);
        let named = format!("changes 1 of the 1 printed document (_id {id})");
        changed.says(&["needs a look: the oplog slice of the backup", &named, "`restore` replays the slice"]);
    }
    for args in [&["shop.orders", "--id", "7"][..], &["shop.orders", "--limit", "5"], &["shop.items"]] {
        let same = get(args).ends(0);
        assert_eq!(same.stderr, "", "{args:?}");
    }
    // The slice inserts a document, which the backup may not have.
    let inserted = get(&["shop.orders", "--id", "200"]);
    match inserted.stdout.is_empty() {
        true => inserted.ends(3).says(&["has 1 write to documents of shop.orders that were not printed"]),
        false => inserted.ends(3).says(&["(_id 200)"]),
    };
    let filtered = get(&["shop.orders", "--filter", r#"{"_id": {"$gt": 90, "$lt": 99}}"#]);
    assert_eq!(ids(&filtered), (91..99).collect::<Vec<_>>());
    filtered.ends(3).says(&["writes to documents of shop.orders that were not printed"]);
    let all = get(&["shop.orders"]);
    assert!(all.stdout.lines().count() >= 100);
    all.ends(3).says(&["5, 6"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_in_the_slice_is_named() {
    let backup = during(async |client: Client| {
        client.database("shop").collection::<Document>("orders").drop().await.expect("a drop");
    })
    .await;
    ran(&backup.home, &["latest", "shop.orders"]).ends(3).says(&["creates, drops or renames shop.orders"]);
    ran(&backup.home, &["latest", "shop.items"]).ends(0);
}
