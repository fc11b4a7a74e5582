//! Signals for machines, beside the mails for people: a monitor is pinged ([`ping`]), Prometheus finds
//! figures in a file ([`metrics`]), and a program of one's own is told what happened ([`webhook`]).
//!
//! One that fails is told as a line for a person, like a mail that fails, and undoes nothing.

pub mod metrics;
pub mod ping;
pub mod webhook;

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::events::{self, Occasion};
use super::http::{self, Answer};
use super::message::Sender;
use super::{Outcome, line};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::secret::Redactor;
use crate::config::notify::{Address, SignalOptions};
use metrics::MetricsFile;
use ping::{Ping, Said};

/// How long a signal may take, with all its tries.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Gives the signals that are for every run, whatever mails are wanted.
#[derive(Debug)]
pub struct Signals {
    ping: Option<Ping>,
    metrics: Option<MetricsFile>,
    redactor: Redactor,
    sender: Sender,
}

impl Signals {
    /// Gives signals as `options` say. `host` is this machine's name.
    pub fn new(options: SignalOptions, redactor: Redactor, host: &str) -> Signals {
        Signals {
            ping: options.ping.map(Ping::new),
            metrics: options.metrics.map(MetricsFile::new),
            redactor,
            sender: Sender::here(host),
        }
    }

    /// Whether any is set up.
    pub fn is_configured(&self) -> bool {
        self.ping.is_some() || self.metrics.is_some()
    }

    /// Says that a backup begins. The answer: what went wrong with it, a line each.
    pub async fn started(&self) -> Vec<String> {
        match &self.ping {
            Some(ping) => self.problems(ping.say(Said::Start, String::new()).await),
            None => Vec::new(),
        }
    }

    /// Says how a backup ended; other operations are not what a monitor of backups waits for.
    pub async fn ended(&self, of: &Occasion, outcome: &Outcome, now: DateTime<Utc>) -> Vec<String> {
        let Some(ping) = self.ping.as_ref().filter(|_| of.operation == events::Operation::Backup) else {
            return Vec::new();
        };
        let (said, body) = ping::report(of, outcome, now, &self.sender, &self.redactor);
        self.problems(ping.say(said, body).await)
    }

    /// Writes what is to be measured of a run that ends now with `exit`.
    pub async fn measured(
        &self,
        of: &Occasion,
        outcome: &Outcome,
        exit: Exit,
        (began, now): (DateTime<Utc>, DateTime<Utc>),
    ) -> Vec<String> {
        let (Some(file), true) = (&self.metrics, of.job != super::UNKNOWN_JOB) else { return Vec::new() };
        let samples = metrics::samples(of.operation, outcome, exit, (began, now));
        match file.update(&self.redactor.clean(&of.job), &samples).await {
            Ok(left_out) => left_out.into_iter().collect(),
            Err(error) => self.problems(Err(error)),
        }
    }

    fn problems(&self, said: Result<()>) -> Vec<String> {
        said.err().map(|error| self.redactor.clean(&line(&error))).into_iter().collect()
    }
}

/// The error of a signal that did not arrive. `setting` is the address's key and its variable.
fn not_told(setting: (&str, &str), what: &str, address: &Address, answer: &Answer) -> Error {
    let ((key, variable), service) = (setting, address.service());
    let hint = match answer {
        Answer::Refused { .. } if answer.may_pass() => {
            format!("Nothing here can mend that: see whether {service} works")
        }
        Answer::Refused { .. } => format!("Correct {variable} ({key}), or what {service} does with it"),
        _ => answer.unreached(&service),
    };
    Error::failed(format!("{key}: {service} was not told of {what}: {answer}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_arrive_is_told_with_its_setting_and_a_next_step() {
        let address: Address = "https://hc.example/canary".parse().unwrap();
        let refused = |code: u16, words: &str| Answer::Refused {
            status: reqwest::StatusCode::from_u16(code).unwrap(),
            name: String::new(),
            words: words.into(),
            after: None,
        };
        for (answer, words) in [
            (refused(404, "not found"), "404, not found. Correct PING_URL (ping_url)"),
            (refused(503, ""), "503. Nothing here can mend that: see whether https://hc.example works"),
            (Answer::Lost("refused".into()), "refused. See whether https://hc.example can be reached"),
        ] {
            let error = not_told(("ping_url", "PING_URL"), "the start", &address, &answer);
            let told = line(&error);
            assert!(told.starts_with("ping_url: https://hc.example was not told of the start: "), "{told}");
            assert!(told.contains(words) && !told.contains("canary"), "{told}");
        }
    }
}
