//! Stores that are unreachable for seconds: each command waits for them and reports the wait.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use uzima_testkit::mongod::Mongod;
use uzima_testkit::s3_server::{Fault, Rule, S3Server};
use uzima_testkit::tcp_proxy::{Mode, TcpProxy};

use super::s3::variables;
use super::support::{Home, NOWHERE, Ran, run, server_with_rows};

/// A bucket behind a proxy.
struct Away {
    home: Home,
    bucket: S3Server,
    proxy: TcpProxy,
}

impl Away {
    fn new() -> Away {
        let bucket = S3Server::start();
        Away { home: Home::new(), proxy: TcpProxy::start(bucket.address()), bucket }
    }

    fn tool(&self, patience: &str, mongo: &str, args: &[&str]) -> Command {
        let mut command = self.home.tool();
        command.env("MONGO_URI", mongo).envs(variables(&format!("http://{}", self.proxy.address())));
        command.env("BACKUP_PATIENCE", patience).args(args);
        command
    }

    /// Runs a command. After the first request of the kind `after` (`""`: from the start) the bucket refuses
    /// connections for two seconds and then answers 503 for one second.
    fn run(&self, mut command: Command, after: &str) -> Ran {
        let had = if after.is_empty() { 0 } else { self.bucket.count(after) + 1 };
        let ended = Arc::new(AtomicBool::new(false));
        thread::scope(|scope| {
            let outage = scope.spawn(|| {
                while !after.is_empty() && self.bucket.count(after) < had {
                    assert!(!ended.load(SeqCst), "the command ended without {after}");
                    thread::sleep(Duration::from_millis(5));
                }
                self.proxy.set(Mode::Refuse);
                thread::sleep(Duration::from_secs(2));
                self.bucket.faults().add(Rule::always("*", Fault::Answer(503, "SlowDown")));
                self.proxy.set(Mode::Pass);
                thread::sleep(Duration::from_secs(1));
                self.bucket.faults().clear();
            });
            let ran = run(&mut command);
            ended.store(true, SeqCst);
            outage.join().expect("the outage happened");
            ran
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_waits_for_a_store_that_is_unreachable_for_seconds() {
    let (server, target) = (server_with_rows(50, 0).await, Mongod::builder().start().await.expect("mongod"));
    let away = Away::new();
    let waits = ["waiting for s3://backups/daily-backups/ for up to 1 min 0 s (BACKUP_PATIENCE): "];
    for after in ["", "CreateMultipartUpload"] {
        away.run(away.tool("60", &server.uri(), &["backup"]), after).ends(0).says(&waits);
    }
    assert_eq!(away.bucket.objects().len(), 6);
    assert_eq!(away.bucket.open_uploads(), vec![]);
    away.run(away.tool("60", NOWHERE, &["verify", "latest"]), "GetObject").ends(0).says(&waits);
    let mut restore = away.tool("60", NOWHERE, &["restore", "latest", "--yes"]);
    restore.env("RESTORE_URI", target.uri());
    away.run(restore, "GetObject").ends(0).says(&waits);
    let rows = target.client().await.expect("a client").database("shop").collection::<bson::Document>("rows");
    assert_eq!(rows.count_documents(bson::doc! {}).await.expect("a count"), 50);
    away.run(away.tool("60", NOWHERE, &["list"]), "").ends(0).says(&waits);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_stays_unreachable_fails_the_run_with_the_waited_time_and_a_next_step() {
    let (server, away) = (server_with_rows(50, 0).await, Away::new());
    for (fault, words) in [
        (Fault::Answer(503, "ServiceUnavailable"), "503"),
        (Fault::Answer(500, "InternalError"), "InternalError"),
        (Fault::LoseRequest, "connection"),
    ] {
        away.bucket.faults().add(Rule::always("UploadPart", fault));
        let ran = run(&mut away.tool("1", &server.uri(), &["backup"])).ends(1);
        ran.says(&[
            "waiting for s3://backups/daily-backups/ for up to 1.0 s",
            ", tried again for ",
            words,
            "next step: ",
        ]);
        assert!(away.bucket.count("UploadPart") >= 2);
        away.bucket.faults().clear();
        assert_eq!(
            (
                away.bucket.objects().keys().filter(|key| !key.ends_with("failed.json")).count(),
                away.bucket.open_uploads()
            ),
            (0, vec![])
        );
    }
    away.proxy.set(Mode::Refuse);
    for command in [&["list"][..], &["verify", "latest"], &["stats"], &["cleanup"]] {
        let ran = run(&mut away.tool("1", NOWHERE, command));
        assert!(matches!(ran.code, Some(1 | 2)), "{ran:?}");
        ran.says(&["tried again for ", "next step: "]);
    }
}
