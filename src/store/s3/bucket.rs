//! A bucket and prefix, the connection to it, and the one way a request is sent.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::ServerSideEncryption;

use super::super::{Error, Kind, Result};
use super::client::Connection;
use super::explain::{Action, explain};
use super::failure::Failure;
use super::options::{S3Options, Sse};

/// What all operations share.
pub(super) struct Bucket {
    pub options: S3Options,
    /// Empty, or ends in `/`.
    prefix: String,
    pub connection: Connection,
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
        let connection = Connection::new(&options).await;
        let (conditional, batches) = (AtomicBool::new(true), AtomicBool::new(true));
        Ok(Bucket { options, prefix, connection, conditional, batches })
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

    /// Sends a request; see [`Connection::send`].
    pub async fn send<T, E, F, S>(&self, send: S) -> std::result::Result<T, Failure>
    where
        S: Fn(Client) -> F,
        F: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let answer = self.connection.send(send).await;
        if answer.is_ok() {
            self.connection.set_answered();
        }
        answer
    }

    /// The error of a failed request.
    pub fn error(&self, failure: &Failure, action: Action, verb: &str, key: &str) -> Error {
        let doing = format!("cannot {verb} {}", self.place(key));
        let mut error = explain(failure, action, doing, &self.options, self.connection.answered());
        error.passing = failure.status.is_none_or(|s| s >= 500 || s == 429) && !failure.no_credentials;
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
            Some(Sse::Kms(key)) => (Some(ServerSideEncryption::AwsKms), Some(key.clone())),
        }
    }

    /// How often something is tried by us, beside the SDK's attempts of one request.
    pub fn tries(&self) -> u32 {
        self.options.max_attempts.max(1)
    }

    /// Counts that `operation` is sent again, and waits before try number `tried` + 1 (from 1): doubled
    /// each time, between half and all of it.
    pub async fn again(&self, operation: &str, reason: &str, tried: u32) {
        self.connection.repeats.note(operation, reason);
        let longest = self.options.first_backoff.saturating_mul(1 << tried.saturating_sub(1).min(6));
        let longest = longest.min(Duration::from_secs(20));
        tokio::time::sleep(longest.mul_f64(rand::random_range(0.5..=1.0))).await;
    }
}
