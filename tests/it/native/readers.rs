//! Several readers read one collection at once, and the backup has every document once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bson::oid::ObjectId;
use bson::{Bson, RawDocument, RawDocumentBuf, Timestamp, doc, rawdoc};
use mongodb::Client;
use rand::SeedableRng;
use rand::prelude::{Rng, RngExt, StdRng};
use uzima_backup::config::choices::{ConsistencyChoice, ReadersChoice};
use uzima_backup::ops::backup::{BackupOptions, BackupReport};
use uzima_testkit::mongod::{Mongod, Version, connect};
use uzima_testkit::read_all::{read_cursor, read_documents};
use uzima_testkit::wire_proxy::{Action, Gate, Rule, WireProxy};

use super::support::{Shelf, ids, insert, meanwhile, rows};
use crate::cli::support::{Home, run};
use crate::consistency::support::by_restore;
use crate::restore::support::Backup;

const COUNTS: [usize; 4] = [1, 2, 4, 16];
/// A batch has about 200 documents of this length, or 400 if the round trip is long, and a range has 4 batches.
const PAD: usize = 5_000;
/// Enough for several ranges.
const DOCUMENTS: i32 = 5_000;

/// `_id`s of five types, which no comparison of `_id`s orders as the record ids are.
fn mixed(n: i32) -> Bson {
    match n % 5 {
        0 => Bson::Int32(n),
        1 => Bson::String(format!("{:08x}", n.wrapping_mul(0x9e37_79b1_u32 as i32))),
        2 => Bson::Double(f64::from(-n) / 4.0),
        3 => Bson::Document(doc! { "of": n }),
        _ => {
            let mut bytes = [7; 12];
            bytes[4..8].copy_from_slice(&n.reverse_bits().to_be_bytes());
            Bson::ObjectId(ObjectId::from_bytes(bytes))
        }
    }
}

fn document(n: i32) -> RawDocumentBuf {
    let document = doc! { "_id": mixed(n), "n": n, "pad": "x".repeat(PAD) };
    RawDocumentBuf::try_from(document).expect("BSON")
}

/// `dense` has a document at every record id, `sparse` has gaps, `capped` has an order, and `clustered` has binary record ids.
async fn fill(client: &Client, version: Version) {
    let d = client.database("d");
    let all: Vec<_> = (0..DOCUMENTS).map(document).collect();
    insert(client, "d", "dense", &all).await;
    insert(client, "d", "sparse", &all).await;
    d.collection::<RawDocumentBuf>("sparse")
        .delete_many(doc! { "$or": [{ "n": { "$mod": [7, 3] } }, { "n": { "$mod": [10, 1] } }] })
        .await
        .expect("a delete");
    d.run_command(doc! { "create": "capped", "capped": true, "size": 64 << 20 }).await.expect("a collection");
    insert(client, "d", "capped", &all).await;
    if matches!(version, Version::V6_0_5 | Version::V6_0_27) {
        let index = doc! { "key": { "_id": 1 }, "unique": true };
        d.run_command(doc! { "create": "clustered", "clusteredIndex": index }).await.expect("a collection");
        insert(client, "d", "clustered", &all).await;
    }
}

fn with(readers: usize, consistency: ConsistencyChoice) -> impl FnOnce(&mut BackupOptions) {
    move |options| {
        options.settings.selection.databases = vec!["d".into()];
        options.settings.readers = ReadersChoice::Count(readers);
        options.settings.consistency = consistency;
    }
}

fn sorted(documents: &[Vec<u8>]) -> Vec<&[u8]> {
    let mut documents: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
    documents.sort_unstable();
    documents
}

/// Asserts that the backup has these documents, each once.
fn assert_equal(found: &[Vec<u8>], want: &[Vec<u8>], what: &str) {
    let (found, want) = (sorted(found), sorted(want));
    let n = |d: &[u8]| RawDocument::from_bytes(d).expect("BSON").get_i32("n").expect("n");
    let missing = want.iter().filter(|d| found.binary_search(d).is_err()).map(|d| n(d)).collect::<Vec<_>>();
    let more = found.iter().filter(|d| want.binary_search(d).is_err()).map(|d| n(d)).collect::<Vec<_>>();
    assert!(missing.is_empty() && more.is_empty(), "{what}: missing {missing:?}, too many {more:?}");
    assert_eq!(found.len(), want.len(), "{what}: documents are there twice");
}

async fn run_with(shelf: &Shelf, uri: &str, readers: usize, consistency: ConsistencyChoice) -> BackupReport {
    let report = shelf.run(uri, with(readers, consistency)).await;
    report.unwrap_or_else(|e| panic!("{readers} readers: {}", e.chain()))
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_readers_reads_the_same() {
    for version in Version::selected().expect("versions") {
        let server = Mongod::builder().version(version).start().await.expect("mongod");
        let client = server.client().await.expect("a client");
        fill(&client, version).await;
        let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
        for readers in COUNTS {
            proxy.clear_log();
            let shelf = Shelf::new();
            let report = run_with(&shelf, &proxy.uri(&server.uri()), readers, ConsistencyChoice::None).await;
            assert_eq!(report.manifest.notes, Vec::<String>::new());
            let sampled: Vec<String> =
                proxy.commands("aggregate").into_iter().map(|command| command.namespace).collect();
            let decoded = shelf.decode(&report);
            for (name, documents) in &decoded.documents {
                let collection = name.strip_prefix("d.").expect("of the database");
                let what = format!("{version:?}, {readers} readers, {name}");
                let want = read_documents(&client.database("d"), collection).await.expect("documents");
                assert_equal(documents, &want, &what);
                assert_eq!(sampled.contains(name), readers > 1 && name != "d.capped", "{what}: {sampled:?}");
                if name == "d.capped" {
                    assert_eq!(documents, &want, "{what}: the order");
                }
            }
            assert_eq!(
                report.manifest.totals.documents,
                decoded.documents.values().map(Vec::len).sum::<usize>() as u64
            );
        }
    }
}

/// Writes to random documents of `d.sparse` until it is stopped.
struct Writer {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Writer {
    fn start(client: Client, seed: u64) -> Writer {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), rounds.clone());
        let task = tokio::spawn(async move {
            let (mut random, sparse) =
                (StdRng::seed_from_u64(seed), client.database("d").collection::<RawDocumentBuf>("sparse"));
            let mut new = DOCUMENTS;
            while !stopped.load(Ordering::SeqCst) {
                let n = random.random_range(0..new);
                let by_id = doc! { "_id": mixed(n) };
                match random.next_u32() % 4 {
                    0 => {
                        sparse.update_one(by_id, doc! { "$inc": { "v": 1 } }).await.expect("an update");
                    }
                    1 => {
                        sparse.delete_one(by_id).await.expect("a delete");
                    }
                    2 => {
                        // The document moves to another record id.
                        let deleted = sparse.delete_one(by_id).await.expect("a delete");
                        if deleted.deleted_count == 1 {
                            sparse.insert_one(document(n)).await.expect("an insert");
                        }
                    }
                    _ => {
                        sparse.insert_one(document(new)).await.expect("an insert");
                        new += 1;
                    }
                }
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Writer { stop, rounds, task }
    }

    async fn wait_for(&self, rounds: u64) {
        let begun = self.rounds.load(Ordering::SeqCst);
        while self.rounds.load(Ordering::SeqCst) < begun + rounds {
            assert!(!self.task.is_finished(), "the writer ended");
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.expect("a writer without an error");
    }
}

/// A filled set whose history lasts for the whole test, and its writer.
async fn written(version: Version, seed: u64) -> (Mongod, Client, Writer) {
    let set = Mongod::builder().version(version).replica_set("rs");
    let server = set.parameter("minSnapshotHistoryWindowInSeconds", "600").start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    fill(&client, version).await;
    let writer = Writer::start(client.clone(), seed);
    (server, client, writer)
}

async fn as_of(client: &Client, at: uzima_backup::model::optime::OpTime) -> Vec<Vec<u8>> {
    let find = rawdoc! {
        "find": "sparse",
        "readConcern": { "level": "snapshot", "atClusterTime": Timestamp::from(at) },
    };
    read_cursor(&client.database("d"), find).await.expect("documents")
}

/// In CI one version, at random; `UZIMA_TEST_FULL=1` runs all versions.
fn versions() -> Vec<Version> {
    let mut versions = Version::selected().expect("versions");
    versions.retain(|version| *version != Version::V4_4_2);
    if std::env::var_os("UZIMA_TEST_FULL").is_none() {
        let one = rand::rng().random_range(0..versions.len());
        versions = vec![versions[one]];
    }
    println!("{versions:?}");
    versions
}

/// In CI the larger numbers of readers.
fn counts() -> &'static [usize] {
    let counts = if std::env::var_os("UZIMA_TEST_FULL").is_some() { &COUNTS[..] } else { &COUNTS[2..] };
    println!("{counts:?} readers");
    counts
}

/// Backs up `d.sparse` with an oplog slice.
fn back_up_with_oplog(uri: &str, readers: usize) -> Backup {
    let home = Home::new();
    let mut backup = home.to_dir(uri);
    let args = ["backup", "--include", "d.sparse", "--consistency", "oplog", "--engine", "native"];
    run(backup.env("BACKUP_READERS", readers.to_string()).args(args)).ends(0);
    let manifest = home.manifests().pop().expect("a manifest");
    assert_eq!(manifest.consistency.achieved, "oplog", "{}", manifest.consistency.why);
    Backup { home, manifest }
}

/// The documents of `d.sparse` that a restore brings back.
async fn restored(backup: &Backup) -> Vec<Vec<u8>> {
    let (_target, client) = by_restore(backup).await;
    read_documents(&client.database("d"), "sparse").await.expect("documents")
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_at_one_instant_are_not_disturbed_by_writers() {
    for version in versions() {
        let (server, client, writer) = written(version, 1).await;
        for readers in COUNTS {
            writer.wait_for(20).await;
            let before = writer.rounds.load(Ordering::SeqCst);
            let shelf = Shelf::new();
            let report = run_with(&shelf, &server.uri(), readers, ConsistencyChoice::Snapshot).await;
            assert!(writer.rounds.load(Ordering::SeqCst) > before, "nothing was written meanwhile");
            let at = report.manifest.consistency.at.expect("an instant");
            let what = format!("{version:?}, {readers} readers");
            assert_equal(shelf.decode(&report).get("d.sparse"), &as_of(&client, at).await, &what);
        }
        writer.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_beside_writers_and_the_oplog_give_one_instant() {
    for version in versions() {
        let (server, client, writer) = written(version, 2).await;
        for &readers in counts() {
            writer.wait_for(20).await;
            let backup = back_up_with_oplog(&server.uri(), readers);
            let at = backup.manifest.consistency.at.expect("an instant");
            let what = format!("{version:?}, {readers} readers");
            assert_equal(&restored(&backup).await, &as_of(&client, at).await, &what);
        }
        writer.stop().await;
    }
}

/// MongoDB 4.4 cannot read as of an instant. So the writer ends while a reader is held, and the backup must equal what is there then.
#[tokio::test(flavor = "multi_thread")]
async fn readers_beside_writers_of_mongodb_4_4_lose_and_double_nothing() {
    let server = Mongod::builder().version(Version::V4_4_2).replica_set("rs").start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    for &readers in counts() {
        client.database("d").drop().await.expect("a drop");
        fill(&client, Version::V4_4_2).await;
        let gate = Gate::default();
        let held =
            proxy.add(Rule::on("getMore").namespace("d.sparse").nth(2).then(Action::Hold(gate.clone())));
        let writer = Writer::start(client.clone(), 3);
        writer.wait_for(20).await;
        let uri = proxy.uri(&server.uri());
        let backup = tokio::task::spawn_blocking(move || back_up_with_oplog(&uri, readers));
        while proxy.hits(held) == 0 {
            assert!(!backup.is_finished(), "no reader was held");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        writer.wait_for(100).await;
        writer.stop().await;
        gate.open();
        let backup = backup.await.expect("a backup");
        proxy.clear();
        let want = read_documents(&client.database("d"), "sparse").await.expect("documents");
        assert_equal(&restored(&backup).await, &want, &format!("{readers} readers"));
    }
}

/// Deletes the documents of a reply that has only their `_id`s.
fn delete_shown(uri: String) -> Action {
    Action::edit(move |answer| {
        let reply = RawDocument::from_bytes(answer).expect("a reply");
        let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        let mut gone = bson::Array::new();
        for shown in batch.expect("a batch") {
            let shown = shown.expect("a value").as_document().expect("a document").to_owned();
            gone.push(bson::Document::try_from(&*shown).expect("BSON").remove("_id").expect("an _id"));
        }
        assert!(!gone.is_empty(), "nobody was picked");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = connect(&uri).await.expect("a client");
            let sparse = client.database("d").collection::<RawDocumentBuf>("sparse");
            sparse.delete_many(doc! { "_id": { "$in": gone } }).await.expect("a delete");
            client.shutdown().await;
        });
        answer.to_vec()
    })
}

/// All records that were picked are deleted before a reader begins behind one of them.
#[tokio::test(flavor = "multi_thread")]
async fn bounds_that_are_deleted_lose_and_double_nothing() {
    for version in Version::selected().expect("versions") {
        let server = Mongod::builder().version(version).start().await.expect("mongod");
        let client = server.client().await.expect("a client");
        let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
        let d = client.database("d");
        for readers in [2, 16] {
            d.drop().await.expect("a drop");
            fill(&client, version).await;
            let picked = proxy.add(
                Rule::on("find").namespace("d.sparse").having("filter").then(delete_shown(server.uri())),
            );
            let before = read_documents(&d, "sparse").await.expect("documents").len();
            let shelf = Shelf::new();
            let report = run_with(&shelf, &proxy.uri(&server.uri()), readers, ConsistencyChoice::None).await;
            assert_eq!(proxy.hits(picked), 1);
            proxy.clear();
            let want = read_documents(&d, "sparse").await.expect("documents");
            assert!(want.len() < before, "nothing was deleted");
            let decoded = shelf.decode(&report);
            let found: Vec<Vec<u8>> = decoded.get("d.sparse").to_vec();
            // The first reader may have read some of them before.
            let left: Vec<Vec<u8>> = found.iter().filter(|d| want.contains(d)).cloned().collect();
            assert_equal(&left, &want, &format!("{version:?}, {readers} readers"));
            let ids: std::collections::BTreeSet<&[u8]> = found.iter().map(Vec::as_slice).collect();
            assert_eq!(ids.len(), found.len(), "{version:?}: documents are there twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_reader_goes_on_after_a_lost_cursor() {
    let server = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    fill(&client, Version::V6_0_5).await;
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    let want = read_documents(&client.database("d"), "sparse").await.expect("documents");
    for consistency in [ConsistencyChoice::None, ConsistencyChoice::Snapshot] {
        // Several commands of the readers fail.
        let mut lost = Vec::new();
        for nth in [1, 3, 5] {
            lost.push(proxy.add(Rule::on("getMore").namespace("d.sparse").nth(nth).then(Action::fail(43))));
        }
        lost.push(
            proxy.add(
                Rule::on("find").namespace("d.sparse").having("$_resumeAfter").nth(2).then(Action::Close),
            ),
        );
        let shelf = Shelf::new();
        let report = run_with(&shelf, &proxy.uri(&server.uri()), 4, consistency).await;
        assert!(lost.iter().all(|rule| proxy.hits(*rule) == 1));
        proxy.clear();
        assert!(report.manifest.notes.iter().any(|note| note.contains("continued reading d.sparse")));
        assert_equal(shelf.decode(&report).get("d.sparse"), &want, &format!("{consistency:?}"));
    }
}

/// The record id behind which a find begins.
fn resumed_after(find: &RawDocument) -> Option<i64> {
    find.get_document("$_resumeAfter").ok()?.get_i64("$recordId").ok()
}

/// Holds the first reader until the other has read everything else. Meanwhile a document that it has not reached is deleted and
/// inserted again, which moves it behind everything that they have read.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_moves_behind_all_readers_is_not_lost() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    insert(&client, "d", "c", &rows(0, DOCUMENTS, PAD)).await;
    let proxy = Arc::new(WireProxy::start(&[server.host()]).expect("the proxy"));
    let (gates, ended) = ([Gate::default(), Gate::default()], Arc::new(AtomicBool::new(false)));
    // The first two such finds are those of the two readers, in any order. A find that one rule holds is not seen by the next.
    for gate in &gates {
        let find = Rule::on("find").namespace("d.c").having("$_resumeAfter");
        proxy.add(find.nth(1).then(Action::Hold(gate.clone())));
    }
    for command in ["find", "getMore"] {
        let ended = ended.clone();
        let watch = Action::edit(move |answer| {
            let cursor = RawDocument::from_bytes(answer).expect("a reply").get_document("cursor");
            if cursor.is_ok_and(|cursor| {
                cursor.get_i64("id").is_ok_and(|id| id == 0) && cursor.get_array("firstBatch").is_err()
            }) {
                ended.store(true, Ordering::SeqCst);
            }
            answer.to_vec()
        });
        proxy.add(Rule::on(command).namespace("d.c").then(watch));
    }
    let moved = 700;
    let move_it = tokio::spawn({
        let (client, proxy) = (client.clone(), proxy.clone());
        async move {
            let after = loop {
                let finds = proxy.commands("find").into_iter().filter_map(|find| resumed_after(&find.body?));
                match finds.collect::<Vec<_>>()[..] {
                    [one, other, ..] => break [one, other],
                    _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            };
            let first = usize::from(after[1] < after[0]);
            gates[1 - first].open();
            while !ended.load(Ordering::SeqCst) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            let c = client.database("d").collection::<RawDocumentBuf>("c");
            c.delete_one(doc! { "_id": moved }).await.expect("a delete");
            c.insert_one(rows(moved, 1, PAD).remove(0)).await.expect("an insert");
            gates[first].open();
        }
    });
    let shelf = Shelf::new();
    let report = run_with(&shelf, &proxy.uri(&server.uri()), 2, ConsistencyChoice::None).await;
    move_it.await.expect("it moved");
    let mut found = ids(shelf.decode(&report).get("d.c"));
    found.sort_unstable();
    assert_eq!(found, (0..DOCUMENTS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_cannot_be_sampled_is_read_by_one_reader() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    insert(&client, "d", "c", &rows(0, DOCUMENTS, PAD)).await;
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    for command in ["count", "aggregate"] {
        let refused = proxy.add(Rule::on(command).namespace("d.c").then(Action::fail(13)));
        let shelf = Shelf::new();
        let report = run_with(&shelf, &proxy.uri(&server.uri()), 4, ConsistencyChoice::None).await;
        assert_eq!(proxy.hits(refused), 1);
        proxy.clear();
        assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
        assert_eq!(report.manifest.notes, Vec::<String>::new());
    }
}

/// A dropped collection ends the work of all its readers, and the run says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_is_dropped_meanwhile_ends_all_its_readers() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    insert(&client, "d", "c", &rows(0, DOCUMENTS, PAD)).await;
    insert(&client, "d", "e", &rows(0, 10, 10)).await;
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    let drop = meanwhile(server.uri(), async |client| {
        client.database("d").collection::<RawDocumentBuf>("c").drop().await.expect("a drop");
    });
    proxy.add(Rule::on("getMore").namespace("d.c").nth(3).then(drop));
    let shelf = Shelf::new();
    let report = run_with(&shelf, &proxy.uri(&server.uri()), 4, ConsistencyChoice::None).await;
    assert_eq!(shelf.decode(&report).get("d.e").len(), 10);
    let warnings = report.manifest.warnings.join("\n");
    assert!(warnings.contains("d.c"), "{warnings}");
}
