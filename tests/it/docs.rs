//! The documents say what is so: each claim that a program can check is checked here.

use std::collections::BTreeSet;

use uzima_backup::catalog::marks::Failure;

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// All keys of a JSON value, at any depth.
fn keys(value: &serde_json::Value, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                into.insert(key.clone());
                keys(value, into);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, into)),
        _ => {}
    }
}

/// A manifest in which every optional field is set.
fn full_manifest() -> serde_json::Value {
    use uzima_backup::artifact::manifest::*;
    use uzima_backup::source::Type;
    use uzima_backup::source::optime::OpTime;
    use uzima_backup::source::server::Topology;
    let now = "2026-11-23T03:00:00Z".parse().unwrap();
    let text = || String::from("x");
    let namespace = NamespaceEntry {
        db: text(),
        collection: text(),
        kind: Type::Collection,
        uuid: Some(text()),
        options_blake3: text(),
        indexes: vec![IndexEntry { name: text(), blake3: text() }],
        documents: 1,
        raw_bytes: 1,
        stored_bytes: 1,
        xxh3_sum: text(),
        dropped: true,
    };
    let at = OpTime { t: 1, i: 1 };
    let slice = Slice { start: at, end: at, entries: 1, raw_bytes: 1, stored_bytes: 1, xxh3_sum: text() };
    let manifest = Manifest {
        format: FORMAT,
        id: "20261123T030000Z-7k3q9d".parse().unwrap(),
        job: text(),
        tool: text(),
        host: text(),
        started_at: now,
        finished_at: now,
        source: Source {
            topology: Topology::ReplicaSet,
            member: text(),
            version: text(),
            set_name: Some(text()),
            set_id: Some(text()),
        },
        engine: Engine { name: text(), version: Some(text()), why: text() },
        consistency: Consistency { achieved: text(), why: text(), at: Some(at), oplog: Some(slice) },
        selection: SelectionAsked { databases: vec![], include: vec![], exclude: vec![] },
        artifact: Artifact {
            key: text(),
            format: text(),
            level: 1,
            size: 1,
            crc64nvme: text(),
            part_size: 1,
        },
        index: Object { key: text(), size: 1, blake3: text() },
        totals: Totals { namespaces: 1, documents: 1, raw_bytes: 1 },
        namespaces: vec![namespace],
        warnings: vec![],
        notes: vec![],
    };
    serde_json::to_value(manifest).unwrap()
}

#[test]
fn manifests_from_before_the_oplog_slice_are_read() {
    use uzima_backup::artifact::manifest::Manifest;
    let mut json = full_manifest();
    json["consistency"] = serde_json::json!({"achieved": "none", "why": "x"});
    let manifest = Manifest::decode(json.to_string().as_bytes()).unwrap();
    assert_eq!((manifest.consistency.at, manifest.consistency.oplog.as_ref()), (None, None));
    assert_eq!((manifest.slice_place(), manifest.name(1)), (None, None));
    assert_eq!(serde_json::to_value(&manifest).unwrap(), json);
}

/// What is said about a failed run, with every optional field.
fn failure() -> Failure {
    let now = "2026-11-23T03:00:00Z".parse().unwrap();
    Failure {
        format: 1,
        id: "20261123T030000Z-7k3q9d".parse().unwrap(),
        job: "x".into(),
        tool: "x".into(),
        host: "x".into(),
        started_at: now,
        failed_at: now,
        exit: 1,
        error: "x".into(),
        next_step: Some("x".into()),
        notes: vec!["x".into()],
    }
}

#[test]
fn format_md_describes_every_field() {
    use uzima_backup::artifact::index::{Index, Segment};
    use uzima_backup::catalog::id::BackupId;
    let segment =
        Segment { namespace: 0, documents: 1, raw_bytes: 1, blake3: "x".into(), offset: 0, length: 1 };
    let index = Index { format: 1, id: "x".into(), segments: vec![segment] };
    let mut all = BTreeSet::new();
    keys(&full_manifest(), &mut all);
    keys(&serde_json::to_value(index).unwrap(), &mut all);
    use uzima_backup::catalog::marks::{Mark, Tombstone};
    keys(&serde_json::to_value(failure()).unwrap(), &mut all);
    let drill = uzima_backup::catalog::verdict::Drill {
        at: chrono::Utc::now(),
        target: "x".into(),
        version: "x".into(),
        oplog_entries: 1,
        recovery_seconds: 1.0,
        index_seconds: 1.0,
        compare_seconds: 1.0,
        namespaces: 1,
        documents: 1,
        raw_bytes: 1,
        findings: vec![],
        notes: vec![],
    };
    let verdict = uzima_backup::catalog::verdict::Verdict {
        format: 1,
        id: failure().id,
        at: chrono::Utc::now(),
        host: "x".into(),
        tool: "x".into(),
        sound: true,
        findings: vec![],
        stored_bytes: 1,
        documents: 1,
        raw_bytes: 1,
        seconds: 1.0,
        drill: Some(drill),
    };
    keys(&serde_json::to_value(verdict).unwrap(), &mut all);
    let (id, at): (BackupId, _) = ("20261123T030000Z-7k3q9d".parse().unwrap(), chrono::Utc::now());
    let pin = Mark { format: 1, id: id.clone(), at, host: "x".into(), reason: Some("x".into()) };
    let tombstone =
        Tombstone { format: 1, id, job: "x".into(), at, reason: "x".into(), keys: vec!["x".into()] };
    keys(&serde_json::to_value(pin).unwrap(), &mut all);
    keys(&serde_json::to_value(tombstone).unwrap(), &mut all);
    assert!(all.len() > 40, "{all:?}");
    let page = read("docs/format.md");
    let missing: Vec<&String> = all.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/format.md does not describe {missing:?}");
    use uzima_backup::catalog::layout;
    for file in [layout::MANIFEST, layout::PIN, layout::ACCEPTED, layout::TOMBSTONE] {
        assert!(page.contains(file), "docs/format.md does not name {file}");
    }
}

#[test]
fn exit_codes_are_the_same_everywhere() {
    use uzima_backup::exit::Exit;
    let all: Vec<Exit> = Exit::all().collect();
    let shown: Vec<String> = all.iter().map(|exit| exit.shown()).collect();
    assert_eq!(shown, ["0", "1", "2", "3", "4", "5", "6", "75", "128 + n"]);
    let page = read("docs/operations.md");
    let table =
        page.split_once("| exit code | meaning | what to do |\n|---|---|---|\n").expect("the table").1;
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), all.len());
    for (exit, row) in all.iter().zip(rows) {
        let advice = row.strip_prefix(&format!("| {} | {} | ", exit.shown(), exit.meaning()));
        assert!(advice.is_some_and(|advice| advice.len() > " |".len()), "{row}");
    }
    let man = read("man/uzima-backup.1").replace("\\-", "-");
    let help = uzima_backup::cli::command().render_long_help().to_string();
    // Help is wrapped to the terminal's width.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for exit in all {
        let entry = format!("{} {}", exit.shown(), exit.meaning());
        assert!(help.contains(&entry), "--help does not say {entry:?}");
        let entry = format!("\\fB{}\\fR\n{}\n", exit.shown(), exit.meaning());
        assert!(man.contains(&entry), "the man page does not say {entry:?}");
    }
}

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
    serde_json::from_slice(&run.stdout).unwrap()
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
    let failed = Failure {
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
    // What is pinned never goes: before that, everything in it is there.
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
    assert_eq!(list["backups"][2]["status"], "damaged");
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
    // A secret that is left out.
    let secret =
        [&env[..], &[("BACKUP_RECORDS", "mongodb://u:p@127.0.0.1:1/?serverSelectionTimeoutMS=300")]].concat();
    let mut init = json(&secret, &["init", "--config", folder.path().join("new.toml").to_str().unwrap()]);
    assert_eq!(init["left_out"][0]["variable"], "BACKUP_RECORDS_FILE");
    // That is described at the command of its name.
    assert!(init["health"].take()["checks"].is_array());
    let page = read("docs/json.md");
    let answers = [
        ("restore --dry-run", planned),
        ("restore", restored),
        ("backup", backup),
        ("backup --dry-run", json(&env, &["backup", "--dry-run"])),
        ("list", list),
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
        let section = page.split(&format!("\n## `{command}`\n")).nth(1).expect("a section a command");
        let section = section.split("\n## ").next().unwrap();
        let mut all = BTreeSet::new();
        keys(&answer, &mut all);
        let missing: Vec<&String> = all.iter().filter(|key| !section.contains(&format!("`{key}`"))).collect();
        assert!(all.len() > 3 && missing.is_empty(), "docs/json.md, {command}: {missing:?} of {all:?}");
        assert_eq!(answer["version"], 1);
    }
}

#[test]
fn reliability_md_names_tests_that_exist() {
    let this = std::env::current_exe().unwrap();
    let list = std::process::Command::new(this).arg("--list").output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let tests: BTreeSet<&str> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    let text = read("docs/reliability.md");
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|code| code.contains("::")).collect();
    assert!(named.len() > 100, "{}", named.len());
    let missing: Vec<&&str> = named.iter().filter(|name| !tests.contains(**name)).collect();
    assert!(missing.is_empty(), "no such test: {missing:?}");
    for row in text.lines().filter(|row| row.starts_with("| ") && !row.starts_with("| What happens")) {
        assert!(row.contains("::"), "no test behind: {row}");
    }
}
