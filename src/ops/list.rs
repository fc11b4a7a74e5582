//! `list`: the backups of a store, newest first.

use chrono::{DateTime, Utc};

use crate::catalog::{self, Entry, layout};
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

/// A backup, and what is said about it.
#[derive(Debug)]
pub struct Listed {
    /// The backup.
    pub entry: Entry,
    /// No clean-up deletes it.
    pub pinned: bool,
}

/// Lists backups. A manifest that cannot be understood is listed as damaged, never left out.
pub async fn list(store: &dyn Store, options: &Options) -> Result<Vec<Listed>> {
    let folders = catalog::folders(store).await?;
    let ids = catalog::existing(&folders);
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut found = Vec::new();
    let mut rest = ids.as_slice();
    while let Some(next) = rest.first() {
        // Only as many manifests are fetched as it takes; those of one second all.
        let last = found.get(limit.saturating_sub(1));
        if last.is_some_and(|listed: &Listed| listed.entry.id().started() > next.started()) {
            break;
        }
        let (now, later) = rest.split_at(limit.clamp(1, 64).min(rest.len()));
        rest = later;
        for entry in catalog::manifests(store, now).await? {
            let wanted = match (&entry, &options.job) {
                (Entry::Backup(manifest), Some(job)) => manifest.job == *job,
                _ => true,
            };
            if wanted {
                let pinned = folders[entry.id()].contains_key(layout::PIN);
                found.push(Listed { entry, pinned });
            }
        }
    }
    // Ids tell the second; of backups within one, the manifests tell more.
    found.sort_by_key(|listed| std::cmp::Reverse(started(&listed.entry)));
    found.truncate(limit);
    Ok(found)
}

fn started(entry: &Entry) -> DateTime<Utc> {
    match entry {
        Entry::Backup(manifest) => manifest.started_at,
        Entry::Damaged { id, .. } => id.started(),
    }
}
