//! What is told of each event, with made-up figures, for `notify --test` and the pages under docs/mail.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Outcome;
use super::events::{
    Cleanup, Deletion, Failure, Frozen, NewestGood, Occasion, Operation, Report, Row, Success, cleanup,
    failure, frozen, recovered, report, success,
};
use super::message::{Message, Sender, Table, Tone};
use crate::base::exit::Exit;
use crate::config::notify::{EVENTS, Event};

const DAY: Duration = Duration::from_secs(86_400);

/// When it all happens.
fn now() -> DateTime<Utc> {
    "2026-11-23T03:00:00Z".parse().expect("a time")
}

/// When a run that fails does.
fn ended() -> DateTime<Utc> {
    now() + Duration::from_secs(242)
}

fn occasion(operation: Operation) -> Occasion {
    Occasion { job: "all@db1".into(), operation, run: "20261123T030000Z-7k3q9d".into() }
}

/// A backup in good order.
pub(super) fn a_success() -> (Occasion, Success) {
    let success = Success {
        started: now(),
        finished: now() + Duration::from_secs(137),
        place: "s3://my-backups/daily-backups/2026/11/20261123T030000Z-7k3q9d/dump.tar.gz".into(),
        engine: "native".into(),
        consistency: "none".into(),
        namespaces: 214,
        documents: 18_402_233,
        raw_bytes: 23_622_320_128,
        stored_bytes: 8_160_437_862,
        warnings: vec![],
        notes: vec![],
    };
    (occasion(Operation::Backup), success)
}

fn a_failure(newest_good: NewestGood) -> Failure {
    let line = |text: &str| format!("2026-11-23T03:0{text}");
    Failure {
        error: "cannot read shop.orders: connection to db1.example.com:27017 was lost 5 times: \
                timed out waiting for an answer"
            .into(),
        next_step: Some(
            "See whether the server is up and not overloaded: mongosh mongodb://db1.example.com:27017".into(),
        ),
        exit: Exit::Failed,
        log: vec![
            line("0:00Z INFO  reading 214 namespaces of db1.example.com:27017 with the native engine"),
            line("1:10Z INFO  7.2 GiB of 22.0 GiB read, 118 MB/s"),
            line("1:31Z WARN  the cursor on shop.orders was lost, going on behind document 6,211,004"),
            line("4:02Z ERROR cannot read shop.orders: timed out waiting for an answer"),
        ],
        newest_good,
        max_age: Duration::from_secs(26 * 3600),
    }
}

fn deletions() -> Vec<Deletion> {
    let one = |id: &str, days: u32, stored_bytes| Deletion {
        id: id.into(),
        age: days * DAY + Duration::from_secs(3600),
        stored_bytes,
        reason: format!("older than 30 days ({days} days), and outside every keep rule"),
    };
    vec![
        one("20261022T030000Z-4hw2mp", 32, 8_040_112_004),
        one("20261021T030000Z-q0c8zt", 33, 8_022_990_551),
        one("20261020T030001Z-9f6r1e", 34, 7_998_000_120),
    ]
}

fn a_cleanup() -> Cleanup {
    Cleanup {
        place: "s3://my-backups/daily-backups/".into(),
        deleted: deletions(),
        kept: 31,
        kept_bytes: 250_181_844_992,
        problems: vec![],
        notes: vec!["an upload that a killed run left behind was ended".into()],
    }
}

fn a_frozen_one() -> Frozen {
    Frozen {
        place: "s3://my-backups/daily-backups/".into(),
        why: vec![
            "the newest backup 20261123T030000Z-7k3q9d collapsed: it holds 41 % of the documents of \
             20261122T030000Z-b2x7nd, the last good one; if that is right: --accept 20261123T030000Z-7k3q9d"
                .into(),
        ],
        waiting: 3,
        backups: 34,
        problems: vec![],
    }
}

/// The run that the sample of an event is about, after so many that failed; `None` for a report.
pub fn run(event: Event) -> Option<(Occasion, Outcome, u32)> {
    let (of, s) = a_success();
    Some(match event {
        Event::Success => (of, Outcome::Success(s), 0),
        Event::Recovered => (of, Outcome::Success(s), 3),
        Event::Failure => (of, Outcome::Failure(a_failure(NewestGood::At(now() - DAY))), 0),
        Event::Cleanup => (occasion(Operation::Cleanup), Outcome::Cleanup(a_cleanup()), 0),
        Event::Frozen => (occasion(Operation::Cleanup), Outcome::Frozen(a_frozen_one()), 0),
        Event::Stats | Event::Health => return None,
    })
}

/// The sample of an event.
pub fn of(event: Event, sender: &Sender) -> Message {
    let Some((of, outcome, failures)) = run(event) else {
        return report(event, if event == Event::Stats { stats() } else { health() }, sender);
    };
    match outcome {
        Outcome::Success(s) if failures > 0 => {
            let row = Row { failures, since: now() - failures * DAY };
            recovered(&of, row, success(&of, &s, sender))
        }
        Outcome::Success(s) => success(&of, &s, sender),
        Outcome::Failure(f) => failure(&of, &f, (1, ended()), ended(), sender),
        Outcome::Cleanup(c) => cleanup(&of, &c, sender),
        Outcome::Frozen(f) => frozen(&of, &f, sender),
    }
}

fn stats() -> Report {
    let fact = |label: &str, value: &str| (label.to_string(), value.to_string());
    let row = |cells: [&str; 5]| cells.map(str::to_string).to_vec();
    Report {
        tone: Tone::Good,
        subject: "stats: all@db1, 30 of 31 runs succeeded".into(),
        headline: "all@db1: 30 of 31 runs succeeded in the last 30 days".into(),
        facts: vec![
            fact("Backups", "31, 233.0 GiB stored"),
            fact("Success rate", "96.8 %"),
            fact("Took", "2 min 11 s in the middle, at most 3 min 40 s"),
            fact("Growth", "190 MiB a day"),
        ],
        paragraphs: vec![],
        tables: vec![Table::new(
            "The last runs",
            &["Run", "Status", "Took", "Documents", "Stored"],
            &[2, 3, 4],
            vec![
                row(["20261123T030000Z-7k3q9d", "completed", "2 min 17 s", "18,402,233", "7.6 GiB"]),
                row(["20261122T030000Z-b2x7nd", "completed", "2 min 9 s", "18,377,910", "7.6 GiB"]),
                row(["20261121T030000Z-m81v0c", "failed", "40.2 s", "", ""]),
            ],
        )],
        next_step: None,
    }
}

fn health() -> Report {
    let row = |cells: [&str; 3]| cells.map(str::to_string).to_vec();
    Report {
        tone: Tone::Bad,
        subject: "health: 1 of 4 checks failed: all@db1".into(),
        headline: "all@db1: 1 of 4 checks failed".into(),
        facts: vec![("Checked".into(), "2026-11-23 06:00 UTC".into())],
        paragraphs: vec![],
        tables: vec![Table::new(
            "Checks",
            &["Check", "Result", "Found"],
            &[],
            vec![
                row(["mongodb", "ok", "db1.example.com:27017, MongoDB 7.0.14, 214 namespaces readable"]),
                row(["store", "ok", "s3://my-backups/daily-backups/: put, get and delete work"]),
                row(["mail", "ok", "the key may send, and nothing else"]),
                row(["freshness", "failed", "the newest good backup is 2 d 3 h old, more than 26 hours"]),
            ],
        )],
        next_step: Some("Find out why the backups stopped: the log of the last run, and crontab -l".into()),
    }
}

/// A sample of each event and of its louder kinds, with the name of its page.
pub fn pages(sender: &Sender) -> Vec<(String, Message)> {
    let mut pages: Vec<(String, Message)> =
        EVENTS.map(|event| (event.word().to_string(), of(event, sender))).into();
    let (occasion, mut s) = a_success();
    s.warnings = vec![
        "the collection shop.carts was dropped while it was read".into(),
        "the database legacy, with 12 % of the documents of the last good backup, is gone".into(),
    ];
    s.notes = vec!["the cursor on shop.orders was lost and went on behind document 6,211,004".into()];
    pages.push(("success-needs-look".into(), success(&occasion, &s, sender)));
    let f = a_failure(NewestGood::At(now() - 9 * DAY));
    let loud = failure(&occasion, &f, (9, now() - 8 * DAY), ended(), sender);
    pages.push(("failure-for-days".into(), loud));
    pages
}
