//! Where backups are kept: an S3 bucket or a local directory, behind one trait.
//!
//! A store holds objects under keys with `/` between their parts, relative to the store's root (the
//! prefix in a bucket, the backup directory). It knows nothing of backups. Large objects go up in parts
//! of one size, in any order, and exist only once [`Upload::complete`] has answered; small ones by
//! [`Store::create`], which never replaces what is there.

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

/// What a store tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// The key, relative to the store's root.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: DateTime<Utc>,
    /// Changes whenever the object is written again: the ETag in a bucket; inode, modification time and change
    /// time in a directory. `None` if the store gave none: then equal sizes prove nothing.
    pub tag: Option<String>,
    /// Why the object cannot be read now; `None` if it can be. A listing knows the storage class alone, and says
    /// `Frozen` of thawed objects too; [`Store::head`] is exact.
    pub archive: Option<ArchiveState>,
}

/// An object in an archive class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveState {
    /// It must be thawed before it can be read.
    Frozen,
    /// It is being thawed.
    Thawing,
}

/// How many objects a listing may have: 365,000 backups with a verify each, or a store that never ends its listing.
pub const MOST_OBJECTS: usize = 2_000_000;

impl Limits {
    /// Refuses an upload that cannot end well, with the class and the cause.
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

/// What a delete left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// Nothing.
    Gone,
    /// The bucket keeps versions: the object is hidden, its bytes remain.
    Hidden,
}

/// What is uploaded: a key, the size of its parts, and names that stay with it.
#[derive(Debug, Clone)]
pub struct UploadSpec {
    /// The key, relative to the store's root.
    pub key: String,
    /// Size in bytes of every part but the last.
    pub part_size: u64,
    /// The expected size of the whole in bytes, if known: a directory compares it with its free space.
    pub estimate: Option<u64>,
    /// Metadata kept with the object (a directory store drops it).
    pub metadata: Vec<(String, String)>,
    /// The object is a test that is deleted at once: it goes to the bucket's own storage class, without a retention
    /// period, and replaces an earlier probe under its key.
    pub probe: bool,
}

/// How a store protects objects from a thief of the key that writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protection {
    /// Deleted and overwritten objects stay as versions; `None` if the key may not ask or the service does not say.
    pub versions: Option<bool>,
    /// Objects can be given a retention period (StoredObject Lock); `None` as above.
    pub locks: Option<bool>,
}

/// The whole object as its writer knows it; [`Upload::complete`] holds the store to it.
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
/// Returns an error if the directory cannot be used or created, or the connection to the bucket cannot be set up.
pub async fn open(place: &Place) -> Result<Arc<dyn Store>> {
    Ok(match place {
        Place::Dir(options) => Arc::new(DirStore::new(options.clone())?),
        Place::S3(options) => Arc::new(S3Store::connect((**options).clone()).await?),
    })
}

/// A place for objects.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The place in words a person can act on (`s3://bucket/prefix/`, `/var/backups/mongodb`); no secrets.
    fn place(&self) -> String;

    /// The limits of one multi-part upload.
    fn limits(&self) -> Limits;

    /// Proves, without writing, that the store is there and may be listed.
    async fn check(&self) -> Result<()>;

    /// Writes an object, replacing what was there.
    async fn put(&self, key: &str, body: Bytes) -> Result<()>;

    /// Writes an object unless the key exists. An answer that leaves doubt (412, 409, a lost
    /// connection) is settled by reading the object back: identical bytes are a success, others
    /// [`StoreErrorKind::Exists`].
    async fn create(&self, key: &str, body: Bytes) -> Result<()>;

    /// Reads an object of at most `most` bytes; [`StoreErrorKind::NotFound`] if there is none, [`StoreErrorKind::Damaged`] if it is
    /// larger. A larger object is not read: anyone who can write to the store could fill the memory with one.
    async fn get(&self, key: &str, most: u64) -> Result<Bytes>;

    /// Reads the bytes `range` of an object; fewer than asked for is [`StoreErrorKind::Damaged`].
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes>;

    /// Asks for an object's size and time; `None` if there is none.
    async fn head(&self, key: &str) -> Result<Option<StoredObject>>;

    /// The command that thaws an archived object, for a person to run; `None` for a store without archives.
    fn thaw(&self, key: &str) -> Option<String> {
        let _ = key;
        None
    }

    /// The end of an object's retention period, if it has one that this key may see; a legal hold has no end and is
    /// [`DateTime::<Utc>::MAX_UTC`].
    async fn locked_until(&self, key: &str) -> Result<Option<DateTime<Utc>>> {
        let _ = key;
        Ok(None)
    }

    /// How the store protects objects from a thief of this key; `None` for a store without such a thing.
    async fn protection(&self) -> Result<Option<Protection>> {
        Ok(None)
    }

    /// Returns true if the settings or a lifecycle rule say that old versions of deleted objects are deleted in time;
    /// `None` if the key may not ask or the service does not say.
    async fn versions_expire(&self) -> Option<bool> {
        None
    }

    /// All objects whose key starts with `prefix`, every page, sorted by key; an error if there are more than
    /// [`MOST_OBJECTS`].
    async fn list(&self, prefix: &str) -> Result<Vec<StoredObject>>;

    /// Deletes an object; deleting what is not there is a success.
    async fn delete(&self, key: &str) -> Result<Deleted>;

    /// Deletes objects, with as few requests as the store allows. Returns an answer for each key, in their order.
    /// Objects of one call may go in any order, and a failure does not keep the others.
    async fn delete_all(&self, keys: &[String]) -> Vec<Result<Deleted>> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(self.delete(key).await);
        }
        answers
    }

    /// Begins a multi-part upload. Nothing is visible under the key until it is completed.
    async fn begin(&self, spec: &UploadSpec) -> Result<Arc<dyn Upload>>;

    /// Ends an upload that a dead process left behind, by its key and [`Upload::id`]; one that is
    /// gone is a success.
    async fn abort_left(&self, key: &str, upload_id: &str) -> Result<()>;

    /// The uploads that dead processes left behind, as keys and ids for
    /// [`abort_left`](Store::abort_left), as far as the store itself can tell. A directory can, by the
    /// locks; a bucket cannot (MinIO lists uploads for an exact key only), so there the keys and ids of
    /// uploads have to be remembered elsewhere.
    async fn leftovers(&self) -> Result<Vec<(String, String)>>;

    /// What had to be sent again so far, a line each, for the log and the manifest.
    fn retries(&self) -> Vec<String> {
        Vec::new()
    }

    /// Calls that the store was found to lack so far, each with its substitute, a line each, for `health`.
    fn lacking(&self) -> Vec<String> {
        Vec::new()
    }

    /// The store's own clock (the `Date` of its answers; the system's for a directory).
    async fn clock(&self) -> Result<DateTime<Utc>>;
}

/// Returns true if a store takes the key. Others are errors of every operation.
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

/// An upload under way. Dropped without [`complete`](Upload::complete) or [`abort`](Upload::abort),
/// it stays behind as rubbish in the store, never as an object.
#[async_trait]
pub trait Upload: Send + Sync {
    /// What names this upload to [`Store::abort_left`].
    fn id(&self) -> &str;

    /// Bytes that were sent of parts which the store has not acknowledged yet.
    fn under_way(&self) -> u64 {
        0
    }

    /// Stores part `index` (from 0). Parts may come in any order and at the same time; all have
    /// the size of [`UploadSpec::part_size`] but the last, which may be shorter.
    async fn put_part(&self, index: u32, body: Bytes) -> Result<()>;

    /// Makes the object exist, then asks the store for its size and checksum and compares them
    /// with `whole`. If they differ the object is deleted and the error is [`StoreErrorKind::Damaged`].
    async fn complete(&self, whole: &Whole) -> Result<()>;

    /// Ends the upload and frees what it stored.
    async fn abort(&self) -> Result<()>;
}

/// The longest key that S3 takes, in bytes of UTF-8.
const LONGEST_KEY: usize = 1024;

/// Refuses a key that could leave the store's root or be read in two ways.
fn check_key(key: &str) -> Result<()> {
    let wrong = if key.len() > LONGEST_KEY {
        Some("it is longer than 1,024 bytes")
    } else if key.contains('\0') {
        Some("it holds a NUL")
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
