//! Reads one collection in natural order, and continues after the last whole batch when the cursor is lost.

use std::sync::Arc;

use futures_util::StreamExt;
use mongodb::Client;
use mongodb::error::Error as Driver;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::sync::mpsc::Sender;

use super::cursor::{self, FIRST_BATCH, NativeCollection, Stop, Trail};
use super::{Gone, ReadOptions};
use crate::base::error::{Error, Result};
use crate::base::retry::Waiting;
use crate::model::namespace::Namespace;
use crate::mongo::commands::Progress;
use crate::mongo::errors::{self, Class};
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::source::describe::Uuids;
use crate::source::snapshot;

/// The size in bytes of the batches that are asked for: larger batches are slower and take more memory.
const BATCH_BYTES: usize = 1 << 20;

/// How often the server must list a collection without documents before it counts as empty. A collection that is renamed
/// back and forth all the time can be missing in one answer and listed in the next.
const ABSENT: u32 = 2;

/// A message of a scan.
pub(super) enum ScanMessage {
    /// A reply of the server, unchanged.
    Reply(RawBatch),
    /// The collection is complete.
    End,
}

/// The scan of one collection.
pub(super) struct NativeScan {
    origin: NativeCollection,
    uuid: Option<String>,
    notes: Notes,
    /// If the collection is replaced by another one, the documents read so far are kept.
    tolerant: bool,
    /// Collections that disappeared; the scan adds its own.
    gone: Gone,
    /// The places that the scan has passed.
    trail: Trail,
    /// The last batch came without a token, so its end cannot be found again.
    blind: bool,
    /// True until the scan knows how long a document is.
    guessing: bool,
    /// Batches with documents that were handed on.
    delivered: u64,
    /// The wait before the scan continues. Progress resets it.
    waiting: Waiting,
}

/// How the use of one cursor ended.
enum CursorEnd {
    /// At the end of the collection.
    Complete,
    /// The answer is empty and has no resume token. MongoDB 4.4 answers so for an empty collection, and every later
    /// version for a collection that does not exist (seen on 4.4.2, 5.0.32 and 6.0.27).
    Absent,
    /// Before the end of the collection. The scan opens a new cursor with batches of this many documents.
    Reopen(u32),
}

/// A cursor that was lost.
struct LostCursor {
    class: Class,
    /// The cause in words.
    cause: String,
    /// The error of the scan if it cannot continue.
    end: Stop,
}

impl From<Driver> for LostCursor {
    fn from(error: Driver) -> LostCursor {
        let (class, cause) = (errors::classify(&error), errors::tidy(&error));
        LostCursor { class, cause, end: Stop::Driver(error) }
    }
}

impl NativeScan {
    pub(super) fn new(
        server: Arc<Server>,
        namespace: &Namespace,
        uuids: &Uuids,
        notes: Notes,
        options: &ReadOptions,
    ) -> NativeScan {
        let key = (namespace.db.clone(), namespace.data_collection().to_string());
        NativeScan {
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
            notes,
            tolerant: options.tolerant,
            gone: options.gone.clone(),
            trail: Trail::default(),
            blind: false,
            guessing: true,
            delivered: 0,
        }
    }

    /// Sends all batches, and then [`ScanMessage::End`] or the error that ended the scan.
    pub(super) async fn run(mut self, client: Client, batches: Sender<Result<ScanMessage>>) {
        let last = match self.read(&client, &batches).await {
            Ok(()) => Ok(ScanMessage::End),
            Err(Stop::Closed) => return,
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Driver(error)) => Err(self.origin.explain(error)),
        };
        // After the end of the run nobody receives it.
        let _ = batches.send(last).await;
    }

    async fn read(&mut self, client: &Client, batches: &Sender<Result<ScanMessage>>) -> Result<(), Stop> {
        let mut size = FIRST_BATCH;
        let mut absent = 0;
        let mut cursor = self.origin.open_first(client).await.map_err(Stop::Driver);
        loop {
            let guess = self.origin.tokens && self.guessing;
            let outcome = match cursor {
                Ok(cursor) => self.drain(cursor, guess, batches).await,
                Err(stop) => Err(stop),
            };
            let lost = match outcome {
                Ok(CursorEnd::Complete) => return Ok(()),
                Ok(CursorEnd::Reopen(documents)) => {
                    size = documents;
                    None
                }
                // The server listed the collection each time it was asked, so the collection is empty.
                Ok(CursorEnd::Absent) if absent == ABSENT => return Ok(()),
                Ok(CursorEnd::Absent) => {
                    absent += 1;
                    if self.is_listed(client).await? { None } else { Some(self.absent()) }
                }
                Err(Stop::Driver(error)) => Some(LostCursor::from(error)),
                Err(stop) => return Err(stop),
            };
            if let Some(lost) = lost
                && !self.may_continue(client, lost).await?
            {
                self.gone.add(&self.origin.db, &self.origin.collection);
                return Ok(());
            }
            cursor = self.origin.reopen(client, &self.trail, size).await;
        }
    }

    fn absent(&self) -> LostCursor {
        let cause = "the server answered as if there were no such collection".to_string();
        let end = Error::failed(format!("cannot read {}", self.origin.name)).caused_by(cause.clone());
        LostCursor { class: Class::CollectionGone, cause, end: Stop::Error(end) }
    }

    /// Hands on the batches of a cursor. `guess` is true if the cursor was opened with a first guess of the batch size.
    async fn drain(
        &mut self,
        mut cursor: RawBatchCursor,
        guess: bool,
        batches: &Sender<Result<ScanMessage>>,
    ) -> Result<CursorEnd, Stop> {
        let (mut size, mut checked) = (FIRST_BATCH, false);
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
            let empty = documents.is_empty();
            if guess && !empty {
                // Once for each collection: walking every batch twice costs 2 % of a fast backup.
                self.guessing = false;
                let each = documents.as_bytes().len() / documents.into_iter().count();
                size = (BATCH_BYTES / each.max(1)).clamp(1, 10_000) as u32;
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
            self.delivered += u64::from(!empty);
            batches.send(Ok(ScanMessage::Reply(reply))).await.map_err(|_| Stop::Closed)?;
            // The time that the receiver took must not count as silence of the server.
            progress.step(moved)?;
            if moved || ends {
                self.waiting.answered();
            }
            self.blind = token.is_none() && (!empty || self.blind);
            if let Some(token) = token {
                self.trail.push(token);
                if !ends && guess {
                    return Ok(CursorEnd::Reopen(size));
                }
            }
        }
        Ok(CursorEnd::Complete)
    }

    /// Decides whether reading may continue after a lost cursor. Returns false if the collection is gone, which the check at
    /// the end of the run reports.
    async fn may_continue(&mut self, client: &Client, lost: LostCursor) -> Result<bool, Stop> {
        let LostCursor { class, cause, end } = lost;
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
            let now = match server.hello_now(client).await {
                Ok(now) => now,
                Err(e) if errors::classify(&e) == Class::Interrupted => {
                    away = Some(e);
                    continue;
                }
                Err(e) => return Err(Stop::Driver(e)),
            };
            away = None;
            if let Some(what) = server.changed(&now) {
                return Err(Error::restart(format!("{what} while {name} was read")).caused_by(cause).into());
            }
            let uuid = match self.origin.uuid_now(client).await {
                Ok(uuid) => uuid,
                Err(e) if errors::classify(&e) == Class::Interrupted => continue,
                Err(e) => return Err(Stop::Driver(e)),
            };
            let moved = |text: String| Stop::Error(Error::moved(text).caused_by(cause.clone()));
            match uuid {
                uuid if self.origin.at.is_some() && uuid != self.uuid => {
                    return Err(self.origin.instant_gone(&cause).into());
                }
                None if self.uuid.is_some() => return Ok(false),
                // No document of the old collection was read. The scan reads the new one instead, and the end of the run
                // names it.
                uuid if uuid != self.uuid && self.tolerant && self.delivered == 0 => self.uuid = uuid,
                uuid if uuid != self.uuid && self.tolerant => return Ok(false),
                uuid if uuid != self.uuid => {
                    return Err(moved(format!("{name} was recreated while it was read")));
                }
                // The collection was renamed and renamed back. It is the same one, but the old cursor is lost.
                _ if class == Class::CollectionGone && nowhere => {
                    return Err(moved(format!("{name} was away while it was read")));
                }
                _ => {}
            }
            let batch = self.delivered;
            self.notes.add(format!("went on reading {name} behind batch {batch} after: {cause}"));
            return Ok(true);
        }
    }

    /// Returns true if the server still lists the collection with which the run began under this name.
    async fn is_listed(&self, client: &Client) -> Result<bool, Stop> {
        match self.origin.uuid_now(client).await {
            Ok(uuid) => Ok(uuid == self.uuid),
            // The member may be restarting; `may_continue` waits for it and asks again.
            Err(e) if errors::classify(&e) == Class::Interrupted => Ok(false),
            Err(e) => Err(Stop::Driver(e)),
        }
    }
}
