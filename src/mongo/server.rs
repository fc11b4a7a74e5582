//! The server that is backed up: found by MONGO_URI, then one member of it for the whole run.

use std::ops::RangeInclusive;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bson::raw::cstr;
use bson::{RawDocument, RawDocumentBuf, rawdoc};
use futures_util::StreamExt;
use mongodb::error::Error as Driver;
use mongodb::options::{
    ClientOptions, ReadPreference, ReadPreferenceOptions, SelectionCriteria, ServerAddress,
};
use mongodb::{Client, Database};

use super::client::{self, Access, User};
use super::errors::{self, Class};
use super::fcv;
use super::hello::{Hello, Unfit, hello};
use super::notes::Notes;
use super::patience::{Progress, QUIET, bounded, heard, passing};
use crate::base::bounds;
use crate::base::error::{Error, Kind, Result};
use crate::base::retry::Patience;
use crate::base::secret::Secret;
use crate::base::units;
use crate::config::uri;
use crate::model::server::Fcv;

/// One member of a deployment, to which every read of a run goes.
pub struct Server {
    client: Client,
    access: Access,
    options: ClientOptions,
    user: Option<User>,
    /// How long it may take to answer.
    pub(crate) stall: Duration,
    /// How long it is waited for when it is down.
    pub(crate) patience: Patience,
    /// It has not answered for a while, and that was logged.
    pub(super) silent: AtomicBool,
    /// What had to be asked again.
    pub(super) notes: Notes,
    /// Who it was at the start.
    pub hello: Hello,
}

/// How long a member may take to answer, until [`Server::patient`] says otherwise.
const STALL: Duration = Duration::from_secs(600);
/// The longest answer of several documents that is kept in memory, in bytes: the collections of a database, the indexes of
/// a collection, users. 130,000 collections take about a fifth of it.
const LARGEST_LIST: usize = 256 << 20;
/// How long the driver looks for a server, between these bounds: for as long as the patience lasts.
const SELECTION: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(30);
/// How long the first answers may take, the selection of a server included.
const FIRST_ANSWER: Duration = Duration::from_secs(120);

impl Server {
    /// Connects to the deployment, picks the member that the URI's read preference asks for, and
    /// holds on to it.
    pub async fn connect(uri: &Secret, patience: &Patience) -> Result<Server> {
        Server::connect_noting(uri, patience, &Notes::default()).await
    }

    /// The same; what has to be asked again, now and later, is added to `notes`.
    pub async fn connect_noting(uri: &Secret, patience: &Patience, notes: &Notes) -> Result<Server> {
        let access = Access::read("MONGO_URI", uri)?;
        let note = |doing: &str, e: &mongodb::error::Error| {
            let why = passing(e).filter(|_| access.passes())?;
            notes.count(format!("tried once more to {doing}, because {why}"));
            Some(why)
        };
        let resolving = "resolve MONGO_URI";
        let (mut options, user) = patience
            .retry("the name server, for MONGO_URI", |e| note(resolving, e), || access.options())
            .await
            .map_err(|e| client::unresolved("MONGO_URI", patience, &e))?;
        options.direct_connection.get_or_insert(false);
        let selection = patience.total().clamp(*SELECTION.start(), *SELECTION.end());
        options.server_selection_timeout.get_or_insert(selection);
        let places = uri::shown_all(&options.hosts);
        let fail = |e| {
            let doing = format!("cannot connect to MongoDB at {places}{}", patience.in_vain_text());
            let away = matches!(errors::classify(&e), Class::Login | Class::Interrupted);
            if let Some((why, step)) = access.why().filter(|_| errors::classify(&e) == Class::Interrupted) {
                let error = Error::new(Kind::Away, doing.clone()).caused_by(why);
                return error.hint(step.map_or_else(
                    || "Check that MongoDB runs there, that MONGO_URI names it, and its TLS settings".into(),
                    |step| step.words("MONGO_URI", false),
                ));
            }
            if let Some(why) = errors::without_hello(&e) {
                return Error::new(Kind::Away, doing.clone()).caused_by(why).hint("Update the server");
            }
            let error = errors::explain(doing.clone(), user.as_ref(), e);
            if away { error.of_kind(Kind::Away) } else { error }
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
                let asked = match errors::classify(&e) {
                    Class::Login => client::unfit(&options).await,
                    _ => None,
                };
                return Err(match asked {
                    Some(unfit) => of_unfit(&places, unfit),
                    None => fail(e),
                });
            }
        };
        let member = match reply.get_str("me") {
            // `me` is the member's name in the set's configuration, by which the driver reached it.
            Ok(me) if options.direct_connection != Some(true) => ServerAddress::parse(me).map_err(fail)?,
            _ => options.hosts[0].clone(),
        };
        // Nothing depends on its end.
        tokio::spawn(client::close(seed));

        options.hosts = vec![member];
        // Behind a load balancer no single member can be chosen.
        options.direct_connection = Some(options.load_balanced != Some(true));
        options.selection_criteria = None;
        let client = Client::with_options(options.clone()).map_err(fail)?;
        let ask = || bounded(FIRST_ANSWER, hello(&client, &options.hosts[0]));
        let hello = patience.retry(&service, |e| note(&connecting, e), ask).await.map_err(fail)?;
        if let Some(unfit) = hello.unfit {
            return Err(of_unfit(&hello.address, unfit));
        }
        Ok(Server {
            client,
            access,
            options,
            user,
            stall: STALL,
            patience: patience.clone(),
            silent: AtomicBool::new(false),
            notes: notes.clone(),
            hello,
        })
    }

    /// The same with another bound on how long an answer may take.
    pub fn patient(mut self, stall: Duration) -> Server {
        self.stall = stall;
        self
    }

    /// The client of the member.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Another client of the same member, on the runtime of the caller.
    pub fn another_client(&self) -> Result<Client> {
        Client::with_options(self.options.clone()).map_err(|e| self.explain("cannot connect to MongoDB", e))
    }

    /// Ends the connections; a member that does not answer must not hold the run up.
    pub async fn close(&self) {
        client::close(self.client.clone()).await;
    }

    /// The replica set in words.
    pub fn set_name(&self) -> String {
        match &self.hello.set_name {
            Some(name) => format!("the replica set '{name}'"),
            None => format!("MongoDB at {}", self.hello.address),
        }
    }

    /// The user of MONGO_URI.
    pub fn user(&self) -> Option<&str> {
        self.user.as_ref().map(|user| user.name.as_str())
    }

    /// The next step for a user that may not read what a backup reads.
    pub fn grant_backup(&self) -> String {
        errors::grant_backup(self.user.as_ref())
    }

    /// The connection string with which mongodump reads this member.
    ///
    /// # Errors
    /// Returns an error if mongodump cannot be led to the member.
    pub fn uri_for_mongodump(&self) -> Result<Secret> {
        let source = self.options.credential.as_ref().and_then(|c| c.source.as_deref());
        self.access.for_mongodump(&self.options.hosts[0], source)
    }

    /// An error of ours that names the member.
    pub fn explain(&self, doing: &str, error: mongodb::error::Error) -> Error {
        let place = format!("(MongoDB at {}{})", self.hello.address, self.patience.in_vain_text());
        errors::explain(format!("{doing} {place}"), self.user.as_ref(), error)
    }

    /// Who the member is now.
    pub async fn hello_now(&self, client: &Client) -> mongodb::error::Result<Hello> {
        self.ask(|| hello(client, &self.options.hosts[0])).await
    }

    /// The server's version, `a.b.c`.
    pub async fn version(&self) -> Result<String> {
        let admin = self.client.database("admin");
        let reply = self
            .ask(|| admin.run_command(bson::doc! {"buildInfo": 1}).into_future())
            .await
            .map_err(|e| self.explain("cannot ask for the version", e))?;
        Ok(reply.get_str("version").unwrap_or("unknown").to_string())
    }

    /// The server's feature compatibility version; `None` if the user may not know, or it has none.
    pub async fn feature_compatibility(&self) -> Result<Option<Fcv>> {
        let admin = self.client.database("admin");
        self.ask(|| fcv::of_server(&admin))
            .await
            .map_err(|e| self.explain("cannot ask for the feature compatibility version", e))
    }

    /// The replica set's id, where the user may read it.
    pub async fn replica_set_id(&self) -> Option<String> {
        let local = self.client.database("local");
        let find = rawdoc! {"find": "system.replset", "limit": 1_i32};
        let rows = self.ask(|| documents(&local, find.clone())).await.ok()?;
        let settings = rows.first()?.get_document("settings").ok()?;
        settings.get_object_id("replicaSetId").ok().map(|id| id.to_hex())
    }
}

/// The error that a member cannot be read.
fn of_unfit(address: &str, unfit: Unfit) -> Error {
    let message = format!("MongoDB at {address} cannot be read: it {}", unfit.words());
    Error::new(Kind::Away, message).hint(unfit.step().words("MONGO_URI", false))
}

/// The member that a direct connection leads to, whatever it is.
pub fn any_member() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::PrimaryPreferred {
        options: Some(ReadPreferenceOptions::default()),
    })
}

/// All documents that a cursor command answers, as raw bytes, at most [`LARGEST_LIST`].
///
/// # Errors
/// Returns an error if there are more, or if one is nested deeper than [`bounds::DEEPEST`].
pub async fn documents(
    db: &Database,
    command: RawDocumentBuf,
) -> mongodb::error::Result<Vec<RawDocumentBuf>> {
    let mut cursor = db.run_raw_cursor_command(command).selection_criteria(any_member()).batch().await?;
    let (mut out, mut bytes) = (Vec::new(), 0);
    let mut progress = Progress::new(STALL);
    while let Some(batch) = cursor.next().await {
        let batch = batch?;
        let documents = batch.doc_slices()?;
        progress.step(!documents.is_empty())?;
        for document in documents {
            let Some(document) = document?.as_document() else { continue };
            bytes += document.as_bytes().len();
            if bytes > LARGEST_LIST {
                let limit = units::bytes(LARGEST_LIST as u64);
                return Err(Driver::custom(format!(
                    "the server's list is longer than {limit}, and no more is read"
                )));
            }
            bounds::check_depth(document).map_err(|why| Driver::custom(nested(document, &why)))?;
            out.push(document.to_owned());
        }
    }
    Ok(out)
}

/// The cause that a document is nested too deeply, with the document's name if it has one.
fn nested(document: &RawDocument, why: &str) -> String {
    let name = ["name", "_id"].iter().find_map(|key| document.get_str(*key).ok());
    match name {
        Some(name) => format!("the server sent the definition of '{name}', and {why}"),
        None => format!("the server sent a document, and {why}"),
    }
}

/// The UUID of a `listCollections` row as hex digits; views have none.
pub fn uuid_of(row: &RawDocument) -> Option<String> {
    let uuid = row.get_document("info").ok()?.get_binary("uuid").ok()?;
    Some(uuid.bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// `listIndexes` of a collection, verbatim.
pub async fn list_indexes(db: &Database, collection: &str) -> mongodb::error::Result<Vec<RawDocumentBuf>> {
    let mut command = RawDocumentBuf::new();
    command.append(cstr!("listIndexes"), collection);
    command.append(cstr!("cursor"), rawdoc! {"batchSize": 1_000_i32});
    documents(db, command).await
}
