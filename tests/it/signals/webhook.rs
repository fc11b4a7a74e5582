//! The documents that the webhook receives.

use std::collections::BTreeSet;

use serde_json::Value;
use wiremock::ResponseTemplate;

use super::support::{JOB, Signalled, keeps_quiet, problems, reported};
use crate::cli::support::{NOWHERE, run};
use crate::night::support::{Nights, holds, server};

fn events(documents: &[Value]) -> Vec<&str> {
    documents.iter().map(|document| document["event"].as_str().expect("a word")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_is_sent_to_the_webhook() {
    let (server, signalled) = (server().await, Signalled::new().await);
    let report = reported(&mut signalled.hooked(&server.uri()), &["backup"], 0);
    for _ in 0..2 {
        // The ping adds a line to the log.
        run(signalled.hooked(NOWHERE).env("PING_URL", signalled.ping_url()).arg("backup")).ends(1);
    }
    run(signalled.hooked(&server.uri()).arg("backup")).ends(0);
    run(signalled.hooked(&server.uri()).arg("cleanup")).ends(0);
    run(signalled.hooked(&server.uri()).env("BACKUP_DIR", "/dev/null/x").arg("cleanup")).ends(1);
    run(signalled.hooked(&server.uri()).args(["backup", "--dry-run"])).ends(0);
    let documents = signalled.documents().await;
    assert_eq!(events(&documents), ["success", "failure", "failure", "recovered", "cleanup", "failure"]);

    let good = &documents[0];
    assert_eq!((&good["version"], &good["test"], &good["exit_code"]), (&1.into(), &false.into(), &0.into()));
    assert_eq!((&good["job"], &good["operation"]), (&JOB.into(), &"backup".into()));
    assert_eq!(good["run"], report["id"]);
    for field in ["place", "stored_bytes", "raw_bytes", "documents", "namespaces", "engine"] {
        assert_eq!(good["backup"][field], report[field], "{field}");
    }
    assert!(good["failure"].is_null() && good["cleanup"].is_null() && good["frozen"].is_null());

    let bad = &documents[2];
    assert_eq!((&bad["exit_code"], &bad["failed_before"]), (&1.into(), &1.into()));
    holds(bad["failure"]["error"].as_str().expect("a text"), &["127.0.0.1:1", "connection refused"]);
    assert!(bad["failure"]["next_step"].is_string() && bad["backup"].is_null());
    let began = report["started_at"].as_str().expect("a time");
    assert_eq!(bad["failure"]["newest_good_at"].as_str().map(|at| &at[..19]), Some(&began[..19]));
    holds(bad["failure"]["log"][0].as_str().expect("a line"), &["INFO", "sent the ping 'start'"]);
    assert_eq!(documents[3]["failed_before"], 2);
    assert_eq!(
        (&documents[4]["cleanup"]["kept"], &documents[5]["operation"]),
        (&2.into(), &"cleanup".into())
    );
}

/// The webhook receives each failure, of which only the first of a day is mailed, and only selected events.
#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_receives_every_selected_event_even_if_it_is_not_mailed() {
    let (server, signalled, nights) = (server().await, Signalled::new().await, Nights::new().await);
    let night = |uri: &str, notify: &str, code| {
        let mut command = signalled.hooked(uri);
        nights.mailing(&mut command);
        run(command.env("BACKUP_NOTIFY", notify).arg("backup")).ends(code);
    };
    for _ in 0..2 {
        night(NOWHERE, "failure", 1);
    }
    night(&server.uri(), "failure", 0);
    night(NOWHERE, "success,recovered", 1);
    night(&server.uri(), "success,recovered", 0);
    night(&server.uri(), "success,recovered", 0);
    let documents = signalled.documents().await;
    assert_eq!(events(&documents), ["failure", "failure", "recovered", "success"]);
    assert_eq!(nights.subjects().await.len(), 3, "a failure, and two successes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_webhook_costs_no_backup() {
    let server = server().await;
    for (answer, words) in [
        (Some(ResponseTemplate::new(500)), "check that http://127.0.0.1"),
        (
            Some(ResponseTemplate::new(302).insert_header("location", "/canary-0123456789")),
            "Correct WEBHOOK_URL",
        ),
        (None, "Connection refused"),
    ] {
        let signalled = Signalled::silent().await;
        let mut command = signalled.hooked(&server.uri());
        match answer {
            Some(answer) => signalled.answer(".*", answer).await,
            None => drop(command.env("WEBHOOK_URL", "http://127.0.0.1:1/canary-0123456789")),
        }
        let ran = run(command.args(["backup", "--json"])).ends(3);
        keeps_quiet(&ran);
        let [problem] = problems(&ran.json()).try_into().expect("one problem");
        holds(&problem, &["webhook_url: http://127.0.0.1", "did not receive the event 'success'", words]);
        assert_eq!(signalled.home.manifests().len(), 1);
    }
}

fn keys(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            into.insert(key.clone());
            keys(value, into);
        }),
        Value::Array(items) => items.iter().for_each(|item| keys(item, into)),
        _ => {}
    }
}

/// docs/json.md describes the fields of every event.
#[tokio::test(flavor = "multi_thread")]
async fn json_md_describes_every_field_of_the_webhook() {
    let signalled = Signalled::new().await;
    run(signalled.hooked(NOWHERE).args(["notify", "--test"])).ends(0);
    let documents = signalled.documents().await;
    assert_eq!(events(&documents), ["success", "failure", "recovered", "cleanup", "frozen"]);
    assert!(documents.iter().all(|document| document["test"] == true));
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/json.md")).expect("the page");
    let section = page.split("\n## The webhook\n").nth(1).expect("its section");
    let section = section.split("\n## ").next().expect("a text");
    let mut all = BTreeSet::new();
    documents.iter().for_each(|document| keys(document, &mut all));
    let missing: Vec<&String> = all.iter().filter(|key| !section.contains(&format!("`{key}`"))).collect();
    assert!(all.len() > 30 && missing.is_empty(), "{missing:?} of {all:?}");
    for document in &documents {
        assert!(section.contains(&format!("`{}`", document["event"].as_str().expect("a word"))));
    }
}
