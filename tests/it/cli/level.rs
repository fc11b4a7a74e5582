//! Compression that follows the line: `compression_level = auto`.

use std::path::Path;
use std::process::Command;

use bson::{RawDocumentBuf, doc};
use futures_util::TryStreamExt;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::load::{self, Load};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::S3Server;
use uzima_testkit::tcp_proxy::{Line, TcpProxy};

use super::s3::variables;
use super::support::{Home, NOWHERE, run};

/// Rates in bytes per second. The next one is tried if the machine is so busy that its compressors are slower than the line.
const NARROW: [u64; 3] = [3_000_000, 1_000_000, 300_000];

/// A server with 75 MB that cannot be compressed, so that the artifact is far larger than the buffers of sockets, which count as sent,
/// and than what a fast line needs.
async fn server() -> Mongod {
    let server = Mongod::builder().start().await.expect("mongod");
    let database = server.client().await.expect("a client").database("shop");
    load::incompressible(&database, "blobs", 4_600, 16 << 10, 1).await.expect("blobs");
    server
}

/// All documents in a row, as in mongodump's file.
async fn documents(server: &Mongod) -> Vec<u8> {
    let blobs =
        server.client().await.expect("a client").database("shop").collection::<RawDocumentBuf>("blobs");
    let sorted = blobs.find(doc! {}).sort(doc! {"_id": 1}).await.expect("a cursor");
    sorted
        .try_fold(Vec::new(), |mut all, document| async move {
            all.extend_from_slice(document.as_bytes());
            Ok(all)
        })
        .await
        .expect("documents")
}

/// Backs up over a line of `rate` bytes per second with `--level auto`. Returns the manifest and the artifact.
fn over_a_line(rate: u64, home: &Home, uri: &str, bucket: &S3Server, format: &str) -> (Manifest, Vec<u8>) {
    let line = Line { rate: Some(rate), ..Line::default() };
    let proxy = TcpProxy::start_line(bucket.address(), line);
    let mut backup = home.tool();
    backup.env("MONGO_URI", uri).envs(variables(&format!("http://{}", proxy.address())));
    run(backup.args(["backup", "--format", format, "--level", "auto"])).ends(0);
    let objects = bucket.objects();
    let (key, manifest) =
        objects.iter().rfind(|(key, _)| key.ends_with("manifest.json")).expect("a manifest");
    let manifest = Manifest::decode(manifest).expect("a manifest");
    let artifact = objects[&key.replace("manifest.json", &format!("dump.{format}"))].to_vec();
    (manifest, artifact)
}

/// Unpacks the artifact with a line for the shell, and returns the file of the collection.
fn unpacked(home: &Path, artifact: &[u8], line: &str) -> Vec<u8> {
    std::fs::write(home.join("artifact"), artifact).expect("a file");
    let status = Command::new("sh").args(["-c", line]).current_dir(home).status().expect("sh");
    assert!(status.success(), "{line}");
    std::fs::read(home.join("dump/shop/blobs.bson")).expect("the collection")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_line_raises_the_level_and_stock_tools_read_the_artifact() {
    let (server, bucket) = (server().await, S3Server::start());
    let wanted = documents(&server).await;
    for (format, usual, line) in
        [("tar.zst", 3.0, "zstd -dc artifact | tar xf -"), ("tar.gz", 4.0, "gunzip -c < artifact | tar xf -")]
    {
        let home = Home::new();
        let mut tried = Vec::new();
        let raised = NARROW.into_iter().find_map(|rate| {
            let (manifest, artifact) = over_a_line(rate, &home, &server.uri(), &bucket, format);
            let mean = manifest.artifact.mean_level.expect("a mean level");
            tried.push((rate, mean));
            (mean > usual).then_some((manifest, artifact, mean))
        });
        let (manifest, artifact, mean) =
            raised.unwrap_or_else(|| panic!("{format}: usually {usual}, over lines {tried:?}"));
        assert_eq!(manifest.artifact.level, mean.round() as i32);
        assert!(unpacked(home.path(), &artifact, line) == wanted, "{format}: other documents");

        let reading = |args: &[&str]| {
            let mut tool = home.tool();
            tool.env("MONGO_URI", NOWHERE).envs(variables(&bucket.endpoint())).args(args);
            tool
        };
        let id = manifest.id.as_str();
        let shown = run(&mut reading(&["list", id])).ends(0).stdout;
        let format_line = format!("format        {format}, level {mean:.1} on average\n");
        assert!(shown.contains(&format_line), "{shown}");
        run(&mut reading(&["verify", id])).ends(0);
        if format == "tar.zst" {
            let target = Mongod::builder().start().await.expect("mongod");
            run(reading(&["restore", id, "--yes"]).env("RESTORE_URI", target.uri())).ends(0);
            assert!(documents(&target).await == wanted, "{format}: other documents");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_does_not_raise_the_level() {
    let (server, home) = (Mongod::builder().start().await.expect("mongod"), Home::new());
    let load = Load { orders: 20_000, rows: 0, tiny: 0, ..Load::default() };
    load::fill(&server.client().await.expect("a client"), &load).await.expect("orders");
    for (format, usual) in [("tar.zst", 3.0), ("archive.gz", 4.0)] {
        let mut backup = home.to_dir(&server.uri());
        backup
            .env("BACKUP_COMPRESSION_LEVEL", "auto")
            .env("BACKUP_FORMAT", format)
            .args(["backup", "--json"]);
        let id = run(&mut backup).ends(0).json()["id"].as_str().expect("an id").to_string();
        let manifests = home.manifests();
        let manifest = manifests.iter().find(|manifest| manifest.id.as_str() == id).expect("a manifest");
        let mean = manifest.artifact.mean_level.expect("a mean level");
        assert!((1.0..=usual).contains(&mean), "{format}: {mean}");
        let listed = run(home.to_dir(NOWHERE).args(["list", &id, "--json"])).ends(0).json();
        assert_eq!(listed["manifest"]["artifact"]["mean_level"], mean, "{listed}");
    }
    run(home.to_dir(&server.uri()).args(["backup", "--level", "2"])).ends(0);
    assert!(home.manifests().iter().any(|manifest| manifest.artifact.mean_level.is_none()));
}

#[test]
fn wrong_levels_are_named_before_the_first_request() {
    let home = Home::new();
    let flag = run(home.to_dir(NOWHERE).args(["backup", "--level", "autox"])).ends(2).stderr;
    assert!(flag.contains("--level = 'autox': it must be a whole number or auto"), "{flag}");
    for (format, value, words) in [
        ("tar.zst", "autox", "tar.zst has the levels 1 to 19, and auto"),
        ("tar.gz", "Auto", "tar.gz has the levels 1 to 12, and auto"),
        ("tar.gz", "13", "tar.gz has the levels 1 to 12, and auto"),
    ] {
        let mut backup = home.to_dir(NOWHERE);
        backup.env("BACKUP_FORMAT", format).env("BACKUP_COMPRESSION_LEVEL", value).arg("backup");
        let stderr = run(&mut backup).ends(2).stderr;
        assert!(stderr.contains(words) && stderr.contains("BACKUP_COMPRESSION_LEVEL"), "{stderr}");
    }
    let mut config = home.to_dir(NOWHERE);
    let shown = run(config.env("BACKUP_COMPRESSION_LEVEL", "auto").arg("config")).stdout;
    assert!(shown.contains("compression_level = auto  (environment, BACKUP_COMPRESSION_LEVEL)"), "{shown}");
}
