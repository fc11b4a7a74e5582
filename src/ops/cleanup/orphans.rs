//! Artifacts with neither manifest nor tombstone: of a run that ended between the two, or whose
//! manifest was lost. The second kind may be somebody's last copy, so age alone never takes them.

use chrono::{DateTime, TimeDelta, Utc};

use super::Report;
use super::state::State;
use crate::catalog::layout;
use crate::store::{Deleted, Object, Store};

/// A backup may be running: its artifact is there before its manifest.
const YOUNG: TimeDelta = TimeDelta::days(2);

/// An artifact without a manifest.
#[derive(Debug, Clone)]
pub struct Orphan {
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, by the store's clock.
    pub modified: DateTime<Utc>,
    /// What else belongs to it.
    beside: Vec<String>,
    /// Why `--orphans` leaves it alone; `None` if it may go.
    pub kept: Option<String>,
    /// It went.
    pub deleted: bool,
}

/// The orphans in the store.
pub fn find(state: &State, clock: DateTime<Utc>) -> Vec<Orphan> {
    let mut orphans = Vec::new();
    for folder in state.bare.values() {
        let body = |(file, object): (&String, &Object)| layout::is_artifact(file).then(|| object.clone());
        for object in folder.iter().filter_map(body) {
            let Some((id, _)) = layout::parse(&object.key) else { continue };
            let said = [layout::index(&id), layout::accepted(&id)];
            let beside = |(file, object): (&String, &Object)| {
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
                beside: folder.iter().filter_map(beside).collect(),
                key: object.key,
                size: object.size,
                modified: object.modified,
                kept,
                deleted: false,
            });
        }
    }
    orphans
}

/// Deletes the orphans that may go.
pub async fn delete(store: &dyn Store, report: &mut Report) {
    for orphan in report.orphans.iter_mut().filter(|orphan| orphan.kept.is_none()) {
        if report.dry_run {
            continue;
        }
        let mut problems = Vec::new();
        for key in orphan.beside.iter().chain([&orphan.key]) {
            match store.delete(key).await {
                Ok(left) => report.hidden |= left == Deleted::Hidden,
                Err(e) => problems.push(format!("the orphan {}: {e}", orphan.key)),
            }
        }
        orphan.deleted = problems.is_empty();
        report.problems.extend(problems);
    }
}
