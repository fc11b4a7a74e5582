//! Records that cannot be reached or written fail no backup and no list.

use std::time::{Duration, Instant};

use serde_json::json;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{of_each, recorded, recording, server};
use crate::cli::support::{Home, NOWHERE, run};

#[tokio::test]
async fn records_on_an_unreachable_server_cost_no_backup() {
    let ((server, client), home) = (server().await, Home::new());
    let mut other = Mongod::builder().start().await.expect("mongod");
    let tool = |records: &str, args: &[&str]| {
        run(recording(&home, &server.uri()).env("BACKUP_RECORDS", records).args(args))
    };
    tool(&other.uri(), &["backup"]).ends(0);
    let records = other.client().await.expect("a client");
    assert_eq!((of_each(&records, "status").await.len(), recorded(&client).await.len()), (1, 0));
    other.stop().expect("its end");
    let down = format!("mongodb://{}/?serverSelectionTimeoutMS=500", other.host());
    for (uri, code) in [(down.as_str(), 3), (NOWHERE, 3), ("off", 0)] {
        let report = tool(uri, &["backup", "--json"]).ends(code).json();
        let problems = report["problems"].as_array().expect("a list");
        assert_eq!(problems.len(), usize::from(code == 3), "{report}");
        assert!(
            problems.iter().all(|p| p.as_str().expect("a text").contains("Check that MongoDB runs there"))
        );
        let began = Instant::now();
        let listed = tool(uri, &["list", "--json"]).ends(0);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(listed.stderr.lines().count(), usize::from(code == 3), "{}", listed.stderr);
        assert_eq!(listed.json()["backups"].as_array().map(Vec::len), Some(home.manifests().len()));
    }
    // The records are reachable again, and the missing ones are written from the store.
    other.restart().await.expect("mongod");
    let ran = tool(&other.uri(), &["backup"]).ends(0);
    assert!(
        ran.stderr.contains("the records were rebuilt from the store: 3 added, 0 corrected"),
        "{}",
        ran.stderr
    );
    let records = other.client().await.expect("a client");
    assert_eq!(of_each(&records, "status").await, ["completed"; 5]);
}

/// Each command that writes records is refused in turn. A record that a later command writes is no problem.
#[tokio::test]
async fn a_refused_command_of_the_records_costs_no_backup() {
    let (server, client) = server().await;
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let attempt = |rule: Rule, code: i32| {
        let home = Home::new();
        let hit = proxy.add(rule);
        let mut command = recording(&home, &server.uri());
        let ran = run(command.env("BACKUP_RECORDS", proxy.uri(&server.uri())).args(["backup", "--json"]));
        assert!(proxy.hits(hit) > 0);
        proxy.clear();
        assert_eq!(home.manifests().len(), 1);
        ran.ends(code).json()["problems"].clone()
    };
    let on = |command: &str| Rule::on(command).namespace("uzima_backup*");
    assert_eq!(attempt(on("createIndexes").then(Action::fail(13)), 0), json!([]));
    assert_eq!(attempt(on("update").nth(1).then(Action::fail(8000)), 0), json!([]));
    for rule in [
        on("update").then(Action::fail(8000)),
        on("update").from(2).then(Action::fail(13)),
        on("find").then(Action::fail(13)),
        on("update").then(Action::Close),
    ] {
        let problems = attempt(rule, 3);
        let text = problems[0].as_str().expect("a problem");
        assert!(text.starts_with("the run could not be recorded: records cannot be "), "{text}");
        assert_eq!(problems.as_array().map(Vec::len), Some(1));
    }
    assert!(of_each(&client, "status").await.contains(&"running".to_string()));
}

/// The server that is backed up and holds the records is down: the list shows the failure from the store
/// alone, quickly and without a message about records.
#[test]
fn the_store_alone_is_enough_for_a_list() {
    let home = Home::new();
    let began = Instant::now();
    let ran =
        run(recording(&home, NOWHERE).env("BACKUP_JOB", "j").arg("backup")).ends(1).says(&["cannot connect"]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(!ran.stderr.contains("needs a look"), "{}", ran.stderr);
    let failure = home.failures().pop().expect("a report of a failure");
    assert!(failure.error.contains("cannot connect to MongoDB at 127.0.0.1:1"), "{}", failure.error);
    let listed = run(recording(&home, NOWHERE).args(["list", "--json"])).ends(0).json();
    let row = &listed["backups"][0];
    assert_eq!(
        (&row["status"], &row["id"], &row["job"]),
        (&json!("failed"), &json!(failure.id), &json!("j"))
    );
    assert!(row["error"].as_str().expect("an error").contains("next step: "), "{row}");
}
