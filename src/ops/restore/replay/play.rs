//! Reads the slice again and takes its steps at the target, in order.

use std::collections::{BTreeMap, BTreeSet};

use bson::RawDocumentBuf;
use tokio::sync::mpsc::{self, Sender};

use super::action::{ChangeForm, ReplayStep};
use super::catalog::ReplayCatalog;
use super::script::Script;
use super::survey::{StepSink, through};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Meter;
use crate::ops::restore::filter::TargetNamespace;
use crate::ops::restore::namespaces::NamespaceKey;
use crate::ops::restore::origin::RestoreOrigin;
use crate::ops::restore::report::{Problem, ProblemKind, SliceCounts};
use crate::restore_target::RestoreTarget;
use crate::restore_target::insert::{BATCH, Destination};

/// The most writes in one command.
const WRITES: usize = 1000;
/// The most steps that wait in the channel.
const WAITING: usize = 8;

/// Codes that `applyOps` ignores, too: NamespaceExists when an existing namespace is created;
/// NamespaceNotFound and InvalidOptions when a namespace is changed that was dropped or changed further
/// since.
const CREATED: [i32; 1] = [48];
const CHANGED: [i32; 2] = [26, 72];

/// The result of [`play`].
#[derive(Debug, Default)]
pub(crate) struct Played {
    pub read: SliceCounts,
    pub operations: u64,
    /// The namespaces and indexes after the replay.
    pub catalog: ReplayCatalog,
    pub problems: Vec<Problem>,
}

/// Replays the slice. `catalog` has the restored namespaces. Operations on namespaces in `skip` are left out,
/// and a namespace whose operation fails is added to `skip`.
pub(super) async fn play(
    origin: &RestoreOrigin,
    script: Script,
    target: &RestoreTarget,
    catalog: ReplayCatalog,
    skip: &mut Skip,
    meter: &Meter,
) -> Result<Played> {
    meter.doing("replaying the oplog".into());
    let (sender, mut steps) = mpsc::channel(WAITING);
    // The result has no feeder, because the player ends when the feeder is dropped.
    let reading = async { through(origin, script, StepFeeder(sender)).await.map(|(script, _)| script.read) };
    let mut player = Player {
        target,
        catalog,
        skip,
        batch: WriteBatch::default(),
        missing: BTreeMap::new(),
        operations: 0,
    };
    let playing = async {
        while let Some(action) = steps.recv().await {
            player.take(action).await?;
        }
        // The reader continues to the slice's end, to check that it is whole.
        drop(steps);
        player.flush().await
    };
    // The player's error is the cause of the reader's error, so it comes first.
    let (read, played) = tokio::join!(reading, playing);
    played?;
    let read = read?;
    let lost = |(db, name): &NamespaceKey| {
        let what = format!("{db}.{name} is not in the backup, so the writes to it in the oplog are lost");
        ProblemKind::Documents.problem(what)
    };
    let problems = player.missing.keys().map(lost).collect();
    Ok(Played { read, operations: player.operations, catalog: player.catalog, problems })
}

/// Passes steps to the player.
struct StepFeeder(Sender<ReplayStep>);

impl StepSink for StepFeeder {
    fn take(&mut self, action: ReplayStep) -> Result<()> {
        self.0.blocking_send(action).map_err(|_| Error::aftermath("the replay has ended"))
    }
}

/// Writes that are sent together.
#[derive(Default)]
struct WriteBatch {
    operations: Vec<RawDocumentBuf>,
    places: Vec<TargetNamespace>,
    bytes: usize,
}

struct Player<'a> {
    target: &'a RestoreTarget,
    catalog: ReplayCatalog,
    skip: &'a mut Skip,
    batch: WriteBatch,
    /// Collections that the slice writes to but the backup does not contain, because they were dropped before
    /// they were read, with their database in the backup. The slice must drop them later.
    missing: BTreeMap<NamespaceKey, String>,
    operations: u64,
}

impl Player<'_> {
    async fn take(&mut self, action: ReplayStep) -> Result<()> {
        if !matches!(action, ReplayStep::Write { .. } | ReplayStep::Index { .. }) {
            self.flush().await?;
        }
        if self.skip.takes(&action) {
            return Ok(());
        }
        self.operations += u64::from(action.is_one());
        let (named, done) = match &action {
            ReplayStep::Write { .. } | ReplayStep::Index { .. } => (None, Ok(())),
            ReplayStep::Create { to, form, view, .. } => {
                self.missing.remove(&to.key());
                (Some(to), self.create(to, form, *view).await)
            }
            ReplayStep::Modify { to, form } => (Some(to), self.make(to, form, &CHANGED).await.map(drop)),
            // A namespace of the target that the backup never had belongs to someone else and stays.
            ReplayStep::Drop(named) if self.catalog.has(&named.key()) => {
                (Some(named), self.drop_one(&named.key()).await)
            }
            ReplayStep::Drop(named) => {
                self.missing.remove(&named.key());
                (Some(named), Ok(()))
            }
            ReplayStep::DropAll { from_db, views } => {
                for key in self.catalog.of_database(from_db, *views) {
                    let name = format!("{}.{}", key.0, key.1);
                    if self.skip.has(&name) {
                        continue;
                    }
                    match self.drop_one(&key).await {
                        Err(error) if error.kind() == Kind::Refused => self.skip.fail(name, &error),
                        done => done?,
                    }
                }
                self.missing.retain(|_, db| *views || db != from_db);
                (None, Ok(()))
            }
            ReplayStep::Rename { from, to, command } => {
                let renamed = self.rename(from, command).await;
                if let Err(error) = renamed.as_ref()
                    && error.kind() == Kind::Refused
                {
                    self.skip.fail(full_name(from), error);
                }
                (Some(to), renamed)
            }
        };
        match (named, done) {
            (Some(named), Err(error)) if error.kind() == Kind::Refused => {
                self.skip.fail(full_name(named), &error);
                return Ok(());
            }
            (_, done) => done?,
        }
        self.catalog.follow(&action);
        match action {
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

    /// Writes a document with empty timestamps, which the server changes, and restores them.
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
                self.skip.fail(full_name(&to), &error);
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
            self.skip.fail(full_name(&places[at]), &error);
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
        let name = full_name(to);
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
                let doing = format!("cannot replay a change of {}", full_name(to));
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

    async fn rename(&self, from: &TargetNamespace, command: &RawDocumentBuf) -> Result<()> {
        let name = full_name(from);
        if self.is_there(from).await? && self.catalog.has(&from.key()) {
            return self
                .target
                .command("admin", command, &format!("cannot rename {name}"), &[])
                .await
                .map(drop);
        }
        let what = format!("the oplog renames {name}, which is not there");
        Err(Error::new(Kind::Refused, what).hint(
            "The oplog of a dump that was taken during a rename cannot be replayed: restore with --no-replay",
        ))
    }
}

/// Namespaces that a replay leaves out. Their documents are not as the backup read them, so further
/// operations would lead to a state that the source never had.
#[derive(Debug, Default)]
pub(crate) struct Skip {
    names: BTreeSet<String>,
    users: bool,
    failures: Vec<ReplayFailure>,
}

/// A namespace whose replay ended early.
#[derive(Debug, Clone)]
pub(crate) struct ReplayFailure {
    pub name: String,
    pub why: String,
    pub next_step: Option<String>,
}

impl Skip {
    /// Leaves out a namespace of the target.
    pub(crate) fn add(&mut self, name: &str) {
        self.names.insert(name.into());
    }

    pub(crate) fn skip_users(&mut self) {
        self.users = true;
    }

    /// Leaves out all further operations on a namespace after one of them failed.
    fn fail(&mut self, name: String, error: &Error) {
        log::warn!("{name}: {}", error.chain());
        if self.names.insert(name.clone()) {
            let next_step = error.next_step().map(str::to_string);
            self.failures.push(ReplayFailure { name, why: error.chain(), next_step });
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Returns true if operations on this namespace are left out.
    fn leaves_out(&self, named: &TargetNamespace) -> bool {
        self.users && named.is_users_or_roles() || self.has(&full_name(named))
    }

    /// Returns true if a step is left out. A rename of a namespace that is left out also fails the other
    /// namespace.
    pub(crate) fn takes(&mut self, action: &ReplayStep) -> bool {
        match action {
            ReplayStep::Write { to, .. }
            | ReplayStep::Create { to, .. }
            | ReplayStep::Modify { to, .. }
            | ReplayStep::Index { to, .. }
            | ReplayStep::Drop(to) => self.leaves_out(to),
            ReplayStep::DropAll { .. } => false,
            ReplayStep::Rename { from, to, .. } => {
                let left_out = self.leaves_out(from) || self.leaves_out(to);
                if left_out {
                    let why = format!("the oplog renames {} to {}", full_name(from), full_name(to));
                    for named in [from, to] {
                        let what = format!("{why}, and one of them was not restored");
                        self.fail(full_name(named), &Error::failed(what));
                    }
                }
                left_out
            }
        }
    }

    pub(crate) fn failures(&self) -> Vec<ReplayFailure> {
        self.failures.clone()
    }
}

fn full_name(named: &TargetNamespace) -> String {
    format!("{}.{}", named.db, named.collection)
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
        skip.add("shop.a");
        assert!(skip.takes(&rename("a", "b")) && skip.takes(&rename("c", "b")));
        let failed: Vec<String> = skip.failures().into_iter().map(|failure| failure.name).collect();
        assert_eq!(failed, ["shop.b", "shop.c"], "shop.a has an error of its own");
        assert!(skip.takes(&ReplayStep::Drop(named("b"))) && !skip.takes(&ReplayStep::Drop(named("d"))));
    }
}
