//! Nightly runs whose mails go to an SMTP server.

use std::process::Command;

use uzima_testkit::mongod::TlsFiles;
use uzima_testkit::smtp_server::{Encryption, SmtpServer};

use super::support::{holds, server};
use crate::cli::support::{Home, NOWHERE, run};

const PASSWORD: &str = "swordfish canary";

/// The tool with mails by an SMTP server, whose password is in a file.
fn mailing(home: &Home, smtp: &SmtpServer, uri: &str) -> Command {
    let password = home.path().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).expect("a file");
    let mut command = home.to_dir(uri);
    command.envs([
        ("BACKUP_JOB", "nightly"),
        ("ADMIN_EMAILS", "ops@example.com"),
        ("SMTP_HOST", "localhost"),
    ]);
    command.env("SMTP_PORT", smtp.port().to_string()).env("SMTP_USER", "backup");
    command.env("SMTP_PASSWORD_FILE", password).env("SMTP_CA_FILE", home.path().join("ca.pem"));
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_by_smtp_follow_the_rules_of_all_mails() {
    let (server, home) = (server().await, Home::new());
    let files = TlsFiles::create(home.path()).expect("certificates");
    let smtp = SmtpServer::start(Encryption::StartTls, Some(&files), Some(("backup", PASSWORD)));
    let subjects = || -> Vec<String> {
        let of = |text: &str| {
            text.lines().find_map(|line| line.strip_prefix("Subject: [uzima-backup] ").map(str::to_string))
        };
        smtp.mails().iter().filter_map(|mail| of(&mail.text)).collect()
    };
    run(mailing(&home, &smtp, &server.uri()).arg("backup")).ends(0);
    // Only the first of two failures is mailed, and then the recovery.
    run(mailing(&home, &smtp, NOWHERE).arg("backup")).ends(1);
    run(mailing(&home, &smtp, NOWHERE).arg("backup")).ends(1);
    run(mailing(&home, &smtp, &server.uri()).arg("backup")).ends(0);
    let starts = ["backup done: nightly", "backup failed: nightly", "backup works again: nightly"];
    let found = subjects();
    assert_eq!(found.len(), starts.len(), "{found:?}");
    for (subject, start) in found.iter().zip(starts) {
        assert!(subject.starts_with(start), "{subject}");
    }
    // A mail that fails is a problem of a good backup, and cron prints it.
    smtp.refuse("AUTH", &format!("535 5.7.8 '{PASSWORD}' is wrong"));
    let ran = run(mailing(&home, &smtp, &server.uri()).args(["backup", "--quiet"])).ends(3);
    let at = format!("localhost:{} refused the login: 535 5.7.8", smtp.port());
    holds(&ran.stderr, &["needs a look: a mail could not be sent: ", &at, "SMTP_USER and SMTP_PASSWORD"]);
    assert!(!ran.stderr.contains("swordfish"), "{}", ran.stderr);
    assert_eq!(home.manifests().len(), 3, "the backup is good");
    let ran = run(mailing(&home, &smtp, &server.uri()).args(["health", "--only", "mail"])).ends(5);
    holds(&ran.stdout, &["failed", &at, "SMTP_USER and SMTP_PASSWORD"]);
    assert!(!ran.stdout.contains("swordfish"), "{}", ran.stdout);
}

#[test]
fn config_hides_the_password_and_explains_the_transport() {
    let home = Home::new();
    let files = TlsFiles::create(home.path()).expect("certificates");
    let smtp = SmtpServer::start(Encryption::StartTls, Some(&files), Some(("backup", PASSWORD)));
    let ran = run(mailing(&home, &smtp, NOWHERE).arg("config")).ends(0);
    holds(&ran.stdout, &["mail.smtp_host", "localhost", "mail.smtp_password", "(hidden)"]);
    assert!(!ran.stdout.contains("swordfish"), "{}", ran.stdout);
    let ran = run(mailing(&home, &smtp, NOWHERE).args(["health", "--only", "mail"])).ends(0);
    holds(&ran.stdout, &["accepts mails as backup (STARTTLS); to ops@example.com"]);
    // Both are configured.
    let mut both = mailing(&home, &smtp, NOWHERE);
    run(both.env("RESEND_API_KEY", "re_x").arg("backup"))
        .ends(2)
        .says(&["MAIL_BY (mail.by) to resend or smtp"]);
    let mut plain = mailing(&home, &smtp, NOWHERE);
    plain.env("SMTP_HOST", "mail.example.com").env("SMTP_SECURITY", "none");
    run(plain.arg("backup")).ends(2).says(&["everybody on the way", "starttls or tls"]);
    assert_eq!(home.files(), Vec::<String>::new());
}
