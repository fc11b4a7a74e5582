//! Every kind of operation is executed on a live server before and after its dump, and the oplog is replayed
//! from before. So each operation is also applied to documents that already have its result, as in a dump
//! that took time.

use bson::doc;
use mongodb::Client;
use mongodb::options::UpdateModifications;
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Action, Rule};

use super::support::{Dump, commands, insert, now, since, source};
use crate::native::support::behind_a_proxy;
use crate::restore::support::{differences, server as empty};

/// Documents are inserted, changed in every way, replaced, deleted and inserted again, in transactions of one
/// oplog entry and of several.
async fn documents(client: &Client, round: i32) {
    let rows = client.database("shop").collection::<bson::Document>("rows");
    insert(client, "shop", "rows", round * 100..round * 100 + 50).await;
    let by = |n: i32| doc! {"_id": round * 100 + n};
    let first = doc! {"$set": {"a.b.c": 1, "list": (0..20).collect::<Vec<i32>>()}};
    rows.update_many(doc! {}, first.clone()).await.expect("updates");
    let updates = [
        first,
        doc! {"$inc": {"n": 5}, "$unset": {"a.b.x": ""}},
        doc! {"$push": {"list": 99}},
        doc! {"$set": {"list.3": "three", "a.b.d": 1}},
        doc! {"$rename": {"n": "m"}},
        doc! {"$set": {"a": {"b": {"z": 2}}}, "$pop": {"list": 1}},
        doc! {"$pull": {"list": {"$gt": 10}}},
    ];
    for (n, update) in (0..).zip(updates.iter().cycle().take(70)) {
        rows.update_one(by(n % 10), update.clone()).await.expect("an update");
    }
    let pipeline = vec![doc! {"$set": {"sum": {"$add": [{"$ifNull": ["$n", 0]}, 1]}}}];
    rows.update_many(doc! {}, UpdateModifications::Pipeline(pipeline)).await.expect("updates");
    rows.replace_one(by(20), doc! {"other": true}).await.expect("another one");
    rows.delete_many(doc! {"_id": {"$gte": round * 100 + 40}}).await.expect("deletes");
    rows.insert_one(by(41)).await.expect("a row");
    let mut session = client.start_session().await.expect("a session");
    for (from, pad, commit) in [(60, 10, true), (70, 1, false), (80, 3_000_000, true)] {
        session.start_transaction().await.expect("a transaction");
        for n in from..from + 6 {
            let row = doc! {"_id": round * 100 + n, "pad": "x".repeat(pad)};
            rows.insert_one(row).session(&mut session).await.expect("a row");
        }
        rows.delete_one(by(from + 1)).session(&mut session).await.expect("a delete");
        match commit {
            true => session.commit_transaction().await.expect("a commit"),
            false => session.abort_transaction().await.expect("an abort"),
        }
    }
}

/// A unique value moves from one document to another.
async fn unique(client: &Client, round: i32) {
    let codes = client.database("shop").collection::<bson::Document>("codes");
    if round == 1 {
        let index = doc! {"key": {"code": 1}, "name": "code_1", "unique": true};
        commands(client, "shop", vec![doc! {"createIndexes": "codes", "indexes": [index]}]).await;
    }
    for n in 0..20 {
        codes.delete_many(doc! {"code": n}).await.expect("it is free");
        codes.insert_one(doc! {"_id": round * 1000 + n, "code": n}).await.expect("it is taken");
    }
}

/// Collections, views and time series, with their options and indexes.
async fn shapes(client: &Client, round: i32) {
    let name = |name: &str| format!("{name}{round}");
    let index = |key: bson::Document, name: &str| doc! {"key": key, "name": name};
    commands(
        client,
        "shapes",
        vec![
            doc! {"create": name("made"), "validator": {"a": 1}, "collation": {"locale": "fr"}},
            doc! {"createIndexes": name("made"), "indexes": [
                {"key": {"t": 1}, "name": "ttl", "expireAfterSeconds": 50},
                index(doc! {"b": 1}, "plain"),
                {"key": {"c": 1}, "name": "simple", "collation": {"locale": "simple"}},
            ]},
            doc! {"collMod": name("made"), "index": {"name": "ttl", "expireAfterSeconds": 70}},
            doc! {"collMod": name("made"), "index": {"name": "plain", "hidden": true}, "validator": {"a": 2}},
            doc! {"collMod": name("made"), "index": {"name": "plain", "prepareUnique": true}},
            doc! {"collMod": name("made"), "index": {"name": "plain", "unique": true}},
            doc! {"collMod": name("made"), "index": {"name": "plain", "hidden": false}},
            doc! {"dropIndexes": name("made"), "index": "simple"},
            doc! {"create": name("gone")},
            doc! {"insert": name("gone"), "documents": [{"_id": 1}]},
            doc! {"createIndexes": name("gone"), "indexes": [index(doc! {"x": 1}, "x")]},
            doc! {"drop": name("gone")},
            doc! {"create": name("capped"), "capped": true, "size": 8192},
            doc! {"insert": name("capped"), "documents": [{"_id": 1}, {"_id": 2}]},
            doc! {"create": name("clustered"), "clusteredIndex": {"key": {"_id": 1}, "unique": true}},
            doc! {"insert": name("clustered"), "documents": [{"_id": 1}]},
            doc! {"insert": "again", "documents": [{"n": round}]},
            doc! {"createIndexes": "again", "indexes": [index(doc! {"n": 1}, &name("n"))]},
            doc! {"drop": "again"},
            doc! {"insert": "again", "documents": [{"second": round}]},
            doc! {"createIndexes": "again", "indexes": [index(doc! {"second": 1}, "second")]},
            doc! {"create": name("view"), "viewOn": name("made"), "pipeline": [{"$match": {"a": 1}}]},
            doc! {"collMod": name("view"), "viewOn": name("made"), "pipeline": [{"$match": {"a": 2}}]},
            doc! {"create": name("short"), "viewOn": name("made"), "pipeline": []},
            doc! {"drop": name("short")},
            doc! {"create": name("series"), "timeseries": {"timeField": "t", "metaField": "m"}},
            doc! {"createIndexes": name("series"), "indexes": [index(doc! {"m": 1, "t": 1}, "both")]},
            doc! {"createIndexes": name("series"), "indexes": [index(doc! {"m.x": -1}, "one")]},
            doc! {"collMod": name("series"), "expireAfterSeconds": 400_000_000_i64},
            doc! {"dropIndexes": name("series"), "index": "one"},
            doc! {"create": name("ended"), "timeseries": {"timeField": "t"}},
            doc! {"drop": name("ended")},
        ],
    )
    .await;
    let series = client.database("shapes").collection::<bson::Document>(&name("series"));
    for n in 0..30 {
        let point = doc! {"t": bson::DateTime::now(), "m": {"x": n % 2}, "v": n};
        series.insert_one(point).await.expect("a point");
    }
    let capped = client.database("shapes").collection(&name("capped"));
    for n in 10..35 {
        capped.insert_one(doc! {"_id": n, "pad": "x".repeat(1000)}).await.expect("it moves on");
    }
    let script = doc! {"_id": name("twice"), "value": "function (x) { return 2 * x }"};
    client.database("shapes").collection("system.js").insert_one(script).await.expect("a script");
    insert(client, &name("whole"), "rows", 0..5).await;
    commands(client, &name("whole"), vec![doc! {"create": "v", "viewOn": "rows", "pipeline": []}]).await;
    client.database(&name("whole")).drop().await.expect("a database");
}

async fn people(client: &Client, round: i32) {
    let name = |name: &str| format!("{name}{round}");
    commands(
        client,
        "admin",
        vec![
            doc! {"createUser": name("stays"), "pwd": "x", "roles": ["read"]},
            doc! {"createUser": name("leaves"), "pwd": "x", "roles": []},
            doc! {"updateUser": name("stays"), "roles": ["readWrite"]},
            doc! {"dropUser": name("leaves")},
            doc! {"createRole": name("role"), "privileges": [], "roles": ["read"]},
        ],
    )
    .await;
}

/// Documents that an insert would change, and documents that fill a whole command.
#[tokio::test(flavor = "multi_thread")]
async fn odd_documents() {
    let (server, client) = source().await;
    insert(&client, "shop", "rows", 0..3).await;
    let (start, dump) = (now(&client).await, Dump::of(&server));
    let empty = bson::Timestamp { time: 0, increment: 0 };
    let rows = client.database("shop").collection::<bson::Document>("rows");
    for n in 0..3 {
        let whole = doc! {"$literal": {"t": empty, "n": n, "pad": "x".repeat(500)}};
        let pipeline = vec![doc! {"$replaceWith": whole}];
        let update = UpdateModifications::Pipeline(pipeline);
        rows.update_one(doc! {"_id": n}, update).await.expect("an empty timestamp");
    }
    rows.update_one(doc! {"_id": 1}, doc! {"$set": {"later": true}}).await.expect("an update");
    let overhead = bson::serialize_to_vec(&doc! {"_id": 10, "pad": ""}).expect("BSON").len();
    for id in [10, 11] {
        let longest = doc! {"_id": id, "pad": "x".repeat((16 << 20) - overhead)};
        rows.insert_one(longest).await.expect("16 MiB");
        rows.insert_one(doc! {"_id": id + 10}).await.expect("a row");
    }
    dump.oplog(&since(&client, start).await);
    let (target, live) = source().await;
    dump.restore(&target.uri(), &[]).ends(0);
    assert_eq!(differences(&client, &live).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_replayed_over_their_own_results() {
    let (server, client) = source().await;
    insert(&client, "shop", "rows", 0..30).await;
    people(&client, 0).await;
    let start = now(&client).await;
    for round in [1, 2] {
        documents(&client, round).await;
        unique(&client, round).await;
        shapes(&client, round).await;
        people(&client, round).await;
    }
    let later = Dump::of(&server);
    later.oplog(&since(&client, start).await);
    replays_to(&later, &client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_taken_between_operations_is_replayed() {
    let (server, client) = source().await;
    insert(&client, "shop", "rows", 0..30).await;
    people(&client, 0).await;
    let start = now(&client).await;
    let mut dump = None;
    for round in [1, 2] {
        documents(&client, round).await;
        unique(&client, round).await;
        shapes(&client, round).await;
        people(&client, round).await;
        dump.get_or_insert_with(|| Dump::of(&server));
    }
    let dump = dump.expect("a dump");
    dump.oplog(&since(&client, start).await);
    replays_to(&dump, &client).await;
}

/// Restores, compares with the dumped server, and restores again over the result.
async fn replays_to(dump: &Dump, original: &Client) {
    let (target, live) = empty().await;
    for args in [&[][..], &["--drop"]] {
        let report = dump.restore(&target.uri(), args).ends(0).json();
        assert_eq!(differences(original, &live).await, Vec::<String>::new(), "{args:?}");
        assert!(report["replayed"]["operations"].as_u64() > Some(300), "{}", report["replayed"]);
        assert_eq!(report["replayed"]["open_transactions"], 0);
    }
}

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
