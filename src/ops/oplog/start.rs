//! Where a run begins: at the end of the newest chain or, without one, at a backup or at the present time.

use super::Capture;
use crate::base::error::{Error, Kind, Result};
use crate::catalog::chain::{ChainTip, SliceEntry};
use crate::catalog::state::StoreState;
use crate::catalog::{CatalogOptions, Summary};
use crate::model::manifest::ChainBase;
use crate::model::optime::OpTime;
use crate::model::selection::KnownSelection;
use crate::model::slice::{Barrier, ChainId, EntryMark, OplogGap, SliceManifest};
use crate::mongo::server::Server;
use crate::source::oplog::tail::{self, OplogState, TailStart};

/// The start of the next slice.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub chain: ChainId,
    pub start: OpTime,
    /// The entry at `start`; `None` at the start of a chain.
    pub after: Option<EntryMark>,
    /// A changed selection.
    pub barriers: Vec<Barrier>,
    /// For the first slice of a chain.
    pub gap: Option<OplogGap>,
}

impl Position {
    /// The position after a stored slice.
    pub(super) fn after(slice: &SliceManifest, selection: &KnownSelection) -> Position {
        let (mut barriers, before) = (Vec::new(), slice.known_selection());
        if before.is(selection) != Some(true) {
            let why = match before.asked {
                Some(before) => format!("the selection of the job changed from {before} to {selection}"),
                None => format!("the selection of the job changed to {selection}"),
            };
            barriers.push(Barrier { at: slice.end.at.after(), why });
        }
        Position {
            chain: slice.chain.clone(),
            start: slice.end.at,
            after: Some(slice.end.clone()),
            barriers,
            gap: None,
        }
    }

    pub(super) fn tail_start(&self) -> TailStart {
        match &self.after {
            Some(entry) => TailStart::Entry(entry.clone()),
            None => TailStart::Time(self.start),
        }
    }
}

/// The end of an earlier chain that cannot be continued.
#[derive(Debug, Clone)]
pub(super) struct EndedChain {
    pub chain: ChainId,
    pub end: OpTime,
    pub why: String,
}

impl EndedChain {
    /// Returns the reason why a chain cannot be continued after this slice; `None` if it may be continued.
    pub(super) fn at(tip: &ChainTip) -> Option<EndedChain> {
        match &tip.slice {
            SliceEntry::Slice(_) => None,
            // The reason may quote the manifest, and a gap is readable also in an encrypted chain.
            SliceEntry::Unreadable { key, start, why } => {
                log::warn!("{key}: {why}");
                Some(EndedChain {
                    chain: tip.chain.clone(),
                    end: *start,
                    why: format!("{key} cannot be understood"),
                })
            }
        }
    }
}

/// Chooses the start of a new chain: the beginning of the newest backup that can be its base or, without one, the present time.
///
/// # Errors
/// Returns an error if store or server do not answer, or the place lost its backups.
pub(super) async fn new_chain(
    capture: &Capture<'_>,
    server: &mut Server,
    state: &mut OplogState,
    ended: Option<EndedChain>,
) -> Result<Position> {
    let (settings, now) = (capture.settings, capture.clock.now());
    let options = CatalogOptions::remembering(settings.state_dir.clone(), now, &settings.signing);
    let stored = StoreState::read(capture.store, &settings.job, &options).await?;
    // An empty folder may be the mount point of a disk that is not mounted.
    if let Some(missing) = &stored.missing {
        return Err(missing.error());
    }
    // A chain that is not newer would never be found as the newest one; with the same start, it would have the same keys.
    let earliest = ended.as_ref().map(|ended| ended.chain.start.after());
    let mut gap = ended.map(|ended| OplogGap { from: ended.end, why: ended.why });
    let base = newest_base(&stored, capture);
    if let Some((base, at)) = base.filter(|(base, _)| earliest.is_none_or(|earliest| base.from >= earliest)) {
        let mut proven = tail::prove_base(server, state, base, at).await?;
        if let Err(why) = proven.clone() {
            for (other, its) in capture.others(server, &why).await {
                if matches!(tail::prove_base(&other, &its, base, at).await, Ok(Ok(()))) {
                    capture.go_to(server, state, (other, its), &why);
                    proven = Ok(());
                    break;
                }
            }
        }
        match proven {
            Ok(()) => {
                let gap = gap.filter(|gap| gap.from < base.from);
                return position(capture, base.from, gap);
            }
            // Writes since the backup that the oplog no longer has.
            Err(why) => gap = gap.or(Some(OplogGap { from: at, why })),
        }
    } else if base.is_none() {
        let job = &settings.job;
        capture.notes.count(format!(
            "no backup of {job} can be the base of a point-in-time restore yet. The next backup with consistency oplog or \
             snapshot can."
        ));
    }
    let after = gap.as_ref().map(|gap| gap.from);
    let start = tail::start_now(server, state, after).await?;
    position(capture, earliest.map_or(start, |earliest| start.max(earliest)), gap)
}

fn position(capture: &Capture<'_>, start: OpTime, gap: Option<OplogGap>) -> Result<Position> {
    let chain = ChainId::new(&capture.set_id, start).ok_or_else(|| {
        Error::new(Kind::Failed, format!("the replica set has the unusual id {:?}", capture.set_id))
    })?;
    Ok(Position { chain, start, after: None, barriers: Vec::new(), gap })
}

/// The newest good backup of the job that a chain can begin at, with its instant.
fn newest_base<'a>(stored: &'a StoreState, capture: &Capture<'_>) -> Option<(&'a ChainBase, OpTime)> {
    let backups = stored.backups();
    let good = |manifest: &&Summary| {
        let backup = backups.iter().find(|backup| backup.id == manifest.id);
        let sound = backup.is_some_and(|b| b.unsound.is_none() && (b.accepted || !manifest.collapsed()));
        sound
            && !manifest.partial
            && manifest.source.set_id.as_deref() == Some(&capture.set_id)
            && manifest.known_selection().is(&capture.selection) == Some(true)
    };
    let based = stored.trusted_manifests().filter(good).filter_map(|manifest| {
        let consistency = &manifest.consistency;
        Some((consistency.base.as_ref()?, consistency.at?))
    });
    based.max_by_key(|(_, at)| *at)
}
