//! An upload to a directory: one partial, each part written at its place in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::super::checksum::{PartSum, agree, crc64nvme};
use super::super::{Error, Kind, Result, Upload, UploadSpec, Whole};
use super::files::{self, Root, blocking};
use super::partial::Partial;
use super::space;
use crate::base::units::{count, several};

/// An upload under way.
pub(super) struct DirUpload {
    id: String,
    shared: Arc<Shared>,
}

struct Shared {
    root: Arc<Root>,
    spec: UploadSpec,
    min_free: f64,
    max_parts: u32,
    /// `None` once completed or aborted.
    partial: Mutex<Option<Arc<Partial>>>,
    parts: Mutex<BTreeMap<u32, PartSum>>,
}

impl DirUpload {
    /// Creates the partial, if the estimate leaves `min_free` of the file system free.
    pub fn begin(root: Arc<Root>, spec: UploadSpec, min_free: f64, max_parts: u32) -> Result<DirUpload> {
        root.check()?;
        let doing = || format!("cannot write {}", root.file(&spec.key).display());
        space::check_file(spec.estimate.unwrap_or(0), doing)?;
        space::check(root.path(), spec.estimate.unwrap_or(0), min_free, doing)?;
        let partial = Partial::create(&root, &spec.key)?;
        let id = partial.id().to_owned();
        let partial = Mutex::new(Some(Arc::new(partial)));
        let shared = Shared { root, spec, min_free, max_parts, partial, parts: Mutex::default() };
        Ok(DirUpload { id, shared: Arc::new(shared) })
    }
}

impl Shared {
    fn doing(&self) -> String {
        format!("cannot write {}", self.root.file(&self.spec.key).display())
    }

    fn partial(&self) -> Result<Arc<Partial>> {
        let partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        partial.clone().ok_or_else(|| Error::new(Kind::Failed, self.doing(), "the upload has ended"))
    }

    fn take(&self) -> Option<Arc<Partial>> {
        self.partial.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_part(&self, index: u32, body: &[u8]) -> Result<()> {
        let partial = self.partial()?;
        if index >= self.max_parts {
            let cause = format!("part {} is beyond the limit of {} parts", index + 1, self.max_parts);
            return Err(Error::new(Kind::Full, self.doing(), cause));
        }
        if body.is_empty() || body.len() as u64 > self.spec.part_size {
            let cause =
                format!("part {} has {} bytes, not up to {}", index + 1, body.len(), self.spec.part_size);
            return Err(Error::new(Kind::Failed, self.doing(), cause));
        }
        space::check(self.root.path(), body.len() as u64, self.min_free, || self.doing())?;
        partial.write_at(body, u64::from(index) * self.spec.part_size)?;
        let sum = PartSum { len: body.len() as u64, crc64nvme: crc64nvme(body) };
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(index, sum);
        Ok(())
    }

    fn complete(&self, whole: &Whole) -> Result<()> {
        let partial =
            self.take().ok_or_else(|| Error::new(Kind::Failed, self.doing(), "the upload has ended"))?;
        let partial = Arc::into_inner(partial)
            .ok_or_else(|| Error::new(Kind::Failed, self.doing(), "a part is still being written"))?;
        let parts = std::mem::take(&mut *self.parts.lock().unwrap_or_else(PoisonError::into_inner));
        agree(parts, self.spec.part_size, whole)
            .map_err(|cause| Error::new(Kind::Damaged, self.doing(), cause))?;
        partial.publish(&self.root)?;
        let stored = self.root.stat(&self.spec.key)?.map(|object| object.size);
        if stored != Some(whole.size) {
            self.root.delete(&self.spec.key)?;
            let (size, has) = (several(whole.size, "byte"), count(stored.unwrap_or(0)));
            let cause = format!("{size} were written, the file has {has}");
            return Err(Error::new(Kind::Damaged, self.doing(), cause));
        }
        Ok(())
    }
}

#[async_trait]
impl Upload for DirUpload {
    fn id(&self) -> &str {
        &self.id
    }

    async fn put_part(&self, index: u32, body: Bytes) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.put_part(index, &body)).await
    }

    async fn complete(&self, whole: &Whole) -> Result<()> {
        let (shared, whole) = (Arc::clone(&self.shared), *whole);
        blocking(move || shared.complete(&whole)).await
    }

    async fn abort(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        files::blocking(move || match shared.take() {
            // A part that is still being written holds the partial, and may outlive this process's
            // patience: the file goes now, whoever still writes into it.
            Some(partial) => partial.remove(&shared.root),
            None => Ok(()),
        })
        .await
    }
}
