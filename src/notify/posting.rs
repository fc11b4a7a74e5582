//! A mail on its way, by any transport.

use std::fmt::Display;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::message::Message;
use crate::base::error::Error;
use crate::base::secret::Redactor;
use crate::config::notify::MailOptions;

/// How many times a mail is sent again.
pub(super) const REPEATS: usize = 3;
/// The first pause before a mail is sent again, without its random part.
pub(super) const PAUSE: Duration = Duration::from_millis(500);
/// How many refused addresses an error names.
const NAMED: usize = 5;

/// A mail on its way.
pub(super) struct Posting<'a> {
    pub options: &'a MailOptions,
    pub redactor: &'a Redactor,
    pub message: &'a Message,
    /// The id of the run.
    pub run: &'a str,
    /// The time in the mail's header.
    pub at: DateTime<Utc>,
    pub deadline: Instant,
}

/// A mail that the service keeps.
pub(super) struct KeptMail {
    /// The id at the service. Several only for more recipients than one mail may have.
    pub ids: Vec<String>,
    /// When it is sent.
    pub at: DateTime<Utc>,
}

impl Posting<'_> {
    /// The error of a mail that `reached` recipients got and others did not. `hint` is the next step if no address of
    /// `refused` was refused by itself.
    pub fn not_sent(&self, reached: usize, refused: &[&str], why: impl Display, hint: String) -> Error {
        let all = self.options.to.len();
        let part = if reached > 0 { format!(" to {} of {all}", all - reached) } else { String::new() };
        let more = refused.len().saturating_sub(NAMED);
        let shown = refused[..refused.len() - more].join(", ");
        let names = match (refused.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(" ({shown})"),
            (false, more) => format!(" ({shown} and {more} more)"),
        };
        let text = format!("the mail '{}' was not sent{part}{names}: {why}", self.message.subject);
        Error::failed(self.redactor.clean(&text)).hint(hint)
    }
}

/// The next step if only some addresses were refused.
pub(super) fn refused_step() -> String {
    "Correct these addresses in ADMIN_EMAILS (mail.to), or remove them".into()
}
