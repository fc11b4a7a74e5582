//! The log file: opened once and appended to, so that a rotation by `copytruncate` works.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::base::beneath::append_named;
use crate::base::error::{Error, Result};
use crate::base::room;

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
        let file = append_named(path, 0o640).map_err(|e| {
            let step = match e.kind() {
                std::io::ErrorKind::Other => "Name a file with one name in a folder of this user",
                _ => "Create its folder, or let this user write there",
            };
            Error::usage(format!("cannot open the log file {}", path.display()))
                .hint(format!("{step} (--log-file, BACKUP_LOG_FILE, log_file)"))
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
            let e = room::explained(e, &self.path);
            let _ = writeln!(
                std::io::stderr(),
                "warning: the log file {} cannot be written, lines are missing there: {e}",
                self.path.display()
            );
        }
    }
}
