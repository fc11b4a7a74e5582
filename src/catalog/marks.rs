//! What is said about a backup after it was made: small objects beside its manifest, so that they
//! survive the database that was backed up. That a pin or an acceptance is there is what counts; its
//! content is for people. docs/format.md describes every field.

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::layout;
use crate::base::clock;
use crate::base::error::{Error, Result};
use crate::base::units;
use crate::model::id::BackupId;
use crate::store::{Store, StoreErrorKind};

/// The version of these objects' format.
pub const FORMAT: u32 = 1;

/// The largest of these objects that is read, in bytes.
pub const LARGEST: u64 = 4 << 20;

/// A pin, or an acceptance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// [`FORMAT`].
    pub format: u32,
    /// The backup.
    pub id: BackupId,
    /// When it was said.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub at: DateTime<Utc>,
    /// The machine on which it was said.
    pub host: String,
    /// Why, in a person's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A deletion that was begun. It names all keys, for once the manifest is gone nothing else does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// [`FORMAT`].
    pub format: u32,
    /// The backup.
    pub id: BackupId,
    /// The job it belonged to.
    pub job: String,
    /// When the deletion was begun.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub at: DateTime<Utc>,
    /// Why it went.
    pub reason: String,
    /// The objects that go, in this order: the manifest first, the artifact last.
    pub keys: Vec<String>,
}

/// A run that failed. It lies where the manifest would, and goes by age like a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRun {
    /// [`FORMAT`].
    pub format: u32,
    /// The id that the backup would have had.
    pub id: BackupId,
    /// The job.
    pub job: String,
    /// Name and version of the tool.
    pub tool: String,
    /// The machine it ran on.
    pub host: String,
    /// When it began.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub started_at: DateTime<Utc>,
    /// When it failed.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub failed_at: DateTime<Utc>,
    /// The exit code.
    pub exit: u8,
    /// What failed, and its causes.
    pub error: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// What went wrong on the way, before that.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl FailedRun {
    /// Reads the record of a failed run. `None`: it is gone, because a clean-up took it.
    ///
    /// # Errors
    /// The outer one if the store does not answer, the inner one if it cannot be understood.
    pub(super) async fn read(store: &dyn Store, id: &BackupId) -> Result<Option<Result<FailedRun, String>>> {
        let key = layout::failed(id);
        let bytes = match fetch(store, &key).await? {
            Some(Ok(bytes)) => bytes,
            Some(Err(why)) => return Ok(Some(Err(why))),
            None => return Ok(None),
        };
        Ok(Some(match serde_json::from_slice::<FailedRun>(&bytes) {
            Err(e) => Err(format!("{key} cannot be understood: {e}")),
            Ok(found) if found.format != FORMAT => {
                Err(format!("{key} is of the format {}, this version knows {FORMAT}", found.format))
            }
            Ok(found) if found.id != *id => Err(format!("{key} speaks of another run")),
            Ok(found) => Ok(found),
        }))
    }

    /// Writes it.
    pub async fn write(&self, store: &dyn Store) -> Result<()> {
        Ok(store.put(&layout::failed(&self.id), json(self)?).await?)
    }
}

impl Tombstone {
    /// Reads a tombstone and checks that it speaks of its own folder only: what it names is deleted.
    /// `None`: it is gone, because another clean-up has finished the deletion.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn read(store: &dyn Store, id: &BackupId) -> Result<Option<Result<Tombstone, String>>> {
        let key = layout::tombstone(id);
        let bytes = match fetch(store, &key).await? {
            Some(Ok(bytes)) => bytes,
            Some(Err(why)) => return Ok(Some(Err(why))),
            None => return Ok(None),
        };
        let own = |key: &String| layout::parse(key).is_some_and(|(of, _)| of == *id);
        Ok(Some(match serde_json::from_slice::<Tombstone>(&bytes) {
            Err(e) => Err(format!("{key} cannot be understood: {e}")),
            Ok(found) if found.format != FORMAT => {
                Err(format!("{key} is of the format {}, this version knows {FORMAT}", found.format))
            }
            Ok(found) if found.id != *id || !found.keys.iter().all(own) => {
                Err(format!("{key} speaks of another backup"))
            }
            Ok(found) => Ok(found),
        }))
    }

    /// Writes it: from now on the deletion is begun.
    pub async fn write(&self, store: &dyn Store) -> Result<()> {
        Ok(store.put(&layout::tombstone(&self.id), json(self)?).await?)
    }
}

/// That a backup is pinned, as those who decide and tell see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Why, in a person's words, if they said so and it can be read.
    pub reason: Option<String>,
}

impl Pin {
    /// Reads a pin that is there: it holds whatever its content is. One that came off meanwhile has none.
    ///
    /// # Errors
    /// If the store does not answer.
    pub async fn read(store: &dyn Store, id: &BackupId) -> Result<Pin> {
        match store.get(&layout::pin(id), LARGEST).await {
            Ok(bytes) => {
                let mark = serde_json::from_slice::<Mark>(&bytes).ok();
                Ok(Pin { reason: mark.and_then(|mark| mark.reason) })
            }
            // A pin holds also while it is archived.
            Err(e)
                if matches!(
                    e.kind,
                    StoreErrorKind::NotFound | StoreErrorKind::Damaged | StoreErrorKind::Archived
                ) =>
            {
                Ok(Pin::default())
            }
            Err(e) => Err(e.into()),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            None => f.write_str("pinned"),
            Some(reason) => write!(f, "pinned ({})", units::one_line(reason)),
        }
    }
}

impl Mark {
    /// Writes it under a key of the backup.
    pub async fn write(&self, store: &dyn Store, key: &str) -> Result<()> {
        Ok(store.put(key, json(self)?).await?)
    }
}

/// Reads one of these objects. `None`: it is gone, because a clean-up took it.
///
/// # Errors
/// The outer one if the store does not answer, the inner one if the object is too large or archived.
pub(super) async fn fetch(store: &dyn Store, key: &str) -> Result<Option<Result<Bytes, String>>> {
    match store.get(key, LARGEST).await {
        Ok(bytes) => Ok(Some(Ok(bytes))),
        Err(e) if e.kind == StoreErrorKind::NotFound => Ok(None),
        Err(e) if e.kind == StoreErrorKind::Damaged => {
            Ok(Some(Err(format!("{key} cannot be understood: {}", e.cause))))
        }
        Err(e) if e.kind == StoreErrorKind::Archived => Ok(Some(Err(e.to_string()))),
        Err(e) => Err(e.into()),
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<Bytes> {
    let mut json = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::failed("cannot write what is said about a backup").caused_by(e))?;
    json.push(b'\n');
    Ok(json.into())
}
