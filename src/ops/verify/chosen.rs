//! Which backups are verified.

use rand::Rng;
use rand::seq::IteratorRandom;

use crate::artifact::manifest::Manifest;
use crate::catalog::id::BackupId;
use crate::catalog::{self, Entry, layout};
use crate::error::{Error, Kind, Result};
use crate::store::Store;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The newest backup, of `job` if there are several.
    Latest,
    /// This one.
    One(BackupId),
    /// So many percent of all, chosen by chance, at least one.
    Sample(u8),
}

/// What there is to do.
#[derive(Debug, Default)]
pub struct Chosen {
    /// The backups, newest first.
    pub manifests: Vec<Manifest>,
    /// Manifests that cannot be understood, and why.
    pub damaged: Vec<(BackupId, String)>,
    /// Artifacts without a manifest, by their keys.
    pub orphans: Vec<String>,
}

/// Finds the backups that are asked for; with a `job`, only of those of it.
///
/// # Errors
/// If there is none, or it is not clear which one is meant.
pub async fn choose(
    store: &dyn Store,
    which: &Which,
    job: Option<&str>,
    rng: &mut impl Rng,
) -> Result<Chosen> {
    let folders = catalog::folders(store).await?;
    let ids = match which {
        Which::One(id) => vec![id.clone()],
        _ => catalog::existing(&folders),
    };
    if let Which::One(id) = which
        && !folders.get(id).is_some_and(|folder| folder.contains_key(layout::MANIFEST))
    {
        return Err(none(&format!("there is no backup {id}")));
    }
    let mut chosen = Chosen::default();
    for entry in catalog::manifests(store, &ids).await? {
        match entry {
            Entry::Backup(manifest) if job.is_none_or(|job| manifest.job == job) => {
                chosen.manifests.push(*manifest)
            }
            Entry::Backup(_) => {}
            Entry::Damaged { id, key, why } => {
                chosen.damaged.push((id, format!("{key} cannot be understood: {why}")))
            }
        }
    }
    match which {
        Which::Latest => latest(&mut chosen, job)?,
        Which::Sample(percent) => {
            for folder in folders.values() {
                if !folder.contains_key(layout::MANIFEST) && !folder.contains_key(layout::TOMBSTONE) {
                    let body = folder.iter().filter(|(file, _)| layout::is_artifact(file));
                    chosen.orphans.extend(body.map(|(_, object)| object.key.clone()));
                }
            }
            let wanted = (chosen.manifests.len() * usize::from(*percent)).div_ceil(100);
            chosen.manifests = chosen.manifests.into_iter().sample(rng, wanted);
            chosen.manifests.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
        }
        Which::One(_) => {}
    }
    if chosen.manifests.is_empty() && chosen.damaged.is_empty() {
        let of_job = job.map(|job| format!(" of the job {job}")).unwrap_or_default();
        return Err(none(&format!("there is no backup{of_job} in {}", store.place())));
    }
    Ok(chosen)
}

/// Keeps the newest alone. One that cannot be understood might be it.
fn latest(chosen: &mut Chosen, job: Option<&str>) -> Result<()> {
    let mut jobs: Vec<&str> = chosen.manifests.iter().map(|m| m.job.as_str()).collect();
    jobs.sort_unstable();
    jobs.dedup();
    if job.is_none() && jobs.len() > 1 {
        return Err(Error::new(
            Kind::Usage,
            format!("there are backups of several jobs: {}", jobs.join(", ")),
        )
        .hint("Say which with --job"));
    }
    chosen.manifests.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
    chosen.manifests.truncate(1);
    let newest = chosen.manifests.first().map(|manifest| manifest.started_at);
    chosen.damaged.retain(|(id, _)| newest.is_none_or(|newest| id.started() >= newest));
    Ok(())
}

fn none(what: &str) -> Error {
    Error::failed(what).hint("`uzima-backup list` shows the backups")
}
