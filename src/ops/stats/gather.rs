//! The runs of a job: what the store says, joined with what only records know.

use std::collections::{BTreeMap, BTreeSet};

use super::{JobHistory, StatsOptions, StatsReport, report};
use crate::base::error::Result;
use crate::catalog::history::{self, RunContext, StoreRuns};
use crate::catalog::run::{BackupRun, Status};
use crate::catalog::state::StoreState;
use crate::catalog::{CatalogOptions, fault::BackupFault};
use crate::model::id::BackupId;
use crate::store::Store;

/// Asks the store, and tells what its runs and the records of them tell together.
///
/// # Errors
/// If the store does not answer. What cannot be understood in it is logged, and not counted.
pub async fn gather(
    store: &dyn Store,
    records: &[BackupRun],
    options: &StatsOptions,
    reading: &CatalogOptions,
) -> Result<StatsReport> {
    let now = reading.now;
    let state = StoreState::read(store, &options.job, reading).await?;
    let place = store.place();
    let mut runs: Vec<BackupRun> =
        state.manifests().map(|manifest| BackupRun::completed(manifest, &place)).collect();
    let mut manifests: BTreeSet<BackupId> = state.manifests().map(|manifest| manifest.id.clone()).collect();
    // There is a backup, whatever its manifest says.
    manifests.extend(state.broken.keys().cloned());
    manifests.extend(state.archived.iter().cloned());
    let mut failures = BTreeSet::new();
    // A run that never heard that its manifest had arrived is said to have failed, and its backup exists.
    for (id, failure) in state.failed.iter().filter(|(id, _)| !manifests.contains(id)) {
        match failure {
            Ok(failure) => runs.push(BackupRun::failed(failure, &place)),
            Err(why) => log::warn!("{why}"),
        }
        failures.insert(id.clone());
    }
    state.unreadable.iter().for_each(|why| log::warn!("{why}"));
    let said = StoreRuns { place: place.clone(), runs, manifests, failures };
    let mine: Vec<BackupRun> = records.iter().filter(|run| run.job == options.job).cloned().collect();
    let mut runs = history::join(&said, &mine, &RunContext { now, held: None });
    let mut problems = state.problems();
    let faults = state.faults().chain(&state.broken);
    let mut faults: BTreeMap<BackupId, BackupFault> =
        faults.map(|(id, fault)| (id.clone(), fault.clone())).collect();
    for run in &mut runs {
        if let Some(fault) =
            state.incomplete.get(&run.id).and_then(|folder| BackupFault::lost_manifest(run, folder, now))
        {
            // It is stored, and nobody deleted it.
            run.status = Status::Completed;
            problems.push(fault.with_id(&run.id));
            faults.insert(run.id.clone(), fault);
        }
    }
    // Of which job these are, no record tells.
    let known = |id: &BackupId| faults.contains_key(id) || records.iter().any(|run| run.id == *id);
    let unknown = state.lost(now).into_iter().filter(|(id, _)| !known(id));
    problems.extend(unknown.map(|(id, fault)| fault.with_id(id)));
    let known = JobHistory {
        faults,
        runs,
        place,
        backups: state.backups(),
        others: state.others.iter().cloned().collect(),
        problems,
        drills: state.drills().into_iter().map(|(id, drill)| (id.clone(), drill.clone())).collect(),
        unreadable: state.unreadable,
    };
    Ok(report(&known, options, now))
}
