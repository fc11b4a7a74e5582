//! Measures this tool and its alternatives in one run, interleaved:
//! `cargo build --release && cargo run --release --example bench`.
//!
//! Needs `/usr/bin/time`. Compares with mongodump, mongorestore, pigz and zstd if they are on PATH, and prints which are missing.
//!
//! Arguments that name parts, with or without a number, measure only these; `restores=0` leaves one out. The parts, with their
//! defaults:
//!
//! - `rounds=3` of backups, `modes=3` of each consistency, `encrypted=3` with and without encryption, `copies=3` to one directory
//!   and to two, `swaps=3` of restores over a live collection, `restores=3`, `distance=3` of backups and restores over long lines
//!   (into replica sets with `replicated=1`): of `orders=1000000` documents of 700 bytes, two collections of short rows, and 200 tiny
//!   ones.
//! - `tiny=2000` collections; `blobs=64000` incompressible documents of 16 KiB, which is 1 GB.
//! - `slices=3` rounds of slices of the oplog, with a last one of `backlog=5120` MiB; `replays=1` rounds of restores to a point in
//!   time of `operations=270000` writes; `transaction=1024` MiB in one transaction.
//! - `auto=1` rounds of backups over a line of 20 Mbit/s with `auto` and each zstd level from `lowest=1` to `highest=19`.
//! - `codecs=3` rounds of gzip and zstd on text, numbers and random bytes.

mod backups;
mod cost;
mod distance;
mod encrypted;
mod levels;
mod oplogs;
mod restores;
mod swaps;

use std::collections::{BTreeMap, BTreeSet};

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
            distance::compare(serve(&orders)?, numbers["distance"], numbers["replicated"] > 0)?;
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
        backups::compare(&mongod, &backups::tiny(), numbers["rounds"].max(1))?;
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

/// The parts, with their sizes. If arguments name some of them, the others are left out.
const PARTS: [(&str, u64); 14] = [
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
    ("replays", 1),
    ("transaction", 1_024),
    ("auto", 1),
    ("codecs", 3),
];

/// The other arguments.
const SIZES: [(&str, u64); 6] = [
    ("orders", 1_000_000),
    ("replicated", 0),
    ("backlog", 5_120),
    ("operations", 270_000),
    ("lowest", 1),
    ("highest", 19),
];

/// The arguments, or their defaults.
fn numbers(arguments: impl Iterator<Item = String>) -> Result<BTreeMap<&'static str, u64>> {
    let mut numbers: BTreeMap<_, _> = PARTS.into_iter().chain(SIZES).collect();
    let mut named = BTreeSet::new();
    for argument in arguments {
        let (name, value) =
            argument.split_once('=').map_or((&*argument, None), |(name, value)| (name, Some(value)));
        let (name, number) =
            numbers.iter_mut().find(|(n, _)| **n == name).with_context(|| format!("no argument {name}"))?;
        if let Some(value) = value {
            *number = value.parse()?;
        }
        if PARTS.iter().any(|(part, _)| part == name) && *number > 0 {
            named.insert(*name);
        }
    }
    if !named.is_empty() {
        let others = PARTS.iter().filter(|(part, _)| !named.contains(part));
        numbers.extend(others.map(|(part, _)| (*part, 0)));
    }
    Ok(numbers)
}
