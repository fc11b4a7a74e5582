//! The age of the newest good backup.

use std::time::Duration;

use super::*;

const MAX_AGE: Duration = Duration::from_secs(30 * 3600);

fn judge(backups: &[RetainedBackup]) -> Freshness {
    freshness(backups, JOB, now(), MAX_AGE)
}

fn newest(backups: &[RetainedBackup]) -> Option<(i64, bool)> {
    let found = judge(backups);
    found.newest.map(|(id, age)| {
        assert_eq!(TimeDelta::from_std(age).unwrap(), now() - id.started());
        ((now() - id.started()).num_days(), found.fresh)
    })
}

#[test]
fn the_newest_good_backup_counts() {
    assert_eq!(newest(&nightly(0..5)), Some((0, true)));
    assert_eq!(newest(&nightly(1..5)), Some((1, true)));
    assert_eq!(newest(&nightly(2..5)), Some((2, false)));
    assert_eq!(newest(&[]), None);
    assert!(!judge(&[]).fresh);
}

#[test]
fn a_backup_is_fresh_up_to_the_last_second() {
    for (seconds, fresh) in [(0, true), (1, false)] {
        let mut old = backup(0);
        old.started = now() - TimeDelta::from_std(MAX_AGE).unwrap() - TimeDelta::seconds(seconds);
        assert_eq!(judge(&[old]).fresh, fresh);
    }
}

#[test]
fn bad_backups_are_not_fresh() {
    let kinds: [fn(&mut RetainedBackup); 6] = [
        |b| b.unsound = Some("its artifact is missing".into()),
        |b| b.untrusted = Some("it is not signed".into()),
        |b| (b.untrusted, b.accepted) = (Some("it is not signed".into()), true),
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
fn a_lone_backup_of_the_future_does_not_count() {
    let mut future = backup(0);
    future.started = now() + TimeDelta::minutes(11);
    let found = judge(std::slice::from_ref(&future));
    assert_eq!((found.newest, found.fresh), (None, false));
    // The clocks of two machines may differ by a few minutes.
    future.started = now() + TimeDelta::minutes(9);
    assert_eq!(judge(&[future]).newest.map(|(_, age)| age), Some(Duration::ZERO));
}

#[test]
fn an_accepted_collapse_is_fresh_and_other_jobs_are_ignored() {
    let mut backups = nightly(2..5);
    let mut small = RetainedBackup { contents: contents(1), accepted: true, ..backup(0) };
    backups.push(small.clone());
    assert!(judge(&backups).fresh);
    small.job = "other".into();
    backups.pop();
    backups.push(small);
    assert!(!judge(&backups).fresh);
}
