//! `restore --filter`: only documents that match.

use bson::{Document, doc};
use futures_util::TryStreamExt;
use mongodb::Client;
use serde_json::json;
use uzima_testkit::mongod::Mongod;

use super::support::{Backup, rows, server};
use crate::cli::support::{Ran, run};

const LATE: &str = r#"{"_id": {"$gte": 90}}"#;

/// A backup of `shop` with 100 orders and 50 items; both collections have an index.
async fn backup() -> (Backup, Mongod) {
    let (source, client) = server().await;
    rows(&client, "shop", "orders", 0..100).await;
    rows(&client, "shop", "items", 0..50).await;
    for name in ["orders", "items"] {
        let indexes =
            doc! {"createIndexes": name, "indexes": [{"key": {"text": 1}, "name": "text_1", "unique": true}]};
        client.database("shop").run_command(indexes).await.expect("an index");
    }
    (Backup::of(&source, &["--db", "shop"]), source)
}

pub async fn ids(client: &Client, db: &str, collection: &str) -> Vec<i32> {
    let collection = client.database(db).collection::<Document>(collection);
    let found = collection.find(doc! {}).sort(doc! {"_id": 1}).await;
    let rows: Vec<Document> = found.expect("rows").try_collect().await.expect("rows");
    rows.iter().map(|row| row.get_i32("_id").expect("a number")).collect()
}

fn restore(backup: &Backup, target: &Mongod, args: &[&str]) -> Ran {
    run(backup.restore_into(target).args(args))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_matching_documents_are_restored_and_the_plan_and_the_report_say_so() {
    let ((backup, _source), (target, client)) = (backup().await, server().await);
    let plan = restore(&backup, &target, &["--filter", LATE, "--dry-run"]).ends(0);
    plan.prints(&[
        r#"only documents that match {"_id": {"$gte": 90}}"#,
        "shop.orders: 10 of 100 documents match",
        "shop.items: 0 of 50 documents match",
    ]);
    assert_eq!(
        client.list_database_names().await.expect("names").iter().filter(|db| *db == "shop").count(),
        0
    );
    let planned = restore(&backup, &target, &["--filter", LATE, "--dry-run", "--json"]).ends(0).json();
    crate::docs::schema::check("restore-dry-run", &planned);
    assert_eq!(planned["filter"], LATE);
    let counted =
        json!({"to": "shop.orders", "filtered": {"examined": 100, "matched": 10}, "without_oplog": false});
    assert!(planned["counted"].as_array().expect("counts").contains(&counted), "{planned}");
    let done = restore(&backup, &target, &["--filter", LATE]).ends(0);
    done.prints(&[
        "restored 2 namespaces, 10 documents",
        r#"only documents that match {"_id": {"$gte": 90}}"#,
        "shop.orders: 10 of 100 documents match",
        "note: no document of shop.items matches the filter",
    ]);
    assert_eq!(ids(&client, "shop", "orders").await, (90..100).collect::<Vec<_>>());
    assert_eq!(ids(&client, "shop", "items").await, [0; 0]);
    for name in ["orders", "items"] {
        let names =
            client.database("shop").collection::<Document>(name).list_index_names().await.expect("names");
        assert_eq!(names, ["_id_", "text_1"], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_restored_beside_and_instead_of_others() {
    let ((backup, _source), (target, client)) = (backup().await, server().await);
    rows(&client, "shop", "orders", 500..505).await;
    let only = ["--ns-include", "shop.orders", "--filter", LATE];
    restore(&backup, &target, &only).ends(1).says(&["shop.orders has 5 documents", "Nothing was changed"]);
    let beside = [&only[..], &["--ns-from", "shop.*", "--ns-to", "rescue.*"]].concat();
    let report = restore(&backup, &target, &[&beside[..], &["--json"]].concat()).ends(0).json();
    let filtered = &report["namespaces"][0];
    assert_eq!((&filtered["from"], &filtered["to"]), (&json!("shop.orders"), &json!("rescue.orders")));
    assert_eq!(filtered["filtered"], json!({"examined": 100, "matched": 10}));
    assert_eq!(ids(&client, "rescue", "orders").await, (90..100).collect::<Vec<_>>());
    assert_eq!(ids(&client, "shop", "orders").await, (500..505).collect::<Vec<_>>());
    restore(&backup, &target, &[&only[..], &["--drop"]].concat()).ends(0);
    assert_eq!(ids(&client, "shop", "orders").await, (90..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_filtered_too() {
    let ((backup, _source), (target, client)) = (backup().await, server().await);
    let mut command = backup.home.tool();
    command.env("RESTORE_URI", target.uri()).args(["restore", "--yes", "--filter", LATE, "--from"]);
    run(command.arg(backup.artifact())).ends(0).prints(&["shop.orders: 10 of 100 documents match"]);
    assert_eq!(ids(&client, "shop", "orders").await, (90..100).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_matches_nothing_needs_a_look() {
    let ((backup, _source), (target, _client)) = (backup().await, server().await);
    let ran = restore(&backup, &target, &["--filter", r#"{"status": "open"}"#]).ends(3);
    ran.prints(&["needs a look: no document matches the filter", "shop.orders: 0 of 100 documents match"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_filters_and_conflicting_flags_are_refused() {
    let ((backup, _source), (target, client)) = (backup().await, server().await);
    restore(&backup, &target, &["--filter", r#"{"a": {"$regex": "x"}}"#])
        .ends(2)
        .says(&["$regex", "Supported are"]);
    restore(&backup, &target, &["--filter", "status"]).ends(2).says(&["the filter is not JSON"]);
    for flag in ["--swap", "--exact", "--users"] {
        restore(&backup, &target, &["--filter", LATE, flag]).ends(2).says(&["cannot be used with", flag]);
    }
    for flag in ["--drop", "--swap", "--exact", "--users"] {
        restore(&backup, &target, &["--merge", flag]).ends(2).says(&["cannot be used with", flag]);
    }
    assert!(!client.list_database_names().await.expect("names").contains(&"shop".to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_are_not_restored_with_a_filter_or_a_merge() {
    let ((source, original), (target, client)) = (server().await, server().await);
    rows(&original, "shop", "orders", 0..5).await;
    let user = doc! {"createUser": "anna", "pwd": "x", "roles": ["read"]};
    original.database("shop").run_command(user).await.expect("a user");
    let backup = Backup::of(&source, &[]);
    for args in [&["--filter", r#"{"_id": 1}"#][..], &["--merge"]] {
        restore(&backup, &target, args).ends(0);
        let users = client.database("admin").run_command(doc! {"usersInfo": {"forAllDBs": true}}).await;
        assert!(users.expect("users").get_array("users").expect("users").is_empty(), "{args:?}");
    }
    assert_eq!(ids(&client, "shop", "orders").await, [0, 1, 2, 3, 4]);
    restore(&backup, &target, &["--drop"]).ends(0).prints(&["merged 1 user"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_and_time_series_are_refused_by_name() {
    let ((source, original), (target, client)) = (server().await, server().await);
    rows(&original, "shop", "orders", 0..5).await;
    for create in [
        doc! {"create": "recent", "viewOn": "orders", "pipeline": []},
        doc! {"create": "weather", "timeseries": {"timeField": "at"}},
    ] {
        original.database("shop").run_command(create).await.expect("a namespace");
    }
    let backup = Backup::of(&source, &["--db", "shop"]);
    let filter = ["--filter", r#"{"_id": {"$lt": 2}}"#];
    let refused = restore(&backup, &target, &filter).ends(2);
    refused.says(&[
        "shop.recent is a view",
        "shop.weather is a time series",
        "--ns-exclude shop.recent --ns-exclude shop.weather leaves them out",
        "Nothing was changed",
    ]);
    restore(&backup, &target, &["--merge"])
        .ends(2)
        .says(&["shop.weather is a time series", "--ns-exclude shop.weather"]);
    assert!(!client.list_database_names().await.expect("names").contains(&"shop".to_string()));
    let excluded = ["--ns-exclude", "shop.recent", "--ns-exclude", "shop.weather"];
    restore(&backup, &target, &[&filter[..], &excluded].concat()).ends(0);
    assert_eq!(ids(&client, "shop", "orders").await, [0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filter_compares_texts_of_a_collation_byte_by_byte_and_says_so() {
    let ((source, original), (target, client)) = (server().await, server().await);
    let create = doc! {"create": "people", "collation": {"locale": "en", "strength": 1}};
    original.database("shop").run_command(create).await.expect("a collection");
    let people = [doc! {"_id": 1, "name": "anna"}, doc! {"_id": 2, "name": "Anna"}];
    original.database("shop").collection("people").insert_many(people).await.expect("people");
    let backup = Backup::of(&source, &["--db", "shop"]);
    restore(&backup, &target, &["--filter", r#"{"name": "anna"}"#])
        .ends(0)
        .prints(&["note: shop.people has a collation, which the filter does not use"]);
    assert_eq!(ids(&client, "shop", "people").await, [1]);
}
