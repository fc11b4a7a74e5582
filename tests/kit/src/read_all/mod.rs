//! Reads the whole content of a server, so that a restored server can be compared with the original.
//!
//! Nothing is decoded: options, indexes and documents are the server's bytes. These are left out: `local`, `config`,
//! `system.views` (the views themselves are read) and `system.profile` of each database, and the `system.`
//! collections of `admin` except users and roles.

mod diff;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bson::{RawDocument, RawDocumentBuf, doc, rawdoc};
use mongodb::{Client, Database};

pub use diff::DiffOptions;

/// One collection, view or time series. The data of a time series `x` is under `system.buckets.x`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    /// `collection`, `view` or `timeseries`.
    pub kind: String,
    pub options: RawDocumentBuf,
    pub uuid: Option<[u8; 16]>,
    /// The rows of `listIndexes`, in its order.
    pub indexes: Vec<RawDocumentBuf>,
    /// In natural order.
    pub documents: Vec<Vec<u8>>,
}

/// The content of a server. The keys of namespaces are `(database, collection)`.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub namespaces: BTreeMap<(String, String), Namespace>,
    /// Documents of `admin.system.users` by `_id` (`database.user`).
    pub users: BTreeMap<String, Vec<u8>>,
    pub roles: BTreeMap<String, Vec<u8>>,
}

impl Snapshot {
    /// Keeps the namespaces for which `keep` returns true.
    pub fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        self.namespaces.retain(|(database, collection), _| keep(database, collection));
    }

    /// The number of all documents.
    pub fn documents(&self) -> usize {
        self.namespaces.values().map(|namespace| namespace.documents.len()).sum()
    }

    /// One namespace.
    pub fn get(&self, database: &str, collection: &str) -> Option<&Namespace> {
        self.namespaces.get(&(database.to_owned(), collection.to_owned()))
    }

    /// Describes the differences, one line each. Documents are compared as a multiset of raw bytes. UUIDs are not
    /// compared.
    pub fn diff(&self, other: &Snapshot) -> Vec<String> {
        self.diff_with(other, &DiffOptions::default())
    }

    pub fn diff_with(&self, other: &Snapshot, options: &DiffOptions) -> Vec<String> {
        diff::diff(self, other, options)
    }
}

/// Reads everything that the client's user may read. The user must have access to all databases.
pub async fn read_all(client: &Client) -> Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    let command = doc! { "listDatabases": 1, "nameOnly": true, "authorizedDatabases": false };
    let answer = client.database("admin").run_command(command).await?;
    for database in answer.get_array("databases")? {
        let name = database.as_document().context("listDatabases")?.get_str("name")?;
        if name != "local" && name != "config" {
            read_database(&client.database(name), &mut snapshot).await.with_context(|| name.to_owned())?;
        }
    }
    let admin = client.database("admin");
    snapshot.users = by_id(read_documents(&admin, "system.users").await.context("users")?)?;
    snapshot.roles = by_id(read_documents(&admin, "system.roles").await.context("roles")?)?;
    Ok(snapshot)
}

async fn read_database(database: &Database, snapshot: &mut Snapshot) -> Result<()> {
    for info in read_cursor(database, rawdoc! { "listCollections": 1 }).await? {
        let info = RawDocument::from_bytes(&info)?;
        let name = info.get_str("name")?;
        let skipped = match database.name() {
            "admin" => name.starts_with("system."),
            _ => name == "system.views" || name == "system.profile",
        };
        if skipped {
            continue;
        }
        let namespace = read_namespace(database, info).await.with_context(|| name.to_owned())?;
        snapshot.namespaces.insert((database.name().to_owned(), name.to_owned()), namespace);
    }
    Ok(())
}

async fn read_namespace(database: &Database, info: &RawDocument) -> Result<Namespace> {
    let name = info.get_str("name")?;
    let mut namespace = Namespace {
        kind: info.get_str("type")?.to_owned(),
        options: info.get_document("options")?.to_owned(),
        ..Namespace::default()
    };
    if let Ok(uuid) = info.get_document("info")?.get_binary("uuid") {
        namespace.uuid = Some(uuid.bytes.try_into()?);
    }
    // A view has neither; a time series has its indexes here and its data in its buckets.
    if namespace.kind != "view" {
        let list = rawdoc! { "listIndexes": name };
        for index in read_cursor(database, list).await? {
            namespace.indexes.push(RawDocumentBuf::from_bytes(index)?);
        }
    }
    if namespace.kind == "collection" {
        namespace.documents = read_documents(database, name).await?;
    }
    Ok(namespace)
}

/// Every document of one collection in natural order, as raw bytes.
pub async fn read_documents(database: &Database, collection: &str) -> Result<Vec<Vec<u8>>> {
    read_cursor(database, rawdoc! { "find": collection, "hint": { "$natural": 1 } }).await
}

/// All documents of a command's cursor, as raw bytes.
pub async fn read_cursor(database: &Database, command: RawDocumentBuf) -> Result<Vec<Vec<u8>>> {
    let mut cursor = database.run_raw_cursor_command(command).await?;
    let mut out = Vec::new();
    while cursor.advance().await? {
        out.push(cursor.current().as_bytes().to_vec());
    }
    Ok(out)
}

fn by_id(documents: Vec<Vec<u8>>) -> Result<BTreeMap<String, Vec<u8>>> {
    let id = |bytes: &[u8]| anyhow::Ok(RawDocument::from_bytes(bytes)?.get_str("_id")?.to_owned());
    documents.into_iter().map(|bytes| Ok((id(&bytes)?, bytes))).collect()
}
