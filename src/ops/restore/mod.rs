//! `restore`: bring a backup, or chosen namespaces of it, into a server.
//!
//! First a plan ([`plan`]): what the backup holds ([`offer`]), what of it is wanted under which name, what the
//! target has already. Then every document that is to be restored is read and checked, and only then is
//! anything dropped or written ([`load`], [`run`]). Whatever is not as it was in the backup is a problem in the
//! report, and an exit code that is not 0.

mod draft;
mod dump;
mod files;
mod load;
mod metadata;
mod offer;
mod origin;
mod people;
mod plan;
mod rename;
mod replay;
mod run;
mod segment;
pub(super) mod sinks;
mod stored;
mod stream;
mod superseded;
mod views;

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::progress::Meter;
use crate::target::Target;

pub use dump::Dump;
pub use load::Outcome;
pub use offer::{Chosen, Filter, Offer};
pub use origin::Origin;
pub use plan::{Existing, Oplog, Plan, Planned};
pub use rename::{Rename, pairs, renamed};
pub use replay::at::At;
pub use replay::{Replayed, Survey};
pub use stored::Stored;

use load::Load;

/// Whether users and roles are restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Users {
    /// If the backup has them and no filter is given.
    #[default]
    Unfiltered,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// How to restore.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is wanted.
    pub filter: Filter,
    /// What is at the target under a name of the backup is replaced.
    pub drop: bool,
    /// So is what the backup does not have: other namespaces of its databases, other users. Includes `drop`.
    pub exact: bool,
    /// Indexes are not built.
    pub no_indexes: bool,
    /// Users and roles.
    pub users: Users,
    /// The oplog slice is not replayed.
    pub no_replay: bool,
    /// The instant that the data is to be of.
    pub at: Option<At>,
    /// How many threads read.
    pub workers: usize,
}

impl Options {
    /// Whether users and roles are wanted.
    fn wants_people(&self) -> bool {
        match self.users {
            Users::Unfiltered => self.filter.is_empty(),
            Users::Always => true,
            Users::Never => false,
        }
    }

    /// Which namespaces of an oplog slice are wanted.
    fn names(&self) -> replay::Names {
        replay::Names { filter: self.filter.clone(), people: self.wants_people() }
    }
}

/// A restore that is planned.
#[derive(Debug)]
pub struct Restore {
    origin: Origin,
    target: Target,
    options: Options,
    /// What will be done.
    pub plan: Plan,
}

/// What was done.
#[derive(Debug)]
pub struct Report {
    /// The namespaces, by name.
    pub outcomes: Vec<Outcome>,
    /// What was dropped because the backup has nothing of that name.
    pub dropped: Vec<String>,
    /// How many users and roles were merged.
    pub people: Option<(usize, usize)>,
    /// What was replayed of the oplog slice.
    pub replayed: Option<Replayed>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

impl Report {
    /// Whether something is not as it was in the backup.
    pub fn has_problems(&self) -> bool {
        self.outcomes.iter().any(|outcome| !outcome.problems.is_empty())
            || self.replayed.as_ref().is_some_and(|replayed| !replayed.problems.is_empty())
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        if self.has_problems() {
            Exit::Failed
        } else if !self.warnings.is_empty() || self.outcomes.iter().any(|outcome| !outcome.notes.is_empty()) {
            Exit::NeedsLook
        } else {
            Exit::Done
        }
    }
}

impl Restore {
    /// Makes the plan; writes nothing.
    pub async fn plan(origin: Origin, target: Target, options: Options) -> Result<Restore> {
        let options = Options { drop: options.drop || options.exact, ..options };
        let plan = draft::plan(&origin, &target, &options).await?;
        Ok(Restore { origin, target, options, plan })
    }

    /// Reads everything that would be restored and compares it with what the backup says of it; asks whether the
    /// oplog slice, which was read for the plan, may be replayed.
    pub async fn check(&self, meter: &Meter) -> Result<()> {
        self.may_replay().await?;
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

    async fn may_replay(&self) -> Result<()> {
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
        mut self,
        meter: &Meter,
        before_replay: impl AsyncFnOnce(&[Outcome]) -> Result<()>,
    ) -> Result<Report> {
        if let Some(error) = self.plan.refusal() {
            return Err(error);
        }
        // Where there is nothing to lose, what is read is checked while it is written.
        match self.plan.fresh {
            true => self.may_replay().await?,
            false => self.check(meter).await?,
        }
        self.expect(meter);
        let replaced = self.plan.namespaces.iter().filter(|_| self.options.drop);
        for planned in replaced.filter(|planned| planned.existing.is_some()) {
            let Chosen { db, collection, .. } = &planned.chosen;
            if collection.starts_with("system.") {
                self.target.empty(db, collection).await?;
            }
        }
        let mut dropped = Vec::new();
        for (db, collection) in &self.plan.in_the_way {
            self.target.drop_namespace(db, collection).await?;
        }
        for (db, collection) in &self.plan.extra {
            self.target.drop_namespace(db, collection).await?;
            dropped.push(format!("{db}.{collection}"));
        }
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
        Ok(Report {
            outcomes,
            dropped,
            people: self.plan.people(),
            replayed,
            warnings: std::mem::take(&mut self.plan.warnings),
        })
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

/// Says that an error came when the target was already written to.
fn halfway(error: Error) -> Error {
    let rest = "The target holds a part of the backup: restore again with --drop";
    let step = error.next_step().map_or_else(|| rest.into(), |step| format!("{step}. {rest}"));
    error.hint(step)
}
