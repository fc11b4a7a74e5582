//! What no replay can bring about on collections that were read meanwhile. mongodump refuses the same
//! (mongo-tools, `mongodump/oplog_dump.go`), of whatever namespace, and looks for it in every entry's `o`: a
//! user's document with a field `renameCollection` stops it, and a rename inside `applyOps` does not.

use bson::RawDocument;
use bson::raw::RawBsonRef;

use super::Filter;
use crate::base::error::{Error, Result};

/// Where a server keeps what it is resharding.
const RESHARDING: [&str; 3] =
    ["reshardingOperations", "localReshardingOperations.donor", "localReshardingOperations.recipient"];

/// Refuses a write.
pub(super) fn document(
    filter: &Filter<'_>,
    db: &str,
    collection: &str,
    operation: &RawDocument,
) -> Result<()> {
    if db == "admin" && collection == "system.version" && filter.wants(db, collection) {
        return Err(refused(
            "admin.system.version was written to: the first user was made, or the feature compatibility version \
             was changed",
            "Back up again when that is over",
        ));
    }
    if db == "config" && RESHARDING.contains(&collection) {
        let namespace = operation.get_document("o").and_then(|o| o.get_str("ns")).unwrap_or_default();
        if filter.wants_namespace(namespace) {
            return Err(resharded(namespace));
        }
    }
    Ok(())
}

/// Refuses a command: its name, the value of it, and all of it.
pub(super) fn command(
    filter: &Filter<'_>,
    db: &str,
    name: &str,
    value: RawBsonRef<'_>,
    command: &RawDocument,
) -> Result<()> {
    let RawBsonRef::String(value) = value else { return Ok(()) };
    match name {
        "renameCollection" => {
            let to = command.get_str("to").unwrap_or_default();
            match [value, to].into_iter().any(|namespace| filter.wants_namespace(namespace)) {
                false => Ok(()),
                true if value.contains(".system.resharding.") => Err(resharded(to)),
                true => Err(refused(
                    &format!("{value} was renamed to {to}"),
                    "Back up when nobody renames collections ($out, mapReduce and convertToCapped do, too), leave \
                     this one out with --exclude, or use --consistency snapshot or none",
                )),
            }
        }
        "importCollection" if filter.wants_namespace(value) || filter.wants(db, value) => {
            Err(refused(&format!("{value} was imported"), "Back up again when the import is over"))
        }
        "upgradeDowngradeViewlessTimeseries" if filter.wants(db, value) => Err(refused(
            &format!("the time series {db}.{value} was converted to another format"),
            "Back up again when the server's upgrade or downgrade is over",
        )),
        _ => Ok(()),
    }
}

fn resharded(namespace: &str) -> Error {
    refused(
        &format!("{namespace} was resharded"),
        "Back up again when the resharding is over: sh.status() shows it",
    )
}

fn refused(what: &str, hint: &str) -> Error {
    Error::moved(format!("{what} during the run, which an oplog slice cannot hold")).hint(hint)
}
