//! Replacing a file by renaming: a reader sees the old one or the new one, never half of one.

use std::ffi::OsString;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::base::beneath::{Folder, sync_file};

/// Writes a file in place of the file, or link, that has its name, with exactly this mode.
///
/// # Errors
/// Returns an error if it cannot be written; the old file then stays as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (folder, name) = Folder::of_file(path)?;
    replace_in(&folder, &name, bytes, mode)
}

/// The same in an open folder, under a name without folders.
pub fn replace_in(folder: &Folder, name: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write(folder, name, bytes, mode, None, |new| folder.rename(new, name))
}

/// As [`replace`]; the new file belongs to this user and group.
pub fn replace_as(path: &Path, bytes: &[u8], mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let (folder, name) = Folder::of_file(path)?;
    write(&folder, &name, bytes, mode, Some(owner), |new| folder.rename(new, &name))
}

/// As [`replace`], where nothing has the name.
///
/// # Errors
/// Returns an error of the kind `AlreadyExists` if something has the name, also if it appeared meanwhile.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (folder, name) = Folder::of_file(path)?;
    write(&folder, &name, bytes, mode, None, |new| folder.rename_new(new, &name).map(drop))
}

fn write(
    folder: &Folder,
    name: &Path,
    bytes: &[u8],
    mode: u32,
    of: Option<(u32, u32)>,
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    // A name of its own for each process, which ends in its number, so that collectors that choose files by the
    // ends of their names pass it over. A killed process of the same number may have left one.
    let mut new = OsString::from(name);
    new.push(format!(".{}", std::process::id()));
    let new = &PathBuf::from(new);
    let _ = folder.remove(new);
    let written = || -> io::Result<()> {
        let mut file = folder.create_file(new, mode)?;
        if let Some((user, group)) = of {
            fchown(&file, Some(user), Some(group))?;
        }
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        sync_file(&file)?;
        place(new)
    };
    written().inspect_err(|_| {
        let _ = folder.remove(new);
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

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
