//! To what instant the data of a backup shall belong.

use std::str::FromStr;

/// What was asked for.
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
