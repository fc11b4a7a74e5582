//! The objects that a backup and later commands write into the store, and the record of a run. They are a format:
//! other versions read them.

use bson::doc;
use insta::assert_snapshot;
use serde_json::Value;

use super::support::{Shop, compact, normalize_measured};
use crate::cli::support::{Home, run};
use crate::records::support::{recorded, recording};

/// The stored JSON object whose name starts with `name`.
fn stored(home: &Home, name: &str) -> String {
    let files = home.files();
    let file = files.iter().find(|file| file.rsplit('/').next().is_some_and(|last| last.starts_with(name)));
    let path = home.backups().join(file.unwrap_or_else(|| panic!("no {name} in {files:?}")));
    let value: Value = serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON");
    normalize_measured(&compact(&value), home)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_stores_its_manifest_and_its_marks() {
    let shop = Shop::open().await;
    let index = doc! {"createIndexes": "orders", "indexes": [{"key": {"text": 1}, "name": "text_1"}]};
    shop.client.database("shop").run_command(index).await.expect("an index");
    shop.run(&["backup", "--include", "shop.orders", "--job", "nightly"]).ends(0);
    shop.run(&["pin", "latest", "--reason", "before the migration"]).ends(0);
    shop.run(&["verify", "latest"]).ends(0);
    assert_snapshot!(stored(&shop.home, "manifest.json"), @r#"
        {
          "format": 1,
          "id": "00000000T000000Z-000001",
          "job": "nightly",
          "tool": "uzima-backup [VERSION]",
          "host": "[HOST]",
          "started_at": "0000-00-00T00:00:00Z",
          "finished_at": "0000-00-00T00:00:00Z",
          "source": {
            "topology": "standalone",
            "member": "127.0.0.1:00000",
            "version": "[SERVER VERSION]",
            "feature_compatibility_version": "[SERVER VERSION]"
          },
          "engine": {"name": "native", "why": "engine = native"},
          "consistency": {
            "achieved": "none",
            "why": "a standalone server has no oplog. Make it a replica set of one member: start it with --replSet and run rs.initiate()"
          },
          "selection": {
            "databases": [],
            "include": ["shop.orders"],
            "exclude": []
          },
          "artifact": {
            "key": "0000/00/00000000T000000Z-000001/dump.tar.gz",
            "format": "tar.gz",
            "level": 4,
            "size": 0,
            "crc64nvme": "[CRC64]",
            "part_size": 8388608
          },
          "index": {
            "key": "0000/00/00000000T000000Z-000001/index.json.zst",
            "size": 0,
            "blake3": "[BLAKE3]"
          },
          "totals": {"namespaces": 1, "documents": 3, "raw_bytes": 0},
          "timing": "[TIMING]",
          "namespaces": [
            {
              "db": "shop",
              "collection": "orders",
              "type": "collection",
              "uuid": "[UUID]",
              "options_blake3": "[BLAKE3]",
              "indexes": [
                {"name": "_id_", "blake3": "[BLAKE3]"},
                {"name": "text_1", "blake3": "[BLAKE3]"}
              ],
              "documents": 3,
              "raw_bytes": 0,
              "stored_bytes": 0,
              "xxh3_sum": "[XXH3]"
            }
          ],
          "warnings": [],
          "notes": []
        }
    "#);
    assert_snapshot!(stored(&shop.home, "pin.json"), @r#"
        {
          "format": 1,
          "id": "00000000T000000Z-000001",
          "at": "0000-00-00T00:00:00Z",
          "host": "[HOST]",
          "reason": "before the migration"
        }
    "#);
    assert_snapshot!(stored(&shop.home, "verified-"), @r#"
        {
          "format": 1,
          "id": "00000000T000000Z-000001",
          "at": "0000-00-00T00:00:00Z",
          "host": "[HOST]",
          "tool": "uzima-backup [VERSION]",
          "sound": true,
          "findings": [],
          "stored_bytes": 0,
          "documents": 3,
          "raw_bytes": 0,
          "seconds": 0
        }
    "#);
    let failed = Home::new();
    run(failed.to_dir(&shop.server.uri()).env("BACKUP_JOB", "nightly").args(["backup", "--db", "shpo"]))
        .ends(1);
    assert_snapshot!(stored(&failed, "failed.json"), @r#"
        {
          "format": 1,
          "id": "00000000T000000Z-000001",
          "job": "nightly",
          "tool": "uzima-backup [VERSION]",
          "host": "[HOST]",
          "started_at": "0000-00-00T00:00:00Z",
          "failed_at": "0000-00-00T00:00:00Z",
          "exit": 1,
          "partial": "the database shpo",
          "error": "the database 'shpo' does not exist on 127.0.0.1:00000",
          "next_step": "Check the spelling in --db, BACKUP_DATABASES or MONGO_URI, names are case-sensitive; similar names: shop",
          "notes": []
        }
    "#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_recorded_with_its_result() {
    let shop = Shop::open().await;
    let mut command = recording(&shop.home, &shop.server.uri());
    run(command.env("BACKUP_JOB", "nightly").args([
        "backup",
        "--include",
        "shop.orders",
        "--job",
        "nightly",
    ]))
    .ends(0);
    let [record] = recorded(&shop.client).await.try_into().expect("one record");
    let value = bson::Bson::Document(record).into_relaxed_extjson();
    assert_snapshot!(normalize_measured(&compact(&value), &shop.home), @r#"
        {
          "_id": "00000000T000000Z-000001",
          "format": 1,
          "host": "[HOST]",
          "job": "nightly",
          "place": "[HOME]/backups",
          "started_at": {"$date": "0000-00-00T00:00:00Z"},
          "status": "completed",
          "warnings": [],
          "consistency": "none",
          "documents": 3,
          "engine": "native",
          "finished_at": {"$date": "0000-00-00T00:00:00Z"},
          "key": "0000/00/00000000T000000Z-000001/dump.tar.gz",
          "namespaces": 1,
          "raw_bytes": 0,
          "stored_bytes": 0,
          "timing": "[TIMING]"
        }
    "#);
}
