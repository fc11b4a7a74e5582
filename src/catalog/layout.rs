//! The keys of all objects in a store:
//!
//! ```text
//! <YYYY>/<MM>/<backup-id>/dump.<format>     the artifact
//! <YYYY>/<MM>/<backup-id>/index.json.zst    its segments
//! <YYYY>/<MM>/<backup-id>/manifest.json     written last; with it, the backup exists
//! <YYYY>/<MM>/<backup-id>/pin.json          a person wants to keep the backup
//! <YYYY>/<MM>/<backup-id>/accepted.json     a person checked the backup and accepted it
//! <YYYY>/<MM>/<backup-id>/tombstone.json    the backup is being deleted
//! <YYYY>/<MM>/<backup-id>/verified-<time>.json  the result of a verify
//! <YYYY>/<MM>/<backup-id>/failed.json       the reason why the run failed and left no backup
//! .health/<machine>                         written by `health`, which deletes it if it may
//! ```

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::config::choices;
use crate::config::choices::Format;
use crate::model::id::BackupId;
use crate::model::index;

pub const MANIFEST: &str = "manifest.json";
pub const PIN: &str = "pin.json";
pub const ACCEPTED: &str = "accepted.json";
pub const TOMBSTONE: &str = "tombstone.json";
const VERIFIED: &str = "verified-";
pub const FAILED: &str = "failed.json";

/// Returns the folder of a backup, with a slash at the end.
pub fn folder(id: &BackupId) -> String {
    format!("{}/{id}/", id.started().format("%Y/%m"))
}

pub fn artifact(id: &BackupId, format: Format) -> String {
    format!("{}{}", folder(id), format.file())
}

pub fn index(id: &BackupId) -> String {
    format!("{}{}", folder(id), index::FILE)
}

pub fn manifest(id: &BackupId) -> String {
    format!("{}{MANIFEST}", folder(id))
}

pub fn pin(id: &BackupId) -> String {
    format!("{}{PIN}", folder(id))
}

pub fn accepted(id: &BackupId) -> String {
    format!("{}{ACCEPTED}", folder(id))
}

pub fn tombstone(id: &BackupId) -> String {
    format!("{}{TOMBSTONE}", folder(id))
}

/// Returns the key for the result of a verify that ended at `at`.
pub fn verified(id: &BackupId, at: DateTime<Utc>) -> String {
    format!("{}{VERIFIED}{}.json", folder(id), at.format("%Y%m%dT%H%M%SZ"))
}

/// Returns true for the file name of the result of a verify. These names sort by time.
pub fn is_verified(file: &str) -> bool {
    file.starts_with(VERIFIED) && file.ends_with(".json")
}

/// Returns the end of the verify whose result has this file name; `None` if the name has no time.
pub fn verified_at(file: &str) -> Option<DateTime<Utc>> {
    let time = file.strip_prefix(VERIFIED)?.strip_suffix(".json")?;
    Some(NaiveDateTime::parse_from_str(time, "%Y%m%dT%H%M%SZ").ok()?.and_utc())
}

pub fn failed(id: &BackupId) -> String {
    format!("{}{FAILED}", folder(id))
}

/// Returns the key of the object that `health` writes, reads and deletes. Each machine has its own, so that there are never
/// more, even if nothing may be deleted.
pub fn probe(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    format!(".health/{}", host.chars().take(128).map(plain).collect::<String>())
}

/// Returns true for the file name of an artifact.
pub fn is_artifact(file: &str) -> bool {
    file.strip_prefix("dump.").is_some_and(|format| choices::NAMES.contains(&format))
}

/// Returns the backup and the file name of a key; `None` for a foreign key.
pub fn parse(key: &str) -> Option<(BackupId, &str)> {
    let (folders, file) = key.rsplit_once('/')?;
    let id: BackupId = folders.rsplit('/').next()?.parse().ok()?;
    (format!("{folders}/") == folder(&id)).then_some((id, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_parsed_into_backup_and_file() {
        let id: BackupId = "20261123T030000Z-7k3q9d".parse().unwrap();
        let format: Format = "tar.gz".parse().unwrap();
        assert_eq!(artifact(&id, format), "2026/11/20261123T030000Z-7k3q9d/dump.tar.gz");
        assert!(is_verified("verified-20261123T030000Z.json") && !is_verified("verified-x"));
        assert!(is_artifact("dump.tar.gz") && !is_artifact("dump.tar") && !is_artifact("tar.gz"));
        for (key, file) in [
            (manifest(&id), "manifest.json"),
            (index(&id), "index.json.zst"),
            (pin(&id), "pin.json"),
            (accepted(&id), "accepted.json"),
            (tombstone(&id), "tombstone.json"),
            (failed(&id), "failed.json"),
            (verified(&id, id.started()), "verified-20261123T030000Z.json"),
        ] {
            assert_eq!(parse(&key), Some((id.clone(), file)));
        }
    }

    #[test]
    fn the_key_of_a_probe_belongs_to_no_backup() {
        for (host, key) in
            [("db1", ".health/db1"), ("..", ".health/__"), ("a/b.example", ".health/a_b_example")]
        {
            assert_eq!(probe(host), key);
            assert_eq!(parse(key), None);
        }
    }

    #[test]
    fn foreign_keys_are_refused() {
        for key in [
            "manifest.json",
            "2026/12/20261123T030000Z-7k3q9d/manifest.json",
            "x/2026/11/20261123T030000Z-7k3q9d/m",
            "2026/11/notes.txt",
        ] {
            assert_eq!(parse(key), None, "{key}");
        }
    }
}
