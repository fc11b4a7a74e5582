//! Sends a mail by the configured transport: the service of Resend, an SMTP server, or the machine's sendmail.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::message::Message;
use super::posting::{KeptMail, Posting};
use super::{resend, sendmail, smtp};
use crate::base::error::{Error, Result};
use crate::base::secret::{ExposeSecret, Redactor};
use crate::config::notify::{Event, MailOptions};
use crate::config::transport::MailTransport;

#[derive(Debug)]
pub struct Mailer {
    options: MailOptions,
    redactor: Redactor,
}

impl Mailer {
    pub fn new(options: MailOptions) -> Mailer {
        let secrets = match &options.by {
            MailTransport::Resend(service) => vec![service.key.expose_secret().to_string()],
            MailTransport::Smtp(server) => server.login.as_ref().map_or_else(Vec::new, smtp::secrets),
            MailTransport::Sendmail(_) => Vec::new(),
        };
        let words: Vec<&str> = secrets.iter().map(String::as_str).collect();
        Mailer { redactor: Redactor::new(&[], &words), options }
    }

    /// Returns true if the settings ask for mails about this event.
    pub(super) fn wants(&self, event: Event) -> bool {
        self.options.events.contains(&event)
    }

    /// Returns true if the settings ask for a mail about each cleanup that deletes backups.
    pub(super) fn wants_each_cleanup(&self) -> bool {
        self.options.each_cleanup
    }

    /// Sends a message to all recipients within `limit`. `run` is the id of the run and `at` the date of the mail. A mail that
    /// is tried again has the same identity each time: an idempotency key at Resend, a Message-ID elsewhere.
    ///
    /// Returns the error of the refused addresses if other recipients got the mail.
    ///
    /// # Errors
    /// Returns an error if nobody got the mail, or if sending failed before all recipients were tried.
    pub async fn send(
        &self,
        message: &Message,
        run: &str,
        at: DateTime<Utc>,
        limit: Duration,
    ) -> Result<Option<Error>> {
        let (options, redactor) = (&self.options, &self.redactor);
        let posting = Posting { options, redactor, message, run, at, deadline: Instant::now() + limit };
        match &options.by {
            MailTransport::Resend(service) => resend::send(service, &posting).await,
            MailTransport::Smtp(server) => smtp::send(server, &posting).await,
            MailTransport::Sendmail(program) => sendmail::send(program, &posting).await,
        }
    }

    /// Returns true if the service keeps a mail about stopped backups.
    pub(super) fn keeps_a_mail(&self) -> bool {
        self.options.dead_man
    }

    /// Has the service keep a message for all recipients until `at`, or until the latest time that it accepts.
    ///
    /// # Errors
    /// Returns an error if the service did not accept it for all recipients, with the ids of the mails that it accepted.
    pub(super) async fn schedule(
        &self,
        message: &Message,
        run: &str,
        at: DateTime<Utc>,
        now: DateTime<Utc>,
        limit: Duration,
    ) -> Result<KeptMail, (Vec<String>, Error)> {
        let (options, redactor) = (&self.options, &self.redactor);
        let message = &message.clone().cleaned(redactor);
        let posting = Posting { options, redactor, message, run, at: now, deadline: Instant::now() + limit };
        match &options.by {
            MailTransport::Resend(service) => resend::schedule(service, &posting, at).await,
            MailTransport::Smtp(_) | MailTransport::Sendmail(_) => Err((Vec::new(), no_service())),
        }
    }

    /// Cancels a mail that the service keeps. A mail that is sent or cancelled already is no error.
    ///
    /// # Errors
    /// Returns an error if the service does not cancel it.
    pub(super) async fn cancel(&self, id: &str, limit: Duration) -> Result<()> {
        match &self.options.by {
            MailTransport::Resend(service) => {
                resend::cancel(service, &self.options, &self.redactor, id, limit).await
            }
            MailTransport::Smtp(_) | MailTransport::Sendmail(_) => Err(no_service()),
        }
    }

    /// Finds out within `limit`, without sending a mail, if mails can be sent. Returns a description.
    ///
    /// # Errors
    /// Returns an error if the service refuses the key, if the server refuses the login, if either does not answer, or if the
    /// program cannot be run.
    pub async fn check(&self, limit: Duration) -> Result<String> {
        match &self.options.by {
            MailTransport::Resend(service) => {
                resend::check(service, &self.options, &self.redactor, limit).await
            }
            MailTransport::Smtp(server) => smtp::check(server, &self.options, &self.redactor, limit).await,
            MailTransport::Sendmail(program) => sendmail::check(program),
        }
    }
}

/// The settings allow such mails only with Resend.
fn no_service() -> Error {
    Error::usage("only Resend keeps a mail until backups stop").hint("Unset MAIL_DEAD_MAN (mail.dead_man)")
}
