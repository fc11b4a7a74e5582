//! Lists the collections and views of a database, even if the server refuses to list them.
//!
//! One invalid definition in `system.views` makes every `listCollections` of that database fail with
//! InvalidViewDefinition (182), except with the exact filter that drivers send to list only collections. `find`,
//! `count` and `listIndexes` still work. Seen on 4.4.2, 5.0.32 and 6.0.27. This module then reads the views from
//! `system.views`, for which the built-in role `backup` is not enough.

use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use mongodb::Database;
use mongodb::error::Result;

use super::commands;
use super::errors::{self, Class};
use crate::dumpformat::extjson;
use crate::model::namespace::BUCKETS;

/// The error code InvalidViewDefinition.
const INVALID_VIEW: i32 = 182;
/// The collection of a database's view definitions.
const VIEWS: &str = "system.views";
/// The options of a bucket collection that are also options of its time series (server source 6.0:
/// `timeseries_options.cpp`).
const TIMESERIES_OPTIONS: [&str; 5] =
    ["timeseries", "expireAfterSeconds", "collation", "storageEngine", "indexOptionDefaults"];

/// The collections and views of a database.
#[derive(Debug, Default)]
pub struct Listing {
    /// The rows of `listCollections`.
    pub rows: Vec<RawDocumentBuf>,
    /// Set if the server refuses to list the database because the definition of a view is invalid.
    pub invalid: Option<InvalidViews>,
}

/// View definitions that the server does not accept.
#[derive(Debug, Clone, PartialEq)]
pub struct InvalidViews {
    /// The invalid definitions; if none of them looks invalid to this tool, all definitions of the database.
    definitions: Vec<ViewDefinition>,
    /// True if all of the definitions are invalid; false if only some may be.
    certain: bool,
    /// The user may not read `system.views`, so no view of the database is listed.
    unread: bool,
}

/// A document of `system.views`.
#[derive(Debug, Clone, PartialEq)]
struct ViewDefinition {
    /// The view's name; `None` if the document names no view of its database.
    view: Option<String>,
    /// The document as Extended JSON.
    json: String,
}

/// Lists the collections and views of a database.
pub async fn list(db: &Database) -> Result<Listing> {
    match commands::documents(db, command(rawdoc! {})).await {
        Ok(rows) => Ok(Listing { rows, invalid: None }),
        Err(e) if errors::code(&e) == Some(INVALID_VIEW) => list_around_invalid(db).await,
        Err(e) => Err(e),
    }
}

/// The row that `listCollections` has for one collection; `None` if there is no such collection.
pub async fn collection(db: &Database, name: &str) -> Result<Option<RawDocumentBuf>> {
    match commands::documents(db, command(rawdoc! {"name": name})).await {
        Ok(rows) => Ok(rows.into_iter().next()),
        Err(e) if errors::code(&e) == Some(INVALID_VIEW) => {
            let rows = commands::documents(db, command(collections_only())).await?;
            Ok(rows.into_iter().find(|row| row.get_str("name").is_ok_and(|listed| listed == name)))
        }
        Err(e) => Err(e),
    }
}

fn command(filter: RawDocumentBuf) -> RawDocumentBuf {
    rawdoc! {"listCollections": 1, "cursor": {"batchSize": 10_000}, "filter": filter}
}

/// The filter with which the server does not read the view catalog. The server compares it byte by byte (server source,
/// `list_collections_filter.cpp`).
fn collections_only() -> RawDocumentBuf {
    rawdoc! {"$or": [{"type": "collection"}, {"type": {"$exists": false}}]}
}

async fn list_around_invalid(db: &Database) -> Result<Listing> {
    let mut rows = commands::documents(db, command(collections_only())).await?;
    let series: Vec<RawDocumentBuf> = rows.iter().filter_map(|row| series_row(row)).collect();
    let find = rawdoc! {"find": VIEWS, "hint": {"$natural": 1_i32}};
    let (documents, unread) = match commands::documents(db, find).await {
        Ok(documents) => (documents, false),
        Err(e) if errors::classify(&e) == Class::Unauthorized => (Vec::new(), true),
        Err(e) => return Err(e),
    };
    let mut definitions = Vec::new();
    for document in &documents {
        let view = name_of(db.name(), document);
        // Until MongoDB 9.0 a time series is a view of its buckets.
        let is_series =
            |view: &&str| series.iter().any(|row| row.get_str("name").is_ok_and(|name| name == *view));
        if let Some(view) = view.filter(|view| !is_series(view)) {
            rows.push(view_row(view, document));
        }
        let mut json = String::new();
        let written = extjson::write_document(&mut json, document);
        let json = written.map_or("(not valid UTF-8)".into(), |()| json);
        let valid = is_valid(document) && view.is_some();
        if !valid || !view.is_some_and(|view| is_series(&view)) {
            definitions.push((valid, ViewDefinition { view: view.map(String::from), json }));
        }
    }
    rows.extend(series);
    // This tool cannot see every fault: an invalid collation, for example.
    let certain = !definitions.iter().all(|(valid, _)| *valid);
    let wrong = definitions.into_iter().filter(|(valid, _)| !certain || !valid);
    let definitions = wrong.map(|(_, definition)| definition).collect();
    Ok(Listing { rows, invalid: Some(InvalidViews { definitions, certain, unread }) })
}

/// The name of the view that a document of `system.views` defines.
fn name_of<'a>(db: &str, document: &'a RawDocument) -> Option<&'a str> {
    let name = document.get_str("_id").ok()?.strip_prefix(db)?.strip_prefix('.')?;
    (!name.is_empty()).then_some(name)
}

/// Returns true if the form of a definition passes the server's checks (server source, `durable_view_catalog.cpp`).
fn is_valid(document: &RawDocument) -> bool {
    document.iter().all(|element| {
        element.is_ok_and(|(key, value)| match (key.as_str(), value) {
            ("_id", RawBsonRef::String(_)) => true,
            ("viewOn", RawBsonRef::String(on)) => !on.is_empty(),
            ("pipeline", RawBsonRef::Array(stages)) => {
                stages.into_iter().all(|stage| stage.is_ok_and(|stage| stage.as_document().is_some()))
            }
            ("collation" | "timeseries", RawBsonRef::Document(_)) => true,
            _ => false,
        })
    }) && ["viewOn", "pipeline"].iter().all(|name| document.get(name).is_ok_and(|value| value.is_some()))
}

/// The row that `listCollections` would return for a view.
fn view_row(view: &str, definition: &RawDocument) -> RawDocumentBuf {
    let options: RawDocumentBuf = definition.iter().flatten().filter(|(key, _)| *key != "_id").collect();
    rawdoc! {"name": view, "type": "view", "options": options, "info": {"readOnly": true}}
}

/// The row of a time series, made from the row of its bucket collection.
fn series_row(buckets: &RawDocument) -> Option<RawDocumentBuf> {
    let name = buckets.get_str("name").ok()?.strip_prefix(BUCKETS)?;
    let options = buckets.get_document("options").ok()?.iter().flatten();
    let options: RawDocumentBuf =
        options.filter(|(key, _)| TIMESERIES_OPTIONS.contains(&key.as_str())).collect();
    Some(rawdoc! {"name": name, "type": "timeseries", "options": options, "info": {"readOnly": false}})
}

impl InvalidViews {
    /// Returns a warning for each invalid view that `wants` selects. `may_want` is true if the selection could include a view
    /// whose name is unknown.
    pub fn warnings(&self, db: &str, wants: &dyn Fn(&str) -> bool, may_want: bool) -> Vec<String> {
        let remove = |id: &str| {
            format!(
                "remove it: db.adminCommand({{applyOps: [{{op: \"d\", ns: \"{db}.{VIEWS}\", o: {{_id: {id}}}}}]}})"
            )
        };
        let whole = format!("so MongoDB cannot use any view of {db}");
        if self.unread {
            let line = format!(
                "the views of {db} are not in the backup: the definition of one is invalid, {whole} or list them, \
                 and the user may not read {db}.{VIEWS}; grant find on it, or remove that definition"
            );
            return if may_want { vec![line] } else { Vec::new() };
        }
        if !self.certain {
            let names: Vec<&str> = self.definitions.iter().filter_map(|one| one.view.as_deref()).collect();
            // A user who excludes one of these views knows which view is invalid.
            if !names.iter().all(|view| wants(view)) {
                return Vec::new();
            }
            return vec![format!(
                "the definition of one of the views of {db} is invalid, {whole}: {}; the definitions are in the backup; \
                 remove the invalid one, or leave it out with --exclude",
                names.join(", ")
            )];
        }
        let line = |definition: &ViewDefinition| match &definition.view {
            Some(view) if !wants(view) => None,
            Some(view) => Some(format!(
                "the definition of the view {db}.{view} is invalid, {whole}; \
                 the definition is in the backup, but a restore cannot create the view; {}",
                remove(&format!("\"{db}.{view}\""))
            )),
            None if !may_want => None,
            None => Some(format!(
                "{db}.{VIEWS} holds a definition that names no view of {db}, {whole}; it is not in the backup: {}; remove \
                 it from {db}.{VIEWS}",
                definition.json
            )),
        };
        self.definitions.iter().filter_map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, doc};

    use super::*;

    #[test]
    fn definitions_are_valid_as_in_the_server() {
        let none = Vec::<Bson>::new;
        for (definition, valid) in [
            (doc! {"_id": "d.v", "viewOn": "c", "pipeline": none()}, true),
            (
                doc! {"_id": "d.v", "viewOn": "c", "pipeline": [{"$nosuch": 1}], "collation": {"locale": "x"}},
                true,
            ),
            (doc! {"_id": "d.v", "viewOn": 7, "pipeline": none()}, false),
            (doc! {"_id": "d.v", "viewOn": "", "pipeline": none()}, false),
            (doc! {"_id": "d.v", "viewOn": "c", "pipeline": "x"}, false),
            (doc! {"_id": "d.v", "viewOn": "c", "pipeline": [1]}, false),
            (doc! {"_id": "d.v", "viewOn": "c", "pipeline": none(), "extra": 1}, false),
            (doc! {"_id": "d.v", "viewOn": "c"}, false),
            (doc! {"_id": 5}, false),
        ] {
            let raw = RawDocumentBuf::try_from(&definition).unwrap();
            assert_eq!(is_valid(&raw), valid, "{definition}");
        }
        for (id, name) in
            [("d.v", Some("v")), ("d.a.b", Some("a.b")), ("d.", None), ("other.v", None), ("dv", None)]
        {
            assert_eq!(name_of("d", &rawdoc! {"_id": id}), name, "{id}");
        }
    }

    #[test]
    fn excluded_views_cause_no_warning() {
        let definition =
            |view: Option<&str>| ViewDefinition { view: view.map(String::from), json: "{\"_id\":5}".into() };
        let definitions = vec![definition(Some("v")), definition(None)];
        let invalid = InvalidViews { definitions, certain: true, unread: false };
        let all = invalid.warnings("d", &|_| true, true);
        assert!(all.len() == 2 && all[0].contains("d.v") && all[1].contains("{\"_id\":5}"), "{all:?}");
        assert_eq!(invalid.warnings("d", &|_| false, true).len(), 1);
        assert_eq!(invalid.warnings("d", &|_| false, false), Vec::<String>::new());

        let definitions = ["a", "b"].map(|view| definition(Some(view))).to_vec();
        let invalid = InvalidViews { definitions, certain: false, unread: false };
        let one = invalid.warnings("d", &|_| true, true);
        assert!(
            one.len() == 1 && one[0].contains("one of the views of d is invalid") && one[0].contains("a, b")
        );
        assert_eq!(invalid.warnings("d", &|view| view != "a", true), Vec::<String>::new());
    }
}
