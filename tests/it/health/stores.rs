//! The store: each thing that can be wrong with it, and the probe, which never stays where it may go.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use uzima_backup::config::settings::Place as Where;
use uzima_backup::ops::health::Outcome;
use uzima_testkit::s3_server::{BUCKET, Fault, Rule, S3Server};

use super::support::{Health, in_bucket, look, objects, only, row, subject};
use crate::cleanup::support::Place;
use crate::cli::support::{Home, NOWHERE, files};
use crate::store::support::options;

const STORE: [&str; 4] = ["--skip", "mongodb", "--skip", "namespaces"];

/// What rests on the store.
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
fn a_bucket_that_is_not_there_or_not_ours() {
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

/// The key that the README recommends for the backup machine: the probe stays, and is the same every time.
#[test]
fn a_key_that_may_not_delete_is_fine() {
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

/// It is never taken for a backup, nor deleted by a clean-up.
#[test]
fn a_probe_that_stays_is_foreign_to_every_command() {
    for place in crate::cleanup::support::places() {
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
async fn what_is_read_back_must_be_what_was_written() {
    let bucket = S3Server::start();
    let check = async |options| {
        let report = look(subject(Where::S3(Box::new(options))), &only(&["store"]), Utc::now()).await;
        row(&report, "store").clone()
    };
    bucket.faults().add(Rule::always("PutObject", Fault::Alter));
    let altered = check(options(&bucket)).await;
    assert_eq!(altered.outcome, Outcome::Failed, "{altered:?}");
    assert!(altered.next_step.is_some());
    bucket.faults().clear();
    // Another run of this machine deletes the probe, or writes its own, between: once is forgiven.
    bucket.faults().add(Rule::first(1, "GetObject", Fault::Answer(404, "NoSuchKey")));
    assert_eq!(check(options(&bucket)).await.outcome, Outcome::Ok);
    bucket.faults().clear();
    bucket.faults().add(Rule::always("GetObject", Fault::Answer(404, "NoSuchKey")));
    let lost = check(options(&bucket)).await;
    assert!(lost.detail.ends_with("what was read back is not what was written"), "{lost:?}");
    assert!(lost.next_step.is_some_and(|step| step.contains("cache or proxy")));
    assert!(objects(&bucket).is_empty());
}

/// A store that hangs after the probe was written: it goes all the same.
#[tokio::test]
async fn a_hanging_store_keeps_no_probe() {
    let bucket = S3Server::start();
    bucket.faults().add(Rule::always("GetObject", Fault::Delay(Duration::from_secs(600))));
    let mut wanted = only(&["store"]);
    wanted.patience = Duration::from_secs(2);
    let report = look(subject(Where::S3(Box::new(options(&bucket)))), &wanted, Utc::now()).await;
    let store = row(&report, "store");
    assert_eq!(store.outcome, Outcome::Failed);
    assert_eq!(store.detail, "no answer within 2 s");
    assert!(bucket.count("PutObject") > 0 && objects(&bucket).is_empty());
}

/// Ended by a signal after the probe was written.
#[test]
fn a_run_that_is_ended_keeps_no_probe() {
    let (bucket, home) = (S3Server::start(), Home::new());
    bucket.faults().add(Rule::always("GetObject", Fault::Delay(Duration::from_secs(600))));
    let mut tool = in_bucket(&home, NOWHERE, &bucket.endpoint());
    tool.args(["health", "--only", "store"]).stderr(Stdio::piped());
    let child = tool.spawn().unwrap();
    let begun = Instant::now();
    while bucket.count("GetObject") == 0 {
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
fn many_runs_at_once_do_not_hurt_each_other() {
    for place in crate::cleanup::support::places() {
        let runs: Vec<_> = (0..4)
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

#[tokio::test]
async fn the_clocks_disagree() {
    let place = Place::s3();
    place.nightly(0..2);
    for (minutes, good, words) in [
        (9, true, "540 s ahead"),
        (-9, true, "540 s behind"),
        (11, false, "660 s ahead"),
        (-11, false, "660 s behind"),
    ] {
        let subject = subject(Where::S3(Box::new(options(place.bucket()))));
        let now = Utc::now() + TimeDelta::minutes(minutes);
        let report = look(subject, &only(&["store", "clock"]), now).await;
        let clock = row(&report, "clock");
        assert_eq!(clock.outcome == Outcome::Ok, good, "{clock:?}");
        // The store tells whole seconds.
        let near = [words.to_string(), words.replace("540", "539"), words.replace("540", "541")];
        let near = near.into_iter().chain([words.replace("660", "659"), words.replace("660", "661")]);
        assert!(near.clone().any(|words| clock.detail.contains(&words)), "{clock:?}");
        assert_eq!(clock.next_step.is_some(), !good);
        assert_eq!(row(&report, "store").outcome, Outcome::Ok);
    }
}

/// Beyond a quarter of an hour S3 refuses every request.
#[test]
fn a_store_that_refuses_our_clock() {
    let bucket = S3Server::start();
    bucket.faults().add(Rule::always("*", Fault::Skewed(3600)));
    of(&bucket, |_| {}).only("store", &["s behind the store's", "timedatectl"], &REST);
}

#[test]
fn the_disk_is_full() {
    let place = Place::dir();
    let mut tool = place.command();
    let health = Health::of(tool.env("BACKUP_MIN_FREE", "99"), &["--only", "disk"]);
    health.only("disk", &["are free", "must stay free (min_free)", "lower min_free (BACKUP_MIN_FREE)"], &[]);
    // As much as the last backup took must go into it.
    let mut huge = crate::cleanup::support::manifest(crate::cleanup::support::JOB, 0);
    huge.artifact.size = 1 << 60;
    place.add(&huge);
    Health::of(&mut place.command(), &["--only", "disk"]).only(
        "disk",
        &["a backup like the last one", "this needs 1.0 EiB more"],
        &[],
    );
}

#[test]
fn a_directory_that_cannot_be() {
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

/// A disk that is mounted read-only, with a directory on it or without.
#[test]
fn a_read_only_disk() {
    let home = Home::new();
    let disk = home.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = r#"mount -t tmpfs -o size=1m tmpfs "$1" && mkdir "$1/there" && mount -o remount,ro "$1" && shift && exec "$@""#;
    for (folder, words) in [
        ("there", "Give the user that runs the backup the right to write there"),
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
