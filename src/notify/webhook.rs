//! Posts the end of a run as JSON to a program of the operator. docs/json.md describes every field.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::events::{BackupSuccess, CleanupFrozen, CleanupSuccess, NotifiedRun, RunFailure, RunOutcome};
use super::{SIGNAL_LIMIT, http, samples};
use crate::base::error::Result;
use crate::base::secret::Redactor;
use crate::config::notify::Event;
use crate::config::notify::WebhookOptions;

/// The version of the document.
const VERSION: u32 = 1;

/// A webhook.
#[derive(Debug)]
pub struct Webhook {
    options: WebhookOptions,
}

#[derive(Debug, Serialize)]
struct WebhookDocument<'a> {
    version: u32,
    event: Event,
    /// True if no run ended: the figures are made up.
    test: bool,
    operation: String,
    job: &'a str,
    run: &'a str,
    host: &'a str,
    at: String,
    exit_code: u8,
    failed_before: u32,
    backup: Option<&'a BackupSuccess>,
    failure: Option<&'a RunFailure>,
    cleanup: Option<&'a CleanupSuccess>,
    frozen: Option<&'a CleanupFrozen>,
}

impl Webhook {
    /// Posts to the address of `options`.
    pub fn new(options: WebhookOptions) -> Webhook {
        Webhook { options }
    }

    /// Returns true if the webhook wants this event.
    pub fn wants(&self, event: Event) -> bool {
        self.options.events.contains(&event)
    }

    /// Posts a document about `event` within `limit`, at most [`SIGNAL_LIMIT`].
    ///
    /// # Errors
    /// Returns an error if the program did not accept it.
    pub async fn post(&self, event: Event, document: &Value, limit: Duration) -> Result<()> {
        let limit = limit.min(SIGNAL_LIMIT);
        let request = http::client()?
            .request(Method::POST, self.options.address.url())
            .header("content-type", "application/json")
            .body(document.to_string());
        // The timeout is the whole limit: a slow program may have taken the document, and must not get it twice.
        let answer = http::send("the webhook", request, limit, Instant::now() + limit).await;
        let what = format!("the event '{event}'");
        answer.map_err(|failure| {
            failure.not_delivered(("webhook_url", "WEBHOOK_URL"), &what, &self.options.address)
        })?;
        log::info!("sent {what} to {}", self.options.address.service());
        Ok(())
    }
}

/// The event of an outcome. A success after failures is a recovery, if the webhook wants recoveries.
pub(super) fn event(outcome: &RunOutcome, failed_before: u32, recovered: bool) -> Event {
    match outcome {
        RunOutcome::Failure(_) => Event::Failure,
        RunOutcome::Frozen(_) => Event::Frozen,
        RunOutcome::Success(_) | RunOutcome::Cleanup(_) if failed_before > 0 && recovered => Event::Recovered,
        RunOutcome::Success(_) => Event::Success,
        RunOutcome::Cleanup(_) => Event::Cleanup,
    }
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
        version: VERSION,
        event,
        test,
        operation: run.operation.to_string(),
        job: &run.job,
        run: &run.run,
        host,
        at: now.to_rfc3339_opts(SecondsFormat::Secs, true),
        exit_code: outcome.exit().code(),
        failed_before,
        backup: None,
        failure: None,
        cleanup: None,
        frozen: None,
    };
    match outcome {
        RunOutcome::Success(facts) => document.backup = Some(facts),
        RunOutcome::Failure(facts) => document.failure = Some(facts),
        RunOutcome::Cleanup(facts) => document.cleanup = Some(facts),
        RunOutcome::Frozen(facts) => document.frozen = Some(facts),
    }
    serde_json::to_value(document).expect("the document is JSON")
}

/// The document of a test about an event, with made-up figures. `None` for an event that is not the end of a run.
pub fn sample(event: Event, now: DateTime<Utc>, host: &str) -> Option<Value> {
    let (run, outcome, failed_before) = samples::run(event)?;
    Some(document(event, &run, &outcome, failed_before, (now, host), true))
}

/// Removes secrets from each text of the document. The redactor cannot clean the JSON as a whole, where escapes change how a
/// secret is spelled.
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
