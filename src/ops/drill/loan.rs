//! Databases of a drill on a server that is there: of random names, each with a marker that says whose it is.
//! Only what bears the marker of this drill is dropped, or that of one of more than a day ago.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::{RawDocumentBuf, rawdoc};
use chrono::{DateTime, TimeDelta, Utc};

use super::Resources;
use crate::base::cancel::{Cancel, Step};
use crate::base::error::{Error, Result};
use crate::base::secret::Secret;
use crate::model::manifest::Manifest;
use crate::ops::restore::{Filter, Offer};
use crate::restore_target::Target;
use crate::restore_target::insert::Place;

/// How the databases of drills are called, before the token and a number: a database's name has 63 bytes at
/// most, so that the name of the source has no room in it.
const PREFIX: &str = "uzima_drill_";
/// The collection of the marker.
const MARKER: &str = "uzima_drill_marker";
/// The longest name of a namespace, in bytes.
const LONGEST: usize = 255;
/// What a killed drill left goes after so long: until then it may still run.
const LEFT: TimeDelta = TimeDelta::days(1);
/// What was under way when the drill ended may arrive so much later.
const LATE: Duration = Duration::from_millis(300);

/// What databases are called here.
#[derive(Debug, Clone, PartialEq)]
pub struct Names {
    /// The database of the backup, and its name here.
    pub databases: BTreeMap<String, String>,
    /// With an oplog slice: the database for what only the slice has. There a namespace is called by its whole
    /// name.
    pub rest: Option<String>,
}

impl Names {
    fn all(&self) -> impl Iterator<Item = &String> {
        self.databases.values().chain(&self.rest)
    }
}

/// The databases of one drill.
pub struct Loan {
    target: Target,
    prefix: String,
    names: Names,
    marker: RawDocumentBuf,
}

impl Loan {
    /// Finds names, and removes what old drills left behind; also what a person should know of those.
    pub async fn begin(
        resources: &Resources<'_>,
        manifest: &Manifest,
        uri: &Secret,
    ) -> Result<(Loan, Vec<String>)> {
        let target = Target::connect(uri, &resources.patience).await?;
        let prefix = format!("{PREFIX}{}_", resources.token);
        let names = names(manifest, &prefix)?;
        let there: BTreeSet<String> = target.databases().await?.unwrap_or_default().into_iter().collect();
        if let Some(taken) = there.iter().find(|name| name.starts_with(&prefix)) {
            return Err(Error::failed(format!("{} has a database {taken} already", target.address))
                .hint("Drill again: another name is chosen"));
        }
        let at = bson::DateTime::from_millis(resources.clock.now().timestamp_millis());
        let marker = rawdoc! {
            "_id": "marker", "token": resources.token.as_str(), "backup": manifest.id.as_str(), "at": at,
            "host": resources.host.as_str(), "what": "made by a drill of uzima-backup, which removes it",
        };
        let loan = Loan { target, prefix, names, marker };
        // What the user may not do is found out before there is anything to remove. No database has the number 0.
        let none = format!("{}0", loan.prefix);
        loan.marker(&none).await?;
        loan.target.drop_database(&none).await?;
        if manifest.consistency.oplog.is_some() {
            loan.target.may_apply(&BTreeSet::from([none])).await.map_err(|error| {
                error.hint(
                    "A drill replays the oplog slice: give the user the built-in role \"readWriteAnyDatabase\" on \
                     a replica set, or drill in a throw-away mongod (without --to-uri and DRILL_URI)",
                )
            })?;
        }
        let mut warnings = Vec::new();
        for name in there.iter().filter(|name| name.starts_with(PREFIX)) {
            warnings.extend(loan.leftover(name, resources.clock.now()).await?);
        }
        Ok((loan, warnings))
    }

    /// The server.
    pub fn address(&self) -> &str {
        &self.target.address
    }

    /// How the names begin.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The names of the databases.
    pub fn names(&self) -> Names {
        self.names.clone()
    }

    /// Puts a marker into each database, before anything else.
    pub async fn mark(&self) -> Result<()> {
        for db in self.names.all() {
            let place = Place { db: db.clone(), collection: MARKER.into(), buckets: false, raw: false };
            if let Some(refused) = self.target.insert(&place, self.marker.as_bytes()).await?.first() {
                return Err(Error::failed(format!("cannot write into {db}")).caused_by(refused.why.clone()));
            }
        }
        Ok(())
    }

    /// Drops what this drill made; in words what could not be. After a signal in the time that is left.
    pub async fn end(&self, cancel: &Cancel) -> Option<String> {
        let dropped = cancel.deadline().within(Step::Notices, self.drop_all()).await;
        let dropped =
            dropped.unwrap_or_else(|| Err(Error::failed("there was no more time after the signal")));
        self.target.close().await;
        dropped.err().map(|error| {
            format!(
                "databases {}… stay on {} ({}): a drill after {} hours removes them",
                self.prefix,
                self.target.address,
                error.chain(),
                LEFT.num_hours()
            )
        })
    }

    async fn drop_all(&self) -> Result<()> {
        let mut own = Vec::new();
        for db in self.names.all() {
            if self.marker(db).await?.as_ref() == Some(&self.marker) {
                self.target.drop_database(db).await?;
                own.push(db);
            }
        }
        // A write that was under way makes a database anew. No other drill has these names.
        tokio::time::sleep(LATE).await;
        for db in own {
            self.target.drop_database(db).await?;
        }
        Ok(())
    }

    async fn marker(&self, db: &str) -> Result<Option<RawDocumentBuf>> {
        let find = rawdoc! {"find": MARKER, "filter": {"_id": "marker"}, "limit": 1};
        Ok(self.target.find(db, find).await?.into_iter().next())
    }

    /// Removes what a killed drill left, if it is old; otherwise what a person should know of it.
    async fn leftover(&self, db: &str, now: DateTime<Utc>) -> Result<Option<String>> {
        let address = &self.target.address;
        let marker = self.marker(db).await?;
        let at = marker.as_ref().and_then(|marker| marker.get_datetime("at").ok());
        let at = at.and_then(|at| DateTime::from_timestamp_millis(at.timestamp_millis()));
        let (Some(marker), Some(at)) = (marker, at) else {
            return Ok(Some(format!(
                "the database {db} on {address} looks like a drill's, and bears no marker"
            )));
        };
        let backup = marker.get_str("backup").unwrap_or("?");
        if now - at < LEFT {
            let since = at.format("%FT%TZ");
            return Ok(Some(format!(
                "the database {db} on {address} is of a drill of {backup} of {since}: if that was killed, a drill \
                 a day later removes it"
            )));
        }
        self.target.drop_database(db).await?;
        log::warn!("removed the database {db} on {address}, which a drill of {backup} left behind");
        Ok(None)
    }
}

/// A name for each database of which something is restored.
fn names(manifest: &Manifest, prefix: &str) -> Result<Names> {
    let offers = manifest.namespaces.iter().map(Offer::of).collect::<Result<Vec<_>>>()?;
    let chosen = Filter::default().choose(&offers, &BTreeSet::new())?;
    let databases: BTreeSet<&String> = chosen.iter().map(|chosen| &chosen.db).collect();
    let names: BTreeMap<String, String> =
        databases.into_iter().enumerate().map(|(n, db)| (db.clone(), format!("{prefix}{}", n + 1))).collect();
    let long = chosen.iter().find(|chosen| {
        let offer = &offers[chosen.at];
        // Of a time series it is the bucket collection whose name is the longest.
        let buckets =
            if offer.kind == crate::model::namespace::Type::Timeseries { "system.buckets.".len() } else { 0 };
        names[&chosen.db].len() + 1 + buckets + chosen.collection.len() > LONGEST
    });
    match long {
        Some(long) => Err(Error::failed(format!("{} would have too long a name in the drill", long.name()))
            .hint("Drill in a throw-away mongod instead: leave --to-uri and DRILL_URI out")),
        None => {
            let rest = format!("{prefix}{}", names.len() + 1);
            Ok(Names { rest: manifest.consistency.oplog.as_ref().map(|_| rest), databases: names })
        }
    }
}
