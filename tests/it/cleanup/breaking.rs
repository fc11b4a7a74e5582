//! A store that dies at the nth change. From then on it changes nothing and answers nothing.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use uzima_backup::catalog::layout;
use uzima_backup::config::store::Limits;
use uzima_backup::model::id::BackupId;
use uzima_backup::store::{
    Deleted, Store, StoreError, StoreErrorKind, StoreResult, StoredObject, Upload, UploadSpec,
};

/// Whether the fatal change is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Death {
    /// The change was not made.
    Before,
    /// The change was made, and the answer was lost.
    After,
}

#[derive(Debug)]
pub struct Breaking {
    inner: Arc<dyn Store>,
    at: usize,
    death: Death,
    changes: AtomicUsize,
    pin: Option<BackupId>,
}

impl Breaking {
    pub fn new(inner: Arc<dyn Store>, at: usize, death: Death) -> Breaking {
        Breaking { inner, at, death, changes: AtomicUsize::new(0), pin: None }
    }

    /// Pins this backup as soon as its tombstone exists.
    pub fn pinning(mut self, id: &BackupId) -> Breaking {
        self.pin = Some(id.clone());
        self
    }

    pub fn died(&self) -> bool {
        self.changes.load(SeqCst) > self.at
    }

    async fn change<T>(&self, work: impl Future<Output = StoreResult<T>> + Send) -> StoreResult<T> {
        let index = self.changes.fetch_add(1, SeqCst);
        if index < self.at {
            return work.await;
        }
        if index == self.at && self.death == Death::After {
            work.await?;
        }
        Err(dead())
    }

    fn alive(&self) -> StoreResult<()> {
        if self.died() { Err(dead()) } else { Ok(()) }
    }
}

fn dead() -> StoreError {
    StoreError::new(StoreErrorKind::Failed, "cannot reach the store", "it died on purpose")
}

#[async_trait]
impl Store for Breaking {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn check(&self) -> StoreResult<()> {
        self.inner.check().await
    }

    async fn put(&self, key: &str, body: Bytes) -> StoreResult<()> {
        self.change(self.inner.put(key, body)).await?;
        if let Some(id) = self.pin.as_ref().filter(|id| layout::tombstone(id) == key) {
            self.inner.put(&layout::pin(id), Bytes::from_static(b"{}")).await?;
        }
        Ok(())
    }

    async fn create(&self, key: &str, body: Bytes) -> StoreResult<()> {
        self.change(self.inner.create(key, body)).await
    }

    async fn get(&self, key: &str, most: u64) -> StoreResult<Bytes> {
        self.alive()?;
        self.inner.get(key, most).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> StoreResult<Bytes> {
        self.alive()?;
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> StoreResult<Option<StoredObject>> {
        self.alive()?;
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str) -> StoreResult<Vec<StoredObject>> {
        self.alive()?;
        self.inner.list(prefix).await
    }

    async fn delete(&self, key: &str) -> StoreResult<Deleted> {
        self.change(self.inner.delete(key)).await
    }

    async fn begin(&self, spec: &UploadSpec) -> StoreResult<Arc<dyn Upload>> {
        self.inner.begin(spec).await
    }

    async fn abort_left(&self, key: &str, upload_id: &str) -> StoreResult<()> {
        self.inner.abort_left(key, upload_id).await
    }

    async fn leftovers(&self) -> StoreResult<Vec<(String, String)>> {
        self.inner.leftovers().await
    }

    async fn clock(&self) -> StoreResult<DateTime<Utc>> {
        self.inner.clock().await
    }
}
