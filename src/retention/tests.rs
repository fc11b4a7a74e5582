//! Each rule of retention alone.

mod freezes;
mod fresh;

use super::*;
use crate::catalog::compare::{Amount, Contents};
use crate::catalog::marks::Pin;
use crate::model::manifest::SourceServer;
use crate::model::server::Topology;

pub(super) const JOB: &str = "all@db1";

pub(super) fn now() -> DateTime<Utc> {
    "2026-11-23T04:00:00Z".parse().unwrap()
}

pub(super) fn contents(documents: u64) -> Contents {
    let amount = Amount { documents, raw_bytes: documents * 100 };
    let namespaces = [("shop.orders".into(), amount)].into_iter().collect();
    Contents { total: amount, namespaces, ..Contents::default() }
}

/// A backup made this many days ago, at 03:00.
pub(super) fn backup(days: i64) -> RetainedBackup {
    let started = now() - TimeDelta::hours(1) - TimeDelta::days(days);
    RetainedBackup {
        id: format!("{}-aaaaaa", started.format("%Y%m%dT%H%M%SZ")).parse().unwrap(),
        job: JOB.into(),
        started,
        contents: contents(1000),
        source: SourceServer {
            topology: Topology::Standalone,
            member: "db1:27017".into(),
            version: "8.0.0".into(),
            feature_compatibility_version: None,
            set_name: None,
            set_id: None,
        },
        pinned: None,
        accepted: false,
        partial: None,
        unsound: None,
        untrusted: None,
    }
}

fn nightly(days: std::ops::Range<i64>) -> Vec<RetainedBackup> {
    days.map(backup).collect()
}

const POLICY: Policy = Policy { days: 30, min: 3, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

pub(super) fn context() -> PlanContext {
    PlanContext {
        job: JOB.into(),
        now: now(),
        store_clock: now(),
        force: false,
        unreadable: vec![],
        oplog: RetainedOplog::default(),
        oplog_days: 7,
    }
}

/// The ages in days of the backups that the plan deletes.
fn deleted(plan: &RetentionPlan) -> Vec<i64> {
    let mut days: Vec<i64> = plan.deletions().map(|d| (now() - d.id.started()).num_days()).collect();
    days.sort_unstable();
    days
}

fn deleted_by(backups: &[RetainedBackup], policy: &Policy) -> Vec<i64> {
    let plan = plan(backups, policy, &context());
    assert_eq!(plan.frozen, Vec::<String>::new());
    deleted(&plan)
}

#[test]
fn old_backups_are_deleted_and_each_decision_has_a_reason() {
    let backups = nightly(0..33);
    assert_eq!(deleted_by(&backups, &POLICY), [30, 31, 32]);
    let plan = plan(&backups, &POLICY, &context());
    assert_eq!(plan.decisions.len(), 33);
    assert_eq!(plan.decisions[0].id, backups[0].id, "newest first");
    assert!(plan.decisions.iter().all(|d| !d.reason.is_empty()));
    // The oldest kept backup and the youngest deleted one do not seem to contradict each other.
    let reasons: Vec<&str> = plan.decisions[29..31].iter().map(|d| d.reason.as_str()).collect();
    assert_eq!(reasons, ["29 days old, within 30 days", "older than 30 days and outside every keep rule"]);
}

#[test]
fn a_backup_is_deleted_a_second_after_its_retention_ends() {
    let mut edge = backup(29);
    let mut backups = nightly(0..10);
    edge.started = now() - TimeDelta::days(30);
    backups.push(edge.clone());
    assert_eq!(deleted_by(&backups, &POLICY), Vec::<i64>::new());
    backups[10].started -= TimeDelta::seconds(1);
    assert_eq!(plan(&backups, &POLICY, &context()).deletions().count(), 1);
}

#[test]
fn the_newest_good_backups_stay_however_old_they_are() {
    assert_eq!(deleted_by(&nightly(100..106), &POLICY), [103, 104, 105]);
    // Backups that are not good do not count.
    let mut backups = nightly(100..106);
    backups[1].unsound = Some("verify failed".into());
    assert_eq!(deleted_by(&backups, &POLICY), [101, 104, 105]);
    let plan = plan(&backups, &POLICY, &context());
    assert!(plan.decisions[1].reason.ends_with("; not good: verify failed"), "{plan:?}");
}

#[test]
fn a_partial_backup_is_deleted_by_age_and_never_counts() {
    let mut backups = nightly(100..104);
    for days in [0, 1, 99] {
        let partial = Some("the database shop".into());
        backups.push(RetainedBackup { partial, accepted: days == 1, contents: contents(1), ..backup(days) });
    }
    // The newest three full ones stay, and a small partial one is no collapse.
    let decided = plan(&backups, &POLICY, &context());
    assert_eq!(decided.frozen, Vec::<String>::new());
    assert_eq!(deleted(&decided), [99, 103]);
    let reason = &decided.decisions[0].reason;
    assert!(reason.ends_with("; not good: it is partial (the database shop)"), "{reason}");
    // The next full backup is compared with the last full one.
    let mut backups = nightly(2..5);
    backups.push(RetainedBackup { partial: Some("x".into()), contents: contents(1), ..backup(1) });
    backups.push(RetainedBackup { contents: contents(400), ..backup(0) });
    let found = freshness(&backups, JOB, now(), std::time::Duration::from_secs(26 * 3600));
    assert_eq!(found.newest.map(|(id, _)| id), Some(backup(2).id));
    assert!(found.bad[0].1.contains("400 documents where"), "{:?}", found.bad);
    assert_eq!(found.bad[1], (backup(1).id, "it is partial (x)".into()));
    let partials: Vec<RetainedBackup> =
        (40..44).map(|days| RetainedBackup { partial: Some("x".into()), ..backup(days) }).collect();
    assert_eq!(deleted_by(&partials, &POLICY), Vec::<i64>::new(), "nothing else is left of the data");
}

#[test]
fn after_an_outage_of_weeks_old_good_backups_stay() {
    let mut backups = nightly(40..43);
    backups.push(backup(0));
    assert_eq!(deleted_by(&backups, &POLICY), [42]);
}

#[test]
fn nothing_is_deleted_if_no_backup_is_good() {
    let mut backups = nightly(40..50);
    backups.iter_mut().for_each(|b| b.unsound = Some("its artifact is missing".into()));
    assert_eq!(deleted_by(&backups, &POLICY), Vec::<i64>::new());
}

#[test]
fn pinned_backups_and_other_jobs_stay() {
    let mut backups = nightly(0..34);
    backups[33].pinned = Some(Pin { reason: Some("before the\nmigration".into()) });
    backups[32].job = "all@db2".into();
    assert_eq!(deleted_by(&backups, &POLICY), [30, 31]);
    let decisions = plan(&backups, &POLICY, &context()).decisions;
    assert!(decisions.iter().all(|d| d.id != backups[32].id));
    assert_eq!(decisions.last().unwrap().reason, "pinned (before the migration)");
}

#[test]
fn the_newest_backup_of_each_calendar_period_stays() {
    let backups = nightly(0..800);
    let policy = Policy { days: 7, min: 1, last: 9, daily: 12, weekly: 4, monthly: 3, yearly: 3 };
    let forced = PlanContext { force: true, ..context() };
    let plan = plan(&backups, &policy, &forced);
    let kept: Vec<String> = plan
        .decisions
        .iter()
        .filter(|d| d.action == RetentionAction::Keep && now() - d.id.started() > TimeDelta::days(7))
        .map(|d| d.id.started().format("%F").to_string())
        .collect();
    let want = [
        "2026-11-16",
        "2026-11-15", // the last of the nine newest
        "2026-11-14", // the last twelve days
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
fn the_next_expiry_is_the_time_when_a_cleanup_would_delete() {
    let next = |backups: &[RetainedBackup]| outlook::next_expiry(backups, &POLICY, JOB, now());
    assert_eq!(next(&[]), None);
    let backups = nightly(0..10);
    let found = next(&backups).unwrap();
    assert_eq!(found.id, backups[9].id);
    let late = found.at - backups[9].started - TimeDelta::days(30);
    assert!(late > TimeDelta::zero() && late < TimeDelta::minutes(1), "{late}");
    // An overdue backup is due now. A pinned backup is never due.
    let mut backups = nightly(0..40);
    assert_eq!(next(&backups), Some(outlook::Expiry { id: backups[39].id.clone(), at: now() }));
    backups[39].pinned = Some(Pin::default());
    assert_eq!(next(&backups).unwrap().id, backups[38].id);
    let others = [RetainedBackup { job: "other".into(), ..backup(50) }];
    assert_eq!(next(&others), None);
}

#[test]
fn an_accepted_backup_stays_while_an_older_one_does() {
    // A pinned backup of the old server, then the first backup of the new server, which was accepted, and many later ones.
    let mut backups = nightly(0..40);
    backups[39].pinned = Some(Pin::default());
    backups.iter_mut().take(39).for_each(|b| b.source.member = "db2:27017".into());
    backups[38].accepted = true;
    let mut later: Vec<RetainedBackup> = backups.iter().take(33).cloned().collect();
    later.extend(backups[38..].iter().cloned());
    assert_eq!(deleted_by(&later, &POLICY), [30, 31, 32]);
    // Without the pin, no backup is compared with the old server any more.
    later[34].pinned = None;
    let context = PlanContext { force: true, ..context() };
    assert_eq!(deleted(&plan(&later, &POLICY, &context)), [30, 31, 32, 38, 39]);
}
