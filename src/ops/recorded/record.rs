//! The record of a run in MongoDB: it is written beside the backup, which does not wait for it.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::Recording;
use crate::base::error::{Error, Result};
use crate::base::secret::Secret;
use crate::catalog::Reading;
use crate::catalog::history::Around;
use crate::catalog::known::Known;
use crate::catalog::marks::Failure;
use crate::catalog::reconcile::{Deletions, reconcile};
use crate::catalog::records::{PATIENCE, Records, RecordsOptions};
use crate::catalog::run::Run;
use crate::config::records::RecordsAt;
use crate::model::id::BackupId;
use crate::ops::backup::{BackupOptions, Expected, Report, Resources};
use crate::store::Store;

/// An attempt at a backup: each has an id of its own.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The id that its backup will have.
    pub id: BackupId,
    /// When it began.
    pub started: DateTime<Utc>,
}

/// Records the attempts of a run as they begin, and its end.
pub struct Recorder {
    last: Arc<Mutex<Option<Attempt>>>,
    attempts: UnboundedSender<Attempt>,
    /// Ends with the connection when nobody tells of attempts any more; `None` if nothing is recorded.
    following: Option<JoinHandle<Result<Records>>>,
    place: String,
    alone: bool,
}

impl Recorder {
    /// Starts recording.
    pub fn start(recording: &Recording, options: &BackupOptions, store: &dyn Store) -> Recorder {
        let (attempts, heard) = unbounded_channel();
        let place = store.place();
        let begun = Begun {
            job: options.settings.job.clone(),
            host: options.settings.host.clone(),
            place: place.clone(),
        };
        let following = match &recording.records {
            RecordsAt::Off => None,
            RecordsAt::Server(uri) => Some(tokio::spawn(follow(uri.clone(), heard, begun))),
        };
        Recorder { last: Arc::default(), attempts, following, place, alone: recording.alone }
    }

    /// What is to be told of every attempt.
    pub fn teller(&self) -> impl Fn(Attempt) + Send + Sync + 'static {
        let (last, attempts) = (self.last.clone(), self.attempts.clone());
        move |attempt| {
            *last.lock().expect("no holder panics") = Some(attempt.clone());
            // Nobody listens where nothing is recorded.
            let _ = attempts.send(attempt);
        }
    }

    /// The last attempt; `None` if none was begun.
    pub fn last(&self) -> Option<Attempt> {
        self.last.lock().expect("no holder panics").clone()
    }

    /// Records the backup, and whatever else the store says and records do not.
    pub async fn completed(
        self,
        report: &Report,
        options: &BackupOptions,
        resources: &Resources,
    ) -> Result<()> {
        let (place, alone) = (self.place.clone(), self.alone);
        let Some(records) = self.records().await? else { return Ok(()) };
        records.finish(&Run::completed(&report.manifest, &place)).await?;
        let held = alone.then(|| (options.settings.job.clone(), options.settings.host.clone()));
        let around = Around { now: resources.clock.now(), held };
        let reading = Reading::remembering(options.settings.state_dir.clone(), around.now);
        let known = Known::load(options.settings.state_dir.as_deref(), &place).unwrap_or_default();
        let by_hand = options.expected == Expected::Nothing;
        let deleted = Deletions { backups: known.deleted, by_hand };
        let reconciled = reconcile(&*resources.store, &records, &around, &reading, &deleted).await?;
        if let Some(told) = reconciled.told() {
            log::info!("{told}");
        }
        records.close().await;
        Ok(())
    }

    /// Records the failure.
    pub async fn failed(self, failure: &Failure) -> Result<()> {
        let place = self.place.clone();
        let Some(records) = self.records().await? else { return Ok(()) };
        records.finish(&Run::failed(failure, &place)).await?;
        records.close().await;
        Ok(())
    }

    /// Takes back what is recorded of the run.
    pub async fn forget(self) -> Result<()> {
        let last = self.last();
        let Some(records) = self.records().await? else { return Ok(()) };
        if let Some(attempt) = last {
            records.forget(&attempt.id).await?;
        }
        records.close().await;
        Ok(())
    }

    /// Records nothing any more.
    pub fn give_up(self) -> Recorder {
        if let Some(following) = &self.following {
            following.abort();
        }
        Recorder { following: None, ..self }
    }

    /// The connection, once all attempts are recorded.
    async fn records(self) -> Result<Option<Records>> {
        let Recorder { attempts, following, .. } = self;
        let Some(following) = following else { return Ok(None) };
        drop(attempts);
        match following.await {
            Ok(records) => records.map(Some),
            Err(e) => Err(Error::failed("recording ended unexpectedly").caused_by(e)),
        }
    }
}

/// What is known of a run when it begins.
struct Begun {
    job: String,
    host: String,
    place: String,
}

async fn follow(uri: Secret, mut heard: UnboundedReceiver<Attempt>, begun: Begun) -> Result<Records> {
    let records = Records::connect(&RecordsOptions { uri, patience: PATIENCE }).await?;
    let mut last: Option<BackupId> = None;
    while let Some(Attempt { id, started }) = heard.recv().await {
        let run = Run::begun(id.clone(), &begun.job, &begun.host, &begun.place, started);
        let written = match &last {
            None => records.begin(&run).await,
            Some(old) => records.replace_id(old, &run).await,
        };
        // The end is recorded in any case, and what fails then is told.
        if let Err(e) = written {
            log::debug!("the beginning of the run could not be recorded: {}", e.chain());
        }
        last = Some(id);
    }
    Ok(records)
}
