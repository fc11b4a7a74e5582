//! To what instant the data of a backup belongs: what was asked for, and what this server can do.

use super::BackupOptions;
use crate::base::error::{Error, Kind, Result};
use crate::config::choices::ConsistencyChoice;
use crate::model::optime::OpTime;
use crate::model::server::Topology;
use crate::mongo::notes::Notes;
use crate::mongo::server::Server;
use crate::source::describe::Description;
use crate::source::oplog::{self, OplogObstacle, SliceStart};
use crate::source::snapshot;

/// What a run does about it.
#[derive(Debug, Clone)]
pub struct Consistency {
    /// The oplog slice that was begun.
    pub oplog: Option<SliceStart>,
    /// The instant that all is read as of.
    pub at: Option<OpTime>,
    /// What chose it, or why it is not more.
    pub why: String,
    /// The collections that are not as of that instant.
    pub beside: Option<String>,
}

/// Decides, and begins what has to begin before the server is described.
///
/// # Errors
/// If what was asked for cannot be had.
pub async fn begin(server: &Server, version: &str, options: &BackupOptions) -> Result<Consistency> {
    let none = |why: String| Consistency { oplog: None, at: None, why, beside: None };
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
        Ok(begun) => Ok(Consistency { oplog: Some(begun), at: None, why: why.into(), beside: None }),
        Err(without) if options.settings.consistency == ConsistencyChoice::Auto => {
            // Of a standalone it is the same every night; it stands in the manifest, `health` and --dry-run say it.
            let alone = server.hello.topology == Topology::Standalone;
            let level = if alone { log::Level::Debug } else { log::Level::Info };
            log::log!(level, "each collection is read at its own time: {}", without.words());
            Ok(none(without.words()))
        }
        Err(without) => {
            let address = &server.hello.address;
            Err(Error::failed(format!(
                "there can be no oplog slice of MongoDB at {address}: {}",
                without.why
            ))
            .hint(format!("{}; or use --consistency auto or none (BACKUP_CONSISTENCY)", without.hint)))
        }
    }
}

impl Consistency {
    /// Chooses the instant of a snapshot: as late as can be, because the server keeps it only for a while.
    pub async fn choose_instant(
        &mut self,
        server: &Server,
        options: &BackupOptions,
        description: &mut Description,
        notes: &Notes,
    ) -> Result<()> {
        if options.settings.consistency != ConsistencyChoice::Snapshot {
            return Ok(());
        }
        let at = snapshot::choose(server, &options.settings.selection, description).await?;
        self.at = Some(at);
        match snapshot::window(server).await {
            Some(seconds) => {
                log::info!("all is read as of {at}, which MongoDB keeps for {seconds} s at least")
            }
            None => log::info!("all is read as of {at}"),
        }
        let apart: Vec<String> = description
            .namespaces
            .iter()
            .filter(|namespace| snapshot::apart(namespace))
            .map(ToString::to_string)
            .collect();
        if !apart.is_empty() {
            let line = format!(
                "not as of {at}, which MongoDB cannot, but each at its own time: {}",
                apart.join(", ")
            );
            notes.add(format!("read {line}"));
            self.beside = Some(line);
        }
        Ok(())
    }
}
