//! Nights with a place that is away, comes back, or lost everything: the other place has everything, and afterwards both are the same.

use std::path::Path;
use std::process::Command;

use bson::{Document, doc};
use mongodb::Client;
use serde_json::Value;

use crate::cli::support::{Home, files, run};
use crate::oplog::support::{set, tool};

/// The tool with a second directory.
pub fn tool_of_two(home: &Home, uri: &str, args: &[&str]) -> Command {
    let mut command = tool(home, uri, args);
    command.env("COPY_DIR", home.path().join("copy"));
    command
}

/// Runs a command whose JSON fits its schema, and which must end with this exit code.
#[track_caller]
fn json(home: &Home, uri: &str, args: &[&str], schema: &str, code: i32) -> Value {
    let json = run(tool_of_two(home, uri, args).arg("--json")).ends(code).json();
    crate::docs::schema::check(schema, &json);
    json
}

async fn insert(client: &Client) {
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"text": "x".repeat(100)}).await.expect("a row");
}

/// A night: a backup, a write and a slice.
async fn night(home: &Home, uri: &str, client: &Client, code: i32) -> [Value; 2] {
    insert(client).await;
    let backup = json(home, uri, &["backup"], "backup", code);
    insert(client).await;
    [backup, json(home, uri, &["oplog"], "oplog", code)]
}

/// The names and contents of all files.
pub fn contents(root: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |file: String| {
        let bytes = std::fs::read(root.join(&file)).expect("a file");
        (file, bytes)
    };
    files(root).into_iter().map(read).collect()
}

/// Asserts that both places have the same files.
#[track_caller]
pub fn assert_same(home: &Home) {
    let (one, two) = (contents(&home.backups()), contents(&home.path().join("copy")));
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&one), names(&two));
    assert!(one == two, "a file differs");
}

fn outcomes(backup: &Value) -> Vec<(&str, &str)> {
    let rows = backup["places"].as_array().expect("places").iter();
    rows.map(|row| (row["name"].as_str().expect("a name"), row["outcome"].as_str().expect("a word")))
        .collect()
}

#[tokio::test]
async fn one_read_of_the_server_writes_both_places() {
    let ((server, client), home) = (set().await, Home::new());
    std::fs::create_dir(home.path().join("copy")).expect("a folder");
    for _ in 0..2 {
        let [backup, oplog] = night(&home, &server.uri(), &client, 0).await;
        assert_eq!(outcomes(&backup), [("first", "stored"), ("copy", "stored")]);
        assert_eq!(oplog["places"][1]["copied"], 1);
        assert_same(&home);
    }
    let copied = json(&home, &server.uri(), &["copy", "--missing"], "copy", 0);
    assert_eq!(
        (&copied["places"][0]["backups"], &copied["places"][0]["slices"]),
        (&Value::Array(vec![]), &0.into())
    );
    let only = run(tool_of_two(&home, &server.uri(), &["backup", "--json"])
        .arg("--dir")
        .arg(home.path().join("alone")));
    assert_eq!(only.ends(0).json()["places"], Value::Null, "a flag names the only place");
}

#[tokio::test]
async fn a_place_that_returns_after_three_nights_is_caught_up() {
    for away in ["backups", "copy"] {
        let ((server, client), home) = (set().await, Home::new());
        std::fs::create_dir(home.path().join("copy")).expect("a folder");
        night(&home, &server.uri(), &client, 0).await;
        let (place, gone) = (home.path().join(away), home.path().join("gone"));
        std::fs::rename(&place, &gone).expect("the disk is taken out");
        for _ in 0..3 {
            let [backup, oplog] = night(&home, &server.uri(), &client, 3).await;
            let name = if away == "copy" { "copy" } else { "first" };
            assert!(outcomes(&backup).contains(&(name, "missing")), "{backup}");
            assert!(oplog["problems"][0].as_str().is_some_and(|text| text.contains(name)), "{oplog}");
            assert_eq!(
                files(&place),
                Vec::<String>::new(),
                "nothing is written where the disk is not mounted"
            );
        }
        let _ = std::fs::remove_dir(&place);
        std::fs::rename(&gone, &place).expect("the disk is back");
        // The slices are caught up by the next run, and the backups by `copy`.
        night(&home, &server.uri(), &client, 0).await;
        let to = if away == "copy" { "copy" } else { "first" };
        let copied = json(&home, &server.uri(), &["copy", "--missing", "--to", to], "copy", 0);
        assert_eq!(copied["places"][0]["backups"].as_array().map(Vec::len), Some(3), "{copied}");
        assert_same(&home);
    }
}

/// The first place took slices of its own, and then the second one: both are whole, and the same slices follow in both.
#[tokio::test]
async fn places_that_took_slices_of_their_own_go_on_together() {
    let ((server, client), home) = (set().await, Home::new());
    std::fs::create_dir(home.path().join("copy")).expect("a folder");
    night(&home, &server.uri(), &client, 0).await;
    for away in ["copy", "backups"] {
        let (place, gone) = (home.path().join(away), home.path().join(format!("gone-{away}")));
        std::fs::rename(&place, &gone).expect("the disk is taken out");
        insert(&client).await;
        json(&home, &server.uri(), &["oplog"], "oplog", 3);
        let _ = std::fs::remove_dir(&place);
        // The second round begins before the first place has what the other one took meanwhile.
        std::fs::rename(&gone, &place).expect("the disk is back");
    }
    for _ in 0..2 {
        insert(&client).await;
        let oplog = json(&home, &server.uri(), &["oplog"], "oplog", 0);
        assert_eq!(oplog["places"][0]["end"], oplog["places"][1]["end"], "{oplog}");
    }
    for place in ["first", "copy"] {
        let mut verify =
            tool_of_two(&home, &server.uri(), &["verify", "--oplog", "--json", "--place", place]);
        run(&mut verify).ends(0);
        let timeline = run(&mut tool_of_two(&home, &server.uri(), &["timeline", "--json", "--place", place]));
        let timeline = timeline.ends(0).json();
        assert_eq!(timeline["gaps"].as_array().map(Vec::len), Some(0), "{place}: {timeline}");
    }
}

#[tokio::test]
async fn a_lost_first_place_is_filled_from_the_second() {
    let ((server, client), home) = (set().await, Home::new());
    std::fs::create_dir(home.path().join("copy")).expect("a folder");
    for _ in 0..3 {
        night(&home, &server.uri(), &client, 0).await;
    }
    run(&mut tool_of_two(&home, &server.uri(), &["pin", "latest", "--reason", "before the migration"]))
        .ends(0);
    let before = contents(&home.path().join("copy"));
    std::fs::remove_dir_all(home.backups()).expect("the first place is lost");
    let back = ["copy", "--missing", "--to", "first"];
    let refused = run(&mut tool_of_two(&home, &server.uri(), &back)).ends(1);
    refused.says(&["known backups are not in", "--new-place"]);
    let planned = json(&home, &server.uri(), &[&back[..], &["--new-place", "--dry-run"]].concat(), "copy", 0);
    assert_eq!(planned["places"][0]["backups"].as_array().map(Vec::len), Some(3));
    assert_eq!(files(&home.backups()), Vec::<String>::new());
    json(&home, &server.uri(), &[&back[..], &["--new-place"]].concat(), "copy", 0);
    assert_same(&home);
    assert_eq!(contents(&home.backups()), before, "with the pin");
}
