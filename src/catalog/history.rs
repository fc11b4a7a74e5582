//! What the store says of runs, joined with what records say. Pure: the store wins wherever it speaks,
//! and records add what only they know: that a run is under way, was killed, or that its backup is gone.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::records;
use super::run::{BackupRun, Status};
use crate::model::id::BackupId;

/// No run lasts so long: one that is still said to be under way was killed.
const DEAD: TimeDelta = TimeDelta::days(2);

/// What a store says, as far as it was asked.
#[derive(Debug, Clone, Default)]
pub struct StoreRuns {
    /// The store, in words. Records of other places are none of its business.
    pub place: String,
    /// Completed runs by their manifests, failed ones by what is said about them.
    pub runs: Vec<BackupRun>,
    /// Every backup that has a manifest, whether it was read or not.
    pub manifests: BTreeSet<BackupId>,
    /// Every run that is said to have failed, whether it was read or not.
    pub failures: BTreeSet<BackupId>,
}

/// What tells a dead run from one that is under way.
#[derive(Debug, Clone)]
pub struct RunContext {
    /// The time.
    pub now: DateTime<Utc>,
    /// The job whose lock the caller holds, and on which host: no other run of it is under way there.
    pub held: Option<(String, String)>,
}

/// Every run of a place, newest first. No two have one id.
pub fn join(said: &StoreRuns, records: &[BackupRun], around: &RunContext) -> Vec<BackupRun> {
    let mut runs: BTreeMap<&BackupId, BackupRun> = BTreeMap::new();
    for record in records.iter().filter(|record| record.place == said.place) {
        runs.insert(&record.id, BackupRun { status: status(said, record, around), ..record.clone() });
    }
    // A verify is told by records alone, until the store speaks of it.
    let verified = |id| records.iter().find(|record| record.id == id).and_then(|r| r.verified.clone());
    for run in &said.runs {
        let known = || verified(run.id.clone());
        runs.insert(&run.id, BackupRun { verified: run.verified.clone().or_else(known), ..run.clone() });
    }
    let mut runs: Vec<BackupRun> = runs.into_values().collect();
    runs.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    runs
}

/// How a run stands of which the store was not asked, or has nothing.
fn status(said: &StoreRuns, record: &BackupRun, around: &RunContext) -> Status {
    let exists = said.manifests.contains(&record.id);
    let held = around.held.as_ref().is_some_and(|(job, host)| (job, host) == (&record.job, &record.host));
    match record.status {
        Status::Completed if !exists => Status::Deleted,
        Status::Running if said.failures.contains(&record.id) => Status::Failed,
        Status::Running if held || around.now - record.started_at > DEAD => Status::Interrupted,
        status => status,
    }
}

/// What records lack, or say otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Differences {
    /// Of these there is no record.
    pub added: Vec<BackupRun>,
    /// Of these a record says something else.
    pub corrected: Vec<BackupRun>,
}

/// What must be written so that records say what [`join`] says.
pub fn differences(said: &StoreRuns, records: &[BackupRun], around: &RunContext) -> Differences {
    let known: BTreeMap<&BackupId, &BackupRun> = records.iter().map(|record| (&record.id, record)).collect();
    let mut differences = Differences::default();
    for run in join(said, records, around) {
        match known.get(&run.id) {
            None => differences.added.push(run),
            Some(record) if !records::same(record, &run) => differences.corrected.push(run),
            Some(_) => {}
        }
    }
    differences
}

#[cfg(test)]
mod tests;
