//! The check of the stored oplog: old ends, gaps, barriers and missing slices, and a server's oplog that is short.

use std::time::Duration;

use bson::{Document, doc};
use uzima_backup::catalog::layout;
use uzima_backup::model::slice::{Barrier, OplogGap, SliceEvents, SliceManifest};
use uzima_testkit::mongod::Mongod;

use super::support::Health;
use crate::cleanup::slices::{ago, bases, chain, put};
use crate::cleanup::support::{JOB, Place};

fn check(place: &Place) -> Health {
    Health::of(place.command().env("BACKUP_PATIENCE", "1"), &["--only", "oplog"])
}

/// A place with a base of a day ago, and slices that end now. `change` changes the slices.
fn with_slices(change: impl FnOnce(&mut Vec<SliceManifest>)) -> Place {
    let place = Place::dir();
    bases(&place, [1]);
    let mut slices = chain(&[30, 20, 10, 0]);
    change(&mut slices);
    put(&place, &slices);
    place
}

#[test]
fn a_young_chain_without_a_gap_is_green() {
    let place = with_slices(|_| {});
    // The server, which could say how long its oplog is, does not answer.
    let health = check(&place);
    assert_eq!((health.ran.code, &health.row("oplog")["outcome"]), (Some(0), &"ok".into()));
    let detail = health.detail("oplog").to_string();
    let from = ago(24).second();
    assert!(detail.starts_with(&format!("a restore can reach {}", &from[..13])), "{detail}");
    assert!(detail.ends_with(" ago; 3 slices since the newest backup"), "{detail}");
    let none = Place::dir();
    bases(&none, [1]);
    assert_eq!(check(&none).green().row("oplog")["outcome"], "not_configured");
}

#[test]
fn an_old_end_a_barrier_a_break_and_a_chain_without_a_base_are_found() {
    let old = with_slices(|slices| {
        slices.pop();
    });
    check(&old).only(
        "oplog",
        &["the end of the stored oplog is 10 h old, 1 h are allowed", "--skip oplog"],
        &[],
    );
    let barrier = with_slices(|slices| {
        slices[1].barriers = vec![Barrier { at: ago(15), why: "the selection changed".into() }];
    });
    check(&barrier).only("oplog", &["can pass", "the selection changed", "Run `uzima-backup backup`"], &[]);
    let before_the_base = with_slices(|slices| {
        slices[0].barriers = vec![Barrier { at: ago(25), why: "the selection changed".into() }];
    });
    assert_eq!(check(&before_the_base).row("oplog")["outcome"], "ok");
    let missing = with_slices(|slices| {
        slices.remove(1);
    });
    check(&missing).only("oplog", &["are missing", "Run `uzima-backup backup`"], &[]);
    let mut slices = Vec::new();
    let unreadable = with_slices(|made| slices.clone_from(made));
    unreadable.put(&layout::slice(JOB, &slices[0].chain, slices[1].start), b"{");
    check(&unreadable).only("oplog", &["cannot be understood"], &[]);
    let no_base = Place::dir();
    bases(&no_base, [3]);
    let mut slices = chain(&[30, 20, 0]);
    slices[0].gap = Some(OplogGap { from: ago(40), why: "the oplog was too short".into() });
    put(&no_base, &slices);
    let words = ["no good backup can begin a restore", "there is a gap from", "the oplog was too short"];
    check(&no_base).only("oplog", &words, &[]);
}

/// The listing shows it: no body is read.
#[test]
fn a_missing_and_a_shortened_body_are_found_and_lost_events_are_a_warning() {
    let mut slices = Vec::new();
    let place = with_slices(|made| slices.clone_from(made));
    let body = |n: usize| slices[n].body.as_ref().expect("a body").key.clone();
    let path = |key: &str| place.home.backups().join(key);
    // The newest backup begins within the oldest slice.
    std::fs::remove_file(path(&body(0))).expect("a body");
    check(&place).only("oplog", &[&format!("{} is missing", body(0))], &[]);
    place.put(&body(0), b"body");
    place.put(&body(1), b"bod");
    check(&place).only(
        "oplog",
        &[&body(1), "has 3 bytes, but its manifest says 4", "`uzima-backup backup`"],
        &[],
    );
    std::fs::remove_file(path(&body(2))).expect("a body");
    check(&place).only("oplog", &["; 1 more: uzima-backup verify --oplog"], &[]);
    for n in 1..3 {
        place.put(&body(n), b"body");
    }
    assert_eq!(check(&place).row("oplog")["outcome"], "ok");
    let mut last = slices[2].clone();
    let (_, key) = layout::slice_objects(JOB, &last.chain, last.start, "a", false);
    let blake3 = last.end.blake3.clone().expect("a hash");
    last.events = Some(SliceEvents { key: key.clone(), size: 7, blake3 });
    put(&place, &[last]);
    let health = check(&place);
    assert_eq!((health.ran.code, &health.row("oplog")["outcome"]), (Some(0), &"warning".into()));
    assert!(health.detail("oplog").contains(&format!("{key} is missing")), "{}", health.report);
}

/// Slices are stored every ten hours here. A young oplog still grows; one that has lost entries does not.
#[tokio::test(flavor = "multi_thread")]
async fn an_oplog_shorter_than_four_intervals_is_a_warning() {
    let place = with_slices(|_| {});
    let set = Mongod::builder().replica_set("short").oplog_mb(8).arg("--syncdelay=1");
    let server = set.start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let check = || {
        let mut command = place.command();
        Health::of(command.env("MONGO_URI", server.uri()).env("BACKUP_PATIENCE", "10"), &["--only", "oplog"])
    };
    assert_eq!(check().row("oplog")["outcome"], "ok");
    let oldest = async || {
        let oplog = client.database("local").collection::<Document>("oplog.rs");
        let entry = oplog.find_one(doc! {}).sort(doc! {"$natural": 1}).await.expect("an answer");
        entry.expect("an entry").get_timestamp("ts").expect("a time")
    };
    let (begun, flood) = (oldest().await, client.database("other").collection::<Document>("flood"));
    // The server keeps its oplog since the last checkpoint.
    for n in 0.. {
        assert!(n < 300, "the oplog keeps everything");
        flood.insert_many((0..10).map(|_| doc! {"text": "x".repeat(200_000)})).await.expect("rows");
        if oldest().await > begun {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let health = check();
    assert_eq!((health.ran.code, &health.row("oplog")["outcome"]), (Some(0), &"warning".into()));
    let detail = health.detail("oplog");
    assert!(
        detail.starts_with("the server's oplog holds 0 min, and slices are stored every 10 h"),
        "{detail}"
    );
    assert!(health.step("oplog").contains("replSetResizeOplog"), "{}", health.report);
}
