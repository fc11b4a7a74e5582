//! Figures for Prometheus, in a file that node_exporter's textfile collector reads: the samples of every
//! job of this machine, those of other jobs as they were. What a success wrote, no failure moves.
//!
//! The format is Prometheus' text exposition format, 0.0.4; units are base units.

mod file;
mod text;

pub use text::LABEL;

use chrono::{DateTime, TimeDelta, Utc};

pub use file::MetricsFile;

use crate::base::exit::Exit;
use crate::notify::Outcome;
use crate::notify::events::Operation;

/// A metric; all of them are gauges.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it says.
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
    metric("uzima_backup_cleanup_deleted_bytes", "The stored size of what the last cleanup deleted."),
    metric("uzima_backup_cleanup_kept_backups", "How many backups the last cleanup kept."),
    metric("uzima_backup_cleanup_kept_bytes", "The stored size of what the last cleanup kept."),
    metric("uzima_backup_cleanup_last_run_timestamp_seconds", "When cleanup last ended, well or badly."),
    metric("uzima_backup_cleanup_last_run_duration_seconds", "How long the last run of cleanup took."),
    metric("uzima_backup_cleanup_last_run_exit_code", "The exit code of the last run of cleanup."),
    metric(
        "uzima_backup_cleanup_last_run_success",
        "1 if the last cleanup did its work, else 0 (also frozen).",
    ),
];

/// The sample of a metric, by its name without what all begin with.
pub type Sample = (&'static str, f64);

/// What a run's end changes of its job's samples.
pub fn samples(
    operation: Operation,
    outcome: &Outcome,
    exit: Exit,
    (began, now): (DateTime<Utc>, DateTime<Utc>),
) -> Vec<Sample> {
    let (end, took, code) = (seconds(now), length(now - began), f64::from(exit.code()));
    let ended = |good: bool| match operation {
        Operation::Cleanup => vec![
            ("cleanup_last_run_timestamp_seconds", end),
            ("cleanup_last_run_duration_seconds", took),
            ("cleanup_last_run_exit_code", code),
            ("cleanup_last_run_success", f64::from(u8::from(good))),
        ],
        Operation::Backup => vec![
            ("last_run_timestamp_seconds", end),
            ("last_run_duration_seconds", took),
            ("last_run_exit_code", code),
            ("last_run_success", f64::from(u8::from(good))),
        ],
        // Whatever else runs is neither.
        Operation::Other(_) => Vec::new(),
    };
    match outcome {
        Outcome::Success(s) => {
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
        Outcome::Cleanup(c) => {
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
        Outcome::Failure(_) | Outcome::Frozen(_) => ended(false),
    }
}

fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1000.0
}

/// A time's length; none when a clock was set back meanwhile.
fn length(took: TimeDelta) -> f64 {
    took.num_milliseconds().max(0) as f64 / 1000.0
}

#[cfg(test)]
mod tests;
