//! Questions about the oplog: its oldest and newest entries, and the last entry that a majority of the set has.

use std::time::Duration;

use bson::{RawDocument, RawDocumentBuf, doc, rawdoc};
use mongodb::Client;
use tokio::time::Instant;

use crate::base::error::{Error, Kind, Result};
use crate::model::optime::OpTime;
use crate::mongo::commands;
use crate::mongo::server::Server;

/// The pause between two questions for the last entry of the majority.
const PAUSE: Duration = Duration::from_millis(50);

/// The place of an oplog entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) struct OplogPosition {
    pub(in crate::source) time: OpTime,
    /// The term of the primary that wrote the entry.
    pub(in crate::source) term: i64,
}

/// The newest entry that is on a majority of the set, as far as the member knows.
pub(in crate::source) async fn committed(server: &Server, client: &Client) -> Result<OplogPosition> {
    last_write(server, client, "majorityOpTime").await
}

/// The newest entry that the member has; needs no right to read the oplog.
pub(in crate::source) async fn applied(server: &Server, client: &Client) -> Result<OplogPosition> {
    last_write(server, client, "opTime").await
}

async fn last_write(server: &Server, client: &Client, which: &str) -> Result<OplogPosition> {
    let admin = client.database("admin");
    let ask =
        || admin.run_command(doc! {"hello": 1}).selection_criteria(commands::any_member()).into_future();
    let reply = server.ask(ask).await.map_err(|e| server.explain_late("cannot ask for the last write", e))?;
    let position = || {
        let entry = reply.get_document("lastWrite").ok()?.get_document(which).ok()?;
        Some(OplogPosition { time: entry.get_timestamp("ts").ok()?.into(), term: entry.get_i64("t").ok()? })
    };
    position().ok_or_else(|| {
        Error::new(
            Kind::NoSlice,
            format!("MongoDB at {} does not report the last write that a majority has", server.hello.address),
        )
        .hint("Back up with --consistency none (BACKUP_CONSISTENCY)")
    })
}

/// The time of the first entry of the oldest transaction that is under way.
pub(in crate::source) async fn oldest_transaction(
    server: &Server,
    client: &Client,
) -> Result<Option<OpTime>> {
    let find = rawdoc! {
        "find": "transactions",
        "filter": {"state": {"$in": ["prepared", "inProgress"]}},
        "sort": {"startOpTime": 1_i32},
        "limit": 1_i32,
        "singleBatch": true,
        "projection": {"startOpTime": 1_i32},
    };
    let row = first(server, client, "config", find).await?;
    let time = |row: &RawDocumentBuf| row.get_document("startOpTime").ok()?.get_timestamp("ts").ok();
    Ok(row.as_ref().and_then(time).map(OpTime::from))
}

/// The newest entry. A reader that sees a document also sees the entry that wrote it, because the storage engine commits both
/// in one transaction and a reverse scan leaves out nothing.
pub(in crate::source) async fn newest(server: &Server, client: &Client) -> Result<OplogPosition> {
    at_end(server, client, -1).await
}

/// Checks that the oplog still holds everything after `start`.
pub(in crate::source) async fn reaches_back(server: &Server, client: &Client, start: OpTime) -> Result<()> {
    let oldest = at_end(server, client, 1).await?.time;
    if oldest.before() > start { Err(overflow(server, start)) } else { Ok(()) }
}

/// The error that the oplog is shorter than the run.
pub(in crate::source) fn overflow(server: &Server, start: OpTime) -> Error {
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
pub(in crate::source) async fn wait(
    server: &Server,
    client: &Client,
    end: OpTime,
    limit: Duration,
) -> Result<Option<OplogPosition>> {
    let began = Instant::now();
    loop {
        let now = committed(server, client).await?;
        if now.time >= end {
            return Ok(Some(now));
        }
        if began.elapsed() > limit {
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The error that the majority did not get the end of the slice in time.
pub(in crate::source) fn behind(server: &Server, end: OpTime) -> Error {
    let (set, limit) = (server.set_name(), server.stall.as_secs());
    let text =
        format!("the last write to {set} ({end}) was not on a majority of its members after {limit} s");
    Error::new(Kind::NoSlice, text)
        .hint("Check its members with rs.status(), or back up with --consistency none (BACKUP_CONSISTENCY)")
}

/// The first entry in natural order, forwards (1) or backwards (-1).
async fn at_end(server: &Server, client: &Client, order: i32) -> Result<OplogPosition> {
    let find = rawdoc! {
        "find": "oplog.rs",
        "sort": {"$natural": order},
        "limit": 1_i32,
        "singleBatch": true,
        "projection": {"ts": 1_i32, "t": 1_i32},
    };
    let row = first(server, client, "local", find).await?;
    let position = |row: &RawDocument| {
        // The first entry of a set, which initiates it, has no term (6.0.5).
        Some(OplogPosition {
            time: row.get_timestamp("ts").ok()?.into(),
            term: row.get_i64("t").unwrap_or(-1),
        })
    };
    row.as_deref().and_then(position).ok_or_else(|| {
        let address = &server.hello.address;
        Error::new(Kind::NoSlice, format!("the oplog of MongoDB at {address} has an entry without a time"))
    })
}

async fn first(
    server: &Server,
    client: &Client,
    db: &str,
    find: RawDocumentBuf,
) -> Result<Option<RawDocumentBuf>> {
    let database = client.database(db);
    let rows = server.ask(|| commands::documents(&database, find.clone())).await;
    let rows = rows.map_err(|e| server.explain_late("cannot read the oplog's bounds", e))?;
    Ok(rows.into_iter().next())
}
