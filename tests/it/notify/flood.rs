//! A series of failures, from its first run to the recovery.

use uzima_backup::base::exit::Exit;
use uzima_backup::base::secret::Redactor;
use uzima_backup::config::notify::Event;
use uzima_backup::config::notify::MailOptions;
use uzima_backup::notify::events::RunOutcome;
use uzima_backup::notify::events::{CleanupFrozen, CleanupSuccess, NewestGood, NotifiedRun, RunKind};
use uzima_backup::notify::{Notifier, UNKNOWN_JOB};

use super::runs::{NotifierSetup, at, failure, success};
use super::support::mails;

#[tokio::test]
async fn a_series_of_failures_is_mailed_once_a_day_until_the_recovery() {
    let place = NotifierSetup::new().await;
    place.backup(-24, success()).await;
    for hours in [0, 1, 24, 48] {
        place.backup(hours, failure(Exit::Failed, NewestGood::Unknown)).await;
    }
    place.backup(72, success()).await;
    place.backup(96, success()).await;
    let want = [
        "backup done: all@db1 (run--24)",
        "backup failed: all@db1 (run-0)",
        // The store is unreachable; the last success is remembered.
        "backup failed, the newest good one is 2 days old: all@db1 (run-24)",
        "backup failed, the newest good one is 3 days old: all@db1 (run-48)",
        "backup works again: all@db1 (run-72)",
        "backup done: all@db1 (run-96)",
    ];
    assert_eq!(place.subjects().await, want);
    let mails = mails(&place.server).await;
    assert!(
        mails[3]["text"].as_str().unwrap().contains("4 runs, since 2026-11-23 03:00 UTC"),
        "{}",
        mails[3]
    );
    assert!(mails[4]["html"].as_str().unwrap().contains("4 runs in a row"), "{}", mails[4]);
}

#[tokio::test]
async fn operations_are_tracked_separately_and_a_freeze_counts_as_a_failure() {
    let place = NotifierSetup::new().await;
    let frozen =
        || RunOutcome::Frozen(CleanupFrozen { why: vec!["it collapsed".into()], ..CleanupFrozen::default() });
    for (hours, outcome) in
        [(1, frozen()), (2, frozen()), (26, frozen()), (50, RunOutcome::Cleanup(CleanupSuccess::default()))]
    {
        place.ends(place.options(), RunKind::Cleanup, hours, outcome).await;
    }
    place.backup(3, failure(Exit::Failed, NewestGood::Missing)).await;
    let want = [
        "cleanup frozen: all@db1",
        "cleanup frozen: all@db1",
        "cleanup works again: all@db1",
        "backup failed: all@db1 (run-3)",
    ];
    assert_eq!(place.subjects().await, want);
}

#[tokio::test]
async fn only_selected_events_are_mailed() {
    let place = NotifierSetup::new().await;
    let only = |events: &[Event]| MailOptions { events: events.into(), ..place.options() };
    let failed = || failure(Exit::Failed, NewestGood::Missing);
    place.ends(only(&[Event::Failure]), RunKind::Backup, 0, success()).await;
    place.ends(only(&[Event::Failure]), RunKind::Backup, 1, failed()).await;
    place.ends(only(&[Event::Failure]), RunKind::Backup, 2, success()).await;
    place.ends(only(&[Event::Success, Event::Failure]), RunKind::Backup, 3, failed()).await;
    place.ends(only(&[Event::Success, Event::Failure]), RunKind::Backup, 4, success()).await;
    place.ends(only(&[Event::Success]), RunKind::Backup, 5, failed()).await;
    place.ends(place.options(), RunKind::Backup, 6, success()).await;
    let want = [
        "backup failed: all@db1 (run-1)",
        "backup failed: all@db1 (run-3)",
        "backup done: all@db1 (run-4)",
        // The failure before was not mailed.
        "backup done: all@db1 (run-6)",
    ];
    assert_eq!(place.subjects().await, want);
}

#[tokio::test]
async fn a_busy_lock_is_mailed_only_without_a_fresh_backup() {
    let place = NotifierSetup::new().await;
    place.backup(0, failure(Exit::Busy, NewestGood::At(at(-24)))).await;
    assert_eq!(place.subjects().await, Vec::<String>::new());
    place.backup(1, failure(Exit::Busy, NewestGood::At(at(-30)))).await;
    assert_eq!(place.subjects().await.len(), 1);
}

#[tokio::test]
async fn a_failure_without_a_job_ends_with_the_success_of_any_job() {
    let place = NotifierSetup::new().await;
    let unknown = |hours: i64| NotifiedRun {
        job: UNKNOWN_JOB.into(),
        operation: RunKind::Backup,
        run: format!("run-{hours}"),
        partial: false,
    };
    let notifier = |place: &NotifierSetup| {
        let state = place.folder.path().join("state");
        Notifier::new(Some(place.options()), Some(state), Redactor::default(), "h")
    };
    for hours in [0, 1, 24] {
        notifier(&place).outcome(&unknown(hours), failure(Exit::Usage, NewestGood::Unknown), at(hours)).await;
    }
    place.backup(25, success()).await;
    notifier(&place).outcome(&unknown(26), failure(Exit::Usage, NewestGood::Unknown), at(26)).await;
    let mails = mails(&place.server).await;
    assert_eq!(
        mails.len(),
        4,
        "the first mail, the daily one, the success, and the first mail of another series"
    );
    let in_a_row = |n: usize| mails[n]["text"].as_str().expect("a text").contains("Failed in a row");
    assert!(in_a_row(1) && !in_a_row(3), "{mails:?}");
}
