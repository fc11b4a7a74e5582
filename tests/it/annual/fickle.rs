//! A directory store that uses the clock of the year and fails where a night says so.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use tokio::sync::Notify;
use uzima_backup::config::store::{DirOptions, Limits};
use uzima_backup::store::{
    Deleted, DirStore, Store, StoreError, StoreErrorKind, StoreResult, StoredObject, Upload, UploadSpec,
    Whole,
};

use super::clock;

/// A kind of operation on the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Check,
    List,
    Get,
    Begin,
    Part,
    Complete,
    Index,
    Manifest,
    Put,
    Delete,
}

/// The kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// The operation fails, and so does everything for the rest of the run.
    Fails,
    /// The operation succeeds, but its answer is lost, and so is the answer to the question whether it
    /// succeeded.
    AnswerLost,
    /// The operation does not return until the process is killed.
    Hangs,
}

/// The fault, the kind of step at which it occurs, and the number of such steps before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub step: Step,
    pub harm: Harm,
    pub after: u32,
}

/// The time at which each object was written, by the store's clock. Shared by all runs.
pub type Written = Arc<Mutex<BTreeMap<String, DateTime<Utc>>>>;

/// The state that a store and its uploads share.
#[derive(Debug)]
struct Shared {
    written: Written,
    fault: Option<Fault>,
    calls: AtomicU32,
    hung: Notify,
}

/// The store of one run.
#[derive(Debug)]
pub struct Fickle {
    inner: DirStore,
    shared: Arc<Shared>,
}

impl Fickle {
    pub fn new(root: &Path, written: &Written, fault: Option<Fault>) -> Fickle {
        let options = DirOptions { min_free: 0.0, ..DirOptions::new(root) };
        let shared =
            Shared { written: written.clone(), fault, calls: AtomicU32::new(0), hung: Notify::new() };
        Fickle { inner: DirStore::new(options).expect("a directory"), shared: Arc::new(shared) }
    }

    /// Returns when the store hangs, which is when the process has to be killed.
    pub async fn hung(&self) {
        self.shared.hung.notified().await;
    }

    /// Returns true if the fault occurred. A run may end before it comes to that step.
    pub fn harmed(&self) -> bool {
        self.shared.fault.is_some_and(|fault| self.shared.calls.load(Relaxed) > fault.after)
    }

    fn dated(&self, object: StoredObject) -> StoredObject {
        let known = self.shared.written.lock().expect("no holder panics").get(&object.key).copied();
        StoredObject { modified: known.unwrap_or(object.modified), ..object }
    }
}

impl Shared {
    async fn at(&self, step: Step) -> StoreResult<()> {
        let Some(fault) = self.fault.filter(|fault| fault.step == step) else { return Ok(()) };
        if fault.harm == Harm::AnswerLost || self.calls.fetch_add(1, Relaxed) < fault.after {
            return Ok(());
        }
        if fault.harm == Harm::Hangs {
            self.hung.notify_one();
            std::future::pending::<()>().await;
        }
        Err(failed(step))
    }

    /// The result of a step that was executed.
    fn done(&self, step: Step) -> StoreResult<()> {
        match self.fault {
            Some(Fault { step: of, harm: Harm::AnswerLost, after }) if of == step => {
                if self.calls.fetch_add(1, Relaxed) < after { Ok(()) } else { Err(failed(step)) }
            }
            _ => Ok(()),
        }
    }

    fn wrote(&self, key: &str) {
        self.written.lock().expect("no holder panics").insert(key.into(), clock::store());
    }
}

fn failed(step: Step) -> StoreError {
    StoreError::new(StoreErrorKind::Failed, format!("the store fails at {step:?}"), "as this night wants it")
}

#[async_trait]
impl Store for Fickle {
    fn place(&self) -> String {
        self.inner.place()
    }

    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn check(&self) -> StoreResult<()> {
        self.shared.at(Step::Check).await?;
        self.inner.check().await
    }

    async fn put(&self, key: &str, body: Bytes) -> StoreResult<()> {
        self.shared.at(Step::Put).await?;
        self.inner.put(key, body).await?;
        self.shared.wrote(key);
        Ok(())
    }

    async fn create(&self, key: &str, body: Bytes) -> StoreResult<()> {
        let step = if key.ends_with("/manifest.json") { Step::Manifest } else { Step::Index };
        self.shared.at(step).await?;
        self.inner.create(key, body).await?;
        self.shared.wrote(key);
        self.shared.done(step)
    }

    async fn get(&self, key: &str, most: u64) -> StoreResult<Bytes> {
        self.shared.at(Step::Get).await?;
        self.inner.get(key, most).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> StoreResult<Bytes> {
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &str) -> StoreResult<Option<StoredObject>> {
        Ok(self.inner.head(key).await?.map(|object| self.dated(object)))
    }

    async fn list(&self, prefix: &str) -> StoreResult<Vec<StoredObject>> {
        self.shared.at(Step::List).await?;
        Ok(self.inner.list(prefix).await?.into_iter().map(|object| self.dated(object)).collect())
    }

    async fn delete(&self, key: &str) -> StoreResult<Deleted> {
        self.shared.at(Step::Delete).await?;
        self.inner.delete(key).await
    }

    async fn begin(&self, spec: &UploadSpec) -> StoreResult<Arc<dyn Upload>> {
        self.shared.at(Step::Begin).await?;
        let inner = self.inner.begin(spec).await?;
        Ok(Arc::new(FickleUpload { inner, key: spec.key.clone(), shared: self.shared.clone() }))
    }

    async fn abort_left(&self, key: &str, upload_id: &str) -> StoreResult<()> {
        self.inner.abort_left(key, upload_id).await
    }

    async fn leftovers(&self) -> StoreResult<Vec<(String, String)>> {
        self.inner.leftovers().await
    }

    fn retries(&self) -> Vec<String> {
        self.inner.retries()
    }

    async fn clock(&self) -> StoreResult<DateTime<Utc>> {
        Ok(clock::store())
    }
}

struct FickleUpload {
    inner: Arc<dyn Upload>,
    key: String,
    shared: Arc<Shared>,
}

#[async_trait]
impl Upload for FickleUpload {
    fn id(&self) -> &str {
        self.inner.id()
    }

    async fn put_part(&self, index: u32, body: Bytes) -> StoreResult<()> {
        self.shared.at(Step::Part).await?;
        self.inner.put_part(index, body).await
    }

    async fn complete(&self, whole: &Whole) -> StoreResult<()> {
        self.shared.at(Step::Complete).await?;
        self.inner.complete(whole).await?;
        self.shared.wrote(&self.key);
        Ok(())
    }

    async fn abort(&self) -> StoreResult<()> {
        self.inner.abort().await
    }
}
