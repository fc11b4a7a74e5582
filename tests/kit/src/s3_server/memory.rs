//! The objects and uploads of one bucket, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use s3s::dto::{Metadata, Timestamp};
use s3s::{S3Result, s3_error};

use super::checks::{self, Sums};

/// The limits of the service.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most entries of a list page.
    pub page: usize,
    /// The highest part number.
    pub parts: i32,
    /// The smallest part that is not the last, in bytes.
    pub min_part: usize,
    /// All parts but the last must have the same size.
    pub same_size: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { page: 1000, parts: 10_000, min_part: 0, same_size: true }
    }
}

/// The content of the bucket. Clones share it.
#[derive(Clone)]
pub(super) struct Memory {
    bucket: &'static str,
    pub limits: Limits,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(super) struct State {
    pub objects: BTreeMap<String, Stored>,
    pub uploads: BTreeMap<String, Uploading>,
    pub protected: BTreeSet<String>,
    pub versioned: bool,
    /// The bucket has Object Lock.
    pub locks: bool,
    /// A lifecycle rule deletes old versions. `None` means that nobody may read the rules.
    pub expires: Option<bool>,
    pub next_upload: u64,
}

#[derive(Clone)]
pub(super) struct Stored {
    pub body: Bytes,
    pub etag: String,
    pub sums: Sums,
    pub metadata: Option<Metadata>,
    pub modified: SystemTime,
    /// The object is in the class GLACIER.
    pub archived: bool,
    /// The end of the retention period.
    pub retained: Option<Timestamp>,
}

/// An upload that is neither completed nor aborted.
pub(super) struct Uploading {
    pub key: String,
    pub metadata: Option<Metadata>,
    pub algorithm: Option<String>,
    pub retained: Option<Timestamp>,
    pub parts: BTreeMap<i32, Bytes>,
}

impl Memory {
    pub fn new(bucket: &'static str, limits: Limits) -> Memory {
        Memory { bucket, limits, state: Arc::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes an object.
    ///
    /// # Panics
    /// Panics if the object does not exist.
    pub fn change(&self, key: &str, change: impl FnOnce(&mut Stored)) {
        change(self.state().objects.get_mut(key).unwrap_or_else(|| panic!("no object {key}")));
    }

    /// Changes the bytes of an object, but not its checksums.
    pub fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        self.change(key, |object| {
            let mut body = object.body.to_vec();
            change(&mut body);
            object.body = body.into();
        });
    }

    /// Flips a bit of an object, and makes its checksums and ETag match the damaged bytes.
    pub fn alter(&self, key: &str) {
        self.tamper(key, |bytes| {
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
        });
        self.change(key, |object| {
            object.sums = object.sums.renewed(&object.body);
            let parts = object.etag.split_once('-').map_or("1", |(_, parts)| parts);
            object.etag = format!("{}-{parts}", checks::etag(&object.body));
        });
    }

    /// Refuses a retention period in a bucket without Object Lock, as Amazon does.
    pub fn check_lock(&self, until: &Option<Timestamp>) -> S3Result<()> {
        if until.is_some() && !self.state().locks {
            return Err(s3_error!(InvalidRequest, "Bucket is missing ObjectLockConfiguration"));
        }
        Ok(())
    }

    pub fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if bucket == self.bucket { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    pub fn find(&self, bucket: &str, key: &str) -> S3Result<Stored> {
        self.check_bucket(bucket)?;
        self.state().objects.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }
}
