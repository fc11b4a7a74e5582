//! The commands of the sections that restore a part of the data, or data of an earlier time.

use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Binary, doc, rawdoc};
use rand::RngExt;
use uzima_testkit::raw;
use uzima_testkit::read_all::read_all;

use super::data::{Data, one};
use super::shell::Shell;
use crate::cli::support::run;
use crate::pit::support::{mark, set};
use crate::restore::continued::support::{Case, insert_into};
use crate::restore::support::{Backup, rows, server};

pub async fn one_document(get: &str, back: &str) {
    let (source, live) = server().await;
    rows(&live, "shop", "orders", 0..20).await;
    let backup = Backup::of(&source, &[]);
    let shell = Shell::new(&backup.home.backups(), &source.uri());
    let said = shell.run(get);
    let ids = ["5", "2", "3", "4"].map(|id| format!("row {id} of shop.orders"));
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with('{')).collect();
    assert!(lines.len() == 4 && lines.iter().zip(&ids).all(|(line, id)| line.contains(id)), "{said}");

    let whole = read_all(&live).await.expect("the live data");
    let orders = live.database("shop").collection::<bson::Document>("orders");
    orders.delete_many(doc! {"_id": {"$in": [3, 7, 15]}}).await.expect("a mistake");
    let said = shell.run(back);
    assert!(said.contains("shop.orders: 9 of 20 documents match; 2 inserted, 7 there and equal"), "{said}");
    assert_eq!(orders.count_documents(doc! {}).await.expect("a count"), 19);
    rows(&live, "shop", "orders", 15..16).await;
    assert_eq!(whole.diff(&read_all(&live).await.expect("the live data")), Vec::<String>::new());
}

pub async fn an_interrupted_restore(goes_on: &str) {
    let case = Case::new().await;
    case.interrupt(&[], insert_into("e"), libc::SIGTERM).await.ends(143);
    let mut shell = Shell::new(&case.home.backups(), &case.target.uri());
    shell.id = case.id.clone();
    let said = shell.run(goes_on);
    assert!(said.contains("went on with the interrupted restore"), "{said}");
    case.assert_equal("continued").await;
}

pub async fn one_database(data: &Data, replace: &str) {
    let (target, live) = server().await;
    rows(&live, "shop", "orders", 0..5).await;
    rows(&live, "shop", "later", 0..5).await;
    rows(&live, "blog", "posts", 0..5).await;
    let before = read_all(&live).await.expect("the live data");
    let backup = data.backup("tar.gz");
    Shell::new(&backup.home.backups(), &target.uri()).run(replace);
    let after = read_all(&live).await.expect("the live data");
    for (db, collection) in [("shop", "later"), ("blog", "posts")] {
        assert_eq!(after.get(db, collection), before.get(db, collection));
    }
    let [mut wanted, mut found] = [data.original.clone(), after];
    wanted.retain(|db, _| db == "shop");
    found.retain(|db, collection| db == "shop" && collection != "later");
    assert!(wanted.namespaces.len() > 1);
    (wanted.users, wanted.roles) = (found.users.clone(), found.roles.clone());
    assert_eq!(wanted.diff(&found), Vec::<String>::new());
}

pub async fn before_a_mistake(point: &str, compared: &str) {
    let (server, client) = set(None).await;
    rows(&client, "shop", "orders", 0..10).await;
    let backup = Backup::of(&server, &[]);
    run(backup.home.to_dir(&server.uri()).arg("oplog")).ends(0);
    rows(&client, "shop", "orders", 10..20).await;
    let before = mark(&client).await;
    // The mistake is in a later second.
    while mark(&client).await.time <= before.time + 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let orders = client.database("shop").collection::<bson::Document>("orders");
    orders.delete_many(doc! {"_id": {"$lt": 15}}).await.expect("a mistake");

    let mut shell = Shell::new(&backup.home.backups(), &server.uri());
    shell.id = backup.manifest.id.to_string();
    let time = chrono::DateTime::from_timestamp(i64::from(before.time), 0).expect("a time");
    shell.time = time.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    shell.run(point);
    assert_eq!(orders.count_documents(doc! {}).await.expect("a count"), 20);
    run(backup.home.to_dir(&server.uri()).arg("backup")).ends(0);
    let said = shell.run(compared);
    assert!(said.contains("10 added"), "{said}");
}

pub async fn beside_live_data(data: &Data, beside: &str) {
    let (target, live) = server().await;
    rows(&live, "shop", "orders", 0..5).await;
    let before = read_all(&live).await.expect("the live data");
    let backup = data.backup("tar.gz");
    Shell::new(&backup.home.backups(), &target.uri()).run(beside);
    let mut after = read_all(&live).await.expect("the live data");
    assert_eq!(one(&after, "rescue_shop"), one(&data.original, "shop"));
    let restored = after.namespaces.keys().filter(|(db, _)| db.starts_with("rescue_")).count();
    let own = ["admin", "config", "local"];
    let wanted = data.original.namespaces.keys().filter(|(db, _)| !own.contains(&db.as_str())).count();
    assert!(wanted > 10 && restored >= wanted, "{restored} of {wanted}");
    after.retain(|db, _| db == "shop");
    assert_eq!(before.diff(&after), Vec::<String>::new());
}

pub async fn a_damaged_backup(newer: &str, sound: &str) {
    let ((source, original), (target, restored)) = (server().await, server().await);
    rows(&original, "shop", "carts", 0..10).await;
    let backup = Backup::of(&source, &[]);
    rows(&original, "shop", "carts", 10..20).await;
    let mut bytes = vec![0; 200 << 10];
    rand::rng().fill(&mut bytes[..]);
    let order = rawdoc! {"_id": 1, "data": Binary { subtype: BinarySubtype::Generic, bytes }};
    raw::insert(&original.database("shop"), "orders", &[order.as_bytes()]).await.expect("an order");
    run(backup.home.to_dir(&source.uri()).arg("backup")).ends(0);
    let damaged = backup.home.manifests().pop().expect("a backup");
    let artifact = backup.home.backups().join(&damaged.artifact.key);
    let mut whole = std::fs::read(&artifact).expect("the artifact");
    let middle = whole.len() / 2;
    whole[middle] = !whole[middle];
    std::fs::write(&artifact, whole).expect("the artifact");

    let mut shell = Shell::new(&backup.home.backups(), &target.uri());
    shell.id = damaged.id.to_string();
    let carts = restored.database("shop").collection::<bson::Document>("carts");
    let said = shell.run(newer);
    assert!(said.contains("shop.orders") && said.contains(backup.manifest.id.as_str()), "{said}");
    assert_eq!(carts.count_documents(doc! {}).await.expect("a count"), 10);
    shell.run(sound);
    assert_eq!(carts.count_documents(doc! {}).await.expect("a count"), 20);
    assert_eq!(restored.database("shop").list_collection_names().await.expect("names"), ["carts"]);
}
