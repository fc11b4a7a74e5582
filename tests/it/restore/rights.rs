//! The restore checks the rights of its user before it drops anything.

use bson::doc;
use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{Backup, rows, server};
use crate::cli::support::{Ran, run};

/// All actions that a restore of `shop` with `--drop` needs; each test leaves some out.
const ACTIONS: [&str; 8] = [
    "find",
    "listCollections",
    "listIndexes",
    "dropCollection",
    "createCollection",
    "insert",
    "bypassDocumentValidation",
    "createIndex",
];

/// A backup of `shop` with one collection and an index, and its source.
async fn backup() -> (Backup, Mongod, Client) {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..50).await;
    let indexes = doc! {"createIndexes": "orders", "indexes": [{"key": {"text": 1}, "name": "text_1"}]};
    original.database("shop").run_command(indexes).await.expect("an index");
    (Backup::of(&source, &["--db", "shop"]), source, original)
}

/// Creates a user `name` with these actions on `shop`.
async fn user(client: &Client, name: &str, actions: &[&str]) {
    let privileges = doc! {"resource": {"db": "shop", "collection": ""}, "actions": actions.to_vec()};
    let admin = client.database("admin");
    let role = doc! {"createRole": name, "privileges": [privileges], "roles": []};
    admin.run_command(role).await.expect("a role");
    let user = doc! {"createUser": name, "pwd": "x", "roles": [name]};
    admin.run_command(user).await.expect("a user");
}

/// A server with access control and with other documents in `shop.orders`.
async fn guarded() -> (Mongod, Client) {
    let target = Mongod::builder().auth().start().await.expect("mongod");
    let live = target.client().await.expect("a client");
    rows(&live, "shop", "orders", 500..600).await;
    (target, live)
}

async fn orders(client: &Client) -> Vec<Vec<u8>> {
    read_all(client).await.expect("a snapshot").get("shop", "orders").expect("the orders").documents.clone()
}

fn restore(backup: &Backup, uri: &str, args: &[&str]) -> Ran {
    let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
    run(command.env("RESTORE_URI", uri).args(["restore", "latest", "--yes"]).args(args))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_right_is_asked_for_before_the_first_drop() {
    let (backup, _source, original) = backup().await;
    let (target, live) = guarded().await;
    let before = orders(&live).await;
    for (left_out, says) in [
        ("dropCollection", "drop shop.orders"),
        ("insert", "insert past the validator of shop.orders"),
        ("bypassDocumentValidation", "insert past the validator of shop.orders"),
        ("createIndex", "build indexes on shop.orders"),
    ] {
        let name = format!("without_{left_out}");
        let actions: Vec<&str> = ACTIONS.into_iter().filter(|action| *action != left_out).collect();
        user(&live, &name, &actions).await;
        let uri = target.uri_as(&name, "x", "admin");
        for args in [&["--drop"][..], &["--drop", "--dry-run"]] {
            let whole = format!("user '{name}' may not {says} (");
            restore(&backup, &uri, args).ends(1).says(&[&whole, "Nothing was changed", "[\"restore\"]"]);
        }
    }
    assert!(orders(&live).await == before, "nothing was touched");
    // Without indexes the right to create them is not needed, and with all rights the restore succeeds.
    let uri = target.uri_as("without_createIndex", "x", "admin");
    restore(&backup, &uri, &["--drop", "--no-indexes"]).ends(0);
    user(&live, "all_of_it", &ACTIONS).await;
    restore(&backup, &target.uri_as("all_of_it", "x", "admin"), &["--drop"]).ends(0);
    assert!(orders(&live).await == orders(&original).await, "all of it was restored");
}

/// The documents of `system.js` are deleted one by one, which the role `restore` does not allow.
#[tokio::test(flavor = "multi_thread")]
async fn restoring_system_js_needs_another_role() {
    let (source, original) = server().await;
    rows(&original, "shop", "system.js", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = guarded().await;
    rows(&live, "shop", "system.js", 5..9).await;
    target.create_user("bringer", "x", &[("restore", "admin")]).await.expect("a user");
    let uri = target.uri_as("bringer", "x", "admin");
    let says = ["may not delete from shop.system.js (", "[\"restore\", \"readWriteAnyDatabase\"]"];
    restore(&backup, &uri, &["--drop"]).ends(1).says(&says);
    assert_eq!(
        read_all(&live)
            .await
            .expect("a snapshot of the server")
            .get("shop", "system.js")
            .unwrap()
            .documents
            .len(),
        4
    );
}

/// The right to write to a database does not include the buckets of its time series.
#[tokio::test(flavor = "multi_thread")]
async fn the_buckets_of_a_time_series_are_asked_for_before_the_first_drop() {
    let (source, original) = server().await;
    let series = doc! {"create": "series", "timeseries": {"timeField": "t"}};
    original.database("shop").run_command(series).await.expect("a time series");
    let points = original.database("shop").collection("series");
    points.insert_one(doc! {"t": bson::DateTime::now(), "a": 1}).await.expect("a point");
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = guarded().await;
    rows(&live, "shop", "series", 0..7).await;
    target.create_user("owner", "x", &[("dbOwner", "shop")]).await.expect("a user");
    let says = ["may not insert past the validator of shop.system.buckets.series (", "[\"restore\"]"];
    restore(&backup, &target.uri_as("owner", "x", "admin"), &["--drop"]).ends(1).says(&says);
    assert_eq!(
        read_all(&live)
            .await
            .expect("a snapshot of the server")
            .get("shop", "series")
            .unwrap()
            .documents
            .len(),
        7
    );
    target
        .create_user("bringer", "x", &[("restore", "admin"), ("readAnyDatabase", "admin")])
        .await
        .expect("a user");
    restore(&backup, &target.uri_as("bringer", "x", "admin"), &["--drop"]).ends(0);
}

/// If a server does not list the user's privileges, the first refusal says that nothing was lost.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_list_of_privileges_the_refusal_names_what_was_touched() {
    let (backup, ..) = backup().await;
    let (target, live) = guarded().await;
    let proxy = WireProxy::start(&[target.host()]).expect("the proxy");
    proxy.add(Rule::on("connectionStatus").then(Action::fail(59)));
    let but = |left_out: &str| ACTIONS.into_iter().filter(|one| *one != left_out).collect::<Vec<_>>();
    user(&live, "no_drop", &but("dropCollection")).await;
    user(&live, "no_insert", &but("bypassDocumentValidation")).await;
    let uri = |user: &str| proxy.uri(&target.uri_as(user, "x", "admin"));
    let ran = restore(&backup, &uri("no_drop"), &["--drop"]).ends(1);
    let ran = ran.says(&["cannot drop shop.orders", "Nothing was changed at the target"]);
    assert!(!ran.stderr.contains("holds a part"), "{}", ran.stderr);
    assert_eq!(orders(&live).await.len(), 100);
    let ran = restore(&backup, &uri("no_insert"), &["--drop"]).ends(1);
    ran.says(&["cannot insert into shop.orders", "the data that it replaces is lost", "--drop"]);
}

/// Without access control a server lists the privileges of a logged-in user, but does not enforce them.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_access_control_allows_everything() {
    let (backup, _source, original) = backup().await;
    let (target, live) = server().await;
    rows(&live, "shop", "orders", 500..600).await;
    user(&live, "reader", &["find"]).await;
    restore(&backup, &target.uri_as("reader", "x", "admin"), &["--drop"]).ends(0);
    assert!(orders(&live).await == orders(&original).await, "all of it was restored");
}
