//! The feature compatibility version and the topology of a server.
//!
//! The feature compatibility version decides which features the data may use, and which commands and options
//! the server accepts. It follows the version of the binary only after an administrator has raised it. A
//! server 6.0 with the feature compatibility version 5.0 refuses clustered collections and pre- and
//! post-images (seen on 6.0.27: code 72), and a replica set may mix members of both versions. Reads at a
//! given time do not depend on it (seen on 5.0.32 with 4.4).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A feature compatibility version, `major.minor`. Ordered by number: 4.4 < 5.0 < 10.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fcv {
    pub major: u32,
    pub minor: u32,
}

impl Fcv {
    /// Returns the feature compatibility version that belongs to a binary of version `a.b.c`. Returns `None`
    /// if `version` does not begin with two numbers.
    pub(super) fn of_version(version: &str) -> Option<Fcv> {
        let mut parts = version.split(['.', '-']);
        let mut next = || parts.next()?.parse().ok();
        Some(Fcv { major: next()?, minor: next()? })
    }
}

impl fmt::Display for Fcv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Fcv {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Fcv, String> {
        let wrong = || format!("'{text}' is not a feature compatibility version such as 6.0");
        let (major, minor) = text.split_once('.').ok_or_else(wrong)?;
        match (major.parse(), minor.parse()) {
            (Ok(major), Ok(minor)) => Ok(Fcv { major, minor }),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Fcv {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Fcv, String> {
        text.parse()
    }
}

impl From<Fcv> for String {
    fn from(fcv: Fcv) -> String {
        fcv.to_string()
    }
}

/// The kind of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// A single server without an oplog.
    Standalone,
    /// A member of a replica set.
    ReplicaSet,
    /// The router of a sharded cluster.
    Mongos,
}

/// The beginning of ids that are not those of the servers. As the time in an ObjectId, it would be in the year 2106.
const MADE: &str = "ffffffff";

/// Makes an id for a replica set whose own id the user may not read, from the UUID of a collection that all its members have in
/// common: 24 hex digits, like the ids of the servers.
pub fn made_set_id(uuid: &str) -> String {
    format!("{MADE}{}", &blake3::hash(uuid.as_bytes()).to_hex()[..16])
}

/// Returns true if two ids show whether their replica sets are the same. A made id says nothing about one of the servers.
pub fn are_comparable(a: &str, b: &str) -> bool {
    a.starts_with(MADE) == b.starts_with(MADE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let versions = ["4.4", "5.0", "6.0", "8.0", "8.3", "9.0", "10.0"];
        let parsed: Vec<Fcv> = versions.iter().map(|text| text.parse().unwrap()).collect();
        assert!(parsed.is_sorted());
        assert_eq!(parsed.iter().map(ToString::to_string).collect::<Vec<_>>(), versions);
        assert_eq!(Fcv::of_version("8.0.4-rc1"), "8.0".parse().ok());
        for wrong in ["", "6", "unknown", "6.x", "-1.0"] {
            assert!(wrong.parse::<Fcv>().is_err() && Fcv::of_version(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn json_holds_the_text() {
        let fcv: Fcv = serde_json::from_str("\"6.0\"").unwrap();
        assert_eq!(
            (fcv, serde_json::to_string(&fcv).unwrap().as_str()),
            (Fcv { major: 6, minor: 0 }, "\"6.0\"")
        );
        assert!(serde_json::from_str::<Fcv>("\"six\"").is_err());
    }
}
