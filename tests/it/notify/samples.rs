//! The pages in docs/mail are the samples as the templates render them. `UPDATE_GENERATED=1 cargo test
//! docs_mail` writes them again.

use std::collections::BTreeMap;
use std::path::Path;

use uzima_backup::config::event::{EVENTS, Event};
use uzima_backup::notify::message::{Sender, Tone};
use uzima_backup::notify::{render, samples};

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
