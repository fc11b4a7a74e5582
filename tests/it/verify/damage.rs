//! Flipped bytes, truncations, swapped and missing objects are found by reading the backup again.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use uzima_backup::base::clock::Clock;
use uzima_backup::base::progress::Meter;
use uzima_backup::config::store::DirOptions;
use uzima_backup::model::manifest::Manifest;
use uzima_backup::ops::verify::{VerifyFinding, check_backup};
use uzima_backup::store::{DirStore, Store};
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, run};

const FORMATS: [&str; 4] = ["tar.gz", "tar.zst", "archive.gz", "archive.zst"];

/// A server with little data, because every byte of the artifact is flipped in turn.
async fn server() -> Mongod {
    let server = Mongod::builder().start().await.expect("mongod");
    let database = server.client().await.expect("a client").database("shop");
    for (name, rows) in [("rows", 40), ("few", 3)] {
        let rows = (0..rows).map(|n| bson::doc! {"_id": n, "text": format!("row {n} of {name}")});
        database.collection(name).insert_many(rows).await.expect("rows");
    }
    database.create_collection("empty").await.expect("a collection");
    server
}

struct StoredBackup {
    home: Home,
    store: Arc<dyn Store>,
    manifest: Manifest,
}

impl StoredBackup {
    fn make(server: &Mongod, format: &str) -> StoredBackup {
        let home = Home::new();
        run(home.to_dir(&server.uri()).args(["backup", "--db", "shop", "--format", format])).ends(0);
        let store = Arc::new(DirStore::new(DirOptions::new(home.backups())).expect("a store"));
        let manifest = home.manifests().pop().expect("a manifest");
        StoredBackup { home, store, manifest }
    }

    fn artifact(&self) -> PathBuf {
        self.home.backups().join(&self.manifest.artifact.key)
    }

    async fn findings(&self) -> Vec<VerifyFinding> {
        check_backup(&self.store, &self.manifest, None, 2, Clock::start(), &Meter::default())
            .await
            .expect("it can be read")
            .findings
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_backup_has_no_findings() {
    let server = server().await;
    for format in FORMATS {
        let backup = StoredBackup::make(&server, format);
        let report =
            check_backup(&backup.store, &backup.manifest, None, 2, Clock::start(), &Meter::default())
                .await
                .expect("a report");
        assert_eq!(report.findings, [], "{format}");
        let totals = backup.manifest.totals;
        assert_eq!((report.documents, report.raw_bytes), (totals.documents, totals.raw_bytes), "{format}");
        assert_eq!(report.stored_bytes, backup.manifest.artifact.size, "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_is_found() {
    let server = server().await;
    for format in FORMATS {
        let backup = StoredBackup::make(&server, format);
        let whole = std::fs::read(backup.artifact()).expect("the artifact");
        let file = std::fs::OpenOptions::new().write(true).open(backup.artifact()).expect("the artifact");
        for (at, byte) in whole.iter().enumerate() {
            file.write_all_at(&[byte ^ (1 << (at % 8))], at as u64).expect("a byte");
            assert!(!backup.findings().await.is_empty(), "{format}: byte {at} of {}", whole.len());
            file.write_all_at(&[*byte], at as u64).expect("a byte");
        }
        println!("{format}: all of {} bytes were flipped, each was found", whole.len());
        assert_eq!(backup.findings().await, [], "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_truncation_is_found() {
    let server = server().await;
    for format in FORMATS {
        let mut backup = StoredBackup::make(&server, format);
        let whole = std::fs::read(backup.artifact()).expect("the artifact");
        for len in (0..whole.len()).rev() {
            std::fs::write(backup.artifact(), &whole[..len]).expect("a shorter file");
            assert!(!backup.findings().await.is_empty(), "{format}: {len} of {}", whole.len());
            // The truncation is found even if the manifest has the shorter size.
            backup.manifest.artifact.size = len as u64;
            let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &whole[..len]);
            backup.manifest.artifact.crc64nvme = format!("{sum:016x}");
            assert!(
                !backup.findings().await.is_empty(),
                "{format}: {len} of {}, of a made up size",
                whole.len()
            );
            backup.manifest.artifact.size = whole.len() as u64;
            let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &whole);
            backup.manifest.artifact.crc64nvme = format!("{sum:016x}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_name_the_namespace_and_the_place() {
    let server = server().await;
    let backup = StoredBackup::make(&server, "tar.gz");
    let index = std::fs::read(backup.home.backups().join(&backup.manifest.index.key)).expect("the index");
    let index = uzima_backup::model::index::Index::decode(&index).expect("an index");
    let at = backup.manifest.namespaces.iter().position(|n| n.collection == "rows").expect("shop.rows");
    let segment = index.segments.iter().find(|s| s.namespace == at).expect("a segment of it");
    let mut bytes = std::fs::read(backup.artifact()).expect("the artifact");
    bytes[(segment.offset + segment.length / 2) as usize] ^= 1;
    std::fs::write(backup.artifact(), &bytes).expect("a file");
    let findings = backup.findings().await;
    let named =
        |f: &VerifyFinding| f.namespace.as_deref() == Some("shop.rows") && f.offset == Some(segment.offset);
    assert!(findings.iter().any(named), "{findings:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_and_missing_objects_are_found() {
    let server = server().await;
    let (one, other) = (StoredBackup::make(&server, "tar.zst"), StoredBackup::make(&server, "tar.zst"));
    let index = |backup: &StoredBackup| backup.home.backups().join(&backup.manifest.index.key);
    std::fs::copy(index(&other), index(&one)).expect("another index");
    assert!(one.findings().await[0].what.contains("does not have the size"), "{:?}", one.findings().await);
    std::fs::remove_file(index(&one)).expect("no index");
    assert!(one.findings().await[0].what.contains("is missing"));
    let sound = StoredBackup::make(&server, "tar.zst");
    std::fs::copy(other.artifact(), sound.artifact()).expect("another artifact");
    assert!(!sound.findings().await.is_empty());
    std::fs::remove_file(sound.artifact()).expect("no artifact");
    assert!(sound.findings().await[0].what.contains("is missing"));
}
