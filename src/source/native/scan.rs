//! Reading one collection in natural order, and going on behind the last whole batch when the cursor
//! is lost.

use std::sync::Arc;

use futures_util::StreamExt;
use mongodb::Client;
use mongodb::error::Error as Driver;
use mongodb::raw_batch_cursor::RawBatch;
use tokio::sync::mpsc::Sender;

use super::open::{FIRST_BATCH, Open};
use super::resume::Lost;
use super::token::{self, Trail};
use super::{Gone, Reading};
use crate::base::error::{Error, Result};
use crate::base::retry::Waiting;
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
use crate::mongo::commands::Progress;
use crate::mongo::errors;
use crate::mongo::errors::Class;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::source::describe::Uuids;
use crate::source::snapshot;

/// A batch of about this many bytes is asked for: larger ones are slower and take more memory.
const BATCH_BYTES: usize = 1 << 20;

/// How often a collection without documents must be in the server's list before it counts as empty. A collection that is
/// renamed there and back all the time can be missing in one answer and listed in the next.
const ABSENT: u32 = 2;

/// What a scan hands on.
pub enum Batch {
    /// A reply of the server, as it came.
    Reply(RawBatch),
    /// The collection is complete.
    End,
}

/// The scan of one collection.
pub struct Scan {
    pub(super) server: Arc<Server>,
    pub(super) db: String,
    pub(super) collection: String,
    pub(super) name: String,
    /// It is a time series whose buckets have no collection of their own.
    pub(super) raw: bool,
    pub(super) uuid: Option<String>,
    pub(super) notes: Notes,
    /// The instant that all is read as of; without one, each batch is of its own time.
    pub(super) at: Option<OpTime>,
    /// If the collection is replaced by another one, the documents read so far are kept.
    pub(super) tolerant: bool,
    /// Collections that disappeared; the scan adds its own.
    pub(super) gone: Gone,
    /// Where it has been.
    pub(super) trail: Trail,
    /// Whether the server gives resume tokens.
    pub(super) tokens: bool,
    /// The last batch came without a token: where it ends cannot be found again.
    pub(super) blind: bool,
    /// How long a document is, is not known yet.
    pub(super) guessing: bool,
    /// Batches with documents that were handed on.
    pub(super) delivered: u64,
    /// Waits before it is taken up again; each progress begins it anew.
    pub(super) waiting: Waiting,
}

/// How a run over a cursor ended.
enum Ended {
    /// At the end of the collection.
    Complete,
    /// The answer is empty and has no resume token. MongoDB 4.4 answers so for an empty collection, and every later
    /// version for a collection that does not exist (seen on 4.4.2, 5.0.32 and 6.0.27).
    Absent,
    /// Before the end of the collection: open anew behind the last batch, with batches of this many documents.
    Reopen(u32),
}

/// Why a scan stops.
pub enum Stop {
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
    pub fn new(
        server: Arc<Server>,
        namespace: &Namespace,
        uuids: &Uuids,
        notes: Notes,
        reading: &Reading,
    ) -> Scan {
        let key = (namespace.db.clone(), namespace.data_collection().to_string());
        Scan {
            waiting: server.patience.start(server.service()),
            server,
            uuid: uuids.get(&key).cloned(),
            db: key.0,
            collection: key.1,
            name: namespace.to_string(),
            raw: namespace.is_raw(),
            notes,
            at: reading.at.filter(|_| !snapshot::apart(namespace)),
            tolerant: reading.tolerant,
            gone: reading.gone.clone(),
            trail: Trail::default(),
            tokens: true,
            blind: false,
            guessing: true,
            delivered: 0,
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
        let mut absent = 0;
        let mut open = self.first(client).await.map_err(Stop::Driver);
        loop {
            let outcome = match open {
                Ok(open) => self.drain(open, batches).await,
                Err(stop) => Err(stop),
            };
            let lost = match outcome {
                Ok(Ended::Complete) => return Ok(()),
                Ok(Ended::Reopen(documents)) => {
                    size = documents;
                    None
                }
                // The server listed it each time it was asked, so it is empty.
                Ok(Ended::Absent) if absent == ABSENT => return Ok(()),
                Ok(Ended::Absent) => {
                    absent += 1;
                    if self.is_listed(client).await? { None } else { Some(self.absent()) }
                }
                Err(Stop::Driver(error)) => Some(Lost::from(error)),
                Err(stop) => return Err(stop),
            };
            if let Some(lost) = lost
                && !self.settle(client, lost).await?
            {
                self.gone.add(&self.db, &self.collection);
                return Ok(());
            }
            open = self.again(client, size).await;
        }
    }

    fn absent(&self) -> Lost {
        let cause = "the server answered as if there were no such collection".to_string();
        let end = Error::failed(format!("cannot read {}", self.name)).caused_by(cause.clone());
        Lost { class: Class::CollectionGone, cause, end: Stop::Error(end) }
    }

    /// Hands on what a cursor gives.
    async fn drain(&mut self, mut open: Open, batches: &Sender<Result<Batch>>) -> Result<Ended, Stop> {
        let (mut size, mut proven) = (FIRST_BATCH, false);
        let mut progress = Progress::new(self.server.stall);
        while let Some(reply) = self.server.next(async { open.cursor.next().await.transpose() }).await? {
            if !proven {
                self.prove(reply.as_raw_document())?;
                proven = true;
            }
            let token = token::of_reply(reply.as_raw_document());
            let ends = token::is_last(reply.as_raw_document());
            let documents = reply.doc_slices()?;
            let empty = documents.is_empty();
            if open.guess && !empty {
                // Counted once a collection: walking every batch twice costs 2 % of a fast backup.
                self.guessing = false;
                let each = documents.as_bytes().len() / documents.into_iter().count();
                size = (BATCH_BYTES / each.max(1)).clamp(1, 10_000) as u32;
            }
            // Of an empty collection the token is null; where there is no collection, none is given.
            if empty && ends && self.tokens && !token::given(reply.as_raw_document()) {
                return Ok(Ended::Absent);
            }
            if self.raw && !empty {
                self.prove_raw(&reply)?;
            }
            let moved = !empty || token.as_ref().is_some_and(|token| self.trail.last() != Some(token));
            progress.step(moved || ends)?;
            self.delivered += u64::from(!empty);
            batches.send(Ok(Batch::Reply(reply))).await.map_err(|_| Stop::Closed)?;
            // How long the other threads took is not the server's silence.
            progress.step(moved)?;
            if moved || ends {
                self.waiting.answered();
            }
            self.blind = token.is_none() && (!empty || self.blind);
            if let Some(token) = token {
                self.trail.push(token);
                if !ends && open.guess {
                    return Ok(Ended::Reopen(size));
                }
            }
        }
        Ok(Ended::Complete)
    }

    /// Checks that a batch of a time series has buckets. A server that ignores `rawData` would send measurements, which no
    /// restore can put back as buckets.
    fn prove_raw(&self, reply: &RawBatch) -> Result<(), Stop> {
        let first = reply.doc_slices()?.into_iter().next();
        let first = first.transpose().map_err(|e| self.malformed(e))?;
        let control = first.and_then(|value| value.as_document().map(|d| d.get_document("control").is_ok()));
        match control {
            Some(true) => Ok(()),
            _ => Err(self.malformed("the documents of a time series are not buckets").into()),
        }
    }

    fn explain(&self, error: Driver) -> Error {
        match errors::classify(&error) {
            Class::InstantGone if self.at.is_some() => self.not_any_more(&errors::tidy(&error)),
            _ => self.server.explain(&format!("cannot read {}", self.name), error),
        }
    }

    pub(super) fn malformed(&self, cause: impl std::fmt::Display) -> Error {
        Error::failed(format!("MongoDB sent a malformed reply for {}", self.name))
            .caused_by(cause.to_string())
    }
}
