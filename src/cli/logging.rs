//! The log: a line per event, with the time in UTC and the run's id, without secrets. It goes to standard error and to the log
//! file if there is one. Its last lines are kept for the notices of a failed run.
//!
//! A line is `2026-11-24T03:00:00Z INFO  [20261124T030000Z-7k3q9d] text`. The brackets are missing until a run has an id. In a
//! cleanup, which has no id, they contain `cleanup` and the job.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::Utc;
use env_logger::{Builder, Env, Logger};
use indicatif::MultiProgress;
use log::{Level, Metadata, Record};

use crate::base::beneath::append_named;
use crate::base::error::{Error, Result};
use crate::base::escape;
use crate::base::room;
use crate::base::secret::Redactor;
use crate::notify::run::RunLog;

/// The filter of the kept lines, and of the log file with `--quiet`.
const EVENTS: &str = "warn,uzima_backup=info";
/// The most bytes of kept lines: healthchecks.io accepts no more.
const KEPT_BYTES: usize = 100_000;
/// The most characters of a kept line.
const KEPT_LENGTH: usize = 500;

/// The log of this process. Clones share everything.
#[derive(Clone, Default)]
pub struct Log {
    /// Progress bars must be drawn here, so that log lines do not tear them.
    pub bars: MultiProgress,
    shared: Arc<Mutex<LogState>>,
    redactor: Redactor,
    file: Option<Arc<LogFile>>,
}

#[derive(Default)]
struct LogState {
    run: Option<String>,
    /// The last lines, oldest first.
    kept: VecDeque<String>,
    kept_bytes: usize,
}

impl Log {
    /// Starts the log. `RUST_LOG` selects the shown lines; without it, warnings and this tool's own events are shown.
    ///
    /// # Errors
    /// Returns an error if the log file cannot be opened.
    pub fn start(verbose: u8, quiet: bool, file: Option<&Path>, redactor: Redactor) -> Result<Log> {
        let file = file.map(LogFile::open).transpose()?.map(Arc::new);
        let log = Log { redactor, file, ..Log::default() };
        let loud = match verbose {
            0 => EVENTS,
            1 => "info,uzima_backup=debug",
            _ => "trace",
        };
        let by_user = |default| Builder::from_env(Env::default().default_filter_or(default)).build();
        let sinks = Sinks {
            stderr: by_user(if quiet { "error" } else { loud }),
            file: by_user(loud),
            kept: Builder::new().parse_filters(EVENTS).build(),
            log: log.clone(),
        };
        let most = sinks.stderr.filter().max(sinks.file.filter()).max(sinks.kept.filter());
        // If a test starts the log twice in one process, the first log stays.
        if log::set_boxed_logger(Box::new(sinks)).is_ok() {
            log::set_max_level(most);
        }
        Ok(log)
    }

    /// A log that only keeps lines, for errors before the settings are known.
    pub fn silent(redactor: Redactor) -> Log {
        Log { redactor, ..Log::default() }
    }

    /// Adds a text that was printed elsewhere to the log file and to the kept lines, line by line. Names in the text must not
    /// contain line breaks ([`escape::push_line`]).
    pub fn append(&self, level: Level, text: &str) {
        for line in text.lines() {
            let line = self.line(level, line);
            self.keep(&line);
            self.write_file(&line);
        }
    }

    /// Removes secrets from a text.
    pub fn clean(&self, text: &str) -> String {
        self.redactor.clean(text)
    }

    fn line(&self, level: Level, text: &str) -> String {
        let time = Utc::now().format("%Y-%m-%dT%H:%M:%SZ");
        let cleaned = self.clean(text);
        let text = escape::line(&cleaned);
        match self.run() {
            Some(run) => format!("{time} {level:5} [{}] {text}", escape::line(&run)),
            None => format!("{time} {level:5} {text}"),
        }
    }

    fn write_file(&self, line: &str) {
        if let Some(file) = &self.file {
            file.write(line);
        }
    }

    fn keep(&self, line: &str) {
        let mut short: String = line.chars().take(KEPT_LENGTH).collect();
        if short.len() < line.len() {
            short.push('…');
        }
        let mut shared = self.shared();
        shared.kept_bytes += short.len();
        shared.kept.push_back(short);
        while shared.kept_bytes > KEPT_BYTES {
            shared.kept_bytes -= shared.kept.pop_front().map_or(0, |oldest| oldest.len());
        }
    }

    fn shared(&self) -> MutexGuard<'_, LogState> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunLog for Log {
    fn set_run(&self, id: &str) {
        self.shared().run = Some(id.into());
    }

    fn run(&self) -> Option<String> {
        self.shared().run.clone()
    }

    fn tail(&self) -> Vec<String> {
        self.shared().kept.iter().cloned().collect()
    }
}

/// The destinations of log lines, each with its own filter.
struct Sinks {
    stderr: Logger,
    file: Logger,
    kept: Logger,
    log: Log,
}

impl log::Log for Sinks {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        [&self.stderr, &self.file, &self.kept].into_iter().any(|sink| sink.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        let (stderr, kept) = (self.stderr.matches(record), self.kept.matches(record));
        let file = self.log.file.is_some() && self.file.matches(record);
        if !stderr && !kept && !file {
            return;
        }
        let line = self.log.line(record.level(), &record.args().to_string());
        if stderr {
            let shown = format!("{line}\n");
            // A closed standard error must not end the run.
            let _ = self.log.bars.suspend(|| std::io::stderr().write_all(shown.as_bytes()));
        }
        if kept {
            self.log.keep(&line);
        }
        if file {
            self.log.write_file(&line);
        }
    }

    fn flush(&self) {}
}

/// The log file. It is opened once and appended to, so that logrotate's `copytruncate` works.
struct LogFile {
    path: PathBuf,
    file: File,
    complained: AtomicBool,
}

impl LogFile {
    /// Opens the file, or creates it with mode 0640.
    fn open(path: &Path) -> Result<LogFile> {
        let file = append_named(path, 0o640).map_err(|e| {
            let step = match e.kind() {
                std::io::ErrorKind::Other => "Name a file without other hard links, in a folder of this user",
                _ => "Create its folder, or let this user write there",
            };
            Error::usage(format!("cannot open the log file {}", path.display()))
                .hint(format!("{step} (--log-file, BACKUP_LOG_FILE, log_file)"))
                .caused_by(e)
        })?;
        Ok(LogFile { path: path.to_path_buf(), file, complained: AtomicBool::new(false) })
    }

    /// Appends a line. Lines that cannot be written are lost, because a full disk must not end a backup.
    fn write(&self, line: &str) {
        // A single call keeps lines of concurrent processes apart.
        let written = (&self.file).write_all(format!("{line}\n").as_bytes());
        if let Err(e) = written
            && !self.complained.swap(true, Relaxed)
        {
            let e = room::explained(e, &self.path);
            let _ = writeln!(
                std::io::stderr(),
                "warning: the log file {} cannot be written, and lines are missing there: {e}",
                self.path.display()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_time_level_run_and_no_secret() {
        let log = Log::silent(Redactor::new(&[], &["s3cr3t"]));
        let line = |text: &str| log.line(Level::Info, text).split_once(' ').unwrap().1.to_string();
        assert_eq!(line("a s3cr3t\nb\u{1b}[2J\u{202e}"), "INFO  a ***\\nb\\u{1b}[2J\\u{202e}");
        log.set_run("20261124T030000Z-7k3q9d");
        assert_eq!(line("x"), "INFO  [20261124T030000Z-7k3q9d] x");
        log.set_run("cleanup nightly");
        assert_eq!(line("ü"), "INFO  [cleanup nightly] ü");
        log.append(Level::Error, "one s3cr3t\ntwo\n");
        let tail: Vec<String> = log.tail().iter().map(|l| l[21..].to_string()).collect();
        assert_eq!(tail, ["ERROR [cleanup nightly] one ***", "ERROR [cleanup nightly] two"]);
    }

    #[test]
    fn the_last_lines_are_kept_and_long_ones_are_cut() {
        let log = Log::default();
        (0..20_000).for_each(|n| log.keep(&format!("{n:010}")));
        let want: Vec<String> = (10_000..20_000).map(|n| format!("{n:010}")).collect();
        assert_eq!(log.tail(), want);
        log.keep(&"ü".repeat(KEPT_LENGTH));
        log.keep(&"ü".repeat(10_000));
        let lines = log.tail();
        assert_eq!(
            lines[lines.len() - 2..],
            ["ü".repeat(KEPT_LENGTH), format!("{}…", "ü".repeat(KEPT_LENGTH))]
        );
        assert!(lines.iter().map(String::len).sum::<usize>() <= KEPT_BYTES);
    }
}
