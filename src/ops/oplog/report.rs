//! The result of a run of `oplog`.

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::exit::Exit;
use crate::model::optime::OpTime;
use crate::model::slice::{Barrier, ChainId, OplogGap, SliceManifest};
use crate::notify::events::OplogSuccess;

/// A slice that was stored, or with `--dry-run` would be.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
pub struct StoredSlice {
    /// The slice has entries after this optime.
    pub start: OpTime,
    /// The last entry that was read.
    pub end: OpTime,
    pub entries: u64,
    pub raw_bytes: u64,
    pub stored_bytes: u64,
}

/// A place of the slices after a run.
#[derive(Debug, Clone, JsonSchema, Serialize)]
pub struct OplogPlaceRow {
    pub name: String,
    /// A path or an `s3://` address; `None` if the settings of the place are wrong.
    pub place: Option<String>,
    /// The last entry of its chain; `None` if it has none, or is not known.
    pub end: Option<OpTime>,
    /// The number of slices that it got from another place.
    pub copied: u64,
    /// Why it does not have all slices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl OplogPlaceRow {
    pub(super) fn problem(&self) -> Option<String> {
        let why = self.why.as_ref()?;
        Some(format!(
            "the place {} does not have all oplog slices: {why}; the next run and `uzima-backup copy --missing` repair it",
            self.name
        ))
    }
}

/// The result of a run. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct OplogReport {
    version: u32,
    pub job: String,
    /// A path or an `s3://` address.
    pub place: String,
    pub dry_run: bool,
    /// The address of the member that was read.
    pub member: String,
    /// The chain; `None` if there is none yet, because nothing could be read.
    pub chain: Option<ChainId>,
    /// The last entry of the chain, up to which points in time can be restored.
    pub end: Option<OpTime>,
    /// The slices of this run.
    pub slices: Vec<StoredSlice>,
    pub entries: u64,
    pub raw_bytes: u64,
    pub stored_bytes: u64,
    /// The number of entries that were read.
    pub read_entries: u64,
    /// The writes that no slice contains, if this run began a new chain after a gap.
    pub gap: Option<OplogGap>,
    /// The changes in these slices that no restore can repeat.
    pub barriers: Vec<Barrier>,
    /// The places, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<OplogPlaceRow>,
    /// Texts that a person should look at: the gap, the barriers, failed notices.
    pub problems: Vec<String>,
    pub notes: Vec<String>,
}

impl OplogReport {
    /// The report of a run that stored nothing yet.
    pub(super) fn empty(job: &str, place: String, dry_run: bool, member: String) -> OplogReport {
        OplogReport {
            version: 1,
            job: job.into(),
            place,
            dry_run,
            member,
            chain: None,
            end: None,
            slices: Vec::new(),
            entries: 0,
            raw_bytes: 0,
            stored_bytes: 0,
            read_entries: 0,
            gap: None,
            barriers: Vec::new(),
            places: Vec::new(),
            problems: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// [`Exit::NeedsLook`] if there are problems, else [`Exit::Done`].
    pub fn exit(&self) -> Exit {
        if self.problems.is_empty() { Exit::Done } else { Exit::NeedsLook }
    }

    /// The facts for the notifications.
    pub(super) fn success(&self) -> OplogSuccess {
        OplogSuccess {
            place: self.place.clone(),
            slices: self.slices.len() as u64,
            entries: self.entries,
            raw_bytes: self.raw_bytes,
            stored_bytes: self.stored_bytes,
            end: self.end.map(OpTime::date),
            chain_start: self.chain.as_ref().map(|chain| chain.start.date()),
            gap: self.gap.is_some(),
            barrier: self.barriers.last().map(|barrier| barrier.at.date()),
            problems: self.problems.clone(),
            notes: self.notes.clone(),
            urgent: self.gap.is_some() || !self.barriers.is_empty(),
        }
    }

    /// Counts a slice, with its gap and its barriers.
    pub(super) fn add(&mut self, manifest: &SliceManifest, stored: StoredSlice) {
        self.entries += stored.entries;
        self.raw_bytes += stored.raw_bytes;
        self.stored_bytes += stored.stored_bytes;
        self.slices.push(stored);
        if let Some(gap) = &manifest.gap {
            self.problems.push(format!(
                "gap: the writes after {} and up to {} are in no oplog slice, because {}. No time between them can be restored; \
                 make a backup now, and run `oplog` more often or make the oplog larger",
                gap.from.second(),
                manifest.start.second(),
                gap.why
            ));
            self.gap = Some(gap.clone());
        }
        for barrier in &manifest.barriers {
            self.problems.push(format!(
                "no restore can go past {}: {}. Make a backup now: restores to later times begin there",
                barrier.at.second(),
                barrier.why
            ));
        }
        self.barriers.extend(manifest.barriers.iter().cloned());
    }
}
