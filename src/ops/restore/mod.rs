//! `restore`: bring a backup, or chosen namespaces of it, into a server.
//!
//! First a plan ([`plan`]): what the backup holds ([`offer`]), what of it is wanted under which name, what the
//! target has already. Then every document that is to be restored is read and checked, and only then is
//! anything dropped or written ([`load`], [`run`]). Whatever is not as it was in the backup is a problem in the
//! report, and an exit code that is not 0.

mod draft;
mod dump;
mod files;
mod filter;
mod load;
mod metadata;
mod offer;
mod options;
mod origin;
mod people;
mod plan;
mod problem;
mod rename;
mod replay;
mod report;
mod rights;
mod run;
mod segment;
pub(super) mod sinks;
mod stored;
mod stream;
mod superseded;
mod views;

use crate::error::{Error, Result};
use crate::progress::Meter;
use crate::target::Target;

pub use dump::Dump;
pub use filter::{Chosen, Filter};
pub use offer::Offer;
pub use options::{Options, Users};
pub use origin::Origin;
pub use plan::{Existing, Oplog, Plan, Planned};
pub use problem::{Problem, Trouble};
pub use rename::{Rename, pairs, renamed};
pub use replay::at::At;
pub use replay::{Replayed, Survey};
pub use report::{Outcome, Report};
pub use stored::Stored;

use load::Load;

/// A restore that is planned.
#[derive(Debug)]
pub struct Restore {
    origin: Origin,
    target: Target,
    options: Options,
    /// What will be done.
    pub plan: Plan,
}

impl Restore {
    /// Makes the plan; writes nothing.
    pub async fn plan(origin: Origin, target: Target, options: Options) -> Result<Restore> {
        let options = Options { drop: options.drop || options.exact, ..options };
        let plan = draft::plan(&origin, &target, &options).await?;
        Ok(Restore { origin, target, options, plan })
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
        self.target.may(&rights::needed(&self.plan, &self.options)).await?;
        match &self.plan.oplog {
            Oplog::Replayed(survey) => self.target.may_apply(&survey.databases).await,
            Oplog::Absent | Oplog::Left => Ok(()),
        }
    }

    /// Restores.
    ///
    /// # Errors
    /// Before anything is touched if the plan is refused or what would be restored is damaged.
    pub async fn apply(self, meter: &Meter) -> Result<Report> {
        self.apply_watched(meter, async |_| Ok(())).await
    }

    /// Restores. With a replay, `before_replay` is called once, when the documents, users and roles are as the
    /// backup read them: indexes are built only after the replay.
    ///
    /// # Errors
    /// Those of [`Restore::apply`], and that of `before_replay`.
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
        let halfway = |error| halfway(error, self.target.is_untouched());
        let dropped = self.make_room().await.map_err(halfway)?;
        let mut outcomes = self.fill(meter).await.map_err(halfway)?;
        outcomes.sort_by(|a, b| a.to.cmp(&b.to));
        for people in &self.plan.people {
            self.target.merge_users(people, self.options.exact).await.map_err(halfway)?;
        }
        if self.replays() {
            before_replay(&outcomes).await?;
        }
        let replayed = self.replay(&mut outcomes, meter).await.map_err(halfway)?;
        self.target.close().await;
        let people = self.plan.people();
        let Plan { warnings, notes, .. } = self.plan;
        Ok(Report { outcomes, dropped, people, replayed, warnings, notes })
    }

    /// Empties system collections that are replaced, and drops what has no counterpart in the backup: the names
    /// of that.
    async fn make_room(&self) -> Result<Vec<String>> {
        let replaced = self.plan.namespaces.iter().filter(|_| self.options.drop);
        for planned in replaced.filter(|planned| planned.existing.is_some()) {
            let Chosen { db, collection, .. } = &planned.chosen;
            if collection.starts_with("system.") {
                self.target.empty(db, collection).await?;
            }
        }
        let mut dropped = Vec::new();
        for (db, collection) in self.plan.beside() {
            self.target.drop_namespace(db, collection).await?;
            dropped.push(format!("{db}.{collection}"));
        }
        Ok(dropped)
    }

    async fn fill(&self, meter: &Meter) -> Result<Vec<Outcome>> {
        // With a replay they come after it: what was read may yet break a unique one.
        let (drop, indexes) = (self.options.drop, !self.options.no_indexes && !self.replays());
        let loads = self.plan.namespaces.iter().cloned();
        let loads = loads.map(|planned| Load::new(planned, self.target.clone(), drop, indexes)).collect();
        match &self.origin {
            Origin::Stored(stored) => run::run(stored, loads, self.options.workers, meter).await,
            Origin::Dump(dump) => stream::run(dump, loads, meter).await,
        }
    }

    fn replays(&self) -> bool {
        matches!(self.plan.oplog, Oplog::Replayed(_))
    }

    async fn replay(&self, outcomes: &mut [Outcome], meter: &Meter) -> Result<Option<Replayed>> {
        if !self.replays() {
            return Ok(None);
        }
        let (names, planned) = (self.options.names(), &self.plan.namespaces);
        let indexes = !self.options.no_indexes;
        replay::replay(&self.origin, names, &self.target, planned, outcomes, indexes, meter).await.map(Some)
    }

    fn expect(&self, meter: &Meter) {
        meter.expect(Some(self.plan.total(|offer| offer.raw_bytes)), self.plan.namespaces.len() as u64);
    }
}

/// Says of an error what has become of the target by then.
fn halfway(error: Error, untouched: bool) -> Error {
    let rest = match untouched {
        true => "Nothing was changed at the target",
        false => "The target holds a part of the backup: restore again with --drop",
    };
    let step = error.next_step().map_or_else(|| rest.into(), |step| format!("{step}. {rest}"));
    error.hint(step)
}
