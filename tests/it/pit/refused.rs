//! Points that cannot be restored, slices that are damaged, and replays that find nothing.

use bson::{Document, RawDocument, RawDocumentBuf, Timestamp, doc, rawdoc};
use mongodb::Client;
use uzima_backup::model::slice::Barrier;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::{Snapshot, read_all};
use uzima_testkit::wire_proxy::{Action, Gate, Rule, WireProxy};

use super::stored::*;
use super::support::*;
use crate::cli::support::{Home, run};
use crate::restore::support::differences;

async fn is_untouched(live: &Client) -> bool {
    let mut found = read_all(live).await.expect("the target");
    found.retain(|db, _| DATABASES.contains(&db));
    found.namespaces.is_empty()
}

/// The file with a bit flipped at each place, and truncated.
fn damages(whole: &[u8], places: impl Iterator<Item = usize>) -> Vec<Vec<u8>> {
    let flip = |place: usize| {
        let mut flipped = whole.to_vec();
        flipped[place] ^= 1 << (place % 8);
        flipped
    };
    let cut = |length: usize| whole[..length].to_vec();
    let cuts = [0, 1, whole.len() / 2, whole.len() - 2].map(cut);
    places.map(flip).chain(cuts).collect()
}

/// A target with a document that a restore would drop.
async fn target_in_use() -> (Mongod, Client, Snapshot) {
    let (target, live) = set(None).await;
    insert(&live, 1000).await;
    let before = read_all(&live).await.expect("the target");
    (target, live, before)
}

/// Each object of each slice in turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_slice_is_found_before_anything_is_touched() {
    let stored = Stored::new(4).await;
    let (target, live, before) = target_in_use().await;
    let newest = || run(&mut restore(&stored.home, &target, &["--at", "newest", "--drop"]));
    let all = stored.slices();
    for (n, (manifest, slice)) in all.iter().enumerate() {
        let file = |key: &str| stored.home.backups().join(key);
        let body = file(&slice.body.as_ref().expect("a body").key);
        let whole = std::fs::read(&body).expect("a body");
        let step = whole.len() / 3 + n;
        for damaged in damages(&whole, (n..whole.len()).step_by(step)) {
            std::fs::write(&body, damaged).expect("a body");
            newest().ends(4).says(&["slice-"]);
        }
        std::fs::remove_file(&body).expect("a body");
        newest().ends(4).says(&["slice-"]);
        run(&mut restore(&stored.home, &target, &["--at", "newest", "--drop", "--dry-run"])).ends(4);
        std::fs::write(&body, &whole).expect("a body");
        let whole = std::fs::read(manifest).expect("a manifest");
        for damaged in damages(&whole, [0].into_iter()) {
            std::fs::write(manifest, damaged).expect("a manifest");
            newest().ends(4).says(&["slice.json cannot be understood", "Nothing was changed"]);
        }
        std::fs::remove_file(manifest).expect("a manifest");
        // A cleanup may have deleted the first slice, and nothing says that there was a newer one than the last.
        let code = if n == 0 || n == all.len() - 1 { 2 } else { 4 };
        run(&mut restore(&stored.home, &target, &["--at", &stored.last(), "--drop"])).ends(code);
        std::fs::write(manifest, &whole).expect("a manifest");
        assert_eq!(before.diff(&read_all(&live).await.expect("the target")), Vec::<String>::new());
        // A restore does not need the events.
        let events = file(&slice.events.as_ref().expect("events").key);
        std::fs::write(&events, "x").expect("events");
    }
    newest().ends(0);
    assert_eq!(differences(&stored.client, &live).await, Vec::<String>::new());
    drop(stored.server);
}

/// With `UZIMA_TEST_FULL=1`: at each byte of each manifest.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_manifest_of_a_slice_is_found() {
    let stored = Stored::new(2).await;
    let (target, live, before) = target_in_use().await;
    let step = if std::env::var_os("UZIMA_TEST_FULL").is_some() { 1 } else { 60 };
    let first: usize = rand::random_range(0..step);
    println!("every {step} bytes from {first} on");
    for (manifest, _) in stored.slices() {
        let whole = std::fs::read(&manifest).expect("a manifest");
        for place in (first..whole.len()).step_by(step) {
            std::fs::write(&manifest, &damages(&whole, [place].into_iter())[0]).expect("a manifest");
            let ran = run(&mut restore(&stored.home, &target, &["--at", "newest", "--drop"]));
            assert!([Some(2), Some(4)].contains(&ran.code), "byte {place}: {}", ran.stderr);
            let now = read_all(&live).await.expect("the target");
            assert_eq!(before.diff(&now), Vec::<String>::new(), "byte {place}");
        }
        std::fs::write(&manifest, &whole).expect("a manifest");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_and_a_barrier_are_refused_with_their_reasons() {
    let stored = Stored::new(4).await;
    let (target, live) = set(None).await;
    let all = stored.slices();
    let (path, slice) = &all[2];
    let (at, last) = (slice.start.after(), stored.last());
    let mut barred = slice.clone();
    barred.barriers = vec![Barrier { at, why: "the feature compatibility version was changed".into() }];
    write(path, &barred);
    let nearest = text(Timestamp { time: at.t, increment: at.i - 1 });
    run(&mut restore(&stored.home, &target, &["--at", &last]))
        .ends(2)
        .says(&["the feature compatibility version was changed", &format!("--at {nearest}")]);
    run(&mut restore(&stored.home, &target, &["--at", &nearest])).ends(0);
    clear(&live).await;
    std::fs::remove_file(path).expect("a manifest");
    run(&mut restore(&stored.home, &target, &["--at", &last])).ends(4).says(&[
        "are in no oplog slice",
        "are missing",
        "The nearest point",
    ]);
    write(path, slice);
    run(&mut restore(&stored.home, &target, &["--at", "2001-01-01T00:00:00Z"]))
        .ends(2)
        .says(&["before the oldest base"]);
    run(&mut restore(&stored.home, &target, &["--at", "2101-01-01T00:00:00Z"]))
        .ends(2)
        .says(&["the oplog slices end at"]);
    for wrong in
        [&["--before", "2026-11-24T14:00:00Z"][..], &["--at", "newest", "--no-replay"], &["--at", "soon"]]
    {
        run(&mut restore(&stored.home, &target, wrong)).ends(2);
    }
    assert!(is_untouched(&live).await);
    // A backup after the barrier is a new beginning.
    write(path, &barred);
    backup(&stored.home, &stored.server.uri(), "snapshot");
    insert(&stored.client, 100).await;
    mark(&stored.client).await;
    oplog(&stored.home, &stored.server.uri());
    run(&mut restore(&stored.home, &target, &["--at", "newest"])).ends(0);
    assert_eq!(differences(&stored.client, &live).await, Vec::<String>::new());
}

/// Up to the end of a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_includes_its_last_entry_and_the_dry_run_changes_nothing() {
    let stored = Stored::new(2).await;
    let wanted = read_all(&stored.client).await.expect("the source");
    let second = stored.times[1].time;
    // A second is complete when a later entry is stored.
    while mark(&stored.client).await.time <= second + 1 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let marked = read_all(&stored.client).await.expect("the source");
    assert_eq!(wanted.diff(&marked).len(), 2, "the marks");
    oplog(&stored.home, &stored.server.uri());
    let (target, live) = set(None).await;
    let at = chrono::DateTime::from_timestamp(i64::from(second), 0).expect("a time").to_rfc3339();
    let plan = run(&mut restore(&stored.home, &target, &["--at", &at, "--dry-run", "--json"])).ends(0).json();
    crate::docs::schema::check("restore-dry-run", &plan);
    assert!(plan["point"]["slices"].as_u64() >= Some(2) && plan["at"]["t"] == second, "{plan}");
    assert!(is_untouched(&live).await);
    let shown = run(&mut restore(&stored.home, &target, &["--at", &at, "--dry-run"])).ends(0).stdout;
    assert!(shown.contains("  continued from ") && shown.contains(" oplog slices, "), "{shown}");
    run(&mut restore(&stored.home, &target, &["--at", &at])).ends(0);
    let rows = live.database("live").collection::<Document>("rows").count_documents(doc! {}).await;
    assert_eq!(rows.expect("a count"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_and_renames_apply_also_to_collections_that_only_the_slices_have() {
    let stored = Stored::new(1).await;
    let new = stored.client.database("live").collection::<Document>("new");
    new.insert_one(doc! {"_id": 1}).await.expect("a row");
    mark(&stored.client).await;
    oplog(&stored.home, &stored.server.uri());
    let (target, live) = set(None).await;
    let args = [
        "--at",
        "newest",
        "--ns-include",
        "live.new",
        "--ns-from",
        "live.*",
        "--ns-to",
        "second.*",
        "--json",
    ];
    let report = run(&mut restore(&stored.home, &target, &args)).ends(0).json();
    crate::docs::schema::check("restore", &report);
    assert!(report["notes"].to_string().contains("of a transaction"), "{report}");
    assert_eq!(live.database("second").list_collection_names().await.expect("names"), ["new"]);
    assert!(live.database("live").list_collection_names().await.expect("names").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_finds_nothing_is_damage_and_its_entry_is_named() {
    let stored = Stored::new(2).await;
    let rows = stored.client.database("live").collection::<Document>("rows");
    rows.update_one(doc! {"_id": 2}, doc! {"$set": {"x": 1}}).await.expect("an update");
    rows.delete_one(doc! {"_id": 1}).await.expect("a delete");
    mark(&stored.client).await;
    oplog(&stored.home, &stored.server.uri());
    let (target, live) = set(None).await;
    run(&mut restore(&stored.home, &target, &["--at", "newest"])).ends(0);
    clear(&live).await;
    let all = stored.slices();
    let is_insert = |entry: &RawDocumentBuf| is(entry, "op", "i") && is(entry, "ns", "live.rows");
    // The slices lose the insert of one document: first the deleted one, then the updated one.
    for (at, id) in [(0, "_id 1"), (1, "_id 2")] {
        let (path, slice) = &all[at];
        let whole = entries(&stored.home, slice);
        let rest: Vec<RawDocumentBuf> = whole.iter().filter(|entry| !is_insert(entry)).cloned().collect();
        replace(&stored.home, path, slice, &rest);
        let ran = run(&mut restore(&stored.home, &target, &["--at", "newest"])).ends(1);
        ran.says(&["live.rows", "the entry", id]);
        replace(&stored.home, path, slice, &whole);
        clear(&live).await;
    }
}

/// The command `insert` would create the collection again, without its earlier documents.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_another_client_drops_during_the_replay_is_named() {
    let stored = Stored::new(1).await;
    let (target, live) = set(None).await;
    let (proxy, gate) = (WireProxy::start(&[target.host()]).expect("a proxy"), Gate::default());
    // The first one is the insert of the base.
    let held = proxy.add(Rule::on("insert").namespace("live.rows").nth(2).then(Action::Hold(gate.clone())));
    let mut command = restore(&stored.home, &target, &["--at", "newest"]);
    command.env("RESTORE_URI", proxy.uri(&target.uri()));
    let restoring = tokio::task::spawn_blocking(move || run(&mut command));
    while proxy.hits(held) == 0 {
        assert!(!restoring.is_finished(), "the restore ended without a second insert");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    live.database("live").collection::<Document>("rows").drop().await.expect("a drop");
    gate.open();
    let ran = restoring.await.expect("the restore").ends(1);
    ran.says(&["another client dropped or replaced live.rows", "Restore again"]);
}

/// The slices lose the delete of a document that was inserted again.
#[tokio::test(flavor = "multi_thread")]
async fn an_insert_whose_id_is_taken_is_damage_and_its_entry_is_named() {
    let stored = Stored::new(1).await;
    let rows = stored.client.database("live").collection::<Document>("rows");
    rows.delete_one(doc! {"_id": 1}).await.expect("a delete");
    insert(&stored.client, 1).await;
    mark(&stored.client).await;
    oplog(&stored.home, &stored.server.uri());
    let (path, slice) = &stored.slices()[1];
    let rest: Vec<RawDocumentBuf> =
        entries(&stored.home, slice).into_iter().filter(|entry| !is(entry, "op", "d")).collect();
    assert_eq!(rest.len() as u64 + 1, slice.entries);
    replace(&stored.home, path, slice, &rest);
    let (target, _) = set(None).await;
    let ran = run(&mut restore(&stored.home, &target, &["--at", "newest"])).ends(1);
    ran.says(&["live.rows", "the entry", "_id 1", "duplicate key"]);
}

/// The target would delete old measurements while the slices still write to their buckets.
#[tokio::test(flavor = "multi_thread")]
async fn expired_documents_are_deleted_only_after_the_replay() {
    let ((server, client), home) = (set(None).await, Home::new());
    // The source deletes nothing, so that expired measurements stay.
    let stop = doc! {"setParameter": 1, "ttlMonitorEnabled": false};
    client.database("admin").run_command(stop).await.expect("a parameter");
    let series = |name: &str| {
        doc! {"create": name, "timeseries": {"timeField": "at", "metaField": "m"}, "expireAfterSeconds": 60_i64}
    };
    commands(&client, vec![series("before")]).await;
    let old = |n: i32| doc! {"at": bson::DateTime::from_millis(1_000_000 + i64::from(n)), "m": 1, "n": n};
    let add = async |name: &str, n: i32| {
        client.database("live").collection::<Document>(name).insert_one(old(n)).await.expect("a measurement");
    };
    add("before", 1).await;
    mark(&client).await;
    backup(&home, &server.uri(), "oplog");
    commands(&client, vec![series("after")]).await;
    for n in 2..5 {
        add("before", n).await;
        add("after", n).await;
    }
    commands(&client, vec![doc! {"collMod": "after", "expireAfterSeconds": 90_i64}]).await;
    client
        .database("live")
        .collection::<Document>("before")
        .delete_many(doc! {"m": 1})
        .await
        .expect("deletes");
    mark(&client).await;
    oplog(&home, &server.uri());
    let target = Mongod::builder().replica_set("rs").parameter("ttlMonitorSleepSecs", "1");
    let target = target.start().await.expect("mongod");
    let live = target.client().await.expect("a client");
    run(&mut restore(&home, &target, &["--at", "newest"])).ends(0);
    let options = async |client: &Client, name: &str| {
        let find = rawdoc! {"listCollections": 1, "filter": {"name": name}};
        let rows =
            uzima_testkit::read_all::read_cursor(&client.database("live"), find).await.expect("a list");
        let row = RawDocument::from_bytes(&rows[0]).expect("a row");
        row.get_document("options").expect("options").to_owned()
    };
    for name in ["before", "after"] {
        assert_eq!(options(&live, name).await, options(&client, name).await, "{name}");
    }
}

/// A restore to a point in time cannot leave the replay out.
#[tokio::test(flavor = "multi_thread")]
async fn no_next_step_advises_to_leave_the_replay_out() {
    let stored = Stored::new(2).await;
    let target = Mongod::builder().auth().start().await.expect("mongod");
    target.create_user("bringer", "x", &[("restore", "admin")]).await.expect("a user");
    for args in [&["--at", "newest"][..], &["--at", "newest", "--dry-run"]] {
        let mut restore = restore(&stored.home, &target, args);
        restore.env("RESTORE_URI", target.uri_as("bringer", "x", "admin"));
        let ran = run(&mut restore).ends(1);
        let ran =
            ran.says(&["\"readWriteAnyDatabase\"", "Or restore to another time: `uzima-backup timeline`"]);
        assert!(!ran.stderr.contains("--no-replay"), "{}", ran.stderr);
    }
}
