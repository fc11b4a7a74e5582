//! A mail about each event with invented figures, for `notify --test` and the pages under docs/mail.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::events::{
    BackupFacts, BackupSuccess, CheckOutcome, CheckRow, CleanupFrozen, CleanupSuccess, Deletion, NewestGood,
    NotifiedRun, ReportMail, RunFailure, RunKind, RunOutcome,
};
use super::mails;
use super::message::{Message, Sender, Table, Tone};
use super::throttle::FailureStreak;
use crate::base::error::Error;
use crate::config::notify::Event;
use crate::model::timing::DataTiming;

const DAY: Duration = Duration::from_secs(86_400);

/// When the runs of the samples begin.
fn now() -> DateTime<Utc> {
    "2026-11-23T03:00:00Z".parse().expect("a time")
}

/// When the failing run ends.
fn ended() -> DateTime<Utc> {
    now() + Duration::from_secs(242)
}

fn occasion(operation: RunKind) -> NotifiedRun {
    NotifiedRun { job: "all@db1".into(), operation, run: "20261123T030000Z-7k3q9d".into() }
}

pub(super) fn a_success() -> BackupSuccess {
    let facts = BackupFacts {
        started_at: now(),
        finished_at: now() + Duration::from_secs(137),
        place: "s3://my-backups/daily-backups/2026/11/20261123T030000Z-7k3q9d/dump.tar.gz".into(),
        engine: "native".into(),
        consistency: "none".into(),
        namespaces: 214,
        documents: 18_402_233,
        raw_bytes: 23_622_320_128,
        stored_bytes: 8_160_437_862,
        timing: Some(DataTiming {
            seconds: 131.2,
            mongodb_seconds: 96.4,
            compression_seconds: 21.9,
            store_seconds: 4.6,
            other_seconds: 8.3,
        }),
        partial: None,
    };
    BackupSuccess { facts, problems: vec![], notes: vec![] }
}

fn a_failure(newest_good: NewestGood) -> RunFailure {
    let line = |text: &str| format!("2026-11-23T03:0{text}");
    let error = "cannot read shop.orders: connection to db1.example.com:27017 was lost 5 times: \
                 timed out waiting for an answer";
    let step = "Check that the server is up and not overloaded: mongosh mongodb://db1.example.com:27017";
    let log = vec![
        line("0:00Z INFO  reading 214 namespaces of db1.example.com:27017 with the native engine"),
        line("1:10Z INFO  7.2 GiB of 22.0 GiB read, 118 MB/s"),
        line("1:31Z WARN  the cursor on shop.orders was lost, continuing after document 6,211,004"),
        line("4:02Z ERROR cannot read shop.orders: timed out waiting for an answer"),
    ];
    RunFailure::of(&Error::failed(error).hint(step), log, newest_good, Duration::from_secs(30 * 3600))
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

fn a_cleanup() -> CleanupSuccess {
    CleanupSuccess {
        place: "s3://my-backups/daily-backups/".into(),
        deleted: deletions(),
        kept: 31,
        kept_bytes: 250_181_844_992,
        problems: vec![],
        notes: vec!["an unfinished upload of a killed run was aborted".into()],
    }
}

fn a_freeze() -> CleanupFrozen {
    CleanupFrozen {
        place: "s3://my-backups/daily-backups/".into(),
        why: vec![
            "the newest backup 20261123T030000Z-7k3q9d collapsed: it has 41 % of the documents of \
             20261122T030000Z-b2x7nd, the last good one; if that is right: --accept 20261123T030000Z-7k3q9d"
                .into(),
        ],
        waiting: 3,
        backups: 34,
        problems: vec![],
    }
}

/// The run that the sample of an event is about, and the number of failures before it. `None` for a report.
pub(super) fn run(event: Event) -> Option<(NotifiedRun, RunOutcome, u32)> {
    let (operation, outcome, failures) = match event {
        Event::Success => (RunKind::Backup, RunOutcome::Success(a_success()), 0),
        Event::Recovered => (RunKind::Backup, RunOutcome::Success(a_success()), 3),
        Event::Failure => (RunKind::Backup, RunOutcome::Failure(a_failure(NewestGood::At(now() - DAY))), 0),
        Event::Cleanup => (RunKind::Cleanup, RunOutcome::Cleanup(a_cleanup()), 0),
        Event::Frozen => (RunKind::Cleanup, RunOutcome::Frozen(a_freeze()), 0),
        Event::Stats | Event::Health => return None,
    };
    Some((occasion(operation), outcome, failures))
}

/// The sample mail about an event.
pub fn of(event: Event, sender: &Sender) -> Message {
    let Some((of, outcome, failures)) = run(event) else {
        return mails::report(event, if event == Event::Stats { stats() } else { health() }, sender);
    };
    let streak = (failures > 0).then(|| FailureStreak { failures, since: now() - failures * DAY });
    mails::outcome(&of, &outcome, streak, ended(), sender)
}

fn stats() -> ReportMail {
    let fact = |label: &str, value: &str| (label.to_string(), value.to_string());
    let row = |cells: [&str; 5]| cells.map(str::to_string).to_vec();
    ReportMail {
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

fn health() -> ReportMail {
    let check = |name, outcome, millis, detail: &str| CheckRow {
        name,
        outcome,
        detail: detail.into(),
        took: Duration::from_millis(millis),
        next_step: None,
    };
    let mut checks = vec![
        check(
            "mongodb",
            CheckOutcome::Ok,
            41,
            "db1.example.com:27017, MongoDB 7.0.14, 214 namespaces readable",
        ),
        check("store", CheckOutcome::Ok, 230, "s3://my-backups/daily-backups/: put, get and delete work"),
        check("mail", CheckOutcome::Ok, 180, "the key may send, and nothing else"),
        check(
            "freshness",
            CheckOutcome::Failed,
            96,
            "the newest good backup is 2 d 3 h old, 30 h are allowed (max_age)",
        ),
    ];
    checks[3].next_step =
        Some("Find out why the backups stopped: the log of the last run, and crontab -l".into());
    mails::health_mail(Some("all@db1"), &checks, now() + Duration::from_secs(3 * 3600))
}

#[cfg(test)]
mod tests;
