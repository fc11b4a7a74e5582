//! The server that a restore writes to. [`RestoreTarget`] connects to the primary, asks for its version, sends
//! commands, and lists and counts collections; the modules below write. An error of the kind `Refused` concerns one
//! command, every other error ends the restore.
//!
//! A command is sent again while its failure may pass, because one lost connection must not end the restore. Commands
//! without an answer are counted, so that a restore that ends early can wait for them.

mod apply;
pub(crate) mod aside;
pub(crate) mod collections;
pub(crate) mod insert;
pub(crate) mod legacy_indexes;
pub(crate) mod marks;
pub(crate) mod pace;
pub(crate) mod rights;
pub mod throwaway;
pub(crate) mod trial;
pub(crate) mod users_and_roles;

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bson::raw::cstr;
use bson::{Document, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use futures_util::StreamExt;
use mongodb::Client;
use mongodb::error::{Error as Driver, Result as Answer};
use mongodb::options::{Acknowledgment, ClientOptions, ReadPreference, SelectionCriteria, ServerAddress};
use mongodb::raw_batch_cursor::RawBatchCursor;
use tokio::sync::watch;

use self::insert::Destination;
use self::pace::Pace;
use self::trial::Trials;
use crate::base::error::{Error, Kind, Result};
use crate::base::retry::Patience;
use crate::base::secret::Secret;
use crate::config::uri;
use crate::model::namespace::BUCKETS;
use crate::model::server::Fcv;
use crate::mongo::client::{self, Access};
use crate::mongo::commands::{self, STALL, Unfit};
use crate::mongo::errors::{self, Class, UriSetting, User};
use crate::mongo::{listing, meaning};

/// Codes of failures that concern the whole server, not one namespace: WriteConcernFailed, UnknownReplWriteConcern,
/// UnsatisfiableWriteConcern, ReauthenticationRequired, OutOfDiskSpace. After one of these, a restore would drop further
/// namespaces and fail to fill them.
const EVERYWHERE: [i32; 5] = [64, 79, 100, 391, 14031];

/// How often a server that seems far away is asked again.
const PINGS: usize = 2;

const PRIMARY: SelectionCriteria = SelectionCriteria::ReadPreference(ReadPreference::Primary);

/// A cursor that [`RestoreTarget::next_batch`] reads.
pub(crate) type BatchCursor = RawBatchCursor;

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
    /// The numbers of commands at once.
    pub(crate) pace: Pace,
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

impl Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl RestoreTarget {
    /// Connects to the primary and asks for its version.
    ///
    /// # Errors
    /// Returns an error if no server answers, or if the server does not accept writes.
    pub async fn connect(uri: &Secret, patience: &Patience) -> Result<RestoreTarget> {
        let access = Access::read(UriSetting::TARGET, uri).await?;
        let (mut options, user) = access.resolve(patience, |e| access.passing(e)).await?;
        options.max_pool_size.get_or_insert(pace::CONNECTIONS.max(options.min_pool_size.unwrap_or(0)));
        options.max_connecting.get_or_insert(pace::CONNECTING);
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
                .map_err(|e| Error::failed("cannot connect to the target").caused_by(errors::tidy(&e)))?,
            user,
            access: Arc::new(access),
            patience: patience.clone(),
            address: uri::shown_all(&places),
            version: ServerVersion(0, 0, 0),
            fcv: None,
            pace: Pace::NEAR,
            concern,
            stranger,
            changes: Arc::default(),
            requests: PendingCommands::default(),
            trials: Arc::default(),
        };
        let answer = target.insist("admin", rawdoc! {"hello": 1});
        let service = target.service();
        let heard = commands::heard(&service, commands::QUIET, patience.total(), || true, answer);
        let hello = match heard.await.0 {
            Ok(hello) => hello,
            Err(e) => {
                let unfit = client::unfit(&target.stranger, &e).await;
                return Err(unfit.map_or_else(
                    || target.explain_first(&e),
                    |unfit| unfit.error(&target.address, UriSetting::TARGET),
                ));
            }
        };
        // A socket leads to one server, even if the replica set calls it by another name.
        let socket = matches!(places.as_slice(), [ServerAddress::Unix { .. }]);
        if let Some(me) = hello.get_str("me").ok().filter(|_| !socket) {
            target.address = me.into();
        }
        if let Some(unfit) = Unfit::of(&hello) {
            return Err(unfit.error(&target.address, UriSetting::TARGET));
        }
        if !hello.get_bool("isWritablePrimary").unwrap_or(true) {
            return Err(Error::failed(format!(
                "MongoDB at {} does not accept writes: it is a secondary",
                target.address
            ))
            .hint("Name the whole replica set in the connection string, so that its primary is found"));
        }
        let asked = Instant::now();
        let build = target.insist("admin", rawdoc! {"buildInfo": 1}).await;
        let first = asked.elapsed();
        let build = build.map_err(|e| target.explain_first(&e))?;
        target.version = ServerVersion::parse(build.get_str("version").unwrap_or_default());
        let asked = Instant::now();
        let fcv = commands::feature_compatibility(&target.client.database("admin")).await;
        // The connection exists already, so each answer takes one round trip.
        target.pace = target.measure_pace(first.min(asked.elapsed())).await;
        target.fcv = fcv.map_err(|e| target.explain("cannot read the feature compatibility version", e))?;
        Ok(target)
    }

    /// The pace for a server that once answered after this time. An answer may be late because a machine is busy, so a server that
    /// seems far away is asked again.
    async fn measure_pace(&self, mut round_trip: Duration) -> Pace {
        for _ in 0..PINGS {
            if Pace::of(round_trip) == Pace::NEAR {
                break;
            }
            let asked = Instant::now();
            let _ = self.run("admin", rawdoc! {"hello": 1}).await;
            round_trip = round_trip.min(asked.elapsed());
        }
        Pace::of(round_trip)
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
    pub(crate) fn user_and_db(&self) -> (&str, &str) {
        self.user.as_ref().map_or(("…", "admin"), |user| (&user.name, &user.db))
    }

    pub(crate) async fn close(&self) {
        client::close(self.client.clone()).await;
    }

    /// The text `doing` with the server's address, for an error message.
    fn doing(&self, doing: impl Display) -> String {
        format!("{doing} (MongoDB at {}{})", self.address, self.patience.in_vain_text())
    }

    /// Makes an error that names the server. Its kind is `Refused` if the server answered and the failure may
    /// concern this command alone.
    pub(crate) fn explain(&self, doing: impl Display, error: Driver) -> Error {
        let kind = if ends_all(&error) { Kind::Failed } else { Kind::Refused };
        self.access.explain(self.doing(doing), self.user.as_ref(), &error).of_kind(kind)
    }

    fn explain_first(&self, error: &Driver) -> Error {
        self.access.explain_first(self.doing("cannot connect to the target"), self.user.as_ref(), error)
    }

    /// Makes the same error as [`RestoreTarget::explain`] for a command that the role `restore` does not allow.
    /// `step` is the next step if the user lacks the right.
    fn explain_right(&self, doing: impl Display, error: Driver, step: &str) -> Error {
        let unauthorized = errors::classify(&error) == Class::Unauthorized;
        let error = self.explain(doing, error);
        if unauthorized { error.hint(step) } else { error }
    }

    fn explain_beyond(&self, doing: impl Display, error: Driver) -> Error {
        let step = "The role \"restore\" does not allow it: give the user \"readWriteAnyDatabase\" as well";
        self.explain_right(doing, error, step)
    }

    /// The names of all databases or, with `own`, of the databases that the user may access; `None` if the user may
    /// not list them.
    pub(crate) async fn databases(&self, own: bool) -> Result<Option<Vec<String>>> {
        // Without `authorizedDatabases: false`, a limited user gets only the databases that it may read,
        // without an error.
        let command = rawdoc! {"listDatabases": 1, "nameOnly": true, "authorizedDatabases": own};
        match self.insist("admin", command).await {
            Err(e) if errors::classify(&e) == Class::Unauthorized => Ok(None),
            Err(e) => Err(self.explain("cannot list the databases", e)),
            Ok(answer) => Ok(Some(commands::database_names(&answer).map(str::to_string).collect())),
        }
    }

    /// The answer to `listCollections`, one document for each collection.
    pub(crate) async fn collections(&self, db: &str) -> Result<Vec<RawDocumentBuf>> {
        let database = self.client.database(db);
        let listing = self.ask(|| listing::list(&database)).await;
        let doing = format_args!("cannot list the collections of database '{db}'");
        listing.map(|listing| listing.rows).map_err(|e| self.explain(doing, e))
    }

    /// The UUIDs of the collections of a database, as bytes, by their names.
    pub(crate) async fn uuids(&self, db: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        Ok(self.collections(db).await?.iter().filter_map(|row| uuid(row)).collect())
    }

    /// The UUID of a collection, as bytes; `None` if it does not exist.
    pub(crate) async fn uuid(&self, db: &str, collection: &str) -> Result<Option<Vec<u8>>> {
        let one = rawdoc! {"listCollections": 1, "filter": {"name": collection}};
        match self.documents(db, one).await {
            Ok(rows) => Ok(rows.first().and_then(|row| uuid(row)).map(|(_, uuid)| uuid)),
            // An invalid view, around which the whole database can be listed.
            Err(_) => Ok(self.uuids(db).await?.remove(collection)),
        }
    }

    /// The number of documents of a collection by the server's metadata; `None` if the user may not read the
    /// collection, which the built-in role `restore` does not allow.
    pub(crate) async fn count(&self, db: &str, collection: &str) -> Result<Option<u64>> {
        self.count_in(&Destination::new(db, collection)).await
    }

    /// [`RestoreTarget::count`] for a destination.
    pub(crate) async fn count_in(&self, place: &Destination) -> Result<Option<u64>> {
        let mut command = rawdoc! {"count": place.collection.as_str()};
        // A server from 9.0 on can reject a collection scan without this hint (SERVER-127688).
        if self.version >= ServerVersion(9, 0, 0) {
            command.append(cstr!("hint"), rawdoc! {"$natural": 1});
        }
        match self.insist(&place.db, place.command(command)).await {
            Err(e) if errors::classify(&e) == Class::Unauthorized => Ok(None),
            Err(e) => Err(self.explain(format_args!("cannot count {place}"), e)),
            Ok(answer) => Ok(Some(number(&answer, "n"))),
        }
    }

    /// Counts documents by reading all of them. The server's metadata can be wrong after a crash, and on a
    /// sharded cluster.
    pub(crate) async fn count_exactly(&self, place: &Destination) -> Result<u64> {
        let doing = format!("cannot count {place}");
        let group = rawdoc! {"$group": {"_id": bson::RawBson::Null, "n": {"$sum": 1}}};
        let all = rawdoc! {"$natural": 1};
        let collection = place.collection.as_str();
        let command = rawdoc! {"aggregate": collection, "pipeline": [group], "cursor": {}, "hint": all};
        let rows = self.documents(&place.db, place.command(command)).await;
        let rows = rows.map_err(|e| self.explain(&doing, e))?;
        let Some(row) = rows.first() else { return Ok(0) };
        let count = row.get("n").map_err(|e| Error::failed(doing).caused_by(e))?;
        Ok(count.and_then(meaning::number).unwrap_or_default() as u64)
    }

    /// Where the buckets of a time series are written: to their own collection or, from 8.3 on, to the name
    /// of the time series with `rawData: true`, as mongorestore does. A server that lists no bucket
    /// collection has none.
    pub(crate) async fn place_of_series(&self, db: &str, collection: &str) -> Result<Destination> {
        let buckets = format!("{BUCKETS}{collection}");
        let listed = self.version < ServerVersion(8, 3, 0) && {
            let rows = self.collections(db).await?;
            rows.iter().any(|row| row.get_str("name").is_ok_and(|name| name == buckets))
        };
        let collection = if listed { buckets } else { collection.into() };
        Ok(Destination { db: db.into(), collection, buckets: true, raw: !listed })
    }

    /// Returns all documents that a `find` command finds.
    pub(crate) async fn find(&self, db: &str, command: RawDocumentBuf) -> Result<Vec<RawDocumentBuf>> {
        let found = self.documents(db, command).await;
        found.map_err(|e| self.explain_beyond(format_args!("cannot read from the database '{db}'"), e))
    }

    /// Runs a cursor command, and returns all documents.
    async fn documents(&self, db: &str, command: RawDocumentBuf) -> Answer<Vec<RawDocumentBuf>> {
        let db = self.client.database(db);
        self.ask(|| commands::documents(&db, command.clone())).await
    }

    /// Runs a query, and adds each document to a result that begins with `start`. Only one batch of the server is in memory.
    pub(crate) async fn gather<T>(
        &self,
        db: &str,
        command: RawDocumentBuf,
        start: impl Fn() -> T,
        add: impl Fn(&mut T, &RawDocument),
    ) -> Result<T> {
        let database = self.client.database(db);
        let gathered = self.ask(async || {
            let mut result = start();
            // Another member may lack the newest writes.
            commands::each_document(&database, command.clone(), PRIMARY, |document| {
                add(&mut result, document);
                Ok(())
            })
            .await?;
            Ok(result)
        });
        gathered
            .await
            .map_err(|e| self.explain_beyond(format_args!("cannot read from the database '{db}'"), e))
    }

    /// Opens a cursor. [`RestoreTarget::next_batch`] reads it.
    pub(crate) async fn open_cursor(&self, db: &str, command: RawDocumentBuf) -> Result<BatchCursor> {
        let database = self.client.database(db);
        let opened = self.ask(|| {
            let open = database.run_raw_cursor_command(command.clone());
            open.selection_criteria(PRIMARY).batch().into_future()
        });
        opened.await.map_err(|e| self.explain_beyond(format_args!("cannot read from the database '{db}'"), e))
    }

    /// The next documents of a cursor, which follow each other; `None` at the end.
    pub(crate) async fn next_batch(&self, cursor: &mut BatchCursor) -> Result<Option<Vec<u8>>> {
        let mut read = async || -> Answer<Option<Vec<u8>>> {
            let Some(batch) = commands::bounded(STALL, async { cursor.next().await.transpose() }).await?
            else {
                return Ok(None);
            };
            let mut documents = Vec::new();
            for document in batch.doc_slices()? {
                documents.extend_from_slice(document?.as_document().map_or(&[][..], RawDocument::as_bytes));
            }
            Ok(Some(documents))
        };
        read().await.map_err(|e| self.explain("cannot read a staging collection", e))
    }

    /// Sends a command once and returns the answer.
    async fn run(&self, db: &str, command: RawDocumentBuf) -> Answer<Document> {
        self.run_for(STALL, db, command).await
    }

    async fn run_for(&self, limit: Duration, db: &str, command: RawDocumentBuf) -> Answer<Document> {
        let db = self.client.database(db);
        let running = self.requests.begin();
        // The command runs in its own task, so that it is counted until its answer arrives, even if the
        // caller stops waiting. A late drop or create would undo the next restore.
        let task = tokio::spawn(async move {
            let answer = commands::bounded(limit, db.run_raw_command(command).into_future()).await;
            drop(running);
            answer
        });
        task.await.unwrap_or_else(|e| Err(std::io::Error::other(e).into()))
    }

    /// Waits until every command is answered, or for `limit`. Returns false if an answer is missing.
    pub(crate) async fn settle(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.requests.none()).await.is_ok()
    }

    /// Sends a command that the server may have carried out already when it is sent again.
    async fn insist(&self, db: &str, command: RawDocumentBuf) -> Answer<Document> {
        self.insist_for(STALL, db, || command.clone()).await.0
    }

    /// The same with a limit for each answer. Returns also true if the command was sent more than once. Then the
    /// server may have carried it out before the last answer, and the caller handles that case.
    async fn insist_for(
        &self,
        limit: Duration,
        db: &str,
        command: impl Fn() -> RawDocumentBuf,
    ) -> (Answer<Document>, bool) {
        let (mut repeated, mut waiting) = (false, self.patience.start(self.service()));
        loop {
            let answer = self.run_for(limit, db, command()).await;
            match answer.as_ref().err().and_then(|e| self.access.passing(e)) {
                Some(why) if waiting.pause(&why).await => repeated = true,
                _ => {
                    if answer.is_ok() {
                        waiting.answered();
                    }
                    return (answer, repeated);
                }
            }
        }
    }

    /// Sends a command that changes data, and counts it.
    async fn change(&self, db: &str, command: RawDocumentBuf) -> Answer<Document> {
        self.change_repeated(db, || command.clone()).await.0
    }

    /// The same. Returns also true if the command was sent more than once.
    async fn change_repeated(
        &self,
        db: &str,
        command: impl Fn() -> RawDocumentBuf,
    ) -> (Answer<Document>, bool) {
        // Counted before it is sent: the server may carry it out even if the caller stops waiting.
        self.changes.fetch_add(1, SeqCst);
        let (answer, repeated) = self.insist_for(STALL, db, command).await;
        if !repeated && answer.as_ref().is_err_and(|e| errors::classify(e) == Class::Unauthorized) {
            self.changes.fetch_sub(1, SeqCst);
        }
        (answer, repeated)
    }

    /// Returns true if this connection changed nothing: every change was refused.
    pub(crate) fn is_untouched(&self) -> bool {
        self.changes.load(SeqCst) == 0
    }

    /// Runs a query, and repeats it while its failure may pass. A query changes nothing.
    async fn ask<T, F: Future<Output = Answer<T>>>(&self, question: impl Fn() -> F) -> Answer<T> {
        self.patience.retry(&self.service(), |e| self.access.passing(e), question).await
    }
}

/// The number of commands without an answer. Clones share it.
#[derive(Debug, Clone, Default)]
struct PendingCommands(Arc<watch::Sender<usize>>);

/// Counts as one command until it is dropped.
struct PendingCommand(PendingCommands);

impl PendingCommands {
    fn begin(&self) -> PendingCommand {
        self.0.send_modify(|count| *count += 1);
        PendingCommand(self.clone())
    }

    async fn none(&self) {
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for PendingCommand {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

/// Returns true if other commands would fail with the same error.
fn ends_all(error: &Driver) -> bool {
    errors::code(error).is_some_and(|code| EVERYWHERE.contains(&code))
        || matches!(errors::classify(error), Class::Interrupted | Class::Login)
}

/// Checks that the write of an answer reached the members that the write concern asks for.
fn acknowledged(answer: &Document, what: impl Display) -> Result<()> {
    let Ok(error) = answer.get_document("writeConcernError") else { return Ok(()) };
    let why = error.get_str("errmsg").unwrap_or_default().to_string();
    Err(Error::failed(format!("{what} not acknowledged")).caused_by(why))
}

/// A number in an answer; 0 if it is missing.
fn number(answer: &Document, field: &str) -> u64 {
    answer.get(field).and_then(commands::number).unwrap_or_default()
}

/// The name and UUID in a row of `listCollections`.
fn uuid(row: &RawDocument) -> Option<(String, Vec<u8>)> {
    let RawBsonRef::Binary(uuid) = row.get_document("info").ok()?.get("uuid").ok()?? else { return None };
    Some((row.get_str("name").ok()?.into(), uuid.bytes.to_vec()))
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

    #[tokio::test]
    async fn none_waits_for_every_running_command() {
        let requests = PendingCommands::default();
        requests.none().await;
        let (first, second) = (requests.begin(), requests.begin());
        drop(first);
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, requests.none()).await.is_err());
        drop(second);
        requests.none().await;
    }
}
