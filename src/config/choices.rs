//! Settings whose value is one of a fixed list of words, and the retention policy.

use std::fmt;
use std::str::FromStr;

/// Returns the choice whose name is `text`.
///
/// # Errors
/// Returns an error that lists the names.
pub(super) fn choose<T: Copy, const N: usize>(
    text: &str,
    names: [&str; N],
    choices: [T; N],
) -> Result<T, String> {
    let found = names.iter().zip(choices).find(|(name, _)| **name == text);
    found.map(|(_, choice)| choice).ok_or_else(|| format!("it must be one of {}", names.join(", ")))
}

/// The engine in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineChoice {
    /// mongodump if it is installed and can read the selection, else the native engine.
    Auto,
    Native,
    Mongodump,
}

impl EngineChoice {
    pub const NAMES: [&str; 3] = ["auto", "native", "mongodump"];
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<EngineChoice, String> {
        choose(text, EngineChoice::NAMES, [EngineChoice::Auto, EngineChoice::Native, EngineChoice::Mongodump])
    }
}

/// The number of readers of one collection in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadersChoice {
    /// As many as the round trip to the server and the cores of this machine need.
    #[default]
    Auto,
    Count(usize),
}

impl ReadersChoice {
    /// The most readers.
    pub const MOST: usize = 16;
}

impl FromStr for ReadersChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<ReadersChoice, String> {
        let count = text.parse().ok().filter(|count| (1..=ReadersChoice::MOST).contains(count));
        match text {
            "auto" => Ok(ReadersChoice::Auto),
            _ => count
                .map(ReadersChoice::Count)
                .ok_or_else(|| format!("it must be auto, or a number from 1 to {}", ReadersChoice::MOST)),
        }
    }
}

/// The consistency in the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsistencyChoice {
    /// `Oplog` if the server has an oplog that the user may read, else `None`.
    Auto,
    /// The backup has an oplog slice for the time of reading; otherwise it fails.
    Oplog,
    /// All data is read as of one instant; otherwise the backup fails.
    Snapshot,
    /// Each collection is read at its own time.
    None,
}

impl ConsistencyChoice {
    pub const NAMES: [&str; 4] = ["auto", "oplog", "snapshot", "none"];
}

impl FromStr for ConsistencyChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<ConsistencyChoice, String> {
        use ConsistencyChoice::{Auto, None, Oplog, Snapshot};
        choose(text, ConsistencyChoice::NAMES, [Auto, Oplog, Snapshot, None])
    }
}

/// How long backups are kept. A backup stays if any of the rules keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The age in days after which a backup may be deleted.
    pub days: u32,
    /// The number of newest good backups to keep at any age.
    pub min: usize,
    /// The number of newest good backups to keep.
    pub last: usize,
    /// The number of days (UTC) whose newest good backup is kept. Days without a good backup do not count.
    pub daily: usize,
    /// The same for weeks, which begin on Monday.
    pub weekly: usize,
    pub monthly: usize,
    pub yearly: usize,
}

/// How an artifact frames documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// A tar of a mongodump directory.
    Tar,
    /// mongodump's archive.
    Archive,
}

/// The compression level that follows the line.
pub const AUTO_LEVEL: &str = "auto";

/// How an artifact compresses blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// gzip members. libdeflate's levels are 1 (fast) to 12 (small).
    Gzip { level: i32 },
    /// zstd frames, with the levels 1 (fast) to 19 (small).
    Zstd { level: i32 },
}

impl Codec {
    pub fn level(self) -> i32 {
        match self {
            Codec::Gzip { level } | Codec::Zstd { level } => level,
        }
    }

    pub fn levels(self) -> std::ops::RangeInclusive<i32> {
        match self {
            Codec::Gzip { .. } => 1..=12,
            Codec::Zstd { .. } => 1..=19,
        }
    }

    /// The suffix of file names.
    pub fn suffix(self) -> &'static str {
        match self {
            Codec::Gzip { .. } => "gz",
            Codec::Zstd { .. } => "zst",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    pub container: Container,
    pub codec: Codec,
}

/// The names of the formats in settings, manifests and file names.
pub const NAMES: [&str; 4] = ["tar.gz", "tar.zst", "archive.gz", "archive.zst"];

impl Format {
    /// Returns the format with another compression level; `None` if the codec has no such level.
    pub(super) fn at_level(self, level: i32) -> Option<Format> {
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
        let of = |container, codec| Format { container, codec };
        let (tar, archive) = (Container::Tar, Container::Archive);
        choose(text, NAMES, [of(tar, gzip), of(tar, zstd), of(archive, gzip), of(archive, zstd)])
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
