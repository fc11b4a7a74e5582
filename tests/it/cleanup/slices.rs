//! Cleanups delete the oplog slices that no restore within `oplog_days` needs, and the oldest first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{TimeDelta, Utc};
use uzima_backup::catalog::layout;
use uzima_backup::config::store::DirOptions;
use uzima_backup::model::manifest::{ChainBase, Manifest};
use uzima_backup::model::optime::OpTime;
use uzima_backup::model::selection::SelectionAsked;
use uzima_backup::model::slice::{ChainId, EntryMark, FORMAT, SliceBody, SliceManifest};
use uzima_backup::ops::cleanup::{CleanupRequest, cleanup};
use uzima_backup::store::{DirStore, Store};

use super::breaking::{Breaking, Death};
use super::clocks::settings;
use super::support::{JOB, Place, manifest, places};
use crate::store::support;

const SET: &str = "0123456789abcdef01234567";

/// The optime of this many hours ago.
pub fn ago(hours: i64) -> OpTime {
    let at = Utc::now() - TimeDelta::hours(hours);
    OpTime { t: u32::try_from(at.timestamp()).expect("a time"), i: 1 }
}

fn mark(at: OpTime) -> EntryMark {
    EntryMark { at, term: 1, blake3: Some(blake3::hash(&at.t.to_le_bytes()).to_hex().to_string()) }
}

/// The slices of a chain, whose ends are these hours ago. Each has a body.
pub fn chain(hours: &[i64]) -> Vec<SliceManifest> {
    let ends: Vec<OpTime> = hours.iter().map(|hours| ago(*hours)).collect();
    let chain = ChainId::new(SET, ends[0]).expect("an id");
    let slice = |pair: &[OpTime]| {
        let (start, end) = (pair[0], pair[1]);
        let (key, _) = layout::slice_objects(JOB, &chain, start, "a", false);
        let hash = mark(end).blake3;
        SliceManifest {
            format: FORMAT,
            job: JOB.into(),
            chain: chain.clone(),
            start,
            after: (start != ends[0]).then(|| mark(start)),
            end: mark(end),
            tool: "uzima-backup".into(),
            host: "db1".into(),
            stored_at: end.date(),
            member: "db1:27017".into(),
            version: "6.0.5".into(),
            set_name: Some("rs".into()),
            selection: SelectionAsked::default(),
            encryption: None,
            entries: 1,
            raw_bytes: 100,
            read_entries: 1,
            body: Some(SliceBody {
                key,
                size: 4,
                crc64nvme: "0".repeat(16),
                blake3: hash.clone().expect("a hash"),
                raw_blake3: hash,
            }),
            events: None,
            barriers: vec![],
            gap: None,
            signature: None,
        }
    };
    ends.windows(2).map(slice).collect()
}

/// Writes the objects of slices.
pub fn put(place: &Place, slices: &[SliceManifest]) {
    for slice in slices {
        place.put(&slice.body.as_ref().expect("a body").key, b"body");
        let key = layout::slice(JOB, &slice.chain, slice.start);
        place.put(&key, &slice.encode().expect("JSON"));
    }
}

/// Writes backups of these days ago, at which a chain can begin.
pub fn bases(place: &Place, days: impl IntoIterator<Item = i64>) -> Vec<Manifest> {
    days.into_iter().map(|days| base(place, manifest(JOB, days), days)).collect()
}

/// Writes a backup that is this many days old, at which a chain can begin.
pub fn base(place: &Place, mut manifest: Manifest, days: i64) -> Manifest {
    let at = ago(days * 24);
    manifest.source.set_id = Some(SET.into());
    manifest.consistency.achieved = "snapshot".into();
    manifest.consistency.at = Some(at);
    manifest.consistency.base = Some(ChainBase { from: at, term: 1, blake3: mark(at).blake3 });
    place.add(&manifest);
    manifest
}

/// The slices that are left, by the hours of their starts.
fn left(place: &Place, slices: &[SliceManifest], hours: &[i64]) -> Vec<i64> {
    let keys = place.keys();
    let there = |slice: &&SliceManifest| {
        let manifest = keys.contains(&layout::slice(JOB, &slice.chain, slice.start));
        let body = keys.contains(&slice.body.as_ref().expect("a body").key);
        assert!(body || !manifest, "a slice without its body: {}", slice.start);
        manifest
    };
    let left: BTreeSet<OpTime> = slices.iter().filter(there).map(|slice| slice.start).collect();
    hours
        .iter()
        .zip(slices)
        .filter(|(_, slice)| left.contains(&slice.start))
        .map(|(hours, _)| *hours)
        .collect()
}

/// Every 12 hours of 20 days.
fn half_days() -> Vec<i64> {
    (0..=40).rev().map(|n| n * 12).collect()
}

#[test]
fn slices_that_no_restore_within_oplog_days_needs_are_deleted() {
    for place in places() {
        let hours = half_days();
        let slices = chain(&hours);
        put(&place, &slices);
        bases(&place, [19, 12, 1]);
        let plan = place.run(&["cleanup", "--dry-run"]).ends(0).stdout;
        let lines: Vec<&str> =
            plan.lines().filter(|line| line.contains(" oplog slice") && line.contains(" from ")).collect();
        assert_eq!(lines.len(), 4, "{plan}");
        assert!(
            lines[0].starts_with("would go  16 oplog slices from ") && lines[0].contains(" to "),
            "{plan}"
        );
        assert!(lines[0].contains(": older than 7 days, and before the backup "), "{plan}");
        assert!(lines[1].starts_with("keep      ") && lines[1].contains(" needs it"), "{plan}");
        assert!(lines[2].ends_with(": within 7 days"), "{plan}");
        assert!(
            lines[3].starts_with("keep      1 oplog slice from ") && lines[3].contains("the newest slice"),
            "{plan}"
        );
        assert_eq!(left(&place, &slices, &hours).len(), 40);
        assert!(lines_end(&plan).starts_with("would delete 0 of 3 backups of "), "{plan}");
        assert!(lines_end(&plan).contains(", 0 B; 16 oplog slices, "), "{plan}");
        let report = place.run(&["cleanup", "--json"]).ends(0).json();
        crate::docs::schema::check("cleanup", &report);
        assert_eq!(report["oplog"][0]["outcome"], "deleted");
        assert_eq!(report["oplog"][0]["slices"], 16);
        // The base of 12 days ago is 288 hours old; the slice that ends there is not needed.
        let needed: Vec<i64> = hours.iter().copied().filter(|hours| *hours <= 288 && *hours > 0).collect();
        assert_eq!(left(&place, &slices, &hours), needed);
        assert_eq!(place.run(&["cleanup", "--json"]).ends(0).json()["oplog"][0]["outcome"], "kept");
    }
}

fn lines_end(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

#[test]
fn the_base_of_the_range_outlives_retention_days() {
    let place = Place::dir();
    put(&place, &chain(&half_days()));
    let backups = bases(&place, [19, 12, 9, 4, 3, 2, 1, 0]);
    let mut command = place.command();
    command.env("BACKUP_RETENTION_DAYS", "2").env("BACKUP_OPLOG_DAYS", "10").args(["cleanup", "--json"]);
    let report = crate::cli::support::run(&mut command).ends(0).json();
    let kept: Vec<&str> = report["backups"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|row| row["outcome"] == "kept")
        .map(|row| row["id"].as_str().expect("an id"))
        .collect();
    let mut wanted: Vec<&str> = backups[1..].iter().map(|backup| backup.id.as_str()).collect();
    wanted.reverse();
    assert_eq!(kept, wanted);
    let reason = report["backups"][6]["reason"].as_str().expect("a reason");
    assert_eq!(reason, "the oplog of the last 10 days needs it (oplog_days)");
}

#[test]
fn a_frozen_plan_deletes_no_slice() {
    let place = Place::dir();
    let (hours, backups) = (half_days(), bases(&place, [19, 9, 1]));
    let slices = chain(&hours);
    put(&place, &slices);
    place.put(&layout::manifest(&backups[2].id), b"{");
    let report = place.run(&["cleanup", "--json"]).ends(3).json();
    assert_eq!(report["oplog"][0]["outcome"], "frozen");
    assert_eq!(left(&place, &slices, &hours).len(), 40);
}

/// As after a mistake in the settings, or a wrong clock.
#[test]
fn most_of_the_stored_time_goes_only_with_force() {
    let place = Place::dir();
    let hours = half_days();
    let slices = chain(&hours);
    put(&place, &slices);
    bases(&place, [19, 9, 3, 1]);
    let with = |args: &[&str]| {
        crate::cli::support::run(
            place.command().env("BACKUP_OPLOG_DAYS", "2").args(["cleanup", "--json"]).args(args),
        )
    };
    let report = with(&[]).ends(3).json();
    let reason = report["frozen"][0].as_str().expect("a reason");
    assert!(reason.starts_with("the oplog slices of 17 d 0 h would go at once, of 19 d 12 h"), "{reason}");
    assert_eq!(report["oplog"][0]["outcome"], "frozen");
    assert_eq!(left(&place, &slices, &hours).len(), 40);
    // `stats` shows the same.
    let stats =
        crate::cli::support::run(place.command().env("BACKUP_OPLOG_DAYS", "2").args(["stats", "--json"]));
    assert_eq!(stats.ends(0).json()["standing"]["frozen"][0], reason);
    with(&["--force"]).ends(0);
    assert_eq!(left(&place, &slices, &hours).first(), Some(&72));
}

/// A backup with another selection than the slices cannot begin a restore to a later time.
#[test]
fn a_backup_that_the_slices_do_not_continue_ends_no_range() {
    let place = Place::dir();
    let hours = half_days();
    let slices = chain(&hours);
    put(&place, &slices);
    bases(&place, [15, 1]);
    let mut odd = manifest(JOB, 9);
    odd.selection.exclude = vec!["shop.tmp*".into()];
    base(&place, odd, 9);
    place.run(&["cleanup"]).ends(0);
    // Every slice since the base of 15 days ago.
    assert_eq!(left(&place, &slices, &hours).first(), Some(&360));
}

/// Whenever it dies, what is left is one chain without a hole, and the next cleanup deletes the rest.
#[tokio::test]
async fn a_cleanup_that_dies_leaves_no_hole_in_a_chain() {
    for death in [Death::Before, Death::After] {
        for n in 0.. {
            let place = Place::s3();
            let hours: Vec<i64> = (0..=10).rev().map(|n| n * 48).collect();
            let slices = chain(&hours);
            put(&place, &slices);
            bases(&place, [10, 1]);
            let inner: Arc<dyn Store> = Arc::new(support::store(place.bucket()).await);
            let breaking = Breaking::new(inner.clone(), n, death);
            let request = CleanupRequest { force: true, ..CleanupRequest::default() };
            let _ = cleanup(&breaking, &settings(), &request, Utc::now()).await;
            let after = left_in_bucket(&place, &slices);
            assert!(after.is_sorted(), "{death:?} {n}: {after:?}");
            let report = cleanup(&*inner, &settings(), &request, Utc::now()).await;
            assert_eq!(report.expect("a report").problems, Vec::<String>::new());
            assert_eq!(left_in_bucket(&place, &slices).iter().filter(|there| **there).count(), 5);
            if !breaking.died() {
                assert!(n >= 10, "{n} steps");
                break;
            }
        }
    }
}

/// Whether each slice has a manifest, oldest first.
fn left_in_bucket(place: &Place, slices: &[SliceManifest]) -> Vec<bool> {
    let keys = place.keys();
    let there = |slice: &SliceManifest| keys.contains(&layout::slice(JOB, &slice.chain, slice.start));
    slices.iter().map(there).collect()
}

#[tokio::test]
async fn objects_that_killed_runs_left_are_deleted_after_a_day() {
    let place = Place::dir();
    let slices = chain(&[40, 30, 20, 10]);
    put(&place, &slices);
    bases(&place, [3]);
    let (lost, events) = layout::slice_objects(JOB, &slices[0].chain, slices[1].start, "lost", false);
    let (alone, _) = layout::slice_objects(JOB, &slices[0].chain, ago(5), "alone", false);
    let (young, _) = layout::slice_objects(JOB, &slices[0].chain, ago(4), "young", false);
    let foreign = format!("{}notes.txt", layout::slices_of(JOB));
    for key in [&lost, &events, &alone, &young, &foreign] {
        place.put(key, b"x");
    }
    let two_days = SystemTime::now() - Duration::from_secs(2 * 86400);
    let body = slices[1].body.as_ref().expect("a body").key.clone();
    for key in [&lost, &events, &alone, &foreign, &body] {
        let file = std::fs::File::options().write(true).open(place.home.backups().join(key)).expect("a file");
        file.set_modified(two_days).expect("a time");
    }
    let store = DirStore::new(DirOptions::new(place.home.backups())).expect("a directory");
    let before = place.keys();
    let report =
        cleanup(&store, &settings(), &CleanupRequest::default(), Utc::now()).await.expect("a report");
    let gone: Vec<String> = before.difference(&place.keys()).cloned().collect();
    let mut wanted = vec![lost, events, alone];
    wanted.sort();
    assert_eq!(gone, wanted);
    assert_eq!(report.notes, ["deleted 3 objects that interrupted runs of `oplog` left"]);
}
