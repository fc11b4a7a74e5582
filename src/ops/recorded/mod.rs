//! A backup, and what is written down about it: a record in MongoDB that it is under way and how it ended,
//! and in the store why it failed ([`failed`]). None of that can fail a backup that is good.

mod failed;
mod record;

use std::sync::Arc;

use crate::base::cancel::Step;
use crate::base::error::{Error, Kind, Result};
use crate::base::exit::Exit;
use crate::base::secret::{ExposeSecret, Redactor};
use crate::catalog::records::{expected_backups, not_recorded};
use crate::catalog::{Catalog, Entry, Reading};
use crate::config::records::RecordsAt;
use crate::ops::backup::{self, BackupOptions, Expected, Report, Resources};

use record::{Attempt, Recorder};

/// What is written down, and how.
#[derive(Debug, Clone)]
pub struct Recording {
    /// Where runs are recorded.
    pub records: RecordsAt,
    /// Takes secrets out of what is stored.
    pub redactor: Redactor,
    /// No other run of this job is under way on this machine: one that is recorded as running was killed.
    pub alone: bool,
}

impl Recording {
    /// Whether what failed is the server that would have to record it: to look for it again takes its time, and
    /// tells nothing new.
    fn shares(&self, options: &BackupOptions, error: &Error) -> bool {
        let own = options.settings.mongo_uri.expose_secret();
        let same = matches!(&self.records, RecordsAt::Server(uri) if uri.expose_secret() == own);
        error.kind() == Kind::Away && same
    }
}

/// A backup that exists.
#[derive(Debug)]
pub struct Done {
    /// What it is.
    pub report: Report,
    /// What failed beside it.
    pub problems: Vec<String>,
}

impl Done {
    /// 0, or 3 if a person should look.
    pub fn exit(&self) -> Exit {
        if self.problems.is_empty() { self.report.exit() } else { Exit::NeedsLook }
    }
}

/// Makes a backup and records it.
pub async fn backup(
    mut resources: Resources,
    options: &BackupOptions,
    recording: &Recording,
) -> Result<Done> {
    let recorder = Recorder::start(recording, options, &*resources.store);
    let (make, tell) = (resources.new_id.clone(), recorder.teller());
    let observed = make.clone();
    resources.new_id = Arc::new(move |now| {
        let id = observed(now);
        tell(Attempt { id: id.clone(), started: now });
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
    let outcome = backup::backup(&resources, options).await;
    resources.meter.doing("recording the run".into());
    // The recorder waits for attempts as long as somebody may tell of one.
    resources.new_id = make;
    match outcome {
        Ok(report) => {
            let work = recorder.completed(&report, options, &resources);
            let recorded = in_time(&resources, work).await;
            let problem = |error: Error| recording.redactor.clean(&not_recorded(&error));
            let problems = report.problems.iter().cloned().chain(recorded.err().map(problem)).collect();
            Ok(Done { report, problems })
        }
        Err(error) => {
            let Some(attempt) = recorder.last() else { return Err(error) };
            if mistyped(&error, options, &resources).await {
                if let Err(lost) = in_time(&resources, recorder.forget()).await {
                    log::info!("{}", recording.redactor.clean(&not_recorded(&lost)));
                }
                return Err(error);
            }
            let recorder = if recording.shares(options, &error) { recorder.give_up() } else { recorder };
            let failure = failed::failure(&error, &attempt, options, &resources, recording);
            let (stored, recorded) = tokio::join!(
                in_time(&resources, failed::store(&failure, error.kind(), &resources)),
                in_time(&resources, recorder.failed(&failure)),
            );
            // Whoever is told of the failure need not be told that it could not be written down as well.
            for lost in [stored.err(), recorded.err()].into_iter().flatten() {
                log::debug!("{}", recording.redactor.clean(&not_recorded(&lost)));
            }
            Err(error)
        }
    }
}

/// Whether the run is of a job that there is only by a slip: a database that is not there gave it its name, and
/// no backup has that name. Written down, the failure would stand among those of real jobs.
async fn mistyped(error: &Error, options: &BackupOptions, resources: &Resources) -> bool {
    let of_selection = options.settings.job.starts_with(&format!("{}@", options.settings.selection.label()));
    if error.kind() != Kind::Missing || !of_selection {
        return false;
    }
    let store = &*resources.store;
    let reading = Reading::remembering(options.settings.state_dir.clone(), resources.clock.now());
    let entries = async {
        let catalog = Catalog::read(store, &reading).await?;
        let entries = catalog.summaries(&catalog.existing()).await;
        catalog.save();
        entries
    };
    // An archived manifest may be of the job.
    let of_job = |entry: &Entry| match entry {
        Entry::Backup(manifest) => manifest.job == options.settings.job,
        Entry::Archived { .. } => true,
        Entry::Damaged { .. } => false,
    };
    // Where the store does not tell, it may be one that vanished.
    resources.cancel.or(entries).await.is_ok_and(|entries| !entries.iter().any(of_job))
}

/// Returns the result of `work`, or an error if there is no more time for it after a signal.
async fn in_time(resources: &Resources, work: impl Future<Output = Result<()>>) -> Result<()> {
    let outcome = resources.cancel.deadline().within(Step::Records, work).await;
    outcome.unwrap_or_else(|| Err(Error::failed("there was no more time, the run was ended by a signal")))
}
