//! Deleting a backup so that a kill at any step is made good by the next run: tombstone, manifest, the
//! other objects, the artifact, tombstone. Without the manifest nothing but the tombstone would say
//! which objects were whose.

use crate::catalog::id::BackupId;
use crate::catalog::layout;
use crate::catalog::marks::Tombstone;
use crate::error::Error;
use crate::store::{Deleted, Store};

/// What could not be done, a line each.
type Problems = Vec<String>;

fn told(id: &BackupId, error: impl Into<Error>) -> String {
    let error: Error = error.into();
    let step = error.next_step().map(|step| format!(" ({step})")).unwrap_or_default();
    format!("the backup {id}: {}{step}", error.chain())
}

/// What became of a backup that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It is gone, or as gone as the store lets it be.
    Went(Deleted),
    /// It was pinned in the last moment.
    Stays,
}

/// Deletes a backup.
pub async fn backup(store: &dyn Store, tombstone: &Tombstone) -> Result<Done, Problems> {
    let id = &tombstone.id;
    tombstone.write(store).await.map_err(|e| vec![told(id, e)])?;
    // A pin looks for a tombstone after it was written, as this looks for a pin: one of them sees the
    // other.
    match store.head(&layout::pin(id)).await {
        Ok(None) => {}
        Ok(Some(_)) => return retract(store, id).await.map(|()| Done::Stays),
        Err(e) => return Err(vec![told(id, e)]),
    }
    rest(store, tombstone).await.map(Done::Went)
}

/// Deletes what a tombstone names, then itself.
pub async fn rest(store: &dyn Store, tombstone: &Tombstone) -> Result<Deleted, Problems> {
    let id = &tombstone.id;
    let manifest = layout::manifest(id);
    // While the manifest stays, the backup is listed, and must restore.
    let mut left = store.delete(&manifest).await.map_err(|e| vec![told(id, e)])?;
    let mut problems = Vec::new();
    for key in tombstone.keys.iter().filter(|key| **key != manifest) {
        match store.delete(key).await {
            Ok(Deleted::Gone) => {}
            Ok(Deleted::Hidden) => left = Deleted::Hidden,
            Err(e) => problems.push(told(id, e)),
        }
    }
    if problems.is_empty()
        && let Err(e) = store.delete(&layout::tombstone(id)).await
    {
        problems.push(told(id, e));
    }
    if problems.is_empty() { Ok(left) } else { Err(problems) }
}

/// Takes back a deletion that was begun.
pub async fn retract(store: &dyn Store, id: &BackupId) -> Result<(), Problems> {
    store.delete(&layout::tombstone(id)).await.map(drop).map_err(|e| vec![told(id, e)])
}
