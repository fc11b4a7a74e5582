//! What a restore would do: made before anything is written, and shown first.

use std::collections::{BTreeMap, BTreeSet};

use bson::RawDocumentBuf;
use chrono::{DateTime, Utc};

use super::filter::Chosen;
use super::offer::Offer;
use super::preflight::Unable;
use super::remedy::Flags;
use super::replay::Survey;
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::model::namespace::{Namespace, Type};
use crate::model::optime::OpTime;
use crate::mongo::meaning;
use crate::restore_target::users::People;
use crate::restore_target::{Target, trial};

/// A namespace to be restored.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its place in the backup, and its name at the target.
    pub chosen: Chosen,
    /// What the backup says of it.
    pub offer: Offer,
    /// Its options and indexes.
    pub namespace: Namespace,
    /// What is at the target under this name.
    pub existing: Option<Existing>,
}

/// A namespace of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    /// How many documents it has; `None` if the user may not count them.
    pub documents: Option<u64>,
    /// It is of the same kind and has the same options.
    pub same: bool,
}

/// What is done with the oplog slice.
#[derive(Debug, Clone, PartialEq)]
pub enum Oplog {
    /// There is none.
    Absent,
    /// It is not replayed, as was asked for.
    Left,
    /// It is replayed.
    Replayed(Box<Survey>),
}

/// What would be done.
#[derive(Debug)]
pub struct Plan {
    /// What is restored, in words.
    pub from: String,
    /// The backup's id, of one in a store.
    pub id: Option<String>,
    /// Its job.
    pub job: Option<String>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// `host:port` of the target.
    pub target: String,
    /// It is the server that is backed up: nobody named another one.
    pub onto_source: bool,
    /// The namespaces: collections first, then views.
    pub namespaces: Vec<Planned>,
    /// What is dropped although the backup has nothing of that name.
    pub extra: Vec<(String, String)>,
    /// Users and roles to be merged: of the whole server, or of databases.
    pub people: Vec<People>,
    /// What is done with the oplog slice.
    pub oplog: Oplog,
    /// The instant that the data is of in the end, if it is of one.
    pub at: Option<OpTime>,
    /// What is at the target under names that only the oplog slice writes to.
    pub in_the_way: Vec<(String, String)>,
    /// What is at the target is dropped.
    pub drop: bool,
    /// The target's version, in words.
    pub version: String,
    /// What the target cannot take.
    pub unable: Vec<Unable>,
    /// Lines about each thing that the user has no right to try.
    pub unproved: Vec<String>,
    /// The flags that restore what the target can take; `None` if it can take everything or nothing.
    pub rest: Option<Flags>,
    /// The target has no data of anybody.
    pub fresh: bool,
    /// What a person should know; after it the exit code is 3.
    pub warnings: Vec<String>,
    /// What may surprise, and is as it was asked for.
    pub notes: Vec<String>,
}

impl Plan {
    /// The sum of a figure over the namespaces.
    pub fn total(&self, figure: impl Fn(&Offer) -> u64) -> u64 {
        self.namespaces.iter().map(|planned| figure(&planned.offer)).sum()
    }

    /// How many users and roles would be merged; `None` if it holds none, or they are not wanted.
    pub fn people(&self) -> Option<(usize, usize)> {
        let sum = |(users, roles), people: &People| (users + people.users.len(), roles + people.roles.len());
        (!self.people.is_empty()).then(|| self.people.iter().fold((0, 0), sum))
    }

    /// What is dropped although the backup has nothing of that name: with `exact`, and where the slice writes.
    pub fn beside(&self) -> impl Iterator<Item = &(String, String)> {
        self.in_the_way.iter().chain(&self.extra)
    }

    /// Why the restore is refused, a line for each reason; empty if it is not refused.
    pub fn refused(&self) -> Vec<String> {
        self.unable.iter().map(Unable::to_string).chain(self.occupied()).collect()
    }

    /// The target's namespaces that would have to be dropped, a line each.
    fn occupied(&self) -> Vec<String> {
        if self.drop {
            return Vec::new();
        }
        let refused = |planned: &Planned| {
            let (name, existing) = (planned.chosen.name(), planned.existing?);
            match existing {
                Existing { documents: Some(0), same: true } => None,
                Existing { documents: Some(0), .. } => Some(format!("{name} exists with other options")),
                Existing { documents: Some(n), .. } => {
                    Some(format!("{name} has {}", units::several(n, "document")))
                }
                Existing { documents: None, .. } => {
                    Some(format!("{name} exists, and the user may not count its documents"))
                }
            }
        };
        let beside =
            self.in_the_way.iter().map(|(db, name)| format!("the oplog writes to {db}.{name}, which exists"));
        self.namespaces.iter().filter_map(refused).chain(beside).collect()
    }

    /// The error that names what is refused.
    pub fn refusal(&self) -> Option<Error> {
        // If nothing is dropped, the documents are restored, and the report names the refused index.
        let stops = self.replaces() || self.unable.iter().any(|one| !one.is_index());
        self.inability().filter(|_| stops).or_else(|| self.occupation())
    }

    /// The same for a `--dry-run`, which reports everything that would lead to exit code 1.
    pub fn objection(&self) -> Option<Error> {
        self.inability().or_else(|| self.occupation())
    }

    /// Returns true if anything at the target would be dropped.
    fn replaces(&self) -> bool {
        self.drop
            && (self.beside().next().is_some() || self.namespaces.iter().any(|one| one.existing.is_some()))
    }

    /// The error that names everything that the target cannot take, and the namespaces that it has already.
    fn inability(&self) -> Option<Error> {
        let unable: Vec<String> = self.unable.iter().map(Unable::to_string).collect();
        let occupied = match self.occupied() {
            occupied if occupied.is_empty() => String::new(),
            occupied => format!("; it also has data already: {}", occupied.join(", ")),
        };
        let rest = match &self.rest {
            Some(flags) => flags.sentence(),
            None => "Name another target (RESTORE_URI, --to-uri)".into(),
        };
        let replaces = match occupied.is_empty() {
            true => "",
            false => "; --drop replaces what is there",
        };
        (!unable.is_empty()).then(|| {
            Error::failed(format!(
                "the target {} cannot take all of it (MongoDB {}): {}{occupied}",
                self.target_text(),
                self.version,
                unable.join("; ")
            ))
            .hint(format!("Nothing was changed. {rest}{replaces}"))
        })
    }

    fn occupation(&self) -> Option<Error> {
        let refused = self.occupied();
        (!refused.is_empty()).then(|| {
            let (target, verb) = match self.onto_source {
                true => (self.target_text(), ", has"),
                false => (self.target.clone(), " has"),
            };
            Error::failed(format!("the target {target}{verb} data already: {}", refused.join(", "))).hint(
                match self.onto_source {
                    // What is there is what the backups are of: replacing it is the last thing to think of.
                    true => {
                        "Name another server (RESTORE_URI, --to-uri), or other names (--ns-from, --ns-to); with \
                         --drop these namespaces are replaced. Nothing was touched so far"
                    }
                    false => "With --drop these namespaces are replaced; nothing was touched so far",
                },
            )
        })
    }

    /// The target, and whether it is the server that is backed up, in words.
    pub fn target_text(&self) -> String {
        let source = if self.onto_source { ", the server that is backed up" } else { "" };
        format!("{}{source}", self.target)
    }
}

/// What the target has.
pub struct Found {
    /// By database and name: kind, options.
    rows: BTreeMap<(String, String), (String, RawDocumentBuf)>,
    /// The databases, as far as the user may know.
    databases: BTreeSet<String>,
    /// Whether there is no database but the server's own.
    pub fresh: bool,
}

/// Looks at the databases of the target.
pub async fn look(target: &Target, databases: &BTreeSet<&str>) -> Result<Found> {
    let all = target.databases().await?;
    let own = |db: &String| ["admin", "config", "local", trial::DATABASE].contains(&db.as_str());
    let fresh = all.as_ref().is_some_and(|all| all.iter().all(own));
    let known = match all {
        Some(all) => all,
        None => target.own_databases().await?,
    };
    let mut rows = BTreeMap::new();
    for db in databases {
        for row in target.collections(db).await? {
            let (Ok(name), Ok(kind)) = (row.get_str("name"), row.get_str("type")) else { continue };
            let options = row.get_document("options").map(|o| o.to_owned()).unwrap_or_default();
            rows.insert((db.to_string(), name.to_string()), (kind.to_string(), options));
        }
    }
    Ok(Found { rows, databases: known.into_iter().collect(), fresh })
}

impl Found {
    /// The databases that were looked at and have something.
    pub fn databases(&self) -> BTreeSet<&str> {
        self.rows.keys().map(|(db, _)| db.as_str()).collect()
    }

    /// The names in a database that was looked at.
    pub fn names_of<'a>(&'a self, db: &'a str) -> impl Iterator<Item = &'a str> {
        self.rows.keys().filter(move |(of, _)| of == db).map(|(_, name)| name.as_str())
    }

    /// The views in the databases that were looked at, with their options.
    pub fn views(&self) -> impl Iterator<Item = (&(String, String), &RawDocumentBuf)> {
        self.rows.iter().filter(|(_, (kind, _))| kind == "view").map(|(key, (_, options))| (key, options))
    }

    /// Returns true if the target has a database of this name.
    pub fn has_database(&self, db: &str) -> bool {
        self.databases.contains(db) || self.rows.keys().any(|(of, _)| of == db)
    }

    /// A database of the target whose name differs from this one by case alone.
    pub fn alike(&self, db: &str) -> Option<&str> {
        let all = self.databases.iter().map(String::as_str);
        all.chain(self.databases()).find(|other| *other != db && other.eq_ignore_ascii_case(db))
    }

    /// What is there under the name of a namespace that is to be restored.
    pub async fn existing(
        &self,
        target: &Target,
        chosen: &Chosen,
        namespace: &Namespace,
    ) -> Result<Option<Existing>> {
        let key = (chosen.db.clone(), chosen.collection.clone());
        let Some((kind, options)) = self.rows.get(&key) else { return Ok(None) };
        let wanted = match namespace.kind {
            Type::Collection => "collection",
            Type::View => "view",
            Type::Timeseries => "timeseries",
        };
        let same = kind == wanted && meaning::same_options(options, &namespace.options);
        let documents = match kind.as_str() {
            "view" => Some(0),
            "timeseries" => {
                target.count_in(&target.place_of_series(&chosen.db, &chosen.collection).await?).await?
            }
            _ => target.count(&chosen.db, &chosen.collection).await?,
        };
        Ok(Some(Existing { documents, same }))
    }

    /// Whether there is anything of that name.
    pub fn has(&self, key: &(String, String)) -> bool {
        self.rows.contains_key(key)
    }

    /// What the databases have beside the names of the backup; the server's own collections stay.
    pub fn beside(&self, names: &BTreeSet<(String, String)>) -> Vec<(String, String)> {
        let own = |(db, name): &&(String, String)| {
            name.starts_with("system.") || ["admin", "config", "local"].contains(&db.as_str())
        };
        self.rows.keys().filter(|key| !names.contains(key) && !own(key)).cloned().collect()
    }
}
