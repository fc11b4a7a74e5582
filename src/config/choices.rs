//! The values of settings that are one of a few words: engine, consistency and format; and the retention policy.

use std::fmt;
use std::str::FromStr;

/// The engine that the settings ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineChoice {
    /// mongodump if it is installed and can read the selection, else the native engine.
    Auto,
    /// The cursors of this tool.
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

/// How long backups are kept. A backup stays if any of the rules keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The age in days after which a backup may be deleted.
    pub days: u32,
    /// The number of newest good backups that stay at any age.
    pub min: usize,
    /// The number of newest good backups that stay.
    pub last: usize,
    /// The number of newest days (UTC) of which the newest good backup stays. Days without a good backup do not count.
    pub daily: usize,
    /// The same number for weeks, which begin on Monday.
    pub weekly: usize,
    /// The same number for months.
    pub monthly: usize,
    /// The same number for years.
    pub yearly: usize,
}

/// How the documents are framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// A tar of a mongodump directory.
    Tar,
    /// mongodump's archive.
    Archive,
}

/// How pieces are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// gzip members; level 1 (fast) to 12 (small), as libdeflate counts them.
    Gzip {
        /// The level.
        level: i32,
    },
    /// zstd frames; level 1 (fast) to 19 (small).
    Zstd {
        /// The level.
        level: i32,
    },
}

impl Codec {
    /// The level.
    pub fn level(self) -> i32 {
        match self {
            Codec::Gzip { level } | Codec::Zstd { level } => level,
        }
    }

    /// The levels that may be asked for.
    pub fn levels(self) -> std::ops::RangeInclusive<i32> {
        match self {
            Codec::Gzip { .. } => 1..=12,
            Codec::Zstd { .. } => 1..=19,
        }
    }

    /// The file name's ending.
    pub fn suffix(self) -> &'static str {
        match self {
            Codec::Gzip { .. } => "gz",
            Codec::Zstd { .. } => "zst",
        }
    }
}

/// A container and its compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// The framing.
    pub container: Container,
    /// The compression.
    pub codec: Codec,
}

/// The names of the formats, as settings, manifests and file names spell them.
pub const NAMES: [&str; 4] = ["tar.gz", "tar.zst", "archive.gz", "archive.zst"];

impl Format {
    /// The format with another compression level; `None` if the codec has no such level.
    pub fn at_level(self, level: i32) -> Option<Format> {
        let codec = match self.codec {
            Codec::Gzip { .. } => Codec::Gzip { level },
            Codec::Zstd { .. } => Codec::Zstd { level },
        };
        codec.levels().contains(&level).then_some(Format { codec, ..self })
    }

    /// The artifact's file name.
    pub fn file(self) -> String {
        format!("dump.{self}")
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let container = match self.container {
            Container::Tar => "tar",
            Container::Archive => "archive",
        };
        write!(f, "{container}.{}", self.codec.suffix())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        // The fastest levels at which the artifact is at most 5 % larger than mongodump's own (gzip -6)
        // and 3 % larger than zstd -3, as examples/bench.rs measures it.
        let (gzip, zstd) = (Codec::Gzip { level: 4 }, Codec::Zstd { level: 3 });
        let (container, codec) = match text {
            "tar.gz" => (Container::Tar, gzip),
            "tar.zst" => (Container::Tar, zstd),
            "archive.gz" => (Container::Archive, gzip),
            "archive.zst" => (Container::Archive, zstd),
            _ => return Err(format!("the formats are {}", NAMES.join(", "))),
        };
        Ok(Format { container, codec })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in NAMES {
            assert_eq!(name.parse::<Format>().unwrap().to_string(), name);
        }
        assert!("tar".parse::<Format>().unwrap_err().contains("tar.zst"));
    }

    #[test]
    fn levels_are_checked() {
        let format: Format = "tar.gz".parse().unwrap();
        assert!(
            format.at_level(12).is_some() && format.at_level(13).is_none() && format.at_level(0).is_none()
        );
    }
}
