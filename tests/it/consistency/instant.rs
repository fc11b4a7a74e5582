//! Writes between two batches of one collection, at fixed points.

use bson::{Document, doc};
use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;
use uzima_testkit::wire_proxy::Rule;

use super::support::{by_mongorestore, by_restore, entries, operations, set, slice};
use crate::cli::support::run;
use crate::native::support::{insert, meanwhile, rows};
use crate::restore::support::{Backup, differences, server};

const DOCUMENTS: i32 = 1_500;
/// One document of the first batch, and one of the last.
const PAIR: [i32; 2] = [3, DOCUMENTS - 3];

async fn pay(client: Client) {
    let orders = client.database("shop").collection::<Document>("orders");
    for id in PAIR {
        orders.update_one(doc! {"_id": id}, doc! {"$set": {"paid": true}}).await.expect("an update");
    }
}

/// Writes to documents that were read already and to others, with every kind of oplog entry.
pub async fn write(client: Client) {
    let shop = client.database("shop");
    let orders = shop.collection::<Document>("orders");
    pay(client.clone()).await;
    // The document is read twice, because it moves behind the cursor.
    orders.delete_one(doc! {"_id": 7}).await.expect("a delete");
    orders.insert_one(doc! {"_id": 7, "again": true}).await.expect("an insert");
    orders.delete_one(doc! {"_id": DOCUMENTS - 1}).await.expect("a delete");
    let mut session = client.start_session().await.expect("a session");
    session.start_transaction().await.expect("a transaction");
    for (db, id) in [("shop", 1), ("other", 2), ("shop", 3)] {
        let pairs = client.database(db).collection::<Document>("pairs");
        pairs.insert_one(doc! {"_id": id}).session(&mut session).await.expect("an insert");
    }
    session.commit_transaction().await.expect("a commit");
    shop.collection::<Document>("gone").drop().await.expect("a drop");
    shop.collection::<Document>("anew").drop().await.expect("a drop");
    insert(&client, "shop", "anew", &rows(50, 5, 10)).await;
    insert(&client, "shop", "made", &rows(0, 5, 10)).await;
    let index = doc! {"createIndexes": "made", "indexes": [{"key": {"pad": 1}, "name": "pad_1"}]};
    shop.run_command(index).await.expect("an index");
    shop.run_command(doc! {"create": "view", "viewOn": "orders", "pipeline": []}).await.expect("a view");
    for name in ["oldview", "oldseries"] {
        shop.collection::<Document>(name).drop().await.expect("a drop");
    }
    series(&client, "newseries").await;
    let change = doc! {"collMod": "pairs", "validator": {"_id": {"$gt": 0}}};
    shop.run_command(change).await.expect("a collMod");
}

async fn user(client: &Client, name: &str) {
    let user = doc! {"createUser": name, "pwd": "x", "roles": ["backup"]};
    client.database("admin").run_command(user).await.expect("a user");
}

/// Creates a time series with one measurement.
async fn series(client: &Client, name: &str) {
    let shop = client.database("shop");
    shop.run_command(doc! {"create": name, "timeseries": {"timeField": "at"}}).await.expect("a time series");
    let row = doc! {"at": bson::DateTime::now(), "value": 1};
    shop.collection(name).insert_one(row).await.expect("a measurement");
}

/// A server, and a backup of it. `write` runs between two batches of the backup.
pub async fn dumped<W>(args: &[&str], write: W) -> (Mongod, Client, Backup)
where
    W: AsyncFn(Client) + Send + Sync + 'static,
{
    let (server, proxy, client) = set().await;
    insert(&client, "shop", "orders", &rows(0, DOCUMENTS, 2_000)).await;
    for (db, collection) in [("shop", "gone"), ("shop", "anew"), ("shop", "pairs"), ("other", "pairs")] {
        insert(&client, db, collection, &rows(10, 20, 10)).await;
    }
    let view = doc! {"create": "oldview", "viewOn": "orders", "pipeline": []};
    client.database("shop").run_command(view).await.expect("a view");
    series(&client, "oldseries").await;
    // Creating the first user writes to admin.system.version, which a slice cannot contain.
    user(&client, "first").await;
    let during = Rule::on("getMore").namespace("shop.orders").nth(1);
    let during = proxy.add(during.then(meanwhile(server.uri(), write)));
    let backup = Backup::at(&proxy.uri(&server.uri()), args);
    assert_eq!(proxy.hits(during), 1);
    (server, client, backup)
}

/// Whether each of the two documents is paid.
async fn paid(client: &Client) -> Vec<bool> {
    let mut out = Vec::new();
    for id in PAIR {
        let orders = client.database("shop").collection::<Document>("orders");
        let row = orders.find_one(doc! {"_id": id}).await.expect("a row").expect("a row");
        out.push(row.get_bool("paid").unwrap_or(false));
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_a_slice_restores_to_one_instant() {
    let (_server, original, backup) = dumped(&["--db", "shop"], write).await;
    assert_eq!(
        (backup.manifest.warnings.len(), backup.manifest.notes.len()),
        (0, 0),
        "drops are in the slice"
    );
    assert!(backup.manifest.consistency.why.contains("replica set"), "{}", backup.manifest.consistency.why);
    let operations = operations(&entries(&backup.manifest, &backup.home.artifact(&backup.manifest)));
    for wanted in ["u shop.orders", "i shop.pairs", "c shop.$cmd drop gone", "i shop.system.views"] {
        assert!(operations.iter().any(|o| o == wanted), "no {wanted} in {operations:?}");
    }
    assert!(!operations.iter().any(|o| o.contains("other")), "{operations:?}");
    let (_target, restored) = by_restore(&backup).await;
    assert_eq!(paid(&restored).await, [true, true]);
    original.database("other").drop().await.expect("a drop");
    assert_eq!(but_for_users(&original, &restored).await, Vec::<String>::new());
}

/// The differences, without users, which a backup of one database does not contain.
async fn but_for_users(a: &Client, b: &Client) -> Vec<String> {
    differences(a, b).await.into_iter().filter(|line| !line.starts_with("user")).collect()
}

/// The same without a slice shows two moments, which proves that the test above can fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_a_slice_restores_to_two_instants() {
    let (_server, _, backup) = dumped(&["--db", "shop", "--consistency", "none"], pay).await;
    let consistency = &backup.manifest.consistency;
    assert_eq!((consistency.achieved.as_str(), consistency.at), ("none", None));
    assert_eq!(consistency.why, "consistency = none");
    let (target, restored) = server().await;
    run(&mut backup.restore_into(&target)).ends(0);
    assert_eq!(paid(&restored).await, [false, true]);
}

/// The collection was read half. A restore brings that half back, and the replay drops it.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_dropped_under_its_cursor_is_not_restored() {
    let drop = async |client: Client| {
        client.database("shop").collection::<Document>("orders").drop().await.expect("a drop");
    };
    let (_server, original, backup) = dumped(&["--db", "shop"], drop).await;
    let orders = backup.manifest.namespaces.iter().find(|n| n.collection == "orders").expect("orders");
    assert!(orders.documents > 0 && orders.documents < DOCUMENTS as u64 && !orders.dropped, "{orders:?}");
    assert_eq!(
        operations(&entries(&backup.manifest, &backup.home.artifact(&backup.manifest))),
        ["c shop.$cmd drop orders"]
    );
    let (_target, restored) = by_restore(&backup).await;
    original.database("other").drop().await.expect("a drop");
    assert_eq!(but_for_users(&original, &restored).await, Vec::<String>::new());
}

/// The official mongorestore replays the slice from a tar and from an archive, but only when asked to.
#[tokio::test(flavor = "multi_thread")]
async fn mongorestore_replays_the_slice() {
    let name = "consistency::instant::mongorestore_replays_the_slice";
    let Some(tools) = Official::find(name) else { return };
    let write = async |client: Client| {
        write(client.clone()).await;
        user(&client, "second").await;
    };
    for format in ["tar.gz", "archive.zst"] {
        let (_server, original, backup) = dumped(&["--format", format], write).await;
        let entries = slice(&backup.manifest).entries;
        let (_target, restored) = by_mongorestore(&backup, &tools, &["--oplogReplay"]).await;
        assert_eq!(differences(&original, &restored).await, Vec::<String>::new(), "{format}");
        println!("{format}: mongorestore replayed {entries} entries, and the servers are equal");
        let (_target, mixed) = by_mongorestore(&backup, &tools, &[]).await;
        assert_eq!(paid(&mixed).await, [false, true], "{format}: without --oplogReplay");
    }
}
