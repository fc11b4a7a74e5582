use proptest::prelude::*;

use super::super::tests::{JOB, backup, contents, context, now};
use super::*;
use crate::catalog::marks::Pin;
use crate::catalog::state::BaseInstant;
use crate::model::optime::OpTime;
use crate::model::slice::ChainId;

/// A backup of two places.
#[derive(Debug, Clone)]
struct TwoPlaces {
    documents: u64,
    of_other_job: bool,
    accepted: bool,
    partial: bool,
    /// The target deleted it before.
    deleted: bool,
    own: Option<Held>,
    source: Option<Held>,
}

/// The marks and faults of a backup in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Sound,
    Pinned,
    Unsound,
    Untrusted,
}

fn held() -> impl Strategy<Value = Option<Held>> {
    prop_oneof![
        5 => Just(Some(Held::Sound)),
        1 => Just(Some(Held::Pinned)),
        1 => Just(Some(Held::Unsound)),
        1 => Just(Some(Held::Untrusted)),
        4 => Just(None),
    ]
}

fn rarely() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.1)
}

fn two_places() -> impl Strategy<Value = TwoPlaces> {
    let documents = prop_oneof![4 => Just(1000_u64), 1 => 300..2000_u64];
    (documents, rarely(), rarely(), rarely(), rarely(), held(), held()).prop_map(
        |(documents, of_other_job, accepted, partial, deleted, own, source)| TwoPlaces {
            documents,
            of_other_job,
            accepted,
            partial,
            deleted,
            own,
            source,
        },
    )
}

fn policy() -> impl Strategy<Value = Policy> {
    let some = || prop_oneof![2 => Just(0), 1 => 0..5_usize];
    (1..60_u32, 1..4_usize, some(), some(), some(), some(), some()).prop_map(
        |(days, min, last, daily, weekly, monthly, yearly)| Policy {
            days,
            min,
            last,
            daily,
            weekly,
            monthly,
            yearly,
        },
    )
}

/// The backup of a night, as it is in a place.
fn at(night: usize, two: &TwoPlaces, held: Held) -> RetainedBackup {
    RetainedBackup {
        job: if two.of_other_job { "all@db2".into() } else { JOB.into() },
        contents: contents(two.documents),
        accepted: two.accepted,
        partial: two.partial.then(|| "the database a".into()),
        pinned: (held == Held::Pinned).then(Pin::default),
        unsound: (held == Held::Unsound).then(|| "verify failed".into()),
        untrusted: (held == Held::Untrusted).then(|| "it is not signed".into()),
        ..backup(night as i64)
    }
}

fn stock(nights: &[TwoPlaces], held: impl Fn(&TwoPlaces) -> Option<Held>) -> PlaceStock {
    let backups = nights.iter().enumerate().filter_map(|(n, two)| held(two).map(|held| at(n, two, held)));
    PlaceStock { backups: backups.collect(), ..PlaceStock::default() }
}

/// Adds the offered backups and slices to a place, as `copy` does.
fn add(target: &mut PlaceStock, source: &PlaceStock, offered: &Lacking) {
    for offer in &offered.backups {
        let copied = source.backups.iter().find(|backup| backup.id == offer.id).expect("the source has it");
        let own = target.backups.iter().position(|backup| backup.id == offer.id);
        assert_eq!(own.is_some(), offer.damaged);
        let old = own.map(|at| target.backups.remove(at));
        let pinned = old.and_then(|old| old.pinned).or(copied.pinned.clone());
        target.backups.push(RetainedBackup { pinned, ..copied.clone() });
    }
    target.oplog.slices.extend(offered.slices.iter().cloned());
    target.oplog.slices.sort_by(|a, b| (&a.chain, a.start).cmp(&(&b.chain, b.start)));
    for backup in &target.backups {
        if let Some(base) = source.oplog.bases.get(&backup.id) {
            target.oplog.bases.insert(backup.id.clone(), *base);
        }
    }
}

fn deletions(target: &PlaceStock, policy: &Policy) -> BTreeSet<BackupId> {
    let context = PlanContext { oplog: target.oplog.clone(), force: true, ..context() };
    let plan = plan(&target.backups, policy, &context);
    let gone = plan.decisions.into_iter().filter(|decision| decision.action == RetentionAction::Delete);
    gone.map(|decision| decision.id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_place_is_offered_what_it_keeps_and_nothing_twice(
        nights in prop::collection::vec(two_places(), 0..80),
        policy in policy(),
    ) {
        let mut target = stock(&nights, |two| two.own);
        let source = stock(&nights, |two| two.source);
        let deleted: BTreeSet<BackupId> = nights
            .iter()
            .enumerate()
            .filter(|(_, two)| two.deleted)
            .map(|(n, _)| backup(n as i64).id)
            .collect();
        let offered = lacking(&target, &source, &deleted, &policy, &context());
        let mut seen = BTreeSet::new();
        for offer in &offered.backups {
            prop_assert!(seen.insert(&offer.id), "{} twice", offer.id);
            let copied = source.backups.iter().find(|backup| backup.id == offer.id).unwrap();
            prop_assert_eq!(&copied.job, JOB);
            prop_assert!(copied.unsound.is_none() && copied.untrusted.is_none());
            match target.backups.iter().find(|backup| backup.id == offer.id) {
                // A damaged backup is replaced, an untrusted one is left to a person.
                Some(own) => prop_assert!(offer.damaged && own.unsound.is_some() && own.untrusted.is_none()),
                None => prop_assert!(!offer.damaged && !deleted.contains(&offer.id)),
            }
        }
        prop_assert!(offered.backups.is_sorted_by(|a, b| a.id > b.id), "newest first");
        add(&mut target, &source, &offered);
        let gone = deletions(&target, &policy);
        for offer in &offered.backups {
            prop_assert!(!gone.contains(&offer.id), "a cleanup deletes {} at once", offer.id);
        }
        prop_assert_eq!(lacking(&target, &source, &deleted, &policy, &context()), Lacking::default());
    }

    /// Slices of one chain, an hour each. Both places lack some of them and some bases.
    #[test]
    fn a_place_is_offered_the_slices_that_it_keeps(
        hours in prop::collection::vec((any::<bool>(), any::<bool>()), 1..200),
        nights in prop::collection::vec((any::<bool>(), any::<bool>()), 1..9),
        days in 1..9_u32,
        policy in policy(),
    ) {
        let count = hours.len() as i64;
        let ago = |hours: i64| OpTime { t: u32::try_from(now().timestamp() - hours * 3600).unwrap(), i: 1 };
        let chain = ChainId::new("0123456789abcdef01234567", ago(count)).unwrap();
        let slice = |hour: i64| RetainedSlice { chain: chain.clone(), start: ago(hour + 1), end: Some(ago(hour)) };
        let mut places = [PlaceStock::default(), PlaceStock::default()];
        for (night, held) in nights.iter().enumerate() {
            let made = backup(night as i64);
            let hour = (now() - made.started).num_hours();
            let base = BaseInstant { from: ago(hour), at: ago(hour) };
            for (place, _) in places.iter_mut().zip([held.0, held.1]).filter(|(_, held)| *held) {
                if hour <= count {
                    place.oplog.bases.insert(made.id.clone(), base);
                }
                place.backups.push(made.clone());
            }
        }
        for (hour, held) in hours.iter().enumerate().rev() {
            for (place, _) in places.iter_mut().zip([held.0, held.1]).filter(|(_, held)| *held) {
                place.oplog.slices.push(slice(hour as i64));
            }
        }
        let [mut target, source] = places;
        let context = PlanContext { oplog_days: days, ..context() };
        let offered = lacking(&target, &source, &BTreeSet::new(), &policy, &context);
        for slice in &offered.slices {
            prop_assert!(source.oplog.slices.contains(slice) && !target.oplog.slices.contains(slice));
        }
        prop_assert!(offered.slices.is_sorted_by_key(|slice| slice.start));
        add(&mut target, &source, &offered);
        let after = PlanContext { oplog: target.oplog.clone(), force: true, ..context.clone() };
        let plan = plan(&target.backups, &policy, &after);
        for decision in plan.slices.iter().filter(|decision| decision.action == RetentionAction::Delete) {
            prop_assert!(!offered.slices.contains(&decision.slice), "{:?} goes at once", decision.slice);
        }
        let again = lacking(&target, &source, &BTreeSet::new(), &policy, &context);
        prop_assert_eq!(again, Lacking::default());
    }
}

/// The backup in the middle is not copied. Without it, the newest one has lost most of the documents of the oldest.
#[test]
fn a_backup_is_not_offered_if_it_is_good_only_beside_one_that_stays_away() {
    let old = RetainedBackup { contents: contents(1000), pinned: Some(Pin::default()), ..backup(90) };
    let middle = RetainedBackup { contents: contents(600), ..backup(80) };
    let last = RetainedBackup { contents: contents(350), ..backup(70) };
    let policy = Policy { days: 30, min: 1, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
    let target = PlaceStock { backups: vec![old], ..PlaceStock::default() };
    let source = PlaceStock { backups: vec![middle, last], ..PlaceStock::default() };
    let offered = lacking(&target, &source, &BTreeSet::new(), &policy, &context());
    assert_eq!(offered, Lacking::default());
}

#[test]
fn a_damaged_backup_is_replaced_while_its_pin_keeps_it() {
    let damaged =
        RetainedBackup { pinned: Some(Pin::default()), unsound: Some("verify failed".into()), ..backup(90) };
    let policy = Policy { days: 30, min: 1, last: 0, daily: 0, weekly: 0, monthly: 0, yearly: 0 };
    let target = PlaceStock { backups: vec![damaged, backup(1)], ..PlaceStock::default() };
    let source = PlaceStock { backups: vec![backup(90)], ..PlaceStock::default() };
    let offered = lacking(&target, &source, &BTreeSet::new(), &policy, &context());
    assert_eq!(offered.backups, [LackingBackup { id: backup(90).id, damaged: true }]);
}
