//! Chooses the backup and the oplog slices that lead to a point in time.
//!
//! [`Stored::choose`] is pure: it decides by manifests, and explains why a point cannot be restored and which points near it can.

use std::fmt;

use chrono::{DateTime, Utc};

use super::chain::SliceEntry;
use super::choose::{SkippedBackup, WhichBackup};
use super::reach::{ChainBreak, ChainHistory, RangeBase, UnbrokenSlices, furthest};
use super::slice_reader::SliceReader;
use super::state::StoreState;
use super::{CatalogOptions, Summary};
use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::model::id::BackupId;
use crate::model::optime::OpTime;
use crate::model::slice::SliceManifest;
use crate::store::Store;

/// A point in time that a restore leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedPoint {
    /// Every write up to the end of this second.
    Second(DateTime<Utc>),
    /// Every write up to this entry, and the entry itself.
    Entry(OpTime),
    /// Every write before this entry.
    Before(OpTime),
    /// Everything that is stored.
    Newest,
}

impl WantedPoint {
    /// The last optime that belongs to the point; `None` for the newest point.
    fn last(self) -> Option<OpTime> {
        match self {
            WantedPoint::Second(second) => {
                let t = second.timestamp().clamp(0, u32::MAX.into());
                Some(OpTime { t: u32::try_from(t).unwrap_or(u32::MAX), i: u32::MAX })
            }
            WantedPoint::Entry(at) => Some(at),
            WantedPoint::Before(at) => Some(at.before()),
            WantedPoint::Newest => None,
        }
    }
}

impl fmt::Display for WantedPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WantedPoint::Second(second) => write!(f, "{}", second.format("%Y-%m-%dT%H:%M:%SZ")),
            WantedPoint::Entry(at) => write!(f, "{}:{} ({})", at.t, at.i, at.second()),
            WantedPoint::Before(at) => write!(f, "the time before {}:{} ({})", at.t, at.i, at.second()),
            WantedPoint::Newest => f.write_str("the newest time"),
        }
    }
}

/// Why a base does not lead to a point.
#[derive(Debug)]
struct Obstacle {
    why: String,
    /// True if a stored slice is damaged or missing. Otherwise the point was never restorable.
    damaged: bool,
}

impl From<String> for Obstacle {
    fn from(why: String) -> Obstacle {
        Obstacle { why, damaged: false }
    }
}

/// How a point is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenPoint {
    pub base: BackupId,
    /// Newer backups before the point that are not its base.
    pub skipped: Vec<SkippedBackup>,
    /// `None` if the point is the base's own instant and no slice is needed.
    pub chain: Option<ChosenSlices>,
}

/// The slices that lead from a base to a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenSlices {
    /// In order, without a gap.
    pub slices: Vec<SliceManifest>,
    /// The base's own instant.
    pub instant: OpTime,
    /// The last optime that is replayed.
    pub last: OpTime,
    /// The end of the unbroken slices.
    pub end: OpTime,
}

impl ChosenSlices {
    /// Returns true if a key is needed.
    pub fn are_encrypted(&self) -> bool {
        self.slices.iter().any(|slice| slice.encryption.is_some())
    }
}

/// The bases and slices of a job.
#[derive(Debug, Default)]
pub struct Stored<'a> {
    /// Newest first.
    bases: Vec<RangeBase>,
    /// In order.
    parts: Vec<UnbrokenSlices<'a>>,
    /// Slices that cannot be understood, and other places at which a chain is not continuous.
    breaks: Vec<ChainBreak>,
}

/// Reads the bases and slices of a job, and chooses the ones that lead to a point. A backup named by `which` is the only base.
///
/// # Errors
/// Returns an error if the store does not answer, and a usage error if the point cannot be restored.
pub async fn choose_point(
    store: &dyn Store,
    job: &str,
    which: &WhichBackup,
    point: WantedPoint,
    options: &CatalogOptions,
) -> Result<ChosenPoint> {
    let state = StoreState::read(store, job, options).await?;
    if let Some(missing) = &state.missing {
        log::warn!("{}", missing.message());
    }
    let chains = SliceReader::afresh(store, &state.slices).read_all().await?;
    let counts = |manifest: &Summary| match which {
        WhichBackup::Id(id) => manifest.id == *id,
        WhichBackup::Prefix(prefix) => manifest.id.as_str().starts_with(prefix.as_str()),
        WhichBackup::By(by) => manifest.finished_at <= *by,
        WhichBackup::Latest => true,
    };
    let mut bases = RangeBase::among(&state, counts);
    // A backup that is named is used nevertheless.
    if matches!(which, WhichBackup::Id(_) | WhichBackup::Prefix(_)) {
        bases.iter_mut().for_each(|base| base.unfit = None);
    }
    Stored::new(bases, &chains).choose(point)
}

impl<'a> Stored<'a> {
    /// `bases` are oldest first, and `chains` has the slices of each chain in order.
    pub fn new(mut bases: Vec<RangeBase>, chains: &'a [Vec<SliceEntry>]) -> Stored<'a> {
        bases.reverse();
        let mut stored = Stored { bases, ..Stored::default() };
        for entries in chains {
            let history = ChainHistory::of(entries);
            stored.parts.extend(history.parts);
            stored.breaks.extend(history.breaks);
        }
        stored.parts.sort_by_key(|part| (part.start(), part.end()));
        stored.breaks.sort_by_key(|one| one.at);
        stored
    }

    /// Chooses the newest base from which the point can be reached.
    ///
    /// # Errors
    /// Returns an error that names the obstacle and the nearest restorable points: a [`Kind::Mismatch`] if a stored slice is
    /// damaged or missing, otherwise a usage error.
    pub fn choose(&self, point: WantedPoint) -> Result<ChosenPoint> {
        let newest = self.newest();
        let Some(last) = point.last().or(newest) else {
            return Err(Error::usage("there is no backup of one instant, and no point in time can be restored")
                .hint("Make a backup with --consistency oplog or snapshot; `uzima-backup list` shows which backups are of one instant"));
        };
        // If the newest slice cannot be read, nothing says which writes it has.
        if point == WantedPoint::Newest
            && let Some(why) = self.broken_tip()
        {
            return Err(self.refusal(point, last, Obstacle { why, damaged: true }));
        }
        let (mut skipped, mut obstacle) = (Vec::new(), None);
        for base in self.bases.iter().filter(|base| base.instant <= last) {
            let reason = match &base.unfit {
                Some(why) => why.clone(),
                None => match self.reach(base, point, last) {
                    Ok(chain) => return Ok(ChosenPoint { base: base.id.clone(), skipped, chain }),
                    Err(Obstacle { why, damaged }) => {
                        let from = format!("from the backup {}, {why}", base.id);
                        obstacle.get_or_insert(Obstacle { why: from, damaged });
                        why
                    }
                },
            };
            skipped.push(SkippedBackup { id: base.id.clone(), reason });
        }
        let obstacle = obstacle.unwrap_or_else(|| self.without_base(last, &skipped).into());
        Err(self.refusal(point, last, obstacle))
    }

    fn refusal(&self, point: WantedPoint, last: OpTime, obstacle: Obstacle) -> Error {
        let (kind, step) = match obstacle.damaged {
            true => (Kind::Mismatch, "Nothing was changed. Put a copy of the object back. "),
            false => (Kind::Usage, ""),
        };
        let error = Error::new(kind, format!("{point} cannot be restored: {}", obstacle.why));
        error.hint(format!("{step}{}", self.nearest(last)))
    }

    /// The newest optime that is stored.
    fn newest(&self) -> Option<OpTime> {
        let fit = self.bases.iter().filter(|base| base.is_fit()).map(|base| base.instant);
        fit.chain(self.parts.iter().map(UnbrokenSlices::end)).max()
    }

    /// Returns the slices that lead from `base` to `last`, or the obstacle.
    fn reach(
        &self,
        base: &RangeBase,
        point: WantedPoint,
        last: OpTime,
    ) -> Result<Option<ChosenSlices>, Obstacle> {
        let own = match point {
            WantedPoint::Second(second) => second.timestamp() == i64::from(base.instant.t),
            _ => last == base.instant,
        };
        match self.slices(base, point, last) {
            // Without slices, the instant of the backup is a point that can be restored.
            _ if own && last == base.instant => Ok(None),
            Err(_) if own => Ok(None),
            chosen => chosen.map(Some),
        }
    }

    fn slices(&self, base: &RangeBase, point: WantedPoint, last: OpTime) -> Result<ChosenSlices, Obstacle> {
        let needs = base.needs.ok_or_else(|| {
            "no oplog slice can continue: a version before 0.2.0 made it, or the user could not read the oplog"
                .to_string()
        })?;
        let of_set = || self.parts.iter().filter(|part| part.is_of_set(base));
        let Some((_, part)) = furthest(base, &self.parts) else {
            let newest = of_set().map(UnbrokenSlices::end).max();
            return Err(match (of_set().find(|part| part.start() > needs), newest) {
                (Some(later), _) => self.gap(base.instant, later),
                (None, Some(end)) => self.ended(end),
                (None, None) => "no oplog slice of its replica set is stored".to_string().into(),
            });
        };
        if let Some(barrier) = part.barrier(base.instant).filter(|barrier| barrier.at <= last) {
            let (at, why) = (barrier.at, barrier.reason());
            return Err(format!("no restore can go past {}:{} ({}): {why}", at.t, at.i, at.second()).into());
        }
        if let Some(other) = part.other_selection(base).filter(|slice| slice.start < last) {
            let (start, selection) = (other.start.second(), other.known_selection());
            return Err(format!(
                "the oplog slices from {start} on have another selection than the backup: {selection} instead of {}",
                base.selection
            )
            .into());
        }
        let end = part.end();
        // A second is complete when a later entry was read.
        let ends_before = match point {
            WantedPoint::Second(_) => end.t <= last.t,
            _ => end < last,
        };
        if ends_before {
            // A slice that starts where the others end, but with another entry, is damaged.
            let later = of_set().find(|other| other.start() >= end);
            return Err(match later.filter(|later| later.start() < last || later.end() >= last) {
                Some(later) => self.gap(end, later),
                None => self.ended(end),
            });
        }
        let wanted = |slice: &&&SliceManifest| slice.end.at > needs && slice.start < last;
        let slices = part.slices().iter().filter(wanted).map(|slice| (*slice).clone()).collect();
        Ok(ChosenSlices { slices, instant: base.instant, last, end })
    }

    /// The writes before `later` are not stored.
    fn gap(&self, from: OpTime, later: &UnbrokenSlices<'_>) -> Obstacle {
        let (to, set_id) = (later.start(), &later.chain().set_id);
        let of_set = self.parts.iter().filter(|part| part.chain().set_id == *set_id);
        let before = of_set.map(UnbrokenSlices::end).filter(|end| *end <= to).max();
        let lost = self.breaks.iter().rfind(|one| one.at <= to && before.is_none_or(|end| one.at >= end));
        let why = later.gap().map(|gap| &gap.why).or(lost.map(|lost| &lost.why));
        let why = why.map(|why| format!(", because {}", units::brief_text(why, 300))).unwrap_or_default();
        let text = format!("the writes between {} and {} are in no oplog slice", from.second(), to.second());
        // A chain begins with the reason for the gap before it. Within a chain there are no gaps.
        Obstacle { why: text + &why, damaged: later.gap().is_none() && lost.is_some() }
    }

    /// No later slice is stored.
    fn ended(&self, end: OpTime) -> Obstacle {
        let text = format!("the oplog slices end at {}:{} ({})", end.t, end.i, end.second());
        match self.broken_tip() {
            Some(why) => Obstacle { why: format!("{text}: {why}"), damaged: true },
            None => format!("{text}, and later writes are not stored").into(),
        }
    }

    /// The fault of the newest slice, if it cannot be read.
    fn broken_tip(&self) -> Option<String> {
        let end = self.parts.iter().map(UnbrokenSlices::end).max();
        let tip = self.breaks.last().filter(|one| end.is_none_or(|end| one.at >= end))?;
        Some(units::brief_text(&tip.why, 300))
    }

    /// The obstacle if no fit base is at or before the point.
    fn without_base(&self, last: OpTime, skipped: &[SkippedBackup]) -> String {
        let unfit: Vec<String> =
            skipped.iter().map(|one| format!("{} is not used: {}", one.id, one.reason)).collect();
        let oldest = self.bases.iter().rfind(|base| base.is_fit());
        match oldest.filter(|oldest| oldest.instant > last) {
            Some(oldest) => {
                let text =
                    format!("it is before the oldest base, {} of {}", oldest.id, oldest.instant.second());
                unfit.into_iter().fold(text, |text, one| format!("{text}; {one}"))
            }
            None if unfit.is_empty() => "there is no backup of one instant".into(),
            None => unfit.join("; "),
        }
    }

    /// The next step: the restorable points around `last`.
    fn nearest(&self, last: OpTime) -> String {
        let fit = || self.bases.iter().filter(|base| base.is_fit());
        let reach =
            |base: &RangeBase| furthest(base, &self.parts).map_or(base.instant, |(to, _)| to).min(last);
        let before = fit().filter(|base| base.instant <= last).map(reach).max();
        let after = fit().map(|base| base.instant).filter(|instant| *instant > last).min();
        let text = |at: OpTime| format!("--at {}:{} ({})", at.t, at.i, at.second());
        let points: Vec<String> = before.into_iter().chain(after).map(text).collect();
        match points.as_slice() {
            [] => "`uzima-backup list` shows the backups".into(),
            [one] => format!("The nearest point that can be restored is {one}"),
            several => format!("The nearest points that can be restored are {}", several.join(" and ")),
        }
    }
}

#[cfg(test)]
mod tests;
