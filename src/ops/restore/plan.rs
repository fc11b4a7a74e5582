//! What a restore would do: made before anything is written, and shown first.

use std::collections::{BTreeMap, BTreeSet};

use bson::RawDocumentBuf;
use chrono::{DateTime, Utc};

use super::filter::Chosen;
use super::offer::Offer;
use super::replay::Survey;
use crate::error::{Error, Result};
use crate::source::optime::OpTime;
use crate::source::{Namespace, Type, meaning};
use crate::target::Target;
use crate::target::users::People;
use crate::units;

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
    Replayed(Survey),
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

    /// Why it may not be done, a line for each namespace; empty if it may.
    pub fn refused(&self) -> Vec<String> {
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
        let refused = self.refused();
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
    /// Whether there is no database but the server's own.
    pub fresh: bool,
}

/// Looks at the databases of the target.
pub async fn look(target: &Target, databases: &BTreeSet<&str>) -> Result<Found> {
    let all = target.databases().await?;
    let own = |db: &String| ["admin", "config", "local"].contains(&db.as_str());
    let fresh = all.is_some_and(|all| all.iter().all(own));
    let mut rows = BTreeMap::new();
    for db in databases {
        for row in target.collections(db).await? {
            let (Ok(name), Ok(kind)) = (row.get_str("name"), row.get_str("type")) else { continue };
            let options = row.get_document("options").map(|o| o.to_owned()).unwrap_or_default();
            rows.insert((db.to_string(), name.to_string()), (kind.to_string(), options));
        }
    }
    Ok(Found { rows, fresh })
}

impl Found {
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
