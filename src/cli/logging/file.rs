//! The log file: opened once and appended to, so that a rotation by `copytruncate` works.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::error::{Error, Result};

/// A log file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    complained: AtomicBool,
}

impl LogFile {
    /// Opens it, and creates it for its user and group.
    ///
    /// # Errors
    /// If that is impossible: whoever names a log file wants to find one.
    pub fn open(path: &Path) -> Result<LogFile> {
        let mut options = OpenOptions::new();
        // Of a pipe that nobody reads, opening and writing would wait for ever without O_NONBLOCK.
        options.append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let file = options.open(path).map_err(|e| {
            Error::usage(format!("cannot open the log file {}", path.display()))
                .hint(
                    "Create its folder, or let this user write there (--log-file, BACKUP_LOG_FILE, log_file)",
                )
                .caused_by(e)
        })?;
        Ok(LogFile { path: path.to_path_buf(), file, complained: AtomicBool::new(false) })
    }

    /// Appends a line. What cannot be written is lost: a full disk must not end a backup.
    pub fn write(&self, line: &str) {
        // One call a line: what two processes append is not mixed.
        let written = (&self.file).write_all(format!("{line}\n").as_bytes());
        if let Err(e) = written
            && !self.complained.swap(true, Relaxed)
        {
            let _ = writeln!(
                std::io::stderr(),
                "warning: the log file {} cannot be written, lines are missing there: {e}",
                self.path.display()
            );
        }
    }
}
