//! The cache of a place, and its use after the place or the cache file has changed.

use std::path::PathBuf;

use chrono::TimeDelta;
use uzima_backup::catalog::layout;
use uzima_backup::model::slice::Barrier;

use super::support::{hourly, put_verdict, verdict};
use crate::cleanup::slices::{ago, bases, chain, put};
use crate::cleanup::support::{Place, places};

/// The cache file.
fn cache(place: &Place) -> PathBuf {
    let folder = place.home.state().join("places");
    let files = std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut caches = files.filter(|path| path.extension().is_some_and(|end| end == "cache"));
    caches.next().expect("a cache")
}

fn hosts(place: &Place) -> Vec<String> {
    let listed = place.run(&["list", "--json"]).ends(0).json();
    let rows = listed["backups"].as_array().expect("a list");
    rows.iter().map(|row| row["host"].as_str().expect("a host").to_string()).collect()
}

#[test]
fn an_overwritten_manifest_is_read_again() {
    for place in places() {
        let mut manifest = hourly(&place, 3).remove(1);
        assert_eq!(hosts(&place), ["db1"; 3]);
        // The same size.
        manifest.host = "db2".into();
        place.put(&layout::manifest(&manifest.id), &manifest.encode().expect("JSON"));
        assert_eq!(hosts(&place), ["db1", "db2", "db1"]);
        // The same for the result of a `verify`.
        let mut found = verdict(&manifest, manifest.started_at + TimeDelta::minutes(30), true);
        found.sound = false;
        put_verdict(&place, &found);
        let listed = place.run(&["list", "--json"]).ends(4).json();
        assert_eq!(listed["backups"][1]["status"], "damaged");
    }
}

#[test]
fn a_file_of_the_same_times_and_size_is_read_again() {
    let place = Place::dir();
    let mut manifest = hourly(&place, 3).remove(1);
    let path = place.home.backups().join(layout::manifest(&manifest.id));
    let modified = path.metadata().and_then(|meta| meta.modified()).expect("its time");
    assert_eq!(hosts(&place), ["db1"; 3]);
    manifest.host = "db2".into();
    std::fs::write(&path, manifest.encode().expect("JSON")).expect("a file");
    let file = std::fs::File::options().append(true).open(&path).expect("a file");
    file.set_modified(modified).expect("its time");
    assert_eq!(hosts(&place), ["db1", "db2", "db1"]);
}

#[test]
fn a_lost_or_damaged_cache_is_rebuilt() {
    let place = Place::s3();
    hourly(&place, 5);
    let right = place.run(&["list", "--json"]).ends(0).stdout;
    let file = cache(&place);
    let sound = std::fs::read(&file).expect("a cache");
    let line = |text: &str| zstd::encode_all(text.as_bytes(), 1).expect("zstd");
    let mut flipped = sound.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let header = format!(
        "{{\"format\":1,\"tool\":\"{}\",\"place\":\"s3://backups/daily-backups/\"}}\n",
        env!("CARGO_PKG_VERSION")
    );
    let bombs = line(&(header.clone() + &"x".repeat(40 << 20)));
    for (what, bytes) in [
        ("empty", vec![]),
        ("cut", sound[..sound.len() - 3].to_vec()),
        ("flipped", flipped),
        ("of another bucket", line(&header.replace("daily-backups", "other"))),
        ("of another version", line("{\"format\":2,\"tool\":\"9\",\"place\":\"x\"}\n")),
        ("no JSON", line("\u{0}\n")),
        ("nested", line(&(header + &"[".repeat(100_000) + "\n"))),
        ("a line without an end", bombs),
    ] {
        std::fs::write(&file, bytes).expect("a file");
        let before = place.bucket().count("GetObject");
        assert_eq!(place.run(&["list", "--json"]).ends(0).stdout, right, "{what}");
        let read = place.bucket().count("GetObject") - before;
        assert_eq!(read, 10, "{what}");
        place.run(&["list"]).ends(0);
        assert_eq!(place.bucket().count("GetObject") - before, 10, "{what}: it is remembered again");
    }
    std::fs::remove_file(&file).expect("a file");
    std::os::unix::fs::symlink("/dev/zero", &file).expect("a link");
    assert_eq!(place.run(&["list", "--json"]).ends(0).stdout, right);
    assert!(file.symlink_metadata().expect("a file").is_file(), "it took the place of the link");
}

#[test]
fn an_overwritten_slice_is_read_again_and_a_damaged_cache_of_slices_is_rebuilt() {
    for place in places() {
        bases(&place, [2]);
        let mut slices = chain(&[60, 40, 20, 0]);
        put(&place, &slices);
        let gaps = || {
            let listed = place.run(&["list", "--json"]).ends(0).json();
            let gaps = listed["oplog"][0]["gaps"].as_array().expect("gaps").clone();
            gaps.into_iter().filter(|gap| gap["to"].is_null()).collect::<Vec<serde_json::Value>>()
        };
        assert!(gaps().is_empty());
        slices[1].barriers = vec![Barrier { at: ago(30), why: "the selection changed".into() }];
        put(&place, &slices[1..2]);
        assert_eq!(gaps()[0]["obstacles"][0]["why"], "the selection changed");
        // The same size.
        slices[1].barriers[0].why = "the selection_changed".into();
        put(&place, &slices[1..2]);
        assert_eq!(gaps()[0]["obstacles"][0]["why"], "the selection_changed");
        let folder = place.home.state().join("places");
        let files =
            std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        let of_slices = |path: &PathBuf| path.to_string_lossy().contains(".oplog-");
        let file = files.into_iter().find(of_slices).expect("a cache");
        std::fs::write(&file, "x").expect("a file");
        assert_eq!(gaps().len(), 1);
        assert!(file.metadata().expect("a file").len() > 100, "it is written again");
    }
}

/// Without a cache every command still works.
#[test]
fn a_state_directory_that_cannot_be_written_costs_only_time() {
    let place = Place::dir();
    hourly(&place, 3);
    std::fs::write(place.home.state(), "a file").expect("a file");
    for args in [&["list"][..], &["stats"], &["cleanup", "--dry-run"]] {
        place.run(args).ends(0);
    }
}
