//! Writes during a backup are not part of it, whichever member is read and whatever an application does.

use std::time::{Duration, Instant};

use bson::doc;
use mongodb::Client;
use uzima_backup::base::exit::Exit;
use uzima_backup::config::choices::ConsistencyChoice;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::replica_set::ReplicaSet;
use uzima_testkit::wire_proxy::{Rule, WireProxy};
use uzima_testkit::writers;
use uzima_testkit::writers::{Writers, check};

use super::support::{
    assert_snapshot, change, documents_now, fill, set_behind_a_proxy, snapshot, times_asked, with,
};
use crate::cli::support::{Home, run};
use crate::native::support::{Shelf, failed, insert, meanwhile, rows};

#[tokio::test]
async fn a_snapshot_contains_no_write_that_came_during_the_backup() {
    for (consistency, mixes) in [(ConsistencyChoice::Snapshot, false), (ConsistencyChoice::None, true)] {
        let (server, proxy, client) = set_behind_a_proxy().await;
        fill(&client).await;
        let before = documents_now(&client).await;
        // The first 101 documents of `a` are read; the others and all of `z` are not.
        let rule = Rule::on("find").namespace("d.a").nth(1).then(meanwhile(server.uri(), change));
        let rule = proxy.add(rule);
        let shelf = Shelf::new();
        let report = shelf.run(&proxy.uri(&server.uri()), with(consistency)).await.expect("a backup");
        assert_eq!((proxy.hits(rule), report.exit()), (1, Exit::Done));
        let decoded = shelf.decode(&report);
        let after = documents_now(&client).await;
        assert_ne!(before["d.z"], after["d.z"]);
        let times = times_asked(&proxy);
        if mixes {
            // Without a snapshot, the same test finds the old start of `a` and the new `z`.
            assert_eq!(decoded.get("d.a")[..101], before["d.a"][..101]);
            assert_eq!(decoded.get("d.z"), after["d.z"]);
            assert_eq!(report.manifest.consistency.achieved, "none");
            assert!(times.iter().all(Option::is_none), "{times:?}");
            continue;
        }
        assert_snapshot(&report.manifest);
        assert_eq!(decoded.documents, before);
        assert_eq!(report.manifest.notes, Vec::<String>::new());
        let at = report.manifest.consistency.at.expect("a time").into();
        assert!(times.len() >= 10 && times.iter().all(|time| *time == Some(at)), "{at:?}: {times:?}");
    }
}

#[tokio::test]
async fn an_idle_server_is_read_at_once() {
    let (server, _proxy, client) = set_behind_a_proxy().await;
    fill(&client).await;
    let before = documents_now(&client).await;
    let shelf = Shelf::new();
    for _ in 0..3 {
        let report = shelf.run(&server.uri(), with(ConsistencyChoice::Snapshot)).await.expect("a backup");
        assert_snapshot(&report.manifest);
        assert_eq!(shelf.decode(&report).documents, before);
    }
}

async fn filled(client: &Client) -> anyhow::Result<()> {
    fill(client).await;
    Ok(())
}

#[tokio::test]
async fn a_secondary_is_read_as_of_one_instant() {
    let set = ReplicaSet::builder("pair").start_filled(filled).await.expect("a set");
    let proxy = WireProxy::start(&[set.members[0].host(), set.members[1].host()]).expect("the proxy");
    let primary = set.primary().await.expect("a primary");
    let client = set.client().await.expect("a client");
    let before = documents_now(&client).await;
    let rule = Rule::on("find").namespace("d.a").nth(1).member(1 - primary);
    let rule = proxy.add(rule.then(meanwhile(set.uri(), change)));
    let shelf = Shelf::new();
    let uri = format!("{}&readPreference=secondary", proxy.uri(&set.uri()));
    let report = shelf.run(&uri, snapshot()).await.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(proxy.hits(rule), 1);
    assert_snapshot(&report.manifest);
    assert_eq!(report.manifest.source.member, proxy.host(1 - primary));
    let mut decoded = shelf.decode(&report).documents;
    let mut before = before;
    // The members may store them in different orders.
    before.values_mut().chain(decoded.values_mut()).for_each(|documents| documents.sort());
    assert_eq!(decoded, before);
    assert_ne!(documents_now(&client).await["d.z"].len(), before["d.z"].len());
}

#[tokio::test]
async fn an_instant_without_a_majority_is_not_used() {
    let mut set = ReplicaSet::builder("trio").arbiter().start_filled(filled).await.expect("a set");
    let primary = set.primary().await.expect("a primary");
    set.members[1 - primary].kill();
    let client = set.members[primary].direct_client().await.expect("a client");
    let insert = doc! { "insert": "z", "documents": [{ "_id": -1 }], "writeConcern": { "w": 1 } };
    client.database("d").run_command(insert).await.expect("an insert");
    let shelf = Shelf::new();
    let began = Instant::now();
    let change = |options: &mut uzima_backup::ops::backup::BackupOptions| {
        snapshot()(options);
        options.settings.stall = Duration::from_secs(2);
    };
    let text = failed(shelf.run(&set.uri(), change).await);
    assert!(text.contains("was not on a majority of its members after 2 s"), "{text}");
    assert!(text.contains("rs.status()") && began.elapsed() < Duration::from_secs(30), "{text}");
    shelf.assert_nothing().await;
}

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
        said.says(&["reading as of 2", "which MongoDB keeps for at least 300 s"]);
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
