//! Cursors that the server loses while collections of every kind are read, on every version.

use bson::{Document, RawDocumentBuf, doc, rawdoc};
use mongodb::Client;
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::read_all::read_documents;
use uzima_testkit::torture::Holds;
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::support::{chosen, server, versions};
use crate::native::lost::lose_and_delete;
use crate::native::support::{Shelf, insert, only, rows};

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
