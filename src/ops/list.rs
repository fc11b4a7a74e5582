//! `list`: the backups of a store, newest first.

use chrono::{DateTime, Utc};

use crate::catalog::{self, Entry};
use crate::error::Result;
use crate::store::Store;

/// What is wanted.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only backups of this job.
    pub job: Option<String>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// Lists backups. A manifest that cannot be understood is listed as damaged, never left out.
pub async fn list(store: &dyn Store, options: &Options) -> Result<Vec<Entry>> {
    let ids = catalog::ids(store).await?;
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut found = Vec::new();
    // Only as many manifests are fetched as it takes.
    for ids in ids.chunks(limit.clamp(1, 64)) {
        for entry in catalog::manifests(store, ids).await? {
            let wanted = match (&entry, &options.job) {
                (Entry::Backup(manifest), Some(job)) => manifest.job == *job,
                _ => true,
            };
            if wanted && found.len() < limit {
                found.push(entry);
            }
        }
        if found.len() >= limit {
            break;
        }
    }
    // Ids tell the second; of backups within one, the manifests tell more.
    found.sort_by_key(|entry| std::cmp::Reverse(started(entry)));
    Ok(found)
}

fn started(entry: &Entry) -> DateTime<Utc> {
    match entry {
        Entry::Backup(manifest) => manifest.started_at,
        Entry::Damaged { id, .. } => id.started(),
    }
}
