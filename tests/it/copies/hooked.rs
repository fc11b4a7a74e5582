//! A store with a hook that is asked before every request, and can fail or delay it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use uzima_backup::config::store::Limits;
use uzima_backup::store::{
    Deleted, Store, StoreError, StoreErrorKind, StoreResult, StoredObject, Upload, UploadSpec, Whole,
};

/// Decides about each request, by the name of its operation and its key.
#[async_trait]
pub trait Hook: Send + Sync + fmt::Debug {
    async fn before(&self, operation: &'static str, key: &str) -> StoreResult<()>;
}

/// When the requests of a place fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    Never,
    /// This request alone, from 0.
    Once(u64),
    /// This request and all later ones.
    From(u64),
    /// This request never returns, and neither do later ones.
    Hangs(u64),
}

/// Counts the requests, and fails as planned.
#[derive(Debug)]
pub struct Plan {
    harm: Harm,
    seen: AtomicU64,
}

impl Plan {
    pub fn new(harm: Harm) -> Arc<Plan> {
        Arc::new(Plan { harm, seen: AtomicU64::new(0) })
    }

    /// The number of requests so far.
    pub fn requests(&self) -> u64 {
        self.seen.load(SeqCst)
    }
}

#[async_trait]
impl Hook for Plan {
    async fn before(&self, operation: &'static str, key: &str) -> StoreResult<()> {
        let at = self.seen.fetch_add(1, SeqCst);
        match self.harm {
            Harm::Once(n) if n == at => {}
            Harm::From(n) if n <= at => {}
            Harm::Hangs(n) if n <= at => std::future::pending().await,
            _ => return Ok(()),
        }
        let doing = format!("cannot {operation} {key}");
        Err(StoreError::new(StoreErrorKind::Failed, doing, format!("request {at} fails as planned")))
    }
}

/// A store with a hook.
#[derive(Debug)]
pub struct Hooked {
    inner: Arc<dyn Store>,
    hook: Arc<dyn Hook>,
}

impl Hooked {
    pub fn store(inner: Arc<dyn Store>, hook: Arc<dyn Hook>) -> Arc<dyn Store> {
        Arc::new(Hooked { inner, hook })
    }
}

struct HookedUpload {
    inner: Arc<dyn Upload>,
    hook: Arc<dyn Hook>,
    key: String,
}

#[async_trait]
impl Store for Hooked {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn check(&self) -> StoreResult<()> {
        self.hook.before("check", "").await?;
        self.inner.check().await
    }

    async fn put(&self, key: &str, body: Bytes) -> StoreResult<()> {
        self.hook.before("put", key).await?;
        self.inner.put(key, body).await
    }

    async fn create(&self, key: &str, body: Bytes) -> StoreResult<()> {
        self.hook.before("create", key).await?;
        self.inner.create(key, body).await
    }

    async fn get(&self, key: &str, most: u64) -> StoreResult<Bytes> {
        self.hook.before("get", key).await?;
        self.inner.get(key, most).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> StoreResult<Bytes> {
        self.hook.before("get_range", key).await?;
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> StoreResult<Option<StoredObject>> {
        self.hook.before("head", key).await?;
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str) -> StoreResult<Vec<StoredObject>> {
        self.hook.before("list", prefix).await?;
        self.inner.list(prefix).await
    }

    async fn delete(&self, key: &str) -> StoreResult<Deleted> {
        self.hook.before("delete", key).await?;
        self.inner.delete(key).await
    }

    async fn begin(&self, spec: &UploadSpec) -> StoreResult<Arc<dyn Upload>> {
        self.hook.before("begin", &spec.key).await?;
        let inner = self.inner.begin(spec).await?;
        Ok(Arc::new(HookedUpload { inner, hook: self.hook.clone(), key: spec.key.clone() }))
    }

    async fn abort_left(&self, key: &str, upload_id: &str) -> StoreResult<()> {
        self.hook.before("abort_left", key).await?;
        self.inner.abort_left(key, upload_id).await
    }

    async fn leftovers(&self) -> StoreResult<Vec<(String, String)>> {
        self.hook.before("leftovers", "").await?;
        self.inner.leftovers().await
    }

    async fn clock(&self) -> StoreResult<DateTime<Utc>> {
        self.hook.before("clock", "").await?;
        self.inner.clock().await
    }
}

#[async_trait]
impl Upload for HookedUpload {
    fn id(&self) -> &str {
        self.inner.id()
    }

    async fn put_part(&self, index: u32, body: Bytes) -> StoreResult<()> {
        self.hook.before("put_part", &self.key).await?;
        self.inner.put_part(index, body).await
    }

    async fn complete(&self, whole: &Whole) -> StoreResult<()> {
        self.hook.before("complete", &self.key).await?;
        self.inner.complete(whole).await
    }

    async fn abort(&self) -> StoreResult<()> {
        self.hook.before("abort", &self.key).await?;
        self.inner.abort().await
    }
}
