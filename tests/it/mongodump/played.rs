//! A recording of the official tool is stored unchanged in every format, and `auto` chooses the engine.

use serde_json::json;
use uzima_testkit::standin::{Play, StandIn};

use super::support::{recorded, server, standin, tool};
use crate::cli::contents::{contents, of_archive, tar_files};
use crate::cli::support::{Home, decompressed, run};

#[tokio::test]
async fn a_recording_is_stored_unchanged_in_every_format() {
    let server = server().await;
    let truth = of_archive(&recorded());
    assert_eq!((truth.metadata.len(), truth.documents["shop.orders"].len()), (39, 1000));
    for format in ["tar.gz", "tar.zst", "archive.gz", "archive.zst"] {
        let (home, mongodump) = (Home::new(), standin(&[Play::archive(recorded())]));
        let report =
            run(tool(&home, &server, &mongodump).args(["backup", "--json", "--format", format])).ends(0);
        assert_eq!(report.json()["engine"], json!("mongodump"));
        let manifest = &home.manifests()[0];
        let artifact = home.artifact(manifest);
        let got = contents(manifest, &artifact);
        assert_eq!(truth.diff(&got), Vec::<String>::new(), "{format}");
        let (documents, raw) =
            truth.documents.values().flatten().fold((0, 0), |(n, b), d| (n + 1, b + d.len()));
        assert_eq!((manifest.totals.documents, manifest.totals.raw_bytes), (documents, raw as u64));
        assert_eq!(manifest.engine.version.as_deref(), Some("100.18.0"));
        assert_eq!(mongodump.runs().expect("runs").len(), 1);
        // mongodump does not read the collections in the order in which it lists them.
        run(tool(&home, &server, &mongodump).arg("verify")).ends(0);
        if format.starts_with("tar") {
            let files = tar_files(&decompressed(manifest, &artifact));
            let recovery = String::from_utf8(files["RECOVERY.txt"].clone()).expect("text");
            assert!(recovery.contains(" --bypassDocumentValidation dump/"), "{recovery}");
            assert!(files.contains_key("dump/prelude.json"), "{:?}", files.keys());
        }
    }
}

/// The manifest and `config` say which engine `auto` chose and why.
#[tokio::test]
async fn auto_chooses_the_installed_engine_and_says_why() {
    let (server, mongodump) = (server().await, standin(&[Play::archive(recorded())]));
    let old = StandIn::with_version("100.4.1", &[Play::archive(recorded())]).expect("a stand-in");
    let (bin, program) = (mongodump.bin().display().to_string(), mongodump.program().display().to_string());
    let old_program = old.program().display().to_string();
    let found = format!("found {program} 100.18.0");
    let too_old = format!("{old_program} is version 100.4.1; 100.5 or later is needed");
    let several = "mongodump cannot read several chosen databases or patterns";
    for (variables, engine, why) in [
        (&[("PATH", bin.as_str())][..], "mongodump", found.as_str()),
        (&[("MONGODUMP_PATH", &program)], "mongodump", &found),
        (&[("MONGODUMP_PATH", "/nonexistent/mongodump")], "native", "/nonexistent/mongodump cannot be run: "),
        (&[("MONGODUMP_PATH", &old_program)], "native", &too_old),
        (&[("PATH", &bin), ("BACKUP_EXCLUDE", "x.*")], "native", several),
    ] {
        let home = Home::new();
        let tool = |args: &[&str]| {
            let mut command = home.to_dir(&server.uri());
            run(command.env("BACKUP_ENGINE", "auto").envs(variables.iter().copied()).args(args)).ends(0)
        };
        tool(&["backup"]);
        let manifest = home.manifests().pop().expect("a manifest");
        assert_eq!(manifest.engine.name, engine, "{why}");
        assert!(manifest.engine.why.starts_with(why), "{} / {why}", manifest.engine.why);
        let shown = tool(&["config", "--json"]).json();
        assert_eq!(shown["engine"], serde_json::to_value(&manifest.engine).expect("JSON"));
        let line = format!("a backup would read with the {engine} engine: {why}");
        assert!(tool(&["config"]).stdout.contains(&line));
    }
    assert!(old.runs().expect("runs").is_empty());
    assert_eq!(mongodump.runs().expect("runs").len(), 2);
}

/// A requested mongodump that is not installed is a usage error, found before anything is read.
#[tokio::test]
async fn a_requested_mongodump_that_is_not_installed_is_a_usage_error() {
    let (home, server) = (Home::new(), server().await);
    let mut command = home.to_dir(&server.uri());
    command.env("MONGODUMP_PATH", "/nonexistent/mongodump").args(["backup", "--engine", "mongodump"]);
    run(&mut command).ends(2).says(&["/nonexistent/mongodump", "BACKUP_ENGINE=native"]);
    home.assert_nothing_stored();
}
