//! The pages under docs/mail are rendered from the samples. `UPDATE_GENERATED=1 cargo test docs_mail` rewrites them.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::config::notify::EVENTS;

/// A sample of each event and of its more urgent variants, with the name of its page.
fn pages(sender: &Sender) -> Vec<(String, Message)> {
    let mut pages: Vec<(String, Message)> =
        EVENTS.map(|event| (event.word().to_string(), of(event, sender))).into();
    let run = occasion(RunKind::Backup);
    let mut s = a_success();
    s.problems = vec![
        "the collection shop.carts was dropped while it was read".into(),
        "the database legacy, with 12 % of the documents of the last good backup, is gone".into(),
    ];
    s.notes = vec!["the cursor on shop.orders was lost and went on after document 6,211,004".into()];
    let mail = mails::outcome(&run, &RunOutcome::Success(s), None, ended(), sender);
    pages.push(("success-needs-look".into(), mail));
    let f = a_failure(NewestGood::At(now() - 9 * DAY));
    let streak = FailureStreak { failures: 9, since: now() - 8 * DAY };
    let mail = mails::outcome(&run, &RunOutcome::Failure(f), Some(streak), ended(), sender);
    pages.push(("failure-for-days".into(), mail));
    pages
}

#[test]
fn the_pages_in_docs_mail_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mail");
    let sender = Sender { tool: "uzima-backup".into(), host: "backup1.example.com".into() };
    let mut files = BTreeMap::new();
    for (name, message) in pages(&sender) {
        files.insert(format!("{name}.html"), message.html());
        files.insert(format!("{name}.txt"), message.text());
    }
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).unwrap());
    }
    for (name, text) in &files {
        let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(
            committed == *text,
            "docs/mail/{name} is out of date: run UPDATE_GENERATED=1 cargo test docs_mail"
        );
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(files.contains_key(&name), "no sample makes docs/mail/{name}");
    }
    for event in EVENTS {
        assert!(files.contains_key(&format!("{event}.html")), "{event}");
    }
}

#[test]
fn each_sample_contains_the_words_of_its_event() {
    let sender = Sender::here("h");
    for event in EVENTS {
        let message = of(event, &sender);
        assert_eq!(message.event, event);
        assert!(message.subject.starts_with("[uzima-backup] ") && message.subject.contains("all@db1"));
        assert_eq!(message.tone == Tone::Bad, matches!(event, Event::Failure | Event::Health), "{event}");
        let test = message.as_test();
        assert!(test.subject.starts_with("[uzima-backup] TEST: ") && test.text().contains("is a test"));
    }
}
