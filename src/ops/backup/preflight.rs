//! The checks before an upload begins: the server and its namespaces, the instant of the backup, and the last backup.

use std::sync::Arc;

use super::{BackupOptions, Resources};
use crate::base::error::{Error, Kind, Result};
use crate::base::progress::Phase;
use crate::base::units;
use crate::catalog::trust::Trust;
use crate::catalog::{self, CatalogEntry, layout};
use crate::config::choices::ConsistencyChoice;
use crate::model::id::BackupId;
use crate::model::manifest::{ChainBase, Manifest};
use crate::model::optime::OpTime;
use crate::model::server::Topology;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::retention::CLOCK_TOLERANCE;
use crate::source::describe::{self, Description};
use crate::source::oplog::{self, OplogObstacle, SliceStart, SnapshotBase};
use crate::source::snapshot;

/// The answers of server and store before a backup begins.
pub(super) struct Preflight {
    pub server: Arc<Server>,
    /// The version of the server's binary.
    pub version: String,
    /// The id of the replica set, if the user may read it.
    pub set_id: Option<String>,
    pub consistency: Consistency,
    pub description: Description,
    /// The newest backup of the job that this one is compared with.
    pub before: Option<Box<Manifest>>,
    /// The newest trusted backup of the job.
    pub previous: Option<BackupId>,
}

impl Preflight {
    pub async fn run(resources: &Resources, options: &BackupOptions) -> Result<Preflight> {
        let (settings, notes) = (&options.settings, &resources.notes);
        let server = Server::connect(&settings.mongo_uri, &settings.patience, settings.stall, notes).await?;
        let server = Arc::new(server);
        let version = server.version().await?;
        // The slice begins before the description, so that a collection that is created in between is in one of them.
        let mut consistency = Consistency::begin(&server, &version, options).await?;
        let mut description =
            describe::describe_for_backup(&server, &settings.selection, options.allow_empty).await?;
        if description.of_restores > 0 {
            let left = units::several(description.of_restores, "collection");
            notes.add(format!(
                "left out {left} of restores with --swap: `uzima-backup restore --kept` lists them, and --discard drops them"
            ));
        }
        resources.meter.enter(Phase::AskingStore);
        let (before, previous) = last_of_job(resources, options).await?;
        resources.meter.enter(Phase::AskingServer);
        let set_id = server.replica_set_id().await;
        consistency.choose_instant(&server, options, &mut description, notes).await?;
        Ok(Preflight { server, version, set_id, consistency, description, before, previous })
    }
}

/// The newest backup of the job to compare with. A collapsed backup is skipped unless it was accepted, so that each further
/// backup warns until the collapse is repaired or accepted. Partial backups and
/// backups that a wrong clock dated in the future are skipped, too. Also returns the newest backup of the job, with which
/// the new one need not be compared. Untrusted backups are neither.
async fn last_of_job(
    resources: &Resources,
    options: &BackupOptions,
) -> Result<(Option<Box<Manifest>>, Option<BackupId>)> {
    let (store, trust, mut newest) = (resources.store(), Trust::from(&options.settings.signing), None);
    let folders = catalog::folders(store).await?;
    let latest = resources.clock.now() + CLOCK_TOLERANCE;
    for id in catalog::existing(&folders).into_iter().filter(|id| id.started() <= latest) {
        let accepted = folders[&id].contains_key(layout::ACCEPTED);
        match catalog::find(store, &id, &trust).await? {
            Some(CatalogEntry::Backup(m)) if m.job == options.settings.job && m.started_at <= latest => {
                newest.get_or_insert_with(|| m.id.clone());
                let fits = !m.collapsed() || accepted && catalog::is_accepted(store, &id, &trust).await?;
                if fits && !m.partial {
                    return Ok((Some(m), newest));
                }
            }
            Some(CatalogEntry::Backup(_) | CatalogEntry::Archived { .. }) | None => {}
            Some(CatalogEntry::Damaged { key, why, .. }) => log::warn!("{key} cannot be parsed: {why}"),
            Some(CatalogEntry::Untrusted { why, .. }) => log::warn!("the backup {id} is untrusted: {why}"),
        }
    }
    Ok((None, newest))
}

/// How the data of a backup becomes consistent.
#[derive(Debug, Clone)]
pub(super) struct Consistency {
    /// The beginning of the oplog slice.
    pub oplog: Option<SliceStart>,
    /// The instant of the snapshot.
    pub at: Option<OpTime>,
    /// Why this consistency was chosen, or why a stronger one is impossible.
    pub why: String,
    /// The collections that are not read at the snapshot's instant.
    pub beside: Option<String>,
    /// The place of the snapshot in the oplog.
    pub base: Option<ChainBase>,
}

impl Consistency {
    /// Chooses the consistency, and begins the oplog slice if there will be one.
    async fn begin(server: &Server, version: &str, options: &BackupOptions) -> Result<Consistency> {
        let none = |why: String| Consistency { oplog: None, at: None, why, beside: None, base: None };
        let why = match options.settings.consistency {
            ConsistencyChoice::None => return Ok(none("consistency = none".into())),
            ConsistencyChoice::Snapshot => {
                let Some(why) = snapshot::refused(server.hello.topology, version) else {
                    return Ok(none("consistency = snapshot".into()));
                };
                let address = &server.hello.address;
                let text = format!("MongoDB at {address} cannot be read as of one instant: {why}");
                return Err(Error::failed(text).hint("Use --consistency auto or none (BACKUP_CONSISTENCY)"));
            }
            ConsistencyChoice::Auto => "a replica set, whose oplog the user may read",
            ConsistencyChoice::Oplog => "consistency = oplog",
        };
        let begun = match oplog::obstacle(server).await? {
            None => match SliceStart::take(server).await {
                Ok(begun) => begun.ok_or_else(|| OplogObstacle {
                    why: "the last write is not on a majority of the set's members".into(),
                    hint: "Check them with rs.status()".into(),
                }),
                Err(e) if e.kind() == Kind::NoSlice => {
                    Err(OplogObstacle { why: e.chain(), hint: e.next_step().unwrap_or_default().into() })
                }
                Err(e) => return Err(e),
            },
            Some(without) => Err(without),
        };
        match begun {
            Ok(begun) => {
                Ok(Consistency { oplog: Some(begun), at: None, why: why.into(), beside: None, base: None })
            }
            Err(without) if options.settings.consistency == ConsistencyChoice::Auto => {
                // A standalone would log the same line every night. The manifest, `health` and --dry-run have it.
                let alone = server.hello.topology == Topology::Standalone;
                let level = if alone { log::Level::Debug } else { log::Level::Info };
                log::log!(level, "each collection is read at its own time: {}", without.words());
                Ok(none(without.words()))
            }
            Err(without) => {
                let address = &server.hello.address;
                let text = format!("MongoDB at {address} cannot have an oplog slice: {}", without.why);
                let hint =
                    format!("{}; or use --consistency auto or none (BACKUP_CONSISTENCY)", without.hint);
                Err(Error::failed(text).hint(hint))
            }
        }
    }

    /// Chooses the instant of a snapshot. This comes as late as possible, because the server keeps it only for a while.
    async fn choose_instant(
        &mut self,
        server: &Server,
        options: &BackupOptions,
        description: &mut Description,
        notes: &Notes,
    ) -> Result<()> {
        if options.settings.consistency != ConsistencyChoice::Snapshot {
            return Ok(());
        }
        let base = SnapshotBase::before(server).await?;
        let at = snapshot::choose(server, &options.settings.selection, description).await?;
        self.at = Some(at);
        if let Some(base) = base {
            self.base = base.at(server, at).await?;
        }
        match snapshot::window(server).await {
            Some(seconds) => {
                log::info!("reading as of {at}, which MongoDB keeps for at least {seconds} s")
            }
            None => log::info!("reading as of {at}"),
        }
        let apart: Vec<String> = description
            .namespaces
            .iter()
            .filter(|namespace| snapshot::apart(namespace))
            .map(ToString::to_string)
            .collect();
        if !apart.is_empty() {
            let line = format!(
                "MongoDB cannot read these collections as of {at}, so each is read at its own time: {}",
                apart.join(", ")
            );
            notes.add(line.clone());
            self.beside = Some(line);
        }
        Ok(())
    }
}
