use proptest::prelude::*;

use super::*;

fn at(minutes: i64) -> DateTime<Utc> {
    "2026-11-23T03:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minutes)
}

/// Goes through runs (minute, end), each mail being sent or not, and says what was decided.
fn played(runs: &[(i64, Ended, bool)]) -> Vec<Decision> {
    let mut past = Past::default();
    let mut decisions = Vec::new();
    for &(minute, ended, works) in runs {
        let decision = past.decide(ended, at(minute));
        let mailed = works && matches!(decision, Decision::Tell(_) | Decision::Recovered(_));
        past = past.after(ended, mailed, at(minute));
        decisions.push(decision);
    }
    decisions
}

use Decision::{Recovered, Silence, Tell, Usual};
use Ended::{Badly, Well};

const DAY: i64 = 24 * 60;

#[test]
fn first_then_daily_then_recovered() {
    let row = |failures, minute| Row { failures, since: at(minute) };
    let runs = [
        (0, Well, true),
        (60, Badly, true),
        (120, Badly, true),
        (60 + DAY - 61, Badly, true),
        (60 + DAY - 60, Badly, true),
        (60 + DAY, Badly, true),
        (60 + 2 * DAY, Badly, true),
        (70 + 2 * DAY, Well, true),
        (80 + 2 * DAY, Well, true),
        (90 + 2 * DAY, Badly, true),
    ];
    let want = [
        Usual,
        Tell(row(1, 60)),
        Silence,
        Silence,
        Tell(row(4, 60)),
        Silence,
        Tell(row(6, 60)),
        Recovered(row(6, 60)),
        Usual,
        Tell(row(1, 90 + 2 * DAY)),
    ];
    assert_eq!(played(&runs), want);
}

#[test]
fn a_mail_that_was_not_sent_is_none() {
    let row = |failures| Row { failures, since: at(0) };
    let failed = [(0, Badly, false), (1, Badly, false), (2, Badly, true), (3, Badly, true)];
    assert_eq!(played(&failed), [Tell(row(1)), Tell(row(2)), Tell(row(3)), Silence]);
    let untold = [(0, Badly, false), (1, Well, true)];
    assert_eq!(played(&untold), [Tell(row(1)), Usual], "nobody knows of a failure that is over");
}

#[test]
fn a_clock_that_was_set_back_silences_nothing() {
    let runs = [(100 * DAY, Badly, true), (0, Badly, true), (60, Badly, true), (DAY, Badly, true)];
    let row = |failures| Row { failures, since: at(0) };
    let played = played(&runs);
    assert_eq!(played[1..3], [Tell(row(2)), Silence]);
    assert!(matches!(played[3], Tell(row) if row.failures == 4), "{played:?}");
}

proptest! {
    /// Whatever the clock does, a failure is silent only within a day of a mail that was sent about the
    /// same row, and a row's first failure is told.
    #[test]
    fn silence_has_a_mail_behind_it(
        runs in prop::collection::vec((-3 * DAY..3 * DAY, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let runs: Vec<_> = runs.into_iter().map(|(m, well, works)| (m, if well { Well } else { Badly }, works)).collect();
        let decisions = played(&runs);
        let mut mails: Vec<i64> = Vec::new();
        let mut failures = 0;
        for (&(minute, ended, works), decision) in runs.iter().zip(decisions) {
            match (ended, decision) {
                (Badly, Silence) => {
                    failures += 1;
                    prop_assert!(mails.iter().any(|&mail| mail <= minute && minute - mail < DAY));
                }
                (Badly, Tell(row)) => {
                    failures += 1;
                    prop_assert_eq!(row.failures, failures);
                    prop_assert!(row.since <= at(minute));
                    if works {
                        mails.push(minute);
                    }
                }
                (Well, Recovered(row)) => {
                    prop_assert!(!mails.is_empty());
                    prop_assert_eq!(row.failures, failures);
                    (failures, mails) = (0, Vec::new());
                }
                (Well, Usual) => {
                    prop_assert!(mails.is_empty());
                    (failures, mails) = (0, Vec::new());
                }
                (ended, decision) => prop_assert!(false, "{:?} {:?}", ended, decision),
            }
        }
    }

    /// Failures at any pace are told at least once in two days, and at most once in 23 hours.
    #[test]
    fn a_row_is_told_daily(gaps in prop::collection::vec(1..DAY, 1..200)) {
        let mut minute = 0;
        let runs: Vec<_> = gaps.iter().map(|gap| { minute += gap; (minute, Badly, true) }).collect();
        let told: Vec<i64> = runs.iter().zip(played(&runs))
            .filter(|(_, decision)| matches!(decision, Tell(_))).map(|((minute, ..), _)| *minute).collect();
        prop_assert_eq!(told[0], runs[0].0);
        prop_assert!(told.windows(2).all(|pair| pair[1] - pair[0] >= 23 * 60 && pair[1] - pair[0] < 2 * DAY));
    }
}
