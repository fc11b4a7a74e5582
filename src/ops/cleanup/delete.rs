//! Deleting a backup so that a kill at any step is made good by the next run: tombstone, manifest, the
//! other objects, the artifact, tombstone. Without the manifest nothing but the tombstone would say
//! which objects were whose.

use crate::catalog::id::BackupId;
use crate::catalog::layout;
use crate::catalog::marks::Tombstone;
use crate::error::Error;
use crate::store::Store;

/// What could not be done, a line each.
type Problems = Vec<String>;

fn told(id: &BackupId, error: impl Into<Error>) -> String {
    let error: Error = error.into();
    let step = error.next_step().map(|step| format!(" ({step})")).unwrap_or_default();
    format!("the backup {id}: {}{step}", error.chain())
}

/// Deletes a backup; `false` if it was pinned in the last moment, and stays.
pub async fn backup(store: &dyn Store, tombstone: &Tombstone) -> Result<bool, Problems> {
    let id = &tombstone.id;
    tombstone.write(store).await.map_err(|e| vec![told(id, e)])?;
    // A pin looks for a tombstone after it was written, as this looks for a pin: one of them sees the
    // other.
    match store.head(&layout::pin(id)).await {
        Ok(None) => {}
        Ok(Some(_)) => return retract(store, id).await.map(|_| false),
        Err(e) => return Err(vec![told(id, e)]),
    }
    rest(store, tombstone).await.map(|()| true)
}

/// Deletes what a tombstone names, then itself.
pub async fn rest(store: &dyn Store, tombstone: &Tombstone) -> Result<(), Problems> {
    let id = &tombstone.id;
    let manifest = layout::manifest(id);
    // While the manifest stays, the backup is listed, and must restore.
    store.delete(&manifest).await.map_err(|e| vec![told(id, e)])?;
    let mut problems = Vec::new();
    for key in tombstone.keys.iter().filter(|key| **key != manifest) {
        if let Err(e) = store.delete(key).await {
            problems.push(told(id, e));
        }
    }
    if problems.is_empty()
        && let Err(e) = store.delete(&layout::tombstone(id)).await
    {
        problems.push(told(id, e));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Takes back a deletion that was begun.
pub async fn retract(store: &dyn Store, id: &BackupId) -> Result<bool, Problems> {
    store.delete(&layout::tombstone(id)).await.map(|()| true).map_err(|e| vec![told(id, e)])
}
