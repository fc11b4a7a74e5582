//! Commands in the oplog.

use bson::RawDocument;
use bson::raw::RawBsonRef;

use super::{Filter, Kept, malformed, refusals};
use crate::base::error::Result;

impl Filter<'_> {
    /// A command: the first field of `o` is its name and, mostly, the collection.
    pub(super) fn command(&self, operation: &RawDocument) -> Result<Kept> {
        let namespace = operation.get_str("ns").map_err(malformed)?;
        let db = namespace.split_once('.').map_or(namespace, |(db, _)| db);
        let command = operation.get_document("o").map_err(malformed)?;
        let (name, value) =
            command.iter().next().ok_or_else(|| malformed("a command is empty"))?.map_err(malformed)?;
        let name = name.as_str();
        refusals::command(self, db, name, value, command)?;
        let wanted = match (name, value) {
            ("applyOps", RawBsonRef::Array(operations)) => return self.apply_ops(operation, operations),
            // MongoDB 8.3 and later write these commands about the server's own storage. mongorestore leaves them out, too.
            ("dropIdent" | "createDatabaseMetadata" | "dropDatabaseMetadata", _) => false,
            // Refused above where it is of the backup.
            ("renameCollection" | "importCollection" | "upgradeDowngradeViewlessTimeseries", _) => false,
            (_, RawBsonRef::String(collection)) => self.wants_command(db, name, collection),
            // `dropDatabase`, of whose collections each was dropped by an entry of its own (seen on 6.0.5); and
            // what a newer server may do to a database.
            _ => self.wants_all_of(db),
        };
        Ok(if wanted { Kept::Whole } else { Kept::Nothing })
    }
}
