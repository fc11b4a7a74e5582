//! Replays the oplog slice of a backup: the writes on the server while its collections were read, one after the other.
//! Afterwards all collections are as they were at one instant, the slice's end.
//!
//! The slice is read twice. The first time, for the plan ([`survey`]), finds everything that cannot be replayed before
//! anything is touched. The second time, when all documents are restored and counted, [`play`] takes its steps at the
//! target. The indexes are built after that, as the [`catalog`] then has them.

pub(super) mod action;
pub(super) mod catalog;
mod entry;
mod play;
pub(crate) mod script;
mod survey;

use std::time::{Duration, Instant};

use super::filter::ReplayFilter;
use super::namespaces::{NamespaceKey, Planned};
use super::origin::RestoreOrigin;
use super::report::{NamespaceOutcome, ProblemKind, Replayed};
use crate::base::error::Result;
use crate::base::progress::Meter;
use crate::restore_target::RestoreTarget;
use catalog::ReplayCatalog;
use script::Script;

pub(super) use play::Skip;
pub use survey::SliceSurvey;
pub(super) use survey::survey;

#[derive(Debug)]
pub(crate) struct Replay<'a> {
    pub origin: &'a RestoreOrigin,
    pub names: ReplayFilter,
    pub target: &'a RestoreTarget,
    /// The namespaces that were restored before the replay.
    pub planned: &'a [Planned],
    pub indexes: bool,
}

impl Replay<'_> {
    /// Replays the slice and builds the indexes; those of restored namespaces are counted in their
    /// `outcomes`. Leaves out the namespaces in `skip`, and adds namespaces that fail.
    ///
    /// # Errors
    /// Returns an error if the replay of other namespaces cannot go on either.
    pub(crate) async fn run(
        self,
        outcomes: &mut [NamespaceOutcome],
        skip: &mut Skip,
        meter: &Meter,
    ) -> Result<Replayed> {
        let Replay { origin, names, target, planned, indexes } = self;
        let connected = if names.users { target.connected_users().await? } else { Vec::new() };
        let script = Script::new(names, connected, origin.slice_bounds());
        let played =
            play::play(origin, script, target, ReplayCatalog::new(planned.iter()), skip, meter).await?;
        let restored =
            |key: &NamespaceKey| planned.iter().any(|p| p.chosen.db == key.0 && p.chosen.collection == key.1);
        let name = |key: &NamespaceKey| format!("{}.{}", key.0, key.1);
        let mut replayed = Replayed {
            entries: played.read.entries,
            operations: played.operations,
            left_out: played.read.left_out,
            open_transactions: played.read.open_transactions,
            came: played.catalog.keys().filter(|key| !restored(key)).map(name).collect(),
            gone: planned.iter().map(|p| p.chosen.name()).collect(),
            indexes: 0,
            indexing: Duration::ZERO,
            problems: played.problems,
        };
        let there: Vec<String> = played.catalog.keys().map(name).collect();
        replayed.gone.retain(|name| !there.contains(name));
        for failure in skip.failures() {
            let told = |text| ProblemKind::Incomplete.problem(text);
            match outcomes.iter_mut().find(|outcome| outcome.to == failure.name) {
                Some(outcome) => {
                    outcome.problems.push(told(format!("not replayed: {}", failure.why)));
                    outcome.next_step = outcome.next_step.take().or(failure.next_step);
                }
                None => {
                    replayed.problems.push(told(format!("{}: not replayed: {}", failure.name, failure.why)))
                }
            }
        }
        let builds = if indexes { played.catalog.builds() } else { Vec::new() };
        for build in builds.into_iter().filter(|build| !skip.has(&name(&build.of))) {
            meter.doing(format!("building the indexes of {}", name(&build.of)));
            let began = Instant::now();
            let problems = target.index(&build.specs, &build.of.0, &build.on).await?;
            let built = (build.specs.len() - problems.len()) as u64;
            match outcomes.iter_mut().find(|outcome| outcome.to == name(&build.of)) {
                Some(outcome) => {
                    outcome.indexes += built;
                    outcome.indexing += began.elapsed();
                    outcome
                        .problems
                        .extend(problems.into_iter().map(|what| ProblemKind::Index.problem(what)));
                }
                None => {
                    replayed.indexes += built;
                    replayed.indexing += began.elapsed();
                    let of = name(&build.of);
                    let told = |what| ProblemKind::Index.problem(format!("{of}: {what}"));
                    replayed.problems.extend(problems.into_iter().map(told));
                }
            }
        }
        Ok(replayed)
    }
}
