//! `diff --documents` finds exactly the changed documents.

use std::collections::BTreeSet;
use std::sync::Arc;

use bson::{Document, doc};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use uzima_backup::base::progress::Meter;
use uzima_backup::config::store::DirOptions;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::ops::diff::{DiffOptions, DiffScope, DiffSide, MEMORY};
use uzima_backup::ops::restore::StoredBackup;
use uzima_backup::store::{DirStore, Store};

use super::support::{back_up, diff, diffed, of};
use crate::cli::support::{Home, run};
use crate::restore::support::{rows, server};

/// A value that must not be in a scratch file.
const CANARY: &str = "canary-of-a-value";

/// The `_id`s that a test added, removed and changed, as canonical Extended JSON.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    added: BTreeSet<String>,
    removed: BTreeSet<String>,
    changed: BTreeSet<String>,
}

impl Changes {
    fn of(contents: &Value) -> Changes {
        let list = |name: &str| {
            let ids = contents[name].as_array().expect("a list").iter();
            ids.map(|id| id.as_str().expect("a text").to_string()).collect::<BTreeSet<_>>()
        };
        let found =
            Changes { added: list("added_ids"), removed: list("removed_ids"), changed: list("changed_ids") };
        let counts = [("added", &found.added), ("removed", &found.removed), ("changed", &found.changed)];
        counts.iter().for_each(|(name, ids)| assert_eq!(contents[name], ids.len(), "{name}: {contents:#}"));
        found
    }
}

/// Two backups with random changes of `shop.orders` between them, in another natural order.
async fn changed(seed: u64) -> (Home, [Manifest; 2], Changes) {
    let (source, client) = server().await;
    let orders = client.database("shop").collection::<Document>("orders");
    let mut rng = SmallRng::seed_from_u64(seed);
    let id = |n: i32| match n % 3 {
        0 => (bson::Bson::Int32(n), format!(r#"{{"$numberInt":"{n}"}}"#)),
        1 => (bson::Bson::String(format!("{CANARY}-{n}")), format!(r#""{CANARY}-{n}""#)),
        _ => (bson::bson!({"a": n}), format!(r#"{{"a":{{"$numberInt":"{n}"}}}}"#)),
    };
    let document = |n: i32, version: i32| doc! {"_id": id(n).0, "version": version, "text": CANARY.repeat(3)};
    let mut first: Vec<Document> = (0..3_000).map(|n| document(n, 1)).collect();
    first.shuffle(&mut rng);
    orders.insert_many(&first).await.expect("orders");
    rows(&client, "shop", "same", 0..100).await;
    let home = Home::new();
    let before = back_up(&home, &source.uri());
    let (mut second, mut changes) = (Vec::new(), Changes::default());
    for n in 0..3_200 {
        let text = id(n).1;
        match rng.random_range(0..20) {
            _ if n >= 3_000 => {
                changes.added.insert(text);
                second.push(document(n, 1));
            }
            0 => drop(changes.removed.insert(text)),
            1 => {
                changes.changed.insert(text);
                second.push(document(n, 2));
            }
            _ => second.push(document(n, 1)),
        }
    }
    second.shuffle(&mut rng);
    orders.drop().await.expect("a drop");
    orders.insert_many(&second).await.expect("orders");
    let now = back_up(&home, &source.uri());
    (home, [before, now], changes)
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_changed_documents_are_found() {
    let seed = rand::random();
    println!("seed {seed}");
    let (home, [before, now], changes) = changed(seed).await;
    let report = diffed(&home, &before, &now, &["--documents", "--limit", "10000"]).ends(0).json();
    let contents = &of(&report, "shop.orders")["contents"];
    assert_eq!(Changes::of(contents), changes);
    assert_eq!((&contents["touched"], &contents["without_id"]), (&json!(0), &json!(0)));
    assert!(report["namespaces"].as_array().unwrap().iter().all(|row| row["namespace"] != "shop.same"));
    // The lists are short without a limit, and the numbers stay.
    let short = diffed(&home, &before, &now, &["shop.orders", "--documents"]).ends(0).json();
    let short = &of(&short, "shop.orders")["contents"];
    assert_eq!(short["added"], changes.added.len());
    assert_eq!(short["added_ids"].as_array().unwrap().len(), 20);
    let listed = |name: &str| contents[name].as_array().unwrap()[..20].to_vec();
    assert_eq!(short["changed_ids"], Value::from(listed("changed_ids")), "the first ones");
    let ids = [before.id.as_str(), now.id.as_str()];
    let text = run(&mut diff(&home, ids, &["--documents", "--limit", "1"])).ends(0).stdout;
    let counts = [&changes.added, &changes.removed, &changes.changed].map(BTreeSet::len);
    let line = format!("shop.orders: {} added, {} removed, {} changed", counts[0], counts[1], counts[2]);
    assert!(text.contains(&line), "{line}:\n{text}");
    assert!(text.contains(&format!("  added   and {} more (--limit)\n", counts[0] - 1)), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scratch_file_finds_what_memory_finds_and_is_not_left_behind() {
    let seed = rand::random();
    println!("seed {seed}");
    let (home, manifests, changes) = changed(seed).await;
    let store: Arc<dyn Store> = Arc::new(DirStore::new(DirOptions::new(home.backups())).expect("a store"));
    let scratch = tempfile::tempdir().expect("a folder");
    let mut found = Vec::new();
    for memory in [MEMORY, 200_000, 1] {
        let mut sides = Vec::new();
        for manifest in &manifests {
            let stored =
                StoredBackup::open(Arc::clone(&store), manifest.clone(), None).await.expect("opened");
            sides.push(DiffSide::of_stored(stored));
        }
        let options = DiffOptions {
            scope: DiffScope::All,
            documents: true,
            limit: 10_000,
            memory,
            scratch: scratch.path().into(),
        };
        let sides = sides.try_into().ok().expect("two sides");
        let report =
            uzima_backup::ops::diff::diff(sides, &options, &Meter::default()).await.expect("a comparison");
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "{memory}");
        let report = serde_json::to_value(&report).expect("JSON");
        found.push(of(&report, "shop.orders")["contents"].clone());
    }
    assert_eq!(Changes::of(&found[0]), changes);
    assert!(found.iter().all(|contents| contents == &found[0]), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_named_with_its_object() {
    let (home, [before, now], _) = changed(1).await;
    let path = home.backups().join(&now.artifact.key);
    let mut bytes = std::fs::read(&path).expect("an artifact");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::write(&path, bytes).expect("damage");
    diffed(&home, &before, &now, &["shop.orders"]).ends(0);
    diffed(&home, &before, &now, &["shop.orders", "--documents"])
        .ends(4)
        .says(&["shop.orders is damaged in ", &now.artifact.key]);
}
