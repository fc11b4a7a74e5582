//! Commands that this tool sends to a server, their answers, and how long it waits for them.

use std::time::{Duration, Instant};

use bson::{Bson, Document, RawDocument, RawDocumentBuf, doc, rawdoc};
use futures_util::StreamExt;
use mongodb::error::{Error as Driver, ErrorKind, Result};
use mongodb::options::{ReadPreference, ReadPreferenceOptions, SelectionCriteria, ServerAddress};
use mongodb::{Client, Database};

use super::errors::{ConnectStep, UriSetting};
use crate::base::error::{Error, Kind};
use crate::base::{bounds, units};
use crate::config::uri;
use crate::model::server::{Fcv, Topology};

/// A longer silence of a server is logged.
pub const QUIET: Duration = Duration::from_secs(10);
/// How long a member may take to answer, unless the settings say otherwise.
pub const STALL: Duration = Duration::from_secs(600);
/// The longest list of documents that is kept in memory, in bytes: the collections of a database, the indexes of a
/// collection, users. 130,000 collections take about a fifth of it.
const LARGEST_LIST: usize = 256 << 20;

/// Waits for an answer for `limit` at most. If a connection breaks without notice, the driver waits for ever.
pub async fn bounded<T>(limit: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
    let late = || timed_out(format!("no answer within {} s", limit.as_secs()));
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(late()))
}

fn timed_out(text: String) -> Driver {
    std::io::Error::new(std::io::ErrorKind::TimedOut, text).into()
}

/// Waits for an answer that may take up to `limit`. If `service` is silent for longer than `quiet` and `log` allows it, a
/// warning is logged. Returns the answer, and whether the warning was logged.
pub async fn heard<T>(
    service: &str,
    quiet: Duration,
    limit: Duration,
    log: impl FnOnce() -> bool,
    answer: impl Future<Output = T>,
) -> (T, bool) {
    let mut answer = std::pin::pin!(answer);
    if let Ok(answer) = tokio::time::timeout(quiet, &mut answer).await {
        return (answer, false);
    }
    let logs = log();
    if logs {
        let (quiet, limit) = (quiet.as_secs(), limit.as_secs());
        log::warn!("{service} has not answered for {quiet} s; waiting for up to {limit} s");
    }
    (answer.await, logs)
}

/// Detects a cursor that makes no progress. A server may answer with empty batches for ever, each of them in time.
pub struct Progress {
    limit: Duration,
    moved: Instant,
}

impl Progress {
    /// Answers without progress count as a stall after `limit`.
    pub fn new(limit: Duration) -> Progress {
        Progress { limit, moved: Instant::now() }
    }

    /// Counts an answer. `moved` is true if it brought a document or a newer resume token.
    ///
    /// # Errors
    /// Returns a time-out if the cursor made no progress for the limit.
    pub fn step(&mut self, moved: bool) -> Result<()> {
        if moved {
            self.moved = Instant::now();
            return Ok(());
        }
        if self.moved.elapsed() < self.limit {
            return Ok(());
        }
        Err(timed_out(format!("no document within {} s, only empty batches", self.limit.as_secs())))
    }
}

/// Selects the member of a direct connection, whatever its state is.
pub fn any_member() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::PrimaryPreferred {
        options: Some(ReadPreferenceOptions::default()),
    })
}

/// All documents that a cursor command returns, as raw bytes.
///
/// # Errors
/// Returns an error if the documents are larger than [`LARGEST_LIST`] together, or if one is nested deeper than
/// [`bounds::DEEPEST`].
pub async fn documents(db: &Database, command: RawDocumentBuf) -> Result<Vec<RawDocumentBuf>> {
    let (mut out, mut bytes) = (Vec::new(), 0);
    each_document(db, command, any_member(), |document| {
        bytes += document.as_bytes().len();
        if bytes > LARGEST_LIST {
            let limit = units::bytes(LARGEST_LIST as u64);
            let text = format!("the server's list is longer than the limit of {limit}");
            return Err(Driver::custom(text));
        }
        bounds::check_depth(document).map_err(|why| Driver::custom(too_deep(document, &why)))?;
        out.push(document.to_owned());
        Ok(())
    })
    .await?;
    Ok(out)
}

/// Runs a cursor command, and passes each document to `take`. Only one batch of the server is in memory.
pub async fn each_document(
    db: &Database,
    command: RawDocumentBuf,
    members: SelectionCriteria,
    mut take: impl FnMut(&RawDocument) -> Result<()>,
) -> Result<()> {
    let mut cursor = db.run_raw_cursor_command(command).selection_criteria(members).batch().await?;
    let mut progress = Progress::new(STALL);
    while let Some(batch) = cursor.next().await {
        let batch = batch?;
        let documents = batch.doc_slices()?;
        progress.step(!documents.is_empty())?;
        for document in documents {
            let Some(document) = document?.as_document() else { continue };
            take(document)?;
        }
    }
    Ok(())
}

/// Returns the message about a document that is nested too deeply, with the document's name if it has one.
fn too_deep(document: &RawDocument, why: &str) -> String {
    let name = ["name", "_id"].iter().find_map(|key| document.get_str(*key).ok());
    match name {
        Some(name) => format!("the server sent an unusable definition of '{name}': {why}"),
        None => format!("the server sent an unusable document: {why}"),
    }
}

/// The UUID of a `listCollections` row as hex digits; views have none.
pub fn uuid_of(row: &RawDocument) -> Option<String> {
    let uuid = row.get_document("info").ok()?.get_binary("uuid").ok()?;
    Some(uuid.bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// The names in an answer to `listDatabases`.
pub fn database_names(reply: &Document) -> impl Iterator<Item = &str> {
    let rows = reply.get_array("databases").map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| row.as_document()?.get_str("name").ok())
}

/// Reads a non-negative number of any type from an answer.
pub fn number(value: &Bson) -> Option<u64> {
    match value {
        Bson::Int32(n) => u64::try_from(*n).ok(),
        Bson::Int64(n) => u64::try_from(*n).ok(),
        Bson::Double(n) => Some(*n as u64),
        _ => None,
    }
}

/// Asks a server for its feature compatibility version. `admin` is the server's database of that name.
///
/// Returns `None` if the user may not know the version, or the server has none (FerretDB, for example). The built-in roles
/// `backup` and `restore` may run `getParameter`; other users may still be allowed to read `admin.system.version`. While the
/// version is being changed, the lower one is returned.
pub async fn feature_compatibility(admin: &Database) -> Result<Option<Fcv>> {
    const NAME: &str = "featureCompatibilityVersion";
    let command = admin.run_command(doc! {"getParameter": 1, NAME: 1});
    match command.selection_criteria(any_member()).await {
        Ok(reply) => {
            let value = reply.get_document(NAME).and_then(|value| value.get_str("version"));
            return Ok(value.ok().and_then(|text| text.parse().ok()));
        }
        Err(e) if !matches!(&*e.kind, ErrorKind::Command(_)) => return Err(e),
        Err(_) => {}
    }
    // mongos has no such parameter, but the document has the version of its config servers.
    let find =
        rawdoc! {"find": "system.version", "filter": {"_id": NAME}, "limit": 1_i32, "singleBatch": true};
    match documents(admin, find).await {
        Ok(rows) => {
            let text = rows.first().and_then(|row| row.get_str("version").ok());
            Ok(text.and_then(|text| text.parse().ok()))
        }
        Err(e) if matches!(&*e.kind, ErrorKind::Command(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A member's answer to `hello`.
#[derive(Debug, Clone, PartialEq)]
pub struct Hello {
    /// `host:port`, an IPv6 address in brackets, or the path of a Unix socket.
    pub address: String,
    pub topology: Topology,
    pub set_name: Option<String>,
    /// True if the member accepts writes.
    pub(super) primary: bool,
    /// Why the member cannot be read.
    pub(super) unfit: Option<Unfit>,
    /// The id of the election that made the member primary.
    pub(super) election: Option<String>,
    /// Changes when the process is restarted; servers before 4.4 do not send it.
    pub(super) process: Option<String>,
}

impl Hello {
    /// Asks the member at `address`, to which `client` has a direct connection.
    pub(super) async fn ask(client: &Client, address: &ServerAddress) -> Result<Hello> {
        let admin = client.database("admin");
        let reply = admin.run_command(doc! {"hello": 1}).selection_criteria(any_member()).await?;
        let set_name = reply.get_str("setName").ok().map(str::to_string);
        let topology = match &set_name {
            _ if reply.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") => Topology::Mongos,
            Some(_) => Topology::ReplicaSet,
            None => Topology::Standalone,
        };
        let process = reply.get_document("topologyVersion").and_then(|v| v.get_object_id("processId"));
        Ok(Hello {
            address: uri::shown(address),
            topology,
            set_name,
            election: reply.get_object_id("electionId").ok().map(|id| id.to_hex()),
            primary: reply.get_bool("isWritablePrimary").unwrap_or(false),
            unfit: Unfit::of(&reply),
            process: process.ok().map(|id| id.to_hex()),
        })
    }

    /// Returns true if the member accepted writes when it was asked.
    pub(crate) fn is_primary(&self) -> bool {
        self.primary
    }

    /// The member in words: `replica set rs0, db1:27017`.
    pub fn words(&self) -> String {
        let kind = match (self.topology, &self.set_name) {
            (Topology::Mongos, _) => "mongos".to_string(),
            (_, Some(name)) => format!("replica set {name}"),
            (_, None) => "standalone".to_string(),
        };
        format!("{kind}, {}", self.address)
    }
}

/// Why a member that answers cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// The member votes, and holds no data.
    Arbiter,
    /// The member was started for a replica set that was not initiated.
    Uninitiated,
    /// The member is starting, copying data or recovering.
    Recovering,
}

impl Unfit {
    /// Reads a reply to `hello`; `None` if the member can be read.
    pub fn of(reply: &Document) -> Option<Unfit> {
        let on = |key| reply.get_bool(key).unwrap_or(false);
        if on("arbiterOnly") {
            Some(Unfit::Arbiter)
        } else if on("isreplicaset") && !reply.contains_key("setName") {
            Some(Unfit::Uninitiated)
        } else if reply.contains_key("setName") && !on("isWritablePrimary") && !on("secondary") {
            Some(Unfit::Recovering)
        } else {
            None
        }
    }

    /// The error for the member at `address`, with the next step.
    pub(crate) fn error(self, address: &str, setting: UriSetting) -> Error {
        let (why, step) = match self {
            Unfit::Arbiter => ("is an arbiter, which holds no data", ConnectStep::Members),
            Unfit::Uninitiated => {
                ("is a member of a replica set that was not initiated", ConnectStep::Initiate)
            }
            Unfit::Recovering => {
                let why = "is neither primary nor secondary: it is starting, copying data or recovering";
                (why, ConnectStep::Members)
            }
        };
        let message = match setting.writes {
            true => format!("MongoDB at {address} does not accept writes: it {why}"),
            false => format!("MongoDB at {address} cannot be read: it {why}"),
        };
        Error::new(Kind::Away, message).hint(step.words(setting))
    }
}
