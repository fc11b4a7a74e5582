//! Small objects beside the manifest that say something about a backup after it was made. There they survive the
//! database that was backed up. A pin or an acceptance counts if the object exists; its content is for people.
//! docs/format.md describes every field.

use std::fmt;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::trust::Trust;
use super::{Signed, layout};
use crate::base::clock;
use crate::base::error::{Error, Result};
use crate::base::minisign::SigningKey;
use crate::base::units;
use crate::model::id::BackupId;
use crate::store::{Store, StoreErrorKind};

/// The version of the format of these objects.
pub const FORMAT: u32 = 1;

/// The largest object of this kind that is read, in bytes.
pub const LARGEST: u64 = 4 << 20;

/// A pin, or an acceptance.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Mark {
    pub format: u32,
    pub id: BackupId,
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub at: DateTime<Utc>,
    /// The machine where the command ran.
    pub host: String,
    /// The reason in a person's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A deletion that has begun. It names all keys, because nothing else does once the manifest is gone.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct Tombstone {
    pub format: u32,
    pub id: BackupId,
    pub job: String,
    /// When the deletion began.
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub at: DateTime<Utc>,
    /// The reason for the deletion.
    pub reason: String,
    /// The objects in the order of their deletion: the manifest first, the artifact last.
    pub keys: Vec<String>,
}

/// A failed run. The object is in the folder that the backup would have, and is deleted by age like a backup.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
pub struct FailedRun {
    pub format: u32,
    /// The id that the backup would have.
    pub id: BackupId,
    pub job: String,
    /// The name and version of the program.
    pub tool: String,
    /// The machine of the run.
    pub host: String,
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub started_at: DateTime<Utc>,
    #[serde(deserialize_with = "clock::deserialize_clamped")]
    pub failed_at: DateTime<Utc>,
    pub exit: u8,
    /// The selection in words if the run was to back up only a part of its job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial: Option<String>,
    /// The failure and its causes.
    pub error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_step: Option<String>,
    /// Problems during the run before the failure.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl FailedRun {
    /// Reads the record of a failed run, as [`read`] does.
    pub(super) async fn read(store: &dyn Store, id: &BackupId) -> Result<Option<Result<FailedRun, String>>> {
        let check = |found: &FailedRun| {
            check_format(found.format)?;
            if found.id == *id { Ok(()) } else { Err("belongs to another run".into()) }
        };
        read(store, &layout::failed(id), check).await
    }

    /// The record of a failed run of an encrypted job as everybody may read it: a message may name a namespace.
    pub fn readable(&self) -> FailedRun {
        FailedRun {
            partial: self.partial.as_ref().map(|_| "its selection is encrypted".into()),
            error: format!(
                "the run failed with the exit code {}; its backups are encrypted, so the reason is only in the log and the \
                 mails of {}",
                self.exit, self.host
            ),
            next_step: None,
            notes: Vec::new(),
            ..self.clone()
        }
    }

    /// Writes the record of a failed run.
    pub async fn write(&self, store: &dyn Store) -> Result<()> {
        write(store, &layout::failed(&self.id), self).await
    }
}

impl Tombstone {
    /// Reads a tombstone, as [`read`] does. It may name only objects in its own folder, because they will be deleted.
    pub(super) async fn read(store: &dyn Store, id: &BackupId) -> Result<Option<Result<Tombstone, String>>> {
        let own = |key: &String| layout::parse(key).is_some_and(|(folder, _)| folder == *id);
        let check = |found: &Tombstone| {
            check_format(found.format)?;
            let fits = found.id == *id && found.keys.iter().all(own);
            if fits { Ok(()) } else { Err("names another backup".into()) }
        };
        read(store, &layout::tombstone(id), check).await
    }

    /// Writes the tombstone. With this, the deletion has begun.
    pub async fn write(&self, store: &dyn Store) -> Result<()> {
        write(store, &layout::tombstone(&self.id), self).await
    }
}

fn check_format(format: u32) -> Result<(), String> {
    match format {
        FORMAT => Ok(()),
        _ => Err(format!("has the format {format}, but this version only knows {FORMAT}")),
    }
}

/// The pin of a backup, for decisions and messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The reason in a person's words; `None` if there is none or the object cannot be read.
    pub reason: Option<String>,
}

impl Pin {
    /// Reads a pin that is listed. It counts whatever its content is, so a pin that cannot be read, is archived or was
    /// removed since is returned without a reason.
    ///
    /// # Errors
    /// Returns an error if the store does not answer.
    pub(super) async fn read(store: &dyn Store, id: &BackupId) -> Result<Pin> {
        let mark = read::<Mark>(store, &layout::pin(id), |_| Ok(())).await?;
        Ok(Pin { reason: mark.and_then(Result::ok).and_then(|mark| mark.reason) })
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
    /// Writes the mark under `key`, which is the key of a pin or an acceptance. An acceptance is signed if there is a key.
    pub async fn write(&self, store: &dyn Store, key: &str, signing: Option<&SigningKey>) -> Result<()> {
        write_signed(store, key, self, signing).await
    }
}

/// Reads an object of JSON and checks it. Returns `None` if a cleanup has deleted it since the listing.
///
/// # Errors
/// The outer error says that the store did not answer, the inner error why the object cannot be used: it is too large,
/// archived or not JSON of this type, or `check` refuses it with words that follow the key.
pub(super) async fn read<T: DeserializeOwned>(
    store: &dyn Store,
    key: &str,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<Option<Result<T, String>>> {
    Ok(read_signed(store, key, &Trust::default(), check).await?.map(|(found, _)| found))
}

/// Like [`read`], with the signature of the object.
pub(super) async fn read_signed<T: DeserializeOwned>(
    store: &dyn Store,
    key: &str,
    trust: &Trust,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<Option<(Result<T, String>, Signed)>> {
    let understood = |bytes: Bytes| {
        let found: T =
            serde_json::from_slice(&bytes).map_err(|e| format!("{key} cannot be understood: {e}"))?;
        check(&found).map_err(|why| format!("{key} {why}"))?;
        Ok(found)
    };
    match store.get(key, LARGEST).await {
        Ok(bytes) => {
            let signed = trust.check(store, &layout::signature(key), &bytes).await?;
            Ok(Some((understood(bytes), signed)))
        }
        Err(e) => match e.kind {
            StoreErrorKind::NotFound => Ok(None),
            StoreErrorKind::Damaged => {
                Ok(Some((Err(format!("{key} cannot be understood: {}", e.cause)), trust.unread())))
            }
            StoreErrorKind::Archived => Ok(Some((Err(e.to_string()), trust.unread()))),
            _ => Err(e.into()),
        },
    }
}

/// Writes an object as indented JSON.
async fn write(store: &dyn Store, key: &str, value: &impl Serialize) -> Result<()> {
    write_signed(store, key, value, None).await
}

/// Writes an object as indented JSON, after its signature if there is a key.
pub(super) async fn write_signed(
    store: &dyn Store,
    key: &str,
    value: &impl Serialize,
    signing: Option<&SigningKey>,
) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::failed(format!("cannot write {key}")).caused_by(e))?;
    json.push(b'\n');
    if let Some(signing) = signing {
        store.put(&layout::signature(key), signing.sign(&json, key).into()).await?;
    }
    Ok(store.put(key, json.into()).await?)
}
