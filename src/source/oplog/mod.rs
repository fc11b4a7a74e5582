//! The oplog slice: the writes of the server while its collections were read one after the other. A replay of the slice
//! turns all collections into the data of one instant.
//!
//! The slice begins before the server is described ([`SliceStart::take`]), so that a collection that is created in between
//! is in the slice or in the description. After the last document was read, the newest entry is the end of the slice. It
//! counts only when a majority of the set has it, because a failover could undo it until then. The entries between start and
//! end go through the [`filter`] into the artifact, raw.

pub(super) mod bounds;
pub(crate) mod filter;

use std::sync::Arc;
use std::time::Duration;

use bson::{RawDocument, RawDocumentBuf, Timestamp, rawdoc};
use futures_util::StreamExt;
use mongodb::Client;
use mongodb::error::Error as Driver;
use mongodb::raw_batch_cursor::RawBatchCursor;
use tokio_util::sync::CancellationToken;

use self::bounds::OplogPosition;
use self::filter::{KeptEntry, OplogFilter};
use crate::base::error::{Error, Kind, Result};
use crate::config::choices::ConsistencyChoice;
use crate::config::selection::Selection;
use crate::dumpformat::Sink;
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
use crate::model::server::Topology;
use crate::mongo::client;
use crate::mongo::commands::{self, Progress};
use crate::mongo::errors::{self, Class};
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;

/// The start of a slice.
#[derive(Debug, Clone)]
pub struct SliceStart {
    /// The slice contains the entries after this time.
    start: OpTime,
    /// The newest entry when the run began. All later reads see the writes up to it.
    ready: OplogPosition,
}

/// How long a majority of the set may take to copy the writes from before the run.
const CATCHING_UP: Duration = Duration::from_secs(10);

/// The first and the last moment of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SliceBounds {
    /// Exclusive.
    pub start: OpTime,
    /// Inclusive.
    pub end: OpTime,
}

/// Why a server can have no oplog slice, and what to do about it.
#[derive(Debug)]
pub struct OplogObstacle {
    pub why: String,
    pub hint: String,
}

impl OplogObstacle {
    /// The reason and the next step.
    pub fn words(&self) -> String {
        format!("{}. {}", self.why, self.hint)
    }
}

/// Returns why a backup with consistency `auto` would read each collection at its own time, and what to do about it. Returns
/// `None` if it would not, or if the consistency was chosen.
///
/// # Errors
/// Returns an error if the server cannot be asked.
pub async fn shortfall(server: &Server, consistency: ConsistencyChoice) -> Result<Option<String>> {
    match consistency {
        ConsistencyChoice::Auto => Ok(obstacle(server).await?.map(|obstacle| obstacle.words())),
        _ => Ok(None),
    }
}

/// Looks for an obstacle to an oplog slice of this server.
///
/// # Errors
/// Returns an error if the server cannot be asked.
pub async fn obstacle(server: &Server) -> Result<Option<OplogObstacle>> {
    let because = |why: &str, hint: &str| Some(OplogObstacle { why: why.into(), hint: hint.into() });
    Ok(match server.hello.topology {
        Topology::Standalone => because(
            "a standalone server has no oplog",
            "Make it a replica set of one member: start it with --replSet and run rs.initiate()",
        ),
        Topology::Mongos => because(
            "a sharded cluster is read through mongos, which has no oplog",
            "Back each shard up on its own for an instant of each",
        ),
        Topology::ReplicaSet => {
            let role = "Grant the built-in role \"backup\", or {role: \"read\", db: \"local\"} and {role: \"read\", \
                        db: \"config\"}";
            may_read(server).await?.err().map(|why| OplogObstacle { why, hint: role.into() })
        }
    })
}

/// Checks that the user may read the collections that a slice needs; the inner error says which one it may not read. The
/// built-in role `backup` may read them (6.0.5).
async fn may_read(server: &Server) -> Result<Result<(), String>> {
    for (db, collection) in [("local", "oplog.rs"), ("config", "transactions")] {
        let database = server.client().database(db);
        let find = rawdoc! {"find": collection, "limit": 1_i32, "singleBatch": true};
        match server.ask(|| commands::documents(&database, find.clone())).await {
            Ok(_) => {}
            Err(e) if errors::classify(&e) == Class::Unauthorized => {
                let who = server.user().map_or("an anonymous user".into(), |user| format!("user '{user}'"));
                return Ok(Err(format!("{who} may not read {db}.{collection}")));
            }
            Err(e) => return Err(server.explain(&format!("cannot read {db}.{collection}"), e)),
        }
    }
    Ok(Ok(()))
}

impl SliceStart {
    /// Begins a slice. Must be called before anything is listed or read that the slice shall cover. Returns `None` if the
    /// majority of the set lags behind, because it would never get the end of the slice either. In a set with an arbiter,
    /// one member that is down is enough for that.
    ///
    /// # Errors
    /// Returns an error if the oplog cannot be read, or is too short.
    pub async fn take(server: &Server) -> Result<Option<SliceStart>> {
        let client = server.client();
        // The oplog has no gaps up to the entry that a majority has, so all later reads see the writes up to it. After that
        // entry, an entry may become visible later than a newer one.
        let committed = bounds::committed(server, client).await?.time;
        // A transaction under way may have older entries. A transaction that ended before this question is not found, but all
        // later reads see its writes.
        let transaction = bounds::oldest_transaction(server, client).await?;
        let ready = bounds::newest(server, client).await?;
        if bounds::wait(server, client, ready.time, CATCHING_UP).await?.is_none() {
            return Ok(None);
        }
        let start = transaction.map_or(committed, |began| began.before().min(committed));
        bounds::reaches_back(server, client, start).await?;
        Ok(Some(SliceStart { start, ready }))
    }

    /// Calls `read`, which writes the documents into `sink`, and then writes the slice after them. Blocks, so it needs its own
    /// thread.
    ///
    /// # Errors
    /// Returns a [`Kind::Moved`] if there was a rename or another operation that no slice can hold, a [`Kind::NoSlice`] if the
    /// slice cannot be read, and a [`Kind::Restart`] if another member became primary.
    pub fn around(
        &self,
        server: &Arc<Server>,
        selection: &Selection,
        notes: &Notes,
        cancel: &CancellationToken,
        sink: &mut dyn Sink,
        read: impl FnOnce(&mut dyn Sink) -> Result<()>,
    ) -> Result<SliceBounds> {
        let mut sink = WithSlice { sink, place: 0 };
        read(&mut sink)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::failed("cannot start the runtime that reads the oplog").caused_by(e))?;
        let outcome = runtime.block_on(async {
            tokio::select! {
                outcome = self.write(server, selection, notes, &mut sink) => outcome,
                () = cancel.cancelled() => Err(Error::aftermath("the run was cancelled")),
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    }

    async fn write(
        &self,
        server: &Server,
        selection: &Selection,
        notes: &Notes,
        sink: &mut WithSlice<'_>,
    ) -> Result<SliceBounds> {
        let client = server.another_client()?;
        let newest = bounds::newest(server, &client).await?;
        let bounds = SliceBounds { start: self.start, end: newest.time };
        let committed = bounds::wait(server, &client, bounds.end, server.stall).await?;
        server.prove_unchanged(&client).await?;
        let committed = committed.ok_or_else(|| bounds::behind(server, bounds.end))?;
        for position in [newest, committed] {
            if position.term != self.ready.term {
                let (was, now) = (self.ready.term, position.term);
                return Err(Error::restart(format!(
                    "{} got another primary during the run (term {was} became {now})",
                    server.set_name()
                )));
            }
        }
        let mut filter = OplogFilter::new(selection, self.ready.time);
        let mut entries = 0;
        sink.sink.begin(sink.place)?;
        let mut hand_on = |entry: &RawDocument| {
            let bytes = match filter.take(entry)? {
                KeptEntry::Whole => sink.sink.document(entry.as_bytes()),
                KeptEntry::Part(part) => sink.sink.document(part.as_bytes()),
                KeptEntry::Nothing => return Ok(()),
            };
            entries += 1;
            bytes
        };
        read_entries(server, &client, bounds, notes, &mut hand_on).await?;
        // If the oplog dropped entries meanwhile, the slice has a gap.
        bounds::reaches_back(server, &client, self.start).await?;
        sink.sink.end()?;
        log::debug!("the oplog slice has {entries} entries, from {} to {}", bounds.start, bounds.end);
        client::close(client).await;
        Ok(bounds)
    }
}

/// Hands on every entry within `bounds`, in order. Their times are unique, so after a lost cursor a new one starts after the
/// last entry.
async fn read_entries(
    server: &Server,
    client: &Client,
    bounds: SliceBounds,
    notes: &Notes,
    hand_on: &mut dyn FnMut(&RawDocument) -> Result<()>,
) -> Result<()> {
    let (mut last, mut waiting) = (None, server.patience.start(server.service()));
    loop {
        let had = last;
        let lost = match drain(server, client, find(bounds, last), &mut last, hand_on).await {
            Ok(()) => return Ok(()),
            Err(ReadFailure::Error(error)) => return Err(error),
            Err(ReadFailure::Driver(error)) => error,
        };
        if last != had {
            waiting.answered();
        }
        let why = errors::tidy(&lost);
        match errors::classify(&lost) {
            Class::TokenGone => return Err(bounds::overflow(server, bounds.start)),
            Class::Interrupted if waiting.pause(&why).await => {
                notes.count(format!("went on reading the oplog after: {why}"));
            }
            _ => return Err(server.explain_late("cannot read the oplog", lost)),
        }
    }
}

/// Why a cursor ends before the last entry: an error of the driver, which may be temporary, or a final error.
enum ReadFailure {
    Driver(Driver),
    Error(Error),
}

impl From<Driver> for ReadFailure {
    fn from(error: Driver) -> ReadFailure {
        ReadFailure::Driver(error)
    }
}

impl From<Error> for ReadFailure {
    fn from(error: Error) -> ReadFailure {
        ReadFailure::Error(error)
    }
}

/// The command for all entries, or for the entries after `last`.
fn find(bounds: SliceBounds, last: Option<OpTime>) -> RawDocumentBuf {
    let end = Timestamp::from(bounds.end);
    let start = Timestamp::from(last.unwrap_or(bounds.start));
    rawdoc! {"find": "oplog.rs", "filter": {"ts": {"$gt": start, "$lte": end}}}
}

async fn drain(
    server: &Server,
    client: &Client,
    find: RawDocumentBuf,
    last: &mut Option<OpTime>,
    hand_on: &mut dyn FnMut(&RawDocument) -> Result<()>,
) -> Result<(), ReadFailure> {
    let malformed = |e: &dyn std::fmt::Display| {
        let text = format!("MongoDB at {} sent a malformed oplog entry", server.hello.address);
        Error::new(Kind::NoSlice, text).caused_by(e.to_string())
    };
    let local = client.database("local");
    let action = local.run_raw_cursor_command(find).selection_criteria(commands::any_member()).batch();
    let mut cursor: RawBatchCursor = server.bounded(action.into_future()).await?;
    let mut progress = Progress::new(server.stall);
    while let Some(batch) = server.next(async { cursor.next().await.transpose() }).await? {
        let entries = batch.doc_slices()?;
        progress.step(!entries.is_empty())?;
        for value in entries {
            let value = value.map_err(|e| malformed(&e))?;
            let entry = value.as_document().ok_or_else(|| malformed(&"it is no document"))?;
            let time: OpTime = entry.get_timestamp("ts").map_err(|e| malformed(&e))?.into();
            if last.is_some_and(|last| time <= last) {
                return Err(malformed(&"it is out of order").into());
            }
            hand_on(entry)?;
            *last = Some(time);
        }
    }
    Ok(())
}

/// Announces the slice to the sink as the last namespace.
struct WithSlice<'a> {
    sink: &'a mut dyn Sink,
    /// The slice's index among the namespaces.
    place: usize,
}

impl Sink for WithSlice<'_> {
    fn prelude(&mut self, mut namespaces: Vec<Namespace>) -> Result<()> {
        self.place = namespaces.len();
        namespaces.push(Namespace::oplog());
        self.sink.prelude(namespaces)
    }

    fn begin(&mut self, namespace: usize) -> Result<()> {
        self.sink.begin(namespace)
    }

    fn document(&mut self, raw: &[u8]) -> Result<()> {
        self.sink.document(raw)
    }

    fn end(&mut self) -> Result<()> {
        self.sink.end()
    }
}
