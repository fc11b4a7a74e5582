//! Backups during continuous random writes are restored and checked against the writers' invariants.

use std::time::Duration;

use uzima_testkit::official::Official;
use uzima_testkit::wire_proxy::{Action, Rule};
use uzima_testkit::writers::{self, Writers, check};

use super::support::{by_mongorestore, by_restore, set, slice};
use crate::cli::support::{Home, run};
use crate::restore::support::Backup;

/// Makes these backups while the writers write. Each takes several rounds of the writers.
async fn backups(kinds: &[Vec<&str>], mongodump: &str) -> (Vec<Backup>, writers::Report) {
    let (server, proxy, _client) = set().await;
    let options = writers::Options { pause: Duration::from_millis(1), ..writers::Options::default() };
    let mut writers = Writers::start(&server.uri(), options).await.expect("writers");
    // Until then there is a collection to drop, and an index to build.
    writers.wait_for_rounds(60).await.expect("rounds");
    proxy.add(Rule::on("find").namespace("live.*").then(Action::Stall(Duration::from_millis(100))));
    let mut made = Vec::new();
    for args in kinds {
        let before = writers.rounds();
        let home = Home::new();
        let mut command = home.to_dir(&proxy.uri(&server.uri()));
        run(command.env("MONGODUMP_PATH", mongodump).arg("backup").args(args)).ends(0);
        let manifest = home.manifests().pop().expect("a manifest");
        let backup = Backup { home, manifest };
        let rounds = writers.rounds() - before;
        let slice = slice(&backup.manifest);
        println!("{args:?}: {rounds} rounds of the writers, {} entries", slice.entries);
        assert!(rounds >= 3 && slice.entries >= 9, "{args:?}: nothing was written meanwhile");
        made.push(backup);
    }
    (made, writers.stop().await.expect("writers without an error"))
}

#[tokio::test(flavor = "multi_thread")]
async fn native_backups_are_of_one_instant() {
    let kinds = [vec![], vec!["--db", "live"], vec![], vec!["--include", "live.*", "--include", "other.*"]];
    let (made, report) = backups(&kinds, "/none").await;
    for (backup, args) in made.iter().zip(&kinds) {
        let (_target, client) = by_restore(backup).await;
        let wrong = check(&client, "live", &report, true).await.expect("a check");
        assert_eq!(wrong, Vec::<String>::new(), "{args:?}");
    }
}

/// Both engines, all formats. With the mongodump engine the slice is mongodump's own.
#[tokio::test(flavor = "multi_thread")]
async fn mongorestore_finds_one_instant() {
    let name = "consistency::writing::mongorestore_finds_one_instant";
    let Some(tools) = Official::find(name) else { return };
    let mongodump = tools.mongodump.display().to_string();
    let mut kinds = Vec::new();
    for format in ["tar.gz", "tar.zst", "archive.gz", "archive.zst"] {
        for engine in ["native", "mongodump"] {
            kinds.push(vec!["--engine", engine, "--format", format]);
        }
    }
    // mongodump has no slice of one database.
    kinds.push(vec!["--engine", "mongodump", "--db", "live"]);
    let (made, report) = backups(&kinds, &mongodump).await;
    for (backup, args) in made.iter().zip(&kinds) {
        let (_target, client) = by_mongorestore(backup, &tools, &["--oplogReplay"]).await;
        let wrong = check(&client, "live", &report, true).await.expect("a check");
        assert_eq!(wrong, Vec::<String>::new(), "{args:?}");
    }
    println!("{} backups were restored by mongorestore, and each is of one instant", made.len());
}
