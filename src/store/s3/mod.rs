//! A bucket of Amazon S3, or of a service that speaks its protocol, as a store.
//!
//! Requests are sent through the AWS SDK, but repeated here, because the SDK's retries are not logged and
//! cannot bridge an outage of minutes. Checksums are computed here and compared with the store's. After a
//! lost answer, a HEAD shows whether the object exists. A listing either reads every page or fails. Protocol:
//! the Amazon S3 API reference. Comments name the services that differ.

mod client;
mod explain;
mod failure;
mod flow;
mod listing;
mod objects;
mod protection;
mod upload;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::DateTime as SdkDateTime;
use aws_sdk_s3::types::ServerSideEncryption;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{
    Deleted, Protection, Result, Store, StoreError, StoreErrorKind, StoredObject, Upload, UploadSpec,
    check_key,
};
use crate::base::retry::Waiting;
use crate::base::units;
use crate::config::store::{Limits, S3Options, Sse};
use client::Connection;
use explain::{Permission, explain};
use failure::S3Failure;
use flow::Rate;

/// A bucket as a store; see the [module](self).
pub struct S3Store {
    bucket: Arc<Bucket>,
}

impl S3Store {
    /// Prepares the connection: looks up region and credentials, but sends no request.
    pub async fn connect(options: S3Options) -> Result<S3Store> {
        Ok(S3Store { bucket: Arc::new(Bucket::new(options).await?) })
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3Store").field(&self.place()).finish()
    }
}

#[async_trait]
impl Store for S3Store {
    fn place(&self) -> String {
        self.bucket.place("")
    }

    fn limits(&self) -> Limits {
        self.bucket.options.limits
    }

    async fn check(&self) -> Result<()> {
        self.bucket.check().await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        check_key(key)?;
        self.bucket.put(key, body).await
    }

    async fn create(&self, key: &str, body: Bytes) -> Result<()> {
        check_key(key)?;
        self.bucket.create(key, body).await
    }

    async fn get(&self, key: &str, most: u64) -> Result<Bytes> {
        check_key(key)?;
        self.bucket.get(key, most).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        check_key(key)?;
        self.bucket.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> Result<Option<StoredObject>> {
        check_key(key)?;
        self.bucket.head(key).await
    }

    async fn locked_until(&self, key: &str) -> Result<Option<DateTime<Utc>>> {
        check_key(key)?;
        self.bucket.locked_until(key).await
    }

    async fn protection(&self) -> Result<Option<Protection>> {
        Ok(Some(self.bucket.protection().await))
    }

    async fn versions_expire(&self) -> Option<bool> {
        self.bucket.versions_expire().await
    }

    fn thaw(&self, key: &str) -> Option<String> {
        Some(protection::thaw(&self.bucket.full(key), &self.bucket.options))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<StoredObject>> {
        self.bucket.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<Deleted> {
        check_key(key)?;
        self.bucket.delete(key).await
    }

    async fn delete_all(&self, keys: &[String]) -> Vec<Result<Deleted>> {
        self.bucket.delete_all(keys).await
    }

    async fn begin(&self, spec: &UploadSpec) -> Result<Arc<dyn Upload>> {
        check_key(&spec.key)?;
        self.limits().check(spec).map_err(|(kind, cause)| {
            StoreError::new(kind, format!("cannot write {}", self.bucket.place(&spec.key)), cause)
        })?;
        Ok(Arc::new(upload::S3Upload::begin(Arc::clone(&self.bucket), spec).await?))
    }

    async fn abort_left(&self, key: &str, upload_id: &str) -> Result<()> {
        check_key(key)?;
        self.bucket.abort(key, upload_id).await
    }

    async fn leftovers(&self) -> Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn retries(&self) -> Vec<String> {
        self.bucket.connection.repeats.line().into_iter().collect()
    }

    async fn clock(&self) -> Result<DateTime<Utc>> {
        if self.bucket.connection.clock().is_none() {
            self.bucket.check().await?;
        }
        self.bucket.connection.clock().ok_or_else(|| {
            StoreError::new(
                StoreErrorKind::Failed,
                format!("cannot read the clock of {}", self.place()),
                "the answer has no Date",
            )
        })
    }
}

/// The state that all operations share.
struct Bucket {
    options: S3Options,
    /// Empty, or ends in `/`.
    prefix: String,
    connection: Connection,
    /// Limits the bodies of all uploads.
    rate: Rate,
    /// The service accepts `If-None-Match`. True until it refuses the header.
    conditional: AtomicBool,
    /// The service accepts DeleteObjects. True until it refuses one.
    batches: AtomicBool,
}

impl Bucket {
    async fn new(options: S3Options) -> Result<Bucket> {
        if options.bucket.is_empty() {
            return Err(StoreError::new(
                StoreErrorKind::Misconfigured,
                "cannot use the S3 store",
                "no bucket is named",
            )
            .hint("Set S3_BACKUP_BUCKET"));
        }
        let trimmed = options.prefix.trim_matches('/');
        let prefix = if trimmed.is_empty() { String::new() } else { format!("{trimmed}/") };
        let connection = Connection::new(&options).await?;
        let (conditional, batches) = (AtomicBool::new(true), AtomicBool::new(true));
        let rate = Rate::new(options.bandwidth);
        Ok(Bucket { options, prefix, connection, rate, conditional, batches })
    }

    fn name(&self) -> &str {
        &self.options.bucket
    }

    /// The whole key in the bucket.
    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The key below the prefix; `None` for keys elsewhere.
    fn relative<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(&self.prefix)
    }

    /// An object's place for messages.
    fn place(&self, key: &str) -> String {
        format!("s3://{}/{}{key}", self.name(), self.prefix)
    }

    /// Begins an operation that may take several requests.
    fn start(&self) -> Waiting {
        self.options.patience.start(self.place(""))
    }

    /// Sends a request, and repeats it while its failure may pass and the patience lasts. Each attempt is
    /// signed anew.
    async fn send<T, E, F, S>(&self, operation: &str, send: S) -> std::result::Result<T, S3Failure>
    where
        S: Fn(Client) -> F,
        F: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.send_within(&mut self.start(), operation, send).await
    }

    /// As [`Bucket::send`], for one of several requests that share a time limit.
    async fn send_within<T, E, F, S>(
        &self,
        waiting: &mut Waiting,
        operation: &str,
        send: S,
    ) -> std::result::Result<T, S3Failure>
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
    async fn send_once<T, E, F, S>(&self, send: S) -> std::result::Result<T, S3Failure>
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
    async fn pause(
        &self,
        waiting: &mut Waiting,
        operation: &str,
        failure: S3Failure,
    ) -> std::result::Result<(), S3Failure> {
        if !failure.passes(self.connection.answered(), (self.options.machine.now)()) {
            return Err(failure);
        }
        let reason = failure.reason();
        if !waiting.pause(&format!("{operation}: {reason}")).await {
            return Err(S3Failure { waited: self.options.patience.in_vain(), ..failure });
        }
        self.connection.repeats.note(operation, &reason);
        Ok(())
    }

    /// The error of a failed request.
    fn error(&self, failure: &S3Failure, action: Permission, verb: &str, key: &str) -> StoreError {
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

    fn conditional(&self) -> bool {
        self.conditional.load(Ordering::Relaxed)
    }

    /// Remembers that the service refuses `If-None-Match`, and logs it the first time.
    fn set_unconditional(&self) {
        if self.conditional.swap(false, Ordering::Relaxed) {
            log::warn!(
                "{} does not take conditional writes (If-None-Match): a key is looked up before it is \
                 written, which two runs at the same instant can defeat",
                self.place("")
            );
        }
    }

    fn batches(&self) -> bool {
        self.batches.load(Ordering::Relaxed)
    }

    /// Remembers that the service refuses DeleteObjects.
    fn set_batchless(&self, why: &str) {
        if self.batches.swap(false, Ordering::Relaxed) {
            log::info!("{} takes no DeleteObjects: objects are deleted one by one ({why})", self.place(""));
        }
    }

    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.options.sse {
            None => (None, None),
            Some(Sse::Aes256) => (Some(ServerSideEncryption::Aes256), None),
            Some(Sse::Kms(key)) => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }

    /// Waits before `operation` is sent again because of `reason`, and counts it. Returns false if it was
    /// sent [`TRIES`] times, or if the patience is over.
    async fn repeat(&self, waiting: &mut Waiting, operation: &str, reason: &str, tried: u32) -> bool {
        if tried >= TRIES || !waiting.pause(&format!("{operation}: {reason}")).await {
            return false;
        }
        self.connection.repeats.note(operation, reason);
        true
    }
}

/// The attempts of a request whose failure is not an outage: damage on the way, a conflict, an object that is
/// not visible yet.
const TRIES: u32 = 4;

/// Counts the requests that were sent again, by operation and reason, to show a service that deteriorates.
#[derive(Debug, Default)]
struct Repeats(Mutex<BTreeMap<(String, String), u32>>);

impl Repeats {
    fn note(&self, operation: &str, reason: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((operation.to_owned(), reason.to_owned())).or_default() += 1;
        drop(counts);
        log::debug!("S3 {operation} is sent again ({reason})");
    }

    /// A summary in one line; `None` if no request was sent again.
    fn line(&self) -> Option<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
        for ((_, reason), count) in &*counts {
            *reasons.entry(reason).or_default() += count;
        }
        let mut sorted: Vec<(&str, u32)> = reasons.into_iter().collect();
        sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let all: u32 = sorted.iter().map(|(_, count)| count).sum();
        let listed: Vec<String> = sorted.iter().map(|(reason, count)| format!("{reason} ×{count}")).collect();
        let times = if all == 1 { "once".to_owned() } else { format!("{all} times") };
        (all > 0).then(|| format!("S3 requests were sent again {times} ({})", listed.join(", ")))
    }
}

/// Converts a time of the SDK. A missing or impossible time becomes the epoch.
fn time(time: Option<&SdkDateTime>) -> DateTime<Utc> {
    time.and_then(|t| DateTime::from_timestamp(t.secs(), t.subsec_nanos())).unwrap_or_default()
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
