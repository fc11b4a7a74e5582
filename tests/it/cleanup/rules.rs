//! Every rule of `cleanup`, through the binary, on a bucket and on a directory.

use bson::doc;
use serde_json::json;
use uzima_backup::catalog::layout;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::{Fault, Rule};

use super::support::{JOB, Place, hold, ids, manifest, places, with};
use crate::cli::support::{Home, NOWHERE, run};

#[test]
fn a_cleanup_does_exactly_what_the_dry_run_printed() {
    for place in places() {
        let backups = place.nightly(0..33);
        let before = place.keys();
        let planned = place.run(&["cleanup", "--dry-run", "--json"]).ends(0).json();
        assert_eq!((place.keys(), &planned["dry_run"]), (before, &json!(true)));
        assert_eq!(with(&planned, "planned"), ids(&backups[30..]));
        let text = place.run(&["cleanup", "--dry-run"]).ends(0).stdout;
        let line = format!("would go  {}  older than 30 days and outside every keep rule\n", backups[32].id);
        assert!(text.contains(&line), "{text}");
        let last = text.lines().last().expect("a line");
        assert!(last.starts_with(&format!("would delete 3 of 33 backups of {JOB} in ")), "{last}");
        let done = place.run(&["cleanup", "--json"]).ends(0).json();
        assert_eq!(with(&done, "deleted"), ids(&backups[30..]));
        let reasons = |report: &serde_json::Value| {
            let rows = report["backups"].as_array().expect("a list").clone();
            rows.iter().map(|row| row["reason"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(reasons(&planned), reasons(&done));
        place.holds(&backups[..30]);
        let again = place.run(&["cleanup"]).ends(0).stdout;
        assert!(again.lines().last().expect("a line").starts_with("deleted 0 of 30 backups"), "{again}");
        assert_eq!(again.lines().count(), 31, "a line a backup, and the sum: {again}");
    }
}

/// After weeks without a backup, for whatever reason, the last good backups stay.
#[test]
fn the_last_good_backups_stay_after_weeks_without_a_backup() {
    for place in places() {
        let mut backups = place.nightly(60..66);
        place.run(&["cleanup"]).ends(0);
        backups.truncate(3);
        place.holds(&backups);
        backups.insert(0, place.nightly([0]).remove(0));
        let report = place.run(&["cleanup", "--json"]).ends(0).json();
        assert_eq!(with(&report, "deleted"), ids(&backups[3..]));
        place.holds(&backups[..3]);
        place.run(&["cleanup"]).ends(0);
        place.holds(&backups[..3]);
    }
}

/// Objects of another job, foreign objects, and backups without a manifest.
#[test]
fn objects_of_other_jobs_and_foreign_objects_are_not_touched() {
    for place in places() {
        let backups = place.nightly(28..32);
        let others: Vec<_> = (28..50).map(|days| manifest("all@db2", days)).collect();
        others.iter().for_each(|other| place.add(other));
        let folder = layout::folder(&backups[3].id);
        let lost = manifest("lost", 90);
        let foreign = [
            "notes.txt".to_string(),
            format!("{folder}notes.txt"),
            format!("{folder}dump.tar.gz.bak"),
            "2020/01/x/manifest.json".into(),
            lost.artifact.key.clone(),
            lost.index.key.clone(),
        ];
        foreign.iter().for_each(|key| place.put(key, b"whatever"));
        if let Some(bucket) = &place.bucket {
            bucket.insert("elsewhere/2020/manifest.json", "x");
        }
        let mut want = place.keys();
        let report = place.run(&["cleanup", "--json"]).ends(0).json();
        super::support::keys_of(&backups[3]).iter().for_each(|key| assert!(want.remove(key)));
        assert_eq!((place.keys(), with(&report, "deleted")), (want, ids(&backups[3..])));
        assert_eq!(report["orphans"][0]["key"], json!(lost.artifact.key));
    }
}

/// An unreadable object is never taken for a missing one.
#[test]
fn a_damaged_manifest_or_tombstone_freezes() {
    for place in places() {
        let backups = place.nightly(0..33);
        for (key, text) in [
            (layout::manifest(&backups[7].id), "{\"format\": 1"),
            (layout::tombstone(&manifest("gone", 99).id), "{}"),
        ] {
            let whole = backups[7].encode().expect("JSON");
            place.put(&key, text.as_bytes());
            let before = place.keys();
            let report = place.run(&["cleanup", "--force", "--json"]).ends(3).json();
            assert_eq!((place.keys(), with(&report, "frozen")), (before, ids(&backups[30..])));
            assert!(report["frozen"][0].as_str().expect("a text").contains(&key), "{report}");
            let quiet =
                place.run(&["cleanup", "--quiet"]).ends(3).says(&["needs a look: nothing is deleted", &key]);
            assert_eq!((quiet.stdout.as_str(), quiet.stderr.lines().count()), ("", 1), "{}", quiet.stderr);
            place.put(&layout::manifest(&backups[7].id), &whole);
        }
    }
}

/// The objects that such a manifest names would be deleted with it.
#[test]
fn a_manifest_that_names_objects_outside_its_folder_freezes() {
    let place = Place::dir();
    let mut backups = place.nightly(0..33);
    backups[32].artifact.key = backups[0].artifact.key.clone();
    place.add(&backups[32]);
    let ran = place.run(&["cleanup"]).ends(3);
    assert!(ran.stdout.contains("which is not in its folder"), "{}", ran.stdout);
    assert_eq!(place.listed().len(), 33);
}

#[test]
fn a_collapse_freezes_until_it_is_accepted() {
    for place in places() {
        let mut backups = place.nightly(0..32);
        hold(&mut backups[0], 499);
        place.add(&backups[0]);
        let ran = place.run(&["cleanup"]).ends(3);
        let step = format!("if that is right, use --accept {}", backups[0].id);
        assert!(
            ran.stdout.contains("collapsed: 499 documents") && ran.stdout.contains(&step),
            "{}",
            ran.stdout
        );
        place.holds(&backups);
        let accept = ["cleanup", "--accept", backups[0].id.as_str()];
        let planned = place.run(&[&accept[..], &["--dry-run", "--json"]].concat()).ends(0).json();
        assert_eq!(with(&planned, "planned"), ids(&backups[30..]));
        place.holds(&backups);
        place.run(&accept).ends(0);
        assert_eq!(place.listed().len(), 30);
        assert!(place.keys().contains(&layout::accepted(&backups[0].id)));
        place.run(&["cleanup"]).ends(0);
        let unknown = place.run(&["cleanup", "--accept", "20200101T000000Z-000000"]).ends(1);
        assert!(unknown.stderr.contains("has no backup 20200101T000000Z-000000"), "{}", unknown.stderr);
    }
}

#[test]
fn another_source_freezes_until_it_is_accepted() {
    let place = Place::s3();
    let mut backups = place.nightly(0..32);
    backups[0].source.member = "db9:27017".into();
    place.add(&backups[0]);
    let ran = place.run(&["cleanup"]).ends(3);
    // The message covers both cases: the server moved, or two servers share a job by mistake.
    for words in ["is the single server db9:27017", "give each a job of its own (BACKUP_JOB", "use --accept "]
    {
        assert!(ran.stdout.contains(words), "no {words:?} in {}", ran.stdout);
    }
    place.holds(&backups);
    place.run(&["cleanup", "--accept", backups[0].id.as_str()]).ends(0);
    assert_eq!(place.listed().len(), 30);
}

/// The singular is used for one backup and one day.
#[test]
fn the_plan_uses_the_singular_for_one_backup_and_one_day() {
    let place = Place::dir();
    place.nightly([1]);
    let text = place.run(&["cleanup", "--dry-run"]).ends(0).stdout;
    assert!(text.contains("  1 day old, within 30 days\nwould delete 0 of 1 backup of "), "{text}");
}

#[test]
fn deleting_many_backups_at_once_needs_force() {
    for place in places() {
        let backups = place.nightly(0..50);
        let ran = place.run(&["cleanup"]).ends(3);
        assert!(ran.stdout.contains("20 of 50 good backups would go at once"), "{}", ran.stdout);
        assert!(ran.stdout.ends_with(" would go\n"), "{}", ran.stdout);
        place.holds(&backups);
        place.run(&["cleanup", "--force"]).ends(0);
        place.holds(&backups[..30]);
    }
}

#[test]
fn a_newest_backup_in_the_future_freezes() {
    let place = Place::dir();
    place.nightly(0..33);
    let future = place.nightly([-3650]).remove(0);
    let ran = place.run(&["cleanup"]).ends(3);
    assert!(ran.stdout.contains("in the future"), "{}", ran.stdout);
    place.run(&["cleanup", "--accept", future.id.as_str()]).ends(0);
    assert_eq!(place.listed().len(), 31, "it stays, and counts for nothing");
}

/// Such a backup is reported and does not replace a good one.
#[test]
fn a_manifest_without_its_artifact_is_reported_and_not_good() {
    let place = Place::dir();
    let backups = place.nightly(60..64);
    std::fs::remove_file(place.home.backups().join(&backups[0].artifact.key)).expect("a file");
    let report = place.run(&["cleanup", "--json"]).ends(3).json();
    assert!(report["problems"][0].as_str().expect("a text").contains("is missing"), "{report}");
    assert_eq!(with(&report, "kept"), ids(&backups[1..]));
}

#[test]
fn settings_decide_how_long_backups_are_kept() {
    let place = Place::dir();
    let backups = place.nightly(0..12);
    let run = |env: &[(&str, &str)]| {
        let mut command = place.command();
        crate::cli::support::run(command.envs(env.iter().copied()).args([
            "cleanup",
            "--dry-run",
            "--force",
            "--json",
        ]))
    };
    let week = ("BACKUP_RETENTION_DAYS", "6");
    for (env, kept) in [
        (vec![week], 6),
        (vec![week, ("BACKUP_KEEP_MIN", "9")], 9),
        (vec![week, ("BACKUP_KEEP_LAST", "8")], 8),
        (vec![week, ("BACKUP_KEEP_DAILY", "10")], 10),
    ] {
        assert_eq!(with(&run(&env).ends(0).json(), "kept"), ids(&backups[..kept]), "{env:?}");
    }
    for name in ["MIN", "LAST", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"] {
        let name = format!("BACKUP_KEEP_{name}");
        run(&[(&name, "0")]).ends(2).says(&[&name, "at least 1"]);
    }
    assert_eq!(place.listed().len(), 12);
}
#[test]
fn wrong_arguments_and_unreadable_stores_delete_nothing() {
    let place = Place::s3();
    place.nightly(0..33);
    place.run(&["cleanup", "--accept", "latest"]).ends(2);
    crate::cli::support::run(place.command().env("S3_BACKUP_PREFIX", "/").arg("cleanup")).ends(2);
    for (operation, code) in [("ListObjectsV2", "AccessDenied"), ("GetObject", "AccessDenied")] {
        place.bucket().faults().add(Rule::always(operation, Fault::Answer(403, code)));
        place.run(&["cleanup"]).ends(1).says(&["error: cannot"]);
        place.bucket().faults().clear();
    }
    assert_eq!(place.listed().len(), 33);
}

/// A misspelt job name must not look like a cleanup with nothing to do, every night.
#[test]
fn a_job_without_backups_in_a_place_with_other_jobs_is_reported() {
    let place = Place::dir();
    let empty = place.run(&["cleanup"]).ends(0);
    assert!(empty.stdout.starts_with("deleted 0 of 0 backups"), "{}", empty.stdout);
    place.nightly(0..33);
    let ran = place.run(&["cleanup", "--job", "other"]).ends(3);
    assert!(ran.stdout.contains("no backups of the job other, only of all@db1"), "{}", ran.stdout);
    assert_eq!(place.listed().len(), 33);
}

#[tokio::test]
async fn later_backups_are_compared_with_the_accepted_one() {
    let (server, home) = (Mongod::builder().start().await.expect("mongod"), Home::new());
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_many((0..300).map(|n| doc! {"_id": n})).await.expect("rows");
    let backup = || run(home.to_dir(&server.uri()).arg("backup"));
    let cleanup = |args: &[&str]| run(home.to_dir(NOWHERE).args(["cleanup", "--job", "shop"]).args(args));
    let backup_of_job = |code| {
        run(home.to_dir(&server.uri()).args(["backup", "--job", "shop"])).ends(code);
        home.manifests().pop().expect("a manifest").id.to_string()
    };
    backup().ends(0);
    backup_of_job(0);
    cleanup(&[]).ends(0);
    // The ids of two backups of the same second have no order.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    rows.delete_many(doc! {"_id": {"$gte": 20}}).await.expect("a delete");
    backup_of_job(3);
    let newest = backup_of_job(3);
    let frozen = cleanup(&[]).ends(3);
    assert!(frozen.stdout.contains("--accept "), "{}", frozen.stdout);
    cleanup(&["--accept", &newest]).ends(0);
    backup_of_job(0);
    cleanup(&[]).ends(0);
    // The acceptance does not apply to another job's collapse.
    backup().ends(3);
}
