//! Reading as of one instant: what is asked for, and the proof that it was given.
//!
//! `find` with `readConcern: {level: "snapshot", atClusterTime}` outside of a transaction, from MongoDB 5.0
//! on. Each find with the same time sees the same data, on any of the server's connections, and also when it
//! goes on behind a record that was deleted since. Seen on 6.0.5: a collection that was dropped or renamed
//! since is not an error but an empty answer, which only lacks the time; one that was made anew, or is
//! there by another's name, is SnapshotUnavailable (246); one of which an index or an option was changed
//! reads on. After `minSnapshotHistoryWindowInSeconds` all is SnapshotTooOld (239), `getMore` as well.

use bson::{RawDocument, RawDocumentBuf, Timestamp, rawdoc};

use super::scan::Scan;
use crate::base::error::{Error, Kind};
use crate::model::optime::OpTime;

/// The read concern of that time.
pub fn read_concern(at: OpTime) -> RawDocumentBuf {
    rawdoc! {"level": "snapshot", "atClusterTime": Timestamp::from(at)}
}

impl Scan {
    /// Holds the first reply of a cursor to the instant that it was asked for.
    pub(super) fn prove(&self, reply: &RawDocument) -> Result<(), Error> {
        let given = reply.get_document("cursor").and_then(|cursor| cursor.get_timestamp("atClusterTime"));
        match self.at {
            Some(at) if given.ok().map(OpTime::from) != Some(at) => {
                Err(self.not_any_more("it was dropped or renamed since"))
            }
            _ => Ok(()),
        }
    }

    /// The collection cannot be read as of the run's instant any more.
    pub(super) fn not_any_more(&self, cause: &str) -> Error {
        let when = self.at.map(|at| format!(" as of {at}")).unwrap_or_default();
        Error::new(Kind::Instant, format!("{} cannot be read{when} any more", self.name))
            .caused_by(cause)
            .hint(
                "MongoDB must keep its history for longer than a backup takes, see \
                 minSnapshotHistoryWindowInSeconds, and no collection be dropped or renamed before it is read; \
                 or use --consistency oplog (BACKUP_CONSISTENCY)",
            )
    }
}
