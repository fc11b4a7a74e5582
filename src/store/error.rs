//! Errors of a store, in classes that the caller acts on.

use crate::base::error;
use std::fmt;

/// The class of an error, by what its caller does about it.
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
    /// The settings do not lead to a store: no credentials, an endpoint where no S3 service answers, or a
    /// region other than the bucket's.
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

/// A failed operation on an object: the operation, the cause, and the next step.
#[derive(Debug)]
pub struct StoreError {
    pub kind: StoreErrorKind,
    /// The operation and the object's full place, such as `cannot write s3://b/p/manifest.json`.
    pub doing: String,
    /// The cause, if possible in the store's words. It contains no secrets.
    pub cause: String,
    /// The next step for a person, if one is known.
    pub hint: Option<String>,
}

/// The result of an operation on a store.
pub type Result<T> = std::result::Result<T, StoreError>;

impl StoreError {
    /// Makes an error without a hint.
    pub fn new(kind: StoreErrorKind, doing: impl Into<String>, cause: impl fmt::Display) -> StoreError {
        StoreError { kind, doing: doing.into(), cause: cause.to_string(), hint: None }
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
    pub fn too_large(doing: impl Into<String>, size: Option<u64>, most: u64) -> StoreError {
        let limit = crate::base::units::several(most, "byte");
        let cause = match size {
            Some(size) => {
                format!("it has {}, and at most {limit} are read", crate::base::units::several(size, "byte"))
            }
            None => format!("it does not end after {limit}, and no more are read"),
        };
        StoreError::new(StoreErrorKind::Damaged, doing, cause)
            .hint("Find out who wrote this object: uzima-backup writes none of this size")
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.cause)?;
        match &self.hint {
            Some(hint) => write!(f, ". {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<StoreError> for error::Error {
    fn from(error: StoreError) -> error::Error {
        let kind = match error.kind {
            StoreErrorKind::Misconfigured => error::Kind::Usage,
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
            | StoreErrorKind::Failed => error::Kind::Failed,
        };
        let out = error::Error::new(kind, format!("{}: {}", error.doing, error.cause));
        match error.hint {
            Some(hint) => out.hint(hint),
            None => out,
        }
    }
}
