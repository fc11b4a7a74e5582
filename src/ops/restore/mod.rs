//! `restore`: bring a backup, or chosen namespaces of it, into a server.
//!
//! First a plan ([`plan`]): what the backup holds ([`offer`]), what of it is wanted under which name, what the
//! target has already. Then every document that is to be restored is read and checked, and only then is
//! anything dropped or written ([`load`], [`run`]). Whatever is not as it was in the backup is a problem in the
//! report, and an exit code that is not 0.

mod draft;
pub(crate) mod dump;
pub(crate) mod files;
pub(crate) mod filter;
mod load;
mod metadata;
mod offer;
mod options;
mod origin;
mod people;
mod plan;
mod preflight;
mod problem;
mod remainder;
mod remedy;
mod rename;
pub(crate) mod replay;
mod report;
mod rights;
mod run;
pub(super) mod sinks;
mod standing;
mod stored;
mod stream;
mod superseded;
mod views;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::error::{Error, Kind, Result};
use crate::base::escape::quoted;
use crate::base::progress::Meter;
use crate::base::suggest::escaped;
use crate::model::namespace::Type;
use crate::restore_target::{Target, Version, shape};

pub use dump::Dump;
pub use filter::{Chosen, Filter};
pub use offer::Offer;
pub use options::{Options, Users};
pub use origin::Origin;
pub use plan::{Existing, Oplog, Plan, Planned};
pub use preflight::Unable;
pub use problem::{Problem, Trouble};
pub use rename::{Rename, pairs, renamed};
pub use replay::at::At;
use replay::{Replay, Skip};
pub use replay::{Replayed, Survey};
pub use report::{Outcome, Report};
pub use standing::Standing;
pub use stored::Stored;

use load::Load;
use standing::State;

/// A restore that is planned.
#[derive(Debug)]
pub struct Restore {
    origin: Origin,
    target: Target,
    options: Options,
    standing: Arc<Standing>,
    /// What will be done.
    pub plan: Plan,
}

impl Restore {
    /// Makes the plan. Writes nothing but empty collections, to find out what the target accepts, and drops them
    /// again. If it is ended early, [`Target::end_trials`] drops the remaining ones.
    pub async fn plan(origin: Origin, target: Target, options: Options) -> Result<Restore> {
        let options = Options { drop: options.drop || options.exact, ..options };
        let plan = draft::plan(&origin, &target, &options).await?;
        let standing = Standing::new(&plan, target.clone(), options.clone());
        Ok(Restore { origin, target, options, standing, plan })
    }

    /// How far the restore is with each namespace, for a caller that ends it early.
    pub fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// Reads everything that would be restored and compares it with what the backup says of it; asks whether the
    /// user may do all that it takes.
    pub async fn check(&self, meter: &Meter) -> Result<()> {
        self.may().await?;
        self.expect(meter);
        match &self.origin {
            Origin::Stored(stored) => {
                let wanted = self.plan.namespaces.iter().map(|planned| planned.chosen.at).collect();
                stored.check(&wanted, self.options.workers, meter).await
            }
            // It was read to its end when it was opened.
            Origin::Dump(_) => Ok(()),
        }
    }

    async fn may(&self) -> Result<()> {
        self.target.may(&rights::needed(&self.plan, &self.options, self.target.version)).await?;
        match &self.plan.oplog {
            Oplog::Replayed(survey) => {
                self.may_write_buckets(survey)?;
                self.target.may_apply(&survey.databases).await
            }
            Oplog::Absent | Oplog::Left => Ok(()),
        }
    }

    /// Refuses a slice that writes to time series where `applyOps` does not take buckets: from 9.0 on they have no
    /// collection of their own, and `applyOps` has no `rawData` (mongo-tools, `mongorestore/mongorestore_test.go`).
    fn may_write_buckets(&self, survey: &Survey) -> Result<()> {
        let series = self.plan.namespaces.iter().filter(|planned| planned.offer.kind == Type::Timeseries);
        let written: Vec<String> = series
            .filter(|planned| survey.touched.contains_key(&planned.chosen.key()))
            .map(|planned| planned.offer.name())
            .collect();
        if written.is_empty() || self.target.version < Version(9, 0, 0) {
            return Ok(());
        }
        let what = format!(
            "the oplog slice writes to time series, which MongoDB {} cannot replay: {}",
            self.target.version,
            written.join(", ")
        );
        let flags: Vec<String> =
            written.iter().map(|name| format!("--ns-exclude {}", quoted(&escaped(name)))).collect();
        Err(Error::failed(what).hint(format!(
            "Nothing was changed. With {} the rest is restored as of one instant; with --no-replay all is, and each \
             collection is as it was when it was read",
            flags.join(" ")
        )))
    }

    /// Restores. If one namespace fails, the report has a problem for it, and the others are restored all the same.
    ///
    /// # Errors
    /// Returns an error before anything is touched if the plan is refused or the backup is damaged. Returns an error
    /// later if no namespace can be restored any more, because the server is gone or the backup cannot be read; this
    /// error says which namespaces were dropped and not restored.
    pub async fn apply(self, meter: &Meter) -> Result<Report> {
        self.apply_watched(meter, async |_| Ok(())).await
    }

    /// Restores. With a replay, `before_replay` is called once, when the documents, users and roles are as the
    /// backup read them: indexes are built only after the replay.
    ///
    /// # Errors
    /// Returns the errors of [`Restore::apply`] and of `before_replay`.
    pub async fn apply_watched(
        self,
        meter: &Meter,
        before_replay: impl AsyncFnOnce(&[Outcome]) -> Result<()>,
    ) -> Result<Report> {
        if let Some(error) = self.plan.refusal() {
            return Err(error);
        }
        // Where there is nothing to lose, what is read is checked while it is written.
        match self.plan.fresh {
            true => self.may().await?,
            false => self.check(meter).await?,
        }
        self.expect(meter);
        let standing = self.standing();
        match self.write(meter, before_replay).await {
            Ok(report) => Ok(report),
            Err(error) => Err(standing.stopped(error, None).await),
        }
    }

    async fn write(
        self,
        meter: &Meter,
        before_replay: impl AsyncFnOnce(&[Outcome]) -> Result<()>,
    ) -> Result<Report> {
        let mut outcomes = self.fill(meter).await?;
        outcomes.sort_by(|a, b| a.to.cmp(&b.to));
        let mut problems = self.merge_people().await?;
        let (mut dropped, mut replayed) = (Vec::new(), None);
        if self.replays() {
            before_replay(&outcomes).await?;
            let mut skip = Skip::default();
            let failed = outcomes.iter().filter(|outcome| !outcome.is_complete());
            failed.for_each(|outcome| skip.add(&outcome.to));
            if !problems.is_empty() {
                skip.people();
            }
            // The slice creates these namespaces, so their names must be free. They are dropped as late as possible.
            for kept in self.drop_beside(&self.plan.in_the_way, &mut dropped, &mut problems).await? {
                skip.add(&kept);
            }
            replayed = Some(self.replay(&mut outcomes, &mut skip, meter).await?);
            let slice_only = self.plan.in_the_way.iter().map(|(db, name)| format!("{db}.{name}"));
            slice_only
                .filter(|name| !skip.has(name))
                .for_each(|name| self.standing.set(&name, State::Filled));
            skip.failures().iter().for_each(|failure| self.standing.lack(&failure.name));
        }
        self.constrain(&mut outcomes).await?;
        self.drop_beside(&self.plan.extra, &mut dropped, &mut problems).await?;
        self.standing.end();
        self.target.close().await;
        let people = self.plan.people();
        let next_step = self.next_step(&outcomes);
        let Plan { warnings, notes, .. } = self.plan;
        Ok(Report { outcomes, dropped, people, replayed, problems, next_step, warnings, notes })
    }

    /// Merges users and roles; returns a line for each failure.
    async fn merge_people(&self) -> Result<Vec<Problem>> {
        let mut problems = Vec::new();
        for people in &self.plan.people {
            match self.target.merge_users(people, self.options.exact).await {
                Err(error) if error.kind() == Kind::Refused => {
                    let of = if people.db.is_empty() { String::new() } else { format!(" of {}", people.db) };
                    let what = format!("users and roles{of} were not restored completely: {}", error.chain());
                    problems.push(Trouble::Incomplete.told(what));
                }
                merged => merged?,
            }
        }
        if problems.is_empty() {
            self.standing.people_merged();
        }
        Ok(problems)
    }

    /// Sets the validation level `constraint` now that all documents are there: with it, no insert bypasses the validator.
    async fn constrain(&self, outcomes: &mut [Outcome]) -> Result<()> {
        for planned in self.plan.namespaces.iter().filter(|one| shape::is_constrained(&one.namespace)) {
            let Chosen { db, collection, .. } = &planned.chosen;
            let name = planned.chosen.name();
            let Some(outcome) = outcomes.iter_mut().find(|one| one.to == name && one.is_complete()) else {
                continue;
            };
            let left = self.target.constrain(&planned.namespace, db, collection).await?;
            outcome.problems.extend(left.map(|what| Trouble::Documents.told(what)));
        }
        Ok(())
    }

    /// Drops namespaces that have no counterpart in the backup. Adds the names to `dropped`, and returns those
    /// that the server does not drop.
    async fn drop_beside(
        &self,
        beside: &[(String, String)],
        dropped: &mut Vec<String>,
        problems: &mut Vec<Problem>,
    ) -> Result<Vec<String>> {
        let mut kept = Vec::new();
        for (db, collection) in beside {
            let name = format!("{db}.{collection}");
            self.standing.set(&name, State::Dropped);
            match self.target.drop_namespace(db, collection).await {
                Err(error) if error.kind() == Kind::Refused => {
                    problems.push(Trouble::Incomplete.told(error.chain()));
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

    /// The next step: how to remove the causes, then the flags that restore what is missing.
    fn next_step(&self, outcomes: &[Outcome]) -> Option<String> {
        let advice = self.standing.advice()?;
        let causes: BTreeSet<&str> = outcomes.iter().filter_map(|one| one.next_step.as_deref()).collect();
        let causes = if causes.is_empty() { BTreeSet::from(["Remove the cause"]) } else { causes };
        let untouched = self.target.is_untouched().then_some("Nothing was changed at the target");
        let steps = untouched.into_iter().chain(causes).chain([advice.as_str()]);
        Some(steps.collect::<Vec<_>>().join(". "))
    }

    async fn fill(&self, meter: &Meter) -> Result<Vec<Outcome>> {
        // With a replay they come after it: what was read may yet break a unique one.
        let (drop, indexes) = (self.options.drop, !self.options.no_indexes && !self.replays());
        let load = |planned: &Planned| {
            Load::new(planned.clone(), self.target.clone(), drop, indexes, self.standing())
        };
        let loads = self.plan.namespaces.iter().map(load).collect();
        match &self.origin {
            Origin::Stored(stored) => run::run(stored, loads, self.options.workers, meter).await,
            Origin::Dump(dump) => stream::run(dump, loads, meter).await,
        }
    }

    fn replays(&self) -> bool {
        matches!(self.plan.oplog, Oplog::Replayed(_))
    }

    async fn replay(&self, outcomes: &mut [Outcome], skip: &mut Skip, meter: &Meter) -> Result<Replayed> {
        let replay = Replay {
            origin: &self.origin,
            names: self.options.names(),
            target: &self.target,
            planned: &self.plan.namespaces,
            indexes: !self.options.no_indexes,
        };
        replay.run(outcomes, skip, meter).await
    }

    fn expect(&self, meter: &Meter) {
        meter.expect(Some(self.plan.total(|offer| offer.raw_bytes)), self.plan.namespaces.len() as u64);
    }
}
