//! Replays the oplog slice of a backup: the writes on the server while its collections were read, one after the other.
//! Afterwards all collections are as they were at one instant, the slice's end.
//!
//! The slice is read twice. The first time, for the plan ([`SliceSurvey`]), finds everything that cannot be replayed
//! before anything is touched. The second time, when all documents are restored and counted, its steps are taken at the
//! target. Then the indexes are built that exist at the slice's end.

mod entry;
pub(crate) mod script;
pub(super) mod survey;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bson::RawDocumentBuf;
use tokio::sync::mpsc;

use super::Restore;
use super::filter::TargetNamespace;
use super::namespaces::{NamespaceKey, full_name};
use super::origin::{RestoreOrigin, read_blocking};
use super::report::{NamespaceOutcome, ProblemKind, Replayed, SliceCounts};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Meter;
use crate::restore_target::RestoreTarget;
use crate::restore_target::insert::{BATCH, Destination};
use script::{ChangeForm, ReplayStep, Script};
use survey::{ReplayCatalog, follow_slice};

pub use survey::SliceSurvey;

/// The most writes in one command.
const WRITES: usize = 1000;
/// The most steps that wait in the channel.
const WAITING: usize = 8;

/// Codes that `applyOps` ignores, too: NamespaceExists when an existing namespace is created;
/// NamespaceNotFound and InvalidOptions when a namespace is changed that was dropped or changed further
/// since.
const CREATED: [i32; 1] = [48];
const CHANGED: [i32; 2] = [26, 72];

impl Restore {
    /// Replays the slice and builds the indexes. The indexes of restored namespaces are counted in their
    /// `outcomes`. Leaves out the namespaces in `skip`, and adds namespaces that fail. Returns an error if
    /// the replay of other namespaces cannot go on either.
    pub(super) async fn replay(
        &self,
        outcomes: &mut [NamespaceOutcome],
        skip: &mut Skip,
        meter: &Meter,
    ) -> Result<Replayed> {
        let (names, planned) = (self.options.names(), &self.plan.namespaces);
        let connected = if names.users { self.target.connected_users().await? } else { Vec::new() };
        let script = Script::new(names, connected, self.origin.slice_bounds());
        let mut player = Player {
            target: &self.target,
            catalog: ReplayCatalog::new(planned),
            skip,
            batch: WriteBatch::default(),
            missing: BTreeMap::new(),
            operations: 0,
        };
        meter.doing("replaying the oplog".into());
        let read = player.play(&self.origin, script).await?;
        let Player { catalog, skip, missing, operations, .. } = player;
        let lost = |key: &NamespaceKey| {
            let name = full_name(key);
            let what = format!("{name} is not in the backup, so the writes to it in the oplog are lost");
            ProblemKind::Documents.problem(what)
        };
        let restored: BTreeSet<NamespaceKey> = planned.iter().map(|planned| planned.chosen.key()).collect();
        let gone = planned.iter().filter(|planned| !catalog.has(&planned.chosen.key()));
        let mut replayed = Replayed {
            entries: read.entries,
            operations,
            left_out: read.left_out,
            open_transactions: read.open_transactions,
            gone: gone.map(|planned| planned.chosen.name()).collect(),
            came: catalog.keys().filter(|key| !restored.contains(key)).map(full_name).collect(),
            problems: missing.keys().map(lost).collect(),
            ..Replayed::default()
        };
        for failure in &skip.failures {
            let why = format!("not replayed: {}", failure.why);
            match outcomes.iter_mut().find(|outcome| outcome.to == failure.name) {
                Some(outcome) => {
                    outcome.problems.push(ProblemKind::Incomplete.problem(why));
                    outcome.next_step = outcome.next_step.take().or(failure.next_step.clone());
                }
                None => {
                    let what = format!("{}: {why}", failure.name);
                    replayed.problems.push(ProblemKind::Incomplete.problem(what));
                }
            }
        }
        let builds = if self.options.no_indexes { Vec::new() } else { catalog.builds() };
        for build in builds {
            let name = full_name(&build.of);
            if skip.has(&name) {
                continue;
            }
            meter.doing(format!("building the indexes of {name}"));
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
        }
        Ok(replayed)
    }
}

/// Writes that are sent together.
#[derive(Default)]
struct WriteBatch {
    operations: Vec<RawDocumentBuf>,
    places: Vec<TargetNamespace>,
    bytes: usize,
}

/// Takes the steps of a slice at the target. Operations on namespaces in `skip` are left out, and a namespace
/// whose operation fails is added to `skip`.
struct Player<'a> {
    target: &'a RestoreTarget,
    /// The namespaces and indexes after the steps so far.
    catalog: ReplayCatalog,
    skip: &'a mut Skip,
    batch: WriteBatch,
    /// Collections that the slice writes to but the backup does not contain, because they were dropped before
    /// they were read, with their database in the backup. The slice must drop them later.
    missing: BTreeMap<NamespaceKey, String>,
    operations: u64,
}

impl Player<'_> {
    async fn play(&mut self, origin: &RestoreOrigin, script: Script) -> Result<SliceCounts> {
        let (sender, mut steps) = mpsc::channel(WAITING);
        let origin = origin.clone();
        // The player ends when the sender is dropped.
        let reading = read_blocking(move || {
            let mut send =
                |step| sender.blocking_send(step).map_err(|_| Error::aftermath("the replay has ended"));
            follow_slice(&origin, script, &mut send)
        });
        let playing = async {
            while let Some(step) = steps.recv().await {
                self.take(step).await?;
            }
            // The reader continues to the slice's end, to check that it is whole.
            drop(steps);
            self.flush().await
        };
        // The player's error is the cause of the reader's error, so it comes first.
        let (read, played) = tokio::join!(reading, playing);
        played?;
        read.map(|script| script.read)
    }

    async fn take(&mut self, step: ReplayStep) -> Result<()> {
        if !matches!(step, ReplayStep::Write { .. } | ReplayStep::Index { .. }) {
            self.flush().await?;
        }
        if self.skip.takes(&step) {
            return Ok(());
        }
        self.operations += u64::from(step.counts());
        let done = match &step {
            ReplayStep::Write { .. } | ReplayStep::Index { .. } => Ok(()),
            ReplayStep::Create { to, form, view, .. } => {
                self.missing.remove(&to.key());
                self.create(to, form, *view).await
            }
            ReplayStep::Modify { to, form } => self.make(to, form, &CHANGED).await.map(drop),
            // A namespace that neither backup nor slice created belongs to someone else and is not dropped.
            ReplayStep::Drop(named) if self.catalog.has(&named.key()) => self.drop_one(&named.key()).await,
            ReplayStep::Drop(named) => {
                self.missing.remove(&named.key());
                Ok(())
            }
            ReplayStep::DropAll { from_db, views } => self.drop_all(from_db, *views).await,
            ReplayStep::Rename { from, command, .. } => self.rename(from, command).await,
        };
        match done {
            Err(error) if error.kind() == Kind::Refused => {
                step.namespaces().into_iter().for_each(|named| self.skip.fail(named.name(), &error));
                return Ok(());
            }
            done => done?,
        }
        self.catalog.follow(&step);
        match step {
            ReplayStep::Write { to, operation } => self.write(to, operation).await,
            _ => Ok(()),
        }
    }

    async fn write(&mut self, to: TargetNamespace, operation: RawDocumentBuf) -> Result<()> {
        if self.missing.contains_key(&to.key()) {
            return Ok(());
        }
        if RestoreTarget::would_fill(&operation) {
            self.flush().await?;
            return self.write_filled(to, operation).await;
        }
        self.batch.bytes += operation.as_bytes().len();
        self.batch.operations.push(operation);
        self.batch.places.push(to);
        if self.batch.operations.len() == WRITES || self.batch.bytes >= BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes a document with empty timestamps. The server fills them in, so they are emptied again.
    async fn write_filled(&mut self, to: TargetNamespace, operation: RawDocumentBuf) -> Result<()> {
        let operations = [operation];
        self.send(&operations, std::slice::from_ref(&to)).await?;
        if self.missing.contains_key(&to.key()) || self.skip.leaves_out(&to) {
            return Ok(());
        }
        let place =
            Destination { db: to.db.clone(), collection: to.stored(), buckets: to.buckets, raw: false };
        match self.target.unfill(&place, &operations[0]).await {
            Err(error) if error.kind() == Kind::Refused => {
                self.skip.fail(to.name(), &error);
                Ok(())
            }
            done => done,
        }
    }

    /// Sends the batch. An operation of 16 MiB goes alone, because a command may be only 16 KiB longer.
    async fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let alone = batch.operations.iter().rposition(|o| o.as_bytes().len() >= BATCH).unwrap_or(0);
        let ((before, rest), (places_before, places)) =
            (batch.operations.split_at(alone), batch.places.split_at(alone));
        self.send(before, places_before).await?;
        self.send(rest, places).await
    }

    /// Applies writes. If the server refuses a write, its namespace fails, and the other writes go on.
    async fn send(&mut self, operations: &[RawDocumentBuf], places: &[TargetNamespace]) -> Result<()> {
        let (mut operations, mut places) = (operations.to_vec(), places.to_vec());
        while !operations.is_empty() {
            let applied = self.target.apply(&operations).await?;
            for at in applied.left_out {
                let place = &places[at];
                self.missing.insert(place.key(), place.from_db.clone());
            }
            let Some((at, error)) = applied.refused else { return Ok(()) };
            self.skip.fail(places[at].name(), &error);
            let rest = operations.drain(..).zip(places.drain(..)).skip(at + 1);
            (operations, places) = rest.filter(|(_, place)| !self.skip.leaves_out(place)).unzip();
        }
        Ok(())
    }

    /// Creates a namespace, or keeps an existing one, because the backup may have read it after the slice
    /// created it. A view is replaced.
    async fn create(&self, to: &TargetNamespace, form: &ChangeForm, view: bool) -> Result<()> {
        if view {
            self.target.drop_namespace(&to.db, &to.collection).await?;
        }
        if self.make(to, form, &CREATED).await? || self.is_there(to).await? {
            return Ok(());
        }
        let name = to.name();
        let what = format!("cannot create {name}: the server answered that it exists, but does not list it");
        Err(Error::new(Kind::Refused, what).hint(format!("Restore {name} again, and only {name}")))
    }

    /// Carries out a change. Returns false if the server refused it with one of the codes in `fine`.
    async fn make(&self, to: &TargetNamespace, form: &ChangeForm, fine: &[i32]) -> Result<bool> {
        match form {
            ChangeForm::Operation(operation) => {
                let applied = self.target.apply(std::slice::from_ref(operation)).await?;
                applied.refused.map_or(Ok(true), |(_, error)| Err(error))
            }
            ChangeForm::Command(command) => {
                let doing = format!("cannot replay a change to {}", to.name());
                self.target.command(&to.db, command, &doing, fine).await
            }
        }
    }

    async fn is_there(&self, named: &TargetNamespace) -> Result<bool> {
        let there = self.target.collections(&named.db).await?;
        Ok(there.iter().any(|row| row.get_str("name").is_ok_and(|name| name == named.collection)))
    }

    async fn drop_one(&mut self, key: &NamespaceKey) -> Result<()> {
        self.missing.remove(key);
        self.target.drop_namespace(&key.0, &key.1).await
    }

    async fn drop_all(&mut self, from_db: &String, views: bool) -> Result<()> {
        for key in self.catalog.of_database(from_db, views) {
            let name = full_name(&key);
            if self.skip.has(&name) {
                continue;
            }
            match self.drop_one(&key).await {
                Err(error) if error.kind() == Kind::Refused => self.skip.fail(name, &error),
                done => done?,
            }
        }
        self.missing.retain(|_, db| views || db != from_db);
        Ok(())
    }

    async fn rename(&self, from: &TargetNamespace, command: &RawDocumentBuf) -> Result<()> {
        let name = from.name();
        if self.is_there(from).await? && self.catalog.has(&from.key()) {
            let doing = format!("cannot rename {name}");
            return self.target.command("admin", command, &doing, &[]).await.map(drop);
        }
        let what = format!("the oplog renames {name}, which does not exist at the target");
        Err(Error::new(Kind::Refused, what).hint(
            "The oplog of a dump that was taken during a rename cannot be replayed: restore with --no-replay",
        ))
    }
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
    next_step: Option<String>,
}

impl Skip {
    /// Leaves out all further operations on a namespace after one of them failed.
    fn fail(&mut self, name: String, error: &Error) {
        log::warn!("{name}: {}", error.chain());
        if self.names.insert(name.clone()) {
            let next_step = error.next_step().map(str::to_string);
            self.failures.push(ReplayFailure { name, why: error.chain(), next_step });
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Returns true if operations on this namespace are left out.
    fn leaves_out(&self, named: &TargetNamespace) -> bool {
        self.users && named.is_users_or_roles() || self.has(&named.name())
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
