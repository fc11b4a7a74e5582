//! Many documents are compared with a scratch file and little memory.

use bson::{Document, doc, rawdoc};
use uzima_testkit::raw;

use super::support::{back_up, diff, diffed, of};
use crate::cli::support::{Home, peak};
use crate::restore::support::server;

/// The number of documents in each backup. Their hashes need more memory than `diff` uses, so it writes a scratch file.
const DOCUMENTS: i32 = 450_000;

/// The most memory of the command in KiB: 64 MiB for hashes, the rest for segments that are read and the program itself.
const MOST: u64 = 128 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn many_documents_need_little_memory_and_no_file_is_left() {
    let (source, client) = server().await;
    let shop = client.database("shop");
    for begin in (0..DOCUMENTS).step_by(50_000) {
        let rows: Vec<_> = (begin..begin + 50_000).map(|n| rawdoc! {"_id": n, "n": 0}).collect();
        let rows: Vec<&[u8]> = rows.iter().map(|row| row.as_bytes()).collect();
        raw::insert(&shop, "orders", &rows).await.expect("rows");
    }
    let home = Home::new();
    let before = back_up(&home, &source.uri());
    let orders = shop.collection::<Document>("orders");
    orders.update_many(doc! {"_id": {"$mod": [1_000, 7]}}, doc! {"$inc": {"n": 1}}).await.expect("updates");
    orders.delete_many(doc! {"_id": {"$mod": [1_000, 8]}}).await.expect("deletes");
    let now = back_up(&home, &source.uri());
    let scratch = tempfile::tempdir().expect("a folder");
    let ids = [before.id.as_str(), now.id.as_str()];
    let peak = peak(diff(&home, ids, &["--documents"]).env("TMPDIR", scratch.path()));
    println!("peak memory {} MiB for {DOCUMENTS} documents in each backup", peak >> 10);
    assert!(peak < MOST, "{peak} KiB");
    assert_eq!(std::fs::read_dir(scratch.path()).expect("the folder").count(), 0);
    let report = diffed(&home, &before, &now, &["--documents", "--limit", "1"]).ends(0).json();
    let contents = &of(&report, "shop.orders")["contents"];
    assert_eq!((&contents["changed"], &contents["removed"]), (&450.into(), &450.into()));
    assert_eq!(contents["changed_ids"], serde_json::json!([r#"{"$numberInt":"7"}"#]));
    // The scratch file is needed: without a folder for it, nothing can be compared.
    let mut nowhere = diff(&home, ids, &["--documents"]);
    let refused = crate::cli::support::run(nowhere.env("TMPDIR", "/nonexistent"));
    refused.ends(1).says(&["cannot create a scratch file in /nonexistent", "next step: Set TMPDIR"]);
}
