//! Describes what a backup will read: databases, namespaces, their options and indexes, and their size.

use std::collections::{BTreeMap, BTreeSet};

use bson::raw::cstr;
use bson::{RawArrayBuf, RawDocumentBuf, rawdoc};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::base::error::{Error, Kind, Result};
use crate::base::suggest;
use crate::config::selection::{Pattern, Selection, is_of_swap};
use crate::dumpformat::metadata;
use crate::model::namespace::{BUCKETS, Namespace, Type};
use crate::model::server::Fcv;
use crate::model::versions;
use crate::mongo::commands;
use crate::mongo::errors::{self, Class};
use crate::mongo::listing::{self, Listing};
use crate::mongo::server::Server;

/// The number of requests at the same time to a server that is near.
const ASKING: usize = 8;
/// The most requests to a server at the same time.
const MOST_ASKING: usize = 32;

/// The number of requests to the server at the same time: one more for each millisecond of the round trip.
fn asking(server: &Server) -> usize {
    (ASKING + server.round_trip().as_millis() as usize).min(MOST_ASKING)
}

/// The UUIDs of collections by database and name.
pub type Uuids = BTreeMap<(String, String), String>;

/// The data that a backup will read.
#[derive(Debug, Default)]
pub struct Description {
    /// The namespaces in the order of the artifact: first users, roles and their version, which a reader of an archive must see
    /// before anything else, then the others by name.
    pub namespaces: Vec<Namespace>,
    /// The UUIDs of all collections in the databases that are read.
    pub uuids: Uuids,
    /// The size of the documents, uncompressed; `None` if the user may not ask for it.
    pub raw_bytes: Option<u64>,
    /// The size of the databases on the server's disk, if `raw_bytes` is `None`. Users with the built-in role `backup` may
    /// read only this size.
    pub disk_bytes: Option<u64>,
    /// The server's feature compatibility version; `None` if the user may not read it, or the server has none.
    pub feature_compatibility: Option<Fcv>,
    /// Warnings about the described namespaces: a line for each view with an invalid definition.
    pub warnings: Vec<String>,
    /// The databases whose collections mongodump cannot list, because of such a view.
    pub unlistable: Vec<String>,
    /// The number of collections that restores with `--swap` filled or keep. They are left out.
    pub of_restores: u64,
}

/// Describes the selected namespaces of the server.
///
/// # Errors
/// Returns an error if a database or a namespace may not be listed; it is named, never left out. Returns an error if a selected
/// database does not exist, or an `include` pattern matches nothing.
pub async fn describe(server: &Server, selection: &Selection) -> Result<Description> {
    let (description, databases) = list_namespaces(server, selection).await?;
    let sizes = async {
        match raw_bytes(server, selection, &databases, &description.namespaces).await {
            Some(bytes) => (Some(bytes), None),
            None => (None, on_disk(server, &databases).await),
        }
    };
    let ((raw_bytes, disk_bytes), version) = tokio::join!(sizes, server.feature_compatibility());
    Ok(Description { raw_bytes, disk_bytes, feature_compatibility: version?, ..description })
}

/// Describes `selection` as [`describe`] does, for a backup.
///
/// # Errors
/// Returns also an error if the server has no user data, unless `allow_empty` is set: it is more likely the wrong server.
pub async fn describe_for_backup(
    server: &Server,
    selection: &Selection,
    allow_empty: bool,
) -> Result<Description> {
    let description = describe(server, selection).await?;
    let of_users = |db: &str| db != "admin" && db != "config";
    let asked = selection.databases.iter().any(|db| !of_users(db));
    let counts = |db: &str| of_users(db) || (!asked && !selection.whole_server());
    if allow_empty || description.namespaces.iter().any(|n| counts(&n.db)) {
        return Ok(description);
    }
    Err(Error::failed(format!("MongoDB at {} has no collections to back up", server.hello.address))
        .hint("Check that MONGO_URI names the right server; if it really is empty, use --allow-empty"))
}

/// Checks that the user may read every namespace, by asking for one document of each: the right to list a collection does
/// not include the right to read it.
///
/// # Errors
/// Returns an error that names the first namespace that may not be read.
pub async fn prove_readable(server: &Server, namespaces: &[Namespace]) -> Result<()> {
    let read = namespaces.iter().filter(|namespace| namespace.has_documents());
    stream::iter(read.map(|namespace| readable(server, namespace)))
        .buffered(asking(server))
        .try_collect()
        .await
}

async fn readable(server: &Server, namespace: &Namespace) -> Result<()> {
    let mut find = rawdoc! {
        "find": namespace.data_collection(), "projection": {"_id": 1}, "limit": 1, "singleBatch": true,
    };
    if namespace.is_raw() {
        find.append(cstr!("rawData"), true);
    }
    match server.documents(&namespace.db, find).await {
        Ok(_) => Ok(()),
        // The collection was dropped after it was listed. A backup reports this.
        Err(e) if errors::classify(&e) == Class::CollectionGone => Ok(()),
        Err(e) => Err(server.explain(&format!("cannot read {namespace}"), e)),
    }
}

/// Lists the selected namespaces with their options and indexes. Returns a description without sizes, and the databases.
pub(super) async fn list_namespaces(
    server: &Server,
    selection: &Selection,
) -> Result<(Description, Vec<String>)> {
    let databases = databases(server, selection).await?;
    let mut rows = Vec::new();
    let mut description = Description::default();
    for (db, Listing { rows: found, invalid }) in databases.iter().zip(lists(server, &databases).await?) {
        if found.is_empty() && !selection.whole_server() {
            return Err(missing(server, db).await);
        }
        if let Some(invalid) = invalid {
            let wants = |view: &str| selection.wants(db, view);
            let warnings = invalid.warnings(db, &wants, selection.may_want_any_of(db));
            description.warnings.extend(warnings);
            description.unlistable.push(db.clone());
        }
        collect_uuids(db, &found, &mut description.uuids);
        for row in found {
            let name = row.get_str("name").map_err(|e| malformed(server, e))?.to_string();
            description.of_restores += u64::from(is_of_swap(&name));
            rows.push((db.as_str(), name, row));
        }
    }
    let all = rows.iter().map(|(db, name, row)| (*db, name.as_str(), row));
    let mut wanted: Vec<_> = all.filter(|(db, name, _)| selection.wants(db, name)).collect();
    for pattern in &selection.include {
        if !wanted.iter().any(|(db, name, _)| pattern.matches(&format!("{db}.{name}"))) {
            let names = rows.iter().filter(|(db, name, _)| selection.could_want(db, name));
            let names: Vec<String> = names.map(|(db, name, _)| format!("{db}.{name}")).collect();
            return Err(unmatched(server, pattern, &names));
        }
    }
    let is_series = |row: &RawDocumentBuf| row.get_str("type").is_ok_and(|kind| kind == "timeseries");
    let series: Vec<_> = wanted.iter().filter(|(_, _, row)| is_series(row)).collect();
    let raw = !series.is_empty() && versions::has_raw_data(&server.version().await?);
    for (db, name, _) in series {
        let buckets = (db.to_string(), format!("{BUCKETS}{name}"));
        if !raw && !description.uuids.contains_key(&buckets) {
            let address = &server.hello.address;
            let text =
                format!("the time series {db}.{name} cannot be read: {address} lists no {}", buckets.1);
            return Err(Error::moved(text));
        }
    }
    wanted.sort_by_key(|(db, name, _)| (rank(db, name), *db, *name));
    description.namespaces = stream::iter(wanted)
        .map(|(db, name, row)| namespace(server, db, name, row, raw))
        .buffered(asking(server))
        .try_collect()
        .await?;
    Ok((description, databases))
}

/// The error for a selected database that does not exist, with the names that are most similar to it.
async fn missing(server: &Server, db: &str) -> Error {
    // The server lists only the databases that the user may read.
    let command = rawdoc! {"listDatabases": 1, "nameOnly": true};
    let reply = server.command("admin", command).await.unwrap_or_default();
    let names = commands::database_names(&reply);
    let of_users = |name: &&str| *name != "admin" && *name != "config";
    let names = names.filter(|name| Selection::default().wants_database(name)).filter(of_users);
    let there = suggest::nearest(db, names);
    let there =
        if there.is_empty() { String::new() } else { format!("; similar names: {}", there.join(", ")) };
    Error::new(Kind::Missing, format!("the database '{db}' does not exist on {}", server.hello.address)).hint(
        format!("Check the spelling in --db, BACKUP_DATABASES or MONGO_URI, names are case-sensitive{there}"),
    )
}

/// The error for an `include` pattern that matches none of `names`, the namespaces that could be selected.
fn unmatched(server: &Server, pattern: &Pattern, names: &[String]) -> Error {
    let place = &server.hello.address;
    if names.iter().any(|name| pattern.matches(name)) {
        let what =
            format!("all namespaces on {place} that match the include pattern '{pattern}' are excluded");
        return Error::failed(what).hint("Narrow --exclude or BACKUP_EXCLUDE, or remove the include pattern");
    }
    let advice = suggest::advice(&pattern.to_string(), names.iter().map(String::as_str));
    let step = advice.unwrap_or_else(|| {
        "There is no collection to back up: check that MONGO_URI and --db name the right server and database".into()
    });
    Error::failed(format!("no namespace on {place} matches the include pattern '{pattern}'")).hint(step)
}

/// The UUIDs that all collections in the selected databases have now.
pub async fn uuids(server: &Server, selection: &Selection) -> Result<Uuids> {
    let mut out = Uuids::new();
    let databases = databases(server, selection).await?;
    for (db, listing) in databases.iter().zip(lists(server, &databases).await?) {
        collect_uuids(db, &listing.rows, &mut out);
    }
    Ok(out)
}

async fn databases(server: &Server, selection: &Selection) -> Result<Vec<String>> {
    if !selection.whole_server() {
        let unique: BTreeSet<&String> = selection.databases.iter().collect();
        return Ok(unique.into_iter().cloned().collect());
    }
    // Without authorizedDatabases: false, a user with few rights gets only its own databases, and no error.
    let command = rawdoc! {"listDatabases": 1, "nameOnly": true, "authorizedDatabases": false};
    let reply = server.command("admin", command).await;
    let reply = reply.map_err(|e| server.explain("cannot list all databases", e))?;
    reply.get_array("databases").map_err(|e| malformed(server, e))?;
    let mut names: Vec<String> = commands::database_names(&reply)
        .filter(|name| selection.wants_database(name))
        .map(str::to_string)
        .collect();
    names.sort();
    Ok(names)
}

/// The collections of each database.
async fn lists(server: &Server, databases: &[String]) -> Result<Vec<Listing>> {
    let list = async |db: &String| {
        let database = server.database(db);
        let listing = server.ask(|| listing::list(&database)).await;
        listing.map_err(|e| server.explain(&format!("cannot list the collections of database '{db}'"), e))
    };
    stream::iter(databases).map(list).buffered(asking(server)).try_collect().await
}

fn collect_uuids(db: &str, rows: &[RawDocumentBuf], uuids: &mut Uuids) {
    for row in rows {
        if let (Ok(name), Some(uuid)) = (row.get_str("name"), commands::uuid_of(row)) {
            // A time series has the UUID of its bucket collection, if it has one.
            if let Some(series) = name.strip_prefix(BUCKETS) {
                uuids.insert((db.to_string(), series.to_string()), uuid.clone());
            }
            uuids.insert((db.to_string(), name.to_string()), uuid);
        }
    }
}

/// The rank in the artifact's order: users, roles and their version come first.
fn rank(db: &str, name: &str) -> u8 {
    match (db, name) {
        ("admin", "system.users") => 0,
        ("admin", "system.roles") => 1,
        ("admin", "system.version") => 2,
        _ => 3,
    }
}

/// Completes a row of `listCollections` with the indexes. `raw` is true if the server has the buckets of a time series under
/// the series' own name.
async fn namespace(
    server: &Server,
    db: &str,
    name: &str,
    row: &RawDocumentBuf,
    raw: bool,
) -> Result<Namespace> {
    let kind = match row.get_str("type").unwrap_or("collection") {
        "view" => Type::View,
        "timeseries" => Type::Timeseries,
        _ => Type::Collection,
    };
    let options = row.get_document("options").map(|d| d.to_owned()).unwrap_or_default();
    let indexes = if kind == Type::View {
        Vec::new()
    } else {
        let command = rawdoc! {"listIndexes": name, "cursor": {"batchSize": 1_000}};
        match server.documents(db, command).await {
            Ok(indexes) => indexes,
            // The namespace stays in the list. The check at the end of the run finds out whether it was dropped, or renamed to a
            // name that is not in this list.
            Err(e) if errors::classify(&e) == Class::CollectionGone => Vec::new(),
            Err(e) => return Err(server.explain(&format!("cannot read the indexes of {db}.{name}"), e)),
        }
    };
    let uuid = commands::uuid_of(row);
    let metadata = metadata::render(name, kind, uuid.as_deref(), &options, &indexes).map_err(|e| {
        Error::failed(format!("the options or indexes of {db}.{name} cannot be written as JSON")).caused_by(e)
    })?;
    Ok(Namespace {
        db: db.into(),
        collection: name.into(),
        kind,
        buckets: (kind == Type::Timeseries && !raw).then(|| format!("{BUCKETS}{name}")),
        uuid,
        options,
        indexes,
        metadata,
    })
}

fn malformed(server: &Server, error: impl std::fmt::Display) -> Error {
    Error::failed(format!("MongoDB at {} sent a malformed reply", server.hello.address))
        .caused_by(error.to_string())
}

/// The size of the selected documents, uncompressed; `None` if the user may not ask for it.
async fn raw_bytes(
    server: &Server,
    selection: &Selection,
    databases: &[String],
    namespaces: &[Namespace],
) -> Option<u64> {
    // Patterns may select a small part of a large database. The size of the whole would make a sufficient disk look too small.
    if !selection.unfiltered()
        && let Some(bytes) = collection_sizes(server, namespaces).await
    {
        return Some(bytes);
    }
    let size = async |db: &String| {
        let command = rawdoc! {"dbStats": 1_i32, "scale": 1};
        ask_number(server, db, command, "dataSize").await.ok_or(())
    };
    let Some((first, others)) = databases.split_first() else { return Some(0) };
    // A user who may not ask is refused once.
    let first = size(first).await.ok()?;
    let sizes = stream::iter(others).map(size).buffered(asking(server));
    sizes.try_fold(first, |total, bytes| async move { Ok(total + bytes) }).await.ok()
}

async fn collection_sizes(server: &Server, namespaces: &[Namespace]) -> Option<u64> {
    let sizes = stream::iter(namespaces.iter().filter(|n| n.has_documents())).map(|namespace| async {
        let command = rawdoc! {"collStats": namespace.collection.as_str(), "scale": 1};
        ask_number(server, &namespace.db, command, "size").await.ok_or(())
    });
    sizes.buffered(asking(server)).try_fold(0, |total, bytes| async move { Ok(total + bytes) }).await.ok()
}

/// Returns a number in the server's answer to `command`.
async fn ask_number(server: &Server, db: &str, command: RawDocumentBuf, field: &str) -> Option<u64> {
    commands::number(server.command(db, command).await.ok()?.get(field)?)
}

/// The size of the databases on the server's disk.
async fn on_disk(server: &Server, databases: &[String]) -> Option<u64> {
    let databases: RawArrayBuf = databases.iter().map(String::as_str).collect();
    let command = rawdoc! {"listDatabases": 1, "filter": {"name": {"$in": databases}}};
    let reply = server.command("admin", command).await.ok()?;
    let rows = reply.get_array("databases").ok()?;
    rows.iter().map(|row| commands::number(row.as_document()?.get("sizeOnDisk")?)).sum()
}
