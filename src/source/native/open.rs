//! Opening a cursor on a collection, at its start or behind a record.

use bson::raw::cstr;
use bson::{RawDocumentBuf, rawdoc};
use mongodb::Client;
use mongodb::error::Error as Driver;
use mongodb::raw_batch_cursor::RawBatchCursor;

use super::instant;
use super::scan::Scan;
use super::token::RecordId;
use crate::mongo::commands;
use crate::mongo::errors;
use crate::mongo::errors::Class;

/// Documents of the first batch: the server's own default. Most collections end within it; of the
/// others it tells how long a document is.
pub const FIRST_BATCH: u32 = 101;
/// Documents of a batch from a server without resume tokens, where the cursor cannot be opened anew.
const PLAIN_BATCH: u32 = 1_000;

/// A cursor over the documents.
pub struct Open {
    pub(super) cursor: RawBatchCursor,
    /// Opened with a first guess of the batch size.
    pub(super) guess: bool,
}
impl Scan {
    /// The first cursor; it also finds out whether the server gives tokens.
    pub(super) async fn first(&mut self, client: &Client) -> Result<Open, Driver> {
        match self.open(client, None, FIRST_BATCH).await {
            Err(e) if errors::classify(&e) == Class::UnknownOption => {
                self.tokens = false;
                self.open(client, None, PLAIN_BATCH).await
            }
            answer => answer,
        }
    }

    /// Opens a cursor behind a record, or at the start.
    pub(super) async fn open(
        &self,
        client: &Client,
        after: Option<&RecordId>,
        size: u32,
    ) -> Result<Open, Driver> {
        let cursor = self.cursor(client, self.find(after, size), size).await?;
        Ok(Open { cursor, guess: self.tokens && self.guessing })
    }

    /// The command that does.
    pub(super) fn find(&self, after: Option<&RecordId>, size: u32) -> RawDocumentBuf {
        let mut find = rawdoc! {"find": self.collection.as_str(), "batchSize": i64::from(size)};
        if self.tokens {
            find.append(cstr!("hint"), rawdoc! {"$natural": 1_i32});
            find.append(cstr!("$_requestResumeToken"), true);
        }
        if self.raw {
            find.append(cstr!("rawData"), true);
        }
        if let Some(after) = after {
            find.append(cstr!("$_resumeAfter"), after.token());
        }
        if let Some(at) = self.at {
            find.append(cstr!("readConcern"), instant::read_concern(at));
        }
        find
    }

    /// Sends it.
    pub(super) async fn cursor(
        &self,
        client: &Client,
        find: RawDocumentBuf,
        size: u32,
    ) -> Result<RawBatchCursor, Driver> {
        let database = client.database(&self.db);
        let action = database
            .run_raw_cursor_command(find)
            .selection_criteria(commands::any_member())
            .batch_size(size)
            .batch();
        self.server.bounded(action.into_future()).await
    }
}
