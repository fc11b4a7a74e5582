//! The ways in which a command line names a backup: by `latest`, an id, the beginning of one, a date or a time.

use chrono::{DateTime, TimeDelta, Utc};
use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Manifest;

use super::support::{put_verdict, verdict};
use crate::cleanup::support::{JOB, Place, manifest, of_time};
use crate::cli::support::run;

fn at(time: &str) -> DateTime<Utc> {
    time.parse().expect("a time")
}

/// Backups of 03:00 on these days of November 2020, each complete at 03:05.
fn november(place: &Place, job: &str, days: &[u32]) -> Vec<Manifest> {
    let made = days.iter().map(|day| of_time(job, at(&format!("2020-11-{day:02}T03:00:00Z"))));
    let manifests: Vec<Manifest> = made.collect();
    manifests.iter().for_each(|manifest| place.add(manifest));
    manifests
}

#[track_caller]
fn names(place: &Place, words: &str, chosen: &Manifest) {
    for command in ["pin", "unpin"] {
        let report = place.run(&[command, words, "--json"]).ends(0).json();
        assert_eq!(report["id"], chosen.id.as_str(), "{command} {words}");
    }
    // The objects of these backups are not real, so that verify and restore find damage, and name the backup.
    for args in [&["verify", words][..], &["restore", words, "--yes"]] {
        let ran = place.run(args).ends(4);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(chosen.id.as_str()), "{args:?}: {said}");
        place
            .keys()
            .iter()
            .filter(|key| key.contains("/verified"))
            .for_each(|key| std::fs::remove_file(place.home.backups().join(key)).expect("a verdict"));
    }
}

#[test]
fn an_unambiguous_beginning_names_a_backup() {
    let place = Place::dir();
    let made = november(&place, JOB, &[1, 2, 12]);
    for length in [10, 15, 16, 20] {
        names(&place, &made[1].id.as_str()[..length], &made[1]);
    }
    names(&place, "20201102", &made[1]);
    for command in ["pin", "unpin", "verify", "restore"] {
        let yes = if command == "restore" { &["--yes"][..] } else { &[] };
        let ids: Vec<&str> = made.iter().rev().map(|manifest| manifest.id.as_str()).collect();
        let several =
            format!("3 ids in {} begin with 202011: {}", place.home.backups().display(), ids.join(", "));
        place.run(&[&[command, "202011"], yes].concat()).ends(2).says(&[&several, "Write more of the id"]);
        let near = format!("Near it are {} and {}", made[1].id, made[2].id);
        place.run(&[&[command, "20201105"], yes].concat()).ends(1).says(&["begins with 20201105", &near]);
    }
    // A whole id that does not exist is answered in the same way.
    let gone = of_time(JOB, at("2020-11-05T03:00:00Z"));
    let near = format!("Near it are {} and {}", made[1].id, made[2].id);
    place.run(&["restore", gone.id.as_str(), "--yes"]).ends(1).says(&[gone.id.as_str(), &near]);
    // The job decides between backups of several jobs.
    let other = of_time("other", at("2020-11-02T03:00:00Z"));
    place.add(&other);
    place.run(&["pin", "20201102"]).ends(2).says(&["2 ids"]);
    let report = place.run(&["pin", "20201102", "--job", "other", "--json"]).ends(0).json();
    assert_eq!(report["id"], other.id.as_str());
}

#[test]
fn a_beginning_also_finds_what_has_lost_its_manifest() {
    let place = Place::dir();
    let lost = manifest(JOB, 9);
    place.put(&lost.artifact.key, b"all the data");
    place.put(&layout::pin(&lost.id), b"{}");
    place.run(&["unpin", &lost.id.as_str()[..18]]).ends(0);
    assert!(!place.keys().contains(&layout::pin(&lost.id)));
    place.run(&["verify", &lost.id.as_str()[..18]]).ends(1).says(&["its manifest is missing"]);
}

#[test]
fn a_date_or_time_names_the_newest_backup_that_was_complete_by_then() {
    let place = Place::dir();
    let made = november(&place, JOB, &[1, 2, 12]);
    // Another job's backups are not meant, because BACKUP_JOB names the job.
    november(&place, "other", &[3, 13]);
    for (words, chosen) in [
        ("2020-11-02", 1),
        ("2020-11-11", 1),
        ("2020-11-12", 2),
        ("2020-12-31", 2),
        ("2020-11-12T03:05Z", 2),
        ("2020-11-12T03:04:59Z", 1),
        ("2020-11-12 03:04Z", 1),
        ("2020-11-01T23:00Z", 0),
    ] {
        names(&place, words, &made[chosen]);
    }
    let next = format!("The next one is {}, complete at 2020-11-01 03:05:00 UTC", made[0].id);
    place.run(&["restore", "2020-10-31", "--yes"]).ends(1).says(&["by 2020-10-31 23:59:59 UTC", JOB, &next]);
    place.run(&["pin", "2020-11-01T03:04Z"]).ends(1).says(&[&next]);
    place.run(&["pin", "2020-11-01", "--job", "third"]).ends(1).says(&["of the job third"]);
    run(place.command().env_remove("BACKUP_JOB").args(["pin", "2020-11-30"])).ends(2).says(&["--job other"]);
    for wrong in ["2020-11-31", "2020-11-12T03:05", "newest"] {
        place.run(&["pin", wrong]).ends(2).says(&[wrong, "2026-11-23T14:00Z"]);
    }
    // A fault is skipped, and a manifest that cannot be read stops the search.
    put_verdict(&place, &verdict(&made[2], made[2].finished_at, false));
    let ran = place.run(&["pin", "2020-11-30", "--json"]).ends(0);
    assert_eq!(ran.json()["id"], made[1].id.as_str());
    assert!(
        ran.stderr.contains(&format!("the newer backup {} is skipped: verify found", made[2].id)),
        "{}",
        ran.stderr
    );
    place.put(&layout::manifest(&made[1].id), b"{");
    place
        .run(&["restore", "2020-11-30", "--yes"])
        .ends(4)
        .says(&[made[1].id.as_str(), "cannot be understood"]);
    names(&place, "2020-11-01", &made[0]);
}

/// `restore latest` passes over faults; `verify latest` and `pin latest` look at the newest stored backup.
#[test]
fn latest_is_the_newest_backup_without_a_fault_only_for_a_restore() {
    let place = Place::dir();
    let backups = place.nightly(0..5);
    put_verdict(&place, &verdict(&backups[0], Utc::now() - TimeDelta::minutes(9), false));
    std::fs::remove_file(place.home.backups().join(&backups[1].artifact.key)).expect("an artifact");
    std::fs::remove_file(place.home.backups().join(&backups[2].index.key)).expect("an index");
    let mut collapsed = backups[3].clone();
    collapsed.warnings = vec!["collapsed: 1 document where the last backup had 1,000".into()];
    place.add(&collapsed);
    let ran = place.run(&["restore", "latest", "--yes"]).ends(4);
    let (first, rest) = ran.stderr.split_once("error: ").expect("an error");
    assert!(rest.contains(collapsed.id.as_str()), "a collapsed backup is restored: {rest}");
    for (skipped, reason) in [
        (&backups[0], "verify found it damaged: shop.orders: a block is damaged".to_string()),
        (&backups[1], format!("its artifact {} is missing", backups[1].artifact.key)),
        (&backups[2], format!("its index {} is missing", backups[2].index.key)),
    ] {
        let line = format!("the newer backup {} is skipped: {reason}", skipped.id);
        assert!(first.contains(&line), "{line}: {first}");
    }
    let pinned = place.run(&["pin", "latest", "--json"]).ends(0);
    assert_eq!(pinned.json()["id"], backups[0].id.as_str());
    let verified = place.run(&["verify", "latest", "--json"]).ends(4).json();
    assert_eq!(verified["backups"][0]["id"], backups[0].id.as_str());
    // A named backup is never replaced by another.
    place.run(&["restore", backups[0].id.as_str(), "--yes"]).ends(4).says(&[backups[0].id.as_str()]);
    place.put(&layout::manifest(&backups[1].id), b"{");
    let ran = place.run(&["restore", "latest", "--yes"]).ends(4);
    assert!(
        ran.stderr.contains(&layout::manifest(&backups[1].id)),
        "an unreadable one stops: {}",
        ran.stderr
    );
}

#[test]
fn without_a_sound_backup_every_fault_is_named() {
    let place = Place::dir();
    let backups = place.nightly(0..2);
    for backup in &backups {
        put_verdict(&place, &verdict(backup, Utc::now() - TimeDelta::minutes(9), false));
    }
    let by_id = format!("`uzima-backup restore {}`", backups[0].id);
    place.run(&["restore", "latest", "--yes"]).ends(4).says(&[
        "there is no good backup of the job",
        &format!("{}: verify found it damaged", backups[0].id),
        &format!("{}: verify found it damaged", backups[1].id),
        &by_id,
    ]);
}
