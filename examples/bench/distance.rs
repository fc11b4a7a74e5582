//! Measures backups and restores at a distance: a proxy on the same machine delays each direction by half of the round trip.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use uzima_testkit::mongod::Mongod;
use uzima_testkit::tcp_proxy::{Line, TcpProxy};

use crate::cost::{Costs, Way, measure_at, official};
use crate::restores::OPLOG_MB;

/// Round trips in milliseconds. 0 is without a proxy.
const ROUND_TRIPS: [u64; 4] = [0, 2, 20, 50];

/// A server, and the proxy in front of it.
struct Far {
    mongod: Mongod,
    _proxy: Option<TcpProxy>,
    uri: String,
}

impl Far {
    fn new(mongod: Mongod, round_trip: u64) -> Result<Far> {
        let (mut proxy, mut uri) = (None, mongod.uri());
        if round_trip > 0 {
            let delay = Duration::from_micros(round_trip * 500);
            let started = TcpProxy::start_line(mongod.host().parse()?, Line { delay, rate: None });
            uri = format!("mongodb://{}/?directConnection=true", started.address());
            proxy = Some(started);
        }
        Ok(Far { mongod, _proxy: proxy, uri })
    }
}

/// Runs every way once a round, in turn, at each distance: backups of `source`, and restores into fresh servers, which are replica
/// sets if `replicated`.
pub fn compare(source: Mongod, rounds: u64, replicated: bool) -> Result<()> {
    let kept = tempfile::tempdir()?;
    let mut source = source;
    for round_trip in ROUND_TRIPS {
        let far = Far::new(source, round_trip)?;
        let ways = backups();
        let mut costs = Costs::default();
        measure_at(&far.mongod, &far.uri, &ways[0])?;
        for _ in 0..rounds {
            for way in &ways {
                costs.add(way, measure_at(&far.mongod, &far.uri, way)?);
            }
        }
        println!("\nBackup at a round trip of {round_trip} ms:");
        costs.print(&ways, rounds);
        source = far.mongod;
    }
    for way in sources(kept.path()) {
        measure_at(&source, &source.uri(), &way)?;
    }
    source.stop()?;
    for round_trip in ROUND_TRIPS {
        let ways = restores(kept.path());
        let mut costs = Costs::default();
        for _ in 0..rounds {
            for way in &ways {
                let target = Mongod::builder().cache_gb(2.0);
                let target = if replicated { target.replica_set("rs").oplog_mb(OPLOG_MB) } else { target };
                let far = Far::new(target.start_blocking()?, round_trip)?;
                costs.add(way, measure_at(&far.mongod, &far.uri, way)?);
            }
        }
        println!("\nRestore at a round trip of {round_trip} ms:");
        costs.print(&ways, rounds);
    }
    Ok(())
}

fn backups() -> Vec<Way> {
    let line = "BACKUP_ENGINE=native BACKUP_FORMAT=tar.zst BACKUP_DIR=$OUT \"$UZIMA\" backup --quiet";
    let mut ways = vec![Way { name: "uzima tar.zst", line: line.into() }];
    let dump = "mongodump --quiet --uri=$URI --archive | zstd -q -T0 -3 > $OUT/a";
    ways.extend(official("mongodump | zstd -T0 -3", dump, &["mongodump", "zstd"]));
    ways
}

/// Creates the backups that the ways restore.
fn sources(kept: &Path) -> Vec<Way> {
    let kept = kept.display();
    let ours = format!(
        "BACKUP_ENGINE=native BACKUP_FORMAT=tar.zst BACKUP_DIR={kept}/ours \"$UZIMA\" backup --quiet"
    );
    let mut ways = vec![Way { name: "tar.zst", line: ours }];
    let dump = format!("mongodump --quiet --uri=$URI --archive | zstd -q -T0 -3 > {kept}/a.zst");
    ways.extend(official("mongodump | zstd -T0 -3", &dump, &["mongodump", "zstd"]));
    ways
}

fn restores(kept: &Path) -> Vec<Way> {
    let kept = kept.display();
    let ours = format!("BACKUP_DIR={kept}/ours \"$UZIMA\" restore latest --yes --quiet");
    let mut ways = vec![Way { name: "uzima restore, tar.zst", line: ours }];
    let line = format!("zstd -dc {kept}/a.zst | mongorestore --quiet --uri=$URI --archive");
    ways.extend(official("zstd -dc | mongorestore --archive", &line, &["mongodump", "mongorestore", "zstd"]));
    ways
}
