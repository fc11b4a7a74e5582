//! The artifact holds the same bytes as the server, in all four formats.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, RawDocumentBuf};
use uzima_backup::base::exit::Exit;
use uzima_backup::model::namespace::Type;
use uzima_backup::ops::backup::BackupReport;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::read_all::{Snapshot, read_all};
use uzima_testkit::torture;
use xxhash_rust::xxh3::xxh3_128;

use super::decode::{Decoded, decompress, split};
use super::support::Shelf;

#[tokio::test]
async fn the_torture_database_is_stored_byte_by_byte_in_all_formats() {
    let server = Mongod::builder().start().await.expect("mongod");
    let client = server.client().await.expect("a client");
    torture::fill(&client).await.expect("the torture database");
    let seen = read_all(&client).await.expect("all that is there");
    for format in ["tar.gz", "tar.zst", "archive.gz", "archive.zst"] {
        let shelf = Shelf::new();
        let change = |options: &mut uzima_backup::ops::backup::BackupOptions| {
            options.settings.format = format.parse().expect("a format");
            options.settings.check_compression = format.ends_with("zst");
        };
        let report =
            shelf.run(&server.uri(), change).await.unwrap_or_else(|e| panic!("{format}: {}", e.chain()));
        assert_eq!((report.exit(), report.manifest.notes.len()), (Exit::Done, 0));
        assert_eq!(report.manifest.consistency.achieved, "none");
        let decoded = shelf.decode(&report);
        assert_documents(&decoded, &seen);
        assert_metadata(&decoded, &seen);
        if format.starts_with("tar") {
            assert_paths(&decoded, &report);
        }
        assert_manifest(&shelf, &report, &decoded);
    }
}

fn assert_documents(decoded: &Decoded, seen: &Snapshot) {
    let mut expected: BTreeSet<String> =
        ["admin.system.users", "admin.system.roles"].map(String::from).into();
    for ((db, collection), namespace) in &seen.namespaces {
        if namespace.kind == "collection" {
            let name = format!("{db}.{collection}");
            assert_eq!(decoded.get(&name), namespace.documents, "{name}");
            expected.insert(name);
        }
    }
    let users: BTreeSet<_> = decoded.get("admin.system.users").iter().collect();
    assert_eq!(users, seen.users.values().collect());
    let roles: BTreeSet<_> = decoded.get("admin.system.roles").iter().collect();
    assert_eq!(roles, seen.roles.values().collect());
    let filled = decoded.documents.iter().filter(|(_, documents)| !documents.is_empty());
    let extra: Vec<_> = filled.map(|(name, _)| name).filter(|name| !expected.contains(*name)).collect();
    assert!(
        extra.iter().all(|name| *name == "admin.system.version" || name.starts_with("config.")),
        "{extra:?}"
    );
}

/// Compares options and indexes, parsed back from Extended JSON.
fn assert_metadata(decoded: &Decoded, seen: &Snapshot) {
    for ((db, collection), namespace) in &seen.namespaces {
        if collection.starts_with("system.buckets.") {
            continue;
        }
        let text = decoded.metadata.get(&format!("{db}.{collection}")).expect(collection);
        let json: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(json["collectionName"], *collection);
        assert_eq!(json["type"], *namespace.kind);
        let uuid = namespace.uuid.map(|uuid| uuid.iter().map(|b| format!("{b:02x}")).collect::<String>());
        assert_eq!(json.get("uuid").and_then(|uuid| uuid.as_str()), uuid.as_deref(), "{db}.{collection}");
        let Bson::Document(parsed) = Bson::try_from(json).expect("Extended JSON") else { panic!("{text}") };
        let raw =
            |value: &Bson| RawDocumentBuf::try_from(value.as_document().expect("a document")).expect("BSON");
        let options = parsed.get("options").map(raw).unwrap_or_default();
        assert_eq!(options.as_bytes(), namespace.options.as_bytes(), "{db}.{collection}: {text}");
        let indexes: Vec<_> = parsed.get_array("indexes").expect("indexes").iter().map(raw).collect();
        assert_eq!(indexes, namespace.indexes, "{db}.{collection}");
    }
}

/// Asserts the paths: the recovery text first, the prelude last, one file for options, and one for documents
/// where a namespace can have some.
fn assert_paths(decoded: &Decoded, report: &BackupReport) {
    let paths = &decoded.paths;
    assert_eq!((paths[0].as_str(), paths[paths.len() - 1].as_str()), ("RECOVERY.txt", "dump/prelude.json"));
    let of = |end: &str| paths.iter().filter(|path| path.ends_with(end)).count();
    let views = report.manifest.namespaces.iter().filter(|n| n.kind == Type::View).count();
    let all = report.manifest.namespaces.len();
    assert_eq!((of(".metadata.json"), of(".bson")), (all, all - views));
    for path in [
        "dump/names/with+space.bson",
        "dump/names/with%2Fslash.bson",
        "dump/opts/system.buckets.weather.bson",
    ] {
        assert!(paths.iter().any(|p| p == path), "{path}");
    }
}

/// Asserts the counts and sums of the manifest, and decodes each segment of the index alone.
pub fn assert_manifest(shelf: &Shelf, report: &BackupReport, decoded: &Decoded) {
    let manifest = &report.manifest;
    let artifact = shelf.read(&manifest.artifact.key);
    assert_eq!(artifact.len() as u64, manifest.artifact.size);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &artifact);
    assert_eq!(format!("{crc:016x}"), manifest.artifact.crc64nvme);
    let index_bytes = shelf.read(&manifest.index.key);
    assert_eq!(blake3::hash(&index_bytes).to_hex().as_str(), manifest.index.blake3);

    let codec = manifest.artifact.format.split_once('.').expect("a format").1;
    let index = shelf.index(report);
    let mut segments: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    let mut end = 0;
    for segment in &index.segments {
        assert!(segment.offset >= end, "segments overlap");
        end = segment.offset + segment.length;
        let raw = decompress(&artifact[segment.offset as usize..end as usize], codec);
        assert_eq!(raw.len() as u64, segment.raw_bytes);
        assert_eq!(blake3::hash(&raw).to_hex().as_str(), segment.blake3);
        let documents = split(&raw);
        assert_eq!(documents.len() as u64, segment.documents);
        segments.entry(segment.namespace).or_default().extend(documents);
    }
    for (at, entry) in manifest.namespaces.iter().enumerate() {
        let plain = format!("{}.{}", entry.db, entry.collection);
        let buckets = format!("{}.system.buckets.{}", entry.db, entry.collection);
        let found = decoded.documents.get(&plain).or_else(|| decoded.documents.get(&buckets));
        let documents = found.cloned().unwrap_or_default();
        assert_eq!(segments.remove(&at).unwrap_or_default(), documents, "{plain}");
        assert_eq!(entry.documents, documents.len() as u64, "{plain}");
        assert_eq!(entry.raw_bytes, documents.iter().map(|d| d.len() as u64).sum::<u64>(), "{plain}");
        let sum = documents.iter().fold(0_u128, |sum, d| sum.wrapping_add(xxh3_128(d)));
        assert_eq!(entry.xxh3_sum, format!("{sum:032x}"), "{plain}");
    }
    assert!(segments.is_empty());
    let documents: u64 = manifest.namespaces.iter().map(|n| n.documents).sum();
    assert_eq!(
        (manifest.totals.documents, manifest.totals.namespaces),
        (documents, manifest.namespaces.len() as u64)
    );
}
