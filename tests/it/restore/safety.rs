//! A refused or failed restore leaves the target unchanged, and the report names missing data.

use std::os::unix::fs::FileExt;

use bson::doc;
use serde_json::json;
use uzima_testkit::read_all::read_all;

use super::support::{Backup, differences, rows, server};
use crate::cli::support::{Home, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_artifact_leaves_the_target_unchanged() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..2_000).await;
    rows(&original, "shop", "items", 0..10).await;
    for format in ["tar.gz", "tar.zst", "archive.gz", "archive.zst"] {
        let backup = Backup::of(&source, &["--db", "shop", "--format", format]);
        let (target, live) = server().await;
        rows(&live, "shop", "orders", 5_000..5_100).await;
        let before = read_all(&live).await.expect("the live data");
        let whole = std::fs::read(backup.artifact()).expect("the artifact");
        let file = std::fs::OpenOptions::new().write(true).open(backup.artifact()).expect("the artifact");
        for at in [whole.len() / 3, whole.len() / 2] {
            file.write_all_at(&[!whole[at]], at as u64).expect("a byte");
            for args in [
                &["--drop"][..],
                &["--exact"],
                &["--drop", "--dry-run"],
                &["--ns-from=shop.*", "--ns-to=new.*"],
            ] {
                run(backup.restore_into(&target).args(args)).ends(4).says(&["damaged"]);
            }
            // The sound namespaces can be restored as the next step says.
            let rest = ["--ns-exclude", "shop.orders"];
            run(backup.restore_into(&target).args(["--drop", "--dry-run"])).ends(4).says(&[&rest.join(" ")]);
            run(backup.restore_into(&target).args(["--drop", "--dry-run"]).args(rest)).ends(0);
            file.write_all_at(&[whole[at]], at as u64).expect("a byte");
        }
        // The stream is cut between two gzip members, so no tool finds an error in the rest.
        std::fs::write(backup.artifact(), &whole[..whole.len() - 20]).expect("a shorter file");
        run(backup.restore_into(&target).arg("--drop")).ends(4).says(&["bytes, but the manifest says"]);
        std::fs::remove_file(backup.artifact()).expect("it was there");
        run(backup.restore_into(&target).arg("--drop")).ends(4).says(&["is missing"]);
        let after = read_all(&live).await.expect("the live data");
        assert_eq!(before.diff(&after), Vec::<String>::new(), "{format}");
        std::fs::write(backup.artifact(), &whole).expect("the whole file");
        run(backup.restore_into(&target).arg("--drop")).ends(0);
        assert_eq!(differences(&original, &live).await, Vec::<String>::new(), "{format}");
    }
}

/// If the target has nothing to lose, the damage is found during the writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_artifact_is_found_while_an_empty_target_is_filled() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..2_000).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, _) = server().await;
    let mut whole = std::fs::read(backup.artifact()).expect("the artifact");
    let middle = whole.len() / 2;
    whole[middle] = !whole[middle];
    std::fs::write(backup.artifact(), &whole).expect("a byte");
    run(&mut backup.restore_into(&target)).ends(4).says(&["shop.orders is damaged", "--drop"]);
    rows(&original, "shop", "items", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let mut whole = std::fs::read(backup.artifact()).expect("the artifact");
    let middle = whole.len() / 2;
    whole[middle] = !whole[middle];
    std::fs::write(backup.artifact(), &whole).expect("a byte");
    let (target, _) = server().await;
    run(&mut backup.restore_into(&target))
        .ends(4)
        .says(&["--ns-exclude shop.orders", "the next restore needs --drop"]);
}

/// The official tool restores nothing and exits with 0.
#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_matches_nothing_is_an_error() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = server().await;
    for args in [
        ["--ns-include=shop.order", "--drop"],
        ["--ns-exclude=shop.Orders", "--drop"],
        ["--ns-include=orders", "--exact"],
    ] {
        run(backup.restore_into(&target).args(args)).ends(2).says(&["matches nothing", "shop.orders"]);
    }
    run(backup.restore_into(&target).args(["--ns-from=shop.x", "--ns-to=a.b"]))
        .ends(2)
        .says(&["shop.orders"]);
    // The namespace is in the backup but not in the selection, and the target's own must stay.
    rows(&original, "shop", "items", 0..3).await;
    let both = Backup::of(&source, &["--db", "shop"]);
    let beside = ["--ns-include=shop.orders", "--ns-from=shop.items", "--ns-to=rescue.items", "--drop"];
    run(both.restore_into(&target).args(beside)).ends(2).says(&["shop.items", "nothing that is restored"]);
    run(backup.restore_into(&target).args(["--ns-from=shop.x"])).ends(2).says(&["--ns-to"]);
    assert_eq!(read_all(&live).await.expect("the target").namespaces.len(), 0);
}

/// The official tool exits with 0 after 20,000 documents that all failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_documents_is_refused() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..20_000).await;
    rows(&original, "shop", "items", 0..3).await;
    let backup = Backup::of(&source, &["--db", "shop"]);
    let (target, live) = server().await;
    rows(&live, "shop", "orders", 0..1).await;
    run(&mut backup.restore_into(&target)).ends(1).says(&["shop.orders has 1 document", "--drop"]);
    let plan = run(backup.restore_into(&target).args(["--dry-run", "--json"])).ends(1).json();
    assert_eq!(plan["refused"], json!(["shop.orders has 1 document"]));
    assert!(read_all(&live).await.expect("the target").get("shop", "items").is_none());
    let report = run(backup.restore_into(&target).args(["--ns-include=shop.items", "--json"])).ends(0).json();
    assert_eq!(report["namespaces"][0]["documents"], json!(3));
    run(backup.restore_into(&target).arg("--drop")).ends(0);
    assert_eq!(differences(&original, &live).await, Vec::<String>::new());
    // An empty collection with the same options: there is nothing to lose.
    live.database("shop").collection::<bson::Document>("items").delete_many(doc! {}).await.expect("a delete");
    run(backup.restore_into(&target).args(["--ns-include=shop.items"])).ends(0);
    assert_eq!(differences(&original, &live).await, Vec::<String>::new());
    // An empty collection with equivalent options.
    live.database("shop").collection::<bson::Document>("items").drop().await.expect("a drop");
    let create = doc! {"create": "items", "validationAction": "error", "validationLevel": "strict"};
    live.database("shop").run_command(create).await.expect("another one");
    run(backup.restore_into(&target).args(["--ns-include=shop.items"])).ends(0);
    // An empty collection with other options would keep those options, so it is refused.
    live.database("shop").collection::<bson::Document>("items").drop().await.expect("a drop");
    let create = doc! {"create": "items", "capped": true, "size": 4096};
    live.database("shop").run_command(create).await.expect("another one");
    run(backup.restore_into(&target).args(["--ns-include=shop.items"])).ends(1).says(&["other options"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_or_yes_a_restore_is_a_usage_error() {
    let home = Home::new();
    run(home.to_dir("mongodb://127.0.0.1:1").args(["restore", "latest"]))
        .ends(2)
        .says(&["--yes", "--dry-run"]);
    let uri = "mongodb://u:hunter2@127.0.0.1:1";
    let ran = run(home.to_dir(uri).args(["restore", "latest", "--yes", "--to-uri", uri])).ends(2);
    assert!(ran.stderr.contains("RESTORE_URI") && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
}

/// The newest backup was found damaged by `verify`: the restore takes the one before, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn latest_skips_a_damaged_backup_and_names_it() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    let backup = Backup::of(&source, &[]);
    rows(&original, "shop", "orders", 3..5).await;
    run(backup.home.to_dir(&source.uri()).arg("backup")).ends(0);
    let newest = backup.home.manifests().pop().expect("a manifest");
    let artifact = backup.home.backups().join(&newest.artifact.key);
    let mut bytes = std::fs::read(&artifact).expect("an artifact");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&artifact, bytes).expect("a damaged artifact");
    run(backup.home.to_dir(&source.uri()).args(["verify", "latest"])).ends(4);
    let (target, live) = server().await;
    let skipped = format!("skipped the newer backup {}: verify found it damaged: ", newest.id);
    let plan = run(backup.restore_into(&target).arg("--dry-run")).ends(0).stdout;
    assert!(
        plan.contains(&skipped) && plan.starts_with(&format!("backup {} ", backup.manifest.id)),
        "{plan}"
    );
    let ran = run(backup.restore_into(&target).arg("--json")).ends(0);
    let report = ran.json();
    assert_eq!((&report["id"], &report["skipped"][0]["id"]), (&json!(backup.manifest.id), &json!(newest.id)));
    assert!(ran.stderr.contains(&format!("the newer backup {} is skipped", newest.id)), "{}", ran.stderr);
    assert_eq!(read_all(&live).await.expect("the target").get("shop", "orders").unwrap().documents.len(), 3);
}

/// `latest` in a store with several jobs, and in a store whose newest manifest is broken.
#[tokio::test(flavor = "multi_thread")]
async fn latest_is_never_a_guess() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    let backup = Backup::of(&source, &["--job", "one"]);
    let (target, live) = server().await;
    let again = |job: &str| {
        run(backup.home.to_dir(&source.uri()).args(["backup", "--job", job])).ends(0);
    };
    again("two");
    run(backup.restore_into(&target).arg("--dry-run")).ends(2).says(&["one, two", "--job"]);
    run(backup.restore_into(&target).args(["--dry-run", "--job", "three"]))
        .ends(1)
        .says(&["three", "one, two"]);
    rows(&original, "shop", "orders", 3..5).await;
    again("one");
    let plan = run(backup.restore_into(&target).args(["--dry-run", "--job", "one", "--json"])).ends(0).json();
    let newest = backup.home.manifests().pop().expect("a manifest");
    // The job comes from BACKUP_JOB, as in the lines of the crontab.
    let ran = run(backup.restore_into(&target).args(["--dry-run"]).env("BACKUP_JOB", "one")).ends(0);
    assert!(ran.stdout.contains("5 documents"), "{}", ran.stdout);
    let mut verify = backup.home.to_dir(&source.uri());
    let ran = run(verify.args(["verify", "latest"]).env("BACKUP_JOB", "one")).ends(0);
    assert!(ran.stdout.contains(newest.id.as_str()), "{}", ran.stdout);
    assert_eq!((&plan["id"], &plan["namespaces"][0]["documents"]), (&json!(newest.id), &json!(5)), "{plan}");
    let path = backup.home.backups().join(uzima_backup::catalog::layout::manifest(&newest.id));
    std::fs::write(path, "{").expect("a broken manifest");
    run(backup.restore_into(&target).args(["--job", "one"])).ends(4).says(&[newest.id.as_str()]);
    let first = backup.manifest.id.as_str();
    let mut by_id = backup.home.tool();
    by_id.env("BACKUP_DIR", backup.home.backups()).env("RESTORE_URI", target.uri());
    let report = run(by_id.args(["restore", first, "--yes"])).ends(0).stdout;
    // The report names the backup and its time, because it is kept longer than the plan.
    let begun = backup.manifest.started_at.format("%Y-%m-%d %H:%M:%S UTC");
    assert!(report.starts_with(&format!("backup {first} in ")), "{report}");
    assert!(report.contains(&format!("\n  of the job one, begun {begun}\nrestored 1 namespace")), "{report}");
    assert_eq!(read_all(&live).await.expect("the target").get("shop", "orders").unwrap().documents.len(), 3);
}
