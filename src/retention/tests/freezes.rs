//! Situations that look wrong: they freeze the plan.

use super::*;

#[track_caller]
fn frozen(backups: &[RetainedBackup], context: &PlanContext, words: &str) {
    let plan = plan(backups, &POLICY, context);
    assert_eq!(deleted(&plan), Vec::<i64>::new());
    assert!(plan.frozen.len() == 1 && plan.frozen[0].contains(words), "{words}: {:?}", plan.frozen);
}

#[test]
fn a_collapse_freezes_the_plan_until_it_is_accepted() {
    let mut backups = nightly(0..32);
    backups[0].contents = contents(499);
    frozen(&backups, &context(), "collapsed: 499 documents where ");
    backups[0].accepted = true;
    assert_eq!(deleted_by(&backups, &POLICY), [30, 31]);
    backups[0].accepted = false;
    backups[0].contents = contents(500);
    assert_eq!(deleted_by(&backups, &POLICY), [30, 31], "half is no collapse");
}

#[test]
fn a_lasting_collapse_is_compared_with_the_last_good_backup() {
    let mut backups = nightly(0..33);
    backups[..5].iter_mut().for_each(|b| b.contents = contents(10));
    frozen(&backups, &context(), &format!("where the last good backup {} had 1,000", backups[5].id));
    // The judgement of backups before the accepted one does not change.
    backups[0].accepted = true;
    let judged = plan(&backups, &POLICY, &PlanContext { force: true, ..context() });
    assert!(judged.frozen.is_empty());
    assert!(judged.decisions[1].reason.contains("not good: it collapsed"), "{:?}", judged.decisions[1]);
    assert!(!judged.decisions[0].reason.contains("not good"), "{:?}", judged.decisions[0]);
}

#[test]
fn a_collapse_that_is_over_does_not_freeze() {
    let mut backups = nightly(0..32);
    backups[1].contents = contents(0);
    assert_eq!(deleted_by(&backups, &POLICY), [30, 31]);
}

#[test]
fn another_source_freezes_the_plan_until_it_is_accepted() {
    let mut backups = nightly(0..32);
    backups[1].source.member = "db9:27017".into();
    // Also if the newest backup is of the old source again, because two servers take turns in one job.
    frozen(&backups, &context(), "the source was the single server db1:27017, and is the single server db9");
    frozen(&backups, &context(), "if these are two servers, give each a job of its own (BACKUP_JOB, --job)");
    backups[1].accepted = true;
    frozen(&backups, &context(), &format!("--accept {}", backups[0].id));
    backups[0].accepted = true;
    assert_eq!(deleted_by(&backups, &POLICY), [30, 31]);
}

#[test]
fn names_of_loopback_are_one_server_but_its_ports_are_not() {
    let mut backups = nightly(0..32);
    for (backup, host) in backups.iter_mut().zip(["localhost", "127.0.0.1", "[::1]"].into_iter().cycle()) {
        backup.source.member = format!("{host}:27017");
    }
    assert_eq!(deleted_by(&backups, &POLICY), [30, 31]);
    backups[4].source.member = "localhost:27018".into();
    frozen(&backups, &context(), &backups[4].id.to_string());
}

#[test]
fn clocks_that_disagree_freeze_the_plan() {
    for minutes in [-11, 11, -5_256_000] {
        let store_clock = now() + TimeDelta::minutes(minutes);
        frozen(&nightly(0..32), &PlanContext { store_clock, ..context() }, "the clocks disagree");
    }
    let store_clock = now() + TimeDelta::minutes(10);
    let plan = plan(&nightly(0..32), &POLICY, &PlanContext { store_clock, ..context() });
    assert_eq!(deleted(&plan), [30, 31]);
}

#[test]
fn a_backup_dated_in_the_future_freezes_does_not_count_and_stays() {
    let mut backups = nightly(40..44);
    backups.push(backup(-400));
    frozen(&backups, &context(), "in the future");
    backups[4].accepted = true;
    assert_eq!(deleted_by(&backups, &POLICY), [43]);
}

#[test]
fn many_deletions_at_once_need_force() {
    frozen(&nightly(0..41), &context(), "11 of 41 good backups would go at once");
    let forced = PlanContext { force: true, ..context() };
    assert_eq!(plan(&nightly(0..41), &POLICY, &forced).deletions().count(), 11);
    assert_eq!(deleted_by(&nightly(0..40), &POLICY).len(), 10, "a quarter");
    assert_eq!(deleted_by(&nightly(100..106), &POLICY).len(), 3, "three may always go");
}

#[test]
fn an_untrusted_backup_freezes_nothing_and_stays() {
    let mut backups = nightly(1..34);
    for (days, change) in [
        (0, (|b| b.contents = contents(1)) as fn(&mut RetainedBackup)),
        (-400, |_| {}),
        (2, |b| b.source.member = "db9:27017".into()),
        (100, |b| b.accepted = true),
        (200, |b| b.unsound = Some("verify failed".into())),
    ] {
        let mut planted = RetainedBackup { untrusted: Some("it is not signed".into()), ..backup(days) };
        change(&mut planted);
        backups.push(planted);
        assert_eq!(deleted_by(&backups, &POLICY), [30, 31, 32, 33][..], "{days}");
    }
    let decided = plan(&backups, &POLICY, &context());
    let last = decided.decisions.last().unwrap();
    assert_eq!((last.rule, last.action), (Rule::Untrusted, RetentionAction::Keep));
    assert!(last.reason.ends_with("; not good: it is not signed"), "{last:?}");
    // If only untrusted ones are left, they stay, too.
    backups.drain(..33);
    assert_eq!(deleted_by(&backups, &POLICY), Vec::<i64>::new());
}

#[test]
fn unreadable_objects_freeze_the_plan() {
    let unreadable = vec!["manifest.json: not JSON".to_string()];
    frozen(&nightly(0..32), &PlanContext { unreadable, force: true, ..context() }, "not JSON");
}
