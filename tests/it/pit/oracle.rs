//! The server itself says what its data was at a moment: it is read as of that time while the writers go on. Each moment is
//! restored from backups and slices, and compared document by document.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bson::{RawDocument, Timestamp, doc, rawdoc};
use mongodb::Client;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt, SeedableRng};
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::{Mongod, Version};
use uzima_testkit::read_all::{Snapshot, read_cursor};

use super::bases::{BaseKind, BaseMaker};
use super::support::*;
use super::writers::Writers;
use crate::cli::support::Home;

/// The server's content at some moments, and the backups and slices to restore them from.
struct Recorded {
    home: Home,
    server: Mongod,
    client: Client,
    moments: Vec<(Timestamp, Snapshot)>,
    bases: Vec<(BaseKind, Manifest)>,
    /// The content after the writers were stopped.
    end: Snapshot,
}

/// What to record.
#[derive(Clone, Copy)]
struct Plan {
    version: Option<Version>,
    seed: u64,
    moments: usize,
}

impl Plan {
    /// MongoDB 4.4 cannot be read as of an earlier time, so all writers pause while it is read.
    fn at_rest(self) -> bool {
        self.version == Some(Version::V4_4_2)
    }
}

async fn record(plan: Plan) -> Recorded {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let ((server, client), home) = (set(plan.version).await, Arc::new(Home::new()));
    let writers = Writers::start(&client, plan.seed, !plan.at_rest()).await;
    let uri = server.uri();
    let maker = Arc::new(BaseMaker::new("pit::oracle", &uri));
    let mut kinds = BaseKind::all(plan.version);
    kinds.shuffle(&mut random);
    let mut kinds = kinds.into_iter().cycle();
    let mut bases = Vec::new();
    let mut base = async || {
        // A backup under way cannot have the rename of a collection.
        let _gate = writers.gates.shapes.write().await;
        let (kind, home, maker) = (kinds.next().expect("a kind"), Arc::clone(&home), Arc::clone(&maker));
        let made = tokio::task::spawn_blocking(move || maker.make(&home, kind)).await.expect("a backup");
        bases.push((kind, made));
    };
    let slice = async || {
        let (home, uri) = (Arc::clone(&home), uri.clone());
        tokio::task::spawn_blocking(move || oplog(&home, &uri)).await.expect("a slice");
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    base().await;
    slice().await;
    let mut found = Vec::new();
    while found.len() < plan.moments {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..700))).await;
        if random.random_range(0..2) == 0 {
            slice().await;
        }
        {
            let _shapes = writers.gates.shapes.write().await;
            let at_rest = match plan.at_rest() {
                true => Some(writers.gates.documents.write().await),
                false => None,
            };
            let at = mark(&client).await;
            match read_as_of(&client, Some(at).filter(|_| at_rest.is_none())).await {
                Ok(snapshot) => found.push((at, snapshot)),
                // A refused instant is drawn again.
                Err(e) => println!("{} cannot be read: {e}", text(at)),
            }
        }
        if found.len() % 4 == 3 {
            base().await;
        }
    }
    writers.stop().await;
    let end = read_as_of(&client, None).await.expect("the end");
    slice().await;
    let home = Arc::into_inner(home).expect("nobody else");
    Recorded { home, server, client, moments: found, bases, end }
}

/// Restores every moment, mostly from the newest base before it, and compares.
async fn compare(recorded: &Recorded, plan: Plan) {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let (target, live) = set(plan.version).await;
    let (mut wrong, mut used) = (Vec::new(), BTreeMap::<BaseKind, u32>::new());
    for (at, wanted) in &recorded.moments {
        let at_text = text(*at);
        let mut args = vec!["--json", "--at", &at_text];
        if random.random_range(0..4) == 0 {
            let earlier =
                |made: &Manifest| made.consistency.at.is_some_and(|instant| instant <= (*at).into());
            let earlier: Vec<&Manifest> =
                recorded.bases.iter().map(|(_, made)| made).filter(|made| earlier(made)).collect();
            let last = &earlier[earlier.len().saturating_sub(4)..];
            args.insert(0, last.choose(&mut random).expect("a base").id.as_str());
        }
        let report = restored(&mut restore(&recorded.home, &target, &args)).json();
        assert_eq!(report["at"], serde_json::json!({"t": at.time, "i": at.increment}));
        let base = recorded.bases.iter().find(|(_, made)| report["id"] == made.id.as_str());
        let kind = base.expect("a base").0;
        *used.entry(kind).or_default() += 1;
        let lines = differences_from(&live, wanted).await;
        if !lines.is_empty() {
            let slices = &report["point"]["slices"];
            wrong.push(format!("{at_text} from {} ({kind}) and {slices} slices: {lines:#?}", report["id"]));
            println!("{}", wrong[wrong.len() - 1]);
        }
        clear(&live).await;
    }
    restored(&mut restore(&recorded.home, &target, &["--at", "newest"]));
    wrong.extend(
        differences_from(&live, &recorded.end).await.into_iter().map(|line| format!("the end: {line}")),
    );
    clear(&live).await;
    // The entry after a moment is not part of it.
    let (at, wanted) = &recorded.moments[recorded.moments.len() / 2];
    let next = rawdoc! {"find": "oplog.rs", "filter": {"ts": {"$gt": *at}}, "limit": 1};
    let next = read_cursor(&recorded.client.database("local"), next).await.expect("the oplog");
    let next = RawDocument::from_bytes(&next[0]).expect("an entry").get_timestamp("ts").expect("a time");
    restored(&mut restore(&recorded.home, &target, &["--before", &text(next)]));
    wrong.extend(
        differences_from(&live, wanted).await.into_iter().map(|line| format!("{}: {line}", text(next))),
    );
    let info = recorded.client.database("admin").run_command(doc! {"buildInfo": 1}).await.expect("a version");
    let version = info.get_str("version").expect("a version");
    let used: Vec<String> = used.iter().map(|(kind, count)| format!("{count} from {kind}")).collect();
    println!(
        "MongoDB {version}, seed {}: {} moments were restored, {}; {} differ",
        plan.seed,
        recorded.moments.len(),
        used.join(", "),
        wrong.len()
    );
    assert_eq!(wrong, Vec::<String>::new(), "UZIMA_TEST_SEED={}", plan.seed);
    drop(recorded.server.uri());
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn seed() -> u64 {
    let seed = number("UZIMA_TEST_SEED").unwrap_or_else(|| rand::rng().next_u64());
    println!("UZIMA_TEST_SEED={seed}");
    seed
}

/// With `UZIMA_TEST_FULL=1`: 200 moments of each version. `UZIMA_TEST_MOMENTS` and `UZIMA_TEST_VERSIONS` choose others.
#[tokio::test(flavor = "multi_thread")]
async fn every_moment_is_restored_as_the_server_says_it_was() {
    let seed = seed();
    if std::env::var_os("UZIMA_TEST_FULL").is_none() {
        let plan = Plan { version: None, seed, moments: 10 };
        return compare(&record(plan).await, plan).await;
    }
    let moments = number("UZIMA_TEST_MOMENTS").unwrap_or(200) as usize;
    for version in Version::selected().expect("versions") {
        let plan = Plan { version: Some(version), seed, moments };
        compare(&record(plan).await, plan).await;
    }
}

/// The writers pause while the server is read.
#[tokio::test(flavor = "multi_thread")]
async fn moments_of_mongodb_4_4_are_restored() {
    let plan = Plan { version: Some(Version::V4_4_2), seed: seed(), moments: 3 };
    compare(&record(plan).await, plan).await;
}
