//! Measures this tool beside what a user would use instead, in one run, interleaved:
//! `cargo build --release && cargo run --release --example bench`.
//!
//! Needs `/usr/bin/time`; compares with mongodump, pigz and zstd where they are on PATH, and says so where
//! not. Arguments: `orders=N` documents of 700 bytes (default 1,000,000), `rounds=N` (default 3),
//! `tiny=N` collections of the second server (default 2,000), `blobs=N` documents of 16 KiB that nothing
//! compresses, of the third (default 64,000, that is 1 GB).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use uzima_testkit::load::{self, Load};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::mongod::binary::on_path;

/// One way to back up.
struct Way {
    name: &'static str,
    /// A shell line; `$URI`, `$OUT` (a fresh directory) and `$UZIMA` are set.
    line: String,
}

/// What one run took.
#[derive(Clone, Copy)]
struct Cost {
    /// Seconds.
    wall: f64,
    /// CPU seconds of the client.
    cpu: f64,
    /// CPU seconds of mongod meanwhile.
    server: f64,
    /// Largest resident memory in MiB.
    memory: f64,
    /// Bytes on the disk.
    size: u64,
}

fn main() -> Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut numbers =
        BTreeMap::from([("orders", 1_000_000), ("rounds", 3), ("tiny", 2_000), ("blobs", 64_000)]);
    for argument in std::env::args().skip(1) {
        let (name, value) = argument.split_once('=').context("arguments look like rounds=3")?;
        let number =
            numbers.iter_mut().find(|(n, _)| **n == name).with_context(|| format!("no argument {name}"))?;
        *number.1 = value.parse()?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let serve = |fill: &dyn Fn(&mongodb::Client) -> Result<()>| -> Result<Mongod> {
        let mongod = runtime.block_on(Mongod::builder().cache_gb(2.0).start())?;
        let client = runtime.block_on(mongod.client())?;
        fill(&client)?;
        Ok(mongod)
    };
    let rounds = numbers["rounds"];

    if numbers["orders"] > 0 {
        let load =
            Load { orders: numbers["orders"], rows: numbers["orders"] * 3 / 2, tiny: 200, ..Load::default() };
        let mongod = serve(&|client| {
            let written = runtime.block_on(load::fill(client, &load))?;
            println!(
                "\n## {} documents, {} bytes, {} collections",
                written.documents, written.bytes, written.collections
            );
            Ok(())
        })?;
        compare(&mongod, &everything(), rounds)?;
    }
    if numbers["tiny"] > 0 {
        let count = numbers["tiny"] as u32;
        let mongod = serve(&|client| {
            runtime.block_on(load::many_tiny(client, count))?;
            println!("\n## {count} tiny collections");
            Ok(())
        })?;
        compare(&mongod, &tiny(), rounds)?;
    }
    if numbers["blobs"] > 0 {
        let load = Load { orders: 0, rows: 0, tiny: 0, blobs: numbers["blobs"], ..Load::default() };
        let mongod = serve(&|client| {
            let written = runtime.block_on(load::fill(client, &load))?;
            println!("\n## {} incompressible documents, {} bytes", written.documents, written.bytes);
            Ok(())
        })?;
        compare(&mongod, &ours(), 1)?;
    }
    Ok(())
}

fn ours() -> Vec<Way> {
    let way = |name, engine: &str, format: &str| Way {
        name,
        line: format!(
            "BACKUP_ENGINE={engine} BACKUP_FORMAT={format} BACKUP_DIR=$OUT \"$UZIMA\" backup --quiet"
        ),
    };
    vec![way("uzima tar.gz", "native", "tar.gz"), way("uzima tar.zst", "native", "tar.zst")]
}

fn tiny() -> Vec<Way> {
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

fn everything() -> Vec<Way> {
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

fn official(name: &'static str, line: &str, needs: &[&str]) -> Option<Way> {
    let missing: Vec<&&str> = needs.iter().filter(|program| on_path(program).is_none()).collect();
    if !missing.is_empty() {
        println!("not measured: {name} ({missing:?} not on PATH)");
        return None;
    }
    Some(Way { name, line: line.into() })
}

/// Runs every way once a round, in turn, so that the machine's moods meet all alike.
fn compare(mongod: &Mongod, ways: &[Way], rounds: u64) -> Result<()> {
    // What lies in the server's cache and what does not must not depend on who comes first.
    let _ = measure(mongod, &ways[0])?;
    let mut costs: BTreeMap<&str, Vec<Cost>> = BTreeMap::new();
    for _ in 0..rounds {
        for way in ways {
            costs.entry(way.name).or_default().push(measure(mongod, way)?);
        }
    }
    println!("\n| | wall s (median of {rounds}) | client CPU s | mongod CPU s | peak MiB | stored bytes |");
    println!("|---|---|---|---|---|---|");
    for way in ways {
        let cost = median(&costs[way.name]);
        println!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.0} | {} |",
            way.name, cost.wall, cost.cpu, cost.server, cost.memory, cost.size
        );
    }
    Ok(())
}

/// One run of one way.
fn measure(mongod: &Mongod, way: &Way) -> Result<Cost> {
    let out = tempfile::tempdir()?;
    let before = server_cpu(mongod)?;
    let run = Command::new("/usr/bin/time")
        .args(["-f", "MEASURED %e %U %S %M", "sh", "-c", &way.line])
        .env("URI", mongod.uri())
        .env("MONGO_URI", mongod.uri())
        .env("BACKUP_MIN_FREE", "0")
        .env("BACKUP_RECORDS", "off")
        .env("UZIMA_BACKUP_STATE_DIR", out.path().join("state"))
        .env("OUT", out.path())
        .env("UZIMA", binary()?)
        .output()
        .context("/usr/bin/time is needed (apt-get install time)")?;
    let text = String::from_utf8_lossy(&run.stderr).into_owned();
    ensure!(run.status.success(), "{}: {text}", way.name);
    let line = text.lines().find_map(|l| l.strip_prefix("MEASURED ")).context("time said nothing")?;
    let figures: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [wall, user, system, kib] = figures[..] else { bail!("time said {line}") };
    let server = server_cpu(mongod)? - before;
    Ok(Cost { wall, cpu: user + system, server, memory: kib / 1024.0, size: size_of(out.path())? })
}

/// The run with the median wall time.
fn median(costs: &[Cost]) -> Cost {
    let mut sorted = costs.to_vec();
    sorted.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    sorted[sorted.len() / 2]
}

/// CPU seconds that mongod has used (proc(5), fields 14 and 15 of stat, 100 ticks a second).
fn server_cpu(mongod: &Mongod) -> Result<f64> {
    let pid = mongod.pid().context("mongod runs")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("stat")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// Bytes of all files below a folder, index and manifest included.
fn size_of(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        size += if entry.file_type()?.is_dir() { size_of(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(size)
}

/// The release binary beside this example.
fn binary() -> Result<PathBuf> {
    let examples = std::env::current_exe()?;
    let binary =
        examples.parent().and_then(Path::parent).context("examples lie in target/release/examples")?;
    let binary = binary.join("uzima-backup");
    ensure!(binary.exists(), "{} is not built: cargo build --release", binary.display());
    Ok(binary)
}
