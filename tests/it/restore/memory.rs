//! The peak memory of a backup, a restore and `get`, with the largest documents.

use std::ffi::OsStr;

use bson::rawdoc;
use mongodb::Client;
use uzima_testkit::load::Random;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::wire_proxy::WireProxy;

use super::support::{far_away, server};
use crate::cli::support::{Home, peak};

/// The memory limit of a container that must be enough for any restore and backup.
const LIMIT_KIB: u64 = 256 << 10;
/// The number of documents of almost 16 MiB each.
const DOCUMENTS: usize = 12;

async fn largest(client: &Client, count: usize) {
    // A repeated byte compresses well, which saves time in the test but no memory, because documents are held
    // whole.
    let text = vec![7u8; (16 << 20) - 100];
    let documents: Vec<Vec<u8>> = (0..count)
        .map(|n| {
            let binary = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: text.clone() };
            rawdoc! {"_id": n as i32, "data": binary}.into_bytes()
        })
        .collect();
    raw::insert(&client.database("shop"), "films", &documents).await.expect("documents");
}

/// Documents of 1.4 MiB, which are the longest in a batch of several, and of random bytes, so that much of the artifact is in memory.
async fn long(client: &Client) {
    let mut random = Random::new(1);
    let documents: Vec<Vec<u8>> = (0..30)
        .map(|n| {
            let bytes = random.bytes(1400 << 10);
            let binary = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes };
            rawdoc! {"_id": n, "data": binary}.into_bytes()
        })
        .collect();
    for name in ["clips", "scans"] {
        raw::insert(&client.database("shop"), name, &documents).await.expect("documents");
    }
}

async fn counted(target: &Mongod) -> u64 {
    let client = target.client().await.expect("a client");
    let films = client.database("shop").collection::<bson::Document>("films");
    films.count_documents(bson::doc! {}).await.expect("a count")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_documents_fit_into_256_mib() {
    let ((source, client), (target, _)) = (server().await, server().await);
    largest(&client, DOCUMENTS).await;
    let home = Home::new();
    let made = peak(home.to_dir(&source.uri()).args(["backup", "--format", "tar.zst"]));
    let artifact = home.backups().join(&home.manifests()[0].artifact.key);
    let restored = async |from: &[&OsStr]| {
        let mut restore = home.to_dir("mongodb://127.0.0.1:1");
        restore.env("RESTORE_URI", target.uri()).args(["restore", "--yes", "--drop"]).args(from);
        let peak = peak(&mut restore);
        assert_eq!(counted(&target).await, DOCUMENTS as u64);
        peak
    };
    let stored = restored(&["latest".as_ref()]).await;
    let dump = restored(&["--from".as_ref(), artifact.as_os_str()]).await;
    let printed = peak(home.to_dir("mongodb://127.0.0.1:1").args(["get", "latest", "shop.films"]));
    let peaks =
        format!("backup {made} KiB, restore {stored} KiB, restore --from {dump} KiB, get {printed} KiB");
    println!("{peaks}");
    assert!([made, stored, dump, printed].iter().all(|peak| *peak < LIMIT_KIB), "{peaks}");
}

/// Over a long distance, many inserts are under way.
#[tokio::test(flavor = "multi_thread")]
async fn the_inserts_that_are_under_way_to_a_distant_server_fit_into_256_mib() {
    let ((source, client), (target, _)) = (server().await, server().await);
    largest(&client, 4).await;
    long(&client).await;
    let home = Home::new();
    peak(home.to_dir(&source.uri()).args(["backup", "--format", "tar.zst"]));
    let artifact = home.backups().join(&home.manifests()[0].artifact.key);
    let proxy = WireProxy::start(&[target.host()]).expect("the proxy");
    far_away(&proxy);
    for from in [&["latest".as_ref()][..], &["--from".as_ref(), artifact.as_os_str()]] {
        let mut restore = home.to_dir("mongodb://127.0.0.1:1");
        restore.env("RESTORE_URI", proxy.uri(&target.uri())).args(["restore", "--yes", "--drop"]).args(from);
        let peak = peak(&mut restore);
        println!("{from:?}: {peak} KiB");
        assert_eq!(counted(&target).await, 4);
        assert!(peak < LIMIT_KIB, "{from:?}: {peak} KiB");
    }
}
