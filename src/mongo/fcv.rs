//! Asks a server for its feature compatibility version.

use bson::{doc, rawdoc};
use mongodb::Database;
use mongodb::error::{ErrorKind, Result};

use super::server;
use crate::model::server::Fcv;

/// Asks a server; `admin` is its database of that name. `None` if the user may not know, or the server has
/// none (FerretDB, for example). The built-in roles `backup` and `restore` may run `getParameter`; other users may
/// still be allowed to read `admin.system.version`. While the version is being changed, this is
/// the lower one.
///
/// # Errors
/// Returns an error if the connection breaks.
pub async fn of_server(admin: &Database) -> Result<Option<Fcv>> {
    const NAME: &str = "featureCompatibilityVersion";
    let command = admin.run_command(doc! {"getParameter": 1, NAME: 1});
    match command.selection_criteria(server::any_member()).await {
        Ok(reply) => {
            let value = reply.get_document(NAME).and_then(|value| value.get_str("version"));
            return Ok(value.ok().and_then(|text| text.parse().ok()));
        }
        Err(e) if !matches!(&*e.kind, ErrorKind::Command(_)) => return Err(e),
        Err(_) => {}
    }
    // mongos has no such parameter; this finds the one of its config servers.
    let find =
        rawdoc! {"find": "system.version", "filter": {"_id": NAME}, "limit": 1_i32, "singleBatch": true};
    match server::documents(admin, find).await {
        Ok(rows) => {
            let text = rows.first().and_then(|row| row.get_str("version").ok());
            Ok(text.and_then(|text| text.parse().ok()))
        }
        Err(e) if matches!(&*e.kind, ErrorKind::Command(_)) => Ok(None),
        Err(e) => Err(e),
    }
}
