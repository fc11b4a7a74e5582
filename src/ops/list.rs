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
    let mut rest = ids.as_slice();
    while let Some(next) = rest.first() {
        // Only as many manifests are fetched as it takes; those of one second all.
        let last = found.get(limit.saturating_sub(1));
        if last.is_some_and(|entry: &Entry| entry.id().started() > next.started()) {
            break;
        }
        let (now, later) = rest.split_at(limit.clamp(1, 64).min(rest.len()));
        rest = later;
        found.extend(catalog::manifests(store, now).await?.into_iter().filter(|entry| {
            match (entry, &options.job) {
                (Entry::Backup(manifest), Some(job)) => manifest.job == *job,
                _ => true,
            }
        }));
    }
    // Ids tell the second; of backups within one, the manifests tell more.
    found.sort_by_key(|entry| std::cmp::Reverse(started(entry)));
    found.truncate(limit);
    Ok(found)
}

fn started(entry: &Entry) -> DateTime<Utc> {
    match entry {
        Entry::Backup(manifest) => manifest.started_at,
        Entry::Damaged { id, .. } => id.started(),
    }
}
