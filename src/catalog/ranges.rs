//! The points in time that a job's backups and oplog slices can restore, and the obstacles between them.
//!
//! [`restorable`] is pure: backups and the slices of chains in, ranges with obstacles out.

use schemars::JsonSchema;
use serde::Serialize;

use super::chain::SliceEntry;
use super::reach::{ChainHistory, RangeBase, UnbrokenSlices, furthest};
use super::state::StoreState;
use crate::base::error::Result;
use crate::model::id::BackupId;
use crate::model::optime::OpTime;
use crate::model::slice::ChainId;
use crate::store::Store;

/// A time of which every point can be restored.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct RestorableRange {
    /// The first point: the instant of the first base.
    pub from: OpTime,
    /// The last point.
    pub to: OpTime,
    /// The backups that restores of these points begin with, oldest first.
    pub bases: Vec<BackupId>,
    /// The chains of oplog slices that these restores replay. Empty if the range is only the instant of a backup.
    pub chains: Vec<ChainId>,
}

/// A time of which no point can be restored.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct RestorableGap {
    /// The last point before it that can be restored, or the start of the oldest slice.
    pub from: OpTime,
    /// The first point after it that can be restored. `None` if the gap is open.
    pub to: Option<OpTime>,
    /// The reasons. Never empty.
    pub obstacles: Vec<RangeObstacle>,
    /// The backup that ended the gap.
    pub closed_by: Option<BackupId>,
    /// What would close the gap. `None` if nothing can.
    pub next_step: Option<String>,
}

/// A reason why points in time cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct RangeObstacle {
    pub kind: ObstacleKind,
    pub at: OpTime,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObstacleKind {
    /// A change that no restore can repeat.
    Barrier,
    /// Writes that were never stored.
    Gap,
    /// A slice that is missing or cannot be understood.
    Break,
    /// No good backup of one instant precedes the slices.
    NoBase,
}

impl ObstacleKind {
    pub fn word(self) -> &'static str {
        match self {
            ObstacleKind::Barrier => "barrier",
            ObstacleKind::Gap => "gap",
            ObstacleKind::Break => "break",
            ObstacleKind::NoBase => "no base",
        }
    }
}

/// The restorable points of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema, Serialize)]
pub struct Restorable {
    /// In order.
    pub ranges: Vec<RestorableRange>,
    /// In order, from the oldest slice on.
    pub gaps: Vec<RestorableGap>,
}

impl Restorable {
    /// Reads the points in time of a job; `None` if it has no oplog slices.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub async fn read(store: &dyn Store, state: &StoreState) -> Result<Option<Restorable>> {
        if state.slices.chains().next().is_none() {
            return Ok(None);
        }
        let chains = state.slice_reader(store).read_all().await?;
        Ok(Some(restorable(&RangeBase::all(state), &chains)))
    }

    /// The ranges of more than a single instant, which oplog slices make.
    pub fn continuous(&self) -> impl DoubleEndedIterator<Item = &RestorableRange> {
        self.ranges.iter().filter(|range| !range.chains.is_empty())
    }

    /// The gap after the last point that can be restored, if writes after it are known.
    pub fn open_gap(&self) -> Option<&RestorableGap> {
        self.gaps.last().filter(|gap| gap.to.is_none())
    }

    /// Returns true if the state directly before this entry can be restored.
    pub fn has_before(&self, entry: OpTime) -> bool {
        self.ranges.iter().any(|range| range.from < entry && entry.before() <= range.to)
    }
}

/// An obstacle, and the time between whose ends it lies.
struct Spanned(OpTime, OpTime, RangeObstacle);

fn obstacles(histories: &[ChainHistory<'_>]) -> Vec<Spanned> {
    let mut all = Vec::new();
    let mut add = |from, to, kind, why: &str| {
        all.push(Spanned(from, to, RangeObstacle { kind, at: from, why: why.into() }));
    };
    for history in histories {
        for one in &history.breaks {
            add(one.at, one.at, ObstacleKind::Break, &one.why);
        }
        for slice in history.parts.iter().flat_map(UnbrokenSlices::slices) {
            for barrier in &slice.barriers {
                add(barrier.at, barrier.at, ObstacleKind::Barrier, barrier.reason());
            }
            if let Some(gap) = &slice.gap {
                add(gap.from, slice.start.max(gap.from), ObstacleKind::Gap, &gap.why);
            }
        }
    }
    all.sort_by_key(|Spanned(from, ..)| *from);
    all
}

/// Finds the points in time that can be restored. `bases` are oldest first, and `chains` has the slices of each chain in order.
pub fn restorable(bases: &[RangeBase], chains: &[Vec<SliceEntry>]) -> Restorable {
    let histories: Vec<ChainHistory<'_>> = chains.iter().map(|entries| ChainHistory::of(entries)).collect();
    let obstacles = obstacles(&histories);
    let parts: Vec<UnbrokenSlices<'_>> = histories.into_iter().flat_map(|history| history.parts).collect();
    let bases: Vec<&RangeBase> = bases.iter().filter(|base| base.is_fit()).collect();
    let mut ranges: Vec<RestorableRange> = Vec::new();
    for base in &bases {
        let (to, chain) = match furthest(base, &parts) {
            Some((to, part)) => (to, Some(part.chain())),
            None => (base.instant, None),
        };
        match ranges.last_mut().filter(|range| base.instant <= range.to) {
            Some(range) => {
                range.to = range.to.max(to);
                range.bases.push(base.id.clone());
                range.chains.extend(chain.filter(|chain| !range.chains.contains(chain)).cloned());
            }
            None => ranges.push(RestorableRange {
                from: base.instant,
                to,
                bases: vec![base.id.clone()],
                chains: chain.into_iter().cloned().collect(),
            }),
        }
    }
    // A chain that begins at a backup begins shortly before its instant.
    let begins = bases.first().and_then(|base| base.begins);
    let gaps = gaps(&ranges, &parts, begins, &obstacles);
    Restorable { ranges, gaps }
}

fn gaps(
    ranges: &[RestorableRange],
    parts: &[UnbrokenSlices<'_>],
    begins: Option<OpTime>,
    obstacles: &[Spanned],
) -> Vec<RestorableGap> {
    let (Some(oldest), Some(newest)) =
        (parts.iter().map(UnbrokenSlices::start).min(), parts.iter().map(UnbrokenSlices::end).max())
    else {
        return Vec::new();
    };
    let mut gaps = Vec::new();
    let mut from = match (begins, ranges.first()) {
        (Some(begins), Some(first)) if begins <= oldest => first.from,
        _ => oldest,
    };
    for range in ranges {
        if range.from > from {
            gaps.push(gap(from, Some(range), obstacles));
        }
        from = from.max(range.to);
    }
    let unreadable_end = obstacles.iter().any(|Spanned(_, to, _)| *to >= from);
    if newest > from || unreadable_end {
        gaps.push(gap(from, None, obstacles));
    }
    gaps
}

fn gap(from: OpTime, next: Option<&RestorableRange>, obstacles: &[Spanned]) -> RestorableGap {
    let to = next.map(|range| range.from);
    let within =
        obstacles.iter().filter(|Spanned(first, last, _)| to.is_none_or(|to| *first <= to) && *last >= from);
    let mut obstacles: Vec<RangeObstacle> = within.map(|Spanned(_, _, obstacle)| obstacle.clone()).collect();
    if obstacles.is_empty() {
        let why = "no good backup of one instant, with the same selection, precedes these oplog slices";
        obstacles.push(RangeObstacle { kind: ObstacleKind::NoBase, at: from, why: why.into() });
    }
    let broken = obstacles.iter().any(|obstacle| obstacle.kind == ObstacleKind::Break);
    let back = "bring the missing slices back, from a copy or an old version of the objects";
    let next_step = match (next.is_some(), broken) {
        (true, true) => Some(format!("to close it, {back}")),
        (true, false) => None,
        (false, broken) => {
            let or = if broken { format!("; or {back}") } else { String::new() };
            Some(format!(
                "make a new backup now (`uzima-backup backup`): later points can be restored from it{or}"
            ))
        }
    };
    RestorableGap {
        from,
        to,
        obstacles,
        closed_by: next.and_then(|range| range.bases.first().cloned()),
        next_step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::reach::tests::{at, base, entries, slices};
    use crate::model::slice::Barrier;
    use crate::model::slice::OplogGap;

    type ShownGap = (u32, Option<u32>, Vec<ObstacleKind>);

    /// The ends of the ranges, and those of the gaps with the kinds of their obstacles.
    fn seconds(found: &Restorable) -> (Vec<(u32, u32)>, Vec<ShownGap>) {
        let ranges = found.ranges.iter().map(|range| (range.from.t, range.to.t)).collect();
        let kinds = |gap: &RestorableGap| gap.obstacles.iter().map(|obstacle| obstacle.kind).collect();
        let gaps = found.gaps.iter().map(|gap| (gap.from.t, gap.to.map(|to| to.t), kinds(gap))).collect();
        (ranges, gaps)
    }

    #[test]
    fn several_bases_on_one_chain_are_one_range() {
        let found = restorable(&[base(1, 105), base(2, 125)], &[entries(slices(100, 150))]);
        assert_eq!(seconds(&found), (vec![(105, 150)], vec![(100, Some(105), vec![ObstacleKind::NoBase])]));
        assert_eq!(found.ranges[0].bases, [base(1, 0).id, base(2, 0).id]);
        assert_eq!(found.ranges[0].chains.len(), 1);
        let whole = RangeBase { begins: Some(at(100)), ..base(1, 105) };
        assert_eq!(seconds(&restorable(&[whole], &[entries(slices(100, 150))])), (vec![(105, 150)], vec![]));
        for (entry, can) in
            [(at(105), false), (at(106), true), (at(150), true), (at(150).after(), true), (at(151), false)]
        {
            assert_eq!(found.has_before(entry), can, "{entry}");
        }
    }

    #[test]
    fn a_barrier_ends_a_range_until_the_next_base() {
        let mut all = slices(100, 150);
        all[2].barriers = vec![Barrier { at: at(127), why: "it was imported".into() }];
        let chains = [entries(all)];
        let open = restorable(&[base(1, 100)], &chains);
        assert_eq!(seconds(&open), (vec![(100, 127)], vec![(127, None, vec![ObstacleKind::Barrier])]));
        assert_eq!(open.ranges[0].to, at(127).before());
        assert!(open.gaps[0].next_step.as_ref().unwrap().contains("make a new backup now"));
        let closed = restorable(&[base(1, 100), base(2, 135)], &chains);
        let gap = (127, Some(135), vec![ObstacleKind::Barrier]);
        assert_eq!(seconds(&closed), (vec![(100, 127), (135, 150)], vec![gap]));
        assert_eq!((&closed.gaps[0].closed_by, &closed.gaps[0].next_step), (&Some(base(2, 0).id), &None));
    }

    #[test]
    fn a_missing_and_an_unreadable_slice_are_breaks() {
        let mut missing = slices(100, 150);
        missing.remove(2);
        let found = restorable(&[base(1, 100), base(2, 135)], &[entries(missing)]);
        assert_eq!(
            seconds(&found),
            (vec![(100, 120), (135, 150)], vec![(120, Some(135), vec![ObstacleKind::Break])])
        );
        assert!(found.gaps[0].next_step.as_ref().unwrap().contains("bring the missing slices back"));
        let mut last = entries(slices(100, 150));
        last[4] = SliceEntry::Unreadable { key: "k".into(), start: at(140), why: "it is not JSON".into() };
        let found = restorable(&[base(1, 100)], &[last]);
        assert_eq!(seconds(&found), (vec![(100, 140)], vec![(140, None, vec![ObstacleKind::Break])]));
    }

    #[test]
    fn a_gap_between_chains_has_the_reason_of_the_later_chain() {
        let mut later = slices(130, 150);
        let chain = ChainId::new(&later[0].chain.set_id, at(130)).unwrap();
        later.iter_mut().for_each(|slice| slice.chain = chain.clone());
        later[0].after = None;
        later[0].gap = Some(OplogGap { from: at(120), why: "the oplog overflowed".into() });
        let found =
            restorable(&[base(1, 100), base(2, 135)], &[entries(slices(100, 120)), entries(later.clone())]);
        assert_eq!(
            seconds(&found),
            (vec![(100, 120), (135, 150)], vec![(120, Some(135), vec![ObstacleKind::Gap])])
        );
        assert_eq!(found.gaps[0].obstacles[0].why, "the oplog overflowed");
        let open = restorable(&[base(1, 100)], &[entries(slices(100, 120)), entries(later)]);
        assert_eq!(seconds(&open).1, [(120, None, vec![ObstacleKind::Gap])]);
    }

    #[test]
    fn other_selections_and_sets_and_lone_backups_reach_nothing() {
        let mut other = base(1, 105);
        other.selection.asked.as_mut().unwrap().databases = vec!["other".into()];
        let foreign = RangeBase { set_id: Some("0000000000000000000000ff".into()), ..base(2, 115) };
        let old = RangeBase { needs: None, ..base(3, 125) };
        let found = restorable(&[other, foreign, old], &[entries(slices(100, 150))]);
        assert_eq!(seconds(&found).0, [(105, 105), (115, 115), (125, 125)]);
        assert!(found.ranges.iter().skip(1).all(|range| range.chains.is_empty()));
        assert_eq!(found.gaps.last().unwrap().obstacles[0].kind, ObstacleKind::NoBase);
        let unfit = RangeBase { unfit: Some("it is damaged".into()), ..base(1, 105) };
        let none = restorable(&[unfit, base(1, 105), base(2, 200)], &[]);
        assert_eq!(seconds(&none), (vec![(105, 105), (200, 200)], vec![]));
    }
}
