//! The stores that keep backups: an S3 bucket or a local directory, behind one trait.
//!
//! A store holds objects under keys with `/` between their parts, relative to the store's root (the prefix in
//! a bucket, the backup directory). It knows nothing of backups. Large objects are uploaded in parts of equal
//! size, in any order, and exist when [`Upload::complete`] has returned. Small objects are written by
//! [`Store::create`], which never replaces an object.

pub mod checksum;
pub mod dir;
pub mod leftovers;
pub mod mirror;
pub mod s3;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::base::error::{Error, Kind, Result};
use crate::base::units;
use crate::config::place::Place;
use crate::config::store::Limits;

pub use dir::DirStore;
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

/// The settings of a bucket that protect objects if the key that writes them is stolen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protection {
    /// Deleted and overwritten objects stay as versions; `None` if the key may not read this setting or the
    /// service does not report it.
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
pub async fn open(place: &Place) -> StoreResult<Arc<dyn Store>> {
    Ok(match place {
        Place::Dir(options) => {
            let options = options.clone();
            Arc::new(dir::blocking(|| DirStore::new(options)).await?)
        }
        Place::S3(options) => Arc::new(S3Store::connect((**options).clone()).await?),
    })
}

/// Opens the store of a place that must have backups: unlike [`open`], it does not create a directory.
///
/// # Errors
/// Returns an error if the place is a directory that does not exist (it may be misspelt, or on a disk that is
/// not mounted), and as [`open`] does.
pub async fn open_existing(place: &Place) -> Result<Arc<dyn Store>> {
    if let Place::Dir(dir) = place
        && !tokio::fs::try_exists(&dir.root).await.unwrap_or(true)
    {
        let what = format!("there is no backup directory {}", dir.root.display());
        return Err(Error::failed(what).hint(
            "If there were backups in it, mount the disk, or correct --dir or BACKUP_DIR; if not, the first backup \
             creates it",
        ));
    }
    Ok(open(place).await?)
}

/// The class of an error, which decides how the caller reacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// No object under the key.
    NotFound,
    /// A create-only write found another object.
    Exists,
    /// The credentials lack a permission (403).
    Denied,
    /// The bucket or directory does not exist.
    NoPlace,
    /// The settings are wrong: there are no credentials, no S3 service answers at the endpoint, or the bucket is
    /// in another region.
    Misconfigured,
    /// The store does not answer, and has not answered before.
    Silent,
    /// The clocks of this machine and the store differ too much.
    ClockSkew,
    /// The stored object differs from the sent one, or is larger than an object of its kind can be.
    Damaged,
    /// The object is in an archive class, and must be thawed before it can be read.
    Archived,
    /// The object is under a retention period or a legal hold and cannot be deleted yet.
    Locked,
    /// No room: the disk is full or the upload would need more parts than allowed.
    Full,
    /// Any other failure of the network, the service or the file system.
    Failed,
}

impl StoreErrorKind {
    /// Returns true if the object is missing, or cannot be what its manifest says.
    pub fn is_fault(self) -> bool {
        matches!(self, StoreErrorKind::NotFound | StoreErrorKind::Damaged)
    }
}

/// A failed operation on an object: the operation, the cause, and the next step.
#[derive(Debug, Clone)]
pub struct StoreError {
    pub kind: StoreErrorKind,
    /// The operation and the object's full place, such as `cannot write s3://b/p/manifest.json`.
    pub doing: String,
    /// The cause, if possible in the store's words. It contains no secrets.
    pub cause: String,
    /// The next step for the user; `None` if it is not known.
    pub hint: Option<String>,
}

/// The result of an operation on a store.
pub type StoreResult<T> = std::result::Result<T, StoreError>;

impl StoreError {
    /// Makes an error without a hint.
    pub fn new(kind: StoreErrorKind, doing: impl Into<String>, cause: impl fmt::Display) -> StoreError {
        StoreError { kind, doing: doing.into(), cause: cause.to_string(), hint: None }
    }

    /// Makes an error of the kind `Failed` without a hint.
    fn failed(doing: impl Into<String>, cause: impl fmt::Display) -> StoreError {
        StoreError::new(StoreErrorKind::Failed, doing, cause)
    }

    /// Makes an error of the kind `Damaged` without a hint.
    fn damaged(doing: impl Into<String>, cause: impl fmt::Display) -> StoreError {
        StoreError::new(StoreErrorKind::Damaged, doing, cause)
    }

    /// The cause and the next step, without the operation.
    pub fn reason(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}. {hint}", self.cause),
            None => self.cause.clone(),
        }
    }

    /// Adds the next step.
    pub fn hint(mut self, hint: impl Into<String>) -> StoreError {
        self.hint = Some(hint.into());
        self
    }

    /// The error of an object that is larger than its reader accepts. `size` is `None` if it is unknown.
    fn too_large(doing: impl Into<String>, size: Option<u64>, most: u64) -> StoreError {
        let limit = units::several(most, "byte");
        let cause = match size {
            Some(size) => format!("it has {}, more than the limit of {limit}", units::several(size, "byte")),
            None => format!("it is longer than the limit of {limit}"),
        };
        StoreError::damaged(doing, cause)
            .hint("Find out who wrote this object: uzima-backup never writes objects of this size")
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.reason())
    }
}

impl std::error::Error for StoreError {}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        let kind = match error.kind {
            StoreErrorKind::Misconfigured => Kind::Usage,
            StoreErrorKind::NotFound
            | StoreErrorKind::Exists
            | StoreErrorKind::Denied
            | StoreErrorKind::NoPlace
            | StoreErrorKind::Silent
            | StoreErrorKind::ClockSkew
            | StoreErrorKind::Damaged
            | StoreErrorKind::Archived
            | StoreErrorKind::Locked
            | StoreErrorKind::Full
            | StoreErrorKind::Failed => Kind::Failed,
        };
        let out = Error::new(kind, format!("{}: {}", error.doing, error.cause)).of_store();
        match error.hint {
            Some(hint) => out.hint(hint),
            None => out,
        }
    }
}

/// A place for objects.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// The place for messages (`s3://bucket/prefix/`, `/var/backups/mongodb`), without secrets.
    fn place(&self) -> String;

    /// The limits of one multi-part upload.
    fn limits(&self) -> Limits;

    /// Checks, without writing, that the store exists and can be listed.
    async fn check(&self) -> StoreResult<()>;

    /// Writes an object, and replaces an existing one.
    async fn put(&self, key: &str, body: Bytes) -> StoreResult<()>;

    /// Writes an object unless the key exists. After an unclear answer (412, 409, a lost connection) the
    /// object is read back: identical bytes are a success, other bytes are [`StoreErrorKind::Exists`].
    async fn create(&self, key: &str, body: Bytes) -> StoreResult<()>;

    /// Reads an object of at most `most` bytes; [`StoreErrorKind::NotFound`] if there is none,
    /// [`StoreErrorKind::Damaged`] if it is larger. A larger object is not read: anyone who can write to the
    /// store could fill the memory with one.
    async fn get(&self, key: &str, most: u64) -> StoreResult<Bytes>;

    /// Reads a range of an object. A shorter object is [`StoreErrorKind::Damaged`].
    async fn get_range(&self, key: &str, range: Range<u64>) -> StoreResult<Bytes>;

    /// Returns the facts about an object; `None` if it does not exist.
    async fn head(&self, key: &str) -> StoreResult<Option<StoredObject>>;

    /// Returns the command with which a person thaws an archived object; `None` for a store without archive classes.
    fn thaw(&self, _key: &str) -> Option<String> {
        None
    }

    /// Returns the end of an object's retention period; `None` if it has none, or the credentials may not see it. A
    /// legal hold has no end and is [`DateTime::<Utc>::MAX_UTC`].
    async fn locked_until(&self, _key: &str) -> StoreResult<Option<DateTime<Utc>>> {
        Ok(None)
    }

    /// Returns the settings that protect objects if the credentials are stolen; `None` for a directory.
    async fn protection(&self) -> StoreResult<Option<Protection>> {
        Ok(None)
    }

    /// Returns true if the settings or a lifecycle rule say that old versions of deleted objects are expected
    /// or will be deleted; `None` if that is unknown.
    async fn versions_expire(&self) -> Option<bool> {
        None
    }

    /// Returns all objects whose key starts with `prefix`, sorted by key. It is an error if there are more than
    /// [`MOST_OBJECTS`].
    async fn list(&self, prefix: &str) -> StoreResult<Vec<StoredObject>>;

    /// Deletes an object. A missing object is a success.
    async fn delete(&self, key: &str) -> StoreResult<Deleted>;

    /// Deletes objects, with as few requests as the store allows. Returns a result for each key, in the same
    /// order. The objects may be deleted in any order, and a failure does not stop the others.
    async fn delete_all(&self, keys: &[String]) -> Vec<StoreResult<Deleted>> {
        let mut answers = Vec::with_capacity(keys.len());
        for key in keys {
            answers.push(self.delete(key).await);
        }
        answers
    }

    /// Begins a multi-part upload. Nothing is visible under the key until it is completed.
    async fn begin(&self, spec: &UploadSpec) -> StoreResult<Arc<dyn Upload>>;

    /// Aborts an upload that a dead process left behind, by its key and [`Upload::id`]. A missing upload is a
    /// success.
    async fn abort_left(&self, key: &str, upload_id: &str) -> StoreResult<()>;

    /// Returns the uploads that dead processes left behind, as keys and ids for [`abort_left`](Store::abort_left). A
    /// directory finds them by their locks. A bucket returns none (MinIO lists uploads for an exact key
    /// only), so [`leftovers`] remembers them.
    async fn leftovers(&self) -> StoreResult<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    /// Summaries of the requests that were sent again so far, for the log and the manifest.
    fn retries(&self) -> Vec<String> {
        Vec::new()
    }

    /// The calls that the file system lacks, each with its substitute, for `health`.
    fn lacking(&self) -> Vec<String> {
        Vec::new()
    }

    /// The store's own clock (the `Date` of its answers; the system's for a directory).
    async fn clock(&self) -> StoreResult<DateTime<Utc>>;
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
    async fn put_part(&self, index: u32, body: Bytes) -> StoreResult<()>;

    /// Makes the object exist, and compares its size and checksum in the store with `whole`. If they differ,
    /// the object is deleted and the error is [`StoreErrorKind::Damaged`].
    async fn complete(&self, whole: &Whole) -> StoreResult<()>;

    /// Aborts the upload and deletes its parts.
    async fn abort(&self) -> StoreResult<()>;
}

/// Returns true if the key is valid. Every operation fails for an invalid key.
pub fn is_key(key: &str) -> bool {
    check_key(key).is_ok()
}

/// The longest key of S3, in bytes of UTF-8.
const LONGEST_KEY: usize = 1024;

/// Refuses keys that could leave the store's root or are ambiguous.
fn check_key(key: &str) -> StoreResult<()> {
    let cause = if key.len() > LONGEST_KEY {
        "it is longer than 1,024 bytes"
    } else if key.contains('\0') {
        "it contains a NUL character"
    } else if key.split('/').any(str::is_empty) {
        "a part between slashes is empty"
    } else if key.split('/').any(|part| part == "." || part == "..") {
        "`.` and `..` are not allowed"
    } else {
        return Ok(());
    };
    Err(StoreError::failed(format!("cannot use the key {key:?}"), cause))
}

/// The most objects of a listing: 365,000 backups with several objects each. A longer listing
/// probably never ends.
const MOST_OBJECTS: usize = 2_000_000;

/// Checks that a listing of `place` with `count` objects so far is not longer than [`MOST_OBJECTS`].
fn check_listing(place: &str, count: usize) -> StoreResult<()> {
    if count <= MOST_OBJECTS {
        return Ok(());
    }
    let cause = format!("it holds more than {} objects", units::count(MOST_OBJECTS as u64));
    Err(StoreError::failed(format!("cannot list {place}"), cause).hint(
        "Give the backups a prefix or a directory of their own (S3_BACKUP_PREFIX, BACKUP_DIR); \
         if they have one, the store sends an endless listing",
    ))
}

/// Checks the key and the expected size of an upload to `place`.
fn check_upload(limits: &Limits, spec: &UploadSpec, place: &str) -> StoreResult<()> {
    check_key(&spec.key)?;
    let error = |kind, cause: String| Err(StoreError::new(kind, format!("cannot write {place}"), cause));
    let (size, min, max) = (spec.part_size, limits.min_part, limits.max_part);
    if size < min || size > max || size == 0 {
        let cause = format!("the part size of {size} bytes is not between {min} and {max}");
        return error(StoreErrorKind::Misconfigured, cause);
    }
    let parts = spec.estimate.unwrap_or(0).div_ceil(size);
    if parts > u64::from(limits.max_parts) {
        let cause = format!("it needs about {parts} parts, but only {} are allowed", limits.max_parts);
        return error(StoreErrorKind::Full, cause);
    }
    Ok(())
}

/// Checks the number and size of a part before it is written to `place`.
fn check_part(limits: &Limits, index: u32, body: &[u8], part_size: u64, place: &str) -> StoreResult<()> {
    let error = |kind, cause: String| Err(StoreError::new(kind, format!("cannot write {place}"), cause));
    if index >= limits.max_parts {
        let cause = format!("part {} is beyond the limit of {} parts", index + 1, limits.max_parts);
        return error(StoreErrorKind::Full, cause);
    }
    if body.is_empty() || body.len() as u64 > part_size {
        let cause = format!("part {} has {} bytes, but must have 1 to {part_size}", index + 1, body.len());
        return error(StoreErrorKind::Failed, cause);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_leave_the_root_or_are_ambiguous_are_refused() {
        for good in ["a", "2026/11/x/dump.tar.gz", "a b+c%d\u{e9}", ".hidden", "..."] {
            assert!(check_key(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a\0b", &"x".repeat(1025)] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
    }
}
