//! `list` and `stats` report backups whose stored data is damaged, as `health` and `cleanup` do.

use std::fs;

use serde_json::Value;
use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Manifest;

use super::support::{Home, NOWHERE, Ran, run};
use crate::cleanup::support::Place;
use crate::night::support::holds;
use crate::records::support::{recording, server};

/// The entry of a backup in the output of `list --json` or `stats --json`.
#[track_caller]
fn row<'a>(rows: &'a Value, manifest: &Manifest) -> &'a Value {
    let id = manifest.id.as_str();
    rows.as_array().expect("a list").iter().find(|row| row["id"] == id).expect("its row")
}

fn remove(place: &Place, key: &str) {
    fs::remove_file(place.home.backups().join(key)).expect("it was there");
}

/// The line of a backup in the text output.
#[track_caller]
fn line(ran: &Ran, manifest: &Manifest) -> String {
    let begins = |line: &&str| line.starts_with(manifest.id.as_str());
    ran.stdout.lines().find(begins).expect("its line").to_string()
}

#[test]
fn list_and_stats_report_a_missing_or_truncated_object() {
    let place = Place::dir();
    let backups = place.nightly(0..4);
    remove(&place, &backups[0].artifact.key);
    remove(&place, &backups[1].index.key);
    place.put(&backups[2].artifact.key, b"all the");
    let stats = place.run(&["stats", "--json"]).ends(0).json();
    let list = place.run(&["list", "--json"]).ends(4).json();
    let text = place.run(&["list"]).ends(4);
    let printed = place.run(&["stats"]).ends(0);
    for (n, code, words, short, why) in [
        (
            0,
            "artifact_missing",
            "artifact missing",
            "artifact missing: dump.tar.gz",
            format!("its artifact {} is missing", backups[0].artifact.key),
        ),
        (
            1,
            "index_missing",
            "index missing",
            "index missing: index.json.zst",
            format!("its index {} is missing", backups[1].index.key),
        ),
        (
            2,
            "damaged",
            "damaged",
            "damaged: its artifact dump.tar.gz has 7…",
            "has 7 bytes, but the manifest says 12".to_string(),
        ),
    ] {
        for rows in [&list["backups"], &stats["last"]] {
            let row = row(rows, &backups[n]);
            assert_eq!(row["status"], code);
            assert!(row["error"].as_str().is_some_and(|error| error.ends_with(&why)), "{row}");
        }
        let said = line(&text, &backups[n]);
        assert!(said.ends_with(&format!("  {short}")) && said.chars().count() <= 80, "{}", text.stdout);
        assert!(line(&printed, &backups[n]).contains(&format!("  {words}  ")), "{}", printed.stdout);
        let only = place.run(&["list", "--json", "--status", code]).ends(4).json();
        assert_eq!(only["backups"].as_array().expect("a list").len(), 1, "{only}");
    }
    let good = row(&list["backups"], &backups[3]);
    assert_eq!((&good["status"], &good["error"]), (&"completed".into(), &Value::Null));
    // Each run made a backup, so it counts as a success.
    assert_eq!((&stats["backups"], &stats["backups_not_good"]), (&4.into(), &3.into()));
    assert_eq!(stats["success"][2]["percent"], 100.0);
    holds(
        &printed.stdout,
        &["4 completed", "in 4 backups (390.6 KiB raw), 3 of them are not good", "ago, artifact missing"],
    );
    // `cleanup` and `health` act on the same faults.
    let cleanup = place.run(&["cleanup", "--dry-run", "--json"]).ends(3).json();
    assert_eq!(cleanup["problems"].as_array().map(Vec::len), Some(3), "{cleanup}");
    let health = place.run(&["health", "--only", "freshness"]).ends(5).stdout;
    holds(&health, &[backups[3].id.as_str(), "is missing"]);
}

#[test]
fn the_statistics_page_reports_a_damaged_backup() {
    let place = Place::dir();
    let backups = place.nightly(0..4);
    remove(&place, &backups[1].artifact.key);
    let file = place.home.path().join("page.html");
    let ran = place.run(&["stats", "--html", file.to_str().expect("a path")]).ends(0);
    assert!(ran.stdout.ends_with(&format!("\nwritten: {}\n", file.display())), "{}", ran.stdout);
    let page = fs::read_to_string(file).expect("a page");
    let day = backups[1].started_at.format("%F");
    let said = format!("{day}: 1 made, its stored data is not good");
    holds(&page, &["artifact missing", "4 backups, 1 of them is not good", &said]);
}

/// The records know the job of a broken or lost manifest. Without records nobody does, and the cleanup is
/// frozen.
#[tokio::test(flavor = "multi_thread")]
async fn list_and_stats_report_a_broken_or_lost_manifest() {
    let ((server, _client), home) = (server().await, Home::new());
    let tool = |uri: &str, args: &[&str]| {
        let mut command = recording(&home, uri);
        run(command.env("BACKUP_RECORDS", server.uri()).env("BACKUP_JOB", "nightly").args(args))
    };
    for _ in 0..3 {
        tool(&server.uri(), &["backup"]).ends(0);
    }
    let backups = home.manifests();
    let manifest = |n: usize| home.backups().join(layout::manifest(&backups[n].id));
    fs::write(manifest(0), "{").expect("damage");
    fs::remove_file(manifest(1)).expect("a loss");
    let list = tool(NOWHERE, &["list", "--json"]).ends(4).json();
    let stats = tool(NOWHERE, &["stats", "--json"]).ends(0).json();
    for (n, status) in [(0, "unreadable_manifest"), (1, "manifest_missing"), (2, "completed")] {
        for rows in [&list["backups"], &stats["last"]] {
            assert_eq!(row(rows, &backups[n])["status"], status);
        }
    }
    // The store decides which backups exist, with records and without.
    assert_eq!((&stats["backups"], &stats["backups_lost"]), (&1.into(), &2.into()), "{stats}");
    let printed = tool(NOWHERE, &["stats"]).ends(0);
    holds(&line(&printed, &backups[0]), &["  unreadable manifest  ", "manifest.json cannot be understood"]);
    holds(&line(&printed, &backups[1]), &["  manifest missing  "]);
    holds(&printed.stdout, &["in 1 backup (", "raw), and 2 more without a readable manifest\n"]);
    assert!(!printed.stdout.contains("deleted"), "{}", printed.stdout);
    holds(
        &tool(NOWHERE, &["list"]).ends(4).stdout,
        &["unreadable manifest: ", "manifest missing: its artifact "],
    );
    // A deleted backup is reported as deleted, and as nothing else.
    fs::write(manifest(0), backups[0].encode().expect("JSON")).expect("mended");
    fs::remove_dir_all(manifest(1).parent().expect("its folder")).expect("the rest");
    let list = tool(NOWHERE, &["list", "--json", "--status", "deleted"]).ends(0).json();
    assert_eq!(row(&list["backups"], &backups[1])["status"], "deleted");
}
