//! Takes the steps of a slice at the target. Writes go in several [lanes](super::lanes) at once; every other step waits until
//! all writes before it are done.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bson::RawDocumentBuf;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;

use super::Skip;
use super::lanes::{LANES, lane_of};
use super::survey::{ReplayCatalog, follow_slice};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Meter;
use crate::dumpformat::oplog::script::{ChangeForm, ReplayStep, Script};
use crate::dumpformat::oplog::{SliceCounts, TargetNamespace};
use crate::ops::restore::filter::ReplayFilter;
use crate::ops::restore::namespaces::{NamespaceKey, full_name};
use crate::ops::restore::origin::{RestoreOrigin, read_blocking};
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

/// Writes that are sent together.
#[derive(Default)]
struct WriteBatch {
    operations: Vec<RawDocumentBuf>,
    places: Vec<TargetNamespace>,
    bytes: usize,
}

impl WriteBatch {
    fn push(&mut self, to: TargetNamespace, operation: RawDocumentBuf) {
        self.bytes += operation.as_bytes().len();
        self.operations.push(operation);
        self.places.push(to);
    }

    fn is_full(&self) -> bool {
        self.operations.len() >= WRITES || self.bytes >= BATCH
    }
}

/// A lane. At most one of its batches is under way.
#[derive(Default)]
struct Lane {
    waiting: WriteBatch,
    is_busy: bool,
}

/// What all lanes know about the namespaces.
#[derive(Default)]
pub(super) struct Exceptions {
    /// Operations on these namespaces are left out. A namespace whose operation fails is added.
    pub skip: Skip,
    /// Collections that the slice writes to but the backup does not contain, because they were dropped before
    /// they were read, with their database in the backup. The slice must drop them later.
    pub missing: BTreeMap<NamespaceKey, String>,
}

/// Takes the steps of a slice at the target.
pub(super) struct Player<'a> {
    target: &'a RestoreTarget,
    /// The namespaces and indexes after the steps so far.
    pub catalog: ReplayCatalog,
    exceptions: &'a Mutex<Exceptions>,
    lanes: [Lane; LANES],
    /// The batches that were sent, by their lanes.
    under_way: FuturesUnordered<BoxFuture<'a, Result<usize>>>,
    pub operations: u64,
}

impl<'a> Player<'a> {
    pub(super) fn new(
        target: &'a RestoreTarget,
        catalog: ReplayCatalog,
        exceptions: &'a Mutex<Exceptions>,
    ) -> Player<'a> {
        let (lanes, under_way) = Default::default();
        Player { target, catalog, exceptions, lanes, under_way, operations: 0 }
    }

    fn exceptions(&self) -> MutexGuard<'a, Exceptions> {
        lock(self.exceptions)
    }

    pub(super) async fn play(
        &mut self,
        origin: &RestoreOrigin,
        script: Script<ReplayFilter>,
        meter: &Meter,
    ) -> Result<SliceCounts> {
        let (sender, mut steps) = mpsc::channel(WAITING);
        let origin = origin.clone();
        // The player ends when the sender is dropped.
        let reading = read_blocking(move || {
            let mut send =
                |step| sender.blocking_send(step).map_err(|_| Error::aftermath("the replay has ended"));
            follow_slice(&origin, script, &mut send)
        });
        let playing = async {
            loop {
                let step = tokio::select! {
                    step = steps.recv() => step,
                    Some(done) = self.under_way.next() => {
                        self.lanes[done?].is_busy = false;
                        continue;
                    }
                };
                match step {
                    Some(step) => self.take(step).await?,
                    None => break,
                }
                meter.replayed(self.operations);
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
        if self.exceptions().skip.takes(&step) {
            return Ok(());
        }
        self.operations += u64::from(step.counts());
        let done = match &step {
            ReplayStep::Write { .. } | ReplayStep::Index { .. } => Ok(()),
            ReplayStep::Create { to, form, view, .. } => {
                self.exceptions().missing.remove(&to.key());
                self.create(to, form, *view).await
            }
            ReplayStep::Modify { to, form } => self.make(to, form, &CHANGED).await.map(drop),
            // A namespace that neither backup nor slice created belongs to someone else and is not dropped.
            ReplayStep::Drop(named) if self.catalog.has(&named.key()) => self.drop_one(&named.key()).await,
            ReplayStep::Drop(named) => {
                self.exceptions().missing.remove(&named.key());
                Ok(())
            }
            ReplayStep::DropAll { from_db, views } => self.drop_all(from_db, *views).await,
            ReplayStep::Rename { from, command, .. } => self.rename(from, command).await,
        };
        match done {
            Err(error) if error.kind() == Kind::Refused => {
                let mut exceptions = self.exceptions();
                step.namespaces().into_iter().for_each(|named| exceptions.skip.fail(named.name(), &error));
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
        if self.exceptions().missing.contains_key(&to.key()) {
            return Ok(());
        }
        if RestoreTarget::would_fill(&operation) {
            self.flush().await?;
            return self.write_filled(to, operation).await;
        }
        let Some(lane) = lane_of(&to, &operation, self.catalog.writes_in_order(&to.key())) else {
            // The write may concern a document of any lane.
            self.flush().await?;
            return send(self.target, self.exceptions, vec![operation], vec![to]).await;
        };
        self.lanes[lane].waiting.push(to, operation);
        match self.lanes[lane].waiting.is_full() {
            true => self.dispatch(lane).await,
            false => Ok(()),
        }
    }

    /// Writes a document with empty timestamps. The server fills them in, so they are emptied again.
    async fn write_filled(&mut self, to: TargetNamespace, operation: RawDocumentBuf) -> Result<()> {
        send(self.target, self.exceptions, vec![operation.clone()], vec![to.clone()]).await?;
        {
            let exceptions = self.exceptions();
            if exceptions.missing.contains_key(&to.key()) || exceptions.skip.leaves_out(&to) {
                return Ok(());
            }
        }
        let place =
            Destination { db: to.db.clone(), collection: to.stored(), buckets: to.buckets, raw: false };
        match self.target.unfill(&place, &operation).await {
            Err(error) if error.kind() == Kind::Refused => {
                self.exceptions().skip.fail(to.name(), &error);
                Ok(())
            }
            done => done,
        }
    }

    /// Sends the batch of a lane, after the lane's last batch is done.
    async fn dispatch(&mut self, lane: usize) -> Result<()> {
        while self.lanes[lane].is_busy {
            self.land().await?;
        }
        let batch = std::mem::take(&mut self.lanes[lane].waiting);
        if !batch.operations.is_empty() {
            self.lanes[lane].is_busy = true;
            let (target, exceptions) = (self.target, self.exceptions);
            self.under_way.push(Box::pin(async move {
                send(target, exceptions, batch.operations, batch.places).await?;
                Ok(lane)
            }));
        }
        Ok(())
    }

    /// Waits until one of the batches under way is done.
    async fn land(&mut self) -> Result<()> {
        if let Some(done) = self.under_way.next().await {
            self.lanes[done?].is_busy = false;
        }
        Ok(())
    }

    /// Waits until all writes are done.
    async fn flush(&mut self) -> Result<()> {
        for lane in 0..LANES {
            self.dispatch(lane).await?;
        }
        while !self.under_way.is_empty() {
            self.land().await?;
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
        self.exceptions().missing.remove(key);
        self.target.drop_namespace(&key.0, &key.1).await
    }

    async fn drop_all(&mut self, from_db: &String, views: bool) -> Result<()> {
        for key in self.catalog.of_database(from_db, views) {
            let name = full_name(&key);
            if self.exceptions().skip.has(&name) {
                continue;
            }
            match self.drop_one(&key).await {
                Err(error) if error.kind() == Kind::Refused => self.exceptions().skip.fail(name, &error),
                done => done?,
            }
        }
        self.exceptions().missing.retain(|_, db| views || db != from_db);
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

fn lock(exceptions: &Mutex<Exceptions>) -> MutexGuard<'_, Exceptions> {
    exceptions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Applies writes in order. An operation of 16 MiB goes alone, because a command may be only 16 KiB longer. If the server
/// refuses a write, its namespace fails, and the other writes go on.
async fn send(
    target: &RestoreTarget,
    exceptions: &Mutex<Exceptions>,
    mut operations: Vec<RawDocumentBuf>,
    mut places: Vec<TargetNamespace>,
) -> Result<()> {
    while !operations.is_empty() {
        // Only the last operation of a batch can be that large.
        let alone = operations.iter().rposition(|o| o.as_bytes().len() >= BATCH).filter(|at| *at > 0);
        let now = alone.unwrap_or(operations.len());
        let applied = target.apply(&operations[..now]).await?;
        for at in applied.left_out {
            let place = &places[at];
            lock(exceptions).missing.insert(place.key(), place.from_db.clone());
        }
        let done = applied.refused.as_ref().map_or(now, |(at, _)| at + 1);
        if let Some((at, error)) = applied.refused {
            lock(exceptions).skip.fail(places[at].name(), &error);
        }
        let exceptions = lock(exceptions);
        let rest = operations.drain(..).zip(places.drain(..)).skip(done);
        (operations, places) = rest.filter(|(_, place)| !exceptions.skip.leaves_out(place)).unzip();
    }
    Ok(())
}
