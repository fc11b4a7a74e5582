//! Swaps that are killed: each collection is whole under one of its names, and another run finishes or reverts.

use std::process::Stdio;

use uzima_testkit::mongod::Mongod;
use uzima_testkit::wire_proxy::{Action, Gate, Rule, WireProxy};

use super::support::{BACKED_UP, CHANGED, Shop, ids};
use crate::cli::support::run;

/// Kills the tool at its nth command. Returns false if it ended before.
async fn kill_at(shop: &Shop, args: &[&str], nth: u64) -> bool {
    let proxy = WireProxy::start(&[shop.server.host()]).expect("a proxy");
    let gate = Gate::default();
    let held = proxy.add(Rule::on("*").nth(nth).then(Action::Hold(gate.clone())));
    let mut tool = shop.tool(args);
    tool.env("RESTORE_URI", proxy.uri(&shop.server.uri())).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = tool.spawn().expect("the tool");
    let killed = loop {
        if proxy.hits(held) > 0 {
            child.kill().expect("a signal");
            break true;
        }
        if child.try_wait().expect("its state").is_some() {
            break false;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    child.wait().expect("its end");
    // The server may still execute the command.
    gate.open();
    killed
}

/// Asserts that both versions of the collection are somewhere, whole, if the restored one was complete.
async fn assert_whole(shop: &Shop, nth: u64) -> Option<String> {
    let listed = shop.restore(&["--kept"], 0);
    let id =
        listed["restores"].as_array().expect("restores").last().map(|one| one["id"].as_str().expect("an id"));
    let (mut earlier, mut restored) = (false, false);
    for name in shop.names().await {
        let found = shop.ids(&name).await;
        earlier |= found == ids(CHANGED);
        restored |= found == ids(BACKED_UP);
    }
    assert!(earlier, "{nth}: the earlier collection is not whole: {listed}");
    let moving = listed["restores"].as_array().expect("restores").iter().any(|one| one["state"] != "loading");
    assert!(restored || !moving, "{nth}: the restored collection is not whole: {listed}");
    id.map(str::to_string)
}

/// At every command of a swap. Then the swap is reverted, or the next swap finishes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_every_command_leaves_both_collections_whole() {
    let swap = ["latest", "--ns-include", "shop.orders", "--swap", "--yes"];
    let (mut nth, mut reverted, mut finished) = (1, 0, 0);
    loop {
        let server = Mongod::builder().replica_set("rs").start().await.expect("mongod");
        let shop = Shop::new(server).await;
        // One server is enough for many kills.
        for _ in 0..12 {
            if !kill_at(&shop, &swap, nth).await {
                println!("{} commands, {reverted} swaps reverted, {finished} finished", nth - 1);
                assert!(nth > 20 && reverted > 0 && finished > 0, "{nth} {reverted} {finished}");
                return;
            }
            let Some(id) = assert_whole(&shop, nth).await else {
                nth += 1;
                continue;
            };
            shop.age_marks().await;
            let state = shop.restore(&["--kept"], 0)["restores"][0]["state"].clone();
            if state == "loading" {
                shop.restore(&["--discard", &id, "--yes"], 0);
            } else if nth % 2 == 0 {
                // The next swap finishes this one, and is then undone itself.
                let own = shop.swap_ending(&[0, 3]);
                assert_eq!(shop.ids("orders").await, ids(BACKED_UP), "{nth}");
                shop.restore(&["--undo", &own, "--yes"], 0);
                shop.restore(&["--discard", &own, "--yes"], 0);
                shop.restore(&["--undo", &id, "--yes"], 0);
                shop.restore(&["--discard", &id, "--yes"], 0);
                finished += 1;
            } else {
                shop.restore(&["--undo", &id, "--yes"], 0);
                shop.restore(&["--discard", &id, "--yes"], 0);
                reverted += 1;
            }
            assert_eq!(shop.ids("orders").await, ids(CHANGED), "{nth}");
            assert!(
                shop.names().await.iter().all(|name| !name.contains(&id)),
                "{nth}: {:?}",
                shop.names().await
            );
            nth += 1;
        }
    }
}

/// A mark of a moment ago may be of a run that is at work.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_moves_collections_is_not_disturbed() {
    let server = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let shop = Shop::new(server).await;
    let id = shop.swap();
    let marks = shop.client.database("uzima_backup").collection::<bson::Document>("restores");
    let moving = bson::doc! {"$set": {"state": "moving", "changed_at": bson::DateTime::now()}};
    marks.update_many(bson::doc! {}, moving).await.expect("an update");
    for args in [&["--undo", &id, "--yes"][..], &["--discard", &id, "--yes"], &["latest", "--swap", "--yes"]]
    {
        run(&mut shop.tool(args)).ends(1).says(&[&id, "is moving collections now", "Nothing was changed"]);
    }
    assert_eq!(shop.ids("orders").await, ids(BACKED_UP));
}

/// The worst moment: no collection is live, and the application creates one. `--undo` makes the earlier one live and keeps the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_two_renames_is_undone_although_the_application_created_the_collection() {
    let server = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let shop = Shop::new(server).await;
    let (proxy, gate) = (WireProxy::start(&[shop.server.host()]).expect("a proxy"), Gate::default());
    proxy.add(Rule::on("applyOps").then(Action::fail(13)));
    // The first rename is the rehearsal, the second one moves the live collection aside.
    let held = proxy.add(Rule::on("renameCollection").nth(3).then(Action::Hold(gate.clone())));
    let mut tool = shop.tool(&["latest", "--ns-include", "shop.orders", "--swap", "--yes"]);
    tool.env("RESTORE_URI", proxy.uri(&shop.server.uri())).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = tool.spawn().expect("the tool");
    while proxy.hits(held) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    shop.fill("orders", 7..8).await;
    child.kill().expect("a signal");
    child.wait().expect("its end");
    gate.open();
    shop.age_marks().await;
    let id = shop.restore(&["--kept"], 0)["restores"][0]["id"].as_str().expect("an id").to_string();
    run(&mut shop.tool(&["--discard", &id, "--yes"])).ends(1).says(&["was interrupted", "--undo"]);
    let undone = shop.restore(&["--undo", &id, "--yes"], 3);
    assert!(
        undone["notes"][0].as_str().is_some_and(|note| note.contains("another client created")),
        "{undone}"
    );
    assert_eq!(shop.ids("orders").await, ids(CHANGED));
    assert_eq!(shop.ids(&format!("uzima_backup_kept_{id}.1_orders")).await, [7]);
    shop.restore(&["--undo", &id, "--yes"], 0);
    assert_eq!(shop.ids("orders").await, ids(BACKED_UP));
}

/// A plan changes nothing, whatever an earlier run left.
#[tokio::test]
async fn a_dry_run_moves_nothing() {
    let server = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let shop = Shop::new(server).await;
    shop.swap();
    let marks = shop.client.database("uzima_backup").collection::<bson::Document>("restores");
    let moving = bson::doc! {"$set": {"state": "moving", "live": "earlier"}};
    marks.update_many(bson::doc! {}, moving).await.expect("an update");
    shop.age_marks().await;
    run(&mut shop.tool(&["latest", "--ns-include", "shop.orders", "--swap", "--dry-run"])).ends(0);
    assert_eq!(shop.ids("orders").await, ids(BACKED_UP));
    assert_eq!(shop.restore(&["--kept"], 0)["restores"][0]["state"], "moving");
}
