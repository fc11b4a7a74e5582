//! Buckets that keep versions, lock objects, or have moved objects to an archive.

use serde_json::json;
use uzima_backup::catalog::layout;

use super::support::{Place, ids, keys_of, with};

fn full(key: &str) -> String {
    format!("daily-backups/{key}")
}

/// A lifecycle rule that moves everything older than 30 days to GLACIER.
#[test]
fn archived_backups_are_named_and_everything_else_goes_on() {
    let place = Place::s3();
    let backups = place.nightly([0, 1, 2, 40, 41]);
    let (old, archived) = (&backups[3], &backups[4]);
    keys_of(archived).iter().for_each(|key| place.bucket().archive(&full(key)));
    let listed = place.run(&["list", "--json"]).ends(0).json();
    let row = &listed["backups"][4];
    let thaw =
        format!("aws s3api restore-object --bucket backups --key {} ", full(&layout::manifest(&archived.id)));
    assert_eq!((&row["id"], &row["status"]), (&json!(archived.id), &json!("archived")));
    assert!(
        row["error"].as_str().is_some_and(|how| how.contains("(GLACIER)") || how.contains(&thaw)),
        "{row}"
    );
    let shown = place.run(&["list", "--status", "archived"]).ends(0).stdout;
    assert!(shown.lines().nth(1).is_some_and(|line| line.starts_with(archived.id.as_str())), "{shown}");
    place.run(&["stats"]).ends(0);
    place.run(&["pin", "latest"]).ends(0);

    // All objects that have to be thawed are named at once, before anything is read.
    let all = keys_of(archived).map(|key| format!("--key {} ", full(&key)));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for args in [&["restore", archived.id.as_str(), "--drop", "--yes"][..], &["verify", archived.id.as_str()]]
    {
        place.run(args).ends(1).says(&all);
    }
    let calls = place.bucket().calls().len();
    let report = place.run(&["cleanup", "--json"]).ends(0).json();
    assert_eq!(report["archived"], json!([archived.id]));
    assert_eq!(with(&report, "deleted"), ids(std::slice::from_ref(old)));
    assert!(place.bucket().calls().len() > calls);
    assert!(keys_of(archived).iter().all(|key| place.keys().contains(key)), "nothing of it is deleted");
}

/// The artifact goes to an archive class at once, and the manifest stays in STANDARD.
#[test]
fn a_backup_with_an_archived_artifact_says_how_to_thaw_it() {
    let place = Place::s3();
    let backups = place.nightly([0, 1]);
    place.bucket().archive(&full(&backups[0].artifact.key));
    let words = [format!("--key {} ", full(&backups[0].artifact.key))];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for args in [
        &["restore", "latest", "--drop", "--yes"][..],
        &["restore", "latest", "--dry-run"],
        &["verify", "latest"],
    ] {
        place.run(args).ends(1).says(&words);
    }
    let report = place.run(&["verify", "--all", "--json"]).json();
    assert_eq!(report["archived"][0]["id"], json!(backups[0].id), "{report}");
    assert_eq!(report["backups"].as_array().map(Vec::len), Some(1), "the other one is read: {report}");
}

#[test]
fn versions_that_a_lifecycle_rule_expires_are_not_reported() {
    let place = Place::s3();
    place.nightly([0, 1, 2, 40]);
    place.bucket().keep_versions();
    place.bucket().expire_versions(true);
    let report = place.run(&["cleanup", "--json"]).ends(0).json();
    assert_eq!((&report["problems"], with(&report, "deleted").len()), (&json!([]), 1));
    assert_eq!(place.bucket().count("GetBucketLifecycleConfiguration"), 1);

    // The lifecycle rule is missing, or the key may not read the rules and the setting says that there is
    // one.
    let place = Place::s3();
    place.nightly([0, 1, 2, 40, 41]);
    place.bucket().keep_versions();
    place.bucket().expire_versions(false);
    let report = place.run(&["cleanup", "--json"]).ends(3).json();
    assert!(
        report["problems"][0].as_str().is_some_and(|problem| problem.contains("expire noncurrent")),
        "{report}"
    );
    place.nightly([42]);
    let mut tool = place.command();
    crate::cli::support::run(tool.env("S3_VERSIONED", "true").arg("cleanup")).ends(0);
}

#[test]
fn a_locked_backup_stays_without_a_failure() {
    let place = Place::s3();
    let backups = place.nightly([0, 1, 2, 40, 41]);
    place.bucket().lock_objects();
    place.bucket().expire_versions(true);
    let locked = &backups[3];
    keys_of(locked).iter().for_each(|key| place.bucket().retain(&full(key), 5 * 86_400));
    let report = place.run(&["cleanup", "--json"]).ends(0).json();
    assert_eq!(with(&report, "locked"), ids(std::slice::from_ref(locked)));
    assert_eq!(with(&report, "deleted"), ids(&backups[4..]));
    let rows = report["backups"].as_array().expect("a list");
    let reason = rows.iter().find(|row| row["outcome"] == "locked").expect("a row")["reason"]
        .as_str()
        .expect("a text");
    let date = (chrono::Utc::now() + chrono::TimeDelta::days(5)).format("%Y-%m").to_string();
    assert!(reason.starts_with(&format!("locked until {date}")), "{reason}");
    place.holds(&backups[..4]);
}
