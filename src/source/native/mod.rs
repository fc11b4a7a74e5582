//! The native engine: reads one member with the driver's cursors and hands on its raw batches.
//!
//! A thread with its own runtime reads. Each namespace is a task ([`NativeScan`]) that sends whole batches, and continues by itself
//! when its cursor is lost. The thread that called [`read`] receives the batches in the order of the namespaces. The tasks
//! fetch the first batches of the next namespaces at the same time, so that thousands of tiny collections do not wait for a
//! round trip each.

pub(crate) mod cursor;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;

use futures_util::StreamExt;
use mongodb::error::Error as Driver;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::cursor::{FIRST_BATCH, NativeCollection, Trail};
use super::describe::Uuids;
use super::{ReadFailure, run_here, snapshot};
use crate::base::error::{Error, Result};
use crate::base::retry::Waiting;
use crate::base::waits::WaitsFor;
use crate::dumpformat::Sink;
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
use crate::mongo::commands::Progress;
use crate::mongo::errors::{self, Class};
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;

/// The time as of which documents are read, and what happens if a collection loses its name.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The instant as of which everything is read, except the namespaces that [`crate::source::snapshot::apart`] names.
    pub at: Option<OpTime>,
    /// If another collection takes the name of the collection that is read: true keeps the documents read so far, and false
    /// ends the run.
    pub tolerant: bool,
    /// The scans add the collections that disappeared.
    pub gone: Gone,
}

/// Collections that did not exist when their turn came, or disappeared while they were read. Clones share the set.
#[derive(Debug, Clone, Default)]
pub struct Gone(Arc<Mutex<BTreeSet<(String, String)>>>);

impl Gone {
    /// Adds a collection, by the name under which its documents are read.
    pub fn add(&self, db: &str, collection: &str) {
        self.0.lock().expect("no holder panics").insert((db.into(), collection.into()));
    }

    /// Returns true if the collection, by the name under which its documents are read, disappeared while it was read.
    pub fn has(&self, db: &str, collection: &str) -> bool {
        self.0.lock().expect("no holder panics").contains(&(db.into(), collection.into()))
    }
}

/// The number of namespaces that are open at once, including the one that is being written.
const AHEAD: usize = 6;

/// Receives the replies of a scan, unchanged, and `None` when the collection is complete.
type Batches = mpsc::Sender<Result<Option<RawBatch>>>;

/// A namespace whose scan has begun.
struct Incoming {
    batches: mpsc::Receiver<Result<Option<RawBatch>>>,
    _slot: OwnedSemaphorePermit,
}

/// Reads all documents of `namespaces` into `sink`. Blocks, so it needs its own thread.
///
/// # Errors
/// Returns an error of the kind `Restart` or `Moved` if the documents read so far are worthless but a new run may succeed, and
/// of the kind `Instant` if the server no longer keeps the history of the instant.
pub fn read(
    server: &Arc<Server>,
    namespaces: &[Namespace],
    uuids: &Uuids,
    options: &ReadOptions,
    notes: &Notes,
    cancel: &CancellationToken,
    sink: &mut dyn Sink,
) -> Result<()> {
    sink.prelude(namespaces.to_vec())?;
    let (order, mut arriving) = mpsc::unbounded_channel();
    let scans: Vec<NativeScan> = namespaces
        .iter()
        .filter(|n| n.has_documents())
        .map(|n| NativeScan::new(server.clone(), n, uuids, notes.clone(), options))
        .collect();
    let reader = {
        let (server, cancel) = (server.clone(), cancel.clone());
        thread::Builder::new()
            .name("read".into())
            .spawn(move || run_here(&cancel, run_scans(&server, scans, &order, &cancel)))
            .map_err(|e| Error::failed("cannot start the reading thread").caused_by(e))?
    };
    for (at, namespace) in namespaces.iter().enumerate() {
        sink.begin(at)?;
        if namespace.has_documents() {
            let waiting = sink.waits().begin(WaitsFor::Mongodb);
            let incoming = arriving.blocking_recv();
            drop(waiting);
            let Some(incoming) = incoming else {
                // The reading thread ends early only with an error.
                return joined(reader).and(Err(Error::failed("the reading thread ended")));
            };
            write_documents(incoming, namespace, cancel, sink)?;
        }
        sink.end()?;
    }
    drop(arriving);
    joined(reader)
}

fn joined(reader: thread::JoinHandle<Result<()>>) -> Result<()> {
    reader.join().unwrap_or_else(|_| Err(Error::failed("the reading thread panicked")))
}

/// Scans the namespaces in the reading thread, and announces each.
async fn run_scans(
    server: &Server,
    scans: Vec<NativeScan>,
    order: &mpsc::UnboundedSender<Incoming>,
    cancel: &CancellationToken,
) -> Result<()> {
    let server = Arc::new(server.reconnect()?);
    let slots = Arc::new(Semaphore::new(AHEAD));
    let mut tasks = JoinSet::new();
    for scan in scans {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        // At most two batches of each namespace wait: one in the channel, one in its task.
        let (sender, batches) = mpsc::channel(1);
        if cancel.is_cancelled() || order.send(Incoming { batches, _slot: slot }).is_err() {
            break;
        }
        tasks.spawn(scan.run(server.clone(), sender));
    }
    while tasks.join_next().await.is_some() {}
    server.close().await;
    Ok(())
}

/// Hands one namespace's batches to the sink.
fn write_documents(
    mut incoming: Incoming,
    namespace: &Namespace,
    cancel: &CancellationToken,
    sink: &mut dyn Sink,
) -> Result<()> {
    let malformed = |cause: &dyn std::fmt::Display| cursor::malformed(namespace, cause);
    let waits = sink.waits();
    loop {
        if cancel.is_cancelled() {
            return Err(Error::failed("the run was cancelled"));
        }
        // A task that ends without a message must not look like a complete namespace.
        let waiting = waits.begin(WaitsFor::Mongodb);
        let batch = incoming.batches.blocking_recv();
        drop(waiting);
        let batch = batch.unwrap_or_else(|| Err(Error::failed("a reading task ended")))?;
        let Some(reply) = batch else { return Ok(()) };
        for value in reply.doc_slices().map_err(|e| malformed(&e))? {
            let value = value.map_err(|e| malformed(&e))?;
            let document = value.as_document().ok_or_else(|| malformed(&"a batch holds no document"))?;
            sink.document(document.as_bytes())?;
        }
    }
}

/// The size in bytes of the batches that are asked for: larger batches are slower and take more memory.
const BATCH_BYTES: usize = 1 << 20;

/// How often the server must list a collection without documents before it counts as empty. A collection that is renamed
/// back and forth all the time can be missing in one answer and listed in the next.
const ABSENT: u32 = 2;

/// The scan of one collection. It reads in natural order, and continues after the last whole batch when the cursor is lost.
struct NativeScan {
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

/// Why a cursor was lost: the class, the cause in words, and the error of the scan if it cannot continue.
type LostCursor = (Class, String, ReadFailure);

impl NativeScan {
    fn new(
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

    /// Sends all batches, and then `None` at the end of the collection, or the error that ended the scan. `server` has
    /// connections of the reading thread.
    async fn run(mut self, server: Arc<Server>, batches: Batches) {
        self.origin.server = server;
        let last = match self.read(&batches).await {
            Ok(()) => Ok(None),
            Err(ReadFailure::Error(error)) => Err(error),
            Err(ReadFailure::Driver(error)) => Err(self.origin.explain(error)),
        };
        // After the end of the run nobody receives it.
        let _ = batches.send(last).await;
    }

    async fn read(&mut self, batches: &Batches) -> Result<(), ReadFailure> {
        let mut size = FIRST_BATCH;
        let mut absent = 0;
        let mut cursor = self.origin.open_first().await.map_err(ReadFailure::Driver);
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
                self.gone.add(&self.origin.db, &self.origin.collection);
                return Ok(());
            }
            cursor = self.origin.reopen(&self.trail, size).await;
        }
    }

    fn absent(&self) -> LostCursor {
        let cause = "the server answered as if there were no such collection".to_string();
        let end = Error::failed(format!("cannot read {}", self.origin.name)).caused_by(cause.clone());
        (Class::CollectionGone, cause, end.into())
    }

    /// Hands on the batches of a cursor. `guess` is true if the cursor was opened with a first guess of the batch size.
    async fn drain(
        &mut self,
        mut cursor: RawBatchCursor,
        guess: bool,
        batches: &Batches,
    ) -> Result<CursorEnd, ReadFailure> {
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
            let sent = batches.send(Ok(Some(reply))).await;
            sent.map_err(|_| Error::aftermath("nobody receives the batches any more"))?;
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
                uuid if uuid != self.uuid && self.tolerant && self.delivered == 0 => self.uuid = uuid,
                uuid if uuid != self.uuid && self.tolerant => return Ok(false),
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
            self.notes.add(format!("continued reading {name} after batch {batch}, because of: {cause}"));
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
