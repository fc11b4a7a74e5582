//! Directories full of unrelated files. A cleanup deletes only objects that a manifest or tombstone of the
//! job names, and orphans with `--orphans`.

use std::collections::BTreeSet;

use chrono::Utc;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uzima_backup::catalog::layout;
use uzima_backup::catalog::marks::Tombstone;
use uzima_backup::config::store::DirOptions;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::ops::cleanup::{CleanupRequest, cleanup};
use uzima_backup::store::DirStore;

use super::clocks::settings;
use super::support::{JOB, Place, keys_of, manifest};

/// A folder and its objects.
#[derive(Debug, Clone)]
struct Folder {
    days: i64,
    mine: bool,
    manifest: bool,
    index: bool,
    artifact: bool,
    pin: bool,
    tombstone: bool,
    foreign: Option<&'static str>,
}

fn folder() -> impl Strategy<Value = Folder> {
    let often = || prop::bool::weighted(0.8);
    let seldom = || prop::bool::weighted(0.2);
    let foreign = prop::option::weighted(
        0.3,
        prop::sample::select(&["notes.txt", "dump.tar.gz.bak", "manifest.json~", "sub/dump.tar.gz"][..]),
    );
    (0..80_i64, often(), often(), often(), often(), seldom(), seldom(), foreign).prop_map(
        |(days, mine, manifest, index, artifact, pin, tombstone, foreign)| Folder {
            days,
            mine,
            manifest,
            index,
            artifact,
            pin,
            tombstone,
            foreign,
        },
    )
}

/// Writes a folder. Returns the objects that a cleanup may delete, but does not have to. All others must
/// stay.
fn lay(place: &Place, folder: &Folder, orphans: bool) -> BTreeSet<String> {
    let m: Manifest = manifest(if folder.mine { JOB } else { "all@db2" }, folder.days);
    let keys = keys_of(&m);
    let put = |there: bool, key: &str, body: &[u8]| there.then(|| place.put(key, body));
    put(folder.manifest, &keys[0], &m.encode().expect("JSON"));
    put(folder.index, &keys[1], b"index");
    put(folder.artifact, &keys[2], b"all the data");
    if folder.artifact {
        super::orphans::aged(place, &keys[2], 30);
    }
    put(folder.pin, &layout::pin(&m.id), b"{}");
    let tombstone = Tombstone {
        format: 1,
        id: m.id.clone(),
        job: m.job.clone(),
        at: Utc::now(),
        reason: "x".into(),
        keys: keys.to_vec(),
    };
    put(folder.tombstone, &layout::tombstone(&m.id), &serde_json::to_vec(&tombstone).expect("JSON"));
    if let Some(name) = folder.foreign {
        place.put(&format!("{}{name}", layout::folder(&m.id)), b"foreign");
    }
    let buried = folder.tombstone && folder.mine;
    let orphan = orphans && folder.artifact && !folder.manifest && !folder.tombstone && !folder.pin;
    let expired = folder.manifest && folder.mine && !folder.pin && folder.days >= 30;
    let mut may = BTreeSet::new();
    if expired || orphan || (buried && !folder.manifest) {
        may.extend(keys);
    }
    if buried {
        may.insert(layout::tombstone(&m.id));
    }
    may
}

#[test]
fn a_cleanup_deletes_only_named_objects() {
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let cases = (prop::collection::vec(folder(), 1..14), any::<bool>());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let gone = std::cell::Cell::new(0);
    let outcome = TestRunner::new(config).run(&cases, |(mut folders, orphans)| {
        folders.sort_by_key(|folder| folder.days);
        folders.dedup_by_key(|folder| folder.days);
        let place = Place::dir();
        let may: BTreeSet<String> = folders.iter().flat_map(|folder| lay(&place, folder, orphans)).collect();
        let before = place.keys();
        let store = DirStore::new(DirOptions::new(place.home.backups())).expect("a directory");
        let request = CleanupRequest { orphans, force: true, ..CleanupRequest::default() };
        let report = runtime.block_on(cleanup(&store, &settings(), &request, Utc::now())).expect("a report");
        let after = place.keys();
        let went: BTreeSet<&String> = before.difference(&after).collect();
        prop_assert!(went.iter().all(|key| may.contains(*key)), "{went:?} of {may:?}");
        prop_assert!(after.is_subset(&before), "nothing is left over: {report:?}");
        gone.set(gone.get() + went.len());
        Ok(())
    });
    if let Err(e) = outcome {
        panic!("{e}");
    }
    assert!(gone.get() > 100, "{} objects went", gone.get());
}
