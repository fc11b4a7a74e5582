//! The log: a line per event on standard error, with the time in UTC and without secrets.

use std::io::Write;

use env_logger::{Builder, Env};
use indicatif::MultiProgress;

use crate::secret::Redactor;

/// Starts the log. `RUST_LOG` is honoured; without it, warnings and this tool's own events are shown.
/// The answer is where progress bars must be drawn, so that log lines do not tear them.
pub fn start(verbose: u8, quiet: bool, redactor: Redactor) -> MultiProgress {
    let default = match (quiet, verbose) {
        (true, _) => "error",
        (_, 0) => "warn,uzima_backup=info",
        (_, 1) => "info,uzima_backup=debug",
        _ => "trace",
    };
    let bars = MultiProgress::new();
    let shown = bars.clone();
    let logger = Builder::from_env(Env::default().default_filter_or(default))
        .format(move |out, record| {
            let time = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ");
            let text = redactor.clean(&record.args().to_string());
            let line = format!("{time} {:5} {text}\n", record.level());
            shown.suspend(|| out.write_all(line.as_bytes()))
        })
        .try_init();
    // A second start in one process (tests) keeps the first log.
    drop(logger);
    bars
}
