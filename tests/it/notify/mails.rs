//! The contents of mails: the samples in docs/mail, which `UPDATE_GENERATED=1 cargo test docs_mail` writes
//! again, and that no secret appears in a mail or in the report of a failed one.

use std::collections::BTreeMap;
use std::path::Path;

use uzima_backup::base::exit::Exit;
use uzima_backup::base::secret::Redactor;
use uzima_backup::config::notify::{EVENTS, Event};
use uzima_backup::notify::events::{Failure, NewestGood, Occasion, Operation};
use uzima_backup::notify::message::{Sender, Tone};
use uzima_backup::notify::{Notifier, Outcome, render, samples};

use super::support::{KEY, accepted, asked, options, refused, service};
use crate::cli::support::{Home, run};

#[test]
fn the_pages_in_docs_mail_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mail");
    let sender = Sender { tool: "uzima-backup".into(), host: "backup1.example.com".into() };
    let mut files = BTreeMap::new();
    for (name, message) in samples::pages(&sender) {
        files.insert(format!("{name}.html"), render::html(&message));
        files.insert(format!("{name}.txt"), render::text(&message));
    }
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
    }
    for (name, text) in &files {
        let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(
            committed == *text,
            "docs/mail/{name} is not what is sent: UPDATE_GENERATED=1 cargo test docs_mail"
        );
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(files.contains_key(&name), "docs/mail/{name} is of no sample");
    }
    for event in EVENTS {
        assert!(files.contains_key(&format!("{event}.html")), "{event}");
    }
}

#[test]
fn each_sample_contains_the_words_of_its_event() {
    let sender = Sender::here("h");
    for event in EVENTS {
        let message = samples::of(event, &sender);
        assert_eq!(message.event, event);
        assert!(message.subject.starts_with("[uzima-backup] ") && message.subject.contains("all@db1"));
        assert_eq!(message.tone == Tone::Bad, matches!(event, Event::Failure | Event::Health), "{event}");
        let test = message.as_test();
        assert!(
            test.subject.starts_with("[uzima-backup] TEST: ") && render::text(&test).contains("is a test")
        );
    }
}

const PASSWORD: &str = "canary@Pa55:word";

fn failure() -> Outcome {
    let message = format!("cannot log in with canary%40Pa55%3Aword, that is {PASSWORD}, by {KEY}");
    Outcome::Failure(Failure {
        error: message.clone(),
        next_step: Some(message.clone()),
        exit: Exit::Failed,
        log: vec![message],
        newest_good: NewestGood::Unknown,
        max_age: std::time::Duration::from_secs(3600),
    })
}

#[tokio::test]
async fn no_secret_is_in_a_mail() {
    let server = service(vec![accepted()]).await;
    let uri = "mongodb://u:canary%40Pa55%3Aword@db1";
    let redactor = Redactor::new(&[uri], &[KEY]);
    let of = Occasion { job: PASSWORD.into(), operation: Operation::Backup, run: "run".into() };
    let notifier = Notifier::new(Some(options(&server.uri())), None, redactor, PASSWORD);
    let problems = notifier.outcome(&of, failure(), chrono::Utc::now()).await;
    assert_eq!(problems, Vec::<String>::new());
    let request = &asked(&server).await[0];
    let body = String::from_utf8(request.body.clone()).expect("UTF-8");
    assert!(body.contains("***") && !body.contains("canary"), "{body}");
}

/// The service's answer contains the key, and the log is at its most verbose level.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_report_of_a_failed_mail() {
    let echo = format!("the key {KEY} is unknown");
    for answer in [refused(403, "invalid_api_key", &echo), refused(500, "x", &echo)] {
        let (server, home) = (service(vec![answer]).await, Home::new());
        let ran = run(home
            .tool()
            .envs([("RESEND_API_KEY", KEY), ("ADMIN_EMAILS", "ops@example.com"), ("RUST_LOG", "trace")])
            .env("RESEND_BASE_URL", server.uri())
            .args(["notify", "--test", "--event", "success", "-vv"]))
        .ends(1);
        assert!(ran.stderr.contains("TRACE") || ran.stderr.contains("DEBUG"), "{}", ran.stderr);
        let printed = ran.stdout + &ran.stderr;
        assert!(printed.contains("the key *** is unknown") && !printed.contains("canary"), "{printed}");
    }
}
