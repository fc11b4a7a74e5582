//! `copy --missing` gives a place the backups that its own retention would keep, but not those that its cleanups deleted.

use std::collections::BTreeSet;
use std::process::Command;

use crate::cleanup::support::{Place, ids};
use crate::cli::support::run;

/// The tool with a copy that keeps backups for so many days.
fn command(place: &Place, days: u32, args: &[&str]) -> Command {
    let mut command = place.command();
    command.env("COPY_DIR", place.home.path().join("copy")).env("COPY_RETENTION_DAYS", days.to_string());
    command.env("BACKUP_KEEP_MIN", "2").args(args);
    command
}

fn listed(place: &Place, days: u32, of: &str) -> BTreeSet<String> {
    let shown = run(&mut command(place, days, &["list", "--json", "--place", of])).ends(0).json();
    let rows = shown["backups"].as_array().expect("rows").iter();
    rows.map(|row| row["id"].as_str().expect("an id").to_string()).collect()
}

#[test]
fn a_place_gets_what_its_own_retention_would_keep() {
    let place = Place::dir();
    let all = ids(&place.nightly(0..20));
    run(&mut command(&place, 5, &["copy", "--missing"])).ends(0);
    let kept: BTreeSet<String> = all[..6].iter().cloned().collect();
    let has = listed(&place, 5, "copy");
    assert!(has.is_subset(&kept) && has.len() >= 5, "{has:?}");
    run(&mut command(&place, 5, &["cleanup", "--place", "copy"])).ends(0);
    assert_eq!(listed(&place, 5, "copy"), has, "a cleanup would delete nothing of it");
    run(&mut command(&place, 30, &["copy", "--missing"])).ends(0);
    assert_eq!(listed(&place, 30, "copy"), all.iter().cloned().collect(), "the retention is longer now");
}

#[test]
fn what_a_cleanup_deleted_is_not_copied_back() {
    let place = Place::dir();
    let all = ids(&place.nightly(0..12));
    run(&mut command(&place, 30, &["copy", "--missing"])).ends(0);
    // A shorter retention deletes more than a quarter at once.
    run(&mut command(&place, 5, &["cleanup", "--place", "copy", "--force"])).ends(0);
    let left = listed(&place, 5, "copy");
    assert!(left.len() < all.len());
    run(&mut command(&place, 30, &["copy", "--missing"])).ends(0);
    assert_eq!(listed(&place, 30, "copy"), left);
    assert_eq!(listed(&place, 30, "first").len(), all.len());
    // A person may still ask for one.
    run(&mut command(&place, 30, &["copy", &all[11]])).ends(0);
    assert!(listed(&place, 30, "copy").contains(&all[11]));
}

#[test]
fn a_damaged_source_is_not_copied_and_a_damaged_copy_is_replaced() {
    let place = Place::dir();
    let backups = place.nightly(0..3);
    let (artifact, id) = (&backups[0].artifact.key, &backups[0].id);
    let (good, bad) =
        (std::fs::read(place.home.backups().join(artifact)).expect("an artifact"), b"all thE data");
    place.put(artifact, bad);
    run(&mut command(&place, 30, &["copy", "--missing", "--quiet"]))
        .ends(3)
        .says(&["is damaged, and was not copied", id.as_str()]);
    assert_eq!(listed(&place, 30, "copy"), ids(&backups[1..]).into_iter().collect());
    place.put(artifact, &good);
    run(&mut command(&place, 30, &["copy", "--missing"])).ends(0);
    assert_eq!(listed(&place, 30, "copy").len(), 3);
    // The artifact of the copy is lost: its manifest shows a backup that is not whole.
    std::fs::remove_file(place.home.path().join("copy").join(artifact)).expect("a deletion");
    run(&mut command(&place, 30, &["copy", "--missing"])).ends(0);
    assert_eq!(std::fs::read(place.home.path().join("copy").join(artifact)).expect("it is back"), good);
}

#[test]
fn wrong_places_are_refused() {
    let place = Place::dir();
    place.nightly(0..1);
    for (args, words) in [
        (&["copy", "--missing", "--to", "offsite"][..], "The places are first, copy"),
        (&["copy", "--missing", "--to", "copy", "--from", "copy"], "name the same place"),
        (&["list", "--place", "cop"], "did you mean copy?"),
    ] {
        run(&mut command(&place, 30, args)).ends(2).says(&[words]);
    }
    let mut alone = place.command();
    run(alone.args(["copy", "--missing"])).ends(2).says(&["there is only one place", "COPY_DIR"]);
}
