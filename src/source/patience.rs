//! Waiting for a server's answers: not for ever, and more than once where that does no harm.

use std::io::ErrorKind::TimedOut;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mongodb::error::{Error, ErrorKind, Result};

use super::errors;
use super::server::Server;

/// How often a question is asked again when the connection breaks.
const ASKED_AGAIN: u32 = 4;
/// A silence of a server that is longer is told of.
pub const QUIET: Duration = Duration::from_secs(10);

impl Server {
    /// Waits for an answer, but not for ever: a connection that broke without a word looks like a
    /// server that thinks, and the driver waits for it without end.
    pub async fn bounded<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        bounded(self.stall, answer).await
    }

    /// Waits for what may take up to `limit`, and tells of a silence while it lasts: once, however many wait.
    pub async fn telling<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        if let Ok(answer) = tokio::time::timeout(QUIET, &mut answer).await {
            return answer;
        }
        let tells = !self.silent.swap(true, Relaxed);
        if tells {
            let (address, quiet, limit) = (&self.hello.address, QUIET.as_secs(), limit.as_secs());
            log::warn!(
                "MongoDB at {address} has not answered for {quiet} s; it is waited for up to {limit} s"
            );
        }
        let answer = answer.await;
        if tells {
            self.silent.store(false, Relaxed);
        }
        answer
    }

    /// [`Server::bounded`], and a silence is told of.
    pub async fn next<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        self.telling(self.stall, self.bounded(answer)).await
    }

    /// Asks a question that may be asked again: one lost connection must not cost the run.
    pub async fn ask<T, F: Future<Output = Result<T>>>(&self, question: impl Fn() -> F) -> Result<T> {
        let mut again = 0;
        loop {
            match self.bounded(question()).await {
                Err(e) if errors::classify(&e) == errors::Class::Interrupted && !waited(&e) => {
                    again += 1;
                    if again > ASKED_AGAIN {
                        return Err(e);
                    }
                    self.notes.count(format!("asked MongoDB once more after: {}", errors::tidy(&e)));
                    tokio::time::sleep(Duration::from_millis(100 << again)).await;
                }
                answer => return answer,
            }
        }
    }
}

/// Why an error of the first questions came, if it may pass: a connection that broke, a name that was not
/// resolved. A server that was waited for in vain has had its time.
pub(super) fn passing(error: &Error) -> Option<String> {
    let broken = errors::classify(error) == errors::Class::Interrupted && !waited(error);
    (broken || matches!(&*error.kind, ErrorKind::DnsResolve { .. })).then(|| errors::tidy(error))
}

/// Whether a server was waited for in vain: it is down, or says nothing.
pub fn waited(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::ServerSelection { .. } => true,
        ErrorKind::Io(e) => e.kind() == TimedOut,
        _ => false,
    }
}

/// Waits at most this long.
pub async fn bounded<T>(limit: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", limit.as_secs());
        Err(std::io::Error::new(TimedOut, text).into())
    })
}
