//! The ping to a monitor and the post to a webhook.
//!
//! The ping has the protocol of healthchecks.io (<https://healthchecks.io/docs/http_api/>): POST to `<url>/start`, `<url>` or
//! `<url>/fail`. The monitor keeps the body for people. `<url>/log` changes no state there. docs/json.md describes the JSON
//! that the webhook gets, unless it belongs to a chat.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use reqwest::{Method, StatusCode, Url};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::events::{
    BackupSuccess, CleanupFrozen, CleanupSuccess, NotifiedRun, OplogSuccess, RunFailure, RunOutcome,
};
use super::http::{self, HttpFailure};
use super::message::{Message, Sender};
use super::{SIGNAL_LIMIT, chat, mails};
use crate::base::error::Result;
use crate::base::secret::Redactor;
use crate::config::notify::{Address, Event, WebhookOptions};

/// The number of bytes of a body that the monitor keeps ("Attaching Logs", healthchecks.io: 100,000 bytes).
const BODY: usize = 100_000;
/// The timeout of one try of a ping, so that a monitor that is slow once is asked again.
const TIMEOUT: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PingKind {
    Start,
    Success,
    Fail,
    /// A message that changes no state.
    Log,
}

impl PingKind {
    /// The path segment below the address, and the name in messages.
    fn words(self) -> (Option<&'static str>, &'static str) {
        match self {
            PingKind::Start => (Some("start"), "the ping 'start'"),
            PingKind::Success => (None, "the ping 'success'"),
            PingKind::Fail => (Some("fail"), "the ping 'fail'"),
            PingKind::Log => (Some("log"), "the test ping"),
        }
    }
}

/// Sends a ping within [`SIGNAL_LIMIT`].
///
/// # Errors
/// Returns an error if the monitor did not accept it.
pub async fn ping(address: &Address, kind: PingKind, body: String) -> Result<()> {
    ping_of(PING, address, kind, body).await
}

/// The settings with the address of the monitor of backups, and of the monitor of `oplog`.
pub const PING: PingSetting = ("ping_url", "PING_URL");
pub const OPLOG_PING: PingSetting = ("oplog_ping_url", "OPLOG_PING_URL");

/// The key and the variable of a setting.
type PingSetting = (&'static str, &'static str);

/// As [`ping`], with the setting that has the address.
///
/// # Errors
/// Returns an error if the monitor did not accept it.
pub async fn ping_of(setting: PingSetting, address: &Address, kind: PingKind, body: String) -> Result<()> {
    let deadline = Instant::now() + SIGNAL_LIMIT;
    let (segment, what) = kind.words();
    let request = http::client()?.request(Method::POST, ping_url(address, segment)).body(body);
    let answer = http::send("the monitor", request, TIMEOUT, deadline).await.and_then(accepted);
    answer.map_err(|failure| failure.not_delivered(setting, what, address))?;
    log::info!("sent {what} to {}", address.service());
    Ok(())
}

/// Adds the segment to the path of the address. The query stays.
fn ping_url(address: &Address, segment: Option<&str>) -> Url {
    let mut url = address.url();
    if let (Some(segment), Ok(mut path)) = (segment, url.path_segments_mut()) {
        path.pop_if_empty().push(segment);
    }
    url
}

/// The service answers 200 even for an address that it does not know or that is pinged too often. Only the text says so:
/// "OK (not found)", "OK (rate limited)".
fn accepted(text: String) -> Result<(), HttpFailure> {
    match text.trim() {
        text if text.starts_with("OK (") => Err(HttpFailure::Refused {
            status: StatusCode::OK,
            name: String::new(),
            words: http::quoted(text),
            after: None,
        }),
        _ => Ok(()),
    }
}

/// The ping about the end of a run: the text of its mail, with as much of the log as the monitor keeps.
pub(super) fn ping_about(
    run: &NotifiedRun,
    outcome: &RunOutcome,
    now: DateTime<Utc>,
    sender: &Sender,
    redactor: &Redactor,
) -> (PingKind, String) {
    let (kind, log) = match outcome {
        RunOutcome::Failure(f) => (PingKind::Fail, &f.log[..]),
        _ => (PingKind::Success, &[][..]),
    };
    let mut message = mails::outcome(run, outcome, None, now, sender).cleaned(redactor);
    message.log.clear();
    // The log has a heading, and each of its lines is indented.
    let room = BODY.saturating_sub(message.text().len() + 100);
    let log: Vec<String> = log.iter().map(|line| redactor.clean(line)).collect();
    let mut taken = 0;
    let fits = log.iter().rev().take_while(|line| {
        taken += line.len() + 3;
        taken <= room
    });
    message.log = log[log.len() - fits.count()..].to_vec();
    (kind, message.text())
}

/// The JSON of a webhook. Exactly one of the last five fields is set.
#[derive(Debug, JsonSchema, Serialize)]
struct WebhookDocument<'a> {
    version: u32,
    event: Event,
    /// True if no run ended and the figures are invented.
    test: bool,
    operation: String,
    job: &'a str,
    run: &'a str,
    /// The run backs up only a part of its job.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
    host: &'a str,
    at: String,
    exit_code: u8,
    failed_before: u32,
    backup: Option<BackupSuccess>,
    failure: Option<&'a RunFailure>,
    cleanup: Option<&'a CleanupSuccess>,
    frozen: Option<&'a CleanupFrozen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oplog: Option<&'a OplogSuccess>,
}

/// The JSON Schema of the document that a webhook gets.
pub fn webhook_schema(generator: &mut SchemaGenerator) -> Schema {
    WebhookDocument::json_schema(generator)
}

/// Posts a document about `event` to the webhook within `limit`, at most [`SIGNAL_LIMIT`].
///
/// # Errors
/// Returns an error if the webhook did not accept it.
pub async fn post(options: &WebhookOptions, event: Event, document: &Value, limit: Duration) -> Result<()> {
    let (limit, address) = (limit.min(SIGNAL_LIMIT), &options.address);
    let request = http::client()?
        .request(Method::POST, address.url())
        .header("content-type", "application/json")
        .body(document.to_string());
    // The timeout is the whole limit: a slow program may have accepted the document, and must not get it twice.
    let answer = http::send("the webhook", request, limit, Instant::now() + limit).await;
    let what = format!("the event '{event}'");
    answer.map_err(|failure| failure.not_delivered(("webhook_url", "WEBHOOK_URL"), &what, address))?;
    log::info!("sent {what} to {}", address.service());
    Ok(())
}

/// Posts a message, without secrets, to the chat behind the webhook within `limit`, at most [`SIGNAL_LIMIT`].
///
/// # Errors
/// Returns an error if the chat did not accept it.
pub async fn chat(options: &WebhookOptions, message: &Message, limit: Duration) -> Result<()> {
    match chat::body(options.format, message) {
        Some(body) => post(options, message.event, &body, limit).await,
        None => Ok(()),
    }
}

/// The event of an outcome. A success after failures is a recovery, if `recovered` is true. `None` for a routine run
/// of `oplog`.
pub(super) fn event(outcome: &RunOutcome, failed_before: u32, recovered: bool) -> Option<Event> {
    Some(match outcome {
        RunOutcome::Failure(_) => Event::Failure,
        RunOutcome::Frozen(_) => Event::Frozen,
        RunOutcome::Oplog(oplog) if !oplog.problems.is_empty() => Event::Failure,
        RunOutcome::Success(_) | RunOutcome::Cleanup(_) | RunOutcome::Oplog(_)
            if failed_before > 0 && recovered =>
        {
            Event::Recovered
        }
        RunOutcome::Success(_) => Event::Success,
        RunOutcome::Cleanup(_) => Event::Cleanup,
        RunOutcome::Oplog(_) => return None,
    })
}

/// The document about a run that ends now. `failed_before` counts the failures before it; `test` is true for a sample.
pub(super) fn document(
    event: Event,
    run: &NotifiedRun,
    outcome: &RunOutcome,
    failed_before: u32,
    (now, host): (DateTime<Utc>, &str),
    test: bool,
) -> Value {
    let mut document = WebhookDocument {
        version: 1,
        event,
        test,
        operation: run.operation.to_string(),
        job: &run.job,
        run: &run.run,
        partial: run.partial,
        host,
        at: now.to_rfc3339_opts(SecondsFormat::Secs, true),
        exit_code: outcome.exit().code(),
        failed_before,
        backup: None,
        failure: None,
        cleanup: None,
        frozen: None,
        oplog: None,
    };
    match outcome {
        RunOutcome::Success(success) => {
            let mut success = success.clone();
            success.facts.started_at = success.facts.started_at.trunc_subsecs(0);
            success.facts.finished_at = success.facts.finished_at.trunc_subsecs(0);
            document.backup = Some(success);
        }
        RunOutcome::Failure(facts) => document.failure = Some(facts),
        RunOutcome::Cleanup(facts) => document.cleanup = Some(facts),
        RunOutcome::Frozen(facts) => document.frozen = Some(facts),
        RunOutcome::Oplog(facts) => document.oplog = Some(facts),
    }
    serde_json::to_value(document).expect("the document is JSON")
}

/// A test document, without secrets. `failed_before` counts the failures before the run.
pub fn test_document(
    event: Event,
    (run, outcome, failed_before): &(NotifiedRun, RunOutcome, u32),
    now: (DateTime<Utc>, &str),
    redactor: &Redactor,
) -> Value {
    cleaned(document(event, run, outcome, *failed_before, now, true), redactor)
}

/// Removes secrets from each text of the document. The redactor cannot clean the JSON as a whole, because JSON escapes
/// characters of secrets.
pub(super) fn cleaned(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => Value::String(redactor.clean(&text)),
        Value::Array(items) => items.into_iter().map(|item| cleaned(item, redactor)).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, cleaned(value, redactor))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Error;
    use crate::notify::events::{NewestGood, RunFailure, RunKind};

    #[test]
    fn the_kind_is_appended_to_the_path() {
        for (address, start, success) in [
            ("https://hc.example/key", "https://hc.example/key/start", "https://hc.example/key"),
            ("https://hc.example/key/", "https://hc.example/key/start", "https://hc.example/key/"),
            (
                "https://hc.example/k/slug?create=1",
                "https://hc.example/k/slug/start?create=1",
                "https://hc.example/k/slug?create=1",
            ),
        ] {
            let url = |kind: PingKind| ping_url(&address.parse().unwrap(), kind.words().0);
            assert_eq!(url(PingKind::Start).as_str(), start);
            assert_eq!(url(PingKind::Success).as_str(), success);
            assert!(url(PingKind::Fail).path().ends_with("/fail"));
        }
    }

    #[test]
    fn an_ok_with_a_remark_is_a_refusal() {
        for good in ["OK", "", "ok\n", "Created", "OK, thank you"] {
            assert!(accepted(good.into()).is_ok(), "{good}");
        }
        for bad in ["OK (not found)", "OK (rate limited)\n"] {
            let failure = accepted(bad.into()).unwrap_err();
            assert!(!failure.may_pass() && failure.to_string().contains(bad.trim()), "{failure}");
        }
    }

    #[test]
    fn the_end_of_a_long_log_fits_into_a_ping() {
        let lines: Vec<String> = (0..3_000).map(|n| format!("{n:05} canary {}", "ü".repeat(40))).collect();
        let failure = RunFailure::of(
            &Error::failed("no room").hint("make some"),
            lines,
            NewestGood::Missing,
            Duration::from_secs(60),
        );
        let of = NotifiedRun {
            job: "nightly".into(),
            operation: RunKind::Backup,
            run: "run-1".into(),
            partial: false,
        };
        let now = "2026-11-23T03:00:00Z".parse().unwrap();
        let redactor = Redactor::new(&[], &["canary"]);
        let sender = Sender::here("db1");
        let (kind, body) = ping_about(&of, &RunOutcome::Failure(failure), now, &sender, &redactor);
        assert_eq!(kind, PingKind::Fail);
        assert!(body.len() <= BODY && body.len() > BODY - 500, "{}", body.len());
        for word in ["no room", "Next step: make some", "nightly", "run-1", "02999 ***"] {
            assert!(body.contains(word), "{word}");
        }
        assert!(!body.contains("00000 ") && !body.contains("canary"));
    }
}
