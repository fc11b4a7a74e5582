//! Whether the user may read what a backup reads: to list a collection is another right than to find.

use bson::raw::cstr;
use bson::{RawDocumentBuf, rawdoc};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::base::error::Result;
use crate::model::namespace::Namespace;
use crate::mongo::errors;
use crate::mongo::errors::Class;
use crate::mongo::server;
use crate::mongo::server::Server;

/// How many questions are under way at once.
const ASKING: usize = 8;

/// Asks for one document of each namespace; the first that may not be read is the error.
pub async fn prove(server: &Server, namespaces: &[Namespace]) -> Result<()> {
    let read = namespaces.iter().filter(|namespace| namespace.has_documents());
    stream::iter(read.map(|namespace| one(server, namespace))).buffered(ASKING).try_collect().await
}

async fn one(server: &Server, namespace: &Namespace) -> Result<()> {
    let database = server.client().database(&namespace.db);
    let mut find = RawDocumentBuf::new();
    find.append(cstr!("find"), namespace.data_collection());
    find.append(cstr!("projection"), rawdoc! {"_id": 1_i32});
    find.append(cstr!("limit"), 1_i32);
    find.append(cstr!("singleBatch"), true);
    if namespace.is_raw() {
        find.append(cstr!("rawData"), true);
    }
    match server.ask(|| server::documents(&database, find.clone())).await {
        Ok(_) => Ok(()),
        // Dropped since it was listed, which a backup would tell.
        Err(e) if errors::classify(&e) == Class::CollectionGone => Ok(()),
        Err(e) => Err(server.explain(&format!("cannot read {namespace}"), e)),
    }
}
