//! Replacing a file by renaming: a reader sees the old one or the new one, never half of one.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::owner;

/// Writes a file of these bytes in place of what has its name, with the mode whatever the umask is.
///
/// # Errors
/// If it cannot be written; what was there is as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write(path, bytes, mode, None, |new, path| fs::rename(new, path))
}

/// The same; the new one is of this user and group.
pub fn replace_as(path: &Path, bytes: &[u8], mode: u32, owner: (u32, u32)) -> io::Result<()> {
    write(path, bytes, mode, Some(owner), |new, path| fs::rename(new, path))
}

/// The same where nothing has the name.
///
/// # Errors
/// Of the kind `AlreadyExists` also when something came to have it meanwhile.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write(path, bytes, mode, None, |new, path| fs::hard_link(new, path).and_then(|()| fs::remove_file(new)))
}

fn write(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    of: Option<(u32, u32)>,
    place: impl FnOnce(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    // A name of its own for each process, which ends in its number: who collects files by the ends of their
    // names passes it over. What a killed process of the same number left goes first.
    let mut name = OsString::from(path);
    name.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(name);
    let _ = fs::remove_file(&new);
    let written = || -> io::Result<()> {
        // Never through a link that somebody put there.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        match of {
            Some((user, group)) => fchown(&file, Some(user), Some(group))?,
            None => owner::inherit(&file, &new),
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        place(&new, path)
    };
    written().inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_one_is_there_whole_or_the_old_one_stays() {
        let home = tempfile::tempdir().unwrap();
        let (file, other) = (home.path().join("file"), home.path().join("other"));
        fs::write(&other, "other").unwrap();
        let left = home.path().join(format!("file.{}", std::process::id()));
        std::os::unix::fs::symlink(&other, &left).unwrap();
        for (text, mode) in [("one", 0o644), ("two", 0o600)] {
            replace(&file, text.as_bytes(), mode).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), "other", "a link at the new name is not followed");
        // A folder is not replaced, and nothing is left beside it.
        let folder = home.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert!(replace(&folder, b"x", 0o644).is_err());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_appeared_meanwhile_is_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        create(&file, b"one", 0o600).unwrap();
        assert_eq!(create(&file, b"two", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
