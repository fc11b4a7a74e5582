//! `verify` compares the oplog slice with index and manifest, like any namespace.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bson::{Document, doc, rawdoc};
use mongodb::Client;
use uzima_backup::base::clock::Clock;
use uzima_backup::base::progress::Meter;
use uzima_backup::config::store::DirOptions;
use uzima_backup::model::index::Index;
use uzima_backup::ops::verify::{BackupCheck, check_backup};
use uzima_backup::store::{DirStore, Store};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::official::Official;
use uzima_testkit::wire_proxy::Rule;

use super::support::{behind, by_mongorestore, slice};
use crate::native::support::{insert, meanwhile};
use crate::restore::support::{Backup, differences};

const FORMATS: [&str; 4] = ["tar.gz", "tar.zst", "archive.gz", "archive.zst"];

/// A backup in each format. `write` runs while the first document is read.
async fn backups<W>(write: W) -> (Mongod, Client, Vec<Backup>)
where
    W: AsyncFn(Client) + Clone + Send + Sync + 'static,
{
    // A written entry has to fit into the cache several times.
    let server = Mongod::builder().replica_set("rs").cache_gb(1.0).start().await.expect("mongod");
    let (proxy, client) = behind(&server).await;
    insert(&client, "shop", "orders", &[rawdoc! {"_id": 1}]).await;
    let made = FORMATS.map(|format| {
        let during = Rule::on("find").namespace("shop.orders").having("$_requestResumeToken").times(1);
        let during = proxy.add(during.then(meanwhile(server.uri(), write.clone())));
        let backup = Backup::at(&proxy.uri(&server.uri()), &["--db", "shop", "--format", format]);
        assert_eq!(proxy.hits(during), 1, "{format}");
        backup
    });
    (server, client, made.into())
}

async fn verified(backup: &Backup) -> BackupCheck {
    let store: Arc<dyn Store> =
        Arc::new(DirStore::new(DirOptions::new(backup.home.backups())).expect("a store"));
    check_backup(&store, &backup.manifest, None, 2, Clock::start(), &Meter::default())
        .await
        .expect("it can be read")
}

/// Every byte of the slice, and of everything after it.
#[tokio::test(flavor = "multi_thread")]
async fn every_flipped_byte_of_a_slice_is_found() {
    let (_server, _, backups) = backups(async |client: Client| {
        let orders = client.database("shop").collection::<Document>("orders");
        orders.update_one(doc! {"_id": 1}, doc! {"$inc": {"n": 1}}).await.expect("an update");
    })
    .await;
    for backup in backups {
        let manifest = &backup.manifest;
        let report = verified(&backup).await;
        assert_eq!((report.findings, report.documents), (vec![], manifest.totals.documents));
        let index = std::fs::read(backup.home.backups().join(&manifest.index.key)).expect("an index");
        let segments = Index::decode(&index).expect("an index").segments;
        let first =
            segments.iter().find(|s| Some(s.namespace) == manifest.slice_place()).expect("its segment");
        let file =
            std::fs::OpenOptions::new().read(true).write(true).open(backup.artifact()).expect("the artifact");
        let mut byte = [0];
        for at in first.offset..manifest.artifact.size {
            file.read_exact_at(&mut byte, at).expect("a byte");
            file.write_all_at(&[byte[0] ^ (1 << (at % 8))], at).expect("a byte");
            assert!(!verified(&backup).await.findings.is_empty(), "{}: byte {at}", manifest.artifact.format);
            file.write_all_at(&byte, at).expect("a byte");
        }
        let flipped = manifest.artifact.size - first.offset;
        println!("{}: {flipped} bytes were flipped, each was found", manifest.artifact.format);
        // The manifest has one entry less.
        let mut other = backup;
        other.manifest.consistency.oplog.as_mut().expect("a slice").entries -= 1;
        let findings = verified(&other).await.findings;
        assert!(
            findings.iter().any(|f| f.to_string().starts_with("the oplog slice: it has 1 ")),
            "{findings:?}"
        );
    }
}

/// An oplog entry contains a document and more fields, so it is longer than 16 MiB if the document almost is.
#[tokio::test(flavor = "multi_thread")]
async fn an_oplog_entry_longer_than_any_document_is_verified_and_replayed() {
    const LONGEST: usize = 16 << 20;
    // Short enough that the insert command is not too long.
    const PAD: usize = LONGEST - 60;
    let (_server, original, backups) = backups(async |client: Client| {
        let orders = client.database("shop").collection::<Document>("orders");
        orders.delete_one(doc! {"_id": 2}).await.expect("a delete");
        orders.insert_one(doc! {"_id": 2, "pad": "x".repeat(PAD)}).await.expect("an insert");
    })
    .await;
    for backup in &backups {
        let slice = slice(&backup.manifest);
        assert!(slice.raw_bytes > LONGEST as u64, "{slice:?}");
        assert_eq!(verified(backup).await.findings, [], "{}", backup.manifest.artifact.format);
    }
    let name = "consistency::verified::an_oplog_entry_longer_than_any_document_is_verified_and_replayed (mongorestore)";
    let Some(tools) = Official::find(name) else { return };
    // From an archive mongorestore (100.18) reads no entry that is longer than a document.
    let (_target, restored) = by_mongorestore(&backups[0], &tools, &["--oplogReplay"]).await;
    assert_eq!(differences(&original, &restored).await, Vec::<String>::new());
}
