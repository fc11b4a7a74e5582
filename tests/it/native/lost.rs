//! The cursor is lost, and the record that the resume token names may be deleted, too.

use bson::{RawDocumentBuf, doc, rawdoc};
use mongodb::Client;
use uzima_testkit::mongod::{Builder, Mongod};
use uzima_testkit::read_all::read_documents;
use uzima_testkit::wire_proxy::{Action, Command, Rule, WireProxy};

use super::support::{Shelf, behind_a_proxy, ids, insert, meanwhile, meanwhile_fail, only, rows};

/// The collection comes in a find of 101 documents, another find of about 500, and several `getMore`.
const DOCUMENTS: i32 = 1_800;
const PAD: usize = 2_000;

/// The `find` commands on a collection that have this field.
fn finds_with(proxy: &WireProxy, field: &str) -> Vec<Command> {
    let has = |c: &Command| c.body.as_ref().is_some_and(|body| body.get(field).is_ok_and(|v| v.is_some()));
    proxy.commands("find").into_iter().filter(has).collect()
}

#[tokio::test]
async fn a_cursor_that_is_gone_is_never_taken_for_the_end() {
    let (server, proxy, client) = behind_a_proxy().await;
    insert(&client, "d", "c", &rows(0, DOCUMENTS, PAD)).await;
    let uri = proxy.uri(&server.uri());
    // CursorNotFound, CursorKilled, and a kill by an administrator.
    for code in [43, 237, 11601] {
        for nth in 1..=2 {
            let rule = proxy.add(Rule::on("getMore").namespace("d.c").nth(nth).then(Action::fail(code)));
            let shelf = Shelf::new();
            let report = shelf.run(&uri, only(&["d"])).await.expect("a backup");
            assert_eq!(proxy.hits(rule), 1);
            assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>(), "{code}");
            let notes = &report.manifest.notes;
            assert!(notes.len() == 1 && notes[0].contains(&format!("(code {code}")), "{notes:?}");
            proxy.clear();
        }
    }
    assert!(!finds_with(&proxy, "$_resumeAfter").is_empty());
    // Every getMore fails, so each find gives only one batch, and the scan still completes.
    let rule = proxy.add(Rule::on("getMore").namespace("d.c").then(Action::fail(43)));
    let shelf = Shelf::new();
    let report = shelf.run(&uri, only(&["d"])).await.expect("a backup");
    assert!(proxy.hits(rule) >= 3, "{}", proxy.hits(rule));
    assert_eq!(ids(shelf.decode(&report).get("d.c")), (0..DOCUMENTS).collect::<Vec<_>>());
    // If the server loses the cursor at once every time, the backup fails.
    proxy.add(Rule::on("find").namespace("d.c").from(2).then(Action::fail(43)));
    let shelf = Shelf::new();
    let text = super::support::failed(shelf.run(&uri, only(&["d"])).await);
    assert!(text.contains("d.c") && text.contains("code 43"), "{text}");
    shelf.assert_nothing().await;
}

/// Reads `d.c`. The cursor is lost at the first `getMore`, just after these documents were deleted.
pub async fn lose_and_delete(
    server: Builder,
    collection: RawDocumentBuf,
    documents: &[RawDocumentBuf],
    gone: [i32; 2],
) -> Vec<Vec<u8>> {
    let server = server.start().await.expect("mongod");
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    let client = server.client().await.expect("a client");
    client.database("d").run_raw_command(collection).await.expect("a collection");
    insert(&client, "d", "c", documents).await;
    let before = read_documents(&client.database("d"), "c").await.expect("documents");
    let range = doc! { "_id": { "$gte": gone[0], "$lte": gone[1] } };
    let delete = move |client: Client| {
        let range = range.clone();
        async move {
            let all = client.database("d").collection::<RawDocumentBuf>("c");
            assert!(all.delete_many(range).await.expect("a delete").deleted_count > 100);
        }
    };
    let action = meanwhile_fail(server.uri(), 43, delete);
    let rule = proxy.add(Rule::on("getMore").namespace("d.c").nth(1).then(action));
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), only(&["d"])).await.expect("a backup");
    assert_eq!(proxy.hits(rule), 1);
    assert_eq!(report.manifest.notes.len(), 1, "{:?}", report.manifest.notes);
    let shown = finds_with(&proxy, "showRecordId");
    let resumed = finds_with(&proxy, "$_resumeAfter");
    let decoded = shelf.decode(&report);
    let found = decoded.get("d.c").to_vec();
    let deleted = gone[0]..=gone[1];
    let kept = |d: &&Vec<u8>| !deleted.contains(&ids(std::slice::from_ref(*d))[0]);
    assert_eq!(
        found.iter().filter(kept).collect::<Vec<_>>(),
        before.iter().filter(kept).collect::<Vec<_>>(),
        "what was there throughout, once, in order, byte by byte"
    );
    let unique: std::collections::BTreeSet<_> = found.iter().collect();
    assert_eq!(unique.len(), found.len(), "a document was read twice");
    assert!(!shown.is_empty(), "no scan with record ids: {resumed:?}");
    found
}

#[tokio::test]
async fn behind_a_deleted_record_the_scan_resumes_from_an_older_one() {
    // The older token, of document 100, is still valid.
    let found =
        lose_and_delete(Mongod::builder(), rawdoc! { "create": "c" }, &rows(0, DOCUMENTS, PAD), [200, 1_000])
            .await;
    assert!(found.len() > 1_400);
}

#[tokio::test]
async fn when_all_earlier_records_are_gone_the_scan_starts_again() {
    let found =
        lose_and_delete(Mongod::builder(), rawdoc! { "create": "c" }, &rows(0, DOCUMENTS, PAD), [0, 1_000])
            .await;
    assert!(found.len() > 1_400);
}

#[tokio::test]
async fn a_clustered_collection_is_resumed_by_its_key() {
    let create = rawdoc! { "create": "c", "clusteredIndex": { "key": { "_id": 1 }, "unique": true } };
    for gone in [[200, 1_000], [0, 1_000]] {
        let found = lose_and_delete(Mongod::builder(), create.clone(), &rows(0, DOCUMENTS, PAD), gone).await;
        assert!(found.len() > 1_400);
    }
}

#[tokio::test]
async fn a_field_named_as_the_record_id_stays_in_the_document() {
    let own = |id: i32| match id % 4 {
        0 => rawdoc! { "_id": id, "pad": "x".repeat(PAD), "$recordId": 7_i64 },
        1 => rawdoc! { "_id": id, "$recordId": 8_i64, "pad": "x".repeat(PAD) },
        2 => rawdoc! { "_id": id, "pad": "x".repeat(PAD), "$recordId": "text" },
        _ => rawdoc! { "_id": id, "pad": "x".repeat(PAD) },
    };
    let documents: Vec<_> = (0..DOCUMENTS).map(own).collect();
    let found = lose_and_delete(Mongod::builder(), rawdoc! { "create": "c" }, &documents, [0, 1_000]).await;
    assert!(found.len() > 1_400);
}

#[tokio::test]
async fn a_capped_collection_may_overtake_the_scan() {
    let (server, proxy, client) = behind_a_proxy().await;
    let create = doc! { "create": "c", "capped": true, "size": 2_100 * 2_050 };
    client.database("d").run_command(create).await.expect("a capped collection");
    insert(&client, "d", "c", &rows(0, 2_000, PAD)).await;
    let overflow = meanwhile(server.uri(), async |client: Client| {
        insert(&client, "d", "c", &rows(2_000, 1_000, PAD)).await;
    });
    // The second find's answer is the first long batch. The getMore after it finds its position overwritten.
    let rule = proxy.add(Rule::on("find").namespace("d.c").nth(2).then(overflow));
    let shelf = Shelf::new();
    let report = shelf.run(&proxy.uri(&server.uri()), only(&["d"])).await.expect("a backup");
    assert_eq!(proxy.hits(rule), 1);
    let notes = &report.manifest.notes;
    assert!(notes.iter().any(|note| note.contains("(code 136")), "{notes:?}");
    let found = ids(shelf.decode(&report).get("d.c"));
    assert!(found.is_sorted_by(|a, b| a < b), "each once, in order");
    let left = ids(&read_documents(&client.database("d"), "c").await.expect("documents"));
    assert!(left[0] > 700 && left[0] < 1_900, "from {} on", left[0]);
    assert!(left.iter().all(|id| found.contains(id)), "{} of {}", found.len(), left.len());
}

#[tokio::test]
async fn the_buckets_of_a_time_series_are_resumed() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    let proxy = WireProxy::start(&[server.host()]).expect("the proxy");
    let d = client.database("d");
    let series = doc! { "timeField": "t", "metaField": "m" };
    d.run_command(doc! { "create": "weather", "timeseries": series }).await.expect("a time series");
    let start = bson::DateTime::from_millis(1_700_000_000_000);
    let measure = |n: i32| rawdoc! { "t": start, "m": n, "_id": n, "pad": "x".repeat(PAD) };
    insert(&client, "d", "weather", &(0..1_500).map(measure).collect::<Vec<_>>()).await;
    let buckets = "system.buckets.weather";
    let before = read_documents(&d, buckets).await.expect("buckets");
    assert_eq!(before.len(), 1_500);

    let drop_some = meanwhile_fail(server.uri(), 43, async |client: Client| {
        let all = client.database("d").collection::<RawDocumentBuf>("system.buckets.weather");
        let some = all.delete_many(doc! { "meta": { "$lt": 600 } }).await.expect("a delete");
        assert_eq!(some.deleted_count, 600);
    });
    for action in [Action::fail(43), Action::CutAnswer(1_000), drop_some] {
        let rule = proxy.add(Rule::on("getMore").namespace(&format!("d.{buckets}")).nth(1).then(action));
        let shelf = Shelf::new();
        let report = shelf.run(&proxy.uri(&server.uri()), only(&["d"])).await.expect("a backup");
        assert_eq!((proxy.hits(rule), report.manifest.notes.len()), (1, 1), "{:?}", report.manifest.notes);
        let decoded = shelf.decode(&report);
        let found = decoded.get(&format!("d.{buckets}"));
        let left = read_documents(&d, buckets).await.expect("buckets");
        let tail: Vec<_> = found.iter().filter(|d| left.contains(d)).collect();
        assert_eq!(tail, left.iter().collect::<Vec<_>>());
        assert!(found.iter().all(|d| before.contains(d)) && found.is_sorted_by(|a, b| a != b));
        proxy.clear();
    }
}
