//! Measures backups by this tool and by mongodump, alone and piped into a compressor.

use anyhow::Result;
use uzima_testkit::mongod::Mongod;

use crate::cost::{Costs, Way, measure, official};

pub fn ours() -> Vec<Way> {
    let way = |name, engine: &str, format: &str| Way {
        name,
        line: format!(
            "BACKUP_ENGINE={engine} BACKUP_FORMAT={format} BACKUP_DIR=$OUT \"$UZIMA\" backup --quiet"
        ),
    };
    vec![way("uzima tar.gz", "native", "tar.gz"), way("uzima tar.zst", "native", "tar.zst")]
}

/// Backups to one directory and to two.
pub fn copies() -> Vec<Way> {
    let way = |name, copy: &str| Way {
        name,
        line: format!(
            "mkdir -p $OUT/a $OUT/b; {copy}BACKUP_ENGINE=native BACKUP_FORMAT=tar.zst BACKUP_DIR=$OUT/a \"$UZIMA\" backup --quiet"
        ),
    };
    vec![way("uzima, one directory", ""), way("uzima, two directories", "COPY_DIR=$OUT/b ")]
}

/// Measures each consistency on a replica set without writers.
pub fn modes() -> Vec<Way> {
    let way = |name, engine: &str, consistency: &str| Way {
        name,
        line: format!(
            "BACKUP_ENGINE={engine} BACKUP_CONSISTENCY={consistency} BACKUP_FORMAT=tar.zst BACKUP_DIR=$OUT \
             \"$UZIMA\" backup --quiet"
        ),
    };
    let mut ways = vec![
        way("uzima tar.zst, consistency none", "native", "none"),
        way("uzima tar.zst, consistency oplog", "native", "oplog"),
        way("uzima tar.zst, consistency snapshot", "native", "snapshot"),
    ];
    for (name, consistency) in [
        ("uzima tar.zst, mongodump engine, consistency none", "none"),
        ("uzima tar.zst, mongodump engine, consistency oplog", "oplog"),
    ] {
        let line = way(name, "mongodump", consistency).line;
        ways.extend(official(name, &line, &["mongodump"]));
    }
    let dump = "mongodump --quiet --uri=$URI --oplog --archive | zstd -q -T0 -3 > $OUT/a";
    ways.extend(official("mongodump --oplog | zstd -T0 -3", dump, &["mongodump", "zstd"]));
    ways
}

pub fn tiny() -> Vec<Way> {
    let mut ways = ours();
    ways.extend(official(
        "mongodump --archive (default)",
        "mongodump --quiet --uri=$URI --archive=$OUT/a",
        &["mongodump"],
    ));
    ways.extend(official(
        "mongodump --archive --gzip",
        "mongodump --quiet --uri=$URI --gzip --archive=$OUT/a",
        &["mongodump"],
    ));
    ways
}

pub fn everything() -> Vec<Way> {
    let mut ways = ours();
    let engine = "BACKUP_ENGINE=mongodump BACKUP_FORMAT=tar.gz BACKUP_DIR=$OUT \"$UZIMA\" backup --quiet";
    ways.extend(official("uzima tar.gz, mongodump engine", engine, &["mongodump"]));
    let dump = "mongodump --quiet --uri=$URI --archive";
    ways.extend(official("mongodump --archive --gzip", &format!("{dump}=$OUT/a --gzip"), &["mongodump"]));
    ways.extend(official(
        "mongodump | pigz -6",
        &format!("{dump} | pigz -6 > $OUT/a"),
        &["mongodump", "pigz"],
    ));
    ways.extend(official(
        "mongodump | zstd -T0 -3",
        &format!("{dump} | zstd -q -T0 -3 > $OUT/a"),
        &["mongodump", "zstd"],
    ));
    ways
}

/// Runs every way once a round, in turn, so that changes of the machine's load affect all ways alike.
pub fn compare(mongod: &Mongod, ways: &[Way], rounds: u64) -> Result<()> {
    // Warm the server's cache, so that the result does not depend on the order of the ways.
    let _ = measure(mongod, &ways[0])?;
    let mut costs = Costs::default();
    for _ in 0..rounds {
        for way in ways {
            costs.add(way, measure(mongod, way)?);
        }
    }
    costs.print(ways, rounds);
    Ok(())
}
