//! Drills on an existing server that has data of its own.

use bson::doc;
use mongodb::Client;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_all;
use uzima_testkit::torture;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use crate::cli::signals::{STALL, ends_by, start, until};
use crate::cli::support::run;
use crate::native::support::meanwhile;
use crate::restore::support::{Backup, rows, server};

/// `verify latest --drill` on this server.
pub fn drill(backup: &Backup, uri: &str) -> std::process::Command {
    let mut command = backup.home.to_dir("mongodb://127.0.0.1:1");
    command.env("DRILL_URI", uri).args(["verify", "latest", "--drill"]);
    command
}

pub async fn databases(client: &Client) -> Vec<String> {
    let mut names = client.list_database_names().await.expect("names");
    names.retain(|name| name.starts_with("uzima_drill_"));
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_leaves_the_data_of_its_server_unchanged() {
    let (source, original) = server().await;
    torture::fill(&original).await.expect("the torture database");
    let backup = Backup::of(&source, &[]);
    // The server that was backed up: nothing on it is touched.
    let before = read_all(&original).await.expect("all of it");
    let drilled = run(&mut drill(&backup, &source.uri())).ends(0);
    assert!(drilled.stdout.contains("an existing server"), "{}", drilled.stdout);
    assert_eq!(before.diff(&read_all(&original).await.expect("all of it")), Vec::<String>::new());
    assert_eq!(databases(&original).await, Vec::<String>::new());
    let list = run(backup.home.to_dir(&source.uri()).args(["list", "--json"])).ends(0).json();
    let drilled = list["backups"][0]["verified"]["drilled_at"].as_str().expect("a drill");
    assert!(drilled.starts_with(&chrono::Utc::now().format("%F").to_string()), "{list}");
}

/// The server changes a restored document and an index. The backup is then not good any more.
#[tokio::test(flavor = "multi_thread")]
async fn differences_are_found_and_named() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..500).await;
    let index = doc! {"key": {"text": 1}, "name": "text_1"};
    let create = doc! {"createIndexes": "orders", "indexes": [index]};
    original.database("shop").run_command(create).await.expect("an index");
    let backup = Backup::of(&source, &["--db", "shop", "--job", "nightly"]);
    let target = Mongod::builder().start().await.expect("mongod");
    let proxy = WireProxy::start(&[target.host()]).expect("a proxy");
    let changes = meanwhile(target.uri(), async |client| {
        let names = databases(&client).await;
        let db = client.database(&names[0]);
        db.run_command(doc! {"dropIndexes": "orders", "index": "text_1"}).await.expect("no index");
        let update = doc! {"q": {"_id": 7}, "u": {"$set": {"text": "row 8 of shop.orders"}}};
        db.run_command(doc! {"update": "orders", "updates": [update]}).await.expect("an update");
    });
    let built = proxy.add(Rule::on("createIndexes").then(changes));
    let differs = run(&mut drill(&backup, &proxy.uri(&target.uri()))).ends(4);
    assert_eq!(proxy.hits(built), 1);
    for word in
        ["DIFFERS", "shop.orders: the hash of its documents", "shop.orders: its index 'text_1' is missing"]
    {
        assert!(differs.stdout.contains(word), "{word}: {}", differs.stdout);
    }
    let live = target.client().await.expect("a client");
    assert_eq!(databases(&live).await, Vec::<String>::new());
    let health = |args: &[&str]| {
        run(backup.home.to_dir(&source.uri()).args(["health", "--job", "nightly"]).args(args))
    };
    let stale = health(&["--only", "freshness"]).ends(5);
    assert!(stale.stdout.contains("shop.orders: the hash"), "{}", stale.stdout);
    // Reading the artifact again does not change that; another drill does.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    run(backup.home.to_dir(&source.uri()).arg("verify")).ends(0);
    health(&["--only", "freshness"]).ends(5);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    run(&mut drill(&backup, &target.uri())).ends(0);
    health(&["--only", "freshness", "--only", "drill"]).ends(0);
}

/// A server that fails says nothing about the backup.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_drill_server_does_not_make_the_backup_damaged() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..500).await;
    let backup = Backup::of(&source, &["--db", "shop", "--job", "nightly"]);
    let target = Mongod::builder().start().await.expect("mongod");
    let proxy = WireProxy::start(&[target.host()]).expect("a proxy");
    proxy.add(Rule::on("insert").namespace("*.orders").then(Action::fail(14031)));
    run(&mut drill(&backup, &proxy.uri(&target.uri()))).ends(1).says(&["says nothing about the backup"]);
    assert_eq!(databases(&target.client().await.expect("a client")).await, Vec::<String>::new());
    run(backup.home.to_dir(&source.uri()).args(["health", "--job", "nightly", "--only", "freshness"]))
        .ends(0);
}

/// After a signal the drill drops its databases. After a kill the next drill reports them, and a drill one
/// day later removes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_drill_removes_its_databases_after_a_signal_and_a_later_one_after_a_kill() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..500).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = server().await;
    rows(&live, "shop", "orders", 0..3).await;
    let proxy = WireProxy::start(&[target.host()]).expect("a proxy");
    let stalled = |proxy: &WireProxy| {
        proxy.clear();
        proxy.add(Rule::on("insert").namespace("*.orders").then(Action::Stall(STALL)))
    };
    let rule = stalled(&proxy);
    let child = start(&mut drill(&backup, &proxy.uri(&target.uri())));
    until("it restores", || proxy.hits(rule) == 1);
    assert_eq!(databases(&live).await.len(), 1);
    ends_by(child, libc::SIGTERM, 143);
    assert_eq!(databases(&live).await, Vec::<String>::new());

    proxy.close_all();
    let rule = stalled(&proxy);
    let mut child = start(&mut drill(&backup, &proxy.uri(&target.uri())));
    until("it restores", || proxy.hits(rule) == 1);
    child.kill().expect("a kill");
    child.wait().expect("its end");
    let left = databases(&live).await;
    assert_eq!(left.len(), 1);
    let printed = run(&mut drill(&backup, &target.uri())).ends(3).stdout;
    for word in [&left[0], backup.manifest.id.as_str(), "a day later"] {
        assert!(printed.contains(word), "{printed}");
    }
    assert_eq!(databases(&live).await, left);
    let marker = live.database(&left[0]).collection::<bson::Document>("uzima_drill_marker");
    let old = bson::DateTime::from_millis(bson::DateTime::now().timestamp_millis() - 25 * 3_600_000);
    marker.update_one(doc! {}, doc! {"$set": {"at": old}}).await.expect("an older marker");
    // A database without a marker may belong to anybody: it is reported and stays.
    rows(&live, "uzima_drill_mine", "c", 0..1).await;
    let ran = run(&mut drill(&backup, &target.uri())).ends(3).says(&["dropped the database"]);
    assert!(ran.stdout.contains("uzima_drill_mine") && ran.stdout.contains("but has no marker"), "{ran:?}");
    assert_eq!(databases(&live).await, ["uzima_drill_mine"]);
    assert_eq!(
        read_all(&live).await.expect("all").get("shop", "orders").expect("shop.orders").documents.len(),
        3
    );
}

/// The roles that a drill needs, and no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_drill_names_the_roles_that_its_user_needs() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..5).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let target = Mongod::builder().auth().start().await.expect("mongod");
    let all = [("restore", "admin"), ("readWriteAnyDatabase", "admin"), ("dbAdminAnyDatabase", "admin")];
    target.create_user("driller", "canary-pw", &all).await.expect("a user");
    let ran = run(&mut drill(&backup, &target.uri_as("driller", "canary-pw", "admin"))).ends(0);
    assert!(!format!("{ran:?}").contains("canary"), "{ran:?}");
    target.create_user("few", "canary-pw", &all[..1]).await.expect("a user");
    let ran = run(&mut drill(&backup, &target.uri_as("few", "canary-pw", "admin"))).ends(1);
    ran.says(&["readWriteAnyDatabase"]);
    assert_eq!(databases(&target.client().await.expect("a client")).await, Vec::<String>::new());
}

/// The server deletes expired documents before they can be compared; the rest is compared.
#[tokio::test(flavor = "multi_thread")]
async fn documents_that_expired_during_a_drill_are_no_difference() {
    let (source, original) = server().await;
    let off = doc! {"setParameter": 1, "ttlMonitorEnabled": false};
    original.database("admin").run_command(off).await.expect("no TTL at the source");
    let shop = original.database("shop");
    let index = doc! {"key": {"at": 1}, "name": "at_1", "expireAfterSeconds": 1};
    shop.run_command(doc! {"createIndexes": "sessions", "indexes": [index]}).await.expect("an index");
    let (old, young) = (bson::DateTime::from_millis(0), bson::DateTime::from_millis(1 << 42));
    let row = |n: i32| doc! {"_id": n, "at": if n % 2 == 0 { old } else { young }};
    shop.collection("sessions").insert_many((0..200).map(row)).await.expect("rows");
    let backup = Backup::of(&source, &["--db", "shop"]);
    let target = Mongod::builder().start().await.expect("mongod");
    let proxy = WireProxy::start(&[target.host()]).expect("a proxy");
    let expire = |more: Option<i32>| {
        meanwhile(target.uri(), async move |client| {
            let db = client.database(&databases(&client).await[0]);
            let sessions = db.collection::<bson::Document>("sessions");
            sessions.delete_many(doc! {"at": {"$lt": bson::DateTime::now()}}).await.expect("a delete");
            if let Some(id) = more {
                sessions.update_one(doc! {"_id": id}, doc! {"$set": {"at": 1}}).await.expect("an update");
            }
        })
    };
    let built = proxy.add(Rule::on("createIndexes").then(expire(None)));
    run(&mut drill(&backup, &proxy.uri(&target.uri()))).ends(0);
    assert_eq!(proxy.hits(built), 1);
    proxy.clear();
    proxy.add(Rule::on("createIndexes").then(expire(Some(7))));
    let differs = run(&mut drill(&backup, &proxy.uri(&target.uri()))).ends(4);
    assert!(differs.stdout.contains("shop.sessions: 100 documents of "), "{}", differs.stdout);
}
