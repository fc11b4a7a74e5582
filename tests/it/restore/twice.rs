//! One `_id` occurs twice in a backup, because a document was deleted and inserted again behind the cursor.

use bson::{doc, rawdoc};
use mongodb::Client;
use serde_json::json;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::wire_proxy::Rule;

use super::support::{Backup, differences, server};
use crate::cli::support::run;
use crate::native::support::{behind_a_proxy, insert, meanwhile, rows};

/// Documents of 100 KB, so that a segment has 671 of them.
const PAD: usize = 100_000;
/// The first documents of the first segment, and some near its end, which come again in the second segment.
const AGAIN: [i32; 6] = [0, 1, 2, 640, 641, 642];

async fn delete_and_reinsert(client: Client) {
    let orders = client.database("shop").collection::<bson::Document>("orders");
    let deleted = orders.delete_many(doc! {"_id": {"$in": AGAIN.to_vec()}}).await.expect("a delete");
    assert_eq!(deleted.deleted_count, AGAIN.len() as u64);
    let changed: Vec<_> = AGAIN.iter().map(|id| rawdoc! {"_id": *id, "changed": true}).collect();
    insert(&client, "shop", "orders", &changed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_of_two_documents_with_one_id_is_restored() {
    let (source, proxy, original) = behind_a_proxy().await;
    insert(&original, "shop", "orders", &rows(0, 700, PAD)).await;
    let during = Rule::on("getMore").namespace("shop.orders").nth(58);
    let during = proxy.add(during.then(meanwhile(source.uri(), delete_and_reinsert)));
    let backup = Backup::at(&proxy.uri(&source.uri()), &["--db", "shop"]);
    assert_eq!(proxy.hits(during), 1);
    assert_eq!(backup.manifest.totals.documents, 706, "six were read twice");
    let (target, restored) = server().await;
    let report = run(backup.restore_into(&target).arg("--json")).ends(0).json();
    let orders = &report["namespaces"][0];
    assert_eq!((&orders["documents"], &orders["superseded"]), (&json!(706), &json!(6)), "{report}");
    assert_eq!(differences(&original, &restored).await, Vec::<String>::new());
    // The restore has to read documents to find the later one, and to replace the earlier one. The role
    // `restore` allows neither.
    let target = Mongod::builder().auth().start().await.expect("mongod");
    target.create_user("bringer", "x", &[("restore", "admin")]).await.expect("a user");
    let mut command = backup.restore_into(&target);
    let uri = target.uri_as("bringer", "x", "admin");
    run(command.env("RESTORE_URI", uri)).ends(1).says(&["may not", "readWriteAnyDatabase", "--drop"]);
}
