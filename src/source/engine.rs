//! Chooses the engine that reads a backup: mongodump or the tool's own cursors.
//!
//! The setting `engine` decides. With `auto`, mongodump reads if it is installed and can read exactly the selection.

use super::mongodump::{self, Mongodump};
use crate::base::error::{Error, Result};
use crate::config::JobSettings;
use crate::config::choices::{ConsistencyChoice, EngineChoice};
use crate::model::manifest;

/// The engine of a run, and the reason for the choice.
#[derive(Debug)]
pub struct ChosenEngine {
    /// `None` for the native engine.
    pub mongodump: Option<Mongodump>,
    pub why: String,
}

impl ChosenEngine {
    pub fn native(why: impl Into<String>) -> ChosenEngine {
        ChosenEngine { mongodump: None, why: why.into() }
    }

    /// `native` or `mongodump`.
    pub fn name(&self) -> &'static str {
        if self.mongodump.is_some() { "mongodump" } else { "native" }
    }

    /// The engine with its version and path, and the reason, for `health`.
    pub fn words(&self) -> String {
        match &self.mongodump {
            Some(m) => format!("mongodump {}, {} ({})", m.version, m.path.display(), self.why),
            None => format!("native: {}", self.why),
        }
    }

    /// The manifest's entry.
    pub fn entry(&self) -> manifest::EngineUsed {
        manifest::EngineUsed {
            name: self.name().into(),
            version: self.mongodump.as_ref().map(|m| m.version.clone()),
            why: self.why.clone(),
        }
    }
}

/// Chooses the engine. May run `mongodump --version`, which is killed if the future is dropped.
///
/// # Errors
/// Returns an error if mongodump was asked for by name and is not installed, or cannot read consistently as asked.
pub async fn choose(settings: &JobSettings) -> Result<ChosenEngine> {
    let find = || mongodump::find(settings.mongodump_path.as_deref(), settings.search_path.as_deref());
    let snapshot = settings.consistency == ConsistencyChoice::Snapshot;
    match settings.engine {
        EngineChoice::Mongodump if snapshot => Err(Error::usage(
            "mongodump cannot read as of one instant: consistency = snapshot needs the native engine",
        )
        .hint("Use --engine native or auto (BACKUP_ENGINE), or --consistency oplog (BACKUP_CONSISTENCY)")),
        EngineChoice::Auto if snapshot => Ok(ChosenEngine::native(
            "mongodump cannot read as of one instant (consistency = snapshot)",
        )),
        EngineChoice::Native => Ok(ChosenEngine::native("engine = native")),
        EngineChoice::Mongodump => match find().await {
            Ok(found) => Ok(ChosenEngine { mongodump: Some(found), why: "engine = mongodump".into() }),
            Err(missing) => Err(Error::usage(missing).hint(
                "Install mongodb-database-tools, set mongodump_path (MONGODUMP_PATH), or use BACKUP_ENGINE=native",
            )),
        },
        EngineChoice::Auto if settings.selection.databases.len() > 1 || !settings.selection.unfiltered() => {
            Ok(ChosenEngine::native(
                "mongodump cannot read several chosen databases or patterns without reading the rest",
            ))
        }
        EngineChoice::Auto => Ok(match find().await {
            Ok(found) => {
                let why = format!("found {} {}", found.path.display(), found.version);
                ChosenEngine { mongodump: Some(found), why }
            }
            Err(missing) => ChosenEngine::native(missing),
        }),
    }
}
