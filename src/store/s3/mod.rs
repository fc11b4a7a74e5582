//! A bucket of Amazon S3, or of a service that speaks its protocol, as a store.
//!
//! Requests are sent through the AWS SDK, and repeated here, because the SDK repeats without a word and cannot wait for
//! an outage of minutes. What the SDK leaves open is decided here, too: checksums are computed by us and compared with what the store says, an answer that
//! got lost is settled by asking for the object, and a listing either walks every page or fails.
//! Protocol: the Amazon S3 API reference; where services differ, the code names them.

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
    /// Prepares the connection: region and credentials are looked up, the store is not yet asked.
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

/// What all operations share.
struct Bucket {
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
    pub async fn send<T, E, F, S>(&self, operation: &str, send: S) -> std::result::Result<T, S3Failure>
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
    pub async fn send_once<T, E, F, S>(&self, send: S) -> std::result::Result<T, S3Failure>
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
    pub fn error(&self, failure: &S3Failure, action: Permission, verb: &str, key: &str) -> StoreError {
        let doing = format!("cannot {verb} {}", self.place(key));
        let connection = &self.connection;
        let mut error =
            explain(failure, action, doing, &self.options, &connection.environment, connection.answered());
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

/// How often a request is sent whose failure is not a matter of time: damage on the way, a conflict, an object that is not
/// there yet.
const TRIES: u32 = 4;

/// Counts by operation and reason.
#[derive(Debug, Default)]
struct Repeats(Mutex<BTreeMap<(String, String), u32>>);

impl Repeats {
    /// Counts a request that is sent again.
    pub fn note(&self, operation: &str, reason: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((operation.to_owned(), reason.to_owned())).or_default() += 1;
        drop(counts);
        log::debug!("S3 {operation} is sent again ({reason})");
    }

    /// All of it in a line, if there is anything.
    pub fn line(&self) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_sums_up() {
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
