//! One namespace on its way into the target: dropped and created when its turn comes, filled by batches,
//! counted when all are there, and only then indexed.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use bson::RawDocumentBuf;
use tokio::sync::OnceCell;

use super::plan::Planned;
use super::problem::Trouble;
use super::report::Outcome;
use super::standing::{Standing, State as At};
use super::superseded;
use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::model::namespace::Type;
use crate::model::tally::Tally;
use crate::restore_target::insert::{Place, Refused, id_text};
use crate::restore_target::{Target, shape};

/// So many refused documents are told of a namespace.
const TOLD: usize = 5;
/// Documents whose `_id` is there already are kept up to this many bytes, to find out which came later.
const KEPT: usize = 64 << 20;

/// Why a collection has documents that the restore did not write.
const OTHER_CLIENT: &str = "another client is writing to it";

/// The server's code for a bucket in which a field has values of several types.
const MIXED_BUCKET: i32 = 408;

/// The namespace at work.
#[derive(Debug)]
pub struct Load {
    /// What is to be done.
    pub planned: Planned,
    target: Target,
    drop: bool,
    indexes: bool,
    standing: Arc<Standing>,
    /// Where its documents go; set when it is created.
    made: OnceCell<Place>,
    /// Why the target has no complete copy; the rest of the namespace is skipped then.
    failed: OnceLock<Error>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sent: Tally,
    /// Documents whose `_id` was there.
    twice: Vec<RawDocumentBuf>,
    twice_bytes: usize,
    refused: u64,
    told: Vec<String>,
}

impl Load {
    /// A namespace that is to be restored.
    pub fn new(
        planned: Planned,
        target: Target,
        drop: bool,
        indexes: bool,
        standing: Arc<Standing>,
    ) -> Arc<Load> {
        Arc::new(Load {
            planned,
            target,
            drop,
            indexes,
            standing,
            made: OnceCell::new(),
            failed: OnceLock::new(),
            state: Mutex::default(),
        })
    }

    /// Whether its documents must arrive in their order.
    pub fn ordered(&self) -> bool {
        self.planned.namespace.options.get_bool("capped").unwrap_or(false)
    }

    /// Creates the namespace, the first time it is called. A refusal by the server fails this namespace alone:
    /// [`Load::finish`] reports it.
    ///
    /// # Errors
    /// Returns an error if the restore of other namespaces cannot go on either.
    pub async fn begin(&self) -> Result<()> {
        if self.failed.get().is_some() {
            return Ok(());
        }
        let made = self.made.get_or_try_init(|| self.make()).await;
        self.keep(made.map(|_| ())).map(|_| ())
    }

    /// Keeps an error that concerns this namespace alone, and returns `None` for it.
    fn keep<T>(&self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Err(error) if error.kind() == Kind::Refused => {
                log::warn!("{}: {}", self.planned.chosen.name(), error.chain());
                let _ = self.failed.set(error);
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    async fn make(&self) -> Result<Place> {
        self.make_room().await?;
        let (chosen, offer) = (&self.planned.chosen, &self.planned.offer);
        let (db, collection) = (chosen.db.clone(), chosen.collection.clone());
        match offer.kind {
            Type::Timeseries => self.target.place_of_series(&db, &collection).await,
            Type::Collection | Type::View => Ok(Place { db, collection, buckets: false, raw: false }),
        }
    }

    fn place(&self) -> Result<&Place> {
        let name = || self.planned.chosen.name();
        self.made.get().ok_or_else(|| Error::failed(format!("{} was not made before it is filled", name())))
    }

    /// Drops what is replaced, and creates the namespace.
    async fn make_room(&self) -> Result<()> {
        let chosen = &self.planned.chosen;
        let replaces = self.drop && self.planned.existing.is_some();
        let begun = || self.standing.set(&chosen.name(), if replaces { At::Dropped } else { At::Begun });
        // A system collection comes into being with its first document.
        if chosen.collection.starts_with("system.") {
            begun();
            if replaces {
                self.target.empty(&chosen.db, &chosen.collection).await?;
            }
            return Ok(());
        }
        if self.planned.existing.is_some() && !self.drop {
            // It is empty and has the same options: the plan saw to that.
            begun();
            return match shape::is_constrained(&self.planned.namespace) {
                true => self.target.relax(&chosen.db, &chosen.collection).await,
                false => Ok(()),
            };
        }
        begun();
        self.target.make(&self.planned.namespace, &chosen.db, &chosen.collection, self.drop, replaces).await
    }

    /// Writes whole documents that stand one after the other, unless the namespace has failed before.
    ///
    /// # Errors
    /// Returns an error if the restore of other namespaces cannot go on either.
    pub async fn insert(&self, raw: &[u8]) -> Result<()> {
        if self.failed.get().is_some() {
            return Ok(());
        }
        let written = self.write(raw).await;
        self.keep(written).map(|_| ())
    }

    async fn write(&self, raw: &[u8]) -> Result<()> {
        let sent = Tally::of_all(raw)?;
        let place = self.place()?;
        let mut refused = self.target.insert(place, raw).await?;
        if place.buckets && refused.iter().any(|one| one.code == MIXED_BUCKET) {
            let (mixed, others) = refused.into_iter().partition(|one: &Refused| one.code == MIXED_BUCKET);
            refused = others;
            refused.extend(self.insert_mixed(mixed).await?);
        }
        let mut state = self.state.lock().expect("no holder panics");
        state.sent += sent;
        for one in refused {
            state.add(one);
        }
        Ok(())
    }

    /// Writes buckets that the server does not take unless it is told to.
    async fn insert_mixed(&self, buckets: Vec<Refused>) -> Result<Vec<Refused>> {
        let chosen = &self.planned.chosen;
        self.target.allow_mixed_buckets(&chosen.db, &chosen.collection).await?;
        let raw: Vec<u8> = buckets.iter().flat_map(|one| one.document.as_bytes()).copied().collect();
        self.target.insert(self.place()?, &raw).await
    }

    /// Counts, compares, and builds the indexes. `scan` shows all documents of the namespace once more, in
    /// order, if it takes that to know which of two with the same `_id` came later. If the server refused
    /// something that the namespace needs, the outcome says so and is not complete.
    ///
    /// # Errors
    /// Returns an error if the restore of other namespaces cannot go on either.
    pub async fn finish(self: &Arc<Load>, scan: superseded::Scan) -> Result<Outcome> {
        let (chosen, offer) = (&self.planned.chosen, &self.planned.offer);
        let mut outcome = Outcome { from: offer.name(), to: chosen.name(), ..Outcome::default() };
        if self.failed.get().is_none() {
            let complete = self.complete(scan, &mut outcome).await;
            self.keep(complete)?;
        }
        match self.failed.get() {
            Some(error) => {
                let replaced = self.standing.get(&outcome.to) == Some(At::Dropped);
                let lost = if replaced { "; what was there before is lost" } else { "" };
                let what = format!("not restored completely: {}{lost}", error.chain());
                outcome.problems.push(Trouble::Incomplete.told(what));
                outcome.next_step = error.next_step().map(str::to_string);
            }
            None => self.standing.set(&outcome.to, At::Filled),
        }
        Ok(outcome)
    }

    async fn complete(&self, scan: superseded::Scan, outcome: &mut Outcome) -> Result<()> {
        let (chosen, offer) = (&self.planned.chosen, &self.planned.offer);
        if offer.kind == Type::View {
            return Ok(());
        }
        let state = std::mem::take(&mut *self.state.lock().expect("no holder panics"));
        outcome.documents = state.sent.documents;
        outcome.raw_bytes = state.sent.raw_bytes;
        outcome.kept = state.sent.clone();
        if (state.sent.documents, state.sent.raw_bytes, state.sent.sum)
            != (offer.documents, offer.raw_bytes, offer.sum)
        {
            let what = format!(
                "{}: sent {} of {}, the backup has {} of {}, or their hashes differ",
                offer.name(),
                units::several(state.sent.documents, "document"),
                units::several(state.sent.raw_bytes, "byte"),
                units::count(offer.documents),
                units::count(offer.raw_bytes)
            );
            return Err(Error::new(Kind::Mismatch, what));
        }
        outcome.refused = state.refused;
        if state.refused > 0 {
            let more = if state.refused > state.told.len() as u64 { ", …" } else { "" };
            let told = state.told.join("; ");
            let what = format!("refused {}: {told}{more}", units::several(state.refused, "document"));
            outcome.problems.push(Trouble::Documents.told(what));
        }
        if !state.twice.is_empty() {
            let settled = superseded::settle(&self.target, self.place()?, state.twice, scan).await?;
            let gone = settled.gone;
            outcome.superseded = gone.documents;
            outcome.kept.documents -= gone.documents;
            outcome.kept.raw_bytes -= gone.raw_bytes;
            outcome.kept.sum = outcome.kept.sum.wrapping_sub(gone.sum);
            if settled.foreign > 0 {
                let what = format!(
                    "{OTHER_CLIENT}: {} with an _id of the backup were replaced",
                    units::several(settled.foreign, "document")
                );
                outcome.problems.push(Trouble::Count.told(what));
            }
        }
        self.count(outcome).await?;
        if self.indexes {
            let began = Instant::now();
            let indexes = shape::indexes(&self.planned.namespace);
            let problems = self.target.index(&indexes, &chosen.db, &chosen.collection).await?;
            outcome.indexes = (indexes.len() - problems.len()) as u64;
            outcome.problems.extend(problems.into_iter().map(|what| Trouble::Index.told(what)));
            outcome.indexing = began.elapsed();
        }
        Ok(())
    }

    /// Holds the server's count against what it should have.
    async fn count(&self, outcome: &mut Outcome) -> Result<()> {
        let wanted = outcome.documents - outcome.superseded - outcome.refused;
        let place = self.place()?;
        let counted = match self.target.count_in(place).await {
            Ok(Some(there)) if there != wanted => self.target.count_exactly(place).await.map(Some),
            counted => counted,
        };
        let counted = match counted {
            // The documents were acknowledged: the indexes are built all the same.
            Err(e) if e.kind() == Kind::Refused => {
                outcome.problems.push(Trouble::Count.told(e.chain()));
                return Ok(());
            }
            counted => counted?,
        };
        let Some(there) = counted else {
            outcome.notes.push(
                "all documents were acknowledged, but not counted: the user may not read them (grant it the role \
                 \"readAnyDatabase\" as well)"
                    .into(),
            );
            return Ok(());
        };
        if there < wanted && self.ordered() {
            // A backup of a capped collection that was written to meanwhile holds more than fits.
            outcome.notes.push(format!(
                "the capped collection kept the last {} of {}",
                units::count(there),
                units::several(wanted, "document")
            ));
        } else if there != wanted {
            let cause = if there > wanted { format!(": {OTHER_CLIENT}") } else { String::new() };
            let (there, wanted) = (units::several(there, "document"), units::count(wanted));
            let what = format!("the target has {there}, written: {wanted}{cause}");
            outcome.problems.push(Trouble::Count.told(what));
        }
        Ok(())
    }
}

impl State {
    fn add(&mut self, refused: Refused) {
        let bytes = refused.document.as_bytes().len();
        if refused.same_id && self.twice_bytes + bytes <= KEPT {
            self.twice_bytes += bytes;
            self.twice.push(refused.document);
            return;
        }
        self.refused += 1;
        if self.told.len() < TOLD {
            let id = refused.document.get("_id").ok().flatten();
            let id = id.map_or_else(|| "without _id".to_string(), |id| format!("_id {}", id_text(id)));
            self.told.push(format!("{id} (code {}, {})", refused.code, refused.why));
        }
    }
}
