//! The settings, and what this machine keeps for itself.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;

use super::around::{Around, blocking};
use super::checks::Finding;
use crate::error::{Error, Result};

/// They resolve (or there would be nothing to look at), and what comes of them.
pub async fn configuration(around: &Around) -> Result<Finding> {
    let subject = &around.subject;
    let days = subject.policy.days;
    let kept = TimeDelta::try_days(days.into()).and_then(|days| around.time().checked_add_signed(days));
    let until = kept.map(|date| format!(", until {}", date.format("%F"))).unwrap_or_default();
    let misspelt: String = subject.misspelt.iter().map(|misspelt| format!("; {misspelt}")).collect();
    Finding::ok(format!(
        "job {}, {}; a backup of today is kept for {days} days{until}, and longer if it is among the newest {}{misspelt}",
        subject.backup.job, subject.backup.format, subject.policy.min
    ))
}

/// The state directory can be written.
pub async fn state(around: &Around) -> Result<Finding> {
    let Some(dir) = around.subject.backup.state_dir.clone() else {
        return Finding::not_configured("no state_dir, and no HOME: uploads under way are not remembered");
    };
    blocking(move || written(&dir)).await
}

fn written(dir: &Path) -> Result<Finding> {
    let failed = |path: PathBuf, e: std::io::Error| {
        Error::failed(format!("cannot write {}", path.display()))
            .hint("Set state_dir (UZIMA_BACKUP_STATE_DIR) to a directory that this user may write")
            .caused_by(e)
    };
    if fs::symlink_metadata(dir).is_ok_and(|meta| !meta.is_file()) {
        let probe = dir.join(format!(".health-{:016x}", rand::random::<u64>()));
        let mut open = OpenOptions::new();
        let file = open.write(true).create_new(true).mode(0o600).open(&probe);
        let outcome = file.and_then(|mut file| file.write_all(b"a probe of `health`\n"));
        // Created, it goes, whatever became of the writing.
        let removed = fs::remove_file(&probe);
        return outcome
            .and(removed)
            .map_err(|e| failed(probe, e))
            .and_then(|()| Finding::ok(dir.display().to_string()));
    }
    // A backup creates it, with the folders above.
    let above = dir.ancestors().find(|path| fs::symlink_metadata(path).is_ok()).unwrap_or(Path::new("/"));
    if above != dir && above.is_dir() && writable(above) {
        return Finding::ok(format!("{} is not there yet: the first backup creates it", dir.display()));
    }
    let why = if above.is_dir() { libc::EACCES } else { libc::ENOTDIR };
    Err(failed(dir.to_path_buf(), std::io::Error::from_raw_os_error(why)))
}

/// Whether this process may create something in a folder.
pub fn writable(folder: &Path) -> bool {
    let Ok(path) = CString::new(folder.as_os_str().as_bytes()) else { return false };
    // SAFETY: the path ends in NUL and lives as long as the call.
    unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) == 0 }
}
