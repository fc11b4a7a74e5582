//! Records of runs in MongoDB: the collection `runs` of the database `uzima_backup`, a document a run.
//! They are a cache. What the store says wins ([`super::history`]), and whatever of them is lost is
//! written again from there; so nothing here ever clears the collection.

mod client;
mod document;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Document, doc};
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use mongodb::options::IndexOptions;
use mongodb::{Collection, IndexModel};

use super::known::KnownBackups;
use super::run::{BackupRun, Status, Verified};
use crate::base::bounds;
use crate::base::error::{Error, Result};
use crate::base::secret::Secret;
use crate::config::RecordsAt;
use crate::config::selection::RECORDS_DB;
use crate::model::id::BackupId;
use client::RecordsServer;

pub use document::same;

/// The collection.
pub const RUNS: &str = "runs";
/// How long a server is looked for, and how long it may take for an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The same for commands that can do their work without the records.
const READING: Duration = Duration::from_secs(3);

/// Where records are, and how long they are waited for.
#[derive(Debug, Clone)]
pub struct RecordsOptions {
    /// The server.
    pub uri: Secret,
    /// How long a server is looked for, and how long it may take for an answer.
    pub patience: Duration,
}

/// The records of a server.
#[derive(Debug)]
pub struct Records {
    server: RecordsServer,
    runs: Collection<RawDocumentBuf>,
}

/// What records say.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The runs, newest first.
    pub runs: Vec<BackupRun>,
    /// Records that cannot be understood: the id, as far as there is one, and why. They are left alone.
    pub unreadable: Vec<(String, String)>,
}

impl Records {
    /// Gets ready to talk to the server; whether it is there, the first question shows.
    pub async fn connect(options: &RecordsOptions) -> Result<Records> {
        let server = RecordsServer::connect(options).await?;
        Ok(Records { runs: server.collection(), server })
    }

    /// Writes down that a run begins.
    pub async fn begin(&self, run: &BackupRun) -> Result<()> {
        self.upsert(run).await?;
        let by_job = IndexModel::builder()
            .keys(doc! {"job": 1, "started_at": -1})
            .options(IndexOptions::builder().name("job_started_at".to_string()).build())
            .build();
        self.writing(self.runs.create_index(by_job)).await.map(drop)
    }

    /// Writes down how a run ended, whether or not its beginning could be.
    pub async fn finish(&self, run: &BackupRun) -> Result<()> {
        self.upsert(run).await
    }

    /// The same run goes on under a new id.
    pub async fn replace_id(&self, old: &BackupId, run: &BackupRun) -> Result<()> {
        // A kill between the two leaves one record too many, not one too few.
        self.upsert(run).await?;
        self.forget(old).await
    }

    /// Takes back that a run began.
    pub async fn forget(&self, id: &BackupId) -> Result<()> {
        let gone = doc! {"_id": id.as_str(), "status": Status::Running.word()};
        self.writing(self.runs.delete_one(gone)).await.map(drop)
    }

    /// Tries each kind of write that recording takes, with a record of no run, which is gone afterwards.
    ///
    /// # Errors
    /// Returns an error that names the write which the server or the user's rights refuse.
    pub async fn prove(&self) -> Result<()> {
        let refused = |what: &str, error: Error| {
            let step = error.next_step().unwrap_or_default().to_string();
            let text = format!("runs cannot be recorded: {RECORDS_DB}.{RUNS} takes no {what}");
            Error::failed(text).caused_by(error.chain()).hint(format!(
                "{step}. The collection must not be capped, and the user needs find, insert, update and remove on it"
            ))
        };
        let probe = doc! {"_id": format!("probe-{:016x}", rand::random::<u64>())};
        // First, so that nothing is left where nothing can be deleted.
        self.writing(self.runs.delete_one(probe.clone())).await.map_err(|e| refused("deletions", e))?;
        let raw = RawDocumentBuf::try_from(&probe).map_err(|e| Error::failed("the probe").caused_by(e))?;
        self.writing(self.runs.insert_one(raw)).await.map_err(|e| refused("inserts", e))?;
        let longer = doc! {"$set": {"status": "probe", "what": "written by health, which deletes it"}};
        let updated = self.writing(self.runs.update_one(probe.clone(), longer)).await;
        let deleted = self.writing(self.runs.delete_one(probe)).await;
        updated.map_err(|e| refused("updates", e))?;
        deleted.map(drop).map_err(|e| refused("deletions", e))
    }

    /// All records, or those of a job.
    pub async fn all(&self, job: Option<&str>) -> Result<Recorded> {
        let filter = job.map_or_else(Document::new, |job| doc! {"job": job});
        let found = async {
            let cursor = self.runs.find(filter).sort(doc! {"started_at": -1, "_id": -1}).await?;
            cursor.try_collect::<Vec<RawDocumentBuf>>().await
        };
        let mut recorded = Recorded::default();
        for raw in self.server.within(found).await.map_err(|e| self.server.explain("read", e))? {
            let decoded =
                bounds::check_depth(&raw).and_then(|()| Document::try_from(raw).map_err(|e| e.to_string()));
            match decoded {
                Ok(document) => match document::read(&document) {
                    Ok(run) => recorded.runs.push(run),
                    Err(why) => {
                        let id = document.get("_id").map(|id| match id.as_str() {
                            Some(id) => id.to_string(),
                            None => id.to_string(),
                        });
                        recorded.unreadable.push((id.unwrap_or_default(), why));
                    }
                },
                Err(why) => recorded.unreadable.push((String::new(), why)),
            }
        }
        for (id, why) in &recorded.unreadable {
            log::warn!(
                "the record {id} in {RECORDS_DB}.{RUNS} cannot be understood, and is left alone: {why}"
            );
        }
        Ok(recorded)
    }

    /// Writes down that a clean-up deleted these backups; how many records said otherwise.
    pub async fn mark_deleted(&self, ids: &[BackupId], at: DateTime<Utc>) -> Result<u64> {
        let ids: Vec<&str> = ids.iter().map(BackupId::as_str).collect();
        let update = doc! {"$set": {"status": Status::Deleted.word(), "deleted_at": document::time(at)}};
        let filter = doc! {"_id": {"$in": ids}, "status": {"$ne": Status::Deleted.word()}};
        Ok(self.writing(self.runs.update_many(filter, update)).await?.modified_count)
    }

    /// Writes down how a backup was found, where there is a record of it.
    pub async fn mark_verified(&self, id: &BackupId, verified: &Verified) -> Result<()> {
        // Field by field: a verify without a drill leaves the last drill as it is.
        let fields = document::of_verified(verified).into_iter();
        let fields: Document = fields.map(|(key, value)| (format!("verified.{key}"), value)).collect();
        let update = doc! {"$set": fields};
        self.writing(self.runs.update_one(doc! {"_id": id.as_str()}, update)).await.map(drop)
    }

    /// Makes records say this of runs, one by one: a kill in between leaves nothing lost.
    pub async fn upsert_all(&self, runs: &[BackupRun]) -> Result<()> {
        for run in runs {
            self.upsert(run).await?;
        }
        Ok(())
    }

    /// Ends the connections; a server that does not answer holds nobody up.
    pub async fn close(self) {
        self.server.close().await;
    }

    async fn upsert(&self, run: &BackupRun) -> Result<()> {
        let filter = doc! {"_id": run.id.as_str()};
        self.writing(self.runs.update_one(filter, document::update(run)).upsert(true)).await.map(drop)
    }

    async fn writing<T>(&self, answer: impl IntoFuture<Output = mongodb::error::Result<T>>) -> Result<T> {
        self.server.within(answer.into_future()).await.map_err(|e| self.server.explain("written", e))
    }
}

/// Reads all records, or the records of one job. If they are off or cannot be read, the log says so and the list is empty:
/// the store still has the backups.
pub async fn known_runs(at: &RecordsAt, job: Option<&str>) -> Vec<BackupRun> {
    let RecordsAt::Server(uri) = at else {
        log::debug!("runs are not recorded, so only what the store knows is shown");
        return Vec::new();
    };
    let read = async {
        let records = Records::connect(&RecordsOptions { uri: uri.clone(), patience: READING }).await?;
        let recorded = records.all(job).await;
        records.close().await;
        recorded
    };
    match read.await {
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
    let written = async {
        let records = Records::connect(&RecordsOptions { uri: uri.clone(), patience: PATIENCE }).await?;
        let written = write(&records).await;
        records.close().await;
        written
    };
    written.await.map_err(|e| not_recorded(&e))
}

/// The message about a run that could not be recorded, with the next step. It may hold secrets.
pub fn not_recorded(error: &Error) -> String {
    let step = error.next_step().map(|step| format!(" (next step: {step})")).unwrap_or_default();
    format!("the run could not be recorded: {}{step}", error.chain())
}
