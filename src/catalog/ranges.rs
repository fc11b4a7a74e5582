//! The points in time that a job's backups and oplog slices can restore, and the obstacles between them.
//!
//! [`restorable`] is pure: backups and the slices of chains in, ranges with obstacles out.

use schemars::JsonSchema;
use serde::Serialize;

use super::Summary;
use super::chain::{ChainHistory, SliceEntry};
use super::state::StoreState;
use crate::model::id::BackupId;
use crate::model::manifest::SelectionAsked;
use crate::model::optime::OpTime;
use crate::model::slice::{Barrier, ChainId, SliceManifest};

/// A good backup of one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeBase {
    pub id: BackupId,
    pub instant: OpTime,
    /// A chain must have every entry after this optime. `None` if no chain can continue the backup.
    pub needs: Option<OpTime>,
    /// Where a chain begins that continues the backup.
    pub begins: Option<OpTime>,
    pub set_id: Option<String>,
    pub selection: SelectionAsked,
}

impl RangeBase {
    /// Returns `None` if the data of the backup is of no instant.
    fn of(manifest: &Summary) -> Option<RangeBase> {
        let consistency = &manifest.consistency;
        let instant = consistency.at?;
        // A backup with an oplog slice of its own has the transactions that were open at its instant.
        let needs = consistency.base.as_ref().map(|base| match consistency.oplog {
            Some(_) => instant,
            None => base.from.min(instant),
        });
        Some(RangeBase {
            id: manifest.id.clone(),
            instant,
            needs,
            begins: consistency.base.as_ref().map(|base| base.from),
            set_id: manifest.source.set_id.clone(),
            selection: manifest.selection.clone(),
        })
    }

    /// The good backups of a job that are of one instant.
    pub fn all(state: &StoreState) -> Vec<RangeBase> {
        let backups = state.backups();
        let good = |manifest: &&Summary| {
            let backup = backups.iter().find(|backup| backup.id == manifest.id);
            !manifest.partial && backup.is_some_and(|backup| backup.unsound.is_none())
        };
        state.manifests().filter(good).filter_map(RangeBase::of).collect()
    }
}

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
    /// Returns true if the state directly before this entry can be restored.
    pub fn has_before(&self, entry: OpTime) -> bool {
        self.ranges.iter().any(|range| range.from < entry && entry.before() <= range.to)
    }
}

/// Slices of a chain without a break between them.
struct ChainPart<'a> {
    slices: Vec<&'a SliceManifest>,
}

impl ChainPart<'_> {
    fn chain(&self) -> &ChainId {
        &self.slices[0].chain
    }

    fn start(&self) -> OpTime {
        self.slices[0].start
    }

    fn end(&self) -> OpTime {
        self.slices[self.slices.len() - 1].end.at
    }

    /// The last point that can be restored with these slices. `None` if they do not continue the base.
    fn reach(&self, base: &RangeBase) -> Option<OpTime> {
        let same = base.set_id.as_ref() == Some(&self.chain().set_id);
        if !same || base.needs.is_none_or(|needs| self.start() > needs) || self.end() <= base.instant {
            return None;
        }
        let later = || self.slices.iter().filter(|slice| slice.end.at > base.instant);
        let barriers = later().flat_map(|slice| &slice.barriers).map(|barrier| barrier.at);
        let barrier = barriers.filter(|at| *at > base.instant).min().map(OpTime::before);
        let other = later().find(|slice| slice.selection != base.selection).map(|slice| slice.start);
        let reach = [Some(self.end()), barrier, other].into_iter().flatten().min();
        reach.map(|reach| reach.max(base.instant))
    }
}

/// Divides the slices of a chain into parts without a break.
fn parts(entries: &[SliceEntry]) -> Vec<ChainPart<'_>> {
    let (mut parts, mut before): (Vec<ChainPart<'_>>, Option<&SliceManifest>) = (Vec::new(), None);
    for entry in entries {
        let SliceEntry::Slice(slice) = entry else {
            before = None;
            continue;
        };
        match parts.last_mut().filter(|_| before.is_some_and(|before| slice.continues(before))) {
            Some(part) => part.slices.push(slice),
            None => parts.push(ChainPart { slices: vec![slice] }),
        }
        before = Some(slice);
    }
    parts
}

/// An obstacle, and the time between whose ends it lies.
struct Spanned(OpTime, OpTime, RangeObstacle);

fn obstacles(chains: &[Vec<SliceEntry>]) -> Vec<Spanned> {
    let mut all = Vec::new();
    let mut add = |from, to, kind, why: String| {
        all.push(Spanned(from, to, RangeObstacle { kind, at: from, why }));
    };
    for entries in chains {
        for one in ChainHistory::of(entries).breaks {
            add(one.at, one.at, ObstacleKind::Break, one.why);
        }
        for entry in entries {
            let SliceEntry::Slice(slice) = entry else { continue };
            for Barrier { at, why } in &slice.barriers {
                add(*at, *at, ObstacleKind::Barrier, why.clone());
            }
            if let Some(gap) = &slice.gap {
                add(gap.from, slice.start.max(gap.from), ObstacleKind::Gap, gap.why.clone());
            }
        }
    }
    all.sort_by_key(|Spanned(from, ..)| *from);
    all
}

/// Finds the points in time that can be restored. `chains` has the slices of each chain in order.
pub fn restorable(bases: &[RangeBase], chains: &[Vec<SliceEntry>]) -> Restorable {
    let parts: Vec<ChainPart<'_>> = chains.iter().flat_map(|entries| parts(entries)).collect();
    let mut bases: Vec<&RangeBase> = bases.iter().collect();
    bases.sort_by_key(|base| (base.instant, &base.id));
    let mut ranges: Vec<RestorableRange> = Vec::new();
    for base in &bases {
        let reached = parts.iter().filter_map(|part| Some((part.reach(base)?, part.chain())));
        let (to, chain) = match reached.max() {
            Some((to, chain)) => (to, Some(chain)),
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
    let gaps = gaps(&ranges, &parts, begins, &obstacles(chains));
    Restorable { ranges, gaps }
}

fn gaps(
    ranges: &[RestorableRange],
    parts: &[ChainPart<'_>],
    begins: Option<OpTime>,
    obstacles: &[Spanned],
) -> Vec<RestorableGap> {
    let (Some(oldest), Some(newest)) =
        (parts.iter().map(ChainPart::start).min(), parts.iter().map(ChainPart::end).max())
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
    use crate::model::slice::OplogGap;
    use crate::model::slice::tests::slice;

    fn at(t: u32) -> OpTime {
        OpTime { t, i: 1 }
    }

    fn base(n: u32, instant: u32) -> RangeBase {
        let slice = slice(100, 110);
        RangeBase {
            id: format!("20261123T03000{n}Z-7k3q9d").parse().unwrap(),
            instant: at(instant),
            needs: Some(at(instant)),
            begins: Some(at(instant)),
            set_id: Some(slice.chain.set_id.clone()),
            selection: slice.selection,
        }
    }

    fn entries(slices: Vec<SliceManifest>) -> Vec<SliceEntry> {
        slices.into_iter().map(|slice| SliceEntry::Slice(Box::new(slice))).collect()
    }

    /// Slices of ten seconds each.
    fn slices(from: u32, to: u32) -> Vec<SliceManifest> {
        (from..to).step_by(10).map(|t| slice(t, t + 10)).collect()
    }

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
        let found = restorable(&[base(2, 125), base(1, 105)], &[entries(slices(100, 150))]);
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
        other.selection.databases = vec!["other".into()];
        let foreign = RangeBase { set_id: Some("0000000000000000000000ff".into()), ..base(2, 115) };
        let old = RangeBase { needs: None, ..base(3, 125) };
        let found = restorable(&[other, foreign, old], &[entries(slices(100, 150))]);
        assert_eq!(seconds(&found).0, [(105, 105), (115, 115), (125, 125)]);
        assert!(found.ranges.iter().skip(1).all(|range| range.chains.is_empty()));
        assert_eq!(found.gaps.last().unwrap().obstacles[0].kind, ObstacleKind::NoBase);
        let none = restorable(&[base(1, 105), base(2, 200)], &[]);
        assert_eq!(seconds(&none), (vec![(105, 105), (200, 200)], vec![]));
    }
}
