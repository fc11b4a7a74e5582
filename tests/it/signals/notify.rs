//! `notify --test` tests ping, metrics file and webhook, too.

use wiremock::ResponseTemplate;

use super::support::{JOB, Signalled, keeps_quiet};
use crate::cli::support::{NOWHERE, run};
use crate::night::support::{Nights, holds, server};

#[tokio::test(flavor = "multi_thread")]
async fn notify_test_sends_each_signal_once_and_records_no_success() {
    let (server, signalled) = (server().await, Signalled::new().await);
    run(signalled.measuring(&server.uri()).arg("backup")).ends(0);
    let figures = signalled.figures(JOB);
    let command = || {
        let mut command = signalled.pinging(NOWHERE);
        command.env("WEBHOOK_URL", signalled.webhook_url()).env("METRICS_FILE", signalled.metrics());
        command.args(["notify", "--test"]);
        command
    };
    let ran = run(&mut command()).ends(0);
    assert_eq!(
        ran.stdout,
        "ping_url: given\nmetrics_file: given\nwebhook_url: given about success\nwebhook_url: given about failure\n\
         webhook_url: given about recovered\nwebhook_url: given about cleanup\nwebhook_url: given about frozen\n"
    );
    let pings = signalled.pings().await;
    assert_eq!((pings.len(), &pings[0].0[..]), (1, "/log"));
    holds(&pings[0].1, &["is a test"]);
    assert_eq!(signalled.figures(JOB), figures);
    run(command().args(["--event", "frozen"])).ends(0);
    run(command().env("BACKUP_NOTIFY", "failure")).ends(0);
    let documents = signalled.documents().await;
    assert_eq!(documents.len(), 7);
    assert_eq!((&documents[5]["event"], &documents[6]["event"]), (&"frozen".into(), &"failure".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_signal_is_exit_code_1_with_the_reason() {
    let (signalled, nights) = (Signalled::silent().await, Nights::new().await);
    let echo = format!("no check at {}", signalled.ping_url());
    signalled.answer(".*", ResponseTemplate::new(404).set_body_string(echo)).await;
    let command = || {
        let mut command = signalled.pinging(NOWHERE);
        command.env("METRICS_FILE", "/nowhere/uzima.prom").args(["notify", "--test"]);
        nights.mailing(&mut command);
        command
    };
    let ran = run(&mut command()).ends(1);
    keeps_quiet(&ran);
    holds(
        &ran.stdout,
        &["success    sent: ", "404, no check at ***", "next step: Correct PING_URL (ping_url)"],
    );
    holds(&ran.stdout, &["metrics_file: failed: metrics_file: /nowhere/uzima.prom cannot be written"]);
    let json = run(command().arg("--json")).ends(1).json();
    assert_eq!(json["signals"][0]["signal"], "ping_url");
    assert_eq!(json["signals"][1]["outcome"], "failed");
    assert!(json["signals"][1]["next_step"].is_string() && json["signals"][1]["event"].is_null());
    run(command().arg("--quiet")).ends(1).says(&["needs a look: ping_url: ", "needs a look: metrics_file: "]);
}
