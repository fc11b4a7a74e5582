//! The keys of all objects in a store:
//!
//! ```text
//! <YYYY>/<MM>/<backup-id>/dump.<format>     the artifact
//! <YYYY>/<MM>/<backup-id>/index.json.zst    its segments
//! <YYYY>/<MM>/<backup-id>/manifest.json     written last; with it, the backup exists
//! <YYYY>/<MM>/<backup-id>/manifest.json.minisig  the signature of the manifest, written before it
//! <YYYY>/<MM>/<backup-id>/pin.json          a person wants to keep the backup
//! <YYYY>/<MM>/<backup-id>/accepted.json     a person checked the backup and accepted it
//! <YYYY>/<MM>/<backup-id>/tombstone.json    the backup is being deleted
//! <YYYY>/<MM>/<backup-id>/verified-<time>.json  the result of a verify
//! <YYYY>/<MM>/<backup-id>/RECOVERY.txt      how to restore an encrypted backup without this tool
//! <YYYY>/<MM>/<backup-id>/failed.json       the reason why the run failed and left no backup
//! .health/<machine>                         written by `health`, which deletes it if it may
//! .scheduled/<job>.json                     the mails that the mail service keeps, to be sent if backups stop
//! oplog/<job>/<chain>/<start>/slice-<random>.bson.zst   the entries of an oplog slice
//! oplog/<job>/<chain>/<start>/events-<random>.json.zst  the slice's events; both end in .age if they are encrypted
//! oplog/<job>/<chain>/<start>/signature-<random>.minisig  the signature of slice.json, which names it
//! oplog/<job>/<chain>/<start>/slice.json                written last; with it, the slice exists
//! ```
//!
//! Signed acceptances and results of verifies also have a `.minisig` beside them.
//!
//! The manifest of a slice is not called `manifest.json`: commands in RECOVERY.txt find the newest backup by that name.

use chrono::{DateTime, NaiveDateTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::choices;
use crate::config::choices::Format;
use crate::model::id::BackupId;
use crate::model::index;
use crate::model::optime::OpTime;
use crate::model::slice::ChainId;

pub const MANIFEST: &str = "manifest.json";
pub const PIN: &str = "pin.json";
pub const ACCEPTED: &str = "accepted.json";
pub const TOMBSTONE: &str = "tombstone.json";
const VERIFIED: &str = "verified-";
pub const FAILED: &str = "failed.json";
/// The commands for an encrypted backup, in plain text.
pub const RECOVERY: &str = "RECOVERY.txt";
/// The ending of the file names of encrypted objects.
const ENCRYPTED: &str = ".age";
/// The ending of the file name of a signature.
const SIGNATURE: &str = ".minisig";
/// The manifest of an oplog slice.
pub const SLICE: &str = "slice.json";
const OPLOG: &str = "oplog/";

/// The characters that stay unchanged in the folder of a job's oplog slices. The name of a job that is named after its server
/// may contain others (a socket's path).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'@').remove(b'+').remove(b'-');
/// The most bytes of a job's name in a key.
const LONGEST_JOB: usize = 180;

/// Returns the folder of a backup, with a slash at the end.
pub fn folder(id: &BackupId) -> String {
    format!("{}/{id}/", id.started().format("%Y/%m"))
}

pub fn artifact(id: &BackupId, format: Format, encrypted: bool) -> String {
    let ending = if encrypted { ENCRYPTED } else { "" };
    format!("{}{}{ending}", folder(id), format.file())
}

pub fn index(id: &BackupId, encrypted: bool) -> String {
    format!("{}{}", folder(id), if encrypted { index::ENCRYPTED_FILE } else { index::FILE })
}

pub fn recovery(id: &BackupId) -> String {
    format!("{}{RECOVERY}", folder(id))
}

pub fn manifest(id: &BackupId) -> String {
    format!("{}{MANIFEST}", folder(id))
}

/// Returns the key of the signature of the object with this key, or the name of the signature of a file.
pub fn signature(of: &str) -> String {
    format!("{of}{SIGNATURE}")
}

/// Returns true for the file name of a signature.
pub fn is_signature(file: &str) -> bool {
    file.ends_with(SIGNATURE)
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

/// Returns true for the file name of the result of a verify, or of its signature.
pub fn is_beside_verify(file: &str) -> bool {
    is_verified(file.strip_suffix(SIGNATURE).unwrap_or(file))
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

/// Returns the key of the mails that are scheduled for a job.
pub fn scheduled(job: &str) -> String {
    format!(".scheduled/{}.json", job_in_key(job))
}

/// Returns true for a key below the prefix of the oplog slices of all jobs.
pub fn is_of_slices(key: &str) -> bool {
    key.starts_with(OPLOG)
}

/// Returns the prefix of all oplog slices of a job, with a slash at the end. Different jobs have different prefixes.
pub fn slices_of(job: &str) -> String {
    format!("{OPLOG}{}/", job_in_key(job))
}

/// A job's name as a part of a key. Different jobs have different ones.
fn job_in_key(job: &str) -> String {
    let mut name = utf8_percent_encode(job, PLAIN).to_string();
    if name.len() > LONGEST_JOB {
        let hash = blake3::hash(job.as_bytes()).to_hex();
        // No other name contains a tilde.
        name = format!("{}~{}", &name[..LONGEST_JOB - 33], &hash[..32]);
    }
    if name.bytes().all(|b| b == b'.') {
        name = name.replace('.', "%2E");
    }
    name
}

/// Returns the folder of the slice that starts at `start`, with a slash at the end.
pub fn slice_folder(job: &str, chain: &ChainId, start: OpTime) -> String {
    format!("{}{chain}/{}/", slices_of(job), start.padded())
}

pub fn slice(job: &str, chain: &ChainId, start: OpTime) -> String {
    format!("{}{SLICE}", slice_folder(job, chain, start))
}

/// Returns the keys of a slice's body and events. `random` makes them different for each run.
pub fn slice_objects(
    job: &str,
    chain: &ChainId,
    start: OpTime,
    random: &str,
    encrypted: bool,
) -> (String, String) {
    let (folder, ending) = (slice_folder(job, chain, start), if encrypted { ENCRYPTED } else { "" });
    (format!("{folder}slice-{random}.bson.zst{ending}"), format!("{folder}events-{random}.json.zst{ending}"))
}

/// Returns the key of the signature of a slice's manifest. It has a random name as well: two runs that contest a manifest sign
/// different ones.
pub fn slice_signature(job: &str, chain: &ChainId, start: OpTime, random: &str) -> String {
    format!("{}signature-{random}{SIGNATURE}", slice_folder(job, chain, start))
}

/// Returns chain, start and file name of a key below [`slices_of`] `job`; `None` for a foreign key.
pub fn parse_slice<'a>(job: &str, key: &'a str) -> Option<(ChainId, OpTime, &'a str)> {
    let mut parts = key.strip_prefix(&slices_of(job))?.split('/');
    let (chain, start, file) =
        (parts.next()?.parse().ok()?, OpTime::from_padded(parts.next()?)?, parts.next()?);
    let plain = file.strip_suffix(ENCRYPTED).unwrap_or(file);
    let known = file == SLICE
        || plain.starts_with("slice-") && plain.ends_with(".bson.zst")
        || plain.starts_with("events-") && plain.ends_with(".json.zst")
        || file.starts_with("signature-") && file.ends_with(SIGNATURE);
    (parts.next().is_none() && known).then_some((chain, start, file))
}

/// Returns true for the file name of an artifact, encrypted or not.
pub fn is_artifact(file: &str) -> bool {
    let file = file.strip_suffix(ENCRYPTED).unwrap_or(file);
    file.strip_prefix("dump.").is_some_and(|format| choices::NAMES.contains(&format))
}

/// Returns true for the file name of an index, encrypted or not.
pub fn is_index(file: &str) -> bool {
    [index::FILE, index::ENCRYPTED_FILE].contains(&file)
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
        assert_eq!(artifact(&id, format, false), "2026/11/20261123T030000Z-7k3q9d/dump.tar.gz");
        assert_eq!(artifact(&id, format, true), "2026/11/20261123T030000Z-7k3q9d/dump.tar.gz.age");
        assert!(
            is_artifact("dump.tar.gz.age") && !is_artifact("dump.age") && !is_artifact("dump.tar.gz.age.age")
        );
        assert!(is_index("index.json.zst") && is_index("index.json.zst.age") && !is_index("index.json"));
        assert!(is_verified("verified-20261123T030000Z.json") && !is_verified("verified-x"));
        assert!(
            is_beside_verify("verified-20261123T030000Z.json.minisig")
                && !is_beside_verify("manifest.json.minisig")
        );
        assert!(is_artifact("dump.tar.gz") && !is_artifact("dump.tar") && !is_artifact("tar.gz"));
        for (key, file) in [
            (manifest(&id), "manifest.json"),
            (signature(&manifest(&id)), "manifest.json.minisig"),
            (index(&id, false), "index.json.zst"),
            (index(&id, true), "index.json.zst.age"),
            (recovery(&id), "RECOVERY.txt"),
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
    fn the_keys_of_a_slice_belong_to_no_backup_and_read_back() {
        let start = OpTime { t: 1_795_489_212, i: 5 };
        let chain = ChainId::new("6563a1b2c3d4e5f60718293a", start).unwrap();
        let long = "ü".repeat(200);
        let mut folders = std::collections::BTreeSet::new();
        for job in
            ["all@db1", ".", "..", "%2E", "x~y", "shop@/tmp/mongodb-27017.sock", &long, &format!("{long}x")]
        {
            let (body, events) = slice_objects(job, &chain, start, "7k3q9d", false);
            let (sealed, sealed_events) = slice_objects(job, &chain, start, "7k3q9d", true);
            for (key, file) in [
                (slice(job, &chain, start), "slice.json"),
                (body, "slice-7k3q9d.bson.zst"),
                (events, "events-7k3q9d.json.zst"),
                (sealed, "slice-7k3q9d.bson.zst.age"),
                (sealed_events, "events-7k3q9d.json.zst.age"),
                (slice_signature(job, &chain, start, "7k3q9d"), "signature-7k3q9d.minisig"),
            ] {
                assert!(crate::store::is_key(&key) && key.len() < 300, "{key}");
                assert_eq!(parse_slice(job, &key), Some((chain.clone(), start, file)));
                assert_eq!((parse(&key), parse_slice("other", &key)), (None, None));
            }
            assert!(folders.insert(slices_of(job)), "{job}");
            assert!(crate::store::is_key(&scheduled(job)) && folders.insert(scheduled(job)), "{job}");
            assert_eq!(parse(&scheduled(job)), None);
        }
        let key = slice("all@db1", &chain, start);
        assert_eq!(
            key,
            "oplog/all@db1/6563a1b2c3d4e5f60718293a-1795489212.0000000005/1795489212.0000000005/slice.json"
        );
        for foreign in
            [key.replace("slice.json", "manifest.json"), format!("{key}/x"), key.replace(".00", ".0")]
        {
            assert_eq!(parse_slice("all@db1", &foreign), None, "{foreign}");
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
