//! A directory on this machine as a store.
//!
//! An object is a file of mode 0600 below the root, in folders of mode 0700. It is written as a [partial
//! file](upload) beside its final name, locked while its writer lives, and renamed when it is complete and on
//! disk. Below the root no link is followed and only regular files are opened; see
//! [`beneath`](crate::base::beneath). A call that a file system lacks is replaced by another, which is logged
//! once. No call is retried: after a failed `fsync` the kernel may have dropped the dirty pages, so the
//! success of a second `fsync` would prove nothing.

mod files;
mod upload;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{
    Deleted, Store, StoreError, StoreErrorKind, StoreResult, StoredObject, Upload, UploadSpec, check_key,
    check_listing, check_upload,
};
use crate::config::store::{DirOptions, Limits, unfit};
use files::Root;
pub(super) use files::blocking;
pub use files::{check_room, check_size};

/// A directory as a store; see the [module](self).
pub struct DirStore {
    root: Arc<Root>,
    min_free: f64,
    limits: Limits,
}

impl DirStore {
    /// Opens the directory. If its last component is missing, it is created, but never its parents.
    ///
    /// # Errors
    /// Returns [`StoreErrorKind::NoPlace`] if there is no such directory, [`StoreErrorKind::Denied`] if it
    /// must not be used, and [`StoreErrorKind::Misconfigured`] if it belongs to the system.
    pub fn new(options: DirOptions) -> StoreResult<DirStore> {
        if let Some(why) = unfit(&options.root) {
            let (kind, doing) = (StoreErrorKind::Misconfigured, files::unusable(&options.root));
            return Err(StoreError::new(kind, doing, why).hint("Correct BACKUP_DIR (dir, --dir)"));
        }
        let root = Root::open(&options.root, options.machine)?;
        Ok(DirStore { root: Arc::new(root), min_free: options.min_free, limits: options.limits })
    }

    /// Runs `work` on a thread where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Root>) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let root = Arc::clone(&self.root);
        blocking(move || work(&root)).await
    }

    /// Checks the key, and runs `work` on a thread where it may block.
    async fn at<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Arc<Root>, &str) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        check_key(key)?;
        let key = key.to_owned();
        self.blocking(move |root| work(root, &key)).await
    }
}

impl fmt::Debug for DirStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirStore").field(&self.root.path()).finish()
    }
}

#[async_trait]
impl Store for DirStore {
    fn place(&self) -> String {
        self.root.path().display().to_string()
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    async fn check(&self) -> StoreResult<()> {
        self.blocking(|root| root.check()).await
    }

    async fn put(&self, key: &str, body: Bytes) -> StoreResult<()> {
        self.at(key, move |root, key| {
            let partial = upload::Partial::create(root, key)?;
            partial.write_at(&body, 0)?;
            partial.replace(root)
        })
        .await
    }

    async fn create(&self, key: &str, body: Bytes) -> StoreResult<()> {
        self.at(key, move |root, key| {
            let partial = upload::Partial::create(root, key)?;
            partial.write_at(&body, 0)?;
            match partial.publish(root) {
                Err(e) if e.kind == StoreErrorKind::Exists && root.is(key, &body)? => Ok(()),
                other => other,
            }
        })
        .await
    }

    async fn get(&self, key: &str, most: u64) -> StoreResult<Bytes> {
        self.at(key, move |root, key| root.read(key, most)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> StoreResult<Bytes> {
        self.at(key, move |root, key| root.read_range(key, range)).await
    }

    async fn head(&self, key: &str) -> StoreResult<Option<StoredObject>> {
        self.at(key, |root, key| root.stat(key)).await
    }

    async fn list(&self, prefix: &str) -> StoreResult<Vec<StoredObject>> {
        let prefix = prefix.to_owned();
        self.blocking(move |root| {
            let (mut objects, mut partials) = (Vec::new(), BTreeSet::new());
            root.walk(&prefix, &mut |object| {
                match upload::is_partial(&object.key) {
                    true => partials.extend(upload::parse(&object.key).map(|(key, _)| key)),
                    false => objects.push(object),
                }
                check_listing(&root.path().display().to_string(), objects.len().max(partials.len()))
            })?;
            // An empty file beside a partial of the same name only reserves that name (`Folder::rename_new`).
            objects.retain(|object| object.size > 0 || !partials.contains(&object.key));
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(objects)
        })
        .await
    }

    async fn delete(&self, key: &str) -> StoreResult<Deleted> {
        self.at(key, |root, key| root.delete(key)).await.map(|()| Deleted::Gone)
    }

    async fn begin(&self, spec: &UploadSpec) -> StoreResult<Arc<dyn Upload>> {
        let (spec, limits, min_free) = (spec.clone(), self.limits, self.min_free);
        check_upload(&limits, &spec, &self.root.shown(&spec.key))?;
        let upload =
            self.blocking(move |root| upload::DirUpload::begin(root, spec, min_free, limits)).await?;
        Ok(Arc::new(upload))
    }

    async fn abort_left(&self, key: &str, upload_id: &str) -> StoreResult<()> {
        let id = upload_id.to_owned();
        self.at(key, move |root, key| upload::remove_dead(root, key, &id)).await
    }

    async fn leftovers(&self) -> StoreResult<Vec<(String, String)>> {
        self.blocking(|root| upload::dead(root)).await
    }

    fn lacking(&self) -> Vec<String> {
        self.root.lacking()
    }

    async fn clock(&self) -> StoreResult<DateTime<Utc>> {
        Ok((self.root.machine.now)())
    }
}
