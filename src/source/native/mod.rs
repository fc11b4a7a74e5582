//! The native engine: reads one member with the driver's cursors and hands on its raw batches.
//!
//! A thread with its own runtime reads. Each namespace is a task ([`scan`]) that sends whole batches, and continues by itself
//! when its cursor is lost. The thread that called [`read`] receives the batches in the order of the namespaces. The tasks
//! fetch the first batches of the next namespaces at the same time, so that thousands of tiny collections do not wait for a
//! round trip each.

pub(crate) mod cursor;
mod scan;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::scan::{NativeScan, ScanMessage};
use super::describe::Uuids;
use crate::base::error::{Error, Result};
use crate::dumpformat::Sink;
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
use crate::mongo::client;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;

/// The time as of which documents are read, and what happens if a collection loses its name.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// The instant as of which everything is read, except the namespaces that [`crate::source::snapshot::apart`] names.
    pub at: Option<OpTime>,
    /// If a collection is replaced by another one of its name, true keeps the documents read so far, and false ends the
    /// run.
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

/// A namespace whose scan has begun.
struct Incoming {
    batches: mpsc::Receiver<Result<ScanMessage>>,
    _slot: OwnedSemaphorePermit,
}

/// Reads all documents of `namespaces` into `sink`. Blocks, so it needs its own thread.
///
/// # Errors
/// Returns a [`Kind::Restart`](crate::base::error::Kind::Restart) or [`Kind::Moved`](crate::base::error::Kind::Moved) if the documents read so far are worthless but a new run may succeed, and a
/// [`Kind::Instant`](crate::base::error::Kind::Instant) if the server no longer keeps the history of the instant.
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
            .spawn(move || run_scans(&server, scans, &order, &cancel))
            .map_err(|e| Error::failed("cannot start the reading thread").caused_by(e))?
    };
    for (at, namespace) in namespaces.iter().enumerate() {
        sink.begin(at)?;
        if namespace.has_documents() {
            let Some(incoming) = arriving.blocking_recv() else {
                // The reading thread ends early only with an error.
                return Err(joined(reader)
                    .err()
                    .unwrap_or_else(|| Error::failed("the reading thread ended")));
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

/// Hands one namespace's batches to the sink.
fn write_documents(
    mut incoming: Incoming,
    namespace: &Namespace,
    cancel: &CancellationToken,
    sink: &mut dyn Sink,
) -> Result<()> {
    loop {
        if cancel.is_cancelled() {
            return Err(Error::failed("the run was cancelled"));
        }
        // A task that ends without a message must not look like a complete namespace.
        let batch =
            incoming.batches.blocking_recv().unwrap_or_else(|| Err(Error::failed("a reading task ended")))?;
        let malformed = |e: &dyn std::fmt::Display| {
            Error::failed(format!("MongoDB sent a malformed reply for {namespace}")).caused_by(e.to_string())
        };
        match batch {
            ScanMessage::Reply(reply) => {
                for value in reply.doc_slices().map_err(|e| malformed(&e))? {
                    let value = value.map_err(|e| malformed(&e))?;
                    let document =
                        value.as_document().ok_or_else(|| malformed(&"a batch holds no document"))?;
                    sink.document(document.as_bytes())?;
                }
            }
            ScanMessage::End => return Ok(()),
        }
    }
}

/// The body of the reading thread.
fn run_scans(
    server: &Server,
    scans: Vec<NativeScan>,
    order: &mpsc::UnboundedSender<Incoming>,
    cancel: &CancellationToken,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::failed("cannot start the reading runtime").caused_by(e))?;
    let work = async {
        let client = server.another_client()?;
        let slots = Arc::new(Semaphore::new(AHEAD));
        let mut tasks = JoinSet::new();
        for scan in scans {
            let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
            // At most two batches of each namespace wait: one in the channel, one in its task.
            let (sender, batches) = mpsc::channel(1);
            if cancel.is_cancelled() || order.send(Incoming { batches, _slot: slot }).is_err() {
                break;
            }
            tasks.spawn(scan.run(client.clone(), sender));
        }
        while tasks.join_next().await.is_some() {}
        client::close(client).await;
        Ok(())
    };
    // A member that does not answer must not delay the end of a cancelled run.
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            () = cancel.cancelled() => Err(Error::aftermath("the run was cancelled")),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}
