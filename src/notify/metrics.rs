//! The metrics file, which node_exporter's textfile collector reads for Prometheus. It has the samples of all jobs of this
//! machine; a run changes only the samples of its job. The file is replaced under a lock on its folder.
//!
//! The format is Prometheus' text exposition format, 0.0.4, with base units.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::events::{BackupSuccess, CleanedPlace, RunKind, RunOutcome};
use crate::base::beneath::{Folder, settled};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::files::replace;
use crate::base::units;
use crate::config::place::FIRST;
use crate::model::timing::DataTiming;

const PREFIX: &str = "uzima_backup_";

/// The label with the job's name. Prometheus uses `job` for the scrape and would rename an exported label of that name
/// (`honor_labels` in its configuration).
pub const LABEL: &str = "backup_job";
/// How long to wait for the lock. Another run holds it for an instant.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// The largest file that is read, in bytes. The tool writes some kilobytes.
const LARGEST: u64 = 1024 * 1024;
/// The collector, which runs as another user, must be able to read the file.
const MODE: u32 = 0o644;

/// The metric that also has the label [`WAITED_LABEL`].
const WAITED: &str = "uzima_backup_last_success_waited_seconds";
/// The label with what was waited for, and its values.
const WAITED_LABEL: &str = "waited_for";
const WAITED_FOR: [&str; 3] = ["mongodb", "compression", "store"];

/// The label with the name of a place, of the metrics whose names begin with [`PLACE_PREFIX`].
const PLACE_LABEL: &str = "place";
const PLACE_PREFIX: &str = "uzima_backup_place_";

/// The name and the help of every metric, in the order of the file. All are gauges.
pub const METRICS: &[(&str, &str)] = &[
    ("uzima_backup_last_success_timestamp_seconds", "When the last good backup was complete."),
    ("uzima_backup_last_success_duration_seconds", "How long the last good backup took."),
    ("uzima_backup_last_success_stored_bytes", "The size of the last good backup's artifact."),
    ("uzima_backup_last_success_raw_bytes", "The length of the documents in the last good backup."),
    ("uzima_backup_last_success_documents", "How many documents the last good backup holds."),
    ("uzima_backup_last_success_namespaces", "How many namespaces the last good backup holds."),
    (
        "uzima_backup_last_success_instant_timestamp_seconds",
        "The instant of the data in the last good backup that is of one instant.",
    ),
    (
        "uzima_backup_last_success_data_duration_seconds",
        "How long the data of the last good backup took, from the first request for documents to the complete artifact.",
    ),
    (WAITED, "How long the data of the last good backup waited for MongoDB, compression and the store."),
    ("uzima_backup_last_run_timestamp_seconds", "When backup last ended, well or badly."),
    ("uzima_backup_last_run_duration_seconds", "How long the last run of backup took."),
    ("uzima_backup_last_run_exit_code", "The exit code of the last run of backup."),
    ("uzima_backup_last_run_success", "1 if the last run of backup made a good one, else 0."),
    ("uzima_backup_cleanup_last_success_timestamp_seconds", "When cleanup last did its work."),
    ("uzima_backup_cleanup_deleted_backups", "How many backups the last cleanup deleted."),
    ("uzima_backup_cleanup_deleted_bytes", "The stored size of the backups that the last cleanup deleted."),
    ("uzima_backup_cleanup_kept_backups", "How many backups the last cleanup kept."),
    ("uzima_backup_cleanup_kept_bytes", "The stored size of the backups that the last cleanup kept."),
    (
        "uzima_backup_place_newest_good_timestamp_seconds",
        "When the newest good backup of a place began, as the last cleanup found it. Only with copies.",
    ),
    (
        "uzima_backup_place_backups",
        "How many backups a place has, as the last cleanup left it. Only with copies.",
    ),
    ("uzima_backup_place_stored_bytes", "The stored size of the backups of a place. Only with copies."),
    ("uzima_backup_cleanup_last_run_timestamp_seconds", "When cleanup last ended, well or badly."),
    ("uzima_backup_cleanup_last_run_duration_seconds", "How long the last run of cleanup took."),
    ("uzima_backup_cleanup_last_run_exit_code", "The exit code of the last run of cleanup."),
    ("uzima_backup_cleanup_last_run_success", "1 if the last cleanup did its work, else 0 (also frozen)."),
    ("uzima_backup_oplog_end_timestamp_seconds", "Up to when the stored oplog reaches."),
    ("uzima_backup_oplog_chain_start_timestamp_seconds", "Since when the stored oplog has no gap."),
    (
        "uzima_backup_oplog_gap_timestamp_seconds",
        "Where the stored oplog began anew after its last gap. The gap is open until a backup is of a later instant.",
    ),
    (
        "uzima_backup_oplog_barrier_timestamp_seconds",
        "The last change that no restore can repeat. Later times need a backup of a later instant.",
    ),
    ("uzima_backup_oplog_last_success_timestamp_seconds", "When oplog last did its work."),
    ("uzima_backup_oplog_stored_bytes", "The size of the oplog slices that the last run of oplog stored."),
    ("uzima_backup_oplog_raw_bytes", "The length of the oplog entries that the last run of oplog stored."),
    ("uzima_backup_oplog_entries", "How many oplog entries the last run of oplog stored."),
    ("uzima_backup_oplog_last_run_timestamp_seconds", "When oplog last ended, well or badly."),
    ("uzima_backup_oplog_last_run_duration_seconds", "How long the last run of oplog took."),
    ("uzima_backup_oplog_last_run_exit_code", "The exit code of the last run of oplog."),
    ("uzima_backup_oplog_last_run_success", "1 if the last run of oplog did its work, else 0."),
];

/// A sample of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name of the metric without [`PREFIX`].
    name: &'static str,
    /// The value of the other label: one of [`WAITED_FOR`] for [`WAITED`], the name of a place for metrics of places, and
    /// nothing for all others.
    other: Option<String>,
    value: f64,
}

impl From<(&'static str, f64)> for Sample {
    fn from((name, value): (&'static str, f64)) -> Sample {
        Sample { name, other: None, value }
    }
}

/// The samples of a job that the end of a run changes. A failure changes no sample that a success wrote.
pub(super) fn samples(
    operation: RunKind,
    outcome: &RunOutcome,
    exit: Exit,
    (started, now): (DateTime<Utc>, DateTime<Utc>),
) -> Vec<Sample> {
    let good = f64::from(u8::from(outcome.is_good()));
    let ended = [seconds(now), length(now - started), f64::from(exit.code()), good];
    let names: &[&str] = match operation {
        RunKind::Cleanup => &[
            "cleanup_last_run_timestamp_seconds",
            "cleanup_last_run_duration_seconds",
            "cleanup_last_run_exit_code",
            "cleanup_last_run_success",
        ],
        RunKind::Backup => &[
            "last_run_timestamp_seconds",
            "last_run_duration_seconds",
            "last_run_exit_code",
            "last_run_success",
        ],
        RunKind::Oplog => &[
            "oplog_last_run_timestamp_seconds",
            "oplog_last_run_duration_seconds",
            "oplog_last_run_exit_code",
            "oplog_last_run_success",
        ],
        RunKind::Other(_) => &[],
    };
    let mut samples: Vec<Sample> = Vec::new();
    match outcome {
        RunOutcome::Success(BackupSuccess { facts, .. }) => {
            let figures = [
                ("last_success_timestamp_seconds", seconds(facts.finished_at)),
                ("last_success_duration_seconds", length(facts.finished_at - facts.started_at)),
                ("last_success_stored_bytes", facts.stored_bytes as f64),
                ("last_success_raw_bytes", facts.raw_bytes as f64),
                ("last_success_documents", facts.documents as f64),
                ("last_success_namespaces", facts.namespaces as f64),
            ];
            samples.extend(figures.map(Sample::from));
            let instant = facts.instant.map(|at| ("last_success_instant_timestamp_seconds", seconds(at)));
            samples.extend(instant.map(Sample::from));
            samples.extend(facts.timing.iter().flat_map(waits));
        }
        RunOutcome::Cleanup(c) => {
            let freed = c.deleted.iter().map(|deletion| deletion.stored_bytes).fold(0, u64::saturating_add);
            let figures = [
                ("cleanup_last_success_timestamp_seconds", seconds(now)),
                ("cleanup_deleted_backups", c.deleted.len() as f64),
                ("cleanup_deleted_bytes", freed as f64),
                ("cleanup_kept_backups", c.kept as f64),
                ("cleanup_kept_bytes", c.kept_bytes as f64),
            ];
            // A cleanup of a copy alone says nothing about the first place.
            let is_of_first = c.places.is_empty() || c.places.iter().any(|place| place.name == FIRST);
            samples.extend(figures.into_iter().filter(|_| is_of_first).map(Sample::from));
            samples.extend(c.places.iter().flat_map(of_place));
        }
        RunOutcome::Frozen(f) => samples.extend(f.places.iter().flat_map(of_place)),
        RunOutcome::Oplog(o) => {
            let times = [
                ("oplog_end_timestamp_seconds", o.end),
                ("oplog_chain_start_timestamp_seconds", o.chain_start),
                ("oplog_gap_timestamp_seconds", o.chain_start.filter(|_| o.gap)),
                ("oplog_barrier_timestamp_seconds", o.barrier),
            ];
            let times = times.into_iter().filter_map(|(name, at)| Some((name, seconds(at?))));
            let figures = [
                ("oplog_last_success_timestamp_seconds", seconds(now)),
                ("oplog_stored_bytes", o.stored_bytes as f64),
                ("oplog_raw_bytes", o.raw_bytes as f64),
                ("oplog_entries", o.entries as f64),
            ];
            samples.extend(times.chain(figures).map(Sample::from));
        }
        RunOutcome::Failure(_) => {}
    }
    samples.extend(names.iter().copied().zip(ended).map(Sample::from));
    samples
}

/// The duration of the data phase, and the three waits.
fn waits(timing: &DataTiming) -> Vec<Sample> {
    let seconds = [timing.mongodb_seconds, timing.compression_seconds, timing.store_seconds];
    let wait = |(what, value): (&str, f64)| Sample {
        name: &WAITED[PREFIX.len()..],
        other: Some(what.into()),
        value,
    };
    let whole = Sample::from(("last_success_data_duration_seconds", timing.seconds));
    [whole].into_iter().chain(WAITED_FOR.into_iter().zip(seconds).map(wait)).collect()
}

/// The samples of a place after a cleanup.
fn of_place(place: &CleanedPlace) -> Vec<Sample> {
    let newest = place.newest_good.map(|at| ("place_newest_good_timestamp_seconds", seconds(at)));
    let figures = [("place_backups", place.kept as f64), ("place_stored_bytes", place.kept_bytes as f64)];
    let sample = |(name, value)| Sample { name, other: Some(place.name.clone()), value };
    newest.into_iter().chain(figures).map(sample).collect()
}

fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1000.0
}

/// Zero if the clock was set back in between.
fn length(took: TimeDelta) -> f64 {
    took.num_milliseconds().max(0) as f64 / 1000.0
}

/// The metrics file. Several jobs may write it at the same time.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
}

impl MetricsFile {
    /// Uses the file at `path`, which must include a folder.
    pub fn new(path: PathBuf) -> MetricsFile {
        MetricsFile { path }
    }

    /// Sets samples of a job and keeps all other samples. Returns a warning if lines of the old file were damaged.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or holds metrics of another program.
    pub async fn update(&self, job: &str, samples: &[Sample]) -> Result<Option<String>> {
        let _lock = self.lock().await?;
        let path = settled(&self.path).map_err(|e| self.failed("cannot be written", e))?;
        let (mut page, lost) = self.read(&path)?;
        for sample in samples {
            page.set(job, sample);
        }
        replace(&path, page.text().as_bytes(), MODE).map_err(|e| self.failed("cannot be written", e))?;
        log::info!("wrote {}", self.path.display());
        let warning = format!(
            "metrics_file: left out {} of {}; figures of earlier runs may be missing until the next runs",
            units::several(lost as u64, "damaged line"),
            self.path.display()
        );
        Ok((lost > 0).then_some(warning))
    }

    /// Locks the folder: the file itself is replaced, and a lock file beside it would be left behind.
    async fn lock(&self) -> Result<Option<File>> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let folder = File::open(folder).map_err(|e| self.failed("cannot be written", e))?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Some(folder)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(TryLockError::WouldBlock) => {
                    let held = io::Error::other("another process has locked its folder");
                    return Err(self.failed("cannot be written", held));
                }
                // On a file system without locks, two jobs that end in the same instant may lose a sample.
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
    }

    fn read(&self, path: &Path) -> Result<(MetricsPage, usize)> {
        let bytes = Folder::of_file(path).and_then(|(folder, name)| folder.read_all(&name, LARGEST));
        let text = match bytes {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(self.failed("cannot be read", e)),
        };
        match MetricsPage::read(&text) {
            Ok(read) => Ok(read),
            Err(n) => {
                let foreign = io::Error::other(format!("line {n} is a metric of another program"));
                Err(self.failed("was not changed", foreign))
            }
        }
    }

    fn failed(&self, what: &str, why: io::Error) -> Error {
        let step = match why.kind() {
            io::ErrorKind::StorageFull => "Make room on its file system",
            io::ErrorKind::Other | io::ErrorKind::FileTooLarge => {
                "Give METRICS_FILE (metrics_file) a file of its own"
            }
            _ => "Create its folder, or let this user write there (METRICS_FILE, metrics_file)",
        };
        Error::failed(format!("metrics_file: {} {what}", self.path.display())).hint(step).caused_by(why)
    }
}

/// The metric's position in [`METRICS`], the job, and the value of the other label.
type SampleKey = (usize, String, Option<String>);

/// The other label of a metric, besides the job's.
fn other_label(name: &str) -> Option<&'static str> {
    match name {
        WAITED => Some(WAITED_LABEL),
        _ => name.starts_with(PLACE_PREFIX).then_some(PLACE_LABEL),
    }
}

/// The content of the file.
#[derive(Debug, Default, PartialEq)]
struct MetricsPage {
    samples: BTreeMap<SampleKey, f64>,
}

impl MetricsPage {
    fn set(&mut self, job: &str, sample: &Sample) {
        let place = METRICS.iter().position(|(full, _)| full[PREFIX.len()..] == *sample.name);
        let key = (place.expect("it is in the list"), job.into(), sample.other.clone());
        self.samples.insert(key, sample.value);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (place, (name, help)) in METRICS.iter().enumerate() {
            let mut samples = self.samples.iter().filter(|((at, ..), _)| *at == place).peekable();
            if samples.peek().is_some() {
                text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
            }
            for ((_, job, other), value) in samples {
                let other = other_label(name)
                    .zip(other.as_ref())
                    .map(|(label, other)| format!(",{label}=\"{}\"", escaped(other)))
                    .unwrap_or_default();
                text.push_str(&format!("{name}{{{LABEL}=\"{}\"{other}}} {value}\n", escaped(job)));
            }
        }
        text
    }

    /// Returns the page and the number of damaged lines. The error is the number, from 1, of a line with a metric of another
    /// program.
    fn read(text: &str) -> Result<(MetricsPage, usize), usize> {
        let (mut page, mut lost) = (MetricsPage::default(), 0);
        for (n, line) in text.split_inclusive('\n').enumerate() {
            // A line without its end may hold only the first digits of its number.
            let Some(line) = line.strip_suffix('\n') else {
                lost += 1;
                continue;
            };
            match sample(line) {
                Some((key, value)) => {
                    page.samples.insert(key, value);
                }
                None if is_foreign(line) => return Err(n + 1),
                None if line.starts_with('#') || line.is_empty() => {}
                None => lost += 1,
            }
        }
        Ok((page, lost))
    }
}

/// Parses `name{backup_job="..."} number`, where some metrics have another label after the job.
fn sample(line: &str) -> Option<(SampleKey, f64)> {
    let (name, rest) = line.split_once(&format!("{{{LABEL}=\""))?;
    let place = METRICS.iter().position(|(full, _)| *full == name)?;
    let (labels, value) = rest.rsplit_once("\"} ")?;
    let (job, other) = match other_label(name) {
        Some(label) => {
            let (job, other) = labels.rsplit_once(&format!("\",{label}=\""))?;
            let known = label != WAITED_LABEL || WAITED_FOR.contains(&other);
            (job, Some(unescaped(other).filter(|_| known)?))
        }
        None => (labels, None),
    };
    let value: f64 = value.parse().ok()?;
    Some(((place, unescaped(job)?, other), value)).filter(|_| value.is_finite())
}

/// Returns true if a line is well formed and belongs to a metric of another program.
fn is_foreign(line: &str) -> bool {
    let comment = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
    let rest = comment.unwrap_or(line);
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let named = name.starts_with(|c: char| !c.is_ascii_digit()) && !name.starts_with(PREFIX);
    let number = |text: &str| text.rsplit(' ').next().is_some_and(|word| word.parse::<f64>().is_ok());
    named && (comment.is_some() || after.starts_with(['{', ' ']) && number(after))
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn unescaped(label: &str) -> Option<String> {
    let mut text = String::new();
    let mut rest = label.chars();
    while let Some(c) = rest.next() {
        text.push(match c {
            '\\' => match rest.next()? {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            },
            '"' => return None,
            c => c,
        });
    }
    Some(text)
}

#[cfg(test)]
mod tests;
