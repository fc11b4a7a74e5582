use std::fs;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;
use crate::notify::events::RunKind;

fn at(minutes: i64) -> DateTime<Utc> {
    "2026-11-23T03:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minutes)
}

/// Plays runs (minute, end, whether a mail can be sent) and returns the decisions.
fn played(runs: &[(i64, bool, bool)]) -> Vec<MailDecision> {
    let mut history = MailHistory::default();
    let mut decisions = Vec::new();
    for &(minute, ended, works) in runs {
        let decision = history.decide(ended, at(minute));
        let mailed = works && matches!(decision, MailDecision::Failure(_) | MailDecision::Recovered(_));
        history = history.after(ended, mailed, at(minute));
        decisions.push(decision);
    }
    decisions
}

use MailDecision::{Failure, Recovered, Silence, Success};

const WELL: bool = true;
const BADLY: bool = false;
const DAY: i64 = 24 * 60;

#[test]
fn the_first_failure_then_one_a_day_then_the_recovery() {
    let streak = |failures, minute| FailureStreak { failures, since: at(minute) };
    let runs = [
        (0, WELL, true),
        (60, BADLY, true),
        (120, BADLY, true),
        (60 + DAY - 61, BADLY, true),
        (60 + DAY - 60, BADLY, true),
        (60 + DAY, BADLY, true),
        (60 + 2 * DAY, BADLY, true),
        (70 + 2 * DAY, WELL, true),
        (80 + 2 * DAY, WELL, true),
        (90 + 2 * DAY, BADLY, true),
    ];
    let want = [
        Success,
        Failure(streak(1, 60)),
        Silence,
        Silence,
        Failure(streak(4, 60)),
        Silence,
        Failure(streak(6, 60)),
        Recovered(streak(6, 60)),
        Success,
        Failure(streak(1, 90 + 2 * DAY)),
    ];
    assert_eq!(played(&runs), want);
}

#[test]
fn a_mail_that_could_not_be_sent_does_not_count() {
    let streak = |failures| FailureStreak { failures, since: at(0) };
    let failed = [(0, BADLY, false), (1, BADLY, false), (2, BADLY, true), (3, BADLY, true)];
    assert_eq!(played(&failed), [Failure(streak(1)), Failure(streak(2)), Failure(streak(3)), Silence]);
    let unmailed = [(0, BADLY, false), (1, WELL, true)];
    assert_eq!(played(&unmailed), [Failure(streak(1)), Success], "nobody knows of a failure that is over");
}

#[test]
fn a_clock_that_was_set_back_silences_nothing() {
    let runs = [(100 * DAY, BADLY, true), (0, BADLY, true), (60, BADLY, true), (DAY, BADLY, true)];
    let streak = |failures| FailureStreak { failures, since: at(0) };
    let played = played(&runs);
    assert_eq!(played[1..3], [Failure(streak(2)), Silence]);
    assert!(matches!(played[3], Failure(streak) if streak.failures == 4), "{played:?}");
}

proptest! {
    /// Whatever the clock does, a failure is silent only within a day of a mail about the same streak, and
    /// the first failure of a streak gets a mail.
    #[test]
    fn a_silent_failure_follows_a_mail(
        runs in prop::collection::vec((-3 * DAY..3 * DAY, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let runs: Vec<_> = runs.into_iter().map(|(m, well, works)| (m, if well { WELL } else { BADLY }, works)).collect();
        let decisions = played(&runs);
        let mut mails: Vec<i64> = Vec::new();
        let mut failures = 0;
        for (&(minute, ended, works), decision) in runs.iter().zip(decisions) {
            match (ended, decision) {
                (BADLY, Silence) => {
                    failures += 1;
                    prop_assert!(mails.iter().any(|&mail| mail <= minute && minute - mail < DAY));
                }
                (BADLY, Failure(streak)) => {
                    failures += 1;
                    prop_assert_eq!(streak.failures, failures);
                    prop_assert!(streak.since <= at(minute));
                    if works {
                        mails.push(minute);
                    }
                }
                (WELL, Recovered(streak)) => {
                    prop_assert!(!mails.is_empty());
                    prop_assert_eq!(streak.failures, failures);
                    (failures, mails) = (0, Vec::new());
                }
                (WELL, Success) => {
                    prop_assert!(mails.is_empty());
                    (failures, mails) = (0, Vec::new());
                }
                (ended, decision) => prop_assert!(false, "{:?} {:?}", ended, decision),
            }
        }
    }

    /// Failures at any pace lead to at least one mail in two days, and to at most one in 23 hours.
    #[test]
    fn a_streak_is_mailed_daily(gaps in prop::collection::vec(1..DAY, 1..200)) {
        let mut minute = 0;
        let runs: Vec<_> = gaps.iter().map(|gap| { minute += gap; (minute, BADLY, true) }).collect();
        let mailed: Vec<i64> = runs.iter().zip(played(&runs))
            .filter(|(_, decision)| matches!(decision, Failure(_))).map(|((minute, ..), _)| *minute).collect();
        prop_assert_eq!(mailed[0], runs[0].0);
        prop_assert!(mailed.windows(2).all(|pair| pair[1] - pair[0] >= 23 * 60 && pair[1] - pair[0] < 2 * DAY));
    }
}

fn run(operation: RunKind, job: &str) -> NotifiedRun {
    NotifiedRun { job: job.into(), operation, run: "r".into(), partial: false }
}

fn history(failures: u32) -> MailHistory {
    MailHistory { failures, since: Some("2026-11-23T03:00:00Z".parse().unwrap()), ..MailHistory::default() }
}

#[test]
fn each_operation_has_its_own_history_in_a_private_file() {
    let (backup, cleanup) = (run(RunKind::Backup, "a"), run(RunKind::Cleanup, "a"));
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("state/deep");
    let memory = MailMemory::new(Some(folder.clone()));
    assert_eq!(memory.history(&backup), MailHistory::default());
    memory.remember(&backup, history(1), |cleanups| cleanups);
    memory.remember(&cleanup, history(2), |cleanups| cleanups);
    assert_eq!(memory.history(&backup), history(1));
    assert_eq!(memory.history(&cleanup), history(2));
    memory.forget(&cleanup);
    assert_eq!((memory.history(&cleanup), memory.history(&backup)), (MailHistory::default(), history(1)));
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, [FILE]);
    assert_eq!(fs::metadata(folder.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_unreadable_file_counts_as_empty_and_an_unwritable_one_is_no_failure() {
    let x = run(RunKind::Backup, "x");
    let dir = tempfile::tempdir().unwrap();
    let memory = MailMemory::new(Some(dir.path().into()));
    for text in ["", "{", "[]", r#"{"format": 2, "runs": {"backup x": {"failures": 7}}}"#, "\0\0\0"] {
        fs::write(dir.path().join(FILE), text).unwrap();
        assert_eq!(memory.history(&x), MailHistory::default(), "{text}");
    }
    memory.remember(&x, history(3), |cleanups| cleanups);
    assert_eq!(memory.history(&x), history(3));
    let in_a_file = MailMemory::new(Some(dir.path().join(FILE)));
    in_a_file.remember(&x, history(1), |cleanups| cleanups);
    assert_eq!(in_a_file.history(&x), MailHistory::default());
    MailMemory::new(None).remember(&x, history(1), |cleanups| cleanups);
    assert_eq!(MailMemory::new(None).history(&x), MailHistory::default());
}

/// Another user who may write to the folder may put a link there.
#[test]
fn a_link_in_place_of_the_file_is_neither_read_nor_written() {
    let x = run(RunKind::Backup, "x");
    let dir = tempfile::tempdir().unwrap();
    let (folder, other) = (dir.path().join("state"), dir.path().join("other"));
    let memory = MailMemory::new(Some(folder.clone()));
    memory.remember(&x, history(3), |cleanups| cleanups);
    fs::rename(folder.join(FILE), &other).unwrap();
    let before = fs::read(&other).unwrap();
    std::os::unix::fs::symlink(&other, folder.join(FILE)).unwrap();
    assert_eq!(memory.history(&x), MailHistory::default());
    memory.remember(&x, history(1), |cleanups| cleanups);
    assert_eq!(memory.history(&x), history(1));
    assert_eq!(fs::read(&other).unwrap(), before);
}

#[test]
fn a_lasting_problem_is_mailed_once_a_day() {
    let at = |hour: i64| "2026-11-23T03:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::hours(hour);
    let mut history = MailHistory::default();
    let mailed: Vec<i64> = (0..60)
        .filter(|hour| {
            let mails = history.decide_about_lasting(at(*hour)) == MailDecision::Success;
            history = history.after_lasting(mails, at(*hour));
            // A run without problems in between does not make the next mail earlier.
            history = history.after(true, false, at(*hour));
            mails
        })
        .collect();
    assert_eq!(mailed, [0, 23, 46]);
    assert_eq!(history.decide(true, at(60)), MailDecision::Success);
}
