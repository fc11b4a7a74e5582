//! With `--json`, the last line on standard error of a failure is one JSON object.

use std::process::Command;

use serde_json::{Value, json};

use super::support::{Home, NOWHERE, Ran, bare, run, server_with_rows};

/// The document of a failure with this exit code. The line before it is for people.
#[track_caller]
fn failure(command: &mut Command, exit: i32) -> Value {
    let ran: Ran = run(command.arg("--json")).ends(exit);
    let last = ran.stderr.lines().last().expect("a line");
    let document: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
    crate::docs::schema::check("failure", &document);
    assert_eq!((&document["version"], &document["exit"]), (&json!(1), &json!(exit)), "{document}");
    assert!(!document["message"].as_str().expect("a message").is_empty(), "{document}");
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_failure_ends_with_its_document() {
    let (server, home) = (server_with_rows(50, 10).await, Home::new());
    let tool = |args: &[&str]| {
        let mut command = home.to_dir(&server.uri());
        command.env("BACKUP_JOB", "nightly").args(args);
        command
    };
    let wrong = failure(bare().args(["list", "--limit", "0"]), 2);
    assert_eq!(wrong["kind"], "usage");
    assert_eq!(wrong["next_step"], "`uzima-backup list --help` shows the usage");
    let unset = failure(home.tool().arg("list"), 2);
    assert_eq!(unset["kind"], "usage", "{unset}");
    let away = failure(home.to_dir(NOWHERE).arg("backup"), 1);
    assert_eq!(away["kind"], "unreachable", "{away}");
    assert!(
        !away["causes"].as_array().expect("a list").is_empty() && away["next_step"].is_string(),
        "{away}"
    );
    let missing = failure(&mut tool(&["verify", "20200101T000000Z-aaaaaa"]), 1);
    assert_eq!(missing["kind"], "not_found", "{missing}");
    run(&mut tool(&["backup"])).ends(0);
    let manifest = home.manifests().pop().expect("a manifest");
    std::fs::write(home.backups().join(&manifest.artifact.key), "cut").expect("a file");
    // The result is on standard output, and the failure on standard error.
    let damaged = failure(&mut tool(&["list"]), 4);
    assert_eq!((&damaged["kind"], &damaged["causes"]), (&json!("damaged"), &json!([])), "{damaged}");
    let unread = failure(&mut tool(&["restore", "latest", "--yes"]), 4);
    assert_eq!(unread["kind"], "damaged", "{unread}");
    let unhealthy = failure(&mut tool(&["health", "--only", "backups"]), 5);
    assert_eq!(unhealthy["kind"], "unhealthy", "{unhealthy}");
    let lock = home.state().join("locks").join("nightly.backup.lock");
    let lock = std::fs::File::options().write(true).open(lock).expect("the lock of the first backup");
    lock.lock().expect("no other run holds it");
    let busy = failure(&mut tool(&["backup"]), 75);
    assert_eq!(busy["kind"], "busy", "{busy}");
}

#[test]
fn a_success_prints_no_document_of_a_failure() {
    let home = Home::new();
    let ran = run(home.to_dir(NOWHERE).args(["list", "--json"])).ends(0);
    assert!(!ran.stderr.contains("\"exit\""), "{}", ran.stderr);
}

#[test]
fn the_document_of_a_failure_has_no_secret() {
    let home = Home::new();
    let uri = "mongodb://root:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=300&authMechanism=hunter2";
    let ran = run(home.to_dir(uri).args(["backup", "--json"]));
    assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
    assert!(ran.stderr.lines().last().expect("a line").starts_with("{\"version\":1"), "{}", ran.stderr);
}
