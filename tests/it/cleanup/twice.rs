//! Two clean-ups of one job at the same time, on two hosts, converge.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use uzima_testkit::s3_server::{Fault, Rule};

use super::support::{Place, ids, with};
use crate::cli::locks::end;
use crate::cli::signals::{STALL, ends_by, start, until};
use crate::cli::support::{Home, run};

/// Each is slowed down at other calls, so that they overtake one another anywhere.
#[test]
fn both_end_and_leave_one_state() {
    for seed in 0..6 {
        let (place, other) = (Place::s3(), Home::new());
        let all = place.nightly((0..12).map(|n| n * 10));
        for slow in ["PutObject", "DeleteObject", "DeleteObjects", "ListObjectsV2", "GetObject"] {
            let delay = Fault::Delay(Duration::from_millis(60));
            place.bucket().faults().add(Rule::chance(0.4, seed, slow, delay));
        }
        let started = [place.home.state(), other.state()].map(|state| {
            let mut command = place.command();
            command.args(["cleanup", "--force", "--json"]).env("UZIMA_BACKUP_STATE_DIR", state);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
        });
        let ran = started.map(end);
        for ran in &ran {
            // What the other one took away meanwhile may need a look; a failure it is not.
            assert!(matches!(ran.code, Some(0 | 3)), "{seed}: {ran:?}");
        }
        let deleted: usize = ran.iter().map(|ran| with(&ran.json(), "deleted").len()).sum();
        assert!(deleted >= 9, "{seed}: {deleted} of 9 were deleted");
        place.bucket().faults().clear();
        let mut command = place.command();
        let third = run(command.args(["cleanup", "--json"])).ends(0).json();
        assert_eq!((&third["problems"], &third["orphans"]), (&json!([]), &json!([])), "{seed}");
        assert_eq!(with(&third, "kept"), ids(&all[..3]), "{seed}");
        place.holds(&all[..3]);
    }
}

/// On one host the second ends at once, or waits for the first and finds nothing left to do.
#[test]
fn on_one_host_the_second_waits_if_it_may() {
    let place = Place::s3();
    let all = place.nightly((0..12).map(|n| n * 10));
    place.bucket().faults().add(Rule::first(1, "DeleteObjects", Fault::Delay(Duration::from_secs(4))));
    let mut command = place.command();
    command.args(["cleanup", "--force", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let first = command.spawn().expect("it starts");
    until("it deletes", || place.bucket().count("DeleteObjects") > 0);
    place.run(&["cleanup"]).ends(75).says(&["another cleanup of all@db1 is under way: process "]);
    place.run(&["cleanup", "--dry-run", "--force"]).ends(0);
    let second = place.run(&["cleanup", "--wait", "1m", "--json"]).ends(0).json();
    assert_eq!(end(first).code, Some(0));
    assert_eq!((with(&second, "deleted"), with(&second, "kept")), (vec![], ids(&all[..3])));
}

/// Row 38 for a clean-up: each of the three ends it in the middle, and the next one finishes.
#[test]
fn a_signal_ends_it_and_the_next_finishes() {
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGINT, 130), (libc::SIGHUP, 129)] {
        let place = Place::s3();
        let all = place.nightly((0..12).map(|n| n * 10));
        // After the manifests.
        place.bucket().faults().add(Rule::from(1, "DeleteObjects", Fault::Delay(STALL)));
        let mut command = place.command();
        let child = start(command.args(["cleanup", "--force"]));
        until("it deletes", || place.bucket().count("DeleteObjects") > 1);
        ends_by(child, signal, code);
        place.bucket().faults().clear();
        let next = place.run(&["cleanup", "--force", "--json"]).ends(0).json();
        assert_eq!(next["finished"].as_array().map(Vec::len), Some(9), "{next}");
        place.holds(&all[..3]);
    }
}
