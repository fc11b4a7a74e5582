//! Restores one namespace: drops and creates it when its turn comes, fills it by batches, counts its documents when all
//! are there, and only then builds its indexes.
//!
//! A backup can contain one `_id` twice, if a document was deleted and inserted again behind the cursor. The document
//! that comes later in the backup was read later, and is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use bson::{RawDocument, RawDocumentBuf};
use tokio::sync::OnceCell;
use xxhash_rust::xxh3::xxh3_128;

use super::namespaces::Planned;
use super::origin::read_blocking;
use super::remedy::{NamespaceState, RestoreProgress};
use super::report::{NamespaceOutcome, ProblemKind};
use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::model::namespace::Type;
use crate::model::tally::Tally;
use crate::restore_target::insert::{self, Destination, RefusedDocument, id_text};
use crate::restore_target::{RestoreTarget, collections};

/// The most refused documents in a message about a namespace.
const TOLD: usize = 5;
/// Documents whose `_id` the target has already are kept up to this many bytes, to find out which came later.
const KEPT: usize = 64 << 20;

/// The reason for documents that the restore did not write.
const OTHER_CLIENT: &str = "another client is writing to it";

/// The server's code for a bucket in which a field has values of several types.
const MIXED_BUCKET: i32 = 408;

/// The restore of one namespace.
#[derive(Debug)]
pub(crate) struct Load {
    pub planned: Planned,
    target: RestoreTarget,
    drop: bool,
    indexes: bool,
    progress: Arc<RestoreProgress>,
    /// Set when the namespace is created.
    made: OnceCell<Destination>,
    /// The reason why the target has no complete copy. The rest of the namespace is skipped then.
    failed: OnceLock<Error>,
    state: Mutex<LoadState>,
}

#[derive(Debug, Default)]
struct LoadState {
    sent: Tally,
    /// Documents whose `_id` the target had already.
    twice: Vec<RawDocumentBuf>,
    twice_bytes: usize,
    refused: u64,
    told: Vec<String>,
}

impl Load {
    pub(crate) fn new(
        planned: Planned,
        target: RestoreTarget,
        drop: bool,
        indexes: bool,
        progress: Arc<RestoreProgress>,
    ) -> Arc<Load> {
        Arc::new(Load {
            planned,
            target,
            drop,
            indexes,
            progress,
            made: OnceCell::new(),
            failed: OnceLock::new(),
            state: Mutex::default(),
        })
    }

    /// Returns true if its documents must be inserted in order.
    pub(crate) fn ordered(&self) -> bool {
        self.planned.namespace.options.get_bool("capped").unwrap_or(false)
    }

    /// Creates the namespace, the first time it is called. A refusal by the server fails this namespace
    /// alone: [`Load::finish`] reports it.
    ///
    /// # Errors
    /// Returns an error if the restore of other namespaces cannot go on either.
    pub(crate) async fn begin(&self) -> Result<()> {
        if self.failed.get().is_some() {
            return Ok(());
        }
        let made = self.made.get_or_try_init(|| self.make()).await;
        self.keep(made.map(|_| ())).map(|_| ())
    }

    /// Records an error that concerns this namespace alone, and returns `None` for it.
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

    async fn make(&self) -> Result<Destination> {
        self.make_room().await?;
        let (chosen, source) = (&self.planned.chosen, &self.planned.source);
        let (db, collection) = (chosen.db.clone(), chosen.collection.clone());
        match source.kind {
            Type::Timeseries => self.target.place_of_series(&db, &collection).await,
            Type::Collection | Type::View => Ok(Destination { db, collection, buckets: false, raw: false }),
        }
    }

    fn destination(&self) -> Result<&Destination> {
        let name = || self.planned.chosen.name();
        self.made
            .get()
            .ok_or_else(|| Error::failed(format!("{} was not created before it is filled", name())))
    }

    /// Drops an existing namespace, and creates the new one.
    async fn make_room(&self) -> Result<()> {
        let chosen = &self.planned.chosen;
        let replaces = self.drop && self.planned.existing.is_some();
        let begun = || {
            self.progress
                .set(&chosen.name(), if replaces { NamespaceState::Dropped } else { NamespaceState::Begun })
        };
        // A system collection is created by its first document.
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
            return match collections::is_constrained(&self.planned.namespace) {
                true => self.target.relax(&chosen.db, &chosen.collection).await,
                false => Ok(()),
            };
        }
        begun();
        self.target.make(&self.planned.namespace, &chosen.db, &chosen.collection, self.drop, replaces).await
    }

    /// Inserts documents that follow each other in `raw`, unless the namespace has failed before.
    pub(crate) async fn insert(&self, raw: &[u8]) -> Result<()> {
        if self.failed.get().is_some() {
            return Ok(());
        }
        let written = self.write(raw).await;
        self.keep(written).map(|_| ())
    }

    async fn write(&self, raw: &[u8]) -> Result<()> {
        let sent = Tally::of_all(raw)?;
        let destination = self.destination()?;
        let mut refused = self.target.insert(destination, raw).await?;
        if destination.buckets && refused.iter().any(|one| one.code == MIXED_BUCKET) {
            let (mixed, others) =
                refused.into_iter().partition(|one: &RefusedDocument| one.code == MIXED_BUCKET);
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

    /// Writes buckets that the server refuses unless an option of the collection allows them.
    async fn insert_mixed(&self, buckets: Vec<RefusedDocument>) -> Result<Vec<RefusedDocument>> {
        let chosen = &self.planned.chosen;
        self.target.allow_mixed_buckets(&chosen.db, &chosen.collection).await?;
        let raw: Vec<u8> = buckets.iter().flat_map(|one| one.document.as_bytes()).copied().collect();
        self.target.insert(self.destination()?, &raw).await
    }

    /// Counts and compares the documents, and builds the indexes. `scan` reads all documents of the namespace
    /// again, if that is needed to find out which of two with the same `_id` came later. If the server
    /// refused something that the namespace needs, the outcome is incomplete.
    ///
    /// # Errors
    /// Returns an error if the restore of other namespaces cannot go on either.
    pub(super) async fn finish(self: &Arc<Load>, scan: ScanDocuments) -> Result<NamespaceOutcome> {
        let (chosen, source) = (&self.planned.chosen, &self.planned.source);
        let mut outcome =
            NamespaceOutcome { from: source.name(), to: chosen.name(), ..NamespaceOutcome::default() };
        if self.failed.get().is_none() {
            let complete = self.complete(scan, &mut outcome).await;
            self.keep(complete)?;
        }
        match self.failed.get() {
            Some(error) => {
                let replaced = self.progress.get(&outcome.to) == Some(NamespaceState::Dropped);
                let lost = if replaced { "; the data that it replaces is lost" } else { "" };
                let what = format!("not restored completely: {}{lost}", error.chain());
                outcome.problems.push(ProblemKind::Incomplete.problem(what));
                outcome.next_step = error.next_step().map(str::to_string);
            }
            None => self.progress.set(&outcome.to, NamespaceState::Filled),
        }
        Ok(outcome)
    }

    async fn complete(&self, scan: ScanDocuments, outcome: &mut NamespaceOutcome) -> Result<()> {
        let (chosen, source) = (&self.planned.chosen, &self.planned.source);
        if source.kind == Type::View {
            return Ok(());
        }
        let state = std::mem::take(&mut *self.state.lock().expect("no holder panics"));
        outcome.documents = state.sent.documents;
        outcome.raw_bytes = state.sent.raw_bytes;
        outcome.kept = state.sent.clone();
        if (state.sent.documents, state.sent.raw_bytes, state.sent.sum)
            != (source.documents, source.raw_bytes, source.sum)
        {
            let what = format!(
                "{}: {} of {} were sent, but the backup has {} of {}, or their hashes differ",
                source.name(),
                units::several(state.sent.documents, "document"),
                units::several(state.sent.raw_bytes, "byte"),
                units::count(source.documents),
                units::count(source.raw_bytes)
            );
            return Err(Error::new(Kind::Mismatch, what));
        }
        outcome.refused = state.refused;
        if state.refused > 0 {
            let more = if state.refused > state.told.len() as u64 { ", …" } else { "" };
            let told = state.told.join("; ");
            let what = format!("refused {}: {told}{more}", units::several(state.refused, "document"));
            outcome.problems.push(ProblemKind::Documents.problem(what));
        }
        if !state.twice.is_empty() {
            let settled = settle(&self.target, self.destination()?, state.twice, scan).await?;
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
                outcome.problems.push(ProblemKind::Count.problem(what));
            }
        }
        self.count(outcome).await?;
        if self.indexes {
            let began = Instant::now();
            let indexes = collections::indexes(&self.planned.namespace);
            let problems = self.target.index(&indexes, &chosen.db, &chosen.collection).await?;
            outcome.indexes = (indexes.len() - problems.len()) as u64;
            outcome.problems.extend(problems.into_iter().map(|what| ProblemKind::Index.problem(what)));
            outcome.indexing = began.elapsed();
        }
        Ok(())
    }

    /// Compares the server's count with the number of written documents.
    async fn count(&self, outcome: &mut NamespaceOutcome) -> Result<()> {
        let wanted = outcome.documents - outcome.superseded - outcome.refused;
        let destination = self.destination()?;
        let counted = match self.target.count_in(destination).await {
            Ok(Some(there)) if there != wanted => self.target.count_exactly(destination).await.map(Some),
            counted => counted,
        };
        let counted = match counted {
            // The documents were acknowledged, so the indexes are still built.
            Err(e) if e.kind() == Kind::Refused => {
                outcome.problems.push(ProblemKind::Count.problem(e.chain()));
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
            // A backup of a capped collection that was written to during the backup has more documents than
            // fit.
            outcome.notes.push(format!(
                "the capped collection kept the last {} of {}",
                units::count(there),
                units::several(wanted, "document")
            ));
        } else if there != wanted {
            let cause = if there > wanted { format!(": {OTHER_CLIENT}") } else { String::new() };
            let (there, wanted) = (units::several(there, "document"), units::count(wanted));
            let what = format!("the target has {there}, but {wanted} were written{cause}");
            outcome.problems.push(ProblemKind::Count.problem(what));
        }
        Ok(())
    }
}

impl LoadState {
    fn add(&mut self, refused: RefusedDocument) {
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

/// Passes all documents of a namespace to a function, in the order of the backup.
pub(crate) type ScanDocuments = Box<dyn FnOnce(&mut dyn FnMut(&[u8])) -> Result<()> + Send>;

/// The result for documents whose `_id` the target had already.
#[derive(Debug, Default)]
struct SettledDuplicates {
    /// The backup's documents that are not at the target.
    pub gone: Tally,
    /// The number of replaced documents that are not in the backup: another client wrote them.
    pub foreign: u64,
}

/// Decides about documents that were refused because the target has their `_id`: a later document of the
/// backup replaces the present one.
async fn settle(
    target: &RestoreTarget,
    destination: &Destination,
    refused: Vec<RawDocumentBuf>,
    scan: ScanDocuments,
) -> Result<SettledDuplicates> {
    let (mut gone, mut foreign) = (Tally::default(), 0);
    let mut there: BTreeMap<u128, (RawDocumentBuf, Vec<RawDocumentBuf>)> = BTreeMap::new();
    for document in refused {
        let current = current(target, destination, &document).await?;
        there.entry(xxh3_128(current.as_bytes())).or_insert((current, Vec::new())).1.push(document);
    }
    let mut last: BTreeMap<u128, Option<u64>> = BTreeMap::new();
    for (hash, (_, refused)) in &there {
        last.insert(*hash, None);
        last.extend(refused.iter().map(|document| (xxh3_128(document.as_bytes()), None)));
    }
    let last = read_blocking(move || {
        let mut at = 0;
        scan(&mut |document| {
            if let Some(last) = last.get_mut(&xxh3_128(document)) {
                *last = Some(at);
            }
            at += 1;
        })?;
        Ok(last)
    })
    .await?;
    for (hash, (current, refused)) in there {
        let newest = refused.iter().max_by_key(|document| last[&xxh3_128(document.as_bytes())]);
        let newest = newest.filter(|document| last[&xxh3_128(document.as_bytes())] > last[&hash]);
        for document in
            refused.iter().filter(|document| newest.is_none_or(|newest| !std::ptr::eq(newest, *document)))
        {
            gone += Tally::of(document.as_bytes());
        }
        if let Some(newest) = newest {
            match last[&hash] {
                Some(_) => gone += Tally::of(current.as_bytes()),
                None => foreign += 1,
            }
            target.replace(destination, &current, newest).await?;
        }
    }
    Ok(SettledDuplicates { gone, foreign })
}

/// The target's document with the same `_id`. The server considers 1 and 1.0 equal.
async fn current(
    target: &RestoreTarget,
    destination: &Destination,
    document: &RawDocument,
) -> Result<RawDocumentBuf> {
    let filter = insert::id_filter(document)?;
    target.find(&destination.db, destination.find_one(filter)).await?.into_iter().next().ok_or_else(|| {
        let what = format!(
            "a document of {}.{} disappeared during the restore",
            destination.db, destination.collection
        );
        Error::new(Kind::Refused, what).hint(format!(
            "Another client is writing to {}.{}: stop it first",
            destination.db, destination.collection
        ))
    })
}
