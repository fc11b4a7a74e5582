//! Notices about a run from its beginning to its end: pings, mails, the webhook and the metrics file.

use std::sync::Arc;
use std::time::Duration;

use super::events::{NewestGood, NotifiedRun, ReportMail, RunFailure, RunKind, RunOutcome};
use super::signals::Signals;
use super::{Notifier, UNKNOWN_JOB};
use crate::base::cancel::{Cancel, LastStep};
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::catalog::CatalogOptions;
use crate::config::Config;
use crate::config::notify::Event;
use crate::model::id::{BackupId, NewId};
use crate::store;

/// How long the store may take to name the newest good backup after a failed run.
const ASKING: Duration = Duration::from_secs(15);

/// The log of the process, as far as a run uses it.
pub trait RunLog: Send + Sync {
    /// Adds `id` to every later line.
    fn set_run(&self, id: &str);
    /// The id that lines have now.
    fn run(&self) -> Option<String>;
    /// The last lines, oldest first, without secrets.
    fn tail(&self) -> Vec<String>;
}

/// What a recorded and notified operation gets from its caller.
pub struct Run<'a> {
    /// The settings.
    pub config: &'a Config,
    /// Ends the run early.
    pub cancel: &'a Cancel,
    /// The log of the process.
    pub log: Arc<dyn RunLog>,
    /// The clock of the run, started when the run began.
    pub clock: Clock,
    /// Makes ids.
    pub new_id: NewId,
}

impl Run<'_> {
    /// Reads the backups of the settings' place at the present time.
    pub fn reading(&self) -> CatalogOptions {
        CatalogOptions::remembering(self.config.state_dir.clone(), self.clock.now())
    }

    /// An id for notices of a run that has no backup id.
    pub fn fresh_id(&self) -> String {
        (self.new_id)(self.clock.now()).to_string()
    }
}

/// Sends the notices of one run.
pub struct RunNotices<'a> {
    run: &'a Run<'a>,
    notifier: Notifier,
    signals: Signals,
}

impl<'a> RunNotices<'a> {
    /// Prepares the notices that the settings ask for.
    ///
    /// # Errors
    /// Returns an error if the settings of mails, signals or the webhook are wrong, before the run does anything: a failure
    /// would reach nobody.
    pub fn new(run: &'a Run<'a>) -> Result<RunNotices<'a>> {
        let (config, redactor) = (run.config, run.config.redactor.clone());
        let (mail, host) = (config.mail.clone()?, &config.machine.host);
        let notifier = Notifier::new(mail, config.state_dir.clone(), redactor.clone(), host)
            .with_webhook(config.webhook.clone()?)
            .ending_by(run.cancel.clone());
        let signals = Signals::new(config.signals.clone()?, redactor, host);
        Ok(RunNotices { run, notifier, signals })
    }

    /// Reports the start of a backup. Returns a line for each notice that failed.
    pub async fn started(&self) -> Vec<String> {
        let started = async { Ok(self.signals.started().await) };
        // If a signal ends the run meanwhile, the end of the run reports it.
        let problems = self.run.cancel.or(started).await.unwrap_or_default();
        problems.iter().for_each(|problem| log::warn!("{problem}"));
        problems
    }

    /// Reports the outcome of a run. Returns a line for each notice that failed.
    pub async fn ended(&self, operation: RunKind, job: &str, id: String, outcome: RunOutcome) -> Vec<String> {
        let (of, now) = (NotifiedRun { job: job.into(), operation, run: id }, self.run.clock.now());
        if outcome.is_harmless(now) {
            return Vec::new();
        }
        let channel = if self.notifier.mails() { "a mail could not be sent" } else { "webhook_url" };
        let (mut problems, ping) = tokio::join!(
            self.in_time(channel, self.notifier.outcome(&of, outcome.clone(), now)),
            self.in_time("ping_url", self.signals.ended(&of, &outcome, now)),
        );
        problems.extend(ping);
        let exit = match outcome.exit() {
            Exit::Done if !problems.is_empty() => Exit::NeedsLook,
            exit => exit,
        };
        // The metrics come last, because they contain the exit code.
        let times = (self.run.clock.started(), self.run.clock.now());
        let measured = self.signals.measured(&of, &outcome, exit, times);
        problems.extend(self.in_time("metrics_file", measured).await);
        problems
    }

    /// Returns the problems of `work`, or the problem that a signal left no time for it.
    async fn in_time(&self, what: &str, work: impl Future<Output = Vec<String>>) -> Vec<String> {
        let late = || vec![format!("{what}: there was no more time, a signal came meanwhile")];
        self.run.cancel.within(LastStep::Notices, work).await.unwrap_or_else(late)
    }

    /// Reports a failed run. Notices that fail are only logged, because the run has failed already.
    pub async fn failed(&self, operation: RunKind, error: &Error) {
        let job =
            self.run.config.job.as_ref().map_or_else(|_| self.named_job(), |settings| settings.job.clone());
        // After a signal there is no time to ask, and an unknown job has no backups.
        let ask = self.is_configured() && self.run.cancel.error().is_none() && job != UNKNOWN_JOB;
        let newest = if ask { self.newest_good(&job).await } else { NewestGood::Unknown };
        self.job_failed(operation, job, error, newest).await;
    }

    /// Reports a run whose settings could not all be read, so that its job is known only if a setting names it.
    pub async fn unread(&self, operation: RunKind, error: &Error) {
        self.job_failed(operation, self.named_job(), error, NewestGood::Unknown).await;
    }

    fn named_job(&self) -> String {
        self.run.config.layers.text("job").unwrap_or(UNKNOWN_JOB).into()
    }

    async fn job_failed(&self, operation: RunKind, job: String, error: &Error, newest: NewestGood) {
        if !self.is_configured() {
            return;
        }
        let failure = RunFailure::of(error, self.run.log.tail(), newest, self.run.config.max_age);
        let id = match operation {
            RunKind::Backup => self.run.log.run().filter(|id| id.parse::<BackupId>().is_ok()),
            _ => None,
        };
        let id = id.unwrap_or_else(|| self.run.fresh_id());
        for line in self.ended(operation, &job, id, RunOutcome::Failure(failure)).await {
            log::warn!("{line}");
        }
    }

    async fn newest_good(&self, job: &str) -> NewestGood {
        let asked = async {
            let store = store::open(self.run.config.place.as_ref()?).await?;
            NewestGood::read(&*store, job, &self.run.reading()).await
        };
        match tokio::time::timeout(ASKING, self.run.cancel.or(asked)).await {
            Ok(Ok(newest)) => newest,
            _ => NewestGood::Unknown,
        }
    }

    /// Mails a report. Returns a line for each notice that failed.
    pub async fn report(&self, event: Event, report: ReportMail) -> Vec<String> {
        self.notifier.report(event, report, &self.run.fresh_id()).await
    }

    /// Returns true if a failing run sends a notice: mail, ping, metrics or webhook.
    pub fn is_configured(&self) -> bool {
        self.notifier.is_configured() || self.signals.is_configured()
    }

    /// Checks that mails are set up, for `--email`.
    ///
    /// # Errors
    /// Returns an error if they are not.
    pub fn require_mail(&self) -> Result<()> {
        if !self.notifier.mails() {
            return Err(Error::usage(
                "--email: mails are not set up: neither RESEND_API_KEY nor ADMIN_EMAILS is set",
            )
            .hint(
                "Set RESEND_API_KEY (mail.resend_api_key) and ADMIN_EMAILS (mail.to), or leave --email out",
            ));
        }
        Ok(())
    }
}
