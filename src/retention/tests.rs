//! Each rule on its own.

use super::*;
use crate::catalog::collapse::Amount;
use crate::source::hello::Topology;

pub(super) const JOB: &str = "all@db1";

pub(super) fn now() -> DateTime<Utc> {
    "2026-11-23T04:00:00Z".parse().unwrap()
}

fn contents(documents: u64) -> Contents {
    let amount = Amount { documents, raw_bytes: documents * 100 };
    Contents { total: amount, namespaces: [("shop.orders".to_string(), amount)].into() }
}

/// A backup of so many days ago, at 03:00.
pub(super) fn backup(days: i64) -> Backup {
    let started = now() - TimeDelta::hours(1) - TimeDelta::days(days);
    Backup {
        id: format!("{}-aaaaaa", started.format("%Y%m%dT%H%M%SZ")).parse().unwrap(),
        job: JOB.into(),
        started,
        contents: contents(1000),
        source: Source {
            topology: Topology::Standalone,
            member: "db1:27017".into(),
            version: "8.0.0".into(),
            set_name: None,
            set_id: None,
        },
        pinned: None,
        accepted: false,
        unsound: None,
    }
}

fn nightly(days: std::ops::Range<i64>) -> Vec<Backup> {
    days.map(backup).collect()
}

const POLICY: Policy = Policy { days: 30, min: 3, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

fn around() -> Circumstances {
    Circumstances { job: JOB.into(), now: now(), store_clock: now(), force: false, unreadable: vec![] }
}

/// How many days old the backups are that go.
fn going(plan: &Plan) -> Vec<i64> {
    let mut days: Vec<i64> = plan.deletions().map(|d| (now() - d.id.started()).num_days()).collect();
    days.sort_unstable();
    days
}

fn gone(backups: &[Backup], policy: &Policy) -> Vec<i64> {
    let plan = plan(backups, policy, &around());
    assert_eq!(plan.frozen, Vec::<String>::new());
    going(&plan)
}

#[track_caller]
fn frozen(backups: &[Backup], around: &Circumstances, words: &str) {
    let plan = plan(backups, &POLICY, around);
    assert_eq!(going(&plan), Vec::<i64>::new());
    assert!(plan.frozen.len() == 1 && plan.frozen[0].contains(words), "{words}: {:?}", plan.frozen);
}

#[test]
fn what_is_old_goes_and_each_decision_has_a_reason() {
    let backups = nightly(0..33);
    assert_eq!(gone(&backups, &POLICY), [30, 31, 32]);
    let plan = plan(&backups, &POLICY, &around());
    assert_eq!(plan.decisions.len(), 33);
    assert_eq!(plan.decisions[0].id, backups[0].id, "newest first");
    assert!(plan.decisions.iter().all(|d| !d.reason.is_empty()));
    assert_eq!(plan.decisions[32].reason, "32 days old, kept for 30");
}

#[test]
fn to_the_second() {
    let mut edge = backup(29);
    let mut backups = nightly(0..10);
    edge.started = now() - TimeDelta::days(30);
    backups.push(edge.clone());
    assert_eq!(gone(&backups, &POLICY), Vec::<i64>::new());
    backups[10].started -= TimeDelta::seconds(1);
    assert_eq!(plan(&backups, &POLICY, &around()).deletions().count(), 1);
}

#[test]
fn the_newest_good_ones_stay_however_old_they_are() {
    assert_eq!(gone(&nightly(100..106), &POLICY), [103, 104, 105]);
    // Those that are not good do not count.
    let mut backups = nightly(100..106);
    backups[1].unsound = Some("verify failed".into());
    assert_eq!(gone(&backups, &POLICY), [101, 104, 105]);
    let plan = plan(&backups, &POLICY, &around());
    assert!(plan.decisions[1].reason.ends_with("; not good: verify failed"), "{plan:?}");
}

#[test]
fn an_outage_of_weeks_and_then_one_good_backup() {
    let mut backups = nightly(40..43);
    backups.push(backup(0));
    assert_eq!(gone(&backups, &POLICY), [42]);
}

#[test]
fn where_nothing_is_good_nothing_goes() {
    let mut backups = nightly(40..50);
    backups.iter_mut().for_each(|b| b.unsound = Some("its artifact is missing".into()));
    assert_eq!(gone(&backups, &POLICY), Vec::<i64>::new());
}

#[test]
fn pins_and_other_jobs_stay() {
    let mut backups = nightly(0..34);
    backups[33].pinned = Some(Pin { reason: Some("before the\nmigration".into()) });
    backups[32].job = "all@db2".into();
    assert_eq!(gone(&backups, &POLICY), [30, 31]);
    let decisions = plan(&backups, &POLICY, &around()).decisions;
    assert!(decisions.iter().all(|d| d.id != backups[32].id));
    assert_eq!(decisions.last().unwrap().reason, "pinned (before the migration)");
}

#[test]
fn calendars() {
    let backups = nightly(0..800);
    let policy = Policy { days: 7, min: 1, last: 9, daily: 12, weekly: 4, monthly: 3, yearly: 3 };
    let forced = Circumstances { force: true, ..around() };
    let plan = plan(&backups, &policy, &forced);
    let kept: Vec<String> = plan
        .decisions
        .iter()
        .filter(|d| d.action == Action::Keep && now() - d.id.started() > TimeDelta::days(7))
        .map(|d| d.id.started().format("%F").to_string())
        .collect();
    let want = [
        "2026-11-16",
        "2026-11-15", // the last of nine
        "2026-11-14", // of twelve days
        "2026-11-13",
        "2026-11-12",
        "2026-11-08", // the end of the fourth week
        "2026-10-31", // the end of a month
        "2026-09-30",
        "2025-12-31", // the end of a year
        "2024-12-31",
    ];
    assert_eq!(kept, want);
}

#[test]
fn a_collapse_freezes_until_it_is_accepted() {
    let mut backups = nightly(0..32);
    backups[0].contents = contents(499);
    frozen(&backups, &around(), "collapsed: 499 documents where ");
    backups[0].accepted = true;
    assert_eq!(gone(&backups, &POLICY), [30, 31]);
    backups[0].accepted = false;
    backups[0].contents = contents(500);
    assert_eq!(gone(&backups, &POLICY), [30, 31], "half is no collapse");
}

#[test]
fn a_collapse_that_lasts_is_compared_with_the_last_good_one() {
    let mut backups = nightly(0..33);
    backups[..5].iter_mut().for_each(|b| b.contents = contents(10));
    frozen(&backups, &around(), &format!("where {} had 1,000", backups[5].id));
    // Whatever came before the one that is accepted stays what it was.
    backups[0].accepted = true;
    let judged = plan(&backups, &POLICY, &Circumstances { force: true, ..around() });
    assert!(judged.frozen.is_empty());
    assert!(judged.decisions[1].reason.contains("not good: it collapsed"), "{:?}", judged.decisions[1]);
    assert!(!judged.decisions[0].reason.contains("not good"), "{:?}", judged.decisions[0]);
}

#[test]
fn a_collapse_that_is_over_is_no_doubt() {
    let mut backups = nightly(0..32);
    backups[1].contents = contents(0);
    assert_eq!(gone(&backups, &POLICY), [30, 31]);
}

#[test]
fn another_source_freezes_until_it_is_accepted() {
    let mut backups = nightly(0..32);
    backups[1].source.member = "db9:27017".into();
    // Even when the newest is of the old source again: two servers take turns in one job.
    frozen(&backups, &around(), "the source was the single server db1:27017, and is the single server db9");
    frozen(&backups, &around(), "if these are two servers, give each a job of its own (BACKUP_JOB, --job)");
    backups[1].accepted = true;
    frozen(&backups, &around(), &format!("--accept {}", backups[0].id));
    backups[0].accepted = true;
    assert_eq!(gone(&backups, &POLICY), [30, 31]);
}

#[test]
fn names_of_loopback_are_one_server_and_its_ports_are_not() {
    let mut backups = nightly(0..32);
    for (backup, host) in backups.iter_mut().zip(["localhost", "127.0.0.1", "[::1]"].into_iter().cycle()) {
        backup.source.member = format!("{host}:27017");
    }
    assert_eq!(gone(&backups, &POLICY), [30, 31]);
    backups[4].source.member = "localhost:27018".into();
    frozen(&backups, &around(), &backups[4].id.to_string());
}

#[test]
fn clocks_that_disagree_freeze() {
    for minutes in [-11, 11, -5_256_000] {
        let store_clock = now() + TimeDelta::minutes(minutes);
        frozen(&nightly(0..32), &Circumstances { store_clock, ..around() }, "the clocks disagree");
    }
    let store_clock = now() + TimeDelta::minutes(10);
    let plan = plan(&nightly(0..32), &POLICY, &Circumstances { store_clock, ..around() });
    assert_eq!(going(&plan), [30, 31]);
}

#[test]
fn what_is_dated_in_the_future_freezes_counts_for_nothing_and_stays() {
    let mut backups = nightly(40..44);
    backups.push(backup(-400));
    frozen(&backups, &around(), "in the future");
    backups[4].accepted = true;
    assert_eq!(gone(&backups, &POLICY), [43]);
}

#[test]
fn many_at_once_need_force() {
    frozen(&nightly(0..41), &around(), "11 of 41 good backups would go at once");
    let forced = Circumstances { force: true, ..around() };
    assert_eq!(plan(&nightly(0..41), &POLICY, &forced).deletions().count(), 11);
    assert_eq!(gone(&nightly(0..40), &POLICY).len(), 10, "a quarter");
    assert_eq!(gone(&nightly(100..106), &POLICY).len(), 3, "three may always go");
}

#[test]
fn what_cannot_be_read_freezes() {
    let unreadable = vec!["manifest.json: not JSON".to_string()];
    frozen(&nightly(0..32), &Circumstances { unreadable, force: true, ..around() }, "not JSON");
}

#[test]
fn the_next_expiry_is_when_a_clean_up_would_delete() {
    let next = |backups: &[Backup]| forecast::next_expiry(backups, &POLICY, JOB, now());
    assert_eq!(next(&[]), None);
    let backups = nightly(0..10);
    let found = next(&backups).unwrap();
    assert_eq!(found.id, backups[9].id);
    let late = found.at - backups[9].started - TimeDelta::days(30);
    assert!(late > TimeDelta::zero() && late < TimeDelta::minutes(1), "{late}");
    // What is due is due now; what is pinned never goes.
    let mut backups = nightly(0..40);
    assert_eq!(next(&backups), Some(forecast::Expiry { id: backups[39].id.clone(), at: now() }));
    backups[39].pinned = Some(Pin::default());
    assert_eq!(next(&backups).unwrap().id, backups[38].id);
    let others = [Backup { job: "other".into(), ..backup(50) }];
    assert_eq!(next(&others), None);
}

mod fresh {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(26 * 3600);

    fn judge(backups: &[Backup]) -> Freshness {
        freshness(backups, JOB, now(), DAY)
    }

    fn newest(backups: &[Backup]) -> Option<(i64, bool)> {
        let found = judge(backups);
        found.newest.map(|(id, age)| {
            assert_eq!(TimeDelta::from_std(age).unwrap(), now() - id.started());
            ((now() - id.started()).num_days(), found.fresh)
        })
    }

    #[test]
    fn the_newest_good_one_counts() {
        assert_eq!(newest(&nightly(0..5)), Some((0, true)));
        assert_eq!(newest(&nightly(1..5)), Some((1, true)));
        assert_eq!(newest(&nightly(2..5)), Some((2, false)));
        assert_eq!(newest(&[]), None);
        assert!(!judge(&[]).fresh);
    }

    #[test]
    fn to_the_second() {
        for (seconds, fresh) in [(0, true), (1, false)] {
            let mut old = backup(0);
            old.started = now() - TimeDelta::from_std(DAY).unwrap() - TimeDelta::seconds(seconds);
            assert_eq!(judge(&[old]).fresh, fresh);
        }
    }

    #[test]
    fn what_is_not_good_is_not_fresh() {
        let kinds: [fn(&mut Backup); 4] = [
            |b| b.unsound = Some("its artifact is missing".into()),
            |b| b.contents = contents(1),
            |b| b.source.member = "db2:27017".into(),
            |b| b.started = now() + TimeDelta::days(3650),
        ];
        for (n, spoil) in kinds.into_iter().enumerate() {
            let mut backups = nightly(2..5);
            let mut bad = backup(0);
            spoil(&mut bad);
            backups.push(bad);
            let found = judge(&backups);
            assert!(!found.fresh, "{n}");
            assert_eq!(found.newest.as_ref().map(|(id, _)| id), Some(&backup(2).id), "{n}");
            assert_eq!(found.bad.len(), 1, "{n}");
            assert!(!found.bad[0].1.is_empty(), "{n}");
        }
    }

    #[test]
    fn one_of_the_future_alone_is_none() {
        let mut future = backup(0);
        future.started = now() + TimeDelta::minutes(11);
        let found = judge(std::slice::from_ref(&future));
        assert_eq!((found.newest, found.fresh), (None, false));
        // Two clocks may differ a little.
        future.started = now() + TimeDelta::minutes(9);
        assert_eq!(judge(&[future]).newest.map(|(_, age)| age), Some(Duration::ZERO));
    }

    #[test]
    fn an_accepted_collapse_is_fresh_and_other_jobs_are_not_looked_at() {
        let mut backups = nightly(2..5);
        let mut small = Backup { contents: contents(1), accepted: true, ..backup(0) };
        backups.push(small.clone());
        assert!(judge(&backups).fresh);
        small.job = "other".into();
        backups.pop();
        backups.push(small);
        assert!(!judge(&backups).fresh);
    }
}

#[test]
fn what_was_accepted_stays_while_an_older_one_does() {
    // A pinned one of the old server, the first one of the new server, which was accepted, and many after it.
    let mut backups = nightly(0..40);
    backups[39].pinned = Some(Pin::default());
    backups.iter_mut().take(39).for_each(|b| b.source.member = "db2:27017".into());
    backups[38].accepted = true;
    let mut later: Vec<Backup> = backups.iter().take(33).cloned().collect();
    later.extend(backups[38..].iter().cloned());
    assert_eq!(gone(&later, &POLICY), [30, 31, 32]);
    // Once the pin is off, nothing is compared with the old server any more.
    later[34].pinned = None;
    let around = Circumstances { force: true, ..around() };
    assert_eq!(going(&plan(&later, &POLICY, &around)), [30, 31, 32, 38, 39]);
}
