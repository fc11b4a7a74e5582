//! The MongoDB users in the pages have the rights that their purpose needs.

use bson::{doc, rawdoc};
use mongodb::Client;
use uzima_testkit::load::{self, Load};
use uzima_testkit::mongod::Mongod;

use super::{block, blocks, pages, read};
use crate::cli::support::run;
use crate::readme::shell;
use crate::replay::support::{Dump, entry};
use crate::restore::support::{Backup, differences, rows, server};

/// Creates the user in a page's code block, with the password `pw`.
async fn create(client: &Client, page: &str, heading: &str) {
    let page = read(page);
    let code = block(&page, heading, "js").replace("passwordPrompt()", "\"pw\"");
    let code =
        code.strip_prefix("db.getSiblingDB(\"admin\").createUser(").unwrap().strip_suffix(')').unwrap();
    // JavaScript allows keys without quotes, JSON does not.
    let quoted = |code: String, key: &str| code.replace(&format!("{key}: "), &format!("\"{key}\": "));
    let json = ["user", "pwd", "roles", "role", "db"].into_iter().fold(code.to_string(), quoted);
    let user: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
    let roles = bson::serialize_to_bson(&user["roles"]).unwrap();
    let create = doc! {"createUser": user["user"].as_str().unwrap(), "pwd": "pw", "roles": roles};
    client.database("admin").run_command(create).await.unwrap();
}

#[test]
fn each_is_created_by_a_test() {
    let users = |page: &String| {
        let text = read(page);
        let users = blocks(&text).into_iter().filter(|block| block.language == "js");
        users.map(|block| format!("{page}{}", block.heading)).collect::<Vec<_>>()
    };
    let mut found: Vec<String> = pages().iter().flat_map(users).collect();
    found.sort();
    assert_eq!(
        found,
        ["README.md## Restore", "README.md### The MongoDB user", "docs/restore.md## The target"]
    );
    let (readme, restore) = (read("README.md"), read("docs/restore.md"));
    assert_eq!(block(&readme, "Restore", "js"), block(&restore, "The target", "js"), "one user, two pages");
}

/// The README's user may read everything for a backup, and write its record.
#[tokio::test(flavor = "multi_thread")]
async fn the_one_for_backups_may_read_and_record() {
    let mongod = Mongod::builder().auth().start().await.unwrap();
    let client = mongod.client().await.unwrap();
    load::fill(&client, &Load { orders: 50, rows: 10, tiny: 2, ..Load::default() }).await.unwrap();
    create(&client, "README.md", "The MongoDB user").await;
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "export MONGO_URI='{}' BACKUP_DIR='{}'; uzima-backup backup --quiet; uzima-backup list",
        mongod.uri_as("backup", "pw", "admin"),
        folder.path().join("backups").display()
    );
    assert!(shell(&script, folder.path()).contains("completed"));
    let runs = client.database("uzima_backup").collection::<bson::Document>("runs");
    assert_eq!(runs.count_documents(doc! {"status": "completed"}).await.unwrap(), 1);
}

/// The user in the README and in docs/restore.md may do everything that a restore does. The restores end with
/// code 0, so all documents were counted. They replace existing data, users and `system.js`, and replay updates
/// and deletes.
#[tokio::test(flavor = "multi_thread")]
async fn the_one_for_restores_may_do_all_of_one() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..20).await;
    rows(&original, "shop", "system.js", 0..2).await;
    let reader = doc! {"createUser": "reader", "pwd": "x", "roles": ["readAnyDatabase"]};
    original.database("admin").run_command(reader).await.unwrap();
    let backup = Backup::of(&source, &[]);
    let target = Mongod::builder().auth().start().await.unwrap();
    let live = target.client().await.unwrap();
    create(&live, "docs/restore.md", "The target").await;
    let uri = target.uri_as("restore", "pw", "admin");
    rows(&live, "shop", "orders", 500..510).await;
    rows(&live, "shop", "system.js", 500..510).await;
    for args in [&["--drop"][..], &["--exact", "--no-users"]] {
        run(backup.restore_into(&target).env("RESTORE_URI", &uri).args(args)).ends(0);
    }
    let found = differences(&original, &live).await;
    let strangers = |line: &&String| !(line.contains("root") || line.contains("restore"));
    assert_eq!(found.iter().filter(strangers).collect::<Vec<_>>(), Vec::<&String>::new(), "{found:?}");
    let dump = Dump::of(&source);
    dump.oplog(&[
        entry(5, "i", "shop.orders", rawdoc! {"_id": 77}),
        entry(6, "d", "shop.orders", rawdoc! {"_id": 3}),
    ]);
    dump.restore(&uri, &["--drop"]).ends(0);
    let orders = live.database("shop").collection::<bson::Document>("orders");
    assert_eq!(orders.count_documents(doc! {}).await.unwrap(), 20);
    assert_eq!(orders.count_documents(doc! {"_id": 77}).await.unwrap(), 1);
}
