use super::*;
use crate::base::exit::Exit;
use crate::base::secret::Redactor;
use crate::notify::events::RunOutcome;

const HOUR: Duration = Duration::from_secs(3600);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn run(operation: RunKind) -> NotifiedRun {
    NotifiedRun { job: "all@db1".into(), operation, run: "20261123T030000Z-7k3q9d".into(), partial: false }
}

fn streak(failures: u32, since: DateTime<Utc>) -> FailureStreak {
    FailureStreak { failures, since }
}

fn failed(newest_good: NewestGood) -> RunFailure {
    RunFailure {
        error: "cannot read shop.orders: timed out".into(),
        next_step: None,
        exit: Exit::Failed,
        log: vec![],
        newest_good,
        max_age: 30 * HOUR,
    }
}

#[test]
fn a_failure_sounds_more_urgent_the_older_the_newest_good_backup_is() {
    let now = at("2026-11-23T03:00:00Z");
    let mail = |newest_good, operation| {
        failure(&run(operation), &failed(newest_good), streak(1, now), now, &Sender::here("h"))
    };
    let aged = |hours: u32| mail(NewestGood::At(now - hours * HOUR), RunKind::Backup);
    for (hours, subject, headline) in [
        (24, "backup failed: all@db1 (20261123T030000Z-7k3q9d)", "failed"),
        (30, "backup failed: ", "failed"),
        (31, "backup failed, the newest good one is 1 d 7 h old: ", "too old"),
        (89, "backup failed, the newest good one is 3 days old: ", "too old"),
        (90, "BACKUPS KEEP FAILING, no good one for 3 days: ", "keep failing"),
        (211, "NO GOOD BACKUP FOR 8 DAYS: ", "not protected"),
    ] {
        let message = aged(hours);
        assert!(message.subject.starts_with(&format!("[uzima-backup] {subject}")), "{}", message.subject);
        assert!(message.headline.contains(headline), "{hours}: {}", message.headline);
        assert_eq!(message.tone, Tone::Bad);
    }
    assert!(mail(NewestGood::Missing, RunKind::Backup).headline.contains("no good one yet"));
    let cleanup = mail(NewestGood::At(now - 500 * HOUR), RunKind::Cleanup);
    assert_eq!(cleanup.subject, "[uzima-backup] cleanup failed: all@db1");
}

#[test]
fn a_failure_mail_names_the_cause_and_the_next_step() {
    let now = at("2026-11-23T03:00:00Z");
    let mut f = failed(NewestGood::At(now - 24 * HOUR));
    f.log = vec!["a line".into()];
    let run = run(RunKind::Backup);
    let message = failure(&run, &f, streak(4, now - 72 * HOUR), now, &Sender::here("h"));
    let facts = format!("{:?}", message.facts);
    for word in
        ["timed out", "\"1\"", "4 runs, since 2026-11-20 03:00 UTC", "1 d 0 h old", "all@db1", "7k3q9d"]
    {
        assert!(facts.contains(word), "{word} in {facts}");
    }
    assert_eq!(message.log, ["a line"]);
    assert!(message.next_step.unwrap().contains("uzima-backup list"));
    f.next_step = Some("Grant the role".into());
    let message = failure(&run, &f, streak(1, now), now, &Sender::here("h"));
    assert_eq!(message.next_step.as_deref(), Some("Grant the role"));
    assert!(!format!("{:?}", message.facts).contains("in a row"));
}

#[test]
fn a_held_lock_is_harmless_if_there_is_a_fresh_backup() {
    let now = at("2026-11-23T03:00:00Z");
    for (exit, newest_good, harmless) in [
        (Exit::Busy, NewestGood::At(now - HOUR), true),
        (Exit::Busy, NewestGood::At(now - 31 * HOUR), false),
        (Exit::Busy, NewestGood::Missing, false),
        (Exit::Busy, NewestGood::Unknown, false),
        (Exit::Failed, NewestGood::At(now - HOUR), false),
    ] {
        let f = RunFailure { exit, ..failed(newest_good) };
        assert_eq!(RunOutcome::Failure(f.clone()).is_harmless(now), harmless, "{f:?}");
    }
}

#[test]
fn a_success_with_warnings_says_so_in_the_subject() {
    let sender = Sender::here("h");
    let run = run(RunKind::Backup);
    let mut s = BackupSuccess::example();
    let message = success(&run, &s, &sender);
    assert_eq!((message.tone, message.paragraphs.len()), (Tone::Good, 0));
    assert_eq!(message.subject, format!("[uzima-backup] backup done: {} ({})", run.job, run.run));
    s.problems = vec!["shop.a was dropped".into()];
    s.notes = vec!["a cursor was lost".into()];
    let message = success(&run, &s, &sender);
    assert_eq!(message.tone, Tone::Warning);
    assert!(message.subject.contains("needs a look"), "{}", message.subject);
    assert_eq!(message.paragraphs, ["Needs a look: shop.a was dropped"]);
    assert_eq!(message.facts.last().unwrap(), &("Note".into(), "a cursor was lost".into()));
    let streak = FailureStreak { failures: 3, since: at("2026-11-20T03:00:00Z") };
    let again = recovered(&run, streak, message.clone());
    assert_eq!(again.tone, message.tone, "the warning stays");
    assert_eq!(again.facts[0].1, "3 runs in a row, the first at 2026-11-20 03:00 UTC");
    assert!(again.subject.starts_with("[uzima-backup] backup works again: all@db1 ("), "{}", again.subject);
}

#[test]
fn a_cleanup_mail_adds_up() {
    let deletion = |bytes| Deletion { id: "x".into(), age: HOUR, stored_bytes: bytes, reason: "old".into() };
    let mut c = CleanupSuccess {
        deleted: vec![deletion(1 << 20), deletion(3 << 20)],
        kept: 1,
        ..CleanupSuccess::default()
    };
    let message = cleanup(&run(RunKind::Cleanup), &c, &Sender::here("h"));
    assert_eq!(message.subject, "[uzima-backup] cleanup done, 2 deleted: all@db1");
    assert_eq!(message.headline, "Cleanup of all@db1: 2 backups deleted, 4.0 MiB freed");
    assert_eq!((message.tone, message.tables[0].rows.len()), (Tone::Good, 2));
    assert!(message.facts.contains(&("Kept".into(), "1 backup, 0 B".into())), "{:?}", message.facts);
    c.exceeds = Some(1);
    let unusual = cleanup(&run(RunKind::Cleanup), &c, &Sender::here("h"));
    assert_eq!(unusual.subject, "[uzima-backup] cleanup done, 2 deleted, more than usual: all@db1");
    assert!(unusual.tone == Tone::Warning && unusual.paragraphs[0].contains("at most 1 backup at once"));
    c.problems = vec!["x could not be deleted".into()];
    c.deleted.clear();
    let message = cleanup(&run(RunKind::Cleanup), &c, &Sender::here("h"));
    assert_eq!((message.tone, message.tables.len()), (Tone::Warning, 0));
    assert!(message.headline.contains("there was no backup to delete"), "{}", message.headline);
}

/// Names come from the server, and a whole server may have been dropped.
#[test]
fn a_mail_about_many_losses_with_hostile_names_stays_readable() {
    let name = |n: u64| if n == 0 { "shop.<b>\u{1b}[31m\u{202e}x</b>".into() } else { format!("shop.c{n}") };
    let loss = |n| NamespaceLoss {
        namespace: name(n),
        documents_before: 10_000 - n,
        documents: None,
        raw_bytes_before: 1,
        raw_bytes: None,
    };
    let since = "20261122T030000Z-b2x7nd".parse().unwrap();
    let losses = Losses::new(since, (0..5000).map(loss).collect());
    let notes = vec![losses.as_ref().unwrap().note(), "a cursor was lost".into()];
    let s = BackupSuccess { losses, notes, ..BackupSuccess::example() };
    let message = success(&run(RunKind::Backup), &s, &Sender::here("h")).cleaned(&Redactor::default());
    assert_eq!(
        (message.tone, message.facts.iter().filter(|(label, _)| label == "Note").count()),
        (Tone::Good, 1)
    );
    let (text, html) = (message.text(), message.html());
    assert!(text.contains("Vanished or shrank since the last good backup 20261122T030000Z-b2x7nd"), "{text}");
    assert!(text.contains("\n  and 4,980 more\n") && html.contains(">and 4,980 more<"), "{text}");
    assert!(text.contains("shop.c19 ") && !text.contains("shop.c20"), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']) && !html.contains(['\u{1b}', '\u{202e}']), "{text}");
    assert!(html.contains("&#60;b&#62;") && !html.contains("<b>"), "{html}");
}

#[test]
fn long_lists_of_problems_and_notes_are_cut() {
    let texts = |what: &str| (0..45).map(|n| format!("{what} {n}")).collect();
    let s = BackupSuccess { problems: texts("problem"), notes: texts("note"), ..BackupSuccess::example() };
    let message = success(&run(RunKind::Backup), &s, &Sender::here("h"));
    assert_eq!(message.paragraphs.len(), 21);
    assert_eq!(message.paragraphs[20], "and 25 more");
    assert_eq!(message.facts.last().unwrap(), &("Note".into(), "and 25 more".into()));
}
