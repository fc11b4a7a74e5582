//! The replay of an oplog slice of a stored backup, and of a recorded `--oplog` dump of the official tool.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bson::{Document, doc};
use mongodb::Client;
use serde_json::json;
use uzima_backup::model::index::{Index, Segment};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;
use uzima_testkit::read_all::read_all;
use uzima_testkit::wire_proxy::{Rule, WireProxy};
use uzima_testkit::writers;
use uzima_testkit::writers::Report;

use super::support::{commands, source};
use crate::cli::support::{Home, run};
use crate::native::support::{insert, meanwhile, rows};
use crate::restore::support::{Backup, differences, rows as few, server, server as empty};

/// A backup during which, between two batches of `orders` and of `items`, a document got a unique value that
/// another document had before.
pub async fn written_to(args: &[&str]) -> (Backup, Mongod) {
    let (server, client) = source().await;
    insert(&client, "shop", "orders", &rows(0, 1_500, 2_000)).await;
    few(&client, "shop", "items", 0..10).await;
    let index = doc! {"key": {"code": 1}, "name": "code_1", "unique": true, "sparse": true};
    commands(
        &client,
        "shop",
        vec![
            doc! {"update": "orders", "updates": [{"q": {"_id": 3}, "u": {"$set": {"code": 7}}}]},
            doc! {"createIndexes": "orders", "indexes": [index]},
        ],
    )
    .await;
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let during = proxy.add(Rule::on("getMore").namespace("shop.orders").nth(1).then(meanwhile(
        server.uri(),
        async |client: mongodb::Client| {
            let shop = client.database("shop");
            let orders = shop.collection::<Document>("orders");
            orders.update_one(doc! {"_id": 3}, doc! {"$unset": {"code": ""}}).await.expect("it is free");
            orders.update_one(doc! {"_id": 1_490}, doc! {"$set": {"code": 7}}).await.expect("it is taken");
            shop.collection("items").insert_one(doc! {"_id": 77}).await.expect("an item");
        },
    )));
    let backup = Backup::at(&proxy.uri(&server.uri()), args);
    assert_eq!(proxy.hits(during), 1);
    (backup, server)
}

/// The segments of the oplog slice.
fn segments(backup: &Backup) -> Vec<Segment> {
    let index = std::fs::read(backup.home.backups().join(&backup.manifest.index.key)).expect("the index");
    let place = backup.manifest.slice_place().expect("a slice");
    let index = Index::decode(&index).expect("an index");
    index.segments.into_iter().filter(|segment| segment.namespace == place).collect()
}

/// Until the replay, two documents have the same value of a unique index.
#[tokio::test(flavor = "multi_thread")]
async fn a_unique_value_that_moved_between_documents_is_replayed() {
    for format in ["tar.gz", "archive.zst"] {
        let (backup, server) = written_to(&["--db", "shop", "--format", format]).await;
        let original = server.client().await.expect("a client");
        let (target, live) = empty().await;
        let plan = run(backup.restore_into(&target).args(["--dry-run", "--json"])).ends(0).json();
        let at = backup.manifest.consistency.at.expect("an instant");
        assert_eq!(plan["at"], json!({"t": at.t, "i": at.i}));
        assert_eq!(plan["replay"]["operations"], 3, "{plan}");
        run(backup.restore_into(&target).args(["--at", &at.to_string()])).ends(0);
        let (wanted, found) = (
            read_all(&original).await.expect("a snapshot of the server"),
            read_all(&live).await.expect("a snapshot of the server"),
        );
        assert_eq!(wanted.diff(&found), Vec::<String>::new(), "{format}");
        // Without the replay the documents break the index, which is reported.
        run(backup.restore_into(&target).args(["--drop", "--no-replay", "--quiet"]))
            .ends(1)
            .says(&["'code_1'"]);
        // A restore of one collection is of the same instant.
        let (target, live) = empty().await;
        run(backup.restore_into(&target).arg("--ns-include=shop.items")).ends(0);
        assert_eq!(read_all(&live).await.expect("a snapshot of the server").documents(), 11);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_slice_is_found_before_anything_is_touched() {
    for format in ["tar.gz", "archive.zst"] {
        let (backup, _server) = written_to(&["--db", "shop", "--format", format]).await;
        let (target, live) = empty().await;
        let file =
            std::fs::OpenOptions::new().write(true).read(true).open(backup.artifact()).expect("the artifact");
        let [segment] = &segments(&backup)[..] else { panic!("a short slice") };
        for at in (segment.offset + 12..segment.offset + segment.length).step_by(23) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("a byte");
            // A single bit may be padding at the end of a deflate block, and then nothing is damaged.
            file.write_all_at(&[!byte[0]], at).expect("a byte");
            run(&mut backup.restore_into(&target)).ends(4).says(&["oplog slice"]);
            file.write_all_at(&byte, at).expect("a byte");
        }
        assert_eq!(read_all(&live).await.expect("a snapshot of the server").documents(), 0, "{format}");
        run(&mut backup.restore_into(&target)).ends(0);
    }
}

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
