//! Sends mails through the API of resend.com. A mail is tried again while that can help, and is never sent twice.

use std::collections::VecDeque;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use super::http::{self, HttpFailure};
use super::posting::{Posting, refused_step};
use crate::base::error::{Error, Result};
use crate::base::secret::{ExposeSecret, Redactor};
use crate::config::notify::{Event, MailOptions};
use crate::config::transport::ResendOptions;

/// How many recipients a mail may have ("Max 50", Resend's reference of `POST /emails`).
const RECIPIENTS: usize = 50;
/// The timeout of one try.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Sends a mail. The service treats a second mail about the same event of the same run as a repetition and does not send it
/// again.
///
/// The service refuses a whole mail because of one bad address, without naming the address. A refused mail is therefore sent
/// to each half of its recipients. Returns the error of the refused addresses if other recipients got the mail.
///
/// # Errors
/// Returns an error if nobody got the mail, or if the service failed before all groups of recipients were tried.
pub(super) async fn send(service: &ResendOptions, posting: &Posting<'_>) -> Result<Option<Error>> {
    let (message, options) = (posting.message, posting.options);
    let client = http::client()?;
    let (html, text) = (message.html(), message.text());
    let groups = options.to.chunks(RECIPIENTS).enumerate();
    let mut waiting: VecDeque<_> = groups.map(|(i, group)| (i.to_string(), group)).collect();
    let (mut reached, mut refused, mut last) = (0, Vec::new(), None);
    while let Some((name, group)) = waiting.pop_front() {
        let mail = json!({
            "from": options.from, "to": group,
            "subject": message.subject, "html": html, "text": text,
        });
        let request = client
            .request(Method::POST, format!("{}/emails", service.base_url))
            .header("content-type", "application/json")
            .header("idempotency-key", idempotency_key(message.event, posting.run, &name))
            .body(mail.to_string());
        match (ask(service, request, posting.deadline).await, group) {
            (Ok(_), _) => reached += group.len(),
            (Err(failure), [address]) if refuses_recipient(&failure) => {
                refused.push(address.as_str());
                last = Some(failure);
            }
            (Err(failure), _) if refuses_recipient(&failure) => {
                let (one, other) = group.split_at(group.len() / 2);
                waiting.push_front((format!("{name}.1"), other));
                waiting.push_front((format!("{name}.0"), one));
            }
            (Err(failure), _) => return Err(not_sent(service, posting, reached, &refused, failure)),
        }
    }
    let error = last.map(|failure| not_sent(service, posting, reached, &refused, failure));
    if reached > 0 { Ok(error) } else { error.map_or(Ok(None), Err) }
}

/// Finds out within `limit` which rights the key has, without sending a mail. Returns a description.
///
/// # Errors
/// Returns an error if the service refuses the key or does not answer.
pub(super) async fn check(
    service: &ResendOptions,
    options: &MailOptions,
    redactor: &Redactor,
    limit: Duration,
) -> Result<String> {
    let deadline = Instant::now() + limit;
    let request = http::client()?.request(Method::GET, format!("{}/domains", service.base_url));
    match ask(service, request, deadline).await {
        Ok(_) => Ok("the key may do more than send: a sending-only key is enough".into()),
        // This refusal proves that the service knows the key, which may only send.
        Err(HttpFailure::Refused { name, .. }) if name == "restricted_api_key" => {
            Ok("the key may send, and nothing else".into())
        }
        Err(failure) => {
            let hint = next_step(&failure, service, &options.from);
            let asked = format!("{} does not accept the mail key", service.base_url);
            Err(Error::failed(redactor.clean(&format!("{asked}: {failure}"))).hint(hint))
        }
    }
}

/// Sends a request with the key, and returns the beginning of the answer's body.
async fn ask(
    service: &ResendOptions,
    request: reqwest::RequestBuilder,
    deadline: Instant,
) -> Result<String, HttpFailure> {
    let request = request.bearer_auth(service.key.expose_secret());
    http::send("the mail service", request, TIMEOUT, deadline).await
}

fn not_sent(
    service: &ResendOptions,
    posting: &Posting<'_>,
    reached: usize,
    refused: &[&str],
    failure: HttpFailure,
) -> Error {
    let hint = match reached > 0 && refuses_recipient(&failure) {
        true => refused_step(),
        false => next_step(&failure, service, &posting.options.from),
    };
    posting.not_sent(reached, refused, failure, hint)
}

/// Errors with status 422 that do not depend on the recipients (Resend's reference, "Errors").
const FOR_ALL: [&str; 5] = [
    "invalid_from_address",
    "missing_required_field",
    "invalid_attachment",
    "invalid_access",
    "invalid_idempotency_key",
];

/// Returns true if the service may have refused a mail because of an address in `to`.
fn refuses_recipient(failure: &HttpFailure) -> bool {
    match failure {
        HttpFailure::Refused { status, name, words, .. } => match status.as_u16() {
            422 => !FOR_ALL.contains(&name.as_str()) && !words.contains("`from`"),
            400 => words.contains("`to`"),
            _ => false,
        },
        HttpFailure::NoAnswer(_) | HttpFailure::Invalid(_) => false,
    }
}

/// The idempotency key of a mail, which is the same for each try: at most 256 characters (Resend), all of them visible
/// ASCII. `group` is the name of the group of recipients.
fn idempotency_key(event: Event, run: &str, group: &str) -> String {
    let fits = run.len() <= 200 && run.bytes().all(|b| b.is_ascii_graphic());
    let run = if fits { run.to_string() } else { blake3::hash(run.as_bytes()).to_hex().to_string() };
    format!("uzima-backup/{event}/{run}/{group}")
}

fn next_step(failure: &HttpFailure, service: &ResendOptions, from: &str) -> String {
    let HttpFailure::Refused { status, name, words, .. } = failure else {
        return failure.unreached_step(&service.base_url);
    };
    let about_domain = words.contains("domain") || words.contains("testing emails");
    match (status.as_u16(), name.as_str()) {
        (_, "restricted_api_key") => "Give RESEND_API_KEY (mail.resend_api_key) a key that may send".into(),
        (403, "validation_error") | (422, "invalid_from_address") => from_step(from),
        (400 | 401 | 403, _) if !about_domain => {
            "Give RESEND_API_KEY (mail.resend_api_key) a valid key: https://resend.com/api-keys".into()
        }
        (403, _) => from_step(from),
        (400 | 422, _) => {
            format!("Correct EMAIL_FROM (mail.from, now {from}) or ADMIN_EMAILS (mail.to)")
        }
        (429, name) if name.ends_with("_quota_exceeded") => {
            "Wait for the quota to be renewed, or raise it: https://resend.com/settings/usage".into()
        }
        (300..400, _) | (404 | 405, _) => {
            format!("Correct RESEND_BASE_URL (mail.base_url, now {})", service.base_url)
        }
        _ => {
            "The problem is not on this machine: https://resend-status.com shows if the service works".into()
        }
    }
}

fn from_step(from: &str) -> String {
    format!(
        "Set EMAIL_FROM (mail.from, now {from}) to an address at a verified domain: https://resend.com/domains"
    )
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;
    use crate::base::secret::Secret;

    #[test]
    fn each_mail_has_a_key_of_its_own_that_fits() {
        let key = |run: &str, group: &str| idempotency_key(Event::Failure, run, group);
        assert_eq!(key("20261123T030000Z-7k3q9d", "0"), "uzima-backup/failure/20261123T030000Z-7k3q9d/0");
        assert_ne!(key("a", "0"), key("a", "0.1"));
        assert_ne!(key("a", "0"), idempotency_key(Event::Recovered, "a", "0"));
        for hostile in ["a\nb".to_string(), "ü".into(), "x".repeat(5000)] {
            let key = key(&hostile, "0.1.0.1.0.1");
            assert!(key.len() <= 256 && key.bytes().all(|b| b.is_ascii_graphic()), "{key}");
        }
    }

    fn refused(status: u16, name: &str, words: &str) -> HttpFailure {
        let status = StatusCode::from_u16(status).unwrap();
        HttpFailure::Refused { status, name: name.into(), words: words.into(), after: None }
    }

    /// The answers are taken from Resend's reference, "Errors".
    #[test]
    fn each_failure_has_a_next_step_and_may_pass_or_not() {
        let options = ResendOptions { key: Secret::from("re_x"), base_url: "https://mail.example".into() };
        let testing = "You can only send testing emails to your own email address";
        for (failure, passes, word) in [
            (refused(401, "missing_api_key", "Missing API key"), false, "RESEND_API_KEY"),
            (refused(401, "restricted_api_key", "only send emails"), false, "RESEND_API_KEY"),
            (refused(403, "invalid_api_key", "API key is invalid"), false, "RESEND_API_KEY"),
            (refused(400, "validation_error", "API key is invalid"), false, "RESEND_API_KEY"),
            (refused(403, "validation_error", "The x domain is not verified"), false, "EMAIL_FROM"),
            (refused(403, "validation_error", testing), false, "EMAIL_FROM"),
            (refused(403, "", "domain unknown"), false, "EMAIL_FROM"),
            (refused(422, "invalid_from_address", "Invalid from field"), false, "EMAIL_FROM"),
            (refused(422, "missing_required_field", "to"), false, "ADMIN_EMAILS"),
            (refused(404, "not_found", "no such endpoint"), false, "RESEND_BASE_URL"),
            (refused(301, "", ""), false, "RESEND_BASE_URL"),
            (refused(409, "invalid_idempotent_request", ""), false, "resend-status"),
            (refused(409, "concurrent_idempotent_requests", ""), true, "resend-status"),
            (refused(429, "rate_limit_exceeded", ""), true, "resend-status"),
            (refused(429, "daily_quota_exceeded", ""), false, "quota"),
            (refused(500, "application_error", ""), true, "resend-status"),
            (HttpFailure::NoAnswer("refused".into()), true, "https://mail.example"),
            (HttpFailure::NoAnswer("invalid peer certificate: Expired".into()), true, "clock"),
            (HttpFailure::Invalid("x".into()), false, "https://mail.example"),
        ] {
            assert_eq!(failure.may_pass(), passes, "{failure}");
            let step = next_step(&failure, &options, "backup@example.com");
            assert!(step.contains(word), "{failure}: {step}");
        }
    }
}
