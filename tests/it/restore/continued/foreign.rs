//! What is not of the interrupted restore is never dropped without --drop, and two runs do not work on one restore.

use std::process::Stdio;
use std::time::Duration;

use bson::doc;
use uzima_testkit::wire_proxy::{Action, Gate, Rule};

use super::support::{Case, insert_into};
use crate::cli::support::run;
use crate::restore::support::rows;

/// Another client created a collection under a name that the interrupted restore had not reached.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_another_client_created_is_refused() {
    let case = Case::new().await;
    case.interrupt(&[], Rule::on("create").namespace("shop.e"), libc::SIGKILL).await;
    // The held command created it after the tool was killed; it is empty and not marked.
    case.live.database("shop").collection::<bson::Document>("e").drop().await.expect("a drop");
    rows(&case.live, "shop", "e", 700..703).await;
    let (foreign, made) = (case.uuid("e").await, case.uuid("a").await);
    let refused = case.restore(&["--continue"], 1).says(&["shop.e has 3 documents", "With --drop"]);
    assert!(!refused.stderr.contains("shop.a"), "{refused:?}");
    case.restore(&["--continue", "--dry-run"], 1);
    assert_eq!((case.uuid("e").await, case.uuid("a").await), (foreign, made), "nothing was dropped");
    assert_eq!(case.count("e").await, 3);
    case.restore(&["--continue", "--drop"], 0);
    case.assert_equal("with --drop").await;
}

/// Another client dropped a collection of the interrupted restore, and created another one with its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_with_another_uuid_is_refused() {
    let case = Case::new().await;
    case.interrupt(&[], insert_into("e"), libc::SIGTERM).await;
    case.live.database("shop").collection::<bson::Document>("a").drop().await.expect("a drop");
    rows(&case.live, "shop", "a", 0..40).await;
    let foreign = case.uuid("a").await;
    case.restore(&["--continue"], 1).says(&["shop.a has 40 documents", "With --drop"]);
    assert_eq!(case.uuid("a").await, foreign);
    let id = case.interrupted().remove(0);
    run(&mut case.tool(&["--discard", &id])).ends(0);
    assert_eq!((case.uuid("a").await, case.count("a").await), (foreign, 40), "--discard keeps it as well");
    let left = case.live.database("shop").list_collection_names().await.expect("names");
    assert!(["b", "c", "d", "e"].iter().all(|name| !left.contains(&name.to_string())), "{left:?}");
    assert_eq!(case.interrupted(), Vec::<String>::new());
}

/// A collection is replaced by another client between the plan and the drop.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_replaced_after_the_plan_stays() {
    let case = Case::new().await;
    case.interrupt(&[], insert_into("e"), libc::SIGTERM).await;
    // The mark is taken over after the plan and before the first drop.
    let gate = Gate::default();
    let held = case
        .proxy
        .add(Rule::on("update").namespace("uzima_backup.restores").nth(1).then(Action::Hold(gate.clone())));
    let mut tool = case.tool(&["latest", "--continue"]);
    let child = tool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool");
    while case.proxy.hits(held) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    case.live.database("shop").collection::<bson::Document>("e").drop().await.expect("a drop");
    rows(&case.live, "shop", "e", 700..703).await;
    gate.open();
    let ended = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("shop.e is not the one that the interrupted restore made"), "{said}");
    assert_eq!(case.count("e").await, 3);
}

/// An existing empty collection with indexes of its own is filled; its continuation empties it, and does not drop it.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_collection_that_was_there_is_emptied_and_not_dropped() {
    let case = Case::new().await;
    let shop = case.live.database("shop");
    shop.run_command(doc! {"create": "e"}).await.expect("a collection");
    let index = doc! {"key": {"own": 1}, "name": "own"};
    shop.run_command(doc! {"createIndexes": "e", "indexes": [index]}).await.expect("an index");
    let before = case.uuid("e").await;
    case.interrupt(&[], Rule::on("createIndexes").namespace("shop.e"), libc::SIGTERM).await;
    let planned = case.restore(&["--continue", "--dry-run"], 0);
    assert!(
        planned.stdout.contains("shop.e: 40 documents (replaces the interrupted restore's 40"),
        "{planned:?}"
    );
    case.restore(&["--continue"], 0);
    assert_eq!((case.uuid("e").await, case.count("e").await), (before, 40));
    shop.run_command(doc! {"dropIndexes": "e", "index": "own"}).await.expect("the own index is there");
    case.assert_equal("continued").await;
}

/// A run at work is left alone by --continue and --discard; so is a mark of another machine that is younger than a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_at_work_is_not_continued() {
    let case = Case::new().await;
    let gate = Gate::default();
    let held = case.proxy.add(insert_into("e").then(Action::Hold(gate.clone())));
    let mut tool = case.tool(&["latest"]);
    let mut child = tool.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the tool");
    while case.proxy.hits(held) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(case.kept()["interrupted"][0]["at_work"], true);
    let id = case.interrupted().remove(0);
    let says = [&*id, "is at work", "Nothing was changed"];
    case.restore(&["--continue"], 1).says(&says);
    case.restore(&["--continue", "--dry-run"], 1).says(&says);
    run(&mut case.tool(&["--discard", &id])).ends(1).says(&says);
    gate.open();
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    case.assert_equal("not disturbed").await;

    // A process of another machine may live as long as its mark is young.
    case.empty().await;
    case.interrupt(&[], insert_into("e"), libc::SIGKILL).await;
    let elsewhere = doc! {"$set": {"space": "another machine"}, "$currentDate": {"changed_at": true}};
    case.marks().update_many(doc! {"format": 2}, elsewhere).await.expect("an update");
    case.restore(&["--continue"], 1).says(&["is at work"]);
    let old = bson::DateTime::from_millis(bson::DateTime::now().timestamp_millis() - 3_600_000);
    case.marks()
        .update_many(doc! {"format": 2}, doc! {"$set": {"changed_at": old}})
        .await
        .expect("an update");
    case.restore(&["--continue"], 0);
    case.assert_equal("continued").await;
}

/// Two continuations begin at the same time: one of them takes the mark.
#[tokio::test(flavor = "multi_thread")]
async fn two_continuations_do_not_work_on_one_restore() {
    let case = Case::new().await;
    case.interrupt(&[], insert_into("e"), libc::SIGTERM).await;
    let gate = Gate::default();
    let held = case
        .proxy
        .add(Rule::on("update").namespace("uzima_backup.restores").nth(1).then(Action::Hold(gate.clone())));
    let mut tool = case.tool(&["latest", "--continue"]);
    let child = tool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool");
    while case.proxy.hits(held) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    case.restore(&["--continue"], 0);
    gate.open();
    let ended = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("another run goes on with the restore"), "{said}");
    case.assert_equal("continued by one").await;
}
