//! Signals for machines, beside the mails for people: a ping to a monitor and a metrics file for Prometheus. A signal that
//! fails becomes a line for a person and undoes nothing.

use chrono::{DateTime, Utc};

use super::events::{NotifiedRun, RunKind, RunOutcome};
use super::message::Sender;
use super::metrics::{self, MetricsFile};
use super::ping::{self, Ping, PingKind};
use super::{UNKNOWN_JOB, line};
use crate::base::error::Result;
use crate::base::exit::Exit;
use crate::base::secret::Redactor;
use crate::config::notify::SignalOptions;

/// Sends the signals of a run, whatever mails are wanted.
#[derive(Debug)]
pub struct Signals {
    ping: Option<Ping>,
    metrics: Option<MetricsFile>,
    redactor: Redactor,
    sender: Sender,
}

impl Signals {
    /// Sends the signals of `options`. `host` is the name of this machine.
    pub fn new(options: SignalOptions, redactor: Redactor, host: &str) -> Signals {
        Signals {
            ping: options.ping.map(Ping::new),
            metrics: options.metrics.map(MetricsFile::new),
            redactor,
            sender: Sender::here(host),
        }
    }

    /// Returns true if a signal is set up.
    pub fn is_configured(&self) -> bool {
        self.ping.is_some() || self.metrics.is_some()
    }

    /// Signals that a backup begins, and returns the problems.
    pub async fn started(&self) -> Vec<String> {
        match &self.ping {
            Some(ping) => self.problems(ping.send(PingKind::Start, String::new()).await),
            None => Vec::new(),
        }
    }

    /// Pings the end of a backup, and returns the problems. A monitor of backups waits for no other operation.
    pub async fn ended(&self, run: &NotifiedRun, outcome: &RunOutcome, now: DateTime<Utc>) -> Vec<String> {
        let Some(ping) = self.ping.as_ref().filter(|_| run.operation == RunKind::Backup) else {
            return Vec::new();
        };
        let (kind, body) = ping::report(run, outcome, now, &self.sender, &self.redactor);
        self.problems(ping.send(kind, body).await)
    }

    /// Writes the metrics of a run that ends now with `exit`, and returns the problems.
    pub async fn measured(
        &self,
        run: &NotifiedRun,
        outcome: &RunOutcome,
        exit: Exit,
        (started, now): (DateTime<Utc>, DateTime<Utc>),
    ) -> Vec<String> {
        let (Some(file), true) = (&self.metrics, run.job != UNKNOWN_JOB) else { return Vec::new() };
        let samples = metrics::samples(run.operation, outcome, exit, (started, now));
        match file.update(&self.redactor.clean(&run.job), &samples).await {
            Ok(left_out) => left_out.into_iter().collect(),
            Err(error) => self.problems(Err(error)),
        }
    }

    fn problems(&self, sent: Result<()>) -> Vec<String> {
        sent.err().map(|error| self.redactor.clean(&line(&error))).into_iter().collect()
    }
}
