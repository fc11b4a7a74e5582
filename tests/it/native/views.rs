//! Views whose definition is invalid: MongoDB then lists no collection of the database, and mongodump fails.

use std::process::Command;

use bson::{Bson, Document, doc, rawdoc};
use mongodb::Client;
use uzima_backup::base::exit::Exit;
use uzima_backup::config::choices::EngineChoice;
use uzima_backup::ops::backup::BackupOptions;
use uzima_testkit::mongod::{Mongod, Version, connect};
use uzima_testkit::standin::{Play, StandIn};

use super::support::{Shelf, insert};
use crate::cli::support::{Home, run};

/// Writes a view definition past the server's checks, as an old server or a replayed oplog may leave one.
async fn define(client: &Client, db: &str, definition: Document) {
    let insert = doc! { "op": "i", "ns": format!("{db}.system.views"), "o": definition };
    client.database("admin").run_command(doc! { "applyOps": [insert] }).await.expect("a definition");
}

/// In `shop`, a collection and a good view. In `other`, a collection.
async fn fill(client: &Client) {
    for db in ["shop", "other"] {
        insert(client, db, "orders", &[rawdoc! { "_id": 1 }, rawdoc! { "_id": 2 }]).await;
    }
    let good = doc! { "create": "good", "viewOn": "orders", "pipeline": [{ "$match": { "_id": 1 } }] };
    client.database("shop").run_command(good).await.expect("a view");
}

fn none() -> Vec<Bson> {
    Vec::new()
}

async fn listing_fails(client: &Client) {
    let error = client.database("shop").list_collection_names().await.expect_err("an invalid view");
    assert!(error.to_string().contains("InvalidViewDefinition"), "{error}");
}

#[tokio::test]
async fn an_invalid_view_is_backed_up_by_its_definition_and_named() {
    for version in [Version::V4_4_2, Version::V6_0_5] {
        let server = Mongod::builder().version(version).start().await.expect("mongod");
        let client = server.client().await.expect("a client");
        fill(&client).await;
        if version >= Version::V5_0_32 {
            let series = doc! { "create": "weather", "timeseries": { "timeField": "t" } };
            client.database("shop").run_command(series).await.expect("a time series");
            let reading = doc! { "t": bson::DateTime::now(), "x": 1 };
            client.database("shop").collection("weather").insert_one(reading).await.expect("a reading");
        }
        let before = Shelf::new().run(&server.uri(), |_| {}).await.expect("a backup").manifest;
        define(&client, "shop", doc! { "_id": "shop.bad", "viewOn": 7, "pipeline": none() }).await;
        listing_fails(&client).await;

        let shelf = Shelf::new();
        let report = shelf.run(&server.uri(), |_| {}).await.unwrap_or_else(|e| panic!("{}", e.chain()));
        assert_eq!(report.exit(), Exit::NeedsLook, "{version:?}");
        let [warning] = &report.manifest.warnings[..] else { panic!("{:?}", report.manifest.warnings) };
        assert!(
            warning.contains("the view shop.bad is invalid") && warning.contains("applyOps"),
            "{warning}"
        );
        let decoded = shelf.decode(&report);
        assert!(decoded.metadata["shop.bad"].contains("\"viewOn\":{\"$numberInt\":\"7\"}"));
        assert_eq!(decoded.get("shop.orders").len(), 2);
        // Options, indexes and documents of all other namespaces are the same as when the server could list
        // them.
        let mut namespaces = report.manifest.namespaces.clone();
        namespaces.retain(|namespace| namespace.collection != "bad");
        assert_eq!(namespaces, before.namespaces, "{version:?}");

        // If the view is excluded, there is no warning.
        let exclude = |options: &mut BackupOptions| {
            options.settings.selection.exclude = vec!["shop.bad".parse().expect("a pattern")];
        };
        let report = Shelf::new().run(&server.uri(), exclude).await.expect("a backup");
        assert_eq!((report.exit(), report.manifest.warnings.as_slice()), (Exit::Done, &[][..]));
        assert_eq!(report.manifest.namespaces, before.namespaces, "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_form_of_an_invalid_definition_is_named_and_health_warns() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    for (definition, words) in [
        (doc! { "_id": "shop.bad", "viewOn": "orders", "pipeline": "x" }, "the view shop.bad is invalid"),
        (
            doc! { "_id": "shop.bad", "viewOn": "orders", "pipeline": none(), "extra": 1 },
            "the view shop.bad is invalid",
        ),
        // Only the server can see which definition is invalid.
        (
            doc! { "_id": "shop.bad", "viewOn": "orders", "pipeline": none(), "collation": { "locale": "nowhere" } },
            "one of the views of shop is invalid",
        ),
        (doc! { "_id": "elsewhere.bad", "viewOn": "orders", "pipeline": none() }, "names no view of shop"),
        (doc! { "_id": 5 }, "{\"_id\":{\"$numberInt\":\"5\"}}"),
    ] {
        for db in ["shop", "other"] {
            client.database(db).drop().await.expect("a drop");
        }
        fill(&client).await;
        define(&client, "shop", definition.clone()).await;
        listing_fails(&client).await;
        let shelf = Shelf::new();
        let report = shelf.run(&server.uri(), |_| {}).await.unwrap_or_else(|e| panic!("{}", e.chain()));
        let warnings = report.manifest.warnings.join("\n");
        assert!(report.exit() == Exit::NeedsLook && warnings.contains(words), "{definition}: {warnings}");
        let decoded = shelf.decode(&report);
        assert!(decoded.metadata.contains_key("shop.good"), "{definition}");
        assert_eq!((decoded.get("shop.orders").len(), decoded.get("other.orders").len()), (2, 2));
    }
    let home = Home::new();
    let health = ["health", "--json", "--only", "namespaces"];
    let report = run(home.to_dir(&server.uri()).args(health)).ends(0).json();
    let row = report["checks"].as_array().and_then(|rows| rows.last()).expect("a row");
    assert_eq!((&report["healthy"], &row["outcome"]), (&true.into(), &"warning".into()), "{report}");
    assert!(row["next_step"].is_string() && row["detail"].to_string().contains("shop"), "{report}");
    let text = run(home.to_dir(&server.uri()).args(["health", "--only", "namespaces"])).ends(0).stdout;
    assert!(text.starts_with("warning  namespaces  ") && text.contains("next step: "), "{text}");
    assert!(text.ends_with("healthy: 1 warning\n"), "{text}");
    let plan = run(home.to_dir(&server.uri()).args(["backup", "--dry-run", "--json"])).ends(0).json();
    assert_eq!(plan["warnings"].as_array().map(Vec::len), Some(1), "{plan}");

    // mongodump cannot list the database: the native engine reads, with a warning if mongodump was asked for.
    let mongodump = StandIn::create(&[Play::archive(vec![])]).expect("a stand-in");
    for (choice, warnings) in [(EngineChoice::Auto, 1), (EngineChoice::Mongodump, 2)] {
        let choose = |options: &mut BackupOptions| {
            options.settings.engine = choice;
            options.settings.mongodump_path = Some(mongodump.program());
        };
        let report =
            Shelf::new().run(&server.uri(), choose).await.unwrap_or_else(|e| panic!("{}", e.chain()));
        let (engine, found) = (&report.manifest.engine, &report.manifest.warnings);
        assert_eq!((engine.name.as_str(), found.len()), ("native", warnings), "{found:?}");
        assert!(engine.why.contains("cannot list the collections of shop"), "{engine:?}");
    }
    assert!(mongodump.runs().expect("runs").is_empty(), "mongodump is not run");
}

/// The built-in role `backup` may not read `system.views`.
#[tokio::test]
async fn view_definitions_that_the_user_may_not_read_are_reported_as_missing() {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let root = server.client().await.expect("a client");
    // Not even root may write a definition past the checks.
    let all = doc! { "resource": { "anyResource": true }, "actions": ["anyAction"] };
    let role = doc! { "createRole": "anything", "privileges": [all], "roles": [] };
    root.database("admin").run_command(role).await.expect("a role");
    server.create_user("anybody", "pw", &[("anything", "admin")]).await.expect("a user");
    let client = connect(&server.uri_as("anybody", "pw", "admin")).await.expect("a client");
    fill(&client).await;
    define(&client, "shop", doc! { "_id": "shop.bad", "viewOn": 7, "pipeline": none() }).await;
    server.create_user("backup", "pw", &[("backup", "admin")]).await.expect("a user");
    let uri = server.uri_as("backup", "pw", "admin");
    let shelf = Shelf::new();
    let report = shelf.run(&uri, |_| {}).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    let [warning] = &report.manifest.warnings[..] else { panic!("{:?}", report.manifest.warnings) };
    assert!(warning.contains("the views of shop are not in the backup"), "{warning}");
    assert!(warning.contains("grant find on it"), "{warning}");
    let decoded = shelf.decode(&report);
    assert_eq!((decoded.get("shop.orders").len(), decoded.get("other.orders").len()), (2, 2));
    assert!(!decoded.metadata.contains_key("shop.good"));
    // The whole database is excluded, so there is no warning.
    let exclude = |options: &mut BackupOptions| {
        options.settings.selection.exclude = vec!["shop.*".parse().expect("a pattern")];
    };
    let report = Shelf::new().run(&uri, exclude).await.expect("a backup");
    assert_eq!((report.exit(), report.manifest.warnings.as_slice()), (Exit::Done, &[][..]));
}

/// A definition that the server lists and cannot run is backed up without running it.
#[tokio::test]
async fn a_view_that_cannot_be_run_is_backed_up() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    fill(&client).await;
    for definition in [
        doc! { "_id": "shop.unknown_stage", "viewOn": "orders", "pipeline": [{ "$nosuch": 1 }] },
        doc! { "_id": "shop.of_itself", "viewOn": "of_itself", "pipeline": none() },
        doc! { "_id": "shop.there", "viewOn": "back", "pipeline": none() },
        doc! { "_id": "shop.back", "viewOn": "there", "pipeline": none() },
        doc! { "_id": "shop.of_nothing", "viewOn": "missing", "pipeline": none() },
    ] {
        define(&client, "shop", definition).await;
    }
    for n in 0..30 {
        let on = if n == 0 { "orders".to_owned() } else { format!("deep{}", n - 1) };
        define(&client, "shop", doc! { "_id": format!("shop.deep{n}"), "viewOn": on, "pipeline": none() })
            .await;
    }
    let home = Home::new();
    let tool: &mut Command = &mut home.to_dir(&server.uri());
    let report = run(tool.args(["backup", "--json"])).ends(0).json();
    assert_eq!(report["warnings"], serde_json::json!([]), "{report}");
    let shelf = Shelf::new();
    let report = shelf.run(&server.uri(), |_| {}).await.expect("a backup");
    let decoded = shelf.decode(&report);
    for view in ["unknown_stage", "of_itself", "there", "back", "of_nothing", "deep29", "good"] {
        assert!(decoded.metadata.contains_key(&format!("shop.{view}")), "{view}");
    }
}
