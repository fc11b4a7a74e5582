//! Comparisons with the official tools, where they are installed.

use std::process::{Command, Stdio};

use uzima_testkit::mongod::{Mongod, ROOT_USER};
use uzima_testkit::official::Official;
use uzima_testkit::read_all::{DiffOptions, Snapshot, read_all};
use uzima_testkit::torture;

use crate::cli::contents::{Contents, contents};
use crate::cli::support::{Home, decompressed, run};

async fn tortured() -> Mongod {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    torture::fill(&server.client().await.expect("a client")).await.expect("the torture set");
    server
}

fn backup(home: &Home, server: &Mongod, tools: &Official, engine: &str, format: &str) -> Contents {
    let before = home.manifests().len();
    let mut command = home.to_dir(&server.uri());
    command.env("MONGODUMP_PATH", &tools.mongodump).args(["backup", "--engine", engine, "--format", format]);
    run(&mut command).ends(0);
    let manifest = home.manifests().pop().expect("a manifest");
    assert_eq!((home.manifests().len(), manifest.engine.name.as_str()), (before + 1, engine));
    contents(&manifest, &home.artifact(&manifest))
}

/// Both engines make the same artifact of the same server, up to the whitespace of its JSON.
#[tokio::test]
async fn both_engines_make_the_same_artifact() {
    let Some(tools) = Official::find("mongodump::official::both_engines_make_the_same_artifact") else {
        return;
    };
    let (server, home) = (tortured().await, Home::new());
    let native = backup(&home, &server, &tools, "native", "tar.gz");
    assert!(native.metadata.len() >= 39, "{:?}", native.names());
    for format in ["tar.zst", "archive.gz"] {
        let theirs = backup(&home, &server, &tools, "mongodump", format);
        assert_eq!(native.names(), theirs.names());
        assert_eq!(native.diff(&theirs), Vec::<String>::new(), "{format}");
    }
}

/// The official mongorestore restores everything from each of the four formats, with the commands of
/// RECOVERY.txt.
#[tokio::test]
async fn mongorestore_restores_everything_from_every_format() {
    let Some(tools) =
        Official::find("mongodump::official::mongorestore_restores_everything_from_every_format")
    else {
        return;
    };
    let server = tortured().await;
    let before = read_all(&server.client().await.expect("a client")).await.expect("a snapshot");
    for (format, engine) in [
        ("tar.gz", "native"),
        ("tar.zst", "mongodump"),
        ("archive.gz", "native"),
        ("archive.zst", "mongodump"),
    ] {
        let home = Home::new();
        backup(&home, &server, &tools, engine, format);
        let after = restored(&home, &tools).await;
        let options =
            DiffOptions { ignore_users: vec![format!("admin.{ROOT_USER}")], ..DiffOptions::default() };
        assert_eq!(before.diff_with(&after, &options), Vec::<String>::new(), "{format} by {engine}");
    }
}

/// Restores the only backup of `home` into an empty server.
async fn restored(home: &Home, tools: &Official) -> Snapshot {
    let target = Mongod::builder().start().await.expect("mongod");
    let manifest = home.manifests().pop().expect("a manifest");
    let artifact = home.backups().join(&manifest.artifact.key);
    let folder = home.path().join("unpacked");
    std::fs::create_dir(&folder).expect("a folder");
    let mut restore = Command::new(&tools.mongorestore);
    restore.args(["--uri", &target.uri(), "--bypassDocumentValidation"]).stdin(Stdio::null());
    if manifest.artifact.format == "tar.gz" {
        // With the stock tool, as RECOVERY.txt says.
        let tar = Command::new("tar").arg("xzf").arg(&artifact).current_dir(&folder).output().expect("tar");
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        restore.arg(folder.join("dump"));
    } else {
        let raw = decompressed(&manifest, &std::fs::read(&artifact).expect("an artifact"));
        if manifest.artifact.format == "tar.zst" {
            tar::Archive::new(&raw[..]).unpack(&folder).expect("a tar");
            restore.arg(folder.join("dump"));
        } else {
            let path = folder.join("archive");
            std::fs::write(&path, raw).expect("room");
            restore.arg("--archive").stdin(std::fs::File::open(path).expect("the archive"));
        }
    }
    let done = restore.output().expect("mongorestore");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("0 document(s) failed"), "{said}");
    read_all(&target.client().await.expect("a client")).await.expect("a snapshot")
}
