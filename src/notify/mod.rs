//! Notifications about runs: mails for people, and signals for machines.
//!
//! [`events`] has the facts of a run's end. `mails` turns them into a [`message::Message`], and [`mailer`] sends it: by
//! `resend`, `smtp` or `sendmail`.
//! `throttle` decides if a failure is worth another mail, and `routine` if a cleanup is worth one. [`Notifier`] combines
//! these, and posts the end of each run to a webhook. [`run`] adds the pings and the metrics. If a notification fails, the
//! caller gets a line for a person; the run itself does not fail.

mod chat;
mod deadman;
pub mod events;
mod http;
pub mod mailer;
mod mails;
pub mod message;
pub mod metrics;
mod mime;
mod posting;
mod resend;
mod routine;
pub mod run;
mod sendmail;
pub mod signals;
mod smtp;
pub mod throttle;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::base::cancel::{Cancel, LastStep};
use crate::base::error::Error;
use crate::base::secret::Redactor;
use crate::config::notify::{Event, MailOptions, WebhookFormat, WebhookOptions};
use events::{CleanupSuccess, NewestGood, NotifiedRun, ReportMail, RunKind, RunOutcome};
use mailer::Mailer;
pub use mails::{health_mail, report as report_mail};
use message::{Message, Sender};
use routine::CleanupHistory;
use throttle::{FailureStreak, MailDecision, MailHistory, MailMemory};

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

    /// Notifies people and the webhook of the end of a run, and returns the problems. A mail is sent, and a message posted to
    /// a chat, only if the end is worth one; the webhook of a program gets every run.
    pub async fn outcome(
        &self,
        run: &NotifiedRun,
        mut outcome: RunOutcome,
        now: DateTime<Utc>,
    ) -> Vec<String> {
        if !self.is_configured() || outcome.is_harmless(now) {
            return Vec::new();
        }
        let mut history = self.memory.history(run);
        if run.partial {
            // A partial backup neither continues nor ends the job's failures in a row.
            history = MailHistory { success: history.success, ..MailHistory::default() };
        }
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
        let cleanups = self.memory.cleanups(&run.job);
        if let RunOutcome::Cleanup(c) = &mut outcome {
            c.exceeds = cleanups.exceeded(c.most_deleted());
        }
        let lasting = outcome.has_lasting_problems();
        let decision = match lasting {
            true => history.decide_about_lasting(now),
            false => history.decide(good, now),
        };
        let message = self.message_about(run, &outcome, decision, &cleanups, now);
        let chatted = self.chat(message.as_ref(), limit);
        let mailed = async {
            match &message {
                Some(message) => self.send(message.clone(), &run.run, now, limit).await,
                None => (false, Vec::new()),
            }
        };
        let ((sent, mut problems), not_posted, (in_chat, not_in_chat)) =
            tokio::join!(mailed, posted, chatted);
        problems.extend(not_posted.into_iter().chain(not_in_chat));
        let sent = sent || in_chat;
        if run.partial {
            return problems;
        }
        let mentioned = cleanups;
        let history = match lasting {
            true => history.after_lasting(sent, now),
            false => history.after(good, sent, now),
        };
        self.memory
            .remember(run, history, |cleanups| cleanups.after(&outcome, sent.then_some(&mentioned), now));
        if good {
            // The settings are right again. The job of earlier failures with wrong settings is unknown.
            self.memory.forget(&NotifiedRun { job: UNKNOWN_JOB.into(), ..run.clone() });
        }
        problems
    }

    /// The message for people about the end of a run, by mail and in a chat; `None` if the end is not worth one.
    fn message_about(
        &self,
        run: &NotifiedRun,
        outcome: &RunOutcome,
        decision: MailDecision,
        cleanups: &CleanupHistory,
        now: DateTime<Utc>,
    ) -> Option<Message> {
        let streak = match decision {
            MailDecision::Silence => return None,
            MailDecision::Success => None,
            MailDecision::Recovered(streak) => Some(streak).filter(|_| self.wants_message(Event::Recovered)),
            MailDecision::Failure(streak) => Some(streak),
        };
        // The oplog is stored every few minutes.
        if let (RunOutcome::Oplog(o), None) = (outcome, streak)
            && o.problems.is_empty()
        {
            return None;
        }
        let each = self.mail.as_ref().is_some_and(Mailer::wants_each_cleanup)
            || self.chat_options().is_some_and(|options| options.each_cleanup);
        if let (RunOutcome::Cleanup(c), None) = (outcome, streak)
            && (c.is_idle() || (c.is_routine() && !each))
        {
            return None;
        }
        let message = mails::outcome(run, outcome, streak, now, &self.sender);
        Some(with_cleanups(message, run, outcome, cleanups))
    }

    /// Sends a report of `stats` or `health`, however often one was sent before, and returns the problems. `run` is the id of
    /// this run.
    pub async fn report(
        &self,
        event: Event,
        report: ReportMail,
        run: &str,
        now: DateTime<Utc>,
    ) -> Vec<String> {
        self.send(mails::report(event, report, &self.sender), run, now, MAIL_LIMIT).await.1
    }

    /// Returns true if mails or a webhook are set up.
    pub fn is_configured(&self) -> bool {
        self.mails() || self.webhook.is_some()
    }

    /// Returns true if mails are set up.
    pub fn mails(&self) -> bool {
        self.mail.is_some()
    }

    /// Returns true if mails about the event are wanted.
    fn mails_event(&self, event: Event) -> bool {
        self.mail.as_ref().is_some_and(|mailer| named_by(event).into_iter().any(|event| mailer.wants(event)))
    }

    /// The webhook, if it belongs to a chat.
    fn chat_options(&self) -> Option<&WebhookOptions> {
        self.webhook.as_ref().filter(|options| options.format != WebhookFormat::Json)
    }

    /// Returns true if messages about the event are wanted in a chat.
    fn chats_event(&self, event: Event) -> bool {
        let wanted =
            |options: &WebhookOptions| named_by(event).iter().any(|event| options.events.contains(event));
        self.chat_options().is_some_and(wanted)
    }

    /// Returns true if messages about the event are wanted, by mail or in a chat.
    fn wants_message(&self, event: Event) -> bool {
        self.mails_event(event) || self.chats_event(event)
    }

    /// Posts a message to the chat if its event is wanted. Returns true if it was posted, and the problem.
    async fn chat(&self, message: Option<&Message>, limit: Duration) -> (bool, Option<String>) {
        let wanted = message.filter(|message| self.chats_event(message.event));
        let Some((message, options)) = wanted.zip(self.chat_options()) else { return (false, None) };
        let posted = signals::chat(options, &message.clone().cleaned(&self.redactor), limit).await;
        let problem = posted.as_ref().err().map(|error| self.redactor.clean(&line(error)));
        (posted.is_ok(), problem)
    }

    /// Sends a message if its event is wanted. Returns true if it was sent, and the problems.
    async fn send(
        &self,
        message: Message,
        run: &str,
        now: DateTime<Utc>,
        limit: Duration,
    ) -> (bool, Vec<String>) {
        let Some(mailer) = self.mail.as_ref().filter(|_| self.mails_event(message.event)) else {
            return (false, Vec::new());
        };
        let message = message.cleaned(&self.redactor);
        let problem =
            |error: &Error| format!("a mail could not be sent: {}", self.redactor.clean(&line(error)));
        match mailer.send(&message, run, now, limit).await {
            Ok(refused) => {
                log::info!("sent the mail '{}'", message.subject);
                (true, refused.iter().map(problem).collect())
            }
            Err(error) => (false, vec![problem(&error)]),
        }
    }

    /// Posts a run to the webhook, if it belongs to a program, and returns the problem. The document is made at once, before the
    /// future is polled.
    fn post<'a>(
        &'a self,
        run: &NotifiedRun,
        outcome: &RunOutcome,
        failed_before: u32,
        now: DateTime<Utc>,
        limit: Duration,
    ) -> impl Future<Output = Option<String>> + use<'a> {
        let documents = self.webhook.as_ref().filter(|options| options.format == WebhookFormat::Json);
        let wanted = documents.and_then(|options| {
            let wants = |event| options.events.contains(&event);
            let event = signals::event(outcome, failed_before, wants(Event::Recovered))?;
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

/// The earlier runs of a job that a mail mentions.
#[derive(Debug, Default)]
pub struct PastRuns<'a> {
    /// The failures in a row and the time of the first one: up to this one, or before this success.
    pub failures: Option<(u32, DateTime<Utc>)>,
    /// A routine cleanup and its end.
    pub cleanup: Option<(&'a CleanupSuccess, DateTime<Utc>)>,
}

/// The mail about the end of a run, for samples: it depends on no mail that was sent before.
pub fn run_mail(
    run: &NotifiedRun,
    outcome: &RunOutcome,
    past: &PastRuns,
    now: DateTime<Utc>,
    sender: &Sender,
) -> Message {
    let streak = past.failures.map(|(failures, since)| FailureStreak { failures, since });
    let cleanups = past.cleanup.map(|(cleanup, ended)| {
        CleanupHistory::default().after(&RunOutcome::Cleanup(cleanup.clone()), None, ended)
    });
    with_cleanups(
        mails::outcome(run, outcome, streak, now, sender),
        run,
        outcome,
        &cleanups.unwrap_or_default(),
    )
}

/// Adds the routine cleanups to a mail about a whole backup.
fn with_cleanups(
    message: Message,
    run: &NotifiedRun,
    outcome: &RunOutcome,
    cleanups: &CleanupHistory,
) -> Message {
    match (outcome, cleanups.line()) {
        (RunOutcome::Success(_), Some(line)) if !run.partial => message.fact("Cleanup", line),
        _ => message,
    }
}

/// The events in the settings that stand for an event. Only an unusual cleanup gets here if the settings do not name `cleanup`:
/// like a frozen one, it needs a look.
fn named_by(event: Event) -> [Event; 2] {
    [event, if event == Event::Cleanup { Event::Frozen } else { event }]
}

/// A time in a mail.
fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// An error and its next step in one line.
fn line(error: &Error) -> String {
    match error.next_step() {
        Some(step) => format!("{}. {step}", error.chain()),
        None => error.chain(),
    }
}
