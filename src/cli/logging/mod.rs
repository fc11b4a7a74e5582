//! The log: a line per event, with the time in UTC, the run's id and without secrets. It goes to standard
//! error, to the log file if there is one, and its end is kept for a mail.
//!
//! A line is `2026-11-24T03:00:00Z INFO  [20261124T030000Z-7k3q9d] text`; what is in brackets is missing
//! until a run has an id, and is `cleanup` and the job in a clean-up, which has none.

mod file;
mod run_id;
mod tail;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use env_logger::{Builder, Env, Logger};
use indicatif::MultiProgress;
use log::{Level, Metadata, Record};

pub use self::run_id::RunId;
pub use self::tail::Tail;

use self::file::LogFile;
use crate::base::error::Result;
use crate::base::escape;
use crate::base::secret::Redactor;
use crate::notify::run::RunLog;

/// The filter of the lines that are kept for a mail, and are written to the log file even with `--quiet`.
const EVENTS: &str = "warn,uzima_backup=info";

/// The log of this process.
#[derive(Clone, Default)]
pub struct Log {
    /// Where progress bars must be drawn, so that log lines do not tear them.
    pub bars: MultiProgress,
    /// The id in every line.
    pub run: RunId,
    /// The last lines.
    pub tail: Tail,
    redactor: Redactor,
    file: Option<Arc<LogFile>>,
}

impl Log {
    /// Starts the log. `RUST_LOG` is honoured; without it, warnings and this tool's own events are shown.
    ///
    /// # Errors
    /// If the log file cannot be opened.
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
            tail: Builder::new().parse_filters(EVENTS).build(),
            log: log.clone(),
        };
        let most = sinks.stderr.filter().max(sinks.file.filter()).max(sinks.tail.filter());
        // A second start in one process (tests) keeps the first log.
        if log::set_boxed_logger(Box::new(sinks)).is_ok() {
            log::set_max_level(most);
        }
        Ok(log)
    }

    /// A log without outputs, for errors before the settings are known.
    pub fn silent(redactor: Redactor) -> Log {
        Log { redactor, ..Log::default() }
    }

    /// Puts what was printed in another way into the log file and the tail, line by line: names in it must not have line
    /// breaks of their own ([`escape::push_line`]).
    pub fn tell(&self, level: Level, text: &str) {
        for line in text.lines() {
            let line = self.line(level, line);
            self.tail.push(&line);
            self.to_file(&line);
        }
    }

    /// `text` without secrets.
    pub fn clean(&self, text: &str) -> String {
        self.redactor.clean(text)
    }

    fn line(&self, level: Level, text: &str) -> String {
        let time = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ");
        let cleaned = self.clean(text);
        let text = escape::line(&cleaned);
        match self.run.get() {
            Some(run) => format!("{time} {level:5} [{}] {text}", escape::line(&run)),
            None => format!("{time} {level:5} {text}"),
        }
    }

    fn to_file(&self, line: &str) {
        if let Some(file) = &self.file {
            file.write(line);
        }
    }
}

impl RunLog for Log {
    fn set_run(&self, id: &str) {
        self.run.set(id);
    }

    fn run(&self) -> Option<String> {
        self.run.get()
    }

    fn tail(&self) -> Vec<String> {
        self.tail.lines()
    }
}

/// Where lines go, each place with a filter of its own.
struct Sinks {
    stderr: Logger,
    file: Logger,
    tail: Logger,
    log: Log,
}

impl log::Log for Sinks {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        [&self.stderr, &self.file, &self.tail].into_iter().any(|sink| sink.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        let (stderr, tail) = (self.stderr.matches(record), self.tail.matches(record));
        let file = self.log.file.is_some() && self.file.matches(record);
        if !stderr && !tail && !file {
            return;
        }
        let line = self.log.line(record.level(), &record.args().to_string());
        if stderr {
            let shown = format!("{line}\n");
            // A closed standard error is no reason to fail.
            let _ = self.log.bars.suspend(|| std::io::stderr().write_all(shown.as_bytes()));
        }
        if tail {
            self.log.tail.push(&line);
        }
        if file {
            self.log.to_file(&line);
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_time_level_run_and_no_secret() {
        let log = Log::silent(Redactor::new(&[], &["s3cr3t"]));
        let line = |text: &str| log.line(Level::Info, text).split_once(' ').unwrap().1.to_string();
        assert_eq!(line("a s3cr3t\nb\u{1b}[2J\u{202e}"), "INFO  a ***\\nb\\u{1b}[2J\\u{202e}");
        log.run.set("20261124T030000Z-7k3q9d");
        assert_eq!(line("x"), "INFO  [20261124T030000Z-7k3q9d] x");
        log.run.set("cleanup nightly");
        assert_eq!(line("ü"), "INFO  [cleanup nightly] ü");
        log.tell(Level::Error, "one s3cr3t\ntwo\n");
        let tail: Vec<String> = log.tail.lines().iter().map(|l| l[21..].to_string()).collect();
        assert_eq!(tail, ["ERROR [cleanup nightly] one ***", "ERROR [cleanup nightly] two"]);
    }
}
