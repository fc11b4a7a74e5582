//! Whose an operation is: the namespace that it writes to, by the name that users know.

use bson::RawDocument;

use super::{Filter, malformed, refusals};
use crate::base::error::Result;
use crate::config::selection::CONFIG;

/// The definitions of a database's views and time series.
const VIEWS: &str = "system.views";

impl Filter<'_> {
    /// Whether the namespace is part of the backup; a time series' buckets are the time series.
    pub(super) fn wants(&self, db: &str, collection: &str) -> bool {
        let collection = collection.strip_prefix("system.buckets.").unwrap_or(collection);
        // Of a `config` that is dumped whole the rest is the server's own state, which no restore may replay.
        (db != "config" || CONFIG.contains(&collection)) && self.selection.wants(db, collection)
    }

    /// The same of `database.collection`.
    pub(super) fn wants_namespace(&self, namespace: &str) -> bool {
        namespace.split_once('.').is_some_and(|(db, collection)| self.wants(db, collection))
    }

    /// Whether all of a database is part of the backup, so that it may be dropped as a whole.
    pub(super) fn wants_all_of(&self, db: &str) -> bool {
        self.selection.unfiltered() && self.selection.wants_database(db)
    }

    /// Whether an insert, update or delete is.
    pub(super) fn wants_document(&self, operation: &RawDocument) -> Result<bool> {
        let namespace = operation.get_str("ns").map_err(malformed)?;
        let Some((db, collection)) = namespace.split_once('.') else {
            return Err(malformed(format!("it writes to '{namespace}'")));
        };
        refusals::document(self, db, collection, operation)?;
        // A view is made, changed and dropped by writing to the collection of views (seen on 6.0.5): its `_id`
        // is the view's namespace, in an update's `o2`.
        if collection == VIEWS {
            let of = |field: &str| operation.get_document(field).ok()?.get_str("_id").ok();
            return Ok(of("o2").or_else(|| of("o")).is_some_and(|view| self.wants_namespace(view)));
        }
        Ok(self.wants(db, collection))
    }

    /// Whether a command on a collection is.
    pub(super) fn wants_command(&self, db: &str, command: &str, collection: &str) -> bool {
        match (command, collection) {
            // Without it a view that is made afterwards has no place. It harms nobody.
            ("create", VIEWS) => self.selection.may_want_of(db),
            // The views that go with it may not all be of the backup.
            (_, VIEWS) => self.wants_all_of(db),
            _ => self.wants(db, collection),
        }
    }
}
