//! A directory on this machine as a store.
//!
//! An object is a file of mode 0600 below the root, in folders of mode 0700. It is written as a [partial
//! file](upload) beside its final name, locked while its writer lives, and renamed when it is complete and on
//! disk. Below the root no link is followed and only regular files are opened, see
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
    Deleted, Result, Store, StoreError, StoreErrorKind, StoredObject, Upload, UploadSpec, check_key, listable,
};
use crate::config::store::Limits;
use crate::config::store::{DirOptions, unfit};
use files::Root;
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
    pub fn new(options: DirOptions) -> Result<DirStore> {
        if let Some(why) = unfit(&options.root) {
            let doing = format!("cannot use the backup directory {}", options.root.display());
            return Err(StoreError::new(StoreErrorKind::Misconfigured, doing, why)
                .hint("Correct BACKUP_DIR (dir, --dir)"));
        }
        let root = Root::open(&options.root, options.machine)?;
        Ok(DirStore { root: Arc::new(root), min_free: options.min_free, limits: options.limits })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<Root>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = Arc::clone(&self.root);
        files::blocking(move || work(root)).await
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

    async fn check(&self) -> Result<()> {
        self.blocking(|root| root.check()).await
    }

    async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        check_key(key)?;
        let key = key.to_owned();
        self.blocking(move |root| {
            let partial = upload::Partial::create(&root, &key)?;
            partial.write_at(&body, 0)?;
            partial.replace(&root)
        })
        .await
    }

    async fn create(&self, key: &str, body: Bytes) -> Result<()> {
        check_key(key)?;
        let key = key.to_owned();
        self.blocking(move |root| {
            let partial = upload::Partial::create(&root, &key)?;
            partial.write_at(&body, 0)?;
            match partial.publish(&root) {
                Err(e) if e.kind == StoreErrorKind::Exists && root.is(&key, &body)? => Ok(()),
                other => other,
            }
        })
        .await
    }

    async fn get(&self, key: &str, most: u64) -> Result<Bytes> {
        check_key(key)?;
        let key = key.to_owned();
        self.blocking(move |root| root.read(&key, most)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes> {
        check_key(key)?;
        let key = key.to_owned();
        self.blocking(move |root| root.read_range(&key, range)).await
    }

    async fn head(&self, key: &str) -> Result<Option<StoredObject>> {
        check_key(key)?;
        let key = key.to_owned();
        self.blocking(move |root| root.stat(&key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<StoredObject>> {
        let prefix = prefix.to_owned();
        self.blocking(move |root| {
            let (mut objects, mut partials) = (Vec::new(), BTreeSet::new());
            root.walk(&prefix, &mut |entry| {
                match upload::is_partial(&entry.key) {
                    true => partials.extend(upload::parse(&entry.key).map(|(key, _)| key)),
                    false => objects.push(entry.object()),
                }
                listable(&root.path().display().to_string(), objects.len().max(partials.len()))
            })?;
            // An empty file beside a partial of the same name only reserves that name (`Folder::rename_new`).
            objects.retain(|object| object.size > 0 || !partials.contains(&object.key));
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(objects)
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<Deleted> {
        check_key(key)?;
        let key = key.to_owned();
        self.blocking(move |root| root.delete(&key)).await.map(|()| Deleted::Gone)
    }

    async fn begin(&self, spec: &UploadSpec) -> Result<Arc<dyn Upload>> {
        check_key(&spec.key)?;
        self.limits.check(spec).map_err(|cause| {
            StoreError::new(
                cause.0,
                format!("cannot write {}", self.root.path().join(&spec.key).display()),
                cause.1,
            )
        })?;
        let (spec, min_free) = (spec.clone(), self.min_free);
        let max_parts = self.limits.max_parts;
        let upload =
            self.blocking(move |root| upload::DirUpload::begin(root, spec, min_free, max_parts)).await?;
        Ok(Arc::new(upload))
    }

    async fn abort_left(&self, key: &str, upload_id: &str) -> Result<()> {
        check_key(key)?;
        let (key, id) = (key.to_owned(), upload_id.to_owned());
        self.blocking(move |root| upload::remove_dead(&root, &key, &id)).await
    }

    async fn leftovers(&self) -> Result<Vec<(String, String)>> {
        self.blocking(|root| upload::dead(&root)).await
    }

    fn lacking(&self) -> Vec<String> {
        self.root.lacking()
    }

    async fn clock(&self) -> Result<DateTime<Utc>> {
        Ok((self.root.machine.now)())
    }
}
