//! The objects and uploads of one bucket, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use s3s::dto::{Metadata, Timestamp, TimestampFormat};
use s3s::{S3Result, s3_error};

use super::checks::{self, Sums};

/// What the service allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries of one list page.
    pub page: usize,
    /// The highest part number.
    pub parts: i32,
    /// The smallest part that is not the last, in bytes.
    pub min_part: usize,
    /// Whether all parts but the last must have one size.
    pub same_size: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { page: 1000, parts: 10_000, min_part: 0, same_size: true }
    }
}

/// The bucket's content; clones share it.
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
    /// A lifecycle rule deletes old versions; `None`: nobody may ask.
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
    /// In the class GLACIER.
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

    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        self.state().objects.iter().map(|(key, object)| (key.clone(), object.body.clone())).collect()
    }

    pub fn insert(&self, key: &str, body: Bytes) {
        let stored = Stored {
            etag: checks::etag(&body),
            sums: Sums::default(),
            metadata: None,
            modified: SystemTime::now(),
            archived: false,
            retained: None,
            body,
        };
        self.state().objects.insert(key.to_owned(), stored);
    }

    pub fn tamper(&self, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let object = state.objects.get_mut(key).unwrap_or_else(|| panic!("no object {key}"));
        let mut body = object.body.to_vec();
        change(&mut body);
        object.body = body.into();
    }

    /// Flips a bit of an object as if it had been stored so.
    pub fn alter(&self, key: &str) {
        self.tamper(key, |bytes| {
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
        });
        if let Some(object) = self.state().objects.get_mut(key) {
            object.sums = object.sums.renewed(&object.body);
            let parts = object.etag.split_once('-').map_or("1", |(_, parts)| parts);
            object.etag = format!("{}-{parts}", checks::etag(&object.body));
        }
    }

    pub fn open_uploads(&self) -> Vec<(String, String)> {
        self.state().uploads.iter().map(|(id, upload)| (upload.key.clone(), id.clone())).collect()
    }

    pub fn protect(&self, key: &str) {
        self.state().protected.insert(key.to_owned());
    }

    /// Moves an object to an archive class.
    pub fn archive(&self, key: &str) {
        let mut state = self.state();
        state.objects.get_mut(key).unwrap_or_else(|| panic!("no object {key}")).archived = true;
    }

    pub fn retain(&self, key: &str, seconds: u64) {
        let until = SystemTime::now() + std::time::Duration::from_secs(seconds);
        let mut state = self.state();
        state.objects.get_mut(key).unwrap_or_else(|| panic!("no object {key}")).retained = Some(until.into());
    }

    pub fn retained(&self) -> BTreeMap<String, i64> {
        let state = self.state();
        let until = |stored: &Stored| {
            let mut seconds = Vec::new();
            stored.retained.clone()?.format(TimestampFormat::EpochSeconds, &mut seconds).ok()?;
            String::from_utf8(seconds).ok()?.split('.').next()?.parse().ok()
        };
        state.objects.iter().filter_map(|(key, stored)| Some((key.clone(), until(stored)?))).collect()
    }

    pub fn lock_objects(&self) {
        let mut state = self.state();
        (state.versioned, state.locks) = (true, true);
    }

    pub fn expire_versions(&self, expires: bool) {
        self.state().expires = Some(expires);
    }

    /// Refuses a retention period in a bucket without Object Lock, as Amazon does.
    pub fn check_lock(&self, until: &Option<Timestamp>) -> S3Result<()> {
        if until.is_some() && !self.state().locks {
            return Err(s3_error!(InvalidRequest, "Bucket is missing ObjectLockConfiguration"));
        }
        Ok(())
    }

    pub fn keep_versions(&self) {
        self.state().versioned = true;
    }

    pub fn check_bucket(&self, bucket: &str) -> S3Result<()> {
        if bucket == self.bucket { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    pub fn find(&self, bucket: &str, key: &str) -> S3Result<Stored> {
        self.check_bucket(bucket)?;
        self.state().objects.get(key).cloned().ok_or_else(|| s3_error!(NoSuchKey))
    }
}
