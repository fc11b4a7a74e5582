//! The marks: which restore they are of, marks that nobody can trust, rights, and that nothing of them stays.

use bson::doc;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::wire_proxy::Rule;

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
    case.proxy.add(Rule::on("insert").namespace("shop.b").then(uzima_testkit::wire_proxy::Action::fail(20)));
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
    case.restore(&newer, 2).says(&[&id, &format!("it is of the backup {}", case.id)]);
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
    assert_eq!(report["collections"].as_array().expect("a list").len(), 6, "{report}");
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
