//! `timeline`: which points in time can be restored, and what happened when.
//!
//! The manifests of a job's backups and oplog slices say what can be restored ([`crate::catalog::ranges`]). The events of the
//! slices say what was written: they are summed over periods ([`grouping`]), and the changes of namespaces and indexes are
//! listed ([`changes`]). Only the events of the wanted time are read, a few objects at once. The events of encrypted slices need the
//! key.

mod changes;
mod grouping;

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Serialize;

use crate::artifact::read::slice::{check_stored_events, decode_events, largest_events, open_slice};
use crate::base::error::Result;
use crate::base::exit::Exit;
use crate::base::keys::Identities;
use crate::catalog::CatalogOptions;
use crate::catalog::chain::SliceEntry;
use crate::catalog::ranges::{self, Restorable, RestorableGap, RestorableRange};
use crate::catalog::reach::RangeBase;
use crate::catalog::state::StoreState;
use crate::config::selection::Pattern;
use crate::model::optime::OpTime;
use crate::model::slice::{EventsFile, SliceEvents, SliceManifest};
use crate::store::{Store, StoreErrorKind, StoreResult};
use changes::{ChangeList, DROPPING};
use grouping::WriteSums;

pub use changes::TimelineChange;
pub use grouping::{NamespaceWrites, OtherWrites, WritePeriod};

/// How many events objects are fetched at once.
const FETCHING: usize = 4;
/// The most problems that are reported.
const PROBLEMS: usize = 20;

#[derive(Debug, Clone)]
pub struct TimelineOptions {
    pub job: String,
    /// Only namespaces that match one of these patterns; empty means all.
    pub ns: Vec<Pattern>,
    /// `None`: from the oldest slice on.
    pub from: Option<DateTime<Utc>>,
    /// The last second. `None`: up to the newest slice.
    pub to: Option<DateTime<Utc>>,
    /// The most namespaces in all periods together, and the most changes.
    pub limit: usize,
}

/// The result of `timeline`. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct TimelineReport {
    pub version: u32,
    pub job: String,
    /// A path or an `s3://` address.
    pub place: String,
    /// The beginning of the time whose events are shown. `None` if there are no slices.
    pub from: Option<DateTime<Utc>>,
    /// The end of this time.
    pub to: Option<DateTime<Utc>>,
    /// The points in time that can be restored, in order.
    pub ranges: Vec<RestorableRange>,
    /// The times of which no point can be restored, in order.
    pub gaps: Vec<RestorableGap>,
    /// The length of a period in seconds.
    pub period_seconds: u32,
    /// The periods with writes, in order.
    pub periods: Vec<WritePeriod>,
    /// The changes of namespaces and indexes, in order.
    pub changes: Vec<TimelineChange>,
    /// The number of changes beyond the limit.
    pub changes_left_out: u64,
    /// Events that could not be read.
    pub problems: Vec<String>,
    /// True if the events of an encrypted slice are damaged: nothing else has the description of the slice.
    #[serde(skip)]
    pub damaged: bool,
}

impl TimelineReport {
    /// A report of a job without backups and slices.
    pub fn empty(job: &str, place: String) -> TimelineReport {
        TimelineReport {
            version: 1,
            job: job.into(),
            place,
            from: None,
            to: None,
            ranges: Vec::new(),
            gaps: Vec::new(),
            period_seconds: 60,
            periods: Vec::new(),
            changes: Vec::new(),
            changes_left_out: 0,
            problems: Vec::new(),
            damaged: false,
        }
    }

    /// [`Exit::Mismatch`] if the events of an encrypted slice are damaged, [`Exit::NeedsLook`] if others could not be read, else
    /// [`Exit::Done`].
    pub fn exit(&self) -> Exit {
        match (self.damaged, self.problems.is_empty()) {
            (true, _) => Exit::Mismatch,
            (false, false) => Exit::NeedsLook,
            (false, true) => Exit::Done,
        }
    }
}

/// Reads the manifests of a job's backups and slices, and the events of the wanted time. Events that the store does not give whole
/// are read from `others`. `keys` finds the identities; it is called
/// if a slice is encrypted.
///
/// # Errors
/// Returns an error if the store does not answer, or if no identity decrypts wanted events. Events that are damaged are problems of
/// the report.
pub async fn timeline(
    store: &dyn Store,
    others: &[&dyn Store],
    options: &TimelineOptions,
    reading: &CatalogOptions,
    keys: impl AsyncFnOnce() -> Result<Option<Identities>>,
) -> Result<TimelineReport> {
    let state = StoreState::read(store, &options.job, reading).await?;
    let chains = state.slice_reader(store).read_all().await?;
    let is_encrypted = |slice: &SliceManifest| slice.encryption.is_some();
    let keys = match chains.iter().flatten().filter_map(readable).any(is_encrypted) {
        true => keys().await?,
        false => None,
    };
    let bases = RangeBase::all(&state);
    let restorable = match &keys {
        Some(keys) => ranges::restorable(&bases, &with_reasons(store, chains.clone(), keys).await),
        None => ranges::restorable(&bases, &chains),
    };
    let mut slices: Vec<&SliceManifest> = chains.iter().flatten().filter_map(readable).collect();
    slices.sort_by_key(|slice| (slice.start, slice.end.at));
    let time = WantedTime::of(options, &slices);
    let mut events = ReadEvents {
        options,
        keys: keys.as_ref(),
        time,
        sums: WriteSums::new(time.seconds()),
        changes: ChangeList::default(),
        seen: BTreeMap::new(),
        problems: Vec::new(),
        damaged: false,
    };
    events.read(store, others, &slices).await?;
    let periods = u64::from(time.seconds().div_ceil(events.sums.step()));
    let period_seconds = events.sums.step();
    let wanted = |t| time.contains(t);
    let (changes, changes_left_out) = events.changes.finish(&options.ns, wanted, options.limit, &restorable);
    let Restorable { ranges, gaps } = restorable;
    Ok(TimelineReport {
        from: time.start.map(date),
        to: time.start.map(|_| date(time.end)),
        ranges,
        gaps,
        period_seconds,
        periods: events.sums.finish(options.limit, periods),
        changes,
        changes_left_out,
        problems: events.problems,
        damaged: events.damaged,
        ..TimelineReport::empty(&options.job, store.place())
    })
}

/// The chains with the reasons of barriers, which the events of encrypted slices have. A slice that cannot be opened stays as it is:
/// if it is wanted, its fault is found when its events are read.
async fn with_reasons(
    store: &dyn Store,
    mut chains: Vec<Vec<SliceEntry>>,
    keys: &Identities,
) -> Vec<Vec<SliceEntry>> {
    for entry in chains.iter_mut().flatten() {
        if let SliceEntry::Slice(slice) = entry
            && slice.hides_details()
            && !slice.barriers.is_empty()
            && let Ok(Ok(opened)) = open_slice(store, slice, Some(keys)).await
        {
            **slice = opened.manifest;
        }
    }
    chains
}

fn readable(entry: &SliceEntry) -> Option<&SliceManifest> {
    match entry {
        SliceEntry::Slice(slice) => Some(slice),
        SliceEntry::Unreadable { .. } => None,
    }
}

fn date(t: u32) -> DateTime<Utc> {
    OpTime { t, i: 0 }.date()
}

/// The time whose events are wanted, in Unix seconds.
#[derive(Debug, Clone, Copy)]
struct WantedTime {
    /// `None` if there are no slices.
    start: Option<u32>,
    /// The last second.
    end: u32,
}

impl WantedTime {
    /// The wanted part of the time that the slices, in order of their start, have.
    fn of(options: &TimelineOptions, slices: &[&SliceManifest]) -> WantedTime {
        let seconds = |date: DateTime<Utc>| u32::try_from(date.timestamp().max(0)).unwrap_or(u32::MAX);
        let first = slices.first().map(|slice| slice.start.t);
        let last = slices.iter().map(|slice| slice.end.at.t).max().unwrap_or_default();
        let start = first.map(|first| options.from.map_or(first, seconds).max(first));
        WantedTime { start, end: options.to.map_or(last, seconds).min(last) }
    }

    fn seconds(self) -> u32 {
        self.start.map_or(0, |start| self.end.saturating_sub(start).saturating_add(1))
    }

    fn contains(self, t: u32) -> bool {
        self.start.is_some_and(|start| start <= t) && t <= self.end
    }

    /// Returns true if a minute may have wanted writes.
    fn has_minute(self, minute: u32) -> bool {
        self.start.is_some_and(|start| start < minute.saturating_add(60)) && minute <= self.end
    }

    /// Returns true if the events of a slice are needed. The drops of a database begin before its end is written.
    fn needs(self, slice: &SliceManifest) -> bool {
        let start = self.start.map(|start| start.saturating_sub(DROPPING));
        start.is_some_and(|start| start <= slice.end.at.t) && slice.start.t <= self.end
    }
}

struct ReadEvents<'a> {
    options: &'a TimelineOptions,
    keys: Option<&'a Identities>,
    time: WantedTime,
    sums: WriteSums,
    changes: ChangeList,
    /// The end of what was counted, by replica set: a new chain may begin before the end of the old one.
    seen: BTreeMap<&'a str, OpTime>,
    problems: Vec<String>,
    damaged: bool,
}

impl<'a> ReadEvents<'a> {
    async fn read(
        &mut self,
        store: &dyn Store,
        others: &[&dyn Store],
        slices: &[&'a SliceManifest],
    ) -> Result<()> {
        let time = self.time;
        let wanted = slices.iter().copied().filter(|slice| time.needs(slice));
        let fetch = async |slice: &'a SliceManifest| {
            let bytes = match &slice.events {
                Some(events) => events_in(store, others, events).await.map(Some),
                None => Ok(None),
            };
            (slice, bytes)
        };
        let mut fetched = std::pin::pin!(stream::iter(wanted).map(fetch).buffered(FETCHING));
        while let Some((slice, bytes)) = fetched.next().await {
            let read = events_of(slice, bytes, self.keys)?;
            self.damaged |= read.is_err() && slice.encryption.is_some();
            match read {
                Ok(events) => self.take(slice, events),
                Err(why) if self.problems.len() < PROBLEMS => self.problems.push(format!(
                    "the events from {} to {} cannot be shown: {why}",
                    slice.start.second(),
                    slice.end.at.second()
                )),
                Err(why) => log::warn!("{why}"),
            }
        }
        Ok(())
    }

    fn take(&mut self, slice: &'a SliceManifest, events: EventsFile) {
        let seen = self.seen.entry(&slice.chain.set_id).or_insert(OpTime { t: 0, i: 0 });
        let after = slice.start.max(*seen);
        *seen = slice.end.at.max(*seen);
        let chosen = |ns: &str| {
            self.options.ns.is_empty() || self.options.ns.iter().any(|pattern| pattern.matches(ns))
        };
        for writes in &events.minutes {
            let new = writes.minute.saturating_add(60) > after.t;
            if new && self.time.has_minute(writes.minute) && chosen(&writes.ns) {
                self.sums.take(writes);
            }
        }
        for change in events.changes.into_iter().filter(|change| change.at > after) {
            self.changes.take(change);
        }
    }
}

/// Reads an events object. If the store does not give it as the manifest describes it, it is read from the others.
async fn events_in(store: &dyn Store, others: &[&dyn Store], events: &SliceEvents) -> StoreResult<Bytes> {
    let bytes = store.get(&events.key, largest_events(events)).await;
    if bytes.as_ref().is_ok_and(|bytes| check_stored_events(events, bytes).is_none()) {
        return bytes;
    }
    for other in others {
        if let Ok(found) = other.get(&events.key, largest_events(events)).await
            && check_stored_events(events, &found).is_none()
        {
            log::warn!(
                "{} is read from {}, because {} does not have it whole",
                events.key,
                other.place(),
                store.place()
            );
            return Ok(found);
        }
    }
    bytes
}

/// Checks and decodes the events of a slice. Returns the reason if they cannot be used.
///
/// # Errors
/// Returns an error if the store did not answer, or if no identity decrypts the events.
fn events_of(
    slice: &SliceManifest,
    bytes: StoreResult<Option<Bytes>>,
    keys: Option<&Identities>,
) -> Result<Result<EventsFile, String>> {
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(e) => match e.kind {
            StoreErrorKind::NotFound | StoreErrorKind::Damaged | StoreErrorKind::Archived => {
                return Ok(Err(e.to_string()));
            }
            _ => return Err(e.into()),
        },
    };
    let Some(bytes) = bytes else { return Ok(Ok(EventsFile::default())) };
    Ok(decode_events(slice, &bytes, keys)?.map(|(events, _)| events))
}
