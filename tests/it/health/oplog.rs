//! The check of the stored oplog: old ends, gaps, barriers and missing slices, and a server's oplog that is short.

use uzima_backup::catalog::layout;
use uzima_backup::model::slice::{Barrier, OplogGap, SliceManifest};

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
    let unreadable = with_slices(|_| {});
    let slices = chain(&[30, 20, 10, 0]);
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
