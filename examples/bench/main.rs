//! Measures this tool and its alternatives in one run, interleaved:
//! `cargo build --release && cargo run --release --example bench`.
//!
//! Needs `/usr/bin/time`. Compares with mongodump, mongorestore, pigz and zstd if they are on PATH, and prints which
//! are missing. Arguments: `orders=N` documents of 700 bytes (default 1,000,000), `rounds=N` of backups
//! (default 3), `restores=N` of restores (default 3), `modes=N` of each consistency (default 3) and `encrypted=N` with and without
//! encryption (default 3), `copies=N` to one directory and to two (default 3), `swaps=N` of restores over a live collection
//! (default 3), `distance=N` of backups and restores over long lines (default 3), `tiny=N` collections of the second server (default 2,000), `blobs=N` incompressible documents of 16 KiB of the
//! third server (default 64,000, which is 1 GB), `slices=N` rounds of slices of the oplog (default 3) and `backlog=N` MiB of the
//! last one (default 5,120), `replays=N` rounds of restores to a point in time (default 1) of `operations=N` writes (default
//! 270,000), `transaction=N` MiB of the largest transaction (default 1,024), `auto=N` rounds of backups over a line of 20 Mbit/s
//! (default 1) with each zstd level from `lowest=N` (default 1) to `highest=N` (default 19) and with `auto`, `codecs=N` rounds of gzip
//! and zstd on text, numbers and random bytes (default 3). 0 leaves a part out.

mod backups;
mod cost;
mod distance;
mod encrypted;
mod levels;
mod oplogs;
mod restores;
mod swaps;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use uzima_testkit::load::{self, Load};
use uzima_testkit::mongod::{Builder, Mongod};

fn main() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let numbers = numbers(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let filled = |server: Builder, fill: &dyn Fn(&mongodb::Client) -> Result<()>| -> Result<Mongod> {
        let mongod = runtime.block_on(server.cache_gb(2.0).start())?;
        let client = runtime.block_on(mongod.client())?;
        fill(&client)?;
        Ok(mongod)
    };
    let serve = |fill: &dyn Fn(&mongodb::Client) -> Result<()>| filled(Mongod::builder(), fill);

    if numbers["orders"] > 0 {
        let load =
            Load { orders: numbers["orders"], rows: numbers["orders"] * 3 / 2, tiny: 200, ..Load::default() };
        let orders = |client: &mongodb::Client| {
            let written = runtime.block_on(load::fill(client, &load))?;
            println!(
                "\n## {} documents, {} bytes, {} collections",
                written.documents, written.bytes, written.collections
            );
            Ok(())
        };
        if numbers["rounds"] + numbers["restores"] > 0 {
            let mongod = serve(&orders)?;
            if numbers["rounds"] > 0 {
                backups::compare(&mongod, &backups::everything(), numbers["rounds"])?;
            }
            if numbers["restores"] > 0 {
                restores::compare(mongod, numbers["restores"])?;
            }
        }
        if numbers["encrypted"] > 0 {
            encrypted::compare(serve(&orders)?, numbers["encrypted"])?;
        }
        if numbers["copies"] > 0 {
            backups::compare(&serve(&orders)?, &backups::copies(), numbers["copies"])?;
        }
        if numbers["distance"] > 0 {
            distance::compare(serve(&orders)?, numbers["distance"])?;
        }
        if numbers["swaps"] > 0 {
            swaps::compare(&runtime, serve(&orders)?, numbers["swaps"])?;
        }
        if numbers["modes"] > 0 {
            let member = Mongod::builder().replica_set("rs").oplog_mb(restores::OPLOG_MB);
            let mongod = filled(member, &orders)?;
            backups::compare(&mongod, &backups::modes(), numbers["modes"])?;
        }
    }
    if numbers["tiny"] > 0 {
        let count = numbers["tiny"] as u32;
        let mongod = serve(&|client| {
            runtime.block_on(load::many_tiny(client, count))?;
            println!("\n## {count} tiny collections");
            Ok(())
        })?;
        backups::compare(&mongod, &backups::tiny(), numbers["rounds"])?;
    }
    if numbers["blobs"] > 0 {
        let load = Load { orders: 0, rows: 0, tiny: 0, blobs: numbers["blobs"], ..Load::default() };
        let mongod = serve(&|client| {
            let written = runtime.block_on(load::fill(client, &load))?;
            println!("\n## {} incompressible documents, {} bytes", written.documents, written.bytes);
            Ok(())
        })?;
        backups::compare(&mongod, &backups::ours(), 1)?;
    }
    if numbers["slices"] > 0 {
        oplogs::slices(&runtime, numbers["slices"], numbers["backlog"])?;
    }
    if numbers["replays"] > 0 {
        oplogs::replay(&runtime, numbers["replays"], numbers["operations"])?;
    }
    if numbers["transaction"] > 0 {
        oplogs::transaction(&runtime, numbers["transaction"])?;
    }
    if numbers["auto"] > 0 {
        levels::compare(&runtime, numbers["auto"], numbers["lowest"]..=numbers["highest"])?;
    }
    if numbers["codecs"] > 0 {
        levels::codecs(&runtime, numbers["codecs"])?;
    }
    Ok(())
}

/// The arguments, or their defaults.
fn numbers(arguments: impl Iterator<Item = String>) -> Result<BTreeMap<&'static str, u64>> {
    let mut numbers = BTreeMap::from([
        ("orders", 1_000_000),
        ("rounds", 3),
        ("restores", 3),
        ("modes", 3),
        ("encrypted", 3),
        ("copies", 3),
        ("swaps", 3),
        ("distance", 3),
        ("tiny", 2_000),
        ("blobs", 64_000),
        ("slices", 3),
        ("backlog", 5_120),
        ("replays", 1),
        ("operations", 270_000),
        ("transaction", 1_024),
        ("auto", 1),
        ("lowest", 1),
        ("highest", 19),
        ("codecs", 3),
    ]);
    for argument in arguments {
        let (name, value) = argument.split_once('=').context("arguments look like rounds=3")?;
        let number =
            numbers.iter_mut().find(|(n, _)| **n == name).with_context(|| format!("no argument {name}"))?;
        *number.1 = value.parse()?;
    }
    Ok(numbers)
}
