//! Artifacts with neither manifest nor tombstone: of a run that ended between the two, or whose
//! manifest was lost. The second kind may be somebody's last copy, so age alone never takes them.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::CleanupReport;
use crate::catalog::layout;
use crate::catalog::state::StoreState;
use crate::store::{Deleted, Store, StoredObject};

/// A backup may be running: its artifact is there before its manifest.
const YOUNG: TimeDelta = TimeDelta::days(2);

/// An artifact without a manifest.
#[derive(Debug, Clone, Serialize)]
pub struct Orphan {
    pub key: String,
    /// The size of the artifact in bytes.
    pub stored_bytes: u64,
    /// The time of the last write, by the store's clock.
    pub modified_at: DateTime<Utc>,
    /// Why `--orphans` does not delete it; `None` if it may go.
    pub kept: Option<String>,
    /// The artifact was deleted.
    pub deleted: bool,
    /// The other objects of the same backup.
    #[serde(skip)]
    companions: Vec<String>,
}

/// The orphans in the store.
pub fn find(state: &StoreState, clock: DateTime<Utc>) -> Vec<Orphan> {
    let mut orphans = Vec::new();
    for folder in state.incomplete.values() {
        let body =
            |(file, object): (&String, &StoredObject)| layout::is_artifact(file).then(|| object.clone());
        for object in folder.iter().filter_map(body) {
            let Some((id, _)) = layout::parse(&object.key) else { continue };
            let said = [layout::index(&id), layout::accepted(&id)];
            let beside = |(file, object): (&String, &StoredObject)| {
                (said.contains(&object.key) || layout::is_verified(file)).then(|| object.key.clone())
            };
            let kept = if folder.contains_key(layout::PIN) {
                Some("pinned".into())
            } else if clock - object.modified <= YOUNG {
                Some("younger than 2 days: a backup may be running".into())
            } else {
                None
            };
            orphans.push(Orphan {
                companions: folder.iter().filter_map(beside).collect(),
                key: object.key,
                stored_bytes: object.size,
                modified_at: object.modified,
                kept,
                deleted: false,
            });
        }
    }
    orphans
}

/// Deletes the orphans that may go.
pub async fn delete(store: &dyn Store, report: &mut CleanupReport) {
    if report.dry_run {
        return;
    }
    let mut asked: Vec<(usize, String)> = Vec::new();
    for (n, orphan) in report.orphans.iter_mut().enumerate().filter(|(_, orphan)| orphan.kept.is_none()) {
        asked.extend(orphan.companions.iter().chain([&orphan.key]).map(|key| (n, key.clone())));
        orphan.deleted = true;
    }
    let (of, keys): (Vec<usize>, Vec<String>) = asked.into_iter().unzip();
    for (n, answer) in of.into_iter().zip(store.delete_all(&keys).await) {
        let orphan = &mut report.orphans[n];
        match answer {
            Ok(left) => report.hidden |= left == Deleted::Hidden,
            Err(e) => {
                orphan.deleted = false;
                report.problems.push(format!("the orphan {}: {e}", orphan.key));
            }
        }
    }
}
