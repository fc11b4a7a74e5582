//! Chains that end: an oplog that no longer reaches them, a set that was re-created, a freshly synced member, a primary
//! without a majority.

use std::process::Command;
use std::time::Duration;

use bson::{Bson, Document, doc};
use mongodb::Client;
use uzima_backup::catalog::layout;
use uzima_backup::model::optime::OpTime;
use uzima_backup::model::slice::{ChainId, SliceManifest};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::replica_set::ReplicaSet;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::*;
use crate::cli::support::{Home, NOWHERE, run};
use crate::health::support::Health;

async fn insert(client: &Client, from: i32, count: i32, pad: usize) {
    let rows = client.database("live").collection::<Document>("rows");
    let documents = (from..from + count).map(|n| doc! {"_id": n, "pad": "x".repeat(pad)});
    rows.insert_many(documents).await.expect("rows");
}

/// Makes a backup, and a slice whose times are older than the oplog. Returns the slice.
async fn old_chain(home: &Home, server: &Mongod, client: &Client) -> SliceManifest {
    insert(client, 0, 1, 1).await;
    backup(home, &server.uri());
    insert(client, 1, 1, 1).await;
    oplog(home, &server.uri(), 0);
    let old = of_old_times(&one_chain(home)[0]);
    std::fs::remove_dir_all(home.backups().join("oplog")).expect("the slices");
    std::fs::remove_dir_all(home.state()).expect("the state");
    let path = home.backups().join(layout::slice(JOB, &old.chain, old.start));
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    std::fs::write(&path, old.encode().expect("JSON")).expect("a slice");
    old
}

/// A chain whose end is older than the oldest entry of the oplog, as after a long pause of `oplog`.
#[tokio::test]
async fn a_chain_that_the_oplog_no_longer_reaches_is_a_gap_and_ends() {
    let ((server, client), home) = (set().await, Home::new());
    let old = old_chain(&home, &server, &client).await;
    let report = oplog(&home, &server.uri(), 3);
    let problem = report["problems"][0].as_str().expect("a problem");
    assert!(
        problem.starts_with("gap: ") && problem.contains("overflowed: it reaches back only to"),
        "{problem}"
    );
    let slices = slices(&home);
    let new = slices.last().unwrap();
    assert!(slices.len() == 2 && old.chain < new.chain && old.chain.set_id == new.chain.set_id);
    assert_eq!(new.gap.as_ref().expect("a gap").from, old.end.at);
    // The gap is reported once.
    insert(&client, 10, 1, 1).await;
    assert_eq!(oplog(&home, &server.uri(), 0)["chain"], new.chain.to_string());
}

/// The chain began at the newest backup, so a chain that begins there again would have the same keys.
#[tokio::test]
async fn after_an_unreadable_slice_a_newer_chain_begins_and_other_machines_follow_it() {
    let ((server, client), home) = (set().await, Home::new());
    insert(&client, 0, 1, 1).await;
    backup(&home, &server.uri());
    insert(&client, 1, 1, 1).await;
    oplog(&home, &server.uri(), 0);
    let old = one_chain(&home).remove(0);
    // The state of another machine, which knows only the first slice.
    let other = home.state().with_extension("other");
    assert!(Command::new("cp").arg("-a").arg(home.state()).arg(&other).status().expect("cp").success());
    insert(&client, 2, 1, 1).await;
    oplog(&home, &server.uri(), 0);
    let tip = home.backups().join(layout::slice(JOB, &old.chain, one_chain(&home)[1].start));
    std::fs::write(&tip, "{}").expect("a damaged slice");
    insert(&client, 3, 1, 1).await;
    let report = oplog(&home, &server.uri(), 3);
    let problem = report["problems"][0].as_str().expect("a problem");
    assert!(problem.starts_with("gap: ") && problem.contains("cannot be understood"), "{problem}");
    let chain: ChainId = report["chain"].as_str().expect("a chain").parse().expect("a chain");
    assert!(chain > old.chain, "{chain} {}", old.chain);
    std::fs::remove_dir_all(home.state()).expect("the state");
    std::fs::rename(&other, home.state()).expect("the other state");
    insert(&client, 4, 1, 1).await;
    let report = oplog(&home, &server.uri(), 0);
    assert_eq!((&report["chain"], report["entries"].as_u64()), (&chain.to_string().into(), Some(1)));
}

#[tokio::test]
async fn a_set_that_was_re_created_under_its_name_begins_a_new_chain() {
    let ((server, client), home) = (set().await, Home::new());
    insert(&client, 0, 1, 1).await;
    backup(&home, &server.uri());
    insert(&client, 1, 1, 1).await;
    oplog(&home, &server.uri(), 0);
    let old = one_chain(&home)[0].chain.clone();
    let old_end = one_chain(&home).last().expect("a slice").end.at;
    drop((client, server));
    // The entries of the new set are of later seconds, as wherever re-creating a set takes longer than here.
    while chrono::Utc::now().timestamp() <= i64::from(old_end.t) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (server, client) = set().await;
    insert(&client, 100, 1, 1).await;
    // Its backups are of another set, so the chain begins without a base.
    let report = oplog(&home, &server.uri(), 0);
    assert!(
        report["notes"][0].as_str().unwrap().contains("no backup of nightly can be the base"),
        "{report}"
    );
    let chains: std::collections::BTreeSet<_> = slices(&home).into_iter().map(|slice| slice.chain).collect();
    assert_eq!(chains.len(), 2);
    assert!(chains.iter().all(|chain| *chain == old || chain.set_id != old.set_id));
    let health = || Health::of(&mut tool(&home, &server.uri(), &[]), &["--only", "oplog"]);
    health().only("oplog", &["no good backup can begin a restore", "Run `uzima-backup backup`"], &[]);
    // The next backup is its base. Both sets can be restored.
    backup(&home, &server.uri());
    insert(&client, 101, 1, 1).await;
    let report = oplog(&home, &server.uri(), 0);
    assert_ne!(report["chain"], old.to_string());
    let new = home.manifests().pop().expect("a backup").id.to_string();
    let accept = format!("uzima-backup cleanup --accept {new}");
    health().only("oplog", &[&new, "is not good: ", &accept], &[]);
    run(&mut tool(&home, NOWHERE, &["cleanup", "--accept", &new])).ends(0);
    assert_eq!(health().row("oplog")["outcome"], "ok", "{}", health().report);
    let (target, live) = set().await;
    for (at, ids) in [(format!("{}:{}", old_end.t, old_end.i), [0, 1]), ("newest".into(), [100, 101])] {
        let mut restore = tool(&home, NOWHERE, &["restore", "--yes", "--drop", "--at", &at]);
        run(restore.env("RESTORE_URI", target.uri())).ends(0);
        let rows = live.database("live").collection::<Document>("rows").distinct("_id", doc! {}).await;
        assert_eq!(rows.expect("ids"), ids.map(Bson::from));
    }
}

/// The second member has a short oplog: it was synced after the chain began.
#[tokio::test]
async fn another_member_continues_the_chain_of_one_with_a_short_oplog() {
    let home = Home::new();
    let set = ReplicaSet::builder("rs")
        .start_filled(async |client: &Client| {
            insert(client, 0, 1, 1).await;
            let hello = client.database("admin").run_command(doc! {"hello": 1}).await?;
            let uri = format!("mongodb://{}/?replicaSet=rs", hello.get_str("me")?);
            backup(&home, &uri);
            insert(client, 1, 1, 1).await;
            oplog(&home, &uri, 0);
            Ok(())
        })
        .await
        .expect("a set");
    insert(&set.client().await.expect("a client"), 5, 1, 1).await;
    let report = oplog(&home, &set.members[1].direct_uri(), 0);
    assert_eq!(report["member"], set.members[0].host(), "{report}");
    assert!(report["notes"][0].as_str().unwrap().starts_with("read the oplog of "), "{report}");
    one_chain(&home);
}

/// The primary is cut off from the majority, and writes what a failover would undo.
#[tokio::test]
async fn writes_that_no_majority_has_are_never_stored() {
    let set = ReplicaSet::builder("rs").arbiter().start().await.expect("a set");
    let home = Home::new();
    let client = set.client().await.expect("a client");
    insert(&client, 0, 1, 1).await;
    backup(&home, &set.uri());
    insert(&client, 1, 1, 1).await;
    oplog(&home, &set.uri(), 0);
    let mut set = set;
    set.members[1].kill();
    let alone = set.members[0].direct_client().await.expect("a client");
    let insert = doc! {"insert": "rows", "documents": [{"_id": 77}], "writeConcern": {"w": 1}};
    alone.database("live").run_command(insert).await.expect("a write");
    let report = run(&mut tool(&home, &set.members[0].direct_uri(), &["oplog", "--json"])).ends(0).json();
    assert_eq!(report["entries"], 0, "{report}");
    let bodies: Vec<u8> = one_chain(&home).iter().flat_map(|slice| body(&home, slice)).collect();
    let written = oplog_itself(&alone, OpTime { t: 0, i: 0 }, OpTime { t: u32::MAX, i: 0 }).await;
    assert!(written.len() > bodies.len() && !bodies.windows(4).any(|bytes| bytes == 77_i32.to_le_bytes()));
}

/// The new chain after a gap has no slice yet when the oplog overflows again.
#[tokio::test]
async fn a_gap_that_becomes_longer_before_it_is_stored_begins_at_the_end_of_the_chain() {
    let ((server, client), home) = (set().await, Home::new());
    let old = old_chain(&home, &server, &client).await;
    // More than one batch. The new chain begins at the backup.
    insert(&client, 10, 300, 1).await;
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let lost = proxy.add(Rule::on("getMore").namespace("local.oplog.rs").nth(1).then(Action::fail(136)));
    let report = oplog(&home, &proxy.uri(&server.uri()), 3);
    assert_eq!(proxy.hits(lost), 1);
    let gap = slices(&home).last().expect("a slice").gap.clone().expect("a gap");
    assert_eq!(gap.from, old.end.at, "{report}");
    assert!(gap.why.contains("overflowed while it was read"), "{gap:?}");
}

/// Two machines began a chain each at nearly the same time. Soon both continue the newer one.
#[tokio::test]
async fn machines_that_began_different_chains_meet_in_the_newer_one() {
    let ((server, client), home, other) = (set().await, Home::new(), Home::new());
    insert(&client, 0, 1, 1).await;
    oplog(&home, &server.uri(), 0);
    insert(&client, 1, 1, 1).await;
    oplog(&other, &server.uri(), 0);
    let (older, newer) = (one_chain(&home)[0].chain.clone(), one_chain(&other)[0].chain.clone());
    assert!(older < newer, "{older} {newer}");
    let copied = Command::new("cp").arg("-a").arg(other.backups().join("oplog")).arg(home.backups()).status();
    assert!(copied.expect("cp").success());
    insert(&client, 2, 1, 1).await;
    let report = oplog(&home, &server.uri(), 0);
    assert_eq!((&report["chain"], &report["entries"]), (&newer.to_string().into(), &1.into()), "{report}");
}
