//! The password and the bucket's key appear nowhere, in any encoding.

use std::process::{Child, Stdio};

use base64::Engine;
use uzima_testkit::mongod::{Mongod, percent_encode};
use uzima_testkit::s3_server::{Fault, Rule, S3Server};
use uzima_testkit::standin::{Ending, Play, StandIn, fixture};

use super::s3::to_s3;
use super::signals::until;
use super::support::{Home, files, run};

pub const PASSWORD: &str = "canary@Pa55:word/1%$ü";

/// The secret as it is, percent-encoded, and in base64.
fn spellings(secret: &str) -> [String; 3] {
    let base64 = base64::engine::general_purpose::STANDARD.encode(secret);
    [secret.to_owned(), percent_encode(secret), base64]
}

#[track_caller]
pub fn assert_clean(what: &str, bytes: &[u8], secrets: &[&str]) {
    assert!(!bytes.is_empty(), "{what} is empty");
    for secret in secrets.iter().flat_map(|secret| spellings(secret)) {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} is in {what}");
    }
}

/// A server with a user who has these roles and [`PASSWORD`], and its URI.
pub async fn server(roles: &[(&str, &str)]) -> (Mongod, String) {
    let server = Mongod::builder().auth().start().await.expect("mongod");
    let rows = server.client().await.expect("a client").database("shop").collection("rows");
    rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
    server.create_user("canary", PASSWORD, roles).await.expect("a user");
    let uri = format!("mongodb://canary:{}@{}/?authSource=admin", percent_encode(PASSWORD), server.host());
    (server, uri)
}

#[tokio::test]
async fn no_secret_is_printed_logged_or_stored() {
    let ((_server, uri), home, bucket) =
        (server(&[("backup", "admin")]).await, Home::new(), S3Server::start());
    let secrets = [PASSWORD, uzima_testkit::s3_server::SECRET_KEY];
    let tool = |args: &[&str]| {
        let mut command = to_s3(&home, &uri, &bucket);
        let log = home.path().join("log");
        let ran = run(command.env("RUST_LOG", "trace").env("BACKUP_LOG_FILE", &log).args(args));
        assert_clean("the log file", &std::fs::read(log).expect("a log file"), &secrets);
        let printed = [ran.stdout.as_bytes(), ran.stderr.as_bytes()].concat();
        assert_clean(&format!("what {args:?} says"), &printed, &secrets);
        ran
    };
    // At the most verbose level, so that the logs of libraries are included.
    let traced = tool(&["backup", "-vv", "--format", "archive.gz"]).ends(0);
    assert!(traced.stderr.contains("DEBUG add_parsable_certificates"), "{}", traced.stderr);
    tool(&["backup"]).ends(0);
    tool(&["cleanup"]).ends(0);
    tool(&["config"]).ends(0);
    tool(&["config", "--json"]).ends(0);
    tool(&["list", "--json"]).ends(0);
    for (key, object) in bucket.objects() {
        assert_clean(&key, &object, &secrets);
        if key.ends_with(".gz") {
            let mut raw = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&object[..]), &mut raw)
                .expect("gzip");
            assert_clean(&key, &raw, &secrets);
        }
    }
    // Failures on the store's side.
    bucket.faults().add(Rule::always("UploadPart", Fault::Answer(403, "AccessDenied")));
    tool(&["backup"]).ends(1);
    let wrong = uri.replace("authSource=admin", "authSource=shop");
    let refused = run(home.to_dir(&wrong).env("RUST_LOG", "trace").arg("backup"))
        .ends(1)
        .says(&["'canary' was refused"]);
    assert_clean("a refused login", refused.stderr.as_bytes(), &secrets);
}

/// Searches the arguments and the environment of both processes and the state folder during the run.
#[tokio::test]
async fn no_secret_is_visible_in_processes_or_files_during_a_run() {
    let ((_server, uri), home, bucket) =
        (server(&[("backup", "admin")]).await, Home::new(), S3Server::start());
    let secrets = [PASSWORD, uzima_testkit::s3_server::SECRET_KEY];
    let play = Play::archive(fixture("full.archive.gz").expect("the recording"))
        .stop_at(40_000)
        .ending(Ending::Hangs);
    let mongodump = StandIn::create(&[play]).expect("a stand-in");
    let mut command = to_s3(&home, &uri, &bucket);
    command.env("BACKUP_ENGINE", "mongodump").env("MONGODUMP_PATH", mongodump.program()).arg("backup");
    let mut ours: Child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    until("mongodump runs", || mongodump.runs().is_ok_and(|runs| runs.len() == 1));
    let child = mongodump.runs().expect("runs")[0].pid;
    // Both files are empty for the moment in which a process executes another program.
    let read = |pid: u32, file: &str| {
        let mut bytes = Vec::new();
        until(file, || {
            bytes = std::fs::read(format!("/proc/{pid}/{file}")).expect("a process");
            !bytes.is_empty()
        });
        bytes
    };
    assert_clean("our argv", &read(ours.id(), "cmdline"), &secrets);
    assert_clean("the child's argv", &read(child, "cmdline"), &secrets);
    let mut environ = read(child, "environ");
    environ.push(b'\n');
    assert_clean("the child's environment", &environ, &secrets);
    let state = files(&home.state());
    assert_eq!(state.len(), 1);
    for file in state {
        assert_clean(&file, &std::fs::read(home.state().join(&file)).expect("a state file"), &secrets);
    }
    ours.kill().expect("a kill");
    ours.wait().expect("its end");
}
