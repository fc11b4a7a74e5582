//! Backups that version 0.1.0 wrote, in each format. They are never changed: later versions list, verify and
//! restore them.
//!
//! `look` is a backup of a server with views and validators whose constants look like Extended JSON. Version
//! 0.1.0 could not restore it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use uzima_backup::config::choices::NAMES;
use uzima_testkit::read_all::{Snapshot, read_all};

use super::support::server;
use crate::cli::support::{Home, run};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/backups-0.1.0")
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_0_1_0_are_listed_verified_and_restored() {
    let home = Home::new();
    run(Command::new("cp").arg("-r").arg(fixtures().join("2026")).arg(home.backups())).ends(0);
    let all = home.manifests();
    let tool = || home.to_dir("mongodb://127.0.0.1:1");
    let list = run(tool().args(["list", "--json"])).ends(0).stdout;
    run(tool().args(["verify", "--all", "--job", "fixture"])).ends(0);
    run(tool().args(["verify", "--all", "--job", "look"])).ends(0);
    let (target, live) = server().await;
    let mut covered = BTreeSet::new();
    let mut first: Option<Snapshot> = None;
    for manifest in &all {
        assert_eq!(manifest.tool, "uzima-backup 0.1.0");
        assert!(list.contains(manifest.id.as_str()), "{list}");
        let mut command = tool();
        command.env("RESTORE_URI", target.uri()).args(["restore", manifest.id.as_str(), "--exact", "--yes"]);
        let report = run(command.arg("--json")).ends(0).json();
        let restored = read_all(&live).await.expect("the target");
        covered.insert((
            manifest.job.clone(),
            manifest.engine.name.clone(),
            manifest.artifact.format.clone(),
        ));
        if manifest.job == "look" {
            let view = restored.get("look", "v_numberLong").expect("a view");
            let constant = bson::rawdoc! {"$numberLong": "5"};
            let (options, constant) = (view.options.as_bytes(), constant.as_bytes());
            assert!(options.windows(constant.len()).any(|part| part == constant), "{:?}", view.options);
            continue;
        }
        assert_eq!(report["namespaces"].as_array().expect("a list").len(), 9, "{report}");
        match &first {
            None => first = Some(restored),
            Some(first) => assert_eq!(first.diff(&restored), Vec::<String>::new(), "{}", manifest.id),
        }
    }
    let native = NAMES.map(|format| ("fixture", "native", format));
    let others = [
        ("fixture", "mongodump", "tar.gz"),
        ("fixture", "mongodump", "archive.zst"),
        ("look", "native", "tar.gz"),
    ];
    let wanted = native.into_iter().chain(others);
    let wanted: BTreeSet<_> =
        wanted.map(|(job, engine, format)| (job.into(), engine.into(), format.into())).collect();
    assert_eq!(covered, wanted);
    let files = crate::cli::support::files(&fixtures());
    assert_eq!(files.len(), 3 * all.len(), "a fixture that is no backup: {files:?}");
}
