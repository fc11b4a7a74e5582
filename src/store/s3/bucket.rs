//! A bucket and prefix, the connection to it, and the one way a request is sent.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::ServerSideEncryption;

use super::super::{Error, Kind, Result};
use super::client::Connection;
use super::explain::{Action, explain};
use super::failure::Failure;
use super::flow::Rate;
use super::repeats::TRIES;
use crate::base::retry::Waiting;
use crate::base::units;
use crate::config::store::{S3Options, Sse};

/// What all operations share.
pub(super) struct Bucket {
    pub options: S3Options,
    /// Empty, or ends in `/`.
    prefix: String,
    pub connection: Connection,
    /// Holds back the bodies of all uploads.
    pub rate: Rate,
    /// Whether the service knows `If-None-Match`; until it refuses the header it does.
    conditional: AtomicBool,
    /// Whether the service knows DeleteObjects; until it refuses one it does.
    batches: AtomicBool,
}

impl Bucket {
    pub async fn new(options: S3Options) -> Result<Bucket> {
        if options.bucket.is_empty() {
            return Err(Error::new(Kind::Misconfigured, "cannot use the S3 store", "no bucket is named")
                .hint("Set S3_BACKUP_BUCKET"));
        }
        let trimmed = options.prefix.trim_matches('/');
        let prefix = if trimmed.is_empty() { String::new() } else { format!("{trimmed}/") };
        let connection = Connection::new(&options).await?;
        let (conditional, batches) = (AtomicBool::new(true), AtomicBool::new(true));
        let rate = Rate::new(options.bandwidth);
        Ok(Bucket { options, prefix, connection, rate, conditional, batches })
    }

    pub fn name(&self) -> &str {
        &self.options.bucket
    }

    /// The key in the bucket.
    pub fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The key below the prefix, of one in the bucket.
    pub fn relative<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(&self.prefix)
    }

    /// An object in words.
    pub fn place(&self, key: &str) -> String {
        format!("s3://{}/{}{key}", self.name(), self.prefix)
    }

    /// Begins an operation that may take several requests.
    pub fn start(&self) -> Waiting {
        self.options.patience.start(self.place(""))
    }

    /// Sends a request, and again while its failure may pass and the patience lasts. Each time it is signed anew.
    pub async fn send<T, E, F, S>(&self, operation: &str, send: S) -> std::result::Result<T, Failure>
    where
        S: Fn(Client) -> F,
        F: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.send_within(&mut self.start(), operation, send).await
    }

    /// [`Bucket::send`] as a part of an operation that waits as a whole.
    pub async fn send_within<T, E, F, S>(
        &self,
        waiting: &mut Waiting,
        operation: &str,
        send: S,
    ) -> std::result::Result<T, Failure>
    where
        S: Fn(Client) -> F,
        F: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        loop {
            let failure = match self.send_once(&send).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            self.pause(waiting, operation, failure).await?;
        }
    }

    /// Sends a request once; see [`Connection::send`].
    pub async fn send_once<T, E, F, S>(&self, send: S) -> std::result::Result<T, Failure>
    where
        S: Fn(Client) -> F,
        F: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
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
    /// Returns the failure if it will not pass, or the patience is over.
    pub async fn pause(
        &self,
        waiting: &mut Waiting,
        operation: &str,
        failure: Failure,
    ) -> std::result::Result<(), Failure> {
        if !failure.passes(self.connection.answered()) {
            return Err(failure);
        }
        let reason = failure.reason();
        if !waiting.pause(&format!("{operation}: {reason}")).await {
            return Err(Failure { waited: self.options.patience.in_vain(), ..failure });
        }
        self.connection.repeats.note(operation, &reason);
        Ok(())
    }

    /// The error of a failed request.
    pub fn error(&self, failure: &Failure, action: Action, verb: &str, key: &str) -> Error {
        let doing = format!("cannot {verb} {}", self.place(key));
        let connection = &self.connection;
        let mut error =
            explain(failure, action, doing, &self.options, &connection.around, connection.answered());
        if let Some(waited) = failure.waited {
            error.cause += &format!(", tried again for {}", units::duration(waited));
            if error.hint.is_none() {
                error = error.hint("Look at the service; BACKUP_PATIENCE is how long it is waited for");
            }
        }
        error
    }

    pub fn conditional(&self) -> bool {
        self.conditional.load(Ordering::Relaxed)
    }

    /// Remembers that the service refuses `If-None-Match`, and says so the first time.
    pub fn set_unconditional(&self) {
        if self.conditional.swap(false, Ordering::Relaxed) {
            log::warn!(
                "{} does not take conditional writes (If-None-Match): a key is looked up before it is \
                 written, which two runs at the same instant can defeat",
                self.place("")
            );
        }
    }

    pub fn batches(&self) -> bool {
        self.batches.load(Ordering::Relaxed)
    }

    /// Remembers that the service refuses DeleteObjects.
    pub fn set_batchless(&self, why: &str) {
        if self.batches.swap(false, Ordering::Relaxed) {
            log::info!("{} takes no DeleteObjects: objects are deleted one by one ({why})", self.place(""));
        }
    }

    pub fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.options.sse {
            None => (None, None),
            Some(Sse::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Sse::Kms(key)) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }

    /// Counts that `operation` is sent again because of `reason`, and waits before it is. Returns false if it was sent
    /// [`TRIES`] times, or the patience is over.
    pub async fn repeat(&self, waiting: &mut Waiting, operation: &str, reason: &str, tried: u32) -> bool {
        if tried >= TRIES || !waiting.pause(&format!("{operation}: {reason}")).await {
            return false;
        }
        self.connection.repeats.note(operation, reason);
        true
    }
}
