//! A mail that cannot be sent, or lost mail state, never fails a run.

use std::time::Duration;

use uzima_backup::base::cancel::Cancel;
use uzima_backup::base::exit::Exit;
use uzima_backup::base::secret::Redactor;
use uzima_backup::notify::Notifier;
use uzima_backup::notify::events::{NewestGood, NotifiedRun, RunKind};

use super::runs::{NotifierSetup, at, failure, occasion, success};
use super::support::{accepted, refused, service};

#[tokio::test]
async fn lost_mail_state_costs_only_a_repeated_mail() {
    let place = NotifierSetup::new().await;
    let failed = || failure(Exit::Failed, NewestGood::Missing);
    place.backup(0, failed()).await;
    std::fs::write(place.folder.path().join("state/notify.json"), "{\"format\":").expect("a corrupt file");
    place.backup(1, failed()).await;
    place.backup(2, failed()).await;
    assert_eq!(place.subjects().await.len(), 2);
    // The folder cannot be created, so every failure is mailed.
    std::fs::remove_dir_all(place.folder.path().join("state")).expect("it goes");
    std::fs::write(place.folder.path().join("state"), "").expect("a file in its place");
    place.backup(3, failed()).await;
    place.backup(4, failed()).await;
    assert_eq!(place.subjects().await.len(), 4);
}

#[tokio::test]
async fn a_failed_mail_is_reported_and_sent_by_the_next_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = service(vec![refused(403, "invalid_api_key", "API key is invalid"), accepted()]).await;
    let place = NotifierSetup { server, folder };
    let failed = || failure(Exit::Failed, NewestGood::Missing);
    let problems = place.ends(place.options(), RunKind::Backup, 0, failed()).await;
    assert!(problems.len() == 1 && problems[0].contains("RESEND_API_KEY"), "{problems:?}");
    place.backup(1, failed()).await;
    place.backup(2, failed()).await;
    assert_eq!(place.subjects().await.len(), 2, "the failed mail, and the next one");
}

#[tokio::test]
async fn without_mail_settings_nothing_is_sent_or_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let notifier = Notifier::new(None, Some(folder.path().join("state")), Redactor::default(), "h");
    let of = NotifiedRun { job: "j".into(), operation: RunKind::Backup, run: "r".into(), partial: false };
    assert!(notifier.outcome(&of, success(), at(0)).await.is_empty());
    assert!(!folder.path().join("state").exists() && !notifier.is_configured());
}

/// The state is written only after the mail was sent. A run that a signal ends does not wait long for the
/// mail.
#[tokio::test]
async fn a_run_that_a_signal_ends_does_not_wait_for_the_mail() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = service(vec![accepted().set_delay(Duration::from_secs(30))]).await;
    let place = NotifierSetup { server, folder };
    let began = std::time::Instant::now();
    let cancel = Cancel::default();
    cancel.by_signal(15);
    let notifier = place.notifier(place.options()).ending_by(cancel.clone());
    let outcome = failure(Exit::Signal(15), NewestGood::Missing);
    let problems = notifier.outcome(&occasion(RunKind::Backup, 0), outcome, at(0)).await;
    assert_eq!(problems.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}
