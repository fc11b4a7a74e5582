//! The comparison of a backup's speed with the usual speed of its job. docs/monitoring.md describes the rule.

use std::fmt;
use std::time::Duration;

use super::{Catalog, CatalogEntry, CatalogOptions};
use crate::base::clock;
use crate::base::error::Result;
use crate::base::units;
use crate::model::manifest::{Manifest, SLOW};
use crate::model::timing::DataTiming;
use crate::store::Store;

/// The fewest backups that show what is usual.
const FEWEST: usize = 5;
/// The most backups that count, the newest ones.
const MOST: usize = 10;
/// A backup is slow below this part of the usual speed.
const PART: f64 = 0.5;
/// How much longer than usual the data of a slow backup takes, in seconds. The speed of a small database says little, because
/// single seconds decide about it.
const LONGER: f64 = 60.0;
/// How many manifests are read at once.
const CHUNK: usize = 16;
/// The most manifests that are read, so that a place with many jobs does not delay the end of a backup.
const MOST_READ: usize = 1_000;

/// The amount of data in a backup, and the time that it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackupSpeed {
    /// The length of the documents in bytes.
    pub raw_bytes: u64,
    pub timing: DataTiming,
}

impl BackupSpeed {
    /// Returns `None` if the backup has only a part of its job, or was made by a version that did not measure the time.
    fn of<N>(manifest: &Manifest<N>) -> Option<BackupSpeed> {
        let timing = manifest.timing.filter(|_| !manifest.partial)?;
        Some(BackupSpeed { raw_bytes: manifest.totals.raw_bytes, timing })
    }
}

/// A backup that was much slower than usual.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slowdown {
    /// The number of earlier backups.
    backups: usize,
    /// In bytes of raw data per second.
    speed: f64,
    /// The median speed of the earlier backups.
    usual: f64,
    seconds: f64,
    /// The time that the data would take at the usual speed.
    expected: f64,
    /// The wait that grew most, and the seconds by which it did; `None` if no wait grew.
    grew: Option<(&'static str, f64)>,
}

/// Returns how much slower than usual a backup was. `before` are the earlier backups, newest first. Returns `None` if they
/// are too few, or if the backup was not much slower.
pub fn slowdown(now: &BackupSpeed, before: &[BackupSpeed]) -> Option<Slowdown> {
    let before = &before[..before.len().min(MOST)];
    let speed = now.timing.raw_speed(now.raw_bytes)?;
    let speeds: Vec<f64> = before.iter().filter_map(|b| b.timing.raw_speed(b.raw_bytes)).collect();
    if speeds.len() < FEWEST {
        return None;
    }
    let backups = speeds.len();
    let usual = median(speeds);
    if usual <= 0.0 || speed >= usual * PART {
        return None;
    }
    let expected = now.raw_bytes as f64 / usual;
    if now.timing.seconds < expected + LONGER {
        return None;
    }
    // A usual wait is in proportion to the data.
    let measured = before.iter().filter(|b| b.raw_bytes > 0);
    let growth = now.timing.waits().into_iter().enumerate().map(|(n, (what, seconds))| {
        let each = measured.clone().map(|b| b.timing.waits()[n].1 / b.raw_bytes as f64).collect();
        (what, seconds - median(each) * now.raw_bytes as f64)
    });
    let grew = growth.filter(|(_, by)| *by >= 1.0).max_by(|a, b| a.1.total_cmp(&b.1));
    Some(Slowdown { backups, speed, usual, seconds: now.timing.seconds, expected, grew })
}

/// The middle value, or the mean of the two middle values; zero without values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(upper) = values.get(values.len() / 2) else { return 0.0 };
    if values.len() % 2 == 1 { *upper } else { (values[values.len() / 2 - 1] + upper) / 2.0 }
}

impl fmt::Display for Slowdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = |seconds| units::duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        write!(
            f,
            "{SLOW}{} raw, where the median of the last {} backups is {}; the data took {} instead of about {}",
            units::bytes_per_second(self.speed),
            self.backups,
            units::bytes_per_second(self.usual),
            took(self.seconds),
            took(self.expected)
        )?;
        match self.grew {
            Some((what, by)) => write!(f, ", and the wait for {what} grew most, by {}", took(by)),
            None => f.write_str(", although no wait grew: this machine itself was slower"),
        }
    }
}

/// Compares a complete backup with the last backups of its job that were made with the same engine and compression. Reads
/// nothing if the backup took less than a minute.
///
/// # Errors
/// Returns an error if the store cannot be read.
pub async fn find(store: &dyn Store, now: &Manifest, reading: &CatalogOptions) -> Result<Option<Slowdown>> {
    let Some(speed) = BackupSpeed::of(now).filter(|speed| speed.timing.seconds >= LONGER) else {
        return Ok(None);
    };
    let catalog = Catalog::read(store, reading).await?;
    let mut before = Vec::new();
    for ids in catalog.existing().chunks(CHUNK).take(MOST_READ / CHUNK) {
        for entry in catalog.summaries(ids).await? {
            let CatalogEntry::Backup(other) = entry else { continue };
            let comparable = other.job == now.job
                && other.engine.name == now.engine.name
                && other.artifact.method() == now.artifact.method()
                && !other.collapsed()
                && !clock::is_future(other.started_at, reading.now);
            before.extend(BackupSpeed::of(&other).filter(|_| comparable));
        }
        if before.len() >= MOST {
            break;
        }
    }
    catalog.save();
    Ok(slowdown(&speed, &before))
}

#[cfg(test)]
mod tests;
