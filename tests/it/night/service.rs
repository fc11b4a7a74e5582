//! The mail service refuses, or does not answer. The backup still counts.

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
async fn an_error_of_the_mail_service_is_a_problem_of_the_backup() {
    no_mail(refused(500, "application_error", "An unexpected error occurred"), &["500", "resend-status"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_a_problem_of_the_backup() {
    let took = no_mail(refused(401, "missing_api_key", "Missing API key"), &["401", "RESEND_API_KEY"]).await;
    assert!(took < Duration::from_secs(20), "a key that is wrong stays wrong: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_mail_service_is_a_problem_of_the_backup() {
    let took = no_mail(accepted().set_delay(Duration::from_secs(90)), &["no answer from the service"]).await;
    assert!(took < Duration::from_secs(75), "{took:?}");
}

/// Cron mails the problem, and a failed backup stays failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_mail_is_printed_for_cron() {
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
    let cleaned = run(nights
        .tool(NOWHERE)
        .env("BACKUP_KEEP_MIN", "1")
        .env("BACKUP_NOTIFY", "cleanup")
        .args(["cleanup", "--json"]))
    .ends(3)
    .json();
    holds(&cleaned["problems"].to_string(), &["a mail could not be sent: "]);
    assert_eq!(nights.home.manifests().len(), 1, "the old backup is deleted anyway");
}

/// One of the addresses is bad: the other recipients get the mail, and the output names the address.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_recipient_is_named_and_the_others_get_the_mail() {
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

    // An address that the service would always refuse is found before anything is done.
    let ran = run(nights.tool(&server.uri()).env("ADMIN_EMAILS", "jörg@example.com").arg("backup")).ends(2);
    holds(&ran.stderr, &["jörg@example.com", "non-ASCII", "next step: Correct ADMIN_EMAILS"]);
    assert_eq!(nights.home.manifests().len(), 1);
}
