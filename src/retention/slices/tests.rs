use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::slice::ChainId;

const SET: &str = "0123456789abcdef01234567";
const OTHER: &str = "fedcba9876543210fedcba98";

fn now() -> DateTime<Utc> {
    "2026-11-23T04:00:00Z".parse().unwrap()
}

/// An optime this many hours ago.
fn ago(hours: i64) -> OpTime {
    OpTime { t: u32::try_from(now().timestamp() - hours * 3600).unwrap(), i: 1 }
}

fn id(hours: i64) -> BackupId {
    let at = now() - TimeDelta::hours(hours);
    format!("{}-aaaaaa", at.format("%Y%m%dT%H%M%SZ")).parse().unwrap()
}

/// The slices of a chain whose ends are these hours ago.
fn chain(set: &str, hours: &[i64]) -> Vec<RetainedSlice> {
    let chain = ChainId::new(set, ago(hours[0])).unwrap();
    let slice =
        |pair: &[i64]| RetainedSlice { chain: chain.clone(), start: ago(pair[0]), end: Some(ago(pair[1])) };
    hours.windows(2).map(slice).collect()
}

/// Bases of these hours ago, whose open transactions began an hour earlier.
fn oplog(slices: Vec<RetainedSlice>, bases: &[i64]) -> RetainedOplog {
    let base = |hours: &i64| (id(*hours), BaseInstant { from: ago(hours + 1), at: ago(*hours) });
    RetainedOplog { slices, bases: bases.iter().map(base).collect(), ..RetainedOplog::default() }
}

/// The starts, in hours ago, of the slices that are deleted.
fn deleted(oplog: &RetainedOplog, good: &[i64], days: u32) -> Vec<i64> {
    let ids: Vec<BackupId> = good.iter().map(|hours| id(*hours)).collect();
    let good: Vec<&BackupId> = ids.iter().collect();
    let gone = decide(oplog, &good, days, now()).into_iter().filter(|d| d.action == RetentionAction::Delete);
    gone.map(|decision| (now().timestamp() - i64::from(decision.slice.start.t)) / 3600).collect()
}

fn kept(oplog: &RetainedOplog, good: &[i64], days: u32) -> Vec<BackupId> {
    let ids: Vec<BackupId> = good.iter().map(|hours| id(*hours)).collect();
    let good: Vec<&BackupId> = ids.iter().collect();
    kept_bases(oplog, &good, days, now()).into_keys().cloned().collect()
}

#[test]
fn slices_go_when_they_are_older_than_the_range_and_than_its_base() {
    // Bases 60, 36 and 12 hours ago; the range begins 24 hours ago, so the one of 36 hours ago is its base.
    let all = oplog(chain(SET, &[61, 50, 38, 37, 30, 20, 10, 1]), &[60, 36, 12]);
    assert_eq!(deleted(&all, &[60, 36, 12], 1), [61, 50, 38]);
    assert_eq!(kept(&all, &[60, 36, 12], 1), [id(36), id(12)]);
    // Without it, the base before it is needed, and everything since.
    assert_eq!(deleted(&all, &[60, 12], 1), Vec::<i64>::new());
    assert_eq!(kept(&all, &[60, 12], 1), [id(60), id(12)]);
    // No base is old enough.
    assert_eq!(deleted(&all, &[12], 1), Vec::<i64>::new());
    assert_eq!(kept(&all, &[12], 1), [id(12)]);
}

#[test]
fn a_backup_that_the_slices_do_not_continue_replaces_no_earlier_base() {
    let mut all = oplog(chain(SET, &[61, 50, 38, 37, 30, 20, 10, 1]), &[60, 36, 12]);
    all.uncontinued = BTreeSet::from([id(36)]);
    assert_eq!(deleted(&all, &[60, 36, 12], 1), Vec::<i64>::new());
    assert_eq!(kept(&all, &[60, 36, 12], 1), [id(60), id(36), id(12)]);
}

#[test]
fn more_than_half_of_the_time_at_once_needs_force() {
    let doubts = |hours: &[i64], base: i64| {
        let (all, id) = (oplog(chain(SET, hours), &[base]), id(base));
        doubt(&decide(&all, &[&id], 1, now()))
    };
    // Four of nine hours, and five.
    assert_eq!(doubts(&[80, 79, 78, 77, 76, 71], 75), None);
    assert_eq!(
        doubts(&[80, 79, 78, 77, 76, 75, 71], 74).as_deref(),
        Some("the oplog slices of 5 h 0 min would go at once, of 9 h 0 min; if that is right, use --force")
    );
    // Three slices may always go.
    assert_eq!(doubts(&[80, 60, 50, 42, 40], 41), None);
}

#[test]
fn the_newest_slice_stays_at_any_age() {
    let old = oplog(chain(SET, &[500, 450, 400]), &[300]);
    assert_eq!(deleted(&old, &[300], 1), [500]);
    let ended = [chain(SET, &[500, 450, 400]), chain(OTHER, &[390, 380])].concat();
    assert_eq!(deleted(&oplog(ended, &[300]), &[300], 1), [500, 450]);
}

#[test]
fn a_slice_with_an_unknown_end_stays() {
    let mut slices = chain(SET, &[500, 450, 400, 1]);
    slices[1].end = None;
    assert_eq!(deleted(&oplog(slices, &[300]), &[300], 1), [500]);
}

#[test]
fn without_slices_no_backup_is_kept_for_them() {
    assert_eq!(kept(&oplog(Vec::new(), &[60, 36]), &[60, 36], 1), Vec::<BackupId>::new());
}

#[test]
fn each_decision_says_why() {
    let all = oplog(chain(SET, &[61, 50, 38, 30, 20, 1]), &[36]);
    let (id, none) = (id(36), Vec::new());
    let reasons = |good: &[&BackupId]| -> Vec<String> {
        decide(&all, good, 1, now()).into_iter().map(|decision| decision.reason).collect()
    };
    insta::assert_debug_snapshot!(reasons(&[&id]), @r#"
    [
        "older than 1 day, and before the backup 20261121T160000Z-aaaaaa",
        "older than 1 day, and before the backup 20261121T160000Z-aaaaaa",
        "a restore that begins at the backup 20261121T160000Z-aaaaaa needs it",
        "within 1 day",
        "the newest slice: the next run goes on after it",
    ]
    "#);
    assert_eq!(reasons(&none)[0], "no good backup is old enough to begin the range of 1 day");
}

/// Which of two selections a backup or a slice has.
type Selected<'a> = &'a dyn Fn(OpTime) -> bool;

/// Written independently of the plan: the hours ago to which a restore is possible. `of_slice` and `of_base` are the selections
/// by the start of a slice and the instant of a backup.
fn reachable(
    slices: &[RetainedSlice],
    bases: &[(BackupId, BaseInstant)],
    (of_slice, of_base): (Selected<'_>, Selected<'_>),
) -> BTreeSet<i64> {
    let reaches = |base: &BaseInstant, point: OpTime| {
        let mut chains: Vec<&ChainId> = slices.iter().map(|slice| &slice.chain).collect();
        chains.dedup();
        chains.into_iter().any(|chain| {
            let mut at = base.from;
            let mut of_chain: Vec<&RetainedSlice> =
                slices.iter().filter(|slice| slice.chain == *chain).collect();
            of_chain.sort_by_key(|slice| slice.start);
            for slice in of_chain {
                let end = slice.end.unwrap();
                let other = end > base.at && of_slice(slice.start) != of_base(base.at);
                if slice.start > at || other {
                    break;
                }
                at = at.max(end);
            }
            at >= point
        })
    };
    let possible = |hours: &i64| {
        let point = ago(*hours);
        bases.iter().any(|(_, base)| base.at <= point && reaches(base, point))
    };
    (0..400).filter(possible).collect()
}

proptest! {
    #[test]
    fn every_point_of_the_range_stays_reachable(
        cuts in prop::collection::btree_set(0..400_i64, 2..60),
        broken in prop::collection::vec(any::<bool>(), 60),
        bases in prop::collection::btree_set(0..400_i64, 0..12),
        changed in prop::option::of(0..400_i64),
        odd in prop::collection::vec(prop::bool::weighted(0.2), 12),
        bad in prop::collection::vec(prop::bool::weighted(0.2), 12),
        days in 1..12_u32,
    ) {
        // Chains of one set, with a new chain after each gap.
        let hours: Vec<i64> = cuts.into_iter().rev().collect();
        let mut slices: Vec<RetainedSlice> = Vec::new();
        let mut run: Vec<i64> = Vec::new();
        for (hour, ends) in hours.iter().zip(&broken) {
            run.push(*hour);
            if *ends {
                if run.len() > 1 {
                    slices.extend(chain(SET, &run));
                }
                run.clear();
            }
        }
        if run.len() > 1 {
            slices.extend(chain(SET, &run));
        }
        let all = oplog(slices, &bases.iter().copied().collect::<Vec<_>>());
        // The selection changes once, and some backups have the other one.
        let of_slice = |start: OpTime| changed.is_some_and(|hours| start >= ago(hours));
        let odd: BTreeSet<OpTime> =
            bases.iter().zip(&odd).filter(|(_, odd)| **odd).map(|(hours, _)| ago(*hours)).collect();
        let of_base = |at: OpTime| {
            let follows = all.slices.iter().find(|slice| slice.start <= at && slice.end.unwrap() > at);
            of_slice(follows.map_or(at, |slice| slice.start)) != odd.contains(&at)
        };
        let selected: (Selected<'_>, Selected<'_>) = (&of_slice, &of_base);
        let uncontinued = bases.iter().filter(|hours| {
            let at = ago(**hours);
            let follows = all.slices.iter().any(|slice| slice.start <= at && slice.end.unwrap() > at);
            follows && odd.contains(&at)
        });
        let uncontinued = uncontinued.map(|hours| id(*hours)).collect();
        let all = RetainedOplog { uncontinued, ..all.clone() };
        let good: Vec<i64> = bases.iter().zip(&bad).filter(|(_, bad)| !**bad).map(|(hours, _)| *hours).collect();
        let ids: Vec<BackupId> = good.iter().map(|hours| id(*hours)).collect();
        let good: Vec<&BackupId> = ids.iter().collect();

        let decisions = decide(&all, &good, days, now());
        let left: Vec<RetainedSlice> = decisions
            .iter()
            .filter(|decision| decision.action == RetentionAction::Keep)
            .map(|decision| decision.slice.clone())
            .collect();
        let kept = kept_bases(&all, &good, days, now());
        let with = |keep: &dyn Fn(&BackupId) -> bool| -> Vec<(BackupId, BaseInstant)> {
            let of = all.bases.iter().filter(|(id, _)| keep(id));
            of.map(|(id, base)| (id.clone(), *base)).collect()
        };
        // No other rule keeps a backup.
        let before = reachable(&all.slices, &with(&|id| good.contains(&id)), selected);
        let after = reachable(&left, &with(&|id| kept.contains_key(id)), selected);
        let promised: BTreeSet<i64> = before.into_iter().filter(|hours| *hours <= i64::from(days) * 24).collect();
        prop_assert!(promised.is_subset(&after), "{promised:?} {after:?}");
        prop_assert_eq!(left.last(), all.slices.last());
        // Nothing that is useless stays: an old slice before the base.
        if let Some((_, base)) = floor(&all, &super::bases(&all, &good), range_start(now(), days)) {
            let useless = |slice: &&RetainedSlice| {
                slice.end.is_some_and(|end| end <= base.from) && Some(*slice) != all.slices.last()
            };
            prop_assert_eq!(left.iter().filter(useless).count(), 0);
        }
    }
}
