//! The four formats of an artifact.

use std::fmt;
use std::str::FromStr;

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
