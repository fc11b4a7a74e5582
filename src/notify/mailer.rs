//! Sends a mail by the configured transport: the service of Resend, an SMTP server, or the machine's sendmail.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::message::Message;
use super::posting::Posting;
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
