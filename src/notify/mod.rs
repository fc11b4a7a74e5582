//! Notifications about runs: mails for people, and signals for machines.
//!
//! [`events`] has the facts of a run's end. `mails` turns them into a [`message::Message`], and [`resend`] sends it.
//! `throttle` decides if a failure is worth another mail. [`Notifier`] combines these, and posts the end of each run to a
//! webhook. [`run`] adds the pings and the metrics. If a notification fails, the caller gets a line for a person; the run
//! itself does not fail.

pub mod events;
mod http;
mod mails;
pub mod message;
pub mod metrics;
pub mod resend;
pub mod run;
pub mod samples;
pub mod signals;
pub mod throttle;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::base::cancel::{Cancel, LastStep};
use crate::base::error::Error;
use crate::base::secret::Redactor;
use crate::config::notify::{Event, MailOptions, WebhookOptions};
use events::{NewestGood, NotifiedRun, ReportMail, RunKind, RunOutcome};
pub use mails::health_mail;
use message::{Message, Sender};
use resend::Mailer;
use throttle::{MailDecision, MailHistory, MailMemory};

/// The job of a run that failed because of its settings, before it knew its job.
pub const UNKNOWN_JOB: &str = "unknown job";

/// The time for a mail with all its tries. It must not delay the end of the run much.
pub const MAIL_LIMIT: Duration = Duration::from_secs(60);
/// The time for a signal or webhook with all its tries.
pub const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// Sends mails about runs, and posts them to a webhook.
#[derive(Debug)]
pub struct Notifier {
    mail: Option<Mailer>,
    webhook: Option<WebhookOptions>,
    memory: MailMemory,
    redactor: Redactor,
    sender: Sender,
    cancel: Cancel,
}

impl Notifier {
    /// Sends mails as `options` say, or none without options. `host` is the name of this machine.
    pub fn new(
        options: Option<MailOptions>,
        state_dir: Option<PathBuf>,
        redactor: Redactor,
        host: &str,
    ) -> Notifier {
        let mail = options.map(Mailer::new);
        let (memory, sender) = (MailMemory::new(state_dir), Sender::here(host));
        Notifier { mail, webhook: None, memory, redactor, sender, cancel: Cancel::default() }
    }

    pub fn ending_by(self, cancel: Cancel) -> Notifier {
        Notifier { cancel, ..self }
    }

    /// Notifies people and the webhook of the end of a run, and returns the problems. A mail is sent only if the end is worth
    /// one; the webhook gets every run.
    pub async fn outcome(
        &self,
        run: &NotifiedRun,
        mut outcome: RunOutcome,
        now: DateTime<Utc>,
    ) -> Vec<String> {
        if !self.is_configured() || outcome.is_harmless(now) {
            return Vec::new();
        }
        let partial = outcome.is_partial();
        // A partial backup ends no streak of failures.
        let history = if partial { MailHistory::default() } else { self.memory.history(run) };
        let limit = self.cancel.left(LastStep::Mail).unwrap_or(MAIL_LIMIT);
        let posted = self.post(run, &outcome, history.failures, now, limit);
        // If the store did not answer, the mail names the last success that this machine remembers.
        if let (RunOutcome::Failure(f), RunKind::Backup, Some(at)) =
            (&mut outcome, run.operation, history.success)
            && f.newest_good == NewestGood::Unknown
        {
            f.newest_good = NewestGood::At(at);
        }
        let good = outcome.is_good();
        let mailed = async {
            match self.mail_about(run, &outcome, history.decide(good, now), now) {
                Some(message) => self.send(message, &run.run, limit).await,
                None => (false, Vec::new()),
            }
        };
        let ((sent, mut problems), not_posted) = tokio::join!(mailed, posted);
        problems.extend(not_posted);
        if partial {
            return problems;
        }
        self.memory.remember(run, history.after(good, sent, now));
        if good {
            // The settings are right again. The job of earlier failures with wrong settings is unknown.
            self.memory.forget(&NotifiedRun { job: UNKNOWN_JOB.into(), ..run.clone() });
        }
        problems
    }

    fn mail_about(
        &self,
        run: &NotifiedRun,
        outcome: &RunOutcome,
        decision: MailDecision,
        now: DateTime<Utc>,
    ) -> Option<Message> {
        let streak = match decision {
            MailDecision::Silence => return None,
            // A cleanup that found nothing to do is no news.
            MailDecision::Success if matches!(outcome, RunOutcome::Cleanup(c) if c.is_idle()) => return None,
            MailDecision::Success => None,
            MailDecision::Recovered(streak) => Some(streak).filter(|_| self.mails_event(Event::Recovered)),
            MailDecision::Failure(streak) => Some(streak),
        };
        Some(mails::outcome(run, outcome, streak, now, &self.sender))
    }

    /// Sends a report of `stats` or `health`, however often one was sent before, and returns the problems. `run` is the id of
    /// this run.
    pub async fn report(&self, event: Event, report: ReportMail, run: &str) -> Vec<String> {
        self.send(mails::report(event, report, &self.sender), run, MAIL_LIMIT).await.1
    }

    /// Returns true if mails or a webhook are set up.
    pub fn is_configured(&self) -> bool {
        self.mails() || self.webhook.is_some()
    }

    /// Returns true if mails are set up.
    pub fn mails(&self) -> bool {
        self.mail.is_some()
    }

    fn mails_event(&self, event: Event) -> bool {
        self.mail.as_ref().is_some_and(|mailer| mailer.wants(event))
    }

    /// Sends a message if its event is wanted. Returns true if it was sent, and the problems.
    async fn send(&self, message: Message, run: &str, limit: Duration) -> (bool, Vec<String>) {
        let Some(mailer) = self.mail.as_ref().filter(|_| self.mails_event(message.event)) else {
            return (false, Vec::new());
        };
        let message = message.cleaned(&self.redactor);
        let problem =
            |error: &Error| format!("a mail could not be sent: {}", self.redactor.clean(&line(error)));
        match mailer.send(&message, run, limit).await {
            Ok(refused) => {
                log::info!("sent the mail '{}'", message.subject);
                (true, refused.iter().map(problem).collect())
            }
            Err(error) => (false, vec![problem(&error)]),
        }
    }

    /// Posts a run to the webhook and returns the problem. The document is made at once, before the future is polled.
    fn post<'a>(
        &'a self,
        run: &NotifiedRun,
        outcome: &RunOutcome,
        failed_before: u32,
        now: DateTime<Utc>,
        limit: Duration,
    ) -> impl Future<Output = Option<String>> + use<'a> {
        let wanted = self.webhook.as_ref().and_then(|options| {
            let wants = |event| options.events.contains(&event);
            let event = signals::event(outcome, failed_before, wants(Event::Recovered));
            let now = (now, self.sender.host.as_str());
            let document = || signals::document(event, run, outcome, failed_before, now, false);
            wants(event).then(|| (options, event, signals::cleaned(document(), &self.redactor)))
        });
        async move {
            let (options, event, document) = wanted?;
            let error = signals::post(options, event, &document, limit).await.err()?;
            Some(self.redactor.clean(&line(&error)))
        }
    }
}

/// An error and its next step in one line.
fn line(error: &Error) -> String {
    match error.next_step() {
        Some(step) => format!("{}. {step}", error.chain()),
        None => error.chain(),
    }
}
