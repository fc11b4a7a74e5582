//! Whose the files are that are made in somebody's folder: a backup, a pin or a verification by hand, as root,
//! must not lock out the user whose folder it is, and who runs the nights.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

/// Gives a new file at `path` to whom its folder belongs. Only root can: for everybody else it stays as it is.
pub fn inherit(file: &File, path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (Ok(folder), Ok(own)) = (folder.metadata(), file.metadata()) else { return };
    if folder.uid() != own.uid() {
        let _ = fchown(file, Some(folder.uid()), Some(folder.gid()));
    }
}

/// Creates a folder of `mode`, and gives it to whom the one above belongs.
///
/// # Errors
/// Also if it is there.
pub fn create_folder(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(mode).create(path)?;
    // Not through a link that took its place.
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    if let Ok(folder) = OpenOptions::new().read(true).custom_flags(flags).open(path) {
        inherit(&folder, path);
    }
    Ok(())
}

/// The same for a folder and those above it, where they are missing.
///
/// # Errors
/// If one cannot be created, or something else has its name.
pub fn create_folders(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty() && !above.exists()) {
        create_folders(above, mode)?;
    }
    match create_folder(path, mode) {
        Err(_) if path.is_dir() => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn folders_are_made_with_their_mode_and_may_be_there() {
        let home = tempfile::tempdir().unwrap();
        let deep = home.path().join("a/b");
        create_folders(&deep, 0o700).unwrap();
        create_folders(&deep, 0o700).unwrap();
        assert_eq!(home.path().join("a").metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(create_folder(&deep, 0o700).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let file = home.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert!(create_folders(&file, 0o700).is_err() && create_folders(&file.join("c"), 0o700).is_err());
        // There nothing can be created, and it is not for want of the folder above.
        assert!(create_folders(Path::new("/proc/nothing/here"), 0o700).is_err());
    }

    /// By root, as in a package's test; others can give nothing away, and nothing changes.
    #[test]
    fn what_root_makes_is_of_the_folders_owner() {
        let home = tempfile::tempdir().unwrap();
        let me = home.path().metadata().unwrap().uid();
        let owner = if chown(home.path(), Some(4242), Some(4243)).is_ok() { 4242 } else { me };
        create_folders(&home.path().join("a/b"), 0o700).unwrap();
        let path = home.path().join("a/b/file");
        inherit(&File::create(&path).unwrap(), &path);
        for made in ["a", "a/b", "a/b/file"] {
            assert_eq!(home.path().join(made).metadata().unwrap().uid(), owner, "{made}");
        }
    }
}
