//! `pin` and `unpin`: protect a backup from cleanups, and end the protection.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::places::Places;
use crate::base::error::{Error, Kind, Result};
use crate::base::exit::Exit;
use crate::catalog::layout;
use crate::catalog::marks::Mark;
use crate::catalog::place_files::KnownBackups;
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
    /// With copies: the names of the places where this is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub places: Option<Vec<String>>,
    /// The places where the backup could not be pinned or unpinned. Without copies it is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

impl PinReport {
    /// The exit code: 3 if a person should look.
    pub fn exit(&self) -> Exit {
        if self.doomed || !self.problems.is_empty() { Exit::NeedsLook } else { Exit::Done }
    }

    fn new(id: BackupId, pinned: bool, doomed: bool) -> PinReport {
        PinReport { version: 1, id, pinned, doomed, places: None, problems: Vec::new() }
    }
}

/// Pins a backup in every place that has it.
///
/// # Errors
/// Returns an error if no place has such a backup, or if it could not be pinned in any.
pub async fn pin_everywhere(places: &Places, mark: &Mark, state_dir: Option<&Path>) -> Result<PinReport> {
    let act = async |store: &dyn Store| {
        let report = pin(store, mark).await?;
        KnownBackups::update(state_dir, &store.place(), |known| {
            known.unpinned.remove(&mark.id);
        });
        Ok(report)
    };
    everywhere(places, act).await
}

/// Removes the pin of a backup in every place that has the backup. The state directory remembers it, so that `copy` does not bring the
/// pin back from a place that kept it.
///
/// # Errors
/// As [`pin_everywhere`].
pub async fn unpin_everywhere(places: &Places, id: &BackupId, state_dir: Option<&Path>) -> Result<PinReport> {
    let act = async |store: &dyn Store| {
        let report = unpin(store, id).await?;
        KnownBackups::update(state_dir, &store.place(), |known| {
            known.unpinned.insert(id.clone());
        });
        Ok(report)
    };
    everywhere(places, act).await
}

async fn everywhere(
    places: &Places,
    act: impl AsyncFn(&dyn Store) -> Result<PinReport>,
) -> Result<PinReport> {
    if !places.are_several() {
        return act(&*places.first_open()?.store).await;
    }
    let mut done: Option<PinReport> = None;
    let (mut names, mut problems, mut missing) = (Vec::new(), places.problems(), None);
    for place in &places.open {
        match act(&*place.store).await {
            Ok(report) => {
                names.push(place.name.clone());
                let doomed = report.doomed || done.as_ref().is_some_and(|done| done.doomed);
                done = Some(PinReport { doomed, ..report });
            }
            Err(error) if error.kind() == Kind::Missing => missing = Some(error),
            Err(error) => problems.push(format!("the place {}: {}", place.name, error.chain_with_step())),
        }
    }
    match (done, missing) {
        (Some(report), _) => Ok(PinReport { places: Some(names), problems, ..report }),
        (None, Some(missing)) if problems.is_empty() => Err(missing),
        (None, _) => Err(Error::failed(problems.join("; "))),
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
    Ok(PinReport::new(id, true, doomed))
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
    Ok(PinReport::new(id.clone(), false, false))
}

fn missing(id: &BackupId) -> Error {
    Error::new(Kind::Missing, format!("there is no backup {id}"))
        .hint("`uzima-backup list` shows the backups")
}
