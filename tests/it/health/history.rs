//! The age of the newest good backup: missed runs are reported, and a date in the future does not hide them.

use std::time::{Duration, SystemTime};

use chrono::{TimeDelta, Utc};
use uzima_backup::catalog::layout;
use uzima_backup::config::place::Place as Where;
use uzima_backup::config::store::DirOptions;
use uzima_backup::ops::health::{CheckOutcome, CheckRow};

use super::support::{Health, look, only, row, subject};
use crate::cleanup::support::{JOB, Place, hold, manifest, of_time, places};
use crate::cli::support::run;
use crate::store::support::options;

fn place_of(place: &Place) -> Where {
    match &place.bucket {
        Some(bucket) => Where::S3(Box::new(options(bucket))),
        None => Where::Dir(DirOptions { min_free: 0.0, ..DirOptions::new(place.home.backups()) }),
    }
}

/// Runs the check with a clock that is so many hours ahead.
async fn in_hours(place: &Place, hours: i64) -> CheckRow {
    let now = Utc::now() + TimeDelta::hours(hours);
    let report = look(subject(place_of(place)), &only(&["freshness"]), now).await;
    row(&report, "freshness").clone()
}

#[tokio::test]
async fn missed_nights_are_reported() {
    for place in places() {
        let newest = place.nightly(0..3).remove(0);
        // The backup is one hour old.
        for (hours, fresh) in [(0, true), (24, true), (28, true), (30, false), (24 * 30, false)] {
            let check = in_hours(&place, hours).await;
            assert_eq!(check.outcome == CheckOutcome::Ok, fresh, "{hours}: {check:?}");
            assert!(check.detail.contains(newest.id.as_str()), "{check:?}");
            assert!(check.detail.contains("30 h are allowed"), "{check:?}");
            assert_eq!(check.next_step.is_some_and(|step| step.contains("uzima-backup backup")), !fresh);
        }
    }
}

/// The machine's clock is years behind, or a backup was made with a clock years ahead.
#[tokio::test]
async fn a_date_of_the_future_is_never_fresh() {
    let place = Place::dir();
    place.nightly(0..3);
    let check = in_hours(&place, -24 * 3650).await;
    assert_eq!(check.outcome, CheckOutcome::Failed);
    assert!(check.detail.contains("it is dated in the future"), "{check:?}");
    let place = Place::dir();
    place.nightly(2..5);
    let future = of_time(JOB, Utc::now() + TimeDelta::days(400));
    place.add(&future);
    let health = Health::of(&mut place.command(), &["--only", "freshness"]);
    let why = format!("{} does not count: it is dated in the future", future.id);
    health.only("freshness", &["2 d 1 h old", &why], &[]);
}

#[test]
fn a_backup_that_is_not_good_is_not_fresh() {
    let place = Place::dir();
    place.nightly(2..5);
    let mut small = manifest(JOB, 0);
    hold(&mut small, 10);
    place.add(&small);
    let tool = || Health::of(&mut place.command(), &["--only", "freshness"]);
    tool().only("freshness", &["2 d 1 h old", small.id.as_str(), "it collapsed"], &[]);
    // A person accepts the backup.
    place.run(&["cleanup", "--accept", small.id.as_str()]);
    tool().green();
    // The artifact is deleted.
    std::fs::remove_file(place.home.backups().join(&small.artifact.key)).unwrap();
    tool().only("freshness", &[small.id.as_str(), "is missing"], &[]);

    let place = Place::dir();
    let lone = place.nightly(0..1).remove(0);
    std::fs::remove_file(place.home.backups().join(&lone.artifact.key)).unwrap();
    Health::of(&mut place.command(), &["--only", "freshness"]).only(
        "freshness",
        &["no good backup of the job all@db1; 20", "cleanup --dry-run"],
        &[],
    );
}

#[test]
fn backups_of_other_jobs_do_not_count() {
    let place = Place::dir();
    place.add(&manifest("all@db2", 0));
    let words = ["no backup of the job all@db1, only backups of all@db2", "BACKUP_JOB", "--skip freshness"];
    Health::of(&mut place.command(), &["--only", "freshness"]).only("freshness", &words, &[]);
    Health::of(&mut place.command(), &["--only", "freshness", "--job", "all@db2"]).green();
}

/// If several jobs share a place, each command to type names its job, and `stats` mentions the others.
#[test]
fn other_jobs_are_mentioned_and_commands_name_their_job() {
    let place = Place::dir();
    place.nightly(0..1);
    let drill = || Health::of(&mut place.command(), &["--only", "drill"]).green().detail("drill").to_string();
    assert_eq!(drill(), "no backup was ever drilled: run `uzima-backup verify latest --drill`");
    assert!(!place.run(&["stats"]).ends(0).stdout.contains("other jobs"));
    for job in ["shop@vm", "noblog"] {
        place.add(&manifest(job, 0));
    }
    assert!(drill().ends_with("run `uzima-backup verify latest --drill --job all@db1`"), "{}", drill());
    let stats = place.run(&["stats"]).ends(0);
    assert!(stats.stdout.contains("\nother jobs   noblog, shop@vm (--job)\n"), "{}", stats.stdout);
    let which = run(place.command().env_remove("BACKUP_JOB").args(["verify", "latest"])).ends(2);
    which.says(&[
        "several jobs: all@db1, noblog, shop@vm",
        "Repeat the command with --job all@db1 or --job noblog or --job shop@vm",
    ]);
}

/// Every damaged backup of any age is reported with a next step, and the newest backup does not hide it.
#[test]
fn each_stored_backup_that_is_not_good_is_named() {
    let place = Place::dir();
    let backups = || Health::of(&mut place.command(), &["--only", "backups"]);
    assert_eq!(backups().row("backups")["outcome"], "skipped");
    let nights = place.nightly(0..9);
    assert_eq!(backups().green().detail("backups"), "9 backups, no damage known");
    let file = |key: &str| place.home.backups().join(key);
    std::fs::remove_file(file(&nights[2].artifact.key)).unwrap();
    let (lone, early) = (nights[2].id.as_str(), nights[1].id.as_str());
    let verify = format!("uzima-backup verify {lone}");
    backups().only("backups", &[lone, "its artifact", "is missing", &verify, "--skip backups"], &[]);
    Health::of(&mut place.command(), &["--only", "freshness"]).green();
    // Only the manifest is missing, and no record knows the backup: it may be somebody's last copy.
    let bare = layout::manifest(&nights[1].id);
    std::fs::remove_file(file(&bare)).unwrap();
    assert!(!backups().detail("backups").contains(early), "it is being made");
    for object in [&nights[1].artifact.key, &nights[1].index.key] {
        let old = SystemTime::now() - Duration::from_secs(2 * 3600);
        std::fs::File::options().write(true).open(file(object)).unwrap().set_modified(old).unwrap();
    }
    backups().only("backups", &[early, "its manifest is missing", lone, "cleanup --orphans"], &[]);
    let listed = place.run(&["list"]).ends(4).stdout;
    let row = listed.lines().find(|line| line.starts_with(early));
    assert!(row.is_some_and(|row| row.contains("manifest missing")), "{listed}");
    assert!(place.run(&["stats"]).stdout.contains(early));
    // Of many, the newest are named, and the number of the others is given.
    for night in &nights[3..7] {
        std::fs::remove_file(file(&night.index.key)).unwrap();
    }
    backups().only("backups", &["; 3 more: uzima-backup list"], &[]);
}

/// An unreadable manifest hides no other backup, and does not make the others look old.
#[test]
fn a_damaged_manifest_is_named() {
    let place = Place::dir();
    place.nightly(0..2);
    place.put("2020/01/20200101T000000Z-aaaaaa/manifest.json", b"{");
    let health = Health::of(&mut place.command(), &["--only", "freshness"]).green();
    assert!(health.detail("freshness").contains("20200101T000000Z-aaaaaa/manifest.json cannot be"));
}

/// Unreadable manifests are not taken for a new installation.
#[test]
fn a_place_with_only_unreadable_manifests_is_not_a_new_installation() {
    let place = Place::dir();
    place.put("2020/01/20200101T000000Z-aaaaaa/manifest.json", b"{");
    let words = ["it is unknown if", "20200101T000000Z-aaaaaa/manifest.json", "uzima-backup list"];
    let health = Health::of(&mut place.command(), &["--only", "freshness"]).only("freshness", &words, &[]);
    assert!(!health.step("freshness").contains("--skip"));
}

#[test]
fn the_allowed_age_can_be_set() {
    let place = Place::dir();
    place.nightly(6..8);
    let mut tool = place.command();
    Health::of(tool.env("BACKUP_MAX_AGE", "168"), &["--only", "freshness"]).green();
    Health::of(&mut place.command(), &["--only", "freshness"]).only("freshness", &["6 d 1 h old"], &[]);
}
