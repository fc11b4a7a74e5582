//! Reading the entries of a slice in order.

use bson::{RawDocument, RawDocumentBuf, Timestamp, rawdoc};
use futures_util::StreamExt;
use mongodb::Client;
use mongodb::error::Error as Driver;
use mongodb::raw_batch_cursor::RawBatchCursor;

use super::{Bounds, bounds};
use crate::base::error::{Error, Kind, Result};
use crate::model::optime::OpTime;
use crate::mongo::commands;
use crate::mongo::commands::Progress;
use crate::mongo::errors;
use crate::mongo::errors::Class;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;

/// Hands on every entry within `bounds`, in order. Entries are told apart by their times, so a lost cursor is
/// taken up behind the last one.
pub async fn entries(
    server: &Server,
    client: &Client,
    bounds: Bounds,
    notes: &Notes,
    hand_on: &mut dyn FnMut(&RawDocument) -> Result<()>,
) -> Result<()> {
    let (mut last, mut waiting) = (None, server.patience.start(server.service()));
    loop {
        let had = last;
        let lost = match drain(server, client, find(bounds, last), &mut last, hand_on).await {
            Ok(()) => return Ok(()),
            Err(Stop::Error(error)) => return Err(error),
            Err(Stop::Driver(error)) => error,
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

/// Why a cursor ends before the last entry.
enum Stop {
    Driver(Driver),
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

/// The command for all entries, or those behind `last`.
fn find(bounds: Bounds, last: Option<OpTime>) -> RawDocumentBuf {
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
) -> Result<(), Stop> {
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
