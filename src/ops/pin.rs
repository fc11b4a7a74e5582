//! `pin` and `unpin`: whether a clean-up may ever delete a backup.

use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::catalog::layout;
use crate::catalog::marks::Mark;
use crate::model::id::BackupId;
use crate::store::Store;

/// What is so now.
#[derive(Debug)]
pub struct PinReport {
    /// The backup.
    pub id: BackupId,
    /// Whether it is pinned.
    pub pinned: bool,
    /// A clean-up has begun to delete it: it may be gone in a moment.
    pub doomed: bool,
}

impl PinReport {
    /// 0, or 3 if a person should look.
    pub fn exit(&self) -> Exit {
        if self.doomed { Exit::NeedsLook } else { Exit::Done }
    }
}

/// Keeps a backup from every clean-up.
pub async fn pin(store: &dyn Store, mark: &Mark) -> Result<PinReport> {
    let id = mark.id.clone();
    let (manifest, key) = (layout::manifest(&id), layout::pin(&id));
    if store.head(&manifest).await?.is_none() {
        return Err(missing(&id));
    }
    mark.write(store, &key).await?;
    // A clean-up looks for a pin after it has written its tombstone, as this looks for a tombstone: one
    // of them sees the other. One that began before the pin may already be past its look.
    let doomed = store.head(&layout::tombstone(&id)).await?.is_some();
    if store.head(&manifest).await?.is_none() {
        store.delete(&key).await?;
        return Err(Error::failed(format!("a clean-up deleted the backup {id} in this very moment")));
    }
    Ok(PinReport { id, pinned: true, doomed })
}

/// Lets retention decide again. What was not pinned stays so.
pub async fn unpin(store: &dyn Store, id: &BackupId) -> Result<PinReport> {
    let key = layout::pin(id);
    // The pin of a lost manifest must come off as well.
    if store.head(&key).await?.is_none() && store.head(&layout::manifest(id)).await?.is_none() {
        return Err(missing(id));
    }
    store.delete(&key).await?;
    Ok(PinReport { id: id.clone(), pinned: false, doomed: false })
}

fn missing(id: &BackupId) -> Error {
    Error::failed(format!("there is no backup {id}")).hint("`uzima-backup list` shows the backups")
}
