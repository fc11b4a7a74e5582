//! Namespaces that came, went or changed, from the manifests alone.

use bson::{Document, doc};
use serde_json::json;
use uzima_testkit::s3_server::S3Server;

use super::support::{back_up, diff, diffed, of};
use crate::cli::s3::to_s3;
use crate::cli::support::{Home, run};
use crate::encryption::support::{Encrypted, insert, standalone};
use crate::replay::support::commands;
use crate::restore::support::{rows, server};

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_server_is_found() {
    let (source, client) = server().await;
    for name in ["same", "inserted", "updated", "recreated", "options", "indexes"] {
        rows(&client, "shop", name, 0..50).await;
    }
    // A larger loss would be a collapse.
    rows(&client, "shop", "gone", 0..5).await;
    commands(
        &client,
        "shop",
        vec![
            doc! {"createIndexes": "indexes", "indexes": [
                {"key": {"a": 1}, "name": "a_1"}, {"key": {"b": 1}, "name": "b_1"}, {"key": {"c": 1}, "name": "c_1"},
            ]},
            doc! {"create": "view", "viewOn": "same", "pipeline": []},
        ],
    )
    .await;
    let home = Home::new();
    let before = back_up(&home, &source.uri());
    rows(&client, "shop", "inserted", 50..60).await;
    let shop = client.database("shop");
    let updated = shop.collection::<Document>("updated");
    updated
        .update_one(doc! {"_id": 7}, doc! {"$set": {"text": "row X of shop.updated"}})
        .await
        .expect("an update");
    shop.collection::<Document>("recreated").drop().await.expect("a drop");
    rows(&client, "shop", "recreated", 0..50).await;
    shop.collection::<Document>("gone").drop().await.expect("a drop");
    rows(&client, "other", "new", 0..3).await;
    commands(
        &client,
        "shop",
        vec![
            doc! {"collMod": "options", "validator": {"text": {"$exists": true}}},
            doc! {"dropIndexes": "indexes", "index": ["a_1", "b_1"]},
            doc! {"createIndexes": "indexes", "indexes": [
                {"key": {"b": 1}, "name": "b_1", "sparse": true}, {"key": {"d": 1}, "name": "d_1"},
            ]},
            doc! {"collMod": "view", "viewOn": "same", "pipeline": [{"$match": {"_id": 1}}]},
        ],
    )
    .await;
    let now = back_up(&home, &source.uri());
    let report = diffed(&home, &before, &now, &[]).ends(0).json();
    let names: Vec<_> = report["namespaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "other.new",
            "shop.gone",
            "shop.indexes",
            "shop.inserted",
            "shop.options",
            "shop.recreated",
            "shop.updated",
            "shop.view"
        ]
    );
    let facts = |name: &str| {
        let row = of(&report, name);
        let fields = ["change", "documents_changed", "options_changed", "recreated"];
        serde_json::Value::from(fields.map(|field| row[field].clone()).to_vec())
    };
    assert_eq!(facts("other.new"), json!(["added", true, false, false]));
    assert_eq!(facts("shop.gone"), json!(["removed", true, false, false]));
    assert_eq!(facts("shop.inserted"), json!(["changed", true, false, false]));
    assert_eq!(facts("shop.updated"), json!(["changed", true, false, false]));
    assert_eq!(facts("shop.options"), json!(["changed", false, true, false]));
    assert_eq!(facts("shop.recreated"), json!(["changed", false, false, true]));
    assert_eq!(facts("shop.view"), json!(["changed", false, true, false]));
    let indexes = of(&report, "shop.indexes");
    assert_eq!(facts("shop.indexes"), json!(["changed", false, false, false]));
    assert_eq!(indexes["indexes_added"], json!(["d_1"]));
    assert_eq!(indexes["indexes_removed"], json!(["a_1"]));
    assert_eq!(indexes["indexes_changed"], json!(["b_1"]));
    let inserted = of(&report, "shop.inserted");
    assert_eq!((&inserted["documents_before"], &inserted["documents"]), (&json!(50), &json!(60)));
    assert!(inserted["raw_bytes"].as_u64() > inserted["raw_bytes_before"].as_u64());
    // The other way round, what came has gone.
    let back = diffed(&home, &now, &before, &["shop.indexes"]).ends(0).json();
    assert_eq!(of(&back, "shop.indexes")["indexes_added"], json!(["a_1"]));
    assert_eq!((back["namespaces"].as_array().unwrap().len(), &back["equal"]), (1, &json!(0)));
    let equal = diffed(&home, &now, &before, &["shop.same"]).ends(0).json();
    assert_eq!((&equal["namespaces"], &equal["equal"]), (&json!([]), &json!(1)));
    let text = run(&mut diff(&home, [before.id.as_str(), "latest"], &[])).ends(0).stdout;
    assert_eq!(text.lines().filter(|line| line.starts_with("shop.")).count(), 7, "{text}");
    let line = text.lines().find(|line| line.starts_with("shop.indexes")).unwrap();
    assert!(line.ends_with("index +d_1, index -a_1, index ~b_1"), "{text}");
    let equal = report["equal"].as_u64().unwrap();
    let summary = format!("8 namespaces differ (1 added, 1 removed, 6 changed), {equal} are equal");
    assert_eq!(text.lines().last(), Some(summary.as_str()), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_manifests_are_read() {
    let (source, client) = server().await;
    rows(&client, "shop", "orders", 0..50).await;
    let (home, bucket) = (Home::new(), S3Server::start());
    let mut ids = Vec::new();
    for ids_of_more in [50..60, 60..70] {
        let backup = run(to_s3(&home, &source.uri(), &bucket).args(["backup", "--json"])).ends(0).json();
        ids.push(backup["id"].as_str().expect("an id").to_string());
        rows(&client, "shop", "orders", ids_of_more).await;
    }
    let from = bucket.calls().len();
    let mut command = to_s3(&home, "mongodb://127.0.0.1:1", &bucket);
    let report = run(command.arg("diff").args(&ids).arg("--json")).ends(0).json();
    assert_eq!(of(&report, "shop.orders")["documents"], 60);
    let calls = bucket.calls();
    let read: Vec<&str> =
        calls[from..].iter().map(|call| call.key.as_str()).filter(|key| !key.is_empty()).collect();
    let other: Vec<&&str> = read.iter().filter(|key| !key.ends_with("/manifest.json")).collect();
    assert!(other.is_empty() && read.len() <= 4, "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_names_are_explained() {
    let (source, client) = server().await;
    rows(&client, "shop", "orders", 0..5).await;
    let home = Home::new();
    let (before, now) = (back_up(&home, &source.uri()), back_up(&home, &source.uri()));
    let ids = [before.id.as_str(), now.id.as_str()];
    run(&mut diff(&home, ids, &["shop.order"])).ends(2).says(&[
        "has a namespace shop.order",
        "next step: ",
        "shop.orders",
    ]);
    run(&mut diff(&home, ids, &["shopp"])).ends(2).says(&["has a database shopp", "shop"]);
    run(&mut diff(&home, ["orders", "latest"], &[])).ends(2).says(&["'orders'", "diff --help"]);
    run(&mut diff(&home, [ids[0], ids[0]], &[])).ends(2).says(&["both names mean the backup"]);
    run(home.to_dir("mongodb://127.0.0.1:1").args(["diff", ids[0]])).ends(2);
    run(&mut diff(&home, ids, &["--limit", "3"])).ends(2).says(&["--documents"]);
    // As for a restore, an id that no backup has is no wrong usage.
    run(&mut diff(&home, [ids[0], "20200101T000000Z-aaaaaa"], &[])).ends(1).says(&["there is no backup"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_backups_need_an_identity() {
    let (server, encrypted) = (standalone().await, Encrypted::new());
    let before = encrypted.backup(&server.uri(), &[]);
    insert(&server.client().await.expect("a client"), 1_000..1_005).await;
    let now = encrypted.backup(&server.uri(), &[]);
    for args in [&[][..], &["--documents"]] {
        let ids = [before.id.as_str(), now.id.as_str()];
        run(&mut diff(&encrypted.home, ids, args)).ends(6).says(&["no identity file is named"]);
        let mut with_key = diff(&encrypted.home, ids, args);
        let report = run(with_key.arg("--identity").arg(&encrypted.key.file).arg("--json")).ends(0).json();
        let rows = of(&report, "canaryshop.canaryrows");
        assert_eq!((&rows["documents_before"], &rows["documents"]), (&json!(300), &json!(305)));
        let added = (!args.is_empty()).then_some(5_u64);
        assert_eq!(rows["contents"]["added"].as_u64(), added, "{rows:#}");
        assert_eq!(report["namespaces"].as_array().unwrap().len(), 1, "{report:#}");
    }
}
