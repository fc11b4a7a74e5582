//! Two cleanups of one job at the same time, on two hosts.

use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use uzima_testkit::s3_server::{Fault, Rule};

use super::support::{Place, ids, with};
use crate::cli::locks::end;
use crate::cli::signals::{STALL, ends_by, start, until};
use crate::cli::support::{Home, run};

/// Each cleanup is slowed down at different calls, so that they overtake one another at random points.
#[test]
fn two_cleanups_on_two_hosts_end_in_the_same_state() {
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
            // An object that the other cleanup deleted may need a look, but is no failure.
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

/// On one host the second cleanup exits at once, or waits for the first and finds nothing left to do.
#[test]
fn a_second_cleanup_on_one_host_exits_or_waits() {
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

/// Each of the three signals ends a cleanup in the middle, and the next one completes it.
#[test]
fn a_cleanup_ended_by_a_signal_is_completed_by_the_next() {
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
