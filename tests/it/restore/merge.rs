//! `restore --merge`: only documents whose `_id` is missing.

use bson::{Bson, Document, RawDocumentBuf, doc, rawdoc};
use mongodb::Client;
use serde_json::json;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Action, Rule};

use super::filter::ids;
use super::support::{Backup, rows, server};
use crate::cli::support::{Ran, run};
use crate::native::support::{behind_a_proxy, meanwhile};

async fn insert(client: &Client, collection: &str, documents: &[RawDocumentBuf]) {
    let documents: Vec<&[u8]> = documents.iter().map(|one| one.as_bytes()).collect();
    raw::insert(&client.database("shop"), collection, &documents).await.expect("documents");
}

async fn command(client: &Client, command: Document) {
    client.database("shop").run_command(command).await.expect("a command");
}

fn merge(backup: &Backup, target: &Mongod, args: &[&str]) -> Ran {
    run(backup.restore_into(target).arg("--merge").args(args))
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_documents_are_inserted_and_the_others_stay_and_are_counted() {
    let ((source, original), (target, client)) = (server().await, server().await);
    rows(&original, "shop", "orders", 0..2003).await;
    rows(&original, "shop", "items", 0..3).await;
    let index = doc! {"createIndexes": "items", "indexes": [{"key": {"text": 1}, "name": "text_1"}]};
    command(&original, index).await;
    command(&original, doc! {"collMod": "items", "validator": {"_id": {"$lt": 2}}}).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    rows(&client, "shop", "orders", 0..1960).await;
    let others = [
        rawdoc! {"_id": 1960},
        rawdoc! {"_id": 1961.0},
        rawdoc! {"text": "row 1962 of shop.orders", "_id": 1962_i64},
    ];
    insert(&client, "orders", &others).await;
    // A validator of the live collection does not apply, and the collection keeps it.
    command(
        &client,
        doc! {"collMod": "orders", "validator": {"_id": {"$lt": 5}}, "validationLevel": "moderate"},
    )
    .await;
    let before = read_all(&client).await.expect("a snapshot");
    let dry = merge(&backup, &target, &["--dry-run"]).ends(0);
    dry.prints(&[
        "only documents whose _id is missing",
        "shop.orders: 40 would be inserted, 1,960 there and equal, 3 there and different",
        "shop.items: 3 would be inserted, 0 there and equal, 0 there and different",
    ]);
    assert_eq!(before.diff(&read_all(&client).await.expect("a snapshot")), Vec::<String>::new());
    let planned = merge(&backup, &target, &["--dry-run", "--json"]).ends(0).json();
    crate::docs::schema::check("restore-dry-run", &planned);
    assert_eq!(
        (planned["merge"].clone(), planned["counted"][1]["merged"]["different"].clone()),
        (json!(true), json!(3))
    );
    let done = merge(&backup, &target, &[]).ends(3);
    let get = format!("`uzima-backup get {} shop.orders --id EJSON`", backup.manifest.id);
    done.prints(&[
        "restored 2 namespaces, 43 documents",
        "shop.orders: 40 inserted, 1,960 there and equal, 3 there and different",
        "needs a look: shop.orders: 3 documents are there and different, and stayed as they were: _id 1960, 1961, 1962",
        &get,
    ]);
    let after = read_all(&client).await.expect("a snapshot");
    let (was, is) = (before.get("shop", "orders").unwrap(), after.get("shop", "orders").unwrap());
    assert_eq!((&was.uuid, &was.options, &was.indexes), (&is.uuid, &is.options, &is.indexes));
    assert_eq!(is.documents.len(), 2003);
    assert!(was.documents.iter().all(|document| is.documents.contains(document)));
    // A collection that was not there has its options and indexes.
    let source = read_all(&original).await.expect("a snapshot");
    let (wanted, made) = (source.get("shop", "items").unwrap(), after.get("shop", "items").unwrap());
    assert_eq!((&wanted.options, &wanted.indexes), (&made.options, &made.indexes));
    assert_eq!(wanted.documents, made.documents);
    // Another merge finds everything.
    let again = merge(&backup, &target, &["--json"]).ends(3).json();
    crate::docs::schema::check("restore", &again);
    let merged = &again["namespaces"][1]["merged"];
    let counts =
        json!({"inserted": 0, "equal": 2000, "different": 3, "different_ids": ["1960", "1961", "1962"]});
    assert_eq!((&again["namespaces"][1]["to"], merged), (&json!("shop.orders"), &counts));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_with_a_filter_and_under_other_names_takes_only_what_matches() {
    let ((source, original), (target, client)) = (server().await, server().await);
    rows(&original, "shop", "orders", 0..100).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    rows(&client, "rescue", "orders", 0..5).await;
    let args = ["--filter", r#"{"_id": {"$lt": 10}}"#, "--ns-from", "shop.*", "--ns-to", "rescue.*"];
    // The texts of the present rows name the other database.
    let ran = merge(&backup, &target, &args).ends(3);
    ran.prints(&[
        "rescue.orders: 10 of 100 documents match; 5 inserted, 0 there and equal, 5 there and different",
    ]);
    assert_eq!(ids(&client, "rescue", "orders").await, (0..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collation_of_the_live_collection_decides_which_ids_are_equal() {
    let ((source, original), (target, client)) = (server().await, server().await);
    for live in [&original, &client] {
        command(live, doc! {"create": "people", "collation": {"locale": "en", "strength": 1}}).await;
    }
    insert(&original, "people", &[rawdoc! {"_id": "a"}, rawdoc! {"_id": "B"}, rawdoc! {"_id": "c"}]).await;
    command(&client, doc! {"create": "texts", "collation": {"locale": "en", "strength": 1}}).await;
    insert(&original, "texts", &[rawdoc! {"_id": "a"}, rawdoc! {"_id": "A"}, rawdoc! {"_id": "b"}]).await;
    insert(&client, "people", &[rawdoc! {"_id": "A"}, rawdoc! {"_id": "b"}]).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let dry = merge(&backup, &target, &["--dry-run"]).ends(0);
    dry.prints(&["shop.people: 1 would be inserted, 0 there and equal, 2 there and different"]);
    let done = merge(&backup, &target, &[]).ends(3);
    // Of two _ids that only the live collation makes equal, one is inserted.
    done.prints(&[
        "shop.people: 1 inserted, 0 there and equal, 2 there and different",
        "shop.texts: 2 inserted, 0 there and equal, 1 there and different",
    ]);
    let people = client.database("shop").collection::<Document>("people");
    let found: Vec<Bson> = people.distinct("_id", doc! {}).await.expect("ids");
    assert_eq!(found, ["A", "b", "c"].map(Bson::from));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_another_unique_index_refuses_is_named() {
    let ((source, original), (target, client)) = (server().await, server().await);
    insert(&original, "orders", &[rawdoc! {"_id": 1, "code": "a"}, rawdoc! {"_id": 2, "code": "b"}]).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    insert(&client, "orders", &[rawdoc! {"_id": 7, "code": "a"}]).await;
    let unique =
        doc! {"createIndexes": "orders", "indexes": [{"key": {"code": 1}, "name": "code_1", "unique": true}]};
    command(&client, unique).await;
    let ran = merge(&backup, &target, &[]).ends(1);
    ran.prints(&[
        "shop.orders: 1 inserted, 0 there and equal, 0 there and different",
        "needs a look: shop.orders: refused 1 document: _id 1 (code 11000",
        "code_1",
    ]);
    assert_eq!(ids(&client, "shop", "orders").await, [2, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_another_client_inserts_meanwhile_are_compared() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..20).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, proxy, client) = behind_a_proxy().await;
    rows(&client, "shop", "orders", 0..1).await;
    let write = async |client: Client| {
        rows(&client, "shop", "orders", 5..7).await;
        let other = client.database("shop").collection("orders");
        other.insert_one(doc! {"_id": 9, "other": true}).await.expect("a document");
    };
    // After the tool looked for present documents.
    let during = Rule::on("find").namespace("shop.orders").times(1).then(meanwhile(target.uri(), write));
    let during = proxy.add(during);
    let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
    command.env("RESTORE_URI", proxy.uri(&target.uri())).args(["restore", "latest", "--yes", "--merge"]);
    let ran = run(&mut command).ends(3);
    assert_eq!(proxy.hits(during), 1);
    ran.prints(&["shop.orders: 16 inserted, 3 there and equal, 1 there and different", "_id 9;"]);
    assert_eq!(ids(&client, "shop", "orders").await, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_another_client_replaces_meanwhile_is_named() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..20).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, proxy, client) = behind_a_proxy().await;
    rows(&client, "shop", "orders", 0..5).await;
    let replace = async |client: Client| {
        client.database("shop").collection::<Document>("orders").drop().await.expect("a drop");
    };
    let during = Rule::on("find").namespace("shop.orders").times(1).then(meanwhile(target.uri(), replace));
    let during = proxy.add(during);
    let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
    command.env("RESTORE_URI", proxy.uri(&target.uri())).args(["restore", "latest", "--yes", "--merge"]);
    let ran = run(&mut command).ends(1);
    assert_eq!(proxy.hits(during), 1);
    ran.says(&["shop.orders", "another client dropped or replaced it during the merge", "inserts the rest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn capped_collections_and_other_kinds_that_are_there_are_refused_and_views_stay() {
    let ((source, original), (target, client)) = (server().await, server().await);
    for name in ["log", "swapped", "orders"] {
        rows(&original, "shop", name, 0..3).await;
    }
    for name in ["recent", "latest"] {
        command(&original, doc! {"create": name, "viewOn": "orders", "pipeline": []}).await;
    }
    let backup = Backup::of(&source, &["--db", "shop"]);
    command(&client, doc! {"create": "log", "capped": true, "size": 4096}).await;
    command(&client, doc! {"create": "swapped", "viewOn": "orders", "pipeline": []}).await;
    command(&client, doc! {"create": "recent", "viewOn": "orders", "pipeline": [{"$match": {"_id": 1}}]})
        .await;
    let before = read_all(&client).await.expect("a snapshot");
    let refused = merge(&backup, &target, &[]).ends(2);
    refused.says(&[
        "shop.log would be merged into shop.log, which is capped",
        "shop.swapped would be merged into shop.swapped, which is a view at the target",
        "--ns-exclude shop.log --ns-exclude shop.swapped leaves them out",
    ]);
    assert_eq!(before.diff(&read_all(&client).await.expect("a snapshot")), Vec::<String>::new());
    let excluded = ["--ns-exclude", "shop.log", "--ns-exclude", "shop.swapped"];
    merge(&backup, &target, &excluded)
        .ends(0)
        .prints(&["note: the view shop.recent is there, and stays as it is"]);
    let after = read_all(&client).await.expect("a snapshot");
    assert_eq!(before.get("shop", "recent"), after.get("shop", "recent"));
    assert_eq!(after.get("shop", "latest").expect("a view").kind, "view");
    assert_eq!(ids(&client, "shop", "orders").await, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_merged_too() {
    let ((source, original), (target, client)) = (server().await, server().await);
    rows(&original, "shop", "orders", 0..10).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    rows(&client, "shop", "orders", 0..4).await;
    let mut command = backup.home.tool();
    command.env("RESTORE_URI", target.uri()).args(["restore", "--yes", "--merge", "--from"]);
    let counts = "shop.orders: 6 inserted, 4 there and equal, 0 there and different";
    run(command.arg(backup.artifact())).ends(0).prints(&[counts]);
    assert_eq!(ids(&client, "shop", "orders").await, (0..10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_the_right_to_read_is_refused_before_anything_is_changed() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..10).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let target = Mongod::builder().auth().start().await.expect("mongod");
    let client = target.client().await.expect("a client");
    rows(&client, "shop", "orders", 0..4).await;
    target.create_user("ben", "x", &[("restore", "admin")]).await.expect("a user");
    let as_ben = |args: &[&str]| {
        let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
        command.env("RESTORE_URI", target.uri_as("ben", "x", "admin"));
        run(command.args(["restore", "latest", "--yes", "--merge"]).args(args))
    };
    as_ben(&[]).ends(1).says(&["may not read shop.orders", "readWriteAnyDatabase", "Nothing was changed"]);
    assert_eq!(ids(&client, "shop", "orders").await, (0..4).collect::<Vec<_>>());
    // A refused insert leaves the documents that are there.
    let (guarded, proxy, live) = behind_a_proxy().await;
    rows(&live, "shop", "orders", 0..4).await;
    proxy.add(Rule::on("insert").namespace("shop.orders").then(Action::fail(13)));
    let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
    command.env("RESTORE_URI", proxy.uri(&guarded.uri())).args(["restore", "latest", "--yes", "--merge"]);
    run(&mut command).ends(1).says(&["shop.orders", "the same command inserts the rest"]);
    assert_eq!(ids(&live, "shop", "orders").await, (0..4).collect::<Vec<_>>());
}
