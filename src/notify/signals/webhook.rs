//! A program of one's own is told what happened to a run, as JSON: docs/json.md describes every field.

use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

pub use super::LIMIT;
use super::{http, not_told};
use crate::base::error::Result;
use crate::base::secret::Redactor;
use crate::config::notify::Event;
use crate::config::notify::WebhookOptions;
use crate::notify::Outcome;
use crate::notify::events::{Failure, NewestGood, Occasion};
use crate::notify::message::LINES;
use crate::notify::samples;

/// The version of the document.
pub const VERSION: u32 = 1;

/// Tells a program.
#[derive(Debug)]
pub struct Webhook {
    options: WebhookOptions,
}

impl Webhook {
    /// Tells as these options say.
    pub fn new(options: WebhookOptions) -> Webhook {
        Webhook { options }
    }

    /// Whether an event is told.
    pub fn tells(&self, event: Event) -> bool {
        self.options.events.contains(&event)
    }

    /// Posts a document about `event` within `limit`, at most [`LIMIT`].
    pub async fn post(&self, event: Event, document: &Value, limit: Duration) -> Result<()> {
        let limit = limit.min(LIMIT);
        let request = http::client()?
            .request(Method::POST, self.options.address.url())
            .header("content-type", "application/json")
            .body(document.to_string());
        // What was sent may have arrived although no answer came: it is not sent again for a slow one.
        let posted = http::tried("the webhook", request, limit, Instant::now() + limit).await;
        let told = posted.map(drop).map_err(|answer| {
            let what = format!("the event '{event}'");
            not_told(("webhook_url", "WEBHOOK_URL"), &what, &self.options.address, &answer)
        });
        told.inspect(|()| log::info!("told {} of the event '{event}'", self.options.address.service()))
    }
}

/// The event that an outcome is: where it works again after failures, that is told if it is wanted.
pub fn event(outcome: &Outcome, failed_before: u32, recovered: bool) -> Event {
    match outcome {
        Outcome::Failure(_) => Event::Failure,
        Outcome::Frozen(_) => Event::Frozen,
        Outcome::Success(_) | Outcome::Cleanup(_) if failed_before > 0 && recovered => Event::Recovered,
        Outcome::Success(_) => Event::Success,
        Outcome::Cleanup(_) => Event::Cleanup,
    }
}

/// The document about a run that ends now, after so many that failed. `test`: none did run.
pub fn document(
    event: Event,
    of: &Occasion,
    outcome: &Outcome,
    failed_before: u32,
    (now, host): (DateTime<Utc>, &str),
    test: bool,
) -> Value {
    let mut document = json!({
        "version": VERSION,
        "event": event,
        "test": test,
        "operation": of.operation.to_string(),
        "job": of.job,
        "run": of.run,
        "host": host,
        "at": time(now),
        "exit_code": outcome.exit().code(),
        "failed_before": failed_before,
        "backup": null,
        "failure": null,
        "cleanup": null,
        "frozen": null,
    });
    let (kind, facts) = facts(outcome);
    document[kind] = facts;
    document
}

/// The document of a test about an event, with made-up figures; `None` if no run is one.
pub fn sample(event: Event, now: DateTime<Utc>, host: &str) -> Option<Value> {
    let (of, outcome, failed_before) = samples::run(event)?;
    Some(document(event, &of, &outcome, failed_before, (now, host), true))
}

fn facts(outcome: &Outcome) -> (&'static str, Value) {
    match outcome {
        Outcome::Success(s) => (
            "backup",
            json!({
                "place": s.place,
                "started_at": time(s.started),
                "finished_at": time(s.finished),
                "engine": s.engine,
                "consistency": s.consistency,
                "namespaces": s.namespaces,
                "documents": s.documents,
                "raw_bytes": s.raw_bytes,
                "stored_bytes": s.stored_bytes,
                "problems": s.warnings,
                "notes": s.notes,
            }),
        ),
        Outcome::Failure(f) => ("failure", failure(f)),
        Outcome::Cleanup(c) => {
            let deleted = c
                .deleted
                .iter()
                .map(|d| json!({"id": d.id, "stored_bytes": d.stored_bytes, "reason": d.reason}));
            let facts = json!({
                "place": c.place,
                "deleted": deleted.collect::<Vec<_>>(),
                "kept": c.kept,
                "kept_bytes": c.kept_bytes,
                "problems": c.problems,
                "notes": c.notes,
            });
            ("cleanup", facts)
        }
        Outcome::Frozen(f) => {
            let facts = json!({
                "place": f.place,
                "why": f.why,
                "waiting": f.waiting,
                "backups": f.backups,
                "problems": f.problems,
            });
            ("frozen", facts)
        }
    }
}

fn failure(f: &Failure) -> Value {
    let newest = match f.newest_good {
        NewestGood::At(at) => Some(time(at)),
        NewestGood::Missing | NewestGood::Unknown => None,
    };
    json!({
        "error": f.error,
        "next_step": f.next_step,
        "newest_good_at": newest,
        "log": f.log[f.log.len().saturating_sub(LINES)..],
    })
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// The same without secrets: each text by itself, for in JSON they may be spelled in another way.
pub fn cleaned(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => Value::String(redactor.clean(&text)),
        Value::Array(items) => items.into_iter().map(|item| cleaned(item, redactor)).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, cleaned(value, redactor))).collect()
        }
        other => other,
    }
}
