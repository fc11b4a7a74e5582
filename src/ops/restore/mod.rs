//! `restore`: writes a backup, or chosen namespaces of it, to a server.
//!
//! First it makes a plan ([`plan`]) with the namespaces to be restored, their names, the existing namespaces of the
//! target, and the parts that the target cannot take ([`preflight`]). Then it reads and checks every document to be
//! restored, and only then it drops or writes anything ([`load`], [`fill`]). The report lists every difference between
//! backup and target, and a difference leads to a non-zero exit code.

mod choosing;
mod continued;
pub(crate) mod dump;
mod fill;
pub(crate) mod filter;
pub mod get;
mod kept;
mod load;
mod marks;
mod merge;
mod namespaces;
mod options;
mod origin;
mod plan;
mod preflight;
mod remedy;
pub(crate) mod replay;
mod report;
mod swap;
mod unfit;
mod views;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use crate::base::cancel::{Cancel, LastStep};
use crate::base::error::{Error, Kind, Result};
use crate::base::escape::quoted;
use crate::base::heap::on_heap;
use crate::base::progress::{Meter, Phase};
use crate::base::suggest::escaped;
use crate::dumpformat::oplog::NO_REPLAY;
use crate::model::namespace::Type;
use crate::restore_target::{RestoreTarget, ServerVersion, collections};

pub use continued::{ContinuedFacts, InterruptedNamespace, InterruptedRestore, LoadState};
pub(crate) use dump::ArchiveSurvey;
pub use dump::Dump;
pub use filter::{Rename, RestoreFilter, pairs, renamed};
pub use kept::KeptReport;
pub use marks::Marks;
pub use namespaces::{BackupNamespace, ChosenNamespace, Existing, Planned, Resumed};
use namespaces::{NamespaceKey, full_name};
pub use options::{At, DocumentFilter, MarkOptions, RestoreOptions, Users};
pub(crate) use origin::read_blocking;
pub use origin::{RestoreOrigin, StoredBackup};
pub use plan::{CountedNamespace, OplogPlan, RestorePlan};
pub use remedy::Obstacle;
use replay::Skip;
pub use replay::SliceSurvey;
pub use report::{
    ChosenCounts, FilterCounts, MergeCounts, NamespaceOutcome, PointFacts, Problem, ProblemKind, Replayed,
    RestoreFacts, RestoreReport, SwapReport, SwappedCollection,
};

pub use swap::{AsideReport, KeptCollection, KeptRestore, Swap, SwapSide, SwapState};

use choosing::{ChosenRest, StagingSlot};
use load::Load;
use remedy::{NamespaceState, RestoreProgress};

/// How long a plan that failed may take to drop its empty collections.
const DROPPING: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Restore {
    origin: RestoreOrigin,
    target: RestoreTarget,
    options: RestoreOptions,
    cancel: Cancel,
    progress: Arc<RestoreProgress>,
    /// The staging collections, while there are some.
    staging: StagingSlot,
    pub plan: RestorePlan,
}

impl Restore {
    /// Makes the plan. Writes only empty collections, to find out what the target accepts, and drops them again, also
    /// after an error or a signal.
    pub async fn plan(
        origin: RestoreOrigin,
        target: RestoreTarget,
        options: RestoreOptions,
        cancel: &Cancel,
    ) -> Result<Restore> {
        let options = RestoreOptions { drop: options.drop || options.exact, ..options };
        let at_point = origin.continuation().is_some();
        let plan = match cancel.or(on_heap(|| plan::make(&origin, &target, &options))).await {
            Ok(plan) => plan,
            Err(error) => {
                let dropping = tokio::time::timeout(DROPPING, target.end_trials());
                let _ = cancel.within(LastStep::Work, dropping).await;
                return Err(replay::advised(error, at_point));
            }
        };
        let planned = plan.namespaces.iter().map(|one| (one.chosen.name(), Some(one.source.name())));
        let names = planned.chain(plan.in_the_way.iter().map(|key| (full_name(key), None)));
        let users = !plan.users_and_roles.is_empty();
        let marker = plan.mark.marker.clone();
        let progress = RestoreProgress::new(names, users, target.clone(), options.clone(), marker);
        for kept in plan.namespaces.iter().filter(|planned| planned.is_kept()) {
            progress.set(&kept.chosen.name(), NamespaceState::Filled);
        }
        let staging = StagingSlot::default();
        Ok(Restore { origin, target, options, cancel: cancel.clone(), progress, staging, plan })
    }

    /// The problems of the places that were read so far: places that were not used, and objects that another place
    /// gave.
    pub fn problems_of_places(&self) -> Vec<String> {
        self.origin.problems_of_places()
    }

    /// Checks the user's rights, and reads everything that would be restored and compares it with the manifest.
    pub async fn check(&self, meter: &Meter) -> Result<()> {
        let checked = self.cancel.or(self.check_all(meter)).await;
        checked.map_err(|error| replay::advised(error, self.origin.continuation().is_some()))
    }

    async fn check_all(&self, meter: &Meter) -> Result<()> {
        self.may().await?;
        self.expect(Phase::Checking, meter);
        match &self.origin {
            RestoreOrigin::Stored(stored) => {
                let loaded = self.plan.namespaces.iter().filter(|planned| !planned.is_kept());
                let wanted = loaded.map(|planned| planned.chosen.at).collect();
                stored.check(&wanted, self.options.workers, meter).await
            }
            // A dump was read to its end when it was opened.
            RestoreOrigin::Dump(_) => Ok(()),
        }
    }

    async fn may(&self) -> Result<()> {
        self.target.may(&plan::needed(&self.plan, &self.options, self.target.version)).await?;
        let Some(survey) = self.plan.oplog.survey() else { return Ok(()) };
        // From 9.0 on, buckets have no collection of their own, and `applyOps` has no `rawData` (mongo-tools,
        // `mongorestore/mongorestore_test.go`).
        let series = self.plan.namespaces.iter().filter(|planned| planned.source.kind == Type::Timeseries);
        let written: Vec<String> = series
            .filter(|planned| survey.touched.contains_key(&planned.chosen.key()))
            .map(|planned| planned.source.name())
            .collect();
        if written.is_empty() || self.target.version < ServerVersion(9, 0, 0) {
            return self.target.may_apply(&survey.databases).await;
        }
        let what = format!(
            "the oplog slice writes to time series, and MongoDB {} cannot replay such writes: {}",
            self.target.version,
            written.join(", ")
        );
        let flags: Vec<String> =
            written.iter().map(|name| format!("--ns-exclude {}", quoted(&escaped(name)))).collect();
        Err(Error::failed(what).hint(format!(
            "Nothing was changed. {} restores the rest as of one instant. {NO_REPLAY}",
            flags.join(" ")
        )))
    }

    /// Restores. If one namespace fails, the report has a problem for it, and the others are still restored.
    ///
    /// # Errors
    /// Returns an error before anything is changed if the plan is refused or the backup is damaged. Returns
    /// an error later if no further namespace can be restored, because the server is gone or the backup
    /// cannot be read; this error names the namespaces that were dropped and not restored.
    pub async fn apply(self, meter: &Meter) -> Result<RestoreReport> {
        self.apply_watched(meter, async |_| Ok(())).await
    }

    /// Restores. With a replay, `before_replay` is called once, when documents, users and roles are as the
    /// backup read them. Indexes are built after the replay.
    ///
    /// # Errors
    /// Returns the errors of [`Restore::apply`] and of `before_replay`.
    pub async fn apply_watched(
        self,
        meter: &Meter,
        before_replay: impl AsyncFnOnce(&[NamespaceOutcome]) -> Result<()>,
    ) -> Result<RestoreReport> {
        let (progress, cancel) = (Arc::clone(&self.progress), self.cancel.clone());
        let (at_point, staging) = (self.origin.continuation().is_some(), Arc::clone(&self.staging));
        let outcome = match cancel.or(on_heap(|| self.check_and_write(meter, before_replay))).await {
            // The text after the semicolon says that nothing was stored. It is meant for backups.
            Err(error) if matches!(error.kind(), Kind::Signal(_)) => {
                let signal = error.to_string().split(';').next().unwrap_or_default().to_string();
                let left = cancel.left(LastStep::Work);
                Err(progress.stopped(Error::new(error.kind(), signal), left).await)
            }
            outcome => outcome.map_err(|error| replay::advised(error, at_point)),
        };
        match (outcome, staging.lock().await.take()) {
            (Err(error), Some(staging)) => Err(staging.abandon(error).await),
            (outcome, _) => outcome,
        }
    }

    async fn check_and_write(
        self,
        meter: &Meter,
        before_replay: impl AsyncFnOnce(&[NamespaceOutcome]) -> Result<()>,
    ) -> Result<RestoreReport> {
        if let Some(error) = self.plan.refusal() {
            return Err(error);
        }
        // A target without user data loses nothing, so documents are checked while they are written.
        match self.plan.fresh {
            true => self.may().await?,
            false => self.check_all(meter).await?,
        }
        self.expect(self.writing(), meter);
        let progress = Arc::clone(&self.progress);
        match self.write(meter, before_replay).await {
            Err(error) => Err(progress.stopped(error, None).await),
            report => report,
        }
    }

    async fn write(
        self,
        meter: &Meter,
        before_replay: impl AsyncFnOnce(&[NamespaceOutcome]) -> Result<()>,
    ) -> Result<RestoreReport> {
        if let Some(marker) = &self.plan.mark.marker {
            marker.begin().await?;
        }
        for ((db, name), identity) in &self.plan.mark.beside {
            self.target.drop_identified(db, name, identity).await?;
        }
        let chooses = self.options.sifts();
        let (mut outcomes, mut rest) = match chooses {
            true => on_heap(|| self.fill_chosen(meter)).await?,
            false => (on_heap(|| self.fill(meter)).await?, ChosenRest::default()),
        };
        outcomes.sort_by(|a, b| a.to.cmp(&b.to));
        meter.enter(Phase::Finishing);
        let mut problems = self.merge_users_and_roles().await?;
        problems.append(&mut rest.problems);
        let (mut dropped, mut replayed) = (rest.dropped, rest.replayed);
        if self.replays() && !chooses {
            before_replay(&outcomes).await?;
            let failed = outcomes.iter().filter(|outcome| !outcome.is_complete());
            let names = failed.map(|outcome| outcome.to.clone()).collect();
            let mut skip = Skip { names, users: !problems.is_empty(), failures: Vec::new() };
            // The slice creates these namespaces, so their names must be free. They are dropped as late as
            // possible.
            skip.names.extend(self.drop_beside(&self.plan.in_the_way, &mut dropped, &mut problems).await?);
            if let Some(marker) = &self.plan.mark.marker {
                marker.replaying().await?;
            }
            replayed = Some(self.replay(&mut outcomes, &mut skip, meter).await?);
            let slice_only = self.plan.in_the_way.iter().map(full_name).filter(|name| !skip.has(name));
            slice_only.for_each(|name| self.progress.set(&name, NamespaceState::Filled));
            skip.failures.iter().for_each(|failure| self.progress.lack(&failure.name));
            if self.origin.continuation().is_some() {
                let steps = outcomes.iter_mut().filter_map(|outcome| outcome.next_step.as_mut());
                steps.for_each(|step| *step = replay::at_point(step));
            }
        }
        meter.enter(Phase::Finishing);
        self.constrain(&mut outcomes).await?;
        self.drop_beside(&self.plan.extra, &mut dropped, &mut problems).await?;
        self.progress.end();
        let (mut of_mark, mut not_marked) = (Vec::new(), None);
        if let Some(marker) = &self.plan.mark.marker {
            of_mark.extend(marker.end().await);
            not_marked = marker.note();
        }
        self.target.close().await;
        let (users, roles) = self.plan.user_counts().unzip();
        let incomplete = outcomes.iter().filter(|outcome| !outcome.is_complete());
        let missing = incomplete.map(|outcome| outcome.to.clone()).collect();
        let next_step = self.next_step(&outcomes);
        let of_places = self.problems_of_places();
        let RestorePlan { mut facts, mut warnings, .. } = self.plan;
        facts.notes.extend(not_marked);
        warnings.extend(of_places);
        warnings.extend(of_mark);
        facts.notes.append(&mut rest.notes);
        warnings.append(&mut rest.warnings);
        Ok(RestoreReport {
            facts,
            outcomes,
            dropped,
            users,
            roles,
            replayed,
            missing,
            problems,
            next_step,
            swap: None,
            warnings,
        })
    }

    /// Merges users and roles. Returns a problem for each failure.
    async fn merge_users_and_roles(&self) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        for users_and_roles in &self.plan.users_and_roles {
            match self.target.merge_users(users_and_roles, self.options.exact).await {
                Err(error) if error.kind() == Kind::Refused => {
                    let db = &users_and_roles.db;
                    let of = if db.is_empty() { String::new() } else { format!(" of {db}") };
                    let what = format!("users and roles{of} were not restored completely: {}", error.chain());
                    problems.push(ProblemKind::Incomplete.problem(what));
                }
                merged => merged?,
            }
        }
        if problems.is_empty() {
            self.progress.users_merged();
        }
        Ok(problems)
    }

    /// Sets the validation level `constraint` after all documents are inserted, because it lets no insert
    /// bypass the validator.
    async fn constrain(&self, outcomes: &mut [NamespaceOutcome]) -> Result<()> {
        let stays = |one: &Planned| self.options.merge && one.existing.is_some();
        let constrained = |one: &&Planned| collections::is_constrained(&one.namespace) && !stays(one);
        for planned in self.plan.namespaces.iter().filter(constrained) {
            let ChosenNamespace { db, collection, .. } = &planned.chosen;
            let name = planned.chosen.name();
            let Some(outcome) = outcomes.iter_mut().find(|one| one.to == name && one.is_complete()) else {
                continue;
            };
            let left = self.target.constrain(&planned.namespace, db, collection).await?;
            outcome.problems.extend(left.map(|what| ProblemKind::Documents.problem(what)));
        }
        Ok(())
    }

    /// Drops namespaces that are not in the backup. Adds their names to `dropped`, and returns the names that
    /// the server does not drop.
    async fn drop_beside(
        &self,
        beside: &[NamespaceKey],
        dropped: &mut Vec<String>,
        problems: &mut Vec<Problem>,
    ) -> Result<Vec<String>> {
        let mut kept = Vec::new();
        let drops = stream::iter(beside).map(async |key| {
            let name = full_name(key);
            self.progress.set(&name, NamespaceState::Dropped);
            (name, self.target.drop_namespace(&key.0, &key.1).await)
        });
        let mut drops = drops.buffered(self.target.pace.namespaces);
        while let Some((name, done)) = drops.next().await {
            match done {
                Err(error) if error.kind() == Kind::Refused => {
                    problems.push(ProblemKind::Incomplete.problem(error.chain()));
                    kept.push(name);
                }
                done => {
                    done?;
                    dropped.push(name);
                }
            }
        }
        Ok(kept)
    }

    /// The next step: how to remove the causes, then the flags that restore the rest.
    fn next_step(&self, outcomes: &[NamespaceOutcome]) -> Option<String> {
        let advice = self.progress.advice()?;
        let causes: BTreeSet<&str> = outcomes.iter().filter_map(|one| one.next_step.as_deref()).collect();
        let causes = if causes.is_empty() { BTreeSet::from(["Remove the cause"]) } else { causes };
        let untouched = self.target.is_untouched().then_some("Nothing was changed at the target");
        let steps = untouched.into_iter().chain(causes).chain([advice.as_str()]);
        Some(steps.collect::<Vec<_>>().join(". "))
    }

    async fn fill(&self, meter: &Meter) -> Result<Vec<NamespaceOutcome>> {
        // With a replay, indexes are built after it, because the documents before it may break a unique
        // index.
        let indexes = !self.options.no_indexes && !self.replays();
        let loads = self.plan.namespaces.iter().map(|planned| Load::new(self, planned, indexes)).collect();
        self.run_loads(loads, meter).await
    }

    async fn run_loads(&self, loads: Vec<Arc<Load>>, meter: &Meter) -> Result<Vec<NamespaceOutcome>> {
        match &self.origin {
            RestoreOrigin::Stored(stored) => {
                fill::fill_from_store(stored, loads, self.options.workers, self.target.pace, meter).await
            }
            RestoreOrigin::Dump(dump) => fill::fill_from_dump(dump, loads, self.target.pace, meter).await,
        }
    }

    fn replays(&self) -> bool {
        self.plan.oplog.survey().is_some()
    }

    /// The phase in which documents are written.
    fn writing(&self) -> Phase {
        match self.origin {
            RestoreOrigin::Stored(_) => Phase::Writing,
            RestoreOrigin::Dump(_) => Phase::Loading,
        }
    }

    fn expect(&self, phase: Phase, meter: &Meter) {
        let raw_bytes = self.plan.loaded(|source| source.raw_bytes);
        meter.expect(phase, Some(raw_bytes), self.plan.namespaces.len() as u64);
    }
}
