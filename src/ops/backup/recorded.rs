//! A backup whose beginning and end are recorded: in MongoDB, beside the backup and without delaying it, and for a failure
//! also in the store, where it survives the database that was to be backed up. A failure to record never fails a backup.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::{BackupOptions, BackupReport, Expected, Resources, backup};
use crate::base::cancel::LastStep;
use crate::base::error::{Error, Kind, Result};
use crate::base::secret::{ExposeSecret, Redactor, Secret};
use crate::catalog::history::{Deletions, RunContext, reconcile};
use crate::catalog::marks::{self, FailedRun};
use crate::catalog::place_files::KnownBackups;
use crate::catalog::records::{PATIENCE, Records, expected_backups, not_recorded};
use crate::catalog::run::BackupRun;
use crate::catalog::{Catalog, CatalogEntry, CatalogOptions};
use crate::config::RecordsAt;
use crate::model::id::BackupId;
use crate::model::manifest::TOOL;

/// How long the store may take to store a failure.
const STORING: Duration = Duration::from_secs(3);

/// How a run is recorded.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The server where runs are recorded.
    pub records: RecordsAt,
    /// Removes secrets from the recorded texts.
    pub redactor: Redactor,
    /// The run holds the lock of its job, so that another run of this machine that is recorded as running was killed.
    pub alone: bool,
}

impl Recording {
    /// Returns true if the unreachable server is also the server that would have to record the failure.
    fn is_on_unreachable_source(&self, options: &BackupOptions, error: &Error) -> bool {
        let source = options.settings.mongo_uri.expose_secret();
        let same = matches!(&self.records, RecordsAt::Server(uri) if uri.expose_secret() == source);
        error.kind() == Kind::Away && same
    }
}

/// Makes a backup and records the run.
///
/// # Errors
/// Returns the error of the backup. Failures to record are problems of the report.
pub async fn recorded_backup(
    mut resources: Resources,
    options: &BackupOptions,
    recording: &Recording,
) -> Result<BackupReport> {
    let recorder = Recorder::start(recording, options, resources.store.place());
    let (new_id, observe) = (resources.new_id.clone(), recorder.observer());
    let observed = new_id.clone();
    resources.new_id = Arc::new(move |now| {
        let id = observed(now);
        observe(RecordedAttempt { id: id.clone(), started: now });
        id
    });
    let expected = match &options.expected {
        Expected::Nothing => Expected::Nothing,
        Expected::Known(_) => {
            let (state_dir, place) = (options.settings.state_dir.as_deref(), resources.store.place());
            let recorded = expected_backups(&recording.records, state_dir, &place, &options.settings.host);
            Expected::Known(resources.cancel.or(async { Ok(recorded.await) }).await?)
        }
    };
    let options = &BackupOptions { expected, ..options.clone() };
    let outcome = Box::pin(backup(&resources, options)).await;
    resources.meter.doing("recording the run".into());
    // The recorder ends when the last sender of attempts is dropped.
    resources.new_id = new_id;
    let clean = |error: &Error| recording.redactor.clean(&not_recorded(error));
    match outcome {
        Ok(mut report) => {
            let work = recorder.completed(&report, options, &resources);
            report.problems.extend(in_time(&resources, work).await.err().map(|error| clean(&error)));
            Ok(report)
        }
        Err(error) => {
            let Some(attempt) = recorder.last() else { return Err(error) };
            if is_misspelt_job(&error, options, &resources).await {
                if let Err(lost) = in_time(&resources, recorder.forget()).await {
                    log::info!("{}", clean(&lost));
                }
                return Err(error);
            }
            // To wait for an unreachable server once more would take long and change nothing.
            let recorder = match recording.is_on_unreachable_source(options, &error) {
                true => recorder.give_up(),
                false => recorder,
            };
            let failure = failure(&error, &attempt, options, &resources, &recording.redactor);
            let (stored, recorded) = tokio::join!(
                in_time(&resources, store_failure(&failure, error.kind(), &resources)),
                in_time(&resources, recorder.failed(&failure)),
            );
            // The failure itself is reported; that it could not be recorded is only a detail.
            for lost in [stored.err(), recorded.err()].into_iter().flatten() {
                log::debug!("{}", clean(&lost));
            }
            Err(error)
        }
    }
}

/// Returns true if the job exists only because of a misspelt database: the job is named after the database, which is not
/// there, and the store has no backup of the job. A recorded failure would appear among those of real jobs.
async fn is_misspelt_job(error: &Error, options: &BackupOptions, resources: &Resources) -> bool {
    let job = &options.settings.job;
    let named_after_selection = job.starts_with(&format!("{}@", options.settings.selection.label()));
    if error.kind() != Kind::Missing || !named_after_selection {
        return false;
    }
    let reading = CatalogOptions::remembering(options.settings.state_dir.clone(), resources.clock.now());
    let entries = async {
        let catalog = Catalog::read(&*resources.store, &reading).await?;
        let entries = catalog.summaries(&catalog.existing()).await;
        catalog.save();
        entries
    };
    // An archived manifest may belong to the job.
    let may_be_of_job = |entry: &CatalogEntry| match entry {
        CatalogEntry::Backup(manifest) => manifest.job == *job,
        CatalogEntry::Archived { .. } => true,
        CatalogEntry::Damaged { .. } => false,
    };
    // If the store cannot be read, the job may exist, and its database may have been dropped.
    resources.cancel.or(entries).await.is_ok_and(|entries| !entries.iter().any(may_be_of_job))
}

/// Returns the result of `work`, or an error if a signal left no time for it.
async fn in_time(resources: &Resources, work: impl Future<Output = Result<()>>) -> Result<()> {
    let outcome = resources.cancel.within(LastStep::Records, work).await;
    outcome.unwrap_or_else(|| Err(Error::failed("there was no more time, the run was ended by a signal")))
}

fn failure(
    error: &Error,
    attempt: &RecordedAttempt,
    options: &BackupOptions,
    resources: &Resources,
    redactor: &Redactor,
) -> FailedRun {
    FailedRun {
        format: marks::FORMAT,
        id: attempt.id.clone(),
        job: options.settings.job.clone(),
        tool: TOOL.into(),
        host: options.settings.host.clone(),
        started_at: attempt.started,
        failed_at: resources.clock.now(),
        exit: error.exit().code(),
        error: redactor.clean(&error.chain()),
        next_step: error.next_step().map(|step| redactor.clean(step)),
        notes: resources.notes.lines().iter().map(|line| redactor.clean(line)).collect(),
    }
}

/// Writes the failure to the store. Wrong usage is not a failed run: nothing was attempted, and a person sees the error. A
/// directory that may be an unmounted disk gets nothing either.
async fn store_failure(failure: &FailedRun, kind: Kind, resources: &Resources) -> Result<()> {
    if matches!(kind, Kind::Usage | Kind::Unmounted) {
        return Ok(());
    }
    match tokio::time::timeout(STORING, failure.write(&*resources.store)).await {
        Ok(written) => written,
        Err(_) => Err(Error::failed(format!("no answer of {} in time", resources.store.place()))),
    }
}

/// An attempt at a backup. Each attempt has its own id.
#[derive(Debug, Clone)]
struct RecordedAttempt {
    id: BackupId,
    started: DateTime<Utc>,
}

/// Records the attempts of a run in MongoDB as they begin, and the end of the run.
struct Recorder {
    last: Arc<Mutex<Option<RecordedAttempt>>>,
    attempts: UnboundedSender<RecordedAttempt>,
    /// Returns the connection once the last sender of attempts is dropped; `None` if nothing is recorded.
    recording: Option<JoinHandle<Result<Records>>>,
    place: String,
    alone: bool,
}

impl Recorder {
    fn start(recording: &Recording, options: &BackupOptions, place: String) -> Recorder {
        let (attempts, received) = unbounded_channel();
        let (job, host) = (options.settings.job.clone(), options.settings.host.clone());
        let task = match &recording.records {
            RecordsAt::Off => None,
            RecordsAt::Server(uri) => {
                Some(tokio::spawn(record_attempts(uri.clone(), received, (job, host, place.clone()))))
            }
        };
        Recorder { last: Arc::default(), attempts, recording: task, place, alone: recording.alone }
    }

    /// The function to call with each attempt.
    fn observer(&self) -> impl Fn(RecordedAttempt) + Send + Sync + 'static {
        let (last, attempts) = (self.last.clone(), self.attempts.clone());
        move |attempt| {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt.clone());
            // The receiver is gone if nothing is recorded.
            let _ = attempts.send(attempt);
        }
    }

    /// The last attempt; `None` if no attempt began.
    fn last(&self) -> Option<RecordedAttempt> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records the backup, and corrects older records that differ from the store.
    async fn completed(
        self,
        report: &BackupReport,
        options: &BackupOptions,
        resources: &Resources,
    ) -> Result<()> {
        let (place, alone, settings) = (self.place.clone(), self.alone, &options.settings);
        let Some(records) = self.records().await? else { return Ok(()) };
        records.write(&BackupRun::completed(&report.manifest, &place)).await?;
        let held = alone.then(|| (settings.job.clone(), settings.host.clone()));
        let around = RunContext { now: resources.clock.now(), held };
        let reading = CatalogOptions::remembering(settings.state_dir.clone(), around.now);
        let known = KnownBackups::load(settings.state_dir.as_deref(), &place).unwrap_or_default();
        let by_hand = options.expected == Expected::Nothing;
        let deleted = Deletions { backups: known.deleted, by_hand };
        if let Some(line) = reconcile(&*resources.store, &records, &around, &reading, &deleted).await? {
            log::info!("{line}");
        }
        records.close().await;
        Ok(())
    }

    async fn failed(self, failure: &FailedRun) -> Result<()> {
        let place = self.place.clone();
        let Some(records) = self.records().await? else { return Ok(()) };
        records.write(&BackupRun::failed(failure, &place)).await?;
        records.close().await;
        Ok(())
    }

    /// Deletes the record of the run.
    async fn forget(self) -> Result<()> {
        let last = self.last();
        let Some(records) = self.records().await? else { return Ok(()) };
        if let Some(attempt) = last {
            records.forget(&attempt.id).await?;
        }
        records.close().await;
        Ok(())
    }

    /// Stops recording.
    fn give_up(self) -> Recorder {
        if let Some(recording) = &self.recording {
            recording.abort();
        }
        Recorder { recording: None, ..self }
    }

    /// The connection, once all attempts are recorded; `None` if nothing is recorded.
    async fn records(self) -> Result<Option<Records>> {
        let Recorder { attempts, recording, .. } = self;
        let Some(recording) = recording else { return Ok(None) };
        drop(attempts);
        match recording.await {
            Ok(records) => records.map(Some),
            Err(e) => Err(Error::failed("recording ended unexpectedly").caused_by(e)),
        }
    }
}

async fn record_attempts(
    uri: Secret,
    mut attempts: UnboundedReceiver<RecordedAttempt>,
    (job, host, place): (String, String, String),
) -> Result<Records> {
    let records = Records::connect(&uri, PATIENCE).await?;
    let mut last: Option<BackupId> = None;
    while let Some(RecordedAttempt { id, started }) = attempts.recv().await {
        let run = BackupRun::begun(id.clone(), &job, &host, &place, started);
        let written = match &last {
            None => records.begin(&run).await,
            Some(old) => records.replace_id(old, &run).await,
        };
        // The end of the run is recorded in any case, and reports a failure.
        if let Err(e) = written {
            log::debug!("the beginning of the run could not be recorded: {}", e.chain());
        }
        last = Some(id);
    }
    Ok(records)
}
