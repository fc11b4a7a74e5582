//! The oplog slice: what the server wrote while its collections were read one after the other, so that a
//! replay turns all of them into the data of one instant.
//!
//! It is begun before the server is described ([`Begun::begin`]), so that a collection that is made
//! meanwhile is in the slice or in the description. When the last document is read, the newest entry is
//! the end; it must be on a majority of the set before it counts, or a failover could undo it. Between the
//! two, entries go through the [`filter`] into the artifact, raw.

pub(super) mod bounds;
pub(crate) mod filter;
mod read;

use std::sync::Arc;
use std::time::Duration;

use bson::{RawDocument, rawdoc};
use tokio_util::sync::CancellationToken;

use self::bounds::Position;
use self::filter::{Filter, Kept};
use crate::base::error::{Error, Result};
use crate::config::choices::ConsistencyChoice;
use crate::config::selection::Selection;
use crate::dumpformat::Sink;
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
use crate::model::server::Topology;
use crate::mongo::client;
use crate::mongo::commands;
use crate::mongo::errors::{Class, classify};
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;

/// A slice whose beginning is known.
#[derive(Debug, Clone)]
pub struct Begun {
    /// What was written after it is needed.
    start: OpTime,
    /// The newest entry at the beginning: whoever reads from then on sees all up to it.
    ready: Position,
}

/// So long may a majority of the set take to get what was written before the run begins.
const CATCHING_UP: Duration = Duration::from_secs(10);

/// Between what times a slice was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// All after it is in the slice.
    pub start: OpTime,
    /// The last moment whose writes are.
    pub end: OpTime,
}

/// Why a server can have no oplog slice, and what to do about it.
#[derive(Debug)]
pub struct OplogObstacle {
    pub why: String,
    pub hint: String,
}

impl OplogObstacle {
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

/// Whether the user may read what a slice needs, else why not. The built-in role `backup` may (6.0.5).
async fn may_read(server: &Server) -> Result<Result<(), String>> {
    for (db, collection) in [("local", "oplog.rs"), ("config", "transactions")] {
        let database = server.client().database(db);
        let find = rawdoc! {"find": collection, "limit": 1_i32, "singleBatch": true};
        match server.ask(|| commands::documents(&database, find.clone())).await {
            Ok(_) => {}
            Err(e) if classify(&e) == Class::Unauthorized => {
                let who = server.user().map_or("an anonymous user".into(), |user| format!("user '{user}'"));
                return Ok(Err(format!("{who} may not read {db}.{collection}")));
            }
            Err(e) => return Err(server.explain(&format!("cannot read {db}.{collection}"), e)),
        }
    }
    Ok(Ok(()))
}

impl Begun {
    /// Begins a slice: nothing may have been asked or read yet that it shall cover. `None` if a majority of
    /// the set does not follow, and never would get what is the end of the slice then: with an arbiter, one
    /// member that is down is enough.
    pub async fn begin(server: &Server) -> Result<Option<Begun>> {
        let client = server.client();
        // Before what a majority has there is no gap, so that whoever reads from now on sees all of it. After it
        // an entry may become visible later than a younger one.
        let committed = bounds::committed(server, client).await?.time;
        // Of a transaction under way some entries are older. One that began before this question and ended
        // before it is not found, but then all who read from now on see what it did.
        let transaction = bounds::oldest_transaction(server, client).await?;
        let ready = bounds::newest(server, client).await?;
        if bounds::wait(server, client, ready.time, CATCHING_UP).await?.is_none() {
            return Ok(None);
        }
        let start = transaction.map_or(committed, |began| began.before().min(committed));
        bounds::reaches_back(server, client, start).await?;
        Ok(Some(Begun { start, ready }))
    }

    /// Has `read` read the documents into `sink`, and then writes the slice behind them. Blocks; runs on the
    /// thread of the reader.
    ///
    /// # Errors
    /// Returns an error of the kind [`crate::base::error::Kind::Moved`] if there was a rename or another operation that no slice
    /// can hold; [`crate::base::error::Kind::NoSlice`] if the slice cannot be read; [`crate::base::error::Kind::Restart`] if there was
    /// another primary.
    pub fn around(
        &self,
        server: &Arc<Server>,
        selection: &Selection,
        notes: &Notes,
        cancel: &CancellationToken,
        sink: &mut dyn Sink,
        read: impl FnOnce(&mut dyn Sink) -> Result<()>,
    ) -> Result<Bounds> {
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
    ) -> Result<Bounds> {
        let client = server.another_client()?;
        let newest = bounds::newest(server, &client).await?;
        let bounds = Bounds { start: self.start, end: newest.time };
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
        let mut filter = Filter::new(selection, self.ready.time);
        let mut entries = 0;
        sink.sink.begin(sink.place)?;
        let mut hand_on = |entry: &RawDocument| {
            let bytes = match filter.take(entry)? {
                Kept::Whole => sink.sink.document(entry.as_bytes()),
                Kept::Part(part) => sink.sink.document(part.as_bytes()),
                Kept::Nothing => return Ok(()),
            };
            entries += 1;
            bytes
        };
        read::entries(server, &client, bounds, notes, &mut hand_on).await?;
        // Whatever fell out of it meanwhile was not read.
        bounds::reaches_back(server, &client, self.start).await?;
        sink.sink.end()?;
        log::debug!("the oplog slice has {entries} entries, from {} to {}", bounds.start, bounds.end);
        client::close(client).await;
        Ok(bounds)
    }
}

/// Announces the slice behind all namespaces.
struct WithSlice<'a> {
    sink: &'a mut dyn Sink,
    /// The slice's place among them.
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
