//! The memory that commands need for the backups of a year.

use std::process::Stdio;
use std::time::Duration;

use chrono::{SecondsFormat, SubsecRound, TimeDelta, Utc};
use uzima_backup::catalog::layout;
use uzima_backup::model::manifest::{IndexEntry, Manifest, NamespaceEntry};
use uzima_backup::model::namespace::Type;

use crate::cleanup::support::{JOB, Place, of_time};

/// A manifest with 2,000 collections, each with two indexes.
fn large() -> Manifest {
    let mut manifest = of_time(JOB, Utc::now().trunc_subsecs(0) - TimeDelta::hours(1));
    let hash = || blake3::hash(b"x").to_hex().to_string();
    let index = |name: &str| IndexEntry { name: name.into(), blake3: hash() };
    manifest.namespaces = (0..2_000)
        .map(|n| NamespaceEntry {
            db: "tenants".into(),
            collection: format!("customer_{n:05}_orders"),
            kind: Type::Collection,
            uuid: Some("0123456789abcdef0123456789abcdef".into()),
            options_blake3: hash(),
            indexes: vec![index("_id_"), index("customer_1_created_at_-1")],
            documents: 1_000 + n,
            raw_bytes: 100_000 + n,
            stored_bytes: 10_000,
            xxh3_sum: "0123456789abcdef0123456789abcdef".into(),
            dropped: false,
        })
        .collect();
    manifest.totals.namespaces = 2_000;
    manifest.totals.documents = manifest.namespaces.iter().map(|n| n.documents).sum();
    manifest.totals.raw_bytes = manifest.namespaces.iter().map(|n| n.raw_bytes).sum();
    manifest
}

/// Writes a copy of this backup for each of the last nights. Returns the size of a manifest in bytes.
fn nightly(place: &Place, like: &Manifest, nights: i64) -> usize {
    let json = String::from_utf8(like.encode().expect("JSON")).expect("UTF-8");
    let time = |at: chrono::DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    for night in 0..nights {
        let other = of_time(JOB, like.started_at - TimeDelta::days(night));
        let mut json = json.replace(&layout::folder(&like.id), &layout::folder(&other.id));
        for (from, to) in [
            (like.id.to_string(), other.id.to_string()),
            (time(like.started_at), time(other.started_at)),
            (time(like.finished_at), time(other.finished_at)),
        ] {
            json = json.replace(&from, &to);
        }
        place.put(&other.artifact.key, b"all the data");
        place.put(&other.index.key, b"index");
        place.put(&layout::manifest(&other.id), json.as_bytes());
    }
    json.len()
}

/// The peak memory of a run in MiB, and its exit code. The kernel keeps the maximum, so polling until the
/// process ends is enough.
fn peak(place: &Place, args: &[&str]) -> (u64, Option<i32>) {
    let mut command = place.command();
    command.env("BACKUP_RETENTION_DAYS", "5000").args(args).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let mut kib = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        kib = kib.max(now.unwrap_or(0));
        if let Some(ended) = child.try_wait().expect("a child") {
            return (kib >> 10, ended.code());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// With `UZIMA_TEST_FULL=1`: 365 backups, and each command without the cache that others wrote.
#[test]
fn a_year_of_large_manifests_fits_into_96_mib() {
    let full = std::env::var_os("UZIMA_TEST_FULL").is_some();
    let nights = if full { 365 } else { 80 };
    let place = Place::dir();
    let like = large();
    let bytes = nightly(&place, &like, nights);
    let health = ["health", "--only", "store,freshness,backups,drill"];
    let commands = [&["cleanup"][..], &["list"], &["stats"], &health];
    for args in commands {
        if full {
            let _ = std::fs::remove_dir_all(place.home.state());
        }
        let (mib, code) = peak(&place, args);
        println!("{nights} manifests of {bytes} bytes, {args:?}: {mib} MiB");
        assert_eq!(code, Some(0), "{args:?}");
        assert!(mib > 0 && mib < 96, "{args:?}: {mib} MiB");
    }
    let _ = std::fs::remove_dir_all(place.home.state());
    let [one, latest] = [like.id.as_str(), "latest"].map(|which| {
        let (mib, code) = peak(&place, &["verify", which]);
        // The index is no valid index.
        assert_eq!(code, Some(4), "{which}");
        println!("{nights} manifests of {bytes} bytes, verify {which}: {mib} MiB");
        mib
    });
    assert!(latest <= one + 64, "verify latest: {latest} MiB, verify of the same backup: {one} MiB");
}
