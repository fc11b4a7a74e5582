//! Restores into servers from 8.3 on, imitated by a proxy in front of an older server.

use std::path::Path;

use bson::{Bson, Document, RawDocumentBuf, doc, rawdoc};
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Action, CommandError, Rule, WireProxy};

use super::support::{Backup, differences, server};
use crate::cli::support::{Home, run};
use crate::native::support::{behind_a_proxy, meanwhile};

/// Makes the proxy show time series as one namespace: no `system.buckets.X`, and the buckets in `X` with `rawData: true`.
fn without_bucket_collections(proxy: &WireProxy) {
    let raw = |command: &[u8]| {
        let document = RawDocumentBuf::from_bytes(command.to_vec()).expect("BSON");
        let mut out = RawDocumentBuf::new();
        for (n, (key, value)) in document.iter().flatten().enumerate() {
            match (n, value.as_str()) {
                (0, Some(name)) => out.append(key, format!("system.buckets.{name}")),
                _ if key.as_str() == "rawData" => {}
                _ => out.append(key, value),
            }
        }
        out.into_bytes()
    };
    let unlisted = |answer: &[u8]| {
        let mut document: Document = bson::deserialize_from_slice(answer).expect("BSON");
        if let Ok(batch) = document.get_document_mut("cursor").and_then(|c| c.get_array_mut("firstBatch")) {
            let name =
                |row: &Bson| row.as_document().and_then(|row| row.get_str("name").ok()).map(str::to_string);
            batch.retain(|row| name(row).is_none_or(|name| !name.starts_with("system.buckets.")));
        }
        document.to_vec().expect("BSON")
    };
    for command in ["insert", "count", "find", "aggregate", "delete"] {
        proxy.add(Rule::on(command).having("rawData").then(Action::rewrite(raw)));
    }
    proxy.add(Rule::on("listCollections").then(Action::edit(unlisted)));
    proxy.add(Rule::on("*").namespace("*.system.buckets.*").then(Action::fail(26)));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_series_without_bucket_collections_are_restored() {
    let (source, original) = server().await;
    let shop = original.database("shop");
    shop.run_command(doc! {"create": "series", "timeseries": {"timeField": "t", "metaField": "m"}})
        .await
        .unwrap();
    let points = (0..500).map(|n| doc! {"t": bson::DateTime::from_millis(n * 1000), "m": n % 7, "v": n});
    shop.collection("series").insert_many(points).await.expect("points");
    let index = doc! {"key": {"m": 1, "t": 1}, "name": "both"};
    shop.run_command(doc! {"createIndexes": "series", "indexes": [index]}).await.expect("an index");
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, proxy, live) = behind_a_proxy().await;
    without_bucket_collections(&proxy);
    let restore = |args: &[&str]| {
        let mut command = backup.restore_into(&target);
        run(command.env("RESTORE_URI", proxy.uri(&target.uri())).args(args))
    };
    restore(&[]).ends(0);
    assert_eq!(differences(&original, &live).await, Vec::<String>::new());
    // Existing buckets count as documents, so nothing is added to them without --drop.
    restore(&[]).ends(1).says(&["shop.series has", "--drop"]);
    restore(&["--drop"]).ends(0);
    assert_eq!(differences(&original, &live).await, Vec::<String>::new());
}

/// A dump of one collection whose validation level is `constraint`.
fn constrained(root: &Path, documents: &[RawDocumentBuf]) {
    let folder = root.join("dump/shop");
    std::fs::create_dir_all(&folder).expect("a folder");
    let bytes: Vec<u8> = documents.iter().flat_map(|document| document.as_bytes()).copied().collect();
    std::fs::write(folder.join("c.bson"), bytes).expect("documents");
    let metadata = r#"{"options":{"validator":{"a":{"$exists":true}},"validationLevel":"constraint"},
        "indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}],
        "collectionName":"c","type":"collection"}"#;
    std::fs::write(folder.join("c.metadata.json"), metadata).expect("metadata");
}

/// With the level `constraint` no insert can bypass the validator, so the restore sets the level last.
#[tokio::test(flavor = "multi_thread")]
async fn the_validation_level_constraint_is_set_when_the_documents_are_there() {
    let home = Home::new();
    let documents = [rawdoc! {"_id": 1, "a": 1}, rawdoc! {"_id": 2, "b": 1}];
    constrained(home.path(), &documents);
    let (target, proxy, live) = behind_a_proxy().await;
    let restore = || {
        let mut command = home.tool();
        command
            .env("RESTORE_URI", proxy.uri(&target.uri()))
            .args(["restore", "--yes", "--drop", "--json", "--from"]);
        run(command.arg(home.path().join("dump")))
    };
    // The test's server does not know this level: the proxy answers like a server that does.
    let taken = Action::rewrite(|_| rawdoc! {"ping": 1, "$db": "admin"}.into_bytes());
    let level = proxy.add(Rule::on("collMod").having("validationLevel").then(taken));
    restore().ends(0);
    assert_eq!(proxy.hits(level), 1);
    let order: Vec<String> = proxy.log().into_iter().map(|command| command.name).collect();
    let at = |name: &str| order.iter().rposition(|one| one == name).expect(name);
    assert!(at("create") < at("insert") && at("insert") < at("collMod"), "{order:?}");
    let sent = proxy.commands("create").pop().and_then(|command| command.body).expect("its body");
    assert_eq!(sent.get_str("validationLevel").ok(), Some("strict"));
    let sent = proxy.commands("collMod").pop().and_then(|command| command.body).expect("its body");
    assert_eq!(sent.get_str("validationLevel").ok(), Some("constraint"));
    assert_eq!(read_all(&live).await.expect("a snapshot of the server").documents(), 2);
    proxy.clear();
    let breaks = CommandError::new(12370902).message("found documents that break the validator");
    proxy.add(Rule::on("collMod").having("validationLevel").then(Action::Fail(breaks)));
    let report = restore().ends(1).json();
    let problem = report["namespaces"][0]["problems"][0].as_str().expect("a problem");
    assert!(problem.contains("break its validator: 2") && problem.contains("12370902"), "{problem}");
    assert_eq!(read_all(&live).await.expect("a snapshot of the server").documents(), 2);
}

/// A server that validates BSON refuses the whole command for one bad document in it. The other documents are
/// still written.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_is_no_valid_bson_is_counted_and_named() {
    let (source, original) = server().await;
    let rows = (0..50).map(|n| doc! {"_id": n});
    original.database("shop").collection("orders").insert_many(rows).await.expect("rows");
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, proxy, live) = behind_a_proxy().await;
    let invalid = || Action::Fail(CommandError::new(22).message("invalid UTF-8"));
    let insert = |nth| Rule::on("insert").namespace("shop.orders").nth(nth).then(invalid());
    let rules = [proxy.add(insert(1)), proxy.add(insert(4))];
    let mut command = backup.restore_into(&target);
    let report = run(command.env("RESTORE_URI", proxy.uri(&target.uri())).arg("--json")).ends(1).json();
    assert_eq!(rules.map(|rule| proxy.hits(rule)), [1, 1]);
    let row = &report["namespaces"][0];
    assert_eq!(row["refused"], 1, "{report}");
    let problem = row["problems"].to_string();
    assert!(problem.contains("invalid UTF-8") && problem.contains("_id "), "{problem}");
    assert_eq!(read_all(&live).await.expect("a snapshot of the server").documents(), 49);
}

/// `applyOps` of 9.0 refuses writes to buckets. The restore finds that out before it drops anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_writes_to_time_series_is_refused_by_a_server_without_bucket_collections() {
    use crate::replay::support::{Dump, insert, now, since, source};
    let (server, client) = source().await;
    insert(&client, "shop", "orders", 0..3).await;
    let create = doc! {"create": "series", "timeseries": {"timeField": "t"}};
    client.database("shop").run_command(create).await.expect("a series");
    let (start, dump) = (now(&client).await, Dump::of(&server));
    let point = doc! {"t": bson::DateTime::now()};
    client.database("shop").collection("series").insert_one(point).await.expect("a point");
    dump.oplog(&since(&client, start).await);
    let (target, proxy, live) = behind_a_proxy().await;
    let version = Action::edit(|answer| {
        let mut document: Document = bson::deserialize_from_slice(answer).expect("BSON");
        document.insert("version", "9.0.0");
        document.to_vec().expect("BSON")
    });
    proxy.add(Rule::on("buildInfo").then(version));
    insert(&live, "shop", "orders", 50..60).await;
    let untouched = meanwhile(target.uri(), async |_| panic!("nothing is dropped"));
    proxy.add(Rule::on("drop").namespace("shop.orders").then(untouched));
    let uri = proxy.uri(&target.uri());
    let says = ["writes to time series", "shop.series", "--ns-exclude shop.series", "--no-replay"];
    dump.restore(&uri, &["--drop"]).ends(1).says(&says);
    dump.restore(&uri, &["--drop", "--dry-run"]).ends(1).says(&says);
    assert_eq!(
        read_all(&live)
            .await
            .expect("a snapshot of the server")
            .get("shop", "orders")
            .unwrap()
            .documents
            .len(),
        10
    );
}
