//! Mails about cleanups, and the line about routine ones in the next mail about a backup.

use std::time::Duration;

use uzima_backup::base::exit::Exit;
use uzima_backup::config::notify::{EVENTS, Event, MailOptions};
use uzima_backup::notify::events::{
    CleanupFrozen, CleanupSuccess, Deletion, NewestGood, NotifiedRun, RunKind, RunOutcome,
};

use super::runs::{NotifierSetup, at, failure, occasion, success};
use super::support::mails;

/// A cleanup that deleted this many backups of 1 MiB.
fn cleanup(deleted: usize) -> RunOutcome {
    let deletion = Deletion {
        id: "20261022T030000Z-4hw2mp".into(),
        age: Duration::ZERO,
        stored_bytes: 1 << 20,
        reason: "older than 30 days and outside every keep rule".into(),
    };
    let (deleted, kept_bytes) = (vec![deletion; deleted], 30 << 20);
    RunOutcome::Cleanup(CleanupSuccess { deleted, kept: 30, kept_bytes, ..CleanupSuccess::default() })
}

/// The settings without `notify`, or with these events.
fn notify(place: &NotifierSetup, events: &[Event]) -> MailOptions {
    let all = events.is_empty();
    let each_cleanup = events.contains(&Event::Cleanup);
    MailOptions { events: if all { EVENTS.into() } else { events.into() }, each_cleanup, ..place.options() }
}

/// Ends runs an hour apart, and returns the subjects of their mails.
async fn subjects(place: &NotifierSetup, events: &[Event], runs: Vec<(RunKind, RunOutcome)>) -> Vec<String> {
    for (hour, (kind, outcome)) in runs.into_iter().enumerate() {
        let problems = place.ends(notify(place, events), kind, hour as i64, outcome).await;
        assert_eq!(problems, Vec::<String>::new());
    }
    place.subjects().await
}

#[tokio::test]
async fn routine_cleanups_wait_for_the_next_mail_about_a_whole_backup() {
    use RunKind::{Backup, Cleanup};
    let place = NotifierSetup::new().await;
    let failed = failure(Exit::Failed, NewestGood::Missing);
    let runs = vec![(Cleanup, cleanup(1)), (Cleanup, cleanup(0)), (Cleanup, cleanup(2)), (Backup, failed)];
    assert_eq!(subjects(&place, &[], runs).await, ["backup failed: all@db1 (run-3)"]);
    let part = NotifiedRun { partial: true, ..occasion(Backup, 4) };
    place.notifier(notify(&place, &[])).outcome(&part, success(), at(4)).await;
    for hours in [5, 6] {
        place.ends(notify(&place, &[]), Backup, hours, success()).await;
    }
    let mails = mails(&place.server).await;
    let texts: Vec<&str> = mails.iter().map(|mail| mail["text"].as_str().expect("a text")).collect();
    let line =
        "2 runs since 2026-11-23 03:00 UTC: 3 backups deleted, 3.0 MiB freed; 30 backups kept, 30.0 MiB";
    let has_line: Vec<bool> = texts.iter().map(|text| text.contains(line)).collect();
    assert_eq!(has_line, [false, false, true, false], "{texts:#?}");
    assert!(texts.iter().filter(|text| text.contains("Cleanup ")).count() == 1, "{texts:#?}");
}

#[tokio::test]
async fn a_cleanup_that_deletes_more_than_usual_is_mailed() {
    use RunKind::Cleanup;
    let usual = || vec![(Cleanup, cleanup(1)), (Cleanup, cleanup(2)), (Cleanup, cleanup(4))];
    let unusual = || [usual(), vec![(Cleanup, cleanup(9))]].concat();
    let mailed = ["cleanup done, 9 deleted, more than usual: all@db1"];
    for events in [&[][..], &[Event::Frozen], &[Event::Success, Event::Frozen]] {
        let place = NotifierSetup::new().await;
        assert_eq!(subjects(&place, events, unusual()).await, mailed, "{events:?}");
    }
    let place = NotifierSetup::new().await;
    let named = subjects(&place, &[Event::Cleanup], unusual()).await;
    assert_eq!(named[..3], [1, 2, 4].map(|n| format!("cleanup done, {n} deleted: all@db1")));
    assert_eq!(named[3..], mailed);
    let place = NotifierSetup::new().await;
    assert_eq!(subjects(&place, &[Event::Failure], unusual()).await, Vec::<String>::new());
}

#[tokio::test]
async fn frozen_failed_and_imperfect_cleanups_are_mailed_at_once() {
    let frozen = RunOutcome::Frozen(CleanupFrozen { why: vec!["x".into()], ..CleanupFrozen::default() });
    let problems = vec!["x could not be deleted".into()];
    let imperfect = RunOutcome::Cleanup(CleanupSuccess { problems, ..CleanupSuccess::default() });
    for (outcome, subject) in [
        (frozen, "cleanup frozen: all@db1"),
        (failure(Exit::Failed, NewestGood::Missing), "cleanup failed: all@db1"),
        (imperfect, "cleanup done, needs a look: all@db1"),
    ] {
        let place = NotifierSetup::new().await;
        assert_eq!(subjects(&place, &[], vec![(RunKind::Cleanup, outcome)]).await, [subject]);
    }
}

/// A partial backup is made by hand: it is no part of the job's failures in a row.
#[tokio::test]
async fn a_failed_partial_backup_is_mailed_and_counts_for_no_streak() {
    let place = NotifierSetup::new().await;
    let failed = || failure(Exit::Failed, NewestGood::At(at(-300)));
    let part = |hours| NotifiedRun { partial: true, ..occasion(RunKind::Backup, hours) };
    place.backup(0, success()).await;
    for hours in [1, 2] {
        place.notifier(place.options()).outcome(&part(hours), failed(), at(hours)).await;
    }
    place.backup(3, failed()).await;
    place.notifier(place.options()).outcome(&part(4), success(), at(4)).await;
    place.backup(5, success()).await;
    let want = [
        "backup done: all@db1 (run-0)",
        "partial backup failed: all@db1 (run-1)",
        "partial backup failed: all@db1 (run-2)",
        "NO GOOD BACKUP FOR 12 DAYS: all@db1 (run-3)",
        "backup done: all@db1 (run-4)",
        "backup works again: all@db1 (run-5)",
    ];
    assert_eq!(place.subjects().await, want);
}
