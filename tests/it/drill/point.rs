//! Drills of a point in time: a backup, and the oplog slices after it.

use std::path::Path;
use std::process::Command;

use bson::{Document, RawDocumentBuf, doc};
use serde_json::{Value, json};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::read_all;

use super::lent::databases;
use super::support::{assert_gone, mongod, scratch};
use crate::cli::support::{Home, NOWHERE, run};
use crate::pit::stored::{Stored, entries, is, replace, slices};
use crate::pit::support::{backup, commands, mark, oplog, set, text, tool};

/// `verify --drill` with these arguments, into a scratch mongod in this folder.
fn drill(home: &Home, within: &Path, args: &[&str]) -> Command {
    let mut command = tool(home, NOWHERE, &["verify", "--drill"]);
    command.env("MONGOD_PATH", mongod()).env("TMPDIR", within).args(args);
    command
}

/// `verify --drill` with these arguments, on this server.
fn drill_on(home: &Home, uri: &str, args: &[&str]) -> Command {
    let mut command = tool(home, NOWHERE, &["verify", "--drill"]);
    command.env("DRILL_URI", uri).args(args);
    command
}

/// The results of verifies in the store.
fn results(home: &Home) -> usize {
    home.files().into_iter().filter(|file| file.contains("/verified-")).count()
}

/// The slices write to old and new namespaces, drop one, build an index, and write to a time series whose documents expire.
#[tokio::test(flavor = "multi_thread")]
async fn a_point_in_time_is_drilled_in_both_kinds_of_server_and_recorded() {
    let ((server, client), home) = (set(None).await, Home::new());
    let series = doc! {"create": "series", "timeseries": {"timeField": "at", "metaField": "m"}, "expireAfterSeconds": 86_400_i64};
    commands(&client, vec![series]).await;
    let live = client.database("live");
    let (rows, measured) = (live.collection::<Document>("rows"), live.collection::<Document>("series"));
    rows.insert_many((0..300).map(|n| doc! {"_id": n, "n": n})).await.expect("rows");
    live.collection::<Document>("brief").insert_one(doc! {"_id": 1}).await.expect("a row");
    live.collection::<Document>("still").insert_one(doc! {"_id": 1}).await.expect("a row");
    measured.insert_one(doc! {"at": bson::DateTime::now(), "m": 1}).await.expect("a measurement");
    mark(&client).await;
    backup(&home, &server.uri(), "oplog");
    rows.update_many(doc! {"_id": {"$lt": 100}}, doc! {"$inc": {"n": 1}}).await.expect("updates");
    rows.delete_many(doc! {"_id": {"$gte": 200}}).await.expect("deletes");
    measured.insert_one(doc! {"at": bson::DateTime::now(), "m": 1}).await.expect("a measurement");
    let middle = mark(&client).await;
    oplog(&home, &server.uri());
    let index = doc! {"createIndexes": "rows", "indexes": [{"key": {"n": 1}, "name": "n_1"}]};
    commands(&client, vec![index, doc! {"drop": "brief"}]).await;
    live.collection::<Document>("new").insert_one(doc! {"_id": 1}).await.expect("a row");
    mark(&client).await;
    oplog(&home, &server.uri());

    let within = scratch();
    let report = run(drill(&home, within.path(), &["--at", "newest"]).arg("--json")).ends(0).json();
    assert_gone(within.path());
    crate::docs::schema::check("verify", &report);
    let chain = slices(&home);
    let end = chain.last().expect("a slice").1.end.at;
    let row = &report["backups"][0];
    let point = json!({"at": {"t": end.t, "i": end.i}, "slices": chain.len(), "findings": []});
    assert_eq!((&row["sound"], &row["drill"]["point"]), (&true.into(), &point), "{row}");
    assert!(row["drill"]["oplog_entries"].as_u64() > Some(200), "{row}");
    let id = row["id"].as_str().expect("an id");
    let shown = run(&mut tool(&home, NOWHERE, &["list", id, "--json"])).ends(0).json();
    assert_eq!(shown["verdict"]["drill"]["point"], point, "{shown}");
    let stats = run(&mut tool(&home, NOWHERE, &["stats", "--json"])).ends(0).json();
    assert_eq!(stats["drill"]["point"], point["at"], "{stats}");

    // On a server with data of its own: nothing else is touched.
    let target = Mongod::builder().start().await.expect("mongod");
    let own = target.client().await.expect("a client");
    own.database("live").collection::<Document>("new").insert_one(doc! {"_id": 9}).await.expect("a row");
    let before = read_all(&own).await.expect("the data");
    let (at, end) = (text(middle), format!("up to {} (", end.second()));
    let drilled = run(&mut drill_on(&home, &target.uri(), &["--at", "newest"])).ends(0).stdout;
    assert!(drilled.contains(&end) && drilled.contains("oplog slices after the backup"), "{drilled}");
    let earlier = run(drill_on(&home, &target.uri(), &["--at", &at]).arg("--json")).ends(0).json();
    let found = &earlier["backups"][0]["drill"]["point"];
    assert_eq!((&found["at"]["t"], &found["slices"]), (&middle.time.into(), &1.into()), "{earlier}");
    assert_eq!(databases(&own).await, Vec::<String>::new());
    assert_eq!(before.diff(&read_all(&own).await.expect("the data")), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_cannot_be_restored_is_refused_before_anything_is_read() {
    let stored = Stored::new(3).await;
    let within = scratch();
    let refused = |args: &[&str], words: &[&str]| {
        let ran = run(&mut drill(&stored.home, within.path(), args)).ends(2);
        ran.says(&["next step: "]).says(words);
    };
    refused(&["--at", "2001-01-01T00:00:00Z"], &["before the oldest base", "The nearest point"]);
    refused(&["--at", "2101-01-01T00:00:00Z"], &["the oplog slices end at"]);
    refused(&["--at", "soon"], &["'soon' is neither a time"]);
    refused(&["--all", "--at", "newest"], &["--all"]);
    run(&mut tool(&stored.home, NOWHERE, &["verify", "--at", "newest"])).ends(2).says(&["--drill"]);
    std::fs::remove_file(&stored.slices()[1].0).expect("a manifest");
    run(&mut drill(&stored.home, within.path(), &["--at", &stored.last()])).ends(4).says(&["are missing"]);
    assert_eq!(results(&stored.home), 0, "nothing was read");
    // Before the gap, the point can be drilled; the instant of the backup needs no slice.
    let first = text(stored.times[0]);
    run(&mut drill(&stored.home, within.path(), &["--at", &first])).ends(0);
    let instant = stored.home.manifests()[0].consistency.at.expect("an instant");
    let own = format!("{}:{}", instant.t, instant.i);
    let drilled = run(&mut drill(&stored.home, within.path(), &["--at", &own])).ends(0).stdout;
    assert!(drilled.contains(&format!("({own}): the backup's own instant")), "{drilled}");
    assert_gone(within.path());
}

/// The faults are the slices', so the backup stays good.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_and_incomplete_slices_are_found_and_the_backup_stays_good() {
    let stored = Stored::new(2).await;
    let rows = stored.client.database("live").collection::<Document>("rows");
    rows.delete_one(doc! {"_id": 1}).await.expect("a delete");
    mark(&stored.client).await;
    oplog(&stored.home, &stored.server.uri());
    let (within, all) = (scratch(), stored.slices());
    let (path, slice) = &all[0];
    let body = stored.home.backups().join(&slice.body.as_ref().expect("a body").key);
    let whole = std::fs::read(&body).expect("a body");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&body, flipped).expect("a body");
    run(&mut drill(&stored.home, within.path(), &["--at", "newest"])).ends(4).says(&["slice-"]);
    std::fs::write(&body, whole).expect("a body");
    // The slices lose the insert of the document that is deleted later.
    let kept = entries(&stored.home, slice);
    let is_insert = |entry: &RawDocumentBuf| is(entry, "op", "i") && is(entry, "ns", "live.rows");
    let rest: Vec<RawDocumentBuf> = kept.iter().filter(|entry| !is_insert(entry)).cloned().collect();
    replace(&stored.home, path, slice, &rest);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let differs = run(&mut drill(&stored.home, within.path(), &["--at", "newest"])).ends(4);
    for word in ["DIFFERS", "live.rows: not replayed: ", "_id 1", "uzima-backup verify --oplog"] {
        assert!(differs.stdout.contains(word), "{word}: {}", differs.stdout);
    }
    assert_gone(within.path());
    let listed = run(&mut tool(&stored.home, NOWHERE, &["list", "--json"])).ends(0).json();
    let row: &Value = &listed["backups"][0];
    assert_eq!((&row["status"], &row["verified"]["sound"]), (&"completed".into(), &true.into()), "{listed}");
    let health =
        |check: &str, code| run(&mut tool(&stored.home, NOWHERE, &["health", "--only", check])).ends(code);
    health("freshness", 0);
    let failed = health("drill", 5).stdout;
    assert!(failed.contains(" up to ") && failed.contains("verify --oplog"), "{failed}");
}
