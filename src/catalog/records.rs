//! Records of runs in MongoDB: the collection `runs` of the database `uzima_backup`, with a document for each run.
//!
//! They are a cache. The store wins if they differ ([`super::history`]), and lost records are written again from the store.
//! So nothing here ever clears the collection. Fields are only ever added: a reader ignores fields that it does not know,
//! and a writer leaves them alone.

mod schema;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bson::{Bson, Document, RawDocumentBuf, doc};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use mongodb::options::{
    Acknowledgment, CollectionOptions, IndexOptions, ReadPreference, ReadPreferenceOptions,
    SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection, IndexModel};
use serde::de::{IntoDeserializer, value::MapDeserializer};
use serde::{Deserialize, Serialize};

pub use schema::schema;

use super::place_files::KnownBackups;
use super::run::{BackupRun, Status, Verified, count};
use crate::base::bounds;
use crate::base::error::{Error, Result};
use crate::base::secret::{ExposeSecret, Redactor, Secret};
use crate::config::RecordsAt;
use crate::config::selection::RECORDS_DB;
use crate::config::uri;
use crate::model::id::BackupId;
use crate::mongo::client::Access;
use crate::mongo::commands::{bounded, heard};
use crate::mongo::errors::{self, Class, UriSetting, User};

const RUNS: &str = "runs";
/// The version of the format of a record.
const FORMAT: i64 = 1;
/// The time limit for finding a server, and for its answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The same for commands that can do their work without the records.
const READING: Duration = Duration::from_secs(3);
/// A longer silence is logged, because a run that waits for its records looks as if it had ended.
const QUIET: Duration = Duration::from_secs(3);

/// A server with records.
#[derive(Debug)]
pub struct Records {
    client: Client,
    runs: Collection<RawDocumentBuf>,
    patience: Duration,
    /// The log already says that the server is silent.
    silent: AtomicBool,
    redactor: Redactor,
    places: String,
    user: Option<User>,
    access: Access,
}

/// The content of the collection.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The runs, newest first.
    pub runs: Vec<BackupRun>,
    /// The id, if there is one, of each record that cannot be decoded, and the reason. Such records are left alone.
    pub unreadable: Vec<(String, String)>,
}

impl Records {
    /// Prepares a connection. The first request shows whether the server can be reached. `patience` is the time limit for
    /// finding the server, and for each answer.
    pub async fn connect(uri: &Secret, patience: Duration) -> Result<Records> {
        let redactor = Redactor::new(&[uri.expose_secret()], &[]);
        let failed = |why: String| {
            Error::failed(format!("the server of the records cannot be resolved: {}", redactor.clean(&why)))
                .hint("Correct MONGO_URI or BACKUP_RECORDS; with BACKUP_RECORDS=off nothing is recorded")
        };
        let access = Access::read(UriSetting::RECORDS, uri).await?;
        let parsed = tokio::time::timeout(patience, access.options()).await;
        let (mut options, user) = parsed
            .map_err(|_| failed(format!("no answer within {} s", patience.as_secs())))?
            .map_err(|e| failed(errors::tidy(&e)))?;
        // The connection string may have been written for reading the source, perhaps from a secondary.
        options.selection_criteria = None;
        options.read_concern = None;
        for wait in [&mut options.server_selection_timeout, &mut options.connect_timeout] {
            *wait = Some(wait.unwrap_or(patience).min(patience));
        }
        let places = uri::shown_all(&options.hosts);
        let client = Client::with_options(options).map_err(|e| failed(errors::tidy(&e)))?;
        // Without a primary, the records of a secondary are better than none.
        let read = ReadPreference::PrimaryPreferred { options: Some(ReadPreferenceOptions::default()) };
        let options = CollectionOptions::builder()
            .write_concern(WriteConcern::builder().w(Acknowledgment::Majority).w_timeout(patience).build())
            .selection_criteria(SelectionCriteria::ReadPreference(read))
            .build();
        let runs = client.database(RECORDS_DB).collection_with_options(RUNS, options);
        Ok(Records { client, runs, patience, silent: AtomicBool::new(false), redactor, places, user, access })
    }

    /// Records the beginning of a run.
    pub async fn begin(&self, run: &BackupRun) -> Result<()> {
        self.write(run).await?;
        let by_job = IndexModel::builder()
            .keys(doc! {"job": 1, "started_at": -1})
            .options(IndexOptions::builder().name("job_started_at".to_string()).build())
            .build();
        self.request(self.runs.create_index(by_job)).await.map(drop)
    }

    /// Writes the record of a run, whether or not there is one.
    pub async fn write(&self, run: &BackupRun) -> Result<()> {
        let update = update(run).map_err(|e| Error::failed("cannot encode the record").caused_by(e))?;
        self.request(self.runs.update_one(doc! {"_id": run.id.as_str()}, update).upsert(true)).await.map(drop)
    }

    /// Gives the record of a run that is under way a new id.
    pub async fn replace_id(&self, old: &BackupId, run: &BackupRun) -> Result<()> {
        // A kill between the two requests leaves one record too many, rather than none.
        self.write(run).await?;
        self.forget(old).await
    }

    /// Deletes the record of a run that is under way.
    pub async fn forget(&self, id: &BackupId) -> Result<()> {
        let gone = doc! {"_id": id.as_str(), "status": Status::Running.word()};
        self.request(self.runs.delete_one(gone)).await.map(drop)
    }

    /// Tries each kind of write that recording needs, on a document that is deleted afterwards.
    ///
    /// # Errors
    /// Returns an error that names the write which the server refuses, or for which the user lacks the right.
    pub async fn prove(&self) -> Result<()> {
        let refused = |what: &str, error: Error| {
            let step = error.next_step().unwrap_or_default().to_string();
            let text = format!("runs cannot be recorded: {RECORDS_DB}.{RUNS} takes no {what}");
            Error::failed(text).caused_by(error.chain()).hint(format!(
                "{step}. The collection must not be capped, and the user needs find, insert, update and remove on it"
            ))
        };
        let probe = doc! {"_id": format!("probe-{:016x}", rand::random::<u64>())};
        // The first request deletes, so that nothing is left behind if nothing can be deleted.
        self.request(self.runs.delete_one(probe.clone())).await.map_err(|e| refused("deletions", e))?;
        let raw = RawDocumentBuf::try_from(&probe).map_err(|e| Error::failed("the probe").caused_by(e))?;
        self.request(self.runs.insert_one(raw)).await.map_err(|e| refused("inserts", e))?;
        let longer = doc! {"$set": {"status": "probe", "what": "written by health, which deletes it"}};
        let updated = self.request(self.runs.update_one(probe.clone(), longer)).await;
        let deleted = self.request(self.runs.delete_one(probe)).await;
        updated.map_err(|e| refused("updates", e))?;
        deleted.map(drop).map_err(|e| refused("deletions", e))
    }

    /// Reads all records, or the records of one job.
    pub async fn all(&self, job: Option<&str>) -> Result<Recorded> {
        let filter = job.map_or_else(Document::new, |job| doc! {"job": job});
        let found = async {
            let cursor = self.runs.find(filter).sort(doc! {"started_at": -1, "_id": -1}).await?;
            cursor.try_collect::<Vec<RawDocumentBuf>>().await
        };
        let mut recorded = Recorded::default();
        for raw in self.within(found).await.map_err(|e| self.explain("read", e))? {
            let decoded =
                bounds::check_depth(&raw).and_then(|()| Document::try_from(raw).map_err(|e| e.to_string()));
            let (id, run) = match decoded {
                Ok(document) => {
                    let id = document.get("_id").map(|id| id.as_str().map_or(id.to_string(), str::to_string));
                    (id.unwrap_or_default(), decode(document))
                }
                Err(why) => (String::new(), Err(why)),
            };
            match run {
                Ok(run) => recorded.runs.push(run),
                Err(why) => {
                    log::warn!(
                        "the record {id} in {RECORDS_DB}.{RUNS} cannot be understood, and is left alone: {why}"
                    );
                    recorded.unreadable.push((id, why));
                }
            }
        }
        Ok(recorded)
    }

    /// Records that a cleanup deleted these backups. Returns the number of records that changed.
    pub async fn mark_deleted(&self, ids: &[BackupId], at: DateTime<Utc>) -> Result<u64> {
        let ids: Vec<&str> = ids.iter().map(BackupId::as_str).collect();
        let at = bson::DateTime::from_millis(at.timestamp_millis());
        let update = doc! {"$set": {"status": Status::Deleted.word(), "deleted_at": at}};
        let filter = doc! {"_id": {"$in": ids}, "status": {"$ne": Status::Deleted.word()}};
        Ok(self.request(self.runs.update_many(filter, update)).await?.modified_count)
    }

    /// Adds the result of a verify to the record of a backup, if there is one.
    async fn mark_verified(&self, id: &BackupId, verified: &Verified) -> Result<()> {
        let (known, _) =
            fields(verified).map_err(|e| Error::failed("cannot encode the result").caused_by(e))?;
        // Field by field, so that a verify without a drill keeps the last drill.
        let fields: Document =
            known.into_iter().map(|(key, value)| (format!("verified.{key}"), value)).collect();
        let update = doc! {"$set": fields};
        self.request(self.runs.update_one(doc! {"_id": id.as_str()}, update)).await.map(drop)
    }

    /// Closes the connections, but waits only a moment for a server that does not answer.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(1), self.client.shutdown()).await;
    }

    async fn request<T>(&self, answer: impl IntoFuture<Output = mongodb::error::Result<T>>) -> Result<T> {
        self.within(answer.into_future()).await.map_err(|e| self.explain("written", e))
    }

    /// Waits for an answer, with a time limit.
    async fn within<T>(
        &self,
        answer: impl Future<Output = mongodb::error::Result<T>>,
    ) -> mongodb::error::Result<T> {
        // The driver may take `patience` to find the server, and the server may take as long to answer.
        let limit = self.patience * 2;
        let service = format!("the server of the records, MongoDB at {},", self.places);
        let first = || !self.silent.swap(true, Relaxed);
        heard(&service, QUIET, limit, first, bounded(limit, answer)).await.0
    }

    /// The error of a request, with its cause and the next step. `what` is "read" or "written".
    fn explain(&self, what: &str, error: mongodb::error::Error) -> Error {
        let off = "with BACKUP_RECORDS=off nothing is recorded";
        let hint = match (errors::classify(&error), &self.user) {
            (Class::Unauthorized, Some(User { name, db })) => format!(
                "Grant the role: db.getSiblingDB(\"{db}\").grantRolesToUser({name:?}, [{{role: \"readWrite\", db: \
                 \"{RECORDS_DB}\"}}]); {off}"
            ),
            (Class::Unauthorized, None) => {
                format!("Name a user who may write to the database {RECORDS_DB}; {off}")
            }
            (Class::Login, _) => format!("Check user, password and authSource; {off}"),
            _ => match errors::connect_hint(&error, UriSetting::RECORDS) {
                Some(hint) => format!("{hint}; {off}"),
                None => format!("Check that MongoDB runs there and takes writes; {off}"),
            },
        };
        log::debug!("records cannot be {what}: {error}");
        let why = match self.access.relay_failure() {
            Some(why) if errors::classify(&error) == Class::Interrupted => why,
            _ => self.redactor.clean(&errors::tidy(&error)),
        };
        Error::failed(format!("records cannot be {what} (MongoDB at {}, database {RECORDS_DB})", self.places))
            .hint(hint)
            .caused_by(why)
    }
}

/// Returns the known fields of a value, and the names of those that are unknown.
fn fields(value: &impl Serialize) -> bson::error::Result<(Document, Document)> {
    let document = Document::try_from(bson::serialize_to_raw_document_buf(value)?)?;
    Ok(document.into_iter().partition(|(_, value)| *value != Bson::Null))
}

/// Returns the update that writes a run into its record. Unknown fields of the run are removed from the record.
fn update(run: &BackupRun) -> bson::error::Result<Document> {
    let (mut set, unset) = fields(run)?;
    set.remove("id");
    set.insert("format", FORMAT);
    if let Some(verified) = &run.verified {
        set.insert("verified", fields(verified)?.0);
    }
    Ok(match unset.is_empty() {
        true => doc! {"$set": set},
        false => doc! {"$set": set, "$unset": unset},
    })
}

/// Decodes a record.
///
/// # Errors
/// Returns the name of the wrong field and the fault, or says that a newer version wrote the record.
fn decode(mut document: Document) -> Result<BackupRun, String> {
    let format = count::deserialize(bson::Deserializer::new(document.remove("format").unwrap_or(Bson::Null)));
    let format = format.map_err(message)?.ok_or("it has no format")?;
    if format != FORMAT as u64 {
        return Err(format!("it has the format {format}, but this version only knows {FORMAT}"));
    }
    let read = Cell::new(None);
    let fields = document.into_iter().map(|(key, value)| {
        read.set(Some(key.clone()));
        // bson would change such a date to the end of the year 9999.
        let exists = |at: &bson::DateTime| DateTime::from_timestamp_millis(at.timestamp_millis()).is_some();
        let exists = value.as_datetime().is_none_or(exists);
        (key, RecordValue(if exists { value } else { Bson::Undefined }))
    });
    // If decoding fails after the last field, no field is wrong, but one is missing.
    let fields = fields.chain(std::iter::from_fn(|| {
        read.set(None);
        None
    }));
    BackupRun::deserialize(MapDeserializer::new(fields)).map_err(|e| match read.take() {
        Some(key) => format!("{key}: {}", message(e)),
        None => message(e),
    })
}

fn message(error: bson::error::Error) -> String {
    error.message.clone().unwrap_or_else(|| error.to_string())
}

struct RecordValue(Bson);

impl IntoDeserializer<'_, bson::error::Error> for RecordValue {
    type Deserializer = bson::Deserializer;

    fn into_deserializer(self) -> bson::Deserializer {
        bson::Deserializer::new(self.0)
    }
}

/// Returns true if both runs have the same record.
pub(super) fn same(a: &BackupRun, b: &BackupRun) -> bool {
    a.id == b.id && update(a).ok() == update(b).ok()
}

/// Reads all records, or the records of one job. If they are off or cannot be read, the log says so and the list is empty:
/// the store still has the backups.
pub async fn known_runs(at: &RecordsAt, job: Option<&str>) -> Vec<BackupRun> {
    let RecordsAt::Server(uri) = at else {
        log::debug!("runs are not recorded, so only what the store knows is shown");
        return Vec::new();
    };
    match with_records(uri, READING, async |records| records.all(job).await).await {
        Ok(recorded) => recorded.runs,
        Err(e) => {
            log::info!(
                "the records database is unavailable, so only what the store knows is shown: {}",
                e.chain()
            );
            Vec::new()
        }
    }
}

/// The backups that the place should hold according to the records, if the state directory of this machine does not know
/// the place. A directory may be another disk on another machine, so only records of this host count for it.
pub async fn expected_backups(
    at: &RecordsAt,
    state_dir: Option<&Path>,
    place: &str,
    host: &str,
) -> BTreeSet<BackupId> {
    if KnownBackups::load(state_dir, place).is_some_and(|known| !known.backups.is_empty()) {
        return BTreeSet::new();
    }
    let in_bucket = place.starts_with("s3://");
    let here = |run: &BackupRun| {
        run.status == Status::Completed && run.place == place && (in_bucket || run.host == host)
    };
    known_runs(at, None).await.into_iter().filter(here).map(|run| run.id).collect()
}

/// Records the result of a verify.
///
/// # Errors
/// Returns a message for a person. It may quote the driver, so secrets must be removed from it.
pub async fn record_verified(at: &RecordsAt, id: &BackupId, verified: &Verified) -> Result<(), String> {
    record(at, async |records| records.mark_verified(id, verified).await).await
}

/// Records that a cleanup deleted these backups.
///
/// # Errors
/// As [`record_verified`].
pub async fn record_deleted(at: &RecordsAt, ids: &[BackupId], now: DateTime<Utc>) -> Result<(), String> {
    record(at, async |records| records.mark_deleted(ids, now).await.map(drop)).await
}

async fn record(at: &RecordsAt, write: impl AsyncFnOnce(&Records) -> Result<()>) -> Result<(), String> {
    let RecordsAt::Server(uri) = at else { return Ok(()) };
    with_records(uri, PATIENCE, write).await.map_err(|e| not_recorded(&e))
}

async fn with_records<T>(
    uri: &Secret,
    patience: Duration,
    work: impl AsyncFnOnce(&Records) -> Result<T>,
) -> Result<T> {
    let records = Records::connect(uri, patience).await?;
    let done = work(&records).await;
    records.close().await;
    done
}

/// Returns the message about a run that could not be recorded, with the next step. It may contain secrets.
pub fn not_recorded(error: &Error) -> String {
    let step = error.next_step().map(|step| format!(" (next step: {step})")).unwrap_or_default();
    format!("the run could not be recorded: {}{step}", error.chain())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::timing::DataTiming;

    fn run() -> BackupRun {
        let id = "20261123T030000Z-7k3q9d".parse().unwrap();
        let at = "2026-11-23T03:00:00.123Z".parse().unwrap();
        BackupRun {
            status: Status::Completed,
            finished_at: Some("2026-11-23T03:05:00Z".parse().unwrap()),
            engine: Some("native".into()),
            consistency: Some("none".into()),
            namespaces: Some(3),
            documents: Some(u64::from(u32::MAX) + 1),
            raw_bytes: Some(1 << 50),
            stored_bytes: Some(0),
            key: Some("k".into()),
            timing: Some(DataTiming {
                seconds: 2.5,
                store_seconds: 2.0,
                other_seconds: 0.5,
                ..DataTiming::default()
            }),
            slow: Some("slower than usual: x".into()),
            error: Some("e".into()),
            verified: Some(Verified { at, sound: false, drilled: Some(at) }),
            warnings: vec!["look".into()],
            ..BackupRun::begun(id, "job", "host", "place", at)
        }
    }

    fn document(run: &BackupRun) -> Document {
        let mut document = update(run).unwrap().get_document("$set").unwrap().clone();
        document.insert("_id", run.id.as_str());
        document
    }

    #[test]
    fn a_record_reads_back() {
        let full = run();
        assert!(!update(&full).unwrap().contains_key("$unset"));
        let bare = BackupRun::begun(full.id.clone(), "job", "host", "place", full.started_at);
        assert_eq!(update(&bare).unwrap().get_document("$unset").unwrap().len(), 10);
        for run in [full, bare] {
            let document = document(&run);
            assert_eq!(decode(document.clone()), Ok(run));
            assert!(matches!(document.get("started_at"), Some(Bson::DateTime(_))));
        }
        assert!(matches!(document(&run()).get("documents"), Some(Bson::Int64(_))));
    }

    #[test]
    fn fields_of_newer_versions_are_ignored() {
        let mut document = document(&run());
        document.insert("mood", doc! {"good": true});
        document.insert("namespaces", 3.0);
        assert_eq!(decode(document), Ok(run()));
    }

    #[test]
    fn the_error_names_the_wrong_field() {
        for (key, value, word) in [
            ("_id", Bson::from(7), "_id"),
            ("_id", "latest".into(), "not a backup id"),
            ("format", 2_i64.into(), "format 2"),
            ("format", Bson::Null, "no format"),
            ("status", "asleep".into(), "status: unknown variant `asleep`"),
            ("started_at", "2026".into(), "started_at"),
            ("started_at", bson::DateTime::from_millis(i64::MAX).into(), "started_at"),
            ("job", Bson::Null, "job"),
            ("documents", (-1).into(), "documents"),
            ("documents", 0.5.into(), "documents"),
            ("warnings", "x".into(), "warnings"),
            ("verified", doc! {"sound": true}.into(), "verified: missing field `at`"),
            ("timing", doc! {"seconds": "long"}.into(), "timing: "),
        ] {
            let mut document = document(&run());
            document.insert(key, value);
            let why = decode(document).unwrap_err();
            assert!(why.contains(word), "{key}: {why}");
        }
    }
}
