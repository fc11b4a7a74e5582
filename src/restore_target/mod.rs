//! The server that a restore writes to. [`RestoreTarget`] connects to the primary, asks for its version, and
//! lists and counts collections; the modules below write. An error of the kind `Refused` concerns one
//! command, every other error ends the restore.

mod apply;
pub(crate) mod collections;
pub(crate) mod insert;
pub(crate) mod legacy_indexes;
pub(crate) mod rights;
mod send;
pub mod throwaway;
pub(crate) mod trial;
pub(crate) mod users_and_roles;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bson::raw::cstr;
use bson::{Document, RawDocumentBuf, rawdoc};
use mongodb::Client;
use mongodb::options::{Acknowledgment, ClientOptions, ServerAddress};

use crate::base::error::{Error, Kind, Result};
use crate::base::retry::Patience;
use crate::base::secret::Secret;
use crate::config::uri;
use crate::model::server::Fcv;
use crate::mongo::client;
use crate::mongo::client::Access;
use crate::mongo::commands::Unfit;
use crate::mongo::errors;
use crate::mongo::errors::{Class, User};
use crate::mongo::{commands, listing};
use insert::Destination;
use send::PendingCommands;
use trial::Trials;

/// The failure if the target cannot be reached.
const CONNECTING: &str = "cannot connect to the target";

/// Codes of failures that concern the whole server, not one namespace: WriteConcernFailed, UnknownReplWriteConcern,
/// UnsatisfiableWriteConcern, ReauthenticationRequired, OutOfDiskSpace. After one of these, a restore would drop further
/// namespaces and fail to fill them.
const EVERYWHERE: [i32; 5] = [64, 79, 100, 391, 14031];

#[derive(Debug, Clone)]
pub struct RestoreTarget {
    client: Client,
    user: Option<User>,
    access: Arc<Access>,
    /// How long to wait for a server that is down.
    patience: Patience,
    /// `host:port`, of the primary where there is one.
    pub address: String,
    pub version: ServerVersion,
    /// The feature compatibility version, which decides which features the server accepts; `None` if the user
    /// may not read it, or the server has none.
    pub fcv: Option<Fcv>,
    /// The write concern of every write.
    concern: RawDocumentBuf,
    /// Connects without credentials, to find out whether the server has access control.
    stranger: ClientOptions,
    /// The number of changes that were sent and not refused.
    changes: Arc<AtomicU64>,
    requests: PendingCommands,
    trials: Arc<Trials>,
}

/// The version of a server's binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion(pub u32, pub u32, pub u32);

impl ServerVersion {
    /// Reads `a.b.c` at the beginning of a text. Parts that are not numbers count as 0.
    pub(crate) fn parse(text: &str) -> ServerVersion {
        let mut parts = text.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        ServerVersion(next(), next(), next())
    }

    /// Returns true if an insert can keep `Timestamp(0, 0)`. Older servers replace it by the current time.
    fn keeps_empty_timestamps(self) -> bool {
        match self.0 {
            0..=4 => false,
            5 => self >= ServerVersion(5, 0, 29),
            6 => self >= ServerVersion(6, 0, 17),
            7 => self >= ServerVersion(7, 0, 13),
            _ => true,
        }
    }
}

impl std::fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl RestoreTarget {
    /// Connects to the primary and asks for its version.
    ///
    /// # Errors
    /// Returns an error if no server answers, or if the server takes no writes.
    pub async fn connect(uri: &Secret, patience: &Patience) -> Result<RestoreTarget> {
        let what = "the connection string of the target";
        let access = Access::read(what, uri).await?;
        let passing = |e: &mongodb::error::Error| errors::passing(e).filter(|_| access.passes());
        let (options, user) = patience
            .retry("the name server, for the target", passing, || access.options())
            .await
            .map_err(|e| client::unresolved(what, patience, &e))?;
        let wish = options.write_concern.as_ref();
        let mut concern = match wish.and_then(|concern| concern.w.clone()) {
            Some(Acknowledgment::Nodes(n)) => rawdoc! {"w": n as i32},
            Some(Acknowledgment::Custom(name)) => rawdoc! {"w": name},
            _ => rawdoc! {"w": "majority"},
        };
        if let Some(journal) = wish.and_then(|concern| concern.journal) {
            concern.append(cstr!("j"), journal);
        }
        let places = options.hosts.clone();
        let mut stranger = options.clone();
        stranger.credential = None;
        let mut target = RestoreTarget {
            client: Client::with_options(options)
                .map_err(|e| Error::failed(CONNECTING).caused_by(errors::tidy(&e)))?,
            user,
            access: Arc::new(access),
            patience: patience.clone(),
            address: uri::shown_all(&places),
            version: ServerVersion(0, 0, 0),
            fcv: None,
            concern,
            stranger,
            changes: Arc::default(),
            requests: PendingCommands::default(),
            trials: Arc::default(),
        };
        let sent = target.insist("admin", || rawdoc! {"hello": 1});
        let hello = match commands::heard(&target.service(), commands::QUIET, patience.total(), || true, sent)
            .await
            .0
            .answer
        {
            Ok(hello) => hello,
            Err(e) => {
                let asked = match errors::classify(&e) {
                    Class::Login => client::unfit(&target.stranger).await,
                    _ => None,
                };
                return Err(match asked {
                    Some(unfit) => target.unfit(unfit),
                    None => target.explain(CONNECTING, e),
                });
            }
        };
        // A socket leads to one server, even if the replica set calls it by another name.
        let socket = matches!(places.as_slice(), [ServerAddress::Unix { .. }]);
        if let Some(me) = hello.get_str("me").ok().filter(|_| !socket) {
            target.address = me.into();
        }
        if let Some(unfit) = Unfit::of(&hello) {
            return Err(target.unfit(unfit));
        }
        if !hello.get_bool("isWritablePrimary").unwrap_or(true) {
            return Err(Error::failed(format!(
                "MongoDB at {} takes no writes: it is a secondary",
                target.address
            ))
            .hint("Name the whole replica set in the connection string, so that its primary is found"));
        }
        let build = target.insist("admin", || rawdoc! {"buildInfo": 1}).await.answer;
        let build = build.map_err(|e| target.explain(CONNECTING, e))?;
        target.version = ServerVersion::parse(build.get_str("version").unwrap_or_default());
        let fcv = commands::feature_compatibility(&target.client.database("admin")).await;
        target.fcv =
            fcv.map_err(|e| target.explain("cannot ask for the feature compatibility version", e))?;
        Ok(target)
    }

    /// The version that decides which features the server accepts: its feature compatibility version if it is
    /// known, otherwise the version of its binary.
    pub(crate) fn accepts(&self) -> Fcv {
        self.fcv.unwrap_or(Fcv { major: self.version.0, minor: self.version.1 })
    }

    /// The server's version for messages, with the feature compatibility version if that is different.
    pub(crate) fn version_text(&self) -> String {
        match self.fcv {
            Some(fcv) if (fcv.major, fcv.minor) != (self.version.0, self.version.1) => {
                format!("{} with the feature compatibility version {fcv}", self.version)
            }
            _ => self.version.to_string(),
        }
    }

    fn service(&self) -> String {
        format!("MongoDB at {}", self.address)
    }

    /// The connected user and its database, for a command that grants a role.
    fn user_and_db(&self) -> (&str, &str) {
        self.user.as_ref().map_or(("…", "admin"), |user| (&user.name, &user.db))
    }

    pub(crate) async fn close(&self) {
        client::close(self.client.clone()).await;
    }

    fn unfit(&self, unfit: Unfit) -> Error {
        Error::failed(format!("MongoDB at {} takes no writes: it {}", self.address, unfit.words()))
            .hint(unfit.hint("the target's connection string", true))
    }

    /// Makes an error that names the server. Its kind is `Refused` if the server answered and the failure may
    /// concern this command alone.
    pub(crate) fn explain(&self, doing: &str, error: mongodb::error::Error) -> Error {
        let class = errors::classify(&error);
        let everywhere = errors::code(&error).is_some_and(|code| EVERYWHERE.contains(&code));
        let kind = match class {
            Class::Login | Class::Interrupted => Kind::Failed,
            _ if everywhere => Kind::Failed,
            _ => Kind::Refused,
        };
        let files = "RESTORE_URI_FILE (for a drill DRILL_URI_FILE)";
        let login = errors::login_step(&error, "the target's connection string", files);
        let place = format!("(MongoDB at {}{})", self.address, self.patience.in_vain_text());
        if let Some(why) = errors::without_hello(&error).filter(|_| doing == CONNECTING) {
            let message = format!("{doing} {place}");
            return Error::failed(message).caused_by(why).hint("Update the server");
        }
        let whose = "the target's connection string";
        if let Some((why, Some(hint))) = self.access.relay_failure(whose, true)
            && class == Class::Interrupted
        {
            let message = format!("{doing} {place}");
            return Error::failed(message).caused_by(why).hint(hint);
        }
        let step = errors::connect_hint(&error, whose, true);
        let explained = errors::explain(format!("{doing} {place}"), self.user.as_ref(), error).of_kind(kind);
        match class {
            Class::Unauthorized => {
                explained.hint("Name a user with the built-in role \"restore\" in the connection string")
            }
            Class::Login => explained.hint(login),
            Class::Interrupted => explained.hint(step.unwrap_or_else(|| {
                "Check that MongoDB runs there, that its address is right, and its TLS settings".into()
            })),
            _ => explained,
        }
    }

    /// Makes the same error for a command that the role `restore` does not allow.
    fn explain_beyond(&self, doing: &str, error: mongodb::error::Error) -> Error {
        let unauthorized = errors::classify(&error) == Class::Unauthorized;
        let error = self.explain(doing, error);
        if !unauthorized {
            return error;
        }
        error.hint("The role \"restore\" does not allow it: give the user \"readWriteAnyDatabase\" as well")
    }

    /// The names of all databases; `None` if the user may not list them.
    pub(crate) async fn databases(&self) -> Result<Option<Vec<String>>> {
        // Without `authorizedDatabases: false`, a limited user gets only the databases that it may read,
        // without an error.
        self.listed(false).await
    }

    /// The names of the databases that the user may access.
    pub(crate) async fn own_databases(&self) -> Result<Vec<String>> {
        Ok(self.listed(true).await?.unwrap_or_default())
    }

    async fn listed(&self, authorized: bool) -> Result<Option<Vec<String>>> {
        let command = rawdoc! {"listDatabases": 1, "nameOnly": true, "authorizedDatabases": authorized};
        let answer = match self.ask(|| self.run("admin", command.clone())).await {
            Err(e) if errors::classify(&e) == Class::Unauthorized => return Ok(None),
            answer => answer.map_err(|e| self.explain("cannot list the databases", e))?,
        };
        let rows = answer.get_array("databases").map(Vec::as_slice).unwrap_or_default();
        let names = rows.iter().filter_map(|row| row.as_document()?.get_str("name").ok());
        Ok(Some(names.map(str::to_string).collect()))
    }

    /// The answer to `listCollections`, one document for each collection.
    pub(crate) async fn collections(&self, db: &str) -> Result<Vec<RawDocumentBuf>> {
        let database = self.client.database(db);
        self.ask(|| listing::list(&database))
            .await
            .map(|listing| listing.rows)
            .map_err(|e| self.explain(&format!("cannot list the collections of database '{db}'"), e))
    }

    /// The number of documents of a collection by the server's metadata; `None` if the user may not read the
    /// collection, which the built-in role `restore` does not allow.
    pub(crate) async fn count(&self, db: &str, collection: &str) -> Result<Option<u64>> {
        let (db, collection) = (db.to_string(), collection.to_string());
        self.count_in(&Destination { db, collection, buckets: false, raw: false }).await
    }

    /// [`RestoreTarget::count`] for a destination.
    pub(crate) async fn count_in(&self, place: &Destination) -> Result<Option<u64>> {
        let (db, collection) = (place.db.as_str(), place.collection.as_str());
        let command = || {
            let mut command = rawdoc! {"count": collection};
            // A server from 9.0 on can reject a collection scan without this hint (SERVER-127688).
            if self.version >= ServerVersion(9, 0, 0) {
                command.append(cstr!("hint"), rawdoc! {"$natural": 1});
            }
            place.command(command)
        };
        match self.insist(db, command).await.answer {
            Err(e) if errors::classify(&e) == Class::Unauthorized => Ok(None),
            Err(e) => Err(self.explain(&format!("cannot count {db}.{collection}"), e)),
            Ok(answer) => Ok(Some(number(answer.get("n")))),
        }
    }

    /// Counts documents by reading all of them. The server's metadata can be wrong after a crash, and on a
    /// sharded cluster.
    pub(crate) async fn count_exactly(&self, place: &Destination) -> Result<u64> {
        let (db, collection) = (place.db.as_str(), place.collection.as_str());
        let group = rawdoc! {"$group": {"_id": bson::RawBson::Null, "n": {"$sum": 1}}};
        let all = rawdoc! {"$natural": 1};
        let command = rawdoc! {"aggregate": collection, "pipeline": [group], "cursor": {}, "hint": all};
        let (database, command) = (self.client.database(db), place.command(command));
        let rows = self
            .ask(|| commands::documents(&database, command.clone()))
            .await
            .map_err(|e| self.explain(&format!("cannot count {db}.{collection}"), e))?;
        let Some(row) = rows.first() else { return Ok(0) };
        let row = Document::try_from(row.as_ref())
            .map_err(|e| Error::failed(format!("cannot count {db}.{collection}")).caused_by(e))?;
        Ok(number(row.get("n")))
    }

    /// Where the buckets of a time series are written: to their own collection or, from 8.3 on, to the name
    /// of the time series with `rawData: true`, as mongorestore does. A server that lists no bucket
    /// collection has none.
    pub(crate) async fn place_of_series(&self, db: &str, collection: &str) -> Result<Destination> {
        let buckets = format!("system.buckets.{collection}");
        let listed = self.version < ServerVersion(8, 3, 0) && {
            let rows = self.collections(db).await?;
            rows.iter().any(|row| row.get_str("name").is_ok_and(|name| name == buckets))
        };
        let collection = if listed { buckets } else { collection.into() };
        Ok(Destination { db: db.into(), collection, buckets: true, raw: !listed })
    }

    /// Returns all documents that a `find` command finds.
    pub(crate) async fn find(&self, db: &str, command: RawDocumentBuf) -> Result<Vec<RawDocumentBuf>> {
        let database = self.client.database(db);
        self.ask(|| commands::documents(&database, command.clone()))
            .await
            .map_err(|e| self.explain_beyond(&format!("cannot read from the database '{db}'"), e))
    }
}

fn number(value: Option<&bson::Bson>) -> u64 {
    match value {
        Some(bson::Bson::Int32(n)) => u64::try_from(*n).unwrap_or(0),
        Some(bson::Bson::Int64(n)) => u64::try_from(*n).unwrap_or(0),
        Some(bson::Bson::Double(n)) => *n as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(ServerVersion::parse("8.0.4-rc1"), ServerVersion(8, 0, 4));
        assert_eq!(ServerVersion::parse("unknown"), ServerVersion(0, 0, 0));
        for (version, keeps) in [
            ("4.4.29", false),
            ("5.0.29", true),
            ("6.0.5", false),
            ("7.0.12", false),
            ("7.0.13", true),
            ("8.2.0", true),
        ] {
            assert_eq!(ServerVersion::parse(version).keeps_empty_timestamps(), keeps, "{version}");
        }
    }
}
