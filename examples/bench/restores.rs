//! Measures restores into a fresh, empty replica set by this tool, and by mongorestore from mongodump's own archive of the
//! same data. Also measures verify.

use std::path::Path;

use anyhow::Result;
use uzima_testkit::mongod::Mongod;

use crate::cost::{Costs, Way, measure, official};

/// Large enough that the server does not truncate its oplog during the run.
pub const OPLOG_MB: u32 = 4096;

/// Backs up `source` with each tool, stops it, and runs every way once a round, in turn.
pub fn compare(mut source: Mongod, rounds: u64) -> Result<()> {
    let kept = tempfile::tempdir()?;
    for way in sources(kept.path()) {
        measure(&source, &way)?;
    }
    source.stop()?;
    let ways = ways(kept.path());
    let mut costs = Costs::default();
    for _ in 0..rounds {
        for way in &ways {
            let target = Mongod::builder().cache_gb(2.0).replica_set("rs").oplog_mb(OPLOG_MB);
            let target = target.start_blocking()?;
            costs.add(way, measure(&target, way)?);
        }
    }
    costs.print(&ways, rounds);
    Ok(())
}

fn backup(kept: &Path, format: &str) -> String {
    let dir = kept.join(format);
    format!(
        "BACKUP_ENGINE=native BACKUP_FORMAT={format} BACKUP_DIR={} \"$UZIMA\" backup --quiet",
        dir.display()
    )
}

/// Creates the backups that the ways restore.
fn sources(kept: &Path) -> Vec<Way> {
    let mut ways = vec![
        Way { name: "tar.gz", line: backup(kept, "tar.gz") },
        Way { name: "tar.zst", line: backup(kept, "tar.zst") },
    ];
    let line = format!("mongodump --quiet --uri=$URI --gzip --archive={}/a", kept.display());
    ways.extend(official("mongodump --archive --gzip", &line, &["mongodump"]));
    ways
}

fn ways(kept: &Path) -> Vec<Way> {
    let ours = |name, format: &str, command: &str| {
        let dir = kept.join(format);
        Way { name, line: format!("BACKUP_DIR={} \"$UZIMA\" {command} --quiet", dir.display()) }
    };
    let mut ways = vec![
        ours("uzima restore, tar.gz", "tar.gz", "restore latest --yes"),
        ours("uzima restore, tar.zst", "tar.zst", "restore latest --yes"),
    ];
    let line = format!("mongorestore --quiet --uri=$URI --gzip --archive={}/a", kept.display());
    let best = format!("{line} --numInsertionWorkersPerCollection 4 --writeConcern '{{w: 1}}'");
    let needs = ["mongodump", "mongorestore"];
    ways.extend(official("mongorestore --gzip", &line, &needs));
    ways.extend(official("mongorestore --gzip, its best flags", &best, &needs));
    ways.push(ours("uzima verify, tar.gz", "tar.gz", "verify latest"));
    ways.push(ours("uzima verify, tar.zst", "tar.zst", "verify latest"));
    ways
}
