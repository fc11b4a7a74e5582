//! Telling people: mails about what happened, none too many and none too few.
//!
//! [`events`] turns what happened into a [`message::Message`], [`render`] that into HTML and text,
//! [`resend`] sends it, and [`flood`] decides whether a failure is worth another mail; [`memory`] keeps
//! what it must know. [`Notifier`] is all of that for a command, and tells a webhook of the same events.
//! [`signals`] are for machines. Whatever goes wrong here is told as a line for a person, and never undoes
//! what the run did.

pub mod events;
pub mod flood;
mod http;
pub mod memory;
pub mod message;
mod outcome;
pub mod render;
pub mod resend;
pub mod run;
pub mod samples;
pub mod signals;

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use outcome::Outcome;

use crate::base::cancel::{Deadline, LastStep};
use crate::base::error::Error;
use crate::base::secret::Redactor;
use crate::config::notify::Event;
use crate::config::notify::{MailOptions, WebhookOptions};
use events::{NewestGood, Occasion, Row};
use flood::{Decision, Ended};
use memory::Memory;
use message::{Message, Sender};
use resend::Mailer;
use signals::webhook::{self, Webhook};

/// The job of a run that failed before it knew its job, because of its settings.
pub const UNKNOWN_JOB: &str = "unknown job";

/// How long a mail may take: a run that is over must not hang on it.
const LIMIT: Duration = Duration::from_secs(60);

/// Tells of runs.
#[derive(Debug)]
pub struct Notifier {
    mail: Option<(Mailer, Vec<Event>)>,
    webhook: Option<Webhook>,
    memory: Memory,
    redactor: Redactor,
    sender: Sender,
    deadline: Deadline,
}

impl Notifier {
    /// Tells by mail as `options` say; without them, not at all. `host` is this machine's name.
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
        let (memory, sender) = (Memory::new(state_dir), Sender::here(host));
        Notifier { mail, webhook: None, memory, redactor, sender, deadline: Deadline::default() }
    }

    /// The same, telling a webhook as well.
    pub fn with_webhook(self, options: Option<WebhookOptions>) -> Notifier {
        Notifier { webhook: options.map(Webhook::new), ..self }
    }

    /// The same for a run with this deadline.
    pub fn ending_by(self, deadline: Deadline) -> Notifier {
        Notifier { deadline, ..self }
    }

    /// Tells how a run ended, by a mail if that is worth one. The answer: what went wrong with it, a line
    /// each.
    pub async fn outcome(&self, of: &Occasion, outcome: Outcome, now: DateTime<Utc>) -> Vec<String> {
        if !self.is_configured() || outcome.is_harmless(now) {
            return Vec::new();
        }
        let name = flood::name(&of.job, of.operation);
        let past = self.memory.past(&name);
        let ended = match outcome {
            Outcome::Success(_) | Outcome::Cleanup(_) => Ended::Well,
            Outcome::Failure(_) | Outcome::Frozen(_) => Ended::Badly,
        };
        let limit = self.deadline.left(LastStep::Mail).unwrap_or(LIMIT);
        let posted = self.posted(of, &outcome, past.failures, now, limit);
        let message = match past.decide(ended, now) {
            Decision::Silence => None,
            Decision::Tell(row) => Some(self.bad(of, outcome, row, past.success, now)),
            // A clean-up that found nothing to do is no news.
            Decision::Usual if matches!(&outcome, Outcome::Cleanup(c) if c.is_idle()) => None,
            Decision::Usual => Some(self.good(of, outcome)),
            Decision::Recovered(row) if self.tells(Event::Recovered) => {
                Some(events::recovered(of, row, self.good(of, outcome)))
            }
            Decision::Recovered(_) => Some(self.good(of, outcome)),
        };
        let mailed = async {
            match message {
                Some(message) => self.told(message, &of.run, limit).await,
                None => (false, Vec::new()),
            }
        };
        let ((sent, mut problems), unposted) = tokio::join!(mailed, posted);
        problems.extend(unposted);
        // Read again, for the mail took its time and another run may have written.
        self.memory.remember(&name, past.after(ended, sent, now));
        if ended == Ended::Well {
            // The settings are right again; which job it was that nobody knew, nobody knows.
            self.memory.forget(&flood::name(UNKNOWN_JOB, of.operation));
        }
        problems
    }

    /// Tells a report, which nobody asked to hear only once: `stats` and `health`. `run` is this run's id.
    pub async fn report(&self, event: Event, report: events::Report, run: &str) -> Vec<String> {
        self.told(events::report(event, report, &self.sender), run, LIMIT).await.1
    }

    /// Whether anybody is told.
    pub fn is_configured(&self) -> bool {
        self.mails() || self.webhook.is_some()
    }

    /// Whether mails are set up.
    pub fn mails(&self) -> bool {
        self.mail.is_some()
    }

    /// Whether an event is told.
    fn tells(&self, event: Event) -> bool {
        self.mail.as_ref().is_some_and(|(_, events)| events.contains(&event))
    }

    fn good(&self, of: &Occasion, outcome: Outcome) -> Message {
        match outcome {
            Outcome::Cleanup(c) => events::cleanup(of, &c, &self.sender),
            Outcome::Success(s) => events::success(of, &s, &self.sender),
            Outcome::Failure(_) | Outcome::Frozen(_) => unreachable!("it ended badly"),
        }
    }

    fn bad(
        &self,
        of: &Occasion,
        outcome: Outcome,
        row: Row,
        success: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Message {
        match outcome {
            Outcome::Frozen(f) => events::frozen(of, &f, &self.sender),
            Outcome::Failure(mut f) => {
                // A store that cannot be asked: what this machine remembers is better than nothing.
                if let (NewestGood::Unknown, Some(at), events::Operation::Backup) =
                    (f.newest_good, success, of.operation)
                {
                    f.newest_good = NewestGood::At(at);
                }
                events::failure(of, &f, (row.failures, row.since), now, &self.sender)
            }
            Outcome::Success(_) | Outcome::Cleanup(_) => unreachable!("it ended well"),
        }
    }

    /// Sends a message if its event is told: whether it was sent, and what went wrong.
    async fn told(&self, message: Message, run: &str, limit: Duration) -> (bool, Vec<String>) {
        let Some((mailer, events)) = &self.mail else { return (false, Vec::new()) };
        if !events.contains(&message.event) {
            return (false, Vec::new());
        }
        let message = message.cleaned(&self.redactor);
        match mailer.send(&message, run, limit).await {
            Ok(refused) => {
                log::info!("sent the mail '{}'", message.subject);
                (true, refused.map(|error| self.unsent(&error)).into_iter().collect())
            }
            Err(error) => (false, vec![self.unsent(&error)]),
        }
    }

    fn unsent(&self, error: &Error) -> String {
        format!("a mail could not be sent: {}", self.redactor.clean(&line(error)))
    }

    /// Tells the webhook, of each run: a program does not tire. The document is made before anything is
    /// waited for. The answer: what went wrong.
    fn posted<'a>(
        &'a self,
        of: &Occasion,
        outcome: &Outcome,
        failed_before: u32,
        now: DateTime<Utc>,
        limit: Duration,
    ) -> impl Future<Output = Option<String>> + use<'a> {
        let told = self.webhook.as_ref().and_then(|webhook| {
            let event = webhook::event(outcome, failed_before, webhook.tells(Event::Recovered));
            let document =
                webhook::document(event, of, outcome, failed_before, (now, &self.sender.host), false);
            webhook.tells(event).then(|| (webhook, event, webhook::cleaned(document, &self.redactor)))
        });
        async move {
            let (webhook, event, document) = told?;
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
