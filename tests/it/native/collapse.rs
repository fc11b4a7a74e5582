//! An empty server, and a server that holds much less data than at the last backup.

use bson::{doc, rawdoc};
use uzima_backup::base::exit::Exit;
use uzima_testkit::mongod::Mongod;

use super::support::{Shelf, failed, insert, only, rows};

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
        shelf.listed().await.len()
    };
    assert_eq!(run(Exit::Done, "").await, 1);
    // A loss of less than a tenth is not reported.
    d.collection::<bson::Document>("small").drop().await.expect("a drop");
    assert_eq!(run(Exit::Done, "").await, 2);
    d.collection::<bson::Document>("tenth").drop().await.expect("a drop");
    assert_eq!(run(Exit::NeedsLook, "d.tenth").await, 3);
    // Backups of different jobs are not compared.
    let other =
        |options: &mut uzima_backup::ops::backup::BackupOptions| options.settings.job = "other@test".into();
    insert(&client, "d", "tenth", &rows(0, 100, 10)).await;
    assert_eq!(run(Exit::Done, "").await, 4);
    let half = d.collection::<bson::Document>("large").delete_many(doc! { "_id": { "$lt": 500 } }).await;
    assert_eq!(half.expect("a delete").deleted_count, 500);
    assert!(shelf.run(&server.uri(), other).await.is_ok_and(|report| report.exit() == Exit::Done));
    assert_eq!(run(Exit::NeedsLook, "490 documents where the last backup had 990").await, 6);
}
