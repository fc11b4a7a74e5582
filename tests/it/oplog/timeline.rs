//! `timeline` finds the moment before a mistake, and says what can be restored.

use bson::{Document, Timestamp, doc};
use mongodb::Client;
use serde_json::Value;
use uzima_backup::model::optime::OpTime;
use uzima_testkit::mongod::Mongod;

use super::support::*;
use crate::cli::support::{Home, NOWHERE, run};

/// Runs `timeline --json`, which must end with this exit code.
#[track_caller]
fn timeline(home: &Home, args: &[&str], code: i32) -> Value {
    let ran = run(&mut tool(home, NOWHERE, &[&["timeline", "--json"], args].concat())).ends(code);
    crate::docs::schema::check("timeline", &ran.json());
    ran.json()
}

/// A backup and slices of a server whose database was dropped.
async fn after_the_disaster() -> (Mongod, Client, Home) {
    let ((server, client), home) = (set().await, Home::new());
    let live = client.database("live");
    for name in ["orders", "carts", "old"] {
        let rows = live.collection::<Document>(name);
        rows.insert_many((0..200).map(|n| doc! {"_id": n, "x": n})).await.expect("rows");
    }
    backup(&home, &server.uri());
    let carts = live.collection::<Document>("carts");
    carts.insert_one(doc! {"_id": "new"}).await.expect("a row");
    oplog(&home, &server.uri(), 0);
    carts.delete_many(doc! {}).await.expect("deletes");
    live.run_command(doc! {"createIndexes": "orders", "indexes": [{"key": {"x": 1}, "name": "x_1"}]})
        .await
        .expect("an index");
    let rename = doc! {"renameCollection": "live.old", "to": "live.older"};
    client.database("admin").run_command(rename).await.expect("a rename");
    oplog(&home, &server.uri(), 0);
    live.drop().await.expect("the database is dropped");
    oplog(&home, &server.uri(), 0);
    (server, client, home)
}

/// The first oplog entry that drops a collection of `live`.
async fn first_drop(client: &Client) -> OpTime {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let filter = doc! {"op": "c", "ns": "live.$cmd", "o.drop": {"$exists": true}};
    let entry = oplog.find_one(filter).sort(doc! {"ts": 1}).await.expect("the oplog").expect("a drop");
    let Ok(Timestamp { time, increment }) = entry.get_timestamp("ts") else { panic!("{entry}") };
    OpTime { t: time, i: increment }
}

#[tokio::test]
async fn a_dropped_database_is_shown_with_the_argument_for_the_moment_before_it() {
    let (_server, client, home) = after_the_disaster().await;
    let report = timeline(&home, &[], 0);
    let changes = report["changes"].as_array().expect("changes");
    let of = |command: &str| {
        let mut found = changes.iter().filter(|change| change["command"] == command);
        let change = found.next().unwrap_or_else(|| panic!("no {command}: {report:#}"));
        assert!(found.next().is_none(), "{command}: {report:#}");
        change
    };
    let first = first_drop(&client).await;
    let dropped = of("dropDatabase");
    assert_eq!(dropped["before"], format!("{}:{}", first.t, first.i));
    assert_eq!((&dropped["restorable"], &dropped["documents"]), (&Value::from(true), &Value::from(400)));
    let mut collections: Vec<&str> =
        dropped["collections"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    collections.sort();
    assert_eq!(collections, ["carts", "older", "orders"]);
    assert!(
        !changes.iter().any(|change| change["command"] == "drop"),
        "they are part of the dropped database"
    );
    assert_eq!(
        (&of("renameCollection")["to"], &of("createIndexes")["indexes"][0]),
        (&"live.older".into(), &"x_1".into())
    );
    let rows = report["periods"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|period| period["namespaces"].as_array().unwrap());
    let mass: Vec<&Value> = rows.filter(|row| row["mass_delete"] == true).collect();
    assert_eq!((mass.len(), &mass[0]["ns"], &mass[0]["deletes"]), (1, &"live.carts".into(), &201.into()));
    let minute: u32 = mass[0]["before"].as_str().unwrap().strip_suffix(":0").unwrap().parse().unwrap();
    assert!(minute <= first.t && first.t - minute < 600 && minute.is_multiple_of(60), "{minute} {first}");
    let base = home.manifests()[0].clone();
    let range = &report["ranges"][0];
    assert_eq!((&range["bases"][0], &report["gaps"]), (&base.id.to_string().into(), &Value::Array(vec![])));
    assert_eq!(range["chains"][0], one_chain(&home)[0].chain.to_string());
    assert_eq!(range["to"]["t"], one_chain(&home).last().unwrap().end.at.t);
    // Other namespaces and times are left out.
    let orders = timeline(&home, &["--ns", "live.orders"], 0);
    let commands: Vec<&Value> =
        orders["changes"].as_array().unwrap().iter().map(|one| &one["command"]).collect();
    assert_eq!(commands, ["createIndexes", "dropDatabase"]);
    let earlier = timeline(&home, &["--to", "2020-01-01"], 0);
    assert_eq!((&earlier["changes"], &earlier["periods"]), (&Value::Array(vec![]), &Value::Array(vec![])));
    let text = prints(
        run(&mut tool(&home, NOWHERE, &["timeline"])).ends(0),
        &[
            &format!("--before {}:{}\n", first.t, first.i),
            "DROP of the database live: 3 collections",
            "live.carts",
        ],
    );
    assert!(text.stdout.lines().all(|line| line.chars().count() <= 80), "{}", text.stdout);
}

#[tokio::test]
async fn missing_slices_and_damaged_events_are_named() {
    let (_server, _client, home) = after_the_disaster().await;
    let chain = one_chain(&home);
    let key = chain[1].events.as_ref().expect("events").key.clone();
    let file = home.backups().join(key);
    let mut bytes = std::fs::read(&file).expect("events");
    bytes[20] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let report = timeline(&home, &[], 3);
    assert!(report["problems"][0].as_str().unwrap().contains("does not have the BLAKE3"), "{report}");
    assert!(report["changes"].as_array().unwrap().iter().any(|change| change["command"] == "dropDatabase"));
    let slice = uzima_backup::catalog::layout::slice(JOB, &chain[1].chain, chain[1].start);
    std::fs::remove_file(home.backups().join(slice)).expect("removed");
    let report = timeline(&home, &[], 0);
    let gap = &report["gaps"][0];
    assert_eq!((&gap["to"], &gap["obstacles"][0]["kind"]), (&Value::Null, &"break".into()));
    assert!(gap["next_step"].as_str().unwrap().contains("uzima-backup backup"), "{gap}");
    let dropped = report["changes"].as_array().unwrap().iter().find(|one| one["command"] == "dropDatabase");
    assert_eq!(dropped.unwrap()["restorable"], false);
    prints(run(&mut tool(&home, NOWHERE, &["timeline"])).ends(0), &["are missing", "(not restorable)"]);
}

#[tokio::test]
async fn list_and_stats_say_which_seconds_can_be_restored() {
    let (_server, _client, home) = after_the_disaster().await;
    let chain = one_chain(&home);
    let json = |command: &str| {
        let report = run(&mut tool(&home, NOWHERE, &[command, "--json"])).ends(0).json();
        crate::docs::schema::check(command, &report);
        report
    };
    let shown = timeline(&home, &[], 0);
    let (list, stats) = (json("list"), json("stats"));
    for (name, found) in [("list", &list["oplog"][0]), ("stats", &stats["restorable"])] {
        assert_eq!((&found["ranges"], &found["gaps"]), (&shown["ranges"], &shown["gaps"]), "{name}");
    }
    assert_eq!(list["oplog"][0]["job"], JOB);
    assert!(stats["rpo_seconds"].as_u64().is_some_and(|seconds| seconds < 3600), "{stats}");
    let (from, to) = (home.manifests()[0].consistency.at.expect("an instant"), chain[2].end.at);
    let words = format!("any second from {} to {}, ", from.second(), to.second());
    prints(run(&mut tool(&home, NOWHERE, &["stats"])).ends(0), &[&format!("restorable   {words}")]);
    let text = run(&mut tool(&home, NOWHERE, &["list"])).ends(0).stdout;
    let below = text.split_once("\n\n").expect("a line below the table").1;
    let below = below.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(below.starts_with(&format!("{JOB}: restorable to {words}")) && below.ends_with(" ago"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    // Without its second slice, nothing after the first one.
    let slice = uzima_backup::catalog::layout::slice(JOB, &chain[1].chain, chain[1].start);
    std::fs::remove_file(home.backups().join(slice)).expect("removed");
    let gap = format!("no time after {} can be restored: break at ", chain[1].start.second());
    for command in ["list", "stats"] {
        let text = run(&mut tool(&home, NOWHERE, &[command])).ends(0).stdout;
        let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(joined.contains(&gap) && joined.contains("`uzima-backup backup`"), "{command}: {text}");
    }
    // Other jobs have no slices.
    let other = run(&mut tool(&home, NOWHERE, &["list", "--json", "--job", "other"])).ends(0).json();
    assert_eq!(other["oplog"], Value::Array(vec![]));
}

#[tokio::test]
async fn a_job_without_slices_and_wrong_arguments() {
    let ((server, client), home) = (set().await, Home::new());
    client.database("live").collection::<Document>("rows").insert_one(doc! {"_id": 1}).await.expect("a row");
    backup(&home, &server.uri());
    let report = timeline(&home, &[], 0);
    assert_eq!((report["ranges"].as_array().unwrap().len(), &report["from"]), (1, &Value::Null));
    prints(run(&mut tool(&home, NOWHERE, &["timeline"])).ends(0), &["there are no oplog slices"]);
    run(&mut tool(&home, NOWHERE, &["timeline", "--from", "yesterday"]))
        .ends(2)
        .says(&["--from = 'yesterday': it is neither a date"]);
}
