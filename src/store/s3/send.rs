//! Sends requests, repeats them, and makes the errors of failed requests.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aws_sdk_s3::Client;

use super::super::StoreError;
use super::Bucket;
use super::client::{Request, ServiceError};
use super::explain::explain;
use super::failure::S3Failure;
use crate::base::retry::Waiting;
use crate::base::units;

impl Bucket {
    /// Begins an operation that may take several requests.
    pub(super) fn start(&self) -> Waiting {
        self.options.patience.start(self.place(""))
    }

    /// Sends a request, and repeats it while its failure may pass and the patience lasts. Each attempt is
    /// signed anew.
    pub(super) async fn send<T, E: ServiceError, F: Request<T, E>>(
        &self,
        operation: &str,
        send: impl Fn(Client) -> F,
    ) -> Result<T, S3Failure> {
        self.send_within(&mut self.start(), operation, send).await
    }

    /// Does the same as [`Bucket::send`] for one of several requests that share a time limit.
    pub(super) async fn send_within<T, E: ServiceError, F: Request<T, E>>(
        &self,
        waiting: &mut Waiting,
        operation: &str,
        send: impl Fn(Client) -> F,
    ) -> Result<T, S3Failure> {
        loop {
            let failure = match self.send_once(&send).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            self.pause(waiting, operation, failure).await?;
        }
    }

    /// Sends a request once; see [`Connection::send`].
    pub(super) async fn send_once<T, E: ServiceError, F: Request<T, E>>(
        &self,
        send: impl Fn(Client) -> F,
    ) -> Result<T, S3Failure> {
        let answer = self.connection.send(send).await;
        if answer.is_ok() {
            self.connection.set_answered();
            self.options.patience.answered();
        }
        answer
    }

    /// Waits before `operation` is sent again.
    ///
    /// # Errors
    /// Returns the failure if it will not pass or the patience is over.
    pub(super) async fn pause(
        &self,
        waiting: &mut Waiting,
        operation: &str,
        failure: S3Failure,
    ) -> Result<(), S3Failure> {
        if !failure.passes(self.connection.answered(), (self.options.machine.now)()) {
            return Err(failure);
        }
        let reason = failure.reason();
        if !waiting.pause(&format!("{operation}: {reason}")).await {
            return Err(S3Failure { waited: self.options.patience.in_vain(), ..failure });
        }
        self.repeats.note(operation, &reason);
        Ok(())
    }

    /// Waits before `operation` is sent again because of `reason`, and counts it. Returns false if it was
    /// sent [`TRIES`] times, or if the patience is over.
    pub(super) async fn repeat(
        &self,
        waiting: &mut Waiting,
        operation: &str,
        reason: &str,
        tried: u32,
    ) -> bool {
        if tried >= TRIES || !waiting.pause(&format!("{operation}: {reason}")).await {
            return false;
        }
        self.repeats.note(operation, reason);
        true
    }

    pub(super) fn error(&self, failure: &S3Failure, action: &str, verb: &str, key: &str) -> StoreError {
        let doing = format!("cannot {verb} {}", self.place(key));
        let connection = &self.connection;
        let mut error =
            explain(failure, action, doing, &self.options, &connection.environment, connection.answered());
        if let Some(waited) = failure.waited {
            error.cause += &format!(", tried again for {}", units::duration(waited));
            if error.hint.is_none() {
                error = error.hint("Check the service; BACKUP_PATIENCE sets how long to wait for it");
            }
        }
        error
    }
}

/// The most attempts after failures that are not an outage: damage in transit, a conflict, an object that is not
/// visible yet.
const TRIES: u32 = 4;

/// Counts the requests that were sent again, by reason, to show a service that deteriorates.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<BTreeMap<String, u32>>);

impl Repeats {
    fn note(&self, operation: &str, reason: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(reason.to_owned()).or_default() += 1;
        log::debug!("S3 {operation} is sent again ({reason})");
    }

    /// A summary in one line; `None` if no request was sent again.
    pub(super) fn line(&self) -> Option<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<(&String, &u32)> = counts.iter().collect();
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let all: u32 = counts.values().sum();
        let listed: Vec<String> = sorted.iter().map(|(reason, count)| format!("{reason} ×{count}")).collect();
        let times = if all == 1 { "once".to_owned() } else { format!("{all} times") };
        (all > 0).then(|| format!("S3 requests were sent again {times} ({})", listed.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_summed_up_in_a_line() {
        let repeats = Repeats::default();
        assert_eq!(repeats.line(), None);
        repeats.note("PutObject", "connection reset");
        assert_eq!(repeats.line().unwrap(), "S3 requests were sent again once (connection reset ×1)");
        repeats.note("UploadPart", "503 SlowDown");
        repeats.note("PutObject", "503 SlowDown");
        let want = "S3 requests were sent again 3 times (503 SlowDown ×2, connection reset ×1)";
        assert_eq!(repeats.line().unwrap(), want);
    }
}
