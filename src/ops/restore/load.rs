//! Restores one namespace: drops and creates it when its turn comes, fills it batch by batch, counts its documents when
//! all are there, and only then builds its indexes.
//!
//! A backup can contain one `_id` twice, if a document was deleted and inserted again behind the cursor. The document
//! that comes later in the backup was read later, and is kept.

mod settle;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use bson::{RawDocument, RawDocumentBuf};
use tokio::sync::OnceCell;

use super::Restore;
use super::continued::Marker;
use super::merge::{self, Missing};
use super::namespaces::{ChosenNamespace, Planned, Resumed};
use super::origin::RestoreOrigin;
use super::remedy::{NamespaceState, RestoreProgress};
use super::replay::Touched;
use super::report::{ChosenCounts, FilterCounts, MergeCounts, NamespaceOutcome, ProblemKind};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::{Meter, Phase};
use crate::base::units;
use crate::dumpformat::query::Query;
use crate::model::namespace::Type;
use crate::model::tally::Tally;
use crate::restore_target::insert::{self, Destination, RefusedDocument, id_text};
use crate::restore_target::{RestoreTarget, collections};

/// The most refused documents in a message about a namespace.
const SHOWN: usize = 5;
/// The most bytes of documents that are kept because the target already has their `_id`, to find out which of
/// two documents came later.
const KEPT: usize = 64 << 20;

/// The reason for documents that the restore did not write.
const OTHER_CLIENT: &str = "another client is writing to it";

/// The server's code for a bucket in which a field has values of several types.
const MIXED_BUCKET: i32 = 408;

#[derive(Debug)]
pub(super) struct Load {
    pub planned: Planned,
    origin: RestoreOrigin,
    target: RestoreTarget,
    drop: bool,
    indexes: bool,
    /// The documents that are written, if not all.
    choice: Option<Choice>,
    progress: Arc<RestoreProgress>,
    /// The UUID of the collection that documents are merged into, or `None` for a view.
    there: OnceLock<Option<Vec<u8>>>,
    marker: Option<Arc<Marker>>,
    /// Set when the namespace is created, or when that failed (`None`), so that it is not tried again.
    made: OnceCell<Option<Destination>>,
    /// The error that left the namespace incomplete. The rest of the namespace is then skipped.
    failed: OnceLock<Error>,
    state: Mutex<LoadState>,
}

/// The documents of a namespace that are written.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    /// The documents that the oplog slice writes; `None` if it does not change the namespace.
    pub touched: Option<Arc<Touched>>,
    pub to: ChosenFor,
}

#[derive(Debug, Clone)]
pub(super) enum ChosenFor {
    /// The documents that the slice writes go to a staging collection.
    Staging,
    /// The other documents of the backup, and those from staging, go to the target, or are only counted for a `--dry-run`.
    Target { filter: Option<Arc<Query>>, merge: bool, counts_only: bool },
}

impl Choice {
    fn counts_only(&self) -> bool {
        matches!(self.to, ChosenFor::Target { counts_only: true, .. })
    }

    fn merges(&self) -> bool {
        matches!(self.to, ChosenFor::Target { merge: true, .. })
    }

    /// The counts before the first document.
    fn counts(&self) -> ChosenCounts {
        match &self.to {
            ChosenFor::Staging => ChosenCounts::default(),
            ChosenFor::Target { filter, merge, .. } => ChosenCounts {
                filtered: filter.as_ref().map(|_| FilterCounts::default()),
                merged: merge.then(MergeCounts::default),
            },
        }
    }

    /// Returns true if a document of the backup is needed as the backup read it.
    fn takes(&self, document: &RawDocument) -> bool {
        let touched = self.touched.as_ref().is_some_and(|touched| touched.has(document));
        touched == matches!(self.to, ChosenFor::Staging)
    }
}

#[derive(Debug, Default)]
struct LoadState {
    /// The documents that were read from the backup.
    sent: Tally,
    /// The documents that were chosen from it and from the staging collection.
    chosen: Tally,
    counts: ChosenCounts,
    /// Documents whose `_id` the target had already.
    twice: Vec<RawDocumentBuf>,
    twice_bytes: usize,
    refused: u64,
    shown: Vec<String>,
}

impl Load {
    pub(super) fn new(restore: &Restore, planned: &Planned, indexes: bool) -> Arc<Load> {
        Load::choosing(restore, planned, indexes, None)
    }

    /// A load of some documents of the namespace.
    pub(super) fn choosing(
        restore: &Restore,
        planned: &Planned,
        indexes: bool,
        choice: Option<Choice>,
    ) -> Arc<Load> {
        let (made, failed) = Default::default();
        let counts = choice.as_ref().map(Choice::counts).unwrap_or_default();
        let state = Mutex::new(LoadState { counts, ..LoadState::default() });
        let planned = restore.created(planned);
        Arc::new(Load {
            planned,
            origin: restore.origin.clone(),
            target: restore.target.clone(),
            drop: restore.options.drop,
            indexes,
            choice,
            there: OnceLock::new(),
            progress: Arc::clone(&restore.progress),
            marker: restore.plan.mark.marker.clone(),
            made,
            failed,
            state,
        })
    }

    /// Returns true if its documents must be inserted in order.
    pub(super) fn ordered(&self) -> bool {
        self.planned.namespace.options.get_bool("capped").unwrap_or(false)
    }

    /// Creates the namespace, the first time it is called. A refusal by the server fails this namespace
    /// alone: [`Load::finish`] reports it. Returns an error if the restore of other namespaces cannot go on
    /// either.
    pub(super) async fn begin(&self) -> Result<()> {
        if self.failed.get().is_some() || self.counts_only() {
            return Ok(());
        }
        let make = async || match self.make().await {
            Ok(made) => Ok(Some(made)),
            Err(error) => self.keep(Err(error)).map(|()| None),
        };
        self.made.get_or_try_init(make).await.map(drop)
    }

    fn counts_only(&self) -> bool {
        self.choice.as_ref().is_some_and(Choice::counts_only)
    }

    fn merges(&self) -> bool {
        self.choice.as_ref().is_some_and(Choice::merges)
    }

    /// Returns true if documents of the backup itself are loaded, and not only those of a staging collection.
    pub(super) fn reads_backup(&self) -> bool {
        self.choice.as_ref().is_none_or(|choice| {
            let (all, none) = match choice.touched.as_deref() {
                None => (false, true),
                Some(touched) => (*touched == Touched::All, touched.is_none()),
            };
            match choice.to {
                ChosenFor::Staging => !none,
                ChosenFor::Target { .. } => !all,
            }
        })
    }

    /// Returns true if documents are merged into a namespace that is there.
    fn merges_into_existing(&self) -> bool {
        self.planned.existing.is_some() && self.merges()
    }

    /// Records an error that concerns this namespace alone.
    fn keep(&self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(error) if error.kind() == Kind::Refused => {
                log::warn!("{}: {}", self.planned.chosen.name(), error.chain());
                let _ = self.failed.set(error);
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn make(&self) -> Result<Destination> {
        self.make_room().await?;
        let (chosen, source) = (&self.planned.chosen, &self.planned.source);
        let (db, collection) = (chosen.db.clone(), chosen.collection.clone());
        if let Some(marker) = self.marker.as_ref().filter(|_| !self.planned.is_kept()) {
            marker.made(&chosen.key(), self.creates()).await?;
        }
        match source.kind {
            Type::Timeseries => self.target.place_of_series(&db, &collection).await,
            Type::Collection | Type::View => Ok(Destination { db, collection, buckets: false, raw: false }),
        }
    }

    fn destination(&self) -> Result<&Destination> {
        let missing = || format!("{} was not created before it is filled", self.planned.chosen.name());
        self.made.get().and_then(Option::as_ref).ok_or_else(|| Error::failed(missing()))
    }

    /// Returns true if the namespace is created, false if an empty one is filled.
    fn creates(&self) -> bool {
        let emptied = matches!(self.planned.resumed, Some(Resumed::Again { created: false, .. }));
        self.planned.existing.is_none() || self.planned.is_replaced(self.drop) && !emptied
    }

    /// Drops an existing namespace, and creates the new one.
    async fn make_room(&self) -> Result<()> {
        let chosen = &self.planned.chosen;
        let replaces = self.planned.is_replaced(self.drop);
        if self.planned.is_kept() {
            return Ok(());
        }
        let state = if replaces { NamespaceState::Dropped } else { NamespaceState::Begun };
        self.progress.set(&chosen.name(), state);
        if let Some(Resumed::Again { identity, .. }) = &self.planned.resumed {
            self.target.check_identity(&chosen.db, &chosen.collection, identity).await?;
        }
        if chosen.collection.starts_with("system.") {
            if replaces {
                self.target.empty(&chosen.db, &chosen.collection).await?;
            } else if self.marker.is_some() && self.planned.existing.is_none() {
                // Its first document would create it, but then the mark would come too late.
                self.target.create_system(&chosen.db, &chosen.collection).await?;
            }
            return Ok(());
        }
        if self.merges_into_existing() {
            let uuid = self.target.uuid(&chosen.db, &chosen.collection).await?;
            let _ = self.there.set(uuid);
            return Ok(());
        }
        if self.planned.existing.is_some() && !self.creates() {
            if replaces {
                self.target.empty(&chosen.db, &chosen.collection).await?;
            }
            // The plan has checked that it is empty and has the same options.
            return match collections::is_constrained(&self.planned.namespace) {
                true => self.target.relax(&chosen.db, &chosen.collection).await,
                false => Ok(()),
            };
        }
        self.target.make(&self.planned.namespace, &chosen.db, &chosen.collection, self.drop, replaces).await
    }

    /// Inserts documents that follow each other in `raw`, unless the namespace has failed before.
    pub(super) async fn insert(&self, raw: &[u8]) -> Result<()> {
        if self.failed.get().is_some() {
            return Ok(());
        }
        self.keep(self.write(raw).await)
    }

    async fn write(&self, raw: &[u8]) -> Result<()> {
        let sent = Tally::of_all(raw)?;
        if let Some(choice) = &self.choice {
            self.state.lock().expect("no holder panics").sent += sent;
            let mut documents = self.parsed(raw)?;
            documents.retain(|document| choice.takes(document));
            return self.write_chosen(choice, documents, false).await;
        }
        let destination = self.destination()?;
        let mut refused = self.target.insert(destination, raw).await?;
        let is_mixed = |one: &RefusedDocument| destination.buckets && one.code == MIXED_BUCKET;
        if refused.iter().any(is_mixed) {
            // The server refuses these buckets unless an option of the collection allows them.
            let mixed: Vec<RefusedDocument> = refused.extract_if(.., |one| is_mixed(one)).collect();
            let chosen = &self.planned.chosen;
            self.target.allow_mixed_buckets(&chosen.db, &chosen.collection).await?;
            let raw: Vec<u8> = mixed.iter().flat_map(|one| one.document.as_bytes()).copied().collect();
            refused.extend(self.target.insert(destination, &raw).await?);
        }
        let mut state = self.state.lock().expect("no holder panics");
        state.sent += sent;
        refused.into_iter().for_each(|one| state.add(one));
        Ok(())
    }

    fn parsed<'a>(&self, raw: &'a [u8]) -> Result<Vec<&'a RawDocument>> {
        let parse = |raw| RawDocument::from_bytes(raw).map_err(|e| self.damaged(e));
        insert::split(raw)?.into_iter().map(parse).collect()
    }

    fn damaged(&self, why: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::new(Kind::Mismatch, format!("{} is damaged", self.planned.source.name())).caused_by(why)
    }

    /// Chooses and writes documents of the namespace's staging collection, which follow each other in `raw`, unless the namespace has
    /// failed before.
    pub(super) async fn insert_staged(&self, raw: &[u8]) -> Result<()> {
        let Some(choice) = self.choice.as_ref().filter(|_| self.failed.get().is_none()) else {
            return Ok(());
        };
        let documents = self.parsed(raw)?;
        self.keep(self.write_chosen(choice, documents, true).await)
    }

    /// Writes the documents that the filter matches. `staged` is true for documents of a staging collection.
    async fn write_chosen(
        &self,
        choice: &Choice,
        mut documents: Vec<&RawDocument>,
        staged: bool,
    ) -> Result<()> {
        let mut counts = ChosenCounts::default();
        let (mut merge, mut refused) = (false, Vec::new());
        if let ChosenFor::Target { filter, merge: merges, .. } = &choice.to {
            merge = *merges;
            if let Some(filter) = filter {
                let examined = documents.len() as u64;
                let matching = documents.into_iter().filter_map(|document| match filter.matches(document) {
                    Ok(matches) => matches.then_some(Ok(document)),
                    Err(e) => Some(Err(self.damaged(e))),
                });
                documents = matching.collect::<Result<_>>()?;
                counts.filtered = Some(FilterCounts { examined, matched: documents.len() as u64 });
            }
        }
        let mut chosen = Tally::default();
        documents.iter().for_each(|document| chosen += Tally::of(document.as_bytes()));
        if merge {
            let merged;
            (merged, refused) = self.merge(&documents).await?;
            counts.merged = Some(merged);
        } else if !choice.counts_only() {
            let raw: Vec<&[u8]> = documents.iter().map(|document| document.as_bytes()).collect();
            refused = self.target.insert_all(self.destination()?, &raw).await?;
        }
        // These have no later version in the backup, so another client wrote the present document.
        if merge || staged {
            refused.iter_mut().for_each(|one| one.same_id = false);
        }
        let mut state = self.state.lock().expect("no holder panics");
        state.chosen += chosen;
        state.counts.add(counts);
        refused.into_iter().for_each(|one| state.add(one));
        Ok(())
    }

    /// Merges documents into the namespace.
    async fn merge(&self, documents: &[&RawDocument]) -> Result<(MergeCounts, Vec<RefusedDocument>)> {
        if self.counts_only() {
            if self.planned.existing.is_none() {
                return Ok((
                    MergeCounts { inserted: documents.len() as u64, ..MergeCounts::default() },
                    Vec::new(),
                ));
            }
            let ChosenNamespace { db, collection, .. } = &self.planned.chosen;
            return merge::merge(&self.target, &Destination::new(db, collection), documents, Missing::Count)
                .await;
        }
        merge::merge(&self.target, self.destination()?, documents, Missing::Insert).await
    }

    /// Counts and compares the documents, and builds the indexes. If the server refused something that the
    /// namespace needs, the outcome is incomplete. Returns an error if the restore of other namespaces cannot
    /// go on either.
    pub(super) async fn finish(&self, meter: &Meter) -> Result<NamespaceOutcome> {
        let (chosen, source) = (&self.planned.chosen, &self.planned.source);
        let mut outcome =
            NamespaceOutcome { from: source.name(), to: chosen.name(), ..NamespaceOutcome::default() };
        if self.failed.get().is_none() {
            self.keep(self.complete(&mut outcome, meter).await)?;
        }
        match self.failed.get() {
            Some(error) => {
                if outcome.chosen == ChosenCounts::default() {
                    outcome.chosen = self.state.lock().expect("no holder panics").counts.clone();
                }
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

    async fn complete(&self, outcome: &mut NamespaceOutcome, meter: &Meter) -> Result<()> {
        let (place, source) = (&self.planned.chosen, &self.planned.source);
        if source.kind == Type::View {
            return Ok(());
        }
        if let Some(Resumed::Kept { documents }) = self.planned.resumed {
            outcome.documents = source.documents;
            outcome.raw_bytes = source.raw_bytes;
            outcome.superseded = source.documents - documents;
            return self.build_indexes(outcome, meter).await;
        }
        let state = std::mem::take(&mut *self.state.lock().expect("no holder panics"));
        let chosen = if self.choice.is_some() { &state.chosen } else { &state.sent };
        outcome.documents = chosen.documents;
        outcome.raw_bytes = chosen.raw_bytes;
        outcome.kept = chosen.clone();
        outcome.chosen = state.counts;
        if let Some(merged) = &outcome.chosen.merged {
            outcome.documents = merged.inserted + state.refused;
        }
        if self.reads_backup()
            && (state.sent.documents, state.sent.raw_bytes, state.sent.sum)
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
        if self.counts_only() {
            return Ok(());
        }
        outcome.refused = state.refused;
        if state.refused > 0 {
            let more = if state.refused > state.shown.len() as u64 { ", …" } else { "" };
            let shown = state.shown.join("; ");
            let what = format!("refused {}: {shown}{more}", units::several(state.refused, "document"));
            outcome.problems.push(ProblemKind::Documents.problem(what));
        }
        if !state.twice.is_empty() {
            let (gone, foreign) = self.settle(state.twice).await?;
            outcome.superseded = gone.documents;
            outcome.kept.documents -= gone.documents;
            outcome.kept.raw_bytes -= gone.raw_bytes;
            outcome.kept.sum = outcome.kept.sum.wrapping_sub(gone.sum);
            if foreign > 0 {
                let what = format!(
                    "{OTHER_CLIENT}: {} with an _id of the backup were replaced",
                    units::several(foreign, "document")
                );
                outcome.problems.push(ProblemKind::Count.problem(what));
            }
        }
        if let Some(there) = self.there.get()
            && self.target.uuid(&place.db, &place.collection).await? != *there
        {
            // An insert would create it without its options.
            let what = "another client dropped or replaced it during the merge";
            return Err(Error::new(Kind::Refused, what));
        }
        if !self.merges() {
            let counting = meter.beside(Phase::Counting, place.name());
            let counted = self.count(outcome).await?;
            drop(counting);
            if let (Some(marker), true) = (&self.marker, counted && outcome.problems.is_empty()) {
                let there = outcome.documents - outcome.superseded;
                marker.complete(&place.key(), source.kind, there, source.raw_bytes).await?;
            }
        }
        self.build_indexes(outcome, meter).await
    }

    async fn build_indexes(&self, outcome: &mut NamespaceOutcome, meter: &Meter) -> Result<()> {
        let place = &self.planned.chosen;
        if self.indexes && !self.merges_into_existing() {
            let _indexing = meter.beside(Phase::Indexing, place.name());
            let began = Instant::now();
            let indexes = collections::indexes(&self.planned.namespace);
            let problems = self.target.index(&indexes, &place.db, &place.collection).await?;
            outcome.indexes = (indexes.len() - problems.len()) as u64;
            outcome.problems.extend(problems.into_iter().map(|what| ProblemKind::Index.problem(what)));
            outcome.indexing = began.elapsed();
        }
        Ok(())
    }

    /// Compares the server's count with the number of written documents. Returns true if they are equal.
    async fn count(&self, outcome: &mut NamespaceOutcome) -> Result<bool> {
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
                return Ok(false);
            }
            counted => counted?,
        };
        let Some(there) = counted else {
            outcome.notes.push(
                "all documents were acknowledged, but not counted: the user may not read them (grant it the role \
                 \"readAnyDatabase\" as well)"
                    .into(),
            );
            return Ok(false);
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
        Ok(there == wanted)
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
        if self.shown.len() < SHOWN {
            let id = refused.document.get("_id").ok().flatten();
            let id = id.map_or_else(|| "without _id".to_string(), |id| format!("_id {}", id_text(id)));
            self.shown.push(format!("{id} (code {}, {})", refused.code, refused.why));
        }
    }
}
