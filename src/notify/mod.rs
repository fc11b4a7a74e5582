//! Notifications about runs: mails for people, and signals for machines.
//!
//! [`events`] holds the facts of a run's end, `mails` turns them into a [`message::Message`], and [`resend`] sends it.
//! `throttle` decides whether a failure is worth another mail. [`Notifier`] does all of that, and posts each end of a run to a
//! [`webhook`]. [`signals`] pings a monitor and writes metrics. A notification that fails becomes a line for a person and
//! never undoes the run.

pub mod events;
mod http;
pub mod mails;
pub mod message;
pub mod metrics;
pub mod ping;
pub mod resend;
pub mod run;
pub mod samples;
pub mod signals;
pub mod throttle;
pub mod webhook;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::base::cancel::{Cancel, LastStep};
use crate::base::error::Error;
use crate::base::secret::Redactor;
use crate::config::notify::Event;
use crate::config::notify::{MailOptions, WebhookOptions};
use events::{NewestGood, NotifiedRun, ReportMail, RunKind, RunOutcome};
use message::{Message, Sender};
use resend::Mailer;
use throttle::{FailureStreak, MailDecision, MailMemory, RunEnd};
use webhook::Webhook;

/// The job of a run that failed because of its settings, before it knew its job.
pub const UNKNOWN_JOB: &str = "unknown job";

/// The time for a mail with all its tries: it must not hold up a run that is over.
pub const MAIL_LIMIT: Duration = Duration::from_secs(60);
/// The time for a signal or webhook with all its tries.
pub const SIGNAL_LIMIT: Duration = Duration::from_secs(10);

/// Sends mails about runs, and posts them to a webhook.
#[derive(Debug)]
pub struct Notifier {
    mail: Option<(Mailer, Vec<Event>)>,
    webhook: Option<Webhook>,
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
        let mail = options.map(|options| {
            let events = options.events.clone();
            (Mailer::new(options), events)
        });
        let (memory, sender) = (MailMemory::new(state_dir), Sender::here(host));
        Notifier { mail, webhook: None, memory, redactor, sender, cancel: Cancel::default() }
    }

    /// Adds a webhook.
    pub fn with_webhook(self, options: Option<WebhookOptions>) -> Notifier {
        Notifier { webhook: options.map(Webhook::new), ..self }
    }

    /// Sets the signal after which notices must end in time.
    pub fn ending_by(self, cancel: Cancel) -> Notifier {
        Notifier { cancel, ..self }
    }

    /// Notifies people and the webhook of the end of a run, and returns the problems. A mail is sent only if the end is worth
    /// one; the webhook gets every run.
    pub async fn outcome(&self, run: &NotifiedRun, outcome: RunOutcome, now: DateTime<Utc>) -> Vec<String> {
        if !self.is_configured() || outcome.is_harmless(now) {
            return Vec::new();
        }
        let history = self.memory.history(run);
        let end = match outcome {
            RunOutcome::Success(_) | RunOutcome::Cleanup(_) => RunEnd::Well,
            RunOutcome::Failure(_) | RunOutcome::Frozen(_) => RunEnd::Badly,
        };
        let limit = self.cancel.left(LastStep::Mail).unwrap_or(MAIL_LIMIT);
        let posted = self.post(run, &outcome, history.failures, now, limit);
        let message = match history.decide(end, now) {
            MailDecision::Silence => None,
            MailDecision::Failure(streak) => Some(self.bad(run, outcome, streak, history.success, now)),
            // A cleanup that found nothing to do is no news.
            MailDecision::Success if matches!(&outcome, RunOutcome::Cleanup(c) if c.is_idle()) => None,
            MailDecision::Recovered(streak) if self.mails_event(Event::Recovered) => {
                Some(mails::recovered(run, streak, self.good(run, outcome)))
            }
            MailDecision::Success | MailDecision::Recovered(_) => Some(self.good(run, outcome)),
        };
        let mailed = async {
            match message {
                Some(message) => self.send(message, &run.run, limit).await,
                None => (false, Vec::new()),
            }
        };
        let ((sent, mut problems), not_posted) = tokio::join!(mailed, posted);
        problems.extend(not_posted);
        self.memory.remember(run, history.after(end, sent, now));
        if end == RunEnd::Well {
            // The settings are right again. Which job the unknown failures belonged to, nobody knows.
            self.memory.forget(&NotifiedRun { job: UNKNOWN_JOB.into(), ..run.clone() });
        }
        problems
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
        self.mail.as_ref().is_some_and(|(_, events)| events.contains(&event))
    }

    fn good(&self, run: &NotifiedRun, outcome: RunOutcome) -> Message {
        match outcome {
            RunOutcome::Cleanup(c) => mails::cleanup(run, &c, &self.sender),
            RunOutcome::Success(s) => mails::success(run, &s, &self.sender),
            RunOutcome::Failure(_) | RunOutcome::Frozen(_) => unreachable!("it ended badly"),
        }
    }

    fn bad(
        &self,
        run: &NotifiedRun,
        outcome: RunOutcome,
        streak: FailureStreak,
        success: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Message {
        match outcome {
            RunOutcome::Frozen(f) => mails::frozen(run, &f, &self.sender),
            RunOutcome::Failure(mut f) => {
                // If the store did not answer, the success that this machine remembers is better than nothing.
                if let (NewestGood::Unknown, Some(at), RunKind::Backup) =
                    (f.newest_good, success, run.operation)
                {
                    f.newest_good = NewestGood::At(at);
                }
                mails::failure(run, &f, streak, now, &self.sender)
            }
            RunOutcome::Success(_) | RunOutcome::Cleanup(_) => unreachable!("it ended well"),
        }
    }

    /// Sends a message if its event is wanted. Returns whether it was sent, and the problems.
    async fn send(&self, message: Message, run: &str, limit: Duration) -> (bool, Vec<String>) {
        let Some((mailer, events)) = &self.mail else { return (false, Vec::new()) };
        if !events.contains(&message.event) {
            return (false, Vec::new());
        }
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
        let wanted = self.webhook.as_ref().and_then(|webhook| {
            let event = webhook::event(outcome, failed_before, webhook.wants(Event::Recovered));
            let document =
                webhook::document(event, run, outcome, failed_before, (now, &self.sender.host), false);
            webhook.wants(event).then(|| (webhook, event, webhook::cleaned(document, &self.redactor)))
        });
        async move {
            let (webhook, event, document) = wanted?;
            let error = webhook.post(event, &document, limit).await.err()?;
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
