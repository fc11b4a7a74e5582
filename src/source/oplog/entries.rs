//! Reads the entries of an oplog between two times, for the slice of a backup and for the slices of a chain.

use std::ops::ControlFlow;

use bson::{RawDocument, Timestamp, rawdoc};
use futures_util::StreamExt;
use mongodb::error::Error as Driver;

use super::super::ReadFailure;
use crate::base::error::{Error, Kind, Result};
use crate::base::retry::Waiting;
use crate::base::waits::{Waits, WaitsFor};
use crate::model::optime::OpTime;
use crate::mongo::commands::{self, Progress};
use crate::mongo::errors::{self, Class};
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;

/// Passes the entries from `from` to `to`, both included, to `take` with their times: in order, a batch at a time, until `take`
/// breaks. `waits` measures the waits for MongoDB.
pub(super) async fn batches<T>(
    server: &Server,
    from: OpTime,
    to: OpTime,
    waits: Option<&Waits>,
    mut take: impl AsyncFnMut(&[(OpTime, &RawDocument)]) -> Result<ControlFlow<T>>,
) -> Result<Option<T>, ReadFailure> {
    let filter = rawdoc! {"ts": {"$gte": Timestamp::from(from), "$lte": Timestamp::from(to)}};
    let find = rawdoc! {"find": "oplog.rs", "filter": filter};
    let local = server.database("local");
    let action = local.run_raw_cursor_command(find).selection_criteria(commands::any_member()).batch();
    let begin = || waits.map(|waits| waits.begin(WaitsFor::Mongodb));
    let mut waiting = begin();
    let mut cursor = server.bounded(action.into_future()).await?;
    let (mut progress, mut newest) = (Progress::new(server.stall), from.before());
    while let Some(batch) = server.next(async { cursor.next().await.transpose() }).await? {
        drop(waiting);
        let values = batch.doc_slices()?;
        progress.step(!values.is_empty())?;
        let mut entries = Vec::new();
        for value in values {
            let value = value.map_err(|e| malformed(server, e))?;
            let entry = value.as_document().ok_or_else(|| malformed(server, "it is not a document"))?;
            let time: OpTime = entry.get_timestamp("ts").map_err(|e| malformed(server, e))?.into();
            if time <= newest || time > to {
                return Err(malformed(server, "it is out of order").into());
            }
            newest = time;
            entries.push((time, entry));
        }
        if let ControlFlow::Break(end) = take(&entries).await? {
            return Ok(Some(end));
        }
        waiting = begin();
    }
    Ok(None)
}

/// The error for an answer that is not an oplog entry.
pub(super) fn malformed(server: &Server, why: impl std::fmt::Display) -> Error {
    let text = format!("MongoDB at {} sent a malformed oplog entry", server.hello.address);
    Error::new(Kind::NoSlice, text).caused_by(why.to_string())
}

/// What to do after a cursor was lost.
pub(super) enum AfterLoss {
    /// Go on after the last entry.
    Again,
    /// The oplog no longer has the entries.
    Overflow,
    /// Give up because of this error.
    End(Driver),
}

/// Pauses after a lost cursor, if another one can go on.
pub(super) async fn after_loss(lost: Driver, waiting: &mut Waiting, notes: &Notes) -> AfterLoss {
    let why = errors::tidy(&lost);
    match errors::classify(&lost) {
        Class::TokenGone => AfterLoss::Overflow,
        Class::Interrupted if waiting.pause(&why).await => {
            notes.count(format!("continued reading the oplog after: {why}"));
            AfterLoss::Again
        }
        _ => AfterLoss::End(lost),
    }
}
