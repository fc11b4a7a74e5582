//! How much there is to read, as far as the server tells.

use bson::{RawDocumentBuf, rawdoc};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::config::selection::Selection;
use crate::model::namespace::Namespace;
use crate::mongo::commands;
use crate::mongo::server::Server;

/// How many questions are under way at once.
const ASKING: usize = 8;

/// The raw bytes of what is read, where the user may ask for them.
pub async fn raw_bytes(
    server: &Server,
    selection: &Selection,
    databases: &[String],
    namespaces: &[Namespace],
) -> Option<u64> {
    // Patterns may choose a little of much: a disk that has room for it must not be called too small.
    if !selection.unfiltered()
        && let Some(bytes) = of_collections(server, namespaces).await
    {
        return Some(bytes);
    }
    let mut total = 0;
    for db in databases {
        let command = rawdoc! {"dbStats": 1_i32, "scale": 1_i32};
        total += asked(server, db, command, "dataSize").await?;
    }
    Some(total)
}

async fn of_collections(server: &Server, namespaces: &[Namespace]) -> Option<u64> {
    let sizes = stream::iter(namespaces.iter().filter(|n| n.has_documents())).map(|namespace| async {
        let command = rawdoc! {"collStats": namespace.collection.as_str(), "scale": 1_i32};
        asked(server, &namespace.db, command, "size").await.ok_or(())
    });
    sizes.buffered(ASKING).try_fold(0, |total, bytes| async move { Ok(total + bytes) }).await.ok()
}

/// A number in the server's answer to `command`.
async fn asked(server: &Server, db: &str, command: RawDocumentBuf, field: &str) -> Option<u64> {
    let database = server.client().database(db);
    let ask = || {
        let answer = database.run_raw_command(command.clone()).selection_criteria(commands::any_member());
        answer.into_future()
    };
    let reply = server.ask(ask).await.ok()?;
    number(reply.get(field)?)
}

/// What the databases take on the server's disk.
pub async fn on_disk(server: &Server, databases: &[String]) -> Option<u64> {
    let command = bson::doc! {"listDatabases": 1, "filter": {"name": {"$in": databases}}};
    let admin = server.client().database("admin");
    let ask = || {
        let answer = admin.run_command(command.clone()).selection_criteria(commands::any_member());
        answer.into_future()
    };
    let reply = server.ask(ask).await.ok()?;
    let rows = reply.get_array("databases").ok()?;
    rows.iter().map(|row| number(row.as_document()?.get("sizeOnDisk")?)).sum()
}

fn number(value: &bson::Bson) -> Option<u64> {
    match value {
        bson::Bson::Int32(n) => u64::try_from(*n).ok(),
        bson::Bson::Int64(n) => u64::try_from(*n).ok(),
        bson::Bson::Double(n) => Some(*n as u64),
        _ => None,
    }
}
