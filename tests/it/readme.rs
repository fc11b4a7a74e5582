//! The README's commands, run as they stand there, and its policy, held against what is asked of a bucket.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use uzima_testkit::load::{self, Load};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;
use uzima_testkit::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

const README: &str = include_str!("../../README.md");

#[path = "../../examples/quickstart.rs"]
#[allow(dead_code, reason = "its main is for the shell")]
mod quickstart;

/// The first code block of a language after a heading.
fn block(heading: &str, language: &str) -> &'static str {
    let section =
        README.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no heading {heading}")).1;
    let code = section.split_once(&format!("```{language}\n")).expect("a code block").1;
    code.split_once("\n```").expect("its end").0
}

async fn small_server() -> Mongod {
    let mongod = Mongod::builder().start().await.unwrap();
    let load = Load { orders: 500, rows: 100, tiny: 5, ..Load::default() };
    load::fill(&mongod.client().await.unwrap(), &load).await.unwrap();
    mongod
}

/// Runs a script with our binary on PATH and nothing else of this process's environment.
fn shell(script: &str, folder: &Path) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_uzima-backup"));
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let run = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .env_clear()
        .env("PATH", path)
        .env("UZIMA_BACKUP_STATE_DIR", folder.join("state"))
        .env("BACKUP_MIN_FREE", "0")
        .current_dir(folder)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{script}\n{out}{err}");
    out.into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_backup_and_the_way_back() {
    let mongod = small_server().await;
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let first = block("First backup", "sh")
        .replace("mongodb://localhost:27017", &mongod.uri())
        .replace("/var/backups/mongodb", backups.to_str().unwrap());
    assert!(first.contains(&mongod.uri()) && first.contains(backups.to_str().unwrap()));
    let out = shell(&first, folder.path());
    let artifact = out.lines().last().unwrap().trim().to_string();
    std::fs::copy(&artifact, folder.path().join("dump.tar.gz")).unwrap();

    let back = block("Bring it back", "sh");
    let (unpack, restore) = back.split_once('\n').unwrap();
    shell(unpack, folder.path());
    assert!(folder.path().join("dump/store/orders.bson").exists());
    assert!(folder.path().join("RECOVERY.txt").exists());
    assert!(restore.starts_with("mongorestore "), "{restore}");
    if Official::find("the_first_backup_and_the_way_back (mongorestore)").is_some() {
        let target = Mongod::builder().start().await.unwrap();
        shell(
            &restore.replace("mongorestore ", &format!("mongorestore --uri={} ", target.uri())),
            folder.path(),
        );
        let count = target.client().await.unwrap().database("store").collection::<bson::Document>("orders");
        assert_eq!(count.count_documents(bson::doc! {}).await.unwrap(), 500);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_allows_what_a_backup_asks_of_the_bucket_and_no_more() {
    let (mongod, bucket) = (small_server().await, S3Server::start());
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "export MONGO_URI='{}' S3_ENDPOINT_URL={} S3_BACKUP_BUCKET={BUCKET} AWS_REGION=us-east-1\n\
         export AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}\n\
         uzima-backup backup; uzima-backup backup; uzima-backup list",
        mongod.uri(),
        bucket.endpoint()
    );
    shell(&script, folder.path());
    let asked: BTreeSet<&str> = bucket.calls().iter().map(|call| call.operation).collect();
    // The actions that S3's operations need: the service authorization reference of Amazon S3.
    let action = |operation: &str| match operation {
        "ListObjectsV2" => "s3:ListBucket",
        "GetObject" | "HeadObject" => "s3:GetObject",
        "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => "s3:PutObject",
        "AbortMultipartUpload" => "s3:AbortMultipartUpload",
        other => panic!("a backup asks for {other}"),
    };
    let mut needed: BTreeSet<&str> = asked.iter().map(|operation| action(operation)).collect();
    assert!(asked.contains("UploadPart") && asked.contains("ListObjectsV2"), "{asked:?}");
    // Asked for only when a run fails.
    needed.insert("s3:AbortMultipartUpload");

    let policy: serde_json::Value = serde_json::from_str(block("To S3", "json")).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let allowed: BTreeSet<&str> = statements
        .iter()
        .flat_map(|s| s["Action"].as_array().unwrap())
        .map(|a| a.as_str().unwrap())
        .collect();
    assert_eq!(allowed, needed);
}

#[test]
fn the_quickstart_ends_with_equal_servers() {
    quickstart::run(&Load { orders: 2_000, rows: 500, tiny: 20, ..Load::default() }).unwrap();
}
