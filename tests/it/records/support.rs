//! The tool with records switched on, and the records that it wrote.

use std::process::Command;

use bson::{Document, doc};
use futures_util::TryStreamExt;
use mongodb::{Client, Collection};
use uzima_testkit::mongod::Mongod;

use crate::cli::support::Home;

/// The tool that backs up to the home's folder, with the records in their default place.
pub fn recording(home: &Home, uri: &str) -> Command {
    let mut command = home.to_dir(uri);
    command.env_remove("BACKUP_RECORDS");
    command
}

/// A server with a collection.
pub async fn server() -> (Mongod, Client) {
    filled(Mongod::builder().start().await.expect("mongod")).await
}

/// A server with access control.
pub async fn guarded() -> (Mongod, Client) {
    filled(Mongod::builder().auth().start().await.expect("mongod")).await
}

async fn filled(server: Mongod) -> (Mongod, Client) {
    let client = server.client().await.expect("a client");
    let rows = (0..500).map(|n| doc! {"_id": n, "text": "x".repeat(100)});
    client.database("shop").collection("rows").insert_many(rows).await.expect("rows");
    (server, client)
}

/// The collection of the records.
pub fn runs(client: &Client) -> Collection<Document> {
    client.database("uzima_backup").collection("runs")
}

/// All records, newest first.
pub async fn recorded(client: &Client) -> Vec<Document> {
    let found = runs(client).find(doc! {}).sort(doc! {"started_at": -1}).await.expect("records");
    found.try_collect().await.expect("records")
}

/// A text field of each record, newest first.
pub async fn of_each(client: &Client, key: &str) -> Vec<String> {
    let records = recorded(client).await;
    records.iter().map(|record| text(record, key).to_string()).collect()
}

/// A text field of a record.
#[track_caller]
pub fn text<'a>(record: &'a Document, key: &str) -> &'a str {
    record.get_str(key).unwrap_or_else(|e| panic!("{key}: {e} in {record}"))
}
