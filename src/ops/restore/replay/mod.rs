//! Replays the oplog slice of a backup: the writes on the server while its collections were read, one after the other.
//! Afterwards all collections are as they were at one instant, the slice's end.
//!
//! The slice is read twice. The first time, for the plan ([`SliceSurvey`]), finds everything that cannot be replayed
//! before anything is touched. The second time, when all documents are restored and counted, its steps are taken at the
//! target. Then the indexes are built that exist at the slice's end.

mod lanes;
mod player;
pub(super) mod survey;
mod touched;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Restore;
use super::namespaces::{NamespaceKey, Planned, full_name};
use super::report::{NamespaceOutcome, ProblemKind, Replayed};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::{Meter, Phase};
use crate::dumpformat::oplog::script::{self, ReplayStep};
use crate::dumpformat::oplog::{NO_REPLAY, TargetNamespace};
use player::Player;
use survey::{EXPIRES, ReplayCatalog};

pub(crate) use lanes::{id_key, written_id};
pub use survey::SliceSurvey;
pub(crate) use survey::follow_all;
pub(crate) use touched::Touched;

/// Replaces [`NO_REPLAY`] in the next steps of a restore to a point in time.
const OTHER_POINT: &str =
    "Or restore to another time: `uzima-backup timeline` shows which points in time can be restored";

/// The next step for a restore to a point in time, which needs its replay.
pub(super) fn at_point(step: &str) -> String {
    step.replace(NO_REPLAY, OTHER_POINT)
}

/// The error with a next step that the restore can take.
pub(super) fn advised(error: Error, to_a_point: bool) -> Error {
    match error.next_step().filter(|_| to_a_point).map(at_point) {
        Some(step) => error.hint(step),
        None => error,
    }
}

impl Restore {
    /// Takes the steps of the slice, without indexes. Leaves out the namespaces in `skip`, and adds namespaces that fail. Returns
    /// also the namespaces and indexes at the end of the slice.
    ///
    /// # Errors
    /// Returns an error if the replay of other namespaces cannot go on either.
    pub(super) async fn play(&self, skip: &mut Skip, meter: &Meter) -> Result<(Replayed, ReplayCatalog)> {
        let (names, planned) = (self.options.names(), &self.plan.namespaces);
        let connected = if names.users { self.target.connected_users().await? } else { Vec::new() };
        let script = self.origin.script(names, connected);
        let (operations, bytes) =
            self.plan.oplog.survey().map_or((0, 0), |survey| (survey.operations, survey.read_bytes));
        meter.expect_replay(operations, bytes);
        let exceptions = Mutex::new(Exceptions { skip: std::mem::take(skip), missing: BTreeMap::new() });
        let (read, catalog, operations) = {
            let catalog = ReplayCatalog::new(planned);
            let marker = self.plan.mark.marker.as_deref();
            let mut player = Player::new(&self.target, catalog, &exceptions, self.expires_later(), marker);
            let read = player.play(&self.origin, script, meter).await;
            (read, player.catalog, player.operations)
        };
        let Exceptions { skip: skipped, missing } =
            exceptions.into_inner().unwrap_or_else(PoisonError::into_inner);
        *skip = skipped;
        let read = read?;
        let lost = |key: &NamespaceKey| {
            let name = full_name(key);
            let what = format!("{name} is not in the backup, so the writes to it in the oplog are lost");
            ProblemKind::Documents.problem(what)
        };
        let restored: BTreeSet<NamespaceKey> = planned.iter().map(|planned| planned.chosen.key()).collect();
        let gone = planned.iter().filter(|planned| !catalog.has(&planned.chosen.key()));
        let replayed = Replayed {
            entries: read.entries,
            operations,
            left_out: read.left_out,
            open_transactions: read.open_transactions,
            gone: gone.map(|planned| planned.chosen.name()).collect(),
            came: catalog.keys().filter(|key| !restored.contains(key)).map(full_name).collect(),
            problems: missing.keys().map(lost).collect(),
            ..Replayed::default()
        };
        Ok((replayed, catalog))
    }

    /// Replays the slice and builds the indexes. The indexes of restored namespaces are counted in their
    /// `outcomes`. Leaves out the namespaces in `skip`, and adds namespaces that fail. Returns an error if
    /// the replay of other namespaces cannot go on either.
    pub(super) async fn replay(
        &self,
        outcomes: &mut [NamespaceOutcome],
        skip: &mut Skip,
        meter: &Meter,
    ) -> Result<Replayed> {
        let (mut replayed, catalog) = self.play(skip, meter).await?;
        for failure in &skip.failures {
            let why = format!("not replayed: {}", failure.why);
            let kind = match failure.diverged {
                true => ProblemKind::Diverged,
                false => ProblemKind::Incomplete,
            };
            match outcomes.iter_mut().find(|outcome| outcome.to == failure.name) {
                Some(outcome) => {
                    outcome.problems.push(kind.problem(why));
                    outcome.next_step = outcome.next_step.take().or(failure.next_step.clone());
                }
                None => {
                    let what = format!("{}: {why}", failure.name);
                    replayed.problems.push(kind.problem(what));
                }
            }
        }
        if self.expires_later() {
            self.expire(&catalog, skip, &mut replayed).await?;
        }
        let mut builds = if self.options.no_indexes { Vec::new() } else { catalog.builds() };
        builds.retain(|build| !skip.has(&full_name(&build.of)));
        meter.expect(Phase::Indexing, None, builds.len() as u64);
        for build in builds {
            let name = full_name(&build.of);
            meter.doing(name.clone());
            let began = Instant::now();
            let problems = self.target.index(&build.specs, &build.of.0, &build.on).await?;
            let built = (build.specs.len() - problems.len()) as u64;
            let (indexes, indexing, all, prefix) =
                match outcomes.iter_mut().find(|outcome| outcome.to == name) {
                    Some(one) => (&mut one.indexes, &mut one.indexing, &mut one.problems, String::new()),
                    None => {
                        let Replayed { indexes, indexing, problems, .. } = &mut replayed;
                        (indexes, indexing, problems, format!("{name}: "))
                    }
                };
            *indexes += built;
            *indexing += began.elapsed();
            let problem = |what| ProblemKind::Index.problem(format!("{prefix}{what}"));
            all.extend(problems.into_iter().map(problem));
            meter.end();
        }
        Ok(replayed)
    }
}

impl Restore {
    /// Returns true if documents of time series and clustered collections expire only after the replay. An exact replay needs
    /// all documents. Staged documents do not expire.
    pub(super) fn expires_later(&self) -> bool {
        self.options.staged.is_some() || self.origin.continuation().is_some() && !self.options.sifts()
    }

    /// A namespace as it is created.
    pub(crate) fn created(&self, planned: &Planned) -> Planned {
        let mut planned = planned.clone();
        if self.expires_later() {
            planned.namespace.options = script::without(&planned.namespace.options, EXPIRES);
        }
        planned
    }

    async fn expire(&self, catalog: &ReplayCatalog, skip: &Skip, replayed: &mut Replayed) -> Result<()> {
        for (key, command) in catalog.expirations() {
            let name = full_name(key);
            if skip.has(&name) {
                continue;
            }
            let doing = format!("cannot set when documents of {name} expire");
            match self.target.command(&key.0, &command, &doing, &[]).await {
                Err(error) if error.kind() == Kind::Refused => {
                    replayed.problems.push(ProblemKind::Documents.problem(error.chain()));
                }
                done => drop(done?),
            }
        }
        Ok(())
    }
}

/// What all lanes know about the namespaces.
#[derive(Default)]
struct Exceptions {
    /// Operations on these namespaces are left out. A namespace whose operation fails is added.
    skip: Skip,
    /// Collections that the slice writes to but the backup does not contain, because they were dropped before
    /// they were read, with their database in the backup. The slice must drop them later.
    missing: BTreeMap<NamespaceKey, String>,
}

/// Namespaces that a replay leaves out. Their documents are not as the backup read them, so further
/// operations would lead to a state that the source never had.
#[derive(Debug, Default)]
pub(crate) struct Skip {
    /// The names at the target.
    pub names: BTreeSet<String>,
    /// True if users and roles are left out.
    pub users: bool,
    pub failures: Vec<ReplayFailure>,
}

/// A namespace whose replay ended early.
#[derive(Debug)]
pub(crate) struct ReplayFailure {
    pub name: String,
    why: String,
    pub next_step: Option<String>,
    /// The data differs from the data that the oplog was written for.
    diverged: bool,
}

impl std::fmt::Display for ReplayFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.why)
    }
}

impl Skip {
    /// Leaves out all further operations on a namespace after one of them failed.
    fn fail(&mut self, name: String, error: &Error) {
        log::warn!("{name}: {}", error.chain());
        if self.names.insert(name.clone()) {
            let next_step = error.next_step().map(str::to_string);
            let (why, diverged) = (error.chain(), error.kind() == Kind::Mismatch);
            self.failures.push(ReplayFailure { name, why, next_step, diverged });
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Returns true if operations on this namespace are left out.
    fn leaves_out(&self, named: &TargetNamespace) -> bool {
        self.users && named.is_users_or_roles() || !self.names.is_empty() && self.has(&named.name())
    }

    /// Returns true if a step is left out. A rename from or to a namespace that is left out also fails the
    /// other namespace.
    fn takes(&mut self, step: &ReplayStep) -> bool {
        let left_out = step.namespaces().iter().any(|named| self.leaves_out(named));
        if left_out && let ReplayStep::Rename { from, to, .. } = step {
            let what = format!(
                "the oplog renames {} to {}, and one of them was not restored",
                from.name(),
                to.name()
            );
            let error = Error::failed(what);
            [from, to].into_iter().for_each(|named| self.fail(named.name(), &error));
        }
        left_out
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn named(collection: &str) -> TargetNamespace {
        let (db, collection) = ("shop".to_string(), collection.to_string());
        TargetNamespace { from_db: db.clone(), from: collection.clone(), db, collection, buckets: false }
    }

    #[test]
    fn a_rename_fails_both_names_if_one_was_not_restored() {
        let rename = |from: &str, to: &str| ReplayStep::Rename {
            from: named(from),
            to: named(to),
            command: rawdoc! {},
        };
        let mut skip = Skip::default();
        assert!(!skip.takes(&rename("a", "b")));
        skip.names.insert("shop.a".into());
        assert!(skip.takes(&rename("a", "b")) && skip.takes(&rename("c", "b")));
        let failed: Vec<String> = skip.failures.iter().map(|failure| failure.name.clone()).collect();
        assert_eq!(failed, ["shop.b", "shop.c"], "shop.a has an error of its own");
        assert!(skip.takes(&ReplayStep::Drop(named("b"))) && !skip.takes(&ReplayStep::Drop(named("d"))));
    }
}
