//! The peak memory of `oplog` and of a restore, with a large transaction.

use bson::{doc, rawdoc};
use uzima_testkit::load::Random;
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, peak, run};

/// The limit of the release build is 96 MiB. The code of a debug build is far larger.
const LIMIT_KIB: u64 = (96 + 40) << 10;

async fn member(mib: i32) -> Mongod {
    // A transaction may be as large as the part of the cache that can be dirty.
    let dirty = "--wiredTigerEngineConfigString=eviction_dirty_target=80,eviction_dirty_trigger=90";
    let member = Mongod::builder().replica_set("rs").cache_gb(8.0).arg(dirty).oplog_mb(mib as u32 * 2);
    member.parameter("transactionLifetimeLimitSeconds", "3600").start().await.expect("mongod")
}

/// The documents cannot be compressed, and fill entries of 16 MiB. With `UZIMA_TEST_FULL=1`: 1 GiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_the_memory_limit_is_stored_and_restored() {
    let mib = if std::env::var_os("UZIMA_TEST_FULL").is_some() { 1024 } else { 112 };
    println!("a transaction of {mib} MiB");
    let (source, target, home) = (member(mib).await, member(mib).await, Home::new());
    let client = source.client().await.expect("a client");
    client.database("live").create_collection("films").await.expect("a collection");
    run(home.to_dir(&source.uri()).arg("backup")).ends(0);
    let films = client.database("live").collection::<bson::RawDocumentBuf>("films");
    let mut session = client.start_session().await.expect("a session");
    session.start_transaction().await.expect("a transaction");
    let mut random = Random::new(3);
    for n in 0..mib {
        let bytes = random.bytes((1 << 20) - 100);
        let binary = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes };
        films.insert_one(rawdoc! {"_id": n, "data": binary}).session(&mut session).await.expect("a film");
    }
    session.commit_transaction().await.expect("committed");
    let stored = peak(home.to_dir(&source.uri()).arg("oplog"));
    let mut restore = home.to_dir("mongodb://127.0.0.1:1");
    let restored =
        peak(restore.env("RESTORE_URI", target.uri()).args(["restore", "--yes", "--at", "newest"]));
    let peaks = format!("oplog {stored} KiB, restore {restored} KiB");
    println!("{peaks}");
    assert!(stored.max(restored) < LIMIT_KIB, "{peaks}");
    let copy = target.client().await.expect("a client");
    let [was, is] = [&client, &copy].map(|client| client.database("live"));
    let hash = doc! {"dbHash": 1, "collections": ["films"]};
    let [was, is] = [was.run_command(hash.clone()).await, is.run_command(hash).await]
        .map(|answer| answer.expect("hashes").get_document("collections").expect("collections").clone());
    assert_eq!(was, is);
}
