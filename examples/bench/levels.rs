//! Measures compression levels over a narrow line, and gzip and zstd on different data.

use std::ops::RangeInclusive;

use anyhow::{Context, Result};
use bson::{DateTime, rawdoc};
use tokio::runtime::Runtime;
use uzima_testkit::load::{self, Load, Random};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::raw;
use uzima_testkit::s3_server::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use uzima_testkit::tcp_proxy::{Line, TcpProxy};

use crate::backups;
use crate::cost::{Cost, Way, measure};

/// 20 Mbit/s.
const RATE: u64 = 2_500_000;
/// Orders of 300 MB.
const ORDERS: u64 = 406_000;
/// Measurements of 300 MB, and how many are inserted at once.
const MEASUREMENTS: i64 = 3_500_000;
const BATCH: i64 = 100_000;

/// Backs up 300 MB of orders over a line of 20 Mbit/s, with each of these zstd levels and with `auto`.
pub fn compare(runtime: &Runtime, rounds: u64, levels: RangeInclusive<u64>) -> Result<()> {
    let load = Load { orders: ORDERS, rows: 0, tiny: 0, ..Load::default() };
    let mongod = serve(runtime, &load)?;
    println!(
        "\n| level | wall s | client CPU s | peak MiB | stored bytes | mean level |\n|---|---|---|---|---|---|"
    );
    for _ in 0..rounds {
        for level in std::iter::once("auto".to_string()).chain(levels.clone().map(|level| level.to_string()))
        {
            let (cost, mean) = over_a_line(&mongod, &level)?;
            println!(
                "| {level} | {:.2} | {:.2} | {:.0} | {} | {mean} |",
                cost.wall, cost.cpu, cost.memory, cost.size
            );
        }
    }
    Ok(())
}

/// One backup into a bucket of its own. Returns also the mean level, if it followed the line.
fn over_a_line(mongod: &Mongod, level: &str) -> Result<(Cost, String)> {
    let bucket = S3Server::start();
    let line = Line { rate: Some(RATE), ..Line::default() };
    let proxy = TcpProxy::start_line(bucket.address(), line);
    let way = Way {
        name: "over a line",
        line: format!(
            "AWS_ACCESS_KEY_ID={ACCESS_KEY} AWS_SECRET_ACCESS_KEY={SECRET_KEY} AWS_REGION=us-east-1 \
             S3_ENDPOINT_URL=http://{} S3_BACKUP_BUCKET={BUCKET} BACKUP_ENGINE=native BACKUP_FORMAT=tar.zst \
             BACKUP_COMPRESSION_LEVEL={level} \"$UZIMA\" backup --quiet",
            proxy.address()
        ),
    };
    let cost = measure(mongod, &way)?;
    let objects = bucket.objects();
    let manifest = objects.iter().find(|(key, _)| key.ends_with("manifest.json")).context("a manifest")?.1;
    let manifest: serde_json::Value = serde_json::from_slice(manifest)?;
    let mean = manifest["artifact"]["mean_level"].as_f64().map(|mean| mean.to_string()).unwrap_or_default();
    let size = objects.values().map(|body| body.len() as u64).sum();
    Ok((Cost { size, ..cost }, mean))
}

/// Backs up text, numbers and random bytes as `tar.gz` and `tar.zst` to a directory.
pub fn codecs(runtime: &Runtime, rounds: u64) -> Result<()> {
    let nothing = Load { orders: 0, rows: 0, tiny: 0, ..Load::default() };
    println!("\n## text");
    let mut text = serve(runtime, &Load { orders: ORDERS, ..nothing.clone() })?;
    backups::compare(&text, &backups::ours(), rounds)?;
    text.stop()?;
    println!("\n## numbers");
    let mut numbers = serve(runtime, &nothing)?;
    println!("{MEASUREMENTS} documents, {} bytes", runtime.block_on(measurements(&numbers))?);
    backups::compare(&numbers, &backups::ours(), rounds)?;
    numbers.stop()?;
    println!("\n## random bytes");
    let mut blobs = serve(runtime, &Load { blobs: 18_000, ..nothing })?;
    backups::compare(&blobs, &backups::ours(), rounds)?;
    blobs.stop()
}

fn serve(runtime: &Runtime, load: &Load) -> Result<Mongod> {
    runtime.block_on(async {
        let mongod = Mongod::builder().cache_gb(2.0).start().await?;
        let written = load::fill(&mongod.client().await?, load).await?;
        println!("\n{} documents, {} bytes", written.documents, written.bytes);
        Ok(mongod)
    })
}

/// Writes measurements: a time, a sensor, and three numbers. Returns their bytes.
async fn measurements(mongod: &Mongod) -> Result<usize> {
    let database = mongod.client().await?.database("store");
    let mut random = Random::new(1);
    let (mut value, mut bytes) = (20.0, 0);
    for from in (0..MEASUREMENTS).step_by(BATCH as usize) {
        let documents: Vec<_> = (from..from + BATCH)
            .map(|n| {
                value += (random.below(601) as f64 - 300.0) / 100.0;
                let noise = random.next_u64() as f64 / u64::MAX as f64;
                rawdoc! {
                    "_id": n,
                    "at": DateTime::from_millis(1_767_225_600_000 + n * 1000 + random.below(1000) as i64),
                    "sensor": random.below(100) as i32,
                    "value": (value * 100.0).round() / 100.0,
                    "noise": noise,
                    "status": random.below(10).saturating_sub(7) as i32,
                }
                .into_bytes()
            })
            .collect();
        bytes += documents.iter().map(Vec::len).sum::<usize>();
        raw::insert(&database, "measurements", &documents).await?;
    }
    Ok(bytes)
}
