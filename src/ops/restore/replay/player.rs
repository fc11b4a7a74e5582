//! Takes the steps of a slice at the target. Writes go in several [lanes](super::lanes) at once; every other step waits until
//! all writes before it are done.
//!
//! The command `insert` creates a missing collection. So the UUID of each collection that it writes to is read before, and again
//! later: another client that drops a collection during the replay is noticed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use bson::RawDocumentBuf;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::mpsc;

use super::Exceptions;
use super::lanes::{LANES, key_of, lane_of};
use super::survey::{EXPIRES, ReplayCatalog, follow_slice};
use super::writes::{BYTES, DAMAGE, PendingWrite, WriteBatch, lock, send};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Meter;
use crate::dumpformat::oplog::script::{ChangeForm, ReplayStep, Script};
use crate::dumpformat::oplog::{NO_REPLAY, SliceCounts, TargetNamespace};
use crate::model::namespace::SERVERS_OWN;
use crate::model::optime::OpTime;
use crate::ops::restore::continued::Marker;
use crate::ops::restore::filter::ReplayFilter;
use crate::ops::restore::namespaces::{NamespaceKey, full_name};
use crate::ops::restore::origin::{RestoreOrigin, read_blocking};
use crate::restore_target::RestoreTarget;
use crate::restore_target::insert::Destination;

/// The most groups of steps that wait in the channel.
const WAITING: usize = 1;
/// The bytes of the batches under way; a batch that is longer goes alone. Each is in memory several times, as the command and as
/// the driver's message.
const UNDER_WAY: usize = LANES * BYTES;
/// The most steps in a group.
const STEPS: usize = 500;

/// Codes that `applyOps` ignores, too: NamespaceExists when an existing namespace is created;
/// NamespaceNotFound and InvalidOptions when a namespace is changed that was dropped or changed further
/// since.
const CREATED: [i32; 1] = [48];
const CHANGED: [i32; 2] = [26, 72];

/// A lane. At most one of its batches is under way.
#[derive(Default)]
struct Lane {
    waiting: WriteBatch,
    is_busy: bool,
}

/// The properties of a namespace that decide how its writes are sent.
#[derive(Debug, Clone)]
struct WrittenNamespace {
    to: TargetNamespace,
    exact: bool,
    in_order: bool,
    capped: bool,
    /// True if the command `insert` may insert its documents.
    ordinary: bool,
}

/// Takes the steps of a slice at the target.
pub(super) struct Player<'a> {
    target: &'a RestoreTarget,
    /// The namespaces and indexes after the steps so far.
    pub catalog: ReplayCatalog,
    exceptions: &'a Mutex<Exceptions>,
    lanes: [Lane; LANES],
    /// The batches that were sent, with their lanes and lengths.
    under_way: FuturesUnordered<BoxFuture<'a, Result<(usize, usize)>>>,
    /// The length of these batches in bytes.
    sent: usize,
    pub operations: u64,
    /// The collections that the command `insert` writes to, with their UUIDs.
    inserted: BTreeMap<NamespaceKey, Vec<u8>>,
    /// The namespace of the last write.
    last: Option<WrittenNamespace>,
    /// True if documents of time series and clustered collections expire only after the replay, because the target deletes
    /// expired documents by itself.
    expires_later: bool,
    /// Marks the namespaces that the replay creates.
    marker: Option<&'a Marker>,
}

impl<'a> Player<'a> {
    pub(super) fn new(
        target: &'a RestoreTarget,
        catalog: ReplayCatalog,
        exceptions: &'a Mutex<Exceptions>,
        expires_later: bool,
        marker: Option<&'a Marker>,
    ) -> Player<'a> {
        let (lanes, under_way, sent, operations, inserted, last) = Default::default();
        Player {
            target,
            catalog,
            exceptions,
            lanes,
            under_way,
            sent,
            operations,
            inserted,
            last,
            expires_later,
            marker,
        }
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
        let (origin, reader) = (origin.clone(), meter.clone());
        // The player ends when the sender is dropped.
        let reading = read_blocking(move || {
            let pass =
                |steps| sender.blocking_send(steps).map_err(|_| Error::aftermath("the replay has ended"));
            let (mut group, mut bytes) = (Vec::new(), 0);
            let mut take = |step| {
                if let ReplayStep::Write { operation, .. } = &step {
                    bytes += operation.as_bytes().len();
                }
                group.push(step);
                if group.len() < STEPS && bytes < BYTES {
                    return Ok(());
                }
                bytes = 0;
                pass(std::mem::take(&mut group))
            };
            let script = follow_slice(&origin, script, &mut take, &mut |bytes| reader.add(0, bytes))?;
            pass(group)?;
            Ok(script)
        });
        let playing = async {
            loop {
                let group = tokio::select! {
                    group = steps.recv() => group,
                    Some(done) = self.under_way.next() => {
                        self.landed(done?);
                        continue;
                    }
                };
                let Some(group) = group else { break };
                for step in group {
                    self.take(step).await?;
                }
                meter.replayed(self.operations);
            }
            // The reader continues to the slice's end, to check that it is whole.
            drop(steps);
            self.flush().await?;
            self.check_all_inserted().await
        };
        // The player's error is the cause of the reader's error, so it comes first.
        let (read, played) = tokio::join!(reading, playing);
        played?;
        read.map(|script| script.read)
    }

    async fn take(&mut self, step: ReplayStep) -> Result<()> {
        if !matches!(step, ReplayStep::Write { .. } | ReplayStep::Index { .. }) {
            self.flush().await?;
            self.last = None;
            self.check_inserted(&step).await?;
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
            ReplayStep::Modify { to, form } => self.modify(to, form).await,
            // A namespace that neither backup nor slice created belongs to someone else and is not dropped.
            ReplayStep::Drop(named) if self.catalog.has(&named.key()) => self.drop_one(&named.key()).await,
            ReplayStep::Drop(named) => {
                self.exceptions().missing.remove(&named.key());
                Ok(())
            }
            ReplayStep::DropAll { from_db, views } => self.drop_all(from_db, *views).await,
            ReplayStep::Rename { from, to, command } => self.rename(from, to, command).await,
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
            ReplayStep::Write { to, operation, exact } => self.write(to, operation, exact).await,
            _ => Ok(()),
        }
    }

    async fn write(
        &mut self,
        to: TargetNamespace,
        operation: RawDocumentBuf,
        exact: Option<OpTime>,
    ) -> Result<()> {
        {
            let exceptions = self.exceptions();
            if !exceptions.missing.is_empty() && exceptions.missing.contains_key(&to.key()) {
                return Ok(());
            }
        }
        let WrittenNamespace { in_order, capped, ordinary, .. } = self.written(&to, exact.is_some()).await?;
        let key = key_of(&to, &operation, in_order);
        let ordinary = ordinary && key.is_some();
        let write = PendingWrite { to, operation, exact, capped, ordinary, key: key.unwrap_or_default() };
        if RestoreTarget::would_fill(&write.operation) {
            self.flush().await?;
            return self.write_filled(write).await;
        }
        let Some(lane) = key.map(lane_of) else {
            // The write may concern a document of any lane.
            self.flush().await?;
            return send(self.target, self.exceptions, vec![write]).await;
        };
        self.lanes[lane].waiting.push(write);
        match self.lanes[lane].waiting.is_full() {
            true => self.dispatch(lane).await,
            false => Ok(()),
        }
    }

    /// The properties of a namespace, of which a write is sent.
    async fn written(&mut self, to: &TargetNamespace, exact: bool) -> Result<WrittenNamespace> {
        if let Some(last) = self.last.as_ref().filter(|last| last.to == *to && last.exact == exact) {
            return Ok(last.clone());
        }
        let key = to.key();
        let ordinary = exact
            && !(to.buckets || to.collection.starts_with("system.") || SERVERS_OWN.contains(&&*to.db))
            && self.catalog.is_ordinary(&key)
            && self.may_insert(&key).await?;
        let (in_order, capped) = (self.catalog.writes_in_order(&key), self.catalog.is_capped(&key));
        let written = WrittenNamespace { to: to.clone(), exact, in_order, capped, ordinary };
        self.last = Some(written.clone());
        Ok(written)
    }

    /// Reads the UUID of a collection. Returns false if the collection does not exist.
    async fn may_insert(&mut self, key: &NamespaceKey) -> Result<bool> {
        if !self.inserted.contains_key(key) {
            let Some(uuid) = self.target.uuid(&key.0, &key.1).await? else { return Ok(false) };
            self.inserted.insert(key.clone(), uuid);
        }
        Ok(true)
    }

    /// Checks the collections that a step may drop or replace, and forgets their UUIDs.
    async fn check_inserted(&mut self, step: &ReplayStep) -> Result<()> {
        let keys = match step {
            ReplayStep::DropAll { from_db, views } => self.catalog.of_database(from_db, *views),
            step => step.namespaces().into_iter().map(TargetNamespace::key).collect(),
        };
        for key in keys {
            if let Some(uuid) = self.inserted.remove(&key)
                && self.target.uuid(&key.0, &key.1).await?.as_ref() != Some(&uuid)
            {
                self.fail_replaced(&key);
            }
        }
        Ok(())
    }

    async fn check_all_inserted(&mut self) -> Result<()> {
        let mut by_database: BTreeMap<String, Vec<(NamespaceKey, Vec<u8>)>> = BTreeMap::new();
        for (key, uuid) in std::mem::take(&mut self.inserted) {
            by_database.entry(key.0.clone()).or_default().push((key, uuid));
        }
        for (db, inserted) in by_database {
            let uuids = self.target.uuids(&db).await?;
            for (key, uuid) in inserted {
                if uuids.get(&key.1) != Some(&uuid) {
                    self.fail_replaced(&key);
                }
            }
        }
        Ok(())
    }

    fn fail_replaced(&self, key: &NamespaceKey) {
        let name = full_name(key);
        let what = format!("another client dropped or replaced {name} during the replay");
        self.exceptions().skip.fail(name, &Error::new(Kind::Refused, what).hint(DAMAGE));
    }

    /// Writes a document with empty timestamps. The server fills them in, so they are emptied again.
    async fn write_filled(&mut self, write: PendingWrite) -> Result<()> {
        let (to, operation) = (write.to.clone(), write.operation.clone());
        send(self.target, self.exceptions, vec![write]).await?;
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
        let bytes = self.lanes[lane].waiting.bytes;
        while self.lanes[lane].is_busy || (self.sent > 0 && self.sent + bytes > UNDER_WAY) {
            self.land().await?;
        }
        let batch = std::mem::take(&mut self.lanes[lane].waiting);
        if !batch.writes.is_empty() {
            self.lanes[lane].is_busy = true;
            self.sent += bytes;
            let (target, exceptions) = (self.target, self.exceptions);
            self.under_way.push(Box::pin(async move {
                send(target, exceptions, batch.writes).await?;
                Ok((lane, bytes))
            }));
        }
        Ok(())
    }

    /// Waits until one of the batches under way is done.
    async fn land(&mut self) -> Result<()> {
        if let Some(done) = self.under_way.next().await {
            self.landed(done?);
        }
        Ok(())
    }

    fn landed(&mut self, (lane, bytes): (usize, usize)) {
        self.lanes[lane].is_busy = false;
        self.sent -= bytes;
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
        let form = if self.expires_later { form.without(EXPIRES) } else { form.clone() };
        if let (Some(marker), true) = (self.marker, view) {
            let options: RawDocumentBuf = form.options().iter().flatten().skip(1).collect();
            marker.defines(&to.key(), &options).await?;
        }
        if self.make(to, &form, &CREATED).await? {
            return self.mark(to).await;
        }
        if self.is_there(to).await? {
            return Ok(());
        }
        let name = to.name();
        let what = format!("cannot create {name}: the server answered that it exists, but does not list it");
        Err(Error::new(Kind::Refused, what).hint(format!("Restore {name} again, and only {name}")))
    }

    /// Marks a namespace that the replay made.
    async fn mark(&self, made: &TargetNamespace) -> Result<()> {
        match self.marker {
            Some(marker) => marker.made(&made.key(), true).await,
            None => Ok(()),
        }
    }

    async fn modify(&self, to: &TargetNamespace, form: &ChangeForm) -> Result<()> {
        if form.converts_to_capped() {
            self.make(to, form, &CHANGED).await?;
            // It is another collection now.
            return self.mark(to).await;
        }
        if !self.expires_later || form.name() != "collMod" {
            return self.make(to, form, &CHANGED).await.map(drop);
        }
        let form = form.without(EXPIRES);
        match form.options().iter().count() {
            0 | 1 => Ok(()),
            _ => self.make(to, &form, &CHANGED).await.map(drop),
        }
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

    async fn rename(
        &self,
        from: &TargetNamespace,
        to: &TargetNamespace,
        command: &RawDocumentBuf,
    ) -> Result<()> {
        let name = from.name();
        if self.is_there(from).await? && self.catalog.has(&from.key()) {
            if let Some(marker) = self.marker {
                marker.renamed(&from.key(), &to.key()).await?;
            }
            let doing = format!("cannot rename {name}");
            return self.target.command("admin", command, &doing, &[]).await.map(drop);
        }
        let what = format!("the oplog renames {name}, which does not exist at the target");
        let step = format!(
            "The oplog of a dump that was taken during a rename cannot be replayed: take another one. {NO_REPLAY}"
        );
        Err(Error::new(Kind::Refused, what).hint(step))
    }
}
