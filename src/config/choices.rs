//! The values of settings that are one of a few words, and the retention policy.

use std::str::FromStr;

/// The engine that a backup is asked to read with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineChoice {
    /// mongodump where it is installed and can do it, else native.
    Auto,
    /// Cursors of our own.
    Native,
    /// The official tool.
    Mongodump,
}

impl EngineChoice {
    /// How settings spell them.
    pub const NAMES: [&str; 3] = ["auto", "native", "mongodump"];
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<EngineChoice, String> {
        match text {
            "auto" => Ok(EngineChoice::Auto),
            "native" => Ok(EngineChoice::Native),
            "mongodump" => Ok(EngineChoice::Mongodump),
            _ => Err(format!("the engines are {}", EngineChoice::NAMES.join(", "))),
        }
    }
}

/// The consistency that a backup is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsistencyChoice {
    /// The oplog slice where there is an oplog that the user may read, else none.
    Auto,
    /// The oplog slice of the time of reading, or an error.
    Oplog,
    /// Every read as of one instant, or an error.
    Snapshot,
    /// Each collection at its own time.
    None,
}

impl ConsistencyChoice {
    /// How settings spell them.
    pub const NAMES: [&str; 4] = ["auto", "oplog", "snapshot", "none"];
}

impl FromStr for ConsistencyChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<ConsistencyChoice, String> {
        match text {
            "auto" => Ok(ConsistencyChoice::Auto),
            "oplog" => Ok(ConsistencyChoice::Oplog),
            "snapshot" => Ok(ConsistencyChoice::Snapshot),
            "none" => Ok(ConsistencyChoice::None),
            _ => Err("it is auto, oplog, snapshot or none".into()),
        }
    }
}

/// How long backups are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Days after which a backup goes.
    pub days: u32,
    /// The newest so many good ones stay however old they are.
    pub min: usize,
    /// The newest so many good ones stay.
    pub last: usize,
    /// The newest good one of each of the newest so many days that have one stays.
    pub daily: usize,
    /// The same for weeks, which begin on Monday.
    pub weekly: usize,
    /// The same for months.
    pub monthly: usize,
    /// The same for years.
    pub yearly: usize,
}
