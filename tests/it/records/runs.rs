//! The records of runs from start to end, however they end.

use std::process::Stdio;
use std::time::{Duration, Instant};

use bson::{Bson, doc};
use mongodb::Client;
use serde_json::json;
use uzima_testkit::official::Official;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{of_each, recorded, recording, runs, server, text};
use crate::cli::signals::{STALL, ends_by, loaded, start, until};
use crate::cli::support::{Home, run};

#[tokio::test]
async fn a_backup_is_recorded_and_does_not_contain_the_records() {
    let ((server, client), home) = (server().await, Home::new());
    let first = run(recording(&home, &server.uri()).args(["backup", "--json", "--job", "j"])).ends(0).json();
    assert_eq!(first["problems"], json!([]));
    let manifest = home.manifests().pop().expect("a manifest");
    let [record] = recorded(&client).await.try_into().expect("one record");
    assert_eq!(text(&record, "_id"), manifest.id.as_str());
    for (key, expected) in [
        ("job", "j"),
        ("status", "completed"),
        ("host", &manifest.host),
        ("engine", "native"),
        ("consistency", "none"),
        ("key", &manifest.artifact.key),
        ("place", home.backups().to_str().expect("a path")),
    ] {
        assert_eq!(text(&record, key), expected, "{key}");
    }
    for (key, number) in [
        ("format", 1),
        ("namespaces", manifest.totals.namespaces),
        ("documents", manifest.totals.documents),
        ("raw_bytes", manifest.totals.raw_bytes),
        ("stored_bytes", manifest.artifact.size),
    ] {
        assert_eq!(record.get(key), Some(&Bson::Int64(number as i64)), "{key}");
    }
    for (key, at) in [("started_at", manifest.started_at), ("finished_at", manifest.finished_at)] {
        let Some(Bson::DateTime(found)) = record.get(key) else { panic!("{key} is no date") };
        assert_eq!(found.timestamp_millis(), at.timestamp_millis(), "{key}");
    }
    assert_eq!(record.get("warnings"), Some(&Bson::Array(vec![])));
    assert!(!record.contains_key("error") && !record.contains_key("verified"), "{record}");
    let names = runs(&client).list_index_names().await.expect("indexes");
    assert_eq!(names, ["_id_", "job_started_at"]);

    // The records exist now, and each engine still reads the same namespaces.
    let official = Official::find("records::runs (mongodump engine)");
    let engines = std::iter::once("native").chain(official.as_ref().map(|_| "mongodump"));
    for (n, engine) in engines.enumerate() {
        let mut command = recording(&home, &server.uri());
        if let Some(tools) = &official {
            command.env("MONGODUMP_PATH", &tools.mongodump);
        }
        let next = run(command.args(["backup", "--json", "--job", "j", "--engine", engine])).ends(0).json();
        assert_eq!(next["namespaces"], first["namespaces"], "{engine}");
        let manifest = home.manifests().pop().expect("a manifest");
        assert!(manifest.namespaces.iter().all(|n| n.db != "uzima_backup"), "{engine}");
        assert_eq!(of_each(&client, "status").await, vec!["completed"; n + 2], "{engine}");
    }
}

/// Waits until the records have these statuses, newest first.
async fn becomes(client: &Client, statuses: &[&str]) {
    let began = Instant::now();
    while of_each(client, "status").await != statuses {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", of_each(client, "status").await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// During the run its record says so. After a signal the record and the store say why it ended. After a kill
/// the next run records that the end is unknown.
#[tokio::test]
async fn a_run_ended_by_a_signal_or_a_kill_is_recorded() {
    let ((server, client), home) = (server().await, Home::new());
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let tool = || {
        let mut command = recording(&home, &proxy.uri(&server.uri()));
        command.env("BACKUP_RECORDS", server.uri()).env("BACKUP_JOB", "j");
        command
    };
    for (turn, records_stall) in [false, true].into_iter().enumerate() {
        let stalled = proxy.add(Rule::on("find").namespace("shop.*").then(Action::Stall(STALL)));
        let silent = || proxy.add(Rule::on("update").then(Action::Stall(STALL)));
        let mut command = tool();
        if records_stall {
            command.env("BACKUP_RECORDS", proxy.uri(&server.uri()));
        }
        let child = start(command.arg("backup"));
        until("the server falls silent", || proxy.hits(stalled) == 1);
        becomes(&client, &["running", "failed"][..=turn]).await;
        let listed = run(tool().args(["list", "--json"])).ends(0).json();
        assert_eq!(listed["backups"][0]["status"], "running");
        assert_eq!(listed["backups"][0]["finished_at"], json!(null));
        let none = run(home.to_dir(&server.uri()).args(["list", "--json"])).ends(0).json();
        assert_eq!(none["backups"].as_array().map(Vec::len), Some(turn), "the store has no backup");
        let silent = records_stall.then(silent);
        ends_by(child, libc::SIGTERM, 143);
        let failure = home.failures().pop().expect("a report of a failure");
        assert_eq!((failure.exit, failure.job.as_str()), (143, "j"));
        assert!(failure.error.contains("SIGTERM"), "{}", failure.error);
        if let Some(silent) = silent {
            // There was no time to write the record, but the store has the failure, and the list shows it.
            assert_eq!((proxy.hits(silent), &*of_each(&client, "status").await[0]), (1, "running"));
        } else {
            let record = &recorded(&client).await[0];
            assert_eq!((text(record, "status"), record.contains_key("error")), ("failed", true));
        }
        let listed = run(tool().args(["list", "--json"])).ends(0).json();
        assert_eq!(listed["backups"][0]["status"], "failed");
        proxy.clear();
        proxy.close_all();
    }
    let stalled = proxy.add(Rule::on("find").namespace("shop.*").then(Action::Stall(STALL)));
    let mut child = start(tool().arg("backup"));
    until("the server falls silent", || proxy.hits(stalled) == 1);
    becomes(&client, &["running", "running", "failed"]).await;
    child.kill().expect("a kill");
    child.wait().expect("its end");
    proxy.clear();
    let next = tool().args(["backup"]).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("a run");
    assert_eq!(next.code(), Some(0));
    assert_eq!(of_each(&client, "status").await, ["completed", "interrupted", "failed", "failed"]);
    let shown = run(tool().arg("list")).ends(0).stdout;
    assert_eq!(shown.lines().filter(|line| line.ends_with("  interrupted")).count(), 1, "{shown}");
}

/// A second attempt has its own id, which the record takes over.
#[tokio::test]
async fn a_second_attempt_is_recorded_with_its_own_id() {
    let (server, home) = (loaded().await, Home::new());
    let client = server.client().await.expect("a client");
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    proxy.without_resume_tokens(40415);
    let lost = proxy.add(Rule::on("getMore").nth(1).then(Action::Close));
    let mut command = recording(&home, &proxy.uri(&server.uri()));
    let report = run(command.env("BACKUP_RECORDS", server.uri()).args(["backup", "--json"])).ends(0).json();
    assert_eq!(proxy.hits(lost), 1);
    assert!(report["notes"].to_string().contains("started once more"), "{report}");
    let records = recorded(&client).await;
    assert_eq!(records.len(), 1);
    assert_eq!(Some(text(&records[0], "_id")), report["id"].as_str());
    assert_eq!(text(&records[0], "status"), "completed");
}

/// The reason of a failure is in the record and in the store, without secrets. An invocation that starts no
/// run is in neither.
#[tokio::test]
async fn a_failed_run_is_recorded_with_its_reason() {
    let ((server, client), home) = (server().await, Home::new());
    let tool = |args: &[&str]| {
        let mut command = recording(&home, &server.uri());
        command
            .env("BACKUP_JOB", "j")
            .env("AWS_ACCESS_KEY_ID", "AKIA")
            .env("AWS_SECRET_ACCESS_KEY", "canary-word");
        run(command.args(args))
    };
    tool(&["backup", "--db", "canary-word"]).ends(1).says(&["does not exist", "next step"]);
    let failure = home.failures().pop().expect("a report of a failure");
    let record = recorded(&client).await.pop().expect("a record");
    assert_eq!((text(&record, "_id"), text(&record, "status")), (failure.id.as_str(), "failed"));
    let error = text(&record, "error");
    assert!(
        error.contains("'***' does not exist") && error.contains("next step: Check the spelling"),
        "{error}"
    );
    assert!(failure.error.contains("'***' does not exist") && failure.next_step.is_some(), "{failure:?}");
    assert_eq!((failure.exit, failure.host.as_str()), (1, text(&record, "host")));
    assert!(record.contains_key("finished_at"), "{record}");
    tool(&["backup", "--format", "rar"]).ends(2);
    tool(&["backup", "--dry-run"]).ends(0);
    assert_eq!((home.failures().len(), recorded(&client).await.len()), (1, 1));
    // Nothing can be stored in a place that does not exist, and the place is not created.
    let nowhere = home.path().join("file");
    std::fs::write(&nowhere, "").expect("a file");
    let ran = tool(&["backup", "--dir", nowhere.to_str().expect("a path")]);
    assert_eq!((ran.code, recorded(&client).await.len()), (Some(1), 1), "{}", ran.stderr);
}

/// A misspelt database name does not become a job name, neither in the records nor in the store. A database
/// that disappeared is a failed run.
#[tokio::test]
async fn a_misspelt_database_does_not_become_a_job() {
    let ((server, client), home) = (server().await, Home::new());
    client.database("blog").collection("posts").insert_one(doc! {"_id": 1}).await.expect("a row");
    let tool = |args: &[&str]| run(recording(&home, &server.uri()).args(args));
    let slip = [
        "the database 'shopp' does not exist",
        "next step: Check the spelling",
        "; similar names: shop, blog",
    ];
    tool(&["backup", "--db", "shopp"]).ends(1).says(&slip);
    assert_eq!((home.failures().len(), recorded(&client).await.len()), (0, 0));
    assert_eq!(tool(&["list", "--json"]).ends(0).json()["backups"], json!([]));
    // With a job name of its own the run is recorded.
    tool(&["backup", "--db", "shopp", "--job", "nightly"]).ends(1);
    assert_eq!((home.failures().len(), recorded(&client).await.len()), (1, 1));
    tool(&["backup", "--db", "shop"]).ends(0);
    client.database("shop").drop().await.expect("it is dropped");
    tool(&["backup", "--db", "shop"]).ends(1).says(&["the database 'shop' does not exist"]);
    assert_eq!((home.failures().len(), recorded(&client).await.len()), (2, 3));
}

/// Records of backups in another place do not concern this place.
#[tokio::test]
async fn records_of_another_place_are_ignored() {
    let ((server, client), here, there) = (server().await, Home::new(), Home::new());
    for home in [&here, &there, &here] {
        run(recording(home, &server.uri()).arg("backup")).ends(0);
    }
    assert_eq!(of_each(&client, "status").await, ["completed"; 3]);
    let listed = run(recording(&there, &server.uri()).args(["list", "--json"])).ends(0).json();
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1));
    let deleted = ["list", "--json", "--status", "deleted"];
    let listed = run(recording(&there, &server.uri()).args(deleted)).ends(0).json();
    assert_eq!(listed["backups"], json!([]));
    // A list writes nothing.
    runs(&client).update_many(doc! {}, doc! {"$set": {"status": "running"}}).await.expect("an update");
    run(recording(&here, &server.uri()).arg("list")).ends(0);
    assert_eq!(of_each(&client, "status").await, ["running"; 3]);
}

/// A missing bucket is found before anything is read, and the record says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_reach_its_bucket_is_recorded() {
    let ((server, client), home) = (server().await, Home::new());
    let bucket = uzima_testkit::s3_server::S3Server::start();
    let mut tool = recording(&home, &server.uri());
    tool.env_remove("BACKUP_DIR").envs(crate::cli::s3::variables(&bucket.endpoint()));
    run(tool.env("S3_BACKUP_BUCKET", "nowhere").arg("backup")).ends(1);
    let records = recorded(&client).await;
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(text(&records[0], "status"), "failed");
    assert!(text(&records[0], "error").contains("nowhere"), "{}", records[0]);
}
