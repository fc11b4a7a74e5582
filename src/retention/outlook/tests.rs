//! Small histories counted by hand, and properties of all histories.

use proptest::prelude::*;

use super::*;
use crate::catalog::marks::Pin;
use crate::retention::tests::{JOB, backup, now};

/// A backup of 100 bytes each night, growing by a byte per night.
const PACE: Pace = Pace { every: TimeDelta::days(1), bytes: 100.0, per_day: 1.0 };
const POLICY: Policy = Policy { days: 3, min: 1, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

/// Backups made these numbers of days ago, at 03:00. Now it is 04:00.
fn made_days_ago(days: &[i64]) -> Vec<RetainedBackup> {
    days.iter().map(|day| backup(*day)).collect()
}

fn outlook_now(backups: &[RetainedBackup], policy: &Policy) -> Outlook {
    outlook_at(now(), backups, policy, PACE)
}

/// The outlook for backups of 100 bytes each.
fn outlook_at(now: DateTime<Utc>, backups: &[RetainedBackup], policy: &Policy, pace: Pace) -> Outlook {
    let sizes = backups.iter().map(|backup| (&backup.id, 100)).collect();
    outlook(backups, &sizes, policy, JOB, now, pace)
}

/// For each backup, newest first: the days until it is deleted, and the rule that keeps it until then.
fn ends(outlook: &Outlook) -> Vec<(Option<i64>, Rule)> {
    let days = |at: DateTime<Utc>| (at - now()).num_days();
    outlook.stays.iter().map(|stay| (stay.until.map(days), stay.rule)).collect()
}

#[test]
fn three_nights_are_kept_for_three_days() {
    let outlook = outlook_now(&made_days_ago(&[2, 1, 0]), &POLICY);
    // At 04:00 on the third day a backup is 3 days and an hour old.
    assert_eq!(ends(&outlook), [(Some(3), Rule::Days), (Some(2), Rule::Days), (Some(1), Rule::Days)]);
    assert_eq!(outlook.stored.len(), AHEAD + 1);
    assert!(outlook.stored.iter().all(|stored| stored.backups == 3), "{:?}", outlook.stored);
    let bytes: Vec<u64> = outlook.stored.iter().map(|stored| stored.bytes).take(4).collect();
    // The backup of the next night has 101 bytes, because it is made 23 hours from now.
    assert_eq!(bytes, [300, 301, 303, 306]);
    let apart = |w: &[StoredForecast]| w[1].at - w[0].at == TimeDelta::days(1);
    assert!(outlook.stored.windows(2).all(apart), "{:?}", outlook.stored);
}

#[test]
fn the_cleanup_of_this_night_is_still_ahead() {
    let backups = made_days_ago(&[4, 3, 0]);
    let soon = now() - TimeDelta::minutes(20);
    let outlook = outlook_at(soon, &backups, &POLICY, PACE);
    assert_eq!(outlook.stays[2].until, Some(now()));
    assert_eq!(outlook.stored[1], StoredForecast { at: now(), backups: 1, bytes: 100 });
}

#[test]
fn the_newest_backup_of_a_month_stays_for_its_months() {
    // Now is 2026-11-23.
    let policy = Policy { monthly: 2, ..POLICY };
    let outlook = outlook_now(&made_days_ago(&[24, 23, 0]), &policy);
    // The old backups are of 2026-10-30 and 10-31. The first is deleted at once, the second when December has a backup.
    assert_eq!(ends(&outlook)[1], (Some(8), Rule::Monthly), "until 2026-12-01");
    assert_eq!(ends(&outlook)[2], (Some(1), Rule::Days));
}

#[test]
fn pinned_backups_stay_and_bad_ones_are_deleted_by_age() {
    let mut backups = made_days_ago(&[9, 2, 1, 0]);
    backups[0].pinned = Some(Pin::default());
    backups[1].unsound = Some("verify failed".into());
    let outlook = outlook_now(&backups, &POLICY);
    assert_eq!(ends(&outlook)[3], (None, Rule::Pinned));
    assert_eq!(ends(&outlook)[2], (Some(1), Rule::Days));
}

#[test]
fn a_collapsed_backup_stays_bad_and_freezes_nothing() {
    let mut backups = made_days_ago(&[5, 4, 0]);
    backups[2].contents = Contents::default();
    let outlook = outlook_now(&backups, &POLICY);
    // Both old backups are over age. The newest good one stays until the next night makes another.
    assert_eq!(ends(&outlook), [(Some(3), Rule::Days), (Some(1), Rule::Days), (Some(1), Rule::Days)]);
}

#[test]
fn weekly_backups_continue_weekly() {
    let pace = Pace { every: TimeDelta::days(7), ..PACE };
    let policy = Policy { days: 21, ..POLICY };
    let outlook = outlook_at(now(), &made_days_ago(&[14, 7, 0]), &policy, pace);
    let counts: Vec<usize> = outlook.stored.iter().map(|stored| stored.backups).collect();
    assert_eq!(counts[..8], [3, 3, 3, 3, 3, 3, 3, 3]);
    assert_eq!(ends(&outlook)[2].0, Some(7));
}

#[test]
fn hourly_backups_are_all_counted() {
    let pace = Pace { every: TimeDelta::hours(1), ..PACE };
    let policy = Policy { days: 365, ..POLICY };
    let outlook = outlook_at(now(), &made_days_ago(&[0]), &policy, pace);
    // The backups from 05:00 today to 04:00 in 30 days, and the first.
    assert_eq!(outlook.stored[AHEAD].backups, 30 * 24 + 1);
    assert_eq!(ends(&outlook), [(Some(365), Rule::Days)]);
}

#[test]
fn the_outlook_without_backups_is_empty() {
    assert_eq!(outlook_now(&[], &POLICY), Outlook::default());
    let mut other = made_days_ago(&[1]);
    other[0].job = "other".into();
    assert_eq!(outlook_now(&other, &POLICY), Outlook::default());
}

fn policies() -> impl Strategy<Value = Policy> {
    (1u32..20, 1usize..4, 0usize..4, 0usize..4, 0usize..4).prop_map(|(days, min, daily, weekly, monthly)| {
        Policy { days, min, daily, weekly, monthly, ..POLICY }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    /// If the policy deletes nothing, a backup is added each day, and bytes only grow.
    #[test]
    fn without_deletions_the_stored_bytes_only_grow(days in prop::collection::btree_set(0i64..40, 1..12)) {
        let backups = made_days_ago(&days.into_iter().collect::<Vec<_>>());
        let policy = Policy { days: 10_000, ..POLICY };
        let outlook = outlook_now(&backups, &policy);
        for pair in outlook.stored.windows(2) {
            prop_assert!(pair[1].bytes > pair[0].bytes);
        }
        prop_assert!(outlook.stays.iter().all(|stay| stay.until.is_none() && stay.rule == Rule::Days));
    }

    /// The first deletions are those of a plan at that time: the forecast agrees with a real cleanup.
    #[test]
    fn the_first_simulated_cleanup_agrees_with_a_plan(
        days in prop::collection::btree_set(0i64..60, 1..20),
        policy in policies(),
    ) {
        let backups = made_days_ago(&days.into_iter().collect::<Vec<_>>());
        let outlook = outlook_now(&backups, &policy);
        let at = outlook.stored[1].at;
        let anchor = backups.iter().map(|backup| backup.started).max().unwrap();
        let mut all = backups.clone();
        let mut next = following(anchor, PACE.every, now());
        while next <= at {
            let id = format!("{}-bbbbbb", next.format("%Y%m%dT%H%M%SZ")).parse().unwrap();
            all.push(RetainedBackup { id, started: next, ..backup(0) });
            next += PACE.every;
        }
        let plan = plan(&all, &policy, &PlanContext::forecast(JOB, at));
        let deleted: BTreeSet<&BackupId> = plan.deletions().map(|decision| &decision.id).collect();
        let forecast: BTreeSet<&BackupId> =
            outlook.stays.iter().filter(|stay| stay.until == Some(at)).map(|stay| &stay.id).collect();
        prop_assert_eq!(deleted, forecast);
        // The newest `keep_min` backups are never deleted.
        prop_assert!(outlook.stored.iter().skip(1).all(|stored| stored.backups >= policy.min.min(all.len())));
    }
}
