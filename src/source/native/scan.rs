//! Reading one collection in natural order, and going on behind the last whole batch when the cursor
//! is lost.

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

/// What a scan hands on.
pub enum Batch {
    /// A reply of the server, as it came.
    Reply(RawBatch),
    /// Documents picked out of a reply.
    Documents(Vec<Vec<u8>>),
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
    delivered: u64,
    attempts: u32,
}

/// A cursor, and what must be done to what it gives.
struct Open {
    cursor: RawBatchCursor,
    /// Documents up to here were handed on already, and each carries its record id.
    skip: Option<RecordId>,
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
        let mut open = self.first(client).await;
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
                Err(error) => Some(error),
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
        match self.open(client, None, None, FIRST_BATCH).await {
            Err(e) if errors::classify(&e) == Class::UnknownOption => {
                self.tokens = false;
                self.open(client, None, None, PLAIN_BATCH).await
            }
            answer => answer,
        }
    }

    /// A cursor behind the last whole batch.
    async fn again(&mut self, client: &Client, size: u32) -> Result<Open, Driver> {
        let Some(last) = self.trail.last().cloned() else {
            return self.open(client, None, None, size).await;
        };
        match self.open(client, Some(&last), None, size).await {
            Err(e) if errors::classify(&e) == Class::TokenGone => {}
            answer => return answer,
        }
        // The last record was deleted. Scan from an older one that is still there, or from the start,
        // with the record ids shown, and pass over what was handed on.
        for older in self.trail.newest_first().skip(1) {
            match self.open(client, Some(older), Some(last.clone()), size).await {
                Err(e) if errors::classify(&e) == Class::TokenGone => {}
                answer => return answer,
            }
        }
        self.open(client, None, Some(last), size).await
    }

    async fn open(
        &self,
        client: &Client,
        after: Option<&RecordId>,
        skip: Option<RecordId>,
        size: u32,
    ) -> Result<Open, Driver> {
        let mut find = rawdoc! {"find": self.collection.as_str(), "batchSize": i64::from(size)};
        if self.tokens {
            find.append(cstr!("hint"), rawdoc! {"$natural": 1_i32});
            find.append(cstr!("$_requestResumeToken"), true);
        }
        if let Some(after) = after {
            find.append(cstr!("$_resumeAfter"), after.token());
        }
        if skip.is_some() {
            find.append(cstr!("showRecordId"), true);
        }
        let cursor = client
            .database(&self.db)
            .run_raw_cursor_command(find)
            .selection_criteria(server::any_member())
            .batch_size(size)
            .batch()
            .await?;
        Ok(Open { cursor, skip, guess: self.tokens && size == FIRST_BATCH })
    }

    /// Hands on what a cursor gives.
    async fn drain(&mut self, mut open: Open, batches: &Sender<Result<Batch>>) -> Result<Ended, Stop> {
        let mut size = FIRST_BATCH;
        while let Some(reply) = open.cursor.next().await {
            let reply = reply.map_err(Stop::Driver)?;
            let token = token::of_reply(reply.as_raw_document());
            let ends = token::is_last(reply.as_raw_document());
            let documents = reply.doc_slices().map_err(Stop::Driver)?;
            let bytes = documents.as_bytes().len();
            let batch = match &open.skip {
                None => {
                    let count = documents.into_iter().count();
                    if open.guess && count > 0 {
                        size = (BATCH_BYTES / (bytes / count).max(1)).clamp(1, 10_000) as u32;
                    }
                    self.delivered += count as u64;
                    Batch::Reply(reply)
                }
                Some(last) => {
                    let fresh = behind(&reply, last).map_err(|e| Stop::Error(self.malformed(e)))?;
                    if fresh.is_empty() {
                        continue;
                    }
                    self.delivered += fresh.len() as u64;
                    Batch::Documents(fresh)
                }
            };
            batches.send(Ok(batch)).await.map_err(|_| Stop::Closed)?;
            self.attempts = 0;
            if let Some(token) = token {
                self.trail.push(token);
                if !ends && (open.guess || open.skip.is_some()) {
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
        if class != Class::CollectionGone && !self.tokens && self.delivered > 0 {
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

/// The documents of a reply with record ids that lie behind `last`, as they are stored.
fn behind(reply: &RawBatch, last: &RecordId) -> Result<Vec<Vec<u8>>, String> {
    let mut fresh = Vec::new();
    for value in reply.doc_slices().map_err(|e| e.to_string())? {
        let value = value.map_err(|e| e.to_string())?;
        let document = value.as_document().ok_or("a batch holds no document")?;
        let (id, document) = token::strip(document.as_bytes()).ok_or("a document carries no record id")?;
        if id > *last {
            fresh.push(document);
        }
    }
    Ok(fresh)
}

/// The pause before the `n`th attempt.
fn pause(n: u32) -> Duration {
    Duration::from_millis(100 << n.min(6)).min(Duration::from_secs(5))
}
