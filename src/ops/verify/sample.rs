//! Choosing some of many backups by chance, and finding what belongs to none.

use rand::Rng;
use rand::seq::IteratorRandom;

use crate::base::error::{Error, Result};
use crate::catalog::{Catalog, Entry, Reading, layout};
use crate::model::id::BackupId;
use crate::store::Store;

/// What there is to verify.
#[derive(Debug, Default)]
pub struct Chosen {
    /// The backups, newest first.
    pub backups: Vec<BackupId>,
    /// Manifests that cannot be understood, and why.
    pub damaged: Vec<(BackupId, String)>,
    /// Backups that cannot be read before they are thawed, and how to thaw them.
    pub archived: Vec<(BackupId, String)>,
    /// Artifacts without a manifest, by their keys.
    pub orphans: Vec<String>,
}

/// Chooses so many percent of the backups, at least one; with a `job`, only of its.
///
/// # Errors
/// If there is none.
pub async fn sample(
    store: &dyn Store,
    percent: u8,
    job: Option<&str>,
    reading: &Reading,
    rng: &mut impl Rng,
) -> Result<Chosen> {
    let catalog = Catalog::read(store, reading).await?;
    let mut chosen = Chosen::default();
    let mut backups = Vec::new();
    for entry in catalog.summaries(&catalog.existing()).await? {
        match entry {
            Entry::Backup(manifest) if job.is_some_and(|job| manifest.job != job) => {}
            Entry::Backup(manifest) => backups.push((manifest.started_at, manifest.id.clone())),
            Entry::Damaged { id, key, why } => {
                chosen.damaged.push((id, format!("{key} cannot be understood: {why}")));
            }
            Entry::Archived { id, key, why } => chosen.archived.push((id, format!("{key}: {why}"))),
        }
    }
    catalog.save();
    for folder in catalog.folders().values() {
        if !folder.contains_key(layout::MANIFEST) && !folder.contains_key(layout::TOMBSTONE) {
            let body = folder.iter().filter(|(file, _)| layout::is_artifact(file));
            chosen.orphans.extend(body.map(|(_, object)| object.key.clone()));
        }
    }
    let wanted = (backups.len() * usize::from(percent)).div_ceil(100);
    let mut backups = backups.into_iter().sample(rng, wanted);
    backups.sort_by(|a, b| b.cmp(a));
    chosen.backups = backups.into_iter().map(|(_, id)| id).collect();
    if chosen.backups.is_empty() && chosen.damaged.is_empty() && chosen.archived.is_empty() {
        let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        return Err(Error::failed(format!("there is no backup{of_job} in {}", store.place()))
            .hint("`uzima-backup list` shows the backups"));
    }
    Ok(chosen)
}
