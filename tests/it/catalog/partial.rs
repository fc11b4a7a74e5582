//! Backups of a part of their job.

use crate::cli::support::{Home, Ran, run};
use crate::restore::support::{rows, server};

const PART: &str = "all databases, without shop.carts";

/// Runs the tool for the job `nightly`, which the environment names.
fn nightly(home: &Home, uri: &str, args: &[&str]) -> Ran {
    run(home.to_dir(uri).env("BACKUP_JOB", "nightly").args(args))
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_leave_out_a_part_of_the_job_make_a_partial_backup() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    rows(&original, "shop", "carts", 0..30).await;
    let (home, uri) = (Home::new(), source.uri());
    let tool = |args: &[&str]| nightly(&home, &uri, args);
    let id = |ran: &Ran| ran.json()["id"].as_str().expect("an id").to_string();
    let full = id(&tool(&["backup", "--json"]).ends(0));
    let plan = tool(&["backup", "--dry-run", "--exclude", "shop.carts"]).ends(0).stdout;
    assert!(plan.contains(&format!("the backup would be partial: {PART}")), "{plan}");
    // The larger part of the data is left out, and has not vanished.
    let ran = tool(&["backup", "--exclude", "shop.carts", "--json"]).ends(0);
    let part = id(&ran);
    assert_eq!(ran.json()["partial"], PART);
    assert!(
        ran.stderr
            .contains(&format!("this backup is partial: it holds only a part of the job nightly: {PART}")),
        "{}",
        ran.stderr
    );
    let manifest = home.manifests().into_iter().find(|one| one.id.as_str() == part).expect("a manifest");
    assert!(manifest.partial && manifest.warnings.is_empty(), "{manifest:?}");

    let listed = tool(&["list"]).ends(0).stdout;
    assert!(listed.contains("partial"), "{listed}");
    let shown = tool(&["list", "latest"]).ends(0).stdout;
    assert!(shown.contains(&format!("{PART}; only a part of the job")), "{shown}");
    assert_eq!(tool(&["list", "--json"]).ends(0).json()["backups"][0]["partial"], PART);
    let stats = tool(&["stats", "--json"]).ends(0).json();
    assert_eq!(stats["standing"]["newest_good"], full.as_str(), "{stats}");
    assert_eq!((&stats["backups"], &stats["backups_partial"]), (&2.into(), &1.into()), "{stats}");
    assert_eq!(
        (&stats["backups_not_good"], &stats["success"][2]["ended"]),
        (&0.into(), &1.into()),
        "{stats}"
    );
    let text = tool(&["stats"]).ends(0).stdout;
    assert!(text.contains(", 1 partial") && !text.contains("needs a look"), "{text}");
    let cleanup = tool(&["cleanup", "--dry-run", "--json"]).ends(0).json();
    let reason = cleanup["backups"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains(&format!("not good: it is partial ({PART})")), "{reason}");

    let (target, _) = server().await;
    let restore = |which: &str| {
        let mut command = home.to_dir(&uri);
        command.env("BACKUP_JOB", "nightly").env("RESTORE_URI", target.uri());
        run(command.args(["restore", which, "--dry-run"])).ends(0).stdout
    };
    let plan = restore("latest");
    assert!(plan.starts_with(&format!("backup {full} ")), "{plan}");
    assert!(plan.contains(&format!("skipped the newer backup {part}: it is partial ({PART})")), "{plan}");
    let plan = restore(&part);
    assert!(plan.contains(&format!("a partial backup: {PART}")), "{plan}");
    let verified = tool(&["verify", "latest", "--json"]).ends(0).json();
    assert_eq!(verified["backups"][0]["id"], part.as_str(), "verify takes the newest stored backup");

    // A run for a part of the job that fails is recorded as such.
    nightly(&home, crate::cli::support::NOWHERE, &["backup", "--exclude", "shop.carts"]).ends(1);
    let failed = home.files().into_iter().find(|file| file.ends_with("/failed.json")).expect("a failure");
    let failed = std::fs::read(home.backups().join(failed)).expect("a file");
    let failed: serde_json::Value = serde_json::from_slice(&failed).expect("JSON");
    assert_eq!(failed["partial"], PART);
    let stats = tool(&["stats", "--json"]).ends(0).json();
    assert_eq!((&stats["runs"]["failed"], &stats["success"][2]["ended"]), (&1.into(), &1.into()), "{stats}");

    // The next whole backup is compared with the last whole one, so that its loss of a third is seen.
    original.database("shop").collection::<bson::Document>("carts").drop().await.expect("dropped");
    let ran = tool(&["backup", "--json"]).ends(3);
    assert!(ran.stdout.contains("collapsed: "), "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_define_the_job_make_whole_backups() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3).await;
    rows(&original, "shop", "carts", 0..30).await;
    let (home, uri) = (Home::new(), source.uri());
    let whole = |ran: Ran| {
        let report = ran.ends(0).json();
        assert_eq!(report["partial"], serde_json::Value::Null, "{report}");
        report
    };
    let exclude = ["backup", "--exclude", "shop.carts", "--json"];
    whole(run(home.to_dir(&uri).args(exclude)));
    whole(nightly(&home, &uri, &[&exclude[..], &["--job", "small"]].concat()));
    // The configured selection changes: nothing has vanished, and the flags may repeat what is configured.
    whole(nightly(&home, &uri, &["backup", "--json"]));
    let mut changed = home.to_dir(&uri);
    changed.env("BACKUP_JOB", "nightly").env("BACKUP_EXCLUDE", "shop.carts");
    let report = whole(run(changed.args(exclude)));
    let note = report["notes"].to_string();
    assert!(
        note.contains("the selection changed since the backup") && note.contains("without shop.carts"),
        "{note}"
    );
}
