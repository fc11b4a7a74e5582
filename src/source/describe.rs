//! Describes what a backup will read: databases, namespaces, their options and indexes, and their size.

use std::collections::{BTreeMap, BTreeSet};

use bson::raw::cstr;
use bson::{Bson, RawDocumentBuf, rawdoc};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::base::error::{Error, Kind, Result};
use crate::base::suggest;
use crate::config::selection::Pattern;
use crate::config::selection::Selection;
use crate::dumpformat::metadata;
use crate::model::namespace::{Namespace, Type};
use crate::model::server::Fcv;
use crate::model::versions;
use crate::mongo::commands;
use crate::mongo::errors;
use crate::mongo::errors::Class;
use crate::mongo::listing;
use crate::mongo::listing::Listing;
use crate::mongo::server::Server;

/// The prefix of the collection that holds a time series' documents.
pub const BUCKETS: &str = "system.buckets.";

/// The number of questions to the server at the same time.
const ASKING: usize = 8;

/// The UUIDs of collections by database and name.
pub type Uuids = BTreeMap<(String, String), String>;

/// The data that a backup will read.
#[derive(Debug)]
pub struct Description {
    /// The namespaces in the order of the artifact: first users, roles and their version, which a reader of an archive must see
    /// before anything else, then the others by name.
    pub namespaces: Vec<Namespace>,
    /// The UUIDs of all collections in the databases that are read.
    pub uuids: Uuids,
    /// The size of the documents, uncompressed; `None` if the user may not ask for it.
    pub raw_bytes: Option<u64>,
    /// The size of the databases on the server's disk, if `raw_bytes` is `None`. Users with the built-in role `backup` may know
    /// only this size.
    pub disk_bytes: Option<u64>,
    /// The server's feature compatibility version; `None` if the user may not know it, or the server has none.
    pub feature_compatibility: Option<Fcv>,
    /// Warnings about the described namespaces: a line for each view with an invalid definition.
    pub warnings: Vec<String>,
    /// The databases whose collections mongodump cannot list, because of such a view.
    pub unlistable: Vec<String>,
}

/// Describes the selected namespaces of the server.
///
/// # Errors
/// Returns an error if a database or a namespace may not be listed; it is named, never left out. Returns an error if a selected
/// database does not exist, or an `include` pattern matches nothing.
pub async fn describe(server: &Server, selection: &Selection) -> Result<Description> {
    let NamespaceList { databases, namespaces, uuids, warnings, unlistable } =
        list_namespaces(server, selection).await?;
    let raw_bytes = raw_bytes(server, selection, &databases, &namespaces).await;
    let disk_bytes = if raw_bytes.is_none() { on_disk(server, &databases).await } else { None };
    let feature_compatibility = server.feature_compatibility().await?;
    Ok(Description { namespaces, uuids, raw_bytes, disk_bytes, feature_compatibility, warnings, unlistable })
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
    stream::iter(read.map(|namespace| readable(server, namespace))).buffered(ASKING).try_collect().await
}

async fn readable(server: &Server, namespace: &Namespace) -> Result<()> {
    let database = server.client().database(&namespace.db);
    let mut find = RawDocumentBuf::new();
    find.append(cstr!("find"), namespace.data_collection());
    find.append(cstr!("projection"), rawdoc! {"_id": 1_i32});
    find.append(cstr!("limit"), 1_i32);
    find.append(cstr!("singleBatch"), true);
    if namespace.is_raw() {
        find.append(cstr!("rawData"), true);
    }
    match server.ask(|| commands::documents(&database, find.clone())).await {
        Ok(_) => Ok(()),
        // Dropped since it was listed, which a backup reports.
        Err(e) if errors::classify(&e) == Class::CollectionGone => Ok(()),
        Err(e) => Err(server.explain(&format!("cannot read {namespace}"), e)),
    }
}

/// The selected namespaces in the server's lists. The fields have the meaning that they have in [`Description`].
pub(super) struct NamespaceList {
    databases: Vec<String>,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) uuids: Uuids,
    warnings: Vec<String>,
    unlistable: Vec<String>,
}

/// Lists the selected namespaces with their options and indexes.
///
/// # Errors
/// Returns an error in the cases of [`describe`].
pub(super) async fn list_namespaces(server: &Server, selection: &Selection) -> Result<NamespaceList> {
    let databases = databases(server, selection).await?;
    let mut rows = Vec::new();
    let mut uuids = Uuids::new();
    let (mut warnings, mut unlistable) = (Vec::new(), Vec::new());
    for db in &databases {
        let Listing { rows: found, invalid } = list(server, db).await?;
        if found.is_empty() && !selection.whole_server() {
            return Err(missing(server, db).await);
        }
        if let Some(invalid) = invalid {
            let wants = |view: &str| selection.wants(db, view);
            warnings.extend(invalid.warnings(db, &wants, selection.may_want_any_of(db)));
            unlistable.push(db.clone());
        }
        collect_uuids(db, &found, &mut uuids);
        rows.extend(found.into_iter().map(|row| (db.clone(), row)));
    }
    let mut wanted = Vec::new();
    for (db, row) in &rows {
        let name = row.get_str("name").map_err(|e| malformed(server, e))?;
        if selection.wants(db, name) {
            wanted.push((db.as_str(), name, row));
        }
    }
    for pattern in &selection.include {
        if !wanted.iter().any(|(db, name, _)| pattern.matches(&format!("{db}.{name}"))) {
            let names = rows
                .iter()
                .filter_map(|(db, row)| Some((db, row.get_str("name").ok()?)))
                .filter(|(db, name)| selection.could_want(db, name))
                .map(|(db, name)| format!("{db}.{name}"));
            return Err(unmatched(server, pattern, &names.collect::<Vec<_>>()));
        }
    }
    let mut raw = false;
    if wanted.iter().any(|(_, _, row)| row.get_str("type").is_ok_and(|kind| kind == "timeseries")) {
        raw = versions::has_raw_data(&server.version().await?);
        for (db, name, row) in &wanted {
            let buckets = (db.to_string(), format!("{BUCKETS}{name}"));
            if row.get_str("type").is_ok_and(|kind| kind == "timeseries")
                && !raw
                && !uuids.contains_key(&buckets)
            {
                let address = &server.hello.address;
                let text =
                    format!("the time series {db}.{name} cannot be read: {address} lists no {}", buckets.1);
                return Err(Error::moved(text));
            }
        }
    }
    wanted.sort_by_key(|(db, name, _)| (rank(db, name), *db, *name));
    let namespaces = stream::iter(wanted)
        .map(|(db, name, row)| namespace(server, db, name, row, raw))
        .buffered(ASKING)
        .try_collect()
        .await?;
    Ok(NamespaceList { databases, namespaces, uuids, warnings, unlistable })
}

/// The error that a selected database does not exist, with the names that are nearest to it.
async fn missing(server: &Server, db: &str) -> Error {
    let admin = server.client().database("admin");
    // The server lists only the databases that the user may read.
    let command = bson::doc! {"listDatabases": 1, "nameOnly": true};
    let ask = || admin.run_command(command.clone()).selection_criteria(commands::any_member()).into_future();
    let reply = server.ask(ask).await.unwrap_or_default();
    let rows = reply.get_array("databases").map(Vec::as_slice).unwrap_or_default();
    let names = rows.iter().filter_map(|row| row.as_document()?.get_str("name").ok());
    let of_users = |name: &&str| *name != "admin" && *name != "config";
    let there =
        suggest::nearest(db, names.filter(|name| Selection::default().wants_database(name)).filter(of_users));
    let there = if there.is_empty() { String::new() } else { format!("; the nearest: {}", there.join(", ")) };
    Error::new(Kind::Missing, format!("the database '{db}' does not exist on {}", server.hello.address)).hint(
        format!("Check the spelling in --db, BACKUP_DATABASES or MONGO_URI, names are case-sensitive{there}"),
    )
}

/// The error that an `include` pattern selects none of `names`, the namespaces that could be selected.
fn unmatched(server: &Server, pattern: &Pattern, names: &[String]) -> Error {
    let place = &server.hello.address;
    if names.iter().any(|name| pattern.matches(name)) {
        let what =
            format!("all namespaces on {place} that match the include pattern '{pattern}' are excluded");
        return Error::failed(what).hint("Narrow --exclude or BACKUP_EXCLUDE, or remove the include pattern");
    }
    let step = match suggest::advice(&pattern.to_string(), names.iter().map(String::as_str)) {
        Some(advice) => advice,
        None => "There is no collection to back up: check that MONGO_URI and --db name the right server and \
                 database"
            .into(),
    };
    Error::failed(format!("no namespace on {place} matches the include pattern '{pattern}'")).hint(step)
}

/// The UUIDs that all collections in the selected databases have now.
///
/// # Errors
/// Returns an error if a database may not be listed.
pub async fn uuids(server: &Server, selection: &Selection) -> Result<Uuids> {
    let mut out = Uuids::new();
    for db in databases(server, selection).await? {
        collect_uuids(&db, &list(server, &db).await?.rows, &mut out);
    }
    Ok(out)
}

async fn databases(server: &Server, selection: &Selection) -> Result<Vec<String>> {
    if !selection.whole_server() {
        let unique: BTreeSet<&String> = selection.databases.iter().collect();
        return Ok(unique.into_iter().cloned().collect());
    }
    // Without authorizedDatabases: false, a user with few rights gets only its own databases, and no error.
    let command = bson::doc! {"listDatabases": 1, "nameOnly": true, "authorizedDatabases": false};
    let admin = server.client().database("admin");
    let reply = server
        .ask(|| admin.run_command(command.clone()).selection_criteria(commands::any_member()).into_future())
        .await
        .map_err(|e| server.explain("cannot list all databases", e))?;
    let rows = reply.get_array("databases").map_err(|e| malformed(server, e))?;
    let names = rows.iter().filter_map(|row| row.as_document()?.get_str("name").ok());
    let mut names: Vec<String> =
        names.filter(|name| selection.wants_database(name)).map(str::to_string).collect();
    names.sort();
    Ok(names)
}

async fn list(server: &Server, db: &str) -> Result<Listing> {
    let database = server.client().database(db);
    server
        .ask(|| listing::list(&database))
        .await
        .map_err(|e| server.explain(&format!("cannot list the collections of database '{db}'"), e))
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
        let database = server.client().database(db);
        match server.ask(|| commands::list_indexes(&database, name)).await {
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
    let mut total = 0;
    for db in databases {
        let command = rawdoc! {"dbStats": 1_i32, "scale": 1_i32};
        total += ask_number(server, db, command, "dataSize").await?;
    }
    Some(total)
}

async fn collection_sizes(server: &Server, namespaces: &[Namespace]) -> Option<u64> {
    let sizes = stream::iter(namespaces.iter().filter(|n| n.has_documents())).map(|namespace| async {
        let command = rawdoc! {"collStats": namespace.collection.as_str(), "scale": 1_i32};
        ask_number(server, &namespace.db, command, "size").await.ok_or(())
    });
    sizes.buffered(ASKING).try_fold(0, |total, bytes| async move { Ok(total + bytes) }).await.ok()
}

/// Returns a number in the server's answer to `command`.
async fn ask_number(server: &Server, db: &str, command: RawDocumentBuf, field: &str) -> Option<u64> {
    let database = server.client().database(db);
    let ask = || {
        let answer = database.run_raw_command(command.clone()).selection_criteria(commands::any_member());
        answer.into_future()
    };
    let reply = server.ask(ask).await.ok()?;
    number(reply.get(field)?)
}

/// The size of the databases on the server's disk.
async fn on_disk(server: &Server, databases: &[String]) -> Option<u64> {
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

fn number(value: &Bson) -> Option<u64> {
    match value {
        Bson::Int32(n) => u64::try_from(*n).ok(),
        Bson::Int64(n) => u64::try_from(*n).ok(),
        Bson::Double(n) => Some(*n as u64),
        _ => None,
    }
}
