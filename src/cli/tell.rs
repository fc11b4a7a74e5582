//! Telling people how a command ended.

use std::time::Duration;

use chrono::Utc;

use super::logging::Log;
use super::{reading, store};
use crate::base::cancel::{Cancel, Step};
use crate::base::clock::Clock;
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::config::Config;
use crate::config::event::Event;
use crate::model::id::BackupId;
use crate::notify::events::{Failure, NewestGood, Occasion, Operation, Report};
use crate::notify::signals::Signals;
use crate::notify::{Notifier, Outcome, UNKNOWN_JOB};

/// How long the store is asked for the newest good backup, after a run that failed.
const ASKING: Duration = Duration::from_secs(15);

/// Whom to tell.
pub struct Teller<'a> {
    notifier: Notifier,
    signals: Signals,
    clock: Clock,
    config: &'a Config,
    log: &'a Log,
    cancel: &'a Cancel,
}

impl<'a> Teller<'a> {
    /// Tells as the settings say, of a run that begins now.
    ///
    /// # Errors
    /// When the settings of mails and signals are wrong: before anything is done, for nobody would hear of
    /// a failure.
    pub fn new(config: &'a Config, log: &'a Log, cancel: &'a Cancel) -> Result<Teller<'a>> {
        let (redactor, host) = (config.redactor.clone(), &config.machine.host);
        let (mail, state_dir) = (config.mail()?.cloned(), config.state_dir.clone());
        let notifier = Notifier::new(mail, state_dir, redactor.clone(), host)
            .with_webhook(config.webhook()?.cloned())
            .ending_by(cancel.deadline());
        let signals = Signals::new(config.signals()?.clone(), redactor, host);
        Ok(Teller { notifier, signals, clock: Clock::start(), config, log, cancel })
    }

    /// Tells that a backup begins. The answer: what went wrong with that, a line each.
    pub async fn started(&self) -> Vec<String> {
        let told = async { Ok(self.signals.started().await) };
        // Whoever ends the run while it is told is told of that.
        let problems = self.cancel.or(told).await.unwrap_or_default();
        problems.iter().for_each(|problem| log::warn!("{problem}"));
        problems
    }

    /// Tells of a run that did its work. The answer: what went wrong with that, a line each.
    pub async fn ended(&self, operation: Operation, job: &str, run: String, outcome: Outcome) -> Vec<String> {
        let (of, now) = (Occasion { job: job.into(), operation, run }, Utc::now());
        if outcome.is_harmless(now) {
            return Vec::new();
        }
        let channel = if self.notifier.mails() { "a mail could not be sent" } else { "webhook_url" };
        let (mut problems, unsaid) = tokio::join!(
            self.in_time(channel, self.notifier.outcome(&of, outcome.clone(), now)),
            self.in_time("ping_url", self.signals.ended(&of, &outcome, now)),
        );
        problems.extend(unsaid);
        let exit = match outcome.exit() {
            Exit::Done if !problems.is_empty() => Exit::NeedsLook,
            exit => exit,
        };
        // The last word: it holds the exit code.
        let measured = self.signals.measured(&of, &outcome, exit, (self.clock.started(), self.clock.now()));
        problems.extend(self.in_time("metrics_file", measured).await);
        problems
    }

    /// Returns the problems of `work`; one that it was too late, if there is no more time for it after a signal.
    async fn in_time(&self, what: &str, work: impl Future<Output = Vec<String>>) -> Vec<String> {
        let late = || vec![format!("{what}: there was no more time, a signal came meanwhile")];
        self.cancel.deadline().within(Step::Notices, work).await.unwrap_or_else(late)
    }

    /// Tells of a run that failed, of which `error` is told elsewhere as well. What goes wrong with that
    /// is only logged: the run has failed already.
    pub async fn failed(&self, operation: Operation, error: &Error) {
        let job = self.config.job().map_or_else(|_| self.named(), |settings| settings.job.clone());
        // Whoever ends a run does not wait for this, and of a job that is not known nothing can be asked.
        let ask = self.is_configured() && self.cancel.error().is_none() && job != UNKNOWN_JOB;
        let newest = if ask { self.newest_good(&job).await } else { NewestGood::Unknown };
        self.job_failed(operation, job, error, newest).await;
    }

    /// The same where not all settings could be read: a job that goes by the others is not known.
    pub async fn unread(&self, operation: Operation, error: &Error) {
        self.job_failed(operation, self.named(), error, NewestGood::Unknown).await;
    }

    /// The job that a setting names.
    fn named(&self) -> String {
        self.config.named_job().unwrap_or(UNKNOWN_JOB).into()
    }

    async fn job_failed(&self, operation: Operation, job: String, error: &Error, newest: NewestGood) {
        if !self.is_configured() {
            return;
        }
        let failure = Failure::of(error, self.log.tail.lines(), newest, self.config.max_age());
        let run = match operation {
            Operation::Backup => self.log.run.get().filter(|id| id.parse::<BackupId>().is_ok()),
            _ => None,
        };
        let run = run.unwrap_or_else(fresh);
        for line in self.ended(operation, &job, run, Outcome::Failure(failure)).await {
            log::warn!("{line}");
        }
    }

    async fn newest_good(&self, job: &str) -> NewestGood {
        let asked = async {
            let store = store(self.config).await?;
            NewestGood::read(&*store, job, &reading(self.config)).await
        };
        match tokio::time::timeout(ASKING, self.cancel.or(asked)).await {
            Ok(Ok(newest)) => newest,
            _ => NewestGood::Unknown,
        }
    }

    /// Tells a report. The answer: what went wrong with that, a line each.
    pub async fn report(&self, event: Event, report: Report) -> Vec<String> {
        self.notifier.report(event, report, &fresh()).await
    }

    /// Returns true if a failing run sends a notice: mail, ping, metrics or webhook.
    pub fn is_configured(&self) -> bool {
        self.notifier.is_configured() || self.signals.is_configured()
    }

    /// Somebody is to be told.
    ///
    /// # Errors
    /// When mails are not set up: they were asked for.
    pub fn is_ready(&self) -> Result<()> {
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

/// Something that no other mail is known by.
pub fn fresh() -> String {
    BackupId::new(Utc::now(), &mut rand::rng()).to_string()
}
