//! The cost of one run of one way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use uzima_testkit::mongod::Mongod;
use uzima_testkit::mongod::binary::on_path;

/// One way to make or restore a backup.
pub struct Way {
    pub name: &'static str,
    /// A shell line; `$URI`, `$OUT` (a fresh directory) and `$UZIMA` are set.
    pub line: String,
}

/// The cost of one run.
#[derive(Clone, Copy)]
pub struct Cost {
    /// Seconds.
    pub wall: f64,
    /// CPU seconds of the client.
    pub cpu: f64,
    /// CPU seconds of mongod during the run.
    pub server: f64,
    /// Largest resident memory in MiB.
    pub memory: f64,
    /// Bytes on the disk.
    pub size: u64,
}

/// The runs of each way, by its name.
#[derive(Default)]
pub struct Costs(BTreeMap<&'static str, Vec<Cost>>);

impl Costs {
    pub fn add(&mut self, way: &Way, cost: Cost) {
        self.0.entry(way.name).or_default().push(cost);
    }

    /// A table in the order of `ways`.
    pub fn print(&self, ways: &[Way], rounds: u64) {
        println!(
            "\n| | wall s (median of {rounds}) | client CPU s | mongod CPU s | peak MiB | stored bytes |"
        );
        println!("|---|---|---|---|---|---|");
        for way in ways {
            let cost = median(&self.0[way.name]);
            println!(
                "| {} | {:.2} | {:.2} | {:.2} | {:.0} | {} |",
                way.name, cost.wall, cost.cpu, cost.server, cost.memory, cost.size
            );
        }
    }
}

/// A way that needs these programs. Prints a line and returns `None` if a program is missing.
pub fn official(name: &'static str, line: &str, needs: &[&str]) -> Option<Way> {
    let missing: Vec<&&str> = needs.iter().filter(|program| on_path(program).is_none()).collect();
    if !missing.is_empty() {
        println!("not measured: {name} ({missing:?} not on PATH)");
        return None;
    }
    Some(Way { name, line: line.into() })
}

/// One run of one way.
pub fn measure(mongod: &Mongod, way: &Way) -> Result<Cost> {
    measure_at(mongod, &mongod.uri(), way)
}

/// One run of one way, which reaches the server at this connection string.
pub fn measure_at(mongod: &Mongod, uri: &str, way: &Way) -> Result<Cost> {
    let out = tempfile::tempdir()?;
    let before = server_cpu(mongod)?;
    let run = Command::new("/usr/bin/time")
        .args(["-f", "MEASURED %e %U %S %M", "sh", "-c", &way.line])
        .env("URI", uri)
        .env("MONGO_URI", uri)
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

/// The release binary next to this example.
pub fn binary() -> Result<PathBuf> {
    let examples = std::env::current_exe()?;
    let binary =
        examples.parent().and_then(Path::parent).context("examples lie in target/release/examples")?;
    let binary = binary.join("uzima-backup");
    ensure!(binary.exists(), "{} is not built: cargo build --release", binary.display());
    Ok(binary)
}
