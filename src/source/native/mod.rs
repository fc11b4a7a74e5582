//! The native engine: reads one member with the driver's cursors and hands on its raw batches.
//!
//! A thread with its own runtime reads. Each namespace is a task ([`NativeScan`]) that sends whole batches, and continues by itself
//! when its cursor is lost. The thread that called [`read`] receives the batches in the order of the namespaces. The tasks
//! fetch the first batches of the next namespaces at the same time, so that thousands of tiny collections do not wait for a
//! round trip each. If the round trip is long, or the machine has many cores, several readers read ranges of a large collection
//! at once.

mod ahead;
pub(crate) mod cursor;
mod ranges;
mod readers;
mod scan;
mod split;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::ahead::Ahead;
use self::readers::Readers;
use self::scan::{Batch, NativeScan};
use super::describe::Uuids;
use super::run_on;
use crate::base::error::{Error, Result};
use crate::base::waits::WaitsFor;
use crate::config::choices::ReadersChoice;
use crate::dumpformat::Sink;
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
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
    /// The number of readers of one collection.
    pub readers: ReadersChoice,
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

/// A namespace whose scan has begun.
struct Incoming {
    batches: mpsc::Receiver<Result<Option<Batch>>>,
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
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let readers = match server.pins_cursors() {
        true => Readers::choose(ReadersChoice::Count(1), Duration::ZERO, cores),
        false => Readers::choose(options.readers, server.round_trip(), cores),
    };
    log::debug!("{} readers for a round trip of {:?}", readers.count, server.round_trip());
    let ahead = Ahead::new(readers.room, readers.reserved());
    let scans: Vec<NativeScan> = namespaces
        .iter()
        .filter(|n| n.has_documents())
        .enumerate()
        .map(|(turn, n)| {
            NativeScan::new(server.clone(), turn, n, uuids, notes.clone(), options, (ahead.clone(), readers))
        })
        .collect();
    let reader = {
        let (server, cancel) = (server.clone(), cancel.clone());
        thread::Builder::new()
            .name("read".into())
            .spawn(move || {
                run_on(readers.threads, &cancel, run_scans(&server, scans, readers, &order, &cancel))
            })
            .map_err(|e| Error::failed("cannot start the reading thread").caused_by(e))?
    };
    let mut turn = 0;
    for (at, namespace) in namespaces.iter().enumerate() {
        sink.begin(at)?;
        if namespace.has_documents() {
            ahead.turn(turn);
            turn += 1;
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
    readers: Readers,
    order: &mpsc::UnboundedSender<Incoming>,
    cancel: &CancellationToken,
) -> Result<()> {
    let server = Arc::new(server.reconnect()?);
    let slots = Arc::new(Semaphore::new(readers.namespaces));
    let mut tasks = JoinSet::new();
    for scan in scans {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        // At most two batches of each reader wait: one in the channel, one in its task.
        let (sender, batches) = mpsc::channel(readers.count);
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
        let Some(batch) = batch else { return Ok(()) };
        let documents = batch.reply.doc_slices().map_err(|e| malformed(&e))?;
        for value in documents.into_iter().take(batch.documents) {
            let value = value.map_err(|e| malformed(&e))?;
            let document = value.as_document().ok_or_else(|| malformed(&"a batch holds no document"))?;
            sink.document(document.as_bytes())?;
        }
    }
}
