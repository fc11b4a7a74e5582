//! The oplog slice of a backup: what the server wrote while its collections were read, one after the other.
//! Applied to them it makes all of them as they were at one instant, the slice's end.
//!
//! The slice is read twice. First for the plan ([`survey`]): whatever cannot be replayed is found before
//! anything is touched. Then, when all documents are there and counted, [`play`] takes its steps at the target;
//! the indexes are built after that, as the [`catalog`] then has them.

mod action;
pub mod at;
mod catalog;
mod commands;
mod entry;
pub(crate) mod names;
mod play;
pub(crate) mod script;
pub mod shapes;
mod skip;
mod survey;
mod transactions;

pub use names::Names;
pub use script::Read;
pub use skip::Skip;
pub use survey::{Survey, survey};

use std::time::{Duration, Instant};

use super::origin::Origin;
use super::plan::Planned;
use super::problem::{Problem, Trouble};
use super::report::Outcome;
use crate::base::error::Result;
use crate::base::progress::Meter;
use crate::restore_target::Target;
use catalog::Catalog;
use script::Script;

/// What a replay did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Replayed {
    /// What was read of the slice.
    pub read: Read,
    /// How many operations were carried out.
    pub operations: u64,
    /// Restored namespaces that are gone again: they were dropped while the backup ran.
    pub gone: Vec<String>,
    /// Namespaces that came only with it.
    pub came: Vec<String>,
    /// How many indexes were built on those.
    pub indexes: u64,
    /// How long that took.
    pub indexing: Duration,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

/// The inputs of a replay.
#[derive(Debug)]
pub struct Replay<'a> {
    /// Where the slice is read.
    pub origin: &'a Origin,
    /// Which namespaces of the slice are replayed, and under which names.
    pub names: Names,
    /// Where it is replayed.
    pub target: &'a Target,
    /// The namespaces that were restored before the replay.
    pub planned: &'a [Planned],
    /// Indexes are built.
    pub indexes: bool,
}

impl Replay<'_> {
    /// Replays the slice and builds the indexes; those of the restored namespaces are counted in their `outcomes`.
    /// Leaves out the namespaces in `skip`, and adds those that fail.
    ///
    /// # Errors
    /// Returns an error if the replay of other namespaces cannot go on either.
    pub async fn run(self, outcomes: &mut [Outcome], skip: &mut Skip, meter: &Meter) -> Result<Replayed> {
        let Replay { origin, names, target, planned, indexes } = self;
        let connected = if names.people { target.connected_users().await? } else { Vec::new() };
        let script = Script::new(names, connected, origin.slice_bounds());
        let played = play::play(origin, script, target, Catalog::new(planned.iter()), skip, meter).await?;
        let restored =
            |key: &catalog::Key| planned.iter().any(|p| p.chosen.db == key.0 && p.chosen.collection == key.1);
        let name = |key: &catalog::Key| format!("{}.{}", key.0, key.1);
        let mut replayed = Replayed {
            read: played.read,
            operations: played.operations,
            came: played.catalog.keys().filter(|key| !restored(key)).map(name).collect(),
            gone: planned.iter().map(|p| p.chosen.name()).collect(),
            indexes: 0,
            indexing: Duration::ZERO,
            problems: played.problems,
        };
        let there: Vec<String> = played.catalog.keys().map(name).collect();
        replayed.gone.retain(|name| !there.contains(name));
        for failure in skip.failures() {
            let told = |text| Trouble::Incomplete.told(text);
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
                    outcome.problems.extend(problems.into_iter().map(|what| Trouble::Index.told(what)));
                }
                None => {
                    replayed.indexes += built;
                    replayed.indexing += began.elapsed();
                    let of = name(&build.of);
                    let told = |what| Trouble::Index.told(format!("{of}: {what}"));
                    replayed.problems.extend(problems.into_iter().map(told));
                }
            }
        }
        Ok(replayed)
    }
}
