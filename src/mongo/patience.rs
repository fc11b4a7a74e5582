//! Waiting for a server's answers: not for ever, and more than once where that does no harm.

use std::io::ErrorKind::TimedOut;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use mongodb::error::{Error, ErrorKind, Result};

use super::server::Server;
use super::unfound::Step;
use super::{errors, unfound};

/// A longer silence of a server is logged.
pub const QUIET: Duration = Duration::from_secs(10);

impl Server {
    /// Waits for an answer, but not for ever: a connection that broke without a word looks like a
    /// server that thinks, and the driver waits for it without end.
    pub async fn bounded<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        bounded(self.stall, answer).await
    }

    /// [`Server::bounded`]; a silence is logged while it lasts, once, however many wait.
    pub async fn next<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let log = || !self.silent.swap(true, Relaxed);
        let (answer, logged) = heard(&self.service(), QUIET, self.stall, log, self.bounded(answer)).await;
        if logged {
            self.silent.store(false, Relaxed);
        }
        answer
    }

    /// Asks a question that may be asked again, while its failure may pass and the patience lasts.
    pub async fn ask<T, F: Future<Output = Result<T>>>(&self, question: impl Fn() -> F) -> Result<T> {
        let note = |error: &Error| {
            let why = passing(error)?;
            self.notes.count(format!("asked MongoDB once more after: {why}"));
            Some(why)
        };
        self.patience.retry(&self.service(), note, || self.bounded(question())).await
    }

    /// The server in the words of a log line about waiting.
    pub(crate) fn service(&self) -> String {
        format!("MongoDB at {}", self.hello.address)
    }
}

/// Waits for an answer that may take up to `limit`. If `service` is silent for longer than `quiet` and `log` allows it,
/// the log says so. Returns also whether it did.
pub async fn heard<T>(
    service: &str,
    quiet: Duration,
    limit: Duration,
    log: impl FnOnce() -> bool,
    answer: impl Future<Output = T>,
) -> (T, bool) {
    let mut answer = std::pin::pin!(answer);
    if let Ok(answer) = tokio::time::timeout(quiet, &mut answer).await {
        return (answer, false);
    }
    let logs = log();
    if logs {
        let (quiet, limit) = (quiet.as_secs(), limit.as_secs());
        log::warn!("{service} has not answered for {quiet} s; it is waited for up to {limit} s");
    }
    (answer.await, logs)
}

/// Why an error came, if it may pass: a connection that broke, a server that is down, a name that was not resolved. A server
/// that was silent for the stall time-out has had its time.
pub fn passing(error: &Error) -> Option<String> {
    let passes = match &*error.kind {
        ErrorKind::DnsResolve { .. } => true,
        ErrorKind::Io(e) if e.kind() == TimedOut => false,
        ErrorKind::ServerSelection { message, .. } => {
            unfound::read(message).and_then(|unfound| unfound.step).is_none_or(Step::passes)
        }
        _ => errors::classify(error) == errors::Class::Interrupted,
    };
    passes.then(|| errors::tidy(error))
}

/// Whether a server was waited for in vain: it is down, or says nothing.
pub fn waited(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::ServerSelection { .. } => true,
        ErrorKind::Io(e) => e.kind() == TimedOut,
        _ => false,
    }
}

/// Watches a cursor whose answers bring nothing. A server may answer with empty batches for ever, and then each answer comes
/// in time.
pub struct Progress {
    limit: Duration,
    moved: Instant,
}

impl Progress {
    /// Answers without progress count as a stall after `limit`.
    pub fn new(limit: Duration) -> Progress {
        Progress { limit, moved: Instant::now() }
    }

    /// An answer came; `moved` is true if it brought a document or a newer resume token.
    ///
    /// # Errors
    /// Returns the error of a time-out if the cursor brought nothing for the limit.
    pub fn step(&mut self, moved: bool) -> Result<()> {
        if moved {
            self.moved = Instant::now();
            return Ok(());
        }
        if self.moved.elapsed() < self.limit {
            return Ok(());
        }
        let text = format!("no document within {} s, only empty batches", self.limit.as_secs());
        Err(std::io::Error::new(TimedOut, text).into())
    }
}

/// Waits at most this long.
pub async fn bounded<T>(limit: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", limit.as_secs());
        Err(std::io::Error::new(TimedOut, text).into())
    })
}
