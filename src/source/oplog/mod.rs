//! The oplog slice: the writes of the server while its collections were read one after the other. A replay of the slice
//! turns all collections into the data of one instant.
//!
//! The slice begins before the server is described ([`SliceStart::take`]), so that a collection that is created in between
//! is in the slice or in the description. After the last document was read, the newest entry is the end of the slice. It
//! counts only when a majority of the set has it, because a failover could undo it until then. The entries between start and
//! end go through the [`filter`] into the artifact, raw.

mod entries;
pub(crate) mod filter;
pub mod tail;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bson::{RawDocument, RawDocumentBuf, Timestamp, rawdoc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::entries::AfterLoss;
use self::filter::{KeptEntry, OplogFilter};
use super::{ReadFailure, run_here};
use crate::base::error::{Error, Kind, Result};
use crate::base::waits::{Waits, WaitsFor};
use crate::config::choices::ConsistencyChoice;
use crate::config::selection::Selection;
use crate::dumpformat::Sink;
use crate::model::manifest::ChainBase;
use crate::model::namespace::Namespace;
use crate::model::optime::OpTime;
use crate::model::selection::{self, SelectionAsked};
use crate::model::server::Topology;
use crate::model::slice::EntryMark;
use crate::mongo::commands::uuid_of;
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

/// How long a run waits until a majority of the set has the writes from before the run.
const CATCHING_UP: Duration = Duration::from_secs(10);
/// The pause between two requests for the last entry that the majority has.
const PAUSE: Duration = Duration::from_millis(50);

/// The first and the last moment of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceBounds {
    /// Exclusive.
    pub start: OpTime,
    /// Inclusive.
    pub end: OpTime,
    /// The entry at `end`.
    pub last: Option<EntryMark>,
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
pub async fn shortfall(server: &Server, consistency: ConsistencyChoice) -> Result<Option<String>> {
    match consistency {
        ConsistencyChoice::Auto => Ok(obstacle(server).await?.map(|obstacle| obstacle.words())),
        _ => Ok(None),
    }
}

/// Looks for an obstacle to an oplog slice of this server.
pub async fn obstacle(server: &Server) -> Result<Option<OplogObstacle>> {
    let because = |why: &str, hint: &str| Some(OplogObstacle { why: why.into(), hint: hint.into() });
    Ok(match server.hello.topology {
        Topology::Standalone => because(
            "a standalone server has no oplog",
            "Make it a replica set of one member: start it with --replSet and run rs.initiate()",
        ),
        Topology::Mongos => because(
            "a sharded cluster is read through mongos, which has no oplog",
            "Back up each shard on its own: each backup is then consistent at one instant",
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
        let find = rawdoc! {"find": collection, "limit": 1, "singleBatch": true};
        match server.documents(db, find).await {
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
    /// Begins a slice. Must be called before anything is listed or read that the slice must cover. Returns `None` if the
    /// majority of the set lags behind, because it would never get the end of the slice either. In a set with an arbiter,
    /// one member that is down is enough for that.
    ///
    /// # Errors
    /// Returns an error if the oplog cannot be read, or is too short.
    pub async fn take(server: &Server) -> Result<Option<SliceStart>> {
        // The oplog has no gaps up to the entry that a majority has, so all later reads see the writes up to it. After that
        // entry, an entry may become visible later than a newer one.
        let start = unfinished_since(server).await?;
        let ready = newest(server).await?;
        if wait(server, ready.time, CATCHING_UP).await?.is_none() {
            return Ok(None);
        }
        reaches_back(server, start).await?;
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
        run_here(cancel, self.write(server, selection, notes, &mut sink))
    }

    async fn write(
        &self,
        server: &Server,
        selection: &Selection,
        notes: &Notes,
        sink: &mut WithSlice<'_>,
    ) -> Result<SliceBounds> {
        let waits = sink.waits();
        let waiting = waits.begin(WaitsFor::Mongodb);
        let server = &server.reconnect()?;
        let newest = newest(server).await?;
        let last = entry_at(server, newest.time).await?;
        let bounds = SliceBounds { start: self.start, end: newest.time, last };
        let committed = wait(server, bounds.end, server.stall).await?;
        server.prove_unchanged().await?;
        let committed = committed.ok_or_else(|| behind(server, bounds.end))?;
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
        drop(waiting);
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
        read_entries(server, &bounds, (notes, &waits), &mut hand_on).await?;
        let waiting = waits.begin(WaitsFor::Mongodb);
        // If the oplog dropped entries while it was read, the slice has a gap.
        reaches_back(server, self.start).await?;
        drop(waiting);
        sink.sink.end()?;
        log::debug!("the oplog slice has {entries} entries, from {} to {}", bounds.start, bounds.end);
        server.close().await;
        Ok(bounds)
    }
}

/// Hands on every entry within `bounds`, in order. Their times are unique, so after a lost cursor a new one starts after the
/// last entry.
async fn read_entries(
    server: &Server,
    bounds: &SliceBounds,
    (notes, waits): (&Notes, &Waits),
    hand_on: &mut dyn FnMut(&RawDocument) -> Result<()>,
) -> Result<()> {
    let (mut last, mut waiting) = (bounds.start, server.patience.start(server.service()));
    loop {
        let had = last;
        let read = entries::batches(server, last.after(), bounds.end, Some(waits), async |batch| {
            batch.iter().try_for_each(|(_, entry)| hand_on(entry))?;
            last = batch.last().map_or(last, |(time, _)| *time);
            Ok(ControlFlow::<()>::Continue(()))
        });
        let lost = match read.await {
            Ok(_) => return Ok(()),
            Err(ReadFailure::Error(error)) => return Err(error),
            Err(ReadFailure::Driver(error)) => error,
        };
        if last != had {
            waiting.answered();
        }
        let _lost = waits.begin(WaitsFor::Mongodb);
        match entries::after_loss(lost, &mut waiting, notes).await {
            AfterLoss::Again => {}
            AfterLoss::Overflow => return Err(overflow(server, bounds.start)),
            AfterLoss::End(lost) => return Err(server.explain_late("cannot read the oplog", lost)),
        }
    }
}

/// The place of an oplog entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct OplogPosition {
    pub(super) time: OpTime,
    /// The term of the primary that wrote the entry.
    term: i64,
}

/// The newest entry that is on a majority of the set, as far as the member knows.
async fn committed(server: &Server) -> Result<OplogPosition> {
    last_write(server, "majorityOpTime").await
}

/// The newest entry that the member has; needs no right to read the oplog.
pub(super) async fn applied(server: &Server) -> Result<OplogPosition> {
    last_write(server, "opTime").await
}

async fn last_write(server: &Server, which: &str) -> Result<OplogPosition> {
    let reply = server.command("admin", rawdoc! {"hello": 1}).await;
    let reply = reply.map_err(|e| server.explain_late("cannot read the time of the last write", e))?;
    let position = || {
        let entry = reply.get_document("lastWrite").ok()?.get_document(which).ok()?;
        Some(OplogPosition { time: entry.get_timestamp("ts").ok()?.into(), term: entry.get_i64("t").ok()? })
    };
    position().ok_or_else(|| {
        let address = &server.hello.address;
        let text = format!("MongoDB at {address} does not report the last write that a majority has");
        Error::new(Kind::NoSlice, text).hint("Back up with --consistency none (BACKUP_CONSISTENCY)")
    })
}

/// Returns a time after which all transactions begin that are under way now or begin later. The majority has everything up to
/// it.
pub(super) async fn unfinished_since(server: &Server) -> Result<OpTime> {
    let committed = committed(server).await?.time;
    // A transaction under way may have older entries. A transaction that ended before this request is not found, but all
    // later reads see its writes.
    let transaction = oldest_transaction(server).await?;
    Ok(transaction.map_or(committed, |began| began.before().min(committed)))
}

/// The entry at exactly this time; `None` if there is none.
pub(super) async fn entry_at(server: &Server, at: OpTime) -> Result<Option<EntryMark>> {
    let find = rawdoc! {
        "find": "oplog.rs",
        "filter": {"ts": {"$gte": Timestamp::from(at), "$lte": Timestamp::from(at)}},
        "limit": 1,
        "singleBatch": true,
    };
    Ok(first(server, "local", find).await?.as_deref().and_then(mark))
}

/// Time, term and hash of an entry; `None` if it is malformed.
pub(super) fn mark(entry: &RawDocument) -> Option<EntryMark> {
    let at = entry.get_timestamp("ts").ok()?.into();
    // The first entry of a set, which initiates it, has no term (6.0.5).
    let term = entry.get_i64("t").unwrap_or(-1);
    Some(EntryMark { at, term, blake3: Some(blake3::hash(entry.as_bytes()).to_hex().to_string()) })
}

/// The beginning of a snapshot in the oplog.
#[derive(Debug, Clone)]
pub struct SnapshotBase {
    from: OpTime,
}

impl SnapshotBase {
    /// Must be called before the instant of the snapshot is chosen. Returns `None` if the user may not read the oplog, which a
    /// snapshot does not need.
    pub async fn before(server: &Server) -> Result<Option<SnapshotBase>> {
        match may_read(server).await? {
            Ok(()) => Ok(Some(SnapshotBase { from: unfinished_since(server).await? })),
            Err(_) => Ok(None),
        }
    }

    /// The place of the snapshot that was taken at `at`.
    pub async fn at(&self, server: &Server, at: OpTime) -> Result<Option<ChainBase>> {
        Ok(entry_at(server, at).await?.map(|entry| chain_base(self.from, &entry)))
    }
}

/// The place of a backup whose last entry is `entry`.
pub fn chain_base(from: OpTime, entry: &EntryMark) -> ChainBase {
    ChainBase { from, term: entry.term, blake3: entry.blake3.clone() }
}

/// The [mark](selection::mark) of a selection. The secret is the UUID of `config.transactions`, which all members of a set share
/// and every user who can read the oplog for slices may see. Returns `None` if the server is no replica set.
///
/// # Errors
/// Returns an error if the collection cannot be listed.
pub async fn selection_mark(server: &Server, selection: &SelectionAsked) -> Result<Option<String>> {
    if server.hello.topology != Topology::ReplicaSet {
        return Ok(None);
    }
    let list = rawdoc! {"listCollections": 1, "filter": {"name": "transactions"}};
    let rows = server.documents("config", list).await;
    let rows = rows.map_err(|e| server.explain_late("cannot list config.transactions", e))?;
    let uuid = rows.first().and_then(|row| uuid_of(row));
    uuid.map(|uuid| selection::mark(selection, uuid.as_bytes())).transpose()
}

/// The time of the first entry of the oldest transaction that is under way.
async fn oldest_transaction(server: &Server) -> Result<Option<OpTime>> {
    let find = rawdoc! {
        "find": "transactions",
        "filter": {"state": {"$in": ["prepared", "inProgress"]}},
        "sort": {"startOpTime": 1},
        "limit": 1,
        "singleBatch": true,
        "projection": {"startOpTime": 1},
    };
    let row = first(server, "config", find).await?;
    let time = |row: &RawDocumentBuf| row.get_document("startOpTime").ok()?.get_timestamp("ts").ok();
    Ok(row.as_ref().and_then(time).map(OpTime::from))
}

/// The newest entry. A reader that sees a document also sees the entry that wrote it, because the storage engine commits both
/// in one transaction and a reverse scan leaves out nothing.
async fn newest(server: &Server) -> Result<OplogPosition> {
    at_end(server, -1).await
}

/// Checks that the oplog still holds everything after `start`.
async fn reaches_back(server: &Server, start: OpTime) -> Result<()> {
    let oldest = at_end(server, 1).await?.time;
    if oldest.before() > start { Err(overflow(server, start)) } else { Ok(()) }
}

/// The error for an oplog that no longer has the entries from the start of the slice.
fn overflow(server: &Server, start: OpTime) -> Error {
    let address = &server.hello.address;
    let text = format!(
        "the oplog of MongoDB at {address} overflowed: it does not reach back to {start} any more, which the backup needs"
    );
    Error::new(Kind::NoSlice, text).hint(
        "Make it larger, e.g. db.adminCommand({replSetResizeOplog: 1, size: <MiB>}), \
         or back up with --consistency none (BACKUP_CONSISTENCY)",
    )
}

/// Waits until a majority of the set has the entry `end`, and returns its newest entry then. Returns `None` if the majority
/// does not get it within `limit`.
pub(super) async fn wait(server: &Server, end: OpTime, limit: Duration) -> Result<Option<OplogPosition>> {
    let began = Instant::now();
    loop {
        let now = committed(server).await?;
        if now.time >= end {
            return Ok(Some(now));
        }
        if began.elapsed() > limit {
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The error if the majority did not get the end of the slice in time.
pub(super) fn behind(server: &Server, end: OpTime) -> Error {
    let (set, limit) = (server.set_name(), server.stall.as_secs());
    let text =
        format!("the last write to {set} ({end}) was not on a majority of its members after {limit} s");
    Error::new(Kind::NoSlice, text)
        .hint("Check its members with rs.status(), or back up with --consistency none (BACKUP_CONSISTENCY)")
}

/// The first entry in natural order, forwards (1) or backwards (-1).
async fn at_end(server: &Server, order: i32) -> Result<OplogPosition> {
    let find = rawdoc! {
        "find": "oplog.rs",
        "sort": {"$natural": order},
        "limit": 1,
        "singleBatch": true,
        "projection": {"ts": 1, "t": 1},
    };
    let row = first(server, "local", find).await?;
    let position = |row: &RawDocument| {
        // The first entry of a set, which initiates it, has no term (6.0.5).
        let term = row.get_i64("t").unwrap_or(-1);
        Some(OplogPosition { time: row.get_timestamp("ts").ok()?.into(), term })
    };
    row.as_deref().and_then(position).ok_or_else(|| {
        let address = &server.hello.address;
        Error::new(Kind::NoSlice, format!("the oplog of MongoDB at {address} has an entry without a time"))
    })
}

async fn first(server: &Server, db: &str, find: RawDocumentBuf) -> Result<Option<RawDocumentBuf>> {
    let rows = server.documents(db, find).await;
    let rows = rows.map_err(|e| server.explain_late("cannot read the oplog's bounds", e))?;
    Ok(rows.into_iter().next())
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

    fn waits(&self) -> Waits {
        self.sink.waits()
    }
}
