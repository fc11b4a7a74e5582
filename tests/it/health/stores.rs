//! Faults of the store.

use std::process::Command;

use chrono::{TimeDelta, Utc};
use uzima_backup::config::place::Place as Where;
use uzima_backup::ops::health::CheckOutcome;
use uzima_testkit::s3_server::{BUCKET, Fault, Rule, S3Server};

use super::support::{Health, in_bucket, look, objects, only, row, subject};
use crate::cleanup::support::{JOB, Place, manifest};
use crate::cli::support::{Home, NOWHERE, files};
use crate::store::support::options;

const STORE: [&str; 4] = ["--skip", "mongodb", "--skip", "namespaces"];

/// The checks that depend on the store.
const REST: [&str; 3] = ["disk", "clock", "freshness"];

fn of(bucket: &S3Server, change: impl FnOnce(&mut Command)) -> Health {
    let home = Home::new();
    let mut tool = in_bucket(&home, NOWHERE, &bucket.endpoint());
    change(&mut tool);
    let health = Health::of(&mut tool, &STORE);
    assert_eq!(files(&home.state()), Vec::<String>::new());
    health
}

#[test]
fn a_missing_or_forbidden_bucket_is_reported() {
    let bucket = S3Server::start();
    of(&bucket, |tool| {
        tool.env("S3_BACKUP_BUCKET", "other");
    })
    .only("store", &["other", "Create the bucket other"], &REST);
    let cases: [(&str, Fault, &[&str]); 5] = [
        ("ListObjectsV2", Fault::Answer(403, "AccessDenied"), &["s3:ListBucket", BUCKET]),
        ("PutObject", Fault::Answer(403, "AccessDenied"), &["s3:PutObject", BUCKET]),
        ("GetObject", Fault::Answer(403, "AccessDenied"), &["s3:GetObject", BUCKET]),
        ("*", Fault::Answer(403, "InvalidAccessKeyId"), &["AWS_ACCESS_KEY_ID"]),
        ("*", Fault::WebPage, &["S3_ENDPOINT_URL", "S3_FORCE_PATH_STYLE"]),
    ];
    for (operation, fault, words) in cases {
        bucket.faults().add(Rule::always(operation, fault));
        of(&bucket, |_| {}).only("store", words, &REST);
        bucket.faults().clear();
        assert!(objects(&bucket).is_empty(), "{operation}: the probe is gone");
    }
    let health = of(&bucket, |tool| {
        tool.env("AWS_SECRET_ACCESS_KEY", "s3cr3t-but-wrong");
    })
    .only("store", &["AWS_SECRET_ACCESS_KEY"], &REST);
    assert!(!format!("{:?}", health.ran).contains("s3cr3t"));
}

#[tokio::test]
async fn a_clock_difference_is_reported() {
    let place = Place::s3();
    place.nightly(0..2);
    for (minutes, good) in [(9, true), (-9, true), (11, false), (-11, false)] {
        let subject = subject(Where::S3(Box::new(options(place.bucket()))));
        let now = Utc::now() + TimeDelta::minutes(minutes);
        let report = look(subject, &only(&["store", "clock"]), now).await;
        let clock = row(&report, "clock");
        assert_eq!(clock.outcome == CheckOutcome::Ok, good, "{clock:?}");
        let direction = if minutes > 0 { "s ahead" } else { "s behind" };
        let (before, _) = clock.detail.split_once(direction).expect("the direction");
        let seconds: i64 =
            before.split_whitespace().next_back().and_then(|n| n.parse().ok()).expect("a number");
        // The check takes a moment after `now` was read, longer on a busy machine.
        assert!((seconds - minutes.abs() * 60).abs() <= 30, "{clock:?}");
        assert_eq!(clock.next_step.is_some(), !good);
        assert_eq!(row(&report, "store").outcome, CheckOutcome::Ok);
    }
}

/// S3 refuses every request if the clocks differ by more than a quarter of an hour.
#[test]
fn a_clock_that_the_store_refuses_is_reported() {
    let bucket = S3Server::start();
    bucket.faults().add(Rule::always("*", Fault::Skewed(3600)));
    of(&bucket, |_| {}).only("store", &["s behind the store's", "timedatectl"], &REST);
}

#[test]
fn a_full_disk_is_reported() {
    let place = Place::dir();
    let mut tool = place.command();
    let health = Health::of(tool.env("BACKUP_MIN_FREE", "99"), &["--only", "disk"]);
    health.only("disk", &["are free", "must stay free (min_free)", "lower min_free (BACKUP_MIN_FREE)"], &[]);
    // The disk must have room for another backup of the last one's size.
    let mut huge = manifest(JOB, 0);
    huge.artifact.size = 1 << 60;
    place.add(&huge);
    Health::of(&mut place.command(), &["--only", "disk"]).only(
        "disk",
        &["a backup as large as the last one", "this run needs 1.0 EiB more"],
        &[],
    );
}

#[test]
fn a_path_that_cannot_be_a_directory_is_reported() {
    let home = Home::new();
    let file = home.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for (dir, words) in [
        (home.path().join("not-mounted/backups"), "Mount the disk, or create the directory"),
        (file.clone(), "Mount the disk"),
    ] {
        let mut tool = home.to_dir(NOWHERE);
        let health = Health::of(tool.env("BACKUP_DIR", &dir), &STORE);
        health.only("store", &[words, dir.to_str().unwrap()], &REST);
        assert!(dir == file || !dir.exists());
    }
}

/// Permissions are not enough: root may write to `/proc`, but nothing can be created there.
#[test]
fn a_directory_that_can_never_be_created_is_reported() {
    let home = Home::new();
    for check in ["store", "disk"] {
        let mut tool = home.to_dir(NOWHERE);
        let health = Health::of(tool.env("BACKUP_DIR", "/proc/x"), &["--only", check]);
        health.only(
            check,
            &["/proc/x does not exist and cannot be created in /proc", "correct BACKUP_DIR"],
            &[],
        );
    }
}

/// A disk that is mounted read-only, with the directory on it or without.
#[test]
fn a_read_only_disk_is_reported() {
    let home = Home::new();
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = r#"mount -t tmpfs -o size=1m tmpfs "$1" && mkdir "$1/there" && mount -o remount,ro "$1" && shift && exec "$@""#;
    for (folder, words) in [
        ("there", "Mount it for writing"),
        ("missing", "Create the directory for the user that runs the backup"),
    ] {
        let plain = home.to_dir(NOWHERE);
        let mut tool = Command::new("unshare");
        tool.args(["-Urm", "sh", "-c", script, "sh"]).arg(&disk).arg(plain.get_program());
        tool.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        tool.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        tool.env("BACKUP_DIR", disk.join(folder));
        Health::of(&mut tool, &STORE).only("store", &[words, disk.to_str().unwrap()], &REST);
    }
}

#[test]
fn the_disk_needs_room_for_a_complete_backup() {
    let place = Place::dir();
    let mut backups = [manifest(JOB, 1), manifest(JOB, 0)];
    backups[0].artifact.size = 1 << 60;
    (backups[1].partial, backups[1].artifact.size) = (true, 10);
    backups.iter().for_each(|backup| place.add(backup));
    let health = Health::of(&mut place.command(), &["--only", "disk"]);
    health.only("disk", &["a backup as large as the last one"], &[]);
}
