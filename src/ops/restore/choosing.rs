//! Restores with `--filter` and `--merge`, which choose documents one by one.
//!
//! Documents are chosen as they are at one instant, and not as the backup read them. So the documents that the oplog slice writes, and
//! all documents of a namespace that it creates, drops or renames, are loaded into staging collections in the same database
//! ([`Staging`]). The slice is replayed there, and then they are chosen. All other documents are chosen as the backup has them. The
//! target's own collections are not changed before the staging collections are complete.

use std::collections::BTreeSet;
use std::sync::Arc;

use bson::{RawDocumentBuf, rawdoc};
use tokio::sync::Mutex;

use super::Restore;
use super::continued::MarkPlan;
use super::load::{Choice, ChosenFor, Load};
use super::namespaces::{BackupNamespace, ChosenNamespace, Existing, NamespaceKey, Planned, full_name};
use super::options::RestoreOptions;
use super::plan::{CountedNamespace, OplogPlan, RestorePlan};
use super::remedy::{NamespaceState, RestoreProgress};
use super::replay::survey::{EXPIRES, ReplayCatalog};
use super::replay::{Skip, SliceSurvey, Touched};
use super::report::{NamespaceOutcome, Problem, Replayed};
use super::swap::Staging;
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Meter;
use crate::base::units;
use crate::config::selection;
use crate::model::namespace::{Namespace, Type};

/// The staging collections of a restore. `Restore::apply_watched` drops them after an error.
pub(super) type StagingSlot = Arc<Mutex<Option<Staging>>>;

/// The part of a report that does not concern one namespace.
#[derive(Debug, Default)]
pub(super) struct ChosenRest {
    pub dropped: Vec<String>,
    pub replayed: Option<Replayed>,
    pub problems: Vec<Problem>,
    pub notes: Vec<String>,
    pub warnings: Vec<String>,
}

/// The staging collections after the replay.
struct Staged {
    replayed: Replayed,
    /// The namespaces and indexes by the names of the staging collections.
    catalog: ReplayCatalog,
}

/// A namespace whose documents are chosen.
struct ChosenLoad {
    load: Arc<Load>,
    /// Its staging collection.
    staged: Option<NamespaceKey>,
}

impl Restore {
    /// Chooses the documents and writes them. Returns the outcomes of the namespaces, and the rest of the report.
    pub(super) async fn fill_chosen(&self, meter: &Meter) -> Result<(Vec<NamespaceOutcome>, ChosenRest)> {
        let mut rest = ChosenRest::default();
        let staged = match self.plan.staged().next() {
            Some(_) => Some(self.stage(meter).await?),
            None => None,
        };
        let loads = self.chosen_loads(staged.as_ref()).await?;
        if let Some(Staged { replayed, catalog }) = staged {
            self.drop_replaced(&catalog, &mut rest).await?;
            rest.replayed = Some(replayed);
        }
        self.expect(self.writing(), meter);
        for one in &loads {
            if let Some(from) = &one.staged {
                self.drain(from, &one.load, meter).await?;
            }
        }
        let (direct, drained): (Vec<_>, Vec<_>) =
            loads.into_iter().map(|one| one.load).partition(|load| load.reads_backup());
        let mut outcomes = self.run_loads(direct, meter).await?;
        for load in drained {
            load.begin().await?;
            outcomes.push(load.finish(meter).await?);
        }
        if let Some(staging) = self.staging.lock().await.take() {
            rest.warnings.extend(staging.end().await);
        }
        self.describe_chosen(&mut outcomes, &mut rest);
        Ok((outcomes, rest))
    }

    /// Loads the documents that the slice writes into staging collections, and replays the slice there.
    async fn stage(&self, meter: &Meter) -> Result<Staged> {
        let own = self.options.own.clone();
        let own = own.ok_or_else(|| Error::failed("a restore with staging collections has no id"))?;
        let id = own.0.clone();
        let staging =
            Staging::begin(&self.target, own, self.plan.facts.from.clone(), self.plan.staged().cloned())
                .await?;
        *self.staging.lock().await = Some(staging);
        let inner = self.inner(&id);
        let survey = self.survey();
        let touched = |planned: &Planned| survey.and_then(|survey| survey.touched(planned));
        let loads = self.plan.namespaces.iter().filter_map(|planned| {
            let choice = Choice { touched: Some(touched(planned)?), to: ChosenFor::Staging };
            Some(Load::choosing(&inner, &renamed(planned, &id), false, Some(choice)))
        });
        let (read, empty): (Vec<_>, Vec<_>) = loads.partition(|load| load.reads_backup());
        let mut outcomes = inner.run_loads(read, meter).await?;
        for load in empty {
            load.begin().await?;
            outcomes.push(load.finish(meter).await?);
        }
        let mut problems: Vec<String> = outcomes
            .iter()
            .flat_map(|outcome| outcome.problems.iter().map(|problem| format!("{}: {problem}", outcome.to)))
            .collect();
        let step = outcomes.iter().find_map(|outcome| outcome.next_step.clone());
        refuse(&problems, step)?;
        let mut skip = Skip::default();
        let (mut replayed, catalog) = inner.play(&mut skip, meter).await?;
        problems.extend(skip.failures.iter().map(ToString::to_string));
        problems.extend(replayed.problems.iter().map(ToString::to_string));
        refuse(&problems, skip.failures.into_iter().find_map(|failure| failure.next_step))?;
        let prefix = selection::loaded_name(&id, "");
        let names = replayed.gone.iter_mut().chain(&mut replayed.came);
        names.for_each(|name| *name = name.replacen(&prefix, "", 1));
        Ok(Staged { replayed, catalog })
    }

    fn survey(&self) -> Option<&SliceSurvey> {
        self.plan.oplog.survey()
    }

    /// A restore into the staging collections.
    fn inner(&self, id: &str) -> Restore {
        let plan = &self.plan;
        let touched =
            |planned: &&Planned| self.survey().is_some_and(|survey| survey.touched(planned).is_some());
        let namespaces: Vec<Planned> =
            plan.namespaces.iter().filter(touched).map(|planned| renamed(planned, id)).collect();
        let options = RestoreOptions {
            documents: None,
            merge: false,
            drop: false,
            staged: Some(id.into()),
            ..self.options.clone()
        };
        let names = namespaces.iter().map(|planned| (planned.chosen.name(), None));
        let progress = RestoreProgress::new(names, false, self.target.clone(), options.clone(), None);
        let oplog =
            self.survey().cloned().map_or(OplogPlan::Absent, |survey| OplogPlan::Replayed(Box::new(survey)));
        let plan = RestorePlan {
            facts: plan.facts.clone(),
            namespaces,
            extra: Vec::new(),
            users_and_roles: Vec::new(),
            oplog,
            in_the_way: Vec::new(),
            drop: false,
            target_version: plan.target_version.clone(),
            obstacles: Vec::new(),
            unproved: Vec::new(),
            rest: None,
            counted: Vec::new(),
            fresh: false,
            mark: MarkPlan::default(),
            warnings: Vec::new(),
        };
        Restore {
            origin: self.origin.clone(),
            target: self.target.clone(),
            cancel: self.cancel.clone(),
            staging: StagingSlot::default(),
            options,
            progress,
            plan,
        }
    }

    fn target_choice(&self, touched: Option<Arc<Touched>>, counts_only: bool) -> Choice {
        let filter = self.options.documents.as_ref().map(|filter| Arc::new(filter.query.clone()));
        let to = ChosenFor::Target { filter, merge: self.options.merge, counts_only };
        Choice { touched, to }
    }

    /// The loads of all namespaces that exist at the instant of the restored data, views last.
    async fn chosen_loads(&self, staged: Option<&Staged>) -> Result<Vec<ChosenLoad>> {
        let indexes = !self.options.no_indexes;
        let mut loads = Vec::new();
        for planned in &self.plan.namespaces {
            if self.survey().and_then(|survey| survey.touched(planned)).is_none() {
                let load = Load::choosing(self, planned, indexes, Some(self.target_choice(None, false)));
                loads.push(ChosenLoad { load, staged: None });
            }
        }
        if let (Some(Staged { catalog, .. }), Some((id, _))) = (staged, &self.options.own) {
            let databases: BTreeSet<&String> = catalog.keys().map(|(db, _)| db).collect();
            let prefix = selection::loaded_name(id, "");
            let mut missing: BTreeSet<&NamespaceKey> =
                catalog.keys().filter(|(_, name)| name.starts_with(&prefix)).collect();
            for db in databases {
                let rows = self.target.collections(db).await?;
                for row in rows {
                    let (Ok(name), Ok(kind)) = (row.get_str("name"), row.get_str("type")) else { continue };
                    let from = (db.clone(), name.to_string());
                    let Some(live) = name.strip_prefix(&prefix).filter(|_| catalog.has(&from)) else {
                        continue;
                    };
                    missing.remove(&from);
                    let options = row.get_document("options").map(ToOwned::to_owned).unwrap_or_default();
                    let kind = if kind == "view" { Type::View } else { Type::Collection };
                    let (planned, touched) = self.of_staged((db, live), kind, options, catalog, &from);
                    let choice = self.target_choice(Some(touched), false);
                    let load = Load::choosing(self, &planned, indexes, Some(choice));
                    loads.push(ChosenLoad { load, staged: (kind == Type::Collection).then_some(from) });
                }
            }
            if let Some(gone) = missing.first() {
                let what =
                    format!("the staging collection {} disappeared during the restore", full_name(gone));
                return Err(Error::failed(what).hint("Another run may have dropped it (`restore --discard`)"));
            }
        }
        loads.sort_by_key(|one| one.load.planned.source.kind == Type::View);
        Ok(loads)
    }

    /// The plan of a namespace that was staged, with its options and indexes at the end of the slice, and the documents that come
    /// from its staging collection.
    fn of_staged(
        &self,
        (db, live): (&String, &str),
        kind: Type,
        options: RawDocumentBuf,
        catalog: &ReplayCatalog,
        from: &NamespaceKey,
    ) -> (Planned, Arc<Touched>) {
        let key = (db.clone(), live.to_string());
        let (survey, indexes, all) = (self.survey(), catalog.indexes(from), Arc::new(Touched::All));
        let planned = self.plan.namespaces.iter().find(|planned| planned.chosen.key() == key);
        if let Some(planned) = planned {
            let mut planned = planned.clone();
            planned.namespace.indexes = indexes;
            if survey.is_some_and(|survey| survey.reshapes(&planned)) {
                planned.namespace.options = with_expiry(options, catalog, from);
                (planned.namespace.kind, planned.source.kind) = (kind, kind);
            }
            let touched = survey.and_then(|survey| survey.touched(&planned)).unwrap_or(all);
            return (planned, touched);
        }
        let name =
            survey.and_then(|survey| survey.touched.get(&key).cloned()).unwrap_or_else(|| full_name(&key));
        let (from_db, collection) = name.split_once('.').unwrap_or_default();
        let source = BackupNamespace {
            db: from_db.into(),
            collection: collection.into(),
            kind,
            documents: 0,
            raw_bytes: 0,
            stored_bytes: 0,
            sum: 0,
        };
        // With --drop it is dropped before.
        let is_there = self.options.merge && self.plan.in_the_way.contains(&key);
        let existing = is_there.then_some(Existing { documents: None, same: true });
        let namespace = Namespace {
            db: from_db.into(),
            collection: collection.into(),
            kind,
            options: with_expiry(options, catalog, from),
            indexes,
            ..Namespace::default()
        };
        let chosen = ChosenNamespace { at: usize::MAX, db: key.0, collection: key.1 };
        (Planned { chosen, source, namespace, existing, resumed: None }, all)
    }

    /// With `--drop`, drops the namespaces that the backup replaces and that do not exist at the instant of the restored data, or that
    /// only the slice creates.
    async fn drop_replaced(&self, catalog: &ReplayCatalog, rest: &mut ChosenRest) -> Result<()> {
        let Some((id, _)) = self.options.own.as_ref().filter(|_| self.plan.drop) else { return Ok(()) };
        let gone = self.plan.namespaces.iter().filter(|planned| {
            let key = renamed(planned, id).chosen.key();
            let touched = self.survey().is_some_and(|survey| survey.touched(planned).is_some());
            planned.existing.is_some() && touched && !catalog.has(&key)
        });
        let mut beside: Vec<NamespaceKey> = gone.map(|planned| planned.chosen.key()).collect();
        beside.extend(self.plan.in_the_way.iter().cloned());
        let kept = self.drop_beside(&beside, &mut rest.dropped, &mut rest.problems).await?;
        let done = beside.iter().map(full_name).filter(|name| !kept.contains(name));
        done.for_each(|name| self.progress.set(&name, NamespaceState::Filled));
        Ok(())
    }

    /// Chooses the documents of a staging collection and writes them.
    async fn drain(&self, (db, collection): &NamespaceKey, load: &Load, meter: &Meter) -> Result<()> {
        load.begin().await?;
        meter.doing(load.planned.chosen.name());
        let find = rawdoc! {"find": collection.as_str(), "hint": {"$natural": 1}};
        let mut cursor = self.target.open_cursor(db, find).await?;
        while let Some(documents) = self.target.next_batch(&mut cursor).await? {
            load.insert_staged(&documents).await?;
        }
        Ok(())
    }

    /// Adds the notes about the chosen documents.
    fn describe_chosen(&self, outcomes: &mut [NamespaceOutcome], rest: &mut ChosenRest) {
        // Nothing is missing of a namespace that does not exist at the instant of the restored data.
        let gone = rest.replayed.iter().flat_map(|replayed| replayed.gone.clone());
        let beside = self.plan.in_the_way.iter().map(full_name);
        for name in gone.chain(beside) {
            if self.progress.get(&name) == Some(NamespaceState::Waiting) {
                self.progress.set(&name, NamespaceState::Filled);
            }
        }
        let filtered: Vec<(&str, u64)> = outcomes
            .iter()
            .filter_map(|outcome| Some((outcome.to.as_str(), outcome.chosen.filtered?.matched)))
            .collect();
        if self.options.documents.is_some() && filtered.iter().all(|(_, matched)| *matched == 0) {
            rest.warnings.push("no document matches the filter".into());
        } else {
            let none = filtered.iter().filter(|(_, matched)| *matched == 0);
            rest.notes.extend(none.map(|(name, _)| format!("no document of {name} matches the filter")));
        }
        for outcome in outcomes {
            let Some(merged) = outcome.chosen.merged.as_ref().filter(|merged| merged.different > 0) else {
                continue;
            };
            let more = merged.different - merged.different_ids.len() as u64;
            let more = if more > 0 { format!(" and {} more", units::count(more)) } else { String::new() };
            let differ = if merged.different == 1 { "is" } else { "are" };
            let shows = match &self.plan.facts.id {
                Some(id) => format!(
                    "`uzima-backup get {id} {} --id EJSON` shows the backup's version, and `diff` compares two backups",
                    outcome.from
                ),
                None => "restore them beside with --ns-from and --ns-to to compare them".into(),
            };
            let note = format!(
                "{} {differ} there and different, and stayed as {}: _id {}{more}; {shows}",
                units::several(merged.different, "document"),
                if merged.different == 1 { "it was" } else { "they were" },
                merged.different_ids.join(", "),
            );
            outcome.notes.push(note);
        }
    }

    /// Counts what a restore with `--filter` or `--merge` would write, for a `--dry-run`. Documents that the slice writes are not
    /// counted, because that needs its replay.
    ///
    /// # Errors
    /// Returns an error if the backup cannot be read, or the target does not answer.
    pub async fn count_chosen(&mut self, meter: &Meter) -> Result<()> {
        if !self.options.sifts() {
            return Ok(());
        }
        let cancel = self.cancel.clone();
        self.plan.counted = cancel.or(self.counted(meter)).await?;
        Ok(())
    }

    async fn counted(&self, meter: &Meter) -> Result<Vec<CountedNamespace>> {
        self.expect(self.writing(), meter);
        let touched = |planned: &Planned| self.survey().and_then(|survey| survey.touched(planned));
        let loads = self.plan.namespaces.iter().map(|planned| {
            Load::choosing(self, planned, false, Some(self.target_choice(touched(planned), true)))
        });
        let (direct, none): (Vec<_>, Vec<_>) = loads.partition(|load| load.reads_backup());
        let mut outcomes = self.run_loads(direct, meter).await?;
        for load in none {
            outcomes.push(load.finish(meter).await?);
        }
        if let Some((name, problem)) =
            outcomes.iter().find_map(|outcome| Some((&outcome.to, outcome.problems.first()?)))
        {
            return Err(Error::failed(format!("{name} cannot be counted: {problem}")));
        }
        outcomes.sort_by(|a, b| a.to.cmp(&b.to));
        let written: BTreeSet<String> = self.plan.staged().map(full_name).collect();
        let counted = |outcome: NamespaceOutcome| CountedNamespace {
            without_oplog: written.contains(&outcome.to),
            to: outcome.to,
            chosen: outcome.chosen,
        };
        Ok(outcomes.into_iter().map(counted).collect())
    }
}

/// Returns an error if the staging collections differ from the backup.
fn refuse(problems: &[String], step: Option<String>) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let what = format!("the oplog cannot be applied before documents are chosen: {}", problems.join("; "));
    Err(step.into_iter().fold(Error::new(Kind::Failed, what), Error::hint))
}

fn renamed(planned: &Planned, id: &str) -> Planned {
    let mut planned = planned.clone();
    planned.chosen.collection = selection::loaded_name(id, &planned.chosen.collection);
    planned.existing = None;
    planned
}

/// The options with the expiry that staging collections do not have.
fn with_expiry(mut options: RawDocumentBuf, catalog: &ReplayCatalog, from: &NamespaceKey) -> RawDocumentBuf {
    if let Some(seconds) =
        catalog.expiry(from).filter(|_| options.get(EXPIRES).is_ok_and(|there| there.is_none()))
    {
        options.append(bson::raw::cstr!("expireAfterSeconds"), seconds.clone());
    }
    options
}
