//! Every backup that is made while an application writes restores to one instant.

use std::time::Duration;

use uzima_testkit::mongod::Mongod;
use uzima_testkit::writers::{self, Writers, check};

use super::support::assert_snapshot;
use crate::cli::support::{Home, run};
use crate::native::support::{insert, rows};

/// `tmp1` is created in round 50 and dropped in round 70. After that no collection is dropped, and no run may
/// lose its snapshot.
const DROPPED: u64 = 75;
const BACKUPS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn every_backup_restores_to_one_instant() {
    let source = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let target = Mongod::builder().start().await.expect("mongod");
    let restored = target.client().await.expect("a client");
    let client = source.client().await.expect("a client");
    // More collections than are opened at once, so that time passes between `counter` and `log`, and between
    // `t1` and `t2`.
    for between in ["g", "t1_"] {
        for n in 0..8 {
            insert(&client, "live", &format!("{between}{n}"), &rows(0, 500, 2_000)).await;
        }
    }
    let options = writers::Options { pause: Duration::from_millis(1), ..Default::default() };
    let mut writers = Writers::start(&source.uri(), options).await.expect("the writers");
    writers.wait_for_rounds(DROPPED).await.expect("rounds");
    let home = Home::new();
    let (mut times, mut wrong, mut busy) = (Vec::new(), Vec::new(), 0);
    for n in 0..BACKUPS {
        let formats = ["tar.zst", "archive.gz"];
        let before = writers.rounds();
        let args = ["backup", "--consistency", "snapshot", "--format", formats[n % 2]];
        let said = run(home.to_dir(&source.uri()).args(args)).ends(0);
        said.says(&["all is read as of 2", "which MongoDB keeps for 300 s at least"]);
        busy += usize::from(writers.rounds() > before);
        let manifest = home.manifests().pop().expect("a manifest");
        assert_snapshot(&manifest);
        times.push(manifest.consistency.at);
        let mut restore = home.to_dir("mongodb://127.0.0.1:1");
        restore.env("RESTORE_URI", target.uri());
        run(restore.args(["restore", "latest", "--yes", "--drop"])).ends(0);
        // The number of untouched documents is known only when the writers have ended.
        let nothing = writers::Report { rounds: 0, untouched: Vec::new() };
        wrong.extend(check(&restored, "live", &nothing, true).await.expect("a check"));
    }
    let report = writers.stop().await.expect("the writers");
    wrong.extend(check(&restored, "live", &report, true).await.expect("a check"));
    assert_eq!(wrong, Vec::<String>::new());
    assert!(times.is_sorted_by(|a, b| a <= b), "{times:?}");
    println!("{BACKUPS} backups during {} rounds", report.rounds);
    // A round can take longer than one backup, but not longer than most.
    assert!(busy > BACKUPS / 2, "the writers wrote during {busy} of {BACKUPS} backups only");
}
