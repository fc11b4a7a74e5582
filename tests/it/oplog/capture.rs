//! The slices have exactly the entries of the oplog, and a run on an idle server costs little.

use std::time::Duration;

use bson::{Document, doc};
use uzima_backup::catalog::chain::SliceEntry;
use uzima_backup::catalog::reach::ChainHistory;
use uzima_backup::model::id::BackupId;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::S3Server;
use uzima_testkit::writers::{Options, Writers};

use super::support::*;
use crate::cli::s3::to_s3;
use crate::cli::support::{Home, NOWHERE, run};

#[tokio::test]
async fn the_bodies_of_a_chain_are_the_oplog() {
    let ((server, client), home) = (set().await, Home::new());
    let options = Options { renames: true, ..Options::default() };
    let mut writers = Writers::start(&server.uri(), options.clone()).await.expect("writers");
    // A backup under way cannot have the rename of a collection.
    let quiet = writers.stop().await;
    quiet.expect("writers");
    backup(&home, &server.uri());
    writers = Writers::start(&server.uri(), options).await.expect("writers");
    for rounds in [20, 60, 100] {
        writers.wait_for_rounds(rounds).await.expect("rounds");
        let report = oplog(&home, &server.uri(), 0);
        assert_eq!(report["slices"].as_array().map(Vec::len), Some(1), "{report}");
    }
    writers.stop().await.expect("writers");
    oplog(&home, &server.uri(), 0);
    let slices = one_chain(&home);
    let base = home.manifests()[0].consistency.clone();
    let from = base.base.as_ref().expect("a base").from;
    assert_eq!((slices[0].start, slices[0].chain.start, slices[0].gap.is_none()), (from, from, true));
    let last = slices.last().unwrap().end.at;
    assert!(slices[0].start <= base.at.unwrap() && base.at.unwrap() <= last);
    let bodies: Vec<u8> = slices.iter().flat_map(|slice| body(&home, slice)).collect();
    assert!(bodies == oplog_itself(&client, from, last).await, "the bodies differ from the oplog");
    assert!(bodies == by_stock_zstd(&home, &slices));
    assert!(slices.iter().all(|slice| slice.barriers.is_empty()), "renames within the selection");
    let changes: Vec<String> =
        slices.iter().flat_map(|slice| events(&home, slice).changes).map(|change| change.command).collect();
    for command in ["create", "drop", "renameCollection", "createIndexes"] {
        assert!(changes.iter().any(|change| change == command), "{command}: {changes:?}");
    }
    let entries: Vec<SliceEntry> =
        slices.into_iter().map(|slice| SliceEntry::Slice(Box::new(slice))).collect();
    let history = ChainHistory::of(&entries);
    assert_eq!((history.parts.len(), history.breaks.len()), (1, 0));
}

/// 18 MiB in one transaction, which has several entries.
#[tokio::test]
async fn a_transaction_larger_than_an_entry_is_stored() {
    let ((server, client), home) = (set().await, Home::new());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": -1}).await.expect("a row");
    backup(&home, &server.uri());
    oplog(&home, &server.uri(), 0);
    let mut session = client.start_session().await.expect("a session");
    session.start_transaction().await.expect("a transaction");
    for n in 0..18 {
        rows.insert_one(doc! {"_id": n, "pad": "x".repeat(1 << 20)})
            .session(&mut session)
            .await
            .expect("a row");
    }
    session.commit_transaction().await.expect("a commit");
    let report = oplog(&home, &server.uri(), 0);
    assert!(report["raw_bytes"].as_u64() > Some(18 << 20), "{report}");
    let slices = one_chain(&home);
    let bodies: Vec<u8> = slices.iter().flat_map(|slice| body(&home, slice)).collect();
    assert!(bodies == oplog_itself(&client, slices[0].start, slices.last().unwrap().end.at).await);
    let inserts: u64 = slices.iter().flat_map(|slice| events(&home, slice).minutes).map(|m| m.inserts).sum();
    assert_eq!(inserts, 18, "without the insert before the backup");
}

#[tokio::test]
async fn a_dry_run_stores_nothing_and_says_how_much_it_would() {
    let ((server, client), home) = (set().await, Home::new());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": -1}).await.expect("a row");
    backup(&home, &server.uri());
    rows.insert_many((0..100).map(|n| doc! {"_id": n})).await.expect("rows");
    let before = home.files();
    let planned = run(&mut tool(&home, &server.uri(), &["oplog", "--dry-run", "--json"])).ends(0).json();
    assert_eq!(home.files(), before);
    assert_eq!(planned["entries"], 100);
    let done = oplog(&home, &server.uri(), 0);
    assert_eq!((&done["entries"], &done["stored_bytes"]), (&planned["entries"], &planned["stored_bytes"]));
}

/// No other command takes slices for backups, orphans or foreign files, and recipes that search for `manifest.json` find the
/// newest backup.
#[tokio::test]
async fn slices_beside_backups_change_no_other_command() {
    let ((server, client), home) = (set().await, Home::new());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");
    backup(&home, &server.uri());
    let shown = |args: &[&str]| {
        let mut json = run(&mut tool(&home, NOWHERE, args)).ends(0).json();
        // Times that pass, and the slices themselves.
        json.as_object_mut()
            .unwrap()
            .retain(|key, _| !["now", "at", "notes", "oplog"].contains(&key.as_str()));
        json
    };
    let commands: [&[&str]; 2] = [&["list", "--json"], &["cleanup", "--orphans", "--dry-run", "--json"]];
    let before = commands.map(shown);
    rows.insert_one(doc! {"_id": 2}).await.expect("a row");
    oplog(&home, &server.uri(), 0);
    assert_eq!(commands.map(shown), before);
    let verified = run(&mut tool(&home, NOWHERE, &["verify", "--all", "--json"])).ends(0).json();
    assert_eq!(verified["backups"].as_array().map(Vec::len), Some(1));
    let files = home.files();
    run(&mut tool(&home, NOWHERE, &["cleanup", "--orphans"])).ends(0);
    assert_eq!(home.files(), files);
    run(&mut tool(&home, NOWHERE, &["stats"])).ends(0);
    let manifests = files.iter().filter(|file| file.ends_with("manifest.json")).count();
    assert_eq!(manifests, 1, "{files:?}");
}

/// The objects that version 0.1.0 lists, deletes or takes for orphans: its `catalog::layout::parse`.
fn belongs_to_a_backup_for_0_1_0(key: &str) -> bool {
    let Some((folders, _)) = key.rsplit_once('/') else { return false };
    let id = folders.rsplit('/').next().and_then(|name| name.parse::<BackupId>().ok());
    id.is_some_and(|id| folders == format!("{}/{id}", id.started().format("%Y/%m")))
}

#[tokio::test]
async fn version_0_1_0_takes_slices_for_foreign_objects() {
    let ((server, client), home) = (set().await, Home::new());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");
    backup(&home, &server.uri());
    let backups = home.files();
    rows.insert_one(doc! {"_id": 2}).await.expect("a row");
    oplog(&home, &server.uri(), 0);
    let all = home.files();
    assert!(all.len() > backups.len(), "{all:?}");
    let seen: Vec<String> = all.into_iter().filter(|key| belongs_to_a_backup_for_0_1_0(key)).collect();
    assert_eq!(seen, backups);
}

#[tokio::test]
async fn an_idle_server_costs_few_requests() {
    let ((server, client), home) = (set().await, Home::new());
    let bucket = S3Server::start();
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");
    let tool = |args: &[&str]| {
        let mut command = to_s3(&home, &server.uri(), &bucket);
        command.env("BACKUP_JOB", JOB).env("BACKUP_DATABASES", "live").args(args);
        run(&mut command).ends(0)
    };
    tool(&["backup"]);
    tool(&["oplog"]);
    let requests = |expected: &str| {
        let before = bucket.calls().len();
        let report = tool(&["oplog", "--json"]).json();
        let calls: Vec<String> =
            bucket.calls()[before..].iter().map(|call| call.operation.to_string()).collect();
        (report[expected].clone(), calls)
    };
    rows.insert_one(doc! {"_id": 2}).await.expect("a row");
    let (entries, calls) = requests("entries");
    assert_eq!((entries.as_u64(), calls.len() <= 6), (Some(1), true), "{calls:?}");
    // The server writes a no-op every 10 s. A run right after another one finds nothing.
    let mut least = usize::MAX;
    for _ in 0..4 {
        let (slices, calls) = requests("slices");
        if slices.as_array().is_some_and(Vec::is_empty) {
            least = least.min(calls.len());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(least, 2);
}

#[tokio::test]
async fn a_changed_selection_is_a_barrier() {
    let ((server, client), home) = (set().await, Home::new());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");
    backup(&home, &server.uri());
    rows.insert_one(doc! {"_id": 2}).await.expect("a row");
    oplog(&home, &server.uri(), 0);
    rows.insert_one(doc! {"_id": 3}).await.expect("a row");
    let mut changed = tool(&home, &server.uri(), &["oplog", "--json"]);
    let report = run(changed.env("BACKUP_EXCLUDE", "live.tmp*")).ends(3).json();
    assert!(report["problems"][0].as_str().unwrap().contains("the selection of the job changed"), "{report}");
    let slices = one_chain(&home);
    assert_eq!(slices[1].barriers[0].at, slices[0].end.at.after());
    // It is reported once.
    rows.insert_one(doc! {"_id": 4}).await.expect("a row");
    let mut again = tool(&home, &server.uri(), &["oplog", "--json"]);
    run(again.env("BACKUP_EXCLUDE", "live.tmp*")).ends(0);
}

#[tokio::test]
async fn a_standalone_server_and_a_partial_selection_are_refused() {
    let (server, home) = (Mongod::builder().start().await.expect("mongod"), Home::new());
    run(&mut tool(&home, &server.uri(), &["oplog"])).ends(1).says(&["has no oplog", "rs.initiate()"]);
    run(&mut tool(&home, &server.uri(), &["oplog", "--db", "live", "--exclude", "live.x"]))
        .ends(2)
        .says(&["the flags choose less", "--job"]);
    assert_eq!(home.files(), Vec::<String>::new());
}
