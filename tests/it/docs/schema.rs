//! The JSON Schemas in docs/schema match the documents that the tool really prints, posts and stores.

use std::collections::BTreeSet;

use serde_json::Value;
use uzima_testkit::mongod::Mongod;

use super::read;
use crate::cli::support::{Home, run};

/// Checks a document against a schema in docs/schema. A field of the document itself that the schema does not
/// have is an error as well, although the schema allows later versions to add fields.
#[track_caller]
pub fn check(name: &str, document: &Value) {
    let mut schema: Value = serde_json::from_str(&read(&format!("docs/schema/{name}.json"))).expect("JSON");
    schema["unevaluatedProperties"] = false.into();
    let validator = jsonschema::validator_for(&schema).unwrap_or_else(|e| panic!("{name}: {e}"));
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert_eq!(errors, Vec::<String>::new(), "{name}: {document:#}");
}

/// The name of the schema for the output of a command.
pub fn of_output(args: &[&str]) -> String {
    let command = match args[0] {
        "unpin" => "pin",
        "list" if args.get(1).is_some_and(|id| !id.starts_with('-')) => "list-backup",
        command => command,
    };
    let dry_run = args.contains(&"--dry-run") && ["backup", "restore"].contains(&command);
    format!("{command}{}", if dry_run { "-dry-run" } else { "" })
}

/// The schema of every document is a table row of docs/json.md or names an object of docs/format.md.
#[test]
fn the_schemas_are_listed_in_json_md() {
    let page = read("docs/json.md");
    for (name, _) in uzima_backup::cli::schemas() {
        assert!(page.contains(&format!("(schema/{name}.json)")), "docs/json.md has no link to {name}");
    }
}

#[test]
fn a_document_that_breaks_its_schema_is_found() {
    let good = serde_json::json!({
        "version": 1, "kind": "usage", "message": "x", "causes": [], "next_step": null, "exit": 2
    });
    check("failure", &good);
    for (field, value) in [("kind", "unheard_of".into()), ("causes", Value::Null), ("more", 1.into())] {
        let mut bad = good.clone();
        bad[field] = value;
        let checked = std::panic::catch_unwind(|| check("failure", &bad));
        assert!(checked.is_err(), "{bad}");
    }
}

/// The objects of a backup that was verified, drilled, pinned, accepted and half deleted, and of a failed run.
#[tokio::test(flavor = "multi_thread")]
async fn stored_objects_match_their_schemas() {
    let server = Mongod::builder().replica_set("rs0").start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    uzima_testkit::load::many_tiny(&client, 3).await.expect("documents");
    let home = Home::new();
    let tool = |args: &[&str]| {
        let program = uzima_testkit::mongod::binary::find().expect("a mongod");
        let mut tool = home.to_dir(&server.uri());
        tool.env("MONGOD_PATH", program).env("BACKUP_JOB", "nightly").env("BACKUP_RECORDS", server.uri());
        run(tool.args(args))
    };
    tool(&["backup"]).ends(0);
    let id = home.manifests().pop().expect("a manifest").id.to_string();
    tool(&["verify", "--drill"]).ends(0);
    tool(&["pin", &id, "--reason", "before the upgrade"]).ends(0);
    tool(&["cleanup", "--accept", &id]);
    let mut unreachable = home.to_dir("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300");
    run(unreachable.env("BACKUP_RECORDS", server.uri()).arg("backup")).ends(1);
    let mut checked = BTreeSet::new();
    for file in home.files() {
        let bytes = std::fs::read(home.backups().join(&file)).expect("a file");
        let (_, name) = file.rsplit_once('/').expect("a folder");
        let (schema, json) = match name {
            "manifest.json" => ("stored-manifest", bytes),
            "index.json.zst" => ("stored-index", zstd::decode_all(&bytes[..]).expect("a frame")),
            "failed.json" => ("stored-failed", bytes),
            "pin.json" | "accepted.json" => ("stored-mark", bytes),
            name if name.starts_with("verified-") => ("stored-verified", bytes),
            _ => continue,
        };
        check(schema, &serde_json::from_slice(&json).expect("JSON"));
        checked.insert(schema);
    }
    let client = mongodb::Client::with_uri_str(server.uri()).await.expect("a client");
    let records = client.database("uzima_backup").collection::<bson::Document>("runs");
    let mut records = records.find(bson::doc! {}).await.expect("records");
    let mut statuses = BTreeSet::new();
    while records.advance().await.expect("a record") {
        let record = records.deserialize_current().expect("a record");
        statuses.insert(record.get_str("status").expect("a status").to_string());
        check("stored-record", &bson::Bson::from(record).into_relaxed_extjson());
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), ["completed", "failed"]);
    let stored = ["stored-failed", "stored-index", "stored-manifest", "stored-mark", "stored-verified"];
    assert_eq!(checked.into_iter().collect::<Vec<_>>(), stored);
}
