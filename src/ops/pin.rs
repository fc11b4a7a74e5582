//! `pin` and `unpin`: protect a backup from cleanups, and end the protection.

use schemars::JsonSchema;
use serde::Serialize;

use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::catalog::layout;
use crate::catalog::marks::Mark;
use crate::model::id::BackupId;
use crate::store::Store;

/// The result of `pin` or `unpin`. Serializes as docs/json.md describes it.
#[derive(Debug, JsonSchema, Serialize)]
pub struct PinReport {
    version: u32,
    /// The backup.
    pub id: BackupId,
    /// Cleanups keep the backup.
    pub pinned: bool,
    /// A cleanup began to delete the backup before the pin. The backup may be gone in a moment.
    pub doomed: bool,
}

impl PinReport {
    /// The exit code: 3 if a person should look.
    pub fn exit(&self) -> Exit {
        if self.doomed { Exit::NeedsLook } else { Exit::Done }
    }
}

/// Pins a backup, so that no cleanup deletes it.
///
/// # Errors
/// Returns an error if there is no such backup, or if a cleanup has just deleted it.
pub async fn pin(store: &dyn Store, mark: &Mark) -> Result<PinReport> {
    let id = mark.id.clone();
    let (manifest, key) = (layout::manifest(&id), layout::pin(&id));
    if store.head(&manifest).await?.is_none() {
        return Err(missing(&id));
    }
    mark.write(store, &key, None).await?;
    // A cleanup writes its tombstone and then looks for a pin; this writes the pin and then looks for a tombstone. So at least
    // one of them sees the other. A cleanup that looked before the pin was written may still delete the backup.
    let doomed = store.head(&layout::tombstone(&id)).await?.is_some();
    if store.head(&manifest).await?.is_none() {
        store.delete(&key).await?;
        return Err(Error::failed(format!("a cleanup deleted the backup {id} just now")));
    }
    Ok(PinReport { version: 1, id, pinned: true, doomed })
}

/// Removes the pin of a backup, if it has one.
///
/// # Errors
/// Returns an error if there is no such backup.
pub async fn unpin(store: &dyn Store, id: &BackupId) -> Result<PinReport> {
    let key = layout::pin(id);
    // A pin whose manifest is lost can be removed, too.
    if store.head(&key).await?.is_none() && store.head(&layout::manifest(id)).await?.is_none() {
        return Err(missing(id));
    }
    store.delete(&key).await?;
    Ok(PinReport { version: 1, id: id.clone(), pinned: false, doomed: false })
}

fn missing(id: &BackupId) -> Error {
    Error::failed(format!("there is no backup {id}")).hint("`uzima-backup list` shows the backups")
}
