use proptest::prelude::*;

use super::*;
use crate::base::secret::Redactor;
use crate::config::notify::{EVENTS, Event, MailOptions};
use crate::config::transport::MailTransport;
use crate::notify::message::{Message, Sender, Tone};

fn options(from: &str, to: &[&str]) -> MailOptions {
    MailOptions {
        by: MailTransport::Sendmail("/usr/sbin/sendmail".into()),
        from: from.into(),
        to: to.iter().map(ToString::to_string).collect(),
        events: EVENTS.into(),
        dead_man: false,
        each_cleanup: false,
    }
}

fn rendered(message: &Message, options: &MailOptions, run: &str) -> Result<String> {
    let redactor = Redactor::default();
    let at = "2026-11-23T03:04:05Z".parse().unwrap();
    let deadline = tokio::time::Instant::now();
    let posting = Posting { options, redactor: &redactor, message, run, at, deadline };
    Ok(String::from_utf8(letter(&posting)?.bytes).unwrap())
}

fn message(subject: &str) -> Message {
    Message::new(Event::Failure, Tone::Bad, subject, "The backup of all@db1 failed", &Sender::here("db1"))
}

/// The lines of the headers, with folded lines joined.
fn headers(mail: &str) -> Vec<String> {
    let (head, _) = mail.split_once("\r\n\r\n").unwrap();
    head.replace("\r\n ", " ").split("\r\n").map(str::to_string).collect()
}

const HEADERS: [&str; 8] =
    ["From", "Subject", "Date", "Message-ID", "Auto-Submitted", "To", "MIME-Version", "Content-Type"];

#[test]
fn a_mail_has_its_headers_and_both_bodies() {
    let options = options("Bäckups <backups@example.com>", &["ops@example.com", "oncall@example.org"]);
    let mail = rendered(&message("backup failed: all@db1"), &options, "run-1").unwrap();
    let headers = headers(&mail);
    let names: Vec<&str> = headers.iter().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(names, HEADERS);
    let value = |name: &str| headers.iter().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
    assert_eq!(value("From"), "=?utf-8?b?QsOkY2t1cHM=?= <backups@example.com>");
    assert_eq!(value("To"), "ops@example.com, oncall@example.org");
    assert_eq!(value("Subject"), "[uzima-backup] backup failed: all@db1");
    assert_eq!(value("Date"), "Mon, 23 Nov 2026 03:04:05 +0000");
    assert_eq!(value("Auto-Submitted"), "auto-generated");
    let id = value("Message-ID");
    assert!(id.starts_with("<uzima-backup.failure.") && id.ends_with("@example.com>"), "{id}");
    assert!(value("Content-Type").starts_with("multipart/alternative;"), "{mail}");
    assert_eq!(mail.matches("Content-Type: text/plain; charset=utf-8\r\n").count(), 1, "{mail}");
    assert_eq!(mail.matches("Content-Type: text/html; charset=utf-8\r\n").count(), 1, "{mail}");
    assert!(mail.contains("The backup of all@db1 failed"), "{mail}");
}

#[test]
fn the_same_mail_has_the_same_id_and_another_mail_has_another() {
    let options = options("a@example.com", &["b@example.com"]);
    let mail = |subject: &str, run| rendered(&message(subject), &options, run).unwrap();
    assert_eq!(mail("x", "run-1"), mail("x", "run-1"));
    let id = |mail: String| headers(&mail).into_iter().find(|line| line.starts_with("Message-ID")).unwrap();
    assert_ne!(id(mail("x", "run-1")), id(mail("x", "run-2")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Names of databases and hosts come from servers.
    #[test]
    fn no_text_adds_a_header_or_breaks_a_line(
        subject in "(\\PC|[\r\n\0\t ü名]|\r\nBcc: x@y\\.example){0,120}",
        fact in "(\\PC|[\r\n.]){0,1500}",
        run in "(\\PC|[\r\n]){0,20}",
    ) {
        let options = options("Backups <a@example.com>", &["b@example.com"]);
        let mail = rendered(&message(&subject).fact("Error", fact), &options, &run).unwrap();
        let names: Vec<String> =
            headers(&mail).iter().map(|line| line.split(':').next().unwrap().to_string()).collect();
        prop_assert_eq!(names, HEADERS);
        prop_assert!(mail.is_ascii());
        let lines: Vec<&str> = mail.split("\r\n").collect();
        prop_assert!(lines.iter().all(|line| line.len() <= 998 && !line.contains(['\r', '\n', '\0'])));
    }

    /// An address that the settings accept can be written into a mail.
    #[test]
    fn every_accepted_address_can_be_sent_to(local in "[a-z!#$%&'*+/=?^_`{|}~.-]{1,64}", domain in "[a-z0-9-]{1,20}\\.[a-z]{2,9}") {
        let address = format!("{local}@{domain}");
        let env = [("ADMIN_EMAILS", address.as_str()), ("MAIL_BY", "sendmail")];
        if let Ok(Some(options)) = crate::config::notify::mail(&crate::config::Layers::of(&env)) {
            let sent = rendered(&message("x"), &options, "run");
            prop_assert!(sent.is_ok(), "{}: {:?}", address, sent);
        }
    }
}
