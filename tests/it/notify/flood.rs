//! Row 53: a row of failures from its first run to the recovery, and the memory that it needs.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uzima_backup::exit::Exit;
use uzima_backup::notify::events::{Cleanup, Failure, Frozen, NewestGood, Occasion, Operation, Success};
use uzima_backup::notify::message::Event;
use uzima_backup::notify::resend::MailOptions;
use uzima_backup::notify::{Notifier, Outcome, UNKNOWN_JOB};
use uzima_backup::secret::Redactor;
use wiremock::MockServer;

use super::support::{accepted, mails, options, refused, service};

fn at(hours: i64) -> DateTime<Utc> {
    "2026-11-23T03:00:00Z".parse::<DateTime<Utc>>().expect("a time") + TimeDelta::hours(hours)
}

fn failure(exit: Exit, newest_good: NewestGood) -> Outcome {
    Outcome::Failure(Failure {
        error: "cannot connect".into(),
        next_step: None,
        exit,
        log: vec![],
        newest_good,
        max_age: Duration::from_secs(26 * 3600),
    })
}

fn success() -> Outcome {
    Outcome::Success(Success {
        started: at(0),
        finished: at(0),
        place: "/backups".into(),
        engine: "native".into(),
        consistency: "none".into(),
        namespaces: 1,
        documents: 2,
        raw_bytes: 3,
        stored_bytes: 4,
        warnings: vec![],
        notes: vec![],
    })
}

/// A service, and a notifier for it whose memory is a folder.
struct Place {
    server: MockServer,
    folder: tempfile::TempDir,
}

impl Place {
    async fn new() -> Place {
        Place { server: service(vec![accepted()]).await, folder: tempfile::tempdir().expect("a folder") }
    }

    fn options(&self) -> MailOptions {
        options(&self.server.uri())
    }

    /// A run that ends: each is a process of its own.
    async fn ends(
        &self,
        options: MailOptions,
        operation: Operation,
        hours: i64,
        outcome: Outcome,
    ) -> Vec<String> {
        let of = Occasion { job: "all@db1".into(), operation, run: format!("run-{hours}") };
        let state = self.folder.path().join("state");
        let notifier = Notifier::new(Some(options), Some(state), Redactor::default(), "h");
        notifier.outcome(&of, outcome, at(hours)).await
    }

    async fn backup(&self, hours: i64, outcome: Outcome) {
        let problems = self.ends(self.options(), Operation::Backup, hours, outcome).await;
        assert_eq!(problems, Vec::<String>::new());
    }

    /// The subjects of all mails, without what all have.
    async fn subjects(&self) -> Vec<String> {
        let subject = |mail: &serde_json::Value| {
            mail["subject"].as_str().expect("a subject").replace("[uzima-backup] ", "")
        };
        mails(&self.server).await.iter().map(subject).collect()
    }
}

#[tokio::test]
async fn a_row_of_failures_from_first_to_last() {
    let place = Place::new().await;
    place.backup(-24, success()).await;
    for hours in [0, 1, 24, 48] {
        place.backup(hours, failure(Exit::Failed, NewestGood::Unknown)).await;
    }
    place.backup(72, success()).await;
    place.backup(96, success()).await;
    let want = [
        "backup done: all@db1 (run--24)",
        "backup failed: all@db1 (run-0)",
        // The store could not be asked; the last success is remembered.
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
async fn operations_are_told_apart_and_a_freeze_like_a_failure() {
    let place = Place::new().await;
    let frozen = || Outcome::Frozen(Frozen { why: vec!["it collapsed".into()], ..Frozen::default() });
    for (hours, outcome) in
        [(1, frozen()), (2, frozen()), (26, frozen()), (50, Outcome::Cleanup(Cleanup::default()))]
    {
        place.ends(place.options(), Operation::Cleanup, hours, outcome).await;
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
async fn a_lost_memory_costs_a_mail_too_many_and_nothing_else() {
    let place = Place::new().await;
    let failed = || failure(Exit::Failed, NewestGood::Missing);
    place.backup(0, failed()).await;
    std::fs::write(place.folder.path().join("state/notify.json"), "{\"format\":").expect("a corrupt file");
    place.backup(1, failed()).await;
    place.backup(2, failed()).await;
    assert_eq!(place.subjects().await.len(), 2);
    // A folder that cannot be: every failure is told.
    std::fs::remove_dir_all(place.folder.path().join("state")).expect("it goes");
    std::fs::write(place.folder.path().join("state"), "").expect("a file in its place");
    place.backup(3, failed()).await;
    place.backup(4, failed()).await;
    assert_eq!(place.subjects().await.len(), 4);
}

#[tokio::test]
async fn a_mail_that_failed_is_a_problem_and_is_sent_by_the_next_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = service(vec![refused(403, "invalid_api_key", "API key is invalid"), accepted()]).await;
    let place = Place { server, folder };
    let failed = || failure(Exit::Failed, NewestGood::Missing);
    let problems = place.ends(place.options(), Operation::Backup, 0, failed()).await;
    assert!(problems.len() == 1 && problems[0].contains("RESEND_API_KEY"), "{problems:?}");
    place.backup(1, failed()).await;
    place.backup(2, failed()).await;
    assert_eq!(place.subjects().await.len(), 2, "the one that failed, and the next");
}

#[tokio::test]
async fn only_what_is_selected_is_told() {
    let place = Place::new().await;
    let only = |events: &[Event]| MailOptions { events: events.into(), ..place.options() };
    let failed = || failure(Exit::Failed, NewestGood::Missing);
    place.ends(only(&[Event::Failure]), Operation::Backup, 0, success()).await;
    place.ends(only(&[Event::Failure]), Operation::Backup, 1, failed()).await;
    place.ends(only(&[Event::Failure]), Operation::Backup, 2, success()).await;
    place.ends(only(&[Event::Success, Event::Failure]), Operation::Backup, 3, failed()).await;
    place.ends(only(&[Event::Success, Event::Failure]), Operation::Backup, 4, success()).await;
    place.ends(only(&[Event::Success]), Operation::Backup, 5, failed()).await;
    place.ends(place.options(), Operation::Backup, 6, success()).await;
    let want = [
        "backup failed: all@db1 (run-1)",
        "backup failed: all@db1 (run-3)",
        "backup done: all@db1 (run-4)",
        // Nobody was told of the failure before.
        "backup done: all@db1 (run-6)",
    ];
    assert_eq!(place.subjects().await, want);
}

#[tokio::test]
async fn a_run_that_finds_the_lock_held_is_told_only_without_a_fresh_backup() {
    let place = Place::new().await;
    place.backup(0, failure(Exit::Busy, NewestGood::At(at(-24)))).await;
    assert_eq!(place.subjects().await, Vec::<String>::new());
    place.backup(1, failure(Exit::Busy, NewestGood::At(at(-30)))).await;
    assert_eq!(place.subjects().await.len(), 1);
}

#[tokio::test]
async fn what_failed_without_a_job_is_over_when_any_job_works() {
    let place = Place::new().await;
    let unknown = |hours: i64| Occasion {
        job: UNKNOWN_JOB.into(),
        operation: Operation::Backup,
        run: format!("run-{hours}"),
    };
    let notifier = |place: &Place| {
        let state = place.folder.path().join("state");
        Notifier::new(Some(place.options()), Some(state), Redactor::default(), "h")
    };
    for hours in [0, 1, 24] {
        notifier(&place).outcome(&unknown(hours), failure(Exit::Usage, NewestGood::Unknown), at(hours)).await;
    }
    place.backup(25, success()).await;
    notifier(&place).outcome(&unknown(26), failure(Exit::Usage, NewestGood::Unknown), at(26)).await;
    let mails = mails(&place.server).await;
    assert_eq!(mails.len(), 4, "the first, the daily one, the success, and the first of another row");
    let told = |n: usize| mails[n]["text"].as_str().expect("a text").contains("Failed in a row");
    assert!(told(1) && !told(3), "{mails:?}");
}

#[tokio::test]
async fn without_mail_settings_nothing_is_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let notifier = Notifier::new(None, Some(folder.path().join("state")), Redactor::default(), "h");
    let of = Occasion { job: "j".into(), operation: Operation::Backup, run: "r".into() };
    assert!(notifier.outcome(&of, success(), at(0)).await.is_empty());
    assert!(!folder.path().join("state").exists() && !notifier.is_configured());
}

/// Row 66, and a signal's end: nothing is written before the mail is sent, and it is not waited for long.
#[tokio::test]
async fn a_run_that_a_signal_ends_does_not_wait_for_the_mail() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = service(vec![accepted().set_delay(Duration::from_secs(30))]).await;
    let place = Place { server, folder };
    let began = std::time::Instant::now();
    let outcome = failure(Exit::Signal(15), NewestGood::Missing);
    let problems = place.ends(place.options(), Operation::Backup, 0, outcome).await;
    assert_eq!(problems.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}
