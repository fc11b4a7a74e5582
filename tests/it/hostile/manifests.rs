//! Verify finds every change to a manifest.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use uzima_backup::base::clock::Clock;
use uzima_backup::base::progress::Meter;
use uzima_backup::catalog::trust::Trust;
use uzima_backup::catalog::{self, CatalogEntry, layout};
use uzima_backup::config::store::DirOptions;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::ops::verify::check_backup;
use uzima_backup::store::{DirStore, Store};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::wire_proxy::{Rule, WireProxy};

use crate::cli::support::{Home, run};
use crate::native::support::meanwhile;

/// Collects every copy of a JSON value with one change, and the place of the change.
fn changes(value: &Value, place: &str, out: &mut Vec<(String, Value)>) {
    let inner = |out: &mut Vec<_>, key: &str, old: &Value, put: &dyn Fn(Value) -> Value| {
        let mut changed = Vec::new();
        changes(old, &format!("{place}/{key}"), &mut changed);
        out.extend(changed.into_iter().map(|(place, new)| (place, put(new))));
    };
    match value {
        Value::Object(fields) => {
            for (key, old) in fields {
                inner(out, key, old, &|new| {
                    let mut fields = fields.clone();
                    fields[key] = new;
                    Value::Object(fields)
                });
            }
            for key in fields.keys() {
                let mut fields = fields.clone();
                fields.shift_remove(key);
                out.push((format!("{place}/{key} removed"), Value::Object(fields)));
            }
        }
        Value::Array(items) => {
            for (at, old) in items.iter().enumerate() {
                inner(out, &at.to_string(), old, &|new| {
                    let mut items = items.clone();
                    items[at] = new;
                    Value::Array(items)
                });
                let mut fewer = items.clone();
                fewer.remove(at);
                out.push((format!("{place}/{at} removed"), Value::Array(fewer)));
            }
            let more = items.iter().cloned().chain([items.first().cloned().unwrap_or("x".into())]);
            out.push((format!("{place} added to"), Value::Array(more.collect())));
        }
        Value::String(text) => out.push((place.into(), format!("{text}x").into())),
        Value::Number(number) => out.push((place.into(), (number.as_u64().unwrap_or(0) + 1).into())),
        Value::Bool(is) => out.push((place.into(), (!is).into())),
        Value::Null => out.push((place.into(), 1.into())),
    }
}

/// Changes that keep a time valid, or replace a word by another word of the format.
fn plausible(manifest: &Value) -> Vec<(String, Value)> {
    let with = |pointer: &str, value: Value| {
        let mut changed = manifest.clone();
        *changed.pointer_mut(pointer).expect(pointer) = value;
        (pointer.to_string(), changed)
    };
    let mut all: Vec<_> =
        ["/started_at", "/finished_at"].map(|at| with(at, "2026-11-23T03:00:00Z".into())).into();
    all.push(with("/source/topology", "standalone".into()));
    all.push(with("/namespaces/0/type", "view".into()));
    all
}

async fn findings(store: &Arc<dyn Store>, manifest: &Manifest) -> Vec<String> {
    match catalog::find(&**store, &manifest.id, &Trust::default())
        .await
        .expect("the store answers")
        .expect("a manifest")
    {
        CatalogEntry::Damaged { why, .. } => vec![why],
        CatalogEntry::Archived { .. } => unreachable!("a directory has no archive"),
        CatalogEntry::Untrusted { .. } => unreachable!("there are no trusted keys"),
        CatalogEntry::Backup(manifest) => {
            let report = check_backup(store, &manifest, None, 2, Clock::start(), &Meter::default())
                .await
                .expect("a report");
            report.findings.iter().map(ToString::to_string).collect()
        }
    }
}

/// Writes each changed manifest into the store. Returns the places of the changes that verify did not find.
async fn unnoticed(home: &Home, manifest: &Manifest, changed: &[(String, Value)]) -> Vec<String> {
    let path = home.backups().join(layout::manifest(&manifest.id));
    let store: Arc<dyn Store> = Arc::new(DirStore::new(DirOptions::new(home.backups())).expect("a store"));
    let mut missed = Vec::new();
    let original = std::fs::read(&path).expect("a manifest");
    assert_eq!(findings(&store, manifest).await, Vec::<String>::new());
    for (place, json) in changed {
        std::fs::write(&path, serde_json::to_vec_pretty(json).expect("JSON")).expect("a file");
        if findings(&store, manifest).await.is_empty() {
            missed.push(place.clone());
        }
    }
    std::fs::write(&path, original).expect("a file");
    missed
}

fn json(home: &Home, manifest: &Manifest) -> Value {
    let bytes = std::fs::read(home.backups().join(layout::manifest(&manifest.id))).expect("a manifest");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_a_manifest_is_found() {
    let server = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let client = server.client().await.expect("a client");
    let rows = client.database("shop").collection("rows");
    rows.insert_many((0..50).map(|n| bson::doc! {"_id": n})).await.expect("rows");
    client.database("shop").create_collection("v").view_on("rows").await.expect("a view");
    // Gives the slice an entry.
    let write = meanwhile(server.uri(), async |client: mongodb::Client| {
        let rows = client.database("shop").collection("rows");
        rows.insert_one(bson::doc! {"_id": bson::oid::ObjectId::new()}).await.expect("a row");
    });
    proxy.add(Rule::on("find").namespace("shop.rows").then(write));
    let home = Home::new();
    for format in ["tar.zst", "archive.gz"] {
        let mut tool = home.to_dir(&proxy.uri(&server.uri()));
        run(tool.args(["backup", "--consistency", "oplog", "--format", format])).ends(0);
        let manifest = home.manifests().pop().expect("a manifest");
        assert!(manifest.consistency.oplog.as_ref().expect("a slice").entries > 0);
        let json = json(&home, &manifest);
        let mut changed = plausible(&json);
        changes(&json, "", &mut changed);
        assert!(changed.len() > 80, "{}", changed.len());
        let missed = unnoticed(&home, &manifest, &changed).await;
        println!("{format}: {} changes", changed.len());
        assert_eq!(missed, Vec::<String>::new(), "{format}");
    }
    // Other whitespace around the same content is not a change.
    let manifest = home.manifests().pop().expect("a manifest");
    let compact = serde_json::to_vec(&json(&home, &manifest)).expect("JSON");
    std::fs::write(home.backups().join(layout::manifest(&manifest.id)), compact).expect("a file");
    run(home.to_dir("mongodb://127.0.0.1:1").args(["verify", manifest.id.as_str()])).ends(0);
}

/// Version 0.1.0 wrote no digest of the manifest. Its options, indexes and slice are compared with the
/// artifact.
#[tokio::test(flavor = "multi_thread")]
async fn changed_options_indexes_and_slices_of_0_1_0_are_found() {
    let home = Home::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backups-0.1.0/2026");
    run(Command::new("cp").arg("-r").arg(fixtures).arg(home.backups())).ends(0);
    for manifest in home.manifests() {
        let json = json(&home, &manifest);
        let mut all = Vec::new();
        changes(&json, "", &mut all);
        let compared = |place: &str| {
            let of_slice = ["/consistency/oplog/end/", "/consistency/at/", "/consistency/oplog/entries"];
            place.ends_with("/options_blake3")
                || place.contains("/indexes/") && (place.ends_with("/blake3") || place.ends_with(" removed"))
                || of_slice.iter().any(|field| place.starts_with(field))
        };
        let changed: Vec<_> = all.into_iter().filter(|(place, _)| compared(place)).collect();
        assert!(changed.len() > 20, "{}", changed.len());
        let missed = unnoticed(&home, &manifest, &changed).await;
        assert_eq!(missed, Vec::<String>::new(), "{} {}", manifest.id, manifest.artifact.format);
    }
}
