//! Deleting backups so that a kill at any step is made good by the next run: tombstones, manifests, the
//! other objects, tombstones. Without the manifest nothing but the tombstone would say which objects were
//! whose. Each step is done for all backups before the next one, so that a store can take it in few requests.

use futures_util::{StreamExt, stream};

use crate::catalog::id::BackupId;
use crate::catalog::layout;
use crate::catalog::marks::Tombstone;
use crate::error::Error;
use crate::store::{Deleted, Store};

/// How many backups are marked and looked at at once.
const AT_ONCE: usize = 16;

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

/// Deletes backups. Returns what became of each, in the order of the tombstones.
pub async fn backups(store: &dyn Store, tombstones: &[Tombstone]) -> Vec<Result<Done, Problems>> {
    let begun = stream::iter(tombstones).map(|tombstone| begin(store, tombstone)).buffered(AT_ONCE);
    let mut begun: Vec<Option<Result<Done, Problems>>> = begun.collect().await;
    let open: Vec<&Tombstone> =
        tombstones.iter().zip(&begun).filter(|(_, ended)| ended.is_none()).map(|(t, _)| t).collect();
    let mut went = rest(store, &open).await.into_iter();
    let ended = begun.iter_mut().map(|ended| match ended.take() {
        Some(ended) => ended,
        None => went.next().expect("one for each that is open").map(Done::Went),
    });
    ended.collect()
}

/// Marks a backup as going. `None`: it goes.
async fn begin(store: &dyn Store, tombstone: &Tombstone) -> Option<Result<Done, Problems>> {
    let id = &tombstone.id;
    if let Err(e) = tombstone.write(store).await {
        return Some(Err(vec![told(id, e)]));
    }
    // A pin looks for a tombstone after it was written, as this looks for a pin: one of them sees the
    // other.
    match store.head(&layout::pin(id)).await {
        Ok(None) => None,
        Ok(Some(_)) => Some(retract(store, id).await.map(|()| Done::Stays)),
        Err(e) => Some(Err(vec![told(id, e)])),
    }
}

/// Deletes what tombstones name, then themselves.
pub async fn rest(store: &dyn Store, tombstones: &[&Tombstone]) -> Vec<Result<Deleted, Problems>> {
    let mut ended: Vec<Result<Deleted, Problems>> = tombstones.iter().map(|_| Ok(Deleted::Gone)).collect();
    // While the manifest stays, the backup is listed, and must restore.
    let manifests = |tombstone: &Tombstone| vec![layout::manifest(&tombstone.id)];
    step(store, tombstones, &mut ended, manifests).await;
    let others = |tombstone: &Tombstone| {
        let manifest = layout::manifest(&tombstone.id);
        tombstone.keys.iter().filter(|key| **key != manifest).cloned().collect()
    };
    step(store, tombstones, &mut ended, others).await;
    step(store, tombstones, &mut ended, |tombstone| vec![layout::tombstone(&tombstone.id)]).await;
    ended
}

/// Deletes these keys of every backup that no step before failed for.
async fn step(
    store: &dyn Store,
    tombstones: &[&Tombstone],
    ended: &mut [Result<Deleted, Problems>],
    keys: impl Fn(&Tombstone) -> Vec<String>,
) {
    let open = (0..tombstones.len()).filter(|n| ended[*n].is_ok());
    let asked: Vec<(usize, String)> =
        open.flat_map(|n| keys(tombstones[n]).into_iter().map(move |key| (n, key))).collect();
    let (of, keys): (Vec<usize>, Vec<String>) = asked.into_iter().unzip();
    for (n, answer) in of.into_iter().zip(store.delete_all(&keys).await) {
        match (answer, &mut ended[n]) {
            (Ok(Deleted::Hidden), Ok(left)) => *left = Deleted::Hidden,
            (Ok(_), _) => {}
            (Err(e), Ok(_)) => ended[n] = Err(vec![told(&tombstones[n].id, e)]),
            (Err(e), Err(problems)) => problems.push(told(&tombstones[n].id, e)),
        }
    }
}

/// Takes back a deletion that was begun.
pub async fn retract(store: &dyn Store, id: &BackupId) -> Result<(), Problems> {
    store.delete(&layout::tombstone(id)).await.map(drop).map_err(|e| vec![told(id, e)])
}
