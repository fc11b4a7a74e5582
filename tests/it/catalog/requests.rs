//! The number of requests that it takes to read the backups of a bucket.

use std::collections::BTreeMap;

use uzima_testkit::s3_server::{Call, Fault, Rule};

use super::support::hourly;
use crate::cleanup::slices::{bases, chain, put};
use crate::cleanup::support::{Place, ids, with};
use crate::cli::support::{Ran, run};

/// The checks of `health` that read backups or ask the store.
const CHECKS: &str = "store,disk,clock,freshness,backups,drill";

/// Runs a command, and returns the requests that the bucket received during the run.
fn calls(place: &Place, args: &[&str]) -> (Ran, Vec<Call>) {
    let before = place.bucket().calls().len();
    let ran = run(place.command().env("BACKUP_RETENTION_DAYS", "5000").args(args));
    (ran, place.bucket().calls().split_off(before))
}

fn tally(calls: &[Call]) -> BTreeMap<&'static str, usize> {
    let mut tally = BTreeMap::new();
    calls.iter().for_each(|call| *tally.entry(call.operation).or_default() += 1);
    tally
}

/// With `UZIMA_TEST_FULL=1`: 5,000 backups.
#[test]
fn a_second_run_reads_only_the_listing() {
    let backups = if std::env::var_os("UZIMA_TEST_FULL").is_some() { 5_000 } else { 700 };
    let place = Place::s3();
    hourly(&place, backups);
    let pages = place.keys().len().div_ceil(1_000);
    let (ran, first) = calls(&place, &["list", "--json"]);
    assert_eq!(ran.ends(0).json()["backups"].as_array().map(Vec::len), Some(backups));
    assert!(tally(&first)["GetObject"] == 2 * backups, "{:?}", tally(&first));
    for args in [
        &["list", "--json"][..],
        &["stats"],
        &["cleanup"],
        &["health", "--only", CHECKS],
        &["list", "--limit", "1"],
    ] {
        let (ran, calls) = calls(&place, args);
        ran.ends(0);
        println!("{backups} backups, {pages} pages, {args:?}: {:?}", tally(&calls));
        assert!(calls.len() <= pages + 10, "{args:?}, {pages} pages: {:?}", tally(&calls));
    }
}

/// With 300 slices: later runs read the listing, and only new slices.
#[test]
fn slices_are_read_once() {
    let place = Place::s3();
    bases(&place, [11, 5, 1]);
    let slices = chain(&(0..=300).rev().collect::<Vec<i64>>());
    let (newest, older) = slices.split_last().expect("slices");
    put(&place, older);
    let (ran, first) = calls(&place, &["list", "--json"]);
    let report = ran.ends(0).json();
    assert_eq!(report["oplog"][0]["ranges"].as_array().map(Vec::len), Some(1), "{report}");
    assert_eq!(tally(&first)["GetObject"], 3 + older.len(), "{:?}", tally(&first));
    put(&place, std::slice::from_ref(newest));
    let pages = place.keys().len().div_ceil(1_000);
    for (args, new) in [
        (&["stats", "--json"][..], 1),
        (&["list", "--json"], 0),
        (&["list", "--limit", "1"], 0),
        (&["timeline"], 0),
        (&["health", "--only", "oplog"], 0),
        (&["cleanup", "--dry-run"], 0),
    ] {
        let (ran, calls) = calls(&place, args);
        assert!(ran.code != Some(1) && ran.code != Some(2), "{args:?}: {}", ran.stderr);
        let tally = tally(&calls);
        println!("300 slices, {pages} pages, {args:?}: {tally:?}");
        assert_eq!(tally.get("GetObject").copied().unwrap_or_default(), new, "{args:?}: {tally:?}");
        assert!(calls.len() <= pages + new + 10, "{args:?}: {tally:?}");
    }
}

#[test]
fn without_slices_list_stats_and_health_list_the_store_once() {
    let place = Place::s3();
    bases(&place, [2, 1]);
    // `list` and `stats` ask before whether the bucket answers.
    for (args, listings) in [(&["list"][..], 2), (&["stats"], 2), (&["health", "--only", "oplog"], 1)] {
        let (ran, calls) = calls(&place, args);
        ran.ends(0);
        assert_eq!(tally(&calls)["ListObjectsV2"], listings, "{args:?}: {:?}", tally(&calls));
    }
}

#[test]
fn latest_reads_the_newest_manifest_only() {
    let place = Place::s3();
    let backups = hourly(&place, 50);
    // The state folder is empty.
    let (ran, calls) = calls(&place, &["pin", "latest", "--json"]);
    assert_eq!(ran.ends(0).json()["id"], backups[0].id.as_str());
    let read: Vec<&String> =
        calls.iter().filter(|call| call.operation == "GetObject").map(|call| &call.key).collect();
    assert!(read.iter().all(|key| key.contains(backups[0].id.as_str())), "{read:?}");
}

#[test]
fn deletions_are_sent_in_batches() {
    let place = Place::s3();
    let backups = place.nightly((0..3).chain(31..131));
    let before = place.bucket().calls().len();
    let report = place.run(&["cleanup", "--force", "--json"]).ends(0).json();
    assert_eq!(with(&report, "deleted"), ids(&backups[3..]));
    place.holds(&backups[..3]);
    let calls = place.bucket().calls().split_off(before);
    let tally = tally(&calls);
    // One batch for the manifests, one for the objects that they name, one for the tombstones.
    assert_eq!((tally.get("DeleteObjects"), tally.get("DeleteObject")), (Some(&3), None), "{tally:?}");
}

#[test]
fn a_service_without_batches_gets_single_deletions() {
    for fault in [Fault::Answer(501, "NotImplemented"), Fault::Answer(400, "MalformedXML")] {
        let place = Place::s3();
        let backups = place.nightly([0, 1, 2, 40, 41]);
        place.bucket().faults().add(Rule::always("DeleteObjects", fault));
        let report = place.run(&["cleanup", "--json"]).ends(0).json();
        assert_eq!(with(&report, "deleted"), ids(&backups[3..]));
        place.holds(&backups[..3]);
        assert_eq!(place.bucket().count("DeleteObjects"), 1);
    }
}

/// The store is unreachable in the middle of the deletions, after the tombstones were written.
#[test]
fn an_outage_during_the_deletions_is_waited_for() {
    let place = Place::s3();
    let backups = place.nightly([0, 1, 2, 40, 41]);
    place.bucket().faults().add(Rule::first(3, "DeleteObjects", Fault::Answer(503, "SlowDown")));
    let ran = run(place.command().env("BACKUP_PATIENCE", "60").args(["cleanup", "--json"])).ends(0);
    assert!(ran.stderr.contains("waiting for s3://"), "{}", ran.stderr);
    assert_eq!(with(&ran.json(), "deleted"), ids(&backups[3..]));
    place.holds(&backups[..3]);
}

/// If the manifest could not be deleted, the backup is still listed, so nothing else of it may be deleted.
#[test]
fn objects_that_a_batch_could_not_delete_are_reported() {
    let place = Place::s3();
    let backups = place.nightly([0, 1, 2, 40, 41, 42]);
    let stuck = uzima_backup::catalog::layout::manifest(&backups[4].id);
    place.bucket().protect(&format!("daily-backups/{stuck}"));
    let report = place.run(&["cleanup", "--json"]).ends(3).json();
    assert_eq!(with(&report, "failed"), ids(&backups[4..5]));
    assert_eq!(with(&report, "deleted"), [ids(&backups[3..4]), ids(&backups[5..])].concat());
    assert!(report["problems"][0].as_str().is_some_and(|problem| problem.contains(&stuck)), "{report}");
    assert!(place.keys().contains(&backups[4].artifact.key), "a backup that is listed is whole");
}
