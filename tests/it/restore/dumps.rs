//! `restore --from`: dumps of the official tool, and our artifacts without store and manifest.

use std::path::{Path, PathBuf};
use std::process::Command;

use bson::{RawDocumentBuf, rawdoc};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw::{document, element};
use uzima_testkit::read_all::{Snapshot, read_all};
use uzima_testkit::torture;

use super::hand_made::from;
use super::support::{Backup, differences, rows, server};
use crate::cli::contents::of_archive;
use crate::cli::support::{Home, run};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mongodump-100.18.0").join(name)
}

/// The documents of a namespace in the recorded archive, sorted by their bytes.
fn recorded(name: &str) -> Vec<(String, Vec<Vec<u8>>)> {
    let mut raw = Vec::new();
    let file = std::fs::File::open(fixture(name)).expect("the recording");
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(file), &mut raw).expect("gzip");
    let mut all: Vec<_> = of_archive(&raw).documents.into_iter().collect();
    all.iter_mut().for_each(|(_, documents)| documents.sort());
    all
}

/// The documents that a server holds for a namespace of a recording.
fn found(snapshot: &Snapshot, name: &str) -> Vec<Vec<u8>> {
    let (db, collection) = name.split_once('.').expect("a namespace");
    let mut documents = match collection {
        "system.users" => snapshot.users.values().cloned().collect(),
        "system.roles" => snapshot.roles.values().cloned().collect(),
        _ => {
            let buckets = snapshot.get(db, &format!("system.buckets.{collection}"));
            buckets.or(snapshot.get(db, collection)).unwrap_or_else(|| panic!("no {name}")).documents.clone()
        }
    };
    documents.sort();
    documents
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_dumps_of_the_official_tool_are_restored() {
    let home = Home::new();
    let (archive, of_archive) = server().await;
    run(&mut from(&home, &fixture("full.archive.gz"), &archive)).ends(0);
    let snapshot = read_all(&of_archive).await.expect("the target");
    let recorded = recorded("full.archive.gz");
    assert!(recorded.len() > 30);
    for (name, documents) in recorded.iter().filter(|(name, _)| name != "admin.system.version") {
        assert!(found(&snapshot, name) == *documents, "{name}: {} documents", documents.len());
    }
    let folder = home.path().join("dump");
    std::fs::create_dir(&folder).expect("a folder");
    let packed = fixture("full.dir.tar.gz");
    run(Command::new("tar").arg("xzf").arg(&packed).arg("-C").arg(&folder)).ends(0);
    for path in [folder, packed] {
        let (target, live) = server().await;
        run(&mut from(&home, &path, &target)).ends(0);
        assert_eq!(differences(&of_archive, &live).await, Vec::<String>::new(), "{}", path.display());
    }
}

/// The archive interleaves several collections, and its oplog is not wanted.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_archive_with_an_oplog_is_restored_without_it() {
    let (home, (target, live)) = (Home::new(), server().await);
    let path = fixture("oplog.archive.gz");
    run(from(&home, &path, &target).args(["--ns-exclude=types.*", "--no-replay"])).ends(0);
    let snapshot = read_all(&live).await.expect("the target");
    let recorded = recorded("oplog.archive.gz");
    let restored =
        recorded.iter().filter(|(name, _)| !name.starts_with("types.") && !name.starts_with("admin."));
    let restored: Vec<_> = restored.filter(|(name, _)| name.contains('.')).collect();
    assert!(restored.len() > 30);
    for (name, documents) in restored {
        assert!(found(&snapshot, name) == *documents, "{name}: {} documents", documents.len());
    }
    assert!(snapshot.get("types", "all").is_none() && snapshot.users.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn our_artifacts_are_restored_by_their_path() {
    let (source, original) = server().await;
    torture::fill(&original).await.expect("the torture database");
    for format in ["tar.gz", "tar.zst", "archive.gz", "archive.zst"] {
        let backup = Backup::of(&source, &["--format", format]);
        let moved = backup.home.path().join("somewhere");
        std::fs::copy(backup.artifact(), &moved).expect("a copy");
        let (target, live) = server().await;
        run(&mut from(&backup.home, &moved, &target)).ends(0);
        assert_eq!(differences(&original, &live).await, Vec::<String>::new(), "{format}");
    }
}

/// RECOVERY.txt has a person unpack the artifact. The unpacked folder contains `dump/`, which is not a
/// database.
#[tokio::test(flavor = "multi_thread")]
async fn an_unpacked_tar_is_restored() {
    let source = Mongod::builder().replica_set("rs").start().await.expect("mongod");
    let original = source.client().await.expect("a client");
    rows(&original, "shop", "orders", 0..30).await;
    let backup = Backup::of(&source, &["--db", "shop", "--format", "tar.gz"]);
    let folder = backup.home.path().join("unpacked");
    std::fs::create_dir(&folder).expect("a folder");
    run(Command::new("tar").arg("xzf").arg(backup.artifact()).arg("-C").arg(&folder)).ends(0);
    for path in [folder.clone(), folder.join("dump")] {
        let (target, live) = server().await;
        run(&mut from(&backup.home, &path, &target)).ends(0);
        let found = read_all(&live).await.expect("the target");
        assert_eq!((found.documents(), found.namespaces.len()), (30, 1), "{}", path.display());
    }
    let (target, _live) = server().await;
    let own = backup.artifact().parent().expect("its folder").to_path_buf();
    run(&mut from(&backup.home, &own, &target))
        .ends(1)
        .says(&["contains no collection", "begins with dump."]);
}

/// With such a file the official tool took a live collection from 20,000 to 6,754 documents.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_dump_leaves_the_target_unchanged() {
    let (source, original) = server().await;
    rows(&original, "shop", "orders", 0..3_000).await;
    rows(&original, "shop", "zebras", 0..3).await;
    let (target, live) = server().await;
    rows(&live, "shop", "orders", 5_000..5_100).await;
    let before = read_all(&live).await.expect("the live data");
    for format in ["tar.gz", "tar.zst", "archive.gz", "archive.zst"] {
        let backup = Backup::of(&source, &["--db", "shop", "--format", format]);
        let whole = std::fs::read(backup.artifact()).expect("the artifact");
        let raw = crate::cli::support::decompressed(&backup.manifest, &whole);
        let path = backup.home.path().join("cut");
        let (third, end) = (whole.len() / 3, whole.len() - 3);
        // Decompressed, the tar ends right before the entry of the second collection.
        let second =
            raw.windows(20).position(|w| w.starts_with(b"dump/shop/zebras.met")).unwrap_or(raw.len() / 2);
        for cut in
            [&whole[..third], &whole[..end], &raw[..second], &raw[..second + 600], &raw[..raw.len() - 1030]]
        {
            std::fs::write(&path, cut).expect("a shorter file");
            run(from(&backup.home, &path, &target).arg("--drop")).ends(4);
        }
        let after = read_all(&live).await.expect("the live data");
        assert_eq!(before.diff(&after), Vec::<String>::new(), "{format}");
        std::fs::write(&path, &raw).expect("all of it");
        run(from(&backup.home, &path, &target).args(["--drop", "--dry-run"])).ends(0);
    }
    let home = Home::new();
    std::fs::write(home.path().join("x"), "something else").expect("a file");
    run(&mut from(&home, &home.path().join("x"), &target)).ends(1).says(&["neither an archive"]);
    run(&mut from(&home, &home.path().join("y"), &target)).ends(1).says(&["cannot read"]);
    run(&mut from(&home, home.path(), &target)).ends(1).says(&["no collection"]);
}

/// The report names a document that no server accepts, a document that comes twice, and an index that cannot
/// be built.
#[tokio::test(flavor = "multi_thread")]
async fn refused_documents_and_indexes_are_reported() {
    let (home, (target, live)) = (Home::new(), server().await);
    let folder = home.path().join("dump/shop");
    std::fs::create_dir_all(&folder).expect("a folder");
    let array = document(&[element(4, b"_id", document(&[element(16, b"0", 7_i32.to_le_bytes())]))]);
    let documents: Vec<Vec<u8>> = [
        rawdoc! {"_id": 1, "code": 1, "first": true},
        rawdoc! {"_id": 2, "code": 1},
        rawdoc! {"_id": 1.0, "code": 2, "first": false},
    ]
    .into_iter()
    .map(RawDocumentBuf::into_bytes)
    .chain([array])
    .collect();
    std::fs::write(folder.join("c.bson"), documents.concat()).expect("documents");
    let metadata = r#"{"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"},
        {"v":{"$numberInt":"2"},"unique":true,"key":{"code":{"$numberInt":"1"}},"name":"code_1"},
        {"v":{"$numberInt":"2"},"key":{"first":{"$numberInt":"1"}},"name":"first_1"},
        {"v":{"$numberInt":"2"},"nonsense":true,"key":{"x":{"$numberInt":"1"}},"name":"x_1"}],
        "collectionName":"c","type":"collection"}"#;
    std::fs::write(folder.join("c.metadata.json"), metadata).expect("metadata");
    let report = run(from(&home, &home.path().join("dump"), &target).arg("--json")).ends(1).json();
    let row = &report["namespaces"][0];
    let figures = ["documents", "superseded", "refused", "indexes"].map(|key| row[key].as_u64().expect(key));
    assert_eq!(figures, [4, 1, 1, 3], "{report}");
    let problems = row["problems"].to_string();
    assert!(problems.contains("_id [7]"), "{problems}");
    assert!(report["notes"].to_string().contains("'x_1' is built without its option 'nonsense'"), "{report}");
    let found = read_all(&live).await.expect("the target");
    let kept = found.get("shop", "c").expect("the collection");
    assert_eq!(
        (kept.documents.len(), kept.indexes.len()),
        (2, 4),
        "the later of two documents with the same _id was kept"
    );
    assert!(kept.documents.contains(&documents[2]), "the later one is kept");
    // Two documents with the same value, and a unique index.
    let orders = rawdoc! {"_id": 4, "code": 2}.into_bytes();
    std::fs::write(folder.join("c.bson"), [documents[..3].concat(), orders].concat()).expect("documents");
    run(from(&home, &home.path().join("dump"), &target).args(["--drop", "--quiet"]))
        .ends(1)
        .says(&["'code_1'"]);
}
