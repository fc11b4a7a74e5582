//! The marks: which restore they are of, marks that nobody can trust, rights, and that nothing of them stays.

use std::process::Stdio;
use std::time::Duration;

use bson::doc;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::wire_proxy::{Action, Gate, Rule};

use super::support::{Case, NAMES, insert_into, printed};
use crate::cli::support::run;
use crate::restore::support::rows;

/// Without an interruption nothing stays: no mark, no collection, no database. A restore with problems ends with a report as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_ended_leaves_no_trace() {
    let case = Case::new().await;
    case.restore(&[], 0);
    let inserted = case.proxy.commands("insert");
    assert!(inserted.iter().any(|one| one.namespace == "uzima_backup.restores"), "it was marked");
    case.assert_equal("restored").await;
    let names = case.live.list_database_names().await.expect("names");
    assert!(!names.contains(&"uzima_backup".to_string()), "{names:?}");
    case.restore(&["--continue"], 2).says(&[
        "no restore into ",
        "was interrupted",
        "Restore without --continue",
    ]);

    // A collection that is refused by the server is a problem of the report.
    case.empty().await;
    case.proxy.add(Rule::on("insert").namespace("shop.b").then(Action::fail(20)));
    let ran = case.restore(&[], 1).says(&["not restored completely", "--ns-include shop.b --drop"]);
    case.proxy.clear();
    assert!(!ran.stderr.contains("--continue"), "{ran:?}");
    assert_eq!(case.interrupted(), Vec::<String>::new());
}

/// Only the newest restore of the same backup, point and selection is continued. The others are named, with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn another_restore_is_not_continued() {
    let case = Case::new().await;
    case.interrupt(&["--ns-exclude", "shop.d"], insert_into("e"), libc::SIGTERM).await;
    let id = case.interrupted().remove(0);
    let before = case.uuid("a").await;
    for (args, why) in [
        (&["--continue"][..], "it has --ns-exclude shop.d"),
        (&["--continue", "--ns-exclude", "shop.d", "--no-indexes"], "it has --ns-exclude shop.d"),
        (
            &["--continue", "--ns-exclude", "shop.d", "--ns-from", "shop.*", "--ns-to", "x.*"],
            "it has --ns-exclude shop.d",
        ),
    ] {
        case.restore(args, 2).says(&[&id, "does not fit", why, "restore --kept"]);
    }
    let (_, uri) = case.source().await;
    run(case.home.to_dir(&uri).arg("backup")).ends(0);
    let newer = ["--continue", "--ns-exclude", "shop.d"];
    case.restore(&newer, 2).says(&[&id, &format!("it restores the backup {}", case.id)]);
    assert_eq!(case.uuid("a").await, before);
    // Another restore of the same backup does not touch the first one's mark.
    case.restore(&["--ns-include", "shop.a", "--ns-from", "shop.*", "--ns-to", "other.*"], 0);
    assert_eq!(case.interrupted(), [id.as_str()]);
    run(case.tool(&[&case.id]).args(newer)).ends(0);
    assert_eq!(case.uuid("a").await, before);
    assert_eq!(case.interrupted(), Vec::<String>::new());
}

/// --undo is for swaps. --discard drops what the interrupted restore made, by UUID.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_restore_can_be_discarded_and_not_undone() {
    let case = Case::new().await;
    rows(&case.live, "shop", "own", 0..3).await;
    case.interrupt(&["--ns-exclude", "shop.system.js"], insert_into("e"), libc::SIGTERM).await;
    let id = case.interrupted().remove(0);
    run(&mut case.tool(&["--undo", &id])).ends(1).says(&[
        "was no swap",
        "--continue",
        &format!("--discard {id}"),
    ]);
    assert_eq!(case.count("a").await, 40);
    let report = run(case.tool(&["--discard", &id]).arg("--json")).ends(0).json();
    crate::docs::schema::check("restore-aside", &report);
    // The view would have come last.
    let made = ["shop.a", "shop.b", "shop.c", "shop.d", "shop.e"];
    assert_eq!(report["collections"], serde_json::json!(made), "{report}");
    let mut left = case.live.database("shop").list_collection_names().await.expect("names");
    left.retain(|name| name != "system.views");
    assert_eq!(left, ["own"]);
    assert_eq!(case.interrupted(), Vec::<String>::new());
    let names = case.live.list_database_names().await.expect("names");
    assert!(!names.contains(&"uzima_backup".to_string()), "{names:?}");
    run(&mut case.tool(&["--discard", &id])).ends(2).says(&["knows no restore"]);
}

/// A mark that was written by somebody else leads to no drop.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_marks_drop_nothing() {
    let case = Case::new().await;
    rows(&case.live, "shop", "a", 900..905).await;
    let live = case.uuid("a").await;
    // The mark of a real restore, as a pattern.
    case.interrupt(&["--ns-exclude", "shop.a"], insert_into("e"), libc::SIGTERM).await;
    let mark = case.marks().find_one(doc! {"format": 2}).await.expect("a mark").expect("a mark");
    let id = mark.get_str("_id").expect("an id").to_string();
    let one = |identity: bson::Bson| doc! {"db": "shop", "name": "a", "identity": identity, "created": true, "complete": 5_i64};
    let row = |of: &str, format: i32, all: Vec<bson::Document>| {
        doc! {"_id": bson::oid::ObjectId::new(), "format": format, "of": of, "namespaces": all}
    };
    let changed = |key: &str, value: bson::Bson| {
        let mut mark = mark.clone();
        mark.insert("_id", "20261201T163949Z-abc123");
        mark.insert(key, value);
        mark
    };
    let hostile = [
        row(&id, 3, vec![one("00".repeat(16).into())]),
        row(&id, 3, vec![one("".into())]),
        row(&id, 3, vec![one(bson::Bson::Null)]),
        row(&id, 3, vec![one(7.into())]),
        row(&id, 9, vec![one("00".repeat(16).into())]),
        row("20261201T163949Z-abc123", 3, vec![one("00".repeat(16).into())]),
        doc! {"_id": 7, "format": 3, "of": 7, "namespaces": "all"},
        doc! {"_id": "torn"},
        changed("format", 9.into()),
        changed("run", "x".into()),
        changed("started_at", "x".into()),
        changed("state", "done".into()),
    ];
    for (at, mut document) in hostile.into_iter().enumerate() {
        if let Ok("20261201T163949Z-abc123") = document.get_str("_id") {
            document.insert("_id", format!("20261201T16394{at}Z-abc123"));
        }
        case.marks().insert_one(document).await.expect("a document");
    }
    let row = row(
        &id,
        3,
        vec![
            doc! {"db": "a.b $", "name": "", "identity": "x", "created": true, "complete": bson::Bson::Null},
        ],
    );
    case.marks().insert_one(row).await.expect("a document");

    // The whole restore fits no mark; the one that fits knows nothing of shop.a.
    case.restore(&["--continue"], 2).says(&[&id, "does not fit"]);
    case.restore(&[], 1).says(&["shop.a has 5 documents"]);
    assert_eq!(case.kept()["interrupted"].as_array().expect("a list").len(), 1);
    run(&mut case.tool(&["--discard", "20261201T16398Z-abc123"])).ends(2);
    case.restore(&["--ns-exclude", "shop.a", "--continue"], 0);
    assert_eq!((case.uuid("a").await, case.count("a").await), (live, 5), "it was not touched");
    for name in &NAMES[1..] {
        assert_eq!(case.count(name).await, 40);
    }
}

/// The built-in role "restore" is enough to restore, and the report has a note. Such a restore is not marked.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_role_restore_restores_without_a_mark() {
    let case = Case::of(Mongod::builder(), Mongod::builder().auth(), &["--db", "shop"]).await;
    for (name, roles) in [
        ("small", &[("restore", "admin")][..]),
        ("marker", &[("restore", "admin"), ("readWrite", "uzima_backup")]),
        ("large", &[("restore", "admin"), ("readWrite", "uzima_backup"), ("readAnyDatabase", "admin")]),
    ] {
        case.target.create_user(name, "x", roles).await.expect("a user");
    }
    let tool = |user: &str, args: &[&str]| {
        let mut command = case.tool(&["latest"]);
        command.env("RESTORE_URI", case.proxy.uri(&case.target.uri_as(user, "x", "admin"))).args(args);
        command
    };
    let said = run(&mut tool("small", &[]));
    assert!(said.stdout.contains("note: if this restore is interrupted, it cannot be continued"), "{said:?}");
    assert!(said.stdout.contains("readWrite"), "{said:?}");
    assert_eq!(said.code, Some(3), "documents are not counted: {said:?}");
    assert_eq!(case.marks().count_documents(doc! {}).await.expect("a count"), 0);
    run(&mut tool("small", &["--continue"])).ends(1).says(&["uzima_backup.restores", "grantRolesToUser"]);

    // Without a mark, the advice is the old one.
    case.empty().await;
    let mut small = tool("small", &[]);
    let ran =
        case.interrupt_command(&mut small, insert_into("e"), libc::SIGTERM).await.expect("it is interrupted");
    assert!(!ran.stderr.contains("--continue") && ran.stderr.contains("--drop"), "{ran:?}");

    // With the right to write marks, it goes on. Without the right to count, nothing counts as complete.
    for (user, stays) in [("marker", false), ("large", true)] {
        case.empty().await;
        let mut first = tool(user, &["--ns-exclude", "shop.system.js"]);
        let ran = case
            .interrupt_command(&mut first, insert_into("e"), libc::SIGTERM)
            .await
            .expect("it is interrupted");
        printed(&ran);
        let before = case.uuid("a").await;
        let ran = run(&mut tool(user, &["--ns-exclude", "shop.system.js", "--continue"]));
        assert_eq!(ran.code, Some(if stays { 0 } else { 3 }), "{ran:?}");
        assert_eq!(case.uuid("a").await == before, stays, "{user}");
        assert_eq!(case.count("e").await, 40);
        assert_eq!(case.marks().count_documents(doc! {}).await.expect("a count"), 0);
    }
}

/// A mark can name existing namespaces that its restore did not make. --continue drops only those that the restore would make.
#[tokio::test(flavor = "multi_thread")]
async fn a_continued_restore_drops_nothing_beside_its_own_namespaces() {
    let case = Case::new().await;
    rows(&case.live, "shop", "own", 0..3).await;
    rows(&case.live, "uzima_backup", "records", 0..3).await;
    case.interrupt(&[], insert_into("e"), libc::SIGTERM).await;
    let id = case.interrupted().remove(0);
    let mut all = Vec::new();
    for (db, name) in [("shop", "own"), ("uzima_backup", "records")] {
        let listing = doc! {"listCollections": 1, "filter": {"name": name}};
        let listed = case.live.database(db).run_command(listing).await.expect("a list");
        let row = &listed.get_document("cursor").and_then(|c| c.get_array("firstBatch")).expect("rows")[0];
        let uuid =
            row.as_document().and_then(|row| row.get_document("info").ok()).expect("its info").get("uuid");
        let Some(bson::Bson::Binary(uuid)) = uuid else { panic!("{row}") };
        let identity: String = uuid.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        all.push(doc! {"db": db, "name": name, "identity": identity, "created": true, "complete": 3_i64});
    }
    let row = doc! {"_id": bson::oid::ObjectId::new(), "format": 3, "of": &id, "namespaces": all};
    case.marks().insert_one(row).await.expect("a document");
    let kept = case.kept().to_string();
    assert!(kept.contains("shop.own") && !kept.contains("uzima_backup.records"), "{kept}");
    let report = case.restore(&["--continue", "--json"], 0).json();
    assert!(!report["continued"]["dropped"].to_string().contains("shop.own"), "{report}");
    assert_eq!(case.count("own").await, 3);
    let records = case.live.database("uzima_backup").collection::<bson::Document>("records");
    assert_eq!(records.count_documents(doc! {}).await.expect("a count"), 3);
}

/// A user who may not list a marked database cannot know what is left there: the mark stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_of_a_database_that_the_user_may_not_list_stays() {
    let case = Case::of(Mongod::builder(), Mongod::builder().auth(), &["--db", "shop"]).await;
    let args = ["--ns-exclude", "shop.system.js"];
    case.interrupt(&args, insert_into("e"), libc::SIGTERM).await;
    let id = case.interrupted().remove(0);
    let roles = [("readWrite", "uzima_backup"), ("readWrite", "x"), ("dbAdmin", "x")];
    case.target.create_user("limited", "x", &roles).await.expect("a user");
    let tool = |args: &[&str]| {
        let mut command = case.tool(args);
        command.env("RESTORE_URI", case.proxy.uri(&case.target.uri_as("limited", "x", "admin")));
        command
    };
    run(&mut tool(&["--discard", &id])).ends(1).says(&[
        &id,
        "\"shop\"",
        "cannot be listed",
        "listCollections",
    ]);
    assert_eq!(case.interrupted(), [id.as_str()]);
    assert_eq!(case.count("a").await, 40);
    // A restore that ends removes only marks of which nothing is left.
    let other = ["latest", "--ns-include", "shop.a", "--ns-from", "shop.*", "--ns-to", "x.*"];
    let ran = run(&mut tool(&other));
    let restored = case.live.database("x").collection::<bson::Document>("a");
    assert_eq!(restored.count_documents(doc! {}).await.expect("a count"), 40, "{ran:?}");
    assert_eq!(case.interrupted(), [id.as_str()], "{ran:?}");
    case.restore(&["--ns-exclude", "shop.system.js", "--continue"], 0);
}

/// Documents are not merged into a collection that --discard or --continue would drop later.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_merged_into_a_collection_of_an_interrupted_restore() {
    let case = Case::new().await;
    rows(&case.live, "shop", "own", 0..3).await;
    case.interrupt(&[], insert_into("e"), libc::SIGTERM).await;
    let id = case.interrupted().remove(0);
    let made = format!("was made by the interrupted restore {id}");
    let says = [made.as_str(), "--continue` goes on with that restore", &format!("--discard {id}")];
    case.restore(&["--merge", "--ns-include", "shop.e"], 1).says(&says);
    case.restore(&["--merge", "--ns-include", "shop.e", "--dry-run"], 1).says(&says);
    case.restore(&["--filter", "{\"_id\": 1}", "--ns-include", "shop.e"], 1).says(&says);
    let beside = ["--merge", "--ns-include", "shop.e", "--ns-from", "shop.e", "--ns-to", "shop.other"];
    case.restore(&beside, 0);
    assert_eq!(case.count("other").await, 40);
    run(&mut case.tool(&["--discard", &id])).ends(0);
    case.restore(&["--merge", "--ns-include", "shop.e"], 0);
    assert_eq!(case.count("e").await, 40);
}

/// A view that is the same stays as it is: nothing can be deleted from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_was_there_stays() {
    let case = Case::new().await;
    let view = doc! {"create": "z_view", "viewOn": "a", "pipeline": []};
    case.live.database("shop").run_command(view).await.expect("a view");
    case.interrupt(&[], insert_into("system.js"), libc::SIGTERM).await;
    case.proxy.clear_log();
    case.restore(&["--continue"], 0);
    let changed = |name: &str| case.proxy.commands(name).iter().any(|one| one.namespace == "shop.z_view");
    assert!(!changed("delete") && !changed("drop") && !changed("create"));
    case.assert_equal("continued").await;
}

/// A run that stalled does not remove the mark of the run that took over.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_stalled_leaves_the_mark_of_the_next_run() {
    let case = Case::new().await;
    let gate = Gate::default();
    let end = Rule::on("delete").namespace("uzima_backup.restores").nth(1);
    let held = case.proxy.add(end.then(Action::Hold(gate.clone())));
    let mut tool = case.tool(&["latest"]);
    let mut child = tool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool");
    while case.proxy.hits(held) == 0 {
        assert!(child.try_wait().expect("its state").is_none(), "it ended before");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let taken = doc! {"$set": {"run": bson::oid::ObjectId::new()}};
    case.marks().update_one(doc! {"format": 2}, taken).await.expect("an update");
    gate.open();
    let ended = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&ended.stdout).into_owned() + &String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("another run took over the restore"), "{said}");
    assert_eq!(case.interrupted().len(), 1, "{said}");
    assert!(case.marks().count_documents(doc! {"format": 3}).await.expect("a count") > 0);
}
