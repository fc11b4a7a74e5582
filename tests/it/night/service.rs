//! The mail service says no, or nothing. The backup is what counts.

use std::time::{Duration, Instant};

use wiremock::ResponseTemplate;

use super::support::{Nights, holds, server};
use crate::cli::support::{Home, NOWHERE, run};
use crate::notify::support::{accepted, picky, refused};

async fn no_mail(answer: ResponseTemplate, words: &[&str]) -> Duration {
    let (server, nights) = (server().await, Nights::answering(vec![answer]).await);
    let began = Instant::now();
    let report = nights.run(&server.uri(), &["backup", "--json"]).ends(3).json();
    let took = began.elapsed();
    let problems = report["problems"].as_array().expect("a list");
    assert_eq!(problems.len(), 1, "{report}");
    let problem = problems[0].as_str().expect("a text");
    assert!(
        problem.starts_with("a mail could not be sent: the mail '[uzima-backup] backup done: "),
        "{problem}"
    );
    holds(problem, words);
    assert_eq!(nights.home.manifests().len(), 1, "the backup is good");
    assert_eq!(report["warnings"], serde_json::json!([]));
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_broken() {
    no_mail(refused(500, "application_error", "An unexpected error occurred"), &["500", "resend-status"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_does_not_know_the_key() {
    let took = no_mail(refused(401, "missing_api_key", "Missing API key"), &["401", "RESEND_API_KEY"]).await;
    assert!(took < Duration::from_secs(20), "a key that is wrong stays wrong: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_silent() {
    let took = no_mail(accepted().set_delay(Duration::from_secs(90)), &["no answer from the service"]).await;
    assert!(took < Duration::from_secs(75), "{took:?}");
}

/// A person hears of it from cron, and a failed backup stays failed.
#[tokio::test(flavor = "multi_thread")]
async fn what_cron_is_told() {
    let answer = || refused(403, "invalid_api_key", "API key is invalid");
    let (server, nights) = (server().await, Nights::answering(vec![answer()]).await);
    let ran = nights.run(&server.uri(), &["backup", "--quiet"]).ends(3);
    assert!(ran.stderr.starts_with("needs a look: a mail could not be sent: "), "{}", ran.stderr);
    assert_eq!((ran.stdout.as_str(), ran.stderr.lines().count()), ("", 1), "{}", ran.stderr);
    let ran = nights.run(NOWHERE, &["backup"]).ends(1);
    assert!(
        ran.stderr.contains("WARN") && ran.stderr.contains("a mail could not be sent: "),
        "{}",
        ran.stderr
    );
    holds(&ran.stderr, &["error: ", "next step: "]);
    run(nights.tool(NOWHERE).env("BACKUP_FORMAT", "rar").arg("backup")).ends(2);
    nights.age_a_copy(40);
    let cleaned =
        run(nights.tool(NOWHERE).env("BACKUP_KEEP_MIN", "1").args(["cleanup", "--json"])).ends(3).json();
    holds(&cleaned["problems"].to_string(), &["a mail could not be sent: "]);
    assert_eq!(nights.home.manifests().len(), 1, "the old one went all the same");
}

/// A bad address among the good ones: the others read of the night, and cron hears of the address.
#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_one_of_several_recipients() {
    let server = server().await;
    let nights = Nights { home: Home::new(), service: picky(&["gone@example.com"]).await };
    let to = "Ops <ops@example.com>, gone@example.com, Bücher <a@bücher.example>,";
    let report =
        run(nights.tool(&server.uri()).env("ADMIN_EMAILS", to).args(["backup", "--json"])).ends(3).json();
    holds(&report["problems"].to_string(), &["not sent to 1 of 3 (gone@example.com)", "ADMIN_EMAILS"]);
    assert_eq!(nights.home.manifests().len(), 1, "the backup is good");
    let mails = nights.mails().await;
    let got: Vec<&str> =
        mails.iter().flat_map(|mail| mail["to"].as_array()).flatten().filter_map(|to| to.as_str()).collect();
    assert!(got.contains(&"ops@example.com") && got.contains(&"a@xn--bcher-kva.example"), "{got:?}");

    // What the service would refuse for its form is found before anything is done.
    let ran = run(nights.tool(&server.uri()).env("ADMIN_EMAILS", "jörg@example.com").arg("backup")).ends(2);
    holds(&ran.stderr, &["jörg@example.com", "beyond ASCII", "next step: Correct ADMIN_EMAILS"]);
    assert_eq!(nights.home.manifests().len(), 1);
}
