//! Whatever happens to the records, the next run rebuilds them from the store.

use bson::doc;
use serde_json::json;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{of_each, recorded, recording, runs, server};
use crate::cli::support::{Home, run};

/// Backups, failed runs, pins and acceptances survive a drop of the database.
#[tokio::test]
async fn a_dropped_records_database_is_rebuilt() {
    let ((server, client), home) = (server().await, Home::new());
    let tool = |args: &[&str]| run(recording(&home, &server.uri()).env("BACKUP_JOB", "j").args(args));
    tool(&["backup"]).ends(0);
    tool(&["backup", "--db", "shpo"]).ends(1);
    tool(&["backup"]).ends(0);
    let id = home.manifests()[0].id.to_string();
    tool(&["pin", &id]).ends(0);
    tool(&["cleanup", "--accept", &id]).ends(0);
    let before = recorded(&client).await;
    assert_eq!(of_each(&client, "status").await, ["completed", "failed", "completed"]);
    client.database("uzima_backup").drop().await.expect("a drop");
    // Without the records everything is still listed.
    let listed = tool(&["list", "--json"]).ends(0).json();
    let of_each_row = |key: &str| -> Vec<serde_json::Value> {
        listed["backups"].as_array().expect("a list").iter().map(|row| row[key].clone()).collect()
    };
    assert_eq!(of_each_row("status"), ["completed", "failed", "completed"]);
    assert_eq!(of_each_row("pinned"), [json!(false), json!(false), json!(true)]);
    let ran = tool(&["backup"]).ends(0);
    assert!(
        ran.stderr.contains("the records were rebuilt from the store: 3 added, 0 corrected"),
        "{}",
        ran.stderr
    );
    assert_eq!(recorded(&client).await[1..], before);
    let again = tool(&["backup"]).ends(0);
    assert!(!again.stderr.contains("rebuilt"), "{}", again.stderr);
    assert!(home.files().iter().any(|file| file.ends_with("/accepted.json")));
}

/// The records of an old dump show a run as running that ended long ago, and lack the later ones.
#[tokio::test]
async fn records_of_an_old_dump_are_corrected() {
    let ((server, client), home) = (server().await, Home::new());
    let tool = |args: &[&str]| run(recording(&home, &server.uri()).env("BACKUP_JOB", "j").args(args));
    for _ in 0..4 {
        tool(&["backup"]).ends(0);
    }
    let right = recorded(&client).await;
    let gone = home.manifests().remove(1);
    std::fs::remove_dir_all(home.backups().join(folder(&gone.artifact.key))).expect("a folder");
    let first = home.manifests()[0].id.to_string();
    let old = doc! {"$set": {"status": "running", "mood": "hopeful"}, "$unset": {"finished_at": "", "documents": ""}};
    runs(&client).update_one(doc! {"_id": &first}, old).await.expect("an update");
    let last = right[0].get_str("_id").expect("an id");
    runs(&client).delete_one(doc! {"_id": last}).await.expect("a deletion");
    // A list is already correct, and writes nothing.
    let listed = tool(&["list", "--json"]).ends(0).json();
    let statuses: Vec<&str> = listed["backups"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|row| row["status"].as_str())
        .collect();
    assert_eq!(statuses, ["completed"; 3]);
    assert_eq!(recorded(&client).await.len(), 3);
    let ran = tool(&["backup"]).ends(0);
    assert!(ran.stderr.contains("rebuilt from the store: 1 added, 1 corrected"), "{}", ran.stderr);
    let now = recorded(&client).await;
    assert_eq!(of_each(&client, "status").await, ["completed"; 5], "no cleanup deleted the one that is gone");
    let mut corrected = now[4].clone();
    // Fields of a newer version are kept.
    assert_eq!(corrected.remove("mood"), Some("hopeful".into()));
    assert_eq!((&now[1], &corrected), (&right[0], &right[3]));
    let deleted = tool(&["list", "--json", "--status", "deleted"]).ends(0).json();
    assert_eq!(deleted["backups"].as_array().map(Vec::len), Some(1));
    assert_eq!(deleted["backups"][0]["id"], json!(gone.id));
}

fn folder(key: &str) -> &str {
    &key[..key.rfind('/').expect("a folder") + 1]
}

/// A rebuild that is interrupted at any point loses nothing, and the next one continues.
#[tokio::test]
async fn an_interrupted_rebuild_is_completed_by_the_next() {
    let ((server, client), home) = (server().await, Home::new());
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let tool = || {
        let mut command = recording(&home, &server.uri());
        command.env("BACKUP_JOB", "j").env("BACKUP_RECORDS", proxy.uri(&server.uri())).arg("backup");
        run(&mut command)
    };
    for _ in 0..4 {
        tool().ends(0);
    }
    client.database("uzima_backup").drop().await.expect("a drop");
    // Start and end of this run, and two of the four missing records.
    let cut = proxy.add(Rule::on("update").from(5).then(Action::fail(8000)));
    tool().ends(3);
    assert_eq!((proxy.hits(cut), recorded(&client).await.len()), (1, 3));
    proxy.clear();
    let ran = tool().ends(0);
    assert!(ran.stderr.contains("rebuilt from the store: 2 added, 0 corrected"), "{}", ran.stderr);
    assert_eq!(of_each(&client, "status").await, ["completed"; 6]);
}

/// An unreadable record is reported and left alone, and hides no other record.
#[tokio::test]
async fn a_record_of_a_newer_version_is_left_alone() {
    let ((server, client), home) = (server().await, Home::new());
    let tool = |args: &[&str]| run(recording(&home, &server.uri()).args(args));
    tool(&["backup"]).ends(0);
    let newer = doc! {"$set": {"format": 2_i64, "status": "frozen"}};
    runs(&client).update_many(doc! {}, newer).await.expect("an update");
    runs(&client).insert_one(doc! {"_id": 7, "started_at": "long ago"}).await.expect("a foreign one");
    let before = recorded(&client).await;
    let listed = tool(&["list", "--json"]).ends(0).says(&["cannot be understood", "format 2"]);
    assert_eq!(listed.json()["backups"][0]["status"], "completed");
    tool(&["backup"]).ends(0).says(&["the record 7 in uzima_backup.runs cannot be understood"]);
    let after = recorded(&client).await;
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|record| after.contains(record)), "{after:?}");
}
