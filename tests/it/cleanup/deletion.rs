//! A cleanup that dies at any step is completed by the next one. A failure with one object does not stop the
//! others.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;

use chrono::Utc;
use uzima_backup::base::exit::Exit;
use uzima_backup::config::store::DirOptions;
use uzima_backup::ops::cleanup::{CleanupRequest, cleanup};
use uzima_backup::store::{DirStore, Store};
use uzima_testkit::s3_server::{Fault, Rule};

use super::breaking::{Breaking, Death};
use super::clocks::settings;
use super::support::{Place, ids, keys_of, places, with};
use crate::cli::support::TOOL;
use crate::store::support;

async fn store(place: &Place) -> Arc<dyn Store> {
    match &place.bucket {
        Some(bucket) => Arc::new(support::store(bucket).await),
        None => Arc::new(DirStore::new(DirOptions::new(place.home.backups())).expect("a directory")),
    }
}

/// A listed backup must be restorable: all its objects exist.
fn assert_whole(place: &Place, backups: &[uzima_backup::model::manifest::Manifest], when: &str) {
    let (listed, keys) = (place.listed(), place.keys());
    for backup in backups.iter().filter(|backup| listed.contains(backup.id.as_str())) {
        assert!(keys_of(backup).iter().all(|key| keys.contains(key)), "{when}: {}", backup.id);
    }
}

#[tokio::test]
async fn a_cleanup_that_dies_at_any_step_is_completed_by_the_next() {
    for death in [Death::Before, Death::After] {
        let mut died = 0;
        for n in 0.. {
            for place in places() {
                let backups = place.nightly([0, 1, 2, 40, 41]);
                place.put(&uzima_backup::catalog::layout::accepted(&backups[4].id), b"{}");
                let inner = store(&place).await;
                let breaking = Breaking::new(inner.clone(), n, death);
                let report = cleanup(&breaking, &settings(), &CleanupRequest::default(), Utc::now())
                    .await
                    .expect("a report");
                let when = format!("{death:?} {n}");
                assert_whole(&place, &backups, &when);
                assert_eq!(report.exit() == Exit::Done, !breaking.died(), "{when}: {:?}", report.problems);
                died += usize::from(breaking.died());
                let next = cleanup(&*inner, &settings(), &CleanupRequest::default(), Utc::now())
                    .await
                    .expect("a report");
                assert_eq!((next.exit(), next.problems.len()), (Exit::Done, 0), "{when}");
                place.holds(&backups[..3]);
            }
            if died < 2 * (n + 1) {
                break;
            }
        }
        // Two backups: a tombstone, the manifest, the index, the acceptance of one of them, the artifact, the
        // tombstone; and both on two stores.
        assert_eq!(died, 2 * 11, "{death:?}");
    }
}

/// The binary is killed at each system call that changes the directory.
#[test]
fn a_cleanup_killed_at_any_system_call_is_completed_by_the_next() {
    for calls in ["unlink,unlinkat,rmdir", "rename,renameat,renameat2"] {
        let mut killed = 0;
        for n in 1.. {
            let place = Place::dir();
            let backups = place.nightly([0, 1, 2, 40, 41]);
            let tool = place.command();
            let mut traced = Command::new("strace");
            traced.args(["-f", "-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={calls}"));
            traced.arg("-e").arg(format!("inject={calls}:signal=SIGKILL:when={n}")).arg(TOOL).arg("cleanup");
            traced.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
            traced.stderr(Stdio::null());
            traced.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let status = traced.status().unwrap_or_else(|e| panic!("strace is needed ({e})"));
            let when = format!("{calls} {n}: {status}");
            assert_whole(&place, &backups, &when);
            place.run(&["cleanup"]).ends(0);
            place.holds(&backups[..3]);
            if status.success() {
                break;
            }
            killed += 1;
        }
        // strace counts per thread, and which thread makes a call is chance, so the number of kills varies.
        assert!(killed > 0, "{calls}");
    }
}

#[test]
fn an_object_that_cannot_be_deleted_is_reported_and_the_rest_is_deleted() {
    for (which, listed) in [(0, true), (1, false), (2, false)] {
        let place = Place::s3();
        let backups = place.nightly([0, 1, 2, 40, 41, 42]);
        let stuck = keys_of(&backups[4])[which].clone();
        let rule = Rule::always("DeleteObject", Fault::Answer(403, "AccessDenied")).key(&stuck);
        place.bucket().faults().add(rule);
        place.bucket().faults().add(Rule::always("DeleteObjects", Fault::Answer(501, "NotImplemented")));
        let report = place.run(&["cleanup", "--json"]).ends(3).json();
        assert_eq!(with(&report, "failed"), ids(&backups[4..5]));
        assert_eq!(with(&report, "deleted"), [ids(&backups[3..4]), ids(&backups[5..])].concat());
        let problem = report["problems"][0].as_str().expect("a text");
        assert!(problem.contains(&stuck) && problem.contains(backups[4].id.as_str()), "{problem}");
        assert_eq!(place.listed().contains(backups[4].id.as_str()), listed, "{stuck}");
        assert_whole(&place, &backups, &stuck);
        // The object stays and is reported again until it can be deleted.
        place.run(&["cleanup", "--quiet"]).ends(3).says(&["needs a look", &stuck]);
        place.bucket().faults().clear();
        let report = place.run(&["cleanup", "--json"]).ends(0).json();
        assert_eq!(report["finished"].as_array().map(Vec::len), Some(usize::from(!listed)), "{report}");
        place.holds(&backups[..3]);
    }
}

/// In a bucket that keeps versions a deletion frees no space.
#[test]
fn remaining_versions_are_reported() {
    let place = Place::s3();
    let backups = place.nightly([0, 1, 2, 40, 41]);
    place.bucket().keep_versions();
    let report = place.run(&["cleanup", "--json"]).ends(3).json();
    assert_eq!(with(&report, "deleted"), ids(&backups[3..]));
    let problems = report["problems"].as_array().expect("a list");
    let text = problems[0].as_str().expect("a text");
    assert!(problems.len() == 1 && text.contains("their bytes still cost"), "{report}");
    place.holds(&backups[..3]);
    place.run(&["cleanup"]).ends(0);
}

/// A backup is pinned between the plan and the deletion.
#[tokio::test]
async fn a_pin_between_plan_and_deletion_is_respected() {
    let place = Place::dir();
    let backups = place.nightly([0, 1, 2, 40]);
    let breaking = Breaking::new(store(&place).await, usize::MAX, Death::Before).pinning(&backups[3].id);
    let report =
        cleanup(&breaking, &settings(), &CleanupRequest::default(), Utc::now()).await.expect("a report");
    assert_eq!((report.exit(), report.backups[3].reason.as_str()), (Exit::Done, "pinned meanwhile"));
    let mut want: BTreeSet<String> = backups.iter().flat_map(keys_of).collect();
    want.insert(uzima_backup::catalog::layout::pin(&backups[3].id));
    assert_eq!(place.keys(), want);
}
