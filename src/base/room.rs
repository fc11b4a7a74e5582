//! Why a file cannot be made or grow although its user may write: the file system has no room, no inodes, or a limit
//! is set for files.

use std::io;
use std::path::Path;

use crate::base::process;
use crate::base::units;

/// A file system's size and what is left of it for ordinary users (statvfs(3)).
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// All of it, in bytes.
    pub total: u64,
    /// The free part, in bytes.
    pub free: u64,
    /// How many more files and folders it can hold; `None` where the file system does not count them.
    pub inodes: Option<u64>,
}

/// The room on the file system of `path`, which exists.
///
/// # Errors
/// Returns an error if the file system does not answer.
pub fn room(path: &Path) -> io::Result<Room> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Room {
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        inodes: (stat.f_files > 0).then_some(stat.f_favail),
    })
}

/// A cause that the system's own words do not name, and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// What is missing.
    pub what: String,
    /// The next step for a person.
    pub hint: &'static str,
}

/// The cause of an error while a file was made or written at `path`; `None` if the error speaks for itself.
pub fn cause(error: &io::Error, path: &Path) -> Option<Cause> {
    match error.raw_os_error() {
        Some(libc::EFBIG) => Some(too_large(process::file_size_limit())),
        Some(libc::ENOSPC) => {
            let there = path.ancestors().find(|path| path.exists())?;
            (room(there).ok()?.inodes == Some(0)).then(|| no_inodes(there))
        }
        _ => None,
    }
}

/// The error with its [`cause`] in words.
pub fn explained(error: io::Error, path: &Path) -> io::Error {
    match cause(&error, path) {
        Some(cause) => io::Error::new(error.kind(), format!("{} ({})", cause.what, cause.hint)),
        None => error,
    }
}

/// A file would exceed the file-size limit of this process, or the largest size of the file system.
pub fn too_large(limit: Option<u64>) -> Cause {
    match limit {
        Some(limit) => Cause {
            what: format!("the file-size limit of this process is {}", units::bytes(limit)),
            hint: "Raise the limit: `ulimit -f` in the shell that starts this, LimitFSIZE= in a unit of systemd",
        },
        None => Cause {
            what: "the file system takes no file that large".into(),
            hint: "Use a file system that takes larger files (FAT32 ends at 4 GiB), or back up single databases: --db, \
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
    fn errors_that_speak_for_themselves_stay() {
        let home = tempfile::tempdir().unwrap();
        for code in [libc::EACCES, libc::EIO, libc::ENOSPC] {
            let error = io::Error::from_raw_os_error(code);
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
