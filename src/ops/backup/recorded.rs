//! Recording of backup runs. The start and end of a run are recorded in MongoDB without delaying the backup. A failure is
//! also stored next to the backups, because the database may be lost. A failure to record never fails a backup.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{AttemptId, BackupOptions, BackupReport, Expected, Resources, backup, part};
use crate::base::cancel::LastStep;
use crate::base::error::{Error, Kind, Result};
use crate::base::heap::on_heap;
use crate::base::progress::Phase;
use crate::base::secret::{ExposeSecret, Redactor, Secret};
use crate::catalog::history::{Deletions, RunContext, reconcile};
use crate::catalog::marks::{self, FailedRun};
use crate::catalog::place_files::KnownBackups;
use crate::catalog::records::{PATIENCE, Records, expected_backups, not_recorded};
use crate::catalog::run::BackupRun;
use crate::catalog::{Catalog, CatalogEntry, CatalogOptions};
use crate::config::{JobSettings, RecordsAt};
use crate::model::id::BackupId;
use crate::model::manifest::TOOL;

/// How long writing a failure to the store may take.
const STORING: Duration = Duration::from_secs(3);

/// How a run is recorded.
#[derive(Debug, Clone)]
pub struct Recording {
    pub records: RecordsAt,
    pub redactor: Redactor,
    /// The run holds the lock of its job. Other runs of this machine that are recorded as running were killed.
    pub alone: bool,
}

impl Recording {
    /// Returns true if the source is unreachable and is also the server of the records.
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
    let place = resources.store().place();
    let mut recorder = Recorder::start(recording, options, &place);
    let (new_id, attempts) = (resources.new_id.clone(), recorder.attempts.clone());
    let observed = new_id.clone();
    resources.new_id = Arc::new(move |started| {
        let id = observed(started);
        attempts.send_replace(Some((id.clone(), started)));
        id
    });
    let made = on_heap(|| async {
        let expected = match &options.expected {
            Expected::Nothing => Expected::Nothing,
            Expected::Known(_) => {
                let JobSettings { state_dir, host, .. } = &options.settings;
                let recorded = expected_backups(&recording.records, state_dir.as_deref(), &place, host);
                Expected::Known(resources.cancel.or(async { Ok(recorded.await) }).await?)
            }
        };
        let options = BackupOptions { expected, ..options.clone() };
        backup(&resources, &options).await
    });
    let mut outcome = made.await;
    if let Some(hooks) = &options.hooked.after {
        let last = recorder.attempts.borrow().as_ref().map(|(id, _)| id.clone());
        hooks.after(&mut outcome, last.as_ref(), &resources.notes).await;
    }
    resources.meter.enter(Phase::Recording);
    // The recorder ends when the last sender of attempts is dropped.
    resources.new_id = new_id;
    let clean = |error: &Error| recording.redactor.clean(&not_recorded(error));
    match outcome {
        Ok(mut report) => {
            let work = recorder.end(async |records| {
                record_completed(records, &report, options, &resources, recording.alone).await
            });
            let problem = in_time(&resources, work).await.err().map(|error| clean(&error));
            report.problems.extend(problem);
            Ok(report)
        }
        Err(error) => {
            let Some(attempt) = recorder.attempts.borrow().clone() else { return Err(error) };
            if on_heap(|| is_misspelt_job(&error, options, &resources)).await {
                let forgotten = recorder.end(async |records| records.forget(&attempt.0).await);
                if let Err(lost) = in_time(&resources, forgotten).await {
                    log::info!("{}", clean(&lost));
                }
                return Err(error);
            }
            // Waiting for an unreachable server once more would take long and change nothing.
            if recording.is_on_unreachable_source(options, &error)
                && let Some(task) = recorder.recording.take()
            {
                task.abort();
            }
            let failure = failure(&error, attempt, options, &resources, &recording.redactor);
            let run = BackupRun::failed(&failure, &place);
            let stored = if options.settings.recipients.is_some() { failure.readable() } else { failure };
            let (stored, recorded) = tokio::join!(
                in_time(&resources, store_failure(&stored, error.kind(), &resources)),
                in_time(&resources, recorder.end(async |records| records.write(&run).await)),
            );
            // The failure itself is reported. The lost record is only a detail.
            for lost in [stored.err(), recorded.err()].into_iter().flatten() {
                log::debug!("{}", clean(&lost));
            }
            Err(error)
        }
    }
}

/// Returns true if the job exists only because of a misspelt database: it is named after a database that does not exist, and
/// the store has no backup of it. A recorded failure would make it appear as a real job.
async fn is_misspelt_job(error: &Error, options: &BackupOptions, resources: &Resources) -> bool {
    let job = &options.settings.job;
    let named_after_selection = job.starts_with(&format!("{}@", options.settings.selection.label()));
    if error.kind() != Kind::Missing || !named_after_selection {
        return false;
    }
    let JobSettings { state_dir, signing, .. } = &options.settings;
    let reading = CatalogOptions::remembering(state_dir.clone(), resources.clock.now(), signing);
    let entries = async {
        let catalog = Catalog::read(resources.store(), &reading).await?;
        let entries = catalog.summaries(&catalog.existing()).await;
        catalog.save();
        entries
    };
    // An archived manifest may belong to the job.
    let may_be_of_job = |entry: &CatalogEntry| match entry {
        CatalogEntry::Backup(manifest) => manifest.job == *job,
        CatalogEntry::Archived { .. } => true,
        CatalogEntry::Damaged { .. } | CatalogEntry::Untrusted { .. } => false,
    };
    // If the store cannot be read, the job may exist. Then its database was dropped.
    resources.cancel.or(entries).await.is_ok_and(|entries| !entries.iter().any(may_be_of_job))
}

/// Returns the result of `work`, or an error if a signal left no time for it.
async fn in_time(resources: &Resources, work: impl Future<Output = Result<()>>) -> Result<()> {
    let outcome = resources.cancel.within(LastStep::Records, work).await;
    outcome.unwrap_or_else(|| Err(Error::failed("a signal ended the run, and no time was left")))
}

fn failure(
    error: &Error,
    (id, started_at): AttemptId,
    options: &BackupOptions,
    resources: &Resources,
    redactor: &Redactor,
) -> FailedRun {
    FailedRun {
        format: marks::FORMAT,
        id,
        job: options.settings.job.clone(),
        tool: TOOL.into(),
        host: options.settings.host.clone(),
        started_at,
        failed_at: resources.clock.now(),
        exit: error.exit().code(),
        partial: part(&options.settings).map(|what| redactor.clean(&what)),
        error: redactor.clean(&error.chain()),
        next_step: error.next_step().map(|step| redactor.clean(step)),
        notes: resources.notes.lines().iter().map(|line| redactor.clean(line)).collect(),
    }
}

/// Writes the failure to the store. Wrong usage is not recorded, because a person sees the error. Nothing is written to a
/// directory that may be an unmounted disk.
async fn store_failure(failure: &FailedRun, kind: Kind, resources: &Resources) -> Result<()> {
    if matches!(kind, Kind::Usage | Kind::Unmounted) {
        return Ok(());
    }
    match tokio::time::timeout(STORING, failure.write(resources.store())).await {
        Ok(written) => written,
        Err(_) => Err(Error::failed(format!("{} did not answer in time", resources.store().place()))),
    }
}

/// Records the attempts of a run in MongoDB as they begin, and the end of the run.
struct Recorder {
    /// The last attempt; `None` until the first one begins.
    attempts: watch::Sender<Option<AttemptId>>,
    /// Returns the connection when the last sender of attempts is dropped. `None` if nothing is recorded.
    recording: Option<JoinHandle<Result<Records>>>,
}

impl Recorder {
    fn start(recording: &Recording, options: &BackupOptions, place: &str) -> Recorder {
        let (attempts, received) = watch::channel(None);
        let JobSettings { job, host, .. } = &options.settings;
        let recording = match &recording.records {
            RecordsAt::Off => None,
            RecordsAt::Server(uri) => {
                let of = (job.clone(), host.clone(), place.to_string());
                let part = part(&options.settings).map(|what| recording.redactor.clean(&what));
                Some(tokio::spawn(record_attempts(uri.clone(), received, of, part)))
            }
        };
        Recorder { attempts, recording }
    }

    /// Records the end of the run with `write` when all attempts are recorded.
    async fn end(self, write: impl AsyncFnOnce(&Records) -> Result<()>) -> Result<()> {
        let Some(recording) = self.recording else { return Ok(()) };
        drop(self.attempts);
        let records = match recording.await {
            Ok(records) => records?,
            Err(e) => return Err(Error::failed("recording ended unexpectedly").caused_by(e)),
        };
        write(&records).await?;
        records.close().await;
        Ok(())
    }
}

/// Records the backup, and corrects older records that differ from the store. `alone` is as in [`Recording`].
async fn record_completed(
    records: &Records,
    report: &BackupReport,
    options: &BackupOptions,
    resources: &Resources,
    alone: bool,
) -> Result<()> {
    let (place, settings) = (resources.store().place(), &options.settings);
    let missing_from = report.missing_from().map(|row| row.name.clone()).collect();
    let mut run = BackupRun { missing_from, ..BackupRun::completed(&report.manifest, &place) };
    run.warnings.extend(report.hook_problem.clone());
    records.write(&run).await?;
    let held = alone.then(|| (settings.job.clone(), settings.host.clone()));
    let context = RunContext { now: resources.clock.now(), held };
    let reading = CatalogOptions::remembering(settings.state_dir.clone(), context.now, &settings.signing);
    let known = KnownBackups::load(settings.state_dir.as_deref(), &place).unwrap_or_default();
    let by_hand = options.expected == Expected::Nothing;
    let deleted = Deletions { backups: known.deleted, by_hand };
    if let Some(line) = reconcile(resources.store(), records, &context, &reading, &deleted).await? {
        log::info!("{line}");
    }
    Ok(())
}

async fn record_attempts(
    uri: Secret,
    mut attempts: watch::Receiver<Option<AttemptId>>,
    (job, host, place): (String, String, String),
    partial: Option<String>,
) -> Result<Records> {
    let records = Records::connect(&uri, PATIENCE).await?;
    let mut last: Option<BackupId> = None;
    // An attempt that failed before the connection was made may be skipped.
    while attempts.changed().await.is_ok() {
        let Some((id, started)) = attempts.borrow_and_update().clone() else { continue };
        let run = BackupRun::begun(id.clone(), &job, &host, &place, started);
        let run = BackupRun { partial: partial.clone(), ..run };
        let written = match &last {
            None => records.begin(&run).await,
            Some(old) => records.replace_id(old, &run).await,
        };
        // The end of the run is recorded in any case. If that fails too, the run reports it.
        if let Err(e) = written {
            log::debug!("the start of the run could not be recorded: {}", e.chain());
        }
        last = Some(id);
    }
    Ok(records)
}
