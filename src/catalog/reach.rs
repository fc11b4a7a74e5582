//! How far restores reach: the backups of one instant, and the oplog slices that continue them without a break.
//!
//! A backup is the base of a point in time if its instant is not later, and unbroken slices have every write from its instant
//! to the point, without a barrier between them. [`super::point`] chooses the base and the slices of one point, and
//! [`super::ranges`] shows all points.

use std::collections::BTreeMap;

use super::Summary;
use super::chain::SliceEntry;
use super::fault::BackupFault;
use super::state::StoreState;
use crate::model::id::BackupId;
use crate::model::optime::OpTime;
use crate::model::selection::KnownSelection;
use crate::model::slice::{Barrier, ChainId, OplogGap, SliceManifest};

/// A backup of one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeBase {
    pub id: BackupId,
    pub instant: OpTime,
    /// A chain must have every entry after this optime: the backup's instant, or the beginning of the transactions that were
    /// open then. `None` if no chain can continue the backup.
    pub needs: Option<OpTime>,
    /// Where a chain begins that continues the backup.
    pub begins: Option<OpTime>,
    pub set_id: Option<String>,
    pub selection: KnownSelection,
    /// The reason why the backup is not used. `None` if it is good.
    pub unfit: Option<String>,
}

impl RangeBase {
    /// Returns `None` if the data of the backup is of no instant.
    fn of(manifest: &Summary, fault: Option<&BackupFault>) -> Option<RangeBase> {
        let consistency = &manifest.consistency;
        let instant = consistency.at?;
        let begins =
            consistency.base.as_ref().map(|base| base.from).filter(|_| manifest.source.set_id.is_some());
        // A backup with an oplog slice of its own has the transactions that were open at its instant.
        let needs = begins.map(|begins| match consistency.oplog {
            Some(_) => instant,
            None => begins.min(instant),
        });
        let partial = || manifest.part().map(|what| format!("it is partial ({what})"));
        Some(RangeBase {
            id: manifest.id.clone(),
            instant,
            needs,
            begins,
            set_id: manifest.source.set_id.clone(),
            selection: manifest.known_selection(),
            unfit: fault.map(|fault| fault.why.clone()).or_else(partial),
        })
    }

    /// The backups of a job that are of one instant, oldest first.
    pub fn all(state: &StoreState) -> Vec<RangeBase> {
        RangeBase::among(state, |_| true)
    }

    /// The wanted backups of a job that are of one instant, oldest first.
    pub fn among(state: &StoreState, wanted: impl Fn(&Summary) -> bool) -> Vec<RangeBase> {
        let faults: BTreeMap<&BackupId, &BackupFault> = state.faults().collect();
        let manifests = state.manifests().filter(|manifest| wanted(manifest));
        let base = |manifest: &Summary| RangeBase::of(manifest, faults.get(&manifest.id).copied());
        let mut bases: Vec<RangeBase> = manifests.filter_map(base).collect();
        bases.sort_by(|a, b| (a.instant, &a.id).cmp(&(b.instant, &b.id)));
        bases
    }

    pub fn is_fit(&self) -> bool {
        self.unfit.is_none()
    }
}

/// Consecutive slices of a chain without a break between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnbrokenSlices<'a> {
    /// Never empty.
    slices: Vec<&'a SliceManifest>,
}

impl<'a> UnbrokenSlices<'a> {
    pub fn slices(&self) -> &[&'a SliceManifest] {
        &self.slices
    }

    pub fn chain(&self) -> &'a ChainId {
        &self.slices[0].chain
    }

    /// The slices have every wanted entry after this optime.
    pub fn start(&self) -> OpTime {
        self.slices[0].start
    }

    /// The last entry that was read.
    pub fn end(&self) -> OpTime {
        self.slices[self.slices.len() - 1].end.at
    }

    /// Why the slices do not continue an earlier chain, if they begin a chain.
    pub fn gap(&self) -> Option<&'a OplogGap> {
        self.slices[0].gap.as_ref()
    }

    pub fn is_of_set(&self, base: &RangeBase) -> bool {
        base.set_id.as_ref() == Some(&self.chain().set_id)
    }

    /// The first barrier after an optime.
    pub fn barrier(&self, after: OpTime) -> Option<&'a Barrier> {
        let all = self.slices.iter().flat_map(|slice| &slice.barriers);
        all.filter(|barrier| barrier.at > after).min_by_key(|barrier| barrier.at)
    }

    /// The first slice with writes after the base's instant that has another selection than the base. If only one of them is
    /// encrypted, they count as equal: a change of the selection within a chain is a barrier, and a restore compares them with the
    /// key.
    pub fn other_selection(&self, base: &RangeBase) -> Option<&'a SliceManifest> {
        let mut later = self.slices.iter().copied().filter(|slice| slice.end.at > base.instant);
        later.find(|slice| slice.known_selection().differs(&base.selection))
    }

    /// The last point that can be restored from a base with these slices. `None` if they do not continue the base.
    pub fn reach(&self, base: &RangeBase) -> Option<OpTime> {
        let begins = base.needs.is_some_and(|needs| self.start() <= needs) && self.end() > base.instant;
        if !self.is_of_set(base) || !begins {
            return None;
        }
        let barrier = self.barrier(base.instant).map(|barrier| barrier.at.before());
        let other = self.other_selection(base).map(|slice| slice.start);
        let reach = [barrier, other].into_iter().flatten().fold(self.end(), OpTime::min);
        Some(reach.max(base.instant))
    }
}

/// The last point that can be restored from a base, and the slices that lead there. `None` if no slices continue the base.
pub fn furthest<'p, 'a>(
    base: &RangeBase,
    parts: &'p [UnbrokenSlices<'a>],
) -> Option<(OpTime, &'p UnbrokenSlices<'a>)> {
    let reached = parts.iter().filter_map(|part| Some((part.reach(base)?, part)));
    reached.max_by_key(|(reach, part)| (*reach, part.chain()))
}

/// A place at which a chain is not continuous.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainBreak {
    /// The start of the first slice after the break, or of the unreadable slice.
    pub at: OpTime,
    pub why: String,
}

/// The slices of a chain, judged by their manifests.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainHistory<'a> {
    /// In order.
    pub parts: Vec<UnbrokenSlices<'a>>,
    /// In order. Empty if the chain is continuous.
    pub breaks: Vec<ChainBreak>,
}

impl ChainHistory<'_> {
    /// Judges the slices of a chain, which must be in order.
    pub fn of(entries: &[SliceEntry]) -> ChainHistory<'_> {
        let mut history = ChainHistory::default();
        let mut before: Option<&SliceManifest> = None;
        for entry in entries {
            let slice = match entry {
                SliceEntry::Slice(slice) => &**slice,
                SliceEntry::Unreadable { key, start, why } => {
                    let why = format!("{key} cannot be understood: {why}");
                    history.breaks.push(ChainBreak { at: *start, why });
                    before = None;
                    continue;
                }
            };
            // The oldest slices of a chain may have been deleted, which is no break.
            let broken = before.and_then(|before| break_between(before, slice));
            match history.parts.last_mut().filter(|_| before.is_some() && broken.is_none()) {
                Some(part) => part.slices.push(slice),
                None => history.parts.push(UnbrokenSlices { slices: vec![slice] }),
            }
            history.breaks.extend(broken.map(|why| ChainBreak { at: slice.start, why }));
            before = Some(slice);
        }
        history
    }
}

/// Why a slice does not continue the one before it. `None` if it does.
pub fn break_between(before: &SliceManifest, slice: &SliceManifest) -> Option<String> {
    let why = || match slice.start == before.end.at {
        true => format!(
            "the slice that starts at {} does not start with the entry at which the slice before it ended",
            slice.start
        ),
        false => format!("the slices between {} and {} are missing", before.end, slice.start),
    };
    (!slice.continues(before)).then(why)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::slice::tests::slice;

    pub fn at(t: u32) -> OpTime {
        OpTime { t, i: 1 }
    }

    /// A backup with an oplog slice of its own, at which a chain can begin.
    pub fn base(n: u32, instant: u32) -> RangeBase {
        let slice = slice(100, 110);
        RangeBase {
            id: format!("20261123T03000{n}Z-7k3q9d").parse().unwrap(),
            instant: at(instant),
            needs: Some(at(instant)),
            begins: Some(at(instant)),
            set_id: Some(slice.chain.set_id.clone()),
            selection: slice.known_selection(),
            unfit: None,
        }
    }

    pub fn entries(slices: Vec<SliceManifest>) -> Vec<SliceEntry> {
        slices.into_iter().map(|slice| SliceEntry::Slice(Box::new(slice))).collect()
    }

    /// Slices of ten seconds each.
    pub fn slices(from: u32, to: u32) -> Vec<SliceManifest> {
        (from..to).step_by(10).map(|t| slice(t, t + 10)).collect()
    }

    fn parts(history: &ChainHistory<'_>) -> Vec<(u32, u32, usize)> {
        history.parts.iter().map(|part| (part.start().t, part.end().t, part.slices.len())).collect()
    }

    #[test]
    fn slices_whose_ends_meet_are_unbroken() {
        let mut all = slices(100, 130);
        all[1].barriers = vec![Barrier { at: at(115), why: "x".into() }];
        let whole = entries(all);
        let history = ChainHistory::of(&whole);
        assert_eq!((parts(&history), history.breaks.len()), (vec![(100, 130, 3)], 0));
        let barrier = |after| history.parts[0].barrier(after).map(|barrier| barrier.at);
        assert_eq!((barrier(at(110)), barrier(at(115))), (Some(at(115)), None));
        // The oldest slices were deleted.
        let rest = entries(slices(110, 130));
        let history = ChainHistory::of(&rest);
        assert_eq!((parts(&history), history.breaks.len()), (vec![(110, 130, 2)], 0));
    }

    #[test]
    fn a_missing_a_foreign_and_an_unreadable_slice_are_breaks() {
        let missing = entries(vec![slice(100, 110), slice(120, 130)]);
        let missing = ChainHistory::of(&missing);
        assert_eq!(parts(&missing), [(100, 110, 1), (120, 130, 1)]);
        assert!(missing.breaks[0].why.contains("are missing") && missing.breaks[0].at == at(120));
        let mut foreign = slice(110, 120);
        foreign.after.as_mut().unwrap().term = 9;
        let foreign = entries(vec![slice(100, 110), foreign]);
        let foreign = ChainHistory::of(&foreign);
        assert_eq!((foreign.parts.len(), foreign.breaks.len()), (2, 1));
        assert!(foreign.breaks[0].why.contains("does not start with the entry"), "{foreign:?}");
        let mut with_damage = entries(vec![slice(100, 110), slice(120, 130)]);
        let why = "it is not JSON".to_string();
        with_damage.insert(1, SliceEntry::Unreadable { key: "k".into(), start: at(110), why });
        let damaged = ChainHistory::of(&with_damage);
        assert_eq!((damaged.parts.len(), damaged.breaks.len()), (2, 1));
        assert_eq!(damaged.breaks[0].at, at(110));
    }

    #[test]
    fn the_reach_ends_at_a_barrier_another_selection_or_the_last_entry() {
        let mut all = slices(100, 150);
        all[3].barriers = vec![Barrier { at: at(137), why: "it was imported".into() }];
        all[4].selection.exclude = vec!["shop.tmp".into()];
        let chain = entries(all);
        let history = ChainHistory::of(&chain);
        let reach = |base: &RangeBase| furthest(base, &history.parts).map(|(reach, _)| reach);
        assert_eq!(reach(&base(1, 105)), Some(at(137).before()));
        assert_eq!(reach(&base(1, 137)), Some(at(140)), "the barrier is not after the instant");
        for other in [
            RangeBase { needs: Some(at(99)), ..base(1, 105) },
            RangeBase { needs: None, ..base(1, 105) },
            RangeBase { set_id: None, ..base(1, 105) },
            base(1, 150),
        ] {
            assert_eq!(reach(&other), None, "{other:?}");
        }
    }
}
