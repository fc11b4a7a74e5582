//! Files that the administrator names: they are replaced as a whole, and checked for changes by other users.
//!
//! A file is replaced by renaming a new one, so that a reader sees the old or the new content, never a part
//! of either.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::base::beneath::{Folder, sync_file};

/// Writes a file with exactly this mode, in place of the file or link that has its name.
///
/// # Errors
/// Returns an error if the file cannot be written. The old file then stays as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (folder, name) = Folder::of_file(path)?;
    replace_in(&folder, &name, bytes, mode)
}

/// As [`replace`], in an open folder, for a name without folders.
pub fn replace_in(folder: &Folder, name: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write(folder, name, bytes, mode, None, |new| folder.rename(new, name))
}

/// As [`replace`]. The new file belongs to this user and group.
pub fn replace_as(path: &Path, bytes: &[u8], mode: u32, owner: (u32, u32)) -> io::Result<()> {
    let (folder, name) = Folder::of_file(path)?;
    write(&folder, &name, bytes, mode, Some(owner), |new| folder.rename(new, &name))
}

/// Writes a new file, and never replaces a file.
///
/// # Errors
/// Returns an error of the kind `AlreadyExists` if the name is taken, or is taken before the file is
/// complete.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (folder, name) = Folder::of_file(path)?;
    write(&folder, &name, bytes, mode, None, |new| folder.rename_new(new, &name).map(drop))
}

fn write(
    folder: &Folder,
    name: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    // The name ends in this process's id, so that metrics collectors, which select files by their suffix,
    // skip it. A killed process with the same id may have left such a file.
    let mut new = OsString::from(name);
    new.push(format!(".{}", std::process::id()));
    let new = &PathBuf::from(new);
    let _ = folder.remove(new);
    let written = || -> io::Result<()> {
        let mut file = folder.create_file(new, mode)?;
        if let Some((user, group)) = owner {
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

/// The sticky bit: only the folder's owner and the file's owner can remove or rename a file of such a folder.
const STICKY: u32 = 0o1000;

/// A file, folder or link that a user other than root and the running user can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable {
    pub path: PathBuf,
    mode: u32,
    owner: u32,
    group: u32,
    foreign: bool,
}

impl Writable {
    /// The command that removes this permission from other users.
    pub fn remedy(&self) -> String {
        let command = if self.foreign { "chown root" } else { "chmod go-w" };
        format!("{command} {}", self.path.display())
    }
}

impl fmt::Display for Writable {
    /// `other users can change /opt/bin (mode 0777, user 0, group 0)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, mode) = (self.path.display(), self.mode & 0o7777);
        write!(
            f,
            "other users can change {path} (mode {mode:04o}, user {}, group {})",
            self.owner, self.group
        )
    }
}

/// The users who must not be able to change a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// For a program that root runs: all users but root and the members of root's group. For a program that
    /// another user runs: the public, because that user cannot change the packages and folders of others.
    Program,
    /// For a configuration file: all users but root and this user.
    Configuration,
}

/// Returns the first file, folder or link on a path that other users can change. Links at the path's end are
/// followed one by one.
///
/// # Errors
/// Returns an error if `lstat` fails for a part of the path.
pub fn writable_by_others(path: &Path, strictness: Strictness) -> io::Result<Option<Writable>> {
    let user = rustix::process::geteuid().as_raw();
    let mut seen = BTreeSet::new();
    let mut path = std::path::absolute(path)?;
    for _ in 0..40 {
        let above = path.parent().unwrap_or(Path::new("/"));
        // The named folders, which may be links, and the real folders.
        let real = fs::canonicalize(above)?;
        for folder in real.ancestors().chain(above.ancestors()) {
            if seen.insert(folder.to_path_buf())
                && let Some(found) = judged(folder, &fs::metadata(folder)?, user, strictness)
            {
                return Ok(Some(found));
            }
        }
        let meta = fs::symlink_metadata(&path)?;
        if !meta.is_symlink() {
            return Ok(judged(&path, &meta, user, strictness));
        }
        path = above.join(fs::read_link(&path)?);
    }
    Err(rustix::io::Errno::LOOP.into())
}

fn judged(path: &Path, meta: &Metadata, user: u32, strictness: Strictness) -> Option<Writable> {
    let (mode, owner, group) = (meta.mode(), meta.uid(), meta.gid());
    let sticky = meta.is_dir() && mode & STICKY != 0;
    let foreign = user == 0 && owner != 0;
    let by_all = mode & 0o002 != 0 && !sticky;
    let by_group = mode & 0o020 != 0
        && !sticky
        && match strictness {
            Strictness::Program => user == 0 && group != 0,
            Strictness::Configuration => true,
        };
    let found = Writable { path: path.to_path_buf(), mode, owner, group, foreign };
    (foreign || by_all || by_group).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let home = tempfile::tempdir().unwrap();
        let (file, other) = (home.path().join("file"), home.path().join("other"));
        fs::write(&other, "other").unwrap();
        let left = home.path().join(format!("file.{}", std::process::id()));
        symlink(&other, &left).unwrap();
        for (text, mode) in [("one", 0o644), ("two", 0o600)] {
            replace(&file, text.as_bytes(), mode).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(fs::read_to_string(&other).unwrap(), "other", "a link at the new name is not followed");
        // A folder is not replaced, and no temporary file is left.
        let folder = home.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert!(replace(&folder, b"x", 0o644).is_err());
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3);
    }

    #[test]
    fn create_does_not_replace_a_file() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        create(&file, b"one", 0o600).unwrap();
        assert_eq!(create(&file, b"two", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "one");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_as_safe_as_its_path() {
        let home = tempfile::tempdir().unwrap();
        let (bin, file, link) =
            (home.path().join("bin"), home.path().join("bin/tool"), home.path().join("link"));
        fs::create_dir(&bin).unwrap();
        fs::write(&file, "").unwrap();
        symlink("bin/tool", &link).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let found =
            |path: &Path| writable_by_others(path, Strictness::Program).unwrap().map(|found| found.path);
        // Other users cannot change the files of this user in a sticky folder, such as /tmp.
        for (folder, tool, want) in [
            (0o755, 0o755, None),
            (0o755, 0o757, Some(&file)),
            (0o777, 0o755, Some(&bin)),
            (0o1777, 0o755, None),
        ] {
            mode(&bin, folder);
            mode(&file, tool);
            for path in [&file, &link] {
                let path = found(path).map(|path| fs::canonicalize(path).unwrap());
                assert_eq!(path.as_ref(), want, "{folder:o} {tool:o}");
            }
        }
        mode(&bin, 0o755);
        mode(&file, 0o775);
        let words = writable_by_others(&file, Strictness::Configuration).unwrap().unwrap();
        assert!(
            words
                .to_string()
                .starts_with(&format!("other users can change {} (mode 0775, user ", file.display()))
        );
        assert_eq!(words.remedy(), format!("chmod go-w {}", file.display()));
        assert!(writable_by_others(&home.path().join("none"), Strictness::Program).is_err());
    }

    /// Needs root, as in CI: other users cannot give files away.
    #[test]
    fn for_root_only_files_of_root_are_safe() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("tool");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o775)).unwrap();
        assert_eq!(writable_by_others(&file, Strictness::Program).unwrap(), None);
        if chown(&file, None, Some(4242)).is_ok() {
            let found =
                writable_by_others(&file, Strictness::Program).unwrap().expect("its group can write it");
            assert_eq!(found.remedy(), format!("chmod go-w {}", file.display()));
            fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
            chown(&file, Some(4242), Some(0)).unwrap();
            let found =
                writable_by_others(&file, Strictness::Program).unwrap().expect("its owner can write it");
            assert_eq!(found.remedy(), format!("chown root {}", file.display()));
        }
    }
}
