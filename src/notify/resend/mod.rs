//! Mails through the API of resend.com: tried again when that can help, never sent twice.

mod step;

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use super::http::{self, Answer};
use super::message::Message;
use super::render;
use crate::base::error::{Error, Result};
use crate::base::secret::{ExposeSecret, Redactor};
use crate::config::notify::Event;
use crate::config::notify::MailOptions;
use step::next_step;

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyCheck {
    /// Send, and nothing else.
    SendingOnly,
    /// Everything; for a backup's machine that is more than it needs.
    Full,
}

/// How many a mail may go to ("Max 50", Resend's reference of `POST /emails`).
const RECIPIENTS: usize = 50;
/// So many refused addresses are named.
const TOLD: usize = 5;
/// How long an answer is waited for.
const REQUEST: Duration = Duration::from_secs(20);

/// Sends mails.
#[derive(Debug)]
pub struct Mailer {
    options: MailOptions,
    redactor: Redactor,
}

impl Mailer {
    /// Sends by these settings. Nothing is asked of the network yet.
    pub fn new(options: MailOptions) -> Mailer {
        let redactor = Redactor::new(&[], &[options.key.expose_secret()]);
        Mailer { options, redactor }
    }

    /// Sends a message within `limit`, to all. `run` is the run's id: the service takes a second mail
    /// about the same event of the same run for a repetition, and does not send it again.
    ///
    /// The service refuses a mail as a whole for one bad address and does not say which: a refused mail is sent to
    /// each half of its recipients. The answer: the error of the addresses that were refused while others got the
    /// mail.
    ///
    /// # Errors
    /// Returns an error if nobody got the mail, or if the service failed before all groups of recipients were tried.
    pub async fn send(&self, message: &Message, run: &str, limit: Duration) -> Result<Option<Error>> {
        let deadline = Instant::now() + limit;
        let client = http::client()?;
        let (html, text) = (render::html(message), render::text(message));
        let groups = self.options.to.chunks(RECIPIENTS).enumerate();
        let mut waiting: VecDeque<_> = groups.map(|(i, group)| (i.to_string(), group)).collect();
        let (mut reached, mut refused, mut last) = (0, Vec::new(), None);
        while let Some((name, group)) = waiting.pop_front() {
            let mail = json!({
                "from": self.options.from, "to": group,
                "subject": message.subject, "html": html, "text": text,
            });
            let request = client
                .request(Method::POST, format!("{}/emails", self.options.base_url))
                .header("content-type", "application/json")
                .header("idempotency-key", idempotency_key(message.event, run, &name))
                .body(mail.to_string());
            match (self.tried(request, deadline).await, group) {
                (Ok(()), _) => reached += group.len(),
                (Err(answer), [address]) if refuses_recipient(&answer) => {
                    refused.push(address.as_str());
                    last = Some(answer);
                }
                (Err(answer), _) if refuses_recipient(&answer) => {
                    let (one, other) = group.split_at(group.len() / 2);
                    waiting.push_front((format!("{name}.1"), other));
                    waiting.push_front((format!("{name}.0"), one));
                }
                (Err(answer), _) => return Err(self.not_sent(message, reached, &refused, answer)),
            }
        }
        let error = last.map(|answer| self.not_sent(message, reached, &refused, answer));
        if reached > 0 { Ok(error) } else { error.map_or(Ok(None), Err) }
    }

    /// Asks within `limit` whether the service takes the key, without sending anything.
    pub async fn check_key(&self, limit: Duration) -> Result<KeyCheck> {
        let deadline = Instant::now() + limit;
        let request = http::client()?.request(Method::GET, format!("{}/domains", self.options.base_url));
        match self.tried(request, deadline).await {
            Ok(()) => Ok(KeyCheck::Full),
            // The refusal of a key that may only send says that it knows the key.
            Err(Answer::Refused { name, .. }) if name == "restricted_api_key" => Ok(KeyCheck::SendingOnly),
            Err(answer) => {
                let hint = next_step(&answer, &self.options);
                let asked = format!("{} does not take the key of the mails", self.options.base_url);
                Err(Error::failed(self.redactor.clean(&format!("{asked}: {answer}"))).hint(hint))
            }
        }
    }

    /// Sends a request until it is answered for good.
    async fn tried(&self, request: reqwest::RequestBuilder, deadline: Instant) -> Result<(), Answer> {
        let request = request.bearer_auth(self.options.key.expose_secret());
        http::tried("the mail service", request, REQUEST, deadline).await.map(drop)
    }

    fn not_sent(&self, message: &Message, reached: usize, refused: &[&str], answer: Answer) -> Error {
        let all = self.options.to.len();
        let part = if reached > 0 { format!(" to {} of {all}", all - reached) } else { String::new() };
        let more = refused.len().saturating_sub(TOLD);
        let shown = refused[..refused.len() - more].join(", ");
        let names = match (refused.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(" ({shown})"),
            (false, more) => format!(" ({shown} and {more} more)"),
        };
        let hint = match reached > 0 && refuses_recipient(&answer) {
            true => "Correct these addresses in ADMIN_EMAILS (mail.to), or remove them".into(),
            false => next_step(&answer, &self.options),
        };
        let text = format!("the mail '{}' was not sent{part}{names}: {answer}", message.subject);
        Error::failed(self.redactor.clean(&text)).hint(hint)
    }
}

/// Errors of the service, all with status 422, that no other recipient would change (Resend's reference, "Errors").
const OF_ALL: [&str; 5] = [
    "invalid_from_address",
    "missing_required_field",
    "invalid_attachment",
    "invalid_access",
    "invalid_idempotency_key",
];

/// Returns true if the service may have refused a mail because of an address in `to`.
fn refuses_recipient(answer: &Answer) -> bool {
    match answer {
        Answer::Refused { status, name, words, .. } => match status.as_u16() {
            422 => !OF_ALL.contains(&name.as_str()) && !words.contains("`from`"),
            400 => words.contains("`to`"),
            _ => false,
        },
        Answer::Lost(_) | Answer::Unsendable(_) => false,
    }
}

/// One for each mail, the same for each try: at most 256 characters (Resend), all of them visible ASCII. `group` is the
/// name of its group of recipients.
fn idempotency_key(event: Event, run: &str, group: &str) -> String {
    let fits = run.len() <= 200 && run.bytes().all(|b| b.is_ascii_graphic());
    let run = if fits { run.to_string() } else { blake3::hash(run.as_bytes()).to_hex().to_string() };
    format!("uzima-backup/{event}/{run}/{group}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mails_key_is_its_own_and_fits() {
        let key = |run: &str, group: &str| idempotency_key(Event::Failure, run, group);
        assert_eq!(key("20261123T030000Z-7k3q9d", "0"), "uzima-backup/failure/20261123T030000Z-7k3q9d/0");
        assert_ne!(key("a", "0"), key("a", "0.1"));
        assert_ne!(key("a", "0"), idempotency_key(Event::Recovered, "a", "0"));
        for hostile in ["a\nb".to_string(), "ü".into(), "x".repeat(5000)] {
            let key = key(&hostile, "0.1.0.1.0.1");
            assert!(key.len() <= 256 && key.bytes().all(|b| b.is_ascii_graphic()), "{key}");
        }
    }
}
