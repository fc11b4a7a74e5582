//! Backups during continuous writes, restored and checked for invariants that hold at every instant.

use std::time::Duration;

use uzima_testkit::mongod::Version;
use uzima_testkit::wire_proxy::{Action, Rule};
use uzima_testkit::writers::{Options, Report, Writers, check};

use super::support::{FORMATS, chosen, format_of, set, upgrades, versions};
use crate::cli::support::run;
use crate::consistency::support::behind;
use crate::restore::support::Backup;

/// Backs up a replica set with this consistency while the writers write.
pub async fn backup(version: Version, consistency: &str, format: &str) -> (Backup, Report) {
    let (server, _) = set(version).await;
    let (proxy, _client) = behind(&server).await;
    // If a collection is dropped while a snapshot is read, the backup starts once more, with an oplog slice.
    let ddl = consistency != "snapshot";
    let options = Options { pause: Duration::from_millis(1), ddl, ..Options::default() };
    let mut writers = Writers::start(&server.uri(), options).await.expect("writers");
    // Wait until there are collections for the writers to drop, and indexes for them to build.
    writers.wait_for_rounds(60).await.expect("rounds");
    proxy.add(Rule::on("find").namespace("live.*").then(Action::Stall(Duration::from_millis(100))));
    let before = writers.rounds();
    let args = ["--consistency", consistency, "--format", format];
    let backup = Backup::at(&proxy.uri(&server.uri()), &args);
    let rounds = writers.rounds() - before;
    assert!(rounds >= 3, "{version} {consistency}: nothing was written meanwhile");
    assert_eq!(backup.manifest.consistency.achieved, consistency, "{}", backup.manifest.consistency.why);
    (backup, writers.stop().await.expect("writers without an error"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_writers_is_of_one_instant_on_every_version() {
    let mut all = Vec::new();
    for (from, to) in upgrades() {
        // MongoDB 4.4 has no snapshot reads outside transactions.
        let consistencies = if from >= Version::V5_0_32 { &["oplog", "snapshot"][..] } else { &["oplog"] };
        for consistency in consistencies {
            all.extend(FORMATS.map(|format| (from, to, *consistency, format)));
        }
    }
    let (oldest, newest) = (versions()[0], versions()[versions().len() - 1]);
    let chosen = chosen("writers", all, |(from, to, consistency, format)| {
        let within = from == to && (*consistency == "oplog" || *from == newest);
        *format == format_of(*from) && (within || (*from, *to, *consistency) == (oldest, newest, "oplog"))
    });
    for (from, to, consistency, format) in chosen {
        let (backup, report) = backup(from, consistency, format).await;
        let (target, client) = set(to).await;
        run(&mut backup.restore_into(&target)).ends(0);
        let wrong = check(&client, "live", &report, true).await.expect("a check");
        assert_eq!(wrong, Vec::<String>::new(), "{from} → {to} {consistency} {format}");
        let entries = backup.manifest.consistency.oplog.as_ref().map_or(0, |slice| slice.entries);
        println!("{from} → {to} {consistency} {format}: one instant, {entries} entries replayed");
    }
}
