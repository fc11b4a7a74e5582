//! The pages under docs/mail are rendered from the samples. `UPDATE_GENERATED=1 cargo test --lib page` rewrites them.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::config::notify::EVENTS;
use crate::model::manifest::COLLAPSED;
use crate::notify::message::Tone;

fn samples(sender: Sender) -> Samples {
    Samples::example(sender, "2026-11-23T03:00:02Z".parse().unwrap())
}

/// A sample of each event and of its more urgent variants, with the name of its page.
fn pages(samples: &Samples) -> Vec<(&'static str, Message)> {
    let mut pages: Vec<(&str, Message)> = EVENTS.map(|event| (event.word(), samples.mail(event))).into();
    let mut add = |name, operation, outcome, failures| {
        pages.push((name, samples.mail_about(&samples.notified(operation), &outcome, failures)));
    };
    let compared = contents(1).compare(&collapsed(), &samples.id(1));
    let Amount { documents, raw_bytes } = collapsed().total;
    let stored_bytes = stored_bytes(raw_bytes);
    let namespaces = NAMESPACES.iter().filter(|(name, ..)| !name.starts_with("crm.")).count() as u64;
    let success = BackupSuccess {
        facts: BackupFacts { documents, raw_bytes, stored_bytes, namespaces, ..samples.facts() },
        problems: vec![format!("{COLLAPSED}{}", compared.collapsed.unwrap())],
        notes: vec!["lost the cursor on shop.orders and continued (2 times)".into()],
        losses: compared.losses,
    };
    add("success-needs-look", RunKind::Backup, RunOutcome::Success(success), 0);
    let losses = contents(1).compare(
        &amounts(|name, documents| if name == "crm.companies" { 0 } else { documents }),
        &samples.id(1),
    );
    let losses = losses.losses.unwrap();
    let facts = BackupFacts { namespaces: NAMESPACES.len() as u64 - 1, ..samples.facts() };
    let success =
        BackupSuccess { facts, notes: vec![losses.note()], losses: Some(losses), ..samples.success() };
    add("success-vanished", RunKind::Backup, RunOutcome::Success(success), 0);
    let failure = samples.failure(NewestGood::At(samples.started(9)));
    add("failure-for-days", RunKind::Backup, RunOutcome::Failure(failure), 9);
    let cleanup = CleanupSuccess { exceeds: Some(1), ..samples.cleanup(samples.nights() + 7) };
    add("cleanup-unusual", RunKind::Cleanup, RunOutcome::Cleanup(cleanup), 0);
    pages
}

#[test]
fn the_pages_in_docs_mail_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/mail");
    let sender = Sender { tool: "uzima-backup".into(), host: "backup1.example.com".into() };
    let mut files = BTreeMap::new();
    for (name, message) in pages(&samples(sender)) {
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
            "docs/mail/{name} is out of date: run UPDATE_GENERATED=1 cargo test --lib page"
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
    let samples = samples(Sender::here("h"));
    for event in EVENTS {
        let message = samples.mail(event);
        assert_eq!(message.event, event);
        assert!(message.subject.starts_with("[uzima-backup] ") && message.subject.contains("shop@db1"));
        assert_eq!(message.tone == Tone::Bad, matches!(event, Event::Failure | Event::Health), "{event}");
        let test = message.as_test();
        assert!(test.subject.starts_with("[uzima-backup] TEST: ") && test.text().contains("is a test"));
    }
}

#[test]
fn samples_show_the_configured_names() {
    let example = samples(Sender::here("backup7"));
    let (job, place, server) = ("orders@db7".into(), "/backups".into(), "db7:27018".into());
    let samples = Samples { job, place, server, ..example };
    for event in EVENTS {
        let text = samples.mail(event).text();
        assert!(text.contains("orders@db7") && text.contains("on backup7"), "{text}");
        assert!(!text.contains("db1") && !text.contains("my-backups"), "{text}");
        let is_about_server = matches!(event, Event::Failure | Event::Health);
        assert!(event == Event::Failure || text.contains("/backups"), "{text}");
        assert!(!is_about_server || text.contains("db7:27018"), "{text}");
    }
}

/// The reasons are those of a real plan.
#[test]
fn the_samples_of_cleanups_show_real_reasons() {
    let samples = samples(Sender::here("h"));
    let cleanup = samples.mail(Event::Cleanup).text();
    assert!(cleanup.contains("older than 30 days and outside every keep rule"), "{cleanup}");
    assert_eq!(samples.cleanup(samples.nights()).deleted.len(), 1);
    let frozen = samples.mail(Event::Frozen).text();
    assert!(frozen.contains("collapsed: ") && frozen.contains("shop.events shrank from"), "{frozen}");
    let success = samples.mail(Event::Success).text();
    assert!(success.contains("2026-11-22 04:00 UTC: 1 backup deleted, "), "{success}");
}
