//! `notify` through the real binary.

use uzima_backup::config::notify::EVENTS;
use wiremock::MockServer;

use super::support::{KEY, accepted, asked, header, mails, refused, service};
use crate::cli::support::{Home, Ran, run};

fn notify(home: &Home, server: &MockServer, args: &[&str]) -> Ran {
    let mut command = home.tool();
    command.envs([("RESEND_API_KEY", KEY), ("ADMIN_EMAILS", "ops@example.com,oncall@example.com")]);
    run(command.env("RESEND_BASE_URL", server.uri()).arg("notify").args(args))
}

#[tokio::test(flavor = "multi_thread")]
async fn notify_test_sends_a_sample_of_each_mail() {
    let (server, home) = (service(vec![accepted()]).await, Home::new());
    let ran = notify(&home, &server, &["--test"]).ends(0);
    assert_eq!(ran.stdout.lines().count(), EVENTS.len(), "{}", ran.stdout);
    let mails = mails(&server).await;
    for (event, mail) in EVENTS.iter().zip(&mails) {
        assert!(ran.stdout.contains(&format!(
            "{:9}  sent: {}",
            event.word(),
            mail["subject"].as_str().unwrap()
        )));
        assert!(mail["subject"].as_str().unwrap().contains("TEST"), "{mail}");
        assert_eq!(mail["from"], "uzima-backup@example.com");
    }
    // A second test has other keys, so the service does not take it for a repetition.
    notify(&home, &server, &["--test", "--event", "failure"]).ends(0);
    let asked = asked(&server).await;
    assert_eq!(asked.len(), EVENTS.len() + 1);
    let mut keys: Vec<String> = asked.iter().map(|request| header(request, "idempotency-key")).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), asked.len(), "{keys:?}");
    assert!(!home.state().exists(), "a test is no run");
}

/// A test mail is about the configured job and place, so that a filter of mails that is tried with it works.
#[tokio::test(flavor = "multi_thread")]
async fn a_test_mail_shows_the_configured_job_and_place() {
    let (server, home) = (service(vec![accepted()]).await, Home::new());
    let mut command = home.to_dir(crate::cli::support::NOWHERE);
    command.envs([
        ("RESEND_API_KEY", KEY),
        ("ADMIN_EMAILS", "ops@example.com"),
        ("BACKUP_JOB", "orders@db7"),
    ]);
    run(command.env("RESEND_BASE_URL", server.uri()).args(["notify", "--test", "--event", "success"]))
        .ends(0);
    let mail = mails(&server).await.remove(0);
    let subject = mail["subject"].as_str().expect("a subject");
    assert!(subject.starts_with("[uzima-backup] TEST: backup done: orders@db7 ("), "{subject}");
    let text = mail["text"].as_str().expect("a text");
    assert!(text.contains(home.backups().to_str().expect("a path")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_mail_is_exit_code_1_with_the_reason() {
    let unverified = refused(403, "validation_error", "The example.com domain is not verified.");
    let (server, home) = (service(vec![accepted(), unverified]).await, Home::new());
    let ran = notify(&home, &server, &["--test", "--event", "success", "--event", "frozen"]).ends(1);
    assert!(ran.stdout.contains("success    sent: "), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("frozen     failed: ") && ran.stdout.contains("EMAIL_FROM"),
        "{}",
        ran.stdout
    );
    notify(&home, &server, &["--test", "--event", "frozen", "-q"]).ends(1).says(&["not verified"]);
    let json = notify(&home, &server, &["--test", "--event", "frozen", "--json"]).ends(1).json();
    assert_eq!(json["mails"][0]["outcome"], "failed");
    assert!(json["mails"][0]["next_step"].as_str().unwrap().contains("EMAIL_FROM"), "{json}");
}

#[test]
fn without_settings_notify_is_a_usage_error() {
    let home = Home::new();
    run(home.tool().args(["notify", "--test"])).ends(2).says(&["RESEND_API_KEY", "ADMIN_EMAILS"]);
    run(home.tool().env("ADMIN_EMAILS", "a@b.example").args(["notify", "--test"]))
        .ends(2)
        .says(&["neither RESEND_API_KEY, SMTP_HOST nor SENDMAIL_PATH"]);
    run(home.tool().arg("notify")).ends(2).says(&["--test"]);
    run(home.tool().args(["notify", "--test", "--render", "/x"])).ends(2);
    run(home.tool().args(["notify", "--test", "--event", "succes"])).ends(2).says(&["success, failure"]);
}

#[test]
fn config_reports_a_mistake_in_the_mail_settings() {
    let home = Home::new();
    let config = || {
        let mut command = home.tool();
        command.env("BACKUP_DIR", home.backups()).env("ADMIN_EMAILS", "ops@example.com").arg("config");
        command
    };
    run(&mut config()).ends(2).says(&["neither RESEND_API_KEY, SMTP_HOST nor SENDMAIL_PATH"]);
    run(config().env("RESEND_API_KEY", KEY).env("BACKUP_NOTIFY", "succes")).ends(2).says(&["'succes'"]);
    run(config().env("RESEND_API_KEY", KEY)).ends(0);
}

/// The key is read from a file, with a newline at its end.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_may_come_from_a_file() {
    let (server, home) = (service(vec![accepted()]).await, Home::new());
    let path = home.path().join("key");
    std::fs::write(&path, format!("{KEY}\n")).expect("a file");
    let mut command = home.tool();
    command.env("RESEND_API_KEY_FILE", &path).env("ADMIN_EMAILS", "ops@example.com");
    run(command.env("RESEND_BASE_URL", server.uri()).args(["notify", "--test", "--event", "stats"])).ends(0);
    assert_eq!(header(&asked(&server).await[0], "authorization"), format!("Bearer {KEY}"));
}

#[test]
fn render_writes_files_and_needs_no_settings() {
    let home = Home::new();
    let folder = home.path().join("mails");
    let render = |args: &[&str]| run(home.tool().args(["notify", "--render"]).arg(&folder).args(args));
    let json = render(&["--event", "health", "--json"]).ends(0).json();
    assert_eq!(json["mails"][0]["outcome"], "written");
    assert_eq!(crate::cli::support::files(&folder), ["health.html", "health.txt"]);
    render(&[]).ends(0);
    assert_eq!(crate::cli::support::files(&folder).len(), 2 * EVENTS.len());
    let html = std::fs::read_to_string(folder.join("failure.html")).expect("a page");
    assert!(html.starts_with("<!DOCTYPE html>") && !html.contains("TEST"), "{html}");
    let blocked = home.path().join("file");
    std::fs::write(&blocked, "").expect("a file");
    run(home.tool().args(["notify", "--render"]).arg(blocked.join("x"))).ends(1).says(&["cannot write"]);
}
