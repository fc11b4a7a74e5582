//! `copy` replaces a damaged backup only if it read all of it whole from another place, and forgets the old results of verifies.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::s3_server::{Fault, Rule};

use super::kills::traced;
use super::planted::{CopyPlace, Places};
use super::readers_support::{PLACES, TwoPlaces, contents, fill, flip, lines, segments};
use crate::cleanup::support::ids;
use crate::cli::signals::{STALL, until};
use crate::cli::support::{NOWHERE, Ran, run, server_with_rows};
use crate::restore::support::{differences, server};
use crate::signing::support::Signer;

/// Two places with one small backup.
async fn two_places() -> (TwoPlaces, Manifest) {
    let server = server_with_rows(20, 100).await;
    let places = TwoPlaces::new();
    let manifest = places.backup(&server.uri(), &[]);
    (places, manifest)
}

/// Damages one of the two largest segments of the artifact in a place.
fn damage(places: &TwoPlaces, place: &str, manifest: &Manifest, which: usize) {
    let folder = places.folder(place);
    let mut segments = segments(&folder, manifest);
    segments.sort_by_key(|(_, length)| std::cmp::Reverse(*length));
    let (offset, length) = segments[which];
    flip(&folder.join(&manifest.artifact.key), offset + length * 7 / 8);
}

/// The files of both places.
fn both(places: &TwoPlaces) -> [std::collections::BTreeMap<String, Vec<u8>>; 2] {
    PLACES.map(|place| contents(&places.folder(place)))
}

/// The names of the places where `list` knows of no fault of the backup.
fn whole(listed: &Ran) -> Vec<String> {
    lines(&listed.json()["backups"][0], "places")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_damaged_in_both_places_is_not_deleted() {
    let ((source, client), (target, restored)) = (server().await, server().await);
    fill(&client).await;
    let places = TwoPlaces::new();
    let manifest = places.backup(&source.uri(), &[]);
    let id = manifest.id.as_str();
    places.run(&["pin", id]).ends(0);
    damage(&places, "first", &manifest, 0);
    damage(&places, "copy", &manifest, 1);
    places.run(&["verify", id, "--place", "copy"]).ends(4);
    // Each segment is whole in one of the places.
    let restores = async || {
        places.restore(&target, &[id, "--drop"]).ends(3);
        assert_eq!(differences(&client, &restored).await, Vec::<String>::new());
    };
    restores().await;
    // Nobody knows yet that the first place is damaged.
    let before = both(&places);
    let step = format!("uzima-backup verify {id} --place first");
    let ran = places.run(&["copy", "--missing", "--json"]).ends(3);
    let problems = lines(&ran.json(), "problems").join("\n");
    assert!(problems.contains("is damaged, and was not copied") && problems.contains(&step), "{problems}");
    assert!(both(&places) == before, "a place changed");
    restores().await;
    places.run(&["copy", id]).ends(3);
    assert!(both(&places) == before, "a place changed");
    // Now everybody knows.
    places.run(&["verify", id, "--place", "first"]).ends(4);
    let before = both(&places);
    places.run(&["copy", id]).ends(3);
    places.run(&["copy", id, "--to", "first"]).ends(3);
    places.run(&["copy", "--missing"]);
    places.run(&["copy", "--missing", "--to", "first"]);
    assert!(both(&places) == before, "a place changed");
    restores().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_at_the_source_deletes_nothing() {
    let (places, manifest) = two_places().await;
    flip(&places.folder("copy").join(&manifest.artifact.key), manifest.artifact.size / 2);
    places.run(&["verify", "--place", "copy"]).ends(4);
    flip(&places.folder("first").join(&manifest.index.key), 20);
    let before = both(&places);
    places.run(&["copy", "--missing"]).ends(3);
    assert!(both(&places) == before, "a place changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_not_replaced_if_both_places_are_one_directory() {
    let server = server_with_rows(20, 100).await;
    let places = TwoPlaces::new();
    run(places.home.to_dir(&server.uri()).env("BACKUP_JOB", "nightly").arg("backup")).ends(0);
    let manifest = places.home.manifests().pop().expect("a manifest");
    std::os::unix::fs::symlink(places.folder("first"), places.folder("copy")).expect("a link");
    let artifact = places.folder("first").join(&manifest.artifact.key);
    // A repair by hand, after which the result of the verify is out of date.
    flip(&artifact, manifest.artifact.size / 2);
    places.run(&["verify", "--place", "first"]).ends(4);
    flip(&artifact, manifest.artifact.size / 2);
    let before = contents(&places.folder("first"));
    places.run(&["copy", manifest.id.as_str()]).ends(1).says(&["first and copy are the same"]);
    assert!(contents(&places.folder("first")) == before, "the backup changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_backup_counts_again_and_is_copied_once() {
    let (places, manifest) = two_places().await;
    flip(&places.folder("copy").join(&manifest.artifact.key), manifest.artifact.size / 2);
    places.run(&["verify", "--place", "copy"]).ends(4);
    let copied = || {
        let json = places.run(&["copy", "--missing", "--json"]).ends(0).json();
        json["places"][0]["backups"].as_array().expect("rows").len()
    };
    assert_eq!(copied(), 1);
    let [first, copy] = both(&places);
    assert!(first == copy, "{:?}", copy.keys());
    assert_eq!(whole(&places.run(&["list", "--json"]).ends(0)), PLACES);
    assert_eq!(copied(), 0);
    places.run(&["verify", "--place", "copy"]).ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replacement_is_finished_by_the_next_run() {
    let (places, manifest) = two_places().await;
    let artifact = places.folder("copy").join(&manifest.artifact.key);
    let (mut kills, mut ended) = (0, false);
    for n in 1..40 {
        flip(&artifact, manifest.artifact.size / 2);
        places.run(&["verify", "--place", "copy"]).ends(4);
        let inject = format!("inject=unlink,unlinkat:signal=SIGKILL:when={n}");
        let flags = ["-o", "/dev/null", "-e", "trace=unlink,unlinkat", "-e", &inject];
        let status = traced(&places.tool(NOWHERE, &["copy", "--missing"]), &flags);
        let good = whole(&places.run(&["list", "--json"])).contains(&"copy".to_string());
        let [first, copy] = both(&places).map(|all| all.get(&manifest.artifact.key).cloned());
        assert!(!good || first == copy, "{n}: a damaged backup counts as good");
        places.run(&["copy", "--missing"]).ends(0);
        let [first, mut copy] = both(&places);
        copy.retain(|key, _| !key.ends_with(".partial") && !key.starts_with(".health/"));
        assert!(first == copy, "{n}: {:?}", copy.keys());
        if status.signal() != Some(libc::SIGKILL) {
            ended = true;
            break;
        }
        kills += 1;
    }
    assert!(ended && kills >= 5, "{kills}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_understood_is_replaced() {
    let (places, manifest) = two_places().await;
    let file = places.folder("copy").join(layout::manifest(&manifest.id));
    let good = both(&places);
    for args in [&["copy", manifest.id.as_str()][..], &["copy", "--missing"]] {
        let bytes = std::fs::read(&file).expect("a manifest");
        std::fs::write(&file, &bytes[..1000]).expect("a manifest");
        places.run(&["list"]).ends(4);
        places.run(args).ends(0);
        assert!(both(&places) == good, "{args:?}");
        places.run(&["list"]).ends(0);
    }
    // Nothing is deleted for a source that is damaged.
    std::fs::write(&file, b"{").expect("a manifest");
    flip(&places.folder("first").join(&manifest.artifact.key), manifest.artifact.size / 2);
    let before = both(&places);
    places.run(&["copy", manifest.id.as_str()]).ends(3);
    assert!(both(&places) == before, "a place changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_understood_is_replaced_if_backups_are_signed() {
    let (server, places, signer) = (server_with_rows(20, 100).await, TwoPlaces::new(), Signer::new());
    let tool = |uri: &str, args: &[&str]| {
        let mut command = places.tool(uri, args);
        signer.set(&mut command);
        run(&mut command)
    };
    tool(&server.uri(), &["backup"]).ends(0);
    let (manifest, good) = (places.home.manifests().pop().expect("a manifest"), both(&places));
    let file = places.folder("copy").join(layout::manifest(&manifest.id));
    std::fs::write(&file, b"not a manifest").expect("a manifest");
    tool(NOWHERE, &["list"]).ends(4);
    tool(NOWHERE, &["copy", manifest.id.as_str()]).ends(0);
    assert!(both(&places) == good, "a place changed");
    tool(NOWHERE, &["list"]).ends(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_manifest_of_the_backup_is_refused_and_stays() {
    let (places, manifest) = two_places().await;
    let (artifact, file) = (
        places.folder("copy").join(&manifest.artifact.key),
        places.folder("copy").join(layout::manifest(&manifest.id)),
    );
    flip(&artifact, manifest.artifact.size / 2);
    places.run(&["verify", "--place", "copy"]).ends(4);
    let other = Manifest { host: "elsewhere".into(), ..manifest.clone() };
    let newer = String::from_utf8(manifest.encode().expect("JSON")).expect("UTF-8");
    let newer =
        newer.replacen("\"format\":1", "\"format\":99", 1).replacen("\"format\": 1", "\"format\": 99", 1);
    for bytes in [other.encode().expect("JSON"), newer.into_bytes()] {
        std::fs::write(&file, &bytes).expect("a manifest");
        let before = both(&places);
        let ran = places.run(&["copy", manifest.id.as_str(), "--json"]).ends(3);
        let problems = lines(&ran.json(), "problems").join("\n");
        assert!(problems.contains("has another manifest of the backup"), "{problems}");
        assert!(both(&places) == before, "a place changed");
    }
}

#[test]
fn a_damaged_backup_in_a_bucket_is_replaced_after_the_source_was_read() {
    let places = Places::new([CopyPlace::s3("far", "")]);
    let (far, backups) = (places.copy("far"), places.first.nightly(0..2));
    let (newer, older) = (&backups[0], &backups[1]);
    places.run(&["copy", "--missing"]).ends(0);
    let good = far.bucket().objects();
    let damage = || {
        far.put(&newer.artifact.key, b"short");
        far.put(&layout::manifest(&older.id), b"{");
        far.bucket().objects()
    };
    damage();
    places.run(&["copy", "--missing"]).ends(0);
    assert!(far.bucket().objects() == good, "{:?}", far.keys());
    // The same with a source that is damaged: nothing is deleted but the probe.
    let before = damage();
    for manifest in [newer, older] {
        places.first.put(&manifest.artifact.key, b"all thE data");
    }
    let calls = far.bucket().calls().len();
    places.run(&["copy", "--missing"]).ends(3);
    assert!(far.bucket().objects() == before, "{:?}", far.keys());
    let calls = far.bucket().calls().split_off(calls);
    let deleted = calls.iter().filter(|call| call.operation.starts_with("Delete"));
    let deleted: Vec<&str> = deleted.map(|call| call.key.as_str()).collect();
    assert!(!deleted.is_empty() && deleted.iter().all(|key| key.contains(".health/")), "{deleted:?}");
}

/// The copy is a bucket that stops answering at the second backup.
#[test]
fn a_signal_names_the_backups_that_were_copied() {
    let places = Places::new([CopyPlace::s3("far", "")]);
    let backups = places.first.nightly(0..2);
    let bucket = places.copy("far").bucket();
    let stalled = backups[1].artifact.key.clone();
    bucket.faults().add(Rule::always("*", Fault::Delay(STALL)).key(&stalled));
    let mut copy: Command = places.command();
    copy.args(["copy", "--missing"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = copy.spawn().expect("a run");
    until("the second backup stalls", || bucket.calls().iter().any(|call| call.key.ends_with(&stalled)));
    // SAFETY: the process is our own child and has not been waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let ended = child.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(143), "{said}");
    assert!(said.contains("ended by SIGTERM; copied before that, and whole: 1 backup"), "{said}");
    assert_eq!(places.copy("far").listed().into_iter().collect::<Vec<_>>(), ids(&backups[..1]));
}
