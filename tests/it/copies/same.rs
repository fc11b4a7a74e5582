//! Settings of copies that would harm other places: the same place twice, wrong values, directories of disks that are away.

use std::os::unix::fs::symlink;
use std::process::Command;

use uzima_testkit::s3_server::{BUCKET, S3Server};

use crate::cli::support::{Home, Ran, run, server_with_rows};

/// A backup that stays good in the first place, while the copy is refused with these words.
#[track_caller]
fn refused(ran: Ran, words: &[&str]) {
    let report = ran.json();
    let outcomes: Vec<_> =
        report["places"].as_array().expect("places").iter().map(|row| &row["outcome"]).collect();
    assert_eq!(outcomes, ["stored", "missing"], "{report}");
    let problems = report["problems"].to_string();
    assert!(words.iter().all(|word| problems.contains(word)), "{problems}");
}

/// A copy in the same place would be no copy, and `copy` or `cleanup` would delete the only backups.
#[tokio::test]
async fn the_same_directory_is_no_copy() {
    let server = server_with_rows(20, 100).await;
    let (home, link) = (Home::new(), tempfile::tempdir().expect("a folder"));
    std::fs::create_dir_all(home.backups()).expect("a folder");
    symlink(home.backups(), link.path().join("link")).expect("a link");
    let names = [
        home.backups().display().to_string(),
        format!("{}/", home.backups().display()),
        format!("{}/../backups", home.backups().display()),
        link.path().join("link").display().to_string(),
    ];
    for (at, name) in names.iter().enumerate() {
        let tool = |args: &[&str]| -> Command {
            let mut command = home.to_dir(&server.uri());
            command.env("COPY_DIR", name).env("COPY_RETENTION_DAYS", "1").args(args);
            command
        };
        refused(
            run(&mut tool(&["backup", "--json"])).ends(3),
            &["first and copy are the same", "another directory"],
        );
        let newest = home.manifests().pop().expect("a backup").id.to_string();
        run(&mut tool(&["copy", &newest])).ends(1).says(&["first and copy are the same"]);
        run(&mut tool(&["cleanup", "--place", "copy"])).ends(2).says(&["first and copy are the same"]);
        let listed = run(&mut tool(&["list", "--json"])).ends(3).json();
        assert_eq!(listed["backups"][0]["places"], serde_json::json!(["first"]), "{listed}");
        assert_eq!(home.manifests().len(), at + 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bucket_is_no_copy_and_loses_nothing() {
    let (server, home, bucket) = (server_with_rows(20, 100).await, Home::new(), S3Server::start());
    let mut backup = crate::cli::s3::to_s3(&home, &server.uri(), &bucket);
    backup.env("COPY_S3_BUCKET", BUCKET).env("COPY_S3_ENDPOINT_URL", format!("{}/", bucket.endpoint()));
    refused(run(backup.args(["backup", "--json"])).ends(3), &["first and copy are the same", "s3://"]);
    let objects = bucket.objects();
    assert!(objects.keys().any(|key| key.ends_with("/dump.tar.gz")), "{:?}", objects.keys());
}

#[tokio::test]
async fn a_wrong_value_of_a_copy_does_not_prevent_the_backup() {
    let (server, home) = (server_with_rows(20, 100).await, Home::new());
    let mut backup = home.to_dir(&server.uri());
    backup.env("COPY_DIR", home.path().join("copy")).env("COPY_RETENTION_DAYS", "abc");
    refused(run(backup.args(["backup", "--json"])).ends(3), &["COPY_RETENTION_DAYS"]);
}

/// A directory that is created where a disk belongs would hide that the disk is away.
#[tokio::test]
async fn the_directory_of_a_disk_that_is_away_is_not_created() {
    let (server, home) = (server_with_rows(20, 100).await, Home::new());
    let copy = home.path().join("copy");
    let tool = |args: &[&str]| {
        let mut command = home.to_dir(&server.uri());
        run(command.env("COPY_DIR", &copy).args(args))
    };
    tool(&["backup"]).ends(0);
    for away in [&copy, &home.backups()] {
        let elsewhere = home.path().join("elsewhere");
        std::fs::rename(away, &elsewhere).expect("the disk is taken out");
        tool(&["backup"]).ends(3);
        tool(&["copy", "--missing"]);
        tool(&["copy", "--missing", "--to", "first"]);
        assert!(!away.exists(), "{}", away.display());
        std::fs::rename(&elsewhere, away).expect("the disk is back");
    }
}
