//! Which engine reads, and why.

use super::Options;
use crate::base::error::{Error, Result};
use crate::config::choices::ConsistencyChoice;
use crate::config::choices::EngineChoice;
use crate::model::manifest;
use crate::source::mongodump::{self, Mongodump};

/// The engine of a run.
#[derive(Debug)]
pub struct Engine {
    /// mongodump, if it is the engine.
    pub mongodump: Option<Mongodump>,
    /// Why this one.
    pub why: String,
}

impl Engine {
    /// `native` or `mongodump`.
    pub fn name(&self) -> &'static str {
        if self.mongodump.is_some() { "mongodump" } else { "native" }
    }

    /// What reads, which version of it and where that is, and why.
    pub fn words(&self) -> String {
        match &self.mongodump {
            Some(m) => format!("mongodump {}, {} ({})", m.found.version, m.found.path.display(), self.why),
            None => format!("native: {}", self.why),
        }
    }

    /// What the manifest says of it.
    pub fn entry(&self) -> manifest::Engine {
        manifest::Engine {
            name: self.name().into(),
            version: self.mongodump.as_ref().map(|m| m.found.version.clone()),
            why: self.why.clone(),
        }
    }
}

/// Chooses the engine.
pub fn choose(options: &Options) -> Result<Engine> {
    let native = |why: String| Engine { mongodump: None, why };
    let find = || mongodump::find(options.mongodump_path.as_deref(), options.search_path.as_deref());
    let with = |found: mongodump::Found, why: String| Engine {
        mongodump: Some(Mongodump { found, stall: options.stall }),
        why,
    };
    let snapshot = options.consistency == ConsistencyChoice::Snapshot;
    match options.engine {
        EngineChoice::Mongodump if snapshot => {
            Err(Error::usage("mongodump cannot read as of one instant: consistency = snapshot needs the native engine")
                .hint("Use --engine native or auto (BACKUP_ENGINE), or --consistency oplog (BACKUP_CONSISTENCY)"))
        }
        EngineChoice::Auto if snapshot => {
            Ok(native("mongodump cannot read as of one instant (consistency = snapshot)".into()))
        }
        EngineChoice::Native => Ok(native("engine = native".into())),
        EngineChoice::Mongodump => match find() {
            Ok(found) => Ok(with(found, "engine = mongodump".into())),
            Err(missing) => Err(Error::usage(missing.to_string())
                .hint("Install mongodb-database-tools, set mongodump_path (MONGODUMP_PATH), or use BACKUP_ENGINE=native")),
        },
        EngineChoice::Auto if options.selection.databases.len() > 1 || !options.selection.unfiltered() => {
            Ok(native("mongodump cannot read several chosen databases or patterns without reading the rest".into()))
        }
        EngineChoice::Auto => Ok(match find() {
            Ok(found) => {
                let why = format!("found {} {}", found.path.display(), found.version);
                with(found, why)
            }
            Err(missing) => native(missing.to_string()),
        }),
    }
}
