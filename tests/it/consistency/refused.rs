//! Events that end a run with an oplog slice (renames, an oplog that is too short, another primary), and
//! servers without an oplog.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::{Document, Timestamp, doc, rawdoc};
use mongodb::Client;
use uzima_backup::base::exit::Exit;
use uzima_backup::config::choices::ConsistencyChoice;
use uzima_backup::ops::backup::BackupOptions;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{behind, entries, operations, set, slice};
use crate::cli::support::{Home, run};
use crate::native::support::{Shelf, failed, ids, insert, meanwhile, only, rows};

/// Enough documents for a second batch by a getMore.
const DOCUMENTS: i32 = 1_500;

async fn filled() -> (Mongod, WireProxy, Client) {
    let (server, proxy, client) = set().await;
    insert(&client, "shop", "orders", &rows(0, DOCUMENTS, 2_000)).await;
    for (db, collection) in [("shop", "small"), ("other", "small")] {
        insert(&client, db, collection, &[rawdoc! {"_id": 1}]).await;
    }
    (server, proxy, client)
}

/// Renames the collection `small` of a database, or back.
fn rename(db: &'static str) -> impl AsyncFn(Client) + Send + Sync + 'static {
    async move |client: Client| {
        let names = client.database(db).list_collection_names().await.expect("names");
        let there = names.iter().any(|name| name == "small");
        let (from, to) = if there { ("small", "moved") } else { ("moved", "small") };
        let rename =
            doc! {"renameCollection": format!("{db}.{from}"), "to": format!("{db}.{to}"), "dropTarget": true};
        client.database("admin").run_command(rename).await.expect("a rename");
    }
}

/// One run with `auto`, on a server where a collection is replaced all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_succeeds_while_dollar_out_runs_all_the_time() {
    let (server, _proxy, client) = filled().await;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, writer) = (stop.clone(), client.clone());
    let writing = tokio::spawn(async move {
        let pipeline = vec![doc! {"$match": {"_id": {"$lt": 1_000}}}, doc! {"$out": "report"}];
        let orders = writer.database("shop").collection::<Document>("orders");
        let mut times = 0;
        while !stopped.load(Ordering::SeqCst) {
            orders.aggregate(pipeline.clone()).await.expect("an aggregation");
            times += 1;
        }
        times
    });
    for consistency in [ConsistencyChoice::Auto, ConsistencyChoice::None] {
        let shelf = Shelf::new();
        let choose = |options: &mut BackupOptions| options.settings.consistency = consistency;
        let report = shelf.run(&server.uri(), choose).await.unwrap_or_else(|e| panic!("{}", e.chain()));
        let manifest = &report.manifest;
        let achieved = manifest.consistency.achieved.as_str();
        // The backup has a warning, unless the server's history was enough for a snapshot.
        let asked = consistency == ConsistencyChoice::None;
        assert!(asked || achieved != "none" || report.exit() == Exit::NeedsLook, "{manifest:?}");
        let decoded = shelf.decode(&report);
        assert_eq!(ids(decoded.get("shop.orders")), (0..DOCUMENTS).collect::<Vec<_>>());
        assert_eq!(decoded.get("other.small").len(), 1);
        shelf.assert_only(&report).await;
    }
    stop.store(true, Ordering::SeqCst);
    assert!(writing.await.expect("the writer") > 2);
}

/// An oplog slice cannot hold a rename. A snapshot succeeds if the collection was read before it; otherwise each
/// collection is read at its own time, with a warning.
#[tokio::test]
async fn a_rename_costs_the_slice_and_not_the_backup() {
    let (server, proxy, _client) = filled().await;
    let uri = proxy.uri(&server.uri());
    let rename_at = |nth| {
        let rule = Rule::on("getMore").namespace("shop.orders").nth(nth);
        proxy.add(rule.then(meanwhile(server.uri(), rename("shop"))))
    };
    let rule = rename_at(1);
    let shelf = Shelf::new();
    let report = shelf.run(&uri, only(&["shop"])).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!((proxy.hits(rule), report.exit()), (1, Exit::Done));
    let consistency = &report.manifest.consistency;
    assert_eq!(consistency.achieved, "snapshot");
    assert!(consistency.why.starts_with("consistency = auto, but shop.small was renamed"), "{consistency:?}");
    assert_eq!(shelf.decode(&report).get("shop.moved").len(), 1);
    shelf.assert_only(&report).await;

    proxy.clear();
    let lost = Rule::on("find").namespace("shop.*").having("readConcern").nth(1).then(Action::fail(246));
    let rules = [proxy.add(lost), rename_at(1)];
    let shelf = Shelf::new();
    let report = shelf.run(&uri, only(&["shop"])).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!((rules.map(|rule| proxy.hits(rule)), report.exit()), ([1, 1], Exit::NeedsLook));
    let manifest = &report.manifest;
    assert_eq!(manifest.consistency.achieved, "none");
    assert!(manifest.consistency.why.contains("(code 246"), "{:?}", manifest.consistency);
    let [warning] = &manifest.warnings[..] else { panic!("{:?}", manifest.warnings) };
    assert!(
        warning.starts_with("the backup is not consistent at one instant") && warning.contains("code 246"),
        "{warning}"
    );
    assert!(manifest.notes.iter().any(|note| note.contains("was renamed to shop.")), "{:?}", manifest.notes);
    assert_eq!(ids(shelf.decode(&report).get("shop.orders")), (0..DOCUMENTS).collect::<Vec<_>>());
    shelf.assert_only(&report).await;
}

#[tokio::test]
async fn with_consistency_oplog_two_renames_fail_the_backup() {
    let (server, proxy, _client) = filled().await;
    let uri = proxy.uri(&server.uri());
    // The first getMore of each run. There is another getMore between them.
    for (times, db) in [(&[1_u64][..], "shop"), (&[1, 3], "shop"), (&[1], "other")] {
        let rules = times.iter().map(|nth| {
            let rule = Rule::on("getMore").namespace("shop.orders").nth(*nth);
            proxy.add(rule.then(meanwhile(server.uri(), rename(db))))
        });
        let rules: Vec<_> = rules.collect();
        let shelf = Shelf::new();
        let choose = |options: &mut BackupOptions| {
            only(&["shop"])(options);
            options.settings.consistency = ConsistencyChoice::Oplog;
        };
        let outcome = shelf.run(&uri, choose).await;
        proxy.clear();
        assert!(rules.iter().all(|rule| proxy.hits(*rule) == 1), "{db}");
        match (db, times.len()) {
            ("shop", 2) => {
                let text = failed(outcome);
                assert!(text.contains("was renamed to shop.") && text.contains("--exclude"), "{text}");
                shelf.assert_nothing().await;
            }
            _ => {
                let report = outcome.unwrap_or_else(|e| panic!("{}", e.chain()));
                assert_eq!((report.exit(), slice(&report.manifest).entries), (Exit::Done, 0));
                let notes = report.manifest.notes.join("\n");
                assert_eq!(notes.contains("shop.small was renamed to shop.moved"), db == "shop", "{notes}");
                shelf.assert_only(&report).await;
            }
        }
    }
}

/// The time of the oldest oplog entry (1), or of the newest (-1).
async fn entry(client: &Client, order: i32) -> Timestamp {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let entry = oplog.find_one(doc! {}).sort(doc! {"$natural": order}).await.expect("an answer");
    entry.expect("an entry").get_timestamp("ts").expect("a time")
}

#[tokio::test]
async fn an_oplog_that_is_too_short_costs_the_slice_and_not_the_backup() {
    let server = Mongod::builder()
        .replica_set("short")
        .oplog_mb(8)
        .arg("--syncdelay=1")
        .start()
        .await
        .expect("mongod");
    let (proxy, client) = behind(&server).await;
    insert(&client, "shop", "orders", &rows(0, DOCUMENTS, 2_000)).await;
    let flood = meanwhile(server.uri(), async |client| {
        // The server keeps the oplog since the last checkpoint, however long that is. The checkpoints are one
        // second apart.
        let begun = entry(&client, -1).await;
        for n in 0..200 {
            insert(&client, "other", "flood", &rows(n * 10, 10, 200_000)).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            if entry(&client, 1).await > begun {
                return;
            }
        }
        panic!("the oplog keeps everything");
    });
    let rule = proxy.add(Rule::on("getMore").namespace("shop.orders").nth(1).then(flood));
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), only(&["shop"])).await;
    let report = report.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!((proxy.hits(rule), report.exit()), (1, Exit::Done));
    let consistency = &report.manifest.consistency;
    assert!(consistency.achieved == "snapshot" && consistency.why.contains("overflowed"), "{consistency:?}");
    let notes = report.manifest.notes.join("\n");
    assert!(notes.contains("replSetResizeOplog"), "{notes}");
    assert_eq!(ids(shelf.decode(&report).get("shop.orders")), (0..DOCUMENTS).collect::<Vec<_>>());
    shelf.assert_only(&report).await;
}

/// The majority's entries are of another term, so entries that were read may have been rolled back.
#[tokio::test]
async fn another_primary_fails_both_runs() {
    let (server, proxy, _client) = filled().await;
    let term = ["lastWrite", "majorityOpTime", "t"];
    let other = Action::edit(move |answer| {
        raw::rewrite(answer, &term, &|kind, _| Some((kind, 9_i64.to_le_bytes().to_vec())))
    });
    proxy.add(Rule::on("hello").then(other));
    let shelf = Shelf::new();
    let text = failed(shelf.run(&proxy.uri(&server.uri()), only(&["shop"])).await);
    assert!(text.contains("'rs' got another primary during the run (term 1 became 9)"), "{text}");
    shelf.assert_nothing().await;
}

/// The oplog's cursor is lost, and is opened again.
#[tokio::test]
async fn a_lost_oplog_cursor_is_resumed_after_the_last_entry() {
    let (server, proxy, _client) = filled().await;
    let write = meanwhile(server.uri(), async |client| {
        insert(&client, "shop", "orders", &rows(DOCUMENTS, 500, 2_000)).await;
    });
    proxy.add(Rule::on("getMore").namespace("shop.orders").nth(1).then(write));
    let lost = proxy.add(Rule::on("getMore").namespace("local.oplog.rs").nth(1).then(Action::fail(43)));
    let shelf = Shelf::new();
    let report = shelf
        .run(&proxy.uri(&server.uri()), |options| {
            only(&["shop"])(options);
            options.settings.format = "tar.gz".parse().expect("a format");
        })
        .await
        .unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(proxy.hits(lost), 1);
    let notes = report.manifest.notes.join("\n");
    assert!(notes.contains("continued reading the oplog after"), "{notes}");
    let entries = entries(&report.manifest, &shelf.read(&report.manifest.artifact.key));
    assert_eq!(operations(&entries), vec!["i shop.orders"; 500]);
}

/// The consistency and its reason in the manifest of a backup of `shop`, and the run's log.
fn backed_up(uri: &str) -> (String, String, String) {
    let home = Home::new();
    let ran = run(home.to_dir(uri).args(["backup", "--db", "shop"])).ends(0);
    let consistency = home.manifests().pop().expect("a manifest").consistency;
    assert_eq!(consistency.oplog.is_some(), consistency.achieved == "oplog");
    (consistency.achieved, consistency.why, ran.stderr)
}

fn refused(uri: &str, words: &[&str]) {
    let home = Home::new();
    run(home.to_dir(uri).args(["backup", "--db", "shop", "--consistency", "oplog"])).ends(1).says(words);
    home.assert_nothing_stored();
}

#[tokio::test]
async fn a_user_who_may_not_read_the_oplog_makes_a_backup_without_a_slice() {
    let server = Mongod::builder().auth().replica_set("rs").start().await.expect("mongod");
    insert(&server.client().await.expect("a client"), "shop", "orders", &[rawdoc! {"_id": 1}]).await;
    for (user, roles, missing) in [
        ("reader", &[("read", "shop")][..], Some("local.oplog.rs")),
        ("local", &[("read", "shop"), ("read", "local")], Some("config.transactions")),
        ("both", &[("read", "shop"), ("read", "local"), ("read", "config")], None),
        ("backup", &[("backup", "admin")], None),
    ] {
        server.create_user(user, "x", roles).await.expect("a user");
        let uri = server.uri_as(user, "x", "admin");
        let (achieved, why, log) = backed_up(&uri);
        match missing {
            None => assert_eq!((achieved.as_str(), log.contains("its own time")), ("oplog", false), "{log}"),
            Some(what) => {
                let want = format!("user '{user}' may not read {what}");
                assert!(achieved == "none" && why.starts_with(&want), "{achieved}: {why}");
                assert!(log.contains(&want) && log.contains("built-in role \"backup\""), "{log}");
                refused(&uri, &[&want, "built-in role \"backup\"", "BACKUP_CONSISTENCY"]);
            }
        }
    }
}

#[tokio::test]
async fn a_standalone_server_is_backed_up_without_a_slice() {
    let server = Mongod::builder().start().await.expect("mongod");
    insert(&server.client().await.expect("a client"), "shop", "orders", &[rawdoc! {"_id": 1}]).await;
    let (achieved, why, _) = backed_up(&server.uri());
    assert_eq!(achieved, "none");
    assert!(why.starts_with("a standalone server has no oplog. Make it a replica set"), "{why}");
    refused(&server.uri(), &["a standalone server has no oplog", "--replSet"]);
}
