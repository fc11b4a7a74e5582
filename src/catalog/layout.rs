//! Every key that is ever built or parsed:
//!
//! ```text
//! <YYYY>/<MM>/<backup-id>/dump.<format>     the artifact
//! <YYYY>/<MM>/<backup-id>/index.json.zst    its segments
//! <YYYY>/<MM>/<backup-id>/manifest.json     written last: from now on the backup exists
//! <YYYY>/<MM>/<backup-id>/pin.json          a person wants it kept
//! <YYYY>/<MM>/<backup-id>/accepted.json     a person looked at it and found it right
//! <YYYY>/<MM>/<backup-id>/tombstone.json    it is being deleted
//! <YYYY>/<MM>/<backup-id>/verified-<time>.json  every byte was read again then, and this was found
//! <YYYY>/<MM>/<backup-id>/failed.json       the run failed: there is no backup, and this is why
//! .health/<machine>                         `health` has just written it, or may not delete it
//! ```

use chrono::{DateTime, NaiveDateTime, Utc};

use crate::config::choices;
use crate::config::choices::Format;
use crate::model::id::BackupId;
use crate::model::index;

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
/// The file name of a pin.
pub const PIN: &str = "pin.json";
/// The file name of an acceptance.
pub const ACCEPTED: &str = "accepted.json";
/// The file name of a tombstone.
pub const TOMBSTONE: &str = "tombstone.json";

/// How the file name of the result of a verify begins.
const VERIFIED: &str = "verified-";
/// The file name of what is said about a failed run.
pub const FAILED: &str = "failed.json";

/// The folder of a backup, with a slash at its end.
pub fn folder(id: &BackupId) -> String {
    format!("{}/{id}/", id.started().format("%Y/%m"))
}

/// The key of the artifact.
pub fn artifact(id: &BackupId, format: Format) -> String {
    format!("{}{}", folder(id), format.file())
}

/// The key of the index.
pub fn index(id: &BackupId) -> String {
    format!("{}{}", folder(id), index::FILE)
}

/// The key of the manifest.
pub fn manifest(id: &BackupId) -> String {
    format!("{}{MANIFEST}", folder(id))
}

/// The key of the object that keeps a backup.
pub fn pin(id: &BackupId) -> String {
    format!("{}{PIN}", folder(id))
}

/// The key of the object that says that a person found a backup right.
pub fn accepted(id: &BackupId) -> String {
    format!("{}{ACCEPTED}", folder(id))
}

/// The key of the object that says that a backup is being deleted.
pub fn tombstone(id: &BackupId) -> String {
    format!("{}{TOMBSTONE}", folder(id))
}

/// The key of the result of a verify that ended at `at`.
pub fn verified(id: &BackupId, at: DateTime<Utc>) -> String {
    format!("{}{VERIFIED}{}.json", folder(id), at.format("%Y%m%dT%H%M%SZ"))
}

/// Whether a file name is that of the result of a verify. They sort by time.
pub fn is_verified(file: &str) -> bool {
    file.starts_with(VERIFIED) && file.ends_with(".json")
}

/// When the verify ended whose result has this file name; `None` if the name does not say.
pub fn verified_at(file: &str) -> Option<DateTime<Utc>> {
    let time = file.strip_prefix(VERIFIED)?.strip_suffix(".json")?;
    Some(NaiveDateTime::parse_from_str(time, "%Y%m%dT%H%M%SZ").ok()?.and_utc())
}

/// The key of the object that says why there is no backup of this id.
pub fn failed(id: &BackupId) -> String {
    format!("{}{FAILED}", folder(id))
}

/// The key of the object that `health` writes, reads and deletes: one for each machine, so that there are
/// never more, even where nothing may be deleted.
pub fn probe(host: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    format!(".health/{}", host.chars().take(128).map(plain).collect::<String>())
}

/// Whether a file name is that of an artifact.
pub fn is_artifact(file: &str) -> bool {
    file.strip_prefix("dump.").is_some_and(|format| choices::NAMES.contains(&format))
}

/// The backup and the file name of a key; `None` for a foreign one.
pub fn parse(key: &str) -> Option<(BackupId, &str)> {
    let (folders, file) = key.rsplit_once('/')?;
    let id: BackupId = folders.rsplit('/').next()?.parse().ok()?;
    (format!("{folders}/") == folder(&id)).then_some((id, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
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
    fn a_probe_is_foreign_to_everything_else() {
        for (host, key) in
            [("db1", ".health/db1"), ("..", ".health/__"), ("a/b.example", ".health/a_b_example")]
        {
            assert_eq!(probe(host), key);
            assert_eq!(parse(key), None);
        }
    }

    #[test]
    fn foreign_keys_are_not_ours() {
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
