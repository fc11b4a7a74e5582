//! What must be known before anything is begun: the server, what it holds, and the backup before.

use std::sync::Arc;

use super::consistency::{self, Consistency};
use super::{BackupOptions, Resources};
use crate::base::error::Result;
use crate::catalog::{self, Entry, layout};
use crate::model::manifest::Manifest;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::retention::CLOCK_TOLERANCE;
use crate::source::describe::{self, Description};

/// What is asked before anything is begun.
pub struct Known {
    /// The member that is read.
    pub server: Arc<Server>,
    /// Its version.
    pub version: String,
    /// The replica set's id, where the user may read it.
    pub set_id: Option<String>,
    /// To what instant the data will belong.
    pub consistency: Consistency,
    /// What there is to read.
    pub description: Description,
    /// The newest backup of the job, to compare with.
    pub before: Option<Box<Manifest>>,
}

impl Known {
    /// Asks the server and the store.
    pub async fn find(resources: &Resources, options: &BackupOptions, notes: &Notes) -> Result<Known> {
        let server =
            Server::connect_noting(&options.settings.mongo_uri, &options.settings.patience, notes).await?;
        let server = Arc::new(server.patient(options.settings.stall));
        let version = server.version().await?;
        // Before the description, so that what is made in between is in one of both.
        let mut consistency = consistency::begin(&server, &version, options).await?;
        let mut description =
            describe::describe_for_backup(&server, &options.settings.selection, options.allow_empty).await?;
        let before = last_of_job(resources, options).await?;
        let set_id = server.replica_set_id().await;
        consistency.choose_instant(&server, options, &mut description, notes).await?;
        Ok(Known { server, version, set_id, consistency, description, before })
    }
}

/// The newest backup of the job that did not collapse itself, to compare with: a person must be told of
/// a collapse until it is mended or accepted, not once. One that a wrong clock dated in the future would
/// be the newest for as long as that lies ahead: it is none to compare with.
async fn last_of_job(resources: &Resources, options: &BackupOptions) -> Result<Option<Box<Manifest>>> {
    let store = &*resources.store;
    let folders = catalog::folders(store).await?;
    let latest = resources.clock.now() + CLOCK_TOLERANCE;
    for id in catalog::existing(&folders).into_iter().filter(|id| id.started() <= latest) {
        let accepted = folders[&id].contains_key(layout::ACCEPTED);
        match catalog::find(store, &id).await? {
            Some(Entry::Backup(m))
                if m.job == options.settings.job
                    && m.started_at <= latest
                    && (accepted || !m.collapsed()) =>
            {
                return Ok(Some(m));
            }
            Some(Entry::Backup(_) | Entry::Archived { .. }) | None => {}
            Some(Entry::Damaged { key, why, .. }) => log::warn!("{key} cannot be understood: {why}"),
        }
    }
    Ok(None)
}
