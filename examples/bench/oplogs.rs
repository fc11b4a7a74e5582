//! Measures slices of the oplog, and restores to a point in time beside mongorestore's replay of the same slices.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bson::{Document, RawDocumentBuf, Timestamp, doc, rawdoc};
use mongodb::Client;
use tokio::runtime::Runtime;
use uzima_testkit::load::{Orders, Random};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;

use crate::cost::{Costs, Way, measure, official};

/// The number of documents of the base whose changes are replayed.
const STOCK: u64 = 50_000;

/// The length of an oplog entry without its document, in bytes (6.0.5).
const ENTRY: u64 = 150;

/// Measures `oplog` after nothing, one document and 100 MB of oplog were written, `rounds` times, and once with `backlog` MiB.
pub fn slices(runtime: &Runtime, rounds: u64, backlog: u64) -> Result<()> {
    let mongod = member(backlog as u32 * 2 + 2048)?;
    let client = runtime.block_on(mongod.client())?;
    let kept = tempfile::tempdir()?;
    let mut orders = Orders::new(1);
    runtime.block_on(insert(&client, &mut orders, 1))?;
    for command in ["backup", "oplog"] {
        measure(&mongod, &way("base", kept.path(), command))?;
    }
    let [nothing, one, many, all] = [
        "uzima oplog, nothing written",
        "uzima oplog, one document written",
        "uzima oplog, 100 MB of oplog written",
        "uzima oplog, the backlog written",
    ]
    .map(|name| way(name, kept.path(), "oplog"));
    let mut ways = vec![nothing, one, many];
    let mut costs = Costs::default();
    for _ in 0..rounds {
        for (way, bytes) in ways.iter().zip([0, 1, 100_000_000]) {
            let since = runtime.block_on(newest(&client))?;
            runtime.block_on(insert(&client, &mut orders, bytes))?;
            costs.add(way, measure(&mongod, way)?);
            if bytes > 1
                && let Some(way) = by_mongodump(since)
            {
                costs.add(&way, measure(&mongod, &way)?);
            }
        }
    }
    ways.extend(by_mongodump(Timestamp { time: 0, increment: 0 }));
    if backlog > 0 {
        runtime.block_on(insert(&client, &mut orders, backlog << 20))?;
        costs.add(&all, measure(&mongod, &all)?);
        ways.push(all);
    }
    println!("\n## Slices of the oplog, a backlog of {backlog} MiB");
    costs.print(&ways, rounds);
    Ok(())
}

/// mongodump of the entries after a time, through zstd.
fn by_mongodump(since: Timestamp) -> Option<Way> {
    let Timestamp { time, increment } = since;
    let line = format!(
        "mongodump --quiet --uri=$URI -d local -c oplog.rs -o - \
         --query '{{\"ts\": {{\"$gt\": {{\"$timestamp\": {{\"t\": {time}, \"i\": {increment}}}}}}}}}' | zstd -q -3 > $OUT/a"
    );
    official("mongodump of oplog.rs | zstd -3, the same entries", &line, &["mongodump", "zstd"])
}

/// The time of the newest entry of the oplog.
async fn newest(client: &Client) -> Result<Timestamp> {
    let oplog = client.database("local").collection::<Document>("oplog.rs");
    let newest = oplog.find_one(doc! {}).sort(doc! {"$natural": -1}).await?.context("the oplog is empty")?;
    Ok(newest.get_timestamp("ts")?)
}

/// Measures the replay of `operations` writes of single documents, `rounds` times.
pub fn replay(runtime: &Runtime, rounds: u64, operations: u64) -> Result<()> {
    let mut source = member(2048)?;
    let client = runtime.block_on(source.client())?;
    let kept = tempfile::tempdir()?;
    let mut random = Random::new(1);
    let documents: Vec<_> = (0..STOCK).map(|id| stock(&mut random, id).into_bytes()).collect();
    runtime.block_on(raw::insert(&client.database("shop"), "stock", &documents))?;
    measure(&source, &way("base", kept.path(), "backup"))?;
    runtime.block_on(write(&client, &mut random, operations))?;
    measure(&source, &way("slices", kept.path(), "oplog"))?;
    source.stop()?;
    unpack(kept.path())?;
    let mut ways = vec![
        way("uzima restore, the base alone", kept.path(), "restore latest --yes"),
        way("uzima restore --at newest", kept.path(), "restore --at newest --yes"),
    ];
    let line = format!(
        "mongorestore --quiet --uri=$URI --oplogReplay --oplogFile={0}/oplog.bson {0}/dump",
        kept.path().display()
    );
    ways.extend(official("mongorestore --oplogReplay", &line, &["mongorestore"]));
    println!("\n## Replay of {operations} writes to {STOCK} documents");
    restores(&ways, rounds)
}

/// Measures the slices and the restore of one transaction of `mib` MiB.
pub fn transaction(runtime: &Runtime, mib: u64) -> Result<()> {
    let source = member(mib as u32 * 2 + 2048)?;
    let client = runtime.block_on(source.client())?;
    let kept = tempfile::tempdir()?;
    runtime.block_on(insert(&client, &mut Orders::new(1), 1))?;
    measure(&source, &way("base", kept.path(), "backup"))?;
    runtime.block_on(commit(&client, mib))?;
    let ways = [
        way("uzima oplog", kept.path(), "oplog"),
        way("uzima restore --at newest", kept.path(), "restore --at newest --yes"),
    ];
    let mut costs = Costs::default();
    costs.add(&ways[0], measure(&source, &ways[0])?);
    drop(source);
    costs.add(&ways[1], measure(&member(mib as u32 * 2 + 2048)?, &ways[1])?);
    println!("\n## One transaction of {mib} MiB");
    costs.print(&ways, 1);
    Ok(())
}

fn restores(ways: &[Way], rounds: u64) -> Result<()> {
    let mut costs = Costs::default();
    for _ in 0..rounds {
        for way in ways {
            costs.add(way, measure(&member(2048)?, way)?);
        }
    }
    costs.print(ways, rounds);
    Ok(())
}

/// A replica set of one member.
fn member(oplog_mb: u32) -> Result<Mongod> {
    // A transaction may be as large as the part of the cache that can be dirty.
    let dirty = "--wiredTigerEngineConfigString=eviction_dirty_target=80,eviction_dirty_trigger=90";
    let member = Mongod::builder().cache_gb(8.0).arg(dirty).replica_set("rs").oplog_mb(oplog_mb);
    member.parameter("transactionLifetimeLimitSeconds", "3600").start_blocking()
}

fn way(name: &'static str, kept: &Path, command: &str) -> Way {
    let line = format!(
        "BACKUP_ENGINE=native BACKUP_FORMAT=tar.zst BACKUP_CONSISTENCY=oplog BACKUP_DIR={} \"$UZIMA\" {command} --quiet",
        kept.join("kept").display()
    );
    Way { name, line }
}

/// Writes the base as a dump, and the bodies of all slices as one oplog, with stock tools.
fn unpack(kept: &Path) -> Result<()> {
    let line = "set -e; cd \"$0\"; zstd -qdc $(find kept -name '*.tar.zst') | tar xf -; \
                zstd -qdc $(find kept -name 'slice-*.bson.zst' | sort) > oplog.bson; rm -f dump/oplog.bson";
    let done = Command::new("sh").args(["-c", line]).arg(kept).status().context("sh")?;
    ensure!(done.success(), "the base or a slice cannot be unpacked");
    Ok(())
}

/// Inserts orders of 700 bytes until their oplog entries have this many bytes.
async fn insert(client: &Client, orders: &mut Orders, bytes: u64) -> Result<()> {
    let (database, mut done) = (client.database("shop"), 0);
    while done < bytes {
        let mut batch = Vec::new();
        while batch.len() < 15_000 && done < bytes {
            let document = orders.next_document();
            done += document.len() as u64 + ENTRY;
            batch.push(document);
        }
        raw::insert(&database, "orders", &batch).await?;
    }
    Ok(())
}

/// A document of the stock, about 250 bytes.
fn stock(random: &mut Random, id: u64) -> RawDocumentBuf {
    rawdoc! {"_id": id as i64, "count": 0_i64, "place": random.name(), "about": random.text(30)}
}

/// Inserts a document, changes one or deletes one, as often as each other, in commands of 1,000 writes.
async fn write(client: &Client, random: &mut Random, operations: u64) -> Result<()> {
    let database = client.database("shop");
    let (mut next, mut first, mut left) = (STOCK, 0, operations);
    while left > 0 {
        let some = left.min(3_000).div_ceil(3);
        let inserts: Vec<_> = (next..next + some).map(|id| stock(random, id).into_bytes()).collect();
        raw::insert(&database, "stock", &inserts).await?;
        next += some;
        let mut updates = Vec::new();
        for _ in 0..some {
            let id = (first + random.below(next - first)) as i64;
            updates.push(
                doc! {"q": {"_id": id}, "u": {"$inc": {"count": 1_i64}, "$set": {"place": random.name()}}},
            );
        }
        let deletes: Vec<_> =
            (first..first + some).map(|id| doc! {"q": {"_id": id as i64}, "limit": 1}).collect();
        first += some;
        for command in
            [doc! {"update": "stock", "updates": updates}, doc! {"delete": "stock", "deletes": deletes}]
        {
            let reply = database.run_command(command).await?;
            ensure!(reply.get_i32("n")? as u64 == some, "{reply}");
        }
        left = left.saturating_sub(3 * some);
    }
    Ok(())
}

/// Commits one transaction of documents of 1 MiB.
async fn commit(client: &Client, mib: u64) -> Result<()> {
    let films = client.database("shop").collection::<RawDocumentBuf>("films");
    client.database("shop").create_collection("films").await?;
    let mut session = client.start_session().await?;
    session.start_transaction().await?;
    let mut random = Random::new(3);
    for n in 0..mib {
        let bytes = random.bytes((1 << 20) - 100);
        let binary = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes };
        films.insert_one(rawdoc! {"_id": n as i64, "data": binary}).session(&mut session).await?;
    }
    session.commit_transaction().await?;
    Ok(())
}
