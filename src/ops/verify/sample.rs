//! Choosing some of many backups by chance, and finding what belongs to none.

use rand::Rng;
use rand::seq::IteratorRandom;

use crate::artifact::manifest::Manifest;
use crate::catalog::id::BackupId;
use crate::catalog::{self, Entry, layout};
use crate::error::{Error, Result};
use crate::store::Store;

/// What there is to verify.
#[derive(Debug, Default)]
pub struct Chosen {
    /// The backups, newest first.
    pub manifests: Vec<Manifest>,
    /// Manifests that cannot be understood, and why.
    pub damaged: Vec<(BackupId, String)>,
    /// Backups that cannot be read before they are thawed, and how to thaw them.
    pub archived: Vec<(BackupId, String)>,
    /// Artifacts without a manifest, by their keys.
    pub orphans: Vec<String>,
}

impl Chosen {
    /// Adds what a manifest's key leads to.
    pub fn add(&mut self, entry: Entry) {
        match entry {
            Entry::Backup(manifest) => self.manifests.push(*manifest),
            Entry::Damaged { id, key, why } => {
                self.damaged.push((id, format!("{key} cannot be understood: {why}")));
            }
            Entry::Archived { id, key, why } => self.archived.push((id, format!("{key}: {why}"))),
        }
    }
}

/// Chooses so many percent of the backups, at least one; with a `job`, only of its.
///
/// # Errors
/// If there is none.
pub async fn sample(store: &dyn Store, percent: u8, job: Option<&str>, rng: &mut impl Rng) -> Result<Chosen> {
    let folders = catalog::folders(store).await?;
    let mut chosen = Chosen::default();
    for entry in catalog::manifests(store, &catalog::existing(&folders)).await? {
        if !matches!(&entry, Entry::Backup(manifest) if job.is_some_and(|job| manifest.job != job)) {
            chosen.add(entry);
        }
    }
    for folder in folders.values() {
        if !folder.contains_key(layout::MANIFEST) && !folder.contains_key(layout::TOMBSTONE) {
            let body = folder.iter().filter(|(file, _)| layout::is_artifact(file));
            chosen.orphans.extend(body.map(|(_, object)| object.key.clone()));
        }
    }
    let wanted = (chosen.manifests.len() * usize::from(percent)).div_ceil(100);
    chosen.manifests = chosen.manifests.into_iter().sample(rng, wanted);
    chosen.manifests.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    if chosen.manifests.is_empty() && chosen.damaged.is_empty() && chosen.archived.is_empty() {
        let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        return Err(Error::failed(format!("there is no backup{of_job} in {}", store.place()))
            .hint("`uzima-backup list` shows the backups"));
    }
    Ok(chosen)
}
