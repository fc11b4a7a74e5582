//! Reading one collection in natural order, and going on behind the last whole batch when the cursor
//! is lost.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use bson::raw::cstr;
use bson::{RawDocumentBuf, rawdoc};
use futures_util::StreamExt;
use mongodb::Client;
use mongodb::error::Error as Driver;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::sync::mpsc::Sender;

use super::token::{self, RecordId, Trail};
use crate::error::{Error, Result};
use crate::source::Namespace;
use crate::source::describe::Uuids;
use crate::source::errors::{self, Class};
use crate::source::notes::Notes;
use crate::source::server::{self, Server};

/// Documents of the first batch: the server's own default. Most collections end within it; of the
/// others it tells how long a document is.
const FIRST_BATCH: u32 = 101;
/// A batch of about this many bytes is asked for: larger ones are slower and take more memory.
const BATCH_BYTES: usize = 1 << 20;
/// Documents of a batch from a server without resume tokens, where the cursor cannot be opened anew.
const PLAIN_BATCH: u32 = 1_000;
/// How often a lost cursor is taken up again without a batch in between.
const ATTEMPTS: u32 = 8;

/// Record ids of a batch when only they are read.
const IDS: u32 = 10_000;

/// What a scan hands on.
pub enum Batch {
    /// A reply of the server, as it came.
    Reply(RawBatch),
    /// The collection is complete.
    End,
}

/// The scan of one collection.
pub struct Scan {
    server: Arc<Server>,
    db: String,
    collection: String,
    name: String,
    uuid: Option<String>,
    notes: Notes,
    trail: Trail,
    /// Whether the server gives resume tokens.
    tokens: bool,
    /// The last batch came without a token: where it ends cannot be found again.
    blind: bool,
    delivered: u64,
    attempts: u32,
}

/// A cursor over the documents.
struct Open {
    cursor: RawBatchCursor,
    /// Opened with a first guess of the batch size.
    guess: bool,
}

/// How a run over a cursor ended.
enum Ended {
    /// At the end of the collection.
    Complete,
    /// Before it: open anew behind the last batch, with batches of this many documents.
    Reopen(u32),
}

/// Why a scan stops.
enum Stop {
    /// Nobody takes the batches any more.
    Closed,
    /// The driver's error.
    Driver(Driver),
    /// An error that is final.
    Error(Error),
}

impl From<Driver> for Stop {
    fn from(error: Driver) -> Stop {
        Stop::Driver(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

impl Scan {
    /// The scan of a namespace's documents.
    pub fn new(server: Arc<Server>, namespace: &Namespace, uuids: &Uuids, notes: Notes) -> Scan {
        let key = (namespace.db.clone(), namespace.data_collection().to_string());
        Scan {
            server,
            uuid: uuids.get(&key).cloned(),
            db: key.0,
            collection: key.1,
            name: namespace.to_string(),
            notes,
            trail: Trail::default(),
            tokens: true,
            blind: false,
            delivered: 0,
            attempts: 0,
        }
    }

    /// Reads to the end and says so, or hands on why not.
    pub async fn run(mut self, client: Client, batches: Sender<Result<Batch>>) {
        let last = match self.read(&client, &batches).await {
            Ok(()) => Ok(Batch::End),
            Err(Stop::Closed) => return,
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::Driver(error)) => Err(self.explain(error)),
        };
        // Nobody waits for it any more when the run was ended.
        let _ = batches.send(last).await;
    }

    async fn read(&mut self, client: &Client, batches: &Sender<Result<Batch>>) -> Result<(), Stop> {
        let mut size = FIRST_BATCH;
        let mut open = self.first(client).await.map_err(Stop::Driver);
        loop {
            let lost = match open {
                Ok(open) => match self.drain(open, batches).await {
                    Ok(Ended::Complete) => return Ok(()),
                    Ok(Ended::Reopen(documents)) => {
                        size = documents;
                        None
                    }
                    Err(Stop::Driver(error)) => Some(error),
                    Err(stop) => return Err(stop),
                },
                Err(Stop::Driver(error)) => Some(error),
                Err(stop) => return Err(stop),
            };
            if let Some(error) = lost
                && !self.settle(client, error).await?
            {
                return Ok(());
            }
            open = self.again(client, size).await;
        }
    }

    /// The first cursor; it also finds out whether the server gives tokens.
    async fn first(&mut self, client: &Client) -> Result<Open, Driver> {
        match self.open(client, None, FIRST_BATCH).await {
            Err(e) if errors::classify(&e) == Class::UnknownOption => {
                self.tokens = false;
                self.open(client, None, PLAIN_BATCH).await
            }
            answer => answer,
        }
    }

    /// A cursor behind the last whole batch.
    async fn again(&self, client: &Client, size: u32) -> Result<Open, Stop> {
        let Some(last) = self.trail.last() else {
            return Ok(self.open(client, None, size).await?);
        };
        match self.open(client, Some(last), size).await {
            Err(e) if errors::classify(&e) == Class::TokenGone => {}
            answer => return Ok(answer?),
        }
        // The last record was deleted: go on behind the one before it that is still there.
        let before = self.predecessor(client, last).await?;
        Ok(self.open(client, before.as_ref(), size).await?)
    }

    /// The newest record up to `last` that is still there; `None` if there is none, and all that is
    /// there lies behind `last`.
    ///
    /// Only record ids are read, not documents: `showRecordId` puts the id in the place of a field
    /// `$recordId` of the document's own (seen on 6.0.5), whose value would be lost.
    async fn predecessor(&self, client: &Client, last: &RecordId) -> Result<Option<RecordId>, Stop> {
        let older = self.trail.newest_first().skip(1).cloned().map(Some);
        for from in older.chain([None]) {
            let mut find = self.find(from.as_ref(), IDS);
            find.append(cstr!("showRecordId"), true);
            find.append(cstr!("projection"), rawdoc! {"_id": 1_i32});
            let mut cursor = match self.cursor(client, find, IDS).await {
                Err(e) if errors::classify(&e) == Class::TokenGone => continue,
                answer => answer?,
            };
            let mut before = from;
            while let Some(reply) = cursor.next().await {
                for value in reply?.doc_slices()? {
                    let value = value.map_err(|e| self.malformed(e))?;
                    let id = value.as_document().and_then(|d| token::shown(d.as_bytes()));
                    let id = id.ok_or_else(|| self.malformed("a document carries no record id"))?;
                    match id.partial_cmp(last) {
                        Some(Ordering::Greater) => return Ok(before),
                        Some(_) => before = Some(id),
                        None => return Err(self.malformed("record ids of two kinds").into()),
                    }
                }
            }
            return Ok(before);
        }
        Ok(None)
    }

    async fn open(&self, client: &Client, after: Option<&RecordId>, size: u32) -> Result<Open, Driver> {
        let cursor = self.cursor(client, self.find(after, size), size).await?;
        Ok(Open { cursor, guess: self.tokens && size == FIRST_BATCH })
    }

    fn find(&self, after: Option<&RecordId>, size: u32) -> RawDocumentBuf {
        let mut find = rawdoc! {"find": self.collection.as_str(), "batchSize": i64::from(size)};
        if self.tokens {
            find.append(cstr!("hint"), rawdoc! {"$natural": 1_i32});
            find.append(cstr!("$_requestResumeToken"), true);
        }
        if let Some(after) = after {
            find.append(cstr!("$_resumeAfter"), after.token());
        }
        find
    }

    async fn cursor(
        &self,
        client: &Client,
        find: RawDocumentBuf,
        size: u32,
    ) -> Result<RawBatchCursor, Driver> {
        client
            .database(&self.db)
            .run_raw_cursor_command(find)
            .selection_criteria(server::any_member())
            .batch_size(size)
            .batch()
            .await
    }

    /// Hands on what a cursor gives.
    async fn drain(&mut self, mut open: Open, batches: &Sender<Result<Batch>>) -> Result<Ended, Stop> {
        let mut size = FIRST_BATCH;
        while let Some(reply) = open.cursor.next().await {
            let reply = reply?;
            let token = token::of_reply(reply.as_raw_document());
            let ends = token::is_last(reply.as_raw_document());
            let documents = reply.doc_slices()?;
            let bytes = documents.as_bytes().len();
            let count = documents.into_iter().count();
            if open.guess && count > 0 {
                size = (BATCH_BYTES / (bytes / count).max(1)).clamp(1, 10_000) as u32;
            }
            self.delivered += count as u64;
            batches.send(Ok(Batch::Reply(reply))).await.map_err(|_| Stop::Closed)?;
            self.attempts = 0;
            self.blind = token.is_none() && (count > 0 || self.blind);
            if let Some(token) = token {
                self.trail.push(token);
                if !ends && open.guess {
                    return Ok(Ended::Reopen(size));
                }
            }
        }
        Ok(Ended::Complete)
    }

    /// Decides about an error: `true` = open anew, `false` = the collection is gone, which the check at
    /// the end of the run will say.
    async fn settle(&mut self, client: &Client, error: Driver) -> Result<bool, Stop> {
        let class = errors::classify(&error);
        if !matches!(class, Class::Interrupted | Class::TokenGone | Class::CollectionGone) {
            return Err(Stop::Driver(error));
        }
        let cause = errors::tidy(&error);
        let lost = self.blind || (!self.tokens && self.delivered > 0);
        if class != Class::CollectionGone && lost {
            return Err(Stop::Error(
                Error::restart(format!(
                    "the cursor on {} was lost, and this server gives no resume tokens",
                    self.name
                ))
                .caused_by(cause),
            ));
        }
        loop {
            self.attempts += 1;
            if self.attempts > ATTEMPTS {
                return Err(Stop::Driver(error));
            }
            tokio::time::sleep(pause(self.attempts)).await;
            let now = match self.server.hello_now(client).await {
                Ok(now) => now,
                Err(e) if errors::classify(&e) == Class::Interrupted => continue,
                Err(e) => return Err(Stop::Driver(e)),
            };
            if let Some(what) = self.server.changed(&now) {
                return Err(Stop::Error(
                    Error::restart(format!("{what} while {} was read", self.name)).caused_by(cause),
                ));
            }
            let uuid = match self.uuid_now(client).await {
                Ok(uuid) => uuid,
                Err(e) if errors::classify(&e) == Class::Interrupted => continue,
                Err(e) => return Err(Stop::Driver(e)),
            };
            match uuid {
                None if self.uuid.is_some() => return Ok(false),
                uuid if uuid != self.uuid => {
                    return Err(Stop::Error(
                        Error::restart(format!("{} was recreated while it was read", self.name))
                            .caused_by(cause),
                    ));
                }
                _ => {}
            }
            self.notes.add(format!(
                "went on reading {} behind document {} after: {cause}",
                self.name, self.delivered
            ));
            return Ok(true);
        }
    }

    async fn uuid_now(&self, client: &Client) -> Result<Option<String>, Driver> {
        let mut command = rawdoc! {"listCollections": 1_i32};
        command.append(cstr!("filter"), rawdoc! {"name": self.collection.as_str()});
        let rows = server::documents(&client.database(&self.db), command).await?;
        Ok(rows.first().and_then(|row: &RawDocumentBuf| server::uuid_of(row)))
    }

    fn explain(&self, error: Driver) -> Error {
        self.server.explain(&format!("cannot read {}", self.name), error)
    }

    fn malformed(&self, cause: impl std::fmt::Display) -> Error {
        Error::failed(format!("MongoDB sent a malformed reply for {}", self.name))
            .caused_by(cause.to_string())
    }
}

/// The pause before the `n`th attempt.
fn pause(n: u32) -> Duration {
    Duration::from_millis(100 << n.min(6)).min(Duration::from_secs(5))
}
