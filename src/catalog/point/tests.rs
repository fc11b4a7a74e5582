use super::*;
use crate::base::exit::Exit;
use crate::catalog::reach::tests::{at, base, entries, slices};
use crate::model::slice::Barrier;
use crate::model::slice::{ChainId, OplogGap};

fn second(t: u32) -> WantedPoint {
    WantedPoint::Second(at(t).date())
}

fn of_chains(bases: Vec<RangeBase>, chains: Vec<Vec<SliceEntry>>) -> Stored<'static> {
    Stored::new(bases, Box::leak(chains.into_boxed_slice()))
}

fn stored(bases: Vec<RangeBase>, all: Vec<SliceManifest>) -> Stored<'static> {
    of_chains(bases, vec![entries(all)])
}

/// The instant of the base and the times of the slices.
fn chosen(stored: &Stored<'_>, point: WantedPoint) -> (BackupId, Vec<(u32, u32)>, OpTime) {
    let chosen = stored.choose(point).unwrap();
    let chain = chosen.chain.expect("slices");
    let times = chain.slices.iter().map(|slice| (slice.start.t, slice.end.at.t)).collect();
    (chosen.base, times, chain.last)
}

fn refused(stored: &Stored<'_>, point: WantedPoint) -> (String, String) {
    ends(stored, point, Exit::Usage)
}

fn ends(stored: &Stored<'_>, point: WantedPoint, exit: Exit) -> (String, String) {
    let error = stored.choose(point).unwrap_err();
    assert_eq!(error.exit(), exit, "{error}");
    (error.to_string(), error.next_step().unwrap_or_default().to_string())
}

#[test]
fn the_newest_base_before_the_point_is_chosen_with_the_slices_between() {
    let (old, new) = (base(1, 105), base(2, 125));
    let stored = stored(vec![old.clone(), new.clone()], slices(100, 150));
    let all = OpTime { t: 124, i: u32::MAX };
    assert_eq!(chosen(&stored, second(124)), (old.id, vec![(100, 110), (110, 120), (120, 130)], all));
    let entry = WantedPoint::Entry(at(140));
    assert_eq!(chosen(&stored, entry), (new.id.clone(), vec![(120, 130), (130, 140)], at(140)));
    let before = WantedPoint::Before(at(141));
    assert_eq!(
        chosen(&stored, before),
        (new.id.clone(), vec![(120, 130), (130, 140), (140, 150)], at(141).before())
    );
    let newest = chosen(&stored, WantedPoint::Newest);
    assert_eq!(newest, (new.id, vec![(120, 130), (130, 140), (140, 150)], at(150)));
}

#[test]
fn a_snapshot_needs_the_slices_from_its_oldest_transaction_on() {
    let snapshot = RangeBase { needs: Some(at(115)), ..base(1, 125) };
    let stored = stored(vec![snapshot.clone()], slices(100, 150));
    assert_eq!(chosen(&stored, second(131)).1, [(110, 120), (120, 130), (130, 140)]);
    let late = self::stored(vec![snapshot], slices(120, 150));
    assert!(refused(&late, second(131)).0.contains("are in no oplog slice"));
}

#[test]
fn the_instant_of_a_backup_needs_no_slices() {
    let own = base(1, 105);
    for slices in [vec![], slices(100, 110), slices(110, 150)] {
        let stored = stored(vec![own.clone()], slices);
        for point in [WantedPoint::Entry(at(105)), WantedPoint::Before(at(105).after())] {
            assert_eq!(stored.choose(point).unwrap().chain, None);
        }
    }
    let alone = stored(vec![own.clone()], vec![]);
    assert_eq!(alone.choose(second(105)).unwrap().chain, None);
    assert_eq!(alone.choose(WantedPoint::Newest).unwrap().chain, None);
    let whole = stored(vec![own], slices(100, 150));
    assert!(whole.choose(second(105)).unwrap().chain.is_some(), "the rest of the second is replayed");
}

#[test]
fn a_second_must_lie_before_the_end_of_the_slices() {
    let stored = stored(vec![base(1, 105)], slices(100, 150));
    assert!(stored.choose(second(149)).is_ok());
    let (why, step) = refused(&stored, second(150));
    assert!(why.contains("the oplog slices end at 150:1"), "{why}");
    assert!(step.contains("--at 150:1 "), "{step}");
    assert!(stored.choose(WantedPoint::Entry(at(150))).is_ok());
    assert!(stored.choose(WantedPoint::Entry(at(150).after())).is_err());
}

#[test]
fn a_point_before_the_oldest_base_is_refused() {
    let stored = stored(vec![base(1, 125)], slices(100, 150));
    let (why, step) = refused(&stored, second(110));
    assert!(why.contains("before the oldest base, 20261123T030001Z-7k3q9d"), "{why}");
    assert!(step.contains("--at 125:1 "), "{step}");
}

#[test]
fn a_barrier_ends_the_points_of_older_bases() {
    let mut all = slices(100, 150);
    all[2].barriers = vec![Barrier { at: at(127), why: "it was imported".into() }];
    let (old, new) = (base(1, 105), base(2, 135));
    let stored = stored(vec![old.clone(), new.clone()], all);
    assert_eq!(chosen(&stored, second(126)).0, old.id);
    assert_eq!(chosen(&stored, second(140)).0, new.id);
    let (why, step) = refused(&stored, second(130));
    assert!(why.contains("no restore can go past 127:1") && why.contains("it was imported"), "{why}");
    assert!(step.contains("--at 127:0 ") && step.contains("--at 135:1 "), "{step}");
    assert_eq!(chosen(&stored, WantedPoint::Before(at(127))).0, old.id);
}

fn unreadable(start: u32) -> SliceEntry {
    SliceEntry::Unreadable { key: "k/slice.json".into(), start: at(start), why: "no JSON".into() }
}

#[test]
fn a_missing_or_unreadable_slice_is_damage() {
    let mut missing = slices(100, 150);
    missing.remove(2);
    let stored = stored(vec![base(1, 105), base(2, 135)], missing);
    for t in [125, 131] {
        let (why, step) = ends(&stored, second(t), Exit::Mismatch);
        assert!(why.contains("are in no oplog slice, because the slices between"), "{why}");
        assert!(step.contains("--at 120:1 ") && step.contains("--at 135:1 "), "{step}");
    }
    assert_eq!(chosen(&stored, second(141)).1, [(130, 140), (140, 150)]);
    let mut damaged = entries(slices(100, 150));
    damaged[2] = unreadable(120);
    let stored = of_chains(vec![base(1, 105), base(2, 125)], vec![damaged]);
    for t in [123, 127, 141] {
        let (why, step) = ends(&stored, second(t), Exit::Mismatch);
        assert!(why.contains("k/slice.json cannot be understood: no JSON"), "{t}: {why}");
        assert!(step.contains("Put a copy of the object back"), "{step}");
    }
}

#[test]
fn nothing_newer_than_an_unreadable_newest_slice_is_known() {
    let mut damaged = entries(slices(100, 120));
    damaged.push(unreadable(120));
    for bases in [vec![base(1, 105)], vec![base(1, 105), base(2, 125)]] {
        let stored = of_chains(bases, vec![damaged.clone()]);
        for point in [WantedPoint::Newest, second(127), WantedPoint::Entry(at(128))] {
            let (why, step) = ends(&stored, point, Exit::Mismatch);
            assert!(why.contains("k/slice.json cannot be understood: no JSON"), "{why}");
            assert!(step.contains("nearest point"), "{step}");
        }
        assert!(stored.choose(second(119)).is_ok());
    }
    // A newer chain began after it.
    let of = ChainId::new(&slices(130, 140)[0].chain.set_id, at(130)).unwrap();
    let mut later: Vec<SliceManifest> = slices(130, 150);
    later.iter_mut().for_each(|slice| slice.chain = of.clone());
    later[0].after = None;
    let stored = of_chains(vec![base(1, 105), base(2, 135)], vec![damaged, entries(later)]);
    assert_eq!(chosen(&stored, WantedPoint::Newest).1, [(130, 140), (140, 150)]);
}

#[test]
fn a_gap_between_chains_is_named_with_its_reason() {
    let of = ChainId::new(&slices(130, 140)[0].chain.set_id, at(130)).unwrap();
    let mut later: Vec<SliceManifest> = slices(130, 150);
    later.iter_mut().for_each(|slice| slice.chain = of.clone());
    later[0].after = None;
    later[0].gap = Some(OplogGap { from: at(120), why: "the oplog was too short".into() });
    let stored = of_chains(vec![base(1, 105)], vec![entries(slices(100, 120)), entries(later)]);
    for t in [125, 141] {
        let (why, _) = refused(&stored, second(t));
        assert!(why.contains("because the oplog was too short"), "{t}: {why}");
    }
    assert!(stored.choose(second(119)).is_ok());
}

#[test]
fn unfit_backups_and_other_sets_and_selections_are_no_bases() {
    let (good, mut bad) = (base(1, 105), base(2, 125));
    bad.unfit = Some("it is damaged".into());
    let with_bad = stored(vec![good.clone(), bad.clone()], slices(100, 150));
    let choice = with_bad.choose(second(141)).unwrap();
    assert_eq!((choice.base, choice.skipped[0].reason.as_str()), (good.id.clone(), "it is damaged"));
    assert!(refused(&stored(vec![bad], slices(100, 150)), second(141)).0.contains("it is damaged"));
    let other = RangeBase { set_id: Some("0".repeat(24)), ..base(2, 125) };
    assert_eq!(chosen(&stored(vec![good.clone(), other], slices(100, 150)), second(141)).0, good.id);
    let old = RangeBase { needs: None, ..base(2, 125) };
    assert!(refused(&stored(vec![old], slices(100, 150)), second(141)).0.contains("before 0.2.0"));
    let mut changed = slices(100, 150);
    for slice in &mut changed[3..] {
        slice.selection.exclude = vec!["shop.tmp".into()];
    }
    let (why, step) = refused(&stored(vec![good], changed), second(141));
    assert!(why.contains("have another selection than the backup"), "{why}");
    assert!(step.contains("--at 130:1 "), "{step}");
}

#[test]
fn without_any_base_nothing_can_be_restored() {
    let none = stored(vec![], vec![]);
    assert!(refused(&none, WantedPoint::Newest).0.contains("no backup of one instant"));
    let (why, _) = refused(&stored(vec![], slices(100, 150)), second(141));
    assert!(why.contains("no backup of one instant"), "{why}");
}
