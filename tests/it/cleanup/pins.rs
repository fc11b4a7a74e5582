//! `pin` and `unpin`. No cleanup deletes a pinned backup.

use serde_json::json;
use uzima_backup::catalog::layout;
use uzima_backup::catalog::marks::{Mark, Tombstone};

use super::support::{JOB, Place, ids, keys_of, manifest, places, with};
use crate::cli::support::run;

#[test]
fn a_pinned_backup_stays_until_it_is_unpinned() {
    for place in places() {
        let backups = place.nightly(0..33);
        let id = backups[32].id.as_str();
        let said = place.run(&["pin", id, "--reason", "before the migration", "--json"]).ends(0).json();
        assert_eq!(said, json!({"version": 1, "id": id, "pinned": true, "doomed": false}));
        place.run(&["pin", id, "--reason", "twice is once"]).ends(0);
        let listed = place.run(&["list", "--json"]).ends(0).json();
        assert_eq!(listed["backups"][32]["pin_reason"], "twice is once");
        assert_eq!(listed["backups"][0]["pin_reason"], serde_json::Value::Null);
        let pinned = |at: usize| listed["backups"][at]["pinned"].as_bool().expect("a field");
        assert!(pinned(32) && !(0..32).any(pinned));
        let text = place.run(&["list"]).ends(0).stdout;
        let line = text.lines().find(|line| line.starts_with(id)).expect("a line");
        assert!(line.ends_with("  pinned") && text.matches("pinned").count() == 1, "{text}");
        let details = place.run(&["list", id]).ends(0).stdout;
        assert!(details.contains(": twice is once\n"), "{details}");
        let planned = place.run(&["cleanup", "--dry-run"]).ends(0).stdout;
        assert!(planned.contains(&format!("keep      {id}  pinned (twice is once)\n")), "{planned}");
        let report = place.run(&["cleanup", "--json"]).ends(0).json();
        assert_eq!(with(&report, "deleted"), ids(&backups[30..32]));
        assert_eq!(report["backups"][32]["reason"], "pinned (twice is once)");
        keys_of(&backups[32]).iter().for_each(|key| assert!(place.keys().contains(key)));
        place.run(&["unpin", id]).ends(0);
        place.run(&["unpin", id]).ends(0);
        let report = place.run(&["cleanup", "--json"]).ends(0).json();
        assert_eq!(with(&report, "deleted"), [id]);
        place.holds(&backups[..30]);
    }
}

/// `pin latest` chooses the same backup as `restore` and `verify`, and refuses an id of another job.
#[test]
fn pin_latest_chooses_the_newest_backup_of_the_job() {
    let place = Place::dir();
    let backups = place.nightly(0..3);
    let id = backups[0].id.as_str();
    for (command, pinned) in [("pin", true), ("unpin", false)] {
        let said = place.run(&[command, "latest", "--json"]).ends(0).json();
        assert_eq!((&said["id"], &said["pinned"]), (&json!(id), &json!(pinned)), "{said}");
    }
    place.run(&["pin", "latest", "--job", "other"]).ends(1).says(&["of the job other", JOB]);
    place.run(&["pin", id, "--job", "other"]).ends(2).says(&["is of the job"]);
    place.add(&manifest("other", 0));
    let flags = format!("--job {JOB} or --job other");
    run(place.command().env_remove("BACKUP_JOB").args(["pin", "latest"]))
        .ends(2)
        .says(&["several jobs", &flags]);
}

/// `list` must not send one more request for each backup: only the reason of a pinned one is read.
#[test]
fn list_reads_only_the_pins_that_exist() {
    let place = Place::s3();
    let backups = place.nightly(0..9);
    place.run(&["pin", backups[3].id.as_str()]).ends(0);
    let before = place.bucket().calls().len();
    place.run(&["list"]).ends(0);
    let calls = &place.bucket().calls()[before..];
    let count = |operation: &str| calls.iter().filter(|call| call.operation == operation).count();
    // One check of the bucket, one listing, the manifests, and the pin.
    assert_eq!((count("ListObjectsV2"), count("GetObject"), calls.len()), (2, 10, 12));
}

#[test]
fn a_backup_that_does_not_exist_cannot_be_pinned() {
    for place in places() {
        let gone = manifest(JOB, 3);
        place.put(&gone.artifact.key, b"x");
        for command in ["pin", "unpin"] {
            let ran = place.run(&[command, gone.id.as_str()]).ends(1);
            assert!(ran.stderr.contains(&format!("there is no backup {}", gone.id)), "{}", ran.stderr);
            place.run(&[command, "latest"]).ends(1);
            place.run(&[command, "newest"]).ends(2);
        }
        assert_eq!(place.keys().len(), 1);
    }
}

/// A run was killed right after it wrote its tombstone: the backup is still whole, and a person pins it.
#[test]
fn a_pin_stops_a_deletion_that_was_started() {
    for place in places() {
        let backups = place.nightly(0..33);
        let old = &backups[32];
        let keys = keys_of(old).to_vec();
        let (id, job) = (old.id.clone(), JOB.to_string());
        let tombstone = Tombstone { format: 1, id, job, at: chrono::Utc::now(), reason: "old".into(), keys };
        place.put(&layout::tombstone(&old.id), &serde_json::to_vec(&tombstone).expect("JSON"));
        let ran = place.run(&["pin", old.id.as_str()]).ends(3);
        assert!(ran.stderr.starts_with("needs a look: a cleanup has begun to delete "), "{}", ran.stderr);
        place.run(&["cleanup"]).ends(0);
        let mut want: std::collections::BTreeSet<String> = backups[..30].iter().flat_map(keys_of).collect();
        want.extend(keys_of(old));
        want.insert(layout::pin(&old.id));
        assert_eq!(place.keys(), want, "the tombstone is gone, the backup is not");
    }
}

/// The file's existence is what counts.
#[test]
fn an_unreadable_pin_still_counts() {
    let place = Place::dir();
    let backups = place.nightly(0..33);
    place.put(&layout::pin(&backups[32].id), b"{");
    let report = place.run(&["cleanup", "--json"]).ends(0).json();
    assert_eq!(report["backups"][32]["reason"], "pinned");
    assert!(place.keys().contains(&backups[32].artifact.key));
}

/// The pin of a lost manifest keeps the artifact, and can be removed.
#[test]
fn an_orphan_can_be_pinned() {
    let place = Place::dir();
    place.nightly(0..3);
    let lost = manifest(JOB, 90);
    let mark =
        Mark { format: 1, id: lost.id.clone(), at: chrono::Utc::now(), host: "x".into(), reason: None };
    place.put(&lost.artifact.key, b"x");
    place.put(&layout::pin(&lost.id), &serde_json::to_vec(&mark).expect("JSON"));
    super::orphans::aged(&place, &lost.artifact.key, 90);
    let report = place.run(&["cleanup", "--orphans", "--json"]).ends(0).json();
    assert_eq!(report["orphans"][0]["kept"], "pinned");
    place.run(&["unpin", lost.id.as_str()]).ends(0);
    let report = place.run(&["cleanup", "--orphans", "--json"]).ends(0).json();
    assert_eq!(report["orphans"][0]["deleted"], true);
    assert_eq!(place.keys().len(), 9);
}
