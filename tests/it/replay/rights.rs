//! The rights to replay an oplog are checked before anything is touched.

use bson::{doc, rawdoc};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Action, CommandError, Rule};

use super::support::{Dump, entry, insert, now, since, source};
use crate::native::support::behind_a_proxy;
use crate::restore::support::{differences, rows};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_to_replay_names_the_role_to_grant() {
    let (server, client) = source().await;
    insert(&client, "shop", "orders", 0..10).await;
    let start = now(&client).await;
    let dump = Dump::of(&server);
    for round in [1, 2] {
        insert(&client, "shop", "orders", round * 10..round * 10 + 5).await;
        let view = doc! {"create": format!("view{round}"), "viewOn": "orders", "pipeline": []};
        client.database("shop").run_command(view).await.expect("a view");
        let series = doc! {"create": format!("series{round}"), "timeseries": {"timeField": "t"}};
        client.database("shop").run_command(series).await.expect("a series");
        let set = doc! {"$set": {"round": round}};
        client
            .database("shop")
            .collection::<bson::Document>("orders")
            .update_many(doc! {}, set)
            .await
            .expect("updates");
        client.database("gone").collection("rows").insert_one(doc! {"_id": 1}).await.expect("a row");
        client.database("gone").drop().await.expect("a database");
    }
    dump.oplog(&since(&client, start).await);
    let target = Mongod::builder().auth().start().await.expect("mongod");
    let live = target.client().await.expect("a client");
    rows(&live, "shop", "orders", 500..600).await;
    target.create_user("bringer", "x", &[("restore", "admin")]).await.expect("a user");
    let roles = [("restore", "admin"), ("readWriteAnyDatabase", "admin")];
    target.create_user("player", "x", &roles).await.expect("a user");
    let before = read_all(&live).await.expect("the live data");
    let uri = |user: &str| target.uri_as(user, "x", "admin");
    for args in [&["--drop"][..], &["--drop", "--dry-run"]] {
        let says = ["user 'bringer' may not", "\"readWriteAnyDatabase\"", "--no-replay"];
        dump.restore(&uri("bringer"), args).ends(1).says(&says);
    }
    assert_eq!(before.diff(&read_all(&live).await.expect("a snapshot of the server")), Vec::<String>::new());
    dump.restore(&uri("player"), &["--drop", "--no-users"]).ends(0);
    let mut wanted = read_all(&client).await.expect("the original");
    let mut found = read_all(&live).await.expect("the target");
    [&mut wanted, &mut found].into_iter().for_each(|snapshot| snapshot.users.clear());
    assert_eq!(wanted.diff(&found), Vec::<String>::new());
}

/// A mongos answers like this.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_applyops_is_refused_before_anything_is_touched() {
    let (server, client) = source().await;
    insert(&client, "shop", "orders", 0..10).await;
    let start = now(&client).await;
    let dump = Dump::of(&server);
    insert(&client, "shop", "orders", 10..20).await;
    dump.oplog(&since(&client, start).await);
    let (target, proxy, live) = behind_a_proxy().await;
    let message = "no such command: 'applyOps'".into();
    let answer = CommandError { code: 59, name: "CommandNotFound".into(), message };
    proxy.add(Rule::on("applyOps").then(Action::Fail(answer)));
    let uri = proxy.uri(&target.uri());
    dump.restore(&uri, &[]).ends(1).says(&["applyOps", "mongos", "--no-replay"]);
    assert_eq!(read_all(&live).await.expect("a snapshot of the server").documents(), 0);
    dump.restore(&uri, &["--no-replay"]).ends(0);
}

/// The connected user is not changed; the other users become those of the backup.
#[tokio::test(flavor = "multi_thread")]
async fn the_connected_user_is_not_changed() {
    let (server, client) = source().await;
    insert(&client, "shop", "orders", 0..3).await;
    client
        .database("admin")
        .run_command(doc! {"createUser": "one", "pwd": "x", "roles": []})
        .await
        .expect("a user");
    let dump = Dump::of(&server);
    let id = |name: &str| rawdoc! {"_id": format!("admin.{name}")};
    dump.oplog(&[
        entry(5, "d", "admin.system.users", id("root")),
        entry(6, "d", "admin.system.users", id("one")),
        entry(7, "i", "shop.orders", rawdoc! {"_id": 7}),
    ]);
    let target = Mongod::builder().auth().start().await.expect("mongod");
    dump.restore(&target.uri(), &[]).ends(0);
    let live = target.client().await.expect("root can still log in");
    let users: Vec<String> = read_all(&live).await.expect("the target").users.into_keys().collect();
    assert_eq!(users, ["admin.root"]);
}

/// Connections break in the middle, and entries that were applied arrive again.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_does_not_end_the_replay() {
    let (server, client) = source().await;
    insert(&client, "shop", "orders", 0..10).await;
    let start = now(&client).await;
    let dump = Dump::of(&server);
    for n in 1..8 {
        insert(&client, "shop", "orders", n * 1000..n * 1000 + 900).await;
        client.database("shop").run_command(doc! {"create": format!("c{n}")}).await.expect("a collection");
    }
    dump.oplog(&since(&client, start).await);
    let (target, proxy, live) = behind_a_proxy().await;
    let rules = [(2, Action::CloseAfter), (5, Action::Close)];
    let rules = rules.map(|(at, action)| proxy.add(Rule::on("applyOps").nth(at).then(action)));
    dump.restore(&proxy.uri(&target.uri()), &[]).ends(0);
    assert_eq!(rules.map(|rule| proxy.hits(rule)), [1, 1]);
    assert_eq!(differences(&client, &live).await, Vec::<String>::new());
}
