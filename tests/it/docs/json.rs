//! docs/json.md describes every field of the `--json` output.

use std::collections::BTreeSet;

use uzima_backup::catalog::marks::FailedRun;

use super::format::failure;
use super::{keys, read};

/// Runs the binary and reads its JSON.
fn json(env: &[(&str, &str)], args: &[&str]) -> serde_json::Value {
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_uzima-backup"))
        .args(args)
        .arg("--json")
        .env_clear()
        .envs(env.iter().copied())
        .output()
        .unwrap();
    assert!(!run.stdout.is_empty(), "{}", String::from_utf8_lossy(&run.stderr));
    let document = serde_json::from_slice(&run.stdout).unwrap();
    super::schema::check(&super::schema::of_output(args), &document);
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn json_md_describes_the_output_of_oplog() {
    let mongod = uzima_testkit::mongod::Mongod::builder().replica_set("rs").start().await.unwrap();
    uzima_testkit::load::many_tiny(&mongod.client().await.unwrap(), 3).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (dir, state, uri) = (folder.path().join("backups"), folder.path().join("state"), mongod.uri());
    std::fs::create_dir(&dir).unwrap();
    let env = [
        ("MONGO_URI", uri.as_str()),
        ("BACKUP_DIR", dir.to_str().unwrap()),
        ("BACKUP_MIN_FREE", "0"),
        ("UZIMA_BACKUP_STATE_DIR", state.to_str().unwrap()),
    ];
    let report = json(&env, &["oplog"]);
    let mut all = BTreeSet::new();
    keys(&report, &mut all);
    let page = read("docs/json.md");
    let section = page.split("\n## `oplog`\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let missing: Vec<&String> = all.iter().filter(|key| !section.contains(&format!("`{key}`"))).collect();
    assert!(all.len() > 15 && missing.is_empty(), "{missing:?} of {all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_md_describes_the_output_of_timeline_and_the_oplog_of_verify() {
    let mongod = uzima_testkit::mongod::Mongod::builder().replica_set("rs").start().await.unwrap();
    let client = mongod.client().await.unwrap();
    let rows = client.database("shop").collection::<bson::Document>("rows");
    rows.insert_one(bson::doc! {"_id": 1}).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (dir, state, uri) = (folder.path().join("backups"), folder.path().join("state"), mongod.uri());
    std::fs::create_dir(&dir).unwrap();
    let env = [
        ("MONGO_URI", uri.as_str()),
        ("BACKUP_DIR", dir.to_str().unwrap()),
        ("BACKUP_MIN_FREE", "0"),
        ("UZIMA_BACKUP_STATE_DIR", state.to_str().unwrap()),
    ];
    // The slices before the first backup are of no use: a gap.
    json(&env, &["oplog"]);
    rows.insert_one(bson::doc! {"_id": 2}).await.unwrap();
    json(&env, &["oplog"]);
    json(&env, &["backup"]);
    client.database("shop").drop().await.unwrap();
    json(&env, &["oplog"]);
    let timeline = json(&env, &["timeline", "--limit", "1"]);
    for list in ["ranges", "gaps", "periods", "changes"] {
        assert!(timeline[list][0].is_object(), "{list}: {timeline:#}");
    }
    let key = timeline["ranges"][0]["chains"][0].as_str().unwrap().to_string();
    let slice =
        crate::cli::support::files(&dir).into_iter().rfind(|file| file.ends_with("/slice.json")).unwrap();
    assert!(slice.contains(&key), "{slice}");
    std::fs::write(dir.join(slice), "{").unwrap();
    let verify = json(&env, &["verify", "--oplog"]);
    assert!(verify["oplog"][0]["findings"][0].is_object(), "{verify:#}");
    let page = read("docs/json.md");
    for (command, report) in [("timeline", timeline), ("verify", verify)] {
        let mut all = BTreeSet::new();
        keys(&report, &mut all);
        let section =
            page.split(&format!("\n## `{command}`\n")).nth(1).unwrap().split("\n## ").next().unwrap();
        let missing: Vec<&String> = all.iter().filter(|key| !section.contains(&format!("`{key}`"))).collect();
        assert!(all.len() > 10 && missing.is_empty(), "{missing:?} of {all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_md_describes_every_field() {
    let mongod = uzima_testkit::mongod::Mongod::builder().start().await.unwrap();
    uzima_testkit::load::many_tiny(&mongod.client().await.unwrap(), 3).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (dir, uri) = (folder.path().join("backups"), mongod.uri());
    let state = folder.path().join("state");
    let env = [
        ("MONGO_URI", uri.as_str()),
        ("BACKUP_DIR", dir.to_str().unwrap()),
        ("BACKUP_MIN_FREE", "0"),
        ("UZIMA_BACKUP_STATE_DIR", state.to_str().unwrap()),
    ];
    let backup = json(&env, &["backup"]);
    let damaged = dir.join("2020/01/20200101T000000Z-aaaaaa");
    std::fs::create_dir_all(&damaged).unwrap();
    std::fs::write(damaged.join("manifest.json"), "{").unwrap();
    let failed = FailedRun {
        id: "20200102T000000Z-cccccc".parse().unwrap(),
        job: backup["job"].as_str().unwrap().into(),
        started_at: "2020-01-02T00:00:00Z".parse().unwrap(),
        ..failure()
    };
    let folder_of_failed = dir.join("2020/01/20200102T000000Z-cccccc");
    std::fs::create_dir_all(&folder_of_failed).unwrap();
    std::fs::write(folder_of_failed.join("failed.json"), serde_json::to_vec(&failed).unwrap()).unwrap();
    let id = backup["id"].as_str().unwrap().to_string();
    let program = uzima_testkit::mongod::binary::find().unwrap();
    let env = [&env[..], &[("MONGOD_PATH", program.to_str().unwrap())]].concat();
    let verify = json(&env, &["verify", &id, "--drill"]);
    assert!(verify["backups"][0]["drill"].is_object(), "{verify}");
    // Before the pin, because a pinned backup has no next expiry.
    let stats = json(&env, &["stats"]);
    assert!(
        stats["drill"].is_object()
            && stats["next_expiry"].is_object()
            && stats["last"][1]["error"].is_string(),
        "{stats}"
    );
    let pin = json(&env, &["pin", &id]);
    let list = json(&env, &["list"]);
    assert_eq!(list["backups"][0]["pinned"], true);
    assert_eq!(list["backups"][1]["status"], "failed");
    assert_eq!(list["backups"][2]["status"], "unreadable_manifest");
    let mut details = json(&env, &["list", &id]);
    assert_eq!(details["backup"].take(), list["backups"][0]);
    // docs/format.md describes the stored objects.
    for stored in ["manifest", "verdict", "pin"] {
        assert_eq!(details[stored].take()["id"], id.as_str(), "{stored}");
    }
    let orphan = dir.join("2020/01/20200101T000000Z-bbbbbb");
    std::fs::create_dir_all(&orphan).unwrap();
    std::fs::write(orphan.join("dump.tar.gz"), "x").unwrap();
    let cleanup = json(&env, &["cleanup"]);
    assert!(cleanup["frozen"][0].is_string() && cleanup["orphans"][0].is_object(), "{cleanup}");
    let target = uzima_testkit::mongod::Mongod::builder().start().await.unwrap();
    let target = target.uri();
    let to = [&env[..], &[("RESTORE_URI", target.as_str())]].concat();
    let restored = json(&to, &["restore", &id, "--yes"]);
    assert!(restored["namespaces"][0].is_object(), "{restored}");
    let planned = json(&to, &["restore", &id, "--dry-run"]);
    assert!(planned["refused"][0].is_string(), "{planned}");
    // `init` leaves this secret out of the file.
    let secret =
        [&env[..], &[("BACKUP_RECORDS", "mongodb://u:p@127.0.0.1:1/?serverSelectionTimeoutMS=300")]].concat();
    let mut init = json(&secret, &["init", "--config", folder.path().join("new.toml").to_str().unwrap()]);
    assert_eq!(init["left_out"][0]["variable"], "BACKUP_RECORDS_FILE");
    // The page describes `health` in its own section.
    assert!(init["health"].take()["checks"].is_array());
    let page = read("docs/json.md");
    let answers = [
        ("restore --dry-run", planned),
        ("restore", restored),
        ("backup", backup),
        ("backup --dry-run", json(&env, &["backup", "--dry-run"])),
        ("list", list),
        ("list ID", details),
        ("stats", stats),
        ("cleanup", cleanup),
        ("verify", verify),
        ("pin`, `unpin", pin),
        ("health", json(&env, &["health"])),
        ("notify", json(&env, &["notify", "--render", folder.path().join("mails").to_str().unwrap()])),
        ("config", json(&env, &["config"])),
        ("init", init),
    ];
    for (command, answer) in answers {
        let section = page.split(&format!("\n## `{command}`\n")).nth(1).expect("a section for each command");
        let section = section.split("\n## ").next().unwrap();
        let mut all = BTreeSet::new();
        keys(&answer, &mut all);
        let missing: Vec<&String> = all.iter().filter(|key| !section.contains(&format!("`{key}`"))).collect();
        assert!(all.len() > 3 && missing.is_empty(), "docs/json.md, {command}: {missing:?} of {all:?}");
        assert_eq!(answer["version"], 1);
    }
}
