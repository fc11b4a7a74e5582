//! A replica set behind a proxy, with one collection that is read first and one that is read last.

use std::collections::BTreeMap;

use bson::{Timestamp, doc};
use mongodb::Client;
use uzima_backup::config::choices::ConsistencyChoice;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::ops::backup::BackupOptions;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_documents;
use uzima_testkit::wire_proxy::{Command, WireProxy};

use crate::native::support::{insert, rows};

/// More collections than the native engine opens at once, so that `z` is read only after `a`.
const BETWEEN: i32 = 7;

/// The number of documents in `a`: they come in a find of 101, another find of about 500, and several
/// `getMore`.
pub const LONG: i32 = 1_800;
pub const PAD: usize = 2_000;

/// The number of documents in `z`.
pub const SHORT: i32 = 300;

/// A primary, a proxy in front of it, and a client.
pub async fn set_behind_a_proxy() -> (Mongod, WireProxy, Client) {
    let server = Mongod::builder().replica_set("rs").test_commands().start().await.expect("mongod");
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    let client = server.client().await.expect("a client");
    (server, proxy, client)
}

/// Creates in `d`: `a`, which is read in several batches; `b0` and so on; `z`, which is read after `a`.
pub async fn fill(client: &Client) {
    insert(client, "d", "a", &rows(0, LONG, PAD)).await;
    for n in 0..BETWEEN {
        insert(client, "d", &format!("b{n}"), &rows(0, 1, 1)).await;
    }
    insert(client, "d", "z", &rows(0, SHORT, 10)).await;
}

/// The current documents of every collection of `d`.
pub async fn documents_now(client: &Client) -> BTreeMap<String, Vec<Vec<u8>>> {
    let d = client.database("d");
    let mut all = BTreeMap::new();
    for name in d.list_collection_names().await.expect("the collections") {
        all.insert(format!("d.{name}"), read_documents(&d, &name).await.expect("documents"));
    }
    all
}

/// Changes, deletes and inserts documents in `a` and in `z`.
pub async fn change(client: Client) {
    for name in ["a", "z"] {
        let all = client.database("d").collection::<bson::Document>(name);
        all.update_many(doc! {}, doc! { "$set": { "new": true } }).await.expect("an update");
        all.delete_many(doc! { "_id": { "$gte": 150, "$lt": 290 } }).await.expect("a delete");
        all.insert_one(doc! { "_id": 100_000 }).await.expect("an insert");
    }
}

/// Requests this consistency, for `d` only.
pub fn with(consistency: ConsistencyChoice) -> impl FnOnce(&mut BackupOptions) {
    move |options| {
        options.settings.consistency = consistency;
        options.settings.selection.databases = vec!["d".into()];
    }
}

pub fn snapshot() -> impl FnOnce(&mut BackupOptions) {
    with(ConsistencyChoice::Snapshot)
}

/// The time that each `find` on a collection of `d` requested.
pub fn times_asked(proxy: &WireProxy) -> Vec<Option<Timestamp>> {
    let of_d = |c: &Command| c.namespace.starts_with("d.");
    let time =
        |c: &Command| c.body.as_ref()?.get_document("readConcern").ok()?.get_timestamp("atClusterTime").ok();
    proxy.commands("find").iter().filter(|c| of_d(c)).map(time).collect()
}

/// Asserts that the backup is of one instant, without any resumption.
pub fn assert_snapshot(manifest: &Manifest) {
    let consistency = &manifest.consistency;
    assert_eq!(consistency.achieved, "snapshot", "{consistency:?} {:?}", manifest.notes);
    assert!(consistency.at.is_some() && consistency.oplog.is_none(), "{consistency:?}");
}
