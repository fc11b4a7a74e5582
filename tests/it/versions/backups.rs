//! Backups on every version: cursors that the server loses while collections of every kind are read, and
//! concurrent writers.

use std::time::Duration;

use bson::{Document, RawDocumentBuf, doc, rawdoc};
use mongodb::Client;
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::read_all::read_documents;
use uzima_testkit::torture::Holds;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};
use uzima_testkit::writers::{Options, Report, Writers, check};

use super::support::{FORMATS, chosen, format_of, server, set, upgrades, versions};
use crate::cli::support::run;
use crate::native::lost::lose_and_delete;
use crate::native::support::{Shelf, insert, only, rows};
use crate::restore::support::Backup;

/// The collection comes in a find of 101 documents, another find of about 500, and several `getMore`.
const DOCUMENTS: i32 = 1_800;
const PAD: usize = 2_000;

/// Creates a collection of each kind that the version has. Returns the names that hold the documents.
async fn fill(client: &Client, version: Version) -> Vec<&'static str> {
    let holds = Holds::of(version.compatibility()).expect("a version");
    let d = client.database("d");
    let create = async |command: Document| {
        d.run_command(command).await.expect("a collection");
    };
    let mut names = vec!["plain", "capped"];
    create(doc! { "create": "capped", "capped": true, "size": 16 << 20 }).await;
    create(doc! { "create": "empty" }).await;
    if holds.clustered {
        create(doc! { "create": "clustered", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } })
            .await;
        names.push("clustered");
    }
    for name in &names {
        insert(client, "d", name, &rows(0, DOCUMENTS, PAD)).await;
    }
    if holds.time_series {
        create(doc! { "create": "series", "timeseries": { "timeField": "at", "metaField": "of" } }).await;
        let pad = "x".repeat(PAD);
        let row = |n: i32| rawdoc! { "at": bson::DateTime::from_millis(0), "of": n, "pad": pad.as_str() };
        let measured: Vec<RawDocumentBuf> = (0..DOCUMENTS).map(row).collect();
        insert(client, "d", "series", &measured).await;
        names.push("system.buckets.series");
    }
    names
}

async fn behind(version: Version) -> (Mongod, WireProxy, Client) {
    let (server, client) = server(version).await;
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    (server, proxy, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cursor_costs_no_document_on_any_version() {
    let mut all = Vec::new();
    for version in versions() {
        // CursorNotFound, CursorKilled, and a kill by an administrator.
        for code in [43, 237, 11601] {
            all.extend([1, 2].map(|nth| (version, code, nth)));
        }
    }
    let chosen = chosen("cursors", all, |(_, code, nth)| (*code, *nth) == (43, 1));
    for version in versions() {
        let (server, proxy, client) = behind(version).await;
        let names = fill(&client, version).await;
        for &(_, code, nth) in chosen.iter().filter(|one| one.0 == version) {
            let rules = names.iter().map(|name| {
                let on = Rule::on("getMore").namespace(&format!("d.{name}"));
                proxy.add(on.nth(nth).then(Action::fail(code)))
            });
            let rules: Vec<_> = rules.collect();
            let shelf = Shelf::new();
            let report = shelf.run(&proxy.uri(&server.uri()), only(&["d"])).await.expect("a backup");
            for (name, rule) in names.iter().zip(rules) {
                assert_eq!(proxy.hits(rule), 1, "{version} {name}");
                let truth = read_documents(&client.database("d"), name).await.expect("documents");
                let decoded = shelf.decode(&report);
                assert!(truth.len() as i32 == DOCUMENTS, "{}", truth.len());
                assert!(decoded.get(&format!("d.{name}")) == &truth[..], "{version} {code} {name}");
            }
            let lost = report.manifest.notes.iter().filter(|note| note.contains(&format!("(code {code}")));
            assert_eq!(lost.count(), names.len(), "{version}: {:?}", report.manifest.notes);
            println!("{version} code {code} at getMore {nth}: {} collections are complete", names.len());
            proxy.clear();
        }
    }
}

/// The record that the resume token names is deleted while the cursor is lost: the scan resumes from an older
/// record, or from the start.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_record_at_the_cursor_costs_no_document_on_any_version() {
    let mut all = Vec::new();
    for version in versions() {
        let clustered = rawdoc! { "create": "c", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } };
        let holds = Holds::of(version.compatibility()).expect("a version");
        let kinds = [Some(rawdoc! { "create": "c" }), holds.clustered.then_some(clustered)];
        for kind in kinds.into_iter().flatten() {
            all.extend([[200, 1_000], [0, 1_000]].map(|gone| (version, kind.clone(), gone)));
        }
    }
    let chosen = chosen("cursors whose place is deleted", all, |(_, kind, gone)| {
        gone[0] == 0 && kind.get_document("clusteredIndex").is_err()
    });
    for (version, kind, gone) in chosen {
        let server = Mongod::builder().version(version);
        let found = lose_and_delete(server, kind, &rows(0, DOCUMENTS, PAD), gone).await;
        assert!(found.len() > 1_400, "{version}: {}", found.len());
        println!("{version}, documents {gone:?} deleted: what was there throughout is complete");
    }
}

/// Backs up a replica set with this consistency while the writers write.
pub async fn backup(version: Version, consistency: &str, format: &str) -> (Backup, Report) {
    let (server, _) = set(version).await;
    let (proxy, _client) = crate::consistency::support::behind(&server).await;
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
