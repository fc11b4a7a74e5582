//! Reasons why a file cannot be created or grow although its user may write: the file system is full or has
//! no inodes, or the size of files is limited.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::base::units;

/// The size of a file system, and the space that is free for ordinary users (statvfs(3)).
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// In bytes.
    pub total: u64,
    /// In bytes.
    pub free: u64,
    /// The number of free inodes; `None` if the file system does not count inodes.
    pub inodes: Option<u64>,
}

/// Returns the room on the file system of `path`, which must exist.
///
/// # Errors
/// Returns an error if statvfs fails.
pub fn room(path: &Path) -> io::Result<Room> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Room {
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: (stat.f_files > 0).then_some(stat.f_favail),
    })
}

/// The size in bytes that no file of this process may exceed (`RLIMIT_FSIZE`, setrlimit(2)); `None` without a
/// limit.
pub fn file_size_limit() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}

/// A cause that the error of the system call does not name, and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub what: String,
    pub hint: &'static str,
}

/// Returns the cause of an error while a file was created or written at `path`; `None` if the error itself is
/// clear.
pub fn cause(error: &io::Error, path: &Path) -> Option<Cause> {
    match Errno::from_io_error(error)? {
        Errno::FBIG => Some(too_large(file_size_limit())),
        Errno::NOSPC => {
            let there = path.ancestors().find(|path| path.exists())?;
            (room(there).ok()?.inodes == Some(0)).then(|| no_inodes(there))
        }
        _ => None,
    }
}

/// Adds its [`cause`] to an error.
pub fn explained(error: io::Error, path: &Path) -> io::Error {
    match cause(&error, path) {
        Some(cause) => io::Error::new(error.kind(), format!("{} ({})", cause.what, cause.hint)),
        None => error,
    }
}

/// The cause of `EFBIG`: a file would exceed the file-size limit of this process, or the largest size of the
/// file system.
pub fn too_large(limit: Option<u64>) -> Cause {
    match limit {
        Some(limit) => Cause {
            what: format!("the file-size limit of this process is {}", units::bytes(limit)),
            hint: "Raise the limit: `ulimit -f` in the shell that starts this program, LimitFSIZE= in a systemd unit",
        },
        None => Cause {
            what: "the file system does not support a file of this size".into(),
            hint: "Use a file system that supports larger files (FAT32 stops at 4 GiB), or back up single databases: --db, \
                   BACKUP_DATABASES",
        },
    }
}

fn no_inodes(path: &Path) -> Cause {
    Cause {
        what: format!("there are no free inodes on the file system of {}", path.display()),
        hint: "Delete files there (`df -i` shows how many inodes are used), or use a file system with more inodes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_errors_are_not_changed() {
        let home = tempfile::tempdir().unwrap();
        for code in [Errno::ACCESS, Errno::IO, Errno::NOSPC] {
            let error = io::Error::from(code);
            let before = error.to_string();
            assert_eq!(cause(&error, home.path()), None, "{error}");
            assert_eq!(explained(error, home.path()).to_string(), before);
        }
    }

    #[test]
    fn a_file_that_is_too_large_names_the_limit_that_it_meets() {
        let limited = too_large(Some(32 << 10));
        assert!(limited.what.contains("32.0 KiB") && limited.hint.contains("LimitFSIZE="), "{limited:?}");
        let unlimited = too_large(None);
        assert!(unlimited.what.contains("file system") && unlimited.hint.contains("FAT32"), "{unlimited:?}");
    }
}
