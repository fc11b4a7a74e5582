//! `health --email` and `stats --email`, and the checks of mail and records.

use std::time::Instant;

use serde_json::json;

use super::support::{JOB, Nights, holds, sending_only, server};
use crate::cli::support::run;
use crate::health::support::Health;
use crate::notify::support::refused;
use crate::records::support::{guarded, recording, runs};

#[tokio::test(flavor = "multi_thread")]
async fn health_and_stats_are_mailed() {
    let (server, nights) = (server().await, Nights::new().await);
    nights.keys(sending_only()).await;
    nights.run(&server.uri(), &["backup", "--notify", "stats"]);
    run(nights.home.to_dir(&server.uri()).env("BACKUP_JOB", JOB).arg("backup")).ends(0);
    let quiet = |args: &[&str], code| {
        let ran = nights.run(&server.uri(), args).ends(code);
        (ran.stdout, ran.stderr)
    };
    assert_eq!(quiet(&["stats", "--email", "--quiet"], 0), (String::new(), String::new()));
    assert_eq!(quiet(&["health", "--email", "--quiet"], 0), (String::new(), String::new()));
    // Each invocation is mailed.
    quiet(&["stats", "--email"], 0);
    let subjects = nights.subjects().await;
    let [stats, health, again] = subjects.as_slice() else { panic!("{subjects:?}") };
    assert_eq!((stats.as_str(), health.as_str()), ("stats: nightly", "health: healthy: nightly"));
    assert_eq!(stats, again);
    let mails = nights.mails().await;
    let id = nights.home.manifests()[0].id.to_string();
    holds(mails[0]["text"].as_str().expect("a text"), &["1 completed", &id, "100.0 %"]);
    holds(mails[1]["text"].as_str().expect("a text"), &["mongodb", "the key may send, and nothing else"]);
    quiet(&["stats"], 0);
    quiet(&["health"], 0);
    assert_eq!(nights.mails().await.len(), 3, "no further mail");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_mail_settings_email_is_a_usage_error() {
    let (server, nights) = (server().await, Nights::new().await);
    for command in ["stats", "health"] {
        let began = Instant::now();
        let ran = run(nights.home.to_dir(&server.uri()).args([command, "--email"])).ends(2);
        let ran =
            ran.says(&["--email: mails are not set up", "next step: ", "RESEND_API_KEY", "ADMIN_EMAILS"]);
        assert_eq!(ran.stdout, "", "nothing was asked");
        assert!(began.elapsed().as_secs() < 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_report_is_a_problem() {
    let answer = || refused(403, "invalid_api_key", "API key is invalid");
    let (server, nights) = (server().await, Nights::answering(vec![answer()]).await);
    nights.keys(sending_only()).await;
    run(nights.home.to_dir(&server.uri()).env("BACKUP_JOB", JOB).arg("backup")).ends(0);
    let problem = "needs a look: a mail could not be sent: ";
    let ran = nights.run(&server.uri(), &["stats", "--email", "--quiet"]).ends(3);
    assert!(ran.stderr.starts_with(problem) && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    nights.run(&server.uri(), &["health", "--email"]).ends(3).says(&[problem]);
    let fresh = ["health", "--email", "--only", "freshness"];
    let mut other = nights.tool(&server.uri());
    run(other.env("BACKUP_JOB", "other").args(fresh)).ends(5).says(&[problem, "unhealthy: freshness"]);
}

const TELLING: [&str; 2] = ["--only=records", "--only=mail"];

#[tokio::test(flavor = "multi_thread")]
async fn health_reports_writable_records_and_an_accepted_key() {
    let ((server, client), nights) = (crate::records::support::server().await, Nights::new().await);
    let mut none = nights.home.to_dir(&server.uri());
    let health = Health::of(&mut none, &TELLING).green();
    assert_eq!(health.with("not_configured"), ["records", "mail"]);
    holds(health.detail("records"), &["BACKUP_RECORDS is off"]);
    holds(health.detail("mail"), &["failures are not mailed"]);

    let domains = wiremock::ResponseTemplate::new(200).set_body_json(json!({"data": []}));
    nights.keys(domains).await;
    run(recording(&nights.home, &server.uri()).env("BACKUP_JOB", JOB).arg("backup")).ends(0);
    let mut command = nights.tool(&server.uri());
    let health = Health::of(command.env_remove("BACKUP_RECORDS"), &TELLING).green();
    assert_eq!(health.with("ok"), ["records", "mail"]);
    holds(health.detail("records"), &["1 run of nightly recorded; writing works"]);
    holds(health.detail("mail"), &["the key may do more than send", "ops@example.com"]);
    assert_eq!(nights.mails().await.len(), 0, "a check sends nothing");
    assert_eq!(
        runs(&client).count_documents(bson::doc! {}).await.expect("a count"),
        1,
        "health adds no record"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_reports_a_missing_right_and_a_refused_key() {
    let ((server, _client), nights) = (guarded().await, Nights::new().await);
    nights.keys(refused(401, "missing_api_key", "Missing API key")).await;
    server.create_user("b", "pw", &[("backup", "admin")]).await.expect("a user");
    let mut command = nights.tool(&server.uri_as("b", "pw", "admin"));
    let health = Health::of(command.env_remove("BACKUP_RECORDS"), &TELLING);
    assert_eq!(
        (health.ran.code, health.with("failed")),
        (Some(5), vec!["records", "mail"]),
        "{}",
        health.report
    );
    holds(health.step("records"), &["grantRolesToUser", "uzima_backup"]);
    holds(health.detail("mail"), &["401", "Missing API key"]);
    holds(health.step("mail"), &["RESEND_API_KEY"]);
}
