//! Deleting backups so that a kill at any step is made good by the next run: tombstones, manifests, the
//! other objects, tombstones. Without the manifest nothing but the tombstone would say which objects were
//! whose. Each step is done for all backups before the next one, so that a store can take it in few requests.

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};

use crate::base::error::Error;
use crate::catalog::layout;
use crate::catalog::marks::Tombstone;
use crate::model::id::BackupId;
use crate::store::{Deleted, Store, StoreErrorKind};

/// How many backups are marked and looked at at once.
const AT_ONCE: usize = 16;

/// What could not be done, a line each.
type Problems = Vec<String>;

fn problem(id: &BackupId, error: impl Into<Error>) -> String {
    let error: Error = error.into();
    let step = error.next_step().map(|step| format!(" ({step})")).unwrap_or_default();
    format!("the backup {id}: {}{step}", error.chain())
}

/// What became of a backup that was to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// It is gone, or as gone as the store lets it be.
    Went(Deleted),
    /// It was pinned in the last moment.
    Stays,
    /// It, or the rest of it, is under a retention period or legal hold: until when, if that is known.
    Locked(String),
}

/// Deletes backups, but none whose artifact is locked. (A bucket that locks objects keeps versions, so a deletion would hide
/// the backup and free nothing.) Returns what became of each, in the order of the tombstones. `now` is this machine's clock.
pub async fn backups(
    store: &dyn Store,
    tombstones: &[Tombstone],
    now: DateTime<Utc>,
) -> Vec<Result<DeleteOutcome, Problems>> {
    let begun = stream::iter(tombstones).map(|tombstone| begin(store, tombstone, now)).buffered(AT_ONCE);
    let mut begun: Vec<Option<Result<DeleteOutcome, Problems>>> = begun.collect().await;
    let open: Vec<&Tombstone> =
        tombstones.iter().zip(&begun).filter(|(_, ended)| ended.is_none()).map(|(t, _)| t).collect();
    let mut went = rest(store, &open).await.into_iter();
    let ended = begun.iter_mut().map(|ended| match ended.take() {
        Some(ended) => ended,
        None => went.next().expect("one for each that is open"),
    });
    ended.collect()
}

/// Marks a backup as going. `None`: it goes.
async fn begin(
    store: &dyn Store,
    tombstone: &Tombstone,
    now: DateTime<Utc>,
) -> Option<Result<DeleteOutcome, Problems>> {
    let id = &tombstone.id;
    if let Some(artifact) = tombstone.keys.last() {
        match store.locked_until(artifact).await {
            Ok(Some(end)) if end == DateTime::<Utc>::MAX_UTC => {
                return Some(Ok(DeleteOutcome::Locked("under a legal hold".into())));
            }
            Ok(Some(end)) if end > now => {
                return Some(Ok(DeleteOutcome::Locked(format!("locked until {}", end.format("%F")))));
            }
            Ok(_) => {}
            Err(e) => return Some(Err(vec![problem(id, e)])),
        }
    }
    if let Err(e) = tombstone.write(store).await {
        return Some(Err(vec![problem(id, e)]));
    }
    // A pin looks for a tombstone after it was written, as this looks for a pin: one of them sees the
    // other.
    match store.head(&layout::pin(id)).await {
        Ok(None) => None,
        Ok(Some(_)) => Some(retract(store, id).await.map(|()| DeleteOutcome::Stays)),
        Err(e) => Some(Err(vec![problem(id, e)])),
    }
}

/// Deletes what tombstones name, then themselves.
pub async fn rest(store: &dyn Store, tombstones: &[&Tombstone]) -> Vec<Result<DeleteOutcome, Problems>> {
    let mut ended: Vec<Result<DeleteOutcome, Problems>> =
        tombstones.iter().map(|_| Ok(DeleteOutcome::Went(Deleted::Gone))).collect();
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

/// Deletes these keys of every backup that no step before failed for, or met a lock of.
async fn step(
    store: &dyn Store,
    tombstones: &[&Tombstone],
    ended: &mut [Result<DeleteOutcome, Problems>],
    keys: impl Fn(&Tombstone) -> Vec<String>,
) {
    let open = (0..tombstones.len()).filter(|n| matches!(ended[*n], Ok(DeleteOutcome::Went(_))));
    let asked: Vec<(usize, String)> =
        open.flat_map(|n| keys(tombstones[n]).into_iter().map(move |key| (n, key))).collect();
    let (of, keys): (Vec<usize>, Vec<String>) = asked.into_iter().unzip();
    for (n, answer) in of.into_iter().zip(store.delete_all(&keys).await) {
        match (answer, &mut ended[n]) {
            (Ok(Deleted::Hidden), Ok(DeleteOutcome::Went(left))) => *left = Deleted::Hidden,
            (Ok(_), _) => {}
            // The tombstone stays, so that the next run tries again.
            (Err(e), Ok(done)) if e.kind == StoreErrorKind::Locked => {
                *done = DeleteOutcome::Locked("locked by the bucket".into())
            }
            (Err(e), Ok(_)) => ended[n] = Err(vec![problem(&tombstones[n].id, e)]),
            (Err(e), Err(problems)) => problems.push(problem(&tombstones[n].id, e)),
        }
    }
}

/// Takes back a deletion that was begun.
pub async fn retract(store: &dyn Store, id: &BackupId) -> Result<(), Problems> {
    store.delete(&layout::tombstone(id)).await.map(drop).map_err(|e| vec![problem(id, e)])
}
