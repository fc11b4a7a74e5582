//! Collections are exchanged, kept, moved back and dropped; what cannot be swapped is named.

use bson::{Document, doc};
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{BACKED_UP, CHANGED, SECONDS, Shop, ids};
use crate::cli::support::run;
use crate::native::support::meanwhile;

async fn set(version: Version) -> Shop {
    Shop::new(Mongod::builder().version(version).replica_set("rs").start().await.expect("mongod")).await
}

/// The whole way: swap, undo, undo of the undo, discard. Backups in between do not contain what is kept.
#[tokio::test]
async fn a_swap_is_undone_repeated_and_discarded_on_every_version() {
    for version in Version::selected().expect("versions") {
        let shop = set(version).await;
        let id = shop.swap();
        let kept = format!("uzima_backup_kept_{id}_orders");
        let never = i64::from(i32::MAX);
        assert_eq!((shop.ids("orders").await, shop.ids(&kept).await), (ids(BACKED_UP), ids(CHANGED)));
        assert_eq!((shop.expiry("orders").await, shop.expiry(&kept).await), (SECONDS, never));
        assert_eq!(shop.names().await, ["carts".to_string(), "orders".into(), kept.clone()]);
        let listed = shop.restore(&["--kept"], 0);
        crate::docs::schema::check("restore-kept", &listed);
        let one = &listed["restores"][0];
        assert_eq!(
            (&one["id"], &one["state"], &one["live"]),
            (&id.as_str().into(), &"settled".into(), &"restored".into())
        );
        assert_eq!(one["collections"][0]["kept"][0], format!("shop.{kept}"));
        assert_eq!(one["collections"][0]["documents"][0], ids(CHANGED).len());
        let backup = run(shop.home.to_dir(&shop.server.uri()).args(["backup", "--json"])).ends(0).json();
        let notes = backup["notes"].to_string();
        assert!(
            notes.contains("left out 1 collection of restores") && notes.contains("restore --kept"),
            "{notes}"
        );
        let health =
            run(shop.home.to_dir(&shop.server.uri()).args(["health", "--json", "--only", "namespaces"]));
        let health = health.ends(0).json()["checks"].to_string();
        assert!(
            health.contains("\"warning\"")
                && health.contains("1 collection of restores")
                && health.contains("--kept"),
            "{health}"
        );
        let names = shop.home.manifests().pop().expect("a backup").namespaces;
        assert!(names.iter().any(|one| one.collection == "orders"));
        assert!(!names.iter().any(|one| one.collection.starts_with("uzima")), "{names:?}");
        let undone = shop.restore(&["--undo", &id, "--yes"], 0);
        crate::docs::schema::check("restore-aside", &undone);
        assert_eq!((&undone["live"], &undone["collections"][0]), (&"earlier".into(), &"shop.orders".into()));
        assert_eq!((shop.ids("orders").await, shop.ids(&kept).await), (ids(CHANGED), ids(BACKED_UP)));
        assert_eq!((shop.expiry("orders").await, shop.expiry(&kept).await), (SECONDS, never));
        shop.restore(&["--undo", &id, "--yes"], 0);
        assert_eq!((shop.ids("orders").await, shop.ids(&kept).await), (ids(BACKED_UP), ids(CHANGED)));
        shop.restore(&["--discard", &id, "--yes"], 0);
        assert_eq!((shop.names().await, shop.marks().await), (vec!["carts".to_string(), "orders".into()], 0));
        assert_eq!(shop.ids("orders").await, ids(BACKED_UP));
    }
}

#[tokio::test]
async fn a_swap_works_on_a_standalone_server_and_where_nothing_was_before() {
    let shop = Shop::new(Mongod::builder().start().await.expect("mongod")).await;
    shop.client.database("shop").collection::<Document>("orders").drop().await.expect("a drop");
    let id = shop.swap();
    assert_eq!(shop.ids("orders").await, ids(BACKED_UP));
    // The way back is the state without the collection.
    shop.restore(&["--undo", &id, "--yes"], 0);
    assert_eq!(shop.names().await, ["carts".to_string(), format!("uzima_backup_kept_{id}_orders")]);
    shop.restore(&["--undo", &id, "--yes"], 0);
    assert_eq!(shop.ids("orders").await, ids(BACKED_UP));
}

/// Every acknowledged insert of a client that writes during the swap is in one of the two collections. A client that reads a document
/// of both collections finds it at any time.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_insert_is_lost_and_no_read_finds_nothing() {
    let shop = set(Version::V6_0_5).await;
    let orders = shop.client.database("shop").collection::<Document>("orders");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let (read, reading) = (orders.clone(), stopped.clone());
    let reader = tokio::spawn(async move {
        let mut reads = 0;
        while !*reading.borrow() {
            let found = read.find_one(doc! {"_id": CHANGED.start}).await.expect("an answer");
            assert!(found.is_some(), "nothing was found after {reads} reads");
            reads += 1;
        }
        reads
    });
    let writer = tokio::spawn(async move {
        let mut written = Vec::new();
        for id in 1_000_000.. {
            if *stopped.borrow() {
                break;
            }
            if orders.insert_one(doc! {"_id": id}).await.is_ok() {
                written.push(id);
            }
        }
        written
    });
    let id = tokio::task::block_in_place(|| shop.swap());
    shop.fill("orders", 2_000_000..2_000_001).await;
    stop.send(true).expect("a writer");
    assert!(reader.await.expect("the reader") > 10);
    let written = writer.await.expect("the writer");
    let mut found = shop.ids("orders").await;
    found.extend(shop.ids(&format!("uzima_backup_kept_{id}_orders")).await);
    assert!(written.len() > 10, "{}", written.len());
    assert_eq!(written.iter().find(|id| !found.contains(id)), None);
}

/// Without `applyOps` there is a moment without the collection. A client that creates it then loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_a_client_creates_in_between_is_kept_and_reported() {
    let shop = set(Version::V6_0_5).await;
    let proxy = WireProxy::start(&[shop.server.host()]).expect("a proxy");
    proxy.add(Rule::on("applyOps").then(Action::fail(13)));
    // The first rename is the rehearsal, the second one moves the live collection aside.
    let insert = meanwhile(shop.server.uri(), async |client: mongodb::Client| {
        client
            .database("shop")
            .collection::<Document>("orders")
            .insert_one(doc! {"_id": -1})
            .await
            .expect("an insert");
    });
    let between = proxy.add(Rule::on("renameCollection").nth(2).then(insert));
    let mut swap = shop.tool(&["latest", "--ns-include", "shop.orders", "--swap", "--yes", "--json"]);
    let report = run(swap.env("RESTORE_URI", proxy.uri(&shop.server.uri()))).ends(3).json();
    assert_eq!(proxy.hits(between), 1);
    let id = report["swap"]["id"].as_str().expect("an id");
    let (kept, stranger) =
        (format!("uzima_backup_kept_{id}_orders"), format!("uzima_backup_kept_{id}.1_orders"));
    let warning = report["warnings"][0].as_str().expect("a warning");
    assert!(
        warning.contains("another client created shop.orders") && warning.contains(&stranger),
        "{warning}"
    );
    assert_eq!(shop.ids("orders").await, ids(BACKED_UP));
    assert_eq!((shop.ids(&kept).await, shop.ids(&stranger).await), (ids(CHANGED), vec![-1]));
    shop.restore(&["--discard", id, "--yes"], 0);
    assert_eq!(shop.names().await, ["carts", "orders"]);
}

/// A transaction holds a lock: the swap gives up, and can be made later.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_transaction_leaves_everything_as_it_was() {
    let shop = set(Version::V6_0_5).await;
    let proxy = WireProxy::start(&[shop.server.host()]).expect("a proxy");
    let mut session = shop.client.start_session().await.expect("a session");
    let orders = shop.client.database("shop").collection::<Document>("orders");
    // The transaction begins after the rehearsal.
    let gate = uzima_testkit::wire_proxy::Gate::default();
    let held = proxy.add(Rule::on("applyOps").nth(2).then(Action::Hold(gate.clone())));
    let mut swap = shop.tool(&["latest", "--ns-include", "shop.orders", "--swap", "--yes"]);
    swap.env("RESTORE_URI", proxy.uri(&shop.server.uri()));
    let running = tokio::task::spawn_blocking(move || run(&mut swap));
    while proxy.hits(held) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    session.start_transaction().await.expect("a transaction");
    orders.insert_one(doc! {"_id": -1}).session(&mut session).await.expect("an insert");
    gate.open();
    let ran = running.await.expect("the tool").ends(1);
    let ran = ran.says(&["were not moved", "No live collection was changed", "--undo 2"]);
    session.abort_transaction().await.expect("its end");
    assert_eq!(shop.ids("orders").await, ids(CHANGED), "{}", ran.stderr);
    let listed = shop.restore(&["--kept"], 0);
    let id = listed["restores"][0]["id"].as_str().expect("an id");
    assert_eq!(listed["restores"][0]["live"], "earlier");
    shop.restore(&["--undo", id, "--yes"], 0);
    assert_eq!(shop.ids("orders").await, ids(BACKED_UP));
}

/// The oplog of the new collection is not stored, so no restore to a point in time reaches past the swap without a new backup.
#[tokio::test]
async fn a_swap_is_a_barrier_in_the_stored_oplog() {
    let shop = set(Version::V6_0_5).await;
    let tool = |args: &[&str], code| {
        let mut command = shop.home.to_dir(&shop.server.uri());
        run(command.args(args)).ends(code)
    };
    tool(&["oplog"], 0);
    shop.swap();
    shop.fill("orders", 500..501).await;
    let barriers = tool(&["oplog", "--json"], 3).json()["barriers"].to_string();
    assert!(barriers.contains("a restore with --swap moved shop."), "{barriers}");
    tool(&["backup"], 0);
    shop.fill("orders", 501..502).await;
    tool(&["oplog"], 0);
    let target = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let mut restore = shop.tool(&["--at", "newest", "--yes"]);
    run(restore.env("RESTORE_URI", target.uri())).ends(0);
    let restored = target.client().await.expect("a client").database("shop").collection::<Document>("orders");
    assert_eq!(restored.count_documents(doc! {}).await.expect("a count"), ids(BACKED_UP).len() as u64 + 2);
}

/// A restore to a point in time may create collections that the backup does not have.
#[tokio::test]
async fn collections_that_only_the_oplog_created_are_moved_in_as_well() {
    let shop = set(Version::V6_0_5).await;
    let oplog = || {
        run(shop.home.to_dir(&shop.server.uri()).arg("oplog")).ends(0);
    };
    oplog();
    shop.fill("came", 0..3).await;
    oplog();
    shop.client.database("shop").collection::<Document>("came").drop().await.expect("a drop");
    shop.fill("came", 10..12).await;
    let report = shop.restore(&["--at", "newest", "--ns-include", "shop.*", "--swap", "--yes"], 0);
    let id = report["swap"]["id"].as_str().expect("an id");
    assert_eq!((shop.ids("came").await, shop.ids("orders").await), (ids(0..3), ids(CHANGED)), "{report}");
    assert_eq!(shop.ids(&format!("uzima_backup_kept_{id}_came")).await, ids(10..12));
    shop.restore(&["--undo", id, "--yes"], 0);
    assert_eq!(shop.ids("came").await, ids(10..12));
    shop.restore(&["--discard", id, "--yes"], 0);
    assert_eq!(shop.names().await, ["came", "carts", "orders"]);
}

#[tokio::test]
async fn what_servers_do_not_rename_is_left_out_and_named() {
    let shop = set(Version::V6_0_5).await;
    let db = shop.client.database("shop");
    db.create_collection("view")
        .view_on("orders".to_string())
        .pipeline([doc! {"$match": {}}])
        .await
        .expect("a view");
    let series = bson::doc! {"create": "series", "timeseries": {"timeField": "at"}};
    db.run_command(series).await.expect("a time series");
    run(shop.home.to_dir(&shop.server.uri()).arg("backup")).ends(0);
    let report = shop.restore(&["latest", "--ns-include", "shop.*", "--swap", "--yes"], 3);
    let warnings = report["warnings"].to_string();
    for name in ["shop.view is not restored", "shop.series is not restored"] {
        assert!(warnings.contains(name), "{warnings}");
    }
    let swapped = report["swap"]["collections"].as_array().expect("collections");
    assert_eq!(swapped.len(), 2, "{report}");
    run(&mut shop.tool(&["latest", "--ns-include", "shop.view", "--swap", "--yes"]))
        .ends(2)
        .says(&["--swap has nothing to move in: shop.view is a view", "--drop"]);
    // A view at the target is in the way.
    db.collection::<Document>("carts").drop().await.expect("a drop");
    db.create_collection("carts")
        .view_on("orders".to_string())
        .pipeline([doc! {"$match": {}}])
        .await
        .expect("a view");
    let before = shop.names().await;
    run(&mut shop.tool(&["latest", "--ns-include", "shop.carts", "--swap", "--yes"]))
        .ends(1)
        .says(&["cannot move shop.carts aside: it is a view", "Nothing was changed"]);
    assert_eq!(shop.names().await, before);
}

#[tokio::test]
async fn wrong_flags_and_ids_are_refused() {
    let shop = set(Version::V6_0_5).await;
    for args in [
        &["latest", "--swap", "--drop", "--yes"][..],
        &["latest", "--swap", "--ns-from", "a.*", "--ns-to", "b.*", "--yes"],
        &["latest", "--undo", "20261201T163949Z-abc123"],
        &["--undo", "20261201T163949Z-abc123", "--discard", "20261201T163949Z-abc123"],
        &["--kept", "--swap"],
    ] {
        run(&mut shop.tool(args)).ends(2).says(&["cannot be used with"]);
    }
    for flag in ["--undo", "--discard"] {
        run(&mut shop.tool(&[flag, "20261201T163949Z-abc123", "--yes"]))
            .ends(2)
            .says(&["knows no restore 20261201T163949Z-abc123", "restore --kept"]);
        run(&mut shop.tool(&[flag, "20261201T163949Z-abc123"])).ends(2).says(&["no terminal", "--yes"]);
    }
    run(&mut shop.tool(&["--kept"])).ends(0);
}

/// The kept collection may be the only copy.
#[tokio::test]
async fn a_discard_does_not_drop_the_only_copy() {
    let shop = set(Version::V6_0_5).await;
    let id = shop.swap();
    shop.client.database("shop").collection::<Document>("orders").drop().await.expect("a drop");
    run(&mut shop.tool(&["--discard", &id, "--yes"]))
        .ends(1)
        .says(&["shop.orders does not exist any more", "--undo"]);
    // An application that creates it again has not brought the documents back.
    shop.fill("orders", 7..8).await;
    run(&mut shop.tool(&["--discard", &id, "--yes"])).ends(1).says(&["was created again", "--undo"]);
    shop.restore(&["--undo", &id, "--yes"], 0);
    assert_eq!(shop.ids("orders").await, ids(CHANGED));
    assert_eq!(shop.ids(&format!("uzima_backup_kept_{id}_orders")).await, [7]);
}
