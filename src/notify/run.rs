//! Notices about a run from its beginning to its end: pings, mails, the webhook and the metrics file.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::deadman;
use super::events::{LastBackup, NewestGood, NotifiedRun, ReportMail, RunFailure, RunKind, RunOutcome};
use super::metrics::{self, MetricsFile};
use super::signals::{self, PingKind};
use super::{MAIL_LIMIT, Notifier, UNKNOWN_JOB, line};
use crate::base::cancel::{Cancel, LastStep};
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::heap::on_heap;
use crate::base::lock::{self, LockOutcome, LockRequest, Operation};
use crate::catalog::CatalogOptions;
use crate::config::notify::{Address, Event};
use crate::config::{Config, JobSettings};
use crate::model::id::{BackupId, NewId};
use crate::store;

/// The next step if no mails are set up.
pub const SET_MAIL_UP: &str = "Set ADMIN_EMAILS (mail.to), and RESEND_API_KEY (mail.resend_api_key), SMTP_HOST (mail.smtp_host) \
                               or MAIL_BY=sendmail (mail.by)";
/// How long the store may take to name the newest good backup after a failed run.
const ASKING: Duration = Duration::from_secs(15);

/// The parts of the process's log that a run uses.
pub trait RunLog: Send + Sync {
    /// Adds `id` to every later line.
    fn set_run(&self, id: &str);
    /// The current id of the log lines.
    fn run(&self) -> Option<String>;
    /// The last lines, oldest first, without secrets.
    fn tail(&self) -> Vec<String>;
}

/// The resources of an operation that is recorded and notified.
pub struct Run<'a> {
    pub config: &'a Config,
    pub cancel: &'a Cancel,
    pub log: Arc<dyn RunLog>,
    /// Started when the run began.
    pub clock: Clock,
    pub new_id: NewId,
}

impl Run<'_> {
    /// The options to read the backups of the place at the present time.
    ///
    /// # Errors
    /// Returns an error if the settings of signatures are wrong.
    pub fn reading(&self) -> Result<CatalogOptions> {
        let signing = self.config.signing.as_ref()?;
        Ok(CatalogOptions::remembering(self.config.state_dir.clone(), self.clock.now(), signing))
    }

    /// Locks an operation of the job. `wait` is how long to wait for another run.
    ///
    /// # Errors
    /// Returns an error if another run holds the lock.
    pub async fn lock(
        &self,
        settings: &JobSettings,
        operation: Operation,
        wait: Option<Duration>,
    ) -> Result<LockOutcome> {
        let JobSettings { job, host, state_dir, .. } = settings.clone();
        let started = self.clock.started();
        lock::take(&LockRequest { state_dir, job, operation, host, started, wait }, self.cancel).await
    }

    /// An id for the notices of a run that has no backup id.
    pub fn fresh_id(&self) -> String {
        (self.new_id)(self.clock.now()).to_string()
    }
}

/// Sends the notices of one run.
pub struct RunNotices<'a> {
    run: &'a Run<'a>,
    notifier: Notifier,
    ping: Option<Address>,
    oplog_ping: Option<Address>,
    metrics: Option<MetricsFile>,
}

impl<'a> RunNotices<'a> {
    /// Prepares the notices that the settings ask for.
    ///
    /// # Errors
    /// Returns an error if the settings of mails, signals or the webhook are wrong. Call it before the run does anything,
    /// because its failure could not be reported.
    pub fn new(run: &'a Run<'a>) -> Result<RunNotices<'a>> {
        let (config, redactor) = (run.config, run.config.redactor.clone());
        let (mail, host) = (config.mail.clone()?, &config.machine.host);
        let webhook = config.webhook.clone()?;
        let notifier = Notifier::new(mail, config.state_dir.clone(), redactor, host);
        let notifier = Notifier { webhook, cancel: run.cancel.clone(), ..notifier };
        let signals = config.signals.clone()?;
        let metrics = signals.metrics.map(MetricsFile::new);
        Ok(RunNotices { run, notifier, ping: signals.ping, oplog_ping: signals.oplog_ping, metrics })
    }

    /// Pings that a backup starts. Returns the problem if the ping failed.
    pub async fn started(&self) -> Option<String> {
        let address = self.ping.as_ref()?;
        let pinged = async { Ok(self.problem(signals::ping(address, PingKind::Start, String::new()).await)) };
        // If a signal ends the run during the ping, the end of the run reports it.
        let problem = self.run.cancel.or(pinged).await.ok().flatten();
        problem.iter().for_each(|problem| log::warn!("{problem}"));
        problem
    }

    /// Schedules the mail that is sent if no backup follows this one, and cancels the earlier one, if the settings ask for it.
    /// Returns a line for each problem.
    pub async fn backed_up(&self, job: &str, id: &str, started_at: DateTime<Utc>) -> Vec<String> {
        let partial = self.run.config.job.as_ref().is_ok_and(|settings| settings.partial);
        let mailer = self.notifier.mail.as_ref().filter(|mailer| mailer.keeps_a_mail() && !partial);
        let Some(mailer) = mailer else { return Vec::new() };
        let (now, max_age, sender) = (self.run.clock.now(), self.run.config.max_age, &self.notifier.sender);
        let last = LastBackup { job, id, started_at, max_age };
        let renewed = async {
            let opened = async { store::open_existing(self.run.config.place.as_ref()?).await };
            match opened.await {
                Ok(store) => deadman::renew(&*store, mailer, &last, sender, now, MAIL_LIMIT).await,
                Err(error) => vec![format!("{} could not be scheduled: {}", deadman::WHAT, line(&error))],
            }
        };
        let problems = self.in_time(deadman::WHAT, on_heap(|| renewed)).await;
        problems.iter().map(|problem| self.notifier.redactor.clean(problem)).collect()
    }

    /// Reports the outcome of a run. Returns a line for each notice that failed.
    pub async fn ended(&self, operation: RunKind, job: &str, id: String, outcome: RunOutcome) -> Vec<String> {
        let partial = operation == RunKind::Backup
            && self.run.config.job.as_ref().is_ok_and(|settings| settings.partial);
        let (of, now) = (NotifiedRun { job: job.into(), operation, run: id, partial }, self.run.clock.now());
        if outcome.is_harmless(now) {
            return Vec::new();
        }
        let channel = if self.notifier.mails() { "a mail could not be sent" } else { "webhook_url" };
        let (mut problems, ping) = tokio::join!(
            self.in_time(channel, on_heap(|| self.notifier.outcome(&of, outcome.clone(), now))),
            self.in_time(self.ping_of(operation).1.0, self.ping_end(&of, &outcome, now)),
        );
        problems.extend(ping);
        let exit = match outcome.exit() {
            Exit::Done if !problems.is_empty() => Exit::NeedsLook,
            exit => exit,
        };
        // The metrics come last, because they contain the exit code.
        problems.extend(self.in_time("metrics_file", self.write_metrics(&of, &outcome, exit)).await);
        problems
    }

    /// The monitor of an operation, and the setting with its address. Backups and `oplog` have a monitor each, and no other
    /// operation has one.
    fn ping_of(&self, operation: RunKind) -> (Option<&Address>, (&'static str, &'static str)) {
        match operation {
            RunKind::Backup => (self.ping.as_ref(), signals::PING),
            RunKind::Oplog => (self.oplog_ping.as_ref(), signals::OPLOG_PING),
            RunKind::Cleanup | RunKind::Other(_) => (None, signals::PING),
        }
    }

    /// Pings the end of a run.
    async fn ping_end(&self, run: &NotifiedRun, outcome: &RunOutcome, now: DateTime<Utc>) -> Option<String> {
        let (address, setting) = self.ping_of(run.operation);
        let address = address.filter(|_| !run.partial)?;
        let Notifier { sender, redactor, .. } = &self.notifier;
        let (kind, body) = signals::ping_about(run, outcome, now, sender, redactor);
        self.problem(signals::ping_of(setting, address, kind, body).await)
    }

    async fn write_metrics(&self, run: &NotifiedRun, outcome: &RunOutcome, exit: Exit) -> Option<String> {
        let file = self.metrics.as_ref().filter(|_| run.job != UNKNOWN_JOB && !run.partial)?;
        let times = (self.run.clock.started(), self.run.clock.now());
        let samples = metrics::samples(run.operation, outcome, exit, times);
        match file.update(&self.notifier.redactor.clean(&run.job), &samples).await {
            Ok(left_out) => left_out,
            Err(error) => self.problem(Err(error)),
        }
    }

    fn problem(&self, sent: Result<()>) -> Option<String> {
        sent.err().map(|error| self.notifier.redactor.clean(&line(&error)))
    }

    /// Returns the problems of `work`, or the problem that a signal left no time for it.
    async fn in_time<P: IntoIterator<Item = String>>(
        &self,
        what: &str,
        work: impl Future<Output = P>,
    ) -> Vec<String> {
        match self.run.cancel.within(LastStep::Notices, work).await {
            Some(problems) => problems.into_iter().collect(),
            None => vec![format!("{what}: a signal left no time for it")],
        }
    }

    /// Reports a failed run. Notices that fail are only logged, because the run has failed already.
    pub async fn failed(&self, operation: RunKind, error: &Error) {
        let job =
            self.run.config.job.as_ref().map_or_else(|_| self.named_job(), |settings| settings.job.clone());
        // After a signal there is no time to ask the store. An unknown job has no backups.
        let ask = self.is_configured() && self.run.cancel.error().is_none() && job != UNKNOWN_JOB;
        let newest = if ask { self.newest_good(&job).await } else { NewestGood::Unknown };
        self.job_failed(operation, job, error, newest).await;
    }

    /// Reports a run whose settings could not be read. Its job is known only if a setting names it.
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
            NewestGood::read(&*store, job, &self.run.reading()?).await
        };
        match tokio::time::timeout(ASKING, self.run.cancel.or(asked)).await {
            Ok(Ok(newest)) => newest,
            _ => NewestGood::Unknown,
        }
    }

    /// Mails a report. Returns a line for each notice that failed.
    pub async fn report(&self, event: Event, report: ReportMail) -> Vec<String> {
        let id = self.run.fresh_id();
        on_heap(|| self.notifier.report(event, report, &id, self.run.clock.now())).await
    }

    /// Returns true if a failing run sends a notice: mail, ping, metrics or webhook.
    pub fn is_configured(&self) -> bool {
        self.notifier.is_configured()
            || self.ping.is_some()
            || self.oplog_ping.is_some()
            || self.metrics.is_some()
    }

    /// Checks that mails are set up, for `--email`.
    ///
    /// # Errors
    /// Returns an error if they are not.
    pub fn require_mail(&self) -> Result<()> {
        if !self.notifier.mails() {
            return Err(Error::usage(
                "--email: mails are not set up: neither ADMIN_EMAILS nor RESEND_API_KEY, SMTP_HOST or MAIL_BY is set",
            )
            .hint(format!("{SET_MAIL_UP}, or leave --email out")));
        }
        Ok(())
    }
}
