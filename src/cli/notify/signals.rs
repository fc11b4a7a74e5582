//! Each signal that is set up is given once, in a way that marks nothing as done.

use chrono::Utc;
use serde_json::json;

use crate::base::error::{Error, Result};
use crate::base::secret::Redactor;
use crate::config::Config;
use crate::config::notify::SignalOptions;
use crate::config::notify::WebhookOptions;
use crate::config::notify::{EVENTS, Event};
use crate::notify::SIGNAL_LIMIT;
use crate::notify::metrics::MetricsFile;
use crate::notify::ping::{Ping, PingKind};
use crate::notify::webhook;
use crate::notify::webhook::Webhook;

/// What a monitor is told.
const WORDS: &str = "This is a test by `uzima-backup notify --test`. No backup was made.\n";

/// The signals that are set up.
pub struct Tested {
    every_run: SignalOptions,
    webhook: Option<WebhookOptions>,
}

/// What became of one.
pub struct SignalResult {
    /// Its setting.
    pub signal: &'static str,
    /// The event that a webhook was told.
    pub event: Option<Event>,
    /// Why it could not be given.
    pub error: Option<Error>,
}

impl Tested {
    /// As the settings say.
    pub fn resolve(config: &Config) -> Result<Tested> {
        Ok(Tested { every_run: config.signals()?.clone(), webhook: config.webhook()?.cloned() })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let SignalOptions { ping, metrics } = &self.every_run;
        ping.is_none() && metrics.is_none() && self.webhook.is_none()
    }

    /// Gives them: where events are asked for, those of them that a webhook is told, and nothing else.
    pub async fn give(self, asked: &[Event], host: &str, redactor: &Redactor) -> Vec<SignalResult> {
        let mut given = Vec::new();
        let mut add = |signal, event, outcome: Result<()>| {
            let clean = |error: Error| redacted(&error, redactor);
            given.push(SignalResult { signal, event, error: outcome.err().map(clean) });
        };
        if asked.is_empty() {
            if let Some(address) = self.every_run.ping {
                add("ping_url", None, Ping::new(address).send(PingKind::Log, WORDS.into()).await);
            }
            if let Some(path) = self.every_run.metrics {
                add("metrics_file", None, MetricsFile::new(path).update("", &[]).await.map(drop));
            }
        }
        let Some(options) = self.webhook else { return given };
        let webhook = Webhook::new(options);
        let wanted = |event: &Event| match asked {
            [] => webhook.wants(*event),
            asked => asked.contains(event),
        };
        for event in EVENTS.into_iter().filter(wanted) {
            if let Some(document) = webhook::sample(event, Utc::now(), host) {
                add("webhook_url", Some(event), webhook.post(event, &document, SIGNAL_LIMIT).await);
            }
        }
        given
    }
}

impl SignalResult {
    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "signal": self.signal,
            "event": self.event,
            "outcome": if self.error.is_some() { "failed" } else { "given" },
            "error": self.error.as_ref().map(Error::chain),
            "next_step": self.error.as_ref().and_then(Error::next_step),
        })
    }

    /// For people.
    pub fn line(&self) -> String {
        let event = self.event.map(|event| format!(" about {event}")).unwrap_or_default();
        match &self.error {
            None => format!("{}: given{event}\n", self.signal),
            Some(error) => {
                let step = error.next_step().map(|step| format!("\n           next step: {step}"));
                let failed = crate::base::escape::line(&error.chain()).into_owned();
                format!("{}: failed{event}: {failed}{}\n", self.signal, step.unwrap_or_default())
            }
        }
    }
}

/// The same error without secrets: what a service answers may quote its address.
fn redacted(error: &Error, redactor: &Redactor) -> Error {
    let clean = Error::failed(redactor.clean(&error.chain()));
    match error.next_step() {
        Some(step) => clean.hint(redactor.clean(step)),
        None => clean,
    }
}
