//! Moves collections to other names in their database, and stops their TTL.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::raw::cstr;
use bson::{RawArrayBuf, RawDocumentBuf, rawdoc};

use super::RestoreTarget;
use crate::base::error::Result;
use crate::mongo::errors::{self, Class};
use crate::mongo::meaning;

/// How long a move may wait for transactions and other commands. All other commands wait as long.
const MOVING: Duration = Duration::from_secs(1);
/// MaxTimeMSExpired.
const EXPIRED: i32 = 50;
/// The largest `expireAfterSeconds` of an index: 68 years.
const NEVER: i32 = i32::MAX;

/// Collections by database and name.
pub(crate) type Uuids = BTreeMap<(String, String), Vec<u8>>;

/// A rename within a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub db: String,
    pub from: String,
    pub to: String,
}

/// The result of moves.
#[derive(Debug)]
pub(crate) enum Moved {
    /// All were made.
    All,
    /// A transaction or another command held a lock. If several commands were sent, those before it were carried out.
    Blocked,
}

/// An index, or the clustered index of a collection (`None`), whose documents expire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub index: Option<String>,
    pub seconds: i64,
}

impl Move {
    fn rename(&self) -> RawDocumentBuf {
        let (from, to) = (format!("{}.{}", self.db, self.from), format!("{}.{}", self.db, self.to));
        rawdoc! {"renameCollection": from, "to": to, "dropTarget": false}
    }
}

impl RestoreTarget {
    /// Renames collections: all at once with `applyOps` if the user may and the server can, else one after the other. The new
    /// names must be free, because `applyOps` gives a collection with such a name a generated one (seen on 6.0.5).
    pub(crate) async fn move_all(&self, moves: &[Move]) -> Result<Moved> {
        if moves.is_empty() {
            return Ok(Moved::All);
        }
        let mut operations = RawArrayBuf::new();
        for one in moves {
            operations.push(rawdoc! {"op": "c", "ns": format!("{}.$cmd", one.db), "o": one.rename()});
        }
        let command = rawdoc! {"applyOps": operations};
        match self.change_once(command).await {
            Err(e)
                if errors::classify(&e) == Class::Unauthorized
                    || errors::code(&e) == Some(super::apply::NO_COMMAND) => {}
            Err(e) if errors::code(&e) == Some(EXPIRED) => return Ok(Moved::Blocked),
            Err(e) => return Err(self.explain("cannot move collections", e)),
            Ok(()) => return Ok(Moved::All),
        }
        self.move_each(moves).await
    }

    /// Renames collections one after the other.
    pub(crate) async fn move_each(&self, moves: &[Move]) -> Result<Moved> {
        for one in moves {
            match self.change_once(one.rename()).await {
                Err(e) if errors::code(&e) == Some(EXPIRED) => return Ok(Moved::Blocked),
                Err(e) => {
                    let Move { db, from, to } = one;
                    let step = "Give the user the built-in role \"readWriteAnyDatabase\" as well";
                    return Err(self.explain_right(
                        format_args!("cannot rename {db}.{from} to {to}"),
                        e,
                        step,
                    ));
                }
                Ok(()) => {}
            }
        }
        Ok(Moved::All)
    }

    /// Sends a rename or `applyOps` once, because the caller looks where the collections are before it sends another one.
    async fn change_once(&self, mut command: RawDocumentBuf) -> mongodb::error::Result<()> {
        command.append(cstr!("maxTimeMS"), MOVING.as_millis() as i64);
        command.append(cstr!("writeConcern"), self.concern.clone());
        self.run("admin", command).await.map(drop)
    }

    /// The UUIDs of all collections of these databases.
    pub(crate) async fn uuids_in(&self, databases: impl Iterator<Item = &str>) -> Result<Uuids> {
        let mut all = Uuids::new();
        for db in databases {
            let uuids = self.uuids(db).await?;
            all.extend(uuids.into_iter().map(|(name, uuid)| ((db.to_string(), name), uuid)));
        }
        Ok(all)
    }

    /// The indexes of a collection whose documents expire, apart from those that were stopped.
    pub(crate) async fn expiries(&self, db: &str, collection: &str) -> Result<Vec<Expiry>> {
        let seconds = |row: &RawDocumentBuf| {
            let value = row.get("expireAfterSeconds").ok()??;
            // NaN in an old index means that nothing expires.
            meaning::number(value).filter(|seconds| seconds.is_finite()).map(|seconds| seconds as i64)
        };
        let rows = self.find(db, rawdoc! {"listIndexes": collection}).await?;
        let mut found = Vec::new();
        for row in &rows {
            if let Some(seconds) = seconds(row).filter(|seconds| *seconds < i64::from(NEVER)) {
                let clustered = row.get_bool("clustered").unwrap_or(false);
                let name = row.get_str("name").unwrap_or_default().to_string();
                found.push(Expiry { index: (!clustered).then_some(name), seconds });
            }
        }
        Ok(found)
    }

    /// Stops the expiry of documents, or with `goes_on` lets them expire as before.
    pub(crate) async fn expire(
        &self,
        db: &str,
        collection: &str,
        expiry: &Expiry,
        goes_on: bool,
    ) -> Result<()> {
        let mut command = rawdoc! {"collMod": collection};
        match (&expiry.index, goes_on) {
            (Some(name), _) => {
                let seconds = if goes_on { expiry.seconds } else { i64::from(NEVER) };
                command
                    .append(cstr!("index"), rawdoc! {"name": name.as_str(), "expireAfterSeconds": seconds});
            }
            (None, true) => command.append(cstr!("expireAfterSeconds"), expiry.seconds),
            (None, false) => command.append(cstr!("expireAfterSeconds"), "off"),
        }
        command.append(cstr!("writeConcern"), self.concern.clone());
        let done = self.change(db, command).await.map(drop);
        done.map_err(|e| {
            self.explain_beyond(format_args!("cannot change the expiry of {db}.{collection}"), e)
        })
    }

    /// Creates an empty collection.
    pub(crate) async fn create_empty(&self, db: &str, collection: &str) -> Result<()> {
        let command = rawdoc! {"create": collection, "writeConcern": self.concern.clone()};
        let done = self.change(db, command).await.map(drop);
        done.map_err(|e| self.explain(format_args!("cannot create {db}.{collection}"), e))
    }
}
