//! Sends mails through the API of resend.com. A mail is tried again while that can help, and is never sent twice.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::json;
use tokio::time::Instant;

use super::http::{self, HttpFailure};
use super::posting::{KeptMail, Posting, refused_step};
use crate::base::error::{Error, Result};
use crate::base::secret::{ExposeSecret, Redactor};
use crate::config::notify::{Event, MailOptions};
use crate::config::transport::ResendOptions;

/// How many recipients a mail may have ("Max 50", Resend's reference of `POST /emails`).
const RECIPIENTS: usize = 50;
/// How long the service keeps a mail ("Emails can be scheduled up to 30 days in advance", "Schedule Email"), and for how long
/// older pages say that it does ("Introducing the Schedule Email API").
const LATEST: TimeDelta = TimeDelta::days(30);
const EARLIER: TimeDelta = TimeDelta::hours(72);
/// The clocks of this machine and of the service may differ.
const MARGIN: TimeDelta = TimeDelta::minutes(10);
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
        let key = idempotency_key(message.event, posting.run, &name);
        let request = emails(&client, service, "", mail.to_string()).header("idempotency-key", key);
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

/// Has the service keep a mail until `at`. If that is too far away for it, until the latest time that it accepts.
///
/// # Errors
/// Returns an error, with the ids of the accepted mails, if the service does not accept the mail for all recipients.
pub(super) async fn schedule(
    service: &ResendOptions,
    posting: &Posting<'_>,
    at: DateTime<Utc>,
) -> Result<KeptMail, (Vec<String>, Error)> {
    let (message, options, now) = (posting.message, posting.options, posting.at);
    let mut kept = KeptMail { ids: Vec::new(), at: at.min(now + LATEST - MARGIN) };
    let client = http::client().map_err(|error| (Vec::new(), error))?;
    let mut groups = options.to.chunks(RECIPIENTS).enumerate();
    let mut group = groups.next();
    while let Some((n, to)) = group {
        let mail = json!({
            "from": options.from, "to": to,
            "subject": message.subject, "html": message.html(), "text": message.text(),
            "scheduled_at": kept.at.to_rfc3339_opts(SecondsFormat::Secs, true),
        });
        // The same key with another time would be refused.
        let key =
            idempotency_key(message.event, posting.run, &format!("stopped.{n}.{}", kept.at.timestamp()));
        let request = emails(&client, service, "", mail.to_string()).header("idempotency-key", key);
        let failure = match ask(service, request, posting.deadline).await {
            Ok(body) => match id(&body) {
                Some(id) => {
                    kept.ids.push(id);
                    group = groups.next();
                    continue;
                }
                None => HttpFailure::Invalid(format!("its answer has no id: {}", http::quoted(&body))),
            },
            Err(failure) if refuses_time(&failure) && kept.at > now + EARLIER => {
                kept.at = now + EARLIER - MARGIN;
                continue;
            }
            Err(failure) => failure,
        };
        let hint = next_step(&failure, service, &options.from);
        return Err((kept.ids, Error::failed(posting.redactor.clean(&failure.to_string())).hint(hint)));
    }
    Ok(kept)
}

/// Cancels a mail that the service keeps. It is no error if the service has no such mail to cancel any more.
///
/// # Errors
/// Returns an error if the service does not cancel it.
pub(super) async fn cancel(
    service: &ResendOptions,
    options: &MailOptions,
    redactor: &Redactor,
    id: &str,
    limit: Duration,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    let request = emails(&http::client()?, service, &format!("/{id}/cancel"), String::new());
    match ask(service, request, deadline).await {
        Ok(_) => Ok(()),
        // It is sent or cancelled already.
        Err(HttpFailure::Refused { status, .. }) if [404, 409, 422].contains(&status.as_u16()) => Ok(()),
        Err(failure) => {
            let hint = match &failure {
                HttpFailure::Refused { name, .. } if name == "restricted_api_key" => FULL_ACCESS.into(),
                failure => next_step(failure, service, &options.from),
            };
            Err(Error::failed(redactor.clean(&failure.to_string())).hint(hint))
        }
    }
}

/// The next step if the key may not cancel.
const FULL_ACCESS: &str = "Give RESEND_API_KEY (mail.resend_api_key) a key with full access, which MAIL_DEAD_MAN needs to \
                           cancel mails, or unset MAIL_DEAD_MAN (mail.dead_man)";

/// The id in the answer to an accepted mail.
fn id(body: &str) -> Option<String> {
    let answer: serde_json::Value = serde_json::from_str(body).ok()?;
    answer["id"].as_str().filter(|id| !id.is_empty()).map(str::to_string)
}

/// Returns true if the service refused a mail because its time is too far away.
fn refuses_time(failure: &HttpFailure) -> bool {
    match failure {
        HttpFailure::Refused { status, words, .. } => {
            [400, 422].contains(&status.as_u16()) && words.to_lowercase().contains("schedule")
        }
        HttpFailure::NoAnswer(_) | HttpFailure::Invalid(_) => false,
    }
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
        Ok(_) if options.dead_man => Ok("the key may send, schedule and cancel".into()),
        Ok(_) => Ok("the key may do more than send: a sending-only key is enough".into()),
        Err(HttpFailure::Refused { name, .. }) if name == "restricted_api_key" && options.dead_man => {
            Err(Error::failed("the key may only send, and not cancel the mail about stopped backups")
                .hint(FULL_ACCESS))
        }
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

/// A request about mails, or about the one of `path`.
fn emails(client: &Client, service: &ResendOptions, path: &str, body: String) -> RequestBuilder {
    client
        .request(Method::POST, format!("{}/emails{path}", service.base_url))
        .header("content-type", "application/json")
        .body(body)
}

/// Sends a request with the key, and returns the beginning of the answer's body.
async fn ask(
    service: &ResendOptions,
    request: RequestBuilder,
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
