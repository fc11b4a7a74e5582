//! The notices of `oplog`: mails, the monitor, metrics and the webhook; and runs that a signal ends.

use std::process::Command;

use bson::{Document, doc};
use serde_json::Value;
use uzima_testkit::clock::SteppedClock;
use uzima_testkit::s3_server::{Fault, Rule as S3Rule, S3Server};
use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};

use super::stores::chain;
use super::support::*;
use crate::cli::s3::to_s3;
use crate::cli::signals::{STALL, ends_by, start, until};
use crate::cli::support::{Home, NOWHERE, Ran, files, run};
use crate::night::support::{Nights, holds};
use crate::signals::support::Signalled;

/// An installation with every kind of notice.
struct Watched {
    signalled: Signalled,
    nights: Nights,
}

impl Watched {
    fn tool(&self, uri: &str, args: &[&str]) -> Command {
        let mut command = tool(&self.signalled.home, uri, args);
        self.nights.mailing(&mut command);
        command
            .env("OPLOG_PING_URL", self.signalled.ping_url())
            .env("WEBHOOK_URL", self.signalled.webhook_url());
        command.env("METRICS_FILE", self.signalled.metrics());
        // The monitor of the nightly backup. A ping would fail, and be a problem of the run.
        command.env("PING_URL", "http://127.0.0.1:1/canary-0123456789");
        command
    }

    #[track_caller]
    fn run(&self, uri: &str, args: &[&str], code: i32) -> Ran {
        run(&mut self.tool(uri, args)).ends(code)
    }

    /// The events that the webhook received about `oplog`.
    async fn events(&self) -> Vec<String> {
        let documents = self.signalled.documents().await;
        let own = documents.iter().filter(|document| document["operation"] == "oplog");
        own.map(|document| document["event"].as_str().expect("a word").to_string()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_pinged_and_measured_and_problems_are_mailed_and_posted_once() {
    let (server, client) = set().await;
    let watched = Watched { signalled: Signalled::new().await, nights: Nights::new().await };
    let (signalled, nights, uri) = (&watched.signalled, &watched.nights, server.uri());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": 0}).await.expect("a row");
    backup(&signalled.home, &uri);
    let insert = async |n: i32| drop(rows.insert_one(doc! {"_id": n}).await.expect("a row"));

    insert(1).await;
    watched.run(&uri, &["oplog", "--dry-run"], 0);
    assert!(!signalled.metrics().exists() && signalled.asked().await.is_empty());
    let report = watched.run(&uri, &["oplog", "--json"], 0).json();
    assert_eq!(signalled.paths().await, [""], "no ping of the start");
    holds(&signalled.pings().await[0].1, &[JOB, "The oplog of nightly is stored"]);
    let good = signalled.figures(JOB);
    assert_eq!((good["oplog_last_run_exit_code"], good["oplog_last_run_success"]), (0.0, 1.0));
    for (name, value) in [
        ("oplog_entries", &report["entries"]),
        ("oplog_raw_bytes", &report["raw_bytes"]),
        ("oplog_stored_bytes", &report["stored_bytes"]),
        ("oplog_end_timestamp_seconds", &report["end"]["t"]),
    ] {
        assert_eq!(Some(good[name]), value.as_f64(), "{name}");
    }
    assert!(!good.contains_key("last_run_exit_code"), "the figures of backups stay");

    // Three failures in a row are one mail, and the end of them is one more.
    for _ in 0..3 {
        watched.run(NOWHERE, &["oplog"], 1).says(&["127.0.0.1:1"]);
    }
    assert_eq!(signalled.paths().await, ["", "/fail", "/fail", "/fail"]);
    let bad = signalled.figures(JOB);
    assert_eq!((bad["oplog_last_run_exit_code"], bad["oplog_last_run_success"]), (1.0, 0.0));
    let end = "oplog_end_timestamp_seconds";
    assert_eq!(bad[end], good[end]);
    for n in 2..4 {
        insert(n).await;
        watched.run(&uri, &["oplog"], 0);
    }
    assert!(signalled.figures(JOB)[end] >= good[end]);
    assert_eq!(nights.subjects().await, ["oplog failed: nightly", "oplog works again: nightly"]);
    assert_eq!(watched.events().await, ["failure", "failure", "failure", "recovered"]);

    // A problem needs a look, and is no failure: it is mailed and posted once.
    insert(4).await;
    let excluding = |code| run(watched.tool(&uri, &["oplog"]).env("BACKUP_EXCLUDE", "live.tmp*")).ends(code);
    excluding(3);
    let measured = signalled.figures(JOB);
    assert_eq!((measured["oplog_last_run_exit_code"], measured["oplog_last_run_success"]), (3.0, 1.0));
    holds(
        &signalled.pings().await.pop().expect("a ping").1,
        &["no restore can go past", "the selection of the job changed"],
    );
    insert(5).await;
    excluding(0);
    assert_eq!(nights.subjects().await.split_off(2), ["oplog stored, needs a look: nightly"]);
    assert_eq!(watched.events().await.split_off(4), ["failure"]);
    assert_eq!(signalled.paths().await.split_off(4), ["", "", "", ""]);
}

/// A failure that lasts is mailed once a day.
#[tokio::test(flavor = "multi_thread")]
async fn a_lasting_failure_is_mailed_once_a_day() {
    let (nights, clock) = (Nights::new().await, SteppedClock::by(24 * 3600).expect("a clock"));
    let failing = || {
        let mut command = tool(&nights.home, NOWHERE, &["oplog"]);
        nights.mailing(&mut command);
        run(clock.of(&mut command)).ends(1)
    };
    failing();
    failing();
    assert_eq!(nights.mails().await.len(), 1);
    std::fs::write(clock.stepped(), "").expect("the next day");
    failing();
    failing();
    assert_eq!(nights.mails().await.len(), 2);
    holds(&nights.last().await, &["3 runs, since"]);
}

/// The run is in the middle of its reading.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_run_that_reads_and_the_next_run_stores_all() {
    let (server, client) = set().await;
    let watched = Watched { signalled: Signalled::new().await, nights: Nights::new().await };
    let home = &watched.signalled.home;
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": -1}).await.expect("a row");
    backup(home, &server.uri());
    oplog(home, &server.uri(), 0);
    // More than one batch.
    rows.insert_many((0..500).map(|n| doc! {"_id": n})).await.expect("rows");
    let before = home.files();
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let stalled =
        proxy.add(Rule::on("getMore").namespace("local.oplog.rs").nth(1).then(Action::Stall(STALL)));
    let child = start(&mut watched.tool(&proxy.uri(&server.uri()), &["oplog"]));
    until("the server falls silent", || proxy.hits(stalled) == 1);
    ends_by(child, libc::SIGTERM, 143);
    proxy.close_all();
    assert_eq!(home.files(), before);
    let left: Vec<String> =
        files(&home.state()).into_iter().filter(|file| file.contains("uploads")).collect();
    assert_eq!(left, Vec::<String>::new());
    assert_eq!(watched.signalled.paths().await, ["/fail"]);
    holds(&watched.signalled.pings().await[0].1, &["ended by SIGTERM; nothing new was stored", "143"]);
    assert_eq!(watched.signalled.figures(JOB)["oplog_last_run_exit_code"], 143.0);
    let next = watched.run(&server.uri(), &["oplog", "--json"], 0).json();
    assert_eq!(next["entries"], 500, "{next}");
    let slices = one_chain(home);
    let bodies: Vec<u8> = slices.iter().flat_map(|slice| body(home, slice)).collect();
    assert!(bodies == oplog_itself(&client, slices[0].start, slices.last().expect("a slice").end.at).await);
}

/// The bucket stalls at the operations of a run in turn.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_run_whose_bucket_stalls_and_leaves_no_half_slice() {
    let ((server, client), home, bucket) = (set().await, Home::new(), S3Server::start());
    let rows = client.database("live").collection::<Document>("rows");
    rows.insert_one(doc! {"_id": 0}).await.expect("a row");
    let tool = |args: &[&str]| {
        let mut command = to_s3(&home, &server.uri(), &bucket);
        command.env("BACKUP_JOB", JOB).env("BACKUP_DATABASES", "live").args(args);
        command
    };
    run(&mut tool(&["backup"])).ends(0);
    rows.insert_one(doc! {"_id": 1}).await.expect("a row");
    run(&mut tool(&["oplog"])).ends(0);
    // A body of several parts.
    rows.insert_one(doc! {"_id": 2, "noise": noise(11 << 20)}).await.expect("a row");
    let slices = chain(&bucket).len();
    for (operation, file, nth) in [
        ("GetObject", "slice.json", 0),
        ("UploadPart", ".bson.zst", 1),
        ("CompleteMultipartUpload", ".bson.zst", 0),
        ("PutObject", "slice.json", 0),
    ] {
        let count = || {
            let calls = bucket.calls();
            calls.iter().filter(|call| call.operation == operation && call.key.ends_with(file)).count()
        };
        let before = count();
        bucket.faults().add(S3Rule::from(nth, operation, Fault::Delay(STALL)).key(file));
        let child = start(&mut tool(&["oplog"]));
        until(operation, || count() > before + nth as usize);
        ends_by(child, libc::SIGTERM, 143);
        bucket.faults().clear();
        assert_eq!(chain(&bucket).len(), slices, "{operation} {file}");
        // The answer to a completion is waited for in vain. The next run aborts that upload.
        let open = usize::from(operation == "CompleteMultipartUpload");
        assert_eq!(bucket.open_uploads().len(), open, "{operation} {file}");
    }
    let report: Value = run(tool(&["oplog"]).arg("--json")).ends(0).json();
    assert_eq!((&report["entries"], chain(&bucket).len()), (&1.into(), slices + 1));
    assert_eq!(bucket.open_uploads(), vec![]);
}
