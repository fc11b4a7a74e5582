//! The pings of a monitor at the start and the end of a backup.

use std::time::{Duration, Instant};

use uzima_testkit::wire_proxy::{Action, Rule, WireProxy};
use wiremock::ResponseTemplate;

use super::support::{JOB, Signalled, keeps_quiet, problems, reported};
use crate::cli::signals::{STALL, ends_by, start, until};
use crate::cli::support::{NOWHERE, run};
use crate::night::support::{holds, server};

fn ok() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_string("OK")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_pings_its_start_and_its_success() {
    let (server, signalled) = (server().await, Signalled::new().await);
    let report = reported(&mut signalled.pinging(&server.uri()), &["backup"], 0);
    let pings = signalled.pings().await;
    assert_eq!(pings[0], ("/start".into(), String::new()));
    assert_eq!((pings.len(), &pings[1].0[..]), (2, ""));
    let id = report["id"].as_str().expect("an id");
    holds(&pings[1].1, &[id, JOB, "All is well", report["place"].as_str().expect("a place")]);
    // Only backups are pinged.
    for args in [&["backup", "--dry-run"][..], &["cleanup"], &["list"], &["verify"]] {
        run(signalled.pinging(&server.uri()).args(args)).ends(0);
    }
    assert_eq!(signalled.pings().await.len(), 2);
}

/// A monitor waits for whole backups: neither the success nor the failure of a partial one is about it.
#[tokio::test(flavor = "multi_thread")]
async fn a_partial_backup_changes_neither_monitor_nor_metrics() {
    let (server, signalled) = (server().await, Signalled::new().await);
    let partial = |uri: &str, code| {
        let mut command = signalled.pinging(uri);
        command.env("METRICS_FILE", signalled.metrics()).env("WEBHOOK_URL", signalled.webhook_url());
        run(command.args(["backup", "--exclude", "shop.none"])).ends(code);
    };
    partial(&server.uri(), 0);
    partial(NOWHERE, 1);
    assert_eq!(signalled.paths().await, Vec::<String>::new());
    assert!(!signalled.metrics().exists());
    let documents = signalled.documents().await;
    let events: Vec<_> =
        documents.iter().map(|document| (&document["event"], &document["partial"])).collect();
    assert_eq!(events, [(&"success".into(), &true.into()), (&"failure".into(), &true.into())]);
    run(signalled.pinging(NOWHERE).arg("backup")).ends(1);
    assert_eq!(signalled.paths().await, ["/start", "/fail"], "a whole backup");
}

/// The monitor measures from the start ping, so the ping comes before any request to MongoDB.
#[tokio::test(flavor = "multi_thread")]
async fn the_start_is_pinged_before_any_request_to_mongodb() {
    let (server, signalled) = (server().await, Signalled::silent().await);
    signalled.answer("/start$", ok().set_delay(Duration::from_secs(2))).await;
    signalled.answer(".*", ok()).await;
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let mut child = start(signalled.pinging(&proxy.uri(&server.uri())).arg("backup"));
    while signalled.pings().await.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((proxy.log().len(), signalled.home.files()), (0, vec![]));
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    assert_eq!(signalled.paths().await, ["/start", ""]);
    assert!(proxy.log().len() > 10);
}

/// The ping of a failure contains the reason, the next step and the log.
#[tokio::test(flavor = "multi_thread")]
async fn the_ping_of_a_failure_contains_the_log() {
    let signalled = Signalled::new().await;
    let ran = run(signalled.pinging(NOWHERE).arg("backup")).ends(1);
    assert_eq!(signalled.paths().await, ["/start", "/fail"]);
    let body = signalled.pings().await.pop().expect("a ping").1;
    let step = ran.stderr.lines().find_map(|line| line.strip_prefix("next step: ")).expect("a step");
    holds(&body, &["127.0.0.1:1", "connection refused", step, "Exit code", "The last lines of the log:"]);
    let logged = ran.stderr.lines().find(|line| line.contains("INFO")).expect("a line of the log");
    holds(&body, &[logged]);
    assert!(body.len() <= 100_000, "{}", body.len());
}

/// Exit code 3 must not raise an alarm, because the backup is there.
#[tokio::test(flavor = "multi_thread")]
async fn exit_code_3_is_pinged_as_a_success_with_the_reason() {
    let (server, signalled) = (server().await, Signalled::new().await);
    reported(signalled.pinging(&server.uri()).env("BACKUP_RECORDS", NOWHERE), &["backup"], 3);
    assert_eq!(signalled.paths().await, ["/start", ""]);
    holds(&signalled.pings().await[1].1, &["Needs a look", "the run could not be recorded"]);
}

/// A slow monitor costs ten seconds, but no backup.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_monitor_costs_ten_seconds_and_no_backup() {
    let (server, signalled) = (server().await, Signalled::silent().await);
    signalled.answer("/start$", ok()).await;
    signalled.answer(".*", ok().set_delay(STALL)).await;
    let began = Instant::now();
    let report = reported(&mut signalled.pinging(&server.uri()), &["backup"], 3);
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    let [problem] = problems(&report).try_into().expect("one problem");
    holds(
        &problem,
        &["ping_url: http://127.0.0.1", "did not receive the ping 'success': ", "no answer", "reached"],
    );
    assert!(!problem.contains("canary"), "{problem}");
    assert!(signalled.pings().await.len() > 2, "it was asked again");
    assert_eq!(signalled.home.manifests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusing_or_unreachable_monitor_costs_no_backup() {
    let server = server().await;
    for (answer, words) in [
        (
            Some(ResponseTemplate::new(500).set_body_string("out of order")),
            ["500, out of order", "check that"],
        ),
        (
            Some(ResponseTemplate::new(404).set_body_string("not found")),
            ["404, not found", "Correct PING_URL"],
        ),
        (Some(ok().set_body_string("OK (not found)")), ["200, OK (not found)", "Correct PING_URL"]),
        (None, ["Connection refused", "reached"]),
    ] {
        let signalled = Signalled::silent().await;
        let mut command = signalled.pinging(&server.uri());
        match answer {
            Some(answer) => signalled.answer(".*", answer).await,
            None => drop(command.env("PING_URL", "http://127.0.0.1:1/canary-0123456789")),
        }
        let ran = run(command.args(["backup", "--json"])).ends(3);
        keeps_quiet(&ran);
        let problems = problems(&ran.json());
        assert_eq!(problems.len(), 2, "{problems:?}");
        for (problem, what) in problems.iter().zip(["the ping 'start'", "the ping 'success'"]) {
            holds(problem, &["ping_url: ", &format!("did not receive {what}"), words[0], words[1]]);
        }
        assert_eq!(signalled.home.manifests().len(), 1);
        // A failed run keeps its own exit code.
        if words[0].starts_with("404") {
            keeps_quiet(&run(signalled.pinging(NOWHERE).arg("backup")).ends(1).says(&["WARN", "ping_url: "]));
        }
    }
}

/// The ping comes within the 10 s that a run has after a signal, whether the monitor is fast or slow.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_ended_by_a_signal_pings_a_failure() {
    let server = server().await;
    for slow in [false, true] {
        let signalled = Signalled::silent().await;
        signalled.answer("/start$", ok()).await;
        signalled.answer(".*", if slow { ok().set_delay(STALL) } else { ok() }).await;
        let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
        let stalled = proxy.add(Rule::on("find").namespace("shop.*").then(Action::Stall(STALL)));
        let mut command = signalled.pinging(&proxy.uri(&server.uri()));
        let child = start(command.env("METRICS_FILE", signalled.metrics()).arg("backup"));
        until("the server falls silent", || proxy.hits(stalled) == 1);
        ends_by(child, libc::SIGTERM, 143);
        let pings = signalled.pings().await;
        assert_eq!(pings[1].0, "/fail");
        holds(&pings[1].1, &["SIGTERM", "143"]);
        assert_eq!(signalled.figures(JOB)["last_run_exit_code"], 143.0);
    }
}

/// A run that finds another one running sends no ping, because the other one does.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_finds_the_lock_held_sends_no_ping() {
    let (server, signalled) = (server().await, Signalled::new().await);
    run(signalled.pinging(&server.uri()).arg("backup")).ends(0);
    let proxy = WireProxy::start(&[server.host()]).expect("a proxy");
    let stalled = proxy.add(Rule::on("find").namespace("shop.*").then(Action::Stall(STALL)));
    let mut first = start(signalled.tool(&proxy.uri(&server.uri())).arg("backup"));
    until("the server falls silent", || proxy.hits(stalled) == 1);
    run(signalled.pinging(&server.uri()).env("METRICS_FILE", signalled.metrics()).arg("backup")).ends(75);
    assert_eq!(signalled.paths().await, ["/start", ""]);
    assert!(!signalled.metrics().exists());
    first.kill().expect("a kill");
    first.wait().expect("its end");
}

/// Wrong settings, or a configuration that cannot be read, are a failure that is pinged.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_pinged_as_a_failure() {
    let signalled = Signalled::new().await;
    run(signalled.pinging(NOWHERE).env("BACKUP_FORMAT", "rar").arg("backup")).ends(2);
    let config = signalled.home.path().join("config.toml");
    std::fs::write(&config, "mongo_uri = \n").expect("a file");
    run(signalled.pinging(NOWHERE).env("UZIMA_BACKUP_CONFIG", &config).arg("backup")).ends(2);
    let pings = signalled.pings().await;
    assert_eq!(signalled.paths().await, ["/fail", "/fail"]);
    holds(&pings[0].1, &["BACKUP_FORMAT"]);
    holds(&pings[1].1, &["config.toml, line 1, column"]);
    // Wrong settings of the signals themselves end a run before it starts. `config` reports them in advance.
    for (name, value) in
        [("PING_URL", "hc-ping.com/canary"), ("WEBHOOK_URL", "ftp://canary"), ("METRICS_FILE", "/x/y.txt")]
    {
        for command in ["backup", "cleanup", "config"] {
            let ran = run(signalled.tool(NOWHERE).env(name, value).arg(command)).ends(2).says(&[name]);
            keeps_quiet(&ran);
        }
    }
}
