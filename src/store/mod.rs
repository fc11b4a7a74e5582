//! Where backups are kept: an S3 bucket or a local directory, behind one trait.
//!
//! A store holds objects under keys with `/` between their parts, relative to the store's root (the prefix in
//! a bucket, the backup directory). It knows nothing of backups. Large objects are uploaded in parts of equal
//! size, in any order, and exist when [`Upload::complete`] has returned. Small objects are written by
//! [`Store::create`], which never replaces an object.

pub mod checksum;
pub mod dir;
pub mod error;
pub mod leftovers;
pub mod s3;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::config::place::Place;
use crate::config::store::Limits;
use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

pub use dir::DirStore;
pub use error::{Result, StoreError, StoreErrorKind};
pub use s3::S3Store;

/// The facts that a store reports about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// The key, relative to the store's root.
    pub key: String,
    /// In bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: DateTime<Utc>,
    /// Changes whenever the object is written again: the ETag in a bucket; inode, modification time and
    /// change time in a directory. `None` if the store reports none: then equal sizes prove nothing.
    pub tag: Option<String>,
    /// `None` if the object can be read. A listing contains only the storage class, and reports thawed
    /// objects as `Frozen` as well; [`Store::head`] is exact.
    pub archive: Option<ArchiveState>,
}

/// The state of an object in an archive class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveState {
    /// It must be thawed before it can be read.
    Frozen,
    /// It is being thawed.
    Thawing,
}

/// The most objects of a listing: 365,000 backups with several objects each. More mean that the listing does
/// not end.
const MOST_OBJECTS: usize = 2_000_000;

impl Limits {
    /// Checks an upload against the limits. Returns the class and the cause of the error.
    fn check(&self, spec: &UploadSpec) -> std::result::Result<(), (StoreErrorKind, String)> {
        let (size, min, max) = (spec.part_size, self.min_part, self.max_part);
        if size < min || size > max || size == 0 {
            return Err((
                StoreErrorKind::Misconfigured,
                format!("parts of {size} bytes are not within {min} to {max}"),
            ));
        }
        let parts = spec.estimate.unwrap_or(0).div_ceil(size);
        if parts > u64::from(self.max_parts) {
            let cause = format!("about {parts} parts are needed, {} are allowed", self.max_parts);
            return Err((StoreErrorKind::Full, cause));
        }
        Ok(())
    }
}

/// What remains after a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    Gone,
    /// The bucket keeps versions: the object is hidden, but its bytes remain.
    Hidden,
}

/// The description of an upload.
#[derive(Debug, Clone)]
pub struct UploadSpec {
    /// The key, relative to the store's root.
    pub key: String,
    /// Size in bytes of every part but the last.
    pub part_size: u64,
    /// The expected size of the whole in bytes, if known: a directory compares it with its free space.
    pub estimate: Option<u64>,
    /// Metadata of the object. A directory does not keep it.
    pub metadata: Vec<(String, String)>,
    /// The object is a test that is deleted at once. It has the bucket's default storage class and no
    /// retention period, and replaces an earlier probe under its key.
    pub probe: bool,
}

/// The protection of objects from a thief of the key that writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protection {
    /// Deleted and overwritten objects stay as versions; `None` if the key may not ask or the service does
    /// not say.
    pub versions: Option<bool>,
    /// Objects can be given a retention period (Object Lock); `None` as above.
    pub locks: Option<bool>,
}

/// The whole object as its writer knows it. [`Upload::complete`] compares the stored object with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// Size in bytes.
    pub size: u64,
    /// CRC-64/NVME of all bytes.
    pub crc64nvme: u64,
    /// The number of parts given to [`Upload::put_part`].
    pub parts: u32,
}

/// Opens the store of a place.
///
/// # Errors
/// Returns an error if the directory cannot be used or created, or the connection to the bucket cannot be set
/// up.
pub async fn open(place: &Place) -> Result<Arc<dyn Store>> {
    Ok(match place {
        Place::Dir(options) => Arc::new(DirStore::new(options.clone())?),
        Place::S3(options) => Arc::new(S3Store::connect((**options).clone()).await?),
    })
}

/// Opens the store of a place that must have backups: unlike [`open`], it does not create a directory.
///
/// # Errors
/// Returns an error if the place is a directory that does not exist (it may be misspelt, or on a disk that is not mounted),
/// and as [`open`] does.
pub async fn open_existing(place: &Place) -> crate::base::error::Result<Arc<dyn Store>> {
    if let Place::Dir(dir) = place
        && !dir.root.try_exists().unwrap_or(true)
    {
        let what = format!("there is no backup directory {}", dir.root.display());
        return Err(crate::base::error::Error::failed(what).hint(
            "If there were backups in it, mount the disk, or correct --dir or BACKUP_DIR; if not, the first backup \
             creates it",
        ));
    }
    Ok(open(place).await?)
}

/// A place for objects.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The place for messages (`s3://bucket/prefix/`, `/var/backups/mongodb`), without secrets.
    fn place(&self) -> String;

    /// The limits of one multi-part upload.
    fn limits(&self) -> Limits;

    /// Checks, without writing, that the store exists and can be listed.
    async fn check(&self) -> Result<()>;

    /// Writes an object, and replaces an existing one.
    async fn put(&self, key: &str, body: Bytes) -> Result<()>;

    /// Writes an object unless the key exists. After an unclear answer (412, 409, a lost connection) the
    /// object is read back: identical bytes are a success, other bytes are [`StoreErrorKind::Exists`].
    async fn create(&self, key: &str, body: Bytes) -> Result<()>;

    /// Reads an object of at most `most` bytes; [`StoreErrorKind::NotFound`] if there is none,
    /// [`StoreErrorKind::Damaged`] if it is larger. A larger object is not read: anyone who can write to the
    /// store could fill the memory with one.
    async fn get(&self, key: &str, most: u64) -> Result<Bytes>;

    /// Reads a range of an object. A shorter object is [`StoreErrorKind::Damaged`].
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes>;

    /// Returns the facts about an object; `None` if it does not exist.
    async fn head(&self, key: &str) -> Result<Option<StoredObject>>;

    /// The command by which a person thaws an archived object; `None` for a store without archive classes.
    fn thaw(&self, key: &str) -> Option<String> {
        let _ = key;
        None
    }

    /// The end of an object's retention period; `None` if it has none, or the credentials may not see it. A
    /// legal hold has no end and is [`DateTime::<Utc>::MAX_UTC`].
    async fn locked_until(&self, key: &str) -> Result<Option<DateTime<Utc>>> {
        let _ = key;
        Ok(None)
    }

    /// The protection of objects from a thief of the credentials; `None` for a directory.
    async fn protection(&self) -> Result<Option<Protection>> {
        Ok(None)
    }

    /// Returns true if the settings or a lifecycle rule say that old versions of deleted objects are deleted
    /// in time; `None` if that is unknown.
    async fn versions_expire(&self) -> Option<bool> {
        None
    }

    /// All objects whose key starts with `prefix`, every page, sorted by key; an error if there are more than
    /// [`MOST_OBJECTS`].
    async fn list(&self, prefix: &str) -> Result<Vec<StoredObject>>;

    /// Deletes an object. A missing object is a success.
    async fn delete(&self, key: &str) -> Result<Deleted>;

    /// Deletes objects, with as few requests as the store allows. Returns a result for each key, in the same
    /// order. The objects may be deleted in any order, and a failure does not stop the others.
    async fn delete_all(&self, keys: &[String]) -> Vec<Result<Deleted>> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(self.delete(key).await);
        }
        answers
    }

    /// Begins a multi-part upload. Nothing is visible under the key until it is completed.
    async fn begin(&self, spec: &UploadSpec) -> Result<Arc<dyn Upload>>;

    /// Aborts an upload that a dead process left behind, by its key and [`Upload::id`]. A missing upload is a
    /// success.
    async fn abort_left(&self, key: &str, upload_id: &str) -> Result<()>;

    /// The uploads that dead processes left behind, as keys and ids for [`abort_left`](Store::abort_left). A
    /// directory finds them by their locks. A bucket returns none (MinIO lists uploads for an exact key
    /// only), so [`leftovers`] remembers them.
    async fn leftovers(&self) -> Result<Vec<(String, String)>>;

    /// Summaries of the requests that were sent again so far, for the log and the manifest.
    fn retries(&self) -> Vec<String> {
        Vec::new()
    }

    /// The calls that the file system lacks, each with its substitute, for `health`.
    fn lacking(&self) -> Vec<String> {
        Vec::new()
    }

    /// The store's own clock (the `Date` of its answers; the system's for a directory).
    async fn clock(&self) -> Result<DateTime<Utc>>;
}

/// Returns true if the key is valid. Every operation fails for an invalid key.
pub fn is_key(key: &str) -> bool {
    check_key(key).is_ok()
}

/// Checks that a listing of `place` with `count` objects so far is not longer than [`MOST_OBJECTS`].
fn listable(place: &str, count: usize) -> Result<()> {
    if count <= MOST_OBJECTS {
        return Ok(());
    }
    let cause = format!("it holds more than {} objects", crate::base::units::count(MOST_OBJECTS as u64));
    Err(StoreError::new(StoreErrorKind::Failed, format!("cannot list {place}"), cause).hint(
        "Give the backups a prefix or a directory of their own (S3_PREFIX, BACKUP_DIR); if they have one, the store's \
         listing does not end",
    ))
}

/// An upload under way. If it is dropped without [`complete`](Upload::complete) or [`abort`](Upload::abort),
/// its parts stay in the store, but never become an object.
#[async_trait]
pub trait Upload: Send + Sync {
    /// The id of this upload for [`Store::abort_left`].
    fn id(&self) -> &str;

    /// The sent bytes of parts that the store has not acknowledged yet.
    fn under_way(&self) -> u64 {
        0
    }

    /// Stores part `index` (from 0). Parts may come in any order and at the same time. All have the size
    /// [`UploadSpec::part_size`]; only the last may be shorter.
    async fn put_part(&self, index: u32, body: Bytes) -> Result<()>;

    /// Makes the object exist, and compares its size and checksum in the store with `whole`. If they differ,
    /// the object is deleted and the error is [`StoreErrorKind::Damaged`].
    async fn complete(&self, whole: &Whole) -> Result<()>;

    /// Ends the upload and frees what it stored.
    async fn abort(&self) -> Result<()>;
}

/// The longest key of S3, in bytes of UTF-8.
const LONGEST_KEY: usize = 1024;

/// Refuses keys that could leave the store's root or are ambiguous.
fn check_key(key: &str) -> Result<()> {
    let wrong = if key.len() > LONGEST_KEY {
        Some("it is longer than 1,024 bytes")
    } else if key.contains('\0') {
        Some("it contains a NUL")
    } else if key.split('/').any(str::is_empty) {
        Some("a part between slashes is empty")
    } else if key.split('/').any(|part| part == "." || part == "..") {
        Some("`.` and `..` are not names")
    } else {
        None
    };
    match wrong {
        Some(cause) => {
            Err(StoreError::new(StoreErrorKind::Failed, format!("cannot use the key {key:?}"), cause))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        for good in ["a", "2026/11/x/dump.tar.gz", "a b+c%d\u{e9}", ".hidden", "..."] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\0b", &"x".repeat(1025)] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
    }
}
