//! Hostile names, and many of them.

use bson::{Document, doc};
use uzima_backup::base::escape::steers;
use uzima_backup::catalog::layout;
use uzima_testkit::read_all::read_all;

use super::support::*;
use crate::cli::support::{Home, run};
use crate::restore::support::server;

/// Sets the window's title, reverses the text direction, and starts a line of its own.
const EVIL: &str = "evil'\u{1b}]0;owned\u{7}\u{202e}\u{9b}2J\r\nnext step: x; (y) `z` \\*";

/// Asserts that the screen has no control characters but those of inquire: the ends of lines, and codes that move the cursor,
/// clear a line, or hide the cursor.
#[track_caller]
fn is_harmless(screen: &str) {
    let codes = regex::Regex::new("\u{1b}\\[(\\?25[lh]|[0-9]*[ABCDKJ]|[0-9]+m)").expect("an expression");
    let rest = codes.replace_all(screen, "");
    let bad: Vec<char> = rest.chars().filter(|c| steers(*c) && !['\r', '\n'].contains(c)).collect();
    assert!(bad.is_empty(), "{bad:?} in {rest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_are_escaped_and_restored_by_the_printed_command() {
    let (source, client) = server().await;
    for (db, name) in [
        ("shop", EVIL),
        ("shop", "-x"),
        ("注文", "注文_of_the_warehouse_of_the_warehouse_of_the_warehouse_1"),
    ] {
        let rows = client.database(db).collection::<Document>(name);
        rows.insert_many((0..3).map(|n| doc! {"_id": n})).await.expect("rows");
    }
    let home = Home::new();
    run(home.to_dir(&source.uri()).args(["backup", "--job", "nightly"])).ends(0);
    run(home.to_dir(&source.uri()).args(["backup", "--job", "other"])).ends(0);
    // A job's name that only a person who can write to the store can make.
    let mut planted = home.manifests().into_iter().find(|one| one.job == "other").expect("a manifest");
    planted.job = EVIL.into();
    let path = home.backups().join(layout::manifest(&planted.id));
    std::fs::write(path, planted.encode().expect("JSON")).expect("a manifest");
    let (target, live) = server().await;
    let tool = || tool(&home, &source, Some(&target));
    let mut guided = Guided::start(tool(), &[]);
    guided.picks("Which job?", "nightly").enters(BACKUP).picks_namespace("owned");
    guided.enters(DOCUMENTS).enters(TARGET).picks(NAMES, "as they");
    let (_, line) = guided.planned(CONFIRM);
    assert!(line.contains("--ns-include $'shop.evil\\'\\x1b]0;owned\\x07\\xe2\\x80\\xae"), "{line}");
    assert!(guided.before.contains("shop.evil'\\u{1b}]0;owned\\u{7}\\u{202e}\\u{9b}2J\\r\\nnext step"));
    let (code, screen) = guided.confirms("y");
    assert_eq!(code, Some(0), "{screen}");
    is_harmless(&screen);
    let first = read_all(&live).await.expect("the target");
    assert_eq!(first.namespaces.keys().collect::<Vec<_>>(), [&("shop".to_string(), EVIL.to_string())]);
    live.database("shop").drop().await.expect("a drop");
    pasted(&tool(), &line).ends(0);
    let second = read_all(&live).await.expect("the target");
    assert_eq!(first.diff(&second), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_namespaces_can_be_chosen_from() {
    let (source, client) = server().await;
    for n in 0..2_000 {
        client.database("many").create_collection(format!("c{n:04}")).await.expect("a collection");
    }
    for name in ["c0007", "c1999"] {
        let rows = client.database("many").collection::<Document>(name);
        rows.insert_one(doc! {"_id": 1}).await.expect("a row");
    }
    let home = Home::new();
    run(home.to_dir(&source.uri()).args(["backup", "--db", "many"])).ends(0);
    let (target, live) = server().await;
    let tool = || tool(&home, &source, Some(&target));
    let mut guided = Guided::start(tool(), &[]);
    guided.enters(BACKUP);
    guided.waits("all: 2,000 namespaces, 2 documents");
    // Up from the first entry is the last one; a filter finds another, and the mark of the first stays.
    guided
        .picks(NAMESPACES, "from a list")
        .answers(LIST, &[UP, b" "].concat())
        .answers("[x] many.c1999", b"c0007 \r");
    guided.enters(DOCUMENTS).enters(TARGET).picks(NAMES, "as they");
    let (plan, line) = guided.planned(CONFIRM);
    assert!(line.ends_with("--ns-include many.c0007 \\\n    --ns-include many.c1999"), "{line}");
    assert!(plan.contains("would restore 2 namespaces, 2 documents"), "{plan}");
    let (code, screen) = guided.confirms("y");
    assert_eq!(code, Some(0), "{screen}");
    is_harmless(&screen);
    assert_eq!(read_all(&live).await.expect("the target").namespaces.len(), 2);
}
