//! `--continue` with all formats, dumps, points in time, renames, versions and kinds of servers.

use bson::doc;
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::Rule;

use super::support::{Case, insert_into, interrupt, printed, shell};
use crate::cli::support::{Home, run};
use crate::native::support::behind_a_proxy;
use crate::restore::support::rows;

/// Interrupts a restore into an empty target and goes on.
async fn goes_on(case: &Case, args: &[&str], what: &str) {
    case.empty().await;
    let mut tool = case.tool(args);
    let ran =
        case.interrupt_command(&mut tool, insert_into("e"), libc::SIGTERM).await.expect("it is interrupted");
    let before = case.uuid("a").await;
    let code = run(&mut shell(&printed(&ran), &case.tool(&[]))).code;
    assert_eq!(code, Some(0), "{what}");
    assert_eq!(case.uuid("a").await, before, "{what}");
    case.assert_equal(what).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restores_of_all_formats_and_of_dumps_go_on() {
    for format in ["tar.gz", "tar.zst", "archive.gz", "archive.zst"] {
        let case = Case::of(Mongod::builder(), Mongod::builder(), &["--format", format]).await;
        goes_on(&case, &["latest"], format).await;
        let file = case.home.files().into_iter().find(|file| file.contains("/dump.")).expect("an artifact");
        let path = case.home.backups().join(file);
        goes_on(&case, &["--from", path.to_str().expect("a path")], &format!("--from {format}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restores_into_all_versions_and_kinds_of_servers_go_on() {
    for version in [Version::V4_4_2, Version::V5_0_32, Version::V6_0_5] {
        for set in [false, true] {
            let builder = || {
                let builder = Mongod::builder().version(version);
                if set { builder.replica_set("rs") } else { builder }
            };
            let case = Case::of(Mongod::builder().version(version), builder(), &["--db", "shop"]).await;
            goes_on(&case, &["latest"], &format!("{} {set}", version.as_str())).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_with_filters_and_new_names_goes_on() {
    let case = Case::new().await;
    let args = [
        "latest",
        "--ns-exclude",
        "*.b",
        "--ns-from",
        "shop.*",
        "--ns-to",
        "it's_new.*",
        "--no-index",
        "shop.a.*",
    ];
    let at = Rule::on("insert").namespace("it's_new.e").nth(1);
    let ran =
        case.interrupt_command(&mut case.tool(&args), at, libc::SIGTERM).await.expect("it is interrupted");
    run(&mut shell(&printed(&ran), &case.tool(&[]))).ends(0);
    let found = read_all(&case.live).await.expect("the target");
    let count = |name: &str| found.get("it's_new", name).map(|one| one.documents.len());
    assert_eq!((count("a"), count("b"), count("e")), (Some(40), None, Some(40)));
    assert_eq!(found.get("it's_new", "a").expect("it is there").indexes.len(), 1);
    assert_eq!(found.get("it's_new", "e").expect("it is there").indexes.len(), 2);
    assert!(found.namespaces.keys().all(|(db, _)| db == "it's_new"), "{:?}", found.namespaces.keys());
}

/// The printed command names the point, because `--at newest` may be a later one then.
#[tokio::test(flavor = "multi_thread")]
async fn a_restore_to_a_point_in_time_goes_on_to_the_same_point() {
    let source = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let original = source.client().await.expect("a client");
    for name in ["a", "b", "c"] {
        rows(&original, "shop", name, 0..20).await;
    }
    let home = Home::new();
    let tool = |args: &[&str]| {
        let mut command = home.to_dir(&source.uri());
        command.env("BACKUP_DATABASES", "shop").args(args);
        command
    };
    run(&mut tool(&["backup", "--consistency", "snapshot"])).ends(0);
    run(&mut tool(&["oplog"])).ends(0);
    rows(&original, "shop", "a", 20..30).await;
    rows(&original, "shop", "late", 0..5).await;
    run(&mut tool(&["oplog"])).ends(0);
    let wanted = read_all(&original).await.expect("the original");
    for (at, state) in [
        (Rule::on("insert").namespace("shop.c").nth(1), "loading"),
        (Rule::on("insert").namespace("shop.late").nth(1), "replaying"),
    ] {
        let (target, proxy, live) = behind_a_proxy().await;
        let restore = |args: &[&str]| {
            let mut command = tool(&["restore", "--yes"]);
            command.env("RESTORE_URI", proxy.uri(&target.uri())).args(args);
            command
        };
        let mut first = restore(&["--at", "newest"]);
        let ran = interrupt(&proxy, &mut first, at, libc::SIGTERM).await.expect("it is interrupted");
        let line = printed(&ran);
        assert!(line.contains(" --at 1"), "{line}");
        let marks = live.database("uzima_backup").collection::<bson::Document>("restores");
        let mark = marks.find_one(doc! {"format": 2}).await.expect("a read").expect("a mark");
        assert_eq!(mark.get_str("state").expect("a state"), state);
        // The newest point is another one now.
        rows(&original, "shop", state, 0..3).await;
        run(&mut tool(&["oplog"])).ends(0);
        run(&mut restore(&["--at", "newest", "--continue"])).ends(2).says(&["does not fit: it has --at "]);
        run(&mut shell(&line, &restore(&[]))).ends(0);
        let found = read_all(&live).await.expect("the target");
        assert_eq!(wanted.diff(&found), Vec::<String>::new(), "{state}");
        original.database("shop").collection::<bson::Document>(state).drop().await.expect("a drop");
        run(&mut tool(&["oplog"])).ends(0);
    }
}
