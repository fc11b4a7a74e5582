//! The databases of a drill on an existing server.
//!
//! They have random names, and each contains a marker that names its drill. A drill only drops databases with
//! its own marker or with the marker of a drill that began more than a day ago.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::{RawDocumentBuf, rawdoc};
use chrono::{DateTime, TimeDelta, Utc};

use super::{DrillResources, DrillSubject};
use crate::base::cancel::{Cancel, LastStep};
use crate::base::error::{Error, Result};
use crate::base::secret::Secret;
use crate::model::namespace::Type;
use crate::ops::restore::{BackupNamespace, RestoreFilter};
use crate::restore_target::RestoreTarget;
use crate::restore_target::insert::Destination;

/// The beginning of the names of a drill's databases. The token and a number follow. A name has at most 63
/// bytes, so that it cannot contain the name in the backup.
const PREFIX: &str = "uzima_drill_";
const MARKER: &str = "uzima_drill_marker";
/// The longest name of a namespace in bytes.
const LONGEST: usize = 255;
/// The age at which databases of another drill are dropped. Until then that drill may still run.
const ABANDONED: TimeDelta = TimeDelta::days(1);
/// The time in which writes that were under way may still reach the server after the drill has ended.
const LATE: Duration = Duration::from_millis(300);

/// The names of a drill's databases.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DrillNames {
    /// From the name in the backup to the name on the server.
    pub databases: BTreeMap<String, String>,
    /// The database for namespaces that only the oplog slices contain. Its collections have the full names of
    /// these namespaces. `None` if no oplog is replayed.
    pub rest: Option<String>,
}

impl DrillNames {
    fn all(&self) -> impl Iterator<Item = &String> {
        self.databases.values().chain(&self.rest)
    }
}

/// The databases of one drill.
pub(super) struct DrillDatabases {
    pub target: RestoreTarget,
    /// The beginning of all names.
    pub prefix: String,
    pub names: DrillNames,
    marker: RawDocumentBuf,
}

impl DrillDatabases {
    /// Chooses names and drops the databases of abandoned drills. Also returns warnings about databases of
    /// other drills.
    ///
    /// # Errors
    /// Returns an error if the server cannot be used for the drill, for example because the user lacks
    /// rights.
    pub async fn prepare(
        resources: &DrillResources<'_>,
        subject: DrillSubject<'_>,
        uri: &Secret,
    ) -> Result<(DrillDatabases, Vec<String>)> {
        let target = RestoreTarget::connect(uri, &resources.patience).await?;
        let prefix = format!("{PREFIX}{}_", resources.token);
        let names = names(subject, &prefix)?;
        let there: BTreeSet<String> =
            target.databases(false).await?.unwrap_or_default().into_iter().collect();
        if let Some(taken) = there.iter().find(|name| name.starts_with(&prefix)) {
            return Err(Error::failed(format!("{} already has a database {taken}", target.address))
                .hint("Drill again: the next drill chooses another name"));
        }
        let at = bson::DateTime::from_millis(resources.clock.now().timestamp_millis());
        let marker = rawdoc! {
            "_id": "marker", "token": resources.token.as_str(), "backup": subject.manifest.id.as_str(), "at": at,
            "host": resources.host.as_str(), "what": "made by a drill of uzima-backup, which removes it",
        };
        let databases = DrillDatabases { target, prefix, names, marker };
        // Missing rights are found before there is anything to remove. No database has the number 0.
        let none = format!("{}0", databases.prefix);
        databases.marker(&none).await?;
        databases.target.drop_database(&none).await?;
        if subject.replays() {
            databases.target.may_apply(&BTreeSet::from([none])).await.map_err(|error| {
                error.hint(
                    "The drill replays the oplog. Grant the user the built-in role \"readWriteAnyDatabase\" on a \
                     replica set, or drill in a throw-away mongod (without --to-uri and DRILL_URI)",
                )
            })?;
        }
        let mut warnings = Vec::new();
        for name in there.iter().filter(|name| name.starts_with(PREFIX)) {
            warnings.extend(databases.leftover(name, resources.clock.now()).await?);
        }
        Ok((databases, warnings))
    }

    /// Writes the marker into each database. This is the first write.
    pub async fn mark(&self) -> Result<()> {
        for db in self.names.all() {
            let place = Destination::new(db, MARKER);
            if let Some(refused) = self.target.insert(&place, self.marker.as_bytes()).await?.first() {
                return Err(Error::failed(format!("cannot write into {db}")).caused_by(refused.why.clone()));
            }
        }
        Ok(())
    }

    /// Drops the databases of this drill. Returns a warning if some could not be dropped. After a signal, the
    /// time is limited.
    pub async fn end(&self, cancel: &Cancel) -> Option<String> {
        let dropped = cancel.within(LastStep::Notices, self.drop_all()).await;
        let dropped = dropped.unwrap_or_else(|| Err(Error::failed("no time was left after the signal")));
        self.target.close().await;
        dropped.err().map(|error| {
            format!(
                "databases {}… remain on {} ({}). A drill after more than {} hours removes them",
                self.prefix,
                self.target.address,
                error.chain(),
                ABANDONED.num_hours()
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
        // A write that was under way creates the database again. No other drill uses these names.
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

    /// Drops a database of another drill if that drill is abandoned. Otherwise returns a warning.
    async fn leftover(&self, db: &str, now: DateTime<Utc>) -> Result<Option<String>> {
        let address = &self.target.address;
        let marker = self.marker(db).await?;
        let at = marker.as_ref().and_then(|marker| marker.get_datetime("at").ok());
        let at = at.and_then(|at| DateTime::from_timestamp_millis(at.timestamp_millis()));
        let (Some(marker), Some(at)) = (marker, at) else {
            return Ok(Some(format!(
                "the database {db} on {address} is named like a drill's database but has no marker, so no drill removes it"
            )));
        };
        let backup = marker.get_str("backup").unwrap_or("?");
        if now - at < ABANDONED {
            let since = at.format("%FT%TZ");
            return Ok(Some(format!(
                "the database {db} on {address} belongs to a drill of {backup} that began at {since}. If that drill was \
                 killed, a drill a day later removes the database"
            )));
        }
        self.target.drop_database(db).await?;
        log::warn!("dropped the database {db} on {address}, which a drill of {backup} had left behind");
        Ok(None)
    }
}

/// Chooses a name for each database that is restored.
fn names(subject: DrillSubject<'_>, prefix: &str) -> Result<DrillNames> {
    let contents = subject.manifest.namespaces.iter().map(BackupNamespace::of).collect::<Result<Vec<_>>>()?;
    let chosen = RestoreFilter::default().choose(&contents, &BTreeSet::new())?;
    let databases: BTreeSet<&String> = chosen.iter().map(|chosen| &chosen.db).collect();
    let names: BTreeMap<String, String> =
        databases.into_iter().enumerate().map(|(n, db)| (db.clone(), format!("{prefix}{}", n + 1))).collect();
    let long = chosen.iter().find(|chosen| {
        let offer = &contents[chosen.at];
        // The bucket collection of a time series has the longest name.
        let buckets = if offer.kind == Type::Timeseries { "system.buckets.".len() } else { 0 };
        names[&chosen.db].len() + 1 + buckets + chosen.collection.len() > LONGEST
    });
    if let Some(long) = long {
        let what = format!("the name of {} is too long for a drill on an existing server", long.name());
        return Err(
            Error::failed(what).hint("Drill in a throw-away mongod: leave out --to-uri and DRILL_URI")
        );
    }
    let rest = subject.replays().then(|| format!("{prefix}{}", names.len() + 1));
    Ok(DrillNames { rest, databases: names })
}
