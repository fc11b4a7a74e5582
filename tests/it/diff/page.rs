//! The documents of `diff`: the commands of docs/operations.md, and the fields of docs/json.md.

use std::collections::BTreeSet;

use bson::doc;

use super::support::{back_up, diffed};
use crate::cli::support::Home;
use crate::docs::keys;
use crate::docs::schema::{check, of_output};
use crate::pages::{block, read};
use crate::readme::shell;
use crate::replay::support::source;
use crate::restore::support::rows;

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_compare_backups() {
    let (server, client) = source().await;
    rows(&client, "shop", "orders", 0..20).await;
    let home = Home::new();
    let before = back_up(&home, &server.uri());
    rows(&client, "shop", "orders", 20..25).await;
    back_up(&home, &server.uri());
    let page = read("docs/operations.md");
    let commands = block(&page, "What changed between two backups", "sh");
    assert_eq!(commands.lines().count(), 3);
    let commands = commands.replace("20261122T030000Z-b2x7nd", before.id.as_str());
    let settings = format!("export BACKUP_DIR='{}'\n", home.backups().display());
    let printed = shell(&(settings + &commands), home.path());
    assert_eq!(printed.matches("1 namespace differs (1 changed)").count(), 3, "{printed}");
    assert!(printed.contains("shop.orders: 5 added, 0 removed, 0 changed\n"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_md_describes_the_output() {
    let (server, client) = source().await;
    rows(&client, "shop", "orders", 0..20).await;
    let home = Home::new();
    let before = back_up(&home, &server.uri());
    rows(&client, "shop", "orders", 20..25).await;
    client.database("shop").collection("new").insert_one(doc! {"_id": 1}).await.expect("an insert");
    let now = back_up(&home, &server.uri());
    let report = diffed(&home, &before, &now, &["--documents"]).ends(0).json();
    check(&of_output(&["diff"]), &report);
    let mut all = BTreeSet::new();
    keys(&report, &mut all);
    let page = read("docs/json.md");
    let section = page.split("\n## `diff`\n").nth(1).unwrap().split("\n## ").next().unwrap();
    // The fields of an optime are described as in other sections.
    let missing: Vec<&String> = all.iter().filter(|key| !section.contains(&format!("`{key}`"))).collect();
    assert!(all.len() > 25 && missing.is_empty(), "{missing:?} of {all:?}");
}
