//! The metrics file, which node_exporter's textfile collector reads for Prometheus. It holds the samples of all jobs of this
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

use super::events::{RunKind, RunOutcome};
use crate::base::beneath::{Folder, settled};
use crate::base::error::{Error, Result};
use crate::base::exit::Exit;
use crate::base::files::replace;
use crate::base::units;

/// The prefix of all names.
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

/// A metric. All of them are gauges.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub help: &'static str,
}

const fn metric(name: &'static str, help: &'static str) -> Metric {
    Metric { name, help }
}

/// Every metric, in the order of the file.
pub const METRICS: &[Metric] = &[
    metric("uzima_backup_last_success_timestamp_seconds", "When the last good backup was complete."),
    metric("uzima_backup_last_success_duration_seconds", "How long the last good backup took."),
    metric("uzima_backup_last_success_stored_bytes", "The size of the last good backup's artifact."),
    metric("uzima_backup_last_success_raw_bytes", "The length of the documents in the last good backup."),
    metric("uzima_backup_last_success_documents", "How many documents the last good backup holds."),
    metric("uzima_backup_last_success_namespaces", "How many namespaces the last good backup holds."),
    metric("uzima_backup_last_run_timestamp_seconds", "When backup last ended, well or badly."),
    metric("uzima_backup_last_run_duration_seconds", "How long the last run of backup took."),
    metric("uzima_backup_last_run_exit_code", "The exit code of the last run of backup."),
    metric("uzima_backup_last_run_success", "1 if the last run of backup made a good one, else 0."),
    metric("uzima_backup_cleanup_last_success_timestamp_seconds", "When cleanup last did its work."),
    metric("uzima_backup_cleanup_deleted_backups", "How many backups the last cleanup deleted."),
    metric(
        "uzima_backup_cleanup_deleted_bytes",
        "The stored size of the backups that the last cleanup deleted.",
    ),
    metric("uzima_backup_cleanup_kept_backups", "How many backups the last cleanup kept."),
    metric("uzima_backup_cleanup_kept_bytes", "The stored size of the backups that the last cleanup kept."),
    metric("uzima_backup_cleanup_last_run_timestamp_seconds", "When cleanup last ended, well or badly."),
    metric("uzima_backup_cleanup_last_run_duration_seconds", "How long the last run of cleanup took."),
    metric("uzima_backup_cleanup_last_run_exit_code", "The exit code of the last run of cleanup."),
    metric(
        "uzima_backup_cleanup_last_run_success",
        "1 if the last cleanup did its work, else 0 (also frozen).",
    ),
];

/// The name of a metric without [`PREFIX`], and its value.
type Sample = (&'static str, f64);

/// The samples of a job that the end of a run changes. A failure changes no sample that a success wrote.
pub(super) fn samples(
    operation: RunKind,
    outcome: &RunOutcome,
    exit: Exit,
    (started, now): (DateTime<Utc>, DateTime<Utc>),
) -> Vec<Sample> {
    let (end, took, code) = (seconds(now), length(now - started), f64::from(exit.code()));
    let ended = |good: bool| match operation {
        RunKind::Cleanup => vec![
            ("cleanup_last_run_timestamp_seconds", end),
            ("cleanup_last_run_duration_seconds", took),
            ("cleanup_last_run_exit_code", code),
            ("cleanup_last_run_success", f64::from(u8::from(good))),
        ],
        RunKind::Backup => vec![
            ("last_run_timestamp_seconds", end),
            ("last_run_duration_seconds", took),
            ("last_run_exit_code", code),
            ("last_run_success", f64::from(u8::from(good))),
        ],
        RunKind::Other(_) => Vec::new(),
    };
    match outcome {
        RunOutcome::Success(s) => {
            let mut samples = vec![
                ("last_success_timestamp_seconds", seconds(s.finished)),
                ("last_success_duration_seconds", length(s.finished - s.started)),
                ("last_success_stored_bytes", s.stored_bytes as f64),
                ("last_success_raw_bytes", s.raw_bytes as f64),
                ("last_success_documents", s.documents as f64),
                ("last_success_namespaces", s.namespaces as f64),
            ];
            samples.extend(ended(true));
            samples
        }
        RunOutcome::Cleanup(c) => {
            let freed: u64 = c.deleted.iter().map(|deletion| deletion.stored_bytes).sum();
            let mut samples = vec![
                ("cleanup_last_success_timestamp_seconds", end),
                ("cleanup_deleted_backups", c.deleted.len() as f64),
                ("cleanup_deleted_bytes", freed as f64),
                ("cleanup_kept_backups", c.kept as f64),
                ("cleanup_kept_bytes", c.kept_bytes as f64),
            ];
            samples.extend(ended(true));
            samples
        }
        RunOutcome::Failure(_) | RunOutcome::Frozen(_) => ended(false),
    }
}

fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1000.0
}

/// Zero if a clock was set back meanwhile.
fn length(took: TimeDelta) -> f64 {
    took.num_milliseconds().max(0) as f64 / 1000.0
}

/// The metrics file. Several jobs may write it at the same time.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
}

impl MetricsFile {
    /// Writes this file. The path must name a folder.
    pub fn new(path: PathBuf) -> MetricsFile {
        MetricsFile { path }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets samples of a job and keeps all other samples. Returns a warning if lines of the old file were damaged.
    ///
    /// # Errors
    /// Returns an error if the file cannot be written, or holds metrics of another program.
    pub async fn update(&self, job: &str, samples: &[Sample]) -> Result<Option<String>> {
        let _lock = self.lock().await?;
        let path = settled(&self.path).map_err(|e| self.failed("cannot be written", e))?;
        let (mut page, lost) = self.read(&path)?;
        for (name, value) in samples {
            page.set(name, job, *value);
        }
        replace(&path, page.text().as_bytes(), MODE).map_err(|e| self.failed("cannot be written", e))?;
        log::info!("wrote {}", self.path.display());
        let told = format!(
            "metrics_file: left out {} of {}; figures of earlier runs may be missing until the next ones",
            units::several(lost as u64, "damaged line"),
            self.path.display()
        );
        Ok((lost > 0).then_some(told))
    }

    /// Locks the folder: the file itself is replaced, and a lock file beside it would be left behind.
    async fn lock(&self) -> Result<Option<File>> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let folder = File::open(folder).map_err(|e| self.failed("cannot be written", e))?;
        let late = Instant::now() + LOCK_WAIT;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Some(folder)),
                Err(TryLockError::WouldBlock) if Instant::now() < late => {
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
            PageRead::Page(page, lost) => Ok((page, lost)),
            PageRead::Foreign(n) => {
                let whose = io::Error::other(format!("line {n} is a metric of another program"));
                Err(self.failed("is left as it is", whose))
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

/// The content of the file: samples by the metric's position in [`METRICS`] and the job.
#[derive(Debug, Default, PartialEq)]
struct MetricsPage {
    samples: BTreeMap<(usize, String), f64>,
}

/// The result of parsing the file.
#[derive(Debug, PartialEq)]
enum PageRead {
    /// The page, and the number of damaged lines.
    Page(MetricsPage, usize),
    /// This line, counted from 1, holds a metric of another program.
    Foreign(usize),
}

impl MetricsPage {
    /// Sets a sample of a job. `name` has no [`PREFIX`].
    fn set(&mut self, name: &str, job: &str, value: f64) {
        let place = METRICS.iter().position(|metric| metric.name[PREFIX.len()..] == *name);
        self.samples.insert((place.expect("it is in the list"), job.into()), value);
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (place, metric) in METRICS.iter().enumerate() {
            let mut samples = self.samples.iter().filter(|((at, _), _)| *at == place).peekable();
            if samples.peek().is_some() {
                text.push_str(&format!("# HELP {0} {1}\n# TYPE {0} gauge\n", metric.name, metric.help));
            }
            for ((_, job), value) in samples {
                text.push_str(&format!("{}{{{LABEL}=\"{}\"}} {value}\n", metric.name, escaped(job)));
            }
        }
        text
    }

    fn read(text: &str) -> PageRead {
        let (mut page, mut lost) = (MetricsPage::default(), 0);
        for (n, line) in text.split_inclusive('\n').enumerate() {
            // A line without its end may hold only the first digits of its number.
            let Some(line) = line.strip_suffix('\n') else {
                lost += 1;
                continue;
            };
            match sample(line) {
                Some((place, job, value)) => {
                    page.samples.insert((place, job), value);
                }
                None if is_foreign(line) => return PageRead::Foreign(n + 1),
                None if line.starts_with('#') || line.is_empty() => {}
                None => lost += 1,
            }
        }
        PageRead::Page(page, lost)
    }
}

/// Parses `name{backup_job="..."} number`.
fn sample(line: &str) -> Option<(usize, String, f64)> {
    let (name, rest) = line.split_once(&format!("{{{LABEL}=\""))?;
    let place = METRICS.iter().position(|metric| metric.name == name)?;
    let (job, value) = rest.rsplit_once("\"} ")?;
    let value: f64 = value.parse().ok()?;
    Some((place, unescaped(job)?, value)).filter(|_| value.is_finite())
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
