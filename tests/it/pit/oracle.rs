//! The server itself says what its data was at a moment: it is read as of that time while the writers go on. Each moment is
//! restored from backups and slices, and compared document by document.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bson::{Timestamp, doc, rawdoc};
use mongodb::Client;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::read_all::{DiffOptions, Snapshot, read_all, read_cursor};

use super::support::*;
use super::writers::Writers;
use crate::cli::support::{Home, Ran, run};

/// The server's content at some moments, and the backups and slices to restore them from.
struct Recorded {
    home: Home,
    server: Mongod,
    client: Client,
    moments: Vec<(Timestamp, Snapshot)>,
    /// The content after the writers were stopped.
    end: Snapshot,
}

async fn record(version: Option<Version>, seed: u64, moments: usize) -> Recorded {
    let mut random = StdRng::seed_from_u64(seed);
    let ((server, client), home) = (set(version).await, Arc::new(Home::new()));
    let writers = Writers::start(&client, seed).await;
    let uri = server.uri();
    let base = async |consistency: &'static str| {
        // A backup under way cannot have the rename of a collection.
        let _gate = writers.gate.write().await;
        let (home, uri) = (Arc::clone(&home), uri.clone());
        tokio::task::spawn_blocking(move || backup(&home, &uri, consistency)).await.expect("a backup");
    };
    let slice = async || {
        let (home, uri) = (Arc::clone(&home), uri.clone());
        tokio::task::spawn_blocking(move || oplog(&home, &uri)).await.expect("a slice");
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    base("oplog").await;
    slice().await;
    let mut found = Vec::new();
    while found.len() < moments {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..700))).await;
        if random.random_range(0..2) == 0 {
            slice().await;
        }
        {
            let _gate = writers.gate.write().await;
            let at = mark(&client).await;
            match read_as_of(&client, at).await {
                Ok(snapshot) => found.push((at, snapshot)),
                // A refused instant is drawn again.
                Err(e) => println!("{} cannot be read: {e}", text(at)),
            }
        }
        if found.len() % 4 == 3 {
            base(if random.random_range(0..2) == 0 { "snapshot" } else { "oplog" }).await;
        }
    }
    writers.stop().await;
    let end = read_as_of(&client, mark(&client).await).await.expect("the end");
    slice().await;
    let home = Arc::into_inner(home).expect("nobody else");
    Recorded { home, server, client, moments: found, end }
}

async fn differences(live: &Client, wanted: &Snapshot) -> Vec<String> {
    let mut found = read_all(live).await.expect("the target");
    found.retain(|db, _| DATABASES.contains(&db));
    wanted.diff_with(&found, &DiffOptions { users: false, ..DiffOptions::default() })
}

/// Runs a restore. It may need a look, because the writers drop collections, about which a backup warns.
#[track_caller]
fn restored(command: &mut Command) -> Ran {
    let ran = run(command);
    assert!([Some(0), Some(3)].contains(&ran.code), "{}\n{}", ran.stdout, ran.stderr);
    ran
}

/// Restores every moment, and compares.
async fn compare(recorded: &Recorded, version: Option<Version>) {
    let (target, live) = set(version).await;
    for (at, wanted) in &recorded.moments {
        let report = restored(&mut restore(&recorded.home, &target, &["--json", "--at", &text(*at)])).json();
        assert_eq!(report["at"], serde_json::json!({"t": at.time, "i": at.increment}));
        let from = (&report["id"], &report["point"]["slices"]);
        assert_eq!(differences(&live, wanted).await, Vec::<String>::new(), "{} from {from:?}", text(*at));
        clear(&live).await;
    }
    restored(&mut restore(&recorded.home, &target, &["--at", "newest"]));
    assert_eq!(differences(&live, &recorded.end).await, Vec::<String>::new(), "the end");
    clear(&live).await;
    // The entry after a moment is not part of it.
    let (at, wanted) = &recorded.moments[recorded.moments.len() / 2];
    let next = rawdoc! {"find": "oplog.rs", "filter": {"ts": {"$gt": *at}}, "limit": 1};
    let next = read_cursor(&recorded.client.database("local"), next).await.expect("the oplog");
    let next =
        bson::RawDocument::from_bytes(&next[0]).expect("an entry").get_timestamp("ts").expect("a time");
    restored(&mut restore(&recorded.home, &target, &["--before", &text(next)]));
    assert_eq!(differences(&live, wanted).await, Vec::<String>::new(), "before {}", text(next));
    let versions = doc! {"buildInfo": 1};
    let info = recorded.client.database("admin").run_command(versions).await.expect("a version");
    println!("{}: {} moments are equal", info.get_str("version").expect("a version"), recorded.moments.len());
    drop(recorded.server.uri());
}

/// With `UZIMA_TEST_FULL=1`: 200 moments of each version. `UZIMA_TEST_MOMENTS` and `UZIMA_TEST_VERSIONS` choose others.
#[tokio::test(flavor = "multi_thread")]
async fn every_moment_is_restored_as_the_server_says_it_was() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed = number("UZIMA_TEST_SEED").unwrap_or_else(|| rand::rng().next_u64());
    println!("UZIMA_TEST_SEED={seed}");
    if std::env::var_os("UZIMA_TEST_FULL").is_none() {
        return compare(&record(None, seed, 10).await, None).await;
    }
    let moments = number("UZIMA_TEST_MOMENTS").unwrap_or(200) as usize;
    // 4.4 has no reads as of an earlier time.
    for version in Version::selected().expect("versions").into_iter().filter(|one| *one != Version::V4_4_2) {
        compare(&record(Some(version), seed, moments).await, Some(version)).await;
    }
}
