//! Reports of failed runs expire by age, and by nothing else.

use std::collections::BTreeSet;

use chrono::{TimeDelta, Utc};
use serde_json::json;
use uzima_backup::catalog::layout;
use uzima_backup::catalog::marks::{FORMAT, FailedRun};
use uzima_backup::model::id::BackupId;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::ops::cleanup::{CleanupRequest, cleanup};

use super::clocks::settings;
use super::support::{JOB, Place, keys_of, manifest, places};
use crate::store::support;

/// The report of a run that failed so many days ago.
pub fn failed(job: &str, days: i64) -> FailedRun {
    failed_run(manifest(job, days))
}

/// The report of a run that failed, with the id and the times of this manifest.
fn failed_run(m: Manifest) -> FailedRun {
    FailedRun {
        format: FORMAT,
        id: m.id,
        job: m.job,
        tool: m.tool,
        host: m.host,
        started_at: m.started_at,
        failed_at: m.finished_at,
        exit: 1,
        partial: None,
        error: "the disk is full".into(),
        next_step: Some("free some space".into()),
        notes: vec![],
    }
}

impl Place {
    fn fail(&self, job: &str, days: i64) -> BackupId {
        self.put_failure(failed(job, days))
    }

    fn put_failure(&self, failure: FailedRun) -> BackupId {
        self.put(&layout::failed(&failure.id), &serde_json::to_vec(&failure).expect("JSON"));
        failure.id
    }
}

#[test]
fn reports_of_failures_expire_by_age_within_their_job() {
    for place in places() {
        let backups = place.nightly(0..5);
        let (young, old, older) = (place.fail(JOB, 29), place.fail(JOB, 31), place.fail(JOB, 400));
        let other = place.fail("all@db2", 400);
        let before = place.keys();
        let planned = place.run(&["cleanup", "--dry-run", "--json"]).ends(0).json();
        assert_eq!(planned["expired"], json!([older, old]));
        let printed = place.run(&["cleanup", "--dry-run"]).ends(0).stdout;
        assert!(printed.contains(&format!("would delete the report of the failed run {old}\n")), "{printed}");
        assert_eq!(place.keys(), before);
        let done = place.run(&["cleanup", "--json"]).ends(0).json();
        assert_eq!(done["expired"], json!([older, old]));
        let mut want: BTreeSet<String> = backups.iter().flat_map(keys_of).collect();
        want.extend([layout::failed(&young), layout::failed(&other)]);
        assert_eq!(place.keys(), want);
        assert_eq!(place.run(&["cleanup", "--json"]).ends(0).json()["expired"], json!([]));
    }
}

/// The other objects in the folder are handled as usual.
#[test]
fn an_orphan_beside_a_report_of_a_failure_is_still_an_orphan() {
    let place = Place::dir();
    place.nightly(0..5);
    let lost = manifest(JOB, 40);
    place.put(&lost.artifact.key, b"all the data");
    super::orphans::aged(&place, &lost.artifact.key, 40);
    let id = place.put_failure(failed_run(lost.clone()));
    let done = place.run(&["cleanup", "--json"]).ends(0).json();
    assert_eq!((&done["expired"], &done["orphans"][0]["key"]), (&json!([id]), &json!(lost.artifact.key)));
    assert!(place.keys().contains(&lost.artifact.key));
    place.run(&["cleanup", "--orphans"]).ends(0);
    assert!(!place.keys().contains(&lost.artifact.key));
}

/// An unreadable report may belong to any job: it is reported, and stays.
#[test]
fn an_unreadable_report_of_a_failure_stays() {
    for place in places() {
        place.nightly(0..5);
        let of_newer = FailedRun { format: FORMAT + 1, ..failed(JOB, 60) };
        let of_another = failed(JOB, 70);
        for (days, body) in [
            (40, b"{".to_vec()),
            (50, b"null".to_vec()),
            (60, serde_json::to_vec(&of_newer).expect("JSON")),
            (80, serde_json::to_vec(&of_another).expect("JSON")),
        ] {
            place.put(&layout::failed(&manifest(JOB, days).id), &body);
        }
        let before = place.keys();
        let done = place.run(&["cleanup", "--json"]).ends(0).json();
        assert_eq!((&done["expired"], done["notes"].as_array().map(Vec::len)), (&json!([]), Some(4)));
        assert_eq!(place.keys(), before);
        // The run failed all the same, and is listed.
        let listed = place.run(&["list", "--json", "--status", "failed"]).ends(0).json();
        assert_eq!(listed["backups"].as_array().map(Vec::len), Some(4), "{listed}");
    }
}

#[tokio::test]
async fn a_wrong_clock_expires_no_report() {
    let place = Place::s3();
    place.nightly(0..5);
    place.fail(JOB, 3);
    let before = place.keys();
    let store = support::store(place.bucket()).await;
    let ahead = Utc::now() + TimeDelta::days(365);
    let report = cleanup(&store, &settings(), &CleanupRequest::default(), ahead).await.expect("a report");
    assert!(!report.frozen.is_empty() && report.expired.is_empty(), "{report:?}");
    assert_eq!(place.keys(), before);
}

/// `list` shows the failed runs among the backups, and reads no more objects than it shows.
#[test]
fn failed_runs_are_listed() {
    let place = Place::s3();
    let backups = place.nightly([0, 2]);
    let id = place.fail(JOB, 1);
    place.fail("all@db2", 3);
    let listed = place.run(&["list", "--json"]).ends(0).json();
    let of = |at: usize, key: &str| listed["backups"][at][key].as_str().expect("a text").to_string();
    let statuses: Vec<String> = (0..4).map(|at| of(at, "status")).collect();
    assert_eq!(statuses, ["completed", "failed", "completed", "failed"]);
    assert_eq!((of(1, "id"), of(1, "host")), (id.to_string(), "db1".into()));
    assert_eq!(of(1, "error"), "the disk is full (next step: free some space)");
    let text = place.run(&["list", "--job", JOB]).ends(0).stdout;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[2].ends_with("  failed: the disk is full"), "{text}");
    let of_status = place.run(&["list", "--json", "--status", "completed"]).ends(0).json();
    assert_eq!(of_status["backups"].as_array().map(Vec::len), Some(2));
    // Without the cache of earlier reads.
    std::fs::remove_dir_all(place.home.state()).expect("a folder");
    let before = place.bucket().calls().len();
    let some = place.run(&["list", "--json", "--limit", "2"]).ends(0).json();
    assert_eq!(some["backups"][1]["id"], json!(id));
    let calls = &place.bucket().calls()[before..];
    assert_eq!(calls.iter().filter(|call| call.operation == "GetObject").count(), 2);
    assert_eq!(place.listed().len(), backups.len());
    place.run(&["list", "--status", "good"]).ends(2).says(&["interrupted", "damaged"]);
}
