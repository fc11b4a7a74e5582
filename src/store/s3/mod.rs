//! A bucket of Amazon S3, or of a service that speaks its protocol, as a store.
//!
//! Requests are sent through the AWS SDK, and repeated here, because the SDK repeats without a word and cannot wait for
//! an outage of minutes. What the SDK leaves open is decided here, too: checksums are computed by us and compared with what the store says, an answer that
//! got lost is settled by asking for the object, and a listing either walks every page or fails.
//! Protocol: the Amazon S3 API reference; where services differ, the code names them.

mod archive;
mod around;
mod bounded;
mod bucket;
mod client;
mod create;
mod delete;
mod explain;
mod failure;
mod flow;
mod list;
mod object;
mod protection;
mod repeats;
mod sums;
mod trust;
mod upload;
mod verify;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{Deleted, Error, Kind, Object, Protection, Result, Store, Upload, UploadSpec, key};
use crate::config::store::Limits;
use crate::config::store::S3Options;
use bucket::Bucket;

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
        key::check(key)?;
        self.bucket.put(key, body).await
    }

    async fn create(&self, key: &str, body: Bytes) -> Result<()> {
        key::check(key)?;
        self.bucket.create(key, body).await
    }

    async fn get(&self, key: &str, most: u64) -> Result<Bytes> {
        key::check(key)?;
        self.bucket.get(key, most).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        key::check(key)?;
        self.bucket.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> Result<Option<Object>> {
        key::check(key)?;
        self.bucket.head(key).await
    }

    async fn locked_until(&self, key: &str) -> Result<Option<DateTime<Utc>>> {
        key::check(key)?;
        self.bucket.locked_until(key).await
    }

    async fn protection(&self) -> Result<Option<Protection>> {
        Ok(Some(self.bucket.protection().await))
    }

    async fn versions_expire(&self) -> Option<bool> {
        self.bucket.versions_expire().await
    }

    fn thaw(&self, key: &str) -> Option<String> {
        Some(archive::thaw(&self.bucket.full(key), &self.bucket.options))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Object>> {
        self.bucket.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<Deleted> {
        key::check(key)?;
        self.bucket.delete(key).await
    }

    async fn delete_all(&self, keys: &[String]) -> Vec<Result<Deleted>> {
        self.bucket.delete_all(keys).await
    }

    async fn begin(&self, spec: &UploadSpec) -> Result<Arc<dyn Upload>> {
        key::check(&spec.key)?;
        self.limits().check(spec).map_err(|(kind, cause)| {
            Error::new(kind, format!("cannot write {}", self.bucket.place(&spec.key)), cause)
        })?;
        Ok(Arc::new(upload::S3Upload::begin(Arc::clone(&self.bucket), spec).await?))
    }

    async fn abort_left(&self, key: &str, upload_id: &str) -> Result<()> {
        key::check(key)?;
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
            Error::new(
                Kind::Failed,
                format!("cannot read the clock of {}", self.place()),
                "the answer has no Date",
            )
        })
    }
}
