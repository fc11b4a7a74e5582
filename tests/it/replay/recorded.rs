//! A dump by the official tool with `--oplog`, recorded while `writers.py` wrote (mongodump 100.18.0).

use std::path::{Path, PathBuf};
use std::process::Command;

use mongodb::Client;
use uzima_testkit::official::Official;
use uzima_testkit::writers::{self, Report};

use crate::cli::support::{Home, run};
use crate::restore::support::{differences, server};

fn recording() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mongodump-100.18.0/oplog.archive.gz")
}

/// The invariants of the writers' database that do not hold at one instant.
async fn wrong(client: &Client) -> Vec<String> {
    let report = Report { rounds: 0, untouched: Vec::new() };
    writers::check(client, "live", &report, true).await.expect("the writers' database")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_recording_is_of_one_instant() {
    let home = Home::new();
    let restore = |uri: String, args: &[&str]| {
        let mut command = home.tool();
        command.env("RESTORE_URI", uri).args(["restore", "--yes", "--json", "--from"]).arg(recording());
        run(command.args(args))
    };
    let (target, live) = server().await;
    let report = restore(target.uri(), &[]).ends(0).json();
    assert_eq!(wrong(&live).await, Vec::<String>::new());
    let replayed = &report["replayed"];
    assert!(replayed["operations"].as_u64() > Some(100), "{replayed}");
    // The recording needs its oplog: without the replay the invariants do not hold.
    let (fuzzy, as_read) = server().await;
    let report = restore(fuzzy.uri(), &["--no-replay"]).ends(0).json();
    assert_eq!((&report["replayed"], &report["at"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert_ne!(wrong(&as_read).await, Vec::<String>::new());
    // Replaying over later data changes nothing.
    restore(target.uri(), &["--drop"]).ends(0);
    assert_eq!(wrong(&live).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_gives_the_same_result_as_mongorestore() {
    let Some(official) = Official::find("a_replay_gives_the_same_result_as_mongorestore") else { return };
    let home = Home::new();
    let ((target, ours), (other, theirs)) = (server().await, server().await);
    let mut command = home.tool();
    command.env("RESTORE_URI", target.uri()).args(["restore", "--yes", "--from"]).arg(recording());
    run(&mut command).ends(0);
    let mut command = Command::new(official.mongorestore);
    let archive = format!("--archive={}", recording().display());
    let args = ["--oplogReplay", "--bypassDocumentValidation", "--gzip"];
    run(command.args(["--uri", &other.uri()]).args(args).arg(archive)).ends(0);
    assert_eq!(differences(&theirs, &ours).await, Vec::<String>::new());
}
