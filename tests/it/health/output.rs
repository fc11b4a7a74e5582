//! The printed report of `health`, and the choice of checks.

use insta::assert_snapshot;

use super::support::{ALL, Health};
use crate::cleanup::support::Place;
use crate::cli::support::{Home, NOWHERE, run};
use crate::output::support::{all, normalize_measured};

#[test]
fn each_check_has_a_line_with_its_next_step_below() {
    let home = Home::new();
    let ran = run(home.to_dir(NOWHERE).env("BACKUP_JOB", "nightly").arg("health")).ends(5);
    assert_snapshot!(normalize_measured(&ran.stdout, &home), @"
        ok              configuration  job nightly, tar.gz; today's backup is kept for 30 days, until 0000-00-00, and longer while it is among the newest 3 good backups   [TIME]
        failed          mongodb        cannot connect to MongoDB at 127.0.0.1:1, tried again for [TIME]: connection refused   [TIME]
                                       next step: Check that MongoDB runs at this address, that MONGO_URI names it, and that its TLS settings are right
        skipped         namespaces     because mongodb failed
        ok              engine         native: engine = native   [TIME]
        ok              store          [HOME]/backups, a probe was written, read and deleted   [TIME]
        ok              disk           [SIZE] of [SIZE] free, 0 % must stay; there is no backup yet to compare with   [TIME]
        skipped         clock          a directory has no clock of its own   [TIME]
        failed          freshness      there is no backup of the job nightly   [TIME]
                                       next step: Run `uzima-backup backup`; on a new installation: --skip freshness
        skipped         backups        there is no backup yet   [TIME]
        not configured  drill          no backup was ever drilled: run `uzima-backup verify latest --drill`   [TIME]
        not configured  key            the backups are not encrypted (BACKUP_RECIPIENTS)   [TIME]
        not configured  oplog          no oplog slice is stored: `uzima-backup oplog` does not run for this job   [TIME]
        skipped         records        because mongodb failed
        not configured  mail           neither ADMIN_EMAILS nor RESEND_API_KEY, SMTP_HOST or MAIL_BY is set: failures are not mailed   [TIME]
        ok              state          [HOME]/state does not exist yet: the first backup creates it   [TIME]
        5 ok, 2 failed, 4 skipped, 4 not configured
    ");
    let (waits, last): (Vec<&str>, Vec<&str>) =
        ran.stderr.lines().partition(|line| line.contains("MongoDB at 127.0.0.1:1"));
    assert!(!waits.is_empty(), "{}", ran.stderr);
    assert_snapshot!(last.join("\n"), @"unhealthy: mongodb, freshness");
}

/// Cron mails the output: with `--quiet` it is the failed checks, their reasons and next steps.
#[test]
fn quiet_prints_only_failed_checks() {
    let home = Home::new();
    let ran = run(home.to_dir(NOWHERE).env("BACKUP_JOB", "nightly").args(["health", "--quiet"])).ends(5);
    assert_snapshot!(normalize_measured(&all(&ran), &home), @"
        exit code 5
        --- stderr
        mongodb: cannot connect to MongoDB at 127.0.0.1:1, tried again for [TIME]: connection refused
        next step: Check that MongoDB runs at this address, that MONGO_URI names it, and that its TLS settings are right
        freshness: there is no backup of the job nightly
        next step: Run `uzima-backup backup`; on a new installation: --skip freshness
        unhealthy: mongodb, freshness
    ");
}

#[test]
fn checks_can_be_chosen() {
    let place = Place::dir();
    let health = Health::of(&mut place.command(), &["--only", "state", "--only", "store"]).green();
    assert_eq!(health.with("ok"), ["store", "state"]);
    assert_eq!(health.report["checks"].as_array().map(Vec::len), Some(2));
    // Checks that depend on a skipped check still run.
    let rest: Vec<&str> =
        ALL.iter().filter(|name| **name != "freshness").flat_map(|name| ["--skip", name]).collect();
    Health::of(&mut place.command(), &rest).only("freshness", &["no backup"], &[]);
}

#[test]
fn an_unknown_check_is_a_usage_error() {
    let place = Place::dir();
    for flag in ["--skip", "--only"] {
        let ran = place.run(&["health", flag, "fresh"]).ends(2);
        let names: Vec<&str> = [&["'fresh'"][..], &ALL].concat();
        ran.says(&names);
    }
}

/// A report without any check would look healthy.
#[test]
fn choosing_no_check_is_a_usage_error() {
    let place = Place::dir();
    let all: Vec<&str> = ALL.iter().flat_map(|name| ["--skip", name]).collect();
    for args in [&all[..], &["--only", "store", "--skip", "store"]] {
        let ran = place.run(&[&["health"], args].concat()).ends(2);
        assert_eq!(ran.stdout, "");
        ran.says(&["--only and --skip leave no check to run"]);
    }
}

#[test]
fn a_full_standard_output_does_not_change_the_exit_code() {
    let place = Place::dir();
    for (only, code) in [("state", 0), ("freshness", 5)] {
        let mut tool = place.command();
        tool.args(["health", "--only", only]);
        tool.stderr(std::process::Stdio::null());
        tool.stdout(std::fs::File::options().write(true).open("/dev/full").unwrap());
        assert_eq!(tool.status().unwrap().code(), Some(code));
    }
}
