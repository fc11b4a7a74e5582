//! Artifacts without a manifest, and other leftovers of dead runs.

use std::time::{Duration, SystemTime};

use uzima_testkit::s3_server::{Fault, Rule};

use super::support::{JOB, Place, manifest};

/// Sets the modification time of a file to so many days ago.
pub fn aged(place: &Place, key: &str, days: u64) {
    let path = place.home.backups().join(key);
    let file = std::fs::File::options().append(true).open(path).expect("a file");
    file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).expect("its time");
}

#[test]
fn an_orphan_is_reported_and_deleted_only_on_request_and_when_old() {
    let place = Place::dir();
    let backups = place.nightly(0..3);
    let (old, young) = (manifest(JOB, 40), manifest("other", 40));
    for (lost, days) in [(&old, 3), (&young, 1)] {
        place.put(&lost.artifact.key, b"all the data");
        place.put(&lost.index.key, b"index");
        aged(&place, &lost.artifact.key, days);
    }
    let ran = place.run(&["cleanup"]).ends(0);
    let line = format!(
        "orphan    {}  12 B, 3 d 0 h old, no manifest: `cleanup --orphans` deletes it",
        old.artifact.key
    );
    assert!(ran.stdout.contains(&line), "{}", ran.stdout);
    assert_eq!(place.keys().len(), 13);
    place.run(&["cleanup", "--orphans", "--dry-run"]).ends(0);
    assert_eq!(place.keys().len(), 13);
    let ran = place.run(&["cleanup", "--orphans"]).ends(0);
    assert!(ran.stdout.contains("younger than 2 days: a backup may be running"), "{}", ran.stdout);
    assert!(!place.keys().contains(&old.artifact.key) && !place.keys().contains(&old.index.key));
    assert!(place.keys().contains(&young.artifact.key) && place.keys().contains(&young.index.key));
    assert_eq!(place.listed().len(), backups.len());
}

/// The store decides the age: an object that was just written is young, whatever its id says.
#[test]
fn an_orphan_may_be_a_running_backup_and_stays() {
    let place = Place::s3();
    let lost = manifest(JOB, 400);
    place.put(&lost.artifact.key, b"x");
    let report = place.run(&["cleanup", "--orphans", "--json"]).ends(0).json();
    assert_eq!(report["orphans"][0]["deleted"], false);
    assert_eq!(place.keys().len(), 1);
}

#[test]
fn a_frozen_cleanup_deletes_no_orphans() {
    let place = Place::dir();
    place.nightly(0..50);
    let lost = manifest("lost", 40);
    place.put(&lost.artifact.key, b"x");
    aged(&place, &lost.artifact.key, 40);
    let report = place.run(&["cleanup", "--orphans", "--json"]).ends(3).json();
    assert_eq!(report["orphans"][0]["deleted"], false);
    assert!(place.keys().contains(&lost.artifact.key));
}

/// The partial file of a dead process, and an upload that the state folder remembers.
#[test]
fn leftovers_of_dead_runs_are_deleted() {
    let place = Place::dir();
    place.nightly(0..3);
    let lost = manifest(JOB, 1);
    let name = lost.artifact.key.replace("dump.tar.gz", ".dump.tar.gz.0123456789abcdef.partial");
    place.put(&name, b"half");
    let before = place.keys();
    assert!(before.contains(&name));
    place.run(&["cleanup", "--dry-run"]).ends(0);
    assert_eq!(place.keys(), before);
    let report = place.run(&["cleanup", "--json"]).ends(0).json();
    assert!(
        report["notes"][0].as_str().expect("a note").starts_with("removed the unfinished upload"),
        "{report}"
    );
    assert_eq!(place.keys().len(), 9);
}

/// If the key may not delete, every cleanup fails, and nothing else does.
#[test]
fn a_cleanup_without_the_right_to_delete_fails() {
    let place = Place::s3();
    let backups = place.nightly(0..33);
    for operation in ["DeleteObject", "DeleteObjects"] {
        place.bucket().faults().add(Rule::always(operation, Fault::Answer(403, "AccessDenied")));
    }
    for _ in 0..2 {
        let ran = place.run(&["cleanup"]).ends(3);
        assert!(
            ran.stdout.contains("s3:DeleteObject") && ran.stdout.contains("; 3 failed\n"),
            "{}",
            ran.stdout
        );
        assert_eq!(place.listed().len(), 33);
    }
    place.run(&["list"]).ends(0);
    place.bucket().faults().clear();
    place.run(&["cleanup"]).ends(0);
    place.holds(&backups[..30]);
}
