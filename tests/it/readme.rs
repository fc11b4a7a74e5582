//! The README's commands run as they are written, and the least policies of docs/storage.md are compared with the
//! requests that the tool sends to a bucket.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use uzima_testkit::load::{self, Load};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;
use uzima_testkit::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

const README: &str = include_str!("../../README.md");
const MONITORING: &str = include_str!("../../docs/monitoring.md");
const STORAGE: &str = include_str!("../../docs/storage.md");

#[path = "../../examples/quickstart.rs"]
#[allow(dead_code, reason = "its main is for the shell")]
mod quickstart;

fn block(heading: &str, language: &str) -> &'static str {
    crate::pages::block(README, heading, language)
}

fn monitoring(heading: &str) -> &'static str {
    crate::pages::block(MONITORING, heading, "sh")
}

async fn fill(mongod: &Mongod) {
    let load = Load { orders: 500, rows: 100, tiny: 5, ..Load::default() };
    load::fill(&mongod.client().await.unwrap(), &load).await.unwrap();
}

pub async fn small_server() -> Mongod {
    let mongod = Mongod::builder().start().await.unwrap();
    fill(&mongod).await;
    mongod
}

/// The words of an output's lines. Each word with a digit ends in `N` from that digit on, every month is `month`, and units are
/// left out.
fn shape(output: &str) -> Vec<Vec<String>> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const UNITS: [&str; 10] = ["B", "kB", "MB", "GB", "KiB", "MiB", "GiB", "ms", "s", "min"];
    let words = |line: &str| {
        let words = line.split_whitespace().filter(|word| !UNITS.contains(&word.trim_end_matches(',')));
        words
            .map(|word| match word.find(|c: char| c.is_ascii_digit()) {
                Some(at) => format!("{}N", &word[..at]),
                None if MONTHS.contains(&word) => "month".into(),
                None => word.into(),
            })
            .collect()
    };
    output.lines().map(words).filter(|words: &Vec<String>| !words.is_empty()).collect()
}

/// The transcript's commands print the transcript's lines, but for numbers, ids and times.
#[tokio::test(flavor = "multi_thread")]
async fn the_transcript_is_what_the_commands_print() {
    let mongod = Mongod::builder().replica_set("rs0").start().await.unwrap();
    fill(&mongod).await;
    let target = Mongod::builder().start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let settings = format!(
        "export MONGO_URI='{}' RESTORE_URI='{}' BACKUP_DIR='{}' BACKUP_JOB=shop BACKUP_ENGINE=native\n",
        mongod.uri(),
        target.uri(),
        backups.display()
    );
    let mut transcript = String::new();
    for line in block("A backup, a list and a restore", "console").lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            transcript += &format!("{line}\n{}", shell(&format!("{settings}{command}"), folder.path()));
        }
    }
    let transcript = transcript.replace(backups.to_str().unwrap(), "/var/backups/mongodb");
    let page = block("A backup, a list and a restore", "console");
    assert_eq!(shape(&transcript), shape(page), "{transcript}");
}

/// Runs a script with the tool on PATH and nothing else of this process's environment. Returns its output.
pub fn shell(script: &str, folder: &Path) -> String {
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
async fn the_first_backup_is_restored_with_stock_tools() {
    let mongod = small_server().await;
    let folder = tempfile::tempdir().unwrap();
    let backups = folder.path().join("backups");
    let first = block("First backup", "sh")
        .replace("mongodb://localhost:27017", &mongod.uri())
        .replace("/var/backups/mongodb", backups.to_str().unwrap());
    assert!(first.contains(&mongod.uri()) && first.contains(backups.to_str().unwrap()));
    let first =
        format!("export UZIMA_BACKUP_CONFIG='{}'\n{first}", folder.path().join("config.toml").display());
    let out = shell(&first, folder.path());
    let settings: String = first
        .lines()
        .filter(|line| line.starts_with("export"))
        .fold(String::new(), |all, line| all + line + "\n");
    shell(&(settings + monitoring("Statistics")), folder.path());
    assert!(std::fs::read_to_string(folder.path().join("backups.html")).unwrap().contains("All is well"));
    let artifact = out.lines().last().unwrap().trim().to_string();
    std::fs::copy(&artifact, folder.path().join("dump.tar.gz")).unwrap();

    let back = block("Bring it back", "sh");
    let (unpack, restore) = back.split_once('\n').unwrap();
    shell(unpack, folder.path());
    assert!(folder.path().join("dump/store/orders.bson").exists());
    assert!(folder.path().join("RECOVERY.txt").exists());
    assert!(restore.starts_with("mongorestore "), "{restore}");
    if Official::find("the_first_backup_is_restored_with_stock_tools (mongorestore)").is_some() {
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
async fn the_restore_commands_restore() {
    let (mongod, target) = (small_server().await, Mongod::builder().start().await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let place = format!("export MONGO_URI='{}' BACKUP_DIR={}\n", mongod.uri(), folder.path().display());
    shell(&format!("{place}uzima-backup backup"), folder.path());
    let restore = block("Restore", "sh").replace("mongodb://localhost:27018", &target.uri());
    assert!(restore.contains(&target.uri()));
    shell(&(place + &restore), folder.path());
    let orders = target.client().await.unwrap().database("store").collection::<bson::Document>("orders");
    assert_eq!(orders.count_documents(bson::doc! {}).await.unwrap(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policies_allow_exactly_the_requests_of_backup_and_cleanup() {
    let (mongod, bucket) = (small_server().await, S3Server::start());
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "export MONGO_URI='{}' S3_ENDPOINT_URL={} S3_BACKUP_BUCKET={BUCKET} AWS_REGION=us-east-1\n\
         export AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}\n\
         uzima-backup backup; uzima-backup backup; uzima-backup list",
        mongod.uri(),
        bucket.endpoint()
    );
    let filled = [
        ("mongodb://backup:secret@db1.example.com/?authSource=admin", mongod.uri()),
        ("my-backups", BUCKET.into()),
        ("AWS_ACCESS_KEY_ID=...", format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}")),
        ("AWS_SECRET_ACCESS_KEY=...", format!("AWS_SECRET_ACCESS_KEY={SECRET_KEY}")),
    ];
    let first = filled.iter().fold(block("To S3", "sh").to_string(), |text, (example, ours)| {
        assert!(text.contains(example), "{example}: {text}");
        text.replace(example, ours)
    });
    shell(&format!("export S3_ENDPOINT_URL={}\n{first}", bucket.endpoint()), folder.path());
    shell(&script, folder.path());
    let asked: BTreeSet<&str> = bucket.calls().iter().map(|call| call.operation).collect();
    let mut needed: BTreeSet<String> = asked.iter().map(|operation| action(operation)).collect();
    assert!(asked.contains("UploadPart") && asked.contains("ListObjectsV2"), "{asked:?}");
    // Sent only after a failure.
    needed.insert("s3:AbortMultipartUpload".into());
    assert!(!needed.contains("s3:DeleteObject"), "the key of the backup cannot delete");
    assert_eq!(allowed("The key of the backup"), needed);

    // The requests of a cleanup that deletes an old backup, which has a policy of its own.
    let before = bucket.calls().len();
    let script = script.replace(
        "uzima-backup backup; uzima-backup backup; uzima-backup list",
        "export BACKUP_KEEP_MIN=1 BACKUP_RETENTION_DAYS=1\n\
         id=$(uzima-backup list --json | sed -n 's/.*\"id\": \"\\(.*\\)\",/\\1/p' | sed -n 1p)\n\
         uzima-backup pin $id; uzima-backup unpin $id; uzima-backup cleanup",
    );
    let old = age(&bucket);
    shell(&script, folder.path());
    assert!(!bucket.objects().keys().any(|key| key.contains(&old)), "{old} is deleted");
    let calls = bucket.calls();
    let mut needed: BTreeSet<String> = calls[before..].iter().map(|call| action(call.operation)).collect();
    // Sent only after a run was killed.
    needed.insert("s3:AbortMultipartUpload".into());
    assert_eq!(allowed("The key of the cleanup"), needed);
}

/// A key for `oplog` alone writes only slices, and the key of the backup is enough for it, too.
#[tokio::test(flavor = "multi_thread")]
async fn the_policies_allow_exactly_the_requests_of_oplog() {
    let (mongod, bucket) = (Mongod::builder().replica_set("rs0").start().await.unwrap(), S3Server::start());
    fill(&mongod).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "export MONGO_URI='{}' S3_ENDPOINT_URL={} S3_BACKUP_BUCKET={BUCKET} AWS_REGION=us-east-1\n\
         export AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}\n",
        mongod.uri(),
        bucket.endpoint()
    );
    shell(&format!("{settings}uzima-backup backup"), folder.path());
    let before = bucket.calls().len();
    let rows = mongod.client().await.unwrap().database("store").collection("orders");
    rows.insert_one(bson::doc! {"_id": "new"}).await.unwrap();
    shell(&format!("{settings}rm -r state; uzima-backup oplog; uzima-backup oplog"), folder.path());
    let calls = bucket.calls().split_off(before);
    let mut needed: BTreeSet<String> = calls.iter().map(|call| action(call.operation)).collect();
    // Sent only after a failure.
    needed.insert("s3:AbortMultipartUpload".into());
    assert_eq!(allowed("Oplog slices"), needed);
    assert!(needed.is_subset(&allowed("The key of the backup")));
    for call in calls.iter().filter(|call| action(call.operation) == "s3:PutObject") {
        assert!(call.key.starts_with("daily-backups/oplog/"), "{call:?}");
    }
}

/// Runs the commands of the section in docs/monitoring.md in order. Its table names every check, and the requests to the
/// bucket, except the deletion, are allowed by the policy of the backup's key.
#[tokio::test(flavor = "multi_thread")]
async fn health_does_what_its_section_says() {
    let (mongod, bucket) = (small_server().await, S3Server::start());
    let folder = tempfile::tempdir().unwrap();
    let (new, later) = monitoring("Health").split_once('\n').unwrap();
    let settings = format!(
        "export MONGO_URI='{}' S3_ENDPOINT_URL={} S3_BACKUP_BUCKET={BUCKET} AWS_REGION=us-east-1\n\
         export AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY}\n",
        mongod.uri(),
        bucket.endpoint()
    );
    shell(&format!("{settings}{new}"), folder.path());
    shell(&format!("{settings}uzima-backup backup"), folder.path());
    let before = bucket.calls().len();
    shell(&format!("{settings}{later}"), folder.path());
    let needed: BTreeSet<String> =
        bucket.calls()[before..].iter().map(|call| action(call.operation)).collect();
    let mut may = allowed("The key of the backup");
    may.insert("s3:DeleteObject".into());
    // If the policy refuses this request, `health` reports that it does not know what protects the bucket.
    may.insert("s3:GetBucketVersioning".into());
    // An upload is aborted only after a failure, or if the settings ask for a storage class or Object Lock.
    may.remove("s3:AbortMultipartUpload");
    assert_eq!(needed, may);

    let before = bucket.calls().len();
    let monitor = monitoring("What to alert on");
    assert_eq!(shell(&format!("{settings}{monitor}"), folder.path()), "");
    let asked: BTreeSet<String> =
        bucket.calls()[before..].iter().map(|call| action(call.operation)).collect();
    // Manifests that an earlier command read come from the cache.
    let reads: BTreeSet<String> = ["s3:GetObject", "s3:ListBucket"].map(String::from).into();
    assert!(
        asked.contains("s3:ListBucket") && asked.is_subset(&reads),
        "a key that may only read: {asked:?}"
    );

    let section = MONITORING.split_once("\n## Health\n").unwrap().1.split_once("\n## ").unwrap().0;
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let named: Vec<&str> = rows.map(|(name, _)| name).collect();
    assert_eq!(named, uzima_backup::ops::health::names().collect::<Vec<_>>());
}

/// Copies the newest backup of a bucket under an id of 2020. Returns the folder of the copy.
fn age(bucket: &S3Server) -> String {
    use uzima_backup::model::manifest::Manifest;
    let objects = bucket.objects();
    let (key, bytes) = objects.iter().rfind(|(key, _)| key.ends_with("/manifest.json")).unwrap();
    let mut manifest = Manifest::decode(bytes).unwrap();
    let (folder, id) = (key.strip_suffix("/manifest.json").unwrap(), manifest.id.to_string());
    let old = format!("2020/01/20200101T000000Z{}", &id[16..]);
    manifest.id = old.rsplit_once('/').unwrap().1.parse().unwrap();
    manifest.started_at = manifest.id.started();
    for key in [&mut manifest.artifact.key, &mut manifest.index.key] {
        let name = key.rsplit_once('/').unwrap().1.to_string();
        bucket.insert(&format!("daily-backups/{old}/{name}"), objects[&format!("{folder}/{name}")].clone());
        *key = format!("{old}/{name}");
    }
    bucket.insert(&format!("daily-backups/{old}/manifest.json"), manifest.encode().unwrap());
    old
}

/// The action that an S3 operation needs, from the service authorization reference of Amazon S3.
fn action(operation: &str) -> String {
    let action = match operation {
        "ListObjectsV2" => "s3:ListBucket",
        "GetObject" | "HeadObject" => "s3:GetObject",
        "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => "s3:PutObject",
        "AbortMultipartUpload" => "s3:AbortMultipartUpload",
        "DeleteObject" | "DeleteObjects" => "s3:DeleteObject",
        "GetBucketVersioning" => "s3:GetBucketVersioning",
        "GetObjectLockConfiguration" => "s3:GetBucketObjectLockConfiguration",
        other => panic!("the tool asks for {other}"),
    };
    action.into()
}

/// The actions of the policy below a heading of docs/storage.md.
fn allowed(heading: &str) -> BTreeSet<String> {
    let policy: serde_json::Value =
        serde_json::from_str(crate::pages::block(STORAGE, heading, "json")).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let actions = statements.iter().flat_map(|s| s["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_string()).collect()
}

#[test]
fn the_quickstart_ends_with_equal_servers() {
    quickstart::run(&Load { orders: 2_000, rows: 500, tiny: 20, ..Load::default() }).unwrap();
}
