//! Small histories counted by hand, and what holds of any.

use proptest::prelude::*;

use super::*;
use crate::catalog::marks::Pin;
use crate::retention::tests::{JOB, backup, now};

/// Every night, 100 bytes, a byte more a night.
const PACE: Pace = Pace { every: TimeDelta::days(1), bytes: 100.0, per_day: 1.0 };
const POLICY: Policy = Policy { days: 3, min: 1, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

/// Backups of so many days ago, at 03:00; now it is 04:00.
fn of_days_ago(days: &[i64]) -> Vec<RetainedBackup> {
    days.iter().map(|day| backup(*day)).collect()
}

fn seen(backups: &[RetainedBackup], policy: &Policy) -> Outlook {
    seen_at(now(), backups, policy, PACE)
}

/// Each has 100 bytes.
fn seen_at(now: DateTime<Utc>, backups: &[RetainedBackup], policy: &Policy, pace: Pace) -> Outlook {
    let sizes = backups.iter().map(|backup| (&backup.id, 100)).collect();
    outlook(backups, &sizes, policy, JOB, now, pace)
}

/// In how many days each goes, newest first, and what keeps it until then.
fn ends(outlook: &Outlook) -> Vec<(Option<i64>, Rule)> {
    let days = |at: DateTime<Utc>| (at - now()).num_days();
    outlook.stays.iter().map(|stay| (stay.until.map(days), stay.rule)).collect()
}

#[test]
fn three_nights_of_three_that_are_kept() {
    let outlook = seen(&of_days_ago(&[2, 1, 0]), &POLICY);
    // At 04:00 on the third day one is 3 days and an hour old.
    assert_eq!(ends(&outlook), [(Some(3), Rule::Days), (Some(2), Rule::Days), (Some(1), Rule::Days)]);
    assert_eq!(outlook.stored.len(), AHEAD + 1);
    assert!(outlook.stored.iter().all(|stored| stored.backups == 3), "{:?}", outlook.stored);
    let bytes: Vec<u64> = outlook.stored.iter().map(|stored| stored.bytes).take(4).collect();
    // The next night's is 101 bytes, for it is made 23 hours from now.
    assert_eq!(bytes, [300, 301, 303, 306]);
    let apart = |w: &[StoredForecast]| w[1].at - w[0].at == TimeDelta::days(1);
    assert!(outlook.stored.windows(2).all(apart), "{:?}", outlook.stored);
}

#[test]
fn the_clean_up_of_this_night_is_still_to_come() {
    let backups = of_days_ago(&[4, 3, 0]);
    let soon = now() - TimeDelta::minutes(20);
    let outlook = seen_at(soon, &backups, &POLICY, PACE);
    assert_eq!(outlook.stays[2].until, Some(now()));
    assert_eq!(outlook.stored[1], StoredForecast { at: now(), backups: 1, bytes: 100 });
}

#[test]
fn the_newest_of_a_month_stays_for_its_months() {
    // Now is 2026-11-23.
    let policy = Policy { monthly: 2, ..POLICY };
    let outlook = seen(&of_days_ago(&[24, 23, 0]), &policy);
    // Those are of 2026-10-30 and 10-31: the first goes at once, the second when December has its first.
    assert_eq!(ends(&outlook)[1], (Some(8), Rule::Monthly), "until 2026-12-01");
    assert_eq!(ends(&outlook)[2], (Some(1), Rule::Days));
}

#[test]
fn pinned_for_good_and_bad_ones_by_age() {
    let mut backups = of_days_ago(&[9, 2, 1, 0]);
    backups[0].pinned = Some(Pin::default());
    backups[1].unsound = Some("verify failed".into());
    let outlook = seen(&backups, &POLICY);
    assert_eq!(ends(&outlook)[3], (None, Rule::Pinned));
    assert_eq!(ends(&outlook)[2], (Some(1), Rule::Days));
}

#[test]
fn a_collapsed_one_stays_bad_and_freezes_nothing() {
    let mut backups = of_days_ago(&[5, 4, 0]);
    backups[2].contents = Contents::default();
    let outlook = seen(&backups, &POLICY);
    // Both old ones are over age; the newest good one stays until the next night has made another.
    assert_eq!(ends(&outlook), [(Some(3), Rule::Days), (Some(1), Rule::Days), (Some(1), Rule::Days)]);
}

#[test]
fn weekly_backups_go_on_weekly() {
    let pace = Pace { every: TimeDelta::days(7), ..PACE };
    let policy = Policy { days: 21, ..POLICY };
    let outlook = seen_at(now(), &of_days_ago(&[14, 7, 0]), &policy, pace);
    let counts: Vec<usize> = outlook.stored.iter().map(|stored| stored.backups).collect();
    assert_eq!(counts[..8], [3, 3, 3, 3, 3, 3, 3, 3]);
    assert_eq!(ends(&outlook)[2].0, Some(7));
}

#[test]
fn hourly_backups_are_all_counted() {
    let pace = Pace { every: TimeDelta::hours(1), ..PACE };
    let policy = Policy { days: 365, ..POLICY };
    let outlook = seen_at(now(), &of_days_ago(&[0]), &policy, pace);
    // Those of 05:00 today to 04:00 in 30 days, and the first.
    assert_eq!(outlook.stored[AHEAD].backups, 30 * 24 + 1);
    assert_eq!(ends(&outlook), [(Some(365), Rule::Days)]);
}

#[test]
fn nothing_becomes_of_nothing() {
    assert_eq!(seen(&[], &POLICY), Outlook::default());
    let mut other = of_days_ago(&[1]);
    other[0].job = "other".into();
    assert_eq!(seen(&other, &POLICY), Outlook::default());
}

fn policies() -> impl Strategy<Value = Policy> {
    (1u32..20, 1usize..4, 0usize..4, 0usize..4, 0usize..4).prop_map(|(days, min, daily, weekly, monthly)| {
        Policy { days, min, daily, weekly, monthly, ..POLICY }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    /// Where the policy deletes nothing, a backup is added a day, and bytes only grow.
    #[test]
    fn without_deletions_it_only_grows(days in prop::collection::btree_set(0i64..40, 1..12)) {
        let backups = of_days_ago(&days.into_iter().collect::<Vec<_>>());
        let policy = Policy { days: 10_000, ..POLICY };
        let outlook = seen(&backups, &policy);
        for pair in outlook.stored.windows(2) {
            prop_assert!(pair[1].bytes > pair[0].bytes);
        }
        prop_assert!(outlook.stays.iter().all(|stay| stay.until.is_none() && stay.rule == Rule::Days));
    }

    /// The first that go are those of a plan at that time: nothing is forecast that cleanup would not do.
    #[test]
    fn the_first_clean_up_is_the_planners(
        days in prop::collection::btree_set(0i64..60, 1..20),
        policy in policies(),
    ) {
        let backups = of_days_ago(&days.into_iter().collect::<Vec<_>>());
        let outlook = seen(&backups, &policy);
        let at = outlook.stored[1].at;
        let anchor = backups.iter().map(|backup| backup.started).max().unwrap();
        let mut all = backups.clone();
        let mut next = following(anchor, PACE.every, now());
        while next <= at {
            let id = format!("{}-bbbbbb", next.format("%Y%m%dT%H%M%SZ")).parse().unwrap();
            all.push(RetainedBackup { id, started: next, ..backup(0) });
            next += PACE.every;
        }
        let around = PlanContext { job: JOB.into(), now: at, store_clock: at, force: true, unreadable: vec![] };
        let plan = plan(&all, &policy, &around);
        let going: BTreeSet<&BackupId> = plan.deletions().map(|decision| &decision.id).collect();
        let told: BTreeSet<&BackupId> =
            outlook.stays.iter().filter(|stay| stay.until == Some(at)).map(|stay| &stay.id).collect();
        prop_assert_eq!(going, told);
        // Whatever goes by and by, the newest `keep_min` are never among it.
        prop_assert!(outlook.stored.iter().skip(1).all(|stored| stored.backups >= policy.min.min(all.len())));
    }
}
