//! Replays on newer servers, simulated by a proxy.

use bson::doc;
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{Dump, insert, now, since, source};
use crate::native::support::behind_a_proxy;
use crate::restore::support::differences;

/// The oplog updates a document that was deleted before the dump read it. Up to 8.0 `applyOps` creates the
/// document, which the slice then deletes; from 8.1 on it does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_an_unread_document_is_replayed_on_a_server_that_does_not_upsert() {
    let (server, client) = source().await;
    insert(&client, "shop", "orders", 0..10).await;
    insert(&client, "shop", "orders", 90..95).await;
    let start = now(&client).await;
    let orders = client.database("shop").collection::<bson::Document>("orders");
    let mut session = client.start_session().await.expect("a session");
    let change = |n: i32| doc! {"$set": {"changed": n}, "$inc": {"n": 1}};
    orders.update_many(doc! {"_id": {"$gte": 90}}, change(1)).await.expect("updates");
    session.start_transaction().await.expect("a transaction");
    for id in [3, 91] {
        orders.update_one(doc! {"_id": id}, change(2)).session(&mut session).await.expect("an update");
    }
    orders.delete_one(doc! {"_id": 90}).session(&mut session).await.expect("a delete");
    session.commit_transaction().await.expect("all of it");
    orders.replace_one(doc! {"_id": 92}, doc! {"other": true}).await.expect("another one");
    orders.delete_many(doc! {"_id": {"$gte": 90}}).await.expect("deletes");
    let dump = Dump::of(&server);
    orders.update_many(doc! {}, change(3)).await.expect("updates");
    dump.oplog(&since(&client, start).await);
    let (target, proxy, live) = behind_a_proxy().await;
    let rule = proxy.add(Rule::on("applyOps").then(Action::without_upserts()));
    dump.restore(&proxy.uri(&target.uri()), &[]).ends(0);
    assert!(proxy.hits(rule) > 0);
    assert_eq!(differences(&client, &live).await, Vec::<String>::new());
    assert_eq!(read_all(&live).await.expect("the target").documents(), 10);
}
