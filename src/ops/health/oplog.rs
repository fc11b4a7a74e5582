//! The check of the stored oplog: whether a restore can reach the last hour.

use std::time::Duration;

use super::{Context, Finding};
use crate::base::error::{Error, Result};
use crate::base::units::{self, several};
use crate::catalog::chain::SliceEntry;
use crate::catalog::reach::ChainHistory;
use crate::catalog::state::{BaseInstant, StoreState};
use crate::model::id::BackupId;
use crate::model::slice::{ChainId, SliceManifest};
use crate::retention;
use crate::source::oplog::tail::OplogState;

/// The oplog of the server must hold this many intervals between runs, so that some of them may fail.
const INTERVALS: u32 = 4;
/// The next step if entries are lost.
const COPY_OR_NEW_BASE: &str =
    "Put a copy of it back, or run `uzima-backup backup`: restores to later times begin at it";
/// The interval between runs is measured over this many slices.
const MEASURED: usize = 20;

/// Checks that the stored oplog is young enough, without a gap or a barrier since the newest backup, and that the server keeps its
/// oplog long enough.
pub(super) async fn oplog(context: &Context) -> Result<Finding> {
    let Some(state) = context.state().await? else { return Finding::skipped("there is no backup yet") };
    let (Some(store), Some(chain)) = (context.store().await?, state.slices.chains().next_back()) else {
        return Finding::not_configured(
            "no oplog slice is stored: `uzima-backup oplog` does not run for this job",
        );
    };
    let base = newest_base(context, state, chain);
    let from = base.as_ref().map_or(chain.start, |(_, base)| base.from);
    let reader = state.slice_reader(store);
    let entries = reader.read_since(chain, from).await?;
    let slices: Vec<&SliceManifest> = entries
        .iter()
        .filter_map(|entry| match entry {
            SliceEntry::Slice(slice) => Some(&**slice),
            SliceEntry::Unreadable { .. } => None,
        })
        .collect();
    let new_base = "Run `uzima-backup backup`: restores to later times begin at it";
    let mut problems: Vec<(String, String)> = Vec::new();
    match &base {
        None => {
            let gap = reader.gap(chain).await?;
            let gap = gap.map(|gap| format!(" (there is a gap from {}: {})", gap.from.second(), gap.why));
            let what = format!(
                "no good backup can begin a restore from the oplog that is stored since {}{}",
                chain.start.second(),
                gap.unwrap_or_default()
            );
            problems.push(match doubtful_base(context, state, chain) {
                Some((id, why)) => (
                    format!("{what}; {id} is not good: {why}"),
                    format!("If {id} is right, run `uzima-backup cleanup --accept {id}`; otherwise make a new backup"),
                ),
                None => (what, new_base.into()),
            });
        }
        Some((id, base)) => {
            let barriers = slices.iter().flat_map(|slice| &slice.barriers);
            if let Some(barrier) = barriers.into_iter().find(|barrier| barrier.at > base.at) {
                let what = format!(
                    "no restore that begins at {id}, the newest good backup, can pass {}: {}",
                    barrier.at.second(),
                    barrier.reason()
                );
                problems.push((what, new_base.into()));
            }
        }
    }
    let lost = lost_objects(state, &slices);
    problems.extend(several_as_one(&lost.bodies).map(|what| (what, COPY_OR_NEW_BASE.to_string())));
    let history = ChainHistory::of(&entries);
    problems.extend(history.breaks.iter().take(1).map(|one| (one.why.clone(), new_base.into())));
    let (max_age, now) = (context.subject.settings.oplog_max_age, context.time());
    let end = slices.last().map(|slice| slice.end.at);
    let old = end.map(|end| (now - end.date()).to_std().unwrap_or_default());
    if let Some(old) = old.filter(|old| *old > max_age) {
        problems.insert(
            0,
            (
                format!(
                    "the end of the stored oplog is {} old, {} are allowed (oplog_max_age)",
                    units::age(old),
                    units::age(max_age)
                ),
                "Find out in cron's mail or the log why `uzima-backup oplog` stores no newer slice; if it is not wanted any more, \
                 use --skip oplog"
                    .into(),
            ),
        );
    }
    if let Some((_, step)) = problems.first().cloned() {
        let all: Vec<String> = problems.into_iter().map(|(what, _)| what).collect();
        return Err(Error::failed(all.join("; ")).hint(step));
    }
    if let Some(what) = several_as_one(&lost.archived) {
        return Finding::warning(
            what,
            "Thaw them before a restore, and exempt oplog/ from the bucket's lifecycle rule",
        );
    }
    if let Some(what) = several_as_one(&lost.events) {
        return Finding::warning(
            format!("{what}: `uzima-backup timeline` lacks its events"),
            "Put a copy of it back. A restore does not need it",
        );
    }
    if let Some(short) = short_window(context, &slices).await {
        return Finding::warning(
            short,
            "Run `uzima-backup oplog` more often, or give the server a larger oplog (replSetResizeOplog)",
        );
    }
    let (Some((_, base)), Some(end), Some(old)) = (base, end, old) else {
        return Finding::skipped("another run deleted the slices");
    };
    Finding::ok(format!(
        "a restore can reach {} to {}, {} ago; {} since the newest backup",
        base.at.second(),
        end.second(),
        units::age(old),
        several(slices.len() as u64, "slice")
    ))
}

/// The objects of slices that are not as their manifests say, by the listing alone.
#[derive(Default)]
struct LostObjects {
    /// The objects that a restore needs.
    bodies: Vec<String>,
    events: Vec<String>,
    /// Objects that a restore needs, and that must be thawed before they can be read.
    archived: Vec<String>,
}

fn lost_objects(state: &StoreState, slices: &[&SliceManifest]) -> LostObjects {
    let mut lost = LostObjects::default();
    for slice in slices {
        let folder = state.slices.folder(&slice.chain, slice.start);
        let object = |key: &str| folder.and_then(|folder| folder.values().find(|object| object.key == key));
        let fault = |key: &str, size: u64| match object(key) {
            None => Some(format!("{key} is missing")),
            Some(object) if object.size != size => {
                let has = several(object.size, "byte");
                Some(format!("{key} has {has}, but its manifest says {}", units::count(size)))
            }
            Some(_) => None,
        };
        if let Some(body) = &slice.body {
            lost.bodies.extend(fault(&body.key, body.size));
            let class = object(&body.key).and_then(|object| object.archive.as_ref());
            lost.archived.extend(class.map(|_| format!("{} is in an archive class", body.key)));
        }
        let Some(events) = &slice.events else { continue };
        match slice.encryption {
            None => lost.events.extend(fault(&events.key, events.size)),
            // A restore needs the events of an encrypted slice: they have the complete manifest.
            Some(_) => {
                lost.bodies.extend(fault(&events.key, events.size));
                let class = object(&events.key).and_then(|object| object.archive.as_ref());
                lost.archived.extend(class.map(|_| format!("{} is in an archive class", events.key)));
            }
        }
    }
    lost
}

/// The first of several messages, and the number of the others.
fn several_as_one(all: &[String]) -> Option<String> {
    let first = all.first()?;
    Some(match all.len() - 1 {
        0 => first.clone(),
        n => format!("{first}; {n} more: uzima-backup verify --oplog"),
    })
}

/// The newest good backup at which a restore from the chain can begin.
fn newest_base(context: &Context, state: &StoreState, chain: &ChainId) -> Option<(BackupId, BaseInstant)> {
    let backups = state.backups();
    let good = retention::good(&backups, &context.subject.settings.job, context.time());
    let based = good.into_iter().filter_map(|backup| {
        let base = state.base(&backup.id)?;
        let same_set = backup.source.set_id.as_deref() == Some(&chain.set_id);
        (same_set && base.from >= chain.start).then(|| (backup.id.clone(), base))
    });
    based.max_by_key(|(_, base)| base.at)
}

/// The newest backup of the chain's set that is not good until a person accepts it, and why.
fn doubtful_base(context: &Context, state: &StoreState, chain: &ChainId) -> Option<(BackupId, String)> {
    let backups = state.backups();
    let job = &context.subject.settings.job;
    let bad = retention::freshness(&backups, job, context.time(), Duration::ZERO).bad;
    bad.into_iter().find(|(id, _)| {
        let backup = backups.iter().find(|backup| backup.id == *id);
        let fits = backup.is_some_and(|backup| {
            backup.unsound.is_none()
                && backup.partial.is_none()
                && backup.source.set_id.as_deref() == Some(&chain.set_id)
        });
        fits && state.base(id).is_some_and(|base| base.from >= chain.start)
    })
}

/// Returns a message if the server's oplog is short in comparison with the interval between runs. A server that cannot be asked
/// is the matter of another check.
async fn short_window(context: &Context, slices: &[&SliceManifest]) -> Option<String> {
    if context.copy.is_some() {
        // The check of the first place compares them.
        return None;
    }
    let times: Vec<_> = slices.iter().rev().take(MEASURED).map(|slice| slice.stored_at).collect();
    let mut intervals: Vec<Duration> =
        times.windows(2).filter_map(|pair| (pair[0] - pair[1]).to_std().ok()).collect();
    intervals.sort_unstable();
    let interval = *intervals.get(intervals.len() / 2)?;
    let state = OplogState::of(context.server().await.ok()?).await.ok()?;
    let window = Duration::from_secs(state.window().into());
    (window < interval * INTERVALS && state.is_full()).then(|| {
        format!(
            "the server's oplog holds {}, and slices are stored every {}: after {INTERVALS} failed runs there is a gap",
            units::age(window),
            units::age(interval)
        )
    })
}
