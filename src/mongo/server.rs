//! The server that is backed up: MONGO_URI names a deployment, and the whole run reads one member of it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use bson::{Document, RawDocumentBuf, rawdoc};
use mongodb::error::{Error as Driver, Result as Answer};
use mongodb::options::{ClientOptions, ReadPreference, SelectionCriteria, ServerAddress};
use mongodb::{Client, Database};

use super::client::{self, Access};
use super::commands::{self, Hello, QUIET, bounded, heard};
use super::errors::{self, Class, UriSetting, User};
use super::notes::Notes;
use crate::base::error::{Error, Kind, Result};
use crate::base::retry::Patience;
use crate::base::secret::Secret;
use crate::config::uri;
use crate::model::server::{Fcv, made_set_id};

/// One member of a deployment. All reads of a run go to it. Clones share the connections.
#[derive(Clone)]
pub struct Server {
    client: Client,
    access: Arc<Access>,
    options: ClientOptions,
    user: Option<User>,
    /// How long the member may take to answer.
    pub(crate) stall: Duration,
    /// How long the tool waits for the member while it is down.
    pub(crate) patience: Patience,
    /// The shortest time in which the member answered a command so far, in microseconds.
    shortest: Arc<AtomicU64>,
    /// The member has not answered for a while, and that was logged.
    silent: Arc<AtomicBool>,
    /// Collects notes about the commands that had to be repeated.
    notes: Notes,
    /// The state of the member when the run began.
    pub hello: Hello,
}

/// The bounds for how long the driver searches for a server. Within them, the patience decides.
const SELECTION: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(30);
/// The most connections to the member, unless the connection string has a limit of its own.
const CONNECTIONS: u32 = 40;
/// How long another member of the set may take to answer.
const OTHER_MEMBER: Duration = Duration::from_secs(5);
/// How long the first answers may take, the selection of a server included.
const FIRST_ANSWER: Duration = Duration::from_secs(120);

impl Server {
    /// Connects to the deployment, and picks the member that the URI's read preference asks for. Later answers may take
    /// up to `stall`. Every command that has to be repeated, now or later, is added to `notes`.
    ///
    /// # Errors
    /// Returns an error if the connection string is invalid, or no member can be reached, or the login fails,
    /// or the member cannot be read.
    pub async fn connect(
        uri: &Secret,
        patience: &Patience,
        stall: Duration,
        notes: &Notes,
    ) -> Result<Server> {
        let access = Access::read(UriSetting::SOURCE, uri).await?;
        let note = |doing: &str, e: &Driver| {
            let why = access.passing(e)?;
            notes.count(format!("tried once more to {doing}, because {why}"));
            Some(why)
        };
        let (mut options, user) = access.resolve(patience, |e| note("resolve MONGO_URI", e)).await?;
        options.direct_connection.get_or_insert(false);
        // The driver opens two connections at a time, and each takes several round trips.
        options.max_pool_size.get_or_insert(CONNECTIONS);
        options.max_connecting.get_or_insert(CONNECTIONS);
        let selection = patience.total().clamp(*SELECTION.start(), *SELECTION.end());
        options.server_selection_timeout.get_or_insert(selection);
        let places = uri::shown_all(&options.hosts);
        let fail = |e| {
            let doing = format!("cannot connect to MongoDB at {places}{}", patience.in_vain_text());
            access.explain_first(doing, user.as_ref(), &e)
        };

        let seed = Client::with_options(options.clone()).map_err(fail)?;
        let criteria = options.selection_criteria.clone();
        let wish = criteria.unwrap_or(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        let admin = seed.database("admin");
        let service = format!("MongoDB at {places}");
        let connecting = format!("connect to {service}");
        let ask = async || {
            let answer = admin.run_command(bson::doc! {"hello": 1}).selection_criteria(wish.clone());
            let answer = bounded(FIRST_ANSWER, answer.into_future());
            heard(&service, QUIET, patience.total(), || true, answer).await.0
        };
        let reply = match patience.retry(&service, |e| note(&connecting, e), ask).await {
            Ok(reply) => reply,
            Err(e) => {
                let unfit = client::unfit(&options, &e).await;
                return Err(unfit.map_or_else(|| fail(e), |unfit| unfit.error(&places, UriSetting::SOURCE)));
            }
        };
        let member = match reply.get_str("me") {
            // `me` is the member's name in the set's configuration, by which the driver reached it.
            Ok(me) if options.direct_connection != Some(true) => ServerAddress::parse(me).map_err(fail)?,
            _ => options.hosts[0].clone(),
        };
        // The run goes on while this client closes.
        tokio::spawn(client::close(seed));

        options.hosts = vec![member];
        // Behind a load balancer no single member can be chosen.
        options.direct_connection = Some(options.load_balanced != Some(true));
        options.selection_criteria = None;
        let client = Client::with_options(options.clone()).map_err(fail)?;
        let ask = || bounded(FIRST_ANSWER, Hello::ask(&client, &options.hosts[0]));
        let hello = patience.retry(&service, |e| note(&connecting, e), ask).await.map_err(fail)?;
        if let Some(unfit) = hello.unfit {
            return Err(unfit.error(&hello.address, UriSetting::SOURCE));
        }
        Ok(Server {
            client,
            access: access.into(),
            options,
            user,
            stall,
            patience: patience.clone(),
            shortest: Arc::new(u64::MAX.into()),
            silent: Arc::default(),
            notes: notes.clone(),
            hello,
        })
    }

    /// Connects to the other members of the set that can be read. A member that does not answer soon is left out. Returns the
    /// members, and the addresses of those that were left out.
    pub(crate) async fn others(&self) -> (Vec<Server>, Vec<String>) {
        let Ok(reply) = self.command("admin", rawdoc! {"hello": 1}).await else { return Default::default() };
        let listed = ["hosts", "passives"].iter().filter_map(|key| reply.get_array(*key).ok()).flatten();
        let mut names: Vec<String> = listed.filter_map(|name| Some(name.as_str()?.to_string())).collect();
        let me = reply.get_str("me").unwrap_or(&self.hello.address).to_string();
        names.retain(|name| *name != me);
        let asking = names.into_iter().map(async |name| self.other(&name).await.ok_or(name));
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        for answer in futures_util::future::join_all(asking).await {
            match answer {
                Ok(server) => found.push(server),
                Err(name) => silent.push(name),
            }
        }
        (found, silent)
    }

    async fn other(&self, name: &str) -> Option<Server> {
        let mut options = self.options.clone();
        options.hosts = vec![ServerAddress::parse(name).ok()?];
        options.direct_connection = Some(true);
        options.server_selection_timeout = Some(OTHER_MEMBER);
        let client = Client::with_options(options.clone()).ok()?;
        let hello = bounded(OTHER_MEMBER, Hello::ask(&client, &options.hosts[0])).await.ok()?;
        let fits = hello.unfit.is_none() && hello.set_name == self.hello.set_name;
        fits.then(|| Server { client, options, hello, ..self.clone() })
    }

    /// Opens connections of its own to the same member, for the caller's runtime.
    pub(crate) fn reconnect(&self) -> Result<Server> {
        match Client::with_options(self.options.clone()) {
            Ok(client) => Ok(Server { client, ..self.clone() }),
            Err(e) => Err(self.explain("cannot connect to MongoDB", e)),
        }
    }

    pub(crate) fn database(&self, name: &str) -> Database {
        self.client.database(name)
    }

    /// Closes the connections, without waiting for a member that does not answer.
    pub async fn close(&self) {
        client::close(self.client.clone()).await;
    }

    /// True if each open cursor keeps a connection for itself, because a load balancer is in between. Then many cursors at once
    /// could wait for each other's connections.
    pub(crate) fn pins_cursors(&self) -> bool {
        self.options.load_balanced == Some(true)
    }

    /// The replica set in words.
    pub(crate) fn set_name(&self) -> String {
        match &self.hello.set_name {
            Some(name) => format!("the replica set '{name}'"),
            None => self.service(),
        }
    }

    /// The member in words.
    pub(crate) fn service(&self) -> String {
        format!("MongoDB at {}", self.hello.address)
    }

    /// The name of the user in MONGO_URI.
    pub(crate) fn user(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.name.as_str())
    }

    /// The next step if the user lacks a permission that a backup needs.
    pub(crate) fn grant_backup(&self) -> String {
        errors::grant_backup(self.user.as_ref())
    }

    /// The connection string with which mongodump reads this member.
    pub(crate) fn uri_for_mongodump(&self) -> Result<Secret> {
        let source = self.options.credential.as_ref().and_then(|c| c.source.as_deref());
        self.access.for_mongodump(&self.options.hosts[0], source)
    }

    /// Waits for an answer for the stall time-out at most. If a connection breaks without notice, the driver waits for ever.
    pub(crate) async fn bounded<T>(&self, answer: impl Future<Output = Answer<T>>) -> Answer<T> {
        bounded(self.stall, answer).await
    }

    /// Waits as [`Server::bounded`] does, and logs a long silence of the member, once for all simultaneous
    /// waits.
    pub(crate) async fn next<T>(&self, answer: impl Future<Output = Answer<T>>) -> Answer<T> {
        let log = || !self.silent.swap(true, Relaxed);
        let (answer, logged) = heard(&self.service(), QUIET, self.stall, log, self.bounded(answer)).await;
        if logged {
            self.silent.store(false, Relaxed);
        }
        answer
    }

    /// Sends a command that may be repeated. Repeats it after errors that may pass, until the patience is over.
    pub async fn ask<T, F: Future<Output = Answer<T>>>(&self, question: impl Fn() -> F) -> Answer<T> {
        let note = |error: &Driver| {
            let why = errors::passing(error)?;
            self.notes.count(format!("asked MongoDB once more after: {why}"));
            Some(why)
        };
        let timed = async || {
            let sent = Instant::now();
            let answer = self.bounded(question()).await;
            let took = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.shortest.fetch_min(took, Relaxed);
            answer
        };
        self.patience.retry(&self.service(), note, timed).await
    }

    /// Sends a command to a database, again after errors that may pass, and returns the answer.
    pub(crate) async fn command(&self, db: &str, command: RawDocumentBuf) -> Answer<Document> {
        let db = self.database(db);
        let send = || db.run_raw_command(command.clone()).selection_criteria(commands::any_member());
        self.ask(|| send().into_future()).await
    }

    /// The round trip to the member: the shortest time in which it answered a command so far. Zero if it was not asked yet.
    pub(crate) fn round_trip(&self) -> Duration {
        match self.shortest.load(Relaxed) {
            u64::MAX => Duration::ZERO,
            micros => Duration::from_micros(micros),
        }
    }

    /// Sends a cursor command, again after errors that may pass, and returns all documents.
    pub(crate) async fn documents(&self, db: &str, command: RawDocumentBuf) -> Answer<Vec<RawDocumentBuf>> {
        let db = self.database(db);
        self.ask(|| commands::documents(&db, command.clone())).await
    }

    /// Makes an error of this tool, which names the member, from a driver's error.
    pub fn explain(&self, doing: &str, error: Driver) -> Error {
        let doing = format!("{doing} ({}{})", self.service(), self.patience.in_vain_text());
        self.access.explain(doing, self.user.as_ref(), &error)
    }

    /// Explains an error as [`Server::explain`] does, for a command after the documents were read. If the member did
    /// not answer, another member may have become primary, which only a new run can read: the error is a
    /// [`Kind::Restart`].
    pub(crate) fn explain_late(&self, doing: &str, error: Driver) -> Error {
        let waited = errors::waited(&error) || self.patience.in_vain().is_some();
        let error = self.explain(doing, error);
        if waited { error.of_kind(Kind::Restart) } else { error }
    }

    /// Asks the member for its state now.
    pub(crate) async fn hello_now(&self) -> Answer<Hello> {
        self.ask(|| Hello::ask(&self.client, &self.options.hosts[0])).await
    }

    /// Compares the member's state with the one when the run began. Returns the change in words if the process or its
    /// role has changed: the old record ids are then invalid.
    pub(crate) fn changed(&self, now: &Hello) -> Option<String> {
        let what = if now.process != self.hello.process {
            "was restarted"
        } else if now.primary != self.hello.primary {
            if now.primary { "became primary" } else { "stepped down" }
        } else if now.election != self.hello.election {
            // This member may have copied writes of the other primary, and undone documents that were read.
            "stepped down and was elected again"
        } else {
            return None;
        };
        Some(format!("{} {what}", self.service()))
    }

    /// Checks that the member still runs the same process in the same role as when the run began.
    ///
    /// # Errors
    /// Returns a [`Kind::Restart`] if the process or its role has changed: a new run may succeed.
    pub async fn prove_unchanged(&self) -> Result<()> {
        let now = self.hello_now().await;
        let now =
            now.map_err(|e| self.explain_late("cannot read the member's state at the end of the run", e))?;
        match self.changed(&now) {
            Some(what) => Err(Error::restart(format!("{what} during the run"))),
            None => Ok(()),
        }
    }

    /// The server's version, `a.b.c`, or `unknown`.
    pub async fn version(&self) -> Result<String> {
        let reply = self.command("admin", rawdoc! {"buildInfo": 1}).await;
        let reply = reply.map_err(|e| self.explain("cannot read the server's version", e))?;
        Ok(reply.get_str("version").unwrap_or("unknown").to_string())
    }

    /// The server's feature compatibility version; `None` if the user may not know it, or the server has none.
    pub async fn feature_compatibility(&self) -> Result<Option<Fcv>> {
        let admin = self.database("admin");
        self.ask(|| commands::feature_compatibility(&admin))
            .await
            .map_err(|e| self.explain("cannot read the feature compatibility version", e))
    }

    /// The replica set's id. The built-in role `backup` may not read it; then it is made from the UUID of `config.transactions`.
    /// Returns `None` if the server is in no set, or does not answer.
    pub async fn replica_set_id(&self) -> Option<String> {
        match self.documents("local", rawdoc! {"find": "system.replset", "limit": 1}).await {
            Ok(rows) => {
                let settings = rows.first()?.get_document("settings").ok()?;
                settings.get_object_id("replicaSetId").ok().map(|id| id.to_hex())
            }
            Err(e) if errors::classify(&e) == Class::Unauthorized => {
                self.hello.set_name.as_ref()?;
                let list = rawdoc! {"listCollections": 1, "filter": {"name": "transactions"}};
                let rows = self.documents("config", list).await.ok()?;
                rows.first().and_then(|row| commands::uuid_of(row)).map(|uuid| made_set_id(&uuid))
            }
            Err(_) => None,
        }
    }
}
