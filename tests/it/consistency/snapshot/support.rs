//! A replica set behind a proxy, with a collection that is read first and one that is read last.

use std::collections::BTreeMap;

use bson::{Timestamp, doc};
use mongodb::Client;
use uzima_backup::config::choices::ConsistencyChoice;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::ops::backup::Options;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_documents;
use uzima_testkit::wire_proxy::{Command, WireProxy};

use crate::native::support::{insert, rows};

/// More than the native engine opens at once, so that `z` is not asked for before `a` was read.
const BETWEEN: i32 = 7;

/// Documents of `a`: they come in a find of 101, another find of about 500, and `getMore`s.
pub const LONG: i32 = 1_800;
pub const PAD: usize = 2_000;

/// Documents of `z`.
pub const SHORT: i32 = 300;

/// A primary, a proxy before it, and its client.
pub async fn set_behind_a_proxy() -> (Mongod, WireProxy, Client) {
    let server = Mongod::builder().replica_set("rs").test_commands().start().await.expect("mongod");
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    let client = server.client().await.expect("a client");
    (server, proxy, client)
}

/// In `d`: `a`, which comes in several batches; `b0` and so on; `z`, which is read when `a` is done.
pub async fn fill(client: &Client) {
    insert(client, "d", "a", &rows(0, LONG, PAD)).await;
    for n in 0..BETWEEN {
        insert(client, "d", &format!("b{n}"), &rows(0, 1, 1)).await;
    }
    insert(client, "d", "z", &rows(0, SHORT, 10)).await;
}

/// The documents of every collection of `d`, as they are now.
pub async fn documents_now(client: &Client) -> BTreeMap<String, Vec<Vec<u8>>> {
    let d = client.database("d");
    let mut all = BTreeMap::new();
    for name in d.list_collection_names().await.expect("the collections") {
        all.insert(format!("d.{name}"), read_documents(&d, &name).await.expect("documents"));
    }
    all
}

/// Changes, deletes and inserts in both `a` and `z`.
pub async fn change(client: Client) {
    for name in ["a", "z"] {
        let all = client.database("d").collection::<bson::Document>(name);
        all.update_many(doc! {}, doc! { "$set": { "new": true } }).await.expect("an update");
        all.delete_many(doc! { "_id": { "$gte": 150, "$lt": 290 } }).await.expect("a delete");
        all.insert_one(doc! { "_id": 100_000 }).await.expect("an insert");
    }
}

/// Asks for this consistency, of `d` alone.
pub fn with(consistency: ConsistencyChoice) -> impl FnOnce(&mut Options) {
    move |options| {
        options.consistency = consistency;
        options.selection.databases = vec!["d".into()];
    }
}

pub fn snapshot() -> impl FnOnce(&mut Options) {
    with(ConsistencyChoice::Snapshot)
}

/// The time that each `find` on a collection of `d` asked for.
pub fn times_asked(proxy: &WireProxy) -> Vec<Option<Timestamp>> {
    let of_d = |c: &Command| c.namespace.starts_with("d.");
    let time =
        |c: &Command| c.body.as_ref()?.get_document("readConcern").ok()?.get_timestamp("atClusterTime").ok();
    proxy.commands("find").iter().filter(|c| of_d(c)).map(time).collect()
}

/// It is of one instant, and nothing had to be mended.
pub fn assert_snapshot(manifest: &Manifest) {
    let consistency = &manifest.consistency;
    assert_eq!(consistency.achieved, "snapshot", "{consistency:?} {:?}", manifest.notes);
    assert!(consistency.at.is_some() && consistency.oplog.is_none(), "{consistency:?}");
}
