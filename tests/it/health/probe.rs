//! The probe in the store: what it proves, and that it is deleted where that is allowed.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use uzima_backup::config::place::Place as Where;
use uzima_backup::ops::health::CheckOutcome;
use uzima_testkit::s3_server::{Fault, Rule, S3Server};

use super::support::{Health, in_bucket, look, objects, only, row, subject};
use crate::cleanup::support::places;
use crate::cli::support::{Home, NOWHERE};
use crate::store::support::options;

/// The README recommends such a key for the backup machine: the probe stays, and has the same key every time.
#[test]
fn a_key_that_may_not_delete_is_healthy() {
    let bucket = S3Server::start();
    bucket.faults().add(Rule::always("DeleteObject", Fault::Answer(403, "AccessDenied")));
    for _ in 0..3 {
        let home = Home::new();
        let mut tool = in_bucket(&home, NOWHERE, &bucket.endpoint());
        let health = Health::of(&mut tool, &["--only", "store", "--only", "clock"]).green();
        let words = "could not be deleted (no DeleteObject), which is fine for a backup key";
        assert!(health.detail("store").ends_with(words), "{}", health.report);
        assert_eq!(health.row("store")["outcome"], "ok");
    }
    assert_eq!(objects(&bucket).len(), 1, "one for each machine");
}

/// The probe is never taken for a backup, and no cleanup deletes it.
#[test]
fn a_remaining_probe_is_ignored_by_every_command() {
    for place in places() {
        let backups = place.nightly(0..40);
        place.put(".health/db1", b"a probe");
        let listed = place.run(&["list", "--json"]).ends(0).json();
        assert_eq!(listed["backups"].as_array().map(Vec::len), Some(40));
        let report = place.run(&["cleanup", "--json", "--orphans", "--force"]).ends(0).json();
        assert_eq!(report["orphans"].as_array().map(Vec::len), Some(0));
        assert!(place.keys().contains(".health/db1"));
        assert!(place.listed().len() < backups.len());
    }
}

#[tokio::test]
async fn a_probe_that_reads_back_differently_is_reported() {
    let bucket = S3Server::start();
    let check = async |options| {
        let report = look(subject(Where::S3(Box::new(options))), &only(&["store"]), Utc::now()).await;
        row(&report, "store").clone()
    };
    bucket.faults().add(Rule::always("PutObject", Fault::Alter));
    let altered = check(options(&bucket)).await;
    assert_eq!(altered.outcome, CheckOutcome::Failed, "{altered:?}");
    assert!(altered.next_step.is_some());
    bucket.faults().clear();
    // Another run on this machine deletes the probe in between, which is tolerated.
    bucket.faults().add(Rule::at(0, "GetObject", Fault::Answer(404, "NoSuchKey")));
    assert_eq!(check(options(&bucket)).await.outcome, CheckOutcome::Ok);
    bucket.faults().clear();
    bucket.faults().add(Rule::always("GetObject", Fault::Answer(404, "NoSuchKey")));
    let lost = check(options(&bucket)).await;
    assert!(
        lost.detail.ends_with("the object that was read back is not the one that was written"),
        "{lost:?}"
    );
    assert!(lost.next_step.is_some_and(|step| step.contains("cache or proxy")));
    assert!(objects(&bucket).is_empty());
}

/// The store hangs after the probe was written, and the probe is still deleted.
#[tokio::test]
async fn a_probe_in_a_hanging_store_is_deleted() {
    let bucket = S3Server::start();
    bucket.faults().add(Rule::from(0, "GetObject", Fault::Delay(Duration::from_secs(600))));
    let mut wanted = only(&["store"]);
    wanted.patience = Duration::from_secs(2);
    let report = look(subject(Where::S3(Box::new(options(&bucket)))), &wanted, Utc::now()).await;
    let store = row(&report, "store");
    assert_eq!(store.outcome, CheckOutcome::Failed);
    assert_eq!(store.detail, "no answer within 2 s");
    assert!(bucket.count("PutObject") > 0 && objects(&bucket).is_empty());
}

/// A signal ends the run after the probe was written.
#[test]
fn a_probe_is_deleted_when_a_signal_ends_the_run() {
    let (bucket, home) = (S3Server::start(), Home::new());
    bucket.faults().add(Rule::from(0, "GetObject", Fault::Delay(Duration::from_secs(600))));
    let mut tool = in_bucket(&home, NOWHERE, &bucket.endpoint());
    tool.args(["health", "--only", "store"]).stderr(Stdio::piped());
    let child = tool.spawn().unwrap();
    let begun = Instant::now();
    while bucket.count("GetObject") < 1 {
        assert!(begun.elapsed() < Duration::from_secs(20), "the probe is not read");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(objects(&bucket).len(), 1);
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("SIGTERM"), "{stderr}");
    assert!(objects(&bucket).is_empty());
}

#[test]
fn many_runs_at_once_do_not_disturb_each_other() {
    for place in places() {
        let runs: Vec<_> = (0..6)
            .map(|_| {
                let mut tool = place.command();
                tool.args(["health", "--only", "store", "--quiet"]);
                tool.stdout(Stdio::null()).spawn().unwrap()
            })
            .collect();
        for mut run in runs {
            assert!(run.wait().unwrap().success());
        }
        assert!(place.keys().is_empty(), "{:?}", place.keys());
    }
}

/// The service accepts small objects, but no upload in parts with the configured checksum.
#[test]
fn a_checksum_that_fails_in_parts_is_reported_with_one_that_works() {
    for (fault, works) in [
        (
            Rule::always("UploadPart", Fault::Answer(501, "NotImplemented"))
                .header("x-amz-checksum-crc64nvme"),
            "crc32c",
        ),
        (Rule::always("*", Fault::Answer(400, "InvalidArgument")).header("x-amz-checksum-algorithm"), "none"),
    ] {
        let bucket = S3Server::start();
        bucket.faults().add(fault);
        let home = Home::new();
        let tool = || in_bucket(&home, NOWHERE, &bucket.endpoint());
        let words = format!("Set S3_CHECKSUM={works}: the service accepts multipart uploads with it");
        Health::of(&mut tool(), &["--only", "store"]).only("store", &[&words], &[]);
        Health::of(tool().env("S3_CHECKSUM", works), &["--only", "store"]).green();
        assert!(objects(&bucket).is_empty() && bucket.open_uploads().is_empty(), "no probe stays");
    }
}

/// A storage class, an encryption or a lock that the bucket refuses would fail the backup.
#[test]
fn every_option_of_an_upload_is_tried() {
    for (variable, value, words) in [
        ("S3_STORAGE_CLASS", "FAST", "S3_STORAGE_CLASS (now FAST)"),
        ("S3_OBJECT_LOCK_DAYS", "7", "unset S3_OBJECT_LOCK_DAYS"),
        ("S3_VERSIONED", "true", "unset S3_VERSIONED"),
    ] {
        let bucket = S3Server::start();
        let class = Rule::always("CreateMultipartUpload", Fault::Answer(400, "InvalidStorageClass"));
        bucket.faults().add(class.header("x-amz-storage-class"));
        let home = Home::new();
        let mut tool = in_bucket(&home, NOWHERE, &bucket.endpoint());
        Health::of(tool.env(variable, value), &["--only", "store"]).only("store", &[words], &[]);
        assert!(bucket.open_uploads().is_empty());
    }
}

#[test]
fn the_protection_of_the_bucket_is_reported() {
    let bucket = S3Server::start();
    let detail = |words: &str| {
        let home = Home::new();
        let health =
            Health::of(&mut in_bucket(&home, NOWHERE, &bucket.endpoint()), &["--only", "store"]).green();
        assert!(health.detail("store").contains(words), "{}", health.report);
    };
    detail("it keeps no versions: this key can overwrite backups");
    bucket.keep_versions();
    detail("it keeps versions: objects that this key overwrites or deletes can be recovered");
    bucket.lock_objects();
    detail("it keeps versions, and objects can be locked");
    for operation in ["GetBucketVersioning", "GetObjectLockConfiguration"] {
        bucket.faults().add(Rule::always(operation, Fault::Answer(403, "AccessDenied")));
    }
    detail("it is unknown if it keeps versions: the key may not ask");
}
