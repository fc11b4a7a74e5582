//! The scan of one collection by one or several readers. Each reads in natural order, and continues after the last whole batch
//! when its cursor is lost.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use mongodb::error::Error as Driver;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::ahead::{Ahead, Room};
use super::cursor::{self, FIRST_BATCH, NativeCollection, RecordId, Trail};
use super::ranges::{self, Range, Ranges};
use super::readers::Readers;
use super::{Gone, ReadOptions, split};
use crate::base::error::{Error, Result};
use crate::base::retry::Waiting;
use crate::model::namespace::Namespace;
use crate::mongo::commands::Progress;
use crate::mongo::errors::{self, Class};
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::source::describe::Uuids;
use crate::source::{ReadFailure, snapshot};

/// A reply of the server, unchanged.
pub(super) struct Batch {
    pub reply: RawBatch,
    /// The number of its first documents that belong to the backup. The others belong to the next range.
    pub documents: usize,
    _room: Room,
}

/// Receives the batches of a scan, and `None` when the collection is complete.
pub(super) type Batches = mpsc::Sender<Result<Option<Batch>>>;

/// How often the server must list a collection without documents before it counts as empty. A collection that is renamed
/// back and forth all the time can be missing in one answer and listed in the next.
const ABSENT: u32 = 2;

/// The size in bytes that is assumed for the first batch of a collection.
const FIRST_BYTES: usize = 256 << 10;

/// Collections whose batches have fewer documents are read by one reader: the batches of several readers would take too much
/// memory if a document is still longer.
const SMALLEST: u32 = 2;

/// The number of the range behind the last one, which only the first reader reads.
const BEHIND: usize = usize::MAX;

/// What the readers of one collection share.
pub(super) struct Shared {
    /// The place of the namespace in the order of the scans.
    turn: usize,
    ahead: Ahead,
    ranges: Ranges,
    readers: Readers,
    /// Several readers may read the collection.
    divisible: bool,
    notes: Notes,
    /// If the collection is replaced by another one, the documents read so far are kept.
    tolerant: bool,
    /// Collections that disappeared; the readers add their own.
    gone: Gone,
}

/// One reader of a collection.
pub(super) struct NativeScan {
    shared: Arc<Shared>,
    /// It is the first reader of the collection.
    first: bool,
    /// The number of the range that it reads.
    range: usize,
    origin: NativeCollection,
    uuid: Option<String>,
    /// The places that the scan has passed.
    trail: Trail,
    /// The last batch came without a token, so its end cannot be found again.
    blind: bool,
    /// True until the scan knows how long a document is.
    guessing: bool,
    /// The number of documents in a batch; 0 until the scan knows how long a document is.
    size: u32,
    /// Batches with documents that were handed on.
    delivered: u64,
    /// The wait before the scan continues. Progress resets it.
    waiting: Waiting,
}

/// How the use of one cursor ended.
enum CursorEnd {
    /// At the end of the collection, or of the range.
    Complete,
    /// The answer is empty and has no resume token. MongoDB 4.4 answers so for an empty collection, and every later
    /// version for a collection that does not exist (seen on 4.4.2, 5.0.32 and 6.0.27).
    Absent,
    /// Before the end of the collection. The scan opens a new cursor with larger batches.
    Reopen,
}

/// Why a cursor was lost: the class, the cause in words, and the error of the scan if it cannot continue.
type LostCursor = (Class, String, ReadFailure);

impl NativeScan {
    /// The first reader of `namespace`, whose scan is number `turn`.
    pub fn new(
        server: Arc<Server>,
        turn: usize,
        namespace: &Namespace,
        uuids: &Uuids,
        notes: Notes,
        options: &ReadOptions,
        (ahead, readers): (Ahead, Readers),
    ) -> NativeScan {
        let key = (namespace.db.clone(), namespace.data_collection().to_string());
        // A capped collection keeps its order. A time series without a bucket collection has record ids of its own kind.
        let capped = namespace.options.get_bool("capped").unwrap_or(false);
        let divisible = readers.count > 1 && !capped && !namespace.is_raw();
        NativeScan {
            shared: Arc::new(Shared {
                turn,
                ahead,
                ranges: Ranges::default(),
                readers,
                divisible,
                notes,
                tolerant: options.tolerant,
                gone: options.gone.clone(),
            }),
            first: true,
            range: 0,
            waiting: server.patience.start(server.service()),
            uuid: uuids.get(&key).cloned(),
            origin: NativeCollection {
                server,
                db: key.0,
                collection: key.1,
                name: namespace.to_string(),
                raw: namespace.is_raw(),
                at: options.at.filter(|_| !snapshot::apart(namespace)),
                tokens: true,
            },
            trail: Trail::default(),
            blind: false,
            guessing: true,
            size: 0,
            delivered: 0,
        }
    }

    /// A reader that helps this one.
    fn helper(&self) -> NativeScan {
        let server = self.origin.server.clone();
        NativeScan {
            shared: self.shared.clone(),
            first: false,
            range: 0,
            waiting: server.patience.start(server.service()),
            uuid: self.uuid.clone(),
            origin: self.origin.clone(),
            trail: Trail::default(),
            blind: false,
            guessing: false,
            size: self.size,
            delivered: 0,
        }
    }

    /// Sends all batches, and then `None` at the end of the collection, or the error that ended the scan. `server` has
    /// connections of the reading thread.
    pub async fn run(mut self, server: Arc<Server>, batches: Batches) {
        self.origin.server = server;
        let last = self.read_all(&batches).await.map(|()| None).map_err(|end| self.explain(end));
        // After the end of the run nobody receives it.
        let _ = batches.send(last).await;
    }

    fn explain(&self, end: ReadFailure) -> Error {
        match end {
            ReadFailure::Error(error) => error,
            ReadFailure::Driver(error) => self.origin.explain(error),
        }
    }

    async fn read_all(&mut self, batches: &Batches) -> Result<(), ReadFailure> {
        let mut helpers = JoinSet::new();
        self.read(batches, Some(&mut helpers)).await?;
        self.read_ranges(batches).await?;
        while let Some(ended) = helpers.join_next().await {
            ended.map_err(|_| Error::failed("a reading task ended"))??;
        }
        // A document that was deleted and inserted again while the ranges were read is behind everything that was there before.
        // If it was deleted before its own range was read, only this place has it.
        if self.origin.at.is_none()
            && let Some(trail) = self.shared.ranges.last()
        {
            self.range = BEHIND;
            self.trail = trail;
            self.read(batches, None).await?;
        }
        Ok(())
    }

    /// Reads ranges until all were given to readers.
    async fn read_ranges(&mut self, batches: &Batches) -> Result<(), ReadFailure> {
        while let Some(Range { number, before }) = self.shared.ranges.next() {
            self.range = number;
            self.trail = before;
            self.blind = false;
            self.read(batches, None).await?;
        }
        Ok(())
    }

    /// Divides the collection, and lets other readers read ranges of it when its turn has come. They send their own errors.
    fn help(self, batches: Batches) -> BoxFuture<'static, Result<(), ReadFailure>> {
        async move {
            let bounds = match split::bounds(&self.origin, self.size.max(1)).await {
                Ok(bounds) => bounds,
                Err(error) => {
                    // The collection is read as a whole. If the server is away, its reader waits for it.
                    let (name, why) = (&self.origin.name, errors::tidy(&error));
                    log::debug!("{name} is read by one reader, because it cannot be divided: {why}");
                    return Ok(());
                }
            };
            self.shared.ranges.divide(bounds);
            self.shared.ahead.until(self.shared.turn).await;
            let mut readers = JoinSet::new();
            for _ in 1..self.shared.readers.count {
                let (mut helper, batches) = (self.helper(), batches.clone());
                readers.spawn(async move {
                    if let Err(end) = helper.read_ranges(&batches).await {
                        let error = helper.explain(end);
                        let _ = batches.send(Err(error)).await;
                    }
                });
            }
            while let Some(ended) = readers.join_next().await {
                ended.map_err(|_| Error::failed("a reading task ended"))?;
            }
            Ok(())
        }
        .boxed()
    }

    /// Waits for room for the next batch.
    async fn room(&self) -> Room {
        let bytes = if self.size == 0 { FIRST_BYTES } else { self.shared.readers.batch };
        self.shared.ahead.take(self.shared.turn, self.first, bytes).await
    }

    /// Reads the range from the end of the trail. With `helpers`, other readers may be started, which read further ranges.
    async fn read(
        &mut self,
        batches: &Batches,
        mut helpers: Option<&mut JoinSet<Result<(), ReadFailure>>>,
    ) -> Result<(), ReadFailure> {
        let mut absent = 0;
        let mut room = self.room().await;
        let mut cursor = match self.size {
            0 => self.origin.open_first(self.shared.readers.first_batch).await.map_err(ReadFailure::Driver),
            size => self.origin.reopen(&self.trail, size).await,
        };
        loop {
            let outcome = match cursor {
                Ok(cursor) => self.drain(cursor, room, batches).await,
                Err(stop) => Err(stop),
            };
            let lost = match outcome {
                Ok(CursorEnd::Complete) => break,
                Ok(CursorEnd::Reopen) => {
                    if let Some(helpers) = helpers.take()
                        && self.shared.divisible
                        && self.size >= SMALLEST
                    {
                        helpers.spawn(self.helper().help(batches.clone()));
                    }
                    None
                }
                // The server listed the collection each time it was asked, so the collection is empty.
                Ok(CursorEnd::Absent) if absent == ABSENT => break,
                Ok(CursorEnd::Absent) => {
                    absent += 1;
                    if self.is_listed().await? { None } else { Some(self.absent()) }
                }
                Err(ReadFailure::Driver(error)) => {
                    Some((errors::classify(&error), errors::tidy(&error), error.into()))
                }
                Err(stop) => return Err(stop),
            };
            if let Some(lost) = lost
                && !self.may_continue(lost).await?
            {
                self.shared.gone.add(&self.origin.db, &self.origin.collection);
                break;
            }
            room = self.room().await;
            let size = if self.size == 0 { FIRST_BATCH } else { self.size };
            cursor = self.origin.reopen(&self.trail, size).await;
        }
        self.shared.ranges.complete(self.range, std::mem::take(&mut self.trail));
        Ok(())
    }

    fn absent(&self) -> LostCursor {
        let cause = "the server answered as if there were no such collection".to_string();
        let end = Error::failed(format!("cannot read {}", self.origin.name)).caused_by(cause.clone());
        (Class::CollectionGone, cause, end.into())
    }

    /// Hands on the batches of a cursor. `room` is that of its first batch.
    async fn drain(
        &mut self,
        mut cursor: RawBatchCursor,
        mut room: Room,
        batches: &Batches,
    ) -> Result<CursorEnd, ReadFailure> {
        // The first batches of a collection show how long its documents are.
        let guess = self.origin.tokens && self.guessing;
        let mut checked = false;
        let server = self.origin.server.clone();
        let mut progress = Progress::new(server.stall);
        while let Some(reply) = server.next(async { cursor.next().await.transpose() }).await? {
            if !checked {
                self.origin.check_instant(reply.as_raw_document())?;
                checked = true;
            }
            let token = cursor::token_of(reply.as_raw_document());
            let ends = cursor::is_last(reply.as_raw_document());
            let documents = reply.doc_slices()?;
            let (bytes, empty) = (documents.as_bytes().len(), documents.is_empty());
            if guess && !empty {
                // Once for each collection: walking every batch twice costs 2 % of a fast backup.
                self.guessing = false;
                let each = bytes / documents.into_iter().count();
                self.size = (self.shared.readers.batch / each.max(1)).clamp(1, 10_000) as u32;
            }
            // The token of an empty collection is null; a collection that does not exist has no token.
            if empty && ends && self.origin.tokens && !cursor::has_token(reply.as_raw_document()) {
                return Ok(CursorEnd::Absent);
            }
            if self.origin.raw && !empty {
                self.origin.check_buckets(&reply)?;
            }
            let moved = !empty || token.as_ref().is_some_and(|token| self.trail.last() != Some(token));
            progress.step(moved || ends)?;
            let end = token.as_ref().and_then(|token| self.shared.ranges.reach(self.range, token));
            let kept = match (&token, &end) {
                (Some(token), Some(end)) => self.within(&reply, token, end).await?,
                _ => usize::MAX,
            };
            self.delivered += u64::from(!empty);
            room.resize(bytes);
            let sent = batches.send(Ok(Some(Batch { reply, documents: kept, _room: room }))).await;
            sent.map_err(|_| Error::aftermath("nobody receives the batches any more"))?;
            if moved || ends {
                self.waiting.answered();
            }
            self.blind = token.is_none() && (!empty || self.blind);
            if let Some(token) = token {
                self.trail.push(token);
            }
            if ends || end.is_some() {
                return Ok(CursorEnd::Complete);
            }
            if guess && self.trail.last().is_some() {
                return Ok(CursorEnd::Reopen);
            }
            room = self.room().await;
            // The time that the receiver took must not count as silence of the server.
            progress.step(moved)?;
        }
        Ok(CursorEnd::Complete)
    }

    /// The number of documents of a reply that belong to the range: the reply ends with the record `last`, the range with `end`.
    async fn within(&self, reply: &RawBatch, last: &RecordId, end: &RecordId) -> Result<usize, ReadFailure> {
        let (before, documents) = (self.trail.last(), reply.doc_slices()?);
        let count = documents.into_iter().count();
        if let Some(within) = ranges::within(before, last, end, count) {
            return Ok(within);
        }
        let beyond = self.origin.ids_beyond(before, end, count).await?;
        // Without an instant, the collection may have changed since the batch was read. A document of the range can be beyond its
        // end now, if it was inserted again, so only the documents behind the last one that is not beyond are left out. One that
        // was deleted is not beyond: then the next range has documents of this batch as well, and a restore keeps the later ones.
        let mut kept = 0;
        for (at, value) in reply.doc_slices()?.into_iter().enumerate() {
            let value = value.map_err(|e| self.origin.malformed(e))?;
            let id = value.as_document().and_then(cursor::id_element);
            if id.is_none_or(|id| !beyond.contains(id)) {
                kept = at + 1;
            }
        }
        Ok(kept)
    }

    /// Decides whether reading may continue after a lost cursor. Returns false if the collection is gone, which the check at
    /// the end of the run reports.
    async fn may_continue(&mut self, (class, cause, end): LostCursor) -> Result<bool, ReadFailure> {
        if !matches!(class, Class::Interrupted | Class::TokenGone | Class::CollectionGone) {
            return Err(end);
        }
        let nowhere = self.blind || (!self.origin.tokens && self.delivered > 0);
        let name = self.origin.name.clone();
        if class != Class::CollectionGone && nowhere {
            let text = format!("the cursor on {name} was lost, and this server gives no resume tokens");
            return Err(Error::restart(text).caused_by(cause).into());
        }
        let server = self.origin.server.clone();
        let mut away: Option<Driver> = None;
        loop {
            let why = away.as_ref().map_or_else(|| cause.clone(), errors::tidy);
            if !self.waiting.pause(&why).await {
                // Another member may have become primary, which only a new run can read.
                return Err(match away {
                    Some(e) => {
                        let text = format!("{} cannot be reached any more", server.service());
                        Error::restart(text).caused_by(errors::tidy(&e)).into()
                    }
                    None => end,
                });
            }
            let now = match server.hello_now().await {
                Err(e) if errors::classify(&e) == Class::Interrupted => {
                    away = Some(e);
                    continue;
                }
                answer => answer?,
            };
            away = None;
            if let Some(what) = server.changed(&now) {
                return Err(Error::restart(format!("{what} while {name} was read")).caused_by(cause).into());
            }
            let uuid = match self.origin.uuid_now().await {
                Err(e) if errors::classify(&e) == Class::Interrupted => continue,
                answer => answer?,
            };
            let moved = |text: String| ReadFailure::Error(Error::moved(text).caused_by(cause.clone()));
            match uuid {
                uuid if self.origin.at.is_some() && uuid != self.uuid => {
                    return Err(self.origin.instant_gone(&cause).into());
                }
                None if self.uuid.is_some() => return Ok(false),
                // No document of the old collection was read. The scan reads the new one instead, and the end of the run
                // names it.
                uuid if uuid != self.uuid
                    && self.shared.tolerant
                    && self.delivered == 0
                    && self.range == 0 =>
                {
                    self.uuid = uuid;
                }
                uuid if uuid != self.uuid && self.shared.tolerant => return Ok(false),
                uuid if uuid != self.uuid => {
                    return Err(moved(format!("{name} was recreated while it was read")));
                }
                // The collection was renamed and renamed back. It is the same one, but the old cursor is lost.
                _ if class == Class::CollectionGone && nowhere => {
                    return Err(moved(format!("{name} was renamed and renamed back while it was read")));
                }
                _ => {}
            }
            let batch = self.delivered;
            self.shared
                .notes
                .add(format!("continued reading {name} after batch {batch}, because of: {cause}"));
            return Ok(true);
        }
    }

    /// Returns true if the server still lists the collection with which the run began under this name.
    async fn is_listed(&self) -> Result<bool, ReadFailure> {
        match self.origin.uuid_now().await {
            // The member may be restarting; `may_continue` waits for it and asks again.
            Err(e) if errors::classify(&e) == Class::Interrupted => Ok(false),
            answer => Ok(answer? == self.uuid),
        }
    }
}
