//! The questions to the server and the store that come before an upload begins.

use std::sync::Arc;

use super::consistency::{self, Consistency};
use super::{BackupOptions, Resources};
use crate::base::error::Result;
use crate::catalog::{self, CatalogEntry, layout};
use crate::model::manifest::Manifest;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::retention::CLOCK_TOLERANCE;
use crate::source::describe::{self, Description};

/// The answers of server and store before a backup begins.
pub struct Preflight {
    /// The member that is read.
    pub server: Arc<Server>,
    /// The version of its binary.
    pub version: String,
    /// The id of the replica set, if the user may read it.
    pub set_id: Option<String>,
    pub consistency: Consistency,
    pub description: Description,
    /// The newest backup of the job that this one is compared with.
    pub before: Option<Box<Manifest>>,
}

impl Preflight {
    pub async fn run(resources: &Resources, options: &BackupOptions, notes: &Notes) -> Result<Preflight> {
        let settings = &options.settings;
        let server = Server::connect(&settings.mongo_uri, &settings.patience, settings.stall, notes).await?;
        let server = Arc::new(server);
        let version = server.version().await?;
        // The slice begins before the description, so that a collection that is created in between is in one of them.
        let mut consistency = consistency::begin(&server, &version, options).await?;
        let mut description =
            describe::describe_for_backup(&server, &options.settings.selection, options.allow_empty).await?;
        let before = last_of_job(resources, options).await?;
        let set_id = server.replica_set_id().await;
        consistency.choose_instant(&server, options, &mut description, notes).await?;
        Ok(Preflight { server, version, set_id, consistency, description, before })
    }
}

/// The newest backup of the job to compare with. A collapsed backup is skipped unless it was accepted, so that each further
/// backup warns until the collapse is repaired or accepted. Backups that a wrong clock dated in the future are skipped, too.
async fn last_of_job(resources: &Resources, options: &BackupOptions) -> Result<Option<Box<Manifest>>> {
    let store = &*resources.store;
    let folders = catalog::folders(store).await?;
    let latest = resources.clock.now() + CLOCK_TOLERANCE;
    for id in catalog::existing(&folders).into_iter().filter(|id| id.started() <= latest) {
        let accepted = folders[&id].contains_key(layout::ACCEPTED);
        match catalog::find(store, &id).await? {
            Some(CatalogEntry::Backup(m))
                if m.job == options.settings.job
                    && m.started_at <= latest
                    && (accepted || !m.collapsed()) =>
            {
                return Ok(Some(m));
            }
            Some(CatalogEntry::Backup(_) | CatalogEntry::Archived { .. }) | None => {}
            Some(CatalogEntry::Damaged { key, why, .. }) => log::warn!("{key} cannot be understood: {why}"),
        }
    }
    Ok(None)
}
