//! The namespaces that are backed up: names that do not exist, the database in MONGO_URI, an empty server,
//! and a server that holds much less data than at the last backup.

use std::collections::{BTreeMap, BTreeSet};

use bson::{doc, rawdoc};
use uzima_backup::base::exit::Exit;
use uzima_backup::config::machine::Machine;
use uzima_backup::config::{Config, Raw};
use uzima_backup::ops::backup::BackupOptions;
use uzima_testkit::mongod::Mongod;

use super::support::{Shelf, failed, insert, only, rows, run};

async fn server() -> Mongod {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let names = [("shop", "orders"), ("shop", "carts"), ("crm", "people"), ("uzima_backup", "runs")];
    for (db, collection) in names {
        insert(&client, db, collection, &[rawdoc! { "_id": 1 }]).await;
    }
    server
}

/// Takes the selection from the settings, as the command line does.
fn settings(uri: &str, more: &[(&'static str, &str)]) -> impl FnOnce(&mut BackupOptions) {
    let list = |items: &str| Raw::List(items.split(',').map(str::to_owned).collect());
    let mut flags: BTreeMap<&'static str, Raw> =
        more.iter().map(|(key, items)| (*key, list(items))).collect();
    flags.insert("mongo_uri", Raw::Text(uri.to_owned()));
    let machine = Machine { host: "machine".into(), search_path: None, state_dir: None, cores: 1 };
    let config = Config::load(flags, &|_| None, std::iter::empty(), None, &machine).expect("a configuration");
    let settings = config.job.as_ref().expect("settings").clone();
    move |options| options.settings.selection = settings.selection
}

async fn namespaces(uri: &str, more: &[(&'static str, &str)]) -> BTreeSet<String> {
    let shelf = Shelf::new();
    let report = shelf.run(uri, settings(uri, more)).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    let names = shelf.decode(&report).documents.into_keys();
    names.filter(|name| !name.starts_with("admin.") && !name.starts_with("config.")).collect()
}

#[tokio::test]
async fn the_database_in_the_uri_is_selected_unless_it_is_admin() {
    let server = server().await;
    let at = |path: &str| format!("mongodb://{}/{path}?directConnection=true", server.host());
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    let all = set(&["shop.orders", "shop.carts", "crm.people"]);
    let shop = set(&["shop.orders", "shop.carts"]);
    assert_eq!(namespaces(&at(""), &[]).await, all);
    assert_eq!(namespaces(&at("admin"), &[]).await, all);
    assert_eq!(namespaces(&at("shop"), &[]).await, shop);
    assert_eq!(namespaces(&at("shop"), &[("databases", "crm")]).await, set(&["crm.people"]));
    assert_eq!(namespaces(&at("admin"), &[("databases", "crm,shop")]).await, all);
    assert_eq!(
        namespaces(&at(""), &[("include", "shop.*"), ("exclude", "*.carts")]).await,
        set(&["shop.orders"])
    );
}

#[tokio::test]
async fn a_database_or_collection_that_does_not_exist_is_an_error() {
    let server = server().await;
    for databases in [&["shpo"][..], &["shop", "shpo"]] {
        let (shelf, outcome) = run(&server.uri(), only(databases)).await;
        let text = failed(outcome);
        assert!(text.contains("'shpo' does not exist") && text.contains("spelling"), "{text}");
        shelf.assert_nothing().await;
    }
    for pattern in ["shop.ordres", "shpo.*", "SHOP.orders", "uzima_backup.*"] {
        let include = ["shop.carts".parse().unwrap(), pattern.parse().unwrap()];
        let (shelf, outcome) = run(&server.uri(), |o| o.settings.selection.include = include.into()).await;
        let text = failed(outcome);
        assert!(text.contains(&format!("'{pattern}'")), "{text}");
        shelf.assert_nothing().await;
    }
    let (_, outcome) = run(&server.uri(), |options| {
        options.settings.selection.include = vec!["*".parse().unwrap()];
        options.settings.selection.exclude = vec!["*.*".parse().unwrap()];
    })
    .await;
    assert!(failed(outcome).contains("that match the include pattern '*' are excluded"));
    // `--allow-empty` does not allow wrong names.
    let (_, outcome) = run(&server.uri(), |options| {
        options.settings.selection.databases = vec!["shpo".into()];
        options.allow_empty = true;
    })
    .await;
    assert!(failed(outcome).contains("'shpo'"));
}

#[tokio::test]
async fn an_empty_server_is_an_error_unless_allowed() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    // Neither the tool's own records nor the server's own collections count as data.
    insert(&client, "uzima_backup", "runs", &[rawdoc! { "_id": 1 }]).await;
    let shelf = Shelf::new();
    let text = failed(shelf.run(&server.uri(), |_| {}).await);
    assert!(text.contains(&server.host()) && text.contains("--allow-empty"), "{text}");
    shelf.assert_nothing().await;
    let report = shelf.run(&server.uri(), |options| options.allow_empty = true).await.expect("a backup");
    assert_eq!(report.exit(), Exit::Done);
    assert!(shelf.decode(&report).documents.keys().all(|name| name == "admin.system.version"));
    // A collection without documents counts as a collection.
    client.database("d").create_collection("c").await.expect("a collection");
    let report = shelf.run(&server.uri(), |_| {}).await.expect("a backup");
    assert_eq!(shelf.decode(&report).get("d.c").len(), 0);
}

#[tokio::test]
async fn a_collapsed_backup_is_stored_with_a_warning() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let d = client.database("d");
    insert(&client, "d", "large", &rows(0, 890, 10)).await;
    insert(&client, "d", "tenth", &rows(0, 100, 10)).await;
    insert(&client, "d", "small", &rows(0, 10, 10)).await;
    let shelf = Shelf::new();
    let run = async |exit: Exit, words: &str| {
        let report = shelf.run(&server.uri(), only(&["d"])).await.unwrap_or_else(|e| panic!("{}", e.chain()));
        let warnings = report.manifest.warnings.join("\n");
        assert_eq!(report.exit(), exit, "{warnings}");
        assert!(warnings.contains(words) && warnings.is_empty() == words.is_empty(), "{words}: {warnings}");
        (shelf.listed().await.len(), report.manifest)
    };
    assert_eq!(run(Exit::Done, "").await.0, 1);
    // A loss of less than a tenth is only noted.
    d.collection::<bson::Document>("small").drop().await.expect("a drop");
    let (count, manifest) = run(Exit::Done, "").await;
    assert_eq!(count, 2);
    assert!(manifest.notes[0].ends_with(": d.small with 10 documents vanished"), "{:?}", manifest.notes);
    assert_eq!(manifest.losses.expect("losses").namespaces[0].documents_before, 10);
    d.collection::<bson::Document>("tenth").drop().await.expect("a drop");
    assert_eq!(run(Exit::NeedsLook, "d.tenth").await.0, 3);
    // Backups of different jobs are not compared.
    let other =
        |options: &mut uzima_backup::ops::backup::BackupOptions| options.settings.job = "other@test".into();
    insert(&client, "d", "tenth", &rows(0, 100, 10)).await;
    assert_eq!(run(Exit::Done, "").await.0, 4);
    let half = d.collection::<bson::Document>("large").delete_many(doc! { "_id": { "$lt": 500 } }).await;
    assert_eq!(half.expect("a delete").deleted_count, 500);
    assert!(shelf.run(&server.uri(), other).await.is_ok_and(|report| report.exit() == Exit::Done));
    assert_eq!(
        run(Exit::NeedsLook, "had 990: d.large shrank from 890 documents to 390 documents").await.0,
        6
    );
}
